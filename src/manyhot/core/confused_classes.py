"""What is predicted wrongly beside what is present, at the thresholds of `manyhot.core.operating_points`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy import typing as npt
from scipy.sparse import csr_array

from manyhot.core.answered_cells import AnsweredCells, answered_cells
from manyhot.core.array_types import Floats
from manyhot.core.operating_points import OperatingPoints
from manyhot.core.ranked_positives import class_columns
from manyhot.core.sets import Case

MOST_CONFUSIONS = 400
"""Maximum number of pairs of classes in each ranking of `confused_classes`."""

NOTHING = -1
"""Stands for no class in `Confusions`."""


@dataclass(frozen=True)
class Confusions:
    """Pairs of a wrongly predicted class and a class that is present on the same images.

    Attributes
    ----------
    predicted, present : ndarray of int64, shape (m,)
        The class that is predicted but not valid, and a class that is valid; `NOTHING` if there is none.
    n : ndarray of int64, shape (m,)
        Number of images with both.
    n_instead : ndarray of int64, shape (m,)
        Number of these images on which `present` is not predicted.
    n_wrong : ndarray of int64, shape (C,)
        Number of images on which each class is predicted but not valid.
    """

    predicted: npt.NDArray[np.int64]
    present: npt.NDArray[np.int64]
    n: npt.NDArray[np.int64]
    n_instead: npt.NDArray[np.int64]
    n_wrong: npt.NDArray[np.int64]


def confused_classes(case: Case, points: OperatingPoints, *, most: int = MOST_CONFUSIONS) -> Confusions:
    """Count pairs of wrongly predicted and present classes.

    If an image has several labels, it is unknown which wrong prediction replaces which missed class. An image
    therefore counts for a pair if one class is predicted wrongly and the other class is valid (`n`). If the
    valid class is also predicted, the wrong prediction is an addition to it. If the valid class is missed,
    the wrong prediction may be a replacement (`n_instead`, a part of `n`). A missed class on an image without
    wrong predictions is paired with the predicted class `NOTHING`. A wrong prediction on an image with an
    empty label set is paired with the present class `NOTHING`.

    Parameters
    ----------
    case : Case
        The case of `points`.
    points : OperatingPoints
        Thresholds. Each image is evaluated at the thresholds of its fold. Classes without a threshold are
        never predicted. They count as present, but not as missed.
    most : int
        Maximum number of pairs in each of four groups: the pairs with the largest `n_instead`, the pairs with
        the largest `n`, and the two kinds of pairs with `NOTHING`.

    References
    ----------
    Heydarian, Doyle and Samavi 2022, MLCM: multi-label confusion matrix, doi 10.1109/ACCESS.2022.3151048,
    which also has a row for no true label and a column for no predicted label.

    Notes
    -----
    Deviation: if an image has missed classes and wrong predictions, MLCM counts only pairs of these
    (`n_instead`). MLCM counts pairs with correctly predicted classes only on images without missed classes,
    whereas `n` counts such pairs on all images.
    """
    answered = answered_cells(case)
    positive = answered[answered.yes]
    threshold = points.fold_threshold[points.fold[positive.image], positive.classes]
    missed = ~np.isnan(points.threshold[positive.classes]) & ~(positive.score >= threshold)
    shape = (len(case.labels), case.labels.n_classes)
    present, lost = (_indicator(cells, shape).T.tocsr() for cells in (positive, positive[missed]))
    wrong_on_image, n_wrong, n_alone = np.zeros(shape[0]), np.zeros(shape[1]), np.zeros(shape[1])
    empty = np.flatnonzero(case.labels.size == 0)
    pairs = [np.empty((4, 0))]
    for class_id, wrong in _wrong_by_class(case, points, answered):
        n, n_instead = present @ wrong, lost @ wrong
        other = np.union1d(_largest(n, most), _largest(n_instead, most))
        pairs.append(np.stack([np.full(len(other), class_id), other, n[other], n_instead[other]]))
        wrong_on_image += wrong
        n_wrong[class_id] = wrong.sum()
        n_alone[class_id] = wrong[empty].sum()
    n_only_missed = lost @ (wrong_on_image == 0)
    return _joined(np.concatenate(pairs, axis=1), n_only_missed, n_alone, n_wrong, most)


def _indicator(cells: AnsweredCells, shape: tuple[int, int]) -> csr_array:
    return csr_array((np.ones(len(cells.image)), (cells.image, cells.classes)), shape=shape)


def _wrong_by_class(
    case: Case, points: OperatingPoints, answered: AnsweredCells
) -> Iterator[tuple[int, Floats]]:
    """Yield each class with a threshold, and 1 for each image on which it is predicted wrongly, else 0."""
    shape = len(case.labels), case.labels.n_classes
    if points.masked:
        asked = answered[~answered.yes]
        reached = asked.score >= points.fold_threshold[points.fold[asked.image], asked.classes]
        wrong_cells = _indicator(asked[reached], shape).T.tocsr()
        for class_id in points.fitted:
            yield int(class_id), wrong_cells[[class_id]].toarray()[0]
        return
    valid = _indicator(answered[answered.yes], shape).T.tocsr()
    for part, column in class_columns(case, points.fitted):
        class_id = points.fitted[part.start]
        wrong = (column >= points.fold_threshold[points.fold, class_id]) & case.labels.usable
        wrong[valid.indices[valid.indptr[class_id] : valid.indptr[class_id + 1]]] = False
        yield int(class_id), wrong.astype(np.float64)


def _largest(counts: Floats, most: int) -> npt.NDArray[np.intp]:
    """Return the places of the largest counts above 0, at most `most`; the first of equal counts."""
    order = np.argsort(-counts, kind="stable")[:most]
    return order[counts[order] > 0]


def _joined(pairs: Floats, n_only_missed: Floats, n_alone: Floats, n_wrong: Floats, most: int) -> Confusions:
    chosen = np.union1d(_largest(pairs[2], most), _largest(pairs[3], most))
    missed, alone = _largest(n_only_missed, most), _largest(n_alone, most)
    none = np.full(len(missed), NOTHING), np.full(len(alone), NOTHING)
    rows = np.concatenate(
        [
            pairs[:, chosen],
            np.stack([none[0], missed, n_only_missed[missed], n_only_missed[missed]]),
            np.stack([alone, none[1], n_alone[alone], np.zeros(len(alone))]),
        ],
        axis=1,
    ).astype(np.int64)
    rows = rows[:, np.lexsort((rows[1], rows[0], -rows[2], -rows[3]))]
    predicted, present, n, n_instead = rows
    return Confusions(predicted, present, n, n_instead, n_wrong.astype(np.int64))
