"""Values that callers pass as classes: numbers, names, and matrices on any device, as arrays of class ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy import typing as npt

from manyhot.classes import ClassList
from manyhot.core.array_types import Bools, Bytes, Ints64
from manyhot.core.sets import NO, NO_LABEL, NOT_ASKED, UNCLEAR, YES
from manyhot.errors import InputError
from manyhot.tables import FramePart
from manyhot.tables.own_classes import list_of_names


@dataclass(frozen=True, eq=False)
class SetArrays:
    """Label sets as arrays.

    Attributes
    ----------
    lengths : ndarray of int, shape (n,)
        Number of classes listed for each image.
    flat : ndarray of int64, shape (m,)
        The classes, image by image.
    state : ndarray of uint8, shape (m,)
        The state of each class.
    single : ndarray of int64, shape (n,), optional
        The labels, if there is one per image.
    complete : bool
        Whether unlisted classes are absent, like zeros in a full matrix.
    usable : ndarray of bool, shape (n,), optional
        For each image, whether any class was asked about; None if this holds for all images.
    """

    lengths: Ints64
    flat: Ints64
    state: Bytes
    single: Ints64 | None = None
    complete: bool = False
    usable: Bools | None = None


def sets_of(labels: Any, n_classes: int) -> SetArrays:
    """Return label sets from lists of classes, a matrix of shape (n, C), or one class per image.

    Raises
    ------
    InputError
        If `labels` does not have one of these forms.
    """
    if is_sparse(labels):
        return _of_sparse(labels, n_classes)
    if not hasattr(labels, "dtype"):
        labels = list(labels)
        if labels and all(np.ndim(s) == 1 or isinstance(s, set | frozenset) for s in labels):
            return _of_lists([sorted(s) if isinstance(s, set | frozenset) else s for s in labels])
    array = _as_numbers(np.asarray(labels))
    if array.ndim == 2 and array.shape[1] == n_classes and _is_indicator(array):
        return _of_matrix(array)
    if array.ndim == 1 and array.dtype.kind in "iu":
        return replace(
            _of_lists([[c] if c != NO_LABEL else [] for c in array]), single=array.astype(np.int64)
        )
    raise InputError(
        "Labels are not lists of classes, a multi-hot matrix, or one class per image.",
        got=f"shape {array.shape} of {array.dtype}",
        allowed=f"n lists; (n, {n_classes}) of bool; or (n,) integers",
    )


def matrix_of_rows(values: Any, n_classes: int, where: str) -> Any:
    """Return lists or tensors with a number for each class, such as 0 and 1, as a matrix of shape (n, C).

    Anything else is unchanged, such as lists of classes.

    Raises
    ------
    InputError
        If the rows are ambiguous: they may be lists of classes, or 0 and 1 for each class.
    """
    if isinstance(values, IdLists) or hasattr(values, "dtype") or not hasattr(values, "__iter__"):
        return values
    values = list(values)
    if not values or not n_classes or not all(_is_row(row, n_classes) for row in values):
        return values
    matrix = _as_numbers(np.array([np.asarray(on_host(row)) for row in values]))
    if matrix.dtype.kind in "iu":
        if not np.isin(matrix, (0, 1, -1)).all():
            return values
        check_no_lists(matrix, where)
    return matrix if matrix.dtype.kind in "biuf" else values


def _is_row(row: Any, n_classes: int) -> bool:
    is_list = not isinstance(row, str | set | frozenset) and np.ndim(on_host(row)) == 1
    return is_list and len(row) == n_classes


def check_no_lists(matrix: npt.NDArray[Any], where: object) -> None:
    """Raise an error if rows of 0 and 1 may also be lists of classes, such as [0, 1] with two classes."""
    if (np.sort(matrix, axis=1) == np.arange(matrix.shape[1])).all():
        raise InputError(
            "The rows may be lists of classes, or 0 and 1 for each class.",
            where=where,
            got=f"{matrix[0].tolist()}, with {matrix.shape[1]} classes",
            do="if they are 0 and 1, pass an array, such as np.array(rows); if they are lists of classes, "
            "write the names of the classes",
        )


def number_matrix(labels: Any, n_classes: int) -> npt.NDArray[Any] | None:
    """Return a dense matrix of numbers with one column per class, shape (n, C); None for anything else."""
    labels = on_host(labels)
    if is_sparse(labels) or not hasattr(labels, "dtype"):
        return None
    array = _as_numbers(np.asarray(labels))
    is_numbers = array.ndim == 2 and array.shape[1] == n_classes and array.dtype.kind in "biuf"
    return array if is_numbers else None


def _of_lists(lists: Sequence[Any]) -> SetArrays:
    lengths = np.array([len(s) for s in lists], np.int64)
    flat = np.concatenate([np.empty(0, np.int64), *[np.asarray(s, np.int64) for s in lists]])
    return SetArrays(lengths, flat, np.full(len(flat), YES, np.uint8))


def _of_matrix(array: npt.NDArray[Any]) -> SetArrays:
    """Return the positives of a matrix; all cells that were asked about, if it holds -1 or NaN."""
    if array.dtype != bool and ((array == -1) | (array != array)).any():
        states = [array == 1, array == 0, array == -1], [YES, NO, UNCLEAR]
        state = np.select(*states, NOT_ASKED).astype(np.uint8)
        rows, flat = np.nonzero(state)
        lengths = np.bincount(rows, minlength=len(array))
        return SetArrays(lengths, flat, state[rows, flat], usable=lengths > 0)
    rows, flat = np.nonzero(array)
    lengths = np.bincount(rows, minlength=len(array))
    return SetArrays(lengths, flat, np.full(len(flat), YES, np.uint8), complete=True)


def _of_sparse(matrix: Any, n_classes: int) -> SetArrays:
    rows = matrix.tocsr(copy=True)
    rows.sum_duplicates()
    rows.eliminate_zeros()
    if rows.shape[1] != n_classes or not (rows.data == 1).all():
        raise InputError(
            "The sparse matrix of labels does not consist of zeros and ones, with one column per class.",
            got=f"shape {rows.shape} of {rows.dtype}",
            allowed=f"(n, {n_classes}) of 0 and 1",
        )
    flat = rows.indices.astype(np.int64)
    lengths = np.diff(rows.indptr).astype(np.int64)
    return SetArrays(lengths, flat, np.full(len(flat), YES, np.uint8), complete=True)


def is_sparse(values: Any) -> bool:
    """Return whether values are a SciPy sparse matrix or array."""
    return hasattr(values, "tocsr")


def _as_numbers(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array of Python objects as numbers, with NaN if missing; unchanged if it holds others."""
    if array.dtype != object or array.ndim != 2:
        return array
    try:
        return np.array([[_number(value) for value in row] for row in array], np.float64).reshape(array.shape)
    except (TypeError, ValueError):
        return array


def _number(value: Any) -> float:
    is_missing = value is None or type(value).__name__ == "NAType"  # pandas.NA is no number
    return float("nan") if is_missing else float(value)


def _is_indicator(array: npt.NDArray[Any]) -> bool:
    if array.dtype == bool:
        return True
    if array.dtype.kind not in "iuf":
        return False
    return bool((np.isin(array, (0, 1, -1)) | (array != array)).all())


def has_texts(values: Any) -> bool:
    """Return whether values are names of classes, or lists of names."""
    kind = getattr(getattr(values, "dtype", None), "kind", "")
    if kind in ("b", "i", "u", "f", "U") or is_sparse(values) or hasattr(values, "detach"):
        return kind == "U"
    rows = values if hasattr(values, "__iter__") else ()
    first = next((v for v in rows if v is not None and (isinstance(v, str) or np.size(v))), None)
    if isinstance(first, set | frozenset):
        first = next(iter(first), None)
    elif first is not None and not isinstance(first, str) and np.ndim(first) == 1:
        first = first[0]
    return isinstance(first, str)


def with_ids(
    parts: Sequence[FramePart], classes: ClassList | None
) -> tuple[list[FramePart], ClassList | None, bool]:
    """Return the parts with class ids in place of names, the class list, and whether it is only assumed.

    Parameters
    ----------
    parts : sequence of FramePart
    classes : ClassList, optional
        The class list. By default, the class list of the names, as in `list_of_names`.

    Raises
    ------
    InputError
        If a name is not in `classes`.
    """
    named = [p for p in parts if p.values is not None and p.names is None and has_texts(p.values)]
    if not named:
        return list(parts), classes, False
    texts = {name for p in named for name in names_in(p.values)}
    own, assumed = (classes, False) if classes is not None else list_of_names(texts, "labels")
    ids = {name: own.find(name) for name in texts}
    for part in named:
        _check_names(part, ids, own)
    return (
        [replace(p, values=_ids(p.values, ids)) if p in named else p for p in parts],
        own,
        assumed,
    )


def _check_names(part: FramePart, ids: Mapping[str, int | None], classes: ClassList) -> None:
    absent = next((name for name in names_in(part.values) if ids[name] is None), None)
    if absent is not None:
        raise InputError(
            "A class is not in the class list.",
            where=part.where,
            got=absent,
            allowed=f"a key or name of the {len(classes):,} classes of {classes.name}",
            do="pass the list of all classes as `classes`",
        )


def names_in(values: Any) -> Iterator[str]:
    """Yield the names of classes in values, row by row."""
    for value in values:
        is_one = value is None or isinstance(value, str | float)  # NaN is a missing value
        yield from filter(None, map(_name, [value] if is_one else value))


def _name(value: Any) -> str:
    """Return a name without surrounding spaces; empty for a missing value, such as NaN."""
    return value.strip() if isinstance(value, str) else ""


class IdLists(list[list[int]]):
    """One list of class ids per row, from names."""

    def padded(self) -> Ints64:
        """Return the lists as a matrix, with short lists padded with -1."""
        matrix = np.full((len(self), max(map(len, self), default=1) or 1), NO_LABEL, np.int64)
        for row, values in zip(matrix, self, strict=True):
            row[: len(values)] = values
        return matrix


def _ids(values: Any, ids: Mapping[str, int | None]) -> Ints64 | IdLists:
    """Return one id per row, -1 for none, or one list of ids per row."""

    def one(name: str) -> int:
        return NO_LABEL if (at := ids.get(name)) is None else at

    rows = list(values)
    if all(value is None or isinstance(value, str | float) for value in rows):
        return np.array([one(_name(value)) for value in rows], np.int64)
    listed = ([] if row is None or isinstance(row, float) else row for row in rows)
    return IdLists([one(name) for name in map(_name, row) if name] for row in listed)


def on_host(values: Any) -> Any:
    """Return a tensor on any device as an array, and columns as lists; anything else is unchanged."""
    for name in ("to_list", "to_pylist"):  # a Series of Polars, a column of Arrow
        if hasattr(values, name):
            return getattr(values, name)()
    if hasattr(values, "__dlpack__") and not hasattr(values, "__array__"):
        return np.from_dlpack(values)
    if not hasattr(values, "detach"):
        return values
    tensor = values.detach().cpu()
    if str(tensor.layout) != "torch.strided":
        tensor = tensor.to_dense()
    # NumPy has no bfloat16, the type of tensors under autocast.
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
