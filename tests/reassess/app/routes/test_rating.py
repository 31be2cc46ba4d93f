"""What raters send."""

import re

from fastapi.testclient import TestClient

from manyhot.reassess.app import create_app
from stores import classes, filled, key


def test_a_class_that_does_not_exist_cannot_be_missing(tmp_path):
    store = filled(f"sqlite:///{tmp_path}/db.sqlite", pages=1)
    app = create_app(store, classes(), tmp_path / "cache", title="fish")
    after = len(classes())
    with TestClient(app, base_url="http://localhost") as client:
        client.post(f"/join/{store.invite('ann')}")
        token = re.search(r'name="csrf" content="(\w+)"', client.get("/").text)[1]
        keys = {class_id: key() for class_id in (0, after - 1, after, after + 1)}
        items = [{"key": k, "page": "x" * 8, "missing_class_id": c} for c, k in keys.items()]
        told = client.post("/api/answers", json={"items": items}, headers={"x-csrf": token}).json()
    store.close()
    unknown = {k for k, why in told["refused"].items() if why == "the class does not exist"}
    assert unknown == {keys[after], keys[after + 1]}
