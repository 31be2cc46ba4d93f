"""Predictions as CSV with class names: one column of scores per class, or one row per pair."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl

from manyhot.classes import ClassList, class_list, class_list_of
from manyhot.files import atomic_write
from manyhot.formats.tabular import write_csv
from manyhot.tables import Predictions


def write_predictions_csv(
    predictions: Predictions,
    path: str | os.PathLike[str],
    *,
    classes: ClassList | None = None,
    long: bool = False,
) -> Path:
    """Write predictions as CSV, atomically: dense ones with one column per class, others with lists.

    Parameters
    ----------
    predictions : Predictions
    path : path-like
    classes : ClassList, optional
        The class list; by default that of the predictions.
    long : bool
        Write one row per (image, class) pair, best first: ``image_id``, ``class``, ``score`` and ``rank``.
    """
    if not (long or predictions.is_dense):
        return write_csv(predictions.to_table(), path)
    names = _names(predictions, classes)
    frame = _pairs(predictions, names) if long else _columns(predictions, names)
    with atomic_write(path) as part:
        frame.write_csv(part)
    return Path(path)


def missing_from_csv(predictions: Predictions, *, long: bool) -> tuple[str, ...]:
    """Return what `write_predictions_csv` does not write."""
    kind = predictions.score_kind
    missing = [] if kind in ("none", "score") else [f"the kind of its scores ({kind})"]
    if predictions.uncertainty is not None and (long or predictions.is_dense):
        missing.append("the uncertainty")
    return tuple(missing)


def _names(predictions: Predictions, classes: ClassList | None) -> tuple[str, ...] | None:
    """Return the names of the classes, from which the file is read over the same list; None if unknown.

    Other lists than ImageNet-1k are read from their keys, which are the names of most of them.
    """
    own = classes or predictions.class_list or class_list_of(predictions.class_hash)
    if own is None:
        return None
    return own.names if own.hash == class_list().hash else own.keys


def _columns(predictions: Predictions, names: tuple[str, ...] | None) -> pl.DataFrame:
    scores = predictions.scores
    assert scores is not None
    columns = names or tuple(map(str, range(scores.shape[1])))
    ids = pl.DataFrame({"image_id": predictions.image_id.to_pylist()}, schema={"image_id": pl.String})
    return ids.hstack(pl.from_numpy(np.asarray(scores, np.float32), schema=list(columns)))


def _pairs(predictions: Predictions, names: tuple[str, ...] | None) -> pl.DataFrame:
    top, scores = predictions.classes, predictions.scores
    if top is None:
        assert scores is not None
        top = np.argsort(-scores, axis=1, kind="stable")  # equal scores in the order of the classes
        scores = np.take_along_axis(scores, top, axis=1)
    filled = top >= 0
    rows, places = np.nonzero(filled)
    chosen = top[filled]
    ids = np.asarray(predictions.image_id.to_pylist(), object)
    columns = {"image_id": ids[rows], "class": chosen if names is None else np.asarray(names, object)[chosen]}
    if scores is not None:
        columns["score"] = scores[filled]
    columns["rank"] = places + 1
    if predictions.logsumexp is not None:
        columns["logsumexp"] = predictions.logsumexp[rows]
    return pl.DataFrame(columns)
