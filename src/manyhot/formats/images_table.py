"""Images, with their original labels, as Parquet and CSV, and plain lists of ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from manyhot.classes import ClassList
from manyhot.errors import InputError
from manyhot.formats.class_names import class_indices, numbers_by_name
from manyhot.formats.class_numbers import keys_of_numbers
from manyhot.formats.headers import ID_NEEDS, image_name_column
from manyhot.formats.rater_rows import has_rater_rows
from manyhot.formats.reading import declared, reading, with_image_ids
from manyhot.formats.table_files import (
    TABLE_SUFFIXES,
    column_names,
    read_frame,
    with_codes,
    with_small_offsets,
)
from manyhot.formats.tabular import matches_table, named_list, read_own
from manyhot.registry import register
from manyhot.tables import Images, metadata
from manyhot.tables.image_ids import first_column
from manyhot.tables.labels import class_list_from_metadata
from manyhot.tables.own_classes import own_list

_ADDRESS_COLUMNS = ("path", "filepath", "image_path")
"""Columns with the addresses of images, by preference. They may contain the names of images, too."""


def _may_be_images(path: Path) -> bool:
    """Return whether a table that is passed as images has names of images, and is no other kind of table."""
    from manyhot.formats import detect

    if image_name_column(column_names(path)) is None:
        return False
    found = detect(path)
    return found is None or found.name in ("label-lists", "indicator", "score-columns")


@register(
    "format",
    "images-table",
    holds="images",
    suffixes=(*TABLE_SUFFIXES, ".txt"),
    matches=lambda path: matches_table("images")(path) and not has_rater_rows(path),
    explicit=_may_be_images,
    needs=f"{ID_NEEDS} and, for original labels, label",
)
def read_images_table(path: Path, *, classes: ClassList | None) -> Images:
    """An images table with ``image_id`` and optionally ``label``, or a text file with one id per line.

    As in files of labels, the names of images may also be in another column, such as ``file``. If there is no
    column ``uri``, it is read from a column ``path``, ``filepath`` or ``image_path``.
    """
    is_own = declared(path) or not _renamed_columns(column_names(path))
    if path.suffix.lower() == ".parquet" and is_own and not _has_texts(path, "label"):
        own = with_small_offsets(read_own(path, "images"))
        return Images(own, path.stem, class_list_from_metadata(metadata(own), path.stem))
    frame = read_frame(path)
    if path.suffix.lower() != ".parquet":
        frame = frame.with_columns(with_codes(frame.drop("label", strict=False), path))
    renamed = _renamed_columns(frame.columns)
    columns = [pl.col(column).cast(pl.String).alias(name) for name, column in renamed.items()]
    frame = frame.select(*columns, pl.exclude(*renamed.values()) if renamed else pl.all())
    return images_of_frame(frame, classes, path)


def images_of_frame(frame: pl.DataFrame, classes: ClassList | None, path: Path) -> Images:
    """Return the images in a frame with ``image_id``, with original labels if it has a column ``label``."""
    if "label" in frame.columns and isinstance(frame["label"].dtype, pl.Categorical | pl.Enum):
        frame = frame.with_columns(pl.col("label").cast(pl.String))
    frame, classes = _labels_by_name(frame, classes, path)
    of_imagenet = False
    if "label" in frame.columns:
        frame = frame.with_columns(label=keys_of_numbers(frame["label"], classes, path))
    if "label" in frame.columns and frame["label"].dtype == pl.String:
        classes, _ = named_list(frame.select("label"), classes, path.stem)
        of_imagenet = classes is not None and own_list(classes) is None
        frame = frame.with_columns(label=class_indices(frame["label"], classes, path))
    if odd := [name for name in frame.columns if "\0" in name]:  # which Arrow cannot represent
        raise InputError("The name of a column contains a NUL character.", where=path, got=repr(odd[0]))
    frame = frame.with_columns(pl.col("image_id").cast(pl.String))
    table = with_image_ids(with_small_offsets(frame.to_arrow()))
    return Images(table, path.stem, classes and own_list(classes), of_imagenet)


def _labels_by_name(
    frame: pl.DataFrame, classes: ClassList | None, path: Path
) -> tuple[pl.DataFrame, ClassList | None]:
    """Return a table whose labels are those of the names in ``label_name``, unless these name no classes.

    An images table may have any columns, so ``label_name`` may also be a text like any other.
    """
    columns = ("label", "label_name")
    if not set(columns) <= set(frame.columns) or not frame["label"].dtype.is_integer():
        return frame, classes
    pairs = frame.select(*columns).filter(pl.col("label").is_not_null()).unique()
    if classes is None:
        are_names = (
            all(pairs[c].n_unique() == len(pairs) for c in columns) and not pairs["label_name"].null_count()
        )
    else:
        are_names = all(name is not None and classes.find(name) is not None for name in pairs["label_name"])
    if not are_names or pairs["label_name"].dtype != pl.String:
        return frame, classes
    named, own = numbers_by_name(frame.select(*columns), classes, path)
    return frame.with_columns(named["label"]), own


def _renamed_columns(names: Sequence[str]) -> dict[str, str]:
    """Return the columns ``image_id`` and ``uri`` that a table of images calls otherwise, with its names."""
    ids, address = image_name_column(names), first_column(names, _ADDRESS_COLUMNS)
    found = {"image_id": ids, "uri": address}
    return {name: column for name, column in found.items() if column is not None and name not in names}


def _has_texts(path: Path, column: str) -> bool:
    """Return whether a column of a Parquet file contains texts, such as names of classes."""
    with reading(path):
        schema = pq.read_schema(path)
    kind = schema.field(column).type if column in schema.names else pa.null()
    return str(kind.value_type if pa.types.is_dictionary(kind) else kind) in (
        "string",
        "large_string",
        "string_view",
    )
