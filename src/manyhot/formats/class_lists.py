"""Class lists of users' own data sets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from manyhot.classes import ClassList, from_keys
from manyhot.errors import InputError
from manyhot.formats.object_files import categories_of_coco, entries_of_coco, load_coco, matches_coco
from manyhot.formats.table_files import column_names, read_frame
from manyhot.registry import register

_OPEN_IMAGES = {"LabelName": "key", "DisplayName": "name"}
"""Columns of Open Images' class descriptions."""


_MID = re.compile(r"/[a-z]/\w+")
"""A class of Open Images."""


def _matches(path: Path) -> bool:
    names = column_names(path)
    is_table = "key" in names or set(_OPEN_IMAGES) <= set(names)
    return path.suffix.lower() == ".txt" or is_table or _has_no_header(path, names)


def _has_no_header(path: Path, names: Sequence[str]) -> bool:
    """Return whether a table is Open Images' class descriptions, up to V6 without the names of columns."""
    return path.suffix.lower() == ".csv" and len(names) == 2 and _MID.fullmatch(names[0]) is not None


@register(
    "format",
    "class-list",
    holds="classes",
    suffixes=(".txt", ".csv", ".tsv", ".parquet"),
    matches=_matches,
    needs="key and, for names, name",
)
def read_class_list(path: Path) -> ClassList:
    """A class list: a text file with one key per line, or a table with ``key``.

    Optional columns are ``name``, ``synonyms``, ``definition`` and ``hypernyms``. In a CSV file, semicolons
    separate several values in a cell. ``hypernyms`` start with the parent of the class and end with the root.
    The class id is the position, from 0. If there is a column ``class_id``, it must contain these positions.
    """
    if path.suffix.lower() == ".txt":
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        return from_keys([line.strip() for line in lines if line.strip()], name=path.stem)
    if _has_no_header(path, column_names(path)):
        rows = pl.read_csv(path, has_header=False, infer_schema=False, new_columns=["key", "name"])
        own = from_keys(rows["key"].to_list(), path.stem)
        return replace(own, names=_names(own.keys, rows["name"]))
    frame = read_frame(path).rename(_OPEN_IMAGES, strict=False)
    if frame["key"].null_count():
        raise InputError("A class has no key.", where=f"{path}, row {frame['key'].is_null().arg_true()[0]}")
    if "class_id" in frame.columns and frame["class_id"].to_list() != list(range(len(frame))):
        raise InputError(
            "The column 'class_id' of a class list does not number the rows from 0.",
            where=path,
            got=", ".join(map(str, frame["class_id"][:5])),
            allowed="0, 1, 2, …",
        )
    _check_separator(frame, path)
    keys = tuple(str(key) for key in frame["key"])
    names = _names(keys, frame["name"]) if "name" in frame.columns else keys
    texts = frame["definition"] if "definition" in frame.columns else [None] * len(frame)
    return ClassList(
        path.stem,
        keys,
        names,
        _several(frame, "synonyms"),
        tuple("" if text is None else str(text) for text in texts),
        _several(frame, "hypernyms"),
    )


@register(
    "format",
    "coco-categories",
    holds="classes",
    suffixes=(".json",),
    matches=matches_coco,
    needs="images, annotations and categories",
)
def read_coco_categories(path: Path) -> ClassList:
    """The names of the categories in COCO's ``instances_….json``, in the order of the file.

    Raises
    ------
    InputError
        If the order of the categories is ambiguous, because they are not sorted by number.
    """
    content = load_coco(path)
    with entries_of_coco(path):
        classes = categories_of_coco(content, path)
        listed = [str(category["name"]) for category in content["categories"]]
    if listed != list(classes.keys):
        raise InputError(
            "The categories are not in the order of their numbers.",
            where=path,
            got=", ".join(listed[:3]),
            allowed=", ".join(classes.keys[:3]),
            do="pass a file with one name per line, in the order of the classes of the model",
        )
    return classes


def _names(keys: Sequence[str], names: pl.Series) -> tuple[str, ...]:
    """Return the names of classes; a class without a name is called by its key."""
    texts = names.cast(pl.String).fill_null("")
    return tuple(name if name.strip() else key for key, name in zip(keys, texts, strict=True))


def _several(frame: pl.DataFrame, column: str) -> tuple[tuple[str, ...], ...]:
    if column not in frame.columns:
        return ((),) * len(frame)
    return tuple(tuple(_split(cell)) for cell in frame[column].to_list())


def _check_separator(frame: pl.DataFrame, path: Path) -> None:
    """Raise an error if another sign than a semicolon seems to separate hypernyms."""
    if "hypernyms" not in frame.columns or frame["hypernyms"].dtype != pl.String:
        return
    cells = frame["hypernyms"].drop_nulls().to_list()
    for sign in "|>":
        cell = next((cell for cell in cells if sign in cell), None)
        if cell is not None and not any(";" in cell for cell in cells):
            raise InputError(
                f"Hypernyms seem to be separated by {sign!r}.",
                where=path,
                got=cell,
                allowed="semicolons: parent; grandparent; root",
                do=f"replace {sign!r} by ';'",
            )


def _split(cell: object) -> Iterator[str]:
    """Yield the values of a cell: a list in Parquet, a text with semicolons in a CSV."""
    parts = cell if isinstance(cell, list) else str("" if cell is None else cell).split(";")
    for part in parts:
        if part is not None and (text := str(part).strip()):
            yield text
