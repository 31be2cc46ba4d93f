"""Questions that are not asked any more, and that are asked again: some pages at a time.

A page that a rater has open stays as it is, and what is answered on it is stored.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot.reassess.app.store import schema
from manyhot.reassess.app.store.campaign_settings import get_value, put_value
from manyhot.reassess.app.store.fill import query_table
from manyhot.reassess.app.store.page_classes import COUNTS, PARKED, slot_classes
from manyhot.reassess.app.store.slots import HAS_WITHDRAWN

_PAGES, _QUESTIONS, _WITHDRAWN = schema.pages, schema.questions, schema.withdrawn
_SLOTS, _VISITS, _VOTES = schema.slots, schema.visits, schema.votes
_PAGES_AT_ONCE = 50
"""Pages that are changed before it is asked whether that is enough for now."""

_QUESTION = ["image_id", "class_id"]


@dataclass(frozen=True)
class Withdrawal:
    """The outcome of restricting a campaign to some questions.

    Attributes
    ----------
    withdrawn, images : int
        Number of questions that are no longer asked, and the number of their images.
    answers : int
        Number of answers to these questions.
    back : int
        Number of withdrawn questions that are asked again.
    """

    withdrawn: int
    images: int
    answers: int
    back: int


@dataclass(frozen=True, eq=False)
class Changes:
    """Questions to withdraw and to ask again, in the order of pages, and images left without questions.

    Attributes
    ----------
    page, question, class_id : ndarray of int, shape (n,)
    is_gone : ndarray of bool, shape (n,)
        Whether a question is to be withdrawn.
    images : int
        Number of images of the questions to withdraw.
    unasked : pyarrow.Array of str
        All images without any remaining question.
    """

    page: npt.NDArray[np.int64]
    question: npt.NDArray[np.int64]
    class_id: npt.NDArray[np.int64]
    is_gone: npt.NDArray[np.bool_]
    images: int
    unasked: pa.Array

    def __len__(self) -> int:
        return len(self.page)


def find_changes(connection: sa.Connection, proposals: pa.Table) -> Changes:
    """Return the changes after which only the questions in a table are asked.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    proposals : pyarrow.Table
        Columns ``image_id`` and ``class_id``.
    """
    known = _all_questions(connection)
    proposals = proposals.select(_QUESTION).cast(pa.schema([_KNOWN.field(name) for name in _QUESTION]))
    is_withdrawn = known["withdrawn"]
    gone = known.filter(pc.invert(is_withdrawn)).join(proposals, _QUESTION, join_type="left anti")
    back = known.filter(is_withdrawn).join(proposals, _QUESTION, join_type="left semi")
    both = pa.concat_tables([gone, back]).sort_by([("page", "ascending"), ("question", "ascending")])
    names = pc.unique(known["image_id"])
    return Changes(
        both["page"].to_numpy(),
        both["question"].to_numpy(),
        both["class_id"].to_numpy().astype(np.int64),
        ~both["withdrawn"].to_numpy(),
        len(pc.unique(gone["image_id"])),
        names.filter(pc.invert(pc.is_in(names, pc.unique(proposals["image_id"])))),
    )


_KNOWN = pa.schema(
    [
        ("image_id", pa.string()),
        ("class_id", pa.int32()),
        ("page", pa.int64()),
        ("question", pa.int64()),
        ("withdrawn", pa.bool_()),
    ]
)


def _all_questions(connection: sa.Connection) -> pa.Table:
    query = (
        sa.select(
            schema.images.c.name,
            _QUESTIONS.c.class_id,
            _PAGES.c.id,
            _QUESTIONS.c.id,
            _WITHDRAWN.c.question_id.is_not(None),
        )
        .select_from(_QUESTIONS)
        .join(_PAGES, _PAGES.c.id == _QUESTIONS.c.page_id)
        .join(schema.images, schema.images.c.id == _PAGES.c.image_id)
        .outerjoin(_WITHDRAWN, _WITHDRAWN.c.question_id == _QUESTIONS.c.id)
    )
    return query_table(connection, query, _KNOWN)


def change_pages(
    connection: sa.Connection, changes: Changes, start: int, is_enough: Callable[[], bool]
) -> tuple[int, int]:
    """Change the questions of the next pages; return where to continue, and a number of answers.

    The number counts the answers to the questions that were withdrawn.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    changes : Changes
    start : int
        The first question.
    is_enough : callable
        Returns whether to pause, so that other changes can be made first.
    """
    answers = 0
    while start < len(changes):
        some = np.unique(changes.page[start : start + _PAGES_AT_ONCE])
        end = int(np.searchsorted(changes.page, some[-1], "right"))  # never a part of a page
        answers += _change(connection, changes, slice(start, end), some.tolist())
        start = end
        if is_enough():
            break
    return start, answers


def _change(connection: sa.Connection, changes: Changes, part: slice, pages: Sequence[int]) -> int:
    is_gone, questions = changes.is_gone[part], changes.question[part]
    gone, back = questions[is_gone].tolist(), questions[~is_gone].tolist()
    if gone:
        new = sa.select(_QUESTIONS.c.id).where(_QUESTIONS.c.id.in_(gone), schema.IS_ASKED)
        connection.execute(_WITHDRAWN.insert().from_select(["question_id"], new))
    if back:
        connection.execute(_WITHDRAWN.delete().where(_WITHDRAWN.c.question_id.in_(back)))
    back_on: dict[int, set[int]] = defaultdict(set)
    for page, class_id in zip(changes.page[part][~is_gone], changes.class_id[part][~is_gone], strict=True):
        back_on[int(page)].add(int(class_id))
    answered, n = _answered(connection, pages, set(gone))
    _fit_slots(connection, pages, back_on, answered)
    return n


_Answered = defaultdict[int | None, set[int]]


def _answered(
    connection: sa.Connection, pages: Collection[int], questions: Collection[int]
) -> tuple[_Answered, int]:
    """Return the classes answered in each slot of some pages, and how many answers some questions have."""
    query = (
        sa.select(_VISITS.c.slot_id, _VISITS.c.rater_id, _VOTES.c.question_id, _QUESTIONS.c.class_id)
        .join(_VOTES, _VOTES.c.visit_id == _VISITS.c.id)
        .join(_QUESTIONS, _QUESTIONS.c.id == _VOTES.c.question_id)
        .where(_VISITS.c.page_id.in_(pages), _VISITS.c.round == 0, COUNTS)
    )
    found, pairs = _Answered(set), set()
    for slot, rater, question, class_id in connection.execute(query):
        found[slot].add(class_id)
        if question in questions:
            pairs.add((rater, question))
    return found, len(pairs)


def _fit_slots(
    connection: sa.Connection, pages: Sequence[int], back_on: dict[int, set[int]], answered: _Answered
) -> None:
    """Free the slots that have something to ask again, and let nobody have those that have nothing left."""
    asked: dict[int, set[int]] = defaultdict(set)
    there = sa.select(_QUESTIONS.c.page_id, _QUESTIONS.c.class_id)
    for page, class_id in connection.execute(there.where(_QUESTIONS.c.page_id.in_(pages), schema.IS_ASKED)):
        asked[page].add(class_id)
    visits = connection.execute(
        sa.select(_VISITS.c.id, _VISITS.c.page_id, _VISITS.c.slot_id, _VISITS.c.state, _VISITS.c.shown)
        .where(_VISITS.c.page_id.in_(pages), _VISITS.c.slot_id.is_not(None))
        .order_by(_VISITS.c.id)
    ).all()
    last, open_ids, done = dict[int, int](), set[int](), defaultdict[int, set[int]](set)
    partial = []
    for visit in visits:
        shown = set(json.loads(visit.shown))
        last[visit.slot_id] = visit.id
        if visit.state == "open":
            open_ids.add(visit.id)
        elif visit.state == "done":
            done[visit.slot_id] |= shown  # also if the rater skipped the page
        if back_on.get(visit.page_id, set()) - shown:
            partial.append(visit.id)
    held: dict[int | None, list[int]] = defaultdict(list)
    for slot, page, visit, text in connection.execute(
        sa.select(_SLOTS.c.id, _SLOTS.c.page_id, _SLOTS.c.visit_id, _SLOTS.c.classes).where(
            _SLOTS.c.page_id.in_(pages)
        )
    ):
        own = slot_classes(text)
        kept = None if own is None else own & (asked[page] | answered[slot])
        if kept != own:  # further answers: not so many are still to come
            _update(connection, [slot], classes=json.dumps(sorted(kept or ())))
        left = (asked[page] if kept is None else asked[page] & kept) - answered[slot]
        again = left & back_on.get(page, set()) - (done[slot] if visit != PARKED else set())
        if visit is None and not left:
            held[last.get(slot, PARKED)].append(slot)
        elif visit is not None and visit not in open_ids and own is None and again:
            held[None].append(slot)
    for holder, slots in held.items():
        _update(connection, slots, visit_id=holder)
    if partial:  # these raters have not seen all of the page, and may get it again
        connection.execute(_VISITS.update().where(_VISITS.c.id.in_(partial)).values(partial=True))


def _update(connection: sa.Connection, slots: Sequence[int], **values: Any) -> None:
    connection.execute(_SLOTS.update().where(_SLOTS.c.id.in_(slots)).values(**values))


def find_examples(connection: sa.Connection, unasked: pa.Array) -> tuple[list[str], list[str]]:
    """Return the images to stop showing as examples, and those to show again."""
    table = schema.examples
    rows = connection.execute(sa.select(table.c.name, table.c.withdrawn).distinct()).all()
    names = pa.array([row.name for row in rows], pa.string())
    hidden = pc.is_in(names, unasked).to_pylist()
    changed = [(row.name, hide) for row, hide in zip(rows, hidden, strict=True) if hide != row.withdrawn]
    return [name for name, hide in changed if hide], [name for name, hide in changed if not hide]


def show_examples(connection: sa.Connection, names: Sequence[str], *, withdrawn: bool) -> None:
    """Set whether some images are shown as examples."""
    table = schema.examples
    connection.execute(table.update().where(table.c.name.in_(names)).values(withdrawn=withdrawn))


def count_change(connection: sa.Connection) -> None:
    """Record that questions were withdrawn or reinstated, so that earlier counts are no longer used."""
    put_value(connection, HAS_WITHDRAWN, (get_value(connection, HAS_WITHDRAWN) or 0) + 1)
