"""Counts of each class at the scores of its positives, from which thresholds and curves follow.

Positives and negatives are those of `manyhot.core.ranking`: all classes that are not in the label set of a
usable image are negatives, unless `masked` ignores unclear classes and classes that raters were not asked
about (*not asked is not no*).

Unless a false positive rate is allowed, only the scores of positives matter, because a lower threshold
between two of them only adds errors. Two counts are therefore enough for each distinct positive score of a
class and each fold: the positives and the cells with at least this score. For 50,000 × 1,000 float32 scores
with 1.3 labels per image and 5 folds, that takes 0.6 s on one core.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from manyhot.core.array_types import AnyFloats, Floats, Ints
from manyhot.core.ranked_positives import AnsweredCells, answered_cells, class_columns
from manyhot.core.sets import Case

FPR_ROUNDING = 1e-9
"""Tolerance of the allowed false positives, as a share of them."""

_DEVIATIONS, _MOST_NEAR = 6, 100
"""How far from the allowed number of false positives counts are needed, in standard deviations of this
number; and the maximum number of scores of such counts."""


@dataclass(frozen=True)
class ClassCounts:
    """Counts of a class at J distinct scores, those of its positives, highest first, in each of K folds.

    If a false positive rate is allowed, scores of other cells near its threshold are added.

    Attributes
    ----------
    score : ndarray of float, shape (J,)
    hits, depth : ndarray of int, shape (K, J)
        Number of positives, and number of cells, with at least this score.
    above : ndarray of int, shape (J,)
        Number of cells with a higher score.
    cells : ndarray of int, shape (K,)
        Number of cells, whatever their score.
    lowest : ndarray of int, shape (K + 1,), optional
        The place of the lowest score with at most the allowed false positive rate, among the cells outside of
        each fold and, last, among all cells; -1 if even the highest score has more.
    """

    score: AnyFloats
    hits: Ints
    depth: Ints
    above: Ints
    cells: Ints
    lowest: Ints | None = None

    @property
    def negatives(self) -> Ints:
        """Number of negatives in each fold, shape (K,)."""
        return self.cells - self.hits[:, -1]

    @cached_property
    def totals(self) -> tuple[Ints, Ints, Ints]:
        """Positives at each score, positives with at least this score, and cells with at least this score."""
        hits = self.hits.sum(axis=0)
        return np.diff(hits, prepend=0), hits, self.depth.sum(axis=0)

    @cached_property
    def wrong(self) -> tuple[Ints, Ints]:
        """Negatives with a higher score, and negatives with at least this score, shape (J,)."""
        equal, hits, depth = self.totals
        return self.above - (hits - equal), depth - hits

    def average_precision(self) -> float:
        """Return the sum over positives of the precision at their scores."""
        equal, hits, depth = self.totals
        return float(equal @ (hits / depth))

    def lost_pairs(self) -> float:
        """Return the number of pairs of a positive and a negative in the wrong order; a tie counts half."""
        higher, at_least = self.wrong
        return float(self.totals[0] @ (higher + at_least)) / 2


def counts_by_class(
    case: Case, answered: AnsweredCells, fold: Ints, n_folds: int, masked: bool, fpr: float | None = None
) -> Iterator[tuple[int, ClassCounts]]:
    """Yield each class with positives, and its counts; with `fpr`, the allowed rate, also `lowest`."""
    in_fold = fold[answered.image]
    order = np.lexsort((in_fold, answered.classes))
    answered, in_fold = answered[order], in_fold[order]
    positive, positive_fold = answered[answered.yes], in_fold[answered.yes]
    if masked:
        cells = _cells_asked(answered, in_fold, positive, n_folds)
    else:
        cells = _cells(case, fold, positive, n_folds)
    for part, scores, edges in cells:
        counts = _count(scores, edges, positive.score[part], positive_fold[part], fpr)
        yield int(positive.classes[part.start]), counts


_Cells = tuple[slice, AnyFloats, Ints]
"""The positives of a class as a slice, the scores of its cells by fold, and the edges of the folds."""


def _cells(case: Case, fold: Ints, positive: AnsweredCells, n_folds: int) -> Iterator[_Cells]:
    usable = np.flatnonzero(case.labels.usable)
    by_fold = usable[np.argsort(fold[usable], kind="stable")]
    edges = _edges(fold[usable], n_folds)
    for part, column in class_columns(case, positive.classes):
        yield part, column.take(by_fold), edges


def _cells_asked(
    answered: AnsweredCells, in_fold: Ints, positive: AnsweredCells, n_folds: int
) -> Iterator[_Cells]:
    for class_id in np.unique(positive.classes):
        own = _slice_of(answered.classes, class_id)
        yield _slice_of(positive.classes, class_id), answered.score[own], _edges(in_fold[own], n_folds)


def _slice_of(ascending: Ints, value: int) -> slice:
    return slice(*np.searchsorted(ascending, [value, value + 1]).tolist())


def _edges(fold: Ints, n_folds: int) -> Ints:
    return np.append(0, np.cumsum(np.bincount(fold, minlength=n_folds)))


def _count(
    scores: AnyFloats, edges: Ints, positive: AnyFloats, positive_fold: Ints, fpr: float | None
) -> ClassCounts:
    lowest, near = ([], positive[:0]) if fpr is None else _lowest(scores, edges, positive, positive_fold, fpr)
    score = np.unique(np.concatenate([positive, near, *lowest]))
    place, n_folds, n = np.searchsorted(score, positive), len(edges) - 1, len(score)
    hits = np.bincount(positive_fold * n + place, minlength=n_folds * n).reshape(n_folds, n)
    depth, above = np.empty((n_folds, n), np.int64), np.zeros(n, np.int64)
    for f in range(n_folds):
        cells = scores[edges[f] : edges[f + 1]]
        # Lower cells never count, and with informative scores they are most.
        cells = np.compress(cells >= score[0], cells)
        cells.sort()
        depth[f] = len(cells) - np.searchsorted(cells, score)
        above += len(cells) - np.searchsorted(cells, score, side="right")
    counts = (score[::-1], hits[:, ::-1].cumsum(axis=1), depth[:, ::-1], above[::-1], np.diff(edges))
    if fpr is None:
        return ClassCounts(*counts)
    places = [n - 1 - int(np.searchsorted(score, own[0])) if len(own) else -1 for own in lowest]
    return ClassCounts(*counts, lowest=np.array(places))


def _lowest(
    scores: AnyFloats, edges: Ints, positive: AnyFloats, positive_fold: Ints, fpr: float
) -> tuple[list[AnyFloats], AnyFloats]:
    """Return the lowest score with at most the false positive rate, and the scores near it among all cells.

    The lowest scores are those among the cells outside of each fold and, last, among all cells. Each is an
    array of one, or of none if even the highest score has a larger rate.
    """
    lowest = []
    for f in range(len(edges) - 1):
        rest = np.concatenate([scores[: edges[f]], scores[edges[f + 1] :]])
        others = positive[positive_fold != f]
        allowed = fpr * (len(rest) - len(others)) * (1 + FPR_ROUNDING)
        score, wrong = _false_positives(rest, others, allowed)
        lowest.append(score[wrong <= allowed][:1])
    allowed = fpr * (len(scores) - len(positive)) * (1 + FPR_ROUNDING)
    width = _DEVIATIONS * np.sqrt(allowed) + 10
    score, wrong = _false_positives(scores, positive, allowed + width)
    lowest.append(score[wrong <= allowed][:1])
    near = score[np.abs(wrong - allowed) <= width]
    return lowest, near[np.linspace(0, len(near) - 1, min(len(near), _MOST_NEAR)).astype(np.intp)]


def _false_positives(scores: AnyFloats, positive: AnyFloats, most: float) -> tuple[AnyFloats, Ints]:
    """Return the highest distinct scores, ascending, and how many negatives have at least each of them.

    They contain all scores with at most this number of negatives; the first may be one with more.
    """
    scores = scores[~np.isnan(scores)]  # of cells that nobody answered
    rest = max(len(scores) - (int(most) + len(positive) + 1), 0)
    top = np.partition(scores, rest)[rest:] if rest else scores
    score, first = np.unique(top, return_index=True)
    hits = len(positive) - np.searchsorted(np.sort(positive), score)
    return score, len(top) - first - hits


MOST_POINTS = 200
"""Maximum number of points of a curve."""


@dataclass(frozen=True)
class ClassCurve:
    """Points of a curve of one class.

    Attributes
    ----------
    x, y : ndarray of float64, shape (m,)
    threshold : ndarray of float64, shape (m,)
        The threshold at each point; NaN for points between thresholds.
    """

    x: Floats
    y: Floats
    threshold: Floats


def class_curves(
    case: Case, classes: Ints, *, masked: bool = False, most: int = MOST_POINTS
) -> Iterator[tuple[int, ClassCurve, ClassCurve]]:
    """Yield classes with positives and negatives, each with its precision-recall curve and its ROC curve.

    Parameters
    ----------
    case : Case
        A case with dense scores.
    classes : ndarray of int
        Ids of the classes.
    masked : bool
        As in `operating_points`.
    most : int
        Maximum number of points per curve. If there are more, points at equal distances along the curve are
        chosen. Each omitted point is then within (length of the curve) / (most - 1) of a chosen point.
        Distances and lengths are measured as |x| + |y|.

    Notes
    -----
    Precision-recall: each point is a distinct score of positives, with its recall as x and its precision as
    y. Precision y applies from the recall of the previous point to x, so the area under these steps is the
    average precision. The first point has a recall of 0 and the precision of the second point.

    ROC: x is the false positive rate, and y is the recall. Straight lines connect the points. Ties between
    positives and negatives therefore appear as slanted lines, and the area under the curve is the AUROC.
    """
    answered = answered_cells(case)
    masked = case.labels.leaves_out_cells(masked)
    answered = answered[np.isin(answered.classes, classes)]
    fold = np.where(case.labels.usable, 0, -1)
    for class_id, counts in counts_by_class(case, answered, fold, 1, masked):
        own = answered.classes == class_id
        n = int(own.sum()) if masked else int(case.labels.usable.sum())
        n_positives = int(answered.yes[own].sum())
        if n > n_positives:
            roc = _roc_curve(counts, n_positives, n - n_positives)
            yield class_id, _thin(_precision_recall_curve(counts, n_positives), most), _thin(roc, most)


def _precision_recall_curve(counts: ClassCounts, n_positives: int) -> ClassCurve:
    _, hits, depth = counts.totals
    precision = hits / depth
    return ClassCurve(
        np.append(0.0, hits / n_positives),
        np.append(precision[0], precision),
        np.append(np.nan, counts.score.astype(np.float64)),
    )


def _roc_curve(counts: ClassCounts, n_positives: int, n_negatives: int) -> ClassCurve:
    equal, hits, _ = counts.totals
    x = np.column_stack(counts.wrong).ravel() / n_negatives
    y = np.column_stack([hits - equal, hits]).ravel() / n_positives
    score = counts.score.astype(np.float64)
    threshold = np.column_stack([np.full(len(score), np.nan), score]).ravel()
    ends = [np.concatenate([[a], v, [b]]) for a, v, b in ((0, x, 1), (0, y, 1), (np.nan, threshold, np.nan))]
    return ClassCurve(*ends)


def _thin(curve: ClassCurve, most: int) -> ClassCurve:
    length = np.cumsum(np.abs(np.diff(curve.x, prepend=0)) + np.abs(np.diff(curve.y, prepend=curve.y[0])))
    if len(length) <= most:
        return curve
    chosen = np.unique(np.searchsorted(length, np.linspace(0, length[-1], most)))
    return ClassCurve(curve.x[chosen], curve.y[chosen], curve.threshold[chosen])
