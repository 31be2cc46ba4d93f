"""Counts of votes in which raters chose one class of all: a table or an array with one column per class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy import typing as npt

from manyhot.classes import ClassList, from_keys
from manyhot.core.array_types import Floats, Ints64
from manyhot.errors import InputError, counted
from manyhot.formats.array_files import load_array
from manyhot.formats.choice_files import column_of_images, columns_of_votes
from manyhot.formats.class_names import class_indices
from manyhot.formats.reading import only_by_name
from manyhot.formats.table_files import TABLE_SUFFIXES, read_frame
from manyhot.registry import register
from manyhot.tables import Votes
from manyhot.tables.label_values import (
    EMPTY_CELLS,
    rounding_error,
    tolerance_of_sums,
    without_votes_as_zeros,
)
from manyhot.tables.votes import COUNTED_CLASS

MOST_COUNTED, MOST_OF_IMAGE = 50_000_000, 1_000_000
"""Maximum number of votes that counts stand for, of all images and of one; more need several GB."""

_SUMS, _NEAR = 1e-3, 0.1
"""Allowed distance of sums from 1, and of votes from whole numbers, unless rounding explains a larger one."""


@register(
    "format",
    "counts",
    holds="votes",
    suffixes=(*TABLE_SUFFIXES, ".npy"),
    matches=only_by_name,
    explicit=lambda path: path.suffix.lower() == ".npy",
    needs="image_id and one column per class",
)
def read_counts(path: Path, *, classes: ClassList | None, votes: int = 0) -> Votes:
    """Counts: one row per image, and one column per class with the number of raters who chose it.

    In an array, the images are numbered from 0. It is unknown who gave the votes.

    Parameters
    ----------
    votes : int
        Number of votes per image, if the columns are shares that sum to 1.
    """
    if path.suffix.lower() == ".npy":
        counts = load_array(path)[""]
        ids, keys = [str(i) for i in range(len(counts))], None
        counts = _matrix(counts, path)
    else:
        frame = read_frame(path)
        image = column_of_images(frame, path)
        keys = [c for c in frame.columns if c != image]
        if not all(key.strip() for key in keys):
            raise InputError("A column has no name.", where=path, allowed="a class name for each column")
        ids = frame[image].cast(pl.String).to_list()
        others = [c for c in keys if not frame[c].dtype.is_numeric()]
        if others:
            raise InputError(
                "A column does not contain counts.",
                where=f"{path}, column {others[0]}",
                got=frame[others[0]].dtype,
                allowed="one number per image and class",
            )
        counts = _matrix(frame.select(keys).to_numpy(), path)
    counts = _whole(without_votes_as_zeros(counts), votes, path)
    n_empty = len(counts) - int(np.count_nonzero(counts.any(axis=1)))
    _check_total(counts, path)
    listed = _list_of_columns(keys, counts.shape[1], classes, path)
    # Without a class list, each column is a class, whatever its name: "1" is not the second of "1", "2", "3".
    own = keys is None or classes is None
    at = np.arange(counts.shape[1]) if own else class_indices(pl.Series(keys), listed, path).to_numpy()
    row, column = np.nonzero(counts)
    n = counts[row, column]
    chosen = np.repeat(at[column], n)
    of_image = np.repeat(row, n)
    starts = np.concatenate([[0], np.cumsum(counts.sum(1))])
    number = np.arange(len(of_image)) - starts[of_image]
    images, left_out = np.array(ids, object)[of_image], (counted(n_empty, "image") + " without votes",)
    columns = columns_of_votes(
        images, number + 1, chosen, listed, path, COUNTED_CLASS, left_out if n_empty else ()
    )
    return columns.to_votes()


def _matrix(values: npt.NDArray[Any], path: Path) -> Floats:
    if values.ndim != 2 or values.dtype.kind not in "iuf":
        raise InputError(
            "The array does not contain counts.",
            where=path,
            got=f"an array of shape {values.shape} and type {values.dtype}",
            allowed="one number per image and class",
        )
    return values.astype(np.float64)


def _whole(counts: Floats, votes: int, path: Path) -> Ints64:
    """Return counts as whole numbers; shares are multiplied by the number of votes."""
    if votes:
        sums, whole = counts.sum(1), np.rint(counts * votes)
        with np.errstate(invalid="ignore"):
            off = np.abs(counts * votes - whole)
        rounded = votes * rounding_error(counts) + 1e-6
        near = rounded if _NEAR < rounded < 0.5 else _NEAR
        strange = ~(np.abs(sums - 1) <= tolerance_of_sums(counts, _SUMS)) | (counts < 0).any(1)
        strange |= (off <= near).all(1) & (whole.sum(1) != votes)
        strange &= counts.any(1)
        if strange.any():
            row = int(np.argmax(strange))
            raise InputError(
                "The shares of an image do not sum to 1.",
                where=f"{path}, row {row}",
                got=f"{sums[row]:.6g} in {np.count_nonzero(strange):,} of {len(sums):,} rows",
                allowed="shares of at least 0 that sum to 1",
                do=EMPTY_CELLS
                if np.isnan(sums[row])
                else "if these are counts, pass the format counts, without a number of votes",
            )
        if (off > near).any():
            row, column = np.argwhere(off > near)[0]
            share = counts[row, column]
            raise InputError(
                "A share does not correspond to a whole number of votes.",
                where=f"{path}, row {row}, class {column}",
                got=f"{share:g}, which is {share * votes:g} of {votes:,} votes",
                allowed="multiples of 1 / votes",
                do="pass the number of votes per image, as in counts(votes=50); if this number differs "
                "between images, evaluate against the shares: manyhot evaluate --label-values shares",
            )
        return whole.astype(np.int64)
    strange = ~((counts >= 0) & (counts == np.floor(counts)) & (counts < 2**31))
    if strange.any():
        row, column = np.argwhere(strange)[0]
        off_by = np.abs(counts.sum(1) - 1)
        shares = ((off_by <= tolerance_of_sums(counts, _SUMS)) | ~counts.any(1)).all()
        number = counts[row, column]
        do = "if these are shares, pass the number of votes per image: counts(votes=50)"
        if number > 0 and number != np.rint(number) and not shares:
            do += "; if votes are weighted, divide those of each image by their sum, "
            do += "for manyhot evaluate --label-values shares"
        raise InputError(
            "A cell is not a count.",
            where=f"{path}, row {row}, class {column}",
            got=f"{number:g}" + " among numbers that sum to 1" * bool(shares),
            allowed="whole numbers of at least 0",
            do=EMPTY_CELLS if np.isnan(number) else do,
        )
    return counts.astype(np.int64)


def _check_total(counts: Ints64, path: Path) -> None:
    total, most = int(counts.sum()), int(counts.sum(1).max(initial=0))
    if total > MOST_COUNTED or most > MOST_OF_IMAGE:
        raise InputError(
            "The counts add up to too many votes.",
            where=path,
            got=f"{total:,} votes, {most:,} of them in row {int(counts.sum(1).argmax())}",
            allowed=f"up to {MOST_COUNTED:,}, and up to {MOST_OF_IMAGE:,} on one image",
            do="check that these are counts; to evaluate against them, pass them as labels instead",
        )


def _list_of_columns(keys: list[str] | None, n: int, classes: ClassList | None, path: Path) -> ClassList:
    if classes is None:
        return from_keys(keys or [str(i) for i in range(n)], path.stem)
    if keys is None and n != len(classes):
        raise InputError(
            "The array does not have one column per class.",
            where=path,
            got=f"{n:,} columns",
            allowed=f"{len(classes):,}, the classes of {classes.name}",
        )
    return classes
