"""One model's predictions from tables and files, and to files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from manyhot.core.array_types import AnyFloats
from manyhot.errors import InputError
from manyhot.tables.frames import list_matrix, one_chunk
from manyhot.tables.labels import class_list_from_metadata
from manyhot.tables.predictions import (
    SCORES_ASSUMED,
    UNCERTAINTY_COLUMNS,
    Predictions,
    uncertainty_from_columns,
)
from manyhot.tables.schemas import metadata, read_in_blocks, whole_file, write
from manyhot.tables.unpacked import check_dense, open_parquet_lazily, row_groups


def write_predictions(predictions: Predictions, path: str | os.PathLike[str], *, call: str = "") -> Path:
    """Write one model's predictions to a Parquet file."""
    return write(
        predictions.to_table(),
        path,
        "predictions",
        call=call,
        inputs=predictions.inputs,
        about=predictions.about(),
    )


def read_dense(path: str | os.PathLike[str], *, model: str) -> Predictions | None:
    """Read a predictions table in blocks if it has many dense scores and nothing else; otherwise, None.

    To read them at once, Arrow would need five times the memory of the scores, and 1.6 times the CPU time.

    Raises
    ------
    InputError
        As in `manyhot.tables.read`.
    """
    with whole_file(path), open_parquet_lazily(path) as file:
        schema, n = file.schema_arrow, file.metadata.num_rows
        is_list = "scores" in schema.names and pa.types.is_list(schema.field("scores").type)
        if set(schema.names) != {"image_id", "scores"} or not (n and is_list):
            return None
        width = _n_values(file) // n
    if n * width < _MANY_SCORES:
        return None
    itemsize = schema.field("scores").type.value_type.byte_width
    needed = n * width * (itemsize + _RANK_BYTES)
    check_dense(Path(path), f"{n:,} images × {width:,} classes", needed)
    ids, scores, start = [], np.empty(0), 0
    table = None
    for table in read_in_blocks(path, "predictions", _ROWS):
        _check_no_null_items(table, str(path))
        block = list_matrix(table["scores"], -np.inf)
        scores = scores if start else np.empty((n, width), block.dtype)
        if block.shape[1] != width:
            return None  # lists of different lengths
        scores[start : start + len(block)] = block
        ids.append(one_chunk(table["image_id"]))
        start += len(block)
    assert table is not None  # for the type checker
    pa.default_memory_pool().release_unused()
    whole = pa.table({"image_id": pa.concat_arrays(ids)}, metadata=table.schema.metadata)
    return predictions_from_table(whole, model=model, source=str(path), scores=scores)


_ROWS, _MANY_SCORES = 1024, 4_000_000
"""Images of dense scores per block, and scores above which they are read in blocks."""

_RANK_BYTES = 2
"""Bytes of a score's rank among the positives of its class, which metrics need beside the score."""


def _n_values(file: pq.ParquetFile) -> int:
    """Return the number of dense scores in a file."""
    schema = file.metadata.schema
    at = next(i for i in range(len(schema)) if schema.column(i).path.startswith("scores."))
    return sum(group.column(at).num_values for group in row_groups(file))


def predictions_from_table(
    table: pa.Table, *, model: str, source: str = "", scores: AnyFloats | None = None
) -> Predictions:
    """Return predictions from a checked table and its metadata; pass `scores` if the table lacks them."""
    about = metadata(table)
    _check_no_null_items(table, source or model)
    classes = list_matrix(table["classes"], -1) if "classes" in table.column_names else None
    if "scores" in table.column_names:
        column = table["scores"]
        if pa.types.is_integer(column.type.value_type):  # such as 1 for yes, or percent
            column = column.cast(pa.list_(pa.float32()), safe=False)
        scores = list_matrix(column, -np.inf)
    own = class_list_from_metadata(about, source or model)
    return Predictions(
        one_chunk(table["image_id"]),
        about.get("model") or model,
        classes,
        scores,
        table["logsumexp"].to_numpy() if "logsumexp" in table.column_names else None,
        about.get("scores", "none" if scores is None else "score"),
        int(about.get("n_classes", 0)),
        about.get("classes", ""),
        source,
        class_list=own,
        by_name=own is not None,
        link=about.get("link", ""),
        scores_assumed=SCORES_ASSUMED in about,
        uncertainty=uncertainty_from_columns(
            {
                name: list_matrix(table[name], np.nan)
                if name.startswith("class_")
                else table[name].to_numpy()
                for name, own in UNCERTAINTY_COLUMNS.items()
                if name in table.column_names
            }
        ),
    )


def _check_no_null_items(table: pa.Table, where: str) -> None:
    for name in ("classes", "scores"):
        if name in table.column_names and one_chunk(table[name]).flatten().null_count:
            raise InputError(f"A list of {name} contains an empty value.", where=where, allowed="numbers")
