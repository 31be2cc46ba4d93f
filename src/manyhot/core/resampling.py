"""Intervals: the percentile bootstrap over images for many models at once, and Student's for a mean.

A resample is a row of counts: how often each image was drawn. The value of a ratio metric under resamples is
the matrix product of counts and per-image numerators, divided by that of counts and denominators. All models
are computed in one call from the same resamples, so differences of models are paired.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy import typing as npt
from scipy.special import gammaln, ndtri, stdtrit

from manyhot.core.array_types import AnyFloats, Bools, Bytes, Floats, Floats32, Positions
from manyhot.core.clusters import Clusters
from manyhot.core.estimates import Cells
from manyhot.core.resampled_statistics import Counts, MeansOf, Ratios, Statistic, ValueMatrix
from manyhot.core.threads import THREADS, each_in_threads, one_blas_thread

LEVEL = 0.95
"""Coverage of all intervals."""

QUANTILE = float(ndtri((1 + LEVEL) / 2))
"""Half-width of an interval in standard errors, if the distribution is normal."""

_CHUNK, _CHUNK_BYTES = 125, 100_000_000
"""Maximum number of resamples per block, and of counts, which limits the resamples of more than 800,000
images."""

_ROWS = 512
"""Rows of samples per block of a sort: 2 MB of 1,000 resamples, which fit the cache."""

_NETWORK = 512
"""Values up to which NumPy sorts float32 without partitioning them."""

_DRAWN = 65_536
"""Drawn images that are counted at a time: half a megabyte."""

_TOGETHER, _TILE = 16, 4096
"""Resamples and images that are transposed at a time: they fit the cache. No block is in memory twice."""

_KEPT = 160_000_000
"""Maximum size of resamples that are kept, in bytes: 1,000 of 160,000 images."""

_MANY = 160_000
"""Images from which counts are drawn directly. With fewer, drawing takes little of the time."""

_DIRECTLY, _CODES = 262_144, 256
"""Counts that are drawn at a time, and the values of a byte, of which most are a count."""


@dataclass(frozen=True)
class Bootstrap:
    """Resamples of n images. All models and slices share them.

    Parameters
    ----------
    masks : ndarray of bool, shape (S, n)
        The images of each slice.
    resamples : int
        Number of resamples R.
    seed : int
        For n images, the same seed gives the same resamples for all slices and models.
    clusters : Clusters, optional
        Clusters of images, such as patients, which are drawn as a whole. By default, images are drawn.

    References
    ----------
    Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13. With clusters: Davison and Hinkley
    1997, Bootstrap Methods and their Application, section 3.8.
    """

    masks: Bools
    resamples: int
    seed: int
    clusters: Clusters | None = None

    def clusters_at(self, rows: npt.NDArray[np.integer]) -> Clusters | None:
        """Return the clusters of some of the images; None if images are drawn."""
        return None if self.clusters is None else self.clusters.take(rows)

    @cached_property
    def cells(self) -> Cells:
        """The slices as unions of disjoint cells."""
        return Cells.of(self.masks)

    @cached_property
    def _kept_blocks(self) -> list[tuple[slice, Counts]]:
        return []

    def _blocks(self) -> Iterator[tuple[slice, Counts]]:
        """Yield resamples in blocks, and keep them for further passes unless there are many images."""
        if self._kept_blocks:
            yield from self._kept_blocks
            return
        drawn = []
        for block in self._draw():
            yield block
            if not self._are_many:
                drawn.append(block)
        self._kept_blocks.extend(drawn)

    def _draw(self) -> Iterator[tuple[slice, Counts]]:
        """Yield resamples in blocks."""
        # The number of images is part of the seed: from one stream, resamples of n and of n + 1 images would
        # be correlated.
        clusters, n = self.clusters, self._n_drawn
        rng = np.random.default_rng([self.seed, n])
        size = min(_CHUNK, max(1, _CHUNK_BYTES // max(self.masks.shape[1], 1)))
        for start in range(0, self.resamples, size):
            rows = slice(start, min(start + size, self.resamples))
            draw = _many_drawn_by_image if self.draws_counts else _drawn_by_image
            drawn = draw(n, rows.stop - rows.start, rng)
            yield rows, drawn if clusters is None else drawn[clusters.number]

    @property
    def _n_drawn(self) -> int:
        """The number of images, or of clusters if these are drawn."""
        return self.masks.shape[1] if self.clusters is None else self.clusters.n

    @property
    def draws_counts(self) -> bool:
        """Whether counts are drawn directly, which earlier versions never did."""
        return self._n_drawn > _MANY

    @property
    def _are_many(self) -> bool:
        return bool(self.masks.shape[1] * self.resamples > _KEPT)

    def draw_once(self) -> None:
        """Draw the resamples that are kept, so that copies of this object have them."""
        if not self._are_many:
            deque(self._blocks(), maxlen=0)

    def resample(self, *statistics: Statistic) -> None:
        """Compute statistics in one pass over the resamples. With many images, each pass draws them again."""
        many = self._are_many

        # Threads share the images of a block of many images, and otherwise the blocks of resamples.
        with (
            one_blas_thread(),
            ThreadPoolExecutor(THREADS) as pool,
            ThreadPoolExecutor(1 if many else THREADS) as fillers,
        ):

            def fill(rows: slice, counts: Counts) -> None:
                for statistic in statistics:
                    statistic.fill(rows, counts, pool.map if many else map)

            waiting = deque[Future[None]]()
            for rows, counts in self._blocks():  # of which one is drawn while others are used
                if many and waiting:  # so that two blocks are in memory: one is drawn, one is used
                    waiting.popleft().result()
                waiting.append(fillers.submit(fill, rows, counts))
            for future in waiting:
                future.result()

    def ratios(self, num: ValueMatrix, den: ValueMatrix, den_of: Positions) -> Floats32:
        """Return resampled ratios of sums, shape (S, R, m); NaN if no image of a resample is counted.

        Parameters
        ----------
        num : ndarray of float32, shape (n, m), or ValueColumns
            Numerators of m metrics and models.
        den : ndarray of float32, shape (n, d), or ValueColumns
            The distinct denominators.
        den_of : ndarray of int, shape (m,)
            The denominator of each numerator.
        """
        statistic = Ratios.of(self.cells, self.resamples, num, den, [MeansOf(np.arange(len(den_of)), den_of)])
        self.resample(statistic)
        return statistic.means[0].samples


def draw_counts(n: int, resamples: int, rng: np.random.Generator) -> Bytes:
    """Draw n images with replacement `resamples` times and count how often each was drawn.

    Returns
    -------
    ndarray of uint8, shape (resamples, n)
        The probability that an image is drawn more than 255 times is below 1e-500.
    """
    counts = np.zeros((resamples, n), np.uint8)
    for row in counts:
        # A fifth of the time of numpy.bincount, whose counts take eight bytes each and miss the cache.
        for start in range(0, n, _DRAWN):
            drawn = rng.integers(0, n, min(_DRAWN, n - start), np.int32)
            np.add.at(row, drawn.astype(np.intp), np.uint8(1))
    return counts


def _drawn_by_image(n: int, resamples: int, rng: np.random.Generator) -> Counts:
    """Return the counts of `draw_counts` with images as rows."""
    by_image = np.empty((n, resamples), np.uint8)
    for first in range(0, resamples, _TOGETHER):
        counts = draw_counts(n, min(_TOGETHER, resamples - first), rng)
        for start in range(0, n, _TILE):
            by_image[start : start + _TILE, first : first + len(counts)] = counts[:, start : start + _TILE].T
    return by_image


def _many_drawn_by_image(n: int, resamples: int, rng: np.random.Generator) -> Counts:
    """Draw n images with replacement and return their counts, as `_drawn_by_image` does.

    Counts of independent Poisson draws are a draw with replacement of as many images as they add up to. Their
    rate is so low that the counts of a resample add up to less than n, and the remaining images are drawn one
    by one. This takes half of the time, but gives other resamples than drawing all images one by one.
    """
    # Eight standard deviations below n: the sum exceeds n with a probability of 1e-15.
    table, rest = _poisson_codes(1 - 8 / np.sqrt(n))
    counts = np.empty(n * resamples, np.uint8)
    for start in range(0, len(counts), _DIRECTLY):
        block = counts[start : start + _DIRECTLY]
        drawn = rng.bit_generator.random_raw(-(-len(block) // 8)).astype("<u8", copy=False).tobytes()
        block[:] = np.frombuffer(drawn.translate(table), np.uint8)[: len(block)]
        undecided = np.flatnonzero(block == _UNDECIDED)
        block[undecided] = rng.choice(len(rest), len(undecided), p=rest)
    by_image = counts.reshape(n, resamples)
    tiles = (by_image[start : start + _TILE] for start in range(0, n, _TILE))
    sums = np.array([tile.sum(axis=0, dtype=np.uint32) for tile in tiles]).sum(axis=0, dtype=np.int64)
    for resample, n_drawn in enumerate(sums.tolist()):
        np.add.at(counts, rng.integers(0, n, n - n_drawn) * resamples + resample, np.uint8(1))
    return by_image


_UNDECIDED = 255


def _poisson_codes(rate: float) -> tuple[bytes, Floats]:
    """Return the Poisson count of each value of a byte, and the probabilities of counts for other values.

    A count of probability p gets the whole part of 256 p values. Values that are left are `_UNDECIDED`.
    """
    counts = np.arange(30)
    probability = rate**counts * np.exp(-rate - gammaln(counts + 1))
    values, rest = np.floor(probability * _CODES).astype(int), np.modf(probability * _CODES)[0]
    table = np.repeat(np.append(counts, _UNDECIDED), np.append(values, _CODES - values.sum()))
    return table.astype(np.uint8).tobytes(), rest / rest.sum()


def percentile_interval(samples: AnyFloats) -> tuple[Floats, Floats]:
    """Return the ends of the percentile interval over the last axis. NaN samples are ignored.

    Quantiles are interpolated linearly, as by default in ``numpy.quantile``.

    Parameters
    ----------
    samples : ndarray of float, shape (…, R)
    """
    tails = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    flat = samples.reshape(-1, samples.shape[-1])
    ends = np.empty((len(flat), 2))

    def fill(start: int) -> None:
        block = flat[start : start + _ROWS]
        # Only rows with NaN, whose sum is NaN, need slow quantiles.
        holed = np.isnan(block.sum(1))
        found = np.empty((len(block), 2))
        found[~holed] = _quantiles(block[~holed] if holed.any() else block, tails)
        found[holed] = _nan_quantiles(block[holed], tails)
        ends[start : start + _ROWS] = found

    if len(flat) <= _ROWS:
        fill(0)
    else:
        each_in_threads(fill, range(0, len(flat), _ROWS))
    ends = ends.reshape(*samples.shape[:-1], 2)
    return ends[..., 0], ends[..., 1]


def centred_interval(samples: AnyFloats, value: float) -> tuple[float, float]:
    """Return the ends of the percentile interval, shifted from the samples' median to the value.

    A calibration error is a sum of absolute deviations, which resampling increases. Samples are therefore
    biased upwards, and often all of them are above the value. Their spread is still a valid estimate of the
    variation over images. If all samples are within [0, 1], so are the ends.

    Parameters
    ----------
    samples : ndarray of float, shape (R,)
        NaN samples are ignored.
    value : float
        The value of the images themselves.
    """
    lo, hi = (float(end) for end in percentile_interval(samples))
    if np.isnan(lo):
        return lo, hi
    moved = value - float(np.nanmedian(samples))
    least = 0.0 if np.nanmin(samples) >= 0 else -np.inf
    most = 1.0 if np.nanmax(samples) <= 1 else np.inf
    return max(lo + moved, least), min(hi + moved, most)


def _quantiles(samples: AnyFloats, tails: Floats) -> Floats:
    r = samples.shape[-1]
    at = tails * (r - 1)
    below = np.floor(at).astype(int)
    above = np.minimum(below + 1, r - 1)
    if samples.dtype == np.float32:
        ranked = _with_sorted_ends(samples, int(above[0]) + 1, r - int(below[1]))
    else:
        ranked = np.partition(samples, np.unique(np.concatenate([below, above])), axis=-1)
    low, high = ranked[..., below].astype(np.float64), ranked[..., above].astype(np.float64)
    return np.asarray(low + (at - below) * (high - low))


def _with_sorted_ends(samples: Floats32, n_least: int, n_greatest: int) -> Floats32:
    """Return samples, shape (…, R), of which the least and the greatest are in their sorted places.

    NumPy sorts up to 512 float32 by a network of vector instructions: two sorts of 500 values take a fifth of
    the time of one sort of 1,000. The ends of all are among the ends of the parts.
    """
    n_parts = -(-samples.shape[-1] // _NETWORK)
    parts = [np.sort(part, axis=-1) for part in np.array_split(samples, n_parts, axis=-1)]
    if n_parts == 1:
        return parts[0]
    least = np.concatenate([part[..., :n_least] for part in parts], axis=-1)
    greatest = np.concatenate([part[..., -n_greatest:] for part in parts], axis=-1)
    ends = np.empty_like(samples)
    ends[..., :n_least] = np.sort(least, axis=-1)[..., :n_least]
    ends[..., -n_greatest:] = np.sort(greatest, axis=-1)[..., -n_greatest:]
    return ends


def student_interval(values: npt.ArrayLike) -> tuple[float, float, float]:
    """Return the mean of values and its Student's t interval; the ends are NaN if all values are equal."""
    values = np.asarray(values, np.float64)
    n, mean = len(values), float(values.mean())
    error = float(values.std(ddof=1)) / np.sqrt(n) if n > 1 else 0.0
    if not error > 0:
        return mean, float("nan"), float("nan")
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * error
    return mean, mean - half, mean + half


def _nan_quantiles(samples: AnyFloats, tails: Floats) -> Floats:
    ends = np.full((len(samples), 2), np.nan)
    some = ~np.isnan(samples).all(1)
    if some.any():
        ends[some] = np.nanquantile(samples[some].astype(np.float64), tails, axis=1).T
    return ends
