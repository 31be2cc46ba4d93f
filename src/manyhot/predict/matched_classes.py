"""The classes of a detector in the class list of a data set, by name or by a table."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from manyhot.classes import ClassList
from manyhot.core.array_types import Ints
from manyhot.errors import InputError, MatchError, first_names
from manyhot.formats.table_files import read_frame
from manyhot.tables.class_list_unions import find_class

NO_CLASS = -1
"""Code of a class that the data set does not have."""

_COLUMNS = ("detector_class", "class")


@dataclass(frozen=True, eq=False)
class MatchedClasses:
    """The class of the data set for each class of a detector.

    Attributes
    ----------
    own, classes : ClassList
        The classes of the detector, and the classes of the data set.
    class_of : ndarray of int64, shape (C,)
        For each class of the detector, the class of the data set, or `NO_CLASS`.
    """

    own: ClassList
    classes: ClassList
    class_of: Ints

    @classmethod
    def same(cls, own: ClassList) -> MatchedClasses:
        """Return the classes of a detector, each matched to itself."""
        return cls(own, own, np.arange(len(own)))

    @property
    def covered(self) -> Ints:
        """The classes of the data set that the detector has, ascending."""
        return np.unique(self.class_of[self.class_of != NO_CLASS])

    @property
    def joins(self) -> bool:
        """Whether several classes of the detector are matched to the same class of the data set."""
        return len(self.covered) < int(np.count_nonzero(self.class_of != NO_CLASS))

    def notes(self) -> Iterator[str]:
        """Yield notes on classes with a different name, and on classes that are not matched."""
        if self.own is self.classes:
            return
        pairs = [(i, int(t)) for i, t in enumerate(self.class_of) if t != NO_CLASS]
        renamed = [
            f"{self.own.names[i]} as {self.classes.names[t]}"
            for i, t in pairs
            if _plain(self.own.names[i]) != _plain(self.classes.names[t])
        ]
        if renamed:
            yield f"classes of the detector with a different name in the data set: {', '.join(renamed)}"
        lacking = [
            self.classes.names[t] for t in sorted(set(range(len(self.classes))) - {t for _, t in pairs})
        ]
        if lacking:
            yield (
                f"{len(lacking):,} of {len(self.classes):,} classes of the data set are not classes of the "
                f"detector, so they are not in the label sets: {first_names(lacking, 12)}"
            )
        unused = [self.own.names[i] for i, t in enumerate(self.class_of) if t == NO_CLASS]
        if unused:
            yield f"{len(unused):,} classes of the detector are not used: {first_names(unused, 12)}"


@dataclass
class _ByName:
    """Looks up classes by key, name or synonym; finally without spaces, hyphens and case."""

    classes: ClassList
    plain: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    def __post_init__(self) -> None:
        for i, names in enumerate(zip(self.classes.keys, self.classes.names, strict=True)):
            for name in (*names, *self.classes.synonyms[i]):
                self.plain[_plain(name)].add(i)

    def find(self, own: ClassList, i: int) -> int:
        at = find_class(own, i, self.classes)
        if at is not None:
            return at
        names = (own.keys[i], own.names[i], *own.synonyms[i])
        alike = (self.plain.get(_plain(name), set()) for name in names)
        return next((min(ids) for ids in alike if len(ids) == 1), NO_CLASS)


def match_classes(own: ClassList, classes: ClassList, path: Path | None = None) -> MatchedClasses:
    """Return the class of a data set for each class of a detector.

    Classes are matched by key, name or synonym. A table with the columns ``detector_class`` and ``class``
    overrides this for the classes that it lists; an empty ``class`` leaves out a class of the detector.

    Raises
    ------
    InputError, UnknownNameError
        If the table lacks a column, names a class that does not exist, or lists a class twice.
    MatchError
        If no class is matched.
    """
    by_name, listed = _ByName(classes), _read(path, own, classes) if path else {}
    class_of = np.array([listed.get(i, by_name.find(own, i)) for i in range(len(own))], np.int64)
    if (class_of == NO_CLASS).all():
        raise MatchError(
            "The detector has none of the classes of the data set.",
            where=own.name,
            got=first_names(classes.names, 12),
            allowed=f"names such as {first_names(own.names, 12)}",
            do="pass `class_map`, a table with the columns 'detector_class' and 'class'",
        )
    return MatchedClasses(own, classes, class_of)


def _read(path: Path, own: ClassList, classes: ClassList) -> Mapping[int, int]:
    frame = read_frame(path)
    if not set(_COLUMNS) <= set(frame.columns):
        raise InputError(
            "The table of classes lacks a column.",
            where=path,
            got=", ".join(frame.columns),
            allowed=" and ".join(_COLUMNS),
        )
    found: dict[int, int] = {}
    for row, (name, to) in enumerate(frame.select(_COLUMNS).iter_rows()):
        at = own.index(str(name))
        if at in found:
            raise InputError(
                "The table of classes lists a class twice.", where=f"{path}, row {row}", got=name
            )
        found[at] = NO_CLASS if to in (None, "") else classes.index(str(to))
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()
