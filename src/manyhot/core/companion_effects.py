"""Shortcuts: whether predictions depend on a companion, by flips, gaps and balanced precision.

`plan` returns the number of images from which to remove a companion, or to which to add it, so that it
becomes independent of a class.

References
----------
G. Plumb, M. T. Ribeiro, A. Talwalkar. Finding and Fixing Spurious Patterns with Explanations. TMLR 2022
(SPIRE), and ``COCO/2-Models/0-FindAugs.py`` of GDPlumb/SPIRE.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from manyhot.core.array_types import AnyFloats, Bools, Bytes, Floats, Floats32, Ints, Ints8, Ints64, Positions
from manyhot.core.jackknife import resampled_interval
from manyhot.core.resampling import draw_counts
from manyhot.core.sets import NO, YES
from manyhot.core.share_intervals import (
    difference_interval,
    difference_of_shares,
    proportion_interval,
    wilson_interval,
)

BOTH, MAIN_ONLY, COMPANION_ONLY, NEITHER = range(4)

NO_SPLIT = -1
"""Code of an image on which the state of one of the two classes is unknown."""

FREE = 0.5
"""Minimum share of a control that is outside of all objects."""

CAP = 19
"""Maximum number of altered images per original image, in the smaller of the splits to which they are
added."""

_NEAR = 0.02  # Tolerance of places, as a share of the region's size: they are equally good.
_GRID = 128  # Pixels of the longer side of the grid of places, which takes a fifth of a millisecond.
_CHUNK = 32  # Resamples per block, which for 5,000 images fits in a cache: half the time of 125.


@dataclass(frozen=True)
class Estimated:
    """A value, the ends of its 95 % interval, and its number of images. Without images, the value is NaN."""

    value: float
    lo: float
    hi: float
    n: int


def split_by_pair(main: Ints, companion: Ints) -> Ints8:
    """Return the split of each image, given the states of a pair of classes.

    Parameters
    ----------
    main, companion : ndarray of int, shape (n,)
        The states of both classes: `YES`, `NO`, or unknown.

    Returns
    -------
    ndarray of int8, shape (n,)
        `BOTH`, `MAIN_ONLY`, `COMPANION_ONLY`, `NEITHER` or `NO_SPLIT`.
    """
    split = np.where(main == YES, BOTH, COMPANION_ONLY) + np.where(companion == YES, 0, 1)
    answered = np.isin(main, (NO, YES)) & np.isin(companion, (NO, YES))
    return np.where(answered, split, NO_SPLIT).astype(np.int8)


def share_with_interval(hits: Bools) -> Estimated:
    """Return a share with Wilson's interval."""
    lo, hi = proportion_interval(hits.sum(), len(hits))
    if not len(hits):
        return Estimated(np.nan, np.nan, np.nan, 0)
    return Estimated(float(hits.mean()), max(0.0, float(lo)), min(1.0, float(hi)), len(hits))


def paired_difference(one: Bools, other: Bools) -> Estimated:
    """Return the difference between two shares of the same images, `one` minus `other`.

    The interval is computed as in `difference_interval`, with a continuity correction of the correlation.

    Parameters
    ----------
    one, other : ndarray of bool, shape (n,)
    """
    n = len(one)
    if not n:
        return Estimated(np.nan, np.nan, np.nan, 0)
    p, q = one.mean(), other.mean()
    lo, hi = wilson_interval([one.sum(), other.sum()], [n, n])
    below, above = difference_interval((p, lo[0], hi[0]), (q, lo[1], hi[1]), _correlation(one, other))
    return Estimated(float(p - q), float(below), float(above), n)


def _correlation(one: Bools, other: Bools) -> float:
    n, a, b, both = len(one), int(one.sum()), int(other.sum()), int((one & other).sum())
    spread = a * (n - a) * b * (n - b)
    shared = float(both * (n - a - b + both) - (a - both) * (b - both))
    if shared > 0:
        shared = max(shared - n / 2, 0.0)
    return shared / spread**0.5 if spread else 0.0


def gap(predicted: Bools, splits: Ints8, one: int, other: int) -> Estimated:
    """Return the difference between two splits in the share of images for which a class is predicted.

    For `BOTH` and `MAIN_ONLY`, the absolute value is the recall gap of Plumb et al. 2022 (SPIRE). For
    `COMPANION_ONLY` and `NEITHER`, it is their hallucination gap.

    Parameters
    ----------
    predicted : ndarray of bool, shape (n,)
        Whether the class was predicted.
    splits : ndarray of int8, shape (n,)
    """
    inside = [predicted[splits == which] for which in (one, other)]
    hits, images = (np.array([[f(x)] for x in inside], np.int64) for f in (np.count_nonzero, len))
    value, lo, hi = (float(x[0]) for x in difference_of_shares(hits, images))
    return Estimated(value, lo, hi, int(images.sum()))


def balancing(splits: Ints8, counts: AnyFloats) -> AnyFloats:
    """Return weights under which a companion is independent of the main class.

    Under these weights, half of the images with the main class and half of the images without it contain the
    companion. The frequency of the main class does not change (Plumb et al. 2022: P(S | M) = P(S | not M) =
    0.5).

    Parameters
    ----------
    splits : ndarray of int8, shape (n,)
    counts : ndarray of float, shape (R, n)
        How often each image counts in each of R resamples.

    Returns
    -------
    ndarray of float, shape (R, n)
        NaN in resamples with an empty split.
    """
    members = np.stack([splits == which for which in range(4)], axis=1).astype(counts.dtype)
    sums = counts @ members
    halves = np.stack([sums[:, :2].sum(1) / 2, sums[:, 2:].sum(1) / 2], axis=1).repeat(2, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(sums > 0, halves / sums, np.nan)
    factor[np.isnan(factor).any(1)] = np.nan
    return np.asarray(counts * np.where(splits >= 0, factor[:, splits], 0))


def independent(splits: Sequence[Ints8], weights: Floats) -> Floats:
    """Return weights under which each of several companions is independent of its class.

    The weights are found by 50 rounds of iterative proportional fitting (Deming and Stephan 1940). One pair
    at a time, the four splits are reweighted so that the two classes are independent and keep their numbers
    of images. A pair with an empty split is unchanged.

    Parameters
    ----------
    splits : sequence of ndarray of int8, shape (n,)
        The split of each image, for each pair; see `split_by_pair`.
    weights : ndarray of float, shape (n,)
    """
    weights = weights.copy()
    for own in [*splits] * 50:
        known = own >= 0
        sums = np.bincount(own[known], weights[known], minlength=4).reshape(2, 2)
        if sums.all():
            wanted = np.outer(sums.sum(1), sums.sum(0)) / sums.sum()
            weights[known] *= (wanted / sums).ravel()[own[known]]
    return weights


def weighted_average_precision(score: AnyFloats, positive: Bools, weights: AnyFloats) -> Floats:
    """Return the average precision under each row of weights.

    Average precision is the sum of (R_i - R_{i-1}) P_i over the distinct scores, without interpolation, as in
    ``sklearn.metrics.average_precision_score``. SPIRE interpolates a curve with 101 thresholds.

    Parameters
    ----------
    score : ndarray of float, shape (n,)
    positive : ndarray of bool, shape (n,)
    weights : ndarray of float, shape (R, n)

    Returns
    -------
    ndarray of float64, shape (R,)
        NaN if no positive has a positive weight.
    """
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)
    ends, group = np.flatnonzero(last), np.cumsum(last) - last
    # Recall grows only at scores of positives, which are few: a quarter of the time of all scores.
    hit = np.flatnonzero(positive[order])
    final = np.append(np.diff(group[hit]) != 0, True)[: len(hit)]
    w = weights[:, order]
    hits = np.cumsum(w[:, hit], axis=1)[:, final]
    seen = np.cumsum(w, axis=1)[:, ends[group[hit[final]]]]
    gained = np.diff(hits, axis=1, prepend=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(gained > 0, hits / seen, 0)
        return np.asarray((gained * precision).sum(1) / hits[:, -1:].sum(1), np.float64)


@dataclass(frozen=True)
class PairPrecision:
    """The average precision of a class on the original and on the balanced distribution of images."""

    as_is: Estimated
    balanced: Estimated


@dataclass(frozen=True)
class Resampled:
    """Average precisions with intervals. All pairs use the same resamples.

    Attributes
    ----------
    counts : ndarray of uint8, shape (R, n)
        How often each image was drawn.
    """

    counts: Bytes

    @classmethod
    def of(cls, n: int, resamples: int, seed: int) -> Resampled:
        """Draw n images `resamples` times."""
        return cls(draw_counts(n, resamples, np.random.default_rng([seed, n])))

    def precision(self, score: AnyFloats, splits: Ints8) -> PairPrecision:
        """Return a class's average precision on the original and the balanced distribution, with intervals.

        Parameters
        ----------
        score : ndarray of float, shape (n,)
        splits : ndarray of int8, shape (n,)
        """
        inside = np.flatnonzero(splits != NO_SPLIT)
        score, splits = score[inside], splits[inside]
        positive = splits <= MAIN_ONLY

        def both(counts: AnyFloats) -> Floats:
            weights = (counts, balancing(splits, counts))
            return np.stack([weighted_average_precision(score, positive, w) for w in weights])

        value = both(np.ones((1, len(inside))))[:, 0]
        drawn = [both(counts) for counts in self._parts(inside)]
        samples = np.concatenate([np.empty((2, 0)), *drawn], axis=1)
        n = len(inside)
        ends = [resampled_interval(float(v), own, n=n) for v, own in zip(value, samples, strict=True)]
        as_is, balanced = (Estimated(float(v), lo, hi, n) for v, (lo, hi) in zip(value, ends, strict=True))
        return PairPrecision(as_is, balanced)

    def _parts(self, inside: Positions) -> Iterator[Floats32]:
        for start in range(0, len(self.counts), _CHUNK):
            yield self.counts[start : start + _CHUNK, inside].astype(np.float32)


def place_control(removed: Bools, taken: Bools, rng: np.random.Generator) -> tuple[int, int] | None:
    """Return a random shift of a region to a location that overlaps objects as little as possible.

    The location is drawn among the locations with the least overlap with `taken`. The result is None if more
    than half of the region would overlap `taken` at every location.

    Parameters
    ----------
    removed : ndarray of bool, shape (h, w)
        The region; not empty.
    taken : ndarray of bool, shape (h, w)
        All objects, including the object in the region.

    Returns
    -------
    (int, int) or None
        The shift down and to the right, in pixels.
    """
    step = -(-max(removed.shape) // _GRID)
    small = removed[::step, ::step]
    if not small.any():  # thinner than the grid
        step, small = 1, removed
    (top, bottom), (left, right) = _extent(small, 1), _extent(small, 0)
    shape = small[top:bottom, left:right]
    covered = _covered(taken[::step, ::step], shape)
    if covered.min() > (1 - FREE) * shape.sum():
        return None
    good = np.argwhere(covered <= covered.min() + _NEAR * shape.sum())
    down, aside = good[rng.integers(len(good))] - (top, left)
    return _inside(removed, 1, int(down) * step), _inside(removed, 0, int(aside) * step)


def moved(region: Bools, down: int, aside: int) -> Bools:
    """Return a shifted region, cropped at the edges of the image."""
    shifted = np.zeros_like(region)
    h, w = region.shape
    y, x = slice(max(down, 0), h + min(down, 0)), slice(max(aside, 0), w + min(aside, 0))
    shifted[y, x] = region[max(-down, 0) : h - max(down, 0), max(-aside, 0) : w - max(aside, 0)]
    return shifted


def _covered(taken: Bools, shape: Bools) -> Ints64:
    """Return the number of taken pixels that a shape covers at each place within the image."""
    from scipy import fft

    # Counts are whole numbers: on a grid of 128 x 128, single precision is off by less than 0.02.
    kind = np.float32 if taken.size <= _GRID**2 else np.float64
    size = [fft.next_fast_len(n, real=True) for n in taken.shape]
    all_taken, own = (fft.rfft2(of.astype(kind), size) for of in (taken, shape))
    (h, w), (high, wide) = taken.shape, shape.shape
    # Where the shape lies within the image, nothing wraps around.
    counted = fft.irfft2(all_taken * own.conj(), size)[: h - high + 1, : w - wide + 1]
    return np.asarray(np.rint(counted), np.int64)


def _extent(region: Bools, across: int) -> tuple[int, int]:
    filled = np.flatnonzero(region.any(axis=across))
    return int(filled[0]), int(filled[-1]) + 1


def _inside(region: Bools, across: int, way: int) -> int:
    """Return a shift that keeps a region in the image; a shift by the coarse grid may be some pixels off."""
    first, last = _extent(region, across)
    return min(max(way, -first), int(region.shape[0 if across else 1]) - last)


def rank(difference_lo: Floats, value: Floats) -> Positions:
    """Return the order of pairs by the lower confidence limit of the difference from the control, descending.

    Pairs with few images have wide intervals and therefore do not come first. Ties are broken by value. NaN
    comes last.
    """
    keys = [np.where(np.isnan(x), -np.inf, x) for x in (value, difference_lo)]
    return np.asarray(np.lexsort([-k for k in keys]))


@dataclass(frozen=True)
class BalancePlan:
    """The number of altered images to add for a pair.

    Attributes
    ----------
    adds : bool
        True if the companion is added to images, because it is less frequent with the class than without it.
        False if it is removed.
    amount : float
        Number of altered images to add to each of two splits. If objects are removed, the two splits are the
        images with only the class and with only the companion. If the companion is added, they are the images
        with both and with only the companion.
    before, after : float
        The companion's share of the images with the class minus its share of the images without it.
    """

    adds: bool
    amount: float
    before: float
    after: float


def plan(
    both: float, main_only: float, companion_only: float, neither: float, *, capped: bool = True
) -> BalancePlan:
    """Return the number of altered images that make a companion independent of a class.

    The four splits have b, m, s and n images. To each of two splits, d images are added so that the odds
    ratio becomes 1. If one of the two classes is removed from images with both, d solves ``b n = (m + d)(s +
    d)``. If the companion is added to images without it, d solves ``(b + d) n = m (s + d)``. This equation
    has no solution for ``m >= n``.

    Parameters
    ----------
    both, main_only, companion_only, neither : float
        Number of training images in each split.
    capped : bool
        Whether to cap d as in the paper: at the number of images that can be altered, and at `CAP` times the
        smaller of the two splits to which images are added. The second cap is omitted if this split is empty.
        Without caps, an image may be used several times.

    Returns
    -------
    BalancePlan
        The amount is 0 if no change is possible or needed.
    """
    b, m, s, n = both, main_only, companion_only, neither
    adds = b * n < m * s
    if adds:
        solution = (m * s - b * n) / (n - m) if n > m else math.inf
        caps: tuple[float, ...] = (m, n, CAP * min(b, s) or math.inf)
    else:
        solution = (math.hypot(m - s, 2 * math.sqrt(b * n)) - m - s) / 2
        caps = (b, CAP * min(m, s) or math.inf)
    amount = min(solution, *caps) if capped else solution
    if math.isinf(amount):
        amount = 0.0
    to = (b + amount, m, s + amount, n) if adds else (b, m + amount, s + amount, n)
    return BalancePlan(adds, amount, dependence((b, m, s, n)), dependence(to))


def balanced_amounts(
    both: float, main_only: float, companion_only: float, neither: float, filled: bool
) -> tuple[float, float]:
    """Return how many altered images equalise the frequency of the class with and without the companion.

    The four splits have b, m, s and n images, so the odds of the class are (b + m) / (s + n). Adding B images
    with the companion and without the class makes ``b / (s + B)`` equal to these odds. Adding A images with
    the class, from which the companion was removed, makes ``(m + A) / (n + F)`` equal to them as well. F is
    the number of images without the class that contain only the fill: B, or 0 if no such images are added. In
    contrast to `plan`, the class does not become more frequent.

    Parameters
    ----------
    both, main_only, companion_only, neither : float
        Number of training images in each split. `both` must be at least the number expected if the two
        classes were independent.
    filled : bool
        Whether to add images that contain only the fill.

    Returns
    -------
    (float, float)
        A and B.
    """
    b, m, s, n = both, main_only, companion_only, neither
    ratio = (b + m) / (s + n)
    pasted = max(b / ratio - s, 0.0)
    return max((n + pasted * filled) * ratio - m, 0.0), pasted


def dependence(counts: Sequence[float]) -> float:
    """Return the companion's share of the images with the class minus its share of the images without it.

    Parameters
    ----------
    counts : sequence of float
        Number of images with both, only the class, only the companion, and neither.
    """
    both, main_only, companion_only, neither = counts
    inside, outside = both + main_only, companion_only + neither
    return both / inside - companion_only / outside if inside and outside else math.nan
