"""Objects in tables: our own, and others with a box a row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from manyhot.classes import ClassList, from_keys
from manyhot.errors import InputError
from manyhot.formats.broken import reading
from manyhot.formats.tabular import class_indices, column_names, declared, narrow, read_frame, read_own
from manyhot.registry import register
from manyhot.tables import Objects, check

_BOX = ("x1", "y1", "x2", "y2")
_IGNORE = ("ignore", "difficult", "crowd", "iscrowd")
_MASKS = ("mask_png", "mask")


def _matches(path: Path) -> bool:
    return declared(path) == "objects" or {"image_id", *_BOX} <= set(column_names(path))


@register("format", "objects-table", holds="objects", suffixes=(".parquet", ".csv"), matches=_matches)
def read_objects_table(path: Path, *, classes: ClassList | None) -> Objects:
    """A table with ``image_id``, ``class`` or ``class_id``, and a box as fractions of width and height.

    Objects that ``ignore``, ``difficult`` or ``crowd`` marks are neither asked for nor wrong. ``polygons``
    and ``mask`` may tell more than the box.
    """
    own = declared(path) == "objects"
    frame = pl.from_arrow(read_own(path, "objects")) if own else read_frame(path)
    assert isinstance(frame, pl.DataFrame)
    if not {"class", "class_id"} & set(frame.columns):
        raise InputError(
            "Nothing tells the classes of the objects.",
            where=path,
            got=", ".join(frame.columns),
            allowed="a column class or class_id",
        )
    known = classes or _classes(frame, path)
    column = "class" if "class" in frame.columns else "class_id"
    ids = class_indices(frame[column].cast(pl.String), known, path)
    marks = [c for c in _IGNORE if c in frame.columns]
    told = [pl.col(c).cast(pl.Boolean).fill_null(False) for c in marks]
    image = pl.col("image_id").cast(pl.String)
    frame = frame.with_columns(
        image if own else image.str.replace(r"^.*[/\\]", ""),  # ids of ours are in their form already
        class_id=ids,
        ignore=pl.any_horizontal(told) if told else pl.lit(False),
        **{c: pl.col(c).cast(pl.Float32) for c in _BOX},
    )
    return made(frame.to_arrow(), known, path)


def _classes(frame: pl.DataFrame, path: Path) -> ClassList:
    """Return the class list of a table: keys by number where both are there, else sorted."""
    if "class" not in frame.columns:
        raise InputError(
            "Nothing tells how the classes of the objects are called.",
            where=path,
            got=", ".join(frame.columns),
            allowed="a column class; or --classes",
        )
    keys = frame["class"].cast(pl.String)
    if "class_id" not in frame.columns:
        return from_keys(sorted(keys.drop_nulls().unique()), path.stem)
    pairs = frame.select(pl.col("class_id").cast(pl.Int64), keys).drop_nulls().unique().sort("class_id")
    by_number = dict(pairs.iter_rows())
    if len(by_number) < len(pairs) or pairs["class"].n_unique() < len(pairs):
        raise InputError("A class has two numbers, or a number two classes.", where=path)
    if min(by_number, default=0) < 0 or max(by_number, default=0) > 10 * len(by_number) + 1000:
        raise InputError("The column 'class_id' does not count classes from 0.", where=path)
    numbers = range(max(by_number, default=-1) + 1)
    return from_keys([by_number.get(i, f"class {i}") for i in numbers], path.stem)


def made(table: pa.Table, classes: ClassList, path: Path, **more: Any) -> Objects:
    """Return objects of a table that has all of the columns, and perhaps others."""
    names = ("image_id", "class_id", *_BOX, "ignore", "polygons", "mask")
    table = narrow(table.select([n for n in names if n in table.column_names]))
    checked = check(table, "objects", where=str(path))
    return Objects(checked, classes.keys, classes.hash, name=path.stem, **more)


def with_masks(objects: Objects, path: Path) -> Objects:
    """Return objects with the semantic masks of a folder of PNGs, or of a table.

    Raises
    ------
    InputError
        There are none, or none of an image that has objects.
    """
    found = masks_of(path, objects.images)
    if not found.keys() & objects.images.keys():
        raise InputError(
            "None of the masks is of an image that has objects.",
            where=path,
            got=next(iter(found), "no masks"),
            allowed=f"such as {next(iter(objects.images), 'none: there are no objects')}",
        )
    return replace(objects, semantic=found)


def masks_of(path: Path, images: Iterable[str]) -> dict[str, bytes | Path]:
    """Return the masks of a folder of PNGs that are named as some images, or of a table.

    Raises
    ------
    InputError
        There is nothing, or it holds no masks.
    """
    with reading(path):
        if not path.exists():
            raise InputError("The file does not exist.", where=path)
        return _folder(path, images) if path.is_dir() else _table(path)


def _folder(path: Path, images: Iterable[str]) -> dict[str, bytes | Path]:
    files = {p.stem: p for p in sorted(path.iterdir()) if p.suffix.lower() == ".png"}
    return {i: files[stem] for i in images if (stem := Path(i).stem) in files}


def _table(path: Path) -> dict[str, bytes | Path]:
    names = column_names(path) if path.suffix.lower() == ".parquet" else []
    column = next((c for c in _MASKS if c in names), None)
    if column is None or "image_id" not in names:
        raise InputError(
            "This holds no masks.",
            where=path,
            got=", ".join(names) or None,
            allowed=f"a folder of PNGs; or Parquet with image_id and {' or '.join(_MASKS)}",
        )
    table = pq.read_table(path, columns=["image_id", column])
    pairs = zip(table["image_id"].to_pylist(), table[column].to_pylist(), strict=True)
    return {str(image): mask for image, mask in pairs if mask}
