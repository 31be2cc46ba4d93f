"""Axes: from values to places, with round numbers at the ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import quantiles

_STEPS = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Axis:
    """A linear axis.

    Attributes
    ----------
    lo, hi : float
        Its ends, in the unit that is drawn.
    ticks : tuple of float
        Round numbers on it.
    """

    lo: float
    hi: float
    ticks: tuple[float, ...]

    @classmethod
    def over(cls, values: Iterable[float], *, percent: bool, n_ticks: int = 5) -> Axis:
        """Return the axis that holds all finite values, with ends at round numbers.

        Shares stay within 0 and 100 %. Values that are all alike get room on both sides.
        """
        finite = [v for v in values if math.isfinite(v)]
        lo, hi = (min(finite), max(finite)) if finite else (0.0, 1.0)
        if hi - lo < 1e-9:
            room = 1.0 if percent else max(abs(hi) * 0.1, 0.1)
            lo, hi = lo - room, hi + room
        step = _round_step((hi - lo) / n_ticks)
        lo, hi = math.floor(lo / step + 1e-9) * step, math.ceil(hi / step - 1e-9) * step
        if percent:
            lo, hi = max(lo, 0.0), min(hi, 100.0)
        first, last = math.ceil(lo / step - 1e-9), math.floor(hi / step + 1e-9)
        return cls(lo, hi, tuple(round(i * step, 9) for i in range(first, last + 1)))

    def at(self, value: float, start: float, stop: float) -> float:
        """Return where a value lies between two places."""
        return start + (value - self.lo) / (self.hi - self.lo) * (stop - start)

    def nearest(self, value: float) -> float:
        """Return the value, or the end of the axis that it lies beyond."""
        return min(max(value, self.lo), self.hi)


def fences(values: Sequence[float], fewest: int = 8) -> tuple[float, float]:
    """Return bounds of what an axis must show: three interquartile ranges outside the quartiles.

    Beyond them lies what Tukey calls far out. One model at 20 % would squeeze 66 between 70 and 83 % into a
    fifth of the axis. Of less than `fewest` values, or such that half are equal, all must be shown.
    """
    finite = [v for v in values if math.isfinite(v)]
    if len(finite) < fewest:
        return -math.inf, math.inf
    low, _, high = quantiles(finite, method="inclusive")
    room = 3 * (high - low) or math.inf
    return low - room, high + room


def tick_text(value: float) -> str:
    """Return a tick's number without needless zeros."""
    return f"{value:,.6g}"


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(s * power for s in _STEPS if s * power >= rough * 0.999)
