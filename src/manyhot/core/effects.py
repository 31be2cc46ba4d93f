"""Differences between training methods, with intervals over both seeds and images.

Two methods are compared at equal seeds on the same images. A difference is uncertain in two ways: other seeds
give other networks, and other images give other values. The variances of both are added.

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
from scipy.special import gammaln, stdtr, stdtrit

from manyhot.core.array_types import Floats
from manyhot.core.resampling import LEVEL

FEWEST_SEEDS = 2
"""Minimum number of seeds of a cell for an interval."""

_NOTHING = 1e-12
"""Maximum standard error that is due to rounding."""


@dataclass(frozen=True, eq=False)
class SeedValues:
    """A cell: a difference (or a value) for one data set and one network, at each of n seeds.

    Attributes
    ----------
    values : ndarray of float64, shape (n,)
    replicates : ndarray of float64, shape (n, R), optional
        The same on R resamples of the images, which all seeds share.
    images : str
        The name of the set of images; cells with the same name share their resamples.
    """

    values: Floats
    replicates: Floats | None = None
    images: str = ""


@dataclass(frozen=True)
class Effect:
    """The mean over cells, each of which is a mean over seeds.

    Attributes
    ----------
    value : float
    lo, hi : float
        95 % interval; NaN if a cell has a single seed or if there is no variation. A lack of variation means
        that there are too few seeds or images, not that the value is certain.
    p : float
        Two-sided p-value for a true value of 0; NaN without an interval.
    d : float
        `value` in units of the standard deviation over seeds within cells (Cohen's d of paired differences),
        with Hedges' correction for few seeds; NaN if seeds do not differ.
    wins : float
        Share of seeds with a value above 0, which is how often one method is better than the other. A value
        of 0 counts as one half.
    error_seeds, error_images : float
        Standard errors over seeds and over images. The standard error over images is 0 if no cell has
        replicates.
    df : float
        Degrees of freedom.
    n_seeds, n_cells : int
        Total number of seeds, and number of cells.
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
    n_cells: int


def effect_of(cells: Sequence[SeedValues]) -> Effect:
    """Return the mean over cells with its interval over seeds and images.

    Parameters
    ----------
    cells : sequence of SeedValues
        One or more cells, each with one or more seeds.

    Raises
    ------
    ValueError
        If there is no cell, or if cells with the same images have different numbers of resamples.

    Notes
    -----
    Let d_ks be the difference in cell k of K at seed s of n_k, and d_ksr the same on resample r.

    - Over seeds, each cell has the variance v_k = var_s(d_ks) / (K² n_k), with n_k - 1 degrees of freedom.
    - Over images, the cells k with the same images have the variance v_g = var_r(Σ_k mean_s(d_ksr)) / K²,
      with R - 1 degrees of freedom. Resamples on which d_ksr is undefined are left out.
    - The interval is value ± t sqrt(Σ v), where t has Satterthwaite's (Σ v)² / Σ (v² / df) degrees of
      freedom.

    With one cell without replicates, this is the paired t test. The variances over seeds and over images both
    include the interaction of seeds and images, so the interval is slightly too long rather than too short.

    Percentiles of a bootstrap over seeds are not used. With three seeds and most of the variation between
    seeds, a percentile interval extends from the minimum to the maximum of the seeds, and contains the true
    mean in only 75 % of cases (``benchmarks/effects.py``).

    References
    ----------
    Satterthwaite 1946, doi 10.2307/3002019. Owen 2007, The pigeonhole bootstrap, doi 10.1214/07-AOAS122, on
    resampling two crossed factors. Hedges 1981, doi 10.3102/10769986006002107.
    """
    if not cells:
        raise ValueError("there is no cell")
    value = float(np.mean([cell.values.mean() for cell in cells]))
    over_seeds, over_images = _over_seeds(cells), _over_images(cells)
    parts = [*over_seeds, *over_images]
    total = sum(part.variance for part in parts)
    total = total if total > _NOTHING**2 else np.nan
    df = _freedom(parts, total)
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
        float(np.sqrt(sum(part.variance for part in over_images))),
        df,
        len(seeds),
        len(cells),
    )


class _Part(NamedTuple):
    variance: float
    df: float


def _over_seeds(cells: Sequence[SeedValues]) -> list[_Part]:
    k = len(cells)
    return [
        _Part(float(cell.values.var(ddof=1)) / (k * k * n) if n >= FEWEST_SEEDS else np.nan, n - 1)
        for cell in cells
        for n in [len(cell.values)]
    ]


def _over_images(cells: Sequence[SeedValues]) -> list[_Part]:
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
    return [
        _Part(float(total.var(ddof=1)) / len(cells) ** 2 if len(total) > 1 else np.nan, len(total) - 1)
        for total in finite
    ]


def _freedom(parts: Sequence[_Part], total: float) -> float:
    """Return Satterthwaite's degrees of freedom."""
    if np.isnan(total):
        return float("nan")
    shares = (part.variance / total for part in parts)
    return 1 / sum(share**2 / part.df for share, part in zip(shares, parts, strict=True))


def _standardised(value: float, cells: Sequence[SeedValues]) -> float:
    df = sum(len(cell.values) - 1 for cell in cells)
    inner = sum(float(((cell.values - cell.values.mean()) ** 2).sum()) for cell in cells)
    # Differences by rounding do not count.
    if df < FEWEST_SEEDS or inner <= 1e-24 * max(float(np.abs(cell.values).max()) for cell in cells) ** 2:
        return float("nan")
    hedges = np.exp(gammaln(df / 2) - gammaln((df - 1) / 2)) / np.sqrt(df / 2)
    return float(value / np.sqrt(inner / df) * hedges)


def verdict_of(effect: Effect, margin: float) -> str:
    """Return the verdict on an effect for a margin that was fixed in advance; values above 0 are better.

    Parameters
    ----------
    effect : Effect
    margin : float
        The smallest difference that matters.

    Returns
    -------
    str
        The first of these that applies: ``same`` (the interval is between -margin and margin), ``better`` (it
        is above 0), ``worse`` (it is below 0) or ``undecided``.

    References
    ----------
    ``same`` is equivalence by two one-sided tests (Schuirmann 1987, doi 10.1007/BF01068419), here at 2.5 %
    each.
    """
    if -margin <= effect.lo and effect.hi <= margin:
        return "same"
    if effect.lo > 0:
        return "better"
    return "worse" if effect.hi < 0 else "undecided"
