"""What a gallery shows of each model: its top classes, and the rank of the original label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot.core.score_threshold import link_of
from manyhot.core.sets import LabelSets
from manyhot.errors import InputError
from manyhot.evaluate.slices import case_of
from manyhot.report.gallery_labels import LabelPlaces, label_places, rows_of_labels
from manyhot.tables import Images, Labels, Predictions, align, check_class_list
from manyhot.tables.arrays import label_sets
from manyhot.tables.skipped_files import SkippedFiles, fitting_models

SHOWN_CLASSES = 5
"""Number of classes per model that are shown for an image."""


@dataclass(frozen=True)
class ShownModel:
    """A model of a gallery.

    Attributes
    ----------
    predictions : Predictions
        The top classes of the model for the images that are shown.
    label_places : sequence of LabelPlace or None
        For each image, the position of its original label among all stored classes.
    """

    predictions: Predictions
    label_places: LabelPlaces


def shown_models(
    labels: Labels | None, models: Iterator[Predictions], images: Images, misfits: SkippedFiles
) -> list[ShownModel]:
    """Return the predictions of each model for the images.

    Raises
    ------
    InputError
        If there are no predictions.
    """
    label = [row.label for row in rows_of_labels(images, labels)]
    sets = None if labels is None else label_sets(labels)

    def shown(model: Predictions) -> ShownModel:
        if labels is not None and sets is not None:
            check_class_list(model, labels.n_classes, labels.class_hash, labels.name or "the labels")
            model = _with_sigmoids(model, labels, sets)
        return ShownModel(_few(model, images), label_places(images, label, model))

    found = [model for _, model in fitting_models(models, shown, misfits)]
    if not found:
        raise InputError("There are no predictions to show.")
    return found


def _with_sigmoids(p: Predictions, labels: Labels, sets: LabelSets) -> Predictions:
    """Return the predictions with the probabilities of independent classes, if their logits are of such."""
    if p.score_kind != "logit" or not p.is_dense:
        return p
    aligned = align(labels.image_id, p.image_id, left_name=labels.name or "the labels", right_name=p.model)
    case = case_of(sets.take(aligned.left), p, aligned, 1)
    if link_of(case) != "sigmoid":
        return p
    from scipy.special import expit

    full = p.in_full()
    return replace(full, scores=expit(full.scores, dtype=np.float32), score_kind="probability")


def check_alike(models: Sequence[ShownModel]) -> None:
    """Raise an error if models have different class lists, because it is unknown which one applies."""
    first = models[0].predictions
    for model in models[1:]:
        check_class_list(model.predictions, first.n_classes, first.class_hash, first.model)


def _few(p: Predictions, shown: Images) -> Predictions:
    """Return a model's top classes for the images that are shown: a file may hold 50,000 × 1,000 scores."""
    matched = align(shown.image_id, p.image_id, left_name="the images", right_name=p.model)
    few = p.take(np.sort(matched.right))
    classes, scores, total = few.classes, few.scores, few.logsumexp
    if classes is None:
        assert scores is not None
        if p.score_kind == "logit" and total is None:
            total = np.logaddexp.reduce(scores.astype(np.float32), axis=1)
        classes = np.argsort(-scores, axis=1, kind="stable")[:, :SHOWN_CLASSES]
        scores = np.take_along_axis(scores, classes, axis=1)
    else:
        classes, scores = classes[:, :SHOWN_CLASSES], None if scores is None else scores[:, :SHOWN_CLASSES]
    return replace(few, classes=classes, scores=scores, logsumexp=total, uncertainty=None)


def classes_to_show(image_id: pa.Array, models: Sequence[ShownModel], shown: Images) -> npt.NDArray[np.int32]:
    """Return the classes that have a row in the view of each image, without repeats, padded with -1.

    These are the classes that any model predicts, and the original label.
    """
    parts = []
    for p in (model.predictions for model in models):
        at = pc.fill_null(pc.index_in(image_id, p.image_id), -1).to_numpy()
        assert p.classes is not None
        parts.append(np.where(at[:, None] >= 0, p.classes[at].astype(np.int32), -1))
    if shown.label is not None:
        label = pc.fill_null(shown.label.take(pc.index_in(image_id, shown.image_id)), -1).to_numpy()
        parts.append(label.astype(np.int32)[:, None])
    sets = [[c for c in dict.fromkeys(row) if c >= 0] for row in np.concatenate(parts, axis=1).tolist()]
    classes = np.full((len(sets), max(1, max(map(len, sets), default=1))), -1, np.int32)
    for i, row in enumerate(sets):
        classes[i, : len(row)] = row
    return classes
