"""Data frames and Hugging Face data sets in memory as Arrow tables with a column of image ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.errors import InputError
from manyhot.formats.array_files import check_row_count
from manyhot.formats.headers import image_name_column
from manyhot.tables import Images
from manyhot.tables.frames import with_column
from manyhot.tables.image_ids import check_columns_once
from manyhot.tables.rounded_ids import check_not_rounded


def table_with_ids(values: Any) -> pa.Table | None:
    """Return a frame with the ids of images in a column or in the index as a table; None for others."""
    return arrow_table(values, lambda names: "image_id")


def arrow_table(
    values: Any, marker: Callable[[Sequence[str]], str | None], rows: Images | None = None
) -> pa.Table | None:
    """Return a frame as a table if it has a column of ids and the column that marks its kind."""
    if is_hugging_face(values):
        return _of_hugging_face(values, rows)
    columns = getattr(values, "column_names", None)  # Arrow's `columns` are arrays
    columns = getattr(values, "columns", None) if columns is None else columns
    if columns is None or callable(columns) or not all(isinstance(c, str) for c in columns):
        return None
    # brings polars, which predicting does not need
    from manyhot.formats.table_files import with_small_offsets

    names = list(columns)
    if marker(names) is not None:
        check_columns_once(names, "a data frame")
    if marker(names) is None or not (image_name_column(names) or _has_ids_as_index(values)):
        return None
    if hasattr(values, "reset_index"):
        frame = values if image_name_column(names) else values.rename_axis("image_id").reset_index()
        table = pa.table({name: _pandas_column(frame[name]) for name in frame.columns})
    else:
        table = values if isinstance(values, pa.Table) else with_small_offsets(pa.table(values))
    ids = image_name_column(table.column_names) or "image_id"
    return with_whole_ids(_plain_columns(table, ids), [ids])


def _plain_columns(table: pa.Table, ids: str) -> pa.Table:
    """Return a table with categories as texts or numbers, and decimal numbers other than ids as floats."""
    for field in table.schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        kind = pa.float64() if pa.types.is_decimal(kind) and field.name != ids else kind
        if kind != field.type:
            table = with_column(table, field.name, table[field.name].cast(kind))
    return table


def _pandas_column(values: Any) -> pa.Array | pa.ChunkedArray:
    """Return a column of pandas; categories as their values, and as text what Arrow has no simple type for.

    These are intervals, periods, durations, UUIDs and objects of several types.
    """
    if str(values.dtype) == "category":
        values = values.astype(object)
    if str(values.dtype).startswith("Sparse"):
        values = values.sparse.to_dense()
    with suppress(pa.ArrowException, TypeError):
        column = pa.array(values, from_pandas=True)
        if not (isinstance(column.type, pa.BaseExtensionType) or pa.types.is_duration(column.type)):
            return column
    return pa.array(values.astype(object).map(str, na_action="ignore"), pa.string(), from_pandas=True)


def with_whole_ids(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Return the table with float ids as integers; pandas stores ids as floats if any are missing."""
    for name in set(columns) & set(table.column_names):
        if pa.types.is_floating(table[name].type):
            whose = "Rater" if name in ("rater_id", "expert_id", "worker") else "Image"
            check_not_rounded(table[name], f"column {name}", whose)
            with suppress(pa.ArrowInvalid):  # fractions remain, and are refused
                table = with_column(table, name, table[name].cast(pa.int64()))
    return table


def _has_ids_as_index(values: Any) -> bool:
    index = getattr(values, "index", None)
    if index is not None and getattr(index, "nlevels", 1) > 1:
        raise InputError(
            "The index of a data frame has several levels.",
            got=", ".join("unnamed" if name is None else str(name) for name in index.names),
            allowed="an index with the ids of images",
            do="drop the other levels, for example with .droplevel(1)",
        )
    labels = index.tolist() if index is not None and hasattr(index, "tolist") else []
    return labels != list(range(len(labels)))


def is_hugging_face(values: Any) -> bool:
    """Return whether an object is a Hugging Face data set with rows.

    Raises
    ------
    InputError
        If it is a dict of data sets, or a data set without random access.
    """
    if not hasattr(values, "with_format"):
        return False
    kind = type(values).__name__
    if isinstance(values, Mapping):
        split = next(iter(values), "test")
        raise InputError(
            "This is a dict of several data sets.",
            got=f"{kind}: {', '.join(map(str, values))}",
            allowed="one data set",
            do=f"pass one of them, such as dataset[{split!r}]",
        )
    if not hasattr(values, "__len__") or not hasattr(values, "features"):
        raise InputError(
            "This data set can only be read sequentially.",
            got=kind,
            allowed="a data set in memory or on disk",
            do="load it without streaming=True, or pass Dataset.from_list(list(dataset), "
            "features=dataset.features)",
        )
    return True


def _of_hugging_face(dataset: Any, rows: Images | None = None) -> pa.Table:
    """Return a Hugging Face data set as a table with its features, without the bytes of images.

    If no column names the images, `image_id` contains the paths in its column of images or, if there are
    none, the ids of `rows`. Without `rows`, it contains the positions of the rows.

    Raises
    ------
    InputError
        If the numbers of rows differ.
    """
    images = [name for name, feature in dataset.features.items() if type(feature).__name__ == "Image"]
    kept = [name for name in dataset.features if name not in images]
    table = dataset.select_columns(kept).with_format("arrow")[:]
    named = [name for name in kept if type(dataset.features[name]).__name__ == "Value"]
    if image_name_column(named) is not None:
        return table
    paths = _paths(dataset, images[0]) if images else None
    if paths is not None and paths.null_count < len(paths):
        ids = paths
    elif rows is None:
        ids = pa.array(range(len(table))).cast(pa.string())
    else:
        check_row_count("the data set", len(table), len(rows), "labels")
        ids = rows.image_id
    metadata = table.schema.metadata
    return table.append_column("image_id", ids).replace_schema_metadata(metadata)


def _paths(dataset: Any, column: str) -> pa.ChunkedArray:
    """Return the paths of images, some rows at a time, because their bytes may fill the memory."""
    parts = dataset.select_columns([column]).with_format("arrow").iter(batch_size=256)
    return pa.chunked_array(
        [pc.struct_field(c, "path") for t in parts for c in t[column].chunks], pa.string()
    )
