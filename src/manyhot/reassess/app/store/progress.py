"""The votes so far, counted incrementally.

Votes are never changed or deleted. A tally therefore keeps them as arrays, with 64 bytes per vote, and reads
only new ones.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy import typing as npt

from manyhot.reassess.app.store import schema
from manyhot.reassess.app.store.accounts import ANSWERS_LEFT_OUT
from manyhot.reassess.app.store.database import DAY, MINUTE, now
from manyhot.tables import Golden, Votes

HOUR = 60 * MINUTE
_READ = 50_000
"""Votes that are read at once: others want the processor, too."""


YES = 2
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CampaignProgress:
    """Progress of a campaign.

    Attributes
    ----------
    images, pages, questions : int
        Numbers of images, pages and questions asked about, without golden questions.
    raters : int
        Number of raters per question.
    pages_done, questions_done : int
        Numbers of pages and questions that have all their answers.
    by_answers : tuple of (int, int)
        Pairs of a number of answers and the number of questions with this many answers.
    answers, golden_answers : int
        Numbers of answers to ordinary and to golden questions. Only a rater's last answer to a question
        counts.
    changed : int
        Number of answers that were changed later.
    missing : int
        Number of answers still to come.
    last_hour, last_day : int
        Numbers of answers in the last hour and the last day, including answers to golden questions.
    raters_last_hour : int
        Number of raters who answered in the last hour.
    pace : (float, int)
        A period in seconds, and the number of answers in it, without golden questions. The period is the last
        hour, or the last day if there were no answers in the last hour. The period is shorter if answering
        began later.
    seconds, timed : float, int
        Median seconds per answer, NaN if unknown, and the number of pages on which it is measured.
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
    changed: int
    missing: int
    last_hour: int
    last_day: int
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
    """A state of the votes.

    Attributes
    ----------
    progress : CampaignProgress
    raters : dict of int to RaterCount
        By the number of the rater.
    disputes : list of (int, int)
        Pages to decide, in the order of asking, each with the number of classes on which raters disagree.
    at : int
        Time of counting.
    """

    progress: CampaignProgress
    raters: dict[int, RaterCount]
    disputes: list[tuple[int, int]]
    at: int


@dataclass(frozen=True, eq=False)
class _Questions:
    """The questions of a campaign, which stay as they are, by position in the order of their numbers."""

    id: _Ints
    class_id: _Ints
    page: _Ints
    image: _Ints
    position: _Ints
    golden: npt.NDArray[np.bool_]
    truth: dict[int, bool]
    names: dict[int, str]

    @classmethod
    def read(cls, connection: sa.Connection) -> _Questions:
        questions, pages = schema.questions, schema.pages
        rows = connection.execute(
            sa.select(
                questions.c.id,
                questions.c.class_id,
                pages.c.id,
                pages.c.image_id,
                pages.c.position,
                pages.c.golden,
            )
            .join(pages, pages.c.id == questions.c.page_id)
            .order_by(questions.c.id)
        )
        columns = _columns(rows, 6)
        truth = connection.execute(sa.select(schema.golden.c.question_id, schema.golden.c.truth))
        names = connection.execute(sa.select(schema.images.c.id, schema.images.c.name))
        a, b, c, d, e, golden = columns
        return cls(
            a,
            b,
            c,
            d,
            e,
            golden.astype(bool),
            {question: bool(yes) for question, yes in truth},
            {row[0]: row[1] for row in names},
        )


class VoteTally:
    """The votes of a database as arrays."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._questions: _Questions | None = None
        self._last = 0
        self._parts: list[_Ints] = []

    def read(self, connection: sa.Connection) -> VoteSnapshot:
        """Read new votes, and return all so far."""
        with self._lock:
            if self._questions is None or not len(self._questions.id):
                self._questions = _Questions.read(connection)
            for part in _new_votes(connection, self._last):
                self._parts.append(part)
                self._last = int(part[0, -1])
            if len(self._parts) > 1:
                self._parts = [np.concatenate(self._parts, axis=1)]
            columns = (schema.raters.c.id, schema.raters.c.name, schema.raters.c.state)
            raters = connection.execute(sa.select(*columns)).all()
            left_out = np.array([r.id for r in raters if r.state == ANSWERS_LEFT_OUT], np.int64)
            votes = self._parts[0] if self._parts else np.zeros((len(_COLUMNS), 0), np.int64)
            return VoteSnapshot(self._questions, votes, {r.id: r.name for r in raters}, left_out)


_COLUMNS = ("id", "question", "rater", "answer", "round", "visit", "shown_at", "answered_at")


@dataclass(frozen=True, eq=False)
class VoteSnapshot:
    """A snapshot of the votes."""

    questions: _Questions
    votes: _Ints
    names: dict[int, str]
    left_out: _Ints

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
        """The votes of round 0 of raters whose answers count."""
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

    def _last_of(self, rows: _Ints) -> _Ints:
        """Return the last vote of each rater to each question among some; they are in the order of coming."""
        cells = self.question[rows] * (self._column("rater").max(initial=0) + 1) + self._column("rater")[rows]
        _, at = np.unique(cells[::-1], return_index=True)
        return np.sort(rows[len(rows) - 1 - at])

    def differing(self, least: int) -> npt.NDArray[np.bool_]:
        """Return which questions have enough answers, with *yes* from some raters but not from all."""
        yes, n = self.counts[:, YES], self.counts.sum(1)
        found: npt.NDArray[np.bool_] = ~self.questions.golden & (n >= max(least, 2)) & (yes > 0) & (yes < n)
        return found

    def count(self, raters: int, refine_from: int) -> VoteCounts:
        """Count the votes."""
        differing = self.differing(refine_from or raters)
        progress = self._progress(raters, differing)
        return VoteCounts(progress, self._raters(), self._disputes(differing & ~self.decided), now())

    def _progress(self, raters: int, differing: npt.NDArray[np.bool_]) -> CampaignProgress:
        normal = ~self.questions.golden
        n = self.counts.sum(1)[normal]
        by, questions = np.unique(n, return_counts=True)
        pages, at = np.unique(self.questions.page[normal], return_inverse=True)
        short = np.bincount(at, n < raters, len(pages))
        rater, answered = self._column("rater")[self.first], self._column("answered_at")[self.first]
        recent = answered >= now() - HOUR
        seconds = self._seconds()
        return CampaignProgress(
            images=len(np.unique(self.questions.image[normal])),
            pages=len(pages),
            questions=int(normal.sum()),
            raters=raters,
            pages_done=int((short == 0).sum()),
            questions_done=int((n >= raters).sum()),
            by_answers=tuple(zip(by.tolist(), questions.tolist(), strict=True)),
            answers=int(n.sum()),
            golden_answers=len(self.first) - int(n.sum()),
            changed=len(self.counting) - len(self.first),
            missing=int(np.maximum(raters - n, 0).sum()),
            last_hour=int(recent.sum()),
            last_day=int((answered >= now() - DAY).sum()),
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
        ids = pa.array([self.questions.names[i] for i in self.questions.image.tolist()], pa.string())
        classes = self.questions.class_id.astype(np.int32)
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
            self.question[self.first].astype(np.int32),
            rater.astype(np.int32),
            self._column("answer")[self.first].astype(np.int8),
            n_classes,
            class_hash,
            more=more,
        )
        return votes, self._golden(ids, classes, n_classes, class_hash)

    def _golden(
        self, ids: pa.Array, classes: npt.NDArray[np.int32], n_classes: int, class_hash: str
    ) -> Golden | None:
        if not self.questions.truth:
            return None
        known = sorted(self.questions.truth)
        at = np.searchsorted(self.questions.id, known)
        n = len(known)
        truth = np.array([YES * self.questions.truth[q] for q in known], np.int8)
        experts = Votes(
            ids.take(pa.array(at)),
            classes[at],
            pa.array(["experts"]),
            np.arange(n, dtype=np.int32),
            np.zeros(n, np.int32),
            truth,
            n_classes,
            class_hash,
        )
        return Golden(experts)


def _new_votes(connection: sa.Connection, last: int) -> Iterator[_Ints]:
    """Yield the votes after one, some at a time, the columns of `_COLUMNS`."""
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
        )
        .join(visits, visits.c.id == votes.c.visit_id)
        .order_by(votes.c.id)
        .limit(_READ)
    )
    while True:
        part = np.stack(_columns(connection.execute(query.where(votes.c.id > last)), len(_COLUMNS)))
        if not part.shape[1]:
            return
        yield part
        last = int(part[0, -1])


def _columns(rows: sa.CursorResult[tuple[int, ...]] | sa.Result[tuple[int, ...]], count: int) -> list[_Ints]:
    columns = list(zip(*rows.all(), strict=True)) or [()] * count
    return [np.array(column, np.int64) for column in columns]
