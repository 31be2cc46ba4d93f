"""Names of classes beside their numbers in CSV tables: ``class_name``, ``class_names``, ``label_name``.

A number depends on the order of a class list, which CSV does not contain. Names do not, so they decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from manyhot.classes import ClassList, class_list, from_keys
from manyhot.errors import InputError
from manyhot.formats.reading import as_numbers, cut_for_message

NAMES_BESIDE = {"class_id": "class_name", "classes": "class_names", "label": "label_name"}
"""Columns of class numbers, and the columns with the names of these classes."""


@dataclass(frozen=True)
class NumberedFrame:
    """A table in which classes are numbers. If it also named the classes, the numbers refer to `classes`.

    Attributes
    ----------
    frame : polars.DataFrame
        The table without the columns of names.
    classes : ClassList, optional
        The class list that was passed. If none was passed, the names in the table in the order of their
        numbers; None if the table has no names.
    is_own : bool
        Whether `classes` consists of the names in the table.
    """

    frame: pl.DataFrame
    classes: ClassList | None
    is_own: bool = False


def numbers_by_name(frame: pl.DataFrame, classes: ClassList | None, path: Path) -> NumberedFrame:
    """Return a table whose classes are numbers of a class list, looked up by the names beside the numbers.

    Lists in cells must already be parsed. A column of names without numbers is not used.

    Raises
    ------
    InputError
        If a name is not in `classes`, or a number and its name refer to different classes. Without `classes`,
        if a class has two numbers or a number has two names.
    """
    columns = {c: n for c, n in NAMES_BESIDE.items() if {c, n} <= set(frame.columns)}
    pairs = _pairs(frame, columns, path)
    bare = frame.drop(columns.values())
    if not len(pairs) or as_numbers(pairs["number"].to_list()) is None:  # the column names classes itself
        return NumberedFrame(bare, classes)
    if classes is not None:
        rows = [(int(number), name) for number, name in pairs.iter_rows()]
        check_numbered_names(rows, classes, path)
        keys = {number: classes.keys[number] for number, _ in rows}
        return NumberedFrame(_renumbered(bare, columns, {n: n for n in keys}, keys), classes)
    by_number = _one_to_one(pairs, path)
    own = _list_of_pairs(by_number, path)
    ids = {number: own.index(name) for number, name in by_number.items()}
    return NumberedFrame(_renumbered(bare, columns, ids, by_number), own, is_own=True)


def check_numbered_names(pairs: Iterable[tuple[int, str]], classes: ClassList, path: Path) -> None:
    """Raise an error for a name that is not in a class list, or whose number refers to another class."""
    for number, name in pairs:
        shown, at = cut_for_message(name if name.isprintable() else repr(name)), classes.find(name)
        if at is None:
            raise InputError(
                "A class is not in the class list.",
                where=path,
                got=shown,
                allowed=f"a key or name of the {len(classes):,} classes of {classes.name}",
                do="pass the list of all classes as `classes`",
            )
        if at != number:
            other = classes.keys[number] if 0 <= number < len(classes) else "no class"
            raise InputError(
                "The number and the name of a class contradict each other.",
                where=path,
                got=f"number {number}, name {shown}",
                allowed=f"number {at} for {shown}; in {classes.name}, {number} is {other}",
                do="pass the class list to which the numbers refer as `classes` or, if the names are right, "
                "write them in place of the numbers",
            )


def names_by_number(frame: pl.DataFrame) -> list[tuple[int, str]]:
    """Return the distinct pairs of a number in ``class_id`` and its name in ``class_name``, if it has any."""
    columns = ["class_id", "class_name"]
    if not set(columns) <= set(frame.columns) or not frame["class_id"].dtype.is_integer():
        return []
    return frame.select(columns).drop_nulls().unique(maintain_order=True).rows()


def _pairs(frame: pl.DataFrame, columns: Mapping[str, str], path: Path) -> pl.DataFrame:
    """Return the distinct numbers, as texts, with their names."""
    parts = [pl.DataFrame(schema={"number": pl.String, "name": pl.String})]
    for column, name in columns.items():
        number, named = frame[column], frame[name]
        if isinstance(number.dtype, pl.List):
            if not isinstance(named.dtype, pl.List) or not number.list.len().equals(named.list.len()):
                raise InputError(
                    f"The lists in the columns {column!r} and {name!r} differ in length.",
                    where=path,
                    do="write one name for each class",
                )
            number, named = (values.explode(empty_as_null=False) for values in (number, named))
        if number.dtype.is_float():
            number = number.cast(pl.Int64, strict=False)  # pandas writes whole numbers with gaps as floats
        texts = {"number": number.cast(pl.String).str.strip_chars(), "name": named.cast(pl.String)}
        parts.append(pl.DataFrame(texts).filter(pl.col("number") != ""))
    found = pl.concat(parts).unique(maintain_order=True)
    if found["name"].null_count():
        raise InputError(
            "A class has a number and no name.",
            where=path,
            got=found.filter(pl.col("name").is_null())["number"][0],
            do="write the names of all classes, or drop the column of names",
        )
    return found


def _one_to_one(pairs: pl.DataFrame, path: Path) -> dict[int, str]:
    """Return the names by their numbers."""
    for column, what in (("number", "A number has two classes."), ("name", "A class has two numbers.")):
        twice = pairs.filter(pl.col(column).is_duplicated()).sort(column, maintain_order=True).head(2)
        if len(twice):
            got = " and ".join(f"{number} {cut_for_message(name)}" for number, name in twice.iter_rows())
            raise InputError(what, where=path, got=got, do="correct the table")
    return {int(number): name for number, name in pairs.iter_rows()}


def _list_of_pairs(by_number: Mapping[int, str], path: Path) -> ClassList:
    """Return the class list of names by their numbers, or ImageNet-1k if it has the same numbers."""
    imagenet = class_list()
    if all(imagenet.find(name) == number for number, name in by_number.items()):
        return imagenet
    # A class that no row contains is missing, so the numbers may have gaps, and the last ones may lack.
    return replace(from_keys([by_number[n] for n in sorted(by_number)], path.stem), is_complete=False)


def _renumbered(
    frame: pl.DataFrame, columns: Iterable[str], ids: Mapping[int, int], names: Mapping[int, str]
) -> pl.DataFrame:
    """Return a table with other numbers. A label becomes its name, which cannot be taken for a key."""
    texts = {str(number): at for number, at in ids.items()}
    for column in columns:
        if isinstance(frame[column].dtype, pl.List):
            element = pl.element().cast(pl.String).str.strip_chars()
            found = element.replace_strict(texts, default=None, return_dtype=pl.Int32)
            frame = frame.with_columns(pl.col(column).list.eval(found))
            continue
        values = frame[column].cast(pl.Int64, strict=False)
        to, kind = (names, pl.String) if column == "label" else (ids, pl.Int32)
        frame = frame.with_columns(values.replace_strict(to, default=None, return_dtype=kind).alias(column))
    if isinstance(frame.schema.get("conflicts"), pl.List):
        found = pl.element().replace_strict(ids, default=None, return_dtype=pl.Int32)
        frame = frame.with_columns(pl.col("conflicts").list.eval(found).list.drop_nulls())
    return frame
