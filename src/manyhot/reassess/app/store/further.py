"""Further answers: one more rater is asked some questions of a page, in a slot with classes of its own."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa
import sqlalchemy as sa

from manyhot.reassess.app.store import engines, schema
from manyhot.reassess.app.store.accounts import ANSWERS_LEFT_OUT, OWNER
from manyhot.reassess.app.store.campaign_settings import put_value, read_settings
from manyhot.reassess.app.store.slots import HAS_FURTHER
from manyhot.reassess.app.vote_count import FURTHER, still_to_come

_PAGES, _QUESTIONS, _RATERS = schema.pages, schema.questions, schema.raters
_SLOTS, _VISITS, _VOTES = schema.slots, schema.visits, schema.votes
_AT_ONCE = 5_000
"""Questions, or images, of one statement; databases take 32,000 parameters."""


@dataclass(frozen=True)
class FurtherQuestion:
    """A question for which one more answer is wanted.

    Attributes
    ----------
    id, page, position, class_id : int
        Number of the question, number and position of its page, and the class.
    n : int
        Number of raters of the app who had answered the question when another answer was requested.
    """

    id: int
    page: int
    position: int
    class_id: int
    n: int


@dataclass(frozen=True)
class FurtherAnswers:
    """The outcome of a request for one more answer to each of some questions.

    Attributes
    ----------
    added : int
        Number of questions that one more rater will be asked.
    waiting : int
        Number of questions that are already waiting for an answer.
    newer : int
        Number of questions that have more answers than were known when another answer was requested.
    golden : int
        Number of questions on golden pages, whose answers are known.
    unknown : int
        Number of questions that the app does not ask.
    alone : int
        Number of added questions that every rater who can still answer questions has already answered.
    state : str
        State of the campaign.
    """

    added: int
    waiting: int
    newer: int
    golden: int
    unknown: int
    alone: int
    state: str


def find_further(connection: sa.Connection, questions: pa.Table) -> tuple[list[FurtherQuestion], int, int]:
    """Return the questions in a table, how many others are on golden pages, and how many do not exist.

    Questions never change, so they are looked up before the database is locked. Pages are found by a scan
    (0.4 s for 1.28 million), because nothing else would need an index over their images.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    questions : pyarrow.Table
        Columns ``image_id``, ``class_id`` and ``n_votes``.
    """
    n_of = {(name, c): n for name, c, n in zip(*(c.to_pylist() for c in questions.columns), strict=True)}
    there, golden = list[FurtherQuestion](), 0
    for some in _parts(list(dict.fromkeys(name for name, _ in n_of))):
        images = sa.select(schema.images.c.id).where(schema.images.c.name.in_(some))
        rows = connection.execute(_FOUND.where(_PAGES.c.image_id.in_(images)))
        for name, class_id, question, page, position, is_golden in rows:
            n = n_of.get((name, class_id))
            if n is not None and is_golden:
                golden += 1
            elif n is not None:
                there.append(FurtherQuestion(question, page, position, class_id, n))
    return there, golden, len(n_of) - len(there) - golden


_FOUND = (
    sa.select(
        schema.images.c.name,
        _QUESTIONS.c.class_id,
        _QUESTIONS.c.id,
        _PAGES.c.id,
        _PAGES.c.position,
        _PAGES.c.golden,
    )
    .select_from(_PAGES)
    .join(schema.images, schema.images.c.id == _PAGES.c.image_id)
    .join(_QUESTIONS, _QUESTIONS.c.page_id == _PAGES.c.id)
    .where(schema.IS_ASKED)
)


def ask_further(
    connection: sa.Connection, questions: Sequence[FurtherQuestion], golden: int, unknown: int
) -> FurtherAnswers:
    """Ask for one more answer to each question that neither waits for an answer nor has a newer one.

    A repeated call with the same questions therefore asks nothing twice, whatever happened in between.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    questions, golden, unknown
        As returned by `find_further`.
    """
    settings = read_settings(connection)
    people = _people(connection)
    added, waiting, newer, alone = list[FurtherQuestion](), 0, 0, 0
    for some in _parts(questions):
        answers, slots = _answers(connection, some), _unfinished(connection, {one.page for one in some})
        for one in some:
            of = answers[one.id]
            if any(slot.asks(one, of, settings.raters) for slot in slots[one.page]):
                waiting += 1
            elif len(of.raters) > one.n:
                newer += 1
            else:
                added.append(one)
                alone += people <= of.everybody
    if added:
        _add_slots(connection, added)
    return FurtherAnswers(len(added), waiting, newer, golden, unknown, alone, settings.state)


def further_to_come(connection: sa.Connection) -> int:
    """Return the number of further answers that are still to come."""
    return still_to_come(connection.execute(sa.text(FURTHER)).all())


T = TypeVar("T")


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE))


@dataclass
class _Answers:
    """Who answered a question: raters whose answers count, and the slots of these answers; and everybody."""

    raters: set[int] = field(default_factory=set)
    slots: set[int] = field(default_factory=set)
    everybody: set[int] = field(default_factory=set)


def _answers(connection: sa.Connection, asked: Sequence[FurtherQuestion]) -> defaultdict[int, _Answers]:
    # Plus 0: by its index, SQLite would look up each of the questions in each visit.
    here = (_VOTES.c.question_id + 0).in_([one.id for one in asked])
    query = (
        sa.select(_VOTES.c.question_id, _VISITS.c.rater_id, _VISITS.c.slot_id, _RATERS.c.state)
        .select_from(_VISITS)
        .join(_VOTES, _VOTES.c.visit_id == _VISITS.c.id)
        .join(_RATERS, _RATERS.c.id == _VISITS.c.rater_id)
        .where(_VISITS.c.page_id.in_({one.page for one in asked}), _VISITS.c.round == 0, here)
    )
    found = defaultdict[int, _Answers](_Answers)
    for question, rater, slot, state in connection.execute(query):
        found[question].everybody.add(rater)
        if state != ANSWERS_LEFT_OUT:
            found[question].raters.add(rater)
            found[question].slots.add(slot)
    return found


@dataclass(frozen=True)
class _Unfinished:
    """A slot that is free or held: its classes, None for all of its page, and those that are shown now."""

    id: int
    classes: Collection[int] | None
    shown: Collection[int]

    def asks(self, one: FurtherQuestion, answers: _Answers, raters: int) -> bool:
        """Return whether a rater is being asked a question in this slot, or will be."""
        if self.id in answers.slots or (self.classes is not None and one.class_id not in self.classes):
            return False
        # Nobody is asked on a page whose question has, by further answers, as many as are wanted.
        return self.classes is not None or one.class_id in self.shown or len(answers.raters) < raters


def _unfinished(connection: sa.Connection, pages: Collection[int]) -> defaultdict[int, list[_Unfinished]]:
    is_open = _VISITS.c.state == "open"
    query = (
        sa.select(_SLOTS.c.page_id, _SLOTS.c.id, _SLOTS.c.classes, _VISITS.c.shown)
        .outerjoin(_VISITS, (_VISITS.c.id == _SLOTS.c.visit_id) & is_open)
        .where(_SLOTS.c.page_id.in_(pages), _SLOTS.c.visit_id.is_(None) | is_open)
    )
    found = defaultdict[int, list[_Unfinished]](list)
    for page, slot, classes, shown in connection.execute(query):
        own = None if classes is None else json.loads(classes)
        found[page].append(_Unfinished(slot, own, json.loads(shown or "[]")))
    return found


def _people(connection: sa.Connection) -> set[int]:
    """Return the raters who can be asked."""
    active = sa.select(_RATERS.c.id).where(_RATERS.c.state == "active", _RATERS.c.role != OWNER)
    return set(connection.scalars(active))


def _add_slots(connection: sa.Connection, added: Sequence[FurtherQuestion]) -> None:
    """Add a slot to each page of some questions, for all of them together."""
    classes: dict[tuple[int, int], list[int]] = defaultdict(list)
    for one in added:
        classes[one.page, one.position].append(one.class_id)
    places = sorted(classes, key=lambda place: place[1])
    columns: dict[str, Any] = {
        "page_id": pa.array([page for page, _ in places], pa.int64()),
        "position": pa.array([position for _, position in places], pa.int64()),
        "classes": pa.array([json.dumps(sorted(classes[place])) for place in places], pa.string()),
    }
    engines.insert_rows(connection, _SLOTS, pa.table(columns))
    put_value(connection, HAS_FURTHER, True)
