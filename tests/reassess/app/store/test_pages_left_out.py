"""A rater's answers are left out, and others are asked."""

import random

import pytest

from manyhot.reassess.app.store.submissions import all_votes
from stores import NO, YES, answer, answers_by_question, filled, rater


def work(store, who, value=NO, pages=99):
    """Answer what is asked."""
    while (visits := store.queue(who).visits) and pages:
        answer(store, who, visits[0], value=value)
        pages -= 1


def test_others_are_asked_what_a_rater_answered(url):
    store = filled(url, pages=3, classes=2, raters=2)
    ann, bob, cem = rater(store), rater(store, "bob"), rater(store, "cem")
    for who, value in ((ann, NO), (bob, YES)):
        work(store, who, value)
    assert store.count_free() == 0
    store.leave_out(ann.id)
    assert store.count_free() == 3
    assert {tuple(names) for names in answers_by_question(store).values()} == {("bob",)}
    assert {row[2] for row in store.read_all(all_votes)} == {"bob"}
    assert store.queue(ann).reason == "stopped"
    work(store, cem)
    counts = store.votes().count(2, 0).progress
    assert (counts.questions_done, counts.answers, counts.changed) == (6, 12, 0)
    assert {frozenset(names) for names in answers_by_question(store).values()} == {frozenset(("bob", "cem"))}
    assert store.count_free() == 0
    dispute = store.dispute(1)
    assert {a.rater for c in dispute.classes for a in c.answers} == {"bob", "cem"}
    # The answers are still there, and can count again.
    store.count_again(ann.id)
    assert {len(names) for names in answers_by_question(store).values()} == {3}
    store.close()


def test_only_what_is_missing_of_a_shared_place_is_asked_again(url, pass_time):
    store = filled(url, pages=1, classes=3, raters=1)
    ann, bob, cem = rater(store), rater(store, "bob"), rater(store, "cem")
    (visit,) = store.queue(ann).visits
    first = visit.shown[0]
    answer(store, ann, visit, [first])
    pass_time()
    work(store, bob)
    store.leave_out(ann.id)
    (taken,) = store.queue(cem).visits
    assert taken.shown == (first,)
    answer(store, cem, taken)
    assert {len(names) for names in answers_by_question(store).values()} == {1}
    assert store.count_free() == 0
    store.close()


@pytest.mark.parametrize("seed", range(6))
def test_whoever_is_left_out_each_question_gets_its_raters(url, pass_time, seed):
    rng = random.Random(seed)
    store = filled(url, pages=4, classes=3, raters=2)
    people = [rater(store, f"rater {n}") for n in range(9)]
    out = []
    for turn in range(40):
        who = rng.choice(people)
        visits = store.queue(who).visits
        if visits:
            visit = rng.choice(visits)
            answer(store, who, visit, rng.sample(visit.shown, rng.randint(1, len(visit.shown))))
        if rng.random() < 0.2:
            pass_time()
        if turn % 12 == 11:
            out.append(rng.choice([p for p in people if p not in out]))
            store.leave_out(out[-1].id)
    pass_time()
    for who in people:
        work(store, who)
    names = {who.name for who in out}
    counts = answers_by_question(store)
    assert len(counts) == 12
    for raters in counts.values():
        assert len(set(raters)) == len(raters) == 2
        assert not names & set(raters)
    store.close()
