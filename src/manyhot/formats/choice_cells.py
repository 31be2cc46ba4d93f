"""Cells that contain several of a rater's chosen classes: lists, and texts that a separator divides."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from manyhot.classes import ClassList
from manyhot.errors import InputError, MatchError, and_more
from manyhot.formats.reading import cut_for_message


def with_sets(
    frame: pl.DataFrame, columns: tuple[str, str, str], separator: str, path: Path
) -> tuple[pl.DataFrame, bool]:
    """Return a table with its cells divided into lists of classes, and whether its cells are lists."""
    name = columns[2]
    cells = frame[name]
    if isinstance(cells.dtype, pl.Array):
        return frame.with_columns(cells.arr.to_list()), True
    if not separator or isinstance(cells.dtype, pl.List):
        return frame, isinstance(cells.dtype, pl.List)
    if not isinstance(cells.dtype, pl.String | pl.Categorical | pl.Enum | pl.Null):
        raise InputError(
            "Only text can be split into classes.",
            where=f"{path}, column {name}",
            got=f"separator={separator!r}, and a column of type {cells.dtype}",
            do="leave out `separator`",
        )
    parts = cells.cast(pl.String).str.split(separator).list.eval(pl.element().str.strip_chars())
    return frame.with_columns(parts.list.eval(pl.element().filter(pl.element() != ""))), True


_JOINED = re.compile(r"\s*([|;,])\s*")
"""What often stands between the classes of a cell."""


def check_joined(cells: pl.Series, classes: ClassList | None, path: Path) -> None:
    """Raise an error for cells that are not a class but name several classes.

    Without a class list, a cell such as dog|cat names several classes if other cells are dog and cat.
    """
    distinct = cells.drop_nulls().str.strip_chars().unique(maintain_order=True).to_list()
    seen = set(distinct)

    def is_class(text: str) -> bool:
        return text in seen if classes is None else classes.find(text) is not None

    for text in distinct:
        if (found := _JOINED.search(text)) is None or (classes is not None and is_class(text)):
            continue
        if all(map(is_class, filter(None, _JOINED.split(text)[::2]))):
            option = f"choices(separator={found[1]!r})"
            raise InputError(
                "A cell names several classes.",
                where=path,
                got=cut_for_message(text),
                allowed="one class per row; or lists of classes",
                do=f'to divide the cells, pass `format`="{option}"'
                + (
                    "; if the cell is the name of one class, pass the list of all classes as `classes`"
                    if classes is None
                    else ""
                ),
            )


def check_sets_once(chosen: pl.DataFrame, path: Path) -> None:
    """Raise an error if a rater chose two sets of classes for an image and neither row is the later one."""
    pair = ["image_id", "rater_id"]
    twice = chosen.filter(pl.struct(pair).is_duplicated())
    if len(twice):
        image, rater = twice.row(0)[:2]
        n = twice.select(pair).n_unique()
        raise MatchError(
            "A rater chose two sets of classes for an image.",
            where=f"{path}, image {image}{and_more(n - 1)}",
            got=f"rater {rater}",
            allowed="one row per rater and image, or a column 'answered_at' that gives their order",
        )
