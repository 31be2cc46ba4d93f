"""Class lists that are compared and joined by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from manyhot.classes import ClassList, class_list_of, classes_seen, normal_name
from manyhot.errors import first_names


class OverClasses:
    """A table over classes: label sets, predictions or votes."""

    class_list: ClassList | None
    class_hash: str

    @property
    def known_classes(self) -> ClassList | None:
        """The class list: that of the table, or the built-in one with its hash; None if neither is known."""
        return self.class_list or class_list_of(self.class_hash)


def find_class(own: ClassList, i: int, target: ClassList) -> int | None:
    """Return the class of another list with the key, name or a synonym of class i; None if there is none."""
    names = dict.fromkeys((own.keys[i], own.names[i], *own.synonyms[i]))
    return next((at for name in names if (at := target.find(name)) is not None), None)


def unmatched_name(own: ClassList, i: int, target: ClassList) -> str:
    """Return the key of a class that is in no other list, or is ambiguous there: then, with its classes."""
    ids = target.find_all(own.keys[i])
    several = f" (ambiguous: {', '.join(target.keys[at] for at in sorted(ids))})" if len(ids) > 1 else ""
    return own.keys[i] + several


def note_on_case(own: ClassList | None, target: ClassList | None, name: str) -> str:
    """Return a note on classes that match only regardless of case and underscores; empty without any.

    `name` is the name of the table with the first list. The names of ImageNet are written in many ways, and
    are not noted.
    """
    if own is None or target is None or own.hash == target.hash or class_list_of(target.hash):
        return ""
    alike = list[str]()
    for i in range(len(own)):
        at = find_class(own, i, target)
        if at is not None and not _names_at(own, i) & _names_at(target, at):
            alike.append(f"{own.names[i]} as {target.names[at]}")
    if not alike:
        return ""
    return (
        f"{name}: {len(alike):,} of {len(own):,} classes are matched although they are written differently "
        f"(upper and lower case, or underscores): {first_names(alike, 3)}; if they are different classes, "
        "rename them"
    )


def _names_at(classes: ClassList, i: int) -> set[str]:
    return set(map(normal_name, (classes.keys[i], classes.names[i], *classes.synonyms[i])))


def followed_by(own: ClassList, model: ClassList) -> ClassList:
    """Return the classes of a list, followed by those that occur only in a model, sorted."""
    only = set(keys_not_in(model, own))
    if not only:
        return own
    more = sorted_by_key(classes_at(model, [i for i, key in enumerate(model.keys) if key in only]))
    return own.with_columns(a + b for a, b in zip(own.columns, more.columns, strict=True))


def sorted_by_key(classes: ClassList) -> ClassList:
    """Return the classes in the order of their keys as strings."""
    return classes_at(classes, sorted(range(len(classes)), key=classes.keys.__getitem__))


def classes_at(classes: ClassList, order: Sequence[int]) -> ClassList:
    """Return the classes with these ids, in this order."""
    return classes.with_columns(tuple(column[i] for i in order) for column in classes.columns)


def union_of(a: ClassList, b: ClassList) -> ClassList:
    """Return a list of the classes of both lists: one of them if it is complete and contains the other."""
    for whole, part in ((a, b), (b, a)):
        if whole.is_complete and keys_not_in(part, whole) == []:
            return whole
    union = classes_seen([*a.keys, *keys_not_in(b, a)], a.name)
    return replace(union, is_complete=a.is_complete and b.is_complete)


def keys_not_in(part: ClassList, whole: ClassList) -> list[str]:
    """Return the keys of the classes of a list that another list does not contain."""
    return [part.keys[i] for i in range(len(part)) if find_class(part, i, whole) is None]
