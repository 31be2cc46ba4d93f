"""The path of each class of a list to the root of its hierarchy."""

from __future__ import annotations

import re

from manyhot.classes import ClassList
from manyhot.core.class_hierarchy import ambiguous_parents
from manyhot.errors import InputError

_SYNSET = re.compile(r"^(n\d{8}) .*", re.DOTALL)
"""A hypernym of WordNet, with the id that identifies it and is the key of a class."""


def class_paths(classes: ClassList) -> tuple[list[tuple[str, ...]], str]:
    """Return the path of each class to the root, starting with its key, and a note.

    The hypernyms of a class list start with the parent. If they only form a tree in the reverse order, they
    start with the root, as taxonomies are often written; they are then reversed, and the note says so.

    Raises
    ------
    InputError
        If more names have several parents than in the reverse order, but neither order is a tree.
    """
    upwards = [tuple(_SYNSET.sub(r"\1", step) for step in path) for path in classes.hypernyms]
    several, if_reversed = (ambiguous_parents(paths) for paths in (upwards, [path[::-1] for path in upwards]))
    note = ""
    if len(several) > len(if_reversed):
        example = "; ".join(next(path for path in upwards if several[0] in path))
        if if_reversed:
            raise InputError(
                "The hypernyms of the classes seem to start at the root, but do not form a tree in either "
                "order.",
                where=classes.name,
                got=f"{example}; and several parents of {if_reversed[0]!r}, if read from the root",
                allowed="the parent first, then its parent, up to the root",
                do="reverse the hypernyms, and give different names to different groups of classes",
            )
        upwards = [path[::-1] for path in upwards]
        note = f"the hypernyms of {classes.name} start at the root ({example}), and are read in this order"
    return [(key, *up) for key, up in zip(classes.keys, upwards, strict=True)], note
