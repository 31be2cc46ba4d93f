"""Label sets and predictions from arrays, lists and frames, as in notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot.classes import ClassList, class_list_of, from_keys
from manyhot.core.array_types import Ints
from manyhot.core.sets import NO_LABEL
from manyhot.errors import InputError, MatchError
from manyhot.tables import (
    FramePart,
    Labels,
    Predictions,
    align_columns,
    align_rows,
    read_frame_part,
)
from manyhot.tables.frames import BY_POSITION


def as_labels(labels: Any, *, n_classes: int, label: Any = None) -> Labels:
    """Return a labels table from arrays or lists of label sets. The id of image i is ``i``.

    Parameters
    ----------
    labels : Labels, sequence of sequences of int, bool array of shape (n, C), or int array of shape (n,)
        Lists of valid classes, a multi-hot matrix, or one label per image, which is both its original label
        and its label set (-1 for none). The index of a data frame or series contains the ids of images. The
        columns of a data frame are classes.
    n_classes : int
        Number of classes C.
    label : array-like of int, shape (n,), optional
        Original labels; None or -1 if there is none.

    Raises
    ------
    InputError
        If `labels` does not have one of these forms.
    MatchError
        If frames have different images.
    """
    if isinstance(labels, Labels):
        return labels
    parts, class_hash = in_class_order(align_rows([read_frame_part(labels, "labels"), read_label(label)]))
    return labels_as_table(parts[0], parts[1], n_classes, class_hash)


def as_predictions(
    predictions: Any, *, n_classes: int = 0, ids: pa.Array | None = None, score_kind: str = "score"
) -> list[Predictions]:
    """Return predictions of one or several models as a list of tables.

    Parameters
    ----------
    predictions : Predictions, iterable of Predictions, array, or mapping of model names to arrays
        Integer arrays of shape (n, k) are classes, best first. Float arrays of shape (n, C) are scores over
        all classes. The index of a data frame contains the ids of images. Columns of scores are sorted in the
        order of the first data frame.
    n_classes : int
        Number of classes C; 0 if unknown.
    ids : pyarrow.Array of string, shape (n,), optional
        The image of each row. By default, the id of image i is ``i``. Data frames with an index are sorted
        into this order.
    score_kind : str
        The kind of scores in arrays, as in `evaluate`.

    Raises
    ------
    MatchError
        If data frames have different images or classes.
    """
    tables, parts = read_models(predictions)
    if ids is not None:
        _, *parts = align_rows([FramePart(None, "ids", ids), *parts])
    parts, class_hash = in_class_order(parts)
    return tables + [prediction_of(p, n_classes, score_kind, class_hash, ids) for p in parts]


def as_tables(
    labels: Any,
    predictions: Any,
    n_classes: int | None,
    label: Any,
    score_kind: str = "score",
    classes: ClassList | None = None,
) -> tuple[Labels, list[Predictions]]:
    """Return labels and predictions as tables; arrays are matched by position, frames by ids and names."""
    tables, parts = read_models(predictions)
    if isinstance(labels, Labels):
        if label is not None:
            raise InputError("`label` is only for label sets in lists or arrays.", do="pass `images` instead")
        classes = classes or class_list_of(labels.class_hash)
        parts, class_hash = in_class_order(parts, classes)
        _check_class_hash(parts, labels, class_hash, classes)
        made = [prediction_of(p, labels.n_classes, score_kind, class_hash) for p in parts]
        return labels, tables + made
    classes = classes or next((c for t in tables if (c := class_list_of(t.class_hash))), None)
    parts = align_rows([read_frame_part(labels, "labels"), read_label(label), *parts])
    parts, class_hash = in_class_order(parts, classes)
    own, own_label, *parts = parts
    sets = labels_as_table(own, own_label, n_classes or _n_classes(own, parts), class_hash)
    made = [prediction_of(p, sets.n_classes, score_kind, class_hash) for p in parts]
    _check_lengths(made if own.ids is not None else tables + made, sets)
    return sets, tables + made


def _check_lengths(models: Sequence[Predictions], labels: Labels) -> None:
    for model in models:
        if len(model) != len(labels):
            raise InputError(
                "Predictions and labels, which are matched by position, differ in length.",
                where=model.model,
                got=f"{len(model):,} rows",
                allowed=f"{len(labels):,}",
                do="pass tables with image ids to evaluate only some images",
            )


def _check_class_hash(
    parts: Sequence[FramePart], labels: Labels, class_hash: str, classes: ClassList | None
) -> None:
    """Raise an error for columns in another order than a class list of which only the hash is known."""
    if classes is None and labels.class_hash and class_hash not in ("", labels.class_hash):
        part = next(p for p in parts if p.names)
        raise MatchError(
            "The columns are not the keys of the labels' class list in the same order.",
            where=f"{part.where}, compared with {labels.name or 'labels'}",
            got=f"columns such as {', '.join((part.names or ())[:2])}",
            allowed=f"the {labels.n_classes:,} keys of class list {labels.class_hash}",
            do=f"name the columns after the keys and sort them in their order; {BY_POSITION}",
        )


def _n_classes(labels: FramePart, models: Sequence[FramePart]) -> int:
    """Return the number of classes of a multi-hot matrix or of scores."""
    wide = [p.values for p in models if getattr(p.values, "ndim", 0) == 2]
    scores = [v for v in wide if np.asarray(on_host(v[:0])).dtype.kind == "f"]
    for values in ([labels.values] if getattr(labels.values, "ndim", 0) == 2 else []) + scores:
        return int(values.shape[1])
    raise InputError("The number of classes is unknown.", do="pass n_classes")


def read_models(predictions: Any) -> tuple[list[Predictions], list[FramePart]]:
    """Return predictions in tables, and predictions in arrays or data frames. One of the two is empty."""
    if isinstance(predictions, Predictions):
        return [predictions], []
    if isinstance(predictions, Mapping):
        return [], [read_model(name, values) for name, values in predictions.items()]
    if isinstance(predictions, Iterable) and not hasattr(predictions, "shape"):
        listed = list(predictions)
        if listed and all(isinstance(p, Predictions) for p in listed):
            return listed, []
        predictions = listed
    return [], [read_model("model", predictions)]


def read_model(name: str, values: Any) -> FramePart:
    """Return a model's predictions. Columns of scores are classes, other columns are ranks."""
    part = read_frame_part(values, name)
    is_scores = isinstance(part.values, np.ndarray) and part.values.dtype.kind == "f"
    return part if is_scores else replace(part, names=None)


def read_label(label: Any) -> FramePart:
    """Return original labels, one per row."""
    return replace(read_frame_part(label, "label"), names=None)


def in_class_order(
    parts: Sequence[FramePart], classes: ClassList | None = None
) -> tuple[list[FramePart], str]:
    """Return the parts with columns in the same order, and the hash of their names; empty without names."""
    if classes is None:
        aligned, names = align_columns(parts)
        return aligned, from_keys(names, "columns").hash if names else ""

    def key(name: str) -> str:
        at = classes.find(name)
        return name if at is None else classes.keys[at]

    aligned, _ = align_columns(parts, classes.keys, of=f"the class list {classes.name}", key=key)
    return aligned, classes.hash if any(p.names for p in parts) else ""


def prediction_of(
    part: FramePart, n_classes: int, score_kind: str, class_hash: str = "", ids: pa.Array | None = None
) -> Predictions:
    """Return one model's predictions as a table, for the images `ids` or, by default, those of the part.

    Raises
    ------
    InputError
        If the values are not an array of classes or scores.
    """
    name = part.where
    try:
        array = np.asarray(on_host(part.values))
    except ValueError as error:
        raise InputError(
            "Lists of predictions with different lengths do not form an array.",
            where=name,
            do="pad short lists with -1",
        ) from error
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.dtype.kind not in "iuf":
        raise InputError(
            "Predictions do not have one row of numbers per image.",
            where=name,
            got=f"shape {array.shape} of {array.dtype}",
            allowed="(n, k) integers: classes, best first; or (n, C) floats: scores over all classes",
        )
    ids = ids_of(part, len(array)) if ids is None else ids
    if array.dtype.kind == "f":
        scores = array.astype(np.float32) if array.dtype.itemsize > 4 else array
        n_classes = n_classes or array.shape[1]
        return Predictions(
            ids, name, scores=scores, score_kind=score_kind, n_classes=n_classes, class_hash=class_hash
        )
    return Predictions(ids, name, _narrow(array), n_classes=n_classes, class_hash=class_hash)


def labels_as_table(part: FramePart, label_part: FramePart, n_classes: int, class_hash: str = "") -> Labels:
    """Return label sets, and original labels if there are any, as a labels table."""
    sets, single = _sets(part.values, n_classes)
    label = single if label_part.values is None else np.asarray(on_host(label_part.values))
    lengths = np.array([len(s) for s in sets], np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    flat = _narrow(np.concatenate([np.empty(0, np.int64), *[np.asarray(s, np.int64) for s in sets]]))
    columns = {
        "image_id": ids_of(part, len(sets)),
        "usable": pa.array(np.ones(len(sets), bool)),
        "classes": pa.ListArray.from_arrays(offsets, pa.array(flat)),
        "state": pa.ListArray.from_arrays(offsets, pa.array(["yes"] * len(flat), pa.string())),
    }
    if label is not None:
        columns["label"] = label_column(label, len(sets))
    return Labels(pa.table(columns), n_classes, class_hash, name="labels")


def _sets(labels: Any, n_classes: int) -> tuple[list[Any], npt.NDArray[np.int64] | None]:
    """Return one list of classes per image, and the single labels if there is one per image."""
    labels = on_host(labels)
    if not hasattr(labels, "dtype"):
        labels = list(labels)
        if labels and all(np.ndim(s) == 1 or isinstance(s, set | frozenset) for s in labels):
            return [sorted(s) if isinstance(s, set | frozenset) else s for s in labels], None
    array = np.asarray(labels)
    if (
        array.ndim == 2
        and array.shape[1] == n_classes
        and (array.dtype == bool or np.isin(array, (0, 1)).all())
    ):
        return [np.flatnonzero(row) for row in array], None
    if array.ndim == 1 and array.dtype.kind in "iu":
        return [[c] if c != NO_LABEL else [] for c in array], array.astype(np.int64)
    raise InputError(
        "Labels are not lists of classes, a multi-hot matrix, or one class per image.",
        got=f"shape {array.shape} of {array.dtype}",
        allowed=f"n lists; (n, {n_classes}) of bool; or (n,) integers",
    )


def ids_of(part: FramePart, n: int) -> pa.Array:
    """Return the ids of n rows. Without ids, their positions are used."""
    return positions(0, n) if part.ids is None else part.ids


def positions(start: int, stop: int) -> pa.Array:
    """Return positions as the ids of images that have no ids."""
    return pa.array(np.arange(start, stop)).cast(pa.string())


def label_column(label: Any, n: int) -> pa.Array:
    """Return original labels as a column of n values; -1 becomes null."""
    column = pa.array(list(label), pa.int32())
    if len(column) != n:
        raise InputError(
            "Original labels and label sets differ in length.", got=f"{len(column):,}", allowed=f"{n:,}"
        )
    return pc.if_else(pc.equal(column, -1), pa.scalar(None, pa.int32()), column)


def on_host(values: Any) -> Any:
    """Return a tensor on any device as an array, and anything else unchanged."""
    if hasattr(values, "to_list"):  # a Series of Polars
        return values.to_list()
    if not hasattr(values, "detach"):
        return values
    tensor = values.detach().cpu()
    # NumPy has no bfloat16, the type of tensors under autocast.
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()


def _narrow(classes: Ints) -> npt.NDArray[np.int32]:
    # Values out of range must not wrap around into a class.
    narrow: npt.NDArray[np.int32] = np.clip(classes, -(2**31), 2**31 - 1).astype(np.int32)
    return narrow
