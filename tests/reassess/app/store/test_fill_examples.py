"""Example images give the original label away neither by being there nor by being missing."""

import re

from fastapi.testclient import TestClient

from manyhot.classes import ClassList
from manyhot.reassess.app import create_app
from manyhot.reassess.app import store as store_module
from manyhot.reassess.app.routes.rating import SHOWN_EXAMPLES, fair_examples
from manyhot.reassess.app.store import CampaignSettings, Example, ImageQuestions, Store


def examples(**counts):
    return {int(c[1:]): [(p, f"{c}-{p}.jpg") for p in range(1, n + 1)] for c, n in counts.items()}


def test_the_image_itself_is_never_shown_and_each_class_loses_one():
    given = examples(c0=3, c1=3, c2=1, c3=30)
    shown = fair_examples("c0-2.jpg", given, True)
    assert shown[0] == [1, 3]
    assert {c: len(p) for c, p in shown.items()} == {0: 2, 1: 2, 2: 0, 3: SHOWN_EXAMPLES}
    assert shown == fair_examples("c0-2.jpg", given, True)


def test_counts_are_the_same_whichever_class_the_image_is_of():
    given = examples(c0=5, c1=5, c2=5)
    images = [name for known in given.values() for _, name in known]
    assert {tuple(len(p) for p in fair_examples(i, given, True).values()) for i in images} == {(4, 4, 4)}
    # What is missing is another one beside another image, in classes that the image is not of, too.
    assert len({tuple(fair_examples(i, given, True)[1]) for i in images[:5]}) > 1


def test_beside_other_images_all_are_shown():
    assert fair_examples("other.jpg", examples(c0=3, c1=1), False) == {0: [1, 2, 3], 1: [1]}


def test_whether_the_label_is_among_the_classes_is_not_told():
    given = examples(c0=3, c1=1)
    assert {c: len(p) for c, p in fair_examples("c7-1.jpg", given, True).items()} == {0: 2, 1: 0}


def test_pages_and_searches_show_none_where_each_class_has_one_image(tmp_path):
    classes = ClassList("x", list("abc"), ["cat one", "cat two", "cat three"], [()] * 3, [""] * 3, [()] * 3)
    store = Store(f"sqlite:///{tmp_path}/votes.sqlite")
    asked = [
        ImageQuestions(f"{n}.jpg", f"/{n}.jpg", n, (0, 1)) for n in range(3)
    ]  # the third is of a class not asked
    store.fill(
        asked, [Example(n, f"{n}.jpg", f"/{n}.jpg") for n in range(3)], CampaignSettings(raters=1), "source"
    )
    client = TestClient(create_app(store, classes, tmp_path / "cache", title="x"), "http://127.0.0.1")
    client.post("/join/" + store.invite("ann"))
    csrf = re.search('name="csrf" content="(.*?)"', client.get("/").text)[1]
    pages = client.post("/api/queue", json={}, headers={"x-csrf": csrf}).json()["pages"]
    assert len(pages) == 3
    for page in pages:
        assert [shown["examples"] for shown in page["classes"]] == [[], []]
        for query in ("cat", "one", "three"):
            found = client.get(f"/api/classes?q={query}&page={page['page']}").json()
            assert found
            assert all(one["examples"] == [] for one in found)
    store.close()


def test_examples_are_read_once_and_not_all_of_them_are_remembered(tmp_path, monkeypatch):
    store, read = Store(f"sqlite:///{tmp_path}/votes.sqlite"), []
    images = [Example(c, f"{c}-{n}.jpg", f"/{c}-{n}.jpg") for c in range(4) for n in range(2)]
    store.fill([ImageQuestions("a.jpg", "/a.jpg", 0, (0,))], images, CampaignSettings(raters=1), "source")
    query = store._database.read
    monkeypatch.setattr(store._database, "read", lambda q: (read.append(q), query(q))[1])
    monkeypatch.setattr(store_module, "_CLASSES", 2)
    for classes, reads in (({0, 1}, 1), ({1}, 1), ({0, 9}, 2), ({9}, 2), ({2}, 3), ({0}, 4)):
        known = {c: [(1, f"{c}-0.jpg"), (2, f"{c}-1.jpg")] for c in classes if c < 4}
        assert store.examples(classes) == known
        assert len(read) == reads
    store.close()
