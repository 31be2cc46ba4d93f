"""Numbers in a file that may be keys of classes or positions in a class list."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

import polars as pl

from manyhot.classes import ClassList, class_list, classes_seen, from_keys
from manyhot.errors import InputError
from manyhot.formats.reading import as_numbers


def has_own_numbers(classes: ClassList) -> bool:
    """Return whether all keys are whole numbers, such as 1, 2 and 3, and some are not their positions."""
    return any(number != at for number, at in classes.by_number.items())


def are_positions(class_numbers: Collection[int], classes: ClassList) -> bool:
    """Return whether numbers can only be positions in a list whose keys are numbers, too.

    A number beyond the list is a key, or unknown. The other numbers are keys, too, then.
    """
    is_key = classes.by_number.keys() >= set(class_numbers)
    return bool(class_numbers) and not is_key and all(0 <= number < len(classes) for number in class_numbers)


def note_on_positions(names: Iterable[str], classes: ClassList | None) -> tuple[str, ...]:
    """Return a note on names that are read as positions in a list whose keys are numbers."""
    numbers = as_numbers([*names])
    if not numbers or classes is None or not has_own_numbers(classes) or not are_positions(numbers, classes):
        return ()
    odd = min(number for number in numbers if number not in classes.by_number)
    other = next(
        (number for number in sorted(numbers) if classes.by_number.get(number, number) != number), odd
    )
    return (
        f"the numbers of classes are read as positions in the class list, because {odd} is not one of its "
        f"keys: {other} is class {classes.keys[other]}; if {odd} stands for no class, leave it out, and the "
        "numbers are read as keys",
    )


def keys_of_numbers(values: pl.Series, classes: ClassList | None, path: Path) -> pl.Series:
    """Return whole numbers as texts if they are keys of classes rather than positions in the class list.

    This is decided for the column as a whole. With the keys 1, 2 and 3, a 3 can only be a key, and a 0 can
    only be a position, or no class if there is a 3, too.

    Raises
    ------
    InputError
        If all numbers can be both keys and positions, but of different classes.
    """
    if classes is None or not values.dtype.is_integer() or not has_own_numbers(classes):
        return values
    places = classes.by_number
    numbers = values.drop_nulls().unique().to_list()
    if not set(numbers) & places.keys() or are_positions(numbers, classes):
        return values
    if not all(0 <= number < len(places) for number in numbers):
        return values.cast(pl.String)
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


def classes_of_numbers(chosen: Iterable[int], where: str) -> ClassList:
    """Return the class list for numbers without names: 0 to the highest one, or the numbers 1 to k.

    If all numbers from 1 to k are chosen and 0 never is, they are names, such as numbers of spiral arms, and
    not positions.
    """
    distinct = set(chosen)
    highest = max(distinct, default=0)
    from_one = distinct == set(range(1, highest + 1)) and highest > 1
    return replace(from_keys([str(i) for i in range(from_one, highest + 1)], where), is_complete=not from_one)


def list_of_codes(values: pl.Series, where: str) -> ClassList | None:
    """Return the class list of texts such as ``"162096"``, which are no positions in ImageNet-1k."""
    names = values.unique().to_list() if values.dtype == pl.String else []
    numbers = as_numbers(names)
    return classes_seen(names, where) if numbers and max(numbers) >= len(class_list()) else None


def ids_of_keys(values: pl.Series, classes: ClassList | None) -> pl.Series:
    """Return numbers, replaced by class ids if they can only be keys, such as 101 in a list of three."""
    numbers = as_numbers(values.drop_nulls().cast(pl.String).unique().to_list()) or []
    if classes is None or not numbers or max(numbers) < len(classes):
        return values
    keys = {int(key): i for i, key in enumerate(classes.keys) if as_numbers([key])}
    if not all(number in keys for number in numbers):
        return values
    at = values.cast(pl.String).cast(pl.Int64)
    return at.replace_strict(keys, default=None, return_dtype=pl.Int32)
