"""The cells, (image, class) pairs, of a class or all classes, ranked by score: for AP and AUROC.

The distinct scores of a group's K positives divide its cells into 2 K + 1 *runs*, from the highest score
down: the cells above the first score, those tied with it, those between the first and the second score, and
so on, and the cells below the last score. A metric depends on the weight of each run and of its positives
only, and leaving out one cell changes it by the same amount for all cells of a run.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from manyhot.core.array_types import AnyFloats, Bools, Floats, Ints, Ints32
from manyhot.core.estimates import Weights
from manyhot.core.ranked_positives import ROWS, RankedPositives, class_columns, comparable, scores_of
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


def rank_cells(case: Case, positives: RankedPositives) -> RankedCells:
    """Rank the cells of the groups of `positives`, which are classes or all cells."""
    if positives.asked is not None:
        return Walks(len(case.labels), [*_walks_asked(positives)])
    if positives.by == "all":
        return _rank_all(case, positives)
    return CellsByClass(positives.cells > 0, [*_runs_of_classes(case, positives)])


@dataclass(frozen=True)
class Walk:
    """The cells of a group in descending order of scores.

    Attributes
    ----------
    images : ndarray of int, shape (cells,)
        The image of each cell.
    lengths : ndarray of int, shape (2 K + 1,)
        The number of cells in each run.
    positive_images, place : ndarray of int, shape (m,)
        The image of each positive, and the position of its score among the distinct scores, counted from 0.
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
    """The ranked cells of several groups, such as classes. Each group may cover different images.

    Attributes
    ----------
    n : int
        Number of images.
    """

    n: int
    walks: list[Walk]

    def curves(self, weights: Weights | None) -> list[RankingCurve]:
        """Return the curve of each group under weights of the images."""
        w = np.ones(self.n) if weights is None else np.asarray(weights, np.float64)
        return [
            RankingCurve(
                weight := walk.sums(w), _gain(walk.place, w.take(walk.positive_images), len(weight) // 2)
            )
            for walk in self.walks
        ]

    def sum_by_image(self, changes: Sequence[CellChanges]) -> Floats:
        """Return the sum of the changes over the cells of each image, shape (n,)."""
        total = np.zeros(self.n)
        for walk, change in zip(self.walks, changes, strict=True):
            np.add.at(total, walk.images.astype(np.intp), np.repeat(change.negative, walk.lengths))
            np.add.at(total, walk.positive_images, (change.positive - change.negative[1::2])[walk.place])
        return total


@dataclass(frozen=True)
class ClassRuns:
    """The cells of a class, one for each image.

    Attributes
    ----------
    run : ndarray of uint8 or larger, shape (n,)
        The run of the cell of each image; the last run for images that are not usable.
    positive_images, place : ndarray of int, shape (m,)
        As in `Walk`.
    """

    run: Ints
    n_runs: int
    positive_images: Ints
    place: Ints


@dataclass(frozen=True)
class CellsByClass:
    """All cells of usable images, ranked within each class.

    Attributes
    ----------
    usable : ndarray of bool, shape (n,)
    """

    usable: Bools
    classes: list[ClassRuns]

    def curves(self, weights: Weights | None) -> list[RankingCurve]:
        """Return the curve of each class under weights of the images."""
        w = self.usable.astype(np.float64)
        if weights is not None:
            w *= np.asarray(weights, np.float64)
        # Images with a weight of 0 are left out, and those with a weight of 1 are counted.
        images, is_counted = np.flatnonzero(w), weights is None or np.asarray(weights).dtype == bool
        of_images = None if is_counted else w[images]
        return [self._curve(one, images, of_images, w) for one in self.classes]

    @staticmethod
    def _curve(one: ClassRuns, images: Ints, of_images: Floats | None, w: Floats) -> RankingCurve:
        run = one.run if len(images) == len(one.run) else one.run.take(images)
        weight = np.bincount(run, of_images, minlength=one.n_runs).astype(np.float64)
        return RankingCurve(weight, _gain(one.place, w.take(one.positive_images), one.n_runs // 2))

    def sum_by_image(self, changes: Sequence[CellChanges]) -> Floats:
        """Return the sum of the changes over the cells of each image, shape (n,)."""
        total, of_last = np.zeros(len(self.usable)), 0.0
        for one, change in zip(self.classes, changes, strict=True):
            # Most cells are in the last run: all change by that of the last run, and the others by more.
            last = change.negative[-1]
            of_last += last
            total += (change.negative - last).take(one.run)
            np.add.at(total, one.positive_images, (change.positive - change.negative[1::2])[one.place])
        return total + of_last * self.usable


def each_class(cells: RankedCells) -> Iterator[tuple[RankedCells, Bools]]:
    """Yield the ranked cells of one class at a time, and which images have such a cell, shape (n,)."""
    if isinstance(cells, CellsByClass):
        yield from ((replace(cells, classes=[one]), cells.usable) for one in cells.classes)
    elif isinstance(cells, Walks):
        for walk in cells.walks:
            yield replace(cells, walks=[walk]), np.bincount(walk.images, minlength=cells.n) > 0


@dataclass(frozen=True)
class Places:
    """All cells of usable images in one ranking.

    Attributes
    ----------
    run : ndarray of uint16 or larger, shape (n, C)
        The run of each cell.
    usable : ndarray of bool, shape (n,)
    positive_images, place : ndarray of int, shape (m,)
        As in `Walk`.
    """

    run: Ints
    usable: Bools
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


RankedCells = Walks | CellsByClass | Places
"""The ranked cells of one or several groups."""


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


def _runs_of_classes(case: Case, positives: RankedPositives) -> Iterator[ClassRuns]:
    """Yield the runs of each class with positives. A byte is enough for the runs of 127 distinct scores."""
    scores = scores_of(case)
    halves = scores.dtype == np.float16
    columns = class_columns(case, positives.group, scores.view(np.uint16) if halves else scores)
    for part, column in columns:
        score = positives.score[part]
        new = np.append(True, score[1:] != score[:-1])
        distinct, n_runs = score[new][::-1], 2 * int(np.count_nonzero(new)) + 1
        small = np.min_scalar_type(n_runs - 1)
        find = _runs_of_halves if halves else _runs_of_scores
        run = find(column, distinct, small)
        run[~case.labels.usable] = n_runs - 1
        yield ClassRuns(run, n_runs, positives.image[part], np.cumsum(new) - 1)


def _runs_of_scores(scores: AnyFloats, distinct: AnyFloats, dtype: np.dtype[Any]) -> Ints:
    """Return the run of each score, given the distinct scores of the positives in ascending order."""
    last = 2 * len(distinct)
    run = np.full(len(scores), last, dtype)
    # Cells below the lowest positive need no search: with informative scores, three quarters.
    above = np.flatnonzero(scores >= distinct[0])
    run[above] = last - np.searchsorted(_with_next(distinct), scores[above], side="right")
    return run


def _with_next(distinct: AnyFloats) -> AnyFloats:
    """Return ascending scores, each with what follows it; nothing follows an infinite score."""
    finite = distinct[distinct < np.inf]
    edges = np.stack([finite, np.nextafter(finite, np.inf, dtype=finite.dtype)], axis=1).ravel()
    return np.append(edges, distinct[len(finite) :])


def _runs_of_halves(bits: Ints, distinct: AnyFloats, dtype: np.dtype[Any]) -> Ints:
    """Return the run of each score of 16 bits from a table of all their runs, in a tenth of the time."""
    places = _place_of_bits().take((distinct.astype(np.float16) + np.float16(0)).view(np.uint16))
    lengths = np.ones(2 * len(places) + 1, np.intp)
    lengths[::2] = np.diff(places, prepend=-1, append=2**16) - 1
    by_place = np.repeat(np.arange(len(lengths))[::-1].astype(dtype), lengths)
    return by_place.take(_place_of_bits()).take(bits)


@cache
def _place_of_bits() -> Ints:
    """Return the place of each number of 16 bits among all, shape (65536,); the two zeros are equal."""
    bits = np.arange(2**16)
    place = np.where(bits < 2**15, bits + 2**15, 2**16 - 1 - bits)
    place[2**15] = place[0]
    place[(bits & 0x7FFF) > 0x7C00] = 0  # no number
    return place


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
        Whether bins have equal width in the bits of float32, which suits probabilities, rather than in the
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
    table: Ints32

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
    n_runs = 2 * len(distinct) + 1
    # Runs are counted from the lowest here.
    run = np.empty(scores.shape, np.min_scalar_type(n_runs - 1))
    places = EdgeTable.of(_with_next(distinct))
    for start in range(0, len(scores), ROWS):
        block = places.n_at_or_below(comparable(scores[start : start + ROWS]))
        run[start : start + ROWS] = n_runs - 1 - block
    return Places(run, positives.cells > 0, n_runs, positives.image, len(distinct) - 1 - place)
