"""Frames and data sets in memory that are tables of images, with columns as in files: read as files are."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence, ValuesView
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from pyarrow import parquet as pq

from manyhot.classes import ClassList, from_keys
from manyhot.data.data_frames import arrow_table, table_with_ids
from manyhot.data.reading_options import ObjectsLike
from manyhot.errors import InputError, UnknownNameError
from manyhot.formats import (
    detect,
    holds_images_alone,
    read_images,
    read_labels,
    read_labels_or_originals,
    read_objects,
    read_predictions,
)
from manyhot.formats.headers import ID_NEEDS, class_name_column, image_name_column
from manyhot.formats.reading import image_ids, reading
from manyhot.formats.writing import PathLike
from manyhot.run import frame_read
from manyhot.tables import Images, Labels, Objects, Predictions, one_chunk
from manyhot.tables.arrays import single_labels
from manyhot.tables.frames import check_unique
from manyhot.tables.own_classes import selected_labels, shares_classes
from manyhot.tables.unshared_classes import check_unread

_Table = TypeVar("_Table")

_FEW = 100
"""Rows of a frame that show which columns are texts."""

_OF_PREDICTIONS = ("score", "scores", "rank")
"""Columns that mark a table of predictions."""


def labels_of_file(path: PathLike, classes: ClassList | None, **options: Any) -> Labels:
    """Return the label sets in a file, restricted to the classes of a class list.

    Raises
    ------
    InputError
        As in `read_labels`, or if none of the classes is in the list.
    """
    try:
        return read_labels(path, classes=classes, **options)
    except (InputError, UnknownNameError):
        if classes is None:
            raise
        # Some of the classes: their names are not divided at commas, although the file has other names, too.
        for some in (replace(classes, is_complete=False), None):
            with suppress(InputError, UnknownNameError):
                labels = read_labels(path, classes=some, **options)
                if shares_classes(labels, classes):
                    check_unread(labels, classes, str(path))
                    return selected_labels(labels, classes)
        raise


def labels_or_originals_of_file(path: PathLike, classes: ClassList | None, **options: Any) -> Labels:
    """Return label sets or original labels in a file or folder, restricted to the classes of a class list.

    Raises
    ------
    InputError
        As in `read_labels_or_originals`, or if none of the classes is in the list.
    """
    try:
        return read_labels_or_originals(path, classes=classes, **options)
    except (InputError, UnknownNameError):
        with suppress(InputError, UnknownNameError):
            single = selected_single_labels(path, classes)
            return labels_of_file(path, classes, **options) if single is None else single
        raise


def selected_single_labels(path: PathLike, classes: ClassList | None) -> Labels | None:
    """Return the single labels in a file as label sets over a list of some of their classes.

    As in label sets, images of all other classes then have an empty label set. None if the list contains all
    classes in the file, or none of them.
    """
    if classes is None or not Path(path).is_file():
        return None
    try:
        read_images(path, classes=classes)
    except (InputError, UnknownNameError):
        with suppress(InputError):
            images = read_images(path)
            if (own := images.class_list) is not None and images.label is not None:
                labels = replace(single_labels(images, len(own), own.hash), class_list=own)
                return selected_labels(labels, classes) if shares_classes(labels, classes) else None
    return None


def labels_of_table(
    labels: Any, classes: ClassList | None, rows: Images | None = None
) -> Labels | Images | None:
    """Return label sets from a frame with the columns of a labels file; None for anything else.

    Such a frame has a column with image ids and a column with classes: names, numbers, or lists of names or
    numbers. A Hugging Face data set with class labels is also such a table. If it does not name its images,
    they are those of `rows` or, without `rows`, are numbered from 0. A frame of images with original labels
    is returned as an images table. A frame with one column of zeros and ones per class is read in the same
    way as a file if it also has text columns.

    Raises
    ------
    InputError
        As in `read_labels`.
    """
    if isinstance(labels, Mapping) and not hasattr(labels, "with_format"):
        return through_file(
            _json_of(labels), "labels", partial(labels_of_file, classes=classes), suffix=".json"
        )
    table = arrow_table(labels, class_name_column, rows)
    if table is None:
        return _labels_beside_texts(labels, classes)

    def read(path: Path) -> Labels | Images:
        if not holds_images_alone(path):
            return labels_of_file(path, classes)
        return selected_single_labels(path, classes) or read_images(path, classes=classes)

    return through_file(table, "labels", read)


def _labels_beside_texts(values: Any, classes: ClassList | None) -> Labels | None:
    """Return label sets from a frame with one column per class and columns of texts; None for others."""
    table = table_with_ids(values) if _has_texts(values) else None

    def read(path: Path) -> Labels | None:
        found = detect(path, ("labels",))
        return labels_of_file(path, classes) if found is not None and found.name == "indicator" else None

    return None if table is None else through_file(table, "labels", read)


def _has_texts(values: Any) -> bool:
    """Return whether a frame with image ids has another column of texts, categories or times."""
    if not (hasattr(values, "head") or isinstance(values, pa.Table)):
        return False
    few = values.slice(0, _FEW) if isinstance(values, pa.Table) else values.head(_FEW)
    table = table_with_ids(few)
    if table is None:
        return False
    ids = image_name_column(table.column_names)
    is_text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_dictionary, pa.types.is_temporal)
    return any(is_(f.type) for f in table.schema if f.name != ids for is_ in is_text)


def columns_of_table(values: Any, rows: Images | None = None) -> Images | None:
    """Return the columns of a frame of label sets as an images table; None for anything else."""
    table = arrow_table(values, class_name_column, rows)
    if table is None and _has_texts(values):
        table = table_with_ids(values)
    if table is None:
        return None
    label = class_name_column(table.column_names)
    others = table.drop_columns([label] if label is not None else []).replace_schema_metadata()
    return through_file(others, "labels", read_images)


def labels_in(values: Any) -> Any:
    """Return the label sets in the result of a function, such as aggregate; anything else is unchanged."""
    found = getattr(values, "labels", values)
    return found if isinstance(found, Labels) else values


def images_of_table(images: Any, classes: ClassList | None) -> Images:
    """Return an images table from a frame with the columns of such a table.

    Raises
    ------
    InputError
        As in `read_images`, or if it is not a frame with a column of ids.
    """
    table = _table_of(images, "images")
    return through_file(table, "images", partial(read_images, classes=classes))


def open_objects(
    objects: ObjectsLike, classes: ClassList | None = None, masks: PathLike | None = None
) -> Objects:
    """Return objects; a file, a folder or a data frame is read first.

    Raises
    ------
    InputError
        As in `read_objects`, or if `objects` is none of these.
    """
    if isinstance(objects, Objects):
        from manyhot.formats.object_files import with_masks  # brings polars

        return objects if masks is None else with_masks(objects, Path(masks))
    read = partial(read_objects, classes=classes, masks=masks)
    if isinstance(objects, str | os.PathLike):
        return read(objects)
    return through_file(_table_of(objects, "objects"), "objects", read)


def _table_of(values: Any, parameter: str) -> pa.Table:
    """Return a frame as a table; raise an error for anything else."""
    table = table_with_ids(values)
    if table is None:
        columns = getattr(values, "columns", None)
        got = type(values).__name__ if columns is None else f"the columns {', '.join(map(str, columns))}"
        raise InputError(
            f"`{parameter}` is not a table of {parameter}.",
            got=got,
            allowed=f"a file, a folder, an {parameter} table, or a data frame with the column {ID_NEEDS} or "
            "with the ids as its index",
        )
    return table


def tables_of_frames(
    predictions: Any, classes: ClassList | None, scores: str, rows: Images | None = None
) -> Any:
    """Return predictions as a list of tables if they are frames with the columns of a predictions file.

    Such a frame has columns with image ids, with classes, and with scores or ranks. A single table of
    predictions is also returned as a list. Frames with one column of scores per class are unchanged, unless
    other models are tables. Objects in the form of JSON are read like a JSON file. If they are only lists,
    without image names, they belong to the images `rows`. Anything else is unchanged.

    Raises
    ------
    InputError
        As in `read_predictions`, or if some models are tables and others are arrays.
    """
    if (alone := _predicted(predictions)) is not None:
        return [alone]
    objects = partial(_predictions_of_objects, classes=classes, scores=scores, rows=rows)
    # In {"net": ["cat", "dog"]}, a model has the best classes of two images, and not an image two tags.
    if (alone := objects("model", predictions, may_be_tags=False)) is not None:
        return [alone]
    if isinstance(predictions, list | tuple) and any(_predicted(p) is not None for p in predictions):
        return [found if (found := _predicted(p)) is not None else p for p in predictions]
    named = predictions if isinstance(predictions, Mapping) else {"model": predictions}
    tables = [
        _named_table(name, values, classes, scores) or objects(name, values) for name, values in named.items()
    ]
    if all(table is None for table in tables):
        return predictions
    whole = partial(_predictions_of_table, classes=classes, scores=scores, is_wide=True)
    both = zip(named.items(), tables, strict=True)
    read = {name: whole(name, values) if table is None else table for (name, values), table in both}
    if None in read.values():
        raise InputError(
            "Some predictions are tables of images, and others are arrays without image ids.",
            got=f"arrays of {', '.join(name for name, table in read.items() if table is None)}",
            do="pass each array as a frame with the image ids as its index and the classes as its columns",
        )
    return list(read.values())


def frames_as_files(
    labels: Any, predictions: Any, classes: ClassList | None, scores: str, label_values: str | None
) -> tuple[Labels, list[Predictions]] | None:
    """Return frames of label sets and scores as if read from files, if some have more columns than others.

    As in files, classes that are not in a class list are left out, columns of other numbers are not classes,
    and notes name both. None if the frames have no ids, or if two frames name different classes, which may be
    one class with two names.

    Raises
    ------
    InputError
        As in `read_labels` and `read_predictions`.
    """
    named = predictions if isinstance(predictions, Mapping) else {"model": predictions}
    named = named if not isinstance(predictions, list) or predictions else {}
    frames = [values for values in (labels, *named.values()) if not isinstance(values, Labels | Predictions)]
    columns = [list(getattr(f, "column_names", getattr(f, "columns", ()))) for f in frames]
    if any(len(set(own)) < len(own) for own in columns):
        return None
    tables = [table_with_ids(values) for values in frames]
    names = [set(table.column_names) for table in tables if table is not None]
    names = [own - {image_name_column(own)} for own in names]
    if isinstance(labels, Labels):
        own = labels.known_classes
        names.append(set() if own is None else set(own.keys))
    pairs = [(a, b) for a in names for b in ([set(classes.keys)] if classes is not None else names)]
    are_nested = all(min(a, b, key=len) and (a <= b or b <= a) for a, b in pairs)
    if None in tables or not are_nested or all(a == b for a, b in pairs):
        return None

    def read(path: Path) -> Labels:
        return labels_of_file(path, classes, label_values=label_values)

    if not isinstance(labels, Labels):
        labels = through_file(tables[0], "labels", read)
    whole = partial(_predictions_of_table, classes=classes, scores=scores, is_wide=True)
    models = [m if isinstance(m, Predictions) else whole(name, m) for name, m in named.items()]
    return labels, [model for model in models if model is not None]


def columns_of_frames(predictions: Any) -> ClassList | None:
    """Return the names of the columns of the first frame of scores; None for anything else."""
    named = predictions.values() if isinstance(predictions, Mapping) else predictions
    values = next(iter(named), None) if isinstance(named, list | tuple | ValuesView) else named
    if isinstance(values, Predictions):
        return None
    columns = getattr(values, "columns", None)
    names = [] if columns is None or callable(columns) else list(columns)
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        return None
    ids = image_name_column(names)
    return from_keys([name for name in names if name != ids], "columns")


def _predicted(values: Any) -> Predictions | None:
    """Return predictions, or those in the result of a function that predicts; None for anything else."""
    found = getattr(values, "predictions", values)
    return found if isinstance(found, Predictions) else None


def _predictions_of_objects(
    model: str,
    values: Any,
    *,
    classes: ClassList | None,
    scores: str,
    rows: Images | None,
    may_be_tags: bool = True,
) -> Predictions | None:
    """Return predictions from objects in the form of JSON; None for anything else."""
    from manyhot.formats.prediction_lists import are_entries  # brings polars
    from manyhot.formats.tag_lists import are_tags

    if not are_entries(values) and not (may_be_tags and are_tags(values)):
        return None

    format = "prediction-lists" if are_entries(values) else "tag-lists"
    read = partial(read_predictions, classes=classes, scores=scores, rows=rows, format=format)
    return through_file(_json_of(values), model, read, suffix=".json")


def _json_of(values: Any) -> Callable[[Path], None]:
    """Return a function that writes objects as JSON."""

    def write(path: Path) -> None:
        path.write_text(json.dumps(values, default=_plain), encoding="utf-8")

    return write


def _plain(value: Any) -> Any:
    """Return an array or a set as a list, and its numbers as numbers of Python."""
    if isinstance(value, set | frozenset):
        return sorted(value)
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _named_table(name: str, values: Any, classes: ClassList | None, scores: str) -> Predictions | None:
    if (found := _predicted(values)) is not None:
        return replace(found, model=name)
    return _predictions_of_table(name, values, classes, scores)


def _predictions_of_table(
    model: str, values: Any, classes: ClassList | None, scores: str, *, is_wide: bool = False
) -> Predictions | None:
    """Return predictions from a frame; `is_wide` allows one column of scores per class."""
    from manyhot.formats.prediction_lists import are_lists  # brings polars

    def marker(names: Sequence[str]) -> str | None:
        is_any = is_wide or are_lists(names) or any(c in names for c in _OF_PREDICTIONS)
        return names[0] if names and is_any else None

    table = arrow_table(values, marker)
    if table is None:
        return None
    return through_file(table, model, partial(read_predictions, classes=classes, scores=scores))


def through_file(
    table: pa.Table | Callable[[Path], None],
    name: str,
    read: Callable[[Path], _Table],
    *,
    suffix: str = ".parquet",
) -> _Table:
    """Read a table, or a function's output, as a file, so that the same rules apply to frames and files."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name.replace('/', '--')}{suffix}"
        if isinstance(table, pa.Table):
            pq.write_table(table, path)
        else:
            table(path)
        try:
            with frame_read(name):
                return read(path)
        except InputError as error:
            raise error.with_text(str(path), name) from error


def read_splits(path: PathLike) -> dict[str, str | None]:
    """Return the split of each image in a table, None for images without a split.

    Other columns are not read, so invalid values in them raise no error.

    Raises
    ------
    InputError
        If the file does not exist, or lacks a column with the names of images or the column ``split``.
    MatchError
        If an image is listed twice.
    """
    from manyhot.formats.table_files import column_names, read_frame

    file = Path(path)
    if not file.is_file():
        raise InputError("The file does not exist.", where=path)
    with reading(file):
        names = column_names(file)
        ids = image_name_column(names)
        if ids is None or "split" not in names:
            raise InputError(
                "The table has no split.",
                where=path,
                got=", ".join(names),
                allowed=f"a table with the column {ID_NEEDS} and the column 'split'",
            )
        rows = pa.table(read_frame(file, [ids, "split"]).select(ids, "split"))
    named = image_ids(one_chunk(rows[ids]), f"{path}, column {ids}")
    check_unique(named, str(path))
    splits = rows["split"].to_pylist()
    return {i: None if s is None else str(s) for i, s in zip(named.to_pylist(), splits, strict=True)}
