"""Tables of any library, and data sets of Hugging Face, as tables of Arrow."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.data.data_frames import is_hugging_face, with_whole_ids
from manyhot.errors import InputError
from manyhot.tables.frames import with_column


def as_arrow(table: Any, name: str) -> pa.Table:
    """Return a pyarrow, Polars or pandas table with the column types of manyhot's tables.

    Raises
    ------
    InputError
        If the value is not a table.
    """
    try:
        converted = _as_table(table)
    except (AttributeError, TypeError, ValueError, pa.ArrowException) as error:
        raise InputError(
            "This is not a table.",
            where=name,
            got=f"{type(table).__name__} ({str(error).partition(chr(10))[0]})",
            allowed=f"a pyarrow, Polars or pandas table with the columns of the table {name}, a file, or "
            f"the result of manyhot.read_{name}",
        ) from error
    converted = with_whole_ids(converted, ("image_id", "rater_id", "expert_id", "task", "worker"))
    texts = [n for n in converted.column_names if pa.types.is_large_string(converted.schema.field(n).type)]
    for column in texts:
        converted = with_column(converted, column, converted[column].cast(pa.string()))
    return converted


def _as_table(table: Any) -> pa.Table:
    if isinstance(table, pa.Table):
        return table
    if is_hugging_face(table):
        return _of_hugging_face(table)
    if isinstance(table, pa.RecordBatch):
        return pa.Table.from_batches([table])
    if hasattr(table, "collect"):  # a LazyFrame
        table = table.collect()
    if hasattr(table, "to_arrow"):
        converted = table.to_arrow()
        if not isinstance(converted, pa.Table):
            raise TypeError("one column alone")
        return converted
    if not hasattr(table, "columns"):
        raise TypeError("no columns")
    return pa.Table.from_pandas(table, preserve_index=False)


def _of_hugging_face(dataset: Any) -> pa.Table:
    """Return the columns of a data set of Hugging Face, with names in place of class labels."""
    table = dataset.with_format("arrow")[:].replace_schema_metadata()
    for name, feature in dataset.features.items():
        if type(feature).__name__ == "ClassLabel":
            table = with_column(table, name, pc.take(pa.array(feature.names), table[name]))
    return table
