"""Progress of a campaign, quality of its answers, and how both are shown."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

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
