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

Samples = tuple[Floats, Floats]
"""Resampled values of M models at x and at y, each of shape (M, R)."""


def drop_intervals(
    x: Floats, y: Floats, samples: Samples | None, *, paired: bool, clustered: bool = False
) -> tuple[Floats, Floats]:
    """Return the interval of x - y for each of M models, shape (M,); NaN if there is none.

    Parameters
    ----------
    x, y : ndarray of float64, shape (4, M)
        The value, the lower and upper end of its interval, and the number of images.
    samples : tuple of ndarray of float, each of shape (M, R), optional
        The resampled values at x and at y; resample r of both is independent unless `paired` is true.
    paired : bool
        Whether both values are computed on the same images.
    clustered : bool
        Whether the intervals of x or y are computed over clusters of images, which may be few.

    Notes
    -----
    The interval comes from the resampled differences (`manyhot.core.ratio_intervals.sampled_intervals`). If
    one of the values has fewer than `FEWEST_CASES` right or wrong images, so that as a share of images it has
    no percentiles, it is Newcombe's interval, from the intervals of both values. For values that are no
    shares, such as ``mla``, the products of value and images only say how close the value is to 0 or 1, where
    percentiles are too narrow for them, too: with ``mla`` of 99 % on 250 images, they hold in 93 %.
    On the same images, the correlation of both values is that of their resamples, or 0 if these do not vary.
    If the images differ, the interval is also Newcombe's if there are no resamples or fewer than
    `IMAGES_FOR_PERCENTILES` images. With clusters, it is always Newcombe's, because the intervals of both
    values suit any number of clusters: between two data sets with 60 images from each of 6 farms, whose
    accuracies are uniform, percentiles contain the drop in 89 %, and Newcombe's interval in 97 %.

    References
    ----------
    Newcombe 1998; see `manyhot.core.share_intervals.difference_interval`.
    """
    if samples is None and paired:
        return np.full(x.shape[1], np.nan), np.full(x.shape[1], np.nan)
    if samples is None:
        return difference_interval(x[:3], y[:3])
    n = np.minimum(x[3], y[3]).astype(int)
    drawn = sampled_intervals(x[0] - y[0], samples[0] - samples[1], n)
    apart = difference_interval(x[:3], y[:3], _correlations(*samples) if paired else 0.0)
    few = _are_few(_cases(x, y)) | clustered
    if paired:  # the mean over corruptions that never err has no interval of its own
        few &= ~np.isnan(apart).any(axis=0)
    else:
        few |= n < IMAGES_FOR_PERCENTILES
    lo, hi = (np.where(few, *ends) for ends in zip(apart, drawn, strict=True))
    return lo, hi


def _correlations(x: Floats, y: Floats) -> Floats:
    """Return the correlation of each row of x with that of y, shape (M,); 0 if one of them does not vary."""
    x, y = (values - values.mean(axis=1, keepdims=True) for values in (x, y))
    size = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.asarray(np.divide((x * y).sum(axis=1), size, out=np.zeros(len(x)), where=size > 1e-12))


def mean_drop_interval(
    x: Floats, y: Floats, samples: Samples | None, *, paired: bool, clustered: bool = False
) -> tuple[float, float]:
    """Return the interval of the mean of x - y over models; NaN if there is none.

    The parameters are those of `drop_intervals`.

    Notes
    -----
    If no model has at least `FEWEST_CASES` right and wrong images at both places, or with clusters, the
    distances to the ends are combined from those of the models and from the correlations of their resampled
    drops. A model whose resamples do not vary counts as fully correlated with the others, which is
    conservative.

    References
    ----------
    Zou, Taleban and Huo 2009, Confidence interval estimation for lognormal data with application to health
    economics, Computational Statistics and Data Analysis 53, 3755-3764, on combining limits of estimates.
    """
    if samples is None or not x.shape[1]:
        return float("nan"), float("nan")
    drops, drawn = x[0] - y[0], samples[0] - samples[1]
    mean = float(drops.mean())
    if not (clustered or _are_few(_cases(x, y).max(axis=-1))):
        return sampled_interval(mean, drawn.mean(axis=0), int(min(x[3].min(), y[3].min())))
    lo, hi = drop_intervals(x, y, samples, paired=paired, clustered=clustered)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlations = np.atleast_2d(np.corrcoef(drawn))
    correlations[np.isnan(correlations)] = 1.0
    below, above = (np.sqrt(max(d @ correlations @ d, 0.0)) / len(d) for d in (drops - lo, hi - drops))
    return mean - float(below), mean + float(above)


def _cases(x: Floats, y: Floats) -> Floats:
    """Return the number of right and of wrong images at x and at y, shape (4, M)."""
    return np.stack([n * share for value, _, _, n in (x, y) for share in (value, 1 - value)])


def _are_few(cases: Floats) -> Bools:
    """Return whether any of the numbers is below `FEWEST_CASES`; rounded, because they are products."""
    return np.asarray((np.rint(cases) < FEWEST_CASES).any(axis=0))
