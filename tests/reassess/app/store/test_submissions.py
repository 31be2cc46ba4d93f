"""Answers that come at once are stored as if they had come one after the other."""

import functools
import itertools
import random
import secrets
import tempfile
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from manyhot.reassess.app.store import NewRemark, Vote, database, schema, submissions
from manyhot.reassess.app.store.submissions import Submission
from stores import YES, answer, filled, key, rater


@pytest.fixture
def the_same_twice(monkeypatch):
    """Return a function after which tokens, keys and times come again."""

    def begin():
        numbers, ticks = itertools.count(1), itertools.count(1_700_000_000_000_000)
        monkeypatch.setattr(secrets, "token_hex", lambda n: f"{next(numbers):0{2 * n}x}")
        monkeypatch.setattr(secrets, "token_urlsafe", lambda n: f"token{next(numbers)}")
        monkeypatch.setattr(secrets, "randbelow", lambda most: next(numbers) % most)
        monkeypatch.setattr(database, "time", SimpleNamespace(time_ns=lambda: next(ticks) * 1000))

    return begin


def rows(store):
    """Return what raters did, without the numbers of rows and without times."""
    v, p, q, k, r = schema.votes, schema.visits, schema.questions, schema.slots, schema.remarks
    votes = sa.select(v.c.key, v.c.rater_id, p.c.key, q.c.class_id, v.c.answer, v.c.main).join(
        p, p.c.id == v.c.visit_id
    )
    wanted = [
        votes.join(q, q.c.id == v.c.question_id).order_by(v.c.rater_id, v.c.id),
        sa.select(p.c.key, p.c.rater_id, p.c.page_id, p.c.state, p.c.shown, p.c.partial).order_by(p.c.key),
        sa.select(k.c.id, k.c.visit_id).order_by(k.c.id),
        sa.select(r.c.key, r.c.text).order_by(r.c.key),
    ]
    return [[tuple(row) for row in store.read_all(lambda c, q=q: c.execute(q))] for q in wanted]


def some_work(rng, own, others, keys):
    """Return what a rater may send: to own pages and others', known keys, no classes, changes of mind."""
    items = []
    for _ in range(rng.randrange(1, 6)):
        visit = rng.choice(others if rng.random() < 0.1 else own)
        if keys and rng.random() < 0.2:
            name = rng.choice(keys)
        else:
            name = f"key{rng.randrange(10**9)}"
            keys.append(name)
        if rng.random() < 0.15:
            items.append(NewRemark(name, visit, "so so", skips=rng.random() < 0.3))
        else:
            items.append(Vote(name, visit, rng.randrange(5), rng.randrange(3), rng.random() < 0.2))
    return items


def work(store, rng, at_once):
    """Let four raters ask, answer, leave and come back for a while; return what they were told."""
    people, told = [rater(store, name) for name in ("ann", "bob", "cem", "dot")], []
    seen, keys = {who.id: [] for who in people}, {who.id: [] for who in people}
    for turn in range(20):
        for who in people if turn == 0 else rng.sample(people, 2):
            seen[who.id] += [v.key for v in store.queue(who).visits if v.key not in seen[who.id]]
        if turn % 4 == 3:  # who asks next gives back all
            store._database.write(lambda c: c.execute(sa.update(schema.visits).values(expires_at=0)))
            store.queue(people[0])
        others = [key for known in seen.values() for key in known]
        sent = [Submission(who, some_work(rng, seen[who.id], others, keys[who.id])) for who in people * 2]
        for some in [sent] if at_once else [[one] for one in sent]:
            told += store._database.write(lambda c, some=some: submissions.store(c, some))
    return told


@functools.cache
def one_after_the_other(seed):
    """Return how it ends in SQLite, with which each database is compared."""
    with tempfile.TemporaryDirectory() as folder:
        return end(f"sqlite:///{folder}/other.sqlite", seed, at_once=False)


def end(url, seed, *, at_once):
    store = filled(url, pages=12, classes=4, raters=2)
    told = work(store, random.Random(seed), at_once)
    found = told, rows(store)
    store.close()
    return found


@pytest.mark.parametrize("seed", range(6))
def test_at_once_as_one_after_the_other(url, the_same_twice, seed):
    the_same_twice()
    found = end(url, seed, at_once=True)
    the_same_twice()
    assert found == one_after_the_other(seed)
    assert len(found[1][0]) > 50


def test_a_key_that_is_used_for_all_classes_answers_one(url):
    store = filled(url, pages=1, classes=3)
    ann = rater(store)
    visit = store.queue(ann).visits[0]
    store.store(ann, [Vote("the-same", visit.key, c, YES) for c in visit.shown])
    assert store.visit(ann, visit.key).state == "open"
    assert set(store.visit(ann, visit.key).answers) == {visit.shown[0]}
    answer(store, ann, visit, visit.shown[1:])
    assert store.visit(ann, visit.key).state == "done"
    store.close()


def test_nobody_answers_for_another_who_answers_just_then(url):
    store = filled(url, pages=2, classes=2, raters=2)
    ann, bob = rater(store), rater(store, "bob")
    mine, others = store.queue(ann).visits[0], store.queue(bob).visits[0]
    sent = [Submission(who, [Vote(key(), others.key, c, YES) for c in others.shown]) for who in (ann, bob)]
    forged, own = store._database.write(lambda c: submissions.store(c, sent))
    assert set(forged.refused.values()) == {"no such page"}
    assert not own.refused
    assert store.visit(ann, mine.key).answers == {}
    store.close()
