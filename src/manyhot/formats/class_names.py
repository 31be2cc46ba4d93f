"""Which class a name or a number in a file is: in columns, in rows, and in names beside numbers.

A number depends on the order of a class list, which CSV does not contain. Names do not, so the names in
``class_name``, ``class_names`` and ``label_name`` decide.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import ClassList, class_list, classes_seen, from_keys
from manyhot.core.array_types import Ints32
from manyhot.errors import InputError
from manyhot.formats.class_numbers import are_positions, has_own_numbers
from manyhot.formats.reading import as_numbers, cut_for_message
from manyhot.tables.array_inputs import name_imagenet
from manyhot.tables.class_list_unions import followed_by
from manyhot.tables.own_classes import is_class_number, list_of_names, own_list

Lookup = Callable[[str], int | None]


UNSURE = ("uncertain", "unsure", "can't tell", "can’t tell", "cannot tell")
"""What raters write if they cannot decide, in lower case: *maybe* of a class, and no vote for one of all."""


def undecided(chosen: Iterable[object], classes: ClassList | None) -> list[str]:
    """Return the choices that are `UNSURE` and no class of the list."""
    unsure = [text for text in chosen if isinstance(text, str) and text.strip().lower() in UNSURE]
    return [text for text in unsure if classes is None or not classes.find_all(text.strip())]


@dataclass(frozen=True)
class ClassIds:
    """The class id of each name in a file, and the class list to which the ids refer.

    Attributes
    ----------
    ids : Mapping of str to int
    class_hash : str
        The hash of the class list; empty if unknown.
    class_list : ClassList, optional
        The class list of the file itself; None if the ids refer to another class list.
    assumed : bool
        Whether the class list is only assumed to be ImageNet-1k, as in `Labels`.
    """

    ids: Mapping[str, int]
    n_classes: int
    class_hash: str
    class_list: ClassList | None = None
    assumed: bool = False


def part_of_list(at: Sequence[int], classes: ClassList, others: Sequence[str], path: Path) -> ClassList:
    """Return the classes that have a column; if others have none, one of the other columns may be theirs."""
    if others:
        absent = next(key for i, key in enumerate(classes.keys) if i not in at)
        raise InputError(
            "A class has no column of scores.",
            where=path,
            got=f"none for {len(classes) - len(at):,} of {len(classes):,} classes, such as {absent}, and a "
            f"column {cut_for_message(others[0])}",
            allowed="a column for each class of the list, or no other columns of numbers",
            do="rename columns of classes as in the list, and drop other columns",
        )
    return from_keys([classes.keys[i] for i in sorted(at)], path.stem)


def ids_of_columns(names: Sequence[str], path: Path) -> ClassIds:
    """Return the ids of classes in a table whose columns name all classes.

    The classes are in the order of the columns, which is usually also the order of an array beside the table.
    If the columns name all classes of ImageNet-1k, the class list is ImageNet-1k.

    Raises
    ------
    InputError
        If a name occurs twice.
    """
    imagenet = class_list()
    if name_imagenet(names):
        return ClassIds({name: imagenet.index(name) for name in names}, len(imagenet), imagenet.hash)
    own = from_keys(names, path.stem)
    return ClassIds({key: i for i, key in enumerate(own.keys)}, len(own), own.hash, own_list(own))


def ids_of_values(names: Collection[str], classes: ClassList | None, path: Path) -> ClassIds:
    """Return the ids of the names that occur in the rows of a file.

    Without `classes`, the class list is ImageNet-1k if all names are its keys, names or descriptions.
    Otherwise, it consists of the sorted names in the file. If all names are numbers, they are class ids, and
    the class list is unknown. If `classes` is not complete, further names follow its classes.

    Raises
    ------
    InputError
        If a name is not in `classes` or, for a list that is not complete, if no name is.
    """
    imagenet = class_list()
    if classes is not None:
        numbers = as_numbers(list(names))
        if numbers and all(number in classes.by_number for number in numbers):
            ids = {name: classes.by_number[int(name)] for name in names}
            return ClassIds(ids, len(classes), classes.hash)
        lookup = lookup_in(classes, names)
        others = [] if classes.is_complete else [name for name in names if lookup(name) is None]
        extends = 0 < len(others) < len(names)
        if extends:
            classes = followed_by(classes, classes_seen(others))
            lookup = lookup_in(classes, names)
        ids = {name: _required(name, lookup, classes, path) for name in names}
        return ClassIds(ids, len(classes), classes.hash, classes if extends else None)
    if as_numbers(list(names)) is not None:
        return ClassIds({name: int(name) for name in names}, len(imagenet), "", assumed=True)
    lookup = lookup_in(imagenet)
    ids = {name: at for name in names if (at := lookup(name)) is not None}
    if len(ids) == len(names):
        return ClassIds(ids, len(imagenet), imagenet.hash, assumed=not set(names) <= set(imagenet.keys))
    own = list_of_names(names, path.stem)[0]
    # Such as "tench" and 1000, which is none of its classes; the keys of other lists are the names.
    lookup = lookup if own.hash == imagenet.hash else own.find
    ids = {name: _required(name, lookup, own, path) for name in names}
    return ClassIds(ids, len(own), own.hash, own_list(own))


def may_have_ids(names: Iterable[str], classes: ClassList) -> bool:
    """Return whether numbers among these names can be ids: if all are numbers, or the list is ImageNet-1k.

    None of ImageNet's classes is called by a number. In other lists, 2 beside *25F23(LION)* may be the name
    of a class that was left out of the list. In a list whose keys are numbers other than their positions, all
    of the names are either keys or positions; see `are_positions`.
    """
    if classes.hash == class_list().hash:
        return True
    texts = [text for name in names if (text := name.strip().removeprefix("-"))]
    numbers = as_numbers(texts)
    if numbers is None:
        return all(map(is_class_number, texts))
    return not numbers or not has_own_numbers(classes) or are_positions(numbers, classes)


def lookup_in(classes: ClassList, names: Iterable[str] = ()) -> Lookup:
    """Return a function that maps a key, name, description or id of a class to its id; None if unknown.

    Whether numbers are ids depends on the other `names`; see `may_have_ids`.
    """
    described = classes.descriptions
    names = [*names]
    has_ids = may_have_ids(names, classes)
    only_ids = bool(names) and has_ids and has_own_numbers(classes)

    def lookup(name: str) -> int | None:
        at = None if only_ids else classes.find(name)
        if at is None and not only_ids and len(ids := described.get(name, ())) == 1:
            at = min(ids)
        if at is None and has_ids and as_numbers([name]) and int(name) < len(classes):
            at = int(name)
        return at

    return lookup


_SAME = 0.99
"""Share of names from which a list of 1,000 names is ImageNet-1k."""


_UNLISTED = "pass a list with this class as `classes`, or remove the value if it is not a class"


def _allowed(classes: ClassList) -> str:
    ids = "" if has_own_numbers(classes) else f"0 to {len(classes) - 1}, or "
    return f"{ids}a key or name of {classes.name}"


def _required(name: str, lookup: Lookup, classes: ClassList, path: Path) -> int:
    at = lookup(name)
    if at is None and len(classes.find_all(name)) > 1:
        return classes.index(name)  # raises an error that lists them
    if at is None:
        raise InputError(
            "A class is not in the class list.",
            where=path,
            got=cut_for_message(name if name.isprintable() else repr(name)),
            allowed=_allowed(classes),
            do=_UNLISTED,
        )
    return at


def indices_of(keys: pa.Array, classes: ClassList, where: object) -> pa.Array:
    """Return the class of each key, such as a WordNet id.

    Raises
    ------
    InputError
        If a key is not in the class list.
    """
    ids = pc.index_in(keys, pa.array(classes.keys, pa.string()))
    if ids.null_count:
        raise InputError(
            "A key is not in the class list.",
            where=where,
            got=keys.filter(pc.is_null(ids))[0],
            allowed=f"the {len(classes):,} keys of {classes.name}",
        )
    return ids


def classes_of_names(names: Sequence[str], classes: ClassList | None, path: Path) -> tuple[ClassList, Ints32]:
    """Return the class list for the names in a file, and the class id of each name.

    Without `classes`, the class list is ImageNet-1k if all names are names of its classes. Otherwise, it
    consists of the names in the file.

    Raises
    ------
    InputError
        If a name is not in `classes`.
    """
    if classes is None:
        imagenet = class_list()
        described = imagenet.descriptions
        n_same = sum(i in described.get(name, ()) for i, name in enumerate(names))
        same = len(names) == len(imagenet) and n_same >= _SAME * len(names)
        return imagenet if same else from_keys(names, path.name), np.arange(len(names), dtype=np.int32)
    ids = list(map(lookup_in(classes, names), names))
    if None in ids:
        raise InputError(
            "A name in the file is not in the class list.",
            where=path,
            got=names[ids.index(None)],
            allowed=f"keys and names of {classes.name}, or 0 to {len(classes) - 1}",
            do="omit the class list, because the data set has its own",
        )
    return classes, np.array(ids, np.int32)


def class_indices(
    values: pl.Series, classes: ClassList | None, path: Path, *, ids: bool = False, absent: bool = False
) -> pl.Series:
    """Return the class id of each index, key or name as Int32; null for empty values.

    Parameters
    ----------
    values : Series of str
    classes : ClassList, optional
        By default that of ImageNet-1k.
    path : Path
        For messages.
    ids : bool
        Whether a number is an index even if it is also a key, as in a column ``class_id`` of numbers. If a
        number has leading zeros or a value is a name, all are names.
    absent : bool
        Whether names that are not in the class list are allowed, and become null.

    Raises
    ------
    InputError
        If a value is not in the class list.
    """
    classes = classes or class_list()
    cells = values.unique(maintain_order=True).drop_nulls().to_list()
    ids = ids and all(is_class_number(text.removeprefix("-")) for cell in cells if (text := cell.strip()))
    has_ids = classes.is_complete and (ids or may_have_ids(cells, classes))
    only_ids = ids or (has_ids and has_own_numbers(classes))
    keys, table = frozenset(() if only_ids else classes.keys), dict[str, int]()
    for value in cells:
        if (name := value.strip()) == "":
            continue
        # A number is an index, unless it is a key, as in a list of 1, 2 and 3; among names, and in a list of
        # the names that a file contains, it always is a name.
        is_index = has_ids and is_class_number(name.removeprefix("-")) and name not in keys
        if absent and not is_index and not classes.find_all(name):
            continue
        try:
            table[value] = _within_int32(name) if is_index else classes.index(name)
        except LookupError as error:
            raise InputError(
                "A class is not in the class list.",
                where=path,
                got=value if value.isprintable() and len(value) <= 80 else cut_for_message(repr(value)),
                allowed=_allowed(classes),
                do=_UNLISTED,
            ) from error
    return values.replace_strict(table, default=None, return_dtype=pl.Int32)


def _within_int32(digits: str) -> int:
    # Large numbers become an invalid class, not wrapped around into a valid one. Python does not parse
    # numbers of more than 4,300 digits.
    return max(-(2**31), min(int(digits), 2**31 - 1)) if len(digits.lstrip("-0")) < 20 else 2**31 - 1


NAMES_BESIDE = {"class_id": "class_name", "classes": "class_names", "label": "label_name"}
"""Columns of class numbers, and the columns with the names of these classes."""


def numbers_by_name(
    frame: pl.DataFrame, classes: ClassList | None, path: Path
) -> tuple[pl.DataFrame, ClassList | None]:
    """Return a table without columns of names beside numbers of classes, and the list of the numbers.

    The list is `classes` if it is passed. Otherwise, it consists of the names in the order of their numbers,
    or is None if there are none. Lists in cells must already be parsed. A column of names without numbers is
    not used.

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
        return bare, classes
    if classes is not None:
        rows = [(int(number), name) for number, name in pairs.iter_rows()]
        check_numbered_names(rows, classes, path)
        keys = {number: classes.keys[number] for number, _ in rows}
        return _renumbered(bare, columns, {n: n for n in keys}, keys), classes
    by_number = _one_to_one(pairs, path)
    own = _list_of_pairs(by_number, path)
    ids = {number: own.index(name) for number, name in by_number.items()}
    return _renumbered(bare, columns, ids, by_number), own


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
    """Return the names keyed by their numbers."""
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
