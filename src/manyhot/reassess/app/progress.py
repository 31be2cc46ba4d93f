"""Progress of a campaign, quality of its answers, and how both are shown."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import pyarrow as pa

from manyhot.classes import ClassList
from manyhot.reassess.app.running_intervals import RunningAudit
from manyhot.reassess.app.store import Store
from manyhot.reassess.app.store.progress import CampaignProgress, VoteCounts
from manyhot.tables import Golden, Votes


class JudgedVotes(Protocol):
    """The tables ``agreement`` and ``raters`` of some votes."""

    @property
    def agreement(self) -> pa.Table:
        """Agreement between raters."""

    @property
    def raters(self) -> pa.Table:
        """Quality of each rater."""


@dataclass(frozen=True)
class AppCallbacks:
    """Functions that the caller provides to the app.

    Attributes
    ----------
    judge : callable, optional
        Measures agreement and the quality of each rater, given votes and golden answers.
    export : callable, optional
        Writes the votes and any remarks to a folder, and returns the files.
    audit : callable, optional
        Returns the intervals of an audit, given votes and the number of raters per question.
    alone : bool
        Whether the app runs in single-user mode: whoever opens the link is the owner, without a password.
    """

    judge: Callable[[Votes, Golden | None], JudgedVotes] | None = None
    export: Callable[[Path], list[Path]] | None = None
    audit: Callable[[Votes, int], RunningAudit] | None = None
    alone: bool = False


@dataclass(frozen=True, eq=False)
class JudgedCampaign:
    """Progress of a campaign, and the quality of its answers.

    Attributes
    ----------
    counts : VoteCounts
    measures : dict of str to dict
        The rows of the table ``agreement``, by measure.
    raters : dict of str to dict
        The rows of the table ``raters``, by rater.
    decided_since : set of int
        The database numbers of the pages that were decided after the votes were counted.
    audit : RunningAudit, optional
        Intervals of an audit.
    """

    counts: VoteCounts
    measures: dict[str, dict[str, Any]] = field(default_factory=dict)
    raters: dict[str, dict[str, Any]] = field(default_factory=dict)
    decided_since: set[int] = field(default_factory=set)
    audit: RunningAudit | None = None

    def pages_to_decide(self) -> list[int]:
        """Return the undecided pages on which raters disagree, in the order in which they are asked about."""
        return [page for page, _ in self.counts.disputes if page not in self.decided_since]

    @classmethod
    def of(cls, store: Store, classes: ClassList, callbacks: AppCallbacks) -> JudgedCampaign:
        """Count and judge the votes in a database."""
        settings, votes = store.settings(), store.votes()
        counts = votes.count(settings.raters, settings.refine_from)
        if callbacks.judge is None or not len(votes.first):
            return cls(counts)
        answers, golden = votes.to_votes(len(classes), classes.hash)
        judged = callbacks.judge(answers, golden)
        return cls(
            counts,
            {row["measure"]: row for row in judged.agreement.to_pylist()},
            {row["rater_id"]: row for row in judged.raters.to_pylist()},
            audit=None if callbacks.audit is None else callbacks.audit(answers, settings.raters),
        )


def duration(seconds: float) -> str:
    """Return a time in words: 40 s, 12 min, 3 h 20 min, 5 days."""
    if math.isnan(seconds):
        return "unknown"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        rest = f" {minutes % 60} min" if minutes % 60 else ""
        return f"{minutes // 60} h{rest}" if minutes < 600 else f"{round(minutes / 60)} h"
    return f"{round(minutes / 1440)} days"


def time_left(progress: CampaignProgress) -> str:
    """Return the estimated time until all answers are collected, as text."""
    if not progress.missing:
        return "none: every question has all its answers"
    seconds, n = progress.pace
    if n:
        left, span = duration(progress.missing / n * seconds), duration(seconds)
        return f"about {left} at the pace of the last {span} ({format_number(n)} answers)"
    return "unknown: no answers in the last 24 hours"


def work_left(progress: CampaignProgress) -> str:
    """Return the remaining work of raters as text; empty if it cannot be estimated."""
    if not progress.missing or not progress.timed:
        return ""
    return (
        f"about {duration(progress.missing * progress.seconds)} of one person's time "
        f"(median {progress.seconds:.1f} s per answer, from {format_number(progress.timed)} pages)"
    )


def format_number(value: int) -> str:
    """Return a whole number with commas."""
    return f"{value:,}"


def format_share(value: float | None) -> str:
    """Return a share or a coefficient with two decimals and a true minus sign; a dash if it is unknown."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.2f}".replace("-", "−")


def format_points(value: float) -> str:
    """Return a share in percent, with a true minus sign; a dash if it is unknown."""
    return "–" if math.isnan(value) else f"{100 * value:.1f} %".replace("-", "−")


T = TypeVar("T")
CORE_SHARE = 0.05
"""By default, the maximum share of one core's time for recomputing a value in the background."""


WAIT = 0.7
"""Seconds that a page waits for a value; afterwards, it says what is being computed."""


_QUICK = 0.02
"""Seconds that a rater waits for a value of which there is an older one."""


class CachedValue(Generic[T]):
    """A value that is computed by one thread at a time and cached for some seconds.

    Parameters
    ----------
    compute : callable
    seconds : float
        Time for which a value is valid.
    core_share : float
        Maximum share of one core's time for recomputing the value in the background.
    """

    def __init__(
        self, compute: Callable[[], T], seconds: float = 5.0, core_share: float = CORE_SHARE
    ) -> None:
        self._compute, self._seconds, self._core_share = compute, seconds, core_share
        self._lock = threading.Lock()
        self._value: Future[T] | None = None  # the last one
        self._last: Future[T] | None = None  # or the error that came in place of the next
        self._running: Future[T] | None = None
        self._good_until = self._background_from = 0.0
        self._invalidations = 0

    def get(self) -> T:
        """Return the value; compute it now if it is too old.

        During the computation, other callers get the older value. If there is none, they wait for the new
        value or its error. After an error, the next call tries again.
        """
        with self._lock:
            if self._value is not None and (self._running or time.monotonic() < self._good_until):
                return self._value.result()
            running, mine = self._begin()
        if mine:  # outside of the lock: nobody who could have the older value waits for it
            self._run(running)
        return running.result()

    def recent(self) -> T:
        """Return the value or, if that takes more than a moment, an older value; wait only if none exists."""
        running = self._refresh()
        if running is not None and self._value is not None:
            wait([running], _QUICK)
        value = self._value or running  # not yet another one, if this one ended in an error meanwhile
        return self.get() if value is None else value.result()

    def peek(self, seconds: float | None = None) -> T | None:
        """Return the value or, if that takes more than `seconds` (by default `WAIT`), an older value or None.

        The value is computed in a separate thread, and computed again when `core_share` allows it. If the
        computation fails, each call raises the error until the value is computed again.
        """
        running = self._refresh()
        if running is not None:
            wait([running], WAIT if seconds is None else seconds)
        with self._lock:
            last = self._last
        return None if last is None else last.result()

    def invalidate(self) -> None:
        """Compute the value again when it is next needed, and discard the result of a running computation."""
        with self._lock:
            self._good_until = self._background_from = 0.0
            self._invalidations += 1

    def expire(self) -> None:
        """Compute the value again as soon as `core_share` allows it, or immediately if that is quick."""
        with self._lock:
            self._good_until = 0.0

    def _refresh(self) -> Future[T] | None:
        """Return what is being computed; a thread begins if the value is too old and may be computed."""
        with self._lock:
            running = self._running
            if running is None and time.monotonic() >= max(self._good_until, self._background_from):
                running, _ = self._begin()
                threading.Thread(target=self._run, args=(running,), daemon=True).start()
            return running

    def _begin(self) -> tuple[Future[T], bool]:
        """Return what is being computed, and whether it is for the caller to compute it."""
        mine = self._running is None
        running = self._running = self._running or Future()
        return running, mine

    def _run(self, running: Future[T]) -> None:
        began, invalidations = time.monotonic(), self._invalidations
        try:
            value = self._compute()
        except BaseException as error:  # for whoever waits
            with self._lock:
                running.set_exception(error)
                self._settle(running, began, invalidations, 0.0)
        else:
            with self._lock:
                running.set_result(value)
                self._value = running
                self._settle(running, began, invalidations, self._seconds)

    def _settle(self, computed: Future[T], began: float, invalidations: int, seconds: float) -> None:
        self._running, self._last = None, computed
        if invalidations == self._invalidations:
            ended = time.monotonic()
            self._good_until = ended + seconds
            self._background_from = ended + (ended - began) / self._core_share
