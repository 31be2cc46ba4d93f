"""Where the original label of an image stands among the classes of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from manyhot.core.array_types import AnyFloats, Ints64
from manyhot.report.pictures import UNRECORDED, LabelRow, image_values, label_rows
from manyhot.tables import Images, Labels, Predictions, align

_PART = 4096
"""Images of dense scores that are ranked at once: 16 MB of 1,000 classes."""


@dataclass(frozen=True)
class LabelPlace:
    """The rank of an image's original label among the classes that a model predicts.

    Attributes
    ----------
    rank : int, optional
        1 for the top class; None if the label is not among the listed classes.
    n_listed : int
        Number of classes that the predictions list for the image.
    confidence : float, optional
        Probability of the label; None if it is unknown.
    """

    rank: int | None
    n_listed: int
    confidence: float | None


LabelPlaces = Sequence[LabelPlace | None]
"""For each image of a gallery, the place of its label; None without a label or a prediction."""


def rows_of_labels(images: Images, labels: Labels | None) -> list[LabelRow]:
    """Return the labels of each image; without label sets, only its original label."""
    if labels is not None:
        return label_rows(images, labels)
    return [LabelRow(label, (), "", UNRECORDED) for label in image_values(images, "label")]


def label_places(images: Images, labels: Sequence[int | None], p: Predictions) -> list[LabelPlace | None]:
    """Return the rank of each image's label among the classes that a model predicts.

    Parameters
    ----------
    labels : sequence of int or None, length n
        The original label of each image.
    p : Predictions
        All stored classes, not only the classes that are shown.
    """
    matched = align(images.image_id, p.image_id, left_name="the images", right_name=p.model)
    label = np.array([-1 if c is None else c for c in labels], np.int64)[matched.left]
    places: list[LabelPlace | None] = [None] * len(images)
    for start in range(0, len(label), _PART):
        part = slice(start, start + _PART)
        ranked = _ranked(p.take(matched.right[part]), label[part])
        for i, place in zip(matched.left[part].tolist(), ranked, strict=True):
            places[i] = place
    return places


def _ranked(p: Predictions, label: Ints64) -> list[LabelPlace | None]:
    """Return the place of one class of each row."""
    confidence = p.confidence()
    if p.classes is None:
        assert p.scores is not None
        rank, at, n_listed = _in_scores(p.scores, label)
    else:
        hit = (p.classes == label[:, None]) & (label >= 0)[:, None]
        at = hit.argmax(axis=1)
        rank, n_listed = np.where(hit.any(axis=1), at + 1, 0), (p.classes >= 0).sum(axis=1)
    sure = None if confidence is None else confidence[np.arange(len(at)), at]
    return [
        None
        if c < 0 or not n
        else LabelPlace(r or None, n, None if sure is None or not r else float(sure[i]))
        for i, (c, r, n) in enumerate(zip(label.tolist(), rank.tolist(), n_listed.tolist(), strict=True))
    ]


def _in_scores(scores: AnyFloats, label: Ints64) -> tuple[Ints64, Ints64, Ints64]:
    """Return the rank of each label, its column, and the number of classes; rank 0 if it is no class."""
    n, n_classes = scores.shape
    is_class = (label >= 0) & (label < n_classes)
    at = np.where(is_class, label, 0)
    own = scores[np.arange(n), at][:, None]
    # Of equal scores the first class comes first, as in a stable sort.
    earlier = (scores == own) & (np.arange(n_classes) < at[:, None])
    rank = 1 + ((scores > own) | earlier).sum(axis=1)
    return np.where(is_class, rank, 0), at, np.full(n, n_classes)
