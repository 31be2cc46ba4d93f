"""Label sets and predictions from arrays, lists and frames, as in notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import ClassList, class_list, from_keys
from manyhot.errors import InputError, MatchError, first_names
from manyhot.tables import FramePart, Labels, Predictions, align_columns, align_rows, read_frame_part
from manyhot.tables.class_values import IdLists, has_texts, is_sparse, on_host, with_ids
from manyhot.tables.frames import BY_POSITION
from manyhot.tables.label_arrays import ids_of, in_32_bits, labels_as_table
from manyhot.tables.label_values import LabelValues
from manyhot.tables.own_classes import are_numbers, check_targets, note_on_columns, own_list
from manyhot.tables.score_columns import with_scores


def as_labels(
    labels: Any,
    *,
    n_classes: int = 0,
    label: Any = None,
    classes: ClassList | None = None,
    label_values: LabelValues | None = None,
) -> Labels:
    """Return a labels table from arrays, lists or frames of label sets. The id of image i is ``i``.

    Parameters
    ----------
    labels : object
        Label sets in one of these forms: one list of classes per image; a matrix of zeros and ones, shape (n,
        C); or one label per image, which is both its original label and its label set, shape (n,). Classes
        are integers or names. A matrix may be sparse or a tensor. In a matrix, -1 means unclear, and NaN
        means not asked. In a list of one label per image, -1 or None means no label. The index of a frame or
        series contains the image ids, and the columns of a frame are classes. A matrix may also contain
        counts or shares of votes.
    n_classes : int
        Number of classes C, if neither names nor a matrix determine it.
    label : array-like of int or str, shape (n,), optional
        Original labels; None or -1 if there is none.
    classes : ClassList, optional
        The classes. By default, the names in frames and lists, sorted.
    label_values : {"states", "counts", "shares", "p", "yes-of-5"}, optional
        The meaning of the numbers in a matrix: states (0, 1 and -1), counts of votes, shares of votes,
        probabilities of classes, or how many of 5 raters answered yes. By default, states and counts
        are recognised.

    Raises
    ------
    InputError
        If `labels` does not have one of these forms, or if a name is not in `classes`.
    MatchError
        If frames have different images.
    """
    return (
        labels
        if isinstance(labels, Labels)
        else as_tables(labels, {}, n_classes or None, label, classes=classes, label_values=label_values)[0]
    )


def as_predictions(
    predictions: Any,
    *,
    n_classes: int = 0,
    ids: pa.Array | None = None,
    score_kind: str = "score",
    rows: pa.Array | None = None,
) -> list[Predictions]:
    """Return predictions of one or several models as a list of tables.

    Parameters
    ----------
    predictions : Predictions, iterable of Predictions, array, or mapping of model names to arrays
        Integers or names of shape (n, k) are classes, best first. Float arrays of shape (n, C) are scores
        over all classes. The index of a data frame contains the ids of images. Columns of scores are sorted
        in the order of the first data frame.
    n_classes : int
        Number of classes C; 0 if unknown.
    ids : pyarrow.Array of string, shape (n,), optional
        The image of each row. By default, the id of image i is ``i``. Data frames of the same images are
        sorted into this order.
    score_kind : str
        The kind of scores in arrays, as in `evaluate`.
    rows : pyarrow.Array of string, shape (n,), optional
        The image of each row of arrays, if the rows are not in the order of `ids`.

    Raises
    ------
    InputError
        If a name is not that of a column.
    MatchError
        If data frames have different classes.
    """
    tables, parts = read_models(predictions)
    lists = [t.known_classes for t in tables]
    parts = [_in_rows(part, rows) for part in with_scores(parts, lists=lists)]
    if ids is not None:
        _, *parts = align_models([FramePart(None, "ids", ids)], parts)
    parts, columns = in_class_order(parts)
    parts, own, _ = with_ids(parts, columns)
    size = len(own) if own is not None and own.is_complete else n_classes
    return tables + [prediction_of(p, size, score_kind, own, ids if p.ids is None else None) for p in parts]


def as_tables(
    labels: Any,
    predictions: Any,
    n_classes: int | None,
    label: Any,
    score_kind: str = "score",
    classes: ClassList | None = None,
    ids: pa.Array | None = None,
    label_values: str | None = None,
    rows: pa.Array | None = None,
) -> tuple[Labels, list[Predictions]]:
    """Return labels and predictions as tables; arrays are matched by position, frames by ids and names.

    `rows` contains the image of each row of arrays. By default, it is `ids` if `labels` is a table.
    """
    tables, parts = read_models(predictions)
    is_table = isinstance(labels, Labels)
    read = [] if is_table else [read_frame_part(labels, "labels"), read_label(label)]
    lists = [classes, *(t.known_classes for t in [labels] * is_table + tables)]
    parts = [_in_rows(part, rows) for part in with_scores(parts, read, lists)]
    has_list = classes is not None
    if isinstance(labels, Labels):
        if label is not None:
            raise InputError("`label` is only for label sets in lists or arrays.", do="pass `images` instead")
        is_open = labels.assumed or (labels.class_list is not None and not labels.class_list.is_complete)
        classes = classes or (None if is_open else labels.known_classes)
        all_named = labels.class_list is not None and all(map(_has_names, parts))
        parts, columns = in_class_order(parts, classes, sort=all_named)
        unnamed = [not (has_list or _has_names(part)) for part in parts]
        if not is_open:
            _check_class_hash(parts, labels, columns, classes)
        parts, own, _ = with_ids(parts, classes or columns)
        size = 0 if is_open else labels.n_classes
        made = [prediction_of(p, size, score_kind, own, ids if p.ids is None else None) for p in parts]
        return _with_note(labels, made, unnamed), tables + made
    classes = classes or next((c for t in tables if (c := t.known_classes)), None)
    if not classes and parts and all(name_imagenet(part.names or ()) for part in parts):
        classes = class_list()  # to which numbers refer
    if classes is None and read[0].names is not None:
        check_targets(read[0].names, "labels")
    own_parts = [_in_rows(part, rows) for part in read]
    parts = align_models(own_parts, parts)
    # What has no names refers to the order of the columns beside it.
    have_lists = all(table.class_list or table.class_hash for table in tables)
    all_named = (tables or len(parts) > 2) and all(map(_has_names, parts)) and have_lists
    # Declared classes keep their ids, by which ties are broken.
    keep = parts[0].names is not None and not has_texts(parts[0].values)
    parts, columns = in_class_order(parts, classes, sort=bool(all_named), keep=keep)
    unnamed = [not (has_list or _has_names(part)) for part in parts[len(own_parts) :]]
    (sets, own_label, *models), own, assumed = with_ids(parts, classes or columns)
    complete = own if own is None or own.is_complete else None
    size = n_classes or (len(complete) if complete else 0)
    n_labels = size or (len(own) if own else 0) or _n_classes(sets, models)
    table = labels_as_table(sets, own_label, n_labels, own, label_values)
    table = replace(table, assumed=assumed, numbered=own is None and own_parts[0].numbered_columns)
    made = [prediction_of(p, size or (0 if own else n_labels), score_kind, complete) for p in models]
    is_named = _has_names(own_parts[0])
    tables, made = (
        [m if is_named else replace(m, by_name=False) for m in models] for models in (tables, made)
    )
    by_position = [m for m, part in zip(made, models, strict=True) if part.ids is None]
    _check_lengths(by_position if sets.ids is not None else tables + by_position, table)
    return _with_note(table, made, unnamed) if own_parts[0].names is not None else table, tables + made


def _with_note(labels: Labels, models: Sequence[Predictions], unnamed: Sequence[bool]) -> Labels:
    """Return label sets with a note if scores without names are taken for those of their own classes."""
    own = labels.class_list
    is_assumed = any(m.is_dense for m, is_unnamed in zip(models, unnamed, strict=False) if is_unnamed)
    if not is_assumed or own is None or not own.is_complete or are_numbers(own.keys):
        return labels
    return replace(labels, notes=(*labels.notes, note_on_columns(own)))


def _in_rows(part: FramePart, rows: pa.Array | None) -> FramePart:
    """Return an array or a list with the ids of its rows; a frame with ids of its own is unchanged."""
    if rows is None or part.ids is not None or part.values is None:
        return part
    values = part.values.tocsr() if is_sparse(part.values) else on_host(part.values)
    values = values if hasattr(values, "shape") else list(values)
    n = values.shape[0] if hasattr(values, "shape") else len(values)
    if n != len(rows):
        raise InputError(
            "An array and the row order have different numbers of rows.",
            where=part.where,
            got=f"{n:,} rows",
            allowed=f"{len(rows):,}, as in `rows`",
            do="pass the row order of this array",
        )
    return replace(part, values=values, ids=rows, numbered=False)


def align_models(labels: Sequence[FramePart], models: Sequence[FramePart]) -> list[FramePart]:
    """Sort the rows of labels and models into one order. Models of other images keep their own order.

    Models of other images are joined by id later, as files are. A note reports how many are not matched.
    """
    ids = labels[0].ids
    others = [m for m in models if None not in (ids, m.ids)]
    apart = [m for m in others if len(m.ids) != len(ids) or pc.index_in(ids, m.ids).null_count]
    aligned = iter(align_rows([*labels, *(m for m in models if m not in apart)]))
    return [*(next(aligned) for _ in labels), *(m if m in apart else next(aligned) for m in models)]


def _has_names(part: FramePart) -> bool:
    """Return whether classes are names, so that the order of columns does not matter."""
    return part.values is None or part.names is not None or has_texts(part.values)


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
    parts: Sequence[FramePart], labels: Labels, columns: ClassList | None, classes: ClassList | None
) -> None:
    """Raise an error for columns in another order than a class list of which only the hash is known."""
    if classes is None and columns is not None and labels.class_hash not in ("", columns.hash):
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
    """Return a model's predictions. Columns of numbers may be classes; other columns are ranks."""
    part = _with_numbers(read_frame_part(values, name))
    are_numbers = isinstance(part.values, np.ndarray) and part.values.dtype.kind in "fbiu"
    if not are_numbers:
        _check_not_mixed(part)
    return part if are_numbers else replace(part, names=None)


def _with_numbers(part: FramePart) -> FramePart:
    """Return a part whose objects, such as values of nullable columns, are numbers if all of them are."""
    if not isinstance(part.values, np.ndarray) or part.values.dtype != object or not part.values.size:
        return part
    kinds = set(map(type, part.values.ravel()))
    if not all(issubclass(kind, Real | Decimal) for kind in kinds):
        return part
    is_whole = all(issubclass(kind, Integral) for kind in kinds)
    return replace(part, values=part.values.astype(np.int64 if is_whole else np.float64))


_SAMPLE = 1000
"""Number of rows that show what columns contain."""


def _check_not_mixed(part: FramePart) -> None:
    """Raise an error for columns of texts beside columns of fractions, which are no ranks."""
    if part.names is None or np.ndim(part.values) != 2:
        return
    columns = dict(zip(part.names, np.asarray(part.values[:_SAMPLE], object).T, strict=True))
    texts = [n for n, values in columns.items() if any(isinstance(v, str) for v in values)]
    scores = [n for n, values in columns.items() if any(isinstance(v, float) and v % 1 > 0 for v in values)]
    if texts and scores:
        raise InputError(
            "Some columns of predictions contain text, and others contain fractions.",
            where=part.where,
            got=f"text in {first_names(texts, 3)}; fractions in {first_names(scores, 3)}",
            allowed="one column of scores per class, or columns with the names of classes, best first",
            do="drop the text columns if the others are scores of classes",
        )


def read_label(label: Any) -> FramePart:
    """Return original labels, one per row."""
    return replace(read_frame_part(label, "label"), names=None)


def in_class_order(
    parts: Sequence[FramePart],
    classes: ClassList | None = None,
    *,
    sort: bool = False,
    keep: bool = False,
    of: str = "",
) -> tuple[list[FramePart], ClassList | None]:
    """Return the parts with columns in the same order, and the class list of their names; None without names.

    The columns are in the order of `classes` or, without `classes`, of the first part with names. With
    `sort`, names other than those of ImageNet-1k are sorted instead, unless `keep` is true. Results then do
    not depend on the order of the columns. Messages use `of` as the name of the classes.
    """
    own = classes
    if classes is None:
        named = [p for p in parts if not (p.names is None and has_texts(p.values))]
        aligned, names = align_columns(named)  # names in rows do not depend on the order of columns
        found = iter(aligned)
        parts = [next(found) if p in named else p for p in parts]
        if names is None:
            return list(parts), None
        own = list_of_columns(names, sort=not keep) if sort else from_keys(names, "columns")
    assert own is not None
    parts = [part.named_like(own.keys) for part in parts]

    def key(name: str) -> str:
        at = own.find(name)
        return name if at is None else own.keys[at]

    aligned, _ = align_columns(parts, own.keys, of=of or f"the class list {own.name}", key=key)
    return aligned, own if any(p.names for p in parts) else None


def name_imagenet(names: Sequence[str]) -> bool:
    """Return whether the names are those of all classes of ImageNet-1k, each once, in any order."""
    imagenet = class_list()
    return len(names) == len(imagenet) == len({imagenet.find(name) for name in names} - {None})


def list_of_columns(names: Sequence[str], *, sort: bool = True) -> ClassList:
    """Return the class list of columns: ImageNet-1k if they name all its classes, otherwise the names."""
    if name_imagenet(names):
        return class_list()
    return from_keys(sorted(names) if sort else names, "columns")


def prediction_of(
    part: FramePart,
    n_classes: int,
    score_kind: str,
    classes: ClassList | None = None,
    ids: pa.Array | None = None,
) -> Predictions:
    """Return one model's predictions as a table for the images `ids`, by default the images of the part.

    Raises
    ------
    InputError
        If the values are not an array of classes or scores.
    """
    name = part.where
    try:
        array = np.asarray(part.values.padded() if isinstance(part.values, IdLists) else on_host(part.values))
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
            do="pass several models by name: {name: array}" if array.ndim == 3 else None,
        )
    ids = ids_of(part, len(array)) if ids is None else ids
    key, own = (classes.hash, own_list(classes)) if classes is not None else ("", None)
    if array.dtype.kind == "f":
        scores = array.astype(np.float32) if array.dtype.itemsize > 4 else array
        n_classes = n_classes or array.shape[1]
        return Predictions(
            ids,
            name,
            scores=scores,
            score_kind=score_kind,
            n_classes=n_classes,
            class_hash=key,
            class_list=own,
            by_name=part.names is not None,
        )
    return Predictions(ids, name, in_32_bits(array), n_classes=n_classes, class_hash=key, class_list=own)
