"""Intervals valid at every size of a growing audit, so that it may stop when a difference is clear."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import lambertw

from manyhot.core.array_types import Floats
from manyhot.core.resampling import LEVEL
from manyhot.errors import InputError


def sequence_quantile(n: int, planned: int, n_values: int = 1) -> float:
    """Return the half-width of an asymptotic confidence sequence after n audited images, in standard errors.

    Pass the result to `manyhot.core.audited.AuditedEstimate.interval` for the first n images of a sample
    (`manyhot.core.audit_samples.AuditSample.first`). From the first few dozen images on, the intervals then
    contain the value at all n simultaneously, with the same probability as a single ordinary interval.

    Parameters
    ----------
    n : int
        Number of audited images so far.
    planned : int
        Number of audited images at which the intervals are narrowest relative to ordinary intervals. This
        number must not depend on the answers.
    n_values : int
        Number of values that the intervals cover simultaneously, at all n (Bonferroni). This number must not
        depend on the answers.

    Returns
    -------
    float
        At 95 % and n = `planned`, the half-width is 3.04 for one value and 3.63 for six values. For ordinary
        intervals, it is 1.96.

    Raises
    ------
    InputError
        If a number is not positive.

    References
    ----------
    Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, doi 10.1214/24-AOS2408, arXiv 2103.06476, theorem
    2.2: ``mean ± σ (2 (n ρ² + 1) / (n² ρ²) log((n ρ² + 1)**0.5 / α))**0.5``, with the ρ for which the
    interval is narrowest at `planned`, ``ρ² = (-W(-α² / e) - 1) / planned`` (W is the branch -1 of Lambert's
    function).
    """
    alpha = (1 - LEVEL) / n_values
    times = _times(n, planned, alpha)
    return math.sqrt(2 * (times + 1) / times * math.log(math.sqrt(times + 1) / alpha))


def sequence_p(z: Floats, n: int, planned: int) -> Floats:
    """Return p-values that are valid simultaneously at all numbers of audited images.

    Parameters
    ----------
    z : ndarray of float64
        Differences, divided by their standard errors.
    n, planned : int
        As in `sequence_quantile`.

    Returns
    -------
    ndarray of float64
        The smallest α at which the confidence sequence of level 1 - α, with the ρ for 95 %, does not contain
        0: ``(n ρ² + 1)**0.5 exp(-z² n ρ² / (2 (n ρ² + 1)))``, at most 1.
    """
    times = _times(n, planned, 1 - LEVEL)
    exponent = -np.square(z) * times / (2 * (times + 1))
    return np.asarray(np.minimum(math.sqrt(times + 1) * np.exp(exponent), 1.0))


def _times(n: int, planned: int, alpha: float) -> float:
    """Return ``n ρ²``."""
    if n < 1 or planned < 1:
        raise InputError("The number of audited images is not positive.", got=min(n, planned))
    return -n * (float(lambertw(-(alpha**2) / math.e, -1).real) + 1) / planned
