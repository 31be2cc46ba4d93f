"""How far a campaign is and how good its answers are, in numbers and in words."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from manyhot.classes import ClassList
from manyhot.reassess.app.store import Store
from manyhot.reassess.app.store.progress import Counted, Progress
from manyhot.tables import Golden, Votes


class Judged(Protocol):
    """The tables ``agreement`` and ``raters`` of some votes."""

    @property
    def agreement(self) -> pa.Table:
        """How far raters agree."""

    @property
    def raters(self) -> pa.Table:
        """How good each is."""


@dataclass(frozen=True)
class Outside:
    """What the app cannot do by itself, and is given.

    Attributes
    ----------
    judge : callable, optional
        Says how far raters agree and how good each is, given their votes and the golden answers.
    export : callable, optional
        Writes the votes, and remarks where there are any, into a folder; returns the files.
    alone : bool
        One person at a laptop: who opens the link is the owner, without a password.
    """

    judge: Callable[[Votes, Golden | None], Judged] | None = None
    export: Callable[[Path], list[Path]] | None = None
    alone: bool = False


@dataclass(frozen=True, eq=False)
class Numbers:
    """A campaign in numbers.

    Attributes
    ----------
    counted : Counted
    measures : dict of str to dict
        The rows of the table ``agreement`` by measure.
    raters : dict of str to dict
        The rows of the table ``raters`` by rater.
    """

    counted: Counted
    measures: dict[str, dict[str, Any]] = field(default_factory=dict)
    raters: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store, classes: ClassList, outside: Outside) -> Numbers:
        """Count the votes of a database, and judge them."""
        settings, taken = store.settings(), store.votes()
        counted = taken.count(settings.raters, settings.refine_from)
        if outside.judge is None or not len(taken.first):
            return cls(counted)
        judged = outside.judge(*taken.to_votes(len(classes), classes.hash))
        return cls(
            counted,
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


def time_left(progress: Progress) -> str:
    """Return in words how long it takes until all answers are there."""
    if not progress.missing:
        return "nothing: each question has its answers"
    seconds, n = progress.pace
    if n:
        left, span = duration(progress.missing / n * seconds), duration(seconds)
        return f"about {left} at the pace of the last {span} ({number(n)} answers)"
    return "unknown: no answer came in during the last 24 hours"


def work_left(progress: Progress) -> str:
    """Return in words how much work of people is left; empty where nothing tells."""
    if not progress.missing or not progress.timed:
        return ""
    return (
        f"about {duration(progress.missing * progress.seconds)} of one person's time "
        f"(median {progress.seconds:.1f} s an answer, n = {number(progress.timed)} pages)"
    )


def number(value: int) -> str:
    """Return a whole number with commas."""
    return f"{value:,}"


def share(value: float | None) -> str:
    """Return a share or a coefficient with two digits and a true minus; a dash where it is not known."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.2f}".replace("-", "−")
