"""Many raters: one link for all, a table of them, their payment, and what they are told."""

import csv
import io
import math
import re

import pytest
from fastapi.testclient import TestClient

from manyhot.reassess.app import create_app
from manyhot.reassess.app.routes.owner import _place
from stores import answer, classes, filled, rater

PASSWORD = "correct horse"


@pytest.fixture
def store(tmp_path):
    store = filled(f"sqlite:///{tmp_path}/db.sqlite", pages=6, raters=2, golden=1)
    yield store
    store.close()


@pytest.fixture
def owner(store, tmp_path):
    app = create_app(store, classes(), tmp_path / "cache", title="fish")
    with TestClient(app) as client:
        token = store.invite("owner", role="owner")
        client.post(f"/join/{token}", data={"password": PASSWORD, "again": PASSWORD})
        yield client


def send(client, address, **fields):
    token = re.search(r'name="csrf" value="(\w+)"', client.get("/owner").text)[1]
    return client.post(address, data={"csrf": token} | fields)


def names(page):
    return re.findall(r'aria-label="Select ([^"]+)"', page.text)


def test_raters_are_searched_sorted_and_shown_in_parts(store, owner):
    for n in range(60):
        store.invite(f"rater {n:02d}")
    busy = next(r for r in store.raters() if r.name == "rater 33")
    answer(store, busy, store.queue(busy).visits[0])
    assert names(owner.get("/owner")) == [f"rater {n:02d}" for n in range(50)]
    assert names(owner.get("/owner?start=50")) == [f"rater {n:02d}" for n in range(50, 60)]
    assert names(owner.get("/owner?q=Rater+1")) == [f"rater {n}" for n in range(10, 20)]
    store.stop(busy.id)
    owner.app.state.context.status.invalidate()
    assert names(owner.get("/owner?q=stopped")) == ["rater 33"]
    assert names(owner.get("/owner?sort=pages"))[:2] == ["rater 33", "rater 00"]
    assert "20 of 60 raters" not in owner.get("/owner?q=none").text
    assert "No rater matches the search." in owner.get("/owner?q=none").text
    for strange in ("start=-1", "start=999999999", "start=x", "sort=x", "start=" + "9" * 50):
        assert owner.get(f"/owner?{strange}").status_code == 200


def test_raters_without_a_value_come_last():
    values = {"a": None, "b": 0.9, "c": math.nan, "d": 0.2}
    people = [{"name": name, "quality": {"agreement": value}} for name, value in values.items()]
    assert [p["name"] for p in sorted(people, key=lambda p: _place(p, "agreement"))] == ["d", "b", "a", "c"]


def test_raters_are_stopped_and_left_out_together(store, owner):
    ann, bob, cem = rater(store), rater(store, "bob"), rater(store, "cem")
    answer(store, ann, store.queue(ann).visits[0])

    def states():
        return [r.state for r in store.raters() if not r.is_owner]

    send(owner, "/owner/raters", act="stop", rater=[ann.id, bob.id])
    assert states() == ["stopped", "stopped", "active"]
    send(owner, "/owner/raters", act="go-on", rater=[bob.id])
    send(owner, "/owner/raters", act="leave-out", rater=[ann.id])
    assert states() == ["left out", "active", "active"]
    assert len(store.votes().first) == 0
    send(owner, "/owner/raters", act="count-again", rater=[ann.id])
    assert states() == ["stopped", "active", "active"]
    assert len(store.votes().first) == 3
    (boss,) = (r for r in store.raters() if r.is_owner)
    send(owner, "/owner/raters", act="stop", rater=[boss.id, cem.id])
    assert states() == ["stopped", "active", "stopped"]
    assert owner.get("/owner").status_code == 200  # an owner cannot stop an owner


def test_payment(store, owner, pass_time):
    ann, bob, _ = rater(store), rater(store, "bob"), rater(store, "cem")
    for who, minutes in ((ann, 0.5), (ann, 60), (bob, 0.25)):
        visit = store.queue(who).visits[0]
        shown = store.visit(who, visit.key).shown_at
        pass_time(minutes)
        assert shown
        answer(store, who, visit)
    store.leave_out(bob.id)
    made = owner.get("/owner/payment.csv")
    assert made.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(made.text)))
    assert [(r["rater"], r["state"], r["pages"], r["accepted"]) for r in rows] == [
        ("ann", "active", "2", "2"),
        ("bob", "left out", "1", "0"),
    ]
    assert 329 <= float(rows[0]["seconds"]) <= 361  # half a minute, and a break of which five minutes count
    assert 14 <= float(rows[1]["seconds"]) <= 16


def test_what_raters_are_told_and_agree_to(store, owner):
    store.change_settings(
        instructions="Look at <b>all</b> of it.\n\nEven the corners.",
        consent="I am 18.",
        contact="Eve, eve@x.org",
    )
    link = f"/join/{store.invite('ann')}"
    guest = TestClient(owner.app)
    page = guest.get(link).text
    for text in ("Look at &lt;b&gt;all&lt;/b&gt; of it.\n\nEven the corners.", "I am 18.", "Eve, eve@x.org"):
        assert text in page
    refused = guest.post(link)
    assert (refused.status_code, "Please agree before you begin." in refused.text) == (422, True)
    assert not guest.cookies
    page = guest.post(link, data={"consent": "yes"})
    assert page.status_code == 200
    assert "Even the corners." in page.text  # behind the question mark
    assert page.text.count("Eve, eve@x.org") == 2
    assert "I am 18." not in page.text


def crowd_link(owner):
    page = send(owner, "/owner/crowd")
    return re.search(r"http://testserver(/crowd/[\w-]+)\?participant=ID", page.text)[1]


@pytest.mark.parametrize("parameter", ["PROLIFIC_PID", "workerId", "participant"])
def test_one_link_for_a_crowd(store, owner, parameter):
    store.change_settings(completion_code="C0DE", completion_address="https://crowd.example/done", raters=9)
    link = crowd_link(owner)

    def come(number):
        guest = TestClient(owner.app)
        page = guest.get(f"{link}?{parameter}={number}")
        participant = re.search(r'name="participant" value="([^"]*)"', page.text)[1]
        assert guest.post(link, data={"participant": participant}).status_code == 200
        return guest, re.search(r'name="csrf" content="(\w+)"', guest.get("/").text)[1]

    def queue(guest, token):
        return guest.post("/api/queue", json={}, headers={"x-csrf": token}).json()

    guest, token = come("5f3a")
    first = queue(guest, token)
    assert first["completion"] is None
    assert queue(*come("5f3a"))["pages"] == first["pages"]  # the same rater, on another device
    assert queue(*come("5f3b"))["pages"][0]["page"] != first["pages"][0]["page"]
    who = next(r for r in store.raters() if r.name == "crowd 5f3a")
    while visits := store.queue(who).visits:
        answer(store, who, visits[0])
    assert queue(guest, token)["completion"] == {"code": "C0DE", "address": "https://crowd.example/done"}


def test_a_crowd_has_places_and_its_link_an_end(store, owner):
    store.change_settings(places=1)
    link, guest = crowd_link(owner), TestClient(owner.app)
    assert "letters, digits" not in guest.post(link, data={"participant": ""}).text
    for strange in ("", "a b", "x" * 65, "../x", "é"):
        assert guest.post(link, data={"participant": strange}).status_code == 403
    rater(store, "crowd eve")  # a rater of the owner's own with such a name
    assert guest.post(link, data={"participant": "eve"}).status_code == 403
    assert guest.post(link, data={"participant": "one"}).status_code == 200
    full = guest.post(link, data={"participant": "two"}, headers={"accept": "text/html"})
    assert "All places are taken." in full.text
    assert guest.post(link, data={"participant": "one"}).status_code == 200
    one = next(r for r in store.raters() if r.name == "crowd one")
    store.revoke(one.id)
    assert guest.post(link, data={"participant": "one"}).status_code == 403
    crowd_link(owner)
    assert guest.get(link).status_code == guest.post(link, data={"participant": "one"}).status_code == 404


def test_raters_are_sent_to_addresses_of_the_web_only(store, owner):
    page = owner.get("/owner")
    fields = dict(re.findall(r'<input type="number" name="(\w+)" value="([^"]*)"', page.text))
    told = send(owner, "/owner/settings", **fields | {"completion_address": "javascript:alert(1)"})
    assert (told.status_code, "Raters cannot be sent to this address." in told.text) == (422, True)
    send(owner, "/owner/settings", **fields | {"contact": "me \0"})
    assert store.settings().contact == "me \ufffd"
