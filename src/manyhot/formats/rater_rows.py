"""Votes as one row per image and rater, with one column of answers per class, as in reader studies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from manyhot.classes import ClassList
from manyhot.core.sets import NOT_ASKED, UNCLEAR
from manyhot.errors import InputError
from manyhot.formats.choice_cells import kept_times, vote_times
from manyhot.formats.choice_files import IMAGE_NAMES
from manyhot.formats.headers import RATER_NAMES, class_name_column, first_column, fold_name, is_metadata
from manyhot.formats.indicator import OTHER_TABLES, labels_of_columns
from manyhot.formats.number_columns import NumberColumn, read_flat_frame, value_columns
from manyhot.formats.reading import declared, with_image_ids
from manyhot.formats.table_files import TABLE_SUFFIXES, column_names
from manyhot.formats.vote_files import ANSWER_WORDS
from manyhot.registry import register
from manyhot.tables import Votes, votes_from_table
from manyhot.tables.labels import class_list_metadata, with_zeros

_SAMPLE = 1_000
"""Number of rows that are read to recognise a table; its reader checks all rows."""

_ANSWERS = {"yes": "yes", "no": "no", "unclear": "maybe"}


def _columns(frame: pl.DataFrame) -> list[NumberColumn]:
    """Return the columns that may be classes, with the words of raters as numbers."""
    names = [first_column(frame.columns, names) for names in (IMAGE_NAMES, RATER_NAMES)]
    texts = [c for c, kind in frame.schema.items() if kind == pl.String and c not in names]
    folded = [pl.col(c).str.strip_chars().str.to_lowercase() for c in texts]
    plain = frame.with_columns(column.replace(ANSWER_WORDS) for column in folded).drop(str(names[1]))
    return [c for c in value_columns(plain) if fold_name(c.name) not in RATER_NAMES]


def has_rater_rows(path: Path) -> bool:
    """Return whether a table has a column of raters and columns of answers, and no column of classes."""
    names = column_names(path)
    folded = {fold_name(name) for name in names} - {*RATER_NAMES}
    if declared(path) or folded & OTHER_TABLES or class_name_column(names) is not None:
        return False
    if any(first_column(names, columns) is None for columns in (IMAGE_NAMES, RATER_NAMES)):
        return False
    try:
        columns = _columns(read_flat_frame(path, most_rows=_SAMPLE))
    except InputError:
        return False
    return any(c.holds_states and not is_metadata(c.name) for c in columns)


@register(
    "format",
    "rater-rows",
    holds="votes",
    suffixes=TABLE_SUFFIXES,
    matches=has_rater_rows,
    needs="image_id, rater_id, and one column of 0 and 1 per class",
)
def read_rater_rows(path: Path, *, classes: ClassList | None) -> Votes:
    """One row per image and rater, and one column of answers per class: 1, 0, -1, or words such as *yes*.

    -1 means *maybe*. An empty cell means that the rater was not asked about the class. The columns of classes
    are those of `indicator`. If there are times with a time zone in both ``shown_at`` and ``answered_at``,
    they are those of each answer of the row.
    """
    frame = read_flat_frame(path)
    image, rater = (first_column(frame.columns, names) for names in (IMAGE_NAMES, RATER_NAMES))
    if image is None or rater is None:
        raise InputError(
            "The table has no column of images or of raters.",
            where=path,
            got=", ".join(frame.columns[:8]),
            allowed="image_id, rater_id, and one column of 0 and 1 per class",
        )
    rows = pa.array([str(i) for i in range(len(frame))])
    sets = labels_of_columns(_columns(frame), rows, classes, path, (UNCLEAR, NOT_ASKED))
    table = with_zeros(sets).table
    lengths = table["classes"].combine_chunks().value_lengths().fill_null(0).to_numpy()
    row = np.repeat(np.arange(len(frame)), lengths)
    flat = pl.DataFrame({n: pl.Series(table[n].combine_chunks().flatten()) for n in ("classes", "state")})
    votes = pl.DataFrame(
        {
            "image_id": frame[image].cast(pl.String)[row],
            "class_id": flat["classes"].cast(pl.Int32),
            "rater_id": frame[rater].cast(pl.String)[row],
            "answer": flat["state"].cast(pl.String).replace(_ANSWERS),
        }
    )
    if (times := vote_times(pl.DataFrame([*kept_times(frame)]))) is not None:
        votes = votes.with_columns(pl.Series(name, times[name])[row] for name in times.column_names)
    votes = votes.unique(["image_id", "class_id", "rater_id", "answer"], keep="first", maintain_order=True)
    about = {} if sets.class_list is None else class_list_metadata(sets.class_list)
    arrow = with_image_ids(votes.to_arrow()).replace_schema_metadata(about)
    read = votes_from_table(arrow, name=path.stem, n_classes=sets.n_classes, class_hash=sets.class_hash)
    kept = () if times is None else times.column_names
    others = [name for name, _, _ in sets.unread if not is_metadata(name) and name not in kept]
    return replace(read, left_out=tuple(f"the column {name!r}" for name in others))
