"""Whether differences that were measured in several places differ from each other: Cochran's Q."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import chdtrc, fdtrc

from manyhot.core.array_types import Floats


class Heterogeneity(NamedTuple):
    """Cochran's Q over cells, and its p-value; NaN for a single cell or a variance of 0 or NaN."""

    q: float
    p: float


def cochran_q(values: Floats, variances: Floats, df: Floats) -> Heterogeneity:
    """Return Cochran's Q of the means of independent cells, and its p-value for equal true means.

    Parameters
    ----------
    values, variances : ndarray of float64, shape (K,)
        The mean of each cell, and the variance of this mean.
    df : ndarray of float64, shape (K,)
        Degrees of freedom of each variance; infinite if the variance is exact.

    Notes
    -----
    With weights w_k = 1 / v_k, W = Σ w_k and the weighted mean d = Σ w_k d_k / W, Q = Σ w_k (d_k - d)². If
    the variances are exact, Q has a χ² distribution with K - 1 degrees of freedom. Variances over a few seeds
    are estimates, for which χ² rejects too often. Welch's approximation corrects for this: with λ = Σ (1 -
    w_k / W)² / df_k, Q / (K - 1) / (1 + 2 (K - 2) λ / (K² - 1)) has an F distribution with K - 1 and (K² - 1)
    / (3 λ) degrees of freedom. With exact variances, this is again the χ² distribution.

    References
    ----------
    Cochran 1954, The combination of estimates from different experiments, doi 10.2307/3001666. Welch 1951, On
    the comparison of several mean values, doi 10.1093/biomet/38.3-4.330.
    """
    k = len(values)
    if k < 2 or not (np.isfinite(values).all() and np.isfinite(variances).all() and (variances > 0).all()):
        return Heterogeneity(np.nan, np.nan)
    weights = 1 / variances
    share = weights / weights.sum()
    q = float((weights * (values - share @ values) ** 2).sum())
    lam = float(((1 - share) ** 2 / df).sum())
    if lam == 0:  # χ²: as F with 1e12 degrees of freedom, SciPy 1.13 gives four digits of it
        return Heterogeneity(q, float(chdtrc(k - 1, q)))
    f = q / (k - 1) / (1 + 2 * (k - 2) / (k**2 - 1) * lam)
    return Heterogeneity(q, float(fdtrc(k - 1, (k**2 - 1) / (3 * lam), f)))
