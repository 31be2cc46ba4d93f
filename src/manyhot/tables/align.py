"""Image ids: each once in a table, and matched between two tables in one place only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot.core.array_types import Ints
from manyhot.errors import InputError, MatchError


@dataclass(frozen=True)
class Alignment:
    """Which rows of two tables are the same image.

    Attributes
    ----------
    left, right : ndarray of int64, shape (m,)
        Row ``left[i]`` of one table is row ``right[i]`` of the other; `left` ascends.
    left_only, right_only : int
        Rows without a match.
    """

    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    left_only: int
    right_only: int


def align(left: pa.Array, right: pa.Array, *, left_name: str, right_name: str) -> Alignment:
    """Match two columns of unique image ids, loudly.

    Raises
    ------
    MatchError
        If no id is in both.
    """
    if left.equals(right):
        rows = np.arange(len(left))
        return Alignment(rows, rows, 0, 0)
    at = pc.index_in(left, right)
    found = at.is_valid().to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(found)
    if not len(rows):
        raise MatchError(
            f"No image of {right_name} is in {left_name}.",
            got=f"ids such as {examples(right)}",
            allowed=f"ids such as {examples(left)}",
            do="give the file that names the images of each row, or labels of the same data set",
        )
    matched = at.drop_null().to_numpy().astype(np.int64)
    return Alignment(rows, matched, len(left) - len(rows), len(right) - len(rows))


def count_shared(left: pa.Array, right: pa.Array) -> int:
    """Return how many ids of `left` are in `right`."""
    return int(pc.sum(pc.is_in(left, right)).as_py() or 0)


def one_chunk(values: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array."""
    combined = values.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined


def examples(ids: pa.Array, count: int = 2) -> str:
    """Return the first ids, for a message."""
    return ", ".join(map(str, ids[:count].to_pylist()))


def check_unique(ids: pa.Array, where: str) -> None:
    """Refuse ids that are listed twice."""
    n_distinct = pc.count_distinct(ids).as_py()
    if n_distinct == len(ids):
        return
    counts = pc.value_counts(ids)
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    raise MatchError(
        "An image is listed more than once.",
        where=where,
        got=f"{len(twice):,} ids, such as {examples(twice.field('values'))}",
        allowed="each image_id once",
        do="keep one row an image",
    )


def check_range(classes: Ints, rows: Ints, ids: pa.Array, n_classes: int, where: str) -> None:
    """Refuse classes outside 0 to n_classes - 1; `rows` says which image each belongs to."""
    if not classes.size or (classes.min() >= 0 and classes.max() < n_classes):
        return
    # NumPy turns a null into NaN, for which no comparison holds.
    bad = np.flatnonzero(~((classes >= 0) & (classes < n_classes)))
    if np.isnan(classes[bad[0]]):
        raise InputError(
            "A list of classes holds an empty value.",
            where=f"{where}, image {ids[int(rows[bad[0]])]}",
            allowed=f"whole numbers, 0 to {n_classes - 1}",
        )
    one_based = classes.min() == 1 and classes.max() == n_classes
    raise InputError(
        "A class is out of range.",
        where=f"{where}, image {ids[int(rows[bad[0]])]}"
        + (f" and {len(bad) - 1:,} more" if len(bad) > 1 else ""),
        got=int(classes[bad[0]]),
        allowed=f"0 to {n_classes - 1}",
        do="subtract 1: these indices start at 1" if one_based else "check which class list the file is over",
    )
