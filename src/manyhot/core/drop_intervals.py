"""95 % intervals of drops: of values on some images minus values of the same models on others.

If few predictions are wrong, resamples hardly vary, and percentiles of drops are too narrow: if all
predictions on both data sets are right, their width is 0. Shares then have Wilson's interval, and their drop
has Newcombe's.
"""

from __future__ import annotations

import numpy as np

from manyhot.core.array_types import Bools, Floats
from manyhot.core.ratio_intervals import (
    FEWEST_CASES,
    IMAGES_FOR_PERCENTILES,
    sampled_interval,
    sampled_intervals,
)
from manyhot.core.share_intervals import difference_interval


def drop_intervals(x: Floats, y: Floats, samples: Floats | None, *, paired: bool) -> tuple[Floats, Floats]:
    """Return the interval of x - y for each of M models, shape (M,); NaN if there is none.

    Parameters
    ----------
    x, y : ndarray of float64, shape (4, M)
        The value, the lower and upper end of its interval, and the number of images.
    samples : ndarray of float, shape (M, R), optional
        The resampled differences.
    paired : bool
        Whether both values are computed on the same images.

    Notes
    -----
    The interval comes from the resamples (`manyhot.core.ratio_intervals.sampled_intervals`). If the images
    differ, it is Newcombe's interval, from the intervals of both values, if there are no resamples, or if one
    of the values has fewer than `IMAGES_FOR_PERCENTILES` images or fewer than `FEWEST_CASES` right or wrong
    ones, so that as a share of images it has no percentiles.

    References
    ----------
    Newcombe 1998; see `manyhot.core.share_intervals.difference_interval`.
    """
    if samples is None and paired:
        return np.full(x.shape[1], np.nan), np.full(x.shape[1], np.nan)
    apart = difference_interval(x[:3], y[:3])
    if samples is None:
        return apart
    n = np.minimum(x[3], y[3]).astype(int)
    drawn = sampled_intervals(x[0] - y[0], samples, n)
    few = ~np.array(paired) & ((n < IMAGES_FOR_PERCENTILES) | _are_few(_cases(x, y)))
    lo, hi = (np.where(few, *ends) for ends in zip(apart, drawn, strict=True))
    return lo, hi


def mean_drop_interval(x: Floats, y: Floats, samples: Floats | None, *, paired: bool) -> tuple[float, float]:
    """Return the interval of the mean of x - y over models; NaN if there is none.

    The parameters are those of `drop_intervals`.

    Notes
    -----
    If the images differ, and no model has at least `FEWEST_CASES` right and wrong images, the distances to
    the ends are combined from those of the models and from the correlations of their resampled drops. A model
    whose resamples do not vary counts as fully correlated with the others, which is conservative.

    References
    ----------
    Zou, Taleban and Huo 2009, Confidence interval estimation for lognormal data with application to health
    economics, Computational Statistics and Data Analysis 53, 3755-3764, on combining limits of estimates.
    """
    if samples is None or not len(samples):
        return float("nan"), float("nan")
    drops = x[0] - y[0]
    mean = float(drops.mean())
    if paired or not _are_few(_cases(x, y).max(axis=-1)):
        return sampled_interval(mean, samples.mean(axis=0), int(min(x[3].min(), y[3].min())))
    lo, hi = drop_intervals(x, y, samples, paired=paired)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlations = np.atleast_2d(np.corrcoef(samples))
    correlations[np.isnan(correlations)] = 1.0
    below, above = (np.sqrt(max(d @ correlations @ d, 0.0)) / len(d) for d in (drops - lo, hi - drops))
    return mean - float(below), mean + float(above)


def _cases(x: Floats, y: Floats) -> Floats:
    """Return the number of right and of wrong images at x and at y, shape (4, M)."""
    return np.stack([n * share for value, _, _, n in (x, y) for share in (value, 1 - value)])


def _are_few(cases: Floats) -> Bools:
    """Return whether any of the numbers is below `FEWEST_CASES`; rounded, because they are products."""
    return np.asarray((np.rint(cases) < FEWEST_CASES).any(axis=0))
