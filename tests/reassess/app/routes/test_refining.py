"""Where raters disagree: who decides on what, and that a decision is one more vote."""

import re

import pytest
from fastapi.testclient import TestClient

from manyhot.reassess.app import AppCallbacks, create_app
from manyhot.reassess.app.store.submissions import all_votes
from stores import MAYBE, NO, YES, answer, classes, filled, form, rater


@pytest.fixture
def store(url):
    store = filled(url, pages=3, raters=2)
    yield store
    store.close()


@pytest.fixture
def client(store, tmp_path):
    app = create_app(store, classes(), tmp_path / "cache", title="fish", callbacks=AppCallbacks(alone=True))
    with TestClient(app) as client:
        client.post(f"/join/{store.invite('me', role='owner')}")
        yield client


def say(store, name, sets, n=3):
    """Let a rater answer n pages: yes to the classes of a set by image, maybe to what is 'maybe', else no."""
    who = rater(store, name)
    for _ in range(n):
        (visit, *_) = store.queue(who).visits
        for c in visit.shown:
            given = sets.get((visit.name, c), NO)
            answer(store, who, visit, [c], given)
    return who


def disputed(client):
    known = client.app.state.context
    known.status.invalidate()
    return known.status.peek().counts


def rows(store):
    """Return the votes of round 1: image, class, rater, answer."""
    return [(v[0], v[1], v[2], v[3]) for v in store.read_all(all_votes) if v[8] == 1]


def test_what_differs_are_sets_and_not_answers(store, client):
    say(store, "ann", {("0.jpg", 0): YES, ("1.jpg", 1): MAYBE})
    say(store, "bob", {("0.jpg", 2): MAYBE})
    counted = disputed(client)
    # Maybe and no are both not in the set.
    assert (counted.progress.differing, counted.progress.decided) == (1, 0)
    (dispute,) = store.disputes([page for page, _ in counted.disputes])
    assert (dispute.name, dispute.undecided) == ("0.jpg", [0])
    assert [(a.rater, a.answer) for a in dispute.classes[0].answers] == [("ann", YES), ("bob", NO)]


def test_a_question_waits_until_its_raters_have_answered(store, client):
    store.change_settings(raters=3)
    say(store, "ann", {("0.jpg", 0): YES})
    say(store, "bob", {})
    assert disputed(client).disputes == []
    store.change_settings(refine_from=2)
    assert len(disputed(client).disputes) == 1


def test_a_decision_is_one_more_vote_of_round_1(store, client):
    say(store, "ann", {("0.jpg", 0): YES, ("2.jpg", 1): YES})
    say(store, "bob", {("0.jpg", 2): YES})
    before = len(store.read_all(all_votes))
    images = set()
    for _ in range(2):
        client.app.state.context.status.invalidate()
        page = client.get("/refine")
        address, hidden, asked = form(page)
        images.add(tuple(asked))
        fields = {f"c{c}": "maybe" for c in asked}
        done = client.post(address, data=hidden | fields)
        assert done.status_code == 200
        client.post(address, data=hidden | fields)  # a double click
    assert images == {(0, 2), (1,)}
    assert "There is nothing to decide now" in done.text
    assert sorted(rows(store)) == [
        ("0.jpg", 0, "me", MAYBE),
        ("0.jpg", 2, "me", MAYBE),
        ("2.jpg", 1, "me", MAYBE),
    ]
    assert len(store.read_all(all_votes)) == before + 3
    counted = disputed(client)
    assert (counted.disputes, counted.progress.differing, counted.progress.decided) == ([], 3, 3)
    # The first answers are what agreement and progress are counted on, as before.
    assert counted.progress.answers == 18


def test_a_change_of_mind_is_a_new_row_and_the_last_one_counts(store, client):
    say(store, "ann", {("0.jpg", 0): YES})
    say(store, "bob", {})
    address, hidden, _ = form(client.get("/refine"))
    for value in ("yes", "no", "yes"):
        done = client.post(address, data=hidden | {"c0": value})
        back = re.search(r'href="(/refine/\w+)">Change your last decision', done.text)[1]
        page = client.get(back)
        assert re.search(rf'value="{value}" checked', page.text)
        address, hidden, _ = form(page)
    assert [row[3] for row in rows(store)] == [YES, NO, YES]
    found = next(d for p in (1, 2, 3) if (d := store.dispute(p)).name == "0.jpg")
    assert found.classes[0].decision.answer == YES


def test_nobody_decides_what_somebody_else_is_deciding(store, client):
    say(store, "ann", {("0.jpg", 0): YES})
    say(store, "bob", {})
    page = disputed(client).disputes[0][0]
    one, two = rater(store, "one", refines=True), rater(store, "two", refines=True)
    visit = store.refine(one, [page])
    assert visit.shown == (0,)
    assert store.refine(two, [page]) is None
    assert store.refine(one, [page]).key == visit.key
    answer(store, one, visit, [0], YES)
    assert store.refine(two, [page]) is None
    assert store.refine(one, [page]) is None


def test_who_looks_through_the_list_keeps_one_page_from_others(store, client):
    for name, sets in (("ann", {("0.jpg", 0): YES, ("1.jpg", 0): YES}), ("bob", {})):
        say(store, name, sets)
    first, second = (page for page, _ in disputed(client).disputes)
    one, two = rater(store, "one", refines=True), rater(store, "two", refines=True)
    before, visit = store.refine(one, [first], only=True), store.refine(one, [second], only=True)
    assert store.refine(two, [second]) is None
    # Who goes back to a tab decides where nobody else does.
    assert answer(store, one, before, value=YES).refused == {}
    assert (store.refine(two, [first]), store.refine(one, [second]).key) == (None, visit.key)
    assert store.refine(one, [first], only=True) is None  # decided; the other is kept
    assert store.refine(two, [second]) is None
    answer(store, one, visit, value=NO)
    assert sorted(row[2:] for row in rows(store)) == [("one", NO), ("one", YES)]


def test_what_others_decided_meanwhile_is_refused(store, client):
    for name, sets in (("ann", {("0.jpg", 0): YES, ("1.jpg", 0): YES}), ("bob", {})):
        say(store, name, sets)
    first, second = (page for page, _ in disputed(client).disputes)
    one, two = rater(store, "one", refines=True), rater(store, "two", refines=True)
    before = store.refine(one, [first], only=True)
    store.refine(one, [second], only=True)
    answer(store, two, store.refine(two, [first], only=True), value=NO)
    (why,) = answer(store, one, before, value=YES).refused.values()
    assert why == "the page was open for too long and went to another rater"
    assert [row[2:] for row in rows(store)] == [("two", NO)]


def test_letters_in_place_of_names_unless_the_owner_wants_them(store, client):
    say(store, "ann", {("0.jpg", 0): YES})
    say(store, "bob", {})
    page = client.get("/refine")
    assert "<b>A</b>" in page.text
    assert "ann" not in page.text
    assert "<b>ann</b>" in client.get("/refine?names").text
    guest = TestClient(client.app)
    guest.post(f"/join/{store.invite('cem', refines=True)}")
    page = disputed(client).disputes[0][0]
    for query in ("", "?names"):
        seen = guest.get(f"/refine/page/{page}{query}").text
        assert "<b>A</b>" in seen
        assert "ann" not in seen


def test_who_may_not_decide_may_not(store, client):
    say(store, "ann", {("0.jpg", 0): YES})
    say(store, "bob", {})
    guest = TestClient(client.app)
    guest.post(f"/join/{store.invite('cem')}")
    assert guest.get("/refine").status_code == 403
    assert guest.get("/refine/page/1").status_code == 403
    assert TestClient(client.app).get("/refine").status_code == 401
    address, hidden, _ = form(client.get("/refine"))
    token = re.search(r'name="csrf" content="(\w+)"', guest.get("/").text)[1]
    assert guest.post(address, data=hidden | {"c0": "yes", "csrf": token}).status_code == 403
    assert client.post(address, data=hidden | {"c0": "yes", "csrf": "no"}).status_code == 403
    # Another's page, even by somebody who may decide.
    (cem,) = [r for r in store.raters() if r.name == "cem"]
    store.change_rater(cem.id, refines=True, max_pages=None)
    refused = guest.post(address, data=hidden | {"c0": "yes", "csrf": token})
    assert (refused.status_code, refused.json()["detail"]) == (409, "Not stored: no such page.")
    assert rows(store) == []


def test_the_right_is_lost_while_deciding(store, client):
    say(store, "ann", {("0.jpg", 0): YES})
    say(store, "bob", {})
    one = rater(store, "one", refines=True)
    visit = store.refine(one, [disputed(client).disputes[0][0]])
    store.change_rater(one.id, refines=False, max_pages=None)
    late = answer(store, one, visit, [0], YES)
    assert list(late.refused.values()) == ["you can no longer decide disagreements"]


def test_decisions_go_on_while_rating_is_paused_and_end_with_the_campaign(store, client):
    say(store, "ann", {("0.jpg", 0): YES, ("1.jpg", 0): YES})
    say(store, "bob", {})
    store.change_settings(state="paused")
    address, hidden, asked = form(client.get("/refine"))
    assert client.post(address, data=hidden | {f"c{c}": "no" for c in asked}).status_code == 200
    store.change_settings(state="closed")
    assert "There is nothing to decide now" in client.get("/refine").text
    assert len(rows(store)) == 1


def test_golden_pages_are_not_decided_on(url):
    store = filled(url, pages=1, golden=1, raters=1, qualify=1)
    store.change_settings(least_informedness=-1)
    for name, value in (("ann", YES), ("bob", NO)):
        who = rater(store, name)
        while visits := store.queue(who).visits:
            answer(store, who, visits[0], value=value)
    assert store.votes().count(1, 2).disputes == []
    assert [store.dispute(page) for page in (1, 2)].count(None) == 1
    store.close()
