"""Precision-recall and ROC curves of classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from manyhot.core.answered_cells import answered_cells
from manyhot.core.array_types import Floats, Ints
from manyhot.core.class_counts import ClassCounts, counts_by_class
from manyhot.core.sets import Case

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
        Maximum number of points of a curve. If there are more, points at equal distances along the curve are
        chosen. No omitted point is then further from a chosen point than the length of the curve / (most -
        1). Distances and lengths are measured as |x| + |y|.

    Notes
    -----
    Precision-recall: each point is a distinct score of positives, with its recall as x and its precision as
    y. Precision y applies from the recall of the previous point to x, so the area under these steps is the
    average precision. The first point has a recall of 0 and the precision of the second point.

    ROC: x is the false positive rate, and y is the recall. Straight lines connect the points. Ties of
    positives and negatives are therefore slanted lines, and the area under the curve is the AUROC.
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
