"""Shared by all readers: errors for damaged files, columns of tables from arrays, classes by name, and JSON.

All readers run inside `reading`, so that none of them needs to know which exceptions a library raises for
damaged bytes.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc
from pyarrow import parquet as pq

from manyhot.classes import ClassList, class_list, from_keys
from manyhot.errors import InputError, ManyhotError
from manyhot.tables import one_chunk

_KINDS = {".parquet": "Parquet", ".npy": "NumPy", ".npz": "NumPy"}


def broken() -> tuple[type[Exception], ...]:
    """Return the exceptions that libraries raise for damaged bytes.

    Arrow raises an OSError that has nothing to do with the disk, zipfile a NotImplementedError for future
    versions; and a forged size ends in MemoryError.
    """
    # polars takes 90 ms and 60 MB, which predicting does not need; an ``except`` asks only when it must.
    import polars as pl

    return (
        OSError,
        EOFError,
        MemoryError,
        NotImplementedError,
        UnicodeDecodeError,
        zipfile.BadZipFile,
        zlib.error,
        pa.ArrowException,
        pl.exceptions.PolarsError,
    )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn exceptions of libraries for a broken file or folder into an error that says so.

    Raises
    ------
    InputError
        Instead of any of `broken`; manyhot's own errors pass.
    """
    try:
        yield
    except ManyhotError:
        raise
    except broken() as error:
        raise incomplete(path, error) from error


def incomplete(path: Path, error: Exception) -> InputError:
    """Return the error for a file that `error` was raised at."""
    if isinstance(error, OSError) and error.strerror:
        what = f"The {'folder' if path.is_dir() else 'file'} cannot be read."
        return InputError(what, where=error.filename or path, got=error.strerror)
    if path.is_dir():
        what = "The data set is not complete."
    else:
        kind = _KINDS.get(path.suffix.lower())
        what = f"The file is not a complete {kind} file." if kind else "The file cannot be read."
    # Messages of libraries may quote damaged bytes.
    told = "".join(filter(str.isprintable, str(error).partition("\n")[0])).strip()
    got = told or type(error).__name__
    return InputError(what, where=path, got=got, do="make or fetch it again")


def read_parquet(path: Path) -> pa.Table:
    """Read a foreign Parquet file; texts and names are checked, because polars aborts at broken ones.

    Raises
    ------
    InputError
        If it is cut or damaged.
    """
    with reading(path):
        table = pq.ParquetFile(path).read()
        table.validate(full=True)
        for kind in table.schema.types:
            _check_names(kind)
        # Metadata, which may be broken, too, is dropped.
        return pa.Table.from_arrays(table.columns, names=table.column_names)


def _check_names(kind: pa.DataType) -> None:
    for inner in (kind.field(i) for i in range(kind.num_fields)):
        inner.name.encode()  # Arrow decodes a name only when it is used.
        _check_names(inner.type)


def check_whole(path: Path) -> None:
    """Refuse a file that is not of the kind that its suffix promises, for JSON, Parquet and ``.npz``.

    Raises
    ------
    InputError
        If it is cut or damaged, so that no other format is tried.
    """
    suffix = path.suffix.lower()
    with reading(path):
        if path.is_dir():
            return
        if suffix == ".parquet":
            pq.read_schema(path)
        elif suffix == ".npz":
            zipfile.ZipFile(path).close()
        elif suffix == ".json":
            load_json(path)


FOLDER = "folder"
"""What stands for a folder among the suffixes of a format."""

_SAME = 0.99

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
        If the column has no lists, or as `class_id_column`.
    """
    lists = one_chunk(column)
    if not any(is_kind(lists.type) for is_kind in _LISTS):
        raise _no_classes(where, f"a column of {lists.type}", f"lists of whole numbers, 0 to {n_classes - 1}")
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    return lengths, class_id_column(pc.list_flatten(lists), where, n_classes)


def class_id_column(values: pa.Array, where: str, n_classes: int, *, gaps: bool = False) -> pa.Array:
    """Return a column of class ids as int32; nothing is rounded, parsed or wrapped around.

    Whether they are below `n_classes` is checked by their table, which names the image.

    Parameters
    ----------
    gaps : bool
        Whether values may be null. If so, floats that are whole numbers are allowed, too: pandas has no other
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

    ``great white shark, white shark, man-eater, …`` is the name of a class of ImageNet-1k in timm and Hugging
    Face, and timm's detailed labels add the definition after a colon. The two that are called *crane* share a
    text.
    """
    found: dict[str, set[int]] = {}
    for i, (name, synonyms) in enumerate(zip(classes.names, classes.synonyms, strict=True)):
        for line in {", ".join((name, *synonyms)), ", ".join(synonyms), name, classes.keys[i]} - {""}:
            for text in (line, f"{line}: {classes.definitions[i]}"):
                found.setdefault(text, set()).add(i)
    return found


def as_numbers(names: Sequence[str]) -> list[int] | None:
    """Return names that are all numbers as numbers; None where one is not."""
    if not all(name.isascii() and name.isdigit() and len(name) < 10 for name in names):
        return None
    return [int(name) for name in names]


def classes_of_names(
    names: Sequence[str], classes: ClassList | None, path: Path
) -> tuple[ClassList, npt.NDArray[np.int32]]:
    """Return the class list that a file names, and the class id of each name.

    Without a given list, it is ImageNet-1k if it has the names, else the list of the names.

    Raises
    ------
    InputError
        If a name is not in the given list.
    """
    if classes is None:
        known = class_list()
        same = len(names) == len(known) and _share(names, known) >= _SAME
        return known if same else from_keys(names, path.name), np.arange(len(names), dtype=np.int32)
    described = descriptions(classes)
    return classes, np.array([_index(name, classes, described, path) for name in names], np.int32)


def _share(names: Sequence[str], classes: ClassList) -> float:
    described = descriptions(classes)
    return sum(i in described.get(name, ()) for i, name in enumerate(names)) / len(names)


def _index(name: str, classes: ClassList, described: dict[str, set[int]], path: Path) -> int:
    found = described.get(name, set())
    if len(found) == 1:
        return min(found)
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
            do="leave the class list out: the data set has its own",
        ) from error


HEAD_BYTES = 4096
"""Bytes read to recognise a file."""

_DIGITS = 38

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def head(path: Path) -> str:
    """Return the first `HEAD_BYTES` bytes as text without white space around."""
    with path.open("rb") as file:
        return file.read(HEAD_BYTES).decode("utf-8", "replace").strip()


def load_json(path: Path) -> Any:
    """Parse a JSON file; raises as `parse_json`."""
    return parse_json(path.read_bytes(), path)


def parse_json(content: str | bytes, where: object) -> Any:
    """Parse JSON strictly.

    Raises
    ------
    InputError
        If it is truncated or not JSON, an object holds a key twice, a number is too long, or a text holds
        half a character.
    """
    try:
        # Strictly: json.loads itself accepts lone surrogates.
        text = content if isinstance(content, str) else content.decode(json.detect_encoding(content))
        found = json.loads(text, object_pairs_hook=_each_once(where), parse_int=_whole_number(where))
        if _SURROGATE.search(text):
            _check_characters(found, where)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            "The file is not complete JSON.", where=where, got=str(error), do="make or fetch it again"
        ) from error
    return found


def _each_once(where: object) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise InputError(
                "The JSON holds a key twice.",
                where=where,
                got=cut_for_message(repr(twice)),
                allowed="each key once",
                do="make it again, or keep one of the two",
            )
        return found

    return build


def _whole_number(where: object) -> Callable[[str], int]:
    def read(digits: str) -> int:
        if len(digits) > _DIGITS:
            raise InputError(
                "A number is too long.",
                where=where,
                got=f"{digits[:12]}… of {len(digits):,} digits",
                allowed=f"up to {_DIGITS} digits",
            )
        return int(digits)

    return read


def _check_characters(content: Any, where: object) -> None:
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            "A text holds half a character (a lone surrogate).",
            where=where,
            got=repr(error.object[max(0, error.start - 20) : error.start + 20]),
            allowed="whole characters, which UTF-8 can hold",
            do="make or fetch it again",
        ) from error


def cut_for_message(text: str, width: int = 80) -> str:
    """Return a text for a message, at most `width` characters long."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def class_index(value: object, n_classes: int, where: str) -> int:
    """Return a class index given as an int or as digits.

    Raises
    ------
    InputError
        If it is neither, or out of range.
    """
    text = value if isinstance(value, str) else str(value)
    digits = (text.lstrip("0") or "0") if text.isascii() and text.isdigit() else ""
    if isinstance(value, bool) or not 0 < len(digits) < 10 or int(digits) >= n_classes:
        raise InputError(
            "This is not a class.",
            where=where,
            got=cut_for_message(repr(value)),
            allowed=f"0 to {n_classes - 1}",
        )
    return int(digits)
