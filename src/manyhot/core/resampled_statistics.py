"""What is computed from resamples of images: ratios of sums, and means over strata of such ratios.

Each statistic is filled block by block of resamples. Values of many images are read in blocks of images, too,
so that no matrix of all images, metrics and models has to be in memory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Bools, Floats32, Ints
from manyhot.core.cells import Cells
from manyhot.core.distinct_values import Coded

Counts = npt.NDArray[np.uint8]
"""How often each image was drawn, with images as rows: those of some images are read as they are stored."""

_IMAGES = 65_536
"""Images per block of a product: 32 MB of the counts of 125 resamples in float32."""

_KEPT = 100_000_000
"""Bytes of values up to which they are sorted only once, not for each block of resamples."""


class Statistic(Protocol):
    """A statistic under resamples."""

    def fill(self, rows: slice, counts: Counts) -> None:
        """Compute the statistic under some of the resamples; `counts` has shape (n, resamples)."""


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


@dataclass(frozen=True, eq=False)
class Ratios:
    """Ratios of sums of some images within slices; see `manyhot.core.resampling.Bootstrap.ratios`.

    Attributes
    ----------
    images : ndarray of int, shape (i,)
        The images by cell.
    edges, member
        As those of `Cells`.
    num, den
        The values of `images`, in the same order.
    den_of : ndarray of int, shape (m,)
    samples : ndarray of float32, shape (S, R, m)
    """

    images: Ints
    edges: Ints
    member: Floats32
    num: _Sorted
    den: _Sorted
    den_of: npt.NDArray[np.intp]
    samples: Floats32

    @classmethod
    def of(
        cls,
        cells: Cells,
        resamples: int,
        num: ValueMatrix,
        den: ValueMatrix,
        den_of: npt.NDArray[np.intp],
        images: Ints | None = None,
    ) -> Ratios:
        """Return the statistic before it is filled; `images` are the images of the cells, by default all."""
        images = cells.order if images is None else images[cells.order]
        values = _Sorted(num, images), _Sorted(den, images)
        samples = np.empty((len(cells.member), resamples, values[0].width), np.float32)
        return cls(images, cells.edges, cells.member.astype(np.float32), *values, den_of, samples)

    def fill(self, rows: slice, counts: Counts) -> None:
        """Compute the ratios under some of the resamples."""
        self.samples[:, rows] = self.under(counts)

    def under(self, counts: Counts) -> Floats32:
        """Return the ratios under resamples, shape (S, resamples, m)."""
        num, den = self._sums(counts)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.divide(num, den[:, :, self.den_of], out=num)

    def _sums(self, counts: Counts) -> list[Floats32]:
        """Return the sums of numerators and denominators within each slice, shape (S, resamples, ·)."""
        values, shape = (self.num, self.den), (len(self.edges) - 1, counts.shape[1])
        by_cell = [np.zeros((*shape, v.width), np.float32) for v in values]
        for k, (start, stop) in enumerate(pairwise(self.edges)):
            for block in _blocks(start, stop):
                drawn = counts[self.images[block]].T.astype(np.float32)
                for sums, v in zip(by_cell, values, strict=True):
                    sums[k] += drawn @ v[block]
        return [np.tensordot(self.member, sums, axes=1) for sums in by_cell]


@dataclass(frozen=True, eq=False)
class MeansOverFewStrata:
    """Means over few strata; see `manyhot.core.resampling.Bootstrap.means_over_few_strata`."""

    strata: list[Ratios]
    samples: Floats32
    slices: Ints

    @classmethod
    def of(
        cls,
        masks: Bools,
        resamples: int,
        num: ValueMatrix,
        den: ValueMatrix,
        den_of: npt.NDArray[np.intp],
        stratum: Ints,
        slices: Collection[int] | None = None,
    ) -> MeansOverFewStrata:
        """Return the statistic before it is filled, for all slices or for some of them."""
        strata = []
        for value in np.unique(stratum):
            images = np.flatnonzero(stratum == value)
            cells = Cells.of(masks[:, images])
            strata.append(Ratios.of(cells, 0, num, den, den_of, images))
        samples = np.full((len(masks), resamples, len(_columns(num))), np.nan, np.float32)
        return cls(strata, samples, np.arange(len(masks)) if slices is None else np.array([*slices], int))

    def fill(self, rows: slice, counts: Counts) -> None:
        """Compute the means under some of the resamples."""
        shape = (len(self.slices), counts.shape[1], self.samples.shape[2])
        total, filled = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
        for stratum in self.strata:
            ratios = stratum.under(counts)[self.slices]
            defined = ~np.isnan(ratios)
            filled += defined
            np.add(total, ratios, out=total, where=defined)
        with np.errstate(invalid="ignore"):
            self.samples[self.slices, rows] = np.divide(total, filled, out=total)


@dataclass(frozen=True, eq=False)
class MeansOverStrata:
    """Means over many strata; see `manyhot.core.resampling.Bootstrap.means_over_strata`.

    Images are sorted by stratum and, within it, by cell; a group is a cell of a stratum.

    Attributes
    ----------
    order : ndarray of int, shape (n,)
    den : ndarray of float32, shape (n,)
        The denominators in this order.
    groups : list of sparse matrices of float32, shape (G, b)
        1 if an image is in a group, for each block of images.
    parts : list of _Part
    samples : ndarray of float32, shape (S, R, m)
    """

    order: Ints
    den: Floats32
    groups: list[Any]
    parts: list[_Part]
    samples: Floats32

    @classmethod
    def of(
        cls,
        masks: Bools,
        cells: Cells,
        resamples: int,
        num: ValueMatrix,
        den: npt.NDArray[Any],
        stratum: Ints,
        slices: Collection[int] | None = None,
    ) -> MeansOverStrata:
        """Return the statistic before it is filled, for all slices or for some of them."""
        order = np.lexsort((cells.cell, stratum))
        key = stratum[order].astype(np.int64) * cells.member.shape[1] + cells.cell[order]
        _, edges, group = np.unique(key, return_index=True, return_inverse=True)
        _, dense = np.unique(stratum[order], return_inverse=True)
        member = cells.member[:, cells.cell[order][edges]] > 0
        groups = [_membership(group[block], len(edges)) for block in _blocks(0, len(order))]
        parts = []
        for s in range(len(masks)) if slices is None else slices:
            images = np.flatnonzero(masks[s][order])
            if len(images):
                strata = _membership(dense[edges], int(dense.max(initial=-1)) + 1, member[s])
                values = _Sorted(num, order[images])
                parts.append(_Part(s, order[images], dense[images], strata, values))
        samples = np.full((len(masks), resamples, len(_columns(num))), np.nan, np.float32)
        return cls(order, den[order].astype(np.float32), groups, parts, samples)

    def fill(self, rows: slice, counts: Counts) -> None:
        """Compute the means under some of the resamples."""
        blocks = zip(self.groups, _blocks(0, len(self.order)), strict=True)
        sums = sum(g @ (counts[self.order[b]] * self.den[b, None]) for g, b in blocks)
        for part in self.parts:
            self.samples[part.slice, rows] = part.means(counts, np.asarray(sums))


@dataclass(frozen=True, eq=False)
class _Part:
    """A slice of images sorted by stratum: the images, their strata, and the matrix that sums groups."""

    slice: int
    images: Ints
    stratum: Ints
    strata: Any
    num: _Sorted

    def means(self, counts: Counts, sums: Floats32) -> Floats32:
        """Return means over strata, shape (resamples, m), from the sums of denominators by group."""
        den = self.strata @ sums
        filled = den > 0
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = (np.where(filled, 1 / den, 0) / np.count_nonzero(filled, axis=0)).astype(np.float32)
        means = np.zeros((counts.shape[1], self.num.width), np.float32)
        for block in _blocks(0, len(self.images)):
            shares = scale[self.stratum[block]]
            shares *= counts[self.images[block]]
            means += shares.T @ self.num[block]
        return means


def _membership(part: Ints, n: int, inside: Bools | None = None) -> Any:
    """Return a sparse matrix that sums the elements of each of n parts, restricted to `inside`."""
    from scipy.sparse import csr_array

    ones = np.ones(len(part), np.float32) if inside is None else inside.astype(np.float32)
    return csr_array((ones, (part.ravel(), np.arange(len(part)))), shape=(n, len(part)))
