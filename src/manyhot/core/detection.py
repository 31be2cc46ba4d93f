"""Average precision of boxes and intersection over union of class masks, under any weights on the images.

Average precision is as COCO defines it. ``faster-coco-eval`` gives the same value for the images as they are;
what it cannot do is give it for a thousand resamples. Here boxes are matched once, and a resample only counts
again.

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
"""Intersection over union from which a box counts as found."""

VOID = 255
"""A pixel that nobody judged."""

_RECALLS = np.linspace(0, 1, 101)

_CHUNK = 125
"""Resamples at once."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes of one image.

    Attributes
    ----------
    box : ndarray of float, shape (n, 4)
        Left, top, right, bottom.
    class_id : ndarray of int, shape (n,)
    score : ndarray of float, shape (n,), optional
        Of boxes that were predicted.
    ignore : ndarray of bool, shape (n,), optional
        Of those that are there: neither asked for nor held against a model.
    """

    box: Floats
    class_id: Ints
    score: Floats | None = None
    ignore: Bools | None = None

    def of(self, class_id: int) -> Boxes:
        """Return those of a class, best first, and ignored ones last."""
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
    """The boxes predicted of one class in all images, best first.

    Attributes
    ----------
    image : ndarray of int, shape (m,)
    right, counts : ndarray of bool, shape (T, m)
        Whether each found an object at each of T overlaps; and whether it counts: it does not where it
        found an ignored one.
    objects : ndarray of int, shape (n,)
        How many objects, ignored ones aside, each image has.
    """

    image: Ints
    right: Bools
    counts: Bools
    objects: Ints


def overlaps(box: Floats, other: Floats, ignore: Bools) -> Floats:
    """Return intersection over union of boxes, shape (n, m); over the area of `box` with ignored ones."""
    corner = np.maximum(box[:, None, :2], other[None, :, :2])
    end = np.minimum(box[:, None, 2:], other[None, :, 2:])
    both = np.clip(end - corner, 0, None).prod(2)
    area, others = ((b[:, 2:] - b[:, :2]).prod(1) for b in (box, other))
    union = np.where(ignore[None], area[:, None], area[:, None] + others[None] - both)
    return np.asarray(both / np.maximum(union, 1e-12), np.float64)


def match(annotated: Sequence[Boxes], predictions: Sequence[Boxes], class_id: int) -> Matched:
    """Match what was predicted of a class with what is there, image by image, best first.

    A box takes the object with which it overlaps most of those that are still free; if there is none, and it
    lies in an ignored one, it does not count.
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
        best = m - 1 - able[:, ::-1].argmax(1)  # of equal ones the last, as COCOeval
        hit = able[at, best] >= OVERLAPS
        free[at[hit], best[hit]] = False
        right[:, d] = hit
        counts[:, d] = hit | ~lies_in_ignored[:, d]
    return right, counts


def box_average_precision(matched: Matched, weights: npt.ArrayLike | None = None) -> Floats:
    """Return the average precision of a class at each overlap.

    The mean of the best precision at 101 recalls or beyond, as in COCOeval. An image that is drawn twice
    counts its boxes twice, at one place of the ranking.

    Parameters
    ----------
    matched : Matched
    weights : array-like, shape (R, n), optional
        How often each image counts, in each of R resamples; once by default.

    Returns
    -------
    ndarray of float64, shape (R, T)
        NaN where no object counts.
    """
    w = np.ones((1, len(matched.objects))) if weights is None else np.asarray(weights)
    parts = [_precision(matched, w[i : i + _CHUNK].astype(float)) for i in range(0, len(w), _CHUNK)]
    return np.concatenate([np.empty((0, len(OVERLAPS))), *parts])


def _precision(matched: Matched, weights: Floats) -> Floats:
    objects = weights @ matched.objects
    drawn = weights[:, matched.image]
    found = np.full((len(weights), len(OVERLAPS)), np.nan)
    for t, (right, counts) in enumerate(zip(matched.right, matched.counts, strict=True)):
        seen = np.cumsum(drawn[:, counts], axis=1)
        hits = np.cumsum(drawn[:, counts] * right[counts], axis=1)
        at = right[counts]  # precision has its peaks where an object is found
        hits, seen = hits[:, at], seen[:, at]
        best = np.maximum.accumulate((hits / np.maximum(seen, 1e-12))[:, ::-1], axis=1)[:, ::-1]
        for r in np.flatnonzero(objects > 0):
            place = np.searchsorted(hits[r] / objects[r], _RECALLS)
            found[r, t] = np.append(best[r], 0.0)[place].mean()
    return found


def pixel_counts(labelled: Ints, predicted: Ints, n_classes: int) -> npt.NDArray[np.int64]:
    """Return how many pixels of an image are of each class in both masks, in the one, and in the other.

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
    """Return intersection over union of each class, of the pixels of all images together.

    Parameters
    ----------
    counts : ndarray of int, shape (n, 3, C)
        See `pixel_counts`.
    weights : array-like, shape (R, n), optional
        How often each image counts; once by default.

    Returns
    -------
    ndarray of float64, shape (R, C)
        NaN where no pixel of the images is of the class.

    References
    ----------
    Everingham et al. 2015, The PASCAL Visual Object Classes Challenge: A Retrospective,
    doi 10.1007/s11263-014-0733-5, section 4.2.
    """
    w = np.ones((1, len(counts))) if weights is None else np.asarray(weights, np.float64)
    both, wanted, found = np.tensordot(w, counts.astype(np.float64), axes=1).transpose(1, 0, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(wanted > 0, both / (wanted + found - both), np.nan)
