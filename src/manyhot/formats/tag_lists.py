"""Predicted classes without scores: names of the classes of each image, best first, as taggers write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from manyhot.classes import ClassList
from manyhot.formats.class_numbers import has_own_numbers, note_on_positions
from manyhot.formats.headers import (
    CLASS_NAME_COLUMNS,
    ID_NEEDS,
    IMAGE_NAME_COLUMNS,
    first_column,
    fold_name,
    image_name_column,
)
from manyhot.formats.label_lists import names_in_file
from manyhot.formats.number_columns import check_order_of_rows
from manyhot.formats.predicted_classes import PREDICTED, SCORE_COLUMNS
from manyhot.formats.prediction_lists import KEYS_OF_OTHERS
from manyhot.formats.reading import JSON_KEY, declared, head
from manyhot.formats.table_files import column_names
from manyhot.formats.tabular import predictions_long, predictions_of_frame
from manyhot.registry import register
from manyhot.tables import Images, Predictions
from manyhot.tables.frames import check_unique
from manyhot.tables.state_lists import ragged

TAGS = (*PREDICTED, "tags", "tag")
"""Columns and keys that are predicted classes if the caller passes the file as predictions."""


def _names_tags(path: Path) -> bool:
    """Return whether a file has names of images and predicted classes, and no scores."""
    is_json = path.suffix.lower() in (".json", ".jsonl")
    if not is_json and declared(path):
        return False
    names = {fold_name(name) for name in (JSON_KEY.findall(head(path)) if is_json else column_names(path))}
    others = names & {*KEYS_OF_OTHERS, *SCORE_COLUMNS, "class_id", "class_ids"}
    return bool(names & set(IMAGE_NAME_COLUMNS) and names & set(TAGS)) and not others


def are_tags(values: Any) -> bool:
    """Return whether an object contains names of classes by image: a list of them, or one."""
    if not isinstance(values, Mapping) or not values or hasattr(values, "with_format"):
        return False
    each = [[v] if isinstance(v, str) else v for v in values.values()]
    are_lists = all(isinstance(v, list | tuple) and all(isinstance(name, str) for name in v) for v in each)
    return are_lists and all(isinstance(image, str) for image in values) and any(each)


@register(
    "format",
    "tag-lists",
    holds="predictions",
    suffixes=(".csv", ".tsv", ".parquet", ".json", ".jsonl"),
    explicit=_names_tags,
    needs=f"{ID_NEEDS}, and tags",
)
def read_tag_lists(
    path: Path,
    *,
    classes: ClassList | None,
    rows: Images | None,
    scores: str | None,
    separator: str = "",
    sets: bool = False,
) -> Predictions:
    """Names of predicted classes without scores: a column of names, JSON of names by image, or JSON lines.

    The classes of an image are read as ranked, best first. An image with an empty cell or list is one for
    which the model predicts nothing.

    Parameters
    ----------
    separator : str
        The separator of the names in a cell, as in `label-lists`.
    sets : bool
        Whether the classes of an image are a set. They are then read as probabilities of 1, and all other
        classes of the list as probabilities of 0.
    """
    del rows, scores
    names, notes = (*TAGS, *CLASS_NAME_COLUMNS), list[str]()
    named = names_in_file(path, classes, separator, among=names)
    if path.suffix.lower() not in (".json", ".jsonl"):
        columns = column_names(path)
        ids, label = image_name_column(columns), first_column(columns, names)
        if ids is not None and label is not None:
            check_order_of_rows(path, ids, label)
        if others := [name for name in columns if name != label and fold_name(name) in names]:
            notes.append(f"the predicted classes are read from {label!r}, and not from {', '.join(others)}")
    listed = pl.DataFrame({"image_id": named.image_id, "class_id": ragged(named.lengths, named.names)})
    if listed["image_id"].is_duplicated().any() and (listed["class_id"].list.len() > 1).any():
        listed = listed.unique(maintain_order=True)
        check_unique(listed["image_id"].to_arrow(), str(path), "retain one list of classes per image")
    # An image without names has a row, too.
    long = listed.with_row_index("row").explode("class_id", empty_as_null=True)
    long = long.select("image_id", "class_id", rank=pl.int_range(1, pl.len() + 1).over("row"))
    if long["class_id"].str.contains(r"^(0|[1-9]\d{0,8})$").all():
        notes += note_on_positions(long["class_id"].drop_nulls().unique(), classes)
        if classes is None or not has_own_numbers(classes):
            long = long.with_columns(class_id=long["class_id"].cast(pl.Int64))
    images = long.select("image_id").unique(maintain_order=True)
    found = long.filter(pl.col("class_id").is_not_null()).unique(
        ["image_id", "class_id"], keep="first", maintain_order=True
    )
    predictions = predictions_of_frame(predictions_long(found, path, images), path, classes, "none")
    if sets:
        predictions = _as_sets(predictions)
    elif _are_in_order(predictions):
        notes.append(
            "the predicted classes of each image are in the order of the class list, and are read as ranked, "
            f"best first; if they are sets, convert the file: manyhot convert {path.name} sets.parquet "
            '--format "tag-lists(sets=True)"'
        )
    return replace(predictions, notes=(*predictions.notes, *notes))


_FEWEST_LISTS = 20
"""Lists of several classes, all in order, from which on the order says nothing about ranks."""


def _are_in_order(predictions: Predictions) -> bool:
    """Return whether all lists of several classes are in the order of the class list."""
    assert predictions.classes is not None  # for the type checker
    first, second = predictions.classes[:, :-1].astype(np.int64), predictions.classes[:, 1:].astype(np.int64)
    pairs = second >= 0
    return int(pairs.any(axis=1).sum()) >= _FEWEST_LISTS and bool((first < second)[pairs].all())


def _as_sets(predictions: Predictions) -> Predictions:
    """Return lists of classes as probabilities of 0 and 1."""
    assert predictions.classes is not None  # for the type checker
    scores = np.zeros((len(predictions), predictions.n_classes), np.float16)
    rows, places = np.nonzero(predictions.classes >= 0)
    scores[rows, predictions.classes[rows, places]] = 1
    return replace(predictions, classes=None, scores=scores, score_kind="probability")
