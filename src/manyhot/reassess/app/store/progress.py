"""The votes so far, counted incrementally.

Votes are never changed or deleted. A tally therefore keeps them as arrays, with 64 bytes per vote, and reads
only new ones.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy import typing as npt

from manyhot.core.answers import YES
from manyhot.reassess.app.store import schema
from manyhot.reassess.app.store.accounts import ANSWERS_LEFT_OUT
from manyhot.reassess.app.store.campaign_settings import get_value
from manyhot.reassess.app.store.campaign_size import CampaignSize
from manyhot.reassess.app.store.database import DAY, MINUTE, now
from manyhot.reassess.app.store.further import further_to_come
from manyhot.reassess.app.store.slots import HAS_WITHDRAWN
from manyhot.tables import Golden, Votes

HOUR = 60 * MINUTE
_READ, _READ_PAGES = 10_000, 1_000
"""Votes, and pages, that are read at once: while rows become arrays, no other thread runs, and no answer is
stored. Only questions with votes are read, too: all those of 1.28 million images take 17 s."""


_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CampaignProgress:
    """Progress of a campaign.

    Attributes
    ----------
    images, pages, questions : int
        Numbers of images, pages and questions asked about, without golden and withdrawn questions.
    raters : int
        Number of raters per question.
    pages_done, questions_done : int
        Numbers of pages and questions with all their answers.
    by_answers : tuple of (int, int)
        Pairs of a number of answers and the number of questions with this many answers.
    answers, golden_answers : int
        Numbers of answers to ordinary and to golden questions. Only a rater's last answer to a question
        counts.
    withdrawn, withdrawn_answers : int
        Number of questions that are no longer asked, and the number of answers to them, without golden
        questions.
    changed : int
        Number of answers that were changed later.
    missing : int
        Number of answers still to come, including further answers.
    further : int
        Number of further answers still to come. Each is the answer of one more rater to a single question.
    last_hour : int
        Number of answers in the last hour, including answers to golden questions.
    raters_last_hour : int
        Number of raters who answered in the last hour.
    pace : (float, int)
        A period in seconds, and the number of answers in it, without golden questions. The period is the last
        hour or, if it has no answers, the last day. It is shorter if answering began later.
    seconds, timed : float, int
        Median seconds per answer (NaN if unknown), and the number of pages on which this is measured.
    differing, decided : int
        Number of questions with enough answers on which raters disagree about whether the class is in the
        label set, and number of these questions that are decided.
    """

    images: int
    pages: int
    questions: int
    raters: int
    pages_done: int
    questions_done: int
    by_answers: tuple[tuple[int, int], ...]
    answers: int
    golden_answers: int
    withdrawn: int
    withdrawn_answers: int
    changed: int
    missing: int
    further: int
    last_hour: int
    raters_last_hour: int
    pace: tuple[float, int]
    seconds: float
    timed: int
    differing: int
    decided: int


@dataclass(frozen=True)
class RaterCount:
    """Numbers of pages and answers of a rater, and the time of the last answer in microseconds since 1970."""

    pages: int
    answers: int
    last_at: int


@dataclass(frozen=True, eq=False)
class VoteCounts:
    """Counts of the votes at one time.

    Attributes
    ----------
    progress : CampaignProgress
    raters : dict of int to RaterCount
        By the number of the rater.
    disputes : list of (int, int)
        Pages to decide, in the order in which they are asked about, each with the number of classes on which
        raters disagree.
    """

    progress: CampaignProgress
    raters: dict[int, RaterCount]
    disputes: list[tuple[int, int]]


@dataclass(frozen=True, eq=False)
class _Questions:
    """Questions of golden pages and of pages with votes, in the order of their numbers."""

    id: _Ints
    class_id: _Ints
    page: _Ints
    image: _Ints
    position: _Ints
    golden: npt.NDArray[np.bool_]
    name: pa.Array

    @classmethod
    def read(cls, connection: sa.Connection, which: sa.ColumnElement[bool], **values: object) -> _Questions:
        """Return the questions of some pages."""
        rows = connection.execute(_ON_PAGES.where(which), values).all()
        *numbers, names = list(zip(*rows, strict=True)) or [()] * 7
        return cls.of([np.array(column, np.int64) for column in numbers], pa.array(names, pa.string()))

    @classmethod
    def of(cls, columns: Sequence[_Ints], names: pa.Array) -> _Questions:
        """Return questions from unsorted columns."""
        order = np.argsort(columns[0], kind="stable")
        a, b, c, d, e, golden = (column[order] for column in columns)
        return cls(a, b, c, d, e, golden.astype(bool), names.take(pa.array(order)))

    def and_those(self, others: Sequence[_Questions]) -> _Questions:
        """Return these questions and others."""
        parts = [self, *others]
        columns = ([getattr(part, name) for part in parts] for name in _NUMBERS)
        return self.of(
            [np.concatenate(column) for column in columns], pa.concat_arrays([p.name for p in parts])
        )


_NUMBERS = ("id", "class_id", "page", "image", "position", "golden")
_PAGES = schema.pages
_ON_PAGES = (
    sa.select(
        schema.questions.c.id,
        schema.questions.c.class_id,
        _PAGES.c.id,
        _PAGES.c.image_id,
        _PAGES.c.position,
        _PAGES.c.golden,
        schema.images.c.name,
    )
    .join(_PAGES, _PAGES.c.id == schema.questions.c.page_id)
    .join(schema.images, schema.images.c.id == _PAGES.c.image_id)
)
_ARE_GOLDEN = schema.questions.c.id.in_(sa.select(schema.golden.c.question_id))
_ARE_PAGES = _PAGES.c.id.in_(sa.bindparam("pages", expanding=True))


class VoteTally:
    """The votes of a database as arrays."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._campaign = CampaignSize(0, 0, 0, 0, {}, np.empty(0, np.int64), 0)
        self._questions = _Questions.of([np.empty(0, np.int64)] * 6, pa.array([], pa.string()))
        self._last = 0
        self._parts: list[_Ints] = []

    def read(self, connection: sa.Connection) -> VoteSnapshot:
        """Read new votes, and return all votes so far."""
        with self._lock:
            last = self._campaign.last_page
            if not last or last < connection.scalar(_LAST_PAGE):
                self._begin(connection)
            elif self._campaign.changes != (get_value(connection, HAS_WITHDRAWN) or 0):
                self._campaign = CampaignSize.read(connection)
            new: list[_Questions] = []
            for *part, pages in _new_votes(connection, self._last):
                new += self._on_new_pages(connection, pages)
                self._parts.append(np.stack(part))
                self._last = int(part[0][-1])
            if new:
                self._questions = self._questions.and_those(new)
            if len(self._parts) > 1:
                self._parts = [np.concatenate(self._parts, axis=1)]
            columns = (schema.raters.c.id, schema.raters.c.name, schema.raters.c.state)
            raters = connection.execute(sa.select(*columns)).all()
            left_out = np.array([r.id for r in raters if r.state == ANSWERS_LEFT_OUT], np.int64)
            votes = self._parts[0] if self._parts else np.zeros((len(_COLUMNS), 0), np.int64)
            names = {r.id: r.name for r in raters}
            further = further_to_come(connection)
            return VoteSnapshot(self._campaign, self._questions, votes, names, left_out, further)

    def _begin(self, connection: sa.Connection) -> None:
        """Read what stays as it is, at first and after another process has added questions."""
        self._campaign, self._last, self._parts = CampaignSize.read(connection), 0, []
        self._questions = _Questions.read(connection, _ARE_GOLDEN)
        self._pages = np.zeros(self._campaign.last_page + 1, bool)
        self._pages[self._questions.page] = True

    def _on_new_pages(self, connection: sa.Connection, pages: _Ints) -> Iterator[_Questions]:
        """Yield the questions of pages that had no votes before."""
        missing = np.unique(pages[~self._pages[pages]])
        for start in range(0, len(missing), _READ_PAGES):
            some = missing[start : start + _READ_PAGES]
            yield _Questions.read(connection, _ARE_PAGES, pages=some.tolist())
            self._pages[some] = True


_LAST_PAGE = sa.select(sa.func.max(_PAGES.c.id))
_COLUMNS = ("id", "question", "rater", "answer", "round", "visit", "shown_at", "answered_at")


@dataclass(frozen=True, eq=False)
class VoteSnapshot:
    """A snapshot of the votes."""

    campaign: CampaignSize
    questions: _Questions
    votes: _Ints
    names: dict[int, str]
    left_out: _Ints
    further: int = 0

    def _column(self, name: str) -> _Ints:
        column: _Ints = self.votes[_COLUMNS.index(name)]
        return column

    @cached_property
    def question(self) -> _Ints:
        """The position of each vote's question."""
        found: _Ints = np.searchsorted(self.questions.id, self._column("question"))
        return found

    @cached_property
    def counting(self) -> _Ints:
        """The votes of round 0 by raters whose answers count."""
        return np.flatnonzero((self._column("round") == 0) & ~np.isin(self._column("rater"), self.left_out))

    @cached_property
    def first(self) -> _Ints:
        """The votes of round 0 that count: the last one per rater and question."""
        return self._last_of(self.counting)

    @cached_property
    def counts(self) -> _Ints:
        """Number of raters per question and answer in round 0, shape (Q, 3)."""
        cells = self.question[self.first] * 3 + self._column("answer")[self.first]
        counts: _Ints = np.bincount(cells, minlength=len(self.questions.id) * 3).reshape(-1, 3)
        return counts

    @cached_property
    def decided(self) -> npt.NDArray[np.bool_]:
        """Whether each question is decided."""
        found = np.zeros(len(self.questions.id), bool)
        found[self.question[self._column("round") > 0]] = True
        return found

    @cached_property
    def withdrawn(self) -> npt.NDArray[np.bool_]:
        """Whether each question is no longer asked; False for golden questions."""
        found: npt.NDArray[np.bool_] = np.isin(self.questions.id, self.campaign.withdrawn)
        return found

    def _last_of(self, rows: _Ints) -> _Ints:
        """Return the last vote of each rater to each question among some; they are in the order of coming."""
        cells = self.question[rows] * (self._column("rater").max(initial=0) + 1) + self._column("rater")[rows]
        _, at = np.unique(cells[::-1], return_index=True)
        return np.sort(rows[len(rows) - 1 - at])

    def differing(self, least: int) -> npt.NDArray[np.bool_]:
        """Return which questions have enough answers, with *yes* from some raters but not from all.

        Golden and withdrawn questions never do.
        """
        yes, n = self.counts[:, YES], self.counts.sum(1)
        is_asked = ~self.questions.golden & ~self.withdrawn
        found: npt.NDArray[np.bool_] = is_asked & (n >= max(least, 2)) & (yes > 0) & (yes < n)
        return found

    def count(self, raters: int, refine_from: int) -> VoteCounts:
        """Count the votes."""
        differing = self.differing(refine_from or raters)
        progress = self._progress(raters, differing)
        return VoteCounts(progress, self._raters(), self._disputes(differing & ~self.decided))

    def _progress(self, raters: int, differing: npt.NDArray[np.bool_]) -> CampaignProgress:
        normal, given = ~self.questions.golden & ~self.withdrawn, self.counts.sum(1)
        n = given[normal]
        without = self.campaign.questions - len(n)  # on pages that nobody has answered
        by = np.bincount(n, minlength=1)
        by[0] += without
        pages, at = np.unique(self.questions.page[normal], return_inverse=True)
        short = np.bincount(at, n < raters, len(pages))
        rater, answered = self._column("rater")[self.first], self._column("answered_at")[self.first]
        recent = answered >= now() - HOUR
        seconds = self._seconds()
        return CampaignProgress(
            images=self.campaign.images,
            pages=self.campaign.pages,
            questions=self.campaign.questions,
            raters=raters,
            pages_done=int((short == 0).sum()),
            questions_done=int((n >= raters).sum()),
            by_answers=tuple((int(k), int(by[k])) for k in np.flatnonzero(by)),
            answers=int(n.sum()),
            golden_answers=int(given[self.questions.golden].sum()),
            withdrawn=len(self.campaign.withdrawn),
            withdrawn_answers=int(given[self.withdrawn].sum()),
            changed=len(self.counting) - len(self.first),
            missing=int(np.maximum(raters - n, 0).sum()) + raters * without + self.further,
            further=self.further,
            last_hour=int(recent.sum()),
            raters_last_hour=len(np.unique(rater[recent])),
            pace=self._pace(),
            seconds=float(np.median(seconds)) if len(seconds) else float("nan"),
            timed=len(seconds),
            differing=int(differing.sum()),
            decided=int((differing & self.decided).sum()),
        )

    def _pace(self) -> tuple[float, int]:
        shown = self._column("shown_at")
        answered = self._column("answered_at")[self.first[~self.questions.golden[self.question[self.first]]]]
        if not len(answered):
            return 0.0, 0
        began = max(now() - int(shown.min()), MINUTE)
        for span in (HOUR, DAY):
            if n := int((answered >= now() - span).sum()):
                return min(span, began) / 1e6, n
        return 0.0, 0

    def _seconds(self) -> npt.NDArray[np.float64]:
        """Return the seconds that an answer took, for each page that a rater saw."""
        visit, shown, answered = (self._column(c)[self.first] for c in ("visit", "shown_at", "answered_at"))
        if not len(visit):
            return np.zeros(0)
        order = np.argsort(visit, kind="stable")
        starts = np.flatnonzero(np.diff(visit[order], prepend=-1))
        last = np.maximum.reduceat(answered[order], starts)
        n = np.diff(np.append(starts, len(order)))
        took: npt.NDArray[np.float64] = (last - shown[order][starts]) / n / 1e6
        return took

    def _raters(self) -> dict[int, RaterCount]:
        rater, visit, answered = (self._column(c)[self.first] for c in ("rater", "visit", "answered_at"))
        size = int(rater.max(initial=0)) + 1
        answers = np.bincount(rater, minlength=size)
        last = np.zeros(size, np.int64)
        np.maximum.at(last, rater, answered)
        _, at = np.unique(visit, return_index=True)
        pages = np.bincount(rater[at], minlength=size)
        return {
            int(r): RaterCount(int(pages[r]), int(answers[r]), int(last[r])) for r in np.flatnonzero(answers)
        }

    def _disputes(self, open_: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
        rows = np.flatnonzero(open_)
        position, at, n = np.unique(self.questions.position[rows], return_index=True, return_counts=True)
        pages = self.questions.page[rows][at]
        return [(int(page), int(k)) for page, k, _ in zip(pages, n, position, strict=True)]

    def to_votes(self, n_classes: int, class_hash: str) -> tuple[Votes, Golden | None]:
        """Return the answers of round 0 as a votes table, and the true answers of golden questions."""
        asked, question = np.unique(self.question[self.first], return_inverse=True)
        ids = self.questions.name.take(pa.array(asked))
        classes = self.questions.class_id[asked].astype(np.int32)
        numbers, rater = np.unique(self._column("rater")[self.first], return_inverse=True)
        names = pa.array([self.names[i] for i in numbers.tolist()], pa.string())
        more = pa.table(
            {
                "page_id": self._column("visit")[self.first].astype(str),
                **{
                    name: pa.array(self._column(name)[self.first], pa.timestamp("us", "UTC"))
                    for name in ("shown_at", "answered_at")
                },
            }
        )
        votes = Votes(
            ids,
            classes,
            names,
            question.astype(np.int32),
            rater.astype(np.int32),
            self._column("answer")[self.first].astype(np.int8),
            n_classes,
            class_hash,
            more=more,
        )
        return votes, self._golden(n_classes, class_hash)

    def _golden(self, n_classes: int, class_hash: str) -> Golden | None:
        known = sorted(self.campaign.truth)
        if not known:
            return None
        at = np.searchsorted(self.questions.id, known)
        n = len(known)
        truth = np.array([YES * self.campaign.truth[q] for q in known], np.int8)
        experts = Votes(
            self.questions.name.take(pa.array(at)),
            self.questions.class_id[at].astype(np.int32),
            pa.array(["experts"]),
            np.arange(n, dtype=np.int32),
            np.zeros(n, np.int32),
            truth,
            n_classes,
            class_hash,
        )
        return Golden(experts)


def _new_votes(connection: sa.Connection, last: int) -> Iterator[list[_Ints]]:
    """Yield the votes after one, some at a time: the columns of `_COLUMNS`, and the page."""
    votes, visits = schema.votes, schema.visits
    query = (
        sa.select(
            votes.c.id,
            votes.c.question_id,
            votes.c.rater_id,
            votes.c.answer,
            visits.c.round,
            votes.c.visit_id,
            visits.c.shown_at,
            votes.c.answered_at,
            visits.c.page_id,
        )
        .join(visits, visits.c.id == votes.c.visit_id)
        .order_by(votes.c.id)
        .limit(_READ)
    )
    while rows := connection.execute(query.where(votes.c.id > last)).all():
        yield [np.array(column, np.int64) for column in zip(*rows, strict=True)]
        last = int(rows[-1][0])
