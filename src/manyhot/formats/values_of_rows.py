"""Columns of numbers and words beside the names of classes in tables with one row per image and class."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from manyhot.classes import ClassList
from manyhot.core.array_types import Floats
from manyhot.errors import InputError, first_names
from manyhot.formats.class_names import keys_of_numbers
from manyhot.formats.headers import RATER_NAMES, fold_name, is_metadata
from manyhot.formats.number_columns import NumberColumn, numbers_in, read_flat_frame, value_columns
from manyhot.formats.predicted_classes import SCORE_COLUMNS
from manyhot.formats.reading import cut_for_message, states_of_values
from manyhot.formats.table_files import column_names
from manyhot.tables import STATES

STATES_OF_ANY = ("present", "is_present")
_STATES = (*STATES_OF_ANY, "valid", "value")
"""Columns that state for each class of an image whether it is valid; the first also if all are equal."""

_MOST_WORDS = 10
"""Number of different words up to which a column may contain decisions, and not comments."""


def stated_classes(
    path: Path, ids: str, label: str, classes: ClassList | None
) -> tuple[pl.DataFrame | None, tuple[str, ...]]:
    """Return the states of the classes in a table, as in a labels table in long form, and notes.

    There are states if the table has a column such as ``present`` of zeros and ones, or yes and no. A note
    names other columns that differ between the classes of an image and are not read.

    Raises
    ------
    InputError
        If a column such as ``present`` contains other numbers or words.
    """
    if len(column_names(path)) < 3:
        return None, ()
    frame = read_flat_frame(path)
    if not {ids, label} <= set(frame.columns):
        return None, ()
    columns = [c for c in value_columns(frame.drop(label)) if _may_state(c, frame, label)]
    varying = [c for c in columns if not is_metadata(c.name) and _differs(c, frame, ids)]
    named = [c for c in columns if fold_name(c.name) in _STATES]
    states = next((c for c in named if c in varying or fold_name(c.name) in STATES_OF_ANY), None)
    if states is not None:
        _check_states(states, frame[states.name], path)
        return _long(frame, ids, label, states.values, classes, path), ()
    varying = [c for c in varying if fold_name(c.name) not in SCORE_COLUMNS]  # these have a note of their own
    if not varying:
        return None, (*_note_on_full_lists(frame, ids, label), *_note_on_flags(columns, frame[ids], label))
    names = first_names([cut_for_message(c.name) for c in varying], 3)
    return None, (
        f"the values in {names} differ between the classes of an image and are not read: every class that "
        "an image lists is valid; if they are scores, rename the column to score and pass the file as "
        "predictions, and if they state which classes are valid, rename it to present, with 1 or yes for "
        "valid and 0 or no for not valid",
    )


def _note_on_flags(columns: list[NumberColumn], ids: pl.Series, label: str) -> tuple[str, ...]:
    """Return a note on columns of zeros and ones in a table with one row per image, which may be classes."""
    flags = [cut_for_message(c.name) for c in columns if c.holds_states and not is_metadata(c.name)]
    if not flags or ids.is_duplicated().any():
        return ()
    return (
        f"the classes are the names in the column {label!r}, so columns of zeros and ones are not read as "
        f"classes: {first_names(flags, 8)}; if they are the classes, drop or rename {label!r}",
    )


def _note_on_full_lists(frame: pl.DataFrame, ids: str, label: str) -> tuple[str, ...]:
    """Return a note if each of several images has rows for all of several classes."""
    lengths = frame.group_by(ids).agg(pl.col(label).n_unique())[label]
    n_classes = frame[label].n_unique()
    if len(lengths) < 2 or n_classes < 2 or (lengths < n_classes).any():
        return ()
    return (
        f"each of the {len(lengths):,} images lists all {n_classes:,} classes, so every class is valid on "
        "every image; if a column states which classes are valid, rename it to present, with 1 or yes for "
        "valid and 0 or no for not valid",
    )


def _may_state(column: NumberColumn, frame: pl.DataFrame, label: str) -> bool:
    """Return whether a column may state which classes are valid: numbers, or words about a class."""
    if not column.is_text:
        return not column.is_empty
    words = frame[column.name]
    if fold_name(column.name) in RATER_NAMES or words.dtype not in (pl.String, pl.Categorical, pl.Enum):
        return False
    if fold_name(column.name) in _STATES:
        return True
    # Words that are the same wherever a class is listed, such as its other name, say nothing on an image.
    return words.n_unique() <= _MOST_WORDS and _differs(column, frame, label)


def _differs(column: NumberColumn, frame: pl.DataFrame, by: str) -> bool:
    """Return whether rows of the same image, or the same class, have different values."""
    values = frame[column.name] if column.is_text else column.values
    rows = pl.DataFrame({"by": frame[by], "value": values})
    return bool((rows.group_by("by").agg(pl.col("value").n_unique())["value"] > 1).any())


def _check_states(column: NumberColumn, cells: pl.Series, path: Path) -> None:
    if column.is_text:
        texts = cells.cast(pl.String)
        words = texts.filter(numbers_in(texts).is_null()).value_counts(sort=True).rows()
        shown = [f"{cut_for_message(word)} in {n:,}" for word, n in words[:3]]
        raise InputError(
            "A column that states which classes of an image are valid contains other words than yes and no.",
            where=f"{path}, column {column.name}",
            got=f"{', '.join(shown)}{', …' * (len(words) > len(shown))} of {len(cells):,} cells",
            allowed="1 or yes, 0 or no, -1 or maybe, or nothing",
            do="use these words, or rename the column if it states something else",
        )
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
