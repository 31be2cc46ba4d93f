"""Writing tables as CSV, with one row per image or in long form, and with the names of classes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError
from manyhot.files import atomic_write
from manyhot.formats.class_names import NAMES_BESIDE
from manyhot.tables import Predictions

LISTS_OF_IMAGES = ("sources", "conflicts")
"""Lists of an image that have no item for each of its classes."""


def write_csv(
    table: pa.Table,
    path: str | os.PathLike[str],
    *,
    classes: ClassList | None = None,
    long: bool = False,
    exclusive: bool = False,
) -> Path:
    """Write a labels or predictions table as CSV, atomically.

    Parameters
    ----------
    classes : ClassList, optional
        The class list, whose names are written beside the numbers of classes. By default, only the numbers
        are written.
    long : bool
        Write one row per (image, class) pair instead of one row per image.
    exclusive : bool
        Whether raters chose one class per image, which is in the metadata of Parquet. CSV has no metadata.
    """
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    frame = with_class_names(frame, classes)
    frame = frame.with_columns(exclusive=pl.lit(True)) if exclusive else frame
    lists = [c for c, kind in frame.schema.items() if isinstance(kind, pl.List)]
    if long and "classes" not in lists:
        raise InputError("Only tables with a list of classes have a long form.", got=", ".join(frame.columns))
    if long:
        frame = _long(frame, [c for c in lists if c not in LISTS_OF_IMAGES])
    frame = text_lists(frame)
    lists = [c for c, kind in frame.schema.items() if isinstance(kind, pl.List)]
    frame = frame.with_columns(
        pl.col(c).list.eval(pl.element().cast(pl.String)).list.join(" ") for c in lists
    )
    with atomic_write(path) as part:
        frame.write_csv(part)
    return Path(path)


def _long(frame: pl.DataFrame, lists: list[str]) -> pl.DataFrame:
    names = {"classes": "class_id", "class_names": "class_name", "scores": "score"}
    frame = frame.explode(lists, empty_as_null=True).rename({c: names[c] for c in lists if c in names})
    if "state" not in lists:
        frame = frame.with_columns(rank=pl.int_range(1, pl.len() + 1).over("image_id"))
    return frame


def written_names(classes: ClassList) -> tuple[str, ...]:
    """Return the class names to write to CSV, from which readers find the same class list.

    Lists other than ImageNet-1k are identified by their keys, which in most lists are also the names.
    """
    return classes.names if classes.hash == class_list().hash else classes.keys


def with_class_names(frame: pl.DataFrame, classes: ClassList | None) -> pl.DataFrame:
    """Return a table with a column of names beside each column of class numbers; unchanged without a list."""
    if classes is None:
        return frame
    names = dict(enumerate(written_names(classes)))
    for column, name in NAMES_BESIDE.items():
        if column not in frame.columns or name in frame.columns:
            continue
        kind = frame[column].dtype
        if isinstance(kind, pl.List) and kind.inner.is_integer():
            named = pl.col(column).list.eval(_replaced(pl.element(), names))
        elif kind.is_integer():
            named = _replaced(pl.col(column), names)
        else:
            continue
        at = frame.columns.index(column) + 1
        frame = frame.insert_column(at, frame.select(named.alias(name)).to_series())
    return frame


def _replaced(values: pl.Expr, names: Mapping[int, str]) -> pl.Expr:
    return values.replace_strict(names, default=None, return_dtype=pl.String)


def text_lists(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a table with lists of names as JSON, because names may contain any separator."""
    columns = [c for c in ("class_names", "sources") if isinstance(frame.schema.get(c), pl.List)]
    for column in columns:
        texts = frame[column].explode(empty_as_null=False).drop_nulls().unique().to_list()
        quoted = {text: json.dumps(text, ensure_ascii=False) for text in texts}
        items = pl.element().replace_strict(quoted, default=None, return_dtype=pl.String)
        joined = pl.col(column).list.eval(items).list.join(", ")
        frame = frame.with_columns(pl.format("[{}]", joined).alias(column))
    return frame


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
    classes : ClassList, optional
        The class list; by default that of the predictions.
    long : bool
        Write one row per (image, class) pair, best first: ``image_id``, ``class``, ``score`` and ``rank``.
    """
    own = classes or predictions.known_classes
    if not (long or predictions.is_dense):
        return write_csv(predictions.to_table(), path, classes=own)
    names = None if own is None else written_names(own)
    frame = _rows_of_pairs(predictions, names) if long else _columns(predictions, names)
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


def _columns(predictions: Predictions, names: tuple[str, ...] | None) -> pl.DataFrame:
    scores = predictions.scores
    assert scores is not None
    columns = names or tuple(map(str, range(scores.shape[1])))
    ids = pl.DataFrame({"image_id": predictions.image_id.to_pylist()}, schema={"image_id": pl.String})
    return ids.hstack(pl.from_numpy(np.asarray(scores, np.float32), schema=list(columns)))


def _rows_of_pairs(predictions: Predictions, names: tuple[str, ...] | None) -> pl.DataFrame:
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
