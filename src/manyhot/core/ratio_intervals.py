"""Intervals of ratios of sums over images, and of means over strata, without resamples.

Percentile intervals are too narrow for few images, and for means over strata, some of which have few images:
with 20 images, they contain the expected value of ``mla`` in 87 % of simulated data sets. The jackknife with
Student's t contains it in 95 to 97 %. Shares have Wilson's interval, which exists even if all predictions are
right. ``benchmarks/interval_coverage.py`` shows the coverage.

Images of a cluster, such as those of a patient, resemble each other, which makes intervals over images too
narrow. The bootstrap over clusters draws whole clusters (`manyhot.core.resampling.Bootstrap`), and the
jackknife leaves out one cluster at a time.

References
----------
Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8. Field and Welsh 2007, doi
10.1111/j.1467-9868.2007.00593.x.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

import numpy as np
from scipy.special import ndtr

from manyhot.core.array_types import AnyFloats, Bools, Floats, Ints
from manyhot.core.clusters import Clusters
from manyhot.core.distinct import distinct_values
from manyhot.core.estimates import Cells, Ratio
from manyhot.core.jackknife import (
    Scale,
    jackknife_ends,
    jackknife_error,
    jackknife_errors_of,
    resampled_interval,
)
from manyhot.core.model_pairs import PairTable, holm
from manyhot.core.resampling import QUANTILE, percentile_interval
from manyhot.core.share_intervals import clustered_interval, proportion_interval

IMAGES_FOR_PERCENTILES = 200
"""Minimum number of images for percentiles of resamples."""

_MOST_KINDS = 4
"""Counters per image up to which distinct images are counted in cells: classes of right and wrong images."""

_AT_ONCE = 200_000
"""Kinds of images times slices whose changes are computed at a time."""

FEWEST_CASES = 30
"""Minimum number of images on which a share is right, and on which it is wrong, for percentiles, and of
images for intervals on the log scale. For other ratios of a part to a whole, images with some of the part are
counted, and images that lack some of it."""

FEW_IMAGES = f"there are fewer than {FEWEST_CASES} images"
"""Why a mean above 0 that is not a share has no interval."""


def have_percentiles(ratio: Ratio, cells: Cells, scale: Scale = "logit") -> Bools:
    """Return whether percentiles of resamples give a good interval of a ratio on each slice, shape (S,).

    Percentiles are unsuitable for means over strata, for few images (see `IMAGES_FOR_PERCENTILES` and
    `FEWEST_CASES`), and for metrics on the log scale, such as the cross-entropy, whose values have a skewed
    distribution. They are too narrow if few images have most of the weight: with a log-normal number of
    labels, they contain `f1_micro` in 90 to 92 % of simulated data sets, and the jackknife in 91 to 95 %.
    """
    if ratio.stratum is not None or scale == "log":
        return np.zeros(len(cells.member), bool)
    n = cells.count(ratio.scored)
    enough = n >= IMAGES_FOR_PERCENTILES
    if is_share(ratio):
        right = cells.count(ratio.num.astype(bool, copy=False))
        enough &= (right >= FEWEST_CASES) & (n - right >= FEWEST_CASES)
    elif _are_parts(ratio.num, ratio.den, scale):
        for side in (ratio.num > 0, ratio.num < ratio.den):
            enough &= cells.count(side) >= FEWEST_CASES
        squares, fourth = (cells.sums(ratio, ratio.den.astype(np.float64) ** k)[0] for k in (2, 4))
        enough &= squares**2 >= FEWEST_CASES * fourth  # as if all weight were on so many equal images
    return np.asarray(enough)


def _are_parts(num: Floats | Bools, den: Floats | Bools, scale: Scale) -> bool:
    """Return whether each numerator is a part of its denominator, such as hits among positives."""
    return scale == "logit" and bool((num >= 0).all() and (num <= den).all())


def is_share(ratio: Ratio) -> bool:
    """Return whether a ratio is a share of images."""
    return ratio.num.dtype == bool and ratio.den.dtype == bool and ratio.stratum is None


def ratio_interval(ratio: Ratio, *, scale: Scale = "logit") -> tuple[float, float]:
    """Return the interval of a ratio, or of a mean over strata; NaN if there is none.

    Parameters
    ----------
    scale
        As in `manyhot.core.jackknife.jackknife_ends`; ignored for a share of images.

    Notes
    -----
    A share of images has Wilson's interval. So does a ratio of a part to a whole with few images on one side
    (see `FEWEST_CASES`), with counts divided by the design effect: with one such image, the jackknife would
    have two degrees of freedom. Other values have a jackknife interval with Student's t
    (`manyhot.core.jackknife.jackknife_ends`). If there is no variation, for example because all
    predictions in all strata are correct, there is no jackknife interval. On the log scale, for skewed values
    such as the cross-entropy, there is no interval with fewer than `FEWEST_CASES` images.
    """
    (lo,), (hi,) = ratio_intervals(ratio, np.ones((1, len(ratio.num)), bool), scale=scale)
    return float(lo), float(hi)


def ratio_intervals(ratio: Ratio, masks: Bools, *, scale: Scale = "logit") -> tuple[Floats, Floats]:
    """Return the interval of a ratio in each of S slices; see `ratio_interval`.

    Parameters
    ----------
    masks : ndarray of bool, shape (S, n)
    scale
        As in `ratio_interval`.

    Returns
    -------
    lo, hi : ndarray of float64, shape (S,)
    """
    if not len(masks):
        return np.empty(0), np.empty(0)
    if is_share(ratio):
        counted = (ratio.den & mask for mask in masks)
        right, n = np.array([(np.count_nonzero(ratio.num & c), np.count_nonzero(c)) for c in counted]).T
        return proportion_interval(right, n)
    distinct, scored, at = _distinct(ratio)
    counts = (np.bincount(at[mask[scored]], minlength=len(distinct[0])) for mask in masks)
    return _ends(distinct, counts, scale, are_parts=_are_parts_of(ratio, distinct, scale))


def intervals_in_cells(
    ratio: Ratio, masks: Bools, cells: Cells, selected: Bools, *, scale: Scale = "logit"
) -> tuple[Floats, Floats]:
    """Return the intervals of `ratio_intervals` in the selected slices, shape (S,); NaN in other slices.

    Parameters
    ----------
    masks : ndarray of bool, shape (S, n)
    cells : Cells
        The cells of the masks. Images are counted once per cell instead of once per slice.
    selected : ndarray of bool, shape (S,)
    scale
        As in `ratio_interval`.
    """
    lo, hi = np.full((2, len(masks)), np.nan)
    if not selected.any():
        return lo, hi
    if is_share(ratio):
        right, n = (cells.count(flags.astype(bool, copy=False))[selected] for flags in (ratio.num, ratio.den))
        lo[selected], hi[selected] = proportion_interval(right, n)
        return lo, hi
    # Often, only slices of few images are selected.
    distinct, scored, at = _distinct(ratio, np.any(cells.member[selected], axis=0)[cells.cell])
    n_kinds, n_cells = len(distinct[0]), cells.member.shape[1]
    if n_kinds * n_cells > _MOST_KINDS * len(ratio.num):  # most images differ
        lo[selected], hi[selected] = ratio_intervals(ratio, masks[selected], scale=scale)
        return lo, hi
    where = cells.cell[scored] * n_kinds + at
    by_cell = np.bincount(where, minlength=n_kinds * n_cells).reshape(n_cells, n_kinds)
    are_parts = _are_parts_of(ratio, distinct, scale)
    lo[selected], hi[selected] = _ends(distinct, cells.member[selected] @ by_cell, scale, are_parts=are_parts)
    return lo, hi


def _are_parts_of(ratio: Ratio, distinct: tuple[Floats, Floats, Ints], scale: Scale) -> bool:
    return ratio.stratum is None and _are_parts(*distinct[:2], scale)


def _ends(
    distinct: tuple[Floats, Floats, Ints], counts: Iterable[Ints | Floats], scale: Scale, *, are_parts: bool
) -> tuple[Floats, Floats]:
    """Return the intervals of distinct images that each occur with some counts, for each slice."""
    num, den, _ = distinct
    size = max(1, _AT_ONCE // max(1, len(distinct[0])))
    slices, ends = iter(counts), []
    while some := list(islice(slices, size)):
        n = np.array(some, np.float64)
        values, changes = _values_and_changes(*distinct, n)
        errors, df = jackknife_errors_of(changes, n)
        if scale == "log":
            errors[n.sum(axis=1) < FEWEST_CASES] = np.nan
        found = np.array([jackknife_ends(*one, scale=scale) for one in zip(values, errors, df, strict=True)])
        if are_parts:
            fewest = np.minimum(n @ (num > 0), n @ (num < den))
            few = fewest < FEWEST_CASES
            found[few] = np.array(clustered_interval(num, den, n[few].__matmul__, few=fewest[few])).T
        ends.append(found)
    lo, hi = np.concatenate(ends).T
    return lo, hi


def sampled_interval(
    value: float, samples: AnyFloats, n: int, *, scale: Scale = "plain"
) -> tuple[float, float]:
    """Return the interval of a value over n images from its values on resamples; NaN if there is none.

    The ends are percentiles. For fewer than `IMAGES_FOR_PERCENTILES` images, the interval around the value
    uses Student's t (`manyhot.core.jackknife.resampled_interval`).

    Parameters
    ----------
    samples : ndarray of float, shape (R,)
        NaN is ignored.
    n : int
        Number of images.
    scale
        As in `manyhot.core.jackknife.jackknife_ends`.
    """
    if n < IMAGES_FOR_PERCENTILES:
        return resampled_interval(value, samples, n=n, scale=scale)
    if not len(samples) or np.isnan(samples).all():
        return float("nan"), float("nan")
    lo, hi = percentile_interval(samples[None])
    return float(lo[0]), float(hi[0])


def sampled_intervals(
    values: Floats, samples: AnyFloats, n: Ints, *, scale: Scale = "plain"
) -> tuple[Floats, Floats]:
    """Return the intervals of several values, shape (K,); see `sampled_interval`.

    Parameters
    ----------
    values : ndarray of float64, shape (K,)
    samples : ndarray of float, shape (K, R)
    n : ndarray of int, shape (K,)
    scale
        As in `sampled_interval`.
    """
    if (n >= IMAGES_FOR_PERCENTILES).all() and samples.size:
        return percentile_interval(samples)
    each = zip(values.tolist(), samples, n.tolist(), strict=True)
    ends = np.array([sampled_interval(*one, scale=scale) for one in each]).reshape(-1, 2)
    return ends[:, 0], ends[:, 1]


def changes_without(ratio: Ratio) -> Floats:
    """Return, for each scored image, the change in a ratio if the image is left out, shape (m,).

    Notes
    -----
    Leaving out the only image of a stratum removes the stratum from the mean. If an image is the only one
    that is counted, its change is NaN.
    """
    num, den = _floats(ratio, ratio.scored)
    stratum = np.zeros(len(num), np.intp) if ratio.stratum is None else ratio.stratum[ratio.scored]
    _, (changes,) = _values_and_changes(num, den, stratum, np.ones((1, len(num))))
    return np.asarray(changes)


def _distinct(ratio: Ratio, inside: Bools | None = None) -> tuple[tuple[Floats, Floats, Ints], Ints, Ints]:
    """Return the k distinct numerators, denominators and strata, and which of them each scored image has.

    Often, fewer than a hundred of 50,000 images differ, so that a slice costs only the counting of them.
    """
    scored = np.flatnonzero(ratio.scored if inside is None else ratio.scored & inside)
    stratum = np.zeros(len(scored), np.intp) if ratio.stratum is None else ratio.stratum[scored]
    at = stratum
    for values in (ratio.num[scored], ratio.den[scored]):
        number, n = _numbered(values)
        at = _numbered(at * n + number)[0]
    first = np.empty(int(at.max(initial=-1)) + 1, np.intp)
    first[at] = np.arange(len(at))
    return (*_floats(ratio, scored[first]), stratum[first]), scored, at


def _numbered(values: Bools | Ints | Floats) -> tuple[Ints, int]:
    """Return the distinct values by numbers from 0, and how many they are."""
    if values.dtype.kind == "f":
        distinct, number = distinct_values(values)
        return number, len(distinct)
    present = np.bincount(values) > 0
    numbers = np.cumsum(present)
    return (numbers - 1)[values.astype(np.intp)], int(numbers[-1]) if len(numbers) else 0


def _floats(ratio: Ratio, at: Bools | Ints) -> tuple[Floats, Floats]:
    return ratio.num[at].astype(np.float64), ratio.den[at].astype(np.float64)


def _values_and_changes(num: Floats, den: Floats, group: Ints, counts: Floats) -> tuple[list[float], Floats]:
    """Return the ratio of images with some counts, and the change if one image of each kind is left out.

    Parameters
    ----------
    num, den, group : ndarray, shape (k,)
        The kinds of images.
    counts : ndarray of float64, shape (S, k)
        How many images of each kind are in each of S slices.

    Returns
    -------
    values : list of float, length S
    changes : ndarray of float64, shape (S, k)
    """
    n_groups = int(group.max(initial=-1)) + 1
    above, below = (
        np.array([np.bincount(group, of_slice, n_groups) for of_slice in counts * values])
        for values in (num, den)
    )
    filled = below > 0
    n_filled = np.count_nonzero(filled, axis=1)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(filled, above / below, 0.0)
        total = shares.sum(axis=1, keepdims=True)
        dropped = np.where(filled, (total - shares) / (n_filled - 1) - total / n_filled, 0.0)
        values = (total / n_filled)[:, 0].tolist()
        sums = below[:, group]
        rest = sums - den
        changes = ((above[:, group] - num) / rest - shares[:, group]) / n_filled
    # By rounding, the sum without the only image of a stratum is not exactly 0.
    changes = np.where(rest <= 1e-12 * sums, dropped[:, group], changes)
    return values, changes


def with_few_apart(pairs: PairTable, first: Ints, second: Ints, n: int) -> PairTable:
    """Return pairs of shares, with a different interval and p-value if models differ on few images.

    Parameters
    ----------
    first, second : ndarray of int, shape (P,)
        Number of images that only the first model, and only the second model, gets right, as returned by
        `only_one_right`.
    n : int
        Number of images.

    Notes
    -----
    If two models differ on fewer than `FEWEST_CASES` images, if there are fewer than
    `IMAGES_FOR_PERCENTILES` images, or if one model is right and the other wrong on all images, Wald's
    interval and p-value are computed after one image is added to each count. The width of the interval is
    then positive even if both models are right on the same images, or only one is on all.

    References
    ----------
    Bonett and Price 2012, doi 10.3102/1076998611411915.
    """
    few = (first + second < FEWEST_CASES) | (n < IMAGES_FOR_PERCENTILES) | (first == n) | (second == n)
    return _with_one_more_each(pairs, few, first, second, np.full(len(few), n))


_ROUNDING = 1e-6
"""Differences of values that may be due to the rounding of scores in float32."""


def with_none_apart(pairs: PairTable, n: Ints) -> PairTable:
    """Return pairs of values between 0 and 1, with an interval around 0 for models that differ on no image.

    So do models whose values differ by no more than the rounding of scores may cause.

    Parameters
    ----------
    n : ndarray of int, shape (P,)
        Number of images on which the two models of a pair are compared.

    Notes
    -----
    Without this interval, a few images on which two models happen to agree would rule out any difference. The
    interval is computed as for shares (see `with_few_apart`), after adding an image with the largest possible
    difference and an image with the opposite difference.
    """
    equal = np.isnan(pairs.lo) & (pairs.p == 1)  # there is no interval, because nothing varies
    none = ((pairs.hi - pairs.lo <= _ROUNDING) & (np.abs(pairs.difference) <= _ROUNDING)) | equal
    zeros = np.zeros(len(none), np.intp)
    return _with_one_more_each(pairs, none, zeros, zeros, n)


def _with_one_more_each(pairs: PairTable, where: Bools, first: Ints, second: Ints, n: Ints) -> PairTable:
    more, less = (second + 1) / (n + 2), (first + 1) / (n + 2)
    difference = more - less
    error = np.sqrt((more + less - difference**2) / (n + 2))
    half = QUANTILE * error
    where = where & ~np.isnan(pairs.difference)
    lo = np.where(where, np.maximum(difference - half, -1), pairs.lo)
    hi = np.where(where, np.minimum(difference + half, 1), pairs.hi)
    p = np.where(where, 2 * ndtr(-np.abs(difference) / error), pairs.p)
    return replace(pairs, lo=lo, hi=hi, p=p, p_adjusted=holm(p))


FEWEST_CLUSTERS = 30
"""With fewer clusters, a note says that intervals may be too narrow."""


def have_cluster_percentiles(ratio: Ratio, masks: Bools, clusters: Clusters, scale: Scale = "logit") -> Bools:
    """Return whether percentiles of resamples give a good interval of a ratio on each slice, shape (S,).

    The conditions are the same as in `manyhot.core.ratio_intervals.have_percentiles`, but apply to clusters
    instead of images. A cluster with both correct and wrong predictions counts as both.
    """
    if ratio.stratum is not None or scale == "log":
        return np.zeros(len(masks), bool)
    return np.array([_has_percentiles(ratio, mask, clusters, scale) for mask in masks], bool)


def _has_percentiles(ratio: Ratio, inside: Bools, clusters: Clusters, scale: Scale) -> bool:
    scored = ratio.scored & inside
    if clusters.count(scored) < IMAGES_FOR_PERCENTILES:
        return False
    if not (is_share(ratio) or _are_parts(ratio.num, ratio.den, scale)):
        return True
    sides = (scored & (ratio.num > 0), scored & (ratio.num < ratio.den))
    return all(clusters.count(side) >= FEWEST_CASES for side in sides)


def cluster_intervals(
    ratio: Ratio, masks: Bools, clusters: Clusters, selected: Bools, *, scale: Scale = "logit"
) -> tuple[Floats, Floats]:
    """Return the intervals of a ratio in the selected slices, shape (S,); NaN in other slices.

    Parameters
    ----------
    masks : ndarray of bool, shape (S, n)
    selected : ndarray of bool, shape (S,)
    scale
        As in `manyhot.core.jackknife.jackknife_ends`; ignored for a share of images.

    Notes
    -----
    A share of images has Wilson's interval with counts divided by the design effect
    (`manyhot.core.share_intervals.clustered_interval`), as has a ratio of a part to a whole with few clusters
    on one side (see `FEWEST_CASES`). Other values have a jackknife interval over clusters.
    As without clusters, there is no interval on the log scale for fewer than `FEWEST_CASES` images.
    """
    lo, hi = np.full((2, len(masks)), np.nan)
    for s in np.flatnonzero(selected):
        lo[s], hi[s] = _interval(ratio, masks[s], clusters, scale)
    return lo, hi


def _interval(ratio: Ratio, inside: Bools, clusters: Clusters, scale: Scale) -> tuple[float, float]:
    scored = ratio.scored & inside
    sides = (scored & (ratio.num > 0), scored & (ratio.num < ratio.den))
    are_parts = ratio.stratum is None and _are_parts(ratio.num, ratio.den, scale)
    fewest = min(map(clusters.count, sides))
    if is_share(ratio) or (are_parts and fewest < FEWEST_CASES):
        number = clusters.number[scored]
        num, den = (np.bincount(number, values[scored], clusters.n) for values in (ratio.num, ratio.den))
        few = None if is_share(ratio) else np.array(fewest)
        low, high = clustered_interval(num, den, lambda values: values.sum(axis=0), few=few)
        return float(low), float(high)
    changes = changes_without_clusters(ratio, clusters, inside)
    if scale == "log" and np.count_nonzero(ratio.scored & inside) < FEWEST_CASES:
        return float("nan"), float("nan")
    return jackknife_ends(ratio.value(inside), *jackknife_error(changes), scale=scale)


def changes_without_clusters(ratio: Ratio, clusters: Clusters, inside: Bools | None = None) -> Floats:
    """Return the changes from leaving out single clusters with scored images, by number.

    Parameters
    ----------
    inside : ndarray of bool, shape (n,), optional
        The images of a slice; all images by default.

    Notes
    -----
    Leaving out all images of a stratum removes the stratum from the mean. If no image is left, the change is
    NaN.
    """
    scored = ratio.scored if inside is None else ratio.scored & inside
    stratum = np.zeros(len(scored), np.intp) if ratio.stratum is None else ratio.stratum
    n_strata = int(stratum[scored].max(initial=0)) + 1
    values = [side[scored].astype(np.float64) for side in (ratio.num, ratio.den)]
    above, below = (np.bincount(stratum[scored], of, n_strata) for of in values)
    # The cells of clusters and strata that contain images.
    cells, cell = np.unique(clusters.number[scored] * n_strata + stratum[scored], return_inverse=True)
    num, den = (np.bincount(cell, of, len(cells)) for of in values)
    cluster, group = np.divmod(cells, n_strata)
    filled = below > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(filled, above / below, 0.0)
        rest = below[group] - den
        # By rounding, the sum without the only images of a stratum is not exactly 0.
        vanishes = filled[group] & (rest <= 1e-12 * below[group])
        moved = np.where(vanishes | ~filled[group], 0.0, (above[group] - num) / rest) - shares[group]
        n_filled = np.count_nonzero(filled)
        totals = shares.sum() + np.bincount(cluster, moved, clusters.n)
        left = n_filled - np.bincount(cluster, vanishes, clusters.n)
        changes = np.where(left > 0, totals / left - shares.sum() / n_filled, np.nan)
    return np.asarray(changes[np.unique(cluster)])
