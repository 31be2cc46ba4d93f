"""Frames of pandas, Polars and Arrow, whose index are image ids and whose column names are classes.

Arrays are matched by position, frames by ids and names. No frame library is imported; only common attributes
are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import ReferenceType, ref

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.classes import normal_name
from manyhot.core.array_types import Ints, Ints64
from manyhot.errors import InputError, MatchError, and_more, counted
from manyhot.tables.image_ids import image_name_column, nearest_way
from manyhot.tables.rounded_ids import check_not_rounded


@dataclass(frozen=True)
class Alignment:
    """The pairs of rows of two tables that belong to the same image.

    Attributes
    ----------
    left, right : ndarray of int64, shape (m,)
        Row ``left[i]`` of one table has the same image as row ``right[i]`` of the other. `left` ascends.
    left_only, right_only : int
        Number of rows without a match.
    """

    left: Ints64
    right: Ints64
    left_only: int
    right_only: int


def align(left: pa.Array, right: pa.Array, *, left_name: str, right_name: str) -> Alignment:
    """Match two columns of unique image ids.

    Raises
    ------
    MatchError
        If no id is in both.
    """
    if left.equals(right):
        rows = np.arange(len(left))
        return Alignment(rows, rows, 0, 0)
    at = pc.index_in(left, right)
    rows = np.flatnonzero(at.is_valid().to_numpy(zero_copy_only=False))
    if not len(rows):
        raise MatchError(
            f"No images are in both {left_name} and {right_name}.",
            got=f"ids such as {examples(right)}",
            allowed=f"ids such as {examples(left)}",
            do=nearest_way(left, right)
            or "pass the file with the images of each row, or labels of the same data set",
        )
    matched = at.drop_null().to_numpy().astype(np.int64)
    return Alignment(rows, matched, len(left) - len(rows), len(right) - len(rows))


def rows_like(left: pa.Array, right: pa.Array, *, left_name: str, right_name: str) -> pa.Array:
    """Return the row in `right` of each id of `left`; null if `right` does not contain the id.

    Raises
    ------
    MatchError
        As in `align`.
    """
    found, rows = align(left, right, left_name=left_name, right_name=right_name), np.full(len(left), -1)
    rows[found.left] = found.right
    return pa.array(rows, mask=rows < 0)


def count_shared(left: pa.Array, right: pa.Array) -> int:
    """Return the number of ids of `left` that are in `right`."""
    return int(pc.sum(pc.is_in(left, right)).as_py() or 0)


def one_chunk(values: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array."""
    combined = values.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined


def with_column(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Return a table with other values in one of its columns."""
    return table.set_column(table.column_names.index(name), name, values)


def concat_by_name(parts: Iterable[Mapping[str, pa.Table]]) -> dict[str, pa.Table]:
    """Join the tables of several parts by name."""
    found: dict[str, list[pa.Table]] = {}
    for name, table in (item for part in parts for item in part.items()):
        found.setdefault(name, []).append(table)
    return {name: pa.concat_tables(tables) for name, tables in found.items()}


def null_if_nan(value: float | None) -> float | None:
    """Return a number for a table: null if it is undefined."""
    return None if value is None or np.isnan(value) else float(value)


def examples(ids: pa.Array, count: int = 2) -> str:
    """Return the first ids, for a message."""
    return ", ".join(map(str, ids[:count].to_pylist()))


_unique: ReferenceType[Any] = ref(set())  # of nothing, at first: to make an array would import pandas
"""The ids last found unique. Those of the next model are often the same, and hashing 50,000 takes 7 ms."""


def are_unique(ids: pa.Array) -> bool:
    """Return whether no id is listed twice."""
    global _unique
    if (last := _unique()) is not None and ids.equals(last):
        return True
    if len(ids.unique()) < len(ids):  # a fifth of the time of pyarrow.compute.count_distinct
        return False
    _unique = ref(ids)
    return True


LISTED_TWICE = "An image is listed more than once."


def check_unique(ids: pa.Array, where: str, do: str = "retain one row per image") -> None:
    """Raise an error for ids that are listed twice; `do` is its advice."""
    if are_unique(ids):
        return
    counts = pc.value_counts(ids)
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    raise MatchError(
        LISTED_TWICE,
        where=where,
        got=f"{counted(len(twice), 'id')}, such as {examples(twice.field('values'))}",
        allowed="each image_id once",
        do=do,
    )


def check_range(classes: Ints, rows: Ints, ids: pa.Array, n_classes: int, where: str) -> None:
    """Raise an error for classes outside 0 to n_classes - 1. `rows` contains the position of their images."""
    if not classes.size or (classes.min() >= 0 and classes.max() < n_classes):
        return
    # NumPy turns a null into NaN, for which all comparisons are false.
    bad = np.flatnonzero(~((classes >= 0) & (classes < n_classes)))
    if np.isnan(classes[bad[0]]):
        raise InputError(
            "A list of classes contains an empty value.",
            where=f"{where}, image {ids[int(rows[bad[0]])]}",
            allowed=f"whole numbers, 0 to {n_classes - 1}",
        )
    one_based = classes.min() == 1 and classes.max() == n_classes
    raise InputError(
        "A class is out of range.",
        where=f"{where}, image {ids[int(rows[bad[0]])]}{and_more(len(bad) - 1)}",
        got=int(classes[bad[0]]),
        allowed=f"0 to {n_classes - 1}",
        do="subtract 1: these indices start at 1"
        if one_based
        else "correct it, or pass the list of all classes as `classes`",
    )


BY_POSITION = "arrays, for example from .to_numpy(), are matched by position"


@dataclass(frozen=True, eq=False)
class FramePart:
    """One of several data frames or arrays with the same images.

    Attributes
    ----------
    values : object
        An array of shape (n, C) or a list of length n if the part was read from a data frame or series. Any
        other value is unchanged. None if there are only ids.
    where : str
        Its name in messages.
    ids : pyarrow.Array of string, shape (n,), optional
        The image of each row; None if rows are only numbered.
    names : tuple of str, length C, optional
        The name of each column; None if columns are only numbered, from 0.
    numbered : bool
        Whether the index is pandas' default, 0 to n - 1.
    numbered_columns : bool
        Whether the columns have the names 0 to C - 1, which are names only beside classes of the same names.
    """

    values: Any
    where: str
    ids: pa.Array = None
    names: tuple[str, ...] | None = None
    numbered: bool = False
    numbered_columns: bool = False

    def named_like(self, classes: Sequence[str]) -> FramePart:
        """Return the part with the numbers of its columns as names, if these are the names of `classes`."""
        names = tuple(map(str, range(len(classes))))
        return replace(self, names=names) if self.numbered_columns and {*names} == {*classes} else self


def read_frame_part(values: Any, where: str) -> FramePart:
    """Read the values, ids and names of a data frame or series. Other values are not changed.

    Ids are read from a column ``image_id`` or from the pandas index. If there is no index, or only the
    default index 0 to n - 1, they are read from a column with another common name, such as ``filename``. If
    the names of the columns are the numbers from 0, as in a data frame made from an array, the columns are
    sorted by number.

    Raises
    ------
    MatchError
        If an id occurs twice.
    """
    columns = _columns(values)
    index = getattr(values, "index", None)
    index = None if callable(index) or not hasattr(index, "tolist") else index
    if columns is None:
        if index is None or not hasattr(values, "to_list"):
            return FramePart(values, where)
        return _with_index(FramePart(values.to_list(), where), index.tolist())
    column, name = None, _id_column(values, columns, index)
    if name is not None:
        own = values[name]
        # As an array, whole numbers beside a missing value are floats, which are not exact above 2**53.
        as_list = next((n for n in ("to_pylist", "to_list") if hasattr(own, n)), None)
        column = getattr(own, as_list)() if as_list else np.asarray(own).tolist()
        columns = [c for c in columns if c != name]
        values = values.select(columns) if callable(getattr(values, "select", None)) else values[columns]
    array, names = _numbered(_array(values), tuple(normal_name(str(c)) for c in columns))
    is_default = isinstance(getattr(getattr(values, "columns", None), "start", None), int)  # a RangeIndex
    numbers = names is None and not is_default and "0" in map(str, columns)
    part = FramePart(array, where, names=names, numbered_columns=numbers)
    if column is not None:
        return replace(part, ids=_ids(column, where))
    return part if index is None else _with_index(part, index.tolist())


def align_rows(parts: Sequence[FramePart]) -> list[FramePart]:
    """Sort the rows of all parts into the order of the first part with ids.

    Parts without ids are assumed to have the order of the first part. If the first part has no ids, the ids
    of the other parts must have the same order.

    Raises
    ------
    MatchError
        If the ids differ, or if the order of a part without ids is ambiguous.
    """
    reference = next((p for p in parts if p.ids is not None), None)
    if reference is None:
        return list(parts)
    first, ids = parts[0], reference.ids
    is_ambiguous = first.values is not None and first.ids is None
    aligned = []
    for part in parts:
        if part.ids is None:
            _check_numbered(part, reference)
            fits = hasattr(part.values, "__len__") and len(part.values) == len(ids)
            aligned.append(replace(part, ids=ids) if fits else part)
            continue
        at = pc.index_in(ids, part.ids)
        if at.null_count or len(part.ids) != len(ids):
            raise _differ(
                "Two frames have different images.",
                part,
                reference,
                (part.ids, ids),
                "id",
                "select the common rows of all frames, such as labels.loc[scores.index]",
            )
        if is_ambiguous and not part.ids.equals(ids):
            raise _ambiguous("rows", part, reference, first)
        aligned.append(replace(part, values=_taken(part.values, at.to_numpy()), ids=ids))
    return aligned


def align_columns(
    parts: Sequence[FramePart],
    order: Sequence[str] | None = None,
    *,
    of: str = "the class list",
    key: Callable[[str], str] = str,
) -> tuple[list[FramePart], tuple[str, ...] | None]:
    """Sort the columns of all parts into `order` or, by default, the order of the first part with names.

    Parameters
    ----------
    parts : sequence of FramePart
        The parts. Columns without names are assumed to be in the order of the result. If the first part has
        no names and there is no `order`, the names of all other parts must be in the same order.
    order : sequence of str, optional
        The classes.
    of : str
        The name of the classes of `order` in messages.
    key : callable
        Maps the name of a column to a class in `order`.

    Returns
    -------
    list of FramePart
    tuple of str, optional
        The order; None if there is neither `order` nor a part with names.

    Raises
    ------
    MatchError
        If the names differ, if a name occurs twice, or if the order of a part without names is ambiguous.
    """
    reference = next((p for p in parts if p.names is not None), None)
    if reference is None:
        return list(parts), None if order is None else tuple(order)
    has_order = order is not None
    target = FramePart(None, of, names=tuple(order)) if order is not None else reference
    names = pa.array(target.names, pa.string())
    aligned = []
    for part in parts:
        if part.names is None:
            aligned.append(part)
            continue
        own = pa.array(map(key, part.names) if has_order else part.names, pa.string())
        _check_distinct(
            own,
            "A class has more than one column.",
            part.where,
            "each class once",
            "drop or rename a column",
        )
        at = pc.index_in(names, own)
        if at.null_count or len(own) != len(names):
            raise _differ(
                "The columns are not the classes." if has_order else "The columns of two frames differ.",
                part,
                target,
                (own, names),
                "name",
                "rename or select columns",
            )
        if not has_order and parts[0].values is not None and parts[0].names is None and not own.equals(names):
            raise _ambiguous("columns", part, reference, parts[0])
        aligned.append(replace(part, values=part.values[:, at.to_numpy()], names=target.names))
    return aligned, target.names


def _columns(values: Any) -> list[Any] | None:
    """Return the columns of a frame; None for anything else."""
    columns = getattr(values, "column_names", None)  # Arrow's `columns` are arrays
    columns = getattr(values, "columns", None) if columns is None else columns
    readable = any(hasattr(values, name) for name in ("to_numpy", "__array__", "__arrow_c_stream__"))
    return list(columns) if readable and columns is not None and not callable(columns) else None


def _id_column(values: Any, columns: Sequence[Any], index: Any) -> Any:
    """Return the column with the ids of images; None if there is none, or if the index contains the ids."""
    if "image_id" in columns or (index is not None and not _is_numbered(index.tolist())):
        return "image_id" if "image_id" in columns else None
    name = image_name_column(c for c in columns if isinstance(c, str))
    # A class may be called path or image: its scores and its booleans are no ids.
    return None if name is None or np.asarray(values[name]).dtype.kind in "fb" else name


def _is_numbered(index: list[Any]) -> bool:
    return index == list(range(len(index)))


def _array(values: Any) -> npt.NDArray[Any]:
    if hasattr(values, "to_numpy"):
        return np.asarray(values.to_numpy())
    return np.asarray(values if hasattr(values, "__array__") else pa.table(values))


def _with_index(part: FramePart, index: list[Any]) -> FramePart:
    if _is_numbered(index):
        return replace(part, numbered=True)
    return replace(part, ids=_ids(index, part.where))


def _ids(labels: list[Any], where: str) -> pa.Array:
    if (row := next((i for i, label in enumerate(labels) if _is_missing(label)), None)) is not None:
        raise InputError(
            "An image id is missing.",
            where=f"{where}, row {row}",
            got=str(labels[row]),
            allowed="an id in each row",
            do="leave out the rows without an id",
        )
    if labels and all(isinstance(label, float) and label.is_integer() for label in labels):
        check_not_rounded(pa.array(labels, pa.float64()), where)
        labels = list(map(int, labels))  # pandas makes whole numbers floats beside missing values
    ids = pa.array(map(str, labels), pa.string())
    check_not_rounded(ids, where)
    _check_distinct(
        ids,
        "An image has more than one row.",
        where,
        "each id once",
        "retain one row per image, or number the rows with .reset_index(drop=True)",
    )
    return ids


def _is_missing(label: Any) -> bool:
    return not isinstance(label, str | int) and str(label) in ("None", "nan", "NaT", "<NA>")


def _numbered(
    array: npt.NDArray[Any], names: tuple[str, ...]
) -> tuple[npt.NDArray[Any], tuple[str, ...] | None]:
    """Sort columns that pandas or Polars numbered; these numbers are not names."""
    for prefix in ("", "column_"):
        numbers = {f"{prefix}{i}": i for i in range(len(names))}
        if numbers.keys() == set(names):
            return array[:, np.argsort([numbers[name] for name in names])], None
    return array, names


def _taken(values: Any, rows: Ints) -> Any:
    if values is None:
        return None
    return [values[row] for row in rows] if isinstance(values, list) else values[rows]


def _check_numbered(part: FramePart, reference: FramePart) -> None:
    """Raise an error for 0 to n - 1 with the same numbers in another order, which is ambiguous."""
    if not part.numbered or reference.values is None or reference.ids is None:
        return
    if set(reference.ids.to_pylist()) != set(map(str, range(len(part.values)))):
        return
    raise MatchError(
        "One frame has the default index, and another has the same numbers in a different order.",
        where=f"{part.where}, compared with {reference.where}",
        got=f"{reference.where} begins with rows {examples(reference.ids)}",
        allowed="the same index, or ids of images",
        do=f"set the index of both to the ids of their rows; {BY_POSITION}",
    )


def _check_distinct(labels: pa.Array, what: str, where: str, allowed: str, do: str) -> None:
    counts = pc.value_counts(labels)
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(twice):
        raise MatchError(what, where=where, got=examples(twice, 3), allowed=allowed, do=do)


def _ambiguous(what: str, part: FramePart, reference: FramePart, unlabelled: FramePart) -> MatchError:
    """Return the error for values without labels and frames in two orders."""
    return MatchError(
        f"Two frames have {what} in different orders, and {unlabelled.where} may have either order.",
        where=f"{part.where}, compared with {reference.where}",
        got=f"{unlabelled.where} without {'an index' if what == 'rows' else 'names of classes'}",
        allowed=f"frames in one order, or {unlabelled.where} as a frame, too",
        do=f"sort the {what} of all frames in the order of {unlabelled.where}",
    )


def _differ(
    what: str, part: FramePart, reference: FramePart, labels: tuple[pa.Array, pa.Array], noun: str, do: str
) -> MatchError:
    own, theirs = labels
    more, fewer = (a.filter(pc.invert(pc.is_in(a, b))) for a, b in ((own, theirs), (theirs, own)))
    got = [
        f"{counted(len(labels), noun)} {text}, such as {examples(labels)}"
        for labels, text in ((more, f"not in {reference.where}"), (fewer, f"of {reference.where} missing"))
        if len(labels)
    ]
    return MatchError(
        what,
        where=f"{part.where}, compared with {reference.where}",
        got="; ".join(got),
        allowed=f"the {len(theirs):,} {noun}s of {reference.where}, in any order",
        do=f"{do}; {BY_POSITION}",
    )


def list_matrix(column: pa.ChunkedArray | pa.Array, fill: float) -> npt.NDArray[Any]:
    """Return a column of lists as a matrix, shape (n, longest); short lists are padded with `fill`.

    Lists of equal lengths are not copied.
    """
    column = one_chunk(column) if isinstance(column, pa.ChunkedArray) else column
    flat = column.flatten().to_numpy(zero_copy_only=False)
    lengths = np.diff(column.offsets.to_numpy())
    if len(lengths) and (lengths == lengths[0]).all():
        same: npt.NDArray[Any] = flat.reshape(len(lengths), int(lengths[0]))
        return same
    matrix: npt.NDArray[Any] = np.full((len(lengths), int(lengths.max(initial=0))), fill, flat.dtype)
    matrix[np.arange(matrix.shape[1]) < lengths[:, None]] = flat
    return matrix
