"""Operating points: a threshold for each class, chosen by cross-fitting, and precision-recall and ROC curves.

A class is predicted on an image if its score is at least the threshold of the class. A threshold that is
evaluated on the images on which it was chosen flatters the model, most of all for rare classes. Therefore
images are split into folds, the threshold of each fold is chosen on the other folds, and the counts of all
folds are added up.

Positives and negatives are those of `manyhot.core.ranking`: all classes that are not in the label set of a
usable image are negatives, unless `masked` ignores unclear classes and classes that raters were not asked
about (*not asked is not no*).

Only scores of positives are candidates for a threshold: between two of them, a lower threshold adds nothing
but errors. So each class needs two counts for each of its distinct positive scores and each fold, the
positives and the cells with at least this score. For 50,000 × 1,000 float32 scores with 1.3 labels per image
and 5 folds, that takes 0.6 s on one core.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy import typing as npt

from manyhot.core.answered_cells import AnsweredCells, answered_cells
from manyhot.core.array_types import AnyFloats, Bools, Floats, Ints
from manyhot.core.ranked_positives import class_columns
from manyhot.core.resampling import wilson_interval
from manyhot.core.sets import Case, LabelSets
from manyhot.errors import InputError
from manyhot.parameters import check_count, check_one_of, check_share

Goal = Literal["f1", "precision", "recall"]
GOALS: tuple[Goal, ...] = get_args(Goal)
"""What a threshold is chosen for: the largest F1, or at least a precision or a recall."""

FOLDS = 5

REASONS = ("no positives", "no negatives", "too few positives", "not reached")
"""Why numbers of a class are undefined.

Without positives, all are. Without negatives, the area under the ROC curve is. A threshold needs at least as
many positives as folds, of which no fold may contain all; and a precision may be above that of any threshold.
"""

MOST_POINTS = 200
"""Maximum number of points of a curve."""


@dataclass(frozen=True)
class OperatingPoints:
    """Operating points of C classes on n images, with K folds.

    Attributes
    ----------
    n_positives, n_negatives : ndarray of int64, shape (C,)
    ap, auroc : ndarray of float64, shape (C,)
        Average precision, and area under the ROC curve.
    threshold : ndarray of float64, shape (C,)
        The threshold chosen on all images, on the scale of the scores; NaN if undefined.
    fold : ndarray of int64, shape (n,)
        The fold of each image; -1 for unusable images.
    fold_threshold : ndarray of float64, shape (K, C)
        The threshold of each fold, chosen on the other folds. If it is NaN, nothing is predicted in the fold.
    n_predicted, n_right : ndarray of int64, shape (C,)
        Number of cells at or above the threshold of their fold, and number of positives among them.
    reason : ndarray of int64, shape (C,)
        The place in `REASONS` of the reason why numbers are undefined; -1 if all are defined.
    masked : bool
    """

    n_positives: npt.NDArray[np.int64]
    n_negatives: npt.NDArray[np.int64]
    ap: Floats
    auroc: Floats
    threshold: Floats
    fold: npt.NDArray[np.int64]
    fold_threshold: Floats
    n_predicted: npt.NDArray[np.int64]
    n_right: npt.NDArray[np.int64]
    reason: npt.NDArray[np.int64]
    masked: bool

    @cached_property
    def fitted(self) -> npt.NDArray[np.intp]:
        """The classes that have a threshold, ascending."""
        return np.flatnonzero(~np.isnan(self.threshold))

    def precision(self) -> tuple[Floats, Floats, Floats]:
        """Return the share of predicted cells that are positives, with its Wilson interval."""
        return self._share(self.n_predicted)

    def recall(self) -> tuple[Floats, Floats, Floats]:
        """Return the share of positives that are predicted, with its Wilson interval."""
        return self._share(self.n_positives)

    def f1(self) -> tuple[Floats, Floats, Floats]:
        """Return F1, 2 TP / (2 TP + FP + FN), with its interval.

        The interval is that of F*, TP / (TP + FP + FN), the share of positives and predicted cells that are
        both. F1 is 2 F* / (1 + F*), which increases with F*. F* is a proportion, so it has a Wilson interval,
        whose ends are transformed. The interval describes a new sample of images under the same thresholds.

        References
        ----------
        Hand, Christen and Kirielle 2021, F*: an interpretable transformation of the F-measure,
        doi 10.1007/s10994-021-05964-1.
        """
        value, lo, hi = self._share(self.n_positives + self.n_predicted - self.n_right)
        return 2 * value / (1 + value), 2 * lo / (1 + lo), 2 * hi / (1 + hi)

    def _share(self, n: npt.NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
        n = np.where(np.isnan(self.threshold), 0, n)
        with np.errstate(invalid="ignore"):
            return (self.n_right / np.where(n, n, np.nan), *wilson_interval(self.n_right, n))


def operating_points(
    case: Case,
    *,
    goal: Goal = "f1",
    at: float | None = None,
    n_folds: int = FOLDS,
    rng: np.random.Generator,
    masked: bool = False,
) -> OperatingPoints | None:
    """Choose a threshold for each class by cross-fitting, and count what is predicted at these thresholds.

    Parameters
    ----------
    case : Case
    goal : str
        What the threshold is chosen for. ``f1``: the largest F1, and the highest threshold with it.
        ``precision``: the lowest threshold with at least the precision `at`, which has the highest recall.
        ``recall``: the highest threshold with at least the recall `at`.
    at : float, optional
        The precision or recall, above 0 and up to 1.
    n_folds : int
        Number of folds, at least 2. The folds are of equal size and the same for all classes.
    rng : numpy.random.Generator
        Draws the folds.
    masked : bool
        Ignore unclear cells and cells that no rater was asked about.

    Returns
    -------
    OperatingPoints or None
        None if there are no dense scores, or if `masked` is set and the label sets do not record no answers.

    Raises
    ------
    InputError
        If an option is out of range, the scores do not fit the label sets, or a score is NaN.
    """
    check_goal(goal, at)
    check_count(n_folds, "There are too few folds.", least=2, allowed="2 and up")
    labels = case.labels
    if case.scores is None or (masked and not labels.asked_known):
        return None
    masked = labels.leaves_out_cells(masked)
    points = _empty(labels, _draw_folds(labels.usable, n_folds, rng), n_folds, masked)
    answered = answered_cells(case)
    points.n_positives[:] = np.bincount(answered.classes[answered.yes], minlength=labels.n_classes)
    cells = np.bincount(answered.classes, minlength=labels.n_classes) if masked else labels.usable.sum()
    points.n_negatives[:] = cells - points.n_positives
    points.reason[:] = np.select([points.n_positives == 0, points.n_negatives == 0], [0, 1], -1)
    for class_id, counts in _counts_by_class(case, answered, points.fold, n_folds, masked):
        n_positives, n_negatives = points.n_positives[class_id], points.n_negatives[class_id]
        points.ap[class_id] = counts.average_precision() / n_positives
        if n_negatives:
            points.auroc[class_id] = 1 - counts.lost_pairs() / (n_positives * n_negatives)
        _fit(points, class_id, counts, goal, 1.0 if at is None else at)
    return points


def check_goal(goal: str, at: float | None) -> None:
    """Raise an error if there is no such goal, or if its precision or recall is missing or superfluous.

    Raises
    ------
    InputError
    """
    check_one_of(goal, GOALS, "There is no such goal of a threshold.")
    if goal == "f1":
        if at is not None:
            raise InputError(
                "The largest F1 has no precision or recall to reach.",
                got=f"{at:g}",
                do="leave out `at`, or set `goal` to precision or recall",
            )
    elif at is None:
        raise InputError(
            f"The {goal} that a threshold must reach is missing.",
            allowed="above 0, up to 1",
            do="pass `at`, such as 0.9",
        )
    else:
        check_share(at, f"The {goal} to reach is not a share.")


def _draw_folds(usable: Bools, n_folds: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    fold = np.full(len(usable), -1, np.int64)
    fold[usable] = rng.permutation(np.count_nonzero(usable)) % n_folds
    return fold


def _empty(labels: LabelSets, fold: npt.NDArray[np.int64], n_folds: int, masked: bool) -> OperatingPoints:
    def counts() -> npt.NDArray[np.int64]:
        return np.zeros(labels.n_classes, np.int64)

    def values() -> Floats:
        return np.full(labels.n_classes, np.nan)

    return OperatingPoints(
        n_positives=counts(),
        n_negatives=counts(),
        ap=values(),
        auroc=values(),
        threshold=values(),
        fold=fold,
        fold_threshold=np.full((n_folds, labels.n_classes), np.nan),
        n_predicted=counts(),
        n_right=counts(),
        reason=counts() - 1,
        masked=masked,
    )


@dataclass(frozen=True)
class _Counts:
    """Counts of a class at its J distinct scores of positives, highest first, in each of K folds.

    Attributes
    ----------
    score : ndarray of float, shape (J,)
    hits, depth : ndarray of int, shape (K, J)
        Number of positives, and of cells, with at least this score.
    above : ndarray of int, shape (J,)
        Number of cells with a higher score.
    """

    score: AnyFloats
    hits: Ints
    depth: Ints
    above: Ints

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
        """Return the number of pairs of a positive and a negative in wrong order; a tie counts half."""
        higher, at_least = self.wrong
        return float(self.totals[0] @ (higher + at_least)) / 2


def _counts_by_class(
    case: Case, answered: AnsweredCells, fold: Ints, n_folds: int, masked: bool
) -> Iterator[tuple[int, _Counts]]:
    """Yield each class with positives, and its counts."""
    in_fold = fold[answered.image]
    order = np.lexsort((in_fold, answered.classes))
    answered, in_fold = answered[order], in_fold[order]
    positive, positive_fold = answered[answered.yes], in_fold[answered.yes]
    if masked:
        cells = _cells_asked(answered, in_fold, positive, n_folds)
    else:
        cells = _cells(case, fold, positive, n_folds)
    for part, scores, edges in cells:
        counts = _count(scores, edges, positive.score[part], positive_fold[part])
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
    edges: Ints = np.append(0, np.cumsum(np.bincount(fold, minlength=n_folds)))
    return edges


def _count(scores: AnyFloats, edges: Ints, positive: AnyFloats, positive_fold: Ints) -> _Counts:
    score, place = np.unique(positive, return_inverse=True)
    n_folds, n = len(edges) - 1, len(score)
    hits = np.bincount(positive_fold * n + place, minlength=n_folds * n).reshape(n_folds, n)
    depth, above = np.empty((n_folds, n), np.int64), np.zeros(n, np.int64)
    for f in range(n_folds):
        cells = scores[edges[f] : edges[f + 1]]
        # Lower cells never count, and with informative scores they are most.
        cells = np.compress(cells >= score[0], cells)
        cells.sort()
        depth[f] = len(cells) - np.searchsorted(cells, score)
        above += len(cells) - np.searchsorted(cells, score, side="right")
    return _Counts(score[::-1], hits[:, ::-1].cumsum(axis=1), depth[:, ::-1], above[::-1])


def _fit(points: OperatingPoints, class_id: int, counts: _Counts, goal: Goal, at: float) -> None:
    """Choose the thresholds of a class, and add up what they predict in the folds they were not chosen on."""
    n_folds = len(counts.hits)
    # The other folds of each fold and, in the last row, all folds.
    hits, depth = (np.vstack([n.sum(axis=0) - n, n.sum(axis=0)]) for n in (counts.hits, counts.depth))
    if points.n_positives[class_id] < n_folds or not hits[:, -1].all():
        points.reason[class_id] = REASONS.index("too few positives")
        return
    chosen = _choose(hits, depth, goal, at)
    if chosen[-1] < 0:
        points.reason[class_id] = REASONS.index("not reached")
        return
    points.threshold[class_id] = counts.score[chosen[-1]]
    fold = np.flatnonzero(chosen[:-1] >= 0)
    place = chosen[fold]
    points.fold_threshold[fold, class_id] = counts.score[place]
    points.n_right[class_id] = counts.hits[fold, place].sum()
    points.n_predicted[class_id] = counts.depth[fold, place].sum()


def _choose(hits: Ints, depth: Ints, goal: Goal, at: float) -> npt.NDArray[np.intp]:
    """Return the place of the threshold that each row chooses, shape (rows,); -1 if none reaches the goal."""
    # Not the scores of other rows' positives: a threshold must not depend on the images it is evaluated on.
    own = np.diff(hits, axis=1, prepend=0) > 0
    n_positives = hits[:, -1:]
    if goal == "f1":
        best: npt.NDArray[np.intp] = np.argmax(np.where(own, hits / (depth + n_positives), -1), axis=1)
        return best
    with np.errstate(invalid="ignore"):
        share = hits / (depth if goal == "precision" else n_positives)
        reached = own & (share >= at)
    last = reached.shape[1] - 1
    place = last - np.argmax(reached[:, ::-1], axis=1) if goal == "precision" else np.argmax(reached, axis=1)
    return np.where(reached.any(axis=1), place, -1)


@dataclass(frozen=True)
class ClassCurve:
    """Points of a curve of one class.

    Attributes
    ----------
    x, y : ndarray of float64, shape (m,)
    threshold : ndarray of float64, shape (m,)
        The threshold of each point; NaN for points between thresholds.
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
        Maximum number of points of a curve. If there are more, points at equal distances along the curve are
        chosen, so that no omitted point is further than the length of the curve / (most - 1) from a chosen
        point, with distances and lengths as |x| + |y|.

    Notes
    -----
    Precision-recall: each point is a distinct score of positives; x is its recall and y its precision.
    Precision y holds from the recall of the previous point to x, so the area under these steps is the average
    precision. The first point has a recall of 0 and the precision of the second.

    ROC: x is the false positive rate and y the recall. Straight lines join the points, so that ties of
    positives and negatives are slanted, and the area under the curve is the AUROC.
    """
    answered = answered_cells(case)
    masked = case.labels.leaves_out_cells(masked)
    answered = answered[np.isin(answered.classes, classes)]
    fold = np.where(case.labels.usable, 0, -1)
    for class_id, counts in _counts_by_class(case, answered, fold, 1, masked):
        own = answered.classes == class_id
        n = int(own.sum()) if masked else int(case.labels.usable.sum())
        n_positives = int(answered.yes[own].sum())
        if n > n_positives:
            roc = _roc_curve(counts, n_positives, n - n_positives)
            yield class_id, _thin(_precision_recall_curve(counts, n_positives), most), _thin(roc, most)


def _precision_recall_curve(counts: _Counts, n_positives: int) -> ClassCurve:
    _, hits, depth = counts.totals
    precision = hits / depth
    return ClassCurve(
        np.append(0.0, hits / n_positives),
        np.append(precision[0], precision),
        np.append(np.nan, counts.score.astype(np.float64)),
    )


def _roc_curve(counts: _Counts, n_positives: int, n_negatives: int) -> ClassCurve:
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
