"""Which images of a data set a call includes: those that it lists, and that meet its conditions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.data.data_sets import Source
from manyhot.data.reading_options import Reading
from manyhot.data.table_inputs import columns_of_table
from manyhot.errors import InputError
from manyhot.formats import read_images
from manyhot.tables import Images, Labels, Predictions
from manyhot.tables.frames import examples
from manyhot.tables.image_conditions import (
    column_values,
    conditions_text,
    note_on_placeholder,
    own_columns,
    parse_condition,
    selected_images,
)


def with_included_images(source: Source, passed: Any, reading: Reading) -> Source:
    """Return a data set of only those images that a call lists and that meet its conditions."""
    labels, images = source.labels, source.images
    table = images if labels is None else labels
    listed = None if labels is None or reading.images is None or not _is_list(images) else images
    if table is None or not (reading.where or listed):
        return source
    chosen, which = pa.repeat(True, len(table)), list[str]()
    if listed is not None:
        chosen = _listed(listed, table)
        which.append(f"those listed in {listed.name or '`images`'}")
        if without := len(listed) - pc.sum(chosen).as_py():
            source.misfits.remarks.append(f"listed images without labels: {without:,} of {len(listed):,}")
    if reading.where:
        columns, is_open = images, reading.images is None or listed is not None
        if isinstance(passed, str | os.PathLike) and is_open and not own_columns(images):
            columns = _beside_labels(Path(passed))
        elif is_open and (images is None or listed is not None):
            columns = columns_of_table(passed, reading.row_images(source.classes))
        met = selected_images(reading.where, table.image_id, columns, table.name)
        assert columns is not None  # `selected_images` refuses conditions without columns
        for spec in reading.where:
            values = column_values(parse_condition(spec)[0], table.image_id, columns, left_name=table.name)
            source.misfits.remarks += filter(None, (note_on_placeholder(spec, values, met),))
        chosen = pc.and_(chosen, pa.array(met))
        which.append(conditions_text(reading.where))
    rest = table.image_id.filter(pc.invert(chosen))
    n, conditions = pc.sum(chosen).as_py(), " and ".join(which)
    if not n:
        raise InputError("No listed image meets the conditions.", where="`where`", got=conditions)
    source.misfits.remarks.append(f"{n:,} of {len(table):,} images are included: {conditions}")

    def models() -> Iterator[Predictions]:
        for model in source.models():
            yield model.take(np.flatnonzero(pc.invert(pc.is_in(model.image_id, value_set=rest))))

    def included(of: Labels | Images) -> pa.Table:
        return of.table.filter(pc.invert(pc.is_in(of.image_id, value_set=rest)))

    return replace(
        source,
        labels=labels and replace(labels, table=included(labels)),
        images=images and replace(images, table=included(images)),
        models=models,
    )


def _is_list(images: Images | None) -> bool:
    """Return whether an images table only lists images: nothing else can be meant than to select them."""
    return images is not None and images.table.column_names == ["image_id"]


def _listed(images: Images, table: Labels | Images) -> pa.Array:
    """Return which images of a table are in a list of images."""
    chosen = pc.is_in(table.image_id, value_set=images.image_id)
    if not pc.any(chosen).as_py():
        raise InputError(
            "None of the listed images has labels.",
            where=images.name or "`images`",
            got=examples(images.image_id),
            allowed=f"images of {table.name or 'the labels'}, such as {examples(table.image_id)}",
            do="pass a file with the name of one image on each line",
        )
    return chosen


def _beside_labels(path: Path) -> Images | None:
    """Return a file of label sets as an images table, if it has one row per image and further columns."""
    try:
        return read_images(path) if path.is_file() else None
    except InputError:
        return None
