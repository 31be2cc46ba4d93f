"""Exact nearest neighbours by cosine similarity, in blocks, without a copy of the index.

A block of the index and a block of queries are multiplied in float32. All vectors that are among the k
nearest within the rounding error are compared again in float64, with an order of summation that depends only
on the length of the vectors. The result therefore has the same bits on each run, whatever the blocks, the
threads and the matrix library.
"""

from __future__ import annotations

import itertools
import math
import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from manyhot.core.array_types import AnyFloats, Bools, Floats32, Ints, Positions
from manyhot.errors import InputError
from manyhot.parameters import check_count

CELLS_AT_ONCE = 4_000_000
"""Similarities in memory: 16 MB, with 1,000 queries and blocks of 4,000 rows, which fit the cache.

Products of smaller blocks are 10 to 20 % slower."""

NOBODY = -1
"""Row number of a missing neighbour."""

Vectors = AnyFloats
RowNumbers = npt.NDArray[np.int64]
SearchProgress = Callable[[int, int], None]

_NO_FLOOR = np.float32(-2)
"""Below all cosines."""

_APART = 32
"""Number of scattered rows of a file that are read at once."""

_PAIRS = 2**18
"""Numbers of each side per block of the comparison in float64: 2 MB."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest vectors of each query, nearest first. Ties are in row order.

    Attributes
    ----------
    rows : ndarray of int64, shape (q, k)
        Rows of the index, padded with `NOBODY` if there are fewer than k neighbours.
    similarity : ndarray of float32, shape (q, k)
        The cosine similarity, computed in float64 and rounded; NaN if there is no neighbour.
    blank_queries, blank_index : ndarray of int64
        Rows without a direction (all zeros, or not finite). They neither have neighbours nor are neighbours.
    """

    rows: RowNumbers
    similarity: Floats32
    blank_queries: RowNumbers
    blank_index: RowNumbers


def nearest(
    queries: Vectors,
    index: Vectors,
    k: int,
    *,
    own: Ints | None = None,
    cells: int = CELLS_AT_ONCE,
    progress: SearchProgress | None = None,
) -> Neighbours:
    """Find the k nearest vectors of each query; row i holds the neighbours of query i.

    Parameters
    ----------
    queries : ndarray of float16 or float32, shape (q, D)
    index : ndarray of float16 or float32, shape (n, D)
        The vectors to search. They may be memory-mapped, because they are read sequentially, once per 2,000
        queries.
    k : int
        Number of neighbours, at least 1. If the index has fewer rows, results are padded with `NOBODY`.
    own : ndarray of int, shape (q,), optional
        For each query, the row of the index that is the query itself and therefore not a neighbour; -1 if
        there is no such row.
    cells : int
        Number of similarities in memory at a time. It affects speed and memory use, but not the result.
    progress : callable, optional
        Called as ``progress(comparisons done, total comparisons)``.

    Raises
    ------
    InputError
        If shapes do not match, or if vectors do not have a floating-point type.

    Notes
    -----
    The search is exact. It returns the k largest cosine similarities, with ties in row order. Similarities
    are computed in float64 from float32 vectors and rounded to float32.
    """
    _check_vectors(queries, index, k)
    asked = np.arange(len(queries))
    search = _Search(queries, index, k, _own_rows(own, len(queries), len(index)), cells, len(queries))
    search.answer(asked, asked, np.arange(len(index)), _Comparisons(progress, len(queries) * len(index)))
    return search.neighbours()


def nearest_by_class(
    queries: Vectors,
    pairs: Ints,
    index: Vectors,
    index_class: Ints,
    k: int,
    *,
    own: Ints | None = None,
    cells: int = CELLS_AT_ONCE,
    progress: SearchProgress | None = None,
) -> Neighbours:
    """Find, for each (query, class) pair, the k nearest vectors of that class.

    A query is compared only with vectors of the classes it is paired with.

    Parameters
    ----------
    queries, index, k, own, cells, progress
        As in `nearest`.
    pairs : ndarray of int, shape (p, 2)
        A row is a query and a class.
    index_class : ndarray of int, shape (n,)
        The class of each vector of the index; -1 if unknown.

    Returns
    -------
    Neighbours
        Row i holds the neighbours of ``pairs[i]``.

    Raises
    ------
    InputError
        As in `nearest`, and if a query does not exist or a class is negative.
    """
    _check_vectors(queries, index, k)
    _check_pairs(pairs, index_class, len(queries), len(index))
    pairs = pairs.astype(np.int64)
    own = _own_rows(own, len(queries), len(index))
    search = _Search(queries, index, k, own, cells, len(pairs))
    groups = list(_groups(pairs[:, 1], index_class))
    comparisons = _Comparisons(progress, sum(len(asked) * len(rows) for asked, rows in groups))
    for asked, rows in groups:
        search.answer(asked, pairs[asked, 0], rows, comparisons)
    return search.neighbours()


def _groups(classes: Ints, index_class: Ints) -> Iterator[tuple[RowNumbers, RowNumbers]]:
    """Yield the pairs with each class, and the rows of the index with it, both ascending."""
    by_class = np.argsort(index_class, kind="stable")
    ordered, asked = index_class[by_class], np.argsort(classes, kind="stable")
    edges = np.flatnonzero(np.diff(classes[asked], prepend=-1, append=-1))
    for start, stop in itertools.pairwise(edges):
        value = classes[asked[start]]
        first, last = np.searchsorted(ordered, value, "left"), np.searchsorted(ordered, value, "right")
        yield asked[start:stop], by_class[first:last]


@dataclass
class _Comparisons:
    """The number of comparisons that are done."""

    on_progress: SearchProgress | None
    total: int
    done: int = 0

    def add(self, comparisons: int) -> None:
        self.done += comparisons
        if self.on_progress is not None:
            self.on_progress(self.done, self.total)


@dataclass
class _Search:
    """A search in one index, with its results so far.

    Attributes
    ----------
    own : ndarray of int64, shape (q,)
    n : int
        Number of results.
    """

    queries: Vectors
    index: Vectors
    k: int
    own: RowNumbers
    cells: int
    n: int
    blank_queries: list[RowNumbers] = field(default_factory=list)
    blank_index: list[RowNumbers] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = np.full((self.n, self.k), NOBODY, np.int64)
        self.similarity = np.full((self.n, self.k), np.nan, np.float32)

    def neighbours(self) -> Neighbours:
        """Return the result."""
        blank = (np.unique(np.concatenate([*b, _no_rows()])) for b in (self.blank_queries, self.blank_index))
        return Neighbours(self.rows, self.similarity, *blank)

    def answer(
        self, asked: RowNumbers, query: RowNumbers, rows: RowNumbers, comparisons: _Comparisons
    ) -> None:
        """Search `rows` of the index for neighbours of `query`; store them in rows `asked` of the result."""
        side = max(1, math.isqrt(self.cells))
        for start in range(0, len(asked), side):
            self._answer(asked[start : start + side], query[start : start + side], rows, comparisons)

    def _answer(
        self, asked: RowNumbers, query: RowNumbers, rows: RowNumbers, comparisons: _Comparisons
    ) -> None:
        raw = _gather(self.queries, query)
        unit = _as_float32(raw)
        blank = _to_directions(unit)
        self.blank_queries.append(query[blank])
        near = _Shortlist(len(raw), min(self.k, max(1, len(rows))), _margin(unit.shape[1]))
        near.floor[blank] = np.inf
        for block, scores in self._scores(unit, rows):
            own = self.own[query]
            column = np.minimum(np.searchsorted(block, own), len(block) - 1)
            here = np.flatnonzero(block[column] == own)
            scores[here, column[here]] = -np.inf
            near.add(scores, block)
            if near.is_long:
                near.settle(raw, self.index)
            comparisons.add(scores.size)
        near.settle(raw, self.index)
        at = asked[near.query], near.places()
        self.rows[at], self.similarity[at] = near.row, near.score

    def _scores(self, unit: Floats32, rows: RowNumbers) -> Iterator[tuple[RowNumbers, Floats32]]:
        """Yield rows of the index, block by block, with their rounded similarities to `unit`."""
        n, size = unit.shape
        step = max(1, min(len(rows), self.cells // max(n, size)))
        vectors, scores = np.empty((step, size), np.float32), np.empty(n * step, np.float32)
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            stored, out = vectors[: len(block)], scores[: n * len(block)].reshape(n, len(block))
            _read(self.index, block, stored)
            blank = _to_directions(stored)
            np.matmul(unit, stored.T, out=out)
            if blank.any():
                out[:, blank] = -np.inf
                self.blank_index.append(block[blank])
            yield block, out


class _Shortlist:
    """The candidates for the k nearest of each query, and the minimum score of further candidates.

    Attributes
    ----------
    floor : ndarray of float32, shape (n,)
        Minimum score of further candidates.
    query, row, score : ndarray, shape (m,)
        Candidates, by query; `score` is within `margin` of the similarity.
    """

    def __init__(self, n: int, k: int, margin: float) -> None:
        self.floor = np.full(n, _NO_FLOOR)
        self.k, self.margin, self.full = k, margin, 2 * n * k
        self.query, self.row, self.score = _no_rows(), _no_rows(), np.empty(0, np.float32)

    @property
    def is_long(self) -> bool:
        """Whether there are many more candidates than k, for example because many vectors are equal."""
        return len(self.query) > 16 * self.k * len(self.floor)

    def places(self) -> RowNumbers:
        """Return the rank (from 0) of each candidate among its query's candidates, in the current order."""
        counts = np.bincount(self.query, minlength=len(self.floor))
        return np.arange(len(self.query)) - (np.cumsum(counts) - counts)[self.query]

    def add(self, scores: Floats32, rows: RowNumbers) -> None:
        """Add the rows of a block whose scores reach the `floor` of their query, and raise the floor."""
        hit = scores >= self.floor[:, None]
        if scores.shape[1] > self.k and np.count_nonzero(hit) > 4 * self.k * len(scores):
            # At the start, all rows are hits. The k-th of a block is at most the k-th of the index.
            kth = np.partition(scores, -self.k, axis=1)[:, -self.k]
            self._raise(np.arange(len(scores)), kth)
            np.greater_equal(scores, self.floor[:, None], out=hit)
        flat = np.flatnonzero(hit)
        query, column = np.divmod(flat, scores.shape[1])
        self.query = np.concatenate([self.query, query])
        self.row = np.concatenate([self.row, rows[column]])
        self.score = np.concatenate([self.score, scores[query, column]])
        if len(self.query) > self.full:
            self._prune()

    def settle(self, queries: Vectors, index: Vectors) -> None:
        """Compare the candidates in float64, and keep the k nearest of each query, in order."""
        self._prune()
        self.score = _similarity(queries, self.query, index, self.row)
        self._order(np.lexsort((self.row, -self.score, self.query)))
        self._order(np.flatnonzero(self.places() < self.k))

    def _prune(self) -> None:
        self._order(np.lexsort((-self.score, self.query)))
        last = self.places() == self.k - 1
        self._raise(self.query[last], self.score[last])
        self._order(np.flatnonzero(self.score >= self.floor[self.query]))
        self.full = 2 * max(len(self.query), self.k * len(self.floor))

    def _raise(self, query: RowNumbers, kth: Floats32) -> None:
        # With a margin of e, k rows are at kth - e or above; a row with a score below kth - 2 e is below
        # them.
        floor = kth - np.float32(2 * self.margin)
        self.floor[query] = np.maximum(self.floor[query], floor)

    def _order(self, order: Positions) -> None:
        self.query, self.row, self.score = self.query[order], self.row[order], self.score[order]


def _no_rows() -> RowNumbers:
    return np.empty(0, np.int64)


def _margin(size: int) -> float:
    """Return the maximum error of a float32 product of two directions.

    The norm adds a relative error of D / 2 + 3 roundings to each direction, the sum of D products adds D, and
    the similarity is rounded once: 2 D + 7 units of 2^-24, whatever the order of the sum. 9 are a reserve.

    References
    ----------
    Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1.
    """
    return (2 * size + 16) * 2.0**-24


def _similarity(queries: Vectors, query: RowNumbers, index: Vectors, row: RowNumbers) -> Floats32:
    """Return the similarity of each pair, shape (m,).

    NumPy sums the rows of a matrix pairwise, in an order that depends only on their length, without fused
    products and without a matrix library.
    """
    similarity = np.empty(len(query), np.float32)
    step = max(1, _PAIRS // max(1, queries.shape[1]))
    for start in range(0, len(query), step):
        part = slice(start, start + step)
        a = _as_float32(queries[query[part]]).astype(np.float64)
        b = _as_float32(_gather(index, row[part])).astype(np.float64)
        norms = np.sqrt((a * a).sum(axis=1)) * np.sqrt((b * b).sum(axis=1))
        similarity[part] = (a * b).sum(axis=1) / norms
    return similarity


def _to_directions(vectors: Floats32) -> Bools:
    """Scale rows to norm 1 in place, and return which have no direction; these are set to zero."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", vectors, vectors)
        usual = (squares > 1e-25) & (squares < 1e30)
    blank = np.zeros(len(vectors), np.bool_)
    if not usual.all():
        # float32 overflows or underflows here, or nearly.
        strange = np.flatnonzero(~usual)
        exact = vectors[strange].astype(np.float64)
        norms = np.sqrt((exact * exact).sum(axis=1))
        bad = ~np.isfinite(norms) | (norms == 0)
        blank[strange[bad]] = True
        exact[bad], norms[bad] = 0, 1
        vectors[strange], squares[strange] = exact / norms[:, None], 1
    vectors *= (1 / np.sqrt(squares))[:, None]
    return blank


def _read(index: Vectors, rows: RowNumbers, out: Floats32) -> None:
    """Read ascending rows as float32."""
    together = rows[-1] - rows[0] == len(rows) - 1
    stored = index[rows[0] : rows[-1] + 1] if together else _gather(index, rows)
    with np.errstate(over="ignore"):
        np.copyto(out, stored, casting="same_kind")
    _forget(index)


def _gather(index: Vectors, rows: RowNumbers) -> Vectors:
    """Return copies of scattered rows."""
    if not isinstance(index, np.memmap):
        return index[rows]
    copies = np.empty((len(rows), index.shape[1]), index.dtype)
    # Reading a row may map 2 MB around it: 512 random rows of a file of 400 MB mapped 335 MB.
    for start in range(0, len(rows), _APART):
        copies[start : start + _APART] = index[rows[start : start + _APART]]
        _forget(index)
    return copies


def _as_float32(vectors: Vectors) -> Floats32:
    with np.errstate(over="ignore"):
        return vectors.astype(np.float32)


def _forget(index: Vectors) -> None:
    """Unmap the pages read from a file, which count as memory of this process while they are mapped."""
    if not isinstance(index, np.memmap) or index.mode != "r" or not hasattr(mmap, "MADV_DONTNEED"):
        return
    base: Any = index
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)


def _own_rows(own: Ints | None, n: int, n_index: int) -> RowNumbers:
    if own is None:
        return np.full(n, NOBODY, np.int64)
    if own.shape != (n,) or (n and (own.min() < NOBODY or own.max() >= n_index)):
        raise InputError(
            "The row numbers of the queries in the index are invalid.",
            got=f"shape {own.shape}" + (f", {own.min()} to {own.max()}" if own.size else ""),
            allowed=f"one number for each of {n:,} queries, from -1 to {n_index - 1}",
        )
    return own.astype(np.int64)


def _check_vectors(queries: Vectors, index: Vectors, k: int) -> None:
    for name, vectors in (("queries", queries), ("index", index)):
        if vectors.ndim != 2 or not vectors.shape[1] or not np.issubdtype(vectors.dtype, np.floating):
            raise InputError(
                f"The vectors of the {name} are not a matrix of floating-point numbers.",
                got=f"shape {vectors.shape} of {vectors.dtype}",
                allowed="one row per vector, as float16 or float32",
            )
    if queries.shape[1] != index.shape[1]:
        raise InputError(
            "The vectors of queries and index differ in length.",
            got=f"{queries.shape[1]:,} and {index.shape[1]:,}",
            allowed="vectors of the same length",
            do="take both from the same model",
        )
    check_count(k, "k must be at least 1.", allowed=None)


def _check_pairs(pairs: Ints, index_class: Ints, n: int, n_index: int) -> None:
    if index_class.shape != (n_index,):
        raise InputError(
            "The index has different numbers of classes and vectors.",
            got=f"shape {index_class.shape}",
            allowed=f"shape {(n_index,)}",
        )
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise InputError("Each row of `pairs` must contain a query and a class.", got=f"shape {pairs.shape}")
    bad = np.flatnonzero((pairs < 0).any(axis=1) | (pairs[:, 0] >= n))
    if len(bad):
        raise InputError(
            "A query does not exist or a class is negative.",
            where=f"row {bad[0]} of `pairs`",
            got=pairs[bad[0]].tolist(),
            allowed=f"queries 0 to {n - 1}, classes of at least 0",
        )
