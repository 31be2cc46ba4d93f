"""Label sets as a table with one column per class, or as lists of names by image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from manyhot.classes import ClassList
from manyhot.core.sets import NO, NOT_ASKED, UNCLEAR, YES
from manyhot.errors import InputError, counted
from manyhot.files import atomic_write, write_text
from manyhot.formats.headers import class_name_column, fold_name, is_metadata
from manyhot.formats.indicator import OTHER_TABLES
from manyhot.formats.writing import Saved, classes_of_table, lost_keys, unique_names, usable, valid_classes
from manyhot.parameters import check_one_of
from manyhot.registry import register
from manyhot.tables import Labels
from manyhot.tables.arrays import states_of_labels

_CELLS = {YES: 1, NO: 0, UNCLEAR: -1}
_UNASKED = {"empty": None, "no": 0}


@register(
    "writer",
    "indicator",
    holds=("labels",),
    suffixes=(".csv", ".parquet"),
    keeps=("classes answered no", "unclear classes"),
)
def write_indicator(
    labels: Labels, path: Path, classes: ClassList | None, *, not_asked: str = "empty"
) -> Saved:
    """Write a table of the usable images, with ``image_id`` and one column per class.

    A cell is 1 (*yes*), 0 (*no*), -1 (*unclear*), or empty if no rater was asked about the class. If the
    label sets were lists of classes, a class that is not listed is 0. If they were a table of ones and
    blanks, blanks remain empty.

    Parameters
    ----------
    not_asked : {"empty", "no"}
        Content of the cells of classes that no rater was asked about. With ``indicator(not_asked='no')``,
        they are 0.
    """
    check_one_of(not_asked, _UNASKED, "The option 'not_asked' is not a cell.", where=path)
    own = classes_of_table(labels, classes)
    names = unique_names(own)
    if taken := [name for name in names if is_metadata(name) or class_name_column([name])] or [
        name for name in names if fold_name(name) in OTHER_TABLES
    ]:
        raise InputError(
            "A class has the name of a column with another meaning, so it could not be read back.",
            where=path,
            got=taken[0],
            do="rename the class in the class list, or use another format, such as label-lists",
        )
    states = states_of_labels(labels, own)
    used = np.asarray(usable(labels))
    cells = np.zeros(256, np.int8)
    cells[list(_CELLS)] = list(_CELLS.values())
    columns = {"image_id": pl.Series(labels.image_id.filter(pa.array(used)))}
    n_empty = 0
    for c, name in enumerate(names):
        column = states.state[used, c]
        is_empty = (column == NOT_ASKED) | (labels.positives_only & (column == NO))
        values = pl.Series(cells[column])
        columns[name] = values if not_asked == "no" else values.set(pl.Series(is_empty), None)
        n_empty += 0 if not_asked == "no" else int(is_empty.sum())
    frame = pl.DataFrame(columns)
    with atomic_write(path) as part:
        if path.suffix.lower() == ".csv":
            frame.write_csv(part)
        else:
            frame.write_parquet(part)
    note = f"{path.name} has {counted(n_empty, 'empty cell')}, for classes that no rater was asked about; "
    note += "`to`=\"indicator(not_asked='no')\" writes them as 0"
    return Saved((path,), lost_keys(own), (note,) if n_empty else ())


@register("writer", "label-lists", holds=("labels",), suffixes=(".json",), keeps=())
def write_label_lists(labels: Labels, path: Path, classes: ClassList | None) -> Saved:
    """Write the names of the valid classes of each usable image as JSON."""
    own = classes_of_table(labels, classes)
    names = unique_names(own)
    sets = valid_classes(labels, names.__getitem__)
    write_text(path, json.dumps(sets, ensure_ascii=False, indent=1))
    return Saved((path,), lost_keys(own))
