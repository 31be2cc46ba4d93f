"""Columns of numbers beside the names of classes in tables with one row per image and class."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from manyhot.classes import ClassList
from manyhot.core.array_types import Floats
from manyhot.errors import InputError, first_names
from manyhot.formats.headers import fold_name, is_metadata
from manyhot.formats.number_columns import NumberColumn, read_flat_frame, value_columns
from manyhot.formats.predicted_classes import SCORE_COLUMNS
from manyhot.formats.reading import cut_for_message, states_of_values
from manyhot.formats.table_files import column_names
from manyhot.formats.tabular import keys_of_numbers
from manyhot.tables import STATES

_STATES = ("present", "is_present", "valid", "value")
"""Columns that state for each class of an image whether it is valid."""


def stated_classes(
    path: Path, ids: str, label: str, classes: ClassList | None
) -> tuple[pl.DataFrame | None, tuple[str, ...]]:
    """Return the states of the classes in a table, as in a labels table in long form, and notes.

    There are states if the table has a column such as ``present`` of zeros and ones. A note names columns of
    numbers that differ between the classes of an image and are not read.

    Raises
    ------
    InputError
        If a column such as ``present`` contains other numbers.
    """
    if len(column_names(path)) < 3:
        return None, ()
    frame = read_flat_frame(path)
    if not {ids, label} <= set(frame.columns):
        return None, ()
    columns = [c for c in value_columns(frame.drop(label)) if not (c.is_text or c.is_empty)]
    varying = [c for c in columns if not is_metadata(c.name) and _differs(c, frame[ids])]
    named = [c for c in columns if fold_name(c.name) in _STATES]
    states = next((c for c in named if c in varying or fold_name(c.name) in _STATES[:2]), None)
    if states is not None:
        _check_states(states, path)
        return _long(frame, ids, label, states.values, classes, path), ()
    varying = [c for c in varying if fold_name(c.name) not in SCORE_COLUMNS]  # these have a note of their own
    if not varying:
        return None, ()
    names = first_names([cut_for_message(c.name) for c in varying], 3)
    return None, (
        f"the numbers in {names} differ between the classes of an image and are not read: every class that "
        "an image lists is valid; if they are scores, rename the column to score and pass the file as "
        "predictions, and if 1 and 0 mean valid and not valid, rename it to present",
    )


def _differs(column: NumberColumn, ids: pl.Series) -> bool:
    """Return whether rows of the same image have different values."""
    rows = pl.DataFrame({"image": ids, "value": column.values})
    return bool((rows.group_by("image").agg(pl.col("value").n_unique())["value"] > 1).any())


def _check_states(column: NumberColumn, path: Path) -> None:
    if len(column.strange):
        raise InputError(
            "A column that states which classes of an image are valid contains other numbers than 0 and 1.",
            where=f"{path}, column {column.name}",
            got=f"{column.strange[0]:g} in {len(column.strange):,} of {len(column.values):,} cells",
            allowed="1 or yes, 0 or no, -1 or maybe, or nothing",
            do="if the numbers are scores, rename the column to score and pass the file as predictions",
        )


def _long(
    frame: pl.DataFrame,
    ids: str,
    label: str,
    values: Floats,
    classes: ClassList | None,
    path: Path,
) -> pl.DataFrame:
    """Return the columns image_id, class_id and state. Classes without a state were not asked about."""
    codes = states_of_values(values)
    texts = ["", *STATES]
    names = keys_of_numbers(frame[label], classes, path).cast(pl.String)
    state = pl.Series([texts[code] if code else None for code in codes], dtype=pl.String)
    columns = {"image_id": frame[ids].cast(pl.String), "class_id": names, "state": state}
    is_asked = state.is_not_null() & (names.fill_null("") != "")
    return pl.DataFrame(columns).with_columns(
        pl.when(is_asked).then(pl.col(name)).alias(name) for name in ("class_id", "state")
    )
