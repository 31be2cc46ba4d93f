"""The class list of a file whose columns or values are names of classes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from manyhot.classes import ClassList, class_list, classes_seen, from_keys
from manyhot.errors import InputError
from manyhot.formats.reading import as_numbers, cut_for_message, descriptions

Lookup = Callable[[str], int | None]


@dataclass(frozen=True)
class ClassIds:
    """The class id of each name in a file, and the class list to which the ids refer.

    Attributes
    ----------
    ids : Mapping of str to int
    n_classes : int
    class_hash : str
        The hash of the class list; empty if unknown.
    class_list : ClassList, optional
        The class list of the file itself; None if the ids refer to another one.
    """

    ids: Mapping[str, int]
    n_classes: int
    class_hash: str
    class_list: ClassList | None = None


def ids_of_columns(names: Sequence[str], path: Path) -> ClassIds:
    """Return the ids of classes that are named by all columns of a table, or by another complete list.

    The classes are sorted by name, or by number if all names are numbers. If the names are those of all
    classes of ImageNet-1k, the class list is ImageNet-1k.

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
    ordered = sorted(names, key=int if as_numbers(names) is not None else str)
    return ids_of_list(from_keys(ordered, path.name))


def ids_of_list(own: ClassList) -> ClassIds:
    """Return the ids of the classes of a list that a file contains."""
    return ClassIds({key: i for i, key in enumerate(own.keys)}, len(own), own.hash, own)


def ids_of_values(names: Collection[str], classes: ClassList | None, path: Path) -> ClassIds:
    """Return the ids of the names that occur in the rows of a file.

    Without `classes`, the class list is ImageNet-1k if all names are its keys or names, and otherwise
    consists of the names in the file, sorted. If all names are numbers, these are class ids, and the class
    list is unknown.

    Raises
    ------
    InputError
        If a name is not in `classes`.
    """
    if classes is not None:
        lookup = lookup_in(classes)
        ids = {name: _required(name, lookup, classes, path) for name in names}
        return ClassIds(ids, len(classes), classes.hash)
    imagenet = class_list()
    if as_numbers(sorted(names)) is not None:
        return ClassIds({name: int(name) for name in names}, len(imagenet), "")
    lookup = lookup_in(imagenet, numbers=False)
    if all(lookup(name) is not None for name in names):
        return ids_of_values(names, imagenet, path)
    return ids_of_list(classes_seen(names, path.name))


def lookup_in(classes: ClassList, *, numbers: bool = True) -> Lookup:
    """Return a function that looks up a key, a name, a description or, with `numbers`, an id of a class."""
    described = descriptions(classes)

    def lookup(name: str) -> int | None:
        at = classes.find(name)
        if at is None and len(ids := described.get(name, ())) == 1:
            at = min(ids)
        if at is None and numbers and as_numbers([name]) and int(name) < len(classes):
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
        )
    return at
