"""Golden pages, answered by experts: which raters qualify, and when the next page comes."""

from __future__ import annotations

import json
import random
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256

import sqlalchemy as sa

from manyhot.errors import InputError, counted
from manyhot.reassess.app.store import schema
from manyhot.reassess.app.store.accounts import Rater, change
from manyhot.reassess.app.store.campaign_settings import CampaignSettings, read_settings
from manyhot.reassess.app.store.database import SECOND

_VISITS = schema.visits


@dataclass(frozen=True)
class GoldenCounts:
    """Counts of a rater's last answers to golden questions.

    Attributes
    ----------
    under_no, under_yes : tuple of int, length 3
        Numbers of *no*, *maybe* and *yes* answers to questions whose true answer is no, and to questions
        whose true answer is yes.
    """

    under_no: tuple[int, int, int]
    under_yes: tuple[int, int, int]

    @property
    def informedness(self) -> float | None:
        """How well answers separate true yes and no: 0 for guessing, 1 if perfect, None if either is absent.

        Consider the rater's answers to two questions, one whose true answer is yes and one whose true answer
        is no. The value is the probability that the first answer is higher (no < maybe < yes) minus the
        probability that it is lower. The table ``raters`` contains the same measure.
        """
        n_no, n_yes = sum(self.under_no), sum(self.under_yes)
        if not n_no or not n_yes:
            return None
        above = sum(self.under_yes[a] * self.under_no[b] for a in range(3) for b in range(a))
        below = sum(self.under_yes[a] * self.under_no[b] for a in range(3) for b in range(a + 1, 3))
        return (above - below) / (n_no * n_yes)


_GOLDEN = sa.select(schema.golden.c.question_id).where(
    ~sa.exists().where(schema.withdrawn.c.question_id == schema.golden.c.question_id)
)
_GOLDEN_PAGES = (
    sa.select(schema.questions.c.page_id).where(schema.questions.c.id.in_(_GOLDEN)).distinct().subquery()
)
"""To look for them among all pages takes 50 ms of 1.28 million, during which nobody else can write."""


def check_golden(connection: sa.Connection, settings: CampaignSettings) -> None:
    """Check that raters can qualify.

    Raises
    ------
    InputError
        If raters are to answer golden pages first, and there are none.
    """
    if settings.qualify and connection.scalar(_GOLDEN.limit(1)) is None:
        raise InputError(
            "Raters cannot qualify: the campaign has no golden pages.",
            got=f"`qualify` {settings.qualify}, and no proposed question with an expert's answer",
            allowed="0, or a campaign that began with golden.parquet or golden.csv in its folder",
        )


def count_golden_pages(connection: sa.Connection) -> tuple[int, int]:
    """Return the number of golden pages, and the number of distinct true answers on them."""
    pages = sa.select(sa.func.count()).select_from(_GOLDEN_PAGES)
    truths = sa.select(sa.func.count(sa.distinct(schema.golden.c.truth)))
    asked = truths.where(schema.golden.c.question_id.in_(_GOLDEN))
    return connection.execute(pages).scalar_one(), connection.execute(asked).scalar_one()


def qualification_notes(connection: sa.Connection) -> list[str]:
    """Return notes for the owner if there are too few golden pages, or only one truth, to judge raters."""
    qualify, (pages, truths) = read_settings(connection).qualify, count_golden_pages(connection)
    notes = []
    if 0 < pages < qualify:
        there = counted(pages, "golden page")
        notes.append(f"raters qualify on {there} instead of {qualify}, because there are no more")
    if qualify and truths == 1:
        notes.append("all raters qualify, because all golden questions have the same true answer")
    return notes


def golden_truths(connection: sa.Connection) -> dict[tuple[str, int], bool]:
    """Return whether the truth of each golden question is yes, keyed by image_id and class."""
    tables = schema.golden.join(schema.questions).join(schema.pages).join(schema.images)
    columns = (schema.images.c.name, schema.questions.c.class_id, schema.golden.c.truth)
    query = sa.select(*columns).select_from(tables)
    return {(name, class_id): truth for name, class_id, truth in connection.execute(query)}


def judge_rater(connection: sa.Connection, rater: Rater, settings: CampaignSettings) -> bool | None:
    """Return whether a rater qualifies after the first golden pages; None if too early or already decided.

    The rater continues if there are no golden pages, or if all answered golden questions have the same true
    answer. Pages that were skipped because the image could not be shown are not counted. A rater who skips
    all golden pages is stopped, and the owner decides whether the rater continues.
    """
    if not is_pending(rater, settings) or rater.is_owner:
        return None
    there = sa.select(sa.func.count()).select_from(_GOLDEN_PAGES)
    answered, skipped = _count_done(connection, rater)
    needed = min(settings.qualify, connection.execute(there).scalar_one() - skipped)
    if answered < needed:
        return None
    found = count_golden(connection, rater.id).informedness
    passed = (found is None or found >= settings.least_informedness) and (answered > 0 or not skipped)
    change(connection, rater.id, qualified=passed)
    return passed


def is_pending(rater: Rater, settings: CampaignSettings) -> bool:
    """Return whether the rater has not yet finished the first golden pages."""
    return bool(settings.qualify) and rater.qualified is None and not rater.is_owner


def is_due(connection: sa.Connection, rater: Rater, settings: CampaignSettings, seen: int) -> bool:
    """Return whether the next page of a rater, after `seen` pages, is a golden page.

    After the first golden pages, golden pages appear at random, so that raters cannot predict them. Repeated
    calls for the same rater and page return the same result.
    """
    if is_pending(rater, settings):
        mine = (_VISITS.c.rater_id == rater.id) & (_VISITS.c.round == 0) & _VISITS.c.slot_id.is_(None)
        shown: int = connection.execute(sa.select(sa.func.count()).where(mine)).scalar_one()
        return shown - _count_done(connection, rater)[1] < settings.qualify
    if not settings.golden_every:
        return False
    due: bool = random.Random(f"{rater.seed}/{seen}/golden").random() * settings.golden_every < 1  # noqa: S311
    return due


def next_golden_page(connection: sa.Connection, rater: Rater) -> int | None:
    """Return a rater's next golden page; None if none is left. The order differs from rater to rater.

    If the order were the same for all, raters could tell each other which pages come first. Pages with a
    truth that the rater has not had yet come before others: on one truth alone, nobody fails to qualify.
    """
    page_id = _GOLDEN_PAGES.c.page_id
    seen = sa.exists().where(_VISITS.c.page_id == page_id, _VISITS.c.rater_id == rater.id)
    pages = connection.scalars(sa.select(page_id).where(~seen)).all()
    had, new = connection.scalars(_TRUTHS_HAD, {"rater": rater.id}).all(), set[int]()
    if len(had) == 1:
        new.update(connection.scalars(_PAGES_OF_TRUTH, {"truth": not had[0]}))
    return min(
        pages, key=lambda p: (p not in new, sha256(f"{rater.seed}/{p}".encode()).digest()), default=None
    )


_WITH_TRUTHS = schema.golden.join(schema.questions)
_PAGES_OF_TRUTH = (
    sa.select(schema.questions.c.page_id)
    .select_from(_WITH_TRUTHS)
    .where(schema.golden.c.truth == sa.bindparam("truth"), schema.golden.c.question_id.in_(_GOLDEN))
)
_TRUTHS_HAD = (
    sa.select(schema.golden.c.truth)
    .select_from(_WITH_TRUTHS.join(_VISITS, _VISITS.c.page_id == schema.questions.c.page_id))
    .where(_VISITS.c.rater_id == sa.bindparam("rater"), _VISITS.c.round == 0, _VISITS.c.slot_id.is_(None))
    .distinct()
)


FAST_PAGES = 20
"""Pages whose speed is judged together: four that were answered without a connection come at once."""


_DONE = (
    sa.select(_VISITS.c.id, _VISITS.c.done_at)
    .where(_VISITS.c.rater_id == sa.bindparam("rater"), _VISITS.c.round == 0, _VISITS.c.state == "done")
    .where(_VISITS.c.id > sa.bindparam("after"))
    .order_by(_VISITS.c.id.desc())
    .limit(sa.bindparam("most"))
)
"""A rater's finished visits, the latest first. To put it together takes as long as to run it."""


_DONE_GOLDEN = _DONE.where(_VISITS.c.slot_id.is_(None))


def why_to_stop(connection: sa.Connection, rater: Rater, settings: CampaignSettings) -> str:
    """Return why a rater who is working should be stopped; empty if there is no reason."""
    if rater.is_owner or rater.state != "active":
        return ""
    of = {"rater": rater.id, "after": rater.judged_from}
    if settings.least_seconds:
        latest = connection.execute(_DONE, of | {"most": FAST_PAGES + 1}).all()
        if len(latest) > FAST_PAGES:
            took = latest[0].done_at - latest[-1].done_at
            if 0 <= took < settings.least_seconds * FAST_PAGES * SECOND:
                return "too fast"
    if settings.golden_latest and not is_pending(rater, settings):
        ids = connection.scalars(_DONE_GOLDEN, of | {"most": settings.golden_latest}).all()
        if len(ids) == settings.golden_latest:
            found = count_golden(connection, rater.id, ids).informedness
            if found is not None and found < settings.least_informedness:
                return "golden pages"
    return ""


def count_golden(
    connection: sa.Connection, rater_id: int, visits: Collection[int] | None = None
) -> GoldenCounts:
    """Count a rater's last answers to golden questions in some or all visits, excluding decisions."""
    votes, golden = schema.votes, schema.golden
    query = (
        sa.select(votes.c.question_id, votes.c.answer, golden.c.truth)
        .join(golden, golden.c.question_id == votes.c.question_id)
        .join(_VISITS, _VISITS.c.id == votes.c.visit_id)
        .where(votes.c.rater_id == rater_id, _VISITS.c.round == 0, _VISITS.c.rater_id == rater_id)
        .order_by(votes.c.id)
    )
    if visits is not None:
        query = query.where(_VISITS.c.id.in_(visits))
    last = {question: (answer, truth) for question, answer, truth in connection.execute(query)}
    counts = {truth: [0, 0, 0] for truth in (False, True)}
    for answer, truth in last.values():
        counts[bool(truth)][answer] += 1
    (a, b, c), (d, e, f) = counts[False], counts[True]
    return GoldenCounts((a, b, c), (d, e, f))


def _count_done(connection: sa.Connection, rater: Rater) -> tuple[int, int]:
    """Return how many golden pages a rater has answered, and how many skipped, in whole or in part."""
    votes = schema.votes
    query = (
        sa.select(_VISITS.c.shown, sa.func.count(sa.distinct(votes.c.question_id)))
        .outerjoin(votes, votes.c.visit_id == _VISITS.c.id)
        .where(_VISITS.c.rater_id == rater.id, _VISITS.c.round == 0, _VISITS.c.slot_id.is_(None))
        .where(_VISITS.c.state == "done")
        .group_by(_VISITS.c.id, _VISITS.c.shown)
    )
    whole = [answers >= len(json.loads(shown)) for shown, answers in connection.execute(query)]
    return whole.count(True), whole.count(False)
