"""Disagreements of raters: all answers side by side, and a decision, stored as a vote of round 1."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from manyhot.core.answers import YES
from manyhot.reassess.app.store import schema
from manyhot.reassess.app.store.accounts import ANSWERS_LEFT_OUT, Rater
from manyhot.reassess.app.store.campaign_settings import read_with
from manyhot.reassess.app.store.pages import give_back, renew
from manyhot.reassess.app.store.visits import NewVisit, Visit, find_visits, open_visits

_VISITS, _VOTES, _QUESTIONS = schema.visits, schema.votes, schema.questions


@dataclass(frozen=True)
class RaterAnswer:
    """The last answer of a rater to a class."""

    rater_id: int
    rater: str
    answer: int
    main: bool


@dataclass(frozen=True)
class Contested:
    """A class of a page with all its answers.

    Attributes
    ----------
    class_id : int
    answers : tuple of RaterAnswer
        Answers of round 0, by rater.
    decision : RaterAnswer, optional
        The last answer of round 1.
    """

    class_id: int
    answers: tuple[RaterAnswer, ...]
    decision: RaterAnswer | None

    @property
    def differs(self) -> bool:
        """Whether the class is in the label set of one rater but not in that of another."""
        return len({a.answer == YES for a in self.answers}) > 1


@dataclass(frozen=True)
class Dispute:
    """A page on which raters' sets may differ.

    Attributes
    ----------
    page, image : int
        Numbers in the database.
    name : str
        The image_id.
    label : int, optional
        The original label.
    classes : tuple of Contested
        The classes of the page; those on which raters differ come first.
    remarks : tuple of (int, str, str or None, int or None)
        For each remark: the number and the name of its rater, its text, and the missing class that it
        reports.
    """

    page: int
    image: int
    name: str
    label: int | None
    classes: tuple[Contested, ...]
    remarks: tuple[tuple[int, str, str | None, int | None], ...]

    @property
    def undecided(self) -> list[int]:
        """The undecided classes on which raters differ."""
        return [c.class_id for c in self.classes if c.differs and c.decision is None]


def find_dispute(connection: sa.Connection, page: int) -> Dispute | None:
    """Return a page with all answers and remarks on it; None if it does not exist or is golden."""
    pages, images = schema.pages, schema.images
    row = connection.execute(
        sa.select(pages.c.image_id, images.c.name, images.c.label)
        .join(images, images.c.id == pages.c.image_id)
        .where(pages.c.id == page, ~pages.c.golden)
    ).first()
    if row is None:
        return None
    asked = connection.execute(
        sa.select(_QUESTIONS.c.id, _QUESTIONS.c.class_id)
        .where(_QUESTIONS.c.page_id == page, schema.IS_ASKED)
        .order_by(_QUESTIONS.c.id)
    ).all()
    first, second = _answers(connection, page, 0), _answers(connection, page, 1)
    classes = [
        Contested(
            class_id,
            tuple(sorted(first.get(question, {}).values(), key=lambda a: a.rater_id)),
            next(reversed(second.get(question, {}).values()), None),
        )
        for question, class_id in asked
    ]
    classes.sort(key=lambda c: not c.differs)
    return Dispute(page, row.image_id, row.name, row.label, tuple(classes), _remarks(connection, page))


def begin(connection: sa.Connection, rater: Rater, page: int) -> Visit | None:
    """Let a rater decide on a page; return None if nothing is to be decided, or another rater has it open.

    A rater reserves only one page at a time, so other raters can decide on pages that this rater viewed
    earlier.
    """
    give_back(connection)
    rater, settings = read_with(connection, rater)
    if not rater.may_refine or settings.state == "closed":
        return None
    open_ = sa.select(_VISITS.c.id, _VISITS.c.rater_id).where(
        _VISITS.c.page_id == page, _VISITS.c.round == 1, _VISITS.c.state == "open"
    )
    for visit, who in connection.execute(open_).all():
        if who != rater.id:
            return None
        _leave_others(connection, rater, page)
        renew(connection, rater.id, settings)
        return find_visits(connection, [visit])[visit]
    dispute = find_dispute(connection, page)
    if dispute is None or not dispute.undecided:
        return None
    _leave_others(connection, rater, page)
    (visit,) = open_visits(connection, settings, [NewVisit(rater, page, dispute.undecided, round=1)])
    return find_visits(connection, [visit])[visit]


def _leave_others(connection: sa.Connection, rater: Rater, page: int) -> None:
    mine = (_VISITS.c.rater_id == rater.id) & (_VISITS.c.round == 1) & (_VISITS.c.state == "open")
    connection.execute(_VISITS.update().where(mine, _VISITS.c.page_id != page).values(state="returned"))


def begin_next(
    connection: sa.Connection,
    rater: Rater,
    pages: Iterable[int],
    *,
    only: bool = False,
    skip: int | None = None,
) -> Visit | None:
    """Let a rater decide on the first available page in a list.

    If the rater has already begun a page, this page comes first, unless `only` is set or the page is to be
    skipped.
    """
    own = (
        None
        if only
        else connection.scalar(
            sa.select(_VISITS.c.page_id).where(
                _VISITS.c.rater_id == rater.id, _VISITS.c.round == 1, _VISITS.c.state == "open"
            )
        )
    )
    for page in pages if own in (None, skip) else [own, *pages]:
        visit = begin(connection, rater, page)
        if visit is not None:
            return visit
    return None


def reopen_decision(connection: sa.Connection, rater: Rater, visit: Visit) -> bool:
    """Let a rater continue a decision; return False if another rater is deciding or has decided."""
    others = sa.select(_VISITS.c.id).where(
        _VISITS.c.page_id == visit.page,
        _VISITS.c.round == 1,
        _VISITS.c.rater_id != rater.id,
        _VISITS.c.state.in_(("open", "done")),
        _VISITS.c.id > visit.id,
    )
    if connection.scalar(others.limit(1)) is not None:
        return False
    connection.execute(_VISITS.update().where(_VISITS.c.id == visit.id).values(state="open"))
    return True


def _answers(connection: sa.Connection, page: int, round: int) -> dict[int, dict[int, RaterAnswer]]:
    """Return the last answer of each rater to each question of a page, the latest last."""
    raters = schema.raters
    found: dict[int, dict[int, RaterAnswer]] = {}
    for row in connection.execute(
        sa.select(_VOTES.c.question_id, raters.c.id, raters.c.name, _VOTES.c.answer, _VOTES.c.main)
        .join(_VISITS, _VISITS.c.id == _VOTES.c.visit_id)
        .join(raters, raters.c.id == _VOTES.c.rater_id)
        .where(_VISITS.c.page_id == page, _VISITS.c.round == round)
        .where((raters.c.state != ANSWERS_LEFT_OUT) | (_VISITS.c.round > 0))
        .order_by(_VOTES.c.id)
    ):
        of = found.setdefault(row.question_id, {})
        of.pop(row.id, None)
        of[row.id] = RaterAnswer(row.id, row.name, row.answer, bool(row.main))
    return found


def _remarks(connection: sa.Connection, page: int) -> tuple[tuple[int, str, str | None, int | None], ...]:
    raters, remarks = schema.raters, schema.remarks
    rows = connection.execute(
        sa.select(raters.c.id, raters.c.name, remarks.c.text, remarks.c.missing_class_id)
        .join(_VISITS, _VISITS.c.id == remarks.c.visit_id)
        .join(raters, raters.c.id == remarks.c.rater_id)
        .where(_VISITS.c.page_id == page)
        .order_by(remarks.c.id)
    )
    return tuple((a, b, c, d) for a, b, c, d in rows)
