"""Columns of tables, built from arrays: what the formats of labels share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.classes import ClassList, class_list, from_keys
from manyhot.errors import InputError
from manyhot.tables import one_chunk

FOLDER = "folder"
"""What stands for a folder among the suffixes of a format."""

_SAME = 0.99
# Of ImageNet-1k, Hugging Face and timm write a few names in their own ways.

_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


def ragged(lengths: npt.ArrayLike, values: pa.Array) -> pa.ListArray:
    """Return a column of lists: the first holds the first ``lengths[0]`` values, and so on."""
    offsets = np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, values)


def base_names(names: pa.Array, where: object) -> pa.Array:
    """Return names without the folders before them.

    Raises
    ------
    InputError
        If the column is not of texts, or a text is not UTF-8.
    """
    try:
        texts = names.cast(pa.string())
        texts.validate(full=True)
    except pa.ArrowException as error:
        raise InputError(
            "This is not a column of image names.",
            where=where,
            got=f"{names.type} ({str(error).partition(chr(10))[0]})",
            allowed="text in UTF-8",
        ) from error
    return pc.replace_substring_regex(texts, r"^.*[/\\]", "")


def class_lists(
    column: pa.ChunkedArray, where: str, n_classes: int
) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """Return the lengths of a column's lists of classes, and their classes; a null is an empty list.

    Raises
    ------
    InputError
        If the column has no lists, or as `class_ids`.
    """
    lists = one_chunk(column)
    if not any(is_kind(lists.type) for is_kind in _LISTS):
        raise _no_classes(where, f"a column of {lists.type}", f"lists of whole numbers, 0 to {n_classes - 1}")
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    return lengths, class_ids(pc.list_flatten(lists), where, n_classes)


def class_ids(values: pa.Array, where: str, n_classes: int, *, gaps: bool = False) -> pa.Array:
    """Return a column of class ids as int32; nothing is rounded, parsed or wrapped around.

    Whether they are below `n_classes` is left to the table that they come into, which names the image.

    Parameters
    ----------
    gaps : bool
        Whether values may be null. If so, floats that are whole numbers are fine too: pandas has no other
        way to write whole numbers with gaps.

    Raises
    ------
    InputError
        If the column holds no whole numbers, a null without `gaps`, or numbers beyond 32 bits.
    """
    kind, allowed = values.type, f"whole numbers, 0 to {n_classes - 1}"
    if not (pa.types.is_integer(kind) or pa.types.is_null(kind) or (gaps and pa.types.is_floating(kind))):
        raise _no_classes(where, str(kind), allowed)
    if values.null_count and not gaps:
        raise InputError("A list of classes holds an empty value.", where=where, allowed=allowed)
    try:
        return values.cast(pa.int64()).cast(pa.int32())
    except pa.ArrowInvalid as error:
        raise _no_classes(where, str(error).partition("\n")[0], allowed) from error


def _no_classes(where: str, got: str, allowed: str) -> InputError:
    return InputError("These are not classes.", where=where, got=got, allowed=allowed)


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


def named_classes(
    names: Sequence[str], given: ClassList | None, path: Path
) -> tuple[ClassList, npt.NDArray[np.int32]]:
    """Return the class list that a file names, and the class id of each name.

    Without a given list it is ImageNet-1k where the names are, else that of the names.

    Raises
    ------
    InputError
        If a name is not in the given list.
    """
    if given is None:
        known = class_list()
        same = len(names) == len(known) and _share(names, known) >= _SAME
        return known if same else from_keys(names, path.name), np.arange(len(names), dtype=np.int32)
    described = descriptions(given)
    return given, np.array([_index(name, given, described, path) for name in names], np.int32)


def _share(names: Sequence[str], known: ClassList) -> float:
    described = descriptions(known)
    return sum(i in described.get(name, ()) for i, name in enumerate(names)) / len(names)


def _index(name: str, known: ClassList, described: dict[str, set[int]], path: Path) -> int:
    found = described.get(name, set())
    if len(found) == 1:
        return min(found)
    try:
        return known.index(name)
    except (LookupError, InputError) as error:
        if numbers([name]) and int(name) < len(known):
            return int(name)
        raise InputError(
            "A name in the file is not in the class list.",
            where=path,
            got=name,
            allowed=f"keys and names of {known.name}, or 0 to {len(known) - 1}",
            do="leave the class list out: the data set has its own",
        ) from error
