"""The class ids of the numbers, keys and names in a column of classes."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError
from manyhot.formats.reading import as_numbers, cut_for_message


def keys_of_numbers(values: pl.Series, classes: ClassList | None, path: Path) -> pl.Series:
    """Return whole numbers as texts if they are keys of classes rather than positions in the class list.

    This is decided for the column as a whole. With the keys 1, 2 and 3, a 3 can only be a key, and a 0 can
    only be a position.

    Raises
    ------
    InputError
        If all numbers can be both keys and positions, but of different classes.
    """
    places = {} if classes is None else classes.by_number
    if classes is None or not values.dtype.is_integer() or all(a == b for a, b in places.items()):
        return values
    numbers = values.drop_nulls().unique().to_list()
    if not numbers or not all(number in places for number in numbers):
        return values
    if not all(0 <= number < len(places) for number in numbers):
        keys = {number: classes.keys[places[number]] for number in numbers}
        return values.replace_strict(keys, default=None, return_dtype=pl.String)
    odd = next((number for number in sorted(numbers) if places[number] != number), None)
    if odd is None:
        return values
    raise InputError(
        "The numbers may be keys of classes or positions in the class list.",
        where=f"{path}, column {values.name}",
        got=f"{odd}, for example, which is the key of one class and the position of another",
        do="write the names of the classes instead; if the numbers are the names of the columns of scores, "
        "leave out `classes`",
    )


def ids_of_keys(values: pl.Series, classes: ClassList | None) -> pl.Series:
    """Return class ids with ids in place of keys, if numbers can only be keys: 101 in a list of three."""
    numbers = as_numbers(values.drop_nulls().cast(pl.String).unique().to_list()) or []
    if classes is None or not numbers or max(numbers) < len(classes):
        return values
    if not all(number in classes.by_number for number in numbers):
        return values
    at = values.cast(pl.String).cast(pl.Int64)
    return at.replace_strict(classes.by_number, default=None, return_dtype=pl.Int32)


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
        Whether a number is always an index, as in a column ``class_id``, even if it is also a key.
    absent : bool
        Whether names that are not in the class list are allowed, and become null.

    Raises
    ------
    InputError
        If a value is not in the class list.
    """
    classes = classes or class_list()
    keys, table = frozenset(() if ids else classes.keys), dict[str, int]()
    for value in values.unique(maintain_order=True).drop_nulls().to_list():
        if (name := value.strip()) == "":
            continue
        # A number is an index, unless it is a key, as in a list of 1, 2 and 3; in a list of the names that a
        # file contains, it always is a name.
        is_index = classes.is_complete and _DIGITS.fullmatch(name) and name not in keys
        if absent and not is_index and not classes.find_all(name):
            continue
        try:
            table[value] = _within_int32(name) if is_index else classes.index(name)
        except LookupError as error:
            raise InputError(
                "A class is not in the class list.",
                where=path,
                got=value if value.isprintable() and len(value) <= 80 else cut_for_message(repr(value)),
                allowed=f"0 to {len(classes) - 1}, or a key or name of {classes.name}",
                do="pass the list of all classes as `classes`",
            ) from error
    return values.replace_strict(table, default=None, return_dtype=pl.Int32)


_DIGITS = re.compile(r"-?[0-9]+")
# str.isdigit accepts characters that int does not, such as ².


def _within_int32(digits: str) -> int:
    # Large numbers become an invalid class, not wrapped around into a valid one. Python does not parse
    # numbers of more than 4,300 digits.
    return max(-(2**31), min(int(digits), 2**31 - 1)) if len(digits.lstrip("-0")) < 20 else 2**31 - 1
