"""Label sets without the classes that a call leaves out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import ClassList
from manyhot.core.array_types import Bools, Ints
from manyhot.errors import counted, first_names
from manyhot.tables.arrays import label_sets
from manyhot.tables.class_list_unions import unmatched_name
from manyhot.tables.frames import one_chunk, with_column
from manyhot.tables.labels import Labels

_LISTS = ("classes", "state", "p", "n_votes")


def left_out_classes(labels: Labels, at: Ints) -> Ints:
    """Return the classes that labels contain although their position in `at`, shape (C,), is negative."""
    if labels.complete:
        return np.flatnonzero(at < 0)
    flat = one_chunk(labels.table["classes"]).flatten().to_numpy()
    return np.unique(flat[at[flat] < 0])


def _labels_of_positions(labels: Labels, at: Ints) -> Labels:
    """Return label sets without the classes whose position in `at` is negative.

    The class ids are unchanged. An original label that is left out is null.
    """
    table = labels.table
    lists = one_chunk(table["classes"])
    keep = at[lists.flatten().to_numpy()] >= 0
    rows = pc.list_parent_indices(lists).to_numpy()
    for name in _LISTS:
        if name in table.column_names:
            table = with_column(table, name, _filtered(one_chunk(table[name]), keep, rows))
    if "label" in table.column_names:
        label = one_chunk(table["label"])
        is_kept = pc.take(pa.array(at >= 0), label.cast(pa.int32()))
        label = pc.if_else(pc.fill_null(is_kept, False), label, pa.scalar(None, label.type))
        table = with_column(table, "label", label)
    if "conflicts" in table.column_names:
        conflicts = one_chunk(table["conflicts"])
        among = at[conflicts.flatten().to_numpy()] >= 0
        column = _filtered(conflicts, among, pc.list_parent_indices(conflicts).to_numpy(), is_own=True)
        table = with_column(table, "conflicts", column)
    return replace(labels, table=table)


def _filtered(column: pa.ListArray, keep: Bools, rows: Ints, *, is_own: bool = False) -> pa.ListArray:
    """Return lists with the items to keep; `rows` are the images of the items of `keep`."""
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    chosen = keep & (valid[rows] | is_own)
    lengths = np.bincount(rows[chosen], minlength=len(column))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    items = column.flatten().filter(pa.array(keep if is_own else keep[valid[rows]]))
    return pa.ListArray.from_arrays(pa.array(offsets), items, mask=pa.array(~valid))


def _n_with_classes(labels: Labels) -> int:
    """Return the number of usable images with a valid class."""
    sets = label_sets(labels)
    return int(np.count_nonzero(sets.usable & (sets.size > 0)))


def selected_with_note(
    labels: Labels, at: Ints, own: ClassList, why: str, classes: ClassList | None = None
) -> Labels:
    """Return label sets without the classes that have no position, and with a note that names them.

    `classes` is the class list in which they were looked up; the note says which names are ambiguous there.
    """
    left_out = left_out_classes(labels, at)
    if not len(left_out):
        return labels
    selected = _labels_of_positions(labels, at)
    n_before, n_after = _n_with_classes(labels), _n_with_classes(selected)
    names = [own.keys[i] if classes is None else unmatched_name(own, i, classes) for i in left_out.tolist()]
    n_ambiguous = sum(name != own.keys[i] for name, i in zip(names, left_out.tolist(), strict=True))
    if n_ambiguous:
        why = f"{why} or ambiguous" if n_ambiguous < len(names) else "ambiguous"
    what, verb = counted(len(left_out), "class"), "is" if len(left_out) == 1 else "are"
    note = (
        f"{what} of the labels {verb} {why}, and {verb} left out: "
        f"{first_names(names)}; "
        f"{n_before - n_after:,} of {n_before:,} images with valid classes keep none"
    )
    return replace(selected, notes=(*labels.notes, note))
