"""Clusters of images that depend on each other, such as the images of a patient, from a column of a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from manyhot.core.clusters import Clusters, n_exchangeable
from manyhot.errors import InputError
from manyhot.evaluate.clusters import likely_column, number_clusters
from manyhot.tables import Labels, one_chunk

_NO_GROUPS = ("image_id", "uri", "label")
"""Columns of images tables that define no groups of images."""

_FIXED = 0.1
"""Share of images in clusters that cannot be exchanged, above which a note reports this."""


def permutation_note(clusters: Clusters, column: str) -> str:
    """Return a note on the permutation of outcomes over the clusters in a column, and on its limits."""
    n = len(clusters.number)
    text = (
        f"outcomes are permuted between and within {clusters.n:,} clusters of {column} with {n:,} images; "
        "intervals of groups still assume independent images, so they are too narrow"
    )
    fixed = n - n_exchangeable(clusters.number, np.zeros(n, np.int64))
    if fixed > _FIXED * n:
        text += (
            f"; {fixed:,} images are in clusters of a size that no other cluster has, so their outcomes "
            f"are permuted only within their cluster"
        )
    return text


def image_clusters(column: str, tables: Sequence[pa.Table], where: str, image_id: pa.Array) -> Clusters:
    """Return the clusters of images.

    Parameters
    ----------
    tables : sequence of pyarrow.Table
        Tables with one row per image. Clusters are read from the first table that has the column.
    where : str
        Name of the data set, for messages.

    Raises
    ------
    InputError
        If there is no such column, if it contains lists, or if an image has no cluster.
    """
    columns = _columns(tables)
    if column not in columns:
        listed = (name for name in columns if name not in _NO_GROUPS)
        raise InputError(
            f"There is no column {column!r} of clusters.",
            where=where,
            allowed=", ".join(listed) or "a column of `metadata` or of the images table",
            do="pass a table with this column as `metadata`",
        )
    return number_clusters(one_chunk(columns[column]), f"{where}, {column}", image_id)


def likely_cluster_note(tables: Sequence[pa.Table], labels: Labels) -> str:
    """Return a note on a column that may contain clusters; empty if there is none."""
    columns = _columns(tables)
    found = likely_column(((c, columns[c]) for c in columns if c not in _NO_GROUPS), labels)
    if found is None:
        return ""
    column, alike = found
    return (
        f"p-values assume independent images, but several images have the same {column}{alike}: to permute "
        f"such images together, pass {column} as `clusters`"
    )


def _columns(tables: Sequence[pa.Table]) -> dict[str, pa.ChunkedArray]:
    """Return all columns, each from the first table that has it."""
    columns: dict[str, pa.ChunkedArray] = {}
    for table in tables:
        for name in table.column_names:
            columns.setdefault(name, table[name])
    return columns
