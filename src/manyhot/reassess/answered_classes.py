"""The classes that answers are about: their list or number, and ids in place of names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import ClassList, class_list, from_keys
from manyhot.errors import InputError
from manyhot.formats.reading import declared
from manyhot.formats.vote_files import indexed_answers, plain_answers
from manyhot.formats.writing import PathLike
from manyhot.parameters import is_whole
from manyhot.tables.frames import with_column


def check_number(classes: object) -> None:
    """Raise an error for a value that is neither a class list nor a number of classes."""
    if isinstance(classes, str | os.PathLike | ClassList | None) or (is_whole(classes) and classes >= 1):
        return
    if isinstance(classes, Sequence) and all(isinstance(name, str) for name in classes):
        return
    raise InputError(
        "This is neither a class list nor a number of classes.",
        where="`classes`",
        got=repr(classes),
        allowed="a file, a class list, a list of names, or a whole number of at least 1",
    )


def numbered_classes(path: PathLike, table: str, classes: ClassList | int | None) -> ClassList | None:
    """Return the class list of a file; without names if only a number of classes is known."""
    if classes is None or isinstance(classes, ClassList):
        return classes
    file = Path(path) / f"{table}.parquet" if Path(path).is_dir() else Path(path)
    if classes == len(class_list()) or declared(file):
        return None
    return from_keys([str(i) for i in range(classes)], "classes by number")


def with_class_ids(table: pa.Table, name: str, classes: ClassList | int | None) -> pa.Table:
    """Return a table with ids of classes in place of names."""
    named = "class_name" in table.column_names
    listed = classes if isinstance(classes, ClassList) else None
    is_foreign = named or (listed is not None and bool(listed.by_number))
    if "class_id" not in table.column_names or not (is_foreign or pa.types.is_string(table["class_id"].type)):
        return _with_answers(table)
    return indexed_answers(pl.DataFrame(table), listed, Path(name))


def _with_answers(table: pa.Table) -> pa.Table:
    """Return a table with answers in manyhot's words."""
    kind = table["answer"].type if "answer" in table.column_names else pa.list_(pa.null())
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        return table
    answers = plain_answers(pl.Series(table["answer"])).to_arrow().cast(pa.string())
    return with_column(table, "answer", answers)


def class_count(table: pa.Table, classes: ClassList | int | None) -> tuple[int, str]:
    """Return the number of classes, by default one more than the highest, and the hash of their list."""
    if isinstance(classes, ClassList):
        return len(classes), classes.hash
    has_ids = "class_id" in table.column_names and pa.types.is_integer(table["class_id"].type)
    highest = pc.max(table["class_id"]).as_py() if has_ids else None
    return classes or (1 if highest is None else max(highest, 0) + 1), ""
