"""The class ids of names of classes in the columns and rows of a file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import ClassList, class_list, classes_seen, from_keys
from manyhot.core.array_types import Ints32
from manyhot.errors import InputError
from manyhot.formats.reading import as_numbers, cut_for_message
from manyhot.tables.class_list_unions import followed_by
from manyhot.tables.own_classes import list_of_names, own_list

Lookup = Callable[[str], int | None]


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


def ids_of_list(own: ClassList) -> ClassIds:
    """Return the ids of the keys of a class list."""
    return ClassIds({key: i for i, key in enumerate(own.keys)}, len(own), own.hash, own_list(own))


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
    if len(names) == len(imagenet):
        at = [imagenet.find(name) for name in names]
        if None not in at and len(set(at)) == len(imagenet):
            ids = {name: i for name, i in zip(names, at, strict=True) if i is not None}
            return ClassIds(ids, len(imagenet), imagenet.hash)
    return ids_of_list(from_keys(names, path.stem))


def ids_of_values(names: Collection[str], classes: ClassList | None, path: Path) -> ClassIds:
    """Return the ids of the names that occur in the rows of a file.

    Without `classes`, the class list is ImageNet-1k if all names are its keys, names or descriptions.
    Otherwise, it consists of the sorted names in the file. If all names are numbers, they are class ids, and
    the class list is unknown. If `classes` is not complete, further names follow its classes.

    Raises
    ------
    InputError
        If a name is not in `classes`, or none is if the list is not complete.
    """
    imagenet = class_list()
    if classes is not None:
        numbers = as_numbers(list(names))
        if numbers and all(number in classes.by_number for number in numbers):
            ids = {name: classes.by_number[int(name)] for name in names}
            return ClassIds(ids, len(classes), classes.hash)
        lookup = lookup_in(classes)
        others = [] if classes.is_complete else [name for name in names if lookup(name) is None]
        extends = 0 < len(others) < len(names)
        if extends:
            classes = followed_by(classes, classes_seen(others))
            lookup = lookup_in(classes)
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


def lookup_in(classes: ClassList) -> Lookup:
    """Return a function that maps a key, name, description or id of a class to its id; None if unknown."""
    described = classes.descriptions

    def lookup(name: str) -> int | None:
        at = classes.find(name)
        if at is None and len(ids := described.get(name, ())) == 1:
            at = min(ids)
        if at is None and as_numbers([name]) and int(name) < len(classes):
            at = int(name)
        return at

    return lookup


def _required(name: str, lookup: Lookup, classes: ClassList, path: Path) -> int:
    at = lookup(name)
    if at is None:
        raise InputError(
            "A class is not in the class list.",
            where=path,
            got=cut_for_message(name if name.isprintable() else repr(name)),
            allowed=f"0 to {len(classes) - 1}, or a key or name of {classes.name}",
            do="pass the list of all classes as `classes`",
        )
    return at


_SAME = 0.99
"""Share of names from which a list of 1,000 names is ImageNet-1k."""


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
    described = classes.descriptions
    return classes, np.array([_index(name, classes, described, path) for name in names], np.int32)


def _index(name: str, classes: ClassList, described: Mapping[str, Collection[int]], path: Path) -> int:
    ids = described.get(name, ())
    if len(ids) == 1:
        return min(ids)
    try:
        return classes.index(name)
    except (LookupError, InputError) as error:
        if as_numbers([name]) and int(name) < len(classes):
            return int(name)
        raise InputError(
            "A name in the file is not in the class list.",
            where=path,
            got=name,
            allowed=f"keys and names of {classes.name}, or 0 to {len(classes) - 1}",
            do="omit the class list, because the data set has its own",
        ) from error
