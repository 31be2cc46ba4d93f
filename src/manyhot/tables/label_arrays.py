"""Labels tables from arrays of label sets and of original labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import ClassList
from manyhot.core.array_types import Ints, Ints32
from manyhot.core.sets import NO
from manyhot.errors import InputError
from manyhot.tables import FramePart, Labels
from manyhot.tables.class_values import matrix_of_rows, number_matrix, on_host, sets_of
from manyhot.tables.label_values import columns_of_values, is_exclusive, values_kind
from manyhot.tables.own_classes import own_list
from manyhot.tables.state_lists import state_lists


def labels_as_table(
    part: FramePart,
    label_part: FramePart,
    n_classes: int,
    classes: ClassList | None = None,
    label_values: str | None = None,
) -> Labels:
    """Return label sets, and original labels if there are any, as a labels table."""
    part = replace(part, values=matrix_of_rows(part.values, n_classes, part.where or "labels"))
    if (voted := _voted(part, label_part, n_classes, classes, label_values)) is not None:
        return voted
    sets = sets_of(on_host(part.values), n_classes)
    label = sets.single if label_part.values is None else np.asarray(on_host(label_part.values))
    n = len(sets.lengths)
    columns = {
        "image_id": ids_of(part, n),
        "usable": pa.array(np.ones(n, bool) if sets.usable is None else sets.usable),
        **state_lists(sets.lengths, in_32_bits(sets.flat), sets.state - NO),
    }
    if label is not None:
        columns["label"] = label_column(label, n)
    if label_part.values is None and label is not None:
        columns["rated"] = pa.repeat(False, n)  # as in a file with one label per image
    key, own = (classes.hash, own_list(classes)) if classes is not None else ("", None)
    asked_known = sets.complete or bool((sets.state == NO).any())
    return Labels(
        pa.table(columns),
        n_classes,
        key,
        asked_known=asked_known,
        name="labels",
        class_list=own,
        complete=sets.complete,
        positives_only=sets.usable is not None and not asked_known,  # a matrix with empty cells
    )


def _voted(
    part: FramePart, label_part: FramePart, n_classes: int, classes: ClassList | None, asked: str | None
) -> Labels | None:
    """Return labels from counts, shares or probabilities; None for label sets."""
    matrix = number_matrix(part.values, n_classes)
    where = part.where or "labels"
    if asked not in (None, "states") and matrix is None:
        raise InputError(
            "`label_values` applies only to a matrix of numbers with one column per class.",
            where=where,
            got=f"label_values={asked}",
            allowed=f"shape (n, {n_classes})",
        )
    names = classes.keys if matrix is not None and classes and len(classes) == matrix.shape[1] else ()
    kind = "states" if matrix is None else values_kind(matrix, where, asked=asked, names=names)
    if matrix is None or kind == "states":
        return None
    ids = ids_of(part, len(matrix))
    columns = {"image_id": ids, "usable": pa.array(np.ones(len(matrix), bool))}
    columns |= columns_of_values(matrix, kind, ids, where)
    if label_part.values is not None:
        columns["label"] = label_column(np.asarray(on_host(label_part.values)), len(matrix))
    key, own = (classes.hash, own_list(classes)) if classes is not None else ("", None)
    about = (n_classes, key, True, "labels", own)
    return Labels(pa.table(columns), *about, exclusive=is_exclusive(kind))


def ids_of(part: FramePart, n: int) -> pa.Array:
    """Return the ids of n rows. Without ids, their positions are used."""
    return positions(n) if part.ids is None else part.ids


def positions(n: int) -> pa.Array:
    """Return positions as the ids of n images that have no ids."""
    return pa.array(np.arange(n)).cast(pa.string())


def label_column(label: Any, n: int) -> pa.Array:
    """Return original labels as a column of n values; -1 becomes null."""
    if np.ndim(label) != 1:
        raise InputError(
            "Original labels are not one class per image.",
            where="`label`",
            got=f"shape {np.shape(label)}",
            allowed=f"shape ({n},)",
            do="pass one class per image, such as one_hot.argmax(1), or pass the matrix as `labels`",
        )
    column = pa.array(list(label), pa.int32())
    if len(column) != n:
        raise InputError(
            "Original labels and label sets differ in length.", got=f"{len(column):,}", allowed=f"{n:,}"
        )
    return pc.if_else(pc.equal(column, -1), pa.scalar(None, pa.int32()), column)


def in_32_bits(classes: Ints) -> Ints32:
    """Return classes in 32 bits. Values out of range must not wrap around into a class."""
    return np.clip(classes, -(2**31), 2**31 - 1).astype(np.int32)
