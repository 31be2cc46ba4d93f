"""Columns of tables, built from arrays: what the formats of labels share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.classes import ClassList
from manyhot.errors import InputError

FOLDER = "folder"
"""What stands for a folder among the suffixes of a format."""


def ragged(lengths: npt.ArrayLike, values: pa.Array) -> pa.ListArray:
    """Return a column of lists: the first holds the first ``lengths[0]`` values, and so on."""
    offsets = np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, values)


def base_names(names: pa.Array) -> pa.Array:
    """Return names without the folders before them."""
    return pc.replace_substring_regex(names.cast(pa.string()), r"^.*[/\\]", "")


def constant(value: str | bool | int | None, n: int, kind: pa.DataType) -> pa.Array:
    """Return a column of n equal values."""
    return pa.repeat(pa.scalar(value, kind), n)


def indices_of(keys: pa.Array, classes: ClassList, where: object) -> pa.Array:
    """Return the class of each key, such as a WordNet id.

    Raises
    ------
    InputError
        If a key is not in the class list.
    """
    found = pc.index_in(keys, pa.array(classes.keys, pa.string()))
    if found.null_count:
        raise InputError(
            "A key is not in the class list.",
            where=where,
            got=keys.filter(pc.is_null(found))[0],
            allowed=f"the {len(classes):,} keys of {classes.name}",
        )
    return found


def descriptions(classes: ClassList) -> dict[str, set[int]]:
    """Return the classes by the texts that other tools write for them: names and synonyms in one line.

    ``great white shark, white shark, man-eater, …`` is how timm and Hugging Face call a class of ImageNet-1k,
    and timm's detailed labels add the definition after a colon. The two that are called *crane* share a text.
    """
    found: dict[str, set[int]] = {}
    for i, (name, synonyms) in enumerate(zip(classes.names, classes.synonyms, strict=True)):
        for line in {", ".join((name, *synonyms)), ", ".join(synonyms), name, classes.keys[i]} - {""}:
            for text in (line, f"{line}: {classes.definitions[i]}"):
                found.setdefault(text, set()).add(i)
    return found


def numbers(names: Sequence[str]) -> list[int] | None:
    """Return names that are all numbers as numbers; None where one is not."""
    if not all(name.isascii() and name.isdigit() and len(name) < 10 for name in names):
        return None
    return [int(name) for name in names]
