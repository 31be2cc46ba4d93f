"""Small databases for tests of the store, in SQLite and in PostgreSQL."""

from __future__ import annotations

import itertools
import re

from manyhot.classes import ClassList
from manyhot.reassess.app.store import CampaignSettings, ImageQuestions, Store, Vote

_keys = itertools.count()

NO, MAYBE, YES = range(3)


def key():
    """Return a key as browsers make them: no two are alike."""
    return f"key-{next(_keys):08d}"


def filled(url, *, pages=3, classes=3, golden=0, **settings):
    """Return a store of pages 1, 2, … with classes 0, 1, …; the first classes of golden pages are there."""
    store = Store(url)
    asked = [ImageQuestions(f"{n}.jpg", f"/images/{n}.jpg", 0, tuple(range(classes))) for n in range(pages)]
    asked += [
        ImageQuestions(
            f"golden{n}.jpg",
            f"/images/golden{n}.jpg",
            0,
            tuple(range(classes)),
            {c: c == 0 for c in range(classes)},
        )
        for n in range(golden)
    ]
    store.fill(
        asked,
        [],
        CampaignSettings(**{"raters": 1, "golden_every": 0, "least_seconds": 0} | settings),
        "source",
    )
    return store


def rater(store, name="ann", **more):
    """Return a rater who was invited."""
    token = store.invite(name, **more)
    found = store.invited(token)
    assert found is not None
    return found


def answer(store, who, visit, classes=None, value=NO):
    """Send answers to some classes of a visit, all by default, and return what became of them."""
    return store.store(
        who, [Vote(key(), visit.key, c, value) for c in (visit.shown if classes is None else classes)]
    )


def answers_by_question(store):
    """Return the raters who answered each question of round 0: image and class to names, one a rater."""
    votes = store.votes()
    found = {}
    for row in votes.first:
        question = int(votes.question[row])
        where = (
            votes.questions.name[question].as_py(),
            int(votes.questions.class_id[question]),
        )
        found.setdefault(where, []).append(votes.names[int(votes.votes[2, row])])
    return found


NAMES = ["<i>tench</i>", "goldfish", "shark"]


def classes():
    empty = [()] * len(NAMES)
    return ClassList("small", [f"n{i}" for i in range(3)], NAMES, empty, [""] * 3, empty)


def form(page):
    """Return the fields of the form of decisions, and the classes that it asks."""
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="(\w*)"', page.text))
    asked = sorted({int(c) for c in re.findall(r'name="c(\d+)"', page.text)})
    address = re.search(r'action="(/refine/\w+)" id="decisions"', page.text)
    return address and address[1], hidden, asked
