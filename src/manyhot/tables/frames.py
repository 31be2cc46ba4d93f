"""Frames of pandas, Polars and Arrow: an index holds image ids, column names are classes.

Arrays are matched by position, frames by ids and names. No frame library is imported: only attributes that
all of them share are used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.core.array_types import Ints
from manyhot.errors import MatchError
from manyhot.tables.align import examples

BY_POSITION = "arrays, as .to_numpy() makes them, are matched by position"


@dataclass(frozen=True, eq=False)
class FramePart:
    """One of several frames or arrays of the same images.

    Attributes
    ----------
    values : object
        An array of shape (n, C) or a list of length n, if it was a frame or a series; else what was given;
        None for ids alone.
    where : str
        Its name in messages.
    ids : pyarrow.Array of string, shape (n,), optional
        The image of each row; None where rows are only numbered.
    names : tuple of str, length C, optional
        The name of each column; None where columns are only numbered, from 0.
    numbered : bool
        Whether it has pandas' default index, 0 to n - 1.
    """

    values: Any
    where: str
    ids: pa.Array = None
    names: tuple[str, ...] | None = None
    numbered: bool = False


def read_frame_part(values: Any, where: str) -> FramePart:
    """Read the values, ids and names of a frame or series; anything else is returned unchanged.

    Ids are the index of pandas, unless it is 0 to n - 1 in order, or a column ``image_id``. Columns that are
    called by all numbers from 0, as of a frame that was made of an array, are put into the order of numbers.

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
    column = None
    if "image_id" in columns:
        column = np.asarray(values["image_id"]).tolist()
        columns = [c for c in columns if c != "image_id"]
        values = values.select(columns) if callable(getattr(values, "select", None)) else values[columns]
    array, names = _numbered(_array(values), tuple(map(str, columns)))
    part = FramePart(array, where, names=names)
    if column is not None:
        return replace(part, ids=_ids(column, where))
    return part if index is None else _with_index(part, index.tolist())


def align_rows(parts: Sequence[FramePart]) -> list[FramePart]:
    """Put the rows of all parts into one order, that of the first with ids.

    Parts without ids are taken to be in the order of the first part; if that has no ids, either, those of
    the others must be in one order.

    Raises
    ------
    MatchError
        If the ids are not the same, or the order of a part without ids is ambiguous.
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
                "The rows of two frames are not the same images.",
                part,
                reference,
                (part.ids, ids),
                "id",
                "give all frames the rows that they share, such as labels.loc[scores.index]",
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
    """Put the columns of all parts into one order: `order`, or else that of the first with names.

    Parameters
    ----------
    parts : sequence of Part
        Those without names are taken to be in that order; if the first is one of them and there is no
        `order`, those of the others must be in one order.
    order : sequence of str, optional
        The classes.
    of : str
        Their name in messages.
    key : callable
        Maps a name to what `order` calls the class.

    Returns
    -------
    list of Part
    tuple of str, optional
        The order; None if no part has names and none was given.

    Raises
    ------
    MatchError
        If the names are not the same, one occurs twice, or the order of a part without names is ambiguous.
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
    """Return the columns of a frame; None of anything else."""
    columns = getattr(values, "column_names", None)  # Arrow's `columns` are arrays
    columns = getattr(values, "columns", None) if columns is None else columns
    readable = any(hasattr(values, name) for name in ("to_numpy", "__array__", "__arrow_c_stream__"))
    return list(columns) if readable and columns is not None and not callable(columns) else None


def _array(values: Any) -> npt.NDArray[Any]:
    if hasattr(values, "to_numpy"):
        return np.asarray(values.to_numpy())
    return np.asarray(values if hasattr(values, "__array__") else pa.table(values))


def _with_index(part: FramePart, index: list[Any]) -> FramePart:
    if index == list(range(len(index))):
        return replace(part, numbered=True)
    return replace(part, ids=_ids(index, part.where))


def _ids(labels: list[Any], where: str) -> pa.Array:
    ids = pa.array(map(str, labels), pa.string())
    _check_distinct(
        ids,
        "An image has more than one row.",
        where,
        "each id once",
        "keep one row an image, or number the rows with .reset_index(drop=True)",
    )
    return ids


def _numbered(
    array: npt.NDArray[Any], names: tuple[str, ...]
) -> tuple[npt.NDArray[Any], tuple[str, ...] | None]:
    """Sort columns that are called by numbers, as pandas and Polars number them; these are no names."""
    for prefix in ("", "column_"):
        numbers = {f"{prefix}{i}": i for i in range(len(names))}
        if numbers.keys() == set(names):
            return array[:, np.argsort([numbers[name] for name in names])], None
    return array, names


def _taken(values: Any, rows: Ints) -> Any:
    if values is None:
        return None
    return values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]


def _check_numbered(part: FramePart, reference: FramePart) -> None:
    """Refuse 0 to n - 1 beside the same numbers in another order: whether to sort them is ambiguous."""
    if not part.numbered or reference.values is None or reference.ids is None:
        return
    if set(reference.ids.to_pylist()) != set(map(str, range(len(part.values)))):
        return
    raise MatchError(
        "One frame has the default index, and another the same numbers in another order.",
        where=f"{part.where}, beside {reference.where}",
        got=f"{reference.where} begins with rows {examples(reference.ids)}",
        allowed="the same index, or ids of images",
        do=f"give both the index that belongs to their rows; {BY_POSITION}",
    )


def _check_distinct(labels: pa.Array, what: str, where: str, allowed: str, do: str) -> None:
    counts = pc.value_counts(labels)
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(twice):
        raise MatchError(what, where=where, got=examples(twice, 3), allowed=allowed, do=do)


def _ambiguous(what: str, part: FramePart, reference: FramePart, unlabelled: FramePart) -> MatchError:
    """Return the refusal of values without labels beside frames in two orders."""
    return MatchError(
        f"Two frames have their {what} in different orders, and {unlabelled.where} may be in either.",
        where=f"{part.where}, beside {reference.where}",
        got=f"{unlabelled.where} without {'an index' if what == 'rows' else 'names of classes'}",
        allowed=f"frames in one order, or {unlabelled.where} as a frame, too",
        do=f"put the {what} of all frames into the order of {unlabelled.where}",
    )


def _differ(
    what: str, part: FramePart, reference: FramePart, labels: tuple[pa.Array, pa.Array], noun: str, do: str
) -> MatchError:
    own, theirs = labels
    more, fewer = (a.filter(pc.invert(pc.is_in(a, b))) for a, b in ((own, theirs), (theirs, own)))
    got = [
        f"{len(found):,} {noun}{'' if len(found) == 1 else 's'} {text}, such as {examples(found)}"
        for found, text in ((more, f"not in {reference.where}"), (fewer, f"of {reference.where} missing"))
        if len(found)
    ]
    return MatchError(
        what,
        where=f"{part.where}, beside {reference.where}",
        got="; ".join(got),
        allowed=f"the {len(theirs):,} {noun}s of {reference.where}, in any order",
        do=f"{do}; {BY_POSITION}",
    )
