"""What is computed from resamples of images: ratios of sums, and means over strata of such ratios.

Each statistic is filled block by block of resamples. Values of many images are read in blocks of images, too,
so that no matrix of all images, metrics and models has to be in memory.

Values of many images with few distinct values are stored as a byte each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Bools, Bytes, Floats, Floats32, Ints, Positions
from manyhot.core.cells import Cells

Counts = npt.NDArray[np.uint8]
"""How often each image was drawn, with images as rows: those of some images are read as they are stored."""

_IMAGES = 32_768
"""Images per block of a product: 16 MB of the counts of 125 resamples in float32."""

_KEPT = 100_000_000
"""Bytes of values up to which they are sorted only once, not for each block of resamples."""


Each = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""``map`` of Python or of a pool of threads: calls a function for each item, with results in order."""


class Statistic(Protocol):
    """A statistic under resamples."""

    def fill(self, rows: slice, counts: Counts, each: Each = map) -> None:
        """Compute the statistic for a batch of resamples; `counts` has shape (n, resamples in the batch)."""


@dataclass(frozen=True, eq=False)
class ValueColumns:
    """Values of n images, with an array for each of m metrics and models.

    Attributes
    ----------
    arrays : sequence of ndarray, shape (n,), or Coded
    """

    arrays: Sequence[npt.NDArray[Any] | Coded]


ValueMatrix = Floats32 | ValueColumns
"""Values of n images for m metrics and models, shape (n, m)."""


class _Sorted:
    """Values of some images in their order, which become blocks of float32."""

    def __init__(self, values: ValueMatrix, images: Ints) -> None:
        columns = _columns(values)
        self.width = len(columns)
        # Flags and codes take a byte each, so that the values of 60 models and 50,000 images are sorted once.
        small = len(images) * sum(column.itemsize for column in columns) <= _KEPT
        self._columns = [column.take(images) for column in columns] if small else columns
        self._images = None if small else images

    def __getitem__(self, block: slice) -> Floats32:
        """Return the values of a block of the images, shape (b, m)."""
        # A row is a metric and model: its values are written one after another.
        images = None if self._images is None else self._images[block]
        values = np.empty((self.width, block.stop - block.start), np.float32)
        for row, column in zip(values, self._columns, strict=True):
            some = column[block] if images is None else column.take(images)
            row[:] = some.values() if isinstance(some, Coded) else some
        return values.T


def _columns(values: ValueMatrix) -> Sequence[npt.NDArray[Any] | Coded]:
    return values.arrays if isinstance(values, ValueColumns) else list(values.T)


def _blocks(start: int, stop: int) -> Iterator[slice]:
    for first in range(start, stop, _IMAGES):
        yield slice(first, min(first + _IMAGES, stop))


class MeansOf(NamedTuple):
    """Ratios of some numerators and denominators, or their means over few strata.

    Attributes
    ----------
    num_of, den_of : ndarray of int, shape (m,)
        The columns of the numerators and of the denominators.
    stratum : ndarray of int, shape (n,), optional
    slices : collection of int, optional
        The slices to resample. By default, all. Values of other slices are NaN.
    """

    num_of: Positions
    den_of: Positions
    stratum: Ints | None = None
    slices: Collection[int] | None = None


@dataclass(frozen=True, eq=False)
class Ratios:
    """Ratios of sums within slices, and means over few strata of such ratios, from sums within cells.

    Numerators and denominators are multiplied with the resamples only once, even if several means need them.

    Attributes
    ----------
    images : ndarray of int, shape (n,)
        The images by cell. Cells are split by stratum.
    edges : ndarray of int, shape (K + 1,)
        As those of `Cells`.
    num, den
        The values of `images`, in the same order.
    means : list of _MeansOfCells
    """

    images: Ints
    edges: Ints
    num: _Sorted
    den: _Sorted
    means: list[_MeansOfCells]

    @classmethod
    def of(
        cls, cells: Cells, resamples: int, num: ValueMatrix, den: ValueMatrix, means_of: Sequence[MeansOf]
    ) -> Ratios:
        """Return the statistics before they are filled."""
        cell, images, edges = cells.cell, cells.order, cells.edges
        for stratum in {id(w.stratum): w.stratum for w in means_of if w.stratum is not None}.values():
            # Often, slices split the images by stratum already: then, nothing changes.
            _, cell = np.unique(cell * (int(stratum.max(initial=0)) + 1) + stratum, return_inverse=True)
            images = np.argsort(cell, kind="stable")
            edges = np.append(0, np.cumsum(np.bincount(cell)))
        first = images[edges[:-1]]
        member = cells.member[:, cells.cell[first]].astype(np.float32)
        means = [_MeansOfCells.of(one, member, first, resamples) for one in means_of]
        return cls(images, edges, _Sorted(num, images), _Sorted(den, images), means)

    def fill(self, rows: slice, counts: Counts, each: Each = map) -> None:
        """Compute the ratios under some of the resamples."""
        sums = self._sums(counts, each)
        for means in self.means:
            means.fill(rows, *sums)

    def _sums(self, counts: Counts, each: Each) -> list[Floats32]:
        """Return the sums of numerators and denominators within each cell, shape (K, resamples, ·)."""
        values, shape = (self.num, self.den), (len(self.edges) - 1, counts.shape[1])
        by_cell = [np.zeros((*shape, v.width), np.float32) for v in values]
        cells = [(k, b) for k, ends in enumerate(pairwise(self.edges)) for b in _blocks(*ends)]

        def products(cell: tuple[int, slice]) -> list[Floats32]:
            drawn = counts[self.images[cell[1]]].T.astype(np.float32)
            return [drawn @ v[cell[1]] for v in values]

        for (k, _), found in zip(cells, each(products, cells), strict=True):
            for sums, more in zip(by_cell, found, strict=True):
                sums[k] += more
        return by_cell


@dataclass(frozen=True, eq=False)
class _MeansOfCells:
    """Means over strata of ratios; `members` says which cells are in each slice and stratum, shape (G, s, K).

    Without strata, `members` has one element. `samples` has the shape (S, R, m).
    """

    means_of: MeansOf
    members: list[Floats32]
    slices: Ints
    samples: Floats32

    @classmethod
    def of(cls, means_of: MeansOf, member: Floats32, first: Ints, resamples: int) -> _MeansOfCells:
        """Return the means before they are filled; `first` is an image of each cell."""
        slices = np.arange(len(member)) if means_of.slices is None else np.array([*means_of.slices], int)
        members = [member[slices]]
        if means_of.stratum is not None:
            stratum = means_of.stratum[first]
            members = [member[slices] * (stratum == value) for value in np.unique(stratum)]
        samples = np.full((len(member), resamples, len(means_of.num_of)), np.nan, np.float32)
        return cls(means_of, members, slices, samples)

    def fill(self, rows: slice, num: Floats32, den: Floats32) -> None:
        """Compute the means under some of the resamples, from sums within cells."""
        if not np.array_equal(self.means_of.num_of, np.arange(num.shape[2])):
            num = num[:, :, self.means_of.num_of]
        if len(self.members) == 1:
            self.samples[self.slices, rows] = self._ratios(self.members[0], num, den)
            return
        shape = (len(self.slices), *num.shape[1:])
        total, filled = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
        for member in self.members:
            ratios = self._ratios(member, num, den)
            defined = ~np.isnan(ratios)
            filled += defined
            np.add(total, ratios, out=total, where=defined)
        with np.errstate(invalid="ignore"):
            self.samples[self.slices, rows] = np.divide(total, filled, out=total)

    def _ratios(self, member: Floats32, num: Floats32, den: Floats32) -> Floats32:
        """Return the ratios of a stratum in each slice; NaN if no image counts."""
        sums, weights = np.tensordot(member, num, axes=1), np.tensordot(member, den, axes=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.divide(sums, weights[:, :, self.means_of.den_of], out=sums)


@dataclass(frozen=True, eq=False)
class MeansOverStrata:
    """Resampled means over many strata of ratios of sums, whose numerators share a denominator.

    Images are drawn from all images, and the metric is applied to the resample. Strata without drawn images
    are left out, as in `Ratio.value`. Resampling within strata would give the same interval for large strata:
    with 50 images per class, the variance differs by 2 %. For a slice with one image per class, it would give
    no interval.

    Attributes
    ----------
    parts : list of _Part
    samples : ndarray of float32, shape (S, R, m)
    """

    parts: list[_Part]
    samples: Floats32

    @classmethod
    def of(
        cls,
        masks: Bools,
        resamples: int,
        num: ValueMatrix,
        den: npt.NDArray[Any],
        stratum: Ints,
        slices: Collection[int] | None = None,
    ) -> MeansOverStrata:
        """Return the statistic before it is filled, for all slices or for some of them."""
        columns, order = _columns(num), np.argsort(stratum, kind="stable")
        samples = np.full((len(masks), resamples, len(columns)), np.nan, np.float32)
        parts = []
        for s in range(len(masks)) if slices is None else slices:
            images = order[masks[s][order]]
            if len(images):
                edges = np.flatnonzero(np.diff(stratum[images], prepend=-1, append=-1))
                parts.append(_Part(s, images, edges, _Sorted(ValueColumns([*columns, den]), images)))
        return cls(parts, samples)

    def fill(self, rows: slice, counts: Counts, each: Each = map) -> None:
        """Compute the means under some of the resamples."""
        for part in self.parts:
            self.samples[part.place, rows] = part.means(counts, each)


@dataclass(frozen=True, eq=False)
class _Part:
    """A slice of images sorted by stratum; stratum k is ``images[edges[k]:edges[k + 1]]``.

    The last of `values` are the denominators.
    """

    place: int
    images: Ints
    edges: Ints
    values: _Sorted

    def means(self, counts: Counts, each: Each) -> Floats:
        """Return means over strata, shape (resamples, m)."""
        parts = each(partial(self._sums, counts), self._strata())
        total, n_filled = (sum(part) for part in zip(*parts, strict=True))
        with np.errstate(invalid="ignore"):
            means: Floats = total / n_filled[:, None]
        return means

    def _sums(self, counts: Counts, strata: tuple[slice, list[int]]) -> tuple[Floats, Ints]:
        """Return the sums of the ratios of some strata, and the number of those in which images count."""
        block, edges = strata
        total = np.zeros((counts.shape[1], self.values.width - 1))
        n_filled = np.zeros(counts.shape[1], np.int64)
        drawn, values = counts[self.images[block]].T.astype(np.float32), self.values[block]
        for start, stop in pairwise(edges):
            sums = drawn[:, start:stop] @ values[start:stop]
            filled = sums[:, -1] > 0
            n_filled += filled
            sums[:, -1] = np.where(filled, sums[:, -1], 1)  # without images, numerators are 0
            total += sums[:, :-1] / sums[:, -1:]
        return total, n_filled

    def _strata(self) -> Iterator[tuple[slice, list[int]]]:
        """Yield blocks of whole strata, and the edges of the strata within each block."""
        first = 0
        while first < len(self.edges) - 1:
            last = max(first + 1, int(np.searchsorted(self.edges, self.edges[first] + _IMAGES, "right")) - 1)
            edges = self.edges[first : last + 1]
            yield slice(int(edges[0]), int(edges[-1])), (edges - edges[0]).tolist()
            first = last


_SAMPLE = 1000
"""Values that are sorted to find the distinct ones."""

_FEW = 256
"""Distinct values up to which they are searched for, and fit into a byte."""

_MANY = 200_000
"""Images above which values are stored as bytes."""


def distinct_values(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Ints]:
    """Return the sorted distinct values, and the position of each value among them, as ``numpy.unique`` does.

    Values of metrics are often shares with few numerators and denominators. Searching few distinct values
    takes a fifth of the time of sorting all values.
    """
    if len(values) > 4 * _SAMPLE:
        distinct = np.unique(values[:: len(values) // _SAMPLE])
        for _ in range(2):
            if len(distinct) > _FEW:
                break
            number = np.searchsorted(distinct, values)
            lacking = distinct.take(number, mode="clip") != values
            if not lacking.any():
                return distinct, number
            distinct = np.unique(np.concatenate([distinct, values[lacking][: 4 * _SAMPLE]]))
    found, inverse = np.unique(values, return_inverse=True)
    return found, inverse


@dataclass(frozen=True, eq=False)
class Coded:
    """Values of n images, of which few differ.

    Attributes
    ----------
    codes : ndarray of uint8, shape (n,)
    table : ndarray of float32, shape (256,)
        The value of each code.
    """

    codes: Bytes
    table: Floats32

    @property
    def itemsize(self) -> int:
        """Bytes per value."""
        return self.codes.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return self.codes.nbytes

    def take(self, images: Ints) -> Coded:
        """Return those of some images."""
        return Coded(self.codes.take(images), self.table)

    def __getitem__(self, images: slice) -> Coded:
        """Return those of a range of images."""
        return Coded(self.codes[images], self.table)

    def values(self) -> Floats32:
        """Return the values, shape (n,)."""
        return self.table.take(self.codes)


def compact(values: npt.NDArray[Any]) -> npt.NDArray[Any] | Coded:
    """Return flags as they are, and other values as float32, or as bytes if many values are repeated."""
    if values.dtype == bool:
        return values
    if len(values) > _MANY:
        distinct, number = distinct_values(values)
        if len(distinct) <= _FEW:
            table = np.zeros(_FEW, np.float32)
            table[: len(distinct)] = distinct
            return Coded(number.astype(np.uint8), table)
    return values.astype(np.float32)
