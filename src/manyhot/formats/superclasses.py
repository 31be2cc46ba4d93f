"""Superclasses: which classes of a class list belong together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manyhot.classes import ClassList
from manyhot.errors import InputError
from manyhot.formats.json_files import cut, load
from manyhot.formats.pickles import load_groups


def read_superclasses(
    path: Path | str | Any, n_classes: int, classes: ClassList | None
) -> dict[str, list[int]]:
    """Return the class ids of each superclass.

    Parameters
    ----------
    path : path-like
        JSON, an object that names the classes of each superclass by id, key or name; or
        ``superclasses.npy`` of Tsipras et al., a pickle, which is read without running anything.
    n_classes : int
        C.
    classes : ClassList, optional
        What keys and names are looked up in.

    Raises
    ------
    InputError
        If the file is none of these, or a class is out of range or not known.

    References
    ----------
    Tsipras et al. 2020, arXiv 2005.11295; MadryLab/ImageNetMultiLabel.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("The file does not exist.", where=path)
    found = load_groups(path) if path.suffix == ".npy" else load(path)
    if not isinstance(found, dict) or not found or not all(isinstance(v, list) for v in found.values()):
        raise InputError(
            "The file holds no superclasses.",
            where=path,
            got=cut(json.dumps(found)),
            allowed='an object such as {"dogs": [151, 152], "birds": [7, 8]}',
        )
    return {name: _ids(members, n_classes, classes, f"{path}, {name}") for name, members in found.items()}


def _ids(members: Sequence[Any], n_classes: int, classes: ClassList | None, where: str) -> list[int]:
    ids = []
    for member in members:
        if isinstance(member, str) and classes is not None:
            member = classes.index(member)
        if type(member) is not int or not 0 <= member < n_classes:
            raise InputError(
                "This is not a class.",
                where=where,
                got=cut(json.dumps(member)),
                allowed=f"0 to {n_classes - 1}" + (", or the key or name of a class" if classes else ""),
            )
        ids.append(member)
    return ids
