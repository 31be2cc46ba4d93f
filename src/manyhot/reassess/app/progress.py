"""How far a campaign is, how good its answers are, and how to say so."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from manyhot.classes import ClassList
from manyhot.reassess.app.store import Store
from manyhot.reassess.app.store.progress import CampaignProgress, VoteCounts
from manyhot.tables import Golden, Votes


class JudgedVotes(Protocol):
    """The tables ``agreement`` and ``raters`` of some votes."""

    @property
    def agreement(self) -> pa.Table:
        """How far raters agree."""

    @property
    def raters(self) -> pa.Table:
        """How good each is."""


@dataclass(frozen=True)
class AppCallbacks:
    """What the app cannot do by itself.

    Attributes
    ----------
    judge : callable, optional
        Says how far raters agree and how good each is, given their votes and the golden answers.
    export : callable, optional
        Writes the votes, and remarks where there are any, into a folder; returns the files.
    alone : bool
        One person at a laptop: who opens the link is the owner, without a password.
    """

    judge: Callable[[Votes, Golden | None], JudgedVotes] | None = None
    export: Callable[[Path], list[Path]] | None = None
    alone: bool = False


@dataclass(frozen=True, eq=False)
class JudgedCampaign:
    """How far a campaign is, and how good its answers are.

    Attributes
    ----------
    counts : VoteCounts
    measures : dict of str to dict
        The rows of the table ``agreement`` by measure.
    raters : dict of str to dict
        The rows of the table ``raters`` by rater.
    decided_since : set of int
        Pages that were decided on since the votes were counted.
    """

    counts: VoteCounts
    measures: dict[str, dict[str, Any]] = field(default_factory=dict)
    raters: dict[str, dict[str, Any]] = field(default_factory=dict)
    decided_since: set[int] = field(default_factory=set)

    def pages_to_decide(self) -> list[int]:
        """Return the pages on which raters differ and nobody has decided, in the order of asking."""
        return [page for page, _ in self.counts.disputes if page not in self.decided_since]

    @classmethod
    def of(cls, store: Store, classes: ClassList, callbacks: AppCallbacks) -> JudgedCampaign:
        """Count the votes of a database, and judge them."""
        settings, votes = store.settings(), store.votes()
        counts = votes.count(settings.raters, settings.refine_from)
        if callbacks.judge is None or not len(votes.first):
            return cls(counts)
        judged = callbacks.judge(*votes.to_votes(len(classes), classes.hash))
        return cls(
            counts,
            {row["measure"]: row for row in judged.agreement.to_pylist()},
            {row["rater_id"]: row for row in judged.raters.to_pylist()},
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
    """Return in words how long it takes until all answers are there."""
    if not progress.missing:
        return "none: every question has all its answers"
    seconds, n = progress.pace
    if n:
        left, span = duration(progress.missing / n * seconds), duration(seconds)
        return f"about {left} at the pace of the last {span} ({format_number(n)} answers)"
    return "unknown: no answers in the last 24 hours"


def work_left(progress: CampaignProgress) -> str:
    """Return in words how much work of people is left; empty where nothing tells."""
    if not progress.missing or not progress.timed:
        return ""
    return (
        f"about {duration(progress.missing * progress.seconds)} of one person's time "
        f"(median {progress.seconds:.1f} s per answer, n = {format_number(progress.timed)} pages)"
    )


def format_number(value: int) -> str:
    """Return a whole number with commas."""
    return f"{value:,}"


def format_share(value: float | None) -> str:
    """Return a share or a coefficient with two digits and a true minus; a dash where it is not known."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.2f}".replace("-", "−")
