"""More and fewer raters while a campaign runs: exactly as many as are wanted, or as had answered before."""

import math
import random
import time

import pytest

from manyhot.reassess.app import store as store_module
from manyhot.reassess.app.store import Store, Vote, slots
from stores import NO, YES, answer, answers_by_question, filled, key, rater


def test_fewer_raters_and_more_again_ask_nobody_too_much(url, pass_time):
    store = filled(url, pages=1, classes=2, raters=2)
    ann, bob, cem, dan = (rater(store, name) for name in ("ann", "bob", "cem", "dan"))
    for who, part in ((ann, 0), (bob, 1)):
        (visit,) = store.queue(who).visits
        answer(store, who, visit, [part])
    pass_time()  # both leave: each question has one answer, in a slot of its own
    store.change_settings(raters=1)
    assert [store.queue(who).reason for who in (ann, bob, cem)] == ["finished"] * 3
    assert store.count_free() == 0
    store.change_settings(raters=2)
    for who in (cem, dan):
        while visits := store.queue(who).visits:
            answer(store, who, visits[0])
    assert {len(names) for names in answers_by_question(store).values()} == {2}
    assert store.count_free() == 0
    store.close()


def test_a_slot_with_answers_is_kept_for_when_more_raters_are_wanted(url):
    store = filled(url, pages=1, classes=2, raters=2)
    visits = [(who, store.queue(who).visits[0]) for who in (rater(store, "ann"), rater(store, "bob"))]
    for part, (who, visit) in enumerate(visits):
        answer(store, who, visit, [part])
        store.stop(who.id)  # each leaves a slot with one answer
    for wanted in (1, 2):
        store.change_settings(raters=wanted)
        assert store.count_free() == wanted
    store.close()


@pytest.mark.parametrize("seed", range(10))
def test_whatever_the_owner_wants_meanwhile(url, pass_time, seed):
    """As in `test_store_assigning`, with another number of raters every now and then."""
    rng = random.Random(seed)
    wanted = most = rng.choice((1, 2, 3))
    store = filled(url, pages=rng.choice((2, 3, 7)), classes=rng.choice((1, 3, 4)), raters=wanted)
    people = [rater(store, f"rater {n}") for n in range(6)]
    tabs = {who.id: [] for who in people}

    def use(who):
        visits = store.queue(who).visits
        tabs[who.id] += visits
        return visits

    for _ in range(60):
        who, act = rng.choice(people), rng.random()
        if act < 0.3:
            for visit in use(who)[: rng.choice((1, 2))]:
                answer(store, who, visit, rng.sample(visit.shown, rng.randint(0, len(visit.shown))), YES)
        elif act < 0.5 and tabs[who.id]:
            visit = rng.choice(tabs[who.id])
            answer(store, who, visit, rng.sample(visit.shown, rng.randint(1, len(visit.shown))))
        elif act < 0.65:
            pass_time(rng.choice((10, 40, 70)))
        elif act < 0.75:
            rng.choice((store.stop, store.revoke))(who.id)
        elif act < 0.85:
            store.invite(who.name)
            store.let_go_on(who.id)
        else:
            wanted = rng.choice((1, 2, 3, 4))
            most = max(most, wanted)
            store.change_settings(raters=wanted)
        assert all(len(set(names)) == len(names) <= most for names in answers_by_question(store).values())

    pass_time()
    for who in people:
        store.invite(who.name)
        store.let_go_on(who.id)
    before = {where: len(names) for where, names in answers_by_question(store).items()}
    for _ in range(20):
        if not [answer(store, who, visit, value=NO) for who in people for visit in use(who)]:
            break  # nobody is asked any more
    by = answers_by_question(store)
    assert len(by) == store.votes().campaign.questions
    assert {where: len(names) for where, names in by.items()} == {
        where: max(wanted, before.get(where, 0)) for where in by
    }
    assert store.count_free() == 0
    assert {store.queue(who).reason for who in people} == {"finished"}
    store.close()


def test_answers_get_in_while_more_raters_are_wanted(url, monkeypatch):
    monkeypatch.setattr(store_module, "_FIT_SECONDS", 0.0)
    monkeypatch.setattr(store_module, "_FIT_PART", 0.0)  # a part is as small as can be
    store = filled(url, pages=1000, classes=2, raters=1)
    ann = rater(store)
    visit = store.queue(ann).visits[0]
    batches, made = [], store._database._made

    def record(batch):
        batches.append([one.change.__qualname__ for one in batch])
        return made(batch)

    monkeypatch.setattr(store._database, "_made", record)
    store.change_settings(raters=3)
    while store._database.read(slots.is_to_fit):
        answer(store, ann, visit, [visit.shown[0]], NO)
    # A batch may hold a part and answers that came meanwhile.
    fitting = [n for n, batch in enumerate(batches) if any("store" not in name for name in batch)]
    parts = sum("store" not in name for batch in batches for name in batch)
    answers = sum("store" in name for batch in batches[fitting[0] : fitting[-1] + 1] for name in batch)
    assert parts >= 1000 / 200
    assert answers > 0  # in between
    assert store.count_free() == 3 * 1000 - 4
    store.change_settings(raters=1)
    while store._database.read(slots.is_to_fit):
        time.sleep(0.01)
    assert store.count_free() == 1000 - 4
    store.close()


def test_an_answer_that_waits_ends_the_part_and_comes_before_the_next(url, monkeypatch):
    monkeypatch.setattr(store_module, "_FIT_SECONDS", math.inf)
    monkeypatch.setattr(store_module, "_FIT_PART", math.inf)  # only those who wait end a part
    monkeypatch.setattr(slots, "_FIT_PAGES", 1)
    store = filled(url, pages=20, classes=2, raters=1)
    ann = rater(store)
    first, second, *_ = store.queue(ann).visits
    events, sent, fit = [], [], slots._fit_some

    def fit_and_answer(connection, count, page, whole):
        fit(connection, count, page, whole)
        events.append(page)
        if page in (3, 4):  # the writer is at work: these wait
            visit = first if page == 3 else second
            waiting = store.begin_store(ann, [Vote(key(), visit.key, visit.shown[0], NO)])
            waiting.add_done_callback(lambda done: events.append(done.result().stored))
            sent.append(waiting)

    monkeypatch.setattr(slots, "_fit_some", fit_and_answer)
    store.change_settings(raters=3)
    kept = [one.result().stored for one in sent]
    assert events == [1, 2, 3, kept[0], 4, kept[1], *range(5, 21)]
    assert store.count_free() == 3 * 20 - 4
    store.close()


def test_the_number_of_raters_is_reached_after_a_restart(url, monkeypatch):
    store = filled(url, pages=500, classes=1, raters=1)
    with monkeypatch.context() as patch:  # the app ends before the first part
        patch.setattr(store, "_fit_slots", lambda **_: False)
        store.change_settings(raters=2)
    assert store.count_free() == 500
    store.close()
    store = Store(url)
    store.fit_slots()
    assert store.count_free() == 1000
    store.close()
