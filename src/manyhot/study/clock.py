"""How long what is left of a grid will take, from what was done."""

from __future__ import annotations

from collections import Counter
from statistics import fmean

Work = tuple[str, str, str]
"""What is done (a measure's name, or ``training``), the data set and the network."""


class Clock:
    """Seconds of what was done, by kind, and how much of each kind is left."""

    def __init__(self) -> None:
        self.left: Counter[Work] = Counter()
        self.took: dict[Work, list[float]] = {}

    def done(self, work: Work, seconds: float | None) -> None:
        """Count one piece of work as done, whether now or in an earlier run."""
        self.left[work] -= 1
        if seconds is not None:
            self.took.setdefault(work, []).append(seconds)

    def seconds_left(self) -> float | None:
        """Return an estimate; None before anything was done.

        What was never done takes as long as the same elsewhere, or else as everything on average.
        """
        everything = [s for found in self.took.values() for s in found]
        if not everything:
            return None
        return sum(n * self._estimate(work, everything) for work, n in self.left.items() if n > 0)

    def _estimate(self, work: Work, everything: list[float]) -> float:
        what, _, network = work
        for alike in (
            self.took.get(work),
            [s for (w, _, n), found in self.took.items() if (w, n) == (what, network) for s in found],
            [s for (w, _, _), found in self.took.items() if w == what for s in found],
        ):
            if alike:
                return fmean(alike)
        return fmean(everything)
