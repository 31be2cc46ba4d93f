"""Shared code of readers: errors for damaged files, columns from arrays, and JSON.

All readers run inside `reading`, so they need not handle the exceptions that libraries raise for damaged
bytes.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc
from pyarrow import parquet as pq

from manyhot.core.array_types import Bytes, Ints64
from manyhot.core.sets import NO, NOT_ASKED, UNCLEAR, YES
from manyhot.errors import InputError, ManyhotError
from manyhot.parameters import check_share
from manyhot.tables import Labels, metadata, one_chunk
from manyhot.tables.image_ids import check_columns_once, normal_ids
from manyhot.tables.own_classes import is_class_number
from manyhot.tables.state_lists import ragged, state_lists
from manyhot.tables.unpacked import check_parquet, open_parquet_lazily

_KINDS = {".parquet": "Parquet", ".npy": "NumPy", ".npz": "NumPy"}


def broken() -> tuple[type[Exception], ...]:
    """Return the exceptions that libraries raise for damaged bytes.

    Arrow raises an OSError even if the disk is fine. zipfile raises a NotImplementedError for future
    versions. A forged size causes a MemoryError, and deep nesting causes a RecursionError.
    """
    # polars takes 90 ms and 60 MB, which predicting does not need; ``except`` calls this only after an error.
    import polars as pl

    return (
        OSError,
        EOFError,
        MemoryError,
        NotImplementedError,
        RecursionError,
        UnicodeDecodeError,
        zipfile.BadZipFile,
        zlib.error,
        pa.ArrowException,
        pl.exceptions.PolarsError,
    )


def declared(path: Path) -> str:
    """Return the table's name in the metadata of a Parquet file; empty if there is none."""
    try:
        return metadata(pq.read_schema(path)).get("table", "") if path.suffix.lower() == ".parquet" else ""
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return ""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the exceptions of libraries for a broken file or folder into an `InputError`.

    Raises
    ------
    InputError
        In place of any exception that `broken` returns. manyhot's own errors are not changed.
    """
    try:
        yield
    except ManyhotError:
        raise
    except broken() as error:
        raise incomplete(path, error) from error


def incomplete(path: Path, error: Exception) -> InputError:
    """Return the error for a file whose reader raised `error`."""
    if isinstance(error, OSError) and error.strerror:
        what = f"The {'folder' if path.is_dir() else 'file'} cannot be read."
        return InputError(what, where=error.filename or path, got=error.strerror)
    if path.is_dir():
        what = "The data set is not complete."
    else:
        kind = _KINDS.get(path.suffix.lower())
        what = f"The file is not a complete {kind} file." if kind else "The file cannot be read."
    # Messages of libraries may contain damaged bytes.
    text = "".join(filter(str.isprintable, str(error).partition("\n")[0])).strip()
    got = text or type(error).__name__
    return InputError(what, where=path, got=got, do="create or download it again")


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a foreign Parquet file. Texts and names are checked, because polars aborts on invalid ones.

    Parameters
    ----------
    columns : sequence of str, optional
        The columns to read; by default, all.

    Raises
    ------
    InputError
        If the file is truncated or damaged, if two columns have the same name, or if a number is too large.
    """
    with reading(path):
        with open_parquet_lazily(path) as file:
            check_parquet(path, file)
            check_columns_once(file.schema_arrow.names, path)
        table = pq.ParquetFile(path).read(columns=columns)
        table.validate(full=True)
        for kind in table.schema.types:
            _check_type(kind, path)
        # Without metadata, which may be damaged, too.
        return pa.Table.from_arrays(table.columns, names=table.column_names)


def _check_type(kind: pa.DataType, path: Path) -> None:
    if pa.types.is_decimal256(kind):  # on which polars aborts, too
        raise InputError("A number is too large.", where=path, got=str(kind), allowed="128-bit numbers")
    for inner in (kind.field(i) for i in range(kind.num_fields)):
        inner.name.encode()  # Arrow decodes a name only when it is accessed.
        _check_type(inner.type, path)


def not_utf8(name: str | Path, where: Path) -> InputError:
    """Return the error for the name of a file or folder that is not UTF-8."""
    what = "The name of a file or folder is not UTF-8."
    return InputError(what, where=where, got=repr(os.fsencode(name)), do="rename it")


def check_whole(path: Path) -> None:
    """Check that a JSON, Parquet or ``.npz`` file is complete.

    Raises
    ------
    InputError
        If the file is truncated or damaged, regardless of its format.
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


LIST_TYPES = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


def label_table(
    image_id: pa.Array,
    lengths: npt.ArrayLike,
    classes: pa.Array,
    method: str,
    *,
    rated: bool | pa.Array | None,
    usable: bool | pa.Array = True,
    label: pa.Array | None = None,
    state: str | pa.Array = "yes",
    **lists: pa.Array,
) -> pa.Table:
    """Return a table of label sets, from the concatenated values of all images, or from one value for all."""
    n = len(image_id)
    rated, usable = (constant(v, n, pa.bool_()) if isinstance(v, bool | None) else v for v in (rated, usable))
    state = constant(state, len(classes), pa.string()) if isinstance(state, str) else state
    lists = {"classes": classes, "state": state, **lists}
    return pa.table(
        {
            "image_id": image_id,
            **({} if label is None else {"label": label}),
            "rated": rated,
            "usable": usable,
            **{name: ragged(lengths, values) for name, values in lists.items()},
            "method": constant(method, n, pa.string()),
        }
    )


def in_one_spelling(texts: pa.Array) -> pa.Array:
    """Return stripped texts; those that differ only in Unicode form are written as the first of them."""
    texts = pc.utf8_trim_whitespace(texts)
    if pc.all(pc.string_is_ascii(texts), min_count=0).as_py():
        return texts
    forms = pc.utf8_normalize(texts, "NFC")
    encoded = pc.dictionary_encode(forms)
    return texts.take(pc.index_in(encoded.dictionary, forms).take(encoded.indices))


def image_ids(names: pa.Array, where: object) -> pa.Array:
    """Return the names of images as ids: unchanged, with folders and slashes.

    Raises
    ------
    InputError
        If the column does not contain texts, or if a text is not UTF-8.
    """
    try:
        texts = names.cast(pa.string())
        texts.validate(full=True)
    except pa.ArrowException as error:
        raise InputError(
            "The column does not contain image names.",
            where=where,
            got=f"{names.type} ({str(error).partition(chr(10))[0]})",
            allowed="text in UTF-8",
        ) from error
    return in_one_spelling(normal_ids(texts))


def base_names(names: pa.Array, where: object) -> pa.Array:
    """Return names without folders, for formats of published data sets that are joined by base names.

    Raises
    ------
    InputError
        As in `image_ids`.
    """
    return pc.replace_substring_regex(image_ids(names, where), r"^.*/", "")


def short_ids(names: pa.Array, where: object) -> pa.Array:
    """Return the base names of images if no two images share one, otherwise their paths.

    An image may have several rows. ``manyhot predict`` names images in folders and archives in the same way.

    Raises
    ------
    InputError
        As in `image_ids`.
    """
    paths, short = image_ids(names, where), base_names(names, where)
    return short if len(pc.unique(short)) == len(pc.unique(paths)) else paths


def with_image_ids(table: pa.Table, ids: Callable[[pa.Array], pa.Array] = normal_ids) -> pa.Table:
    """Return a table with the texts in its column ``image_id`` as ids."""
    ids = ids(one_chunk(table["image_id"]))
    return table.set_column(table.column_names.index("image_id"), "image_id", ids)


def class_lists(column: pa.ChunkedArray, where: str, n_classes: int) -> tuple[Ints64, pa.Array]:
    """Return the lengths and the classes of the lists in a column. A null is an empty list.

    Raises
    ------
    InputError
        If the column does not contain lists. See also `class_id_column`.
    """
    lists = one_chunk(column)
    if not any(is_kind(lists.type) for is_kind in LIST_TYPES):
        raise _no_classes(where, f"a column of {lists.type}", f"lists of whole numbers, 0 to {n_classes - 1}")
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    return lengths, class_id_column(pc.list_flatten(lists), where, n_classes)


def class_id_column(values: pa.Array, where: str, n_classes: int, *, gaps: bool = False) -> pa.Array:
    """Return a column of class ids as int32. Values are not rounded, parsed or wrapped around.

    Whether ids are below `n_classes` is checked when the table is made, so that the error can name the image.

    Parameters
    ----------
    gaps : bool
        Whether values may be null. If so, floats with integer values are also allowed, because pandas writes
        integers with gaps as floats.

    Raises
    ------
    InputError
        If the column does not contain integers, contains nulls although `gaps` is false, or contains numbers
        that do not fit into 32 bits.
    """
    kind, allowed = values.type, f"whole numbers, 0 to {n_classes - 1}"
    if not (pa.types.is_integer(kind) or pa.types.is_null(kind) or (gaps and pa.types.is_floating(kind))):
        raise _no_classes(where, str(kind), allowed)
    if values.null_count and not gaps:
        raise InputError("A list of classes contains an empty value.", where=where, allowed=allowed)
    try:
        return values.cast(pa.int64()).cast(pa.int32())
    except pa.ArrowInvalid as error:
        raise _no_classes(where, str(error).partition("\n")[0], allowed) from error


def _no_classes(where: str, got: str, allowed: str) -> InputError:
    return InputError("These are not classes.", where=where, got=got, allowed=allowed)


def states_of_values(values: npt.NDArray[Any], minus_one: int = UNCLEAR, empty: int = NOT_ASKED) -> Bytes:
    """Return the states *yes* for 1, *no* for 0, `minus_one` for -1, and `empty` for anything else."""
    return np.select([values == 1, values == 0, values == -1], [YES, NO, minus_one], empty).astype(np.uint8)


def records_no(state: Bytes) -> bool:
    """Return whether a matrix of states records *no* answers: some cell is *no*, or all cells are *yes*."""
    return bool((state == NO).any() or (state == YES).all())


def state_columns(state: Bytes) -> dict[str, pa.Array]:
    """Return the columns ``classes`` and ``state`` of a matrix of states, shape (n, C).

    The columns do not contain classes that were not asked about.
    """
    image, class_id = np.nonzero(state != NOT_ASKED)
    lengths = np.bincount(image, minlength=len(state))
    return state_lists(lengths, class_id, state[image, class_id] - NO)


def stored_states(state: Bytes) -> tuple[dict[str, pa.Array], bool, bool]:
    """Return the columns of a matrix of states, whether it records *no* answers, and whether it is complete.

    The matrix is complete if all cells are *yes* or *no*. The columns then contain only *yes*, because all
    50,000 x 1,000 cells would take 1 GB and 20 s.
    """
    asked_known = records_no(state)
    complete = asked_known and not any((state == other).any() for other in (NOT_ASKED, UNCLEAR))
    columns = state_columns(np.where(state == YES, state, NOT_ASKED) if complete else state)
    return columns, asked_known, complete


UNLISTED = ("not asked", "no")
"""What a class means that a list of classes does not contain."""


def with_unlisted(labels: Labels, unlisted: str, where: object) -> Labels:
    """Return label sets from lists of classes, with unlisted classes as *not asked* or *no*.

    Raises
    ------
    InputError
        If `unlisted` is neither, or if it is *no* and the labels have confidences: a class without a
        confidence may be uncertain.
    """
    if unlisted not in UNLISTED:
        raise InputError(
            "The option 'unlisted' is not a state.", where=where, got=unlisted, allowed=" or ".join(UNLISTED)
        )
    if unlisted != "no":
        return labels
    if "p" in labels.table.column_names:
        raise InputError(
            "The labels have confidences, so a class that is not listed may be uncertain.",
            where=where,
            got="unlisted='no'",
            allowed="labels without confidences",
        )
    return replace(labels, asked_known=True, complete=True)


def check_threshold(threshold: object, path: Path) -> None:
    """Raise an error for a threshold of probabilities that is not between 0 and 1."""
    what = "The threshold is not a probability."
    check_share(threshold, what, zero=True, where=path, got=repr(threshold), allowed="0 to 1")


def only_by_name(path: Path) -> bool:
    """Return False: the format is never detected, because another format reads its files by default."""
    return False


def constant(value: str | bool | int | None, n: int, kind: pa.DataType) -> pa.Array:
    """Return a column of n equal values."""
    return pa.repeat(pa.scalar(value, kind), n)


def as_numbers(names: Sequence[str]) -> list[int] | None:
    """Return names as integers; None if a name is not an integer, or has leading zeros: 012 is not 12."""
    if not all(is_class_number(name) and len(name) < 10 for name in names):
        return None
    return [int(name) for name in names]


HEAD_BYTES = 4096
"""Number of bytes that are read to recognise a file."""

_DIGITS = 38

JSON_KEY = re.compile(r'"((?:[^"\\]|\\.)*)"\s*:')

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def head(path: Path) -> str:
    """Return the first `HEAD_BYTES` bytes as text, stripped of white space."""
    with path.open("rb") as file:
        return file.read(HEAD_BYTES).decode("utf-8", "replace").strip()


def load_json(path: Path) -> Any:
    """Parse a JSON file and raise the same errors as `parse_json`."""
    return parse_json(path.read_bytes(), path)


def parse_json(content: str | bytes, where: object) -> Any:
    """Parse JSON strictly.

    Raises
    ------
    InputError
        If the content is truncated or not JSON, if an object contains a key twice, if an integer is too long,
        or if a text contains a lone surrogate.
    """
    try:
        # Strict: json.loads accepts lone surrogates.
        text = content if isinstance(content, str) else content.decode(json.detect_encoding(content))
        parsed = json.loads(text, object_pairs_hook=_each_once(where), parse_int=_whole_number(where))
        if _SURROGATE.search(text):
            _check_characters(parsed, where)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            "The file is not complete JSON.", where=where, got=str(error), do="create or download it again"
        ) from error
    return parsed


def _each_once(where: object) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        by_key = dict(pairs)
        if len(by_key) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise InputError(
                "The JSON contains a key twice.",
                where=where,
                got=cut_for_message(repr(twice)),
                allowed="each key once",
                do="create it again, or remove one of the two",
            )
        return by_key

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
            "A string contains a lone surrogate, which is half of a character.",
            where=where,
            got=repr(error.object[max(0, error.start - 20) : error.start + 20]),
            allowed="characters that UTF-8 can encode",
            do="create or download it again",
        ) from error


def cut_for_message(text: str, width: int = 80) -> str:
    """Return a text for a message, at most `width` characters long."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def class_index(value: object, n_classes: int, where: str) -> int:
    """Return a class index from an int or a text of digits.

    Raises
    ------
    InputError
        If the value is neither an int nor a text of digits, or if it is out of range.
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
