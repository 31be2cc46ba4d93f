"""The cells of a class, or all cells, ranked by score: what average precision and AUROC are computed from.

The distinct scores of a group's K positives divide its cells into 2 K + 1 *runs*, from the highest score
down: the cells above the first score, those tied with it, those between the first and the second score, and
so on, and the cells below the last score. A metric depends on the weight of each run and of its positives
only, and leaving out one cell changes it by the same amount for all cells of a run.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy import typing as npt

from manyhot.core.answered_cells import comparable, scores_of
from manyhot.core.array_types import AnyFloats, Floats, Ints
from manyhot.core.estimates import Weights
from manyhot.core.ranked_positives import ROWS, RankedPositives, class_columns
from manyhot.core.sets import Case

_ROUNDING = 1e-12
"""Share of the weight of a group that is taken for a rounding error."""


@dataclass(frozen=True)
class RankingCurve:
    """The weights of a group's cells by run, in descending order of scores.

    Attributes
    ----------
    weight : ndarray of float64, shape (2 K + 1,)
        The total weight of the cells in each run. Runs 1, 3, 5, … are the cells tied with a positive.
    gain : ndarray of float64, shape (K,)
        The weight of the positives at each distinct score.
    """

    weight: Floats
    gain: Floats

    @cached_property
    def hits(self) -> Floats:
        """The weight of the positives at or above each distinct score, shape (K,)."""
        return np.cumsum(self.gain)

    @cached_property
    def depth(self) -> Floats:
        """The weight of all cells at or above each distinct score, shape (K,)."""
        return np.cumsum(self.weight)[1::2]

    @property
    def positives(self) -> float:
        """The weight of all positives."""
        return float(self.gain.sum())

    @cached_property
    def others(self) -> Floats:
        """The weight of the negatives of each run, shape (2 K + 1,)."""
        others = self.weight.copy()
        others[1::2] -= self.gain
        # What rounding leaves of fractional weights is not a negative.
        others[others < _ROUNDING * self.weight.sum()] = 0
        return others

    @property
    def negatives(self) -> float:
        """The weight of all negatives."""
        return float(self.others.sum())


@dataclass(frozen=True)
class CellChanges:
    """The changes of a group's value if one cell is left out.

    Attributes
    ----------
    negative : ndarray of float64, shape (2 K + 1,)
        The change for a negative of each run.
    positive : ndarray of float64, shape (K,)
        The change for a positive at each distinct score.
    """

    negative: Floats
    positive: Floats


class RankedCells(Protocol):
    """The ranked cells of one or several groups."""

    def curves(self, weights: Weights | None) -> list[RankingCurve]:
        """Return the curve of each group under weights of the images."""

    def sum_by_image(self, changes: Sequence[CellChanges]) -> Floats:
        """Return the sum of the changes over the cells of each image, shape (n,)."""


def rank_cells(case: Case, positives: RankedPositives) -> RankedCells:
    """Rank the cells of the groups of `positives`, which are classes or all cells."""
    if positives.asked is not None:
        return Walks(len(case.labels), None, [*_walks_asked(positives)])
    if positives.by == "all":
        return _rank_all(case, positives)
    return Walks(len(case.labels), positives.cells > 0, [*_walks_in_class(case, positives)])


@dataclass(frozen=True)
class Walk:
    """The cells of a group in descending order of scores.

    Attributes
    ----------
    images : ndarray of uint16 or larger, shape (cells,)
        The image of each cell.
    lengths : ndarray of int, shape (2 K + 1,)
        The number of cells in each run.
    positive_images, place : ndarray of int, shape (m,)
        The image of each positive, and the position of its score among the distinct scores, from 0.
    """

    images: Ints
    lengths: Ints
    positive_images: Ints
    place: Ints

    def sums(self, w: Floats) -> Floats:
        """Return the weight of each run."""
        sums = np.zeros(len(self.lengths))
        filled = self.lengths > 0
        # Sums over runs take a third of the time of a running sum over all cells.
        starts = (np.cumsum(self.lengths) - self.lengths)[filled]
        sums[filled] = np.add.reduceat(w.take(self.images), starts)
        return sums


@dataclass(frozen=True)
class Walks:
    """The ranked cells of several groups, such as classes.

    Attributes
    ----------
    n : int
        Number of images.
    others : ndarray of bool, shape (n,), or None
        The images with a cell in every group. Most of their cells are in the last run and are not listed.
        None if all cells are listed.
    walks : list of Walk
    """

    n: int
    others: npt.NDArray[np.bool_] | None
    walks: list[Walk]

    def curves(self, weights: Weights | None) -> list[RankingCurve]:
        """Return the curve of each group under weights of the images."""
        w = np.ones(self.n) if weights is None else np.asarray(weights, np.float64)
        every = 0.0 if self.others is None else float(w[self.others].sum())
        return [self._curve(walk, w, every) for walk in self.walks]

    def _curve(self, walk: Walk, w: Floats, every: float) -> RankingCurve:
        weight = walk.sums(w)
        if self.others is not None:
            weight[-1] = max(every - weight.sum(), 0.0)
        return RankingCurve(weight, _gain(walk.place, w.take(walk.positive_images), len(weight) // 2))

    def sum_by_image(self, changes: Sequence[CellChanges]) -> Floats:
        """Return the sum of the changes over the cells of each image, shape (n,)."""
        total, of_others = np.zeros(self.n), 0.0
        for walk, change in zip(self.walks, changes, strict=True):
            by_run = change.negative
            if self.others is not None:  # all cells change by that of the last run, and listed cells by more
                of_others += by_run[-1]
                by_run = by_run - by_run[-1]
            np.add.at(total, walk.images.astype(np.intp), np.repeat(by_run, walk.lengths))
            np.add.at(total, walk.positive_images, (change.positive - change.negative[1::2])[walk.place])
        return total if self.others is None else total + of_others * self.others


@dataclass(frozen=True)
class Places:
    """All cells of usable images in one ranking.

    Attributes
    ----------
    run : ndarray of uint16 or larger, shape (n, C)
        The run of each cell.
    usable : ndarray of bool, shape (n,)
    n_runs : int
    positive_images, place : ndarray of int, shape (m,)
        As in `Walk`.
    """

    run: Ints
    usable: npt.NDArray[np.bool_]
    n_runs: int
    positive_images: Ints
    place: Ints

    def curves(self, weights: Weights | None) -> list[RankingCurve]:
        """Return the only curve under weights of the images."""
        w = np.ones(len(self.run)) if weights is None else np.asarray(weights, np.float64)
        w = np.where(self.usable, w, 0.0)
        weight = np.zeros(self.n_runs)
        for start, block in self._blocks():
            repeated = np.repeat(w[start : start + len(block)], block.shape[1])
            weight += np.bincount(block.ravel(), repeated, minlength=self.n_runs)
        return [RankingCurve(weight, _gain(self.place, w.take(self.positive_images), self.n_runs // 2))]

    def sum_by_image(self, changes: Sequence[CellChanges]) -> Floats:
        """Return the sum of the changes over the cells of each image, shape (n,)."""
        (change,) = changes
        total = np.concatenate([change.negative.take(block).sum(axis=1) for _, block in self._blocks()])
        np.add.at(total, self.positive_images, (change.positive - change.negative[1::2])[self.place])
        return total * self.usable

    def _blocks(self) -> Iterator[tuple[int, Ints]]:
        for start in range(0, len(self.run), ROWS):
            yield start, self.run[start : start + ROWS]


def _gain(place: Ints, weights: Floats, n_places: int) -> Floats:
    return np.asarray(np.bincount(place, weights, minlength=n_places), np.float64)


def _parts(group: Ints) -> list[slice]:
    edges = np.append(np.flatnonzero(np.append(True, group[1:] != group[:-1])), len(group))
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def _walk(images: Ints, score: AnyFloats, positive_images: Ints, positive_score: AnyFloats) -> Walk:
    """Return the walk through cells in descending order of scores, and the same for the positives."""
    place = np.cumsum(np.append(False, positive_score[1:] != positive_score[:-1]))
    distinct = positive_score[np.append(True, positive_score[1:] != positive_score[:-1])]
    ascending = score[::-1]
    edges = np.empty(2 * len(distinct) + 2, np.intp)
    edges[0], edges[-1] = 0, len(images)
    edges[1:-1:2] = len(images) - np.searchsorted(ascending, distinct, side="right")
    edges[2:-1:2] = len(images) - np.searchsorted(ascending, distinct, side="left")
    return Walk(images, np.diff(edges), positive_images, place)


def _walks_asked(positives: RankedPositives) -> Iterator[Walk]:
    assert positives.asked is not None  # for the type checker
    group, image, score = positives.asked
    for part in _parts(positives.group):
        start, stop = np.searchsorted(group, positives.group[part.start] + np.arange(2))
        yield _walk(image[start:stop], score[start:stop], positives.image[part], positives.score[part])


def _walks_in_class(case: Case, positives: RankedPositives) -> Iterator[Walk]:
    small, halves = np.min_scalar_type(len(case.labels) - 1), scores_of(case).dtype == np.float16
    for part, column in class_columns(case, positives.group):
        images = np.flatnonzero((column >= positives.score[part][-1]) & case.labels.usable)
        score = column[images]
        best_first = _ascending(score, halves=halves)[::-1]
        yield _walk(
            images[best_first].astype(small), score[best_first], positives.image[part], positives.score[part]
        )


def _ascending(score: AnyFloats, *, halves: bool) -> Ints:
    """Return the order of scores; those of float16 are sorted as integers, in a fifth of the time."""
    if not halves:
        return np.argsort(score)
    bits = (score.astype(np.float16) + np.float16(0)).view(np.int16)  # -0 becomes 0
    return np.argsort(np.where(bits < 0, bits ^ np.int16(0x7FFF), bits), kind="stable")


_BINS, _BINS_PER_EDGE = 2**20, 256
"""Maximum number of bins of an `EdgeTable`, whose 4 MB of counts stay in the cache, and bins per edge: with
few edges, a million bins take 10 ms to count and save no searches."""


@dataclass(frozen=True)
class EdgeTable:
    """Ascending edges, with the number of edges below each bin of scores.

    Bins of equal width in the score, or in its bits, are monotone in the score. Cells in a bin without an
    edge therefore need no search, and a look-up takes a sixth of the time of a binary search.

    Attributes
    ----------
    edges : ndarray of float, shape (E,)
    by_bits : bool
        Whether bins have equal width in the bits of float32, which suits probabilities, instead of in the
        score.
    lowest, scale : float
        The bin of a score is its distance to the lowest edge, multiplied by the scale.
    table : ndarray of int32, shape (n_bins,)
        Twice the number of edges in lower bins, plus 1 if the bin has edges.
    """

    edges: AnyFloats
    by_bits: bool
    lowest: float
    scale: float
    table: npt.NDArray[np.int32]

    @property
    def n_bins(self) -> int:
        """The number of bins."""
        return min(_BINS, _BINS_PER_EDGE * max(len(self.edges), 1))

    @classmethod
    def of(cls, edges: AnyFloats) -> EdgeTable:
        """Return the table on the scale on which the edges are more evenly spread."""
        scales = (False, True) if edges.dtype == np.float32 else (False,)
        made = [cls._on(edges, by_bits) for by_bits in scales]
        return max(made, key=lambda table: int(np.count_nonzero(table.table & 1)))

    @classmethod
    def _on(cls, edges: AnyFloats, by_bits: bool) -> EdgeTable:
        finite = _spread(edges[np.isfinite(edges)], by_bits)
        lowest, highest = (float(finite[0]), float(finite[-1])) if len(finite) else (0.0, 0.0)
        with np.errstate(over="ignore"):
            width = highest - lowest
        table = cls(edges, by_bits, lowest, 0.0, np.empty(0, np.int32))
        scale = (table.n_bins - 1) / width if 0 < width < np.inf else 0.0
        table = replace(table, scale=scale if scale < np.inf else 0.0)
        counts = np.bincount(table._bins(edges), minlength=table.n_bins)
        below = np.cumsum(counts) - counts
        return replace(table, table=(2 * below + (counts > 0)).astype(np.int32))

    def _bins(self, scores: AnyFloats) -> Ints:
        # In float64, the distance of two float32 neither overflows nor merges different scores' order.
        with np.errstate(over="ignore", invalid="ignore"):
            place = _spread(scores, self.by_bits) - np.float64(self.lowest)
            place *= self.scale
        # Infinity times a scale of 0 is undefined: then, all cells are in the first bin.
        if not self.scale:
            return np.zeros(scores.shape, np.int32)
        return np.clip(place, 0, self.n_bins - 1, out=place).astype(np.int32)

    def n_at_or_below(self, scores: AnyFloats) -> Ints:
        """Return how many edges are at or below each score, as ``np.searchsorted`` with ``side="right"``."""
        found = self.table.take(self._bins(scores))
        among = (found & 1).astype(bool)
        found >>= 1
        found[among] = np.searchsorted(self.edges, scores[among], side="right")
        return found


def _spread(scores: AnyFloats, by_bits: bool) -> Floats:
    """Return a monotone function of scores: themselves, or the place among all numbers of float32."""
    if not by_bits:
        return scores.astype(np.float64)
    bits = (scores + np.float32(0)).view(np.int32)  # the two zeros are equal
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.float64)


def _rank_all(case: Case, positives: RankedPositives) -> Places:
    """Find the run of each cell, by a search among the distinct scores and what follows each of them."""
    scores = scores_of(case)
    distinct, place = np.unique(positives.score, return_inverse=True)
    finite = distinct[distinct < np.inf]
    # Runs are counted from the lowest here; nothing follows an infinite score.
    edges = np.stack([finite, np.nextafter(finite, np.inf, dtype=finite.dtype)], axis=1).ravel()
    edges = np.append(edges, distinct[len(finite) :])
    n_runs = 2 * len(distinct) + 1
    run, places = np.empty(scores.shape, np.min_scalar_type(n_runs - 1)), EdgeTable.of(edges)
    for start in range(0, len(scores), ROWS):
        block = places.n_at_or_below(comparable(scores[start : start + ROWS]))
        run[start : start + ROWS] = n_runs - 1 - block
    return Places(run, positives.cells > 0, n_runs, positives.image, len(distinct) - 1 - place)
