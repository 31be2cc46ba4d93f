"""Intervals of an audit while answers come in, as the owner's page shows them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunningInterval:
    """The current value of an audit, with an interval that is valid after any number of answers.

    Attributes
    ----------
    name : str
        The name of a model, or of the two models that are compared.
    value, lo, hi : float
        The value, and the ends of its interval; the ends are NaN if there is no interval.
    is_pair : bool
        Whether the value is a difference between two models. The intervals of all differences are
        simultaneous.
    """

    name: str
    value: float
    lo: float
    hi: float
    is_pair: bool = False

    @property
    def decided(self) -> bool:
        """Whether this is a difference whose interval does not contain 0."""
        return self.is_pair and (self.lo > 0 or self.hi < 0)

    @property
    def half_width(self) -> float:
        """Distance from the value to the farther end of the interval; NaN if there is no interval."""
        return max(self.hi - self.value, self.value - self.lo)


@dataclass(frozen=True)
class RunningAudit:
    """Intervals of an audit so far.

    Attributes
    ----------
    n, size : int
        Number of images whose questions have all been answered, counted from the start of the sample without
        gaps, and size of the sample.
    fewest : int
        Minimum value of `n` at which intervals are computed.
    intervals : tuple of RunningInterval
    notes : tuple of str
        Sentences about models that are not shown, or whose predictions are missing.
    """

    n: int
    size: int
    fewest: int
    intervals: tuple[RunningInterval, ...] = ()
    notes: tuple[str, ...] = ()
