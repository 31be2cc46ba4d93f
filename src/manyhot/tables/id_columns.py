"""Names of the columns that contain the names of images, in files and in frames."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from manyhot.errors import InputError

IMAGE_NAME_COLUMNS = (
    "image_id",
    "filename",
    "file_name",
    "fname",
    "file",
    "filepath",
    "path",
    "image",
    "image_path",
    "image_name",
    "image_index",
    "imageid",
    "img",
    "id",
    "unnamed:_0",
    "",
)
"""Columns with the names of images, by preference; the last two are the index of pandas."""


def fold_name(column: str) -> str:
    """Return the name of a column in lower case, with underscores instead of spaces, hyphens and dots."""
    return re.sub(r"[\s.\-]+", "_", column.strip()).casefold()


def check_columns_once(columns: Iterable[str], where: object) -> None:
    """Raise an error if two columns have the same name: neither, or only the first, can be selected."""
    name, count = next(iter(Counter(columns).most_common(1)), ("", 0))
    if count > 1:
        raise InputError(
            "Two columns of the table have the same name.",
            where=where,
            got=repr(name),
            allowed="each name once",
            do="rename or remove one of them",
        )


def image_name_column(columns: Iterable[str]) -> str | None:
    """Return the column with image names; None if there is none."""
    return first_column(columns, IMAGE_NAME_COLUMNS)


def first_column(columns: Iterable[str], names: Sequence[str]) -> str | None:
    """Return the first of `names` that is the name of a column; None if none is."""
    by_name: dict[str, str] = {}
    for column in columns:
        by_name.setdefault(fold_name(column), column)
    return next((by_name[name] for name in names if name in by_name), None)
