"""Values that take long to find: nobody waits for them, and they are not found anew too often."""

import queue
import sys
import threading
import time

import pytest
from fastapi.testclient import TestClient

from manyhot.reassess.app import AppCallbacks, create_app
from manyhot.reassess.app.cached_value import CORE_SHARE, CachedValue
from manyhot.reassess.app.progress import JudgedCampaign
from manyhot.reassess.app.store.progress import VoteCounts
from raters_page import until
from stores import NO, YES, answer, classes, filled, form, rater


class Slow:
    """Counts how often it was found; each time as soon as it is let go."""

    def __init__(self, seconds=0.0):
        self.began, self.seconds = 0, seconds
        self.go = threading.Event()

    def __call__(self):
        self.began += 1
        mine = self.began
        assert self.go.wait(30)
        time.sleep(self.seconds)
        return mine


def test_who_asks_gets_nothing_and_then_what_is_older():
    slow = Slow()
    value = CachedValue(slow, seconds=0.0)
    assert value.peek(0.01) is None
    slow.go.set()
    assert value.peek(30) == 1
    until(lambda: value.peek(30) > 1)
    slow.go.clear()
    last = value.peek(0.01)
    assert value.peek(0.01) == last
    slow.go.set()
    until(lambda: value.peek(30) > last)


def test_raters_get_what_is_older_while_the_next_is_found():
    slow = Slow()
    slow.go.set()
    value = CachedValue(slow, seconds=0.0)
    assert value.recent() == 1  # there is none yet
    slow.go.clear()
    assert [value.recent() for _ in range(3)] == [1, 1, 1]
    slow.go.set()
    until(lambda: value.recent() > 1)


def test_who_asks_after_an_error_gets_the_next_value():
    outcomes = [OSError("away"), 7]

    def find():
        if isinstance(outcome := outcomes.pop(0), Exception):
            raise outcome
        return outcome

    value = CachedValue(find)
    with pytest.raises(OSError, match="away"):
        value.recent()
    assert value.recent() == 7


def test_what_changed_while_it_was_found_is_found_anew():
    slow = Slow()
    value = CachedValue(slow, seconds=1000.0)
    assert value.peek(0.01) is None
    value.invalidate()
    slow.go.set()
    assert value.peek(30) == 1  # of before
    assert value.peek(30) == 2
    assert value.peek(30) == 2


@pytest.mark.slow
def test_a_value_that_ages_is_found_anew_no_oftener_than_its_share_allows():
    quick, slow = Slow(), Slow(0.2)
    for one in (quick, slow):
        one.go.set()
    values = [CachedValue(one, seconds=1000.0) for one in (quick, slow)]
    assert [value.peek(30) for value in values] == [1, 1]
    ended = time.monotonic()
    for value in values:
        value.expire()
    assert values[1].peek(30) == 1
    until(lambda: values[0].peek(30) == 2)
    until(lambda: values[1].peek(30) == 2)
    assert time.monotonic() - ended > 0.9 * 0.2 / CORE_SHARE


class Held:
    """Counts how often it was found; each time it begins, and ends when it is let go."""

    def __init__(self):
        self.began, self.fails = 0, False
        self.begins, self.go = threading.Semaphore(0), threading.Event()

    def __call__(self):
        self.began += 1
        mine = self.began
        self.begins.release()
        assert self.go.wait(30)
        if self.fails:
            raise OSError("no database")
        return mine


def asking(value, many):
    """Let as many threads ask at once; return a queue of what each of them got, and the threads."""
    got, start = queue.Queue(), threading.Barrier(many)

    def ask():
        start.wait(30)
        try:
            got.put(value.get())
        except OSError as error:
            got.put(error)

    threads = [threading.Thread(target=ask) for _ in range(many)]
    for thread in threads:
        thread.start()
    return got, threads


def all_of(got, threads):
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return [got.get_nowait() for _ in threads]


@pytest.fixture
def often_switched():
    """Let threads take turns as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_of_those_who_ask_at_once_one_finds_and_the_others_get_what_is_older(often_switched):
    held = Held()
    held.go.set()
    value = CachedValue(held, seconds=0.0)
    assert value.get() == 1
    held.go.clear()
    got, threads = asking(value, 24)
    assert [got.get(timeout=10) for _ in range(23)] == [1] * 23  # while the last one is at it
    assert held.began == 2
    held.go.set()
    assert got.get(timeout=10) == 2
    for thread in threads:
        thread.join(30)


def test_a_value_that_is_good_is_not_found_again():
    held = Held()
    held.go.set()
    value = CachedValue(held, seconds=1000.0)
    assert [value.get() for _ in range(5)] == [1] * 5
    assert held.began == 1


def test_with_no_value_yet_all_wait_for_the_first(often_switched):
    held = Held()
    value = CachedValue(held, seconds=1000.0)
    got, threads = asking(value, 24)
    assert held.begins.acquire(timeout=10)
    assert got.empty()
    held.go.set()
    assert all_of(got, threads) == [1] * 24
    assert held.began == 1


def test_a_failure_is_for_those_who_wait_and_the_next_tries_again(often_switched):
    held = Held()
    value = CachedValue(held, seconds=0.0)
    held.fails = True
    got, threads = asking(value, 24)
    held.go.set()
    assert {str(error) for error in all_of(got, threads)} == {"no database"}
    held.fails, before = False, held.began
    assert value.get() == before + 1
    held.fails = True
    with pytest.raises(OSError, match="no database"):
        value.get()
    held.fails = False
    assert value.get() == before + 3


def test_while_what_fails_is_found_again_the_older_value_stands():
    held = Held()
    held.go.set()
    value = CachedValue(held, seconds=0.0)
    assert value.get() == 1
    held.begins.acquire()
    held.go.clear()
    held.fails = True
    got, threads = asking(value, 1)
    assert held.begins.acquire(timeout=10)
    assert value.get() == 1
    held.go.set()
    assert [str(error) for error in all_of(got, threads)] == ["no database"]
    held.fails = False
    assert value.get() == 3


def test_a_page_is_decided_until_the_votes_are_counted_anew():
    counts = VoteCounts(None, {}, [(2, 1), (3, 1), (4, 2)])
    before, after = JudgedCampaign(counts), JudgedCampaign(counts)
    before.decided_since.add(3)
    assert before.pages_to_decide() == [2, 4]
    assert after.pages_to_decide() == [2, 3, 4]


@pytest.fixture
def disputed(tmp_path):
    """Return a store whose two raters differ on each of 120 pages, and the client of its owner."""
    store = filled(f"sqlite:///{tmp_path}/db.sqlite", pages=120, classes=1, raters=2)
    for name, value in (("ann", YES), ("bob", NO)):
        who = rater(store, name)
        while visits := store.queue(who).visits:
            answer(store, who, visits[0], value=value)
    app = create_app(store, classes(), tmp_path / "cache", title="fish", callbacks=AppCallbacks(alone=True))
    with TestClient(app) as client:
        client.post(f"/join/{store.invite('me', role='owner')}")
        yield store, client
    store.close()


def test_while_votes_are_counted_pages_say_so_within_a_second(disputed, monkeypatch):
    store, client = disputed
    go, count = threading.Event(), store.votes
    monkeypatch.setattr(store, "votes", lambda: go.wait(30) and count())
    monkeypatch.setattr("manyhot.reassess.app.cached_value.WAIT", 0.05)
    for address in ("/owner", "/owner/disagreements", "/refine"):
        page = client.get(address)
        assert "being counted" in page.text
        assert "nothing to decide" not in page.text
    go.set()
    until(lambda: "being counted" not in client.get("/refine").text)


def test_with_many_votes_no_decision_waits_for_them_to_be_counted_anew(disputed, monkeypatch):
    store, client = disputed
    counted, count = [], store.votes

    def slowly():
        counted.append(1)
        time.sleep(0.5)  # found anew after ten seconds at the earliest
        return count()

    monkeypatch.setattr(store, "votes", slowly)
    monkeypatch.setattr("manyhot.reassess.app.cached_value.WAIT", 30)
    page, pages = client.get("/refine"), set()
    for left in range(120, 0, -1):
        assert f"{left} to decide" in page.text
        address, hidden, asked = form(page)
        pages.add(address)
        page = client.post(address, data=hidden | {f"c{c}": "yes" for c in asked})
        if left == 120:
            assert "119 pages to decide" in client.get("/owner/disagreements").text
    assert "There is nothing to decide now" in page.text
    assert len(pages) == 120
    assert len(counted) <= 3  # in as many times ten seconds
