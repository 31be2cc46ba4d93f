"""Average precision of boxes and intersection over union of class masks, under any weights of the images.

Average precision is that of COCO, and equals ``faster-coco-eval``. In contrast to it, boxes are matched only
once for a thousand resamples, which only repeat the counting.

References
----------
Lin et al. 2014, Microsoft COCO, arXiv 1405.0312; ``COCOeval`` of pycocotools.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Bools, Floats, Ints

OVERLAPS = np.linspace(0.5, 0.95, 10)
"""Minimum intersection over union of a right box, as in COCO."""

VOID = 255
"""Value of unlabelled pixels."""

_RECALLS = np.linspace(0, 1, 101)

_CHUNK = 125
"""Resamples per block."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes of one image.

    Attributes
    ----------
    box : ndarray of float, shape (n, 4)
        Left, top, right, bottom.
    class_id : ndarray of int, shape (n,)
    score : ndarray of float, shape (n,), optional
        Scores of predicted boxes.
    ignore : ndarray of bool, shape (n,), optional
        Annotated boxes that count neither as objects nor as errors.
    """

    box: Floats
    class_id: Ints
    score: Floats | None = None
    ignore: Bools | None = None

    def of(self, class_id: int) -> Boxes:
        """Return the boxes of a class, by descending score, and ignored ones last."""
        rows = np.flatnonzero(self.class_id == class_id)
        key = self.ignore if self.score is None else -self.score
        if key is not None:
            rows = rows[np.argsort(key[rows], kind="stable")]
        return Boxes(
            self.box[rows],
            self.class_id[rows],
            None if self.score is None else self.score[rows],
            None if self.ignore is None else self.ignore[rows],
        )


@dataclass(frozen=True, eq=False)
class Matched:
    """The predicted boxes of one class in all images, by descending score.

    Attributes
    ----------
    image : ndarray of int, shape (m,)
    right, counts : ndarray of bool, shape (T, m)
        Whether each box matches an object at each of T overlaps, and whether it counts; a box that matches an
        ignored object does not count.
    objects : ndarray of int, shape (n,)
        Number of objects of each image, without ignored ones.
    """

    image: Ints
    right: Bools
    counts: Bools
    objects: Ints


def overlaps(box: Floats, other: Floats, ignore: Bools) -> Floats:
    """Return intersection over union of boxes, shape (n, m); for ignored ones, over the area of `box`."""
    corner = np.maximum(box[:, None, :2], other[None, :, :2])
    end = np.minimum(box[:, None, 2:], other[None, :, 2:])
    both = np.clip(end - corner, 0, None).prod(2)
    area, others = ((b[:, 2:] - b[:, :2]).prod(1) for b in (box, other))
    union = np.where(ignore[None], area[:, None], area[:, None] + others[None] - both)
    return np.asarray(both / np.maximum(union, 1e-12), np.float64)


def match(annotated: Sequence[Boxes], predictions: Sequence[Boxes], class_id: int) -> Matched:
    """Match predicted and annotated boxes of a class, image by image, by descending score.

    A box is matched with the free object that it overlaps most. If there is none and it is in an ignored
    object, it does not count.
    """
    image, score, right, counts, objects = [], [], [], [], np.zeros(len(annotated), int)
    for i, (own, predicted) in enumerate(zip(annotated, predictions, strict=True)):
        own, predicted = own.of(class_id), predicted.of(class_id)
        ignore = np.zeros(len(own.box), bool) if own.ignore is None else own.ignore
        objects[i] = np.count_nonzero(~ignore)
        assert predicted.score is not None
        image.append(np.full(len(predicted.box), i))
        score.append(predicted.score)
        hits = _greedy(overlaps(predicted.box, own.box, ignore), ignore)
        right.append(hits[0])
        counts.append(hits[1])
    order = np.argsort(-np.concatenate([np.empty(0), *score]), kind="stable")
    joined = [np.concatenate([np.empty((len(OVERLAPS), 0), bool), *part], axis=1) for part in (right, counts)]
    images = np.concatenate([np.empty(0, int), *image])
    return Matched(images[order], joined[0][:, order], joined[1][:, order], objects)


def _greedy(overlap: Floats, ignore: Bools) -> tuple[Bools, Bools]:
    """Return whether each box is right, and whether it counts, at each overlap; both of shape (T, m)."""
    n, m = overlap.shape
    right, counts = np.zeros((len(OVERLAPS), n), bool), np.ones((len(OVERLAPS), n), bool)
    if not m:
        return right, counts
    free = np.tile(~ignore, (len(OVERLAPS), 1))
    at = np.arange(len(OVERLAPS))
    lies_in_ignored = (overlap[:, ignore].max(1, initial=0)[:, None] >= OVERLAPS).T
    for d in range(n):
        able = np.where(free, overlap[d], -1)
        best = m - 1 - able[:, ::-1].argmax(1)  # among equal ones the last, as in COCOeval
        hit = able[at, best] >= OVERLAPS
        free[at[hit], best[hit]] = False
        right[:, d] = hit
        counts[:, d] = hit | ~lies_in_ignored[:, d]
    return right, counts


def box_average_precision(matched: Matched, weights: npt.ArrayLike | None = None) -> Floats:
    """Return the average precision of a class at each overlap.

    It is the mean over 101 recalls of the highest precision at the recall or above, as in COCOeval. The boxes
    of an image that is drawn twice count twice, at one place of the ranking.

    Parameters
    ----------
    matched : Matched
    weights : array-like, shape (R, n), optional
        How often each image counts in each of R resamples; once by default.

    Returns
    -------
    ndarray of float64, shape (R, T)
        NaN if no object counts.
    """
    w = np.ones((1, len(matched.objects))) if weights is None else np.asarray(weights)
    parts = [_precision(matched, w[i : i + _CHUNK].astype(float)) for i in range(0, len(w), _CHUNK)]
    return np.concatenate([np.empty((0, len(OVERLAPS))), *parts])


def _precision(matched: Matched, weights: Floats) -> Floats:
    objects = weights @ matched.objects
    drawn = weights[:, matched.image]
    precision = np.full((len(weights), len(OVERLAPS)), np.nan)
    for t, (right, counts) in enumerate(zip(matched.right, matched.counts, strict=True)):
        seen = np.cumsum(drawn[:, counts], axis=1)
        hits = np.cumsum(drawn[:, counts] * right[counts], axis=1)
        at = right[counts]  # precision has its peaks at right boxes
        hits, seen = hits[:, at], seen[:, at]
        best = np.maximum.accumulate((hits / np.maximum(seen, 1e-12))[:, ::-1], axis=1)[:, ::-1]
        for r in np.flatnonzero(objects > 0):
            place = np.searchsorted(hits[r] / objects[r], _RECALLS)
            precision[r, t] = np.append(best[r], 0.0)[place].mean()
    return precision


def pixel_counts(labelled: Ints, predicted: Ints, n_classes: int) -> npt.NDArray[np.int64]:
    """Return the number of pixels of each class in both masks, in the first mask, and in the second mask.

    Parameters
    ----------
    labelled, predicted : ndarray of int, shape (height, width)
        `VOID` in `labelled` does not count.
    n_classes : int

    Returns
    -------
    ndarray of int64, shape (3, n_classes)
    """
    inside = labelled != VOID
    labelled, predicted = labelled[inside], predicted[inside]
    parts = (labelled[labelled == predicted], labelled, predicted)
    return np.stack([np.bincount(part, minlength=n_classes) for part in parts]).astype(np.int64)


def class_overlaps(counts: npt.NDArray[np.int64], weights: npt.ArrayLike | None = None) -> Floats:
    """Return intersection over union of each class, over the pixels of all images.

    Parameters
    ----------
    counts : ndarray of int, shape (n, 3, C)
        See `pixel_counts`.
    weights : array-like, shape (R, n), optional
        How often each image counts; once by default.

    Returns
    -------
    ndarray of float64, shape (R, C)
        NaN if no pixel of the images has the class.

    References
    ----------
    Everingham et al. 2015, The PASCAL Visual Object Classes Challenge: A Retrospective,
    doi 10.1007/s11263-014-0733-5, section 4.2.
    """
    w = np.ones((1, len(counts))) if weights is None else np.asarray(weights, np.float64)
    both, labelled, predicted = np.tensordot(w, counts.astype(np.float64), axes=1).transpose(1, 0, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(labelled > 0, both / (labelled + predicted - both), np.nan)
