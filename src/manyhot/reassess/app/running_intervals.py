"""Intervals of an audit while answers come in, as the owner's page shows them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunningInterval:
    """A value of an audit so far, with an interval that holds at all numbers of answers together.

    Attributes
    ----------
    name : str
        A model, or two models whose difference it is.
    value, lo, hi : float
        The ends are NaN if there is no interval.
    decided : bool
        Whether it is a difference whose interval does not contain 0. The intervals of all differences hold
        together.
    """

    name: str
    value: float
    lo: float
    hi: float
    decided: bool = False


@dataclass(frozen=True)
class RunningAudit:
    """Intervals of an audit so far.

    Attributes
    ----------
    n, size : int
        Number of images that were answered, in the order of the sample, and of all its images.
    fewest : int
        Number of images from which there are intervals.
    intervals : tuple of RunningInterval
    notes : tuple of str
        Sentences about models that are not shown, or whose predictions are missing.
    """

    n: int
    size: int
    fewest: int
    intervals: tuple[RunningInterval, ...] = ()
    notes: tuple[str, ...] = ()
