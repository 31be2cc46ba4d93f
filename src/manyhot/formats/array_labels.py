"""NumPy files of labels: ``.npy`` and ``.npz``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from manyhot.classes import ClassList, from_keys
from manyhot.errors import InputError
from manyhot.formats.array_files import (
    LABEL_ARRAYS,
    always,
    check_row_count,
    class_names_of,
    column_classes,
    ids_of_rows,
    load_array,
    members,
)
from manyhot.formats.label_lists import NamedLabels, labels_of_names
from manyhot.formats.reading import only_by_name, states_of_values, stored_states
from manyhot.registry import register
from manyhot.tables import Images, Labels
from manyhot.tables.label_values import are_counts, columns_of_values, is_exclusive, values_kind


def _holds_labels(path: Path) -> bool:
    try:
        values = load_array(path)[""]
    except InputError:
        return False
    if values.ndim == 1:
        return _are_labels(values)
    return values.ndim == 2 and values.dtype.kind in "iuf" and are_counts(values.astype(np.float64))


def _are_labels(values: npt.NDArray[Any]) -> bool:
    """Return whether an array contains one class per image, as a number or a name."""
    return values.ndim == 1 and values.dtype.kind in "iuU"


@register(
    "format",
    "npy-labels",
    holds="labels",
    suffixes=(".npy",),
    matches=only_by_name,
    explicit=_holds_labels,
    numbers=always,
    needs="a class per image as a whole number or name, or a matrix of counts of votes",
)
def read_npy_labels(
    path: Path, *, classes: ClassList | None, rows: Images | None = None, label_values: str | None = None
) -> Labels:
    """One class per image, or a matrix with a column per class: zeros and ones, or votes as in `indicator`.

    Row i belongs to the image in row i of `rows`. Without `rows`, the ids are the positions of the rows. The
    file is read only if it is passed as labels and contains one class per image or counts, or if
    `label_values` is passed. An example is CIFAR-10H's ``cifar10h-counts.npy``. The class -1 stands for a
    missing label.

    Parameters
    ----------
    label_values : {"states", "counts", "shares", "p", "yes-of-5"}, optional
        As in `indicator`.
    """
    values = load_array(path)[""]
    n = len(values) if values.ndim else 0
    ids = rows.image_id if rows is not None else pa.array(np.arange(n)).cast(pa.string())
    return _labels_of_matrix(path, values, ids, {}, classes, label_values)


@register(
    "format",
    "npz-labels",
    holds="labels",
    suffixes=(".npz",),
    matches=lambda path: bool(members(path) & set(LABEL_ARRAYS)),
)
def read_npz_labels(
    path: Path, *, classes: ClassList | None, rows: Images | None = None, label_values: str | None = None
) -> Labels:
    """A matrix of zeros and ones named ``labels`` or ``y``, with the arrays ``image_id`` and ``classes``.

    scikit-learn's ``MultiLabelBinarizer`` returns such a matrix; ``classes`` is its ``classes_``. -1 is
    *unclear*, and NaN is *not asked*. The matrix may also contain votes, as in `indicator`. Instead, the
    array may contain one class per image, of which -1 stands for a missing label.

    Parameters
    ----------
    label_values : {"states", "counts", "shares", "p", "yes-of-5"}, optional
        As in `indicator`.
    """
    arrays = load_array(path)
    name = next(n for n in LABEL_ARRAYS if n in arrays)
    return _labels_of_matrix(
        path, arrays[name], ids_of_rows(path, arrays, rows), arrays, classes, label_values, f", array {name}"
    )


def _labels_of_matrix(
    path: Path,
    values: npt.NDArray[Any],
    ids: pa.Array,
    arrays: Mapping[str, npt.NDArray[Any]],
    classes: ClassList | None,
    label_values: str | None,
    place: str = "",
) -> Labels:
    where = f"{path}{place}"
    if _are_labels(values) and label_values is None:
        return _labels_of_classes(path, values, ids, arrays, classes)
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise InputError(
            "The array contains neither one class per image nor a matrix of zeros and ones.",
            where=where,
            got=f"shape {values.shape} of {values.dtype}",
            allowed="shape (n,) of whole numbers or names; or shape (n, C) of 0, 1 and -1",
        )
    kind = values_kind(values, where, asked=label_values)
    check_row_count(path, len(values), len(ids), "labels")
    own, at = column_classes(path, arrays, values.shape[1], classes)
    if kind == "states":
        state = states_of_values(values[:, at])
        content, asked, complete = stored_states(state)
    else:
        content, asked, complete = columns_of_values(values[:, at], kind, ids, where), True, False
    return Labels(
        pa.table({"image_id": ids, "usable": np.ones(len(ids), bool), **content}),
        len(at),
        own.hash if own else "",
        asked_known=asked,
        name=path.stem,
        class_list=own if classes is None else None,
        exclusive=is_exclusive(kind),
        complete=complete,
        positives_only=not asked,
    )


def _labels_of_classes(
    path: Path,
    values: npt.NDArray[Any],
    ids: pa.Array,
    arrays: Mapping[str, npt.NDArray[Any]],
    classes: ClassList | None,
) -> Labels:
    """Return original labels from one class per image: its name, or its position, as in predictions."""
    check_row_count(path, len(values), len(ids), "labels")
    is_labelled = (values != "") if values.dtype.kind == "U" else (values != -1)
    names, found = class_names_of(arrays), values[is_labelled]
    listed = names if names is not None else None if classes is None else classes.keys
    if listed is not None and found.dtype.kind != "U":
        if odd := sorted({*found.tolist()} - {*range(len(listed))}):
            raise InputError(
                "A class is out of range.",
                where=path,
                got=odd[0],
                allowed=f"0 to {len(listed) - 1}, or -1 for a missing label",
                do="write positions in the class list, or the names of the classes",
            )
        found = np.array(listed)[found]
    named = NamedLabels(
        ids, is_labelled.astype(np.int64), pa.array(found.astype(str).tolist()), is_labelled, is_single=True
    )
    return labels_of_names(
        named, classes, path, declared=None if names is None else from_keys(names, path.name)
    )
