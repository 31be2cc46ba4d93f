"""Votes and remarks, which are added and never changed.

Each has a key made by the browser. Items that are sent again, after a lost connection or from a second tab,
are recognised by their key and stored once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningInsert

from manyhot.reassess.app.store import disputes, pages, schema
from manyhot.reassess.app.store.accounts import ANSWERS_LEFT_OUT, Rater
from manyhot.reassess.app.store.campaign_settings import CampaignSettings, read_with_all
from manyhot.reassess.app.store.database import now
from manyhot.reassess.app.store.visits import Visit, find_by_keys

MOST_REMARKS = 20
"""Maximum number of remarks of one visit: what a rater sends has no other end."""


MOST_CHANGES = 50
"""Maximum number of votes of one visit on one question."""


@dataclass(frozen=True)
class Vote:
    """An answer to one question of a visit.

    Attributes
    ----------
    key : str
        The key made by the browser.
    visit : str
        The key of the visit.
    class_id : int
    answer : int
        0 no, 1 maybe, 2 yes.
    main : bool
        Whether the class is the main object.
    age : int
        Microseconds between the answer and its submission. Without a connection, answers are sent later.
    seen : int, optional
        Microseconds for which the page had been visible when the answer was given.
    """

    key: str
    visit: str
    class_id: int
    answer: int
    main: bool = False
    age: int = 0
    seen: int | None = None


@dataclass(frozen=True)
class NewRemark:
    """A comment, or a class that is missing from the classes asked about.

    Attributes
    ----------
    key, visit : str
    text : str, optional
    missing_class_id : int, optional
    age : int
        Microseconds since the remark was made.
    skips : bool
        Whether the rater skips the page because the image cannot be shown. The page then counts as finished.
    """

    key: str
    visit: str
    text: str | None = None
    missing_class_id: int | None = None
    age: int = 0
    skips: bool = False


@dataclass(frozen=True)
class Submission:
    """Items that a rater sent, in the order in which they were made."""

    rater: Rater
    items: Sequence[Vote | NewRemark]


@dataclass(frozen=True)
class Receipt:
    """The result of a submission.

    Attributes
    ----------
    stored : list of str
        Keys of the items that were stored by this call or earlier.
    refused : dict of str to str
        Keys of the items that were not stored, each with the reason.
    """

    stored: list[str]
    refused: dict[str, str]


def store(connection: sa.Connection, sent: Sequence[Submission]) -> list[Receipt]:
    """Store submissions of several raters in order, with shared queries."""
    raters, settings = read_with_all(connection, [one.rater for one in sent])
    visits = find_by_keys(connection, {item.visit for one in sent for item in one.items})
    if len(sent) > 1 and any(visit.state == "returned" for visit in visits.values()):
        # Who gets a page back depends on what the others have answered just before.
        return [store(connection, [one])[0] for one in sent]
    storing = _Storing(connection, settings, visits)
    results = [storing.take(raters[one.rater.id], one.items) for one in sent]
    storing.end()
    return results


class _Storing:
    """What is being stored in one go: new votes wait, to be added together."""

    def __init__(
        self, connection: sa.Connection, settings: CampaignSettings, visits: dict[str, Visit]
    ) -> None:
        self._connection, self._settings, self._visits = connection, settings, visits
        self._votes: dict[tuple[int, int], dict[str, object]] = {}
        self._renewed: set[int] = set()
        self._skipped: set[str] = set()
        self._remarks: Counter[int] = Counter()

    def take(self, rater: Rater, items: Sequence[Vote | NewRemark]) -> Receipt:
        """Store the submission of one rater."""
        result, barred = Receipt([], {}), _why_barred(rater, self._settings)
        for one in items:
            why = barred or self._store(rater, one)
            if why and not self._is_known(rater, one):
                result.refused[one.key] = why
            else:
                result.stored.append(one.key)
        return result

    def end(self) -> None:
        """Add pending votes, and close the pages that they finish."""
        self._add_votes()
        for rater_id in self._renewed:
            pages.renew(self._connection, rater_id, self._settings)
        # Most answers are not the last of their page: there is nothing to look up.
        ended = {v.key for v in self._visits.values() if set(v.shown) <= set(v.answers)} | self._skipped
        for visit in find_by_keys(self._connection, ended).values():
            # As it is in the database: a key that was there already may have come with another class.
            done = visit.key in self._skipped or set(visit.shown) <= set(visit.answers)
            if done and visit.state == "open":
                pages.finish(self._connection, visit)

    def _store(self, rater: Rater, one: Vote | NewRemark) -> str:
        """Store a vote or a remark and return why not; empty where it is stored."""
        visit = self._visits.get(one.visit)
        if visit is None or visit.rater != rater.id:
            return "no such page"
        if _goes_on(one, visit):
            self._add_votes()
            if self._reopen(rater, visit, one):
                visit = self._visits[visit.key] = find_by_keys(self._connection, [visit.key])[visit.key]
        why = self._vote(rater, visit, one) if isinstance(one, Vote) else self._remark(rater, visit, one)
        if not why and pages.is_to_renew(visit, self._settings):
            self._renewed.add(rater.id)
        return why

    def _reopen(self, rater: Rater, visit: Visit, one: Vote | NewRemark) -> bool:
        if visit.round:
            return disputes.reopen_decision(self._connection, rater, visit)
        answering = one.class_id if isinstance(one, Vote) else None
        return pages.reopen_page(self._connection, visit, self._settings, answering)

    def _remark(self, rater: Rater, visit: Visit, one: NewRemark) -> str:
        if self._count_remarks(visit) >= MOST_REMARKS + one.skips:
            return f"a page takes at most {MOST_REMARKS} remarks"
        self._remarks[visit.id] += 1
        values = {"text": one.text, "missing_class_id": one.missing_class_id, "at": _given_at(visit, one)}
        insert = _insert(self._connection.dialect.name, schema.remarks)
        of = {"key": one.key, "rater_id": rater.id, "visit_id": visit.id}
        self._connection.execute(insert, of | values)
        if one.skips:
            self._skipped.add(visit.key)
        return ""

    def _vote(self, rater: Rater, visit: Visit, one: Vote) -> str:
        if visit.round and not rater.may_refine:
            return "you can no longer decide disagreements"
        if _goes_on(one, visit):
            return "the page was open for too long and went to another rater"
        if one.class_id not in visit.shown:
            return "no such class on the page"
        if not visit.answers:
            _begin(self._connection, visit, one)
        if (visit.id, one.class_id) in self._votes:
            self._add_votes()  # the later one is to have the larger number
        if one.class_id in visit.answers and (why := self._why_not_changed(visit, one)):
            return why
        self._votes[visit.id, one.class_id] = {
            "key": one.key,
            "rater_id": rater.id,
            "visit_id": visit.id,
            "page": visit.page,
            "class_id": one.class_id,
            "answer": one.answer,
            "main": one.main,
            "answered_at": _given_at(visit, one),
        }
        visit.answers[one.class_id] = (one.answer, one.main)
        return ""

    def _why_not_changed(self, visit: Visit, one: Vote) -> str:
        """Return why a further vote on a question is not stored; empty if it is."""
        votes, questions = schema.votes, schema.questions
        before = (
            sa.select(votes.c.key, votes.c.answered_at)
            .join(questions, questions.c.id == votes.c.question_id)
            .where(votes.c.visit_id == visit.id, questions.c.class_id == one.class_id)
            .order_by(votes.c.id.desc())
        )
        known = self._connection.execute(before.limit(MOST_CHANGES)).all()
        if len(known) >= MOST_CHANGES:
            return f"an answer can be changed at most {MOST_CHANGES - 1} times"
        # One browser sends answers in their order, whatever its clock says.
        elsewhere = known and _device(known[0].key) != _device(one.key)
        if elsewhere and _given_at(visit, one) < known[0].answered_at:
            return "you gave a later answer on another device"
        return ""

    def _count_remarks(self, visit: Visit) -> int:
        if visit.id not in self._remarks:
            count = sa.select(sa.func.count()).where(schema.remarks.c.visit_id == visit.id)
            self._remarks[visit.id] = self._connection.execute(count).scalar_one()
        return self._remarks[visit.id]

    def _add_votes(self) -> None:
        if self._votes:
            insert = _insert(self._connection.dialect.name, schema.votes)
            self._connection.execute(insert, list(self._votes.values()))
            self._votes.clear()

    def _is_known(self, rater: Rater, one: Vote | NewRemark) -> bool:
        self._add_votes()
        table = schema.votes if isinstance(one, Vote) else schema.remarks
        known = sa.select(table.c.id).where(table.c.rater_id == rater.id, table.c.key == one.key)
        return self._connection.scalar(known) is not None


def _why_barred(rater: Rater, settings: CampaignSettings) -> str:
    if settings.state == "closed":
        return "the campaign is closed"
    if rater.state != "active":
        return "you were asked to stop"
    return ""


def _goes_on(one: Vote | NewRemark, visit: Visit) -> bool:
    """Return whether an answer needs a page back, as a change of an earlier answer does not."""
    return visit.state == "returned" and isinstance(one, Vote) and one.class_id not in visit.answers


def _device(key: str) -> str:
    """Return the browser in which a key was made: what comes before its hyphen."""
    return key.rpartition("-")[0]


def _given_at(visit: Visit, one: Vote | NewRemark) -> int:
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


@cache
def _insert(dialect: str, table: sa.Table) -> ReturningInsert[tuple[int]]:
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
    # With something to return, many rows are one statement.
    added = insert.values(values).on_conflict_do_nothing(index_elements=["rater_id", "key"])
    made: ReturningInsert[tuple[int]] = added.returning(table.c.id)
    return made


def all_votes(connection: sa.Connection) -> Iterable[sa.Row[tuple[object, ...]]]:
    """Yield votes that count, in order of arrival: image, class, rater, answer, main, page, times, round."""
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
        .where((schema.raters.c.state != ANSWERS_LEFT_OUT) | (schema.visits.c.round > 0))
        .order_by(v.c.id)
    )


def all_remarks(connection: sa.Connection) -> Iterable[sa.Row[tuple[object, ...]]]:
    """Yield all remarks in order of arrival: image, rater, text, missing class, time."""
    r = schema.remarks
    return connection.execute(
        sa.select(schema.images.c.name, schema.raters.c.name, r.c.text, r.c.missing_class_id, r.c.at)
        .join(schema.visits, schema.visits.c.id == r.c.visit_id)
        .join(schema.pages, schema.pages.c.id == schema.visits.c.page_id)
        .join(schema.images, schema.images.c.id == schema.pages.c.image_id)
        .join(schema.raters, schema.raters.c.id == r.c.rater_id)
        .order_by(r.c.id)
    )
