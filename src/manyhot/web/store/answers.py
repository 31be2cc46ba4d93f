"""Votes and remarks: added, never changed.

Each carries a key that the browser made. What is sent again, after a lost connection or from a second tab, is
recognised by it and stored once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from manyhot.web.store import assigning, refining, schema
from manyhot.web.store.clock import now
from manyhot.web.store.people import Rater
from manyhot.web.store.settings import Settings, read_with
from manyhot.web.store.visits import Visit, find_visit


@dataclass(frozen=True)
class Vote:
    """An answer to one question of a visit.

    Attributes
    ----------
    key : str
        Made by the browser.
    visit : str
        The key of the visit.
    class_id : int
    answer : int
        0 no, 1 maybe, 2 yes.
    main : bool
        Whether the class is the main object.
    age : int
        How many microseconds ago it was given: what waited for a connection comes late.
    seen : int, optional
        How many microseconds the page had been looked at then.
    """

    key: str
    visit: str
    class_id: int
    answer: int
    main: bool = False
    age: int = 0
    seen: int | None = None


@dataclass(frozen=True)
class Remark:
    """A comment, or a class that is missing among those asked about.

    Attributes
    ----------
    key, visit : str
    text : str, optional
    missing_class_id : int, optional
    age : int
        How many microseconds ago it was given.
    skips : bool
        Whether the rater cannot answer, because the image cannot be shown: the page is done all the same.
    """

    key: str
    visit: str
    text: str | None = None
    missing_class_id: int | None = None
    age: int = 0
    skips: bool = False


@dataclass(frozen=True)
class Stored:
    """What became of what was sent.

    Attributes
    ----------
    kept : list of str
        The keys of what is stored now, or was already.
    refused : dict of str to str
        The keys of what is not, and why.
    """

    kept: list[str]
    refused: dict[str, str]


def store(connection: sa.Connection, rater: Rater, sent: Sequence[Vote | Remark]) -> Stored:
    """Store what a rater sent, in this order."""
    rater, settings = read_with(connection, rater)
    barred = _why_barred(rater, settings)
    visits: dict[str, Visit | None] = {}
    result = Stored([], {})
    for one in sent:
        if one.visit not in visits:
            visits[one.visit] = find_visit(connection, rater, one.visit)
        visit = visits[one.visit]
        if barred:
            why = barred
        elif visit is None:
            why = "no such page"
        else:
            if _goes_on(one, visit) and _reopen(connection, rater, visit, settings):
                visits[one.visit] = visit = find_visit(connection, rater, one.visit) or visit
            why = _store(connection, rater, visit, one)
        if why and not _is_known(connection, rater, one):
            result.refused[one.key] = why
        else:
            result.kept.append(one.key)
    opened = [visit for visit in visits.values() if visit is not None]
    if result.kept and not barred and any(assigning.is_to_renew(visit, settings) for visit in opened):
        assigning.renew(connection, rater, settings)
    answered = {(one.visit, one.class_id) for one in sent if isinstance(one, Vote)}
    skipped = {one.visit for one in sent if isinstance(one, Remark) and one.skips and not barred}
    for visit in opened:
        # Most answers are not the last of their page: there is nothing to look up.
        if visit.key in skipped or all(c in visit.answers or (visit.key, c) in answered for c in visit.shown):
            _finish(connection, rater, visit, skipped=visit.key in skipped)
    return result


def _why_barred(rater: Rater, settings: Settings) -> str:
    if settings.state == "closed":
        return "the campaign is closed"
    if rater.state != "active":
        return "you were asked to stop"
    return ""


def _goes_on(one: Vote | Remark, visit: Visit) -> bool:
    """Return whether an answer needs a page back, as a change of an earlier answer does not."""
    return visit.state == "returned" and isinstance(one, Vote) and one.class_id not in visit.answers


def _reopen(connection: sa.Connection, rater: Rater, visit: Visit, settings: Settings) -> bool:
    if visit.round:
        return refining.reopen(connection, rater, visit)
    return assigning.reopen(connection, visit, settings)


def _store(connection: sa.Connection, rater: Rater, visit: Visit, one: Vote | Remark) -> str:
    """Store a vote or a remark and return why not; empty where it is stored."""
    if isinstance(one, Remark):
        _add(
            connection,
            schema.remarks,
            key=one.key,
            rater_id=rater.id,
            visit_id=visit.id,
            text=one.text,
            missing_class_id=one.missing_class_id,
            at=_given_at(visit, one),
        )
        return ""
    if visit.round and not rater.may_refine:
        return "you do not decide any more"
    if _goes_on(one, visit):
        return "the page was open for too long and went to another rater"
    if one.class_id not in visit.shown:
        return "no such class on the page"
    if not visit.answers:
        _begin(connection, visit, one)
    _add(
        connection,
        schema.votes,
        key=one.key,
        rater_id=rater.id,
        visit_id=visit.id,
        page=visit.page,
        class_id=one.class_id,
        answer=one.answer,
        main=one.main,
        answered_at=_given_at(visit, one),
    )
    return ""


def _given_at(visit: Visit, one: Vote | Remark) -> int:
    """Return when it was given by our clock; clocks of raters are wrong, but never before the page was."""
    return max(now() - one.age, visit.shown_at)


def _begin(connection: sa.Connection, visit: Visit, one: Vote) -> None:
    """Note with the first answer since when the page has been looked at: it was opened early, to load it."""
    began = now() - one.age - (one.seen or 0)
    if one.seen is not None and began > visit.shown_at:
        connection.execute(
            schema.visits.update()
            .where(schema.visits.c.id == visit.id, ~sa.exists().where(schema.votes.c.visit_id == visit.id))
            .values(shown_at=began)
        )


def _is_known(connection: sa.Connection, rater: Rater, one: Vote | Remark) -> bool:
    table = schema.votes if isinstance(one, Vote) else schema.remarks
    known = sa.select(table.c.id).where(table.c.rater_id == rater.id, table.c.key == one.key)
    return connection.scalar(known) is not None


def _add(connection: sa.Connection, table: sa.Table, **values: object) -> None:
    connection.execute(_insert(connection.dialect.name, table), values)


@cache
def _insert(dialect: str, table: sa.Table) -> sa.Insert:
    """Return what adds a row unless its key is there; a vote names its question by page and class."""
    insert = {"sqlite": sqlite, "postgresql": postgresql}[dialect].insert(table)
    values: dict[str, sa.ColumnElement[Any]] = {
        column.name: sa.bindparam(column.name) for column in table.columns if column.name != "id"
    }
    if table is schema.votes:
        questions = schema.questions
        values["question_id"] = (
            sa.select(questions.c.id)
            .where(
                questions.c.page_id == sa.bindparam("page"), questions.c.class_id == sa.bindparam("class_id")
            )
            .scalar_subquery()
        )
    made: sa.Insert = insert.values(values).on_conflict_do_nothing(index_elements=["rater_id", "key"])
    return made


def _finish(connection: sa.Connection, rater: Rater, visit: Visit, *, skipped: bool) -> None:
    """Close a visit all of whose questions are answered, or cannot be."""
    seen = find_visit(connection, rater, visit.key)
    if seen is None or seen.state != "open":
        return
    if skipped or len(seen.answers) >= len(seen.shown):
        assigning.finish(connection, seen)


def count_votes(connection: sa.Connection) -> int:
    """Return how many votes there are, changes of mind included."""
    return connection.execute(sa.select(sa.func.count()).select_from(schema.votes)).scalar_one()


def all_votes(connection: sa.Connection) -> Iterable[sa.Row[tuple[object, ...]]]:
    """Yield all votes in the order of their coming: image, class, rater, answer, main, page, times, round."""
    v, q, p = schema.votes, schema.questions, schema.pages
    return connection.execute(
        sa.select(
            schema.images.c.name,
            q.c.class_id,
            schema.raters.c.name,
            v.c.answer,
            v.c.main,
            schema.visits.c.key,
            schema.visits.c.shown_at,
            v.c.answered_at,
            schema.visits.c.round,
        )
        .join(q, q.c.id == v.c.question_id)
        .join(p, p.c.id == q.c.page_id)
        .join(schema.images, schema.images.c.id == p.c.image_id)
        .join(schema.visits, schema.visits.c.id == v.c.visit_id)
        .join(schema.raters, schema.raters.c.id == v.c.rater_id)
        .order_by(v.c.id)
    )


def all_remarks(connection: sa.Connection) -> Iterable[sa.Row[tuple[object, ...]]]:
    """Yield all remarks in the order of their coming: image, rater, text, missing class, time."""
    r = schema.remarks
    return connection.execute(
        sa.select(schema.images.c.name, schema.raters.c.name, r.c.text, r.c.missing_class_id, r.c.at)
        .join(schema.visits, schema.visits.c.id == r.c.visit_id)
        .join(schema.pages, schema.pages.c.id == schema.visits.c.page_id)
        .join(schema.images, schema.images.c.id == schema.pages.c.image_id)
        .join(schema.raters, schema.raters.c.id == r.c.rater_id)
        .order_by(r.c.id)
    )
