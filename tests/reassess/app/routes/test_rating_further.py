"""Questions that are asked again: what a rater's page and the owner's page show of them."""

import re

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from manyhot.reassess.app import create_app
from stores import answer, classes, filled, key, rater

CSRF = re.compile(r'name="csrf" (?:content|value)="(\w+)"')


@pytest.fixture
def store(url):
    """Yield a store of four pages that two raters answered, and whose last page is to be asked again."""
    store = filled(url, pages=4, raters=2)
    for name in ("ann", "bob"):
        who = rater(store, name)
        while visits := store.queue(who).visits:
            answer(store, who, visits[0])
    yield store
    store.close()


def ask(store, *questions):
    names, class_ids = zip(*questions, strict=True)
    table = {
        "image_id": list(names),
        "class_id": pa.array(class_ids, pa.int32()),
        "n_votes": [2] * len(names),
    }
    return store.ask_further(pa.table(table)).added


def test_the_page_of_a_rater_and_that_of_the_owner(store, tmp_path):
    assert ask(store, ("0.jpg", 2), ("0.jpg", 0), ("3.jpg", 1)) == 3
    app = create_app(store, classes(), tmp_path / "cache", title="fish")
    with TestClient(app) as owner:
        sent = {"password": "correct horse", "again": "correct horse"}
        owner.post(f"/join/{store.invite('owner', role='owner')}", data=sent)
        said = " ".join(owner.get("/owner").text.split())
        assert "<dt>asked again</dt><dd>3 still to come</dd>" in said
        assert "4 <small>of 4 pages</small>" in said
        assert "<dt>time left</dt><dd>about " in said
    with TestClient(app) as client:
        client.post(f"/join/{store.invite('cem')}")
        headers = {"X-CSRF": CSRF.search(client.get("/").text)[1]}
        queue = client.post("/api/queue", headers=headers).json()
        shown = sorted(sorted(c["class_id"] for c in page["classes"]) for page in queue["pages"])
        assert (shown, queue["left"], queue["done"]) == ([[0, 2], [1]], 2, 0)
        items = [
            {"key": key(), "page": page["page"], "class_id": c["class_id"], "answer": "yes"}
            for page in queue["pages"]
            for c in page["classes"]
        ]
        assert len(client.post("/api/answers", headers=headers, json={"items": items}).json()["kept"]) == 3
        # There may be as much to do on a page as not asked before, however often it was seen in part.
        assert ask(store, *((f"{n}.jpg", c) for n in range(4) for c in (0, 1, 2))) == 12 - 3
        app.state.context.left.invalidate()
        queue = client.post("/api/queue", headers=headers).json()
        assert (queue["left"], queue["done"], len(queue["pages"])) == (4, 2, 4)
        other = {**items[0], "key": key(), "class_id": 3}
        refused = client.post("/api/answers", headers=headers, json={"items": [other]}).json()["refused"]
        assert refused == {other["key"]: "no such class on the page"}
    app.state.context.status.invalidate()
    store.stop(next(r.id for r in store.raters() if r.name == "cem"))
