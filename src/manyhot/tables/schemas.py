"""The columns of every table, and how a table is checked, read and written."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from manyhot._version import __version__
from manyhot.errors import InputError
from manyhot.files import atomic_write

SCHEMA_VERSION = 1

STATES = ("no", "unclear", "yes")
ANSWERS = ("no", "maybe", "yes")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name, doc : str
    type : pyarrow.DataType
    required : bool
        Without it the table is not usable.
    nullable : bool
        Whether values may be null.
    values : tuple of str
        The only values allowed; empty for any.
    """

    name: str
    type: pa.DataType
    doc: str
    required: bool = True
    nullable: bool = False
    values: tuple[str, ...] = ()


_text, _int, _real, _flag = pa.string(), pa.int32(), pa.float64(), pa.bool_()


def _optional(name: str, kind: pa.DataType, doc: str, values: tuple[str, ...] = ()) -> Column:
    return Column(name, kind, doc, required=False, nullable=True, values=values)


TABLES: dict[str, tuple[Column, ...]] = {
    "classes": (
        Column("class_id", _int, "position in the class list, from 0"),
        Column("key", _text, "WordNet id or folder name"),
        Column("name", _text, "readable and unique"),
        _optional("synonyms", pa.list_(_text), "other names"),
        _optional("definition", _text, "what the class is"),
        _optional("hypernyms", pa.list_(_text), "path to the root of the hierarchy, nearest first"),
    ),
    "images": (
        Column("image_id", _text, "base name with extension"),
        _optional("uri", _text, "where the image lies"),
        _optional("label", _int, "the original single label, null if there is none"),
        _optional("width", _int, "pixels"),
        _optional("height", _int, "pixels"),
        _optional("split", _text, "such as train or val"),
    ),
    "predictions": (
        Column("image_id", _text, "as in images"),
        _optional("classes", pa.list_(_int), "predicted classes, best first; absent when scores are dense"),
        _optional(
            "scores",
            pa.list_(pa.float32()),
            "of `classes`, or of all classes in class order; float16 or float32",
        ),
        _optional(
            "logsumexp",
            pa.float32(),
            "over the logits of all classes, so that a top-k file gives probabilities",
        ),
    ),
    "proposals": (
        Column("image_id", _text, "as in images"),
        Column("class_id", _int, "as in classes"),
        Column("score", _real, "of the rule that proposed it"),
        Column("n_models", _int, "models that proposed it"),
        Column("source", _text, "the rule"),
    ),
    "votes": (
        Column("image_id", _text, "as in images"),
        Column("class_id", _int, "as in classes"),
        Column("rater_id", _text, "who answered"),
        Column("answer", _text, "the answer", values=ANSWERS),
        _optional("main", _flag, "whether it is the main object"),
        _optional("page_id", _text, "the page that was shown"),
        _optional("shown_at", pa.timestamp("us", "UTC"), "when it was shown"),
        _optional("answered_at", pa.timestamp("us", "UTC"), "when it was answered"),
        _optional("round", _int, "0 first, 1 refinement, …"),
    ),
    "golden": (
        Column("image_id", _text, "as in images"),
        Column("class_id", _int, "as in classes"),
        Column("expert_id", _text, "who answered"),
        Column("answer", _text, "the answer", values=ANSWERS),
    ),
    "remarks": (
        Column("image_id", _text, "as in images"),
        Column("rater_id", _text, "who wrote"),
        _optional("text", _text, "the comment"),
        _optional("missing_class_id", _int, "a class that is missing"),
        _optional("at", pa.timestamp("us", "UTC"), "when"),
    ),
    "labels": (
        Column("image_id", _text, "as in images"),
        _optional("label", _int, "the original single label, null if unknown"),
        _optional("rated", _flag, "whether people looked at the image; null where the source cannot tell"),
        Column("usable", _flag, "false: leave the image out"),
        Column(
            "classes", pa.list_(_int), "every class asked about; one that is not listed was not asked about"
        ),
        Column(
            "state",
            pa.list_(_text),
            "of each class; the label set is the classes with state yes",
            values=STATES,
        ),
        _optional("p", pa.list_(pa.float32()), "probability that each class is valid"),
        _optional("n_votes", pa.list_(_int), "answers that each state rests on"),
        _optional("method", _text, "how the states were reached"),
    ),
    "results": (
        Column("dataset", _text, "the data set judged on"),
        Column("model", _text, "the model judged"),
        Column("metric", _text, "a registered name, with its options"),
        Column("slice", _text, "which images"),
        Column("value", _real, "the value; NaN where it is undefined"),
        Column("lo", _real, "lower end of the 95 % interval, null without one", nullable=True),
        Column("hi", _real, "upper end of the 95 % interval, null without one", nullable=True),
        Column("n", pa.int64(), "images counted"),
        Column("n_skipped", pa.int64(), "images of the slice left out; n + n_skipped are the aligned images"),
    ),
    "pairs": (
        Column("dataset", _text, "the data set judged on"),
        Column("metric", _text, "a registered name, with its options"),
        Column("slice", _text, "which images"),
        Column("model_a", _text, "one model"),
        Column("model_b", _text, "the other"),
        Column("diff", _real, "value of model_a less that of model_b"),
        Column("lo", _real, "lower end of the 95 % interval of diff", nullable=True),
        Column("hi", _real, "upper end of the 95 % interval of diff", nullable=True),
        Column("p", _real, "two-sided, that diff is 0", nullable=True),
        Column("p_adjusted", _real, "Holm over all pairs of the data set, metric and slice", nullable=True),
        Column("n", pa.int64(), "images that count for both models"),
    ),
    "fits": (
        Column("dataset_x", _text, "the data set on the x axis"),
        Column("dataset_y", _text, "the data set on the y axis"),
        Column("metric", _text, "a registered name, with its options"),
        Column("scale", _text, "plain, logit or probit"),
        Column("slope", _real, "slope"),
        Column("slope_lo", _real, "lower end of its 95 % interval", nullable=True),
        Column("slope_hi", _real, "upper end of its 95 % interval", nullable=True),
        Column("intercept", _real, "intercept"),
        Column("r2", _real, "share of variance explained"),
        Column("n", pa.int64(), "models"),
    ),
    "findings": (
        Column("kind", _text, "what was found"),
        _optional("image_id", _text, "the image, null for a finding on classes"),
        _optional("class_a", _int, "one class of a pair"),
        _optional("class_b", _int, "the other"),
    ),
}
"""The columns of every table."""

_OPEN_ENDED = {"images", "findings"}
"""Tables whose extra columns mean something: slices of images, evidence of findings."""


def schema(name: str) -> pa.Schema:
    """Return the Arrow schema of a table with all its columns."""
    return pa.schema([pa.field(c.name, c.type) for c in _columns(name)])


def check(table: pa.Table, name: str, *, where: object = None) -> pa.Table:
    """Return `table` with the columns of table `name` in order and in their types.

    Raises
    ------
    InputError
        If a required column is missing, a column is unknown, has another type, or holds nulls or values
        that it may not hold.
    """
    columns = {c.name: c for c in _columns(name)}
    _check_names(table, name, columns, where)
    arrays = {}
    for column in columns.values():
        if column.name in table.column_names:
            arrays[column.name] = _checked(table[column.name], column, name, where)
    if name in _OPEN_ENDED:
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
    """Check a table and write it to one Parquet file, all or nothing.

    Parameters
    ----------
    table : pyarrow.Table
    path : path-like
    name : str
        Which table it is.
    call : str
        The call that made it.
    inputs : Mapping of str to str
        The sha256 of each input file, by name.
    about : Mapping of str to str
        Further metadata, such as ``model`` or ``classes`` (the hash of the class list).
    """
    table = check(table, name)
    metadata = {
        "table": name,
        "schema": str(SCHEMA_VERSION),
        "version": __version__,
        "call": call,
        "inputs": json.dumps(dict(inputs or {}), sort_keys=True),
        **(about or {}),
    }
    table = table.replace_schema_metadata({f"manyhot.{key}": value for key, value in metadata.items()})
    with atomic_write(path) as part:
        pq.write_table(table, part, compression="zstd")
    return Path(path)


def read(path: str | os.PathLike[str], name: str) -> pa.Table:
    """Read and check a table from a Parquet file.

    Raises
    ------
    InputError
        If the file is no Parquet file, is truncated, holds another table or was written by a later schema.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise InputError("The file does not exist.", where=path) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            "The file is not a complete Parquet file.",
            where=path,
            got=str(error).partition("\n")[0],
            do="make or fetch it again",
        ) from error
    about = metadata(table)
    if about.get("table", name) != name:
        raise InputError("The file holds another table.", where=path, got=about["table"], allowed=name)
    if int(about.get("schema", SCHEMA_VERSION)) > SCHEMA_VERSION:
        raise InputError(
            "The file was written by a later manyhot.",
            where=path,
            got=f"schema {about['schema']} of manyhot {about.get('version', '?')}",
            allowed=f"schema {SCHEMA_VERSION} and earlier",
            do="upgrade manyhot",
        )
    return check(table, name, where=path)


def metadata(table: pa.Table | pa.Schema) -> dict[str, str]:
    """Return manyhot's metadata of a table, without the prefix ``manyhot.``."""
    raw = (table if isinstance(table, pa.Schema) else table.schema).metadata or {}
    return {
        key.decode().removeprefix("manyhot."): value.decode()
        for key, value in raw.items()
        if key.startswith(b"manyhot.")
    }


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
    if unknown and name not in _OPEN_ENDED:
        near = difflib.get_close_matches(unknown[0], columns, n=1)
        raise InputError(
            f"The {name} table has no column {unknown[0]!r}.",
            where=where,
            allowed=", ".join(columns),
            do=f"did you mean {near[0]!r}?" if near else "drop or rename it",
        )
    if len(set(table.column_names)) < len(table.column_names):
        raise InputError(
            f"The {name} table has two columns of one name.", where=where, got=", ".join(table.column_names)
        )


def _checked(values: pa.ChunkedArray, column: Column, name: str, where: object) -> pa.ChunkedArray:
    kind = column.type
    if column.name == "scores" and pa.types.is_list(values.type) and values.type.value_type == pa.float16():
        kind = values.type
    if values.type != kind:
        try:
            values = values.cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InputError(
                f"The column {column.name!r} of the {name} table has another type.",
                where=where,
                got=f"{values.type} ({str(error).partition(chr(10))[0]})",
                allowed=kind,
            ) from error
    if values.null_count and not column.nullable:
        row = pc.index(pc.is_null(values.combine_chunks()), True).as_py()
        raise InputError(
            f"The column {column.name!r} of the {name} table may not be empty.",
            where=f"{where or name}, row {row}",
            got="null",
        )
    if column.values:
        _check_values(values, column, name, where)
    return values


def _check_values(values: pa.ChunkedArray, column: Column, name: str, where: object) -> None:
    flat = pc.list_flatten(values) if pa.types.is_list(values.type) else values
    strange = pc.unique(flat.filter(pc.invert(pc.is_in(flat, pa.array(column.values)))))
    if len(strange):
        raise InputError(
            f"The column {column.name!r} of the {name} table holds a value that does not exist.",
            where=where,
            got=strange[0],
            allowed=", ".join(column.values),
        )
