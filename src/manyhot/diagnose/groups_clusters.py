"""Clusters of images that depend on each other, such as the images of a patient, from a column of a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.core.array_types import Ints
from manyhot.core.clusters import n_exchangeable
from manyhot.errors import InputError
from manyhot.evaluate.clusters import LIKELY_CLUSTERS

_FIXED = 0.1
"""Share of images in clusters that cannot be exchanged, above which a note says so."""


@dataclass(frozen=True, eq=False)
class ImageClusters:
    """The cluster of each image, shape (n,), and the column that contains the clusters."""

    column: str
    number: Ints

    @property
    def n(self) -> int:
        """The number of clusters."""
        return int(self.number.max(initial=-1)) + 1

    def note(self) -> str:
        """Return over how many clusters outcomes are permuted, and what does not allow for them."""
        n = len(self.number)
        text = (
            f"outcomes are permuted between and within {self.n:,} clusters of {self.column} with {n:,} "
            "images; intervals are still over images, and too narrow"
        )
        fixed = n - n_exchangeable(self.number, np.zeros(n, np.int64))
        if fixed > _FIXED * n:
            text += (
                f"; {fixed:,} images are in clusters with a number of images that no other cluster has, and "
                "only exchange outcomes within their cluster"
            )
        return text


def image_clusters(column: str, tables: Sequence[pa.Table], where: str) -> ImageClusters:
    """Return the clusters of images.

    Parameters
    ----------
    column : str
    tables : sequence of pyarrow.Table
        Each has a row for each image; the first with the column contains the clusters.
    where : str
        Name of the data set, for messages.

    Raises
    ------
    InputError
        If there is no such column, if it contains lists, or if an image has no cluster.
    """
    table = next((table for table in tables if column in table.column_names), None)
    if table is None:
        raise InputError(
            f"There is no column {column!r} of clusters.",
            where=where,
            allowed=", ".join(_names(tables)) or "a column of `metadata` or of the images table",
            do="pass a table with this column as `metadata`",
        )
    values = table[column]
    if pa.types.is_nested(values.type):
        raise InputError("Clusters are not single values.", where=f"{where}, {column}", got=str(values.type))
    missing = values.null_count
    if missing:
        raise InputError(
            "Some images have no cluster.",
            where=f"{where}, {column}",
            got=f"{missing:,} of {len(values):,} images",
            allowed="a value for each labelled image",
            do="add the missing values, or leave these images out of the labels",
        )
    codes = values.combine_chunks().dictionary_encode().indices
    return ImageClusters(column, codes.to_numpy(zero_copy_only=False).astype(np.int64))


def likely_column(tables: Sequence[pa.Table]) -> str:
    """Return a column that is named like clusters and in which values are repeated; empty without one."""
    for name in _names(tables):
        table = next(table for table in tables if name in table.column_names)
        values = table[name].drop_null()
        is_single = not pa.types.is_nested(values.type)
        if LIKELY_CLUSTERS.fullmatch(name) and is_single and pc.count_distinct(values).as_py() < len(values):
            return name
    return ""


def _names(tables: Sequence[pa.Table]) -> Iterator[str]:
    names = (name for table in tables for name in table.column_names)
    yield from dict.fromkeys(n for n in names if n not in ("image_id", "uri", "label"))
