"""Checking, reading and writing tables."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from manyhot._version import __version__
from manyhot.errors import InputError, did_you_mean
from manyhot.files import atomic_write
from manyhot.tables.definitions import AUDITED, OPEN_ENDED, TABLES, Column, rename_columns
from manyhot.tables.unpacked import check_parquet, open_parquet_lazily

SCHEMA_VERSION = 1

Row = Mapping[str, Any]
"""A row of a table by its columns, such as `pyarrow.Table.to_pylist` returns."""

RowDict = dict[str, Any]
"""A row that is being built."""

ID_COLUMNS = ("image_id", "rater_id", "expert_id", "key", "model")
"""Columns of names, which are not blank."""


def schema(name: str, *, audited: bool = False) -> pa.Schema:
    """Return the Arrow schema of a table with all columns, including columns of audits if it is `audited`."""
    columns = (c for c in _columns(name) if audited or c not in AUDITED)
    return pa.schema([pa.field(c.name, c.type) for c in columns])


def check(table: pa.Table, name: str, *, where: object = None) -> pa.Table:
    """Return `table` with the columns, the order and the types that the table `name` declares.

    Raises
    ------
    InputError
        If a required column is missing, or if a column is unknown, has the wrong type, or contains nulls or
        values that are not allowed.
    """
    columns = {c.name: c for c in _columns(name)}
    table = rename_columns(table, name)
    _check_names(table, name, columns, where)
    arrays = {}
    for column in columns.values():
        if column.name in table.column_names:
            arrays[column.name] = _checked(table[column.name], column, name, where)
    if name in OPEN_ENDED:
        arrays |= {extra: table[extra] for extra in table.column_names if extra not in columns}
    return pa.table(arrays, metadata=table.schema.metadata)


def write(
    table: pa.Table,
    path: str | os.PathLike[str],
    name: str,
    *,
    call: str = "",
    inputs: Mapping[str, str] | None = None,
    about: Mapping[str, str] | None = None,
) -> Path:
    """Check a table and write it to one Parquet file, atomically.

    Parameters
    ----------
    name : str
        The name of the table.
    call : str
        The call that made the table.
    inputs : Mapping of str to str
        The sha256 of each input file, by name.
    about : Mapping of str to str
        Further metadata, such as ``model`` or ``classes`` (the hash of the class list).
    """
    table = check(table, name).replace_schema_metadata(_about(name, call, inputs, about))
    with atomic_write(path) as part:
        pq.write_table(table, part, **_encoded(table.schema))
    return Path(path)


def write_stream(
    pieces: Iterable[pa.Table],
    path: str | os.PathLike[str],
    name: str,
    *,
    call: str = "",
    inputs: Mapping[str, str] | None = None,
    about: Mapping[str, str] | None = None,
) -> Path:
    """Write a table in pieces, with one piece in memory at a time, but otherwise like `write`.

    Empty pieces are ignored. All other pieces must have the same columns.
    """
    writer: pq.ParquetWriter | None = None
    with atomic_write(path) as part:
        try:
            for piece in pieces:
                if not len(piece):
                    continue
                piece = check(piece, name).replace_schema_metadata(_about(name, call, inputs, about))
                writer = writer or pq.ParquetWriter(part, piece.schema, **_encoded(piece.schema))
                writer.write_table(piece)
        finally:
            if writer is not None:
                writer.close()
    return Path(path)


def _encoded(schema: pa.Schema) -> dict[str, Any]:
    """Return how a table is encoded: numbers with a fraction have no dictionary.

    Dictionaries of scores save nothing, and reading them takes four times as long.
    """
    leaves = [leaf for column in schema for leaf in _leaves(column.name, column.type)]
    return {
        "compression": "zstd",
        "use_dictionary": [path for path, kind in leaves if not pa.types.is_floating(kind)],
    }


def _leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """Yield the columns of a Parquet file that contain a column: one, or those of the fields of a struct."""
    if pa.types.is_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{path}.{field.name}", field.type)
    else:
        yield path, kind


def _about(
    name: str, call: str, inputs: Mapping[str, str] | None, about: Mapping[str, str] | None
) -> dict[str, str]:
    content = {
        "table": name,
        "schema": str(SCHEMA_VERSION),
        "version": __version__,
        "call": call,
        "inputs": json.dumps(dict(inputs or {}), sort_keys=True),
        **(about or {}),
    }
    # A command may contain names of files that are not UTF-8, which metadata cannot hold.
    return {f"manyhot.{k}": v.encode("utf-8", "backslashreplace").decode() for k, v in content.items()}


def read(path: str | os.PathLike[str], name: str) -> pa.Table:
    """Read and check a table from a Parquet file.

    Raises
    ------
    InputError
        If the file is not a Parquet file, is truncated, contains a different table or has a later schema.
    """
    with whole_file(path):
        # Without partitioning: a folder named a=1 is not a column.
        with open_parquet_lazily(path) as file:
            check_parquet(Path(path), file)
        table = pq.read_table(path, partitioning=None)
        about = metadata(table)
    _check_about(about, name, path)
    return check(table, name, where=path)


def read_in_blocks(path: str | os.PathLike[str], name: str, rows: int) -> Iterator[pa.Table]:
    """Read a table in blocks of rows, each checked as in `read`, with one block in memory at a time.

    Raises
    ------
    InputError
        As in `read`.
    """
    with whole_file(path), open_parquet_lazily(path) as file:
        check_parquet(Path(path), file)
        _check_about(metadata(file.schema_arrow), name, path)
        for batch in file.iter_batches(rows, use_threads=False):
            yield check(pa.Table.from_batches([batch]), name, where=path)


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[None]:
    """Raise the same errors for all incomplete files."""
    if Path(path).is_dir():
        raise InputError("This is a folder, not a file.", where=path)
    try:
        yield
    except FileNotFoundError as error:
        raise InputError("The file does not exist.", where=path) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(
            "The file is not a complete Parquet file.",
            where=path,
            got=str(error).partition("\n")[0],
            do="create or download it again",
        ) from error


def _check_about(about: Mapping[str, str], name: str, path: str | os.PathLike[str]) -> None:
    """Check that the metadata of a file are those of a table that this version reads."""
    if about.get("table", name) != name:
        raise InputError("The file contains a different table.", where=path, got=about["table"], allowed=name)
    if metadata_number(about, "schema", path) > SCHEMA_VERSION:
        raise InputError(
            "The file was written by a later version of manyhot.",
            where=path,
            got=f"schema {about['schema']} of manyhot {about.get('version', '?')}",
            allowed=f"schema {SCHEMA_VERSION} and earlier",
            do="upgrade manyhot",
        )


def metadata(table: pa.Table | pa.Schema) -> dict[str, str]:
    """Return manyhot's metadata of a table, without the prefix ``manyhot.``."""
    raw = (table if isinstance(table, pa.Schema) else table.schema).metadata or {}
    return {
        key.decode().removeprefix("manyhot."): value.decode()
        for key, value in raw.items()
        if key.startswith(b"manyhot.")
    }


def metadata_number(about: Mapping[str, str], key: str, where: object, *, digits: int = 9) -> int:
    """Return an integer with a limited number of digits from a table's metadata; 0 if it is missing.

    Raises
    ------
    InputError
        If the value is not an integer.
    """
    text = about.get(key, "0")
    if not (text.isascii() and text.isdigit() and len(text) <= digits):
        raise InputError(
            f"The metadata of the file has a {key!r} that is not a number.",
            where=where,
            got=repr(text),
            do="create or download it again",
        )
    return int(text)


def metadata_json(about: Mapping[str, str], key: str) -> Any:
    """Return a JSON value in a table's metadata; None if it is missing or damaged."""
    try:
        return json.loads(about.get(key) or "null")
    except (ValueError, RecursionError):
        return None


def _columns(name: str) -> tuple[Column, ...]:
    if name not in TABLES:
        raise InputError(f"There is no table {name!r}.", allowed=", ".join(TABLES))
    return TABLES[name]


def _check_names(table: pa.Table, name: str, columns: Mapping[str, Column], where: object) -> None:
    missing = [c.name for c in columns.values() if c.required and c.name not in table.column_names]
    if missing:
        raise InputError(
            f"The {name} table lacks the column {missing[0]!r}.",
            where=where,
            got=", ".join(table.column_names),
            allowed=", ".join(columns),
        )
    unknown = [n for n in table.column_names if n not in columns]
    if unknown and name not in OPEN_ENDED:
        raise InputError(
            f"The {name} table has no column {unknown[0]!r}.",
            where=where,
            allowed=", ".join(columns),
            do=did_you_mean(unknown[0], columns, n=1) or "drop or rename it",
        )
    if len(set(table.column_names)) < len(table.column_names):
        raise InputError(
            f"The {name} table has two columns with the same name.",
            where=where,
            got=", ".join(table.column_names),
        )


def _checked(values: pa.ChunkedArray, column: Column, name: str, where: object) -> pa.ChunkedArray:
    kind = column.type
    if column.name == "scores" and pa.types.is_list(values.type) and values.type.value_type == pa.float16():
        kind = values.type
    if values.type != kind:
        _check_conversion(values.type, column, name, where)
        try:
            values = values.cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            drop = "" if column.required else ", or drop the column"
            if pa.types.is_timestamp(kind):
                _check_zones(values, column, name, where, drop)
            if pa.types.is_timestamp(kind) and (text := re.search("parse string: '(.*?)'", str(error))):
                row = pc.index(values, pa.scalar(text[1], values.type)).as_py()
                raise InputError(
                    f"The column {column.name!r} of the {name} table contains a value that is not a time.",
                    where=f"{where or name}, row {row}",
                    got=text[1],
                    allowed="times with their zone, such as 2021-03-09T22:16:08Z",
                    do=f"write the times like this{drop}",
                ) from error
            raise InputError(
                f"The column {column.name!r} of the {name} table has the wrong type.",
                where=where,
                got=f"{values.type} ({str(error).partition(chr(10))[0]})",
                allowed=kind,
            ) from error
    if values.null_count and not column.nullable:
        row = pc.index(pc.is_null(values.combine_chunks()), True).as_py()
        raise InputError(
            f"The column {column.name!r} of the {name} table contains an empty value.",
            where=f"{where or name}, row {row}",
            got="null",
        )
    if column.values:
        _check_values(values, column, name, where)
    if column.name in ID_COLUMNS:
        _check_no_blank(values, column, name, where)
    return values


def _check_conversion(actual: pa.DataType, column: Column, name: str, where: object) -> None:
    """Raise an error for conversions by Arrow that are not intended.

    True is not class 1, and 1.0 is not the rater 1 of another table. An integer or a time without zone is not
    a time if the unit or the zone is unknown: seconds of 2021, read as microseconds, are half past midnight
    on 1 January 1970.
    """
    kind = column.type
    if pa.types.is_dictionary(actual):
        actual = actual.value_type
    do = None
    if pa.types.is_timestamp(kind):
        naive = pa.types.is_timestamp(actual) and actual.tz is None
        if not (naive or pa.types.is_integer(actual)):
            return
        do = "write times with their zone, such as 2021-03-09T22:16:08Z"
    elif pa.types.is_integer(kind) and pa.types.is_boolean(actual):
        do = "write integers"
    elif column.name in ID_COLUMNS and (pa.types.is_floating(actual) or pa.types.is_nested(actual)):
        do = "write strings or integers"
    if do is not None:
        raise InputError(
            f"The column {column.name!r} of the {name} table has the wrong type.",
            where=where,
            got=actual,
            allowed=kind,
            do=do,
        )


def _check_zones(texts: pa.ChunkedArray, column: Column, name: str, where: object, drop: str) -> None:
    """Raise an error if texts are times without a zone, as spreadsheets write them."""
    is_bare = pc.match_substring_regex(texts, r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.]\d+)?)?$")
    if n := pc.sum(is_bare).as_py():
        row = pc.index(is_bare, True).as_py()
        raise InputError(
            f"The column {column.name!r} of the {name} table contains times without a time zone.",
            where=f"{where or name}, row {row}",
            got=f"{texts[row]}, one of {n:,} such times",
            allowed="times with their zone, such as 2021-03-09T22:16:08Z",
            do=f"add the zone, as in {texts[row]}Z for UTC{drop}",
        )


def _check_no_blank(values: pa.ChunkedArray, column: Column, name: str, where: object) -> None:
    # Trimming would copy all values: of the proposals of a training set, 150 MB.
    blank = pc.or_(pc.equal(values, ""), pc.utf8_is_space(values))
    row = pc.index(blank, True).as_py()
    if row >= 0:
        raise InputError(
            f"The column {column.name!r} of the {name} table contains an empty value.",
            where=f"{where or name}, row {row}",
            got=repr(values[row].as_py()),
        )


def _check_values(values: pa.ChunkedArray, column: Column, name: str, where: object) -> None:
    flat = pc.list_flatten(values) if pa.types.is_list(values.type) else values.drop_null()
    strange = pc.unique(flat.filter(pc.invert(pc.is_in(flat, pa.array(column.values)))))
    if len(strange):
        raise InputError(
            f"The column {column.name!r} of the {name} table contains a value that is not allowed.",
            where=where,
            got=strange[0],
            allowed=", ".join(column.values),
        )
