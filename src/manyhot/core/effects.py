"""Differences between training methods, with intervals over both seeds and images.

Two methods are compared at equal seeds on the same images. A difference is uncertain in two ways: other seeds
would give other networks, and other images other values. The variances of both are added.

Cochran's Q says whether differences that were measured in several places differ from each other.

References
----------
Bouthillier et al. 2021, Accounting for variance in machine learning benchmarks, arXiv 2103.03098: compare at
equal seeds, resample both, and report how often one method is better than the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import chdtrc, fdtrc, gammaln, stdtr, stdtrit

from manyhot.core.array_types import Floats
from manyhot.core.resampling import LEVEL

FEWEST_SEEDS = 2
"""Minimum number of seeds of a cell for an interval."""

ALPHA = round(1 - LEVEL, 10)
"""An effect is significant if its adjusted p-value is smaller."""

BETTER, WORSE, SAME, UNDECIDED = "better", "worse", "same", "undecided"
BOTH_WAYS = "goes both ways"

PERHAPS_LITTLE = ", perhaps by less than matters"
"""The ending of a verdict if the interval excludes 0, but not differences smaller than the margin."""

ROUNDING = 1e-12
"""Maximum standard error or difference that is due to rounding."""


@dataclass(frozen=True, eq=False)
class SeedValues:
    """A cell: the differences (or values) for one data set and one network, one for each of n seeds.

    Attributes
    ----------
    values : ndarray of float64, shape (n,)
    replicates : ndarray of float64, shape (n, R), optional
        The differences on R resamples of the images. All seeds share the resamples.
    images : str
        The name of the set of images. Cells with the same name share their resamples.
    """

    values: Floats
    replicates: Floats | None = None
    images: str = ""


@dataclass(frozen=True)
class Effect:
    """The mean over cells. The value of each cell is a mean over seeds.

    Attributes
    ----------
    lo, hi : float
        95 % interval; NaN if a cell has a single seed or if there is no variation. Lack of variation means
        that there are too few seeds or images, not that the value is certain.
    p : float
        Two-sided p-value for a true value of 0; NaN if there is no interval.
    d : float
        `value` in units of the standard deviation over seeds within cells (Cohen's d of paired differences),
        with Hedges' correction for few seeds; NaN if seeds do not differ.
    wins : float
        Share of seeds with a value above 0, that is, with which one method is better than the other. A value
        of 0 counts as one half.
    error_seeds, error_images : float
        Standard errors over seeds and over images. The standard error over images is 0 if no cell has
        replicates.
    df : float
        Degrees of freedom.
    n_seeds : int
        Total number of seeds.
    """

    value: float
    lo: float
    hi: float
    p: float
    d: float
    wins: float
    error_seeds: float
    error_images: float
    df: float
    n_seeds: int


class Variance(NamedTuple):
    """A variance of a mean, with its degrees of freedom."""

    variance: float
    df: float


def effect_of(cells: Sequence[SeedValues], over_images: Variance | None = None) -> Effect:
    """Return the mean over cells with its interval over seeds and images.

    Parameters
    ----------
    cells : sequence of SeedValues
        One or more cells, each with one or more seeds.
    over_images : Variance, optional
        Variance over images of the mean over cells. By default, `images_variance` of their replicates.

    Raises
    ------
    ValueError
        If there are no cells, if the value of a seed is NaN, or if cells with the same images have different
        numbers of resamples.

    Notes
    -----
    Let d_ks be the difference in cell k of K with seed s of n_k, and d_ksr the same difference on resample r.

    - Over seeds, each cell has the variance v_k = var_s(d_ks) / (K² n_k), with n_k - 1 degrees of freedom.
    - Over images, the cells k with the same images have the variance v_g = var_r(Σ_k mean_s(d_ksr)) / K²,
      with R - 1 degrees of freedom. Resamples on which d_ksr is undefined are left out.
    - The interval is value ± t sqrt(Σ v), where t has Satterthwaite's (Σ v)² / Σ (v² / df) degrees of
      freedom.

    With one cell without replicates, this is the paired t test. The variance over seeds and the variance over
    images both include the seed-by-image interaction, so the interval is, if anything, slightly too wide.

    Bootstrap percentiles over seeds are not used. With three seeds and variation mostly between seeds, a
    percentile interval extends from the lowest to the highest value over seeds, and contains the true mean in
    only 75 % of cases (``benchmarks/effects.py``).

    References
    ----------
    Satterthwaite 1946, doi 10.2307/3002019. Owen 2007, The pigeonhole bootstrap, doi 10.1214/07-AOAS122, on
    resampling two crossed factors. Hedges 1981, doi 10.3102/10769986006002107.
    """
    if not cells:
        raise ValueError("there is no cell")
    if any(np.isnan(cell.values).any() for cell in cells):
        raise ValueError("the value of a seed is NaN: leave the seed out")
    value = float(np.mean([cell.values.mean() for cell in cells]))
    over_seeds = seed_variances(cells)
    over_images = images_variance(cells) if over_images is None else over_images
    total, df = sum_of((*over_seeds, over_images))
    half = float(stdtrit(df, (1 + LEVEL) / 2)) * np.sqrt(total)
    seeds = np.concatenate([cell.values for cell in cells])
    return Effect(
        value,
        float(value - half),
        float(value + half),
        float(2 * stdtr(df, -abs(value) / np.sqrt(total))),
        _standardised(value, cells),
        float(np.mean(np.where(seeds == 0, 0.5, seeds > 0))),
        float(np.sqrt(sum(part.variance for part in over_seeds))),
        float(np.sqrt(over_images.variance)),
        df,
        len(seeds),
    )


def seed_variances(cells: Sequence[SeedValues]) -> list[Variance]:
    """Return the contribution of each cell to the variance over seeds of the mean over cells."""
    k = len(cells)
    return [
        Variance(float(cell.values.var(ddof=1)) / (k * k * n) if n >= FEWEST_SEEDS else np.nan, n - 1)
        for cell in cells
        for n in [len(cell.values)]
    ]


def images_variance(cells: Sequence[SeedValues]) -> Variance:
    """Return the variance over images of the mean over cells; 0 if no cell has replicates.

    Raises
    ------
    ValueError
        If cells with the same images have different numbers of resamples.
    """
    sums: dict[str, Floats] = {}
    for cell in cells:
        if cell.replicates is None:
            continue
        means = cell.replicates.mean(0)
        total = sums.setdefault(cell.images, np.zeros_like(means))
        if total.shape != means.shape:
            raise ValueError(f"{len(total)} and {len(means)} resamples of the images of {cell.images}")
        sums[cell.images] = total + means
    finite = [total[np.isfinite(total)] for total in sums.values()]
    parts = [
        Variance(float(total.var(ddof=1)) / len(cells) ** 2 if len(total) > 1 else np.nan, len(total) - 1)
        for total in finite
    ]
    summed = sum(part.variance for part in parts)
    return Variance(0.0, np.nan) if summed <= ROUNDING**2 else Variance(summed, sum_of(parts).df)


def sum_of(parts: Sequence[Variance]) -> Variance:
    """Return the sum of variances with Satterthwaite's degrees of freedom; NaN if the sum is 0."""
    total = sum(part.variance for part in parts)
    if not total > ROUNDING**2:
        return Variance(np.nan, np.nan)
    shares = [(part.variance / total, part.df) for part in parts]
    return Variance(total, 1 / sum(share**2 / df for share, df in shares if share))


def _standardised(value: float, cells: Sequence[SeedValues]) -> float:
    df = sum(len(cell.values) - 1 for cell in cells)
    inner = sum(float(((cell.values - cell.values.mean()) ** 2).sum()) for cell in cells)
    # Differences by rounding do not count.
    if df < FEWEST_SEEDS or inner <= 1e-24 * max(float(np.abs(cell.values).max()) for cell in cells) ** 2:
        return float("nan")
    hedges = np.exp(gammaln(df / 2) - gammaln((df - 1) / 2)) / np.sqrt(df / 2)
    return float(value / np.sqrt(inner / df) * hedges)


def heterogeneity(effects: Sequence[Effect]) -> Heterogeneity:
    """Return Cochran's Q over the effects of single cells.

    Cells are treated as independent, although cells of the same images are not. If these cells vary in the
    same direction, Q is, if anything, too small.
    """
    columns = [(e.value, e.error_seeds**2 + e.error_images**2, e.df) for e in effects]
    values, variances, df = np.array(columns, dtype=float).reshape(-1, 3).T
    return cochran_q(values, variances, df)


def contradict(effects: Sequence[Effect]) -> bool:
    """Return whether the effects of single cells contradict each other.

    Effects contradict each other if one interval lies above 0 and another interval lies below 0, or if
    Cochran's Q has a p-value below 0.05 and values lie on both sides of 0.
    """
    above, below = any(e.lo > 0 for e in effects), any(e.hi < 0 for e in effects)
    both_signs = any(e.value > ROUNDING for e in effects) and any(e.value < -ROUNDING for e in effects)
    return (above and below) or (both_signs and heterogeneity(effects).p < ALPHA)


def verdict_of(
    effect: Effect, margin: float, p_adjusted: float | None = None, cells: Sequence[Effect] = ()
) -> str:
    """Return the verdict on an effect, given a margin that was fixed in advance. Values above 0 are better.

    Parameters
    ----------
    margin : float
        The smallest difference that matters.
    p_adjusted : float, optional
        The p-value of the effect, adjusted for the number of claims. By default, only the interval decides.
    cells : sequence of Effect
        The effects of the single cells. `effect` is their mean.

    Returns
    -------
    str
        The first verdict that applies: ``goes both ways`` (the cells `contradict` each other), ``same`` (the
        interval is between -margin and margin), ``better`` (the interval is above 0, and the adjusted p-value
        is below 0.05), ``worse`` (the interval is below 0, and the adjusted p-value is below 0.05) or
        ``undecided``. ``better`` and ``worse`` end in `PERHAPS_LITTLE` if the interval contains differences
        smaller than the margin.

    References
    ----------
    ``same`` means equivalence by two one-sided tests (Schuirmann 1987, doi 10.1007/BF01068419), here at 2.5 %
    each.
    """
    if contradict(cells):
        return BOTH_WAYS
    if -margin <= effect.lo and effect.hi <= margin:
        return SAME
    side = BETTER if effect.lo > 0 else WORSE if effect.hi < 0 else ""
    if not side or not (p_adjusted is None or p_adjusted < ALPHA):
        return UNDECIDED
    return side if min(abs(effect.lo), abs(effect.hi)) >= margin else side + PERHAPS_LITTLE


class Heterogeneity(NamedTuple):
    """Cochran's Q over cells, and its p-value; NaN for a single cell, or if a variance is 0 or NaN."""

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
    / (3 λ) degrees of freedom. With exact variances, this reduces to the χ² distribution.

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


def clustered_q(values: Floats, changes: Floats) -> Heterogeneity:
    """Return Cochran's Q of the values of cells that may share clusters, and its p-value for equal values.

    Parameters
    ----------
    values : ndarray of float64, shape (K,)
    changes : ndarray of float64, shape (K, n)
        How the value of each cell changes if each of n clusters is left out; 0 if no image of the cluster is
        in the cell.

    Notes
    -----
    The changes give the covariance matrix C of the values by the jackknife. With the differences d of the
    other values from the first, and their covariance matrix, Q = d' C⁻¹ d, which is Cochran's Q if no two
    cells share a cluster. As C is estimated from n clusters, Q is Hotelling's T², so that Q (n - K + 1) /
    ((n - 1) (K - 1)) has an F distribution with K - 1 and n - K + 1 degrees of freedom. For the means of two
    cells with one image per cluster, it is the paired t-test.

    References
    ----------
    Hotelling 1931, The generalization of Student's ratio, doi 10.1214/aoms/1177732979.
    """
    k, n = changes.shape
    others = changes[1:] - changes[0]
    others = others - others.mean(axis=1, keepdims=True)
    covariance = others @ others.T * ((n - 1) / n)
    if k < 2 or n < k + 1 or not np.isfinite(covariance).all() or np.linalg.matrix_rank(covariance) < k - 1:
        return Heterogeneity(np.nan, np.nan)
    apart = values[1:] - values[0]
    q = float(apart @ np.linalg.solve(covariance, apart))
    return Heterogeneity(q, float(fdtrc(k - 1, n - k + 1, q * (n - k + 1) / ((n - 1) * (k - 1)))))
