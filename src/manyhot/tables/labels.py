"""Label sets and images as tables, with the metadata that reading them needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.errors import InputError, MatchError
from manyhot.tables.align import check_range, check_unique, one_chunk
from manyhot.tables.schemas import check, metadata, metadata_number, write


@dataclass(frozen=True, eq=False)
class Labels:
    """The label sets of a data set: a labels table and the metadata that reading it needs.

    Attributes
    ----------
    table : pyarrow.Table
        A row is an image; see `TABLES`.
    n_classes : int
    class_hash : str
        The hash of the class list; empty where unknown.
    asked_known : bool
        Whether classes that were asked about and answered no are recorded.
    name : str
        What the labels are called in reports.
    """

    table: pa.Table
    n_classes: int
    class_hash: str = ""
    asked_known: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", check(self.table, "labels", where=self.name or None))
        check_unique(self.image_id, self.name or "labels")
        _check_lists(self)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        return f"Labels({self.name!r}, {len(self):,} images, {self.n_classes:,} classes)"

    @cached_property
    def image_id(self) -> pa.Array:
        """The ids, one an image."""
        return one_chunk(self.table["image_id"])

    def to_polars(self) -> Any:
        """Return the table as a polars.DataFrame."""
        import polars as pl

        return pl.from_arrow(self.table)

    def with_labels(self, images: Images) -> Labels:
        """Return the labels with original labels filled in from an images table, where they were unknown.

        Raises
        ------
        InputError
            If both know an original label and they differ.
        """
        if images.label is None:
            return self
        at = pc.index_in(self.image_id, images.image_id)
        theirs = pc.take(images.label, at)
        if "label" in self.table.column_names:
            own = one_chunk(self.table["label"])
            _check_same_label(self, own, theirs)
            theirs = pc.coalesce(own, theirs)
            table = self.table.set_column(self.table.column_names.index("label"), "label", theirs)
        else:
            table = self.table.append_column("label", theirs)
        return Labels(table, self.n_classes, self.class_hash, self.asked_known, self.name)

    def about(self) -> dict[str, str]:
        """Return the metadata that belong to the table."""
        return {
            "n_classes": str(self.n_classes),
            "classes": self.class_hash,
            "asked_known": str(self.asked_known).lower(),
            "name": self.name,
        }


@dataclass(frozen=True, eq=False)
class Images:
    """An images table, or the row order of a predictions array: ids, and original labels where known."""

    table: pa.Table
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", check(self.table, "images", where=self.name or None))
        check_unique(self.image_id, self.name or "images")

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        return f"Images({self.name!r}, {len(self):,} images)"

    @cached_property
    def image_id(self) -> pa.Array:
        """The ids, one an image."""
        return one_chunk(self.table["image_id"])

    @cached_property
    def label(self) -> pa.Array | None:
        """The original labels, or None where the table has none."""
        return one_chunk(self.table["label"]) if "label" in self.table.column_names else None

    def to_polars(self) -> Any:
        """Return the table as a polars.DataFrame."""
        import polars as pl

        return pl.from_arrow(self.table)


def write_labels(
    labels: Labels, path: str | os.PathLike[str], *, call: str = "", inputs: Mapping[str, str] | None = None
) -> Path:
    """Write label sets to a Parquet file."""
    return write(labels.table, path, "labels", call=call, inputs=inputs, about=labels.about())


def labels_from_table(table: pa.Table, *, name: str, n_classes: int = 0, class_hash: str = "") -> Labels:
    """Read a checked labels table, with its metadata; the arguments apply where these say nothing."""
    about = metadata(table)
    states = pc.unique(pc.list_flatten(table["state"])).to_pylist()
    return Labels(
        table,
        *told_classes(table, n_classes, class_hash, name),
        # A foreign table that lists a rejected class records what was asked about.
        about.get("asked_known", str("no" in states).lower()) == "true",
        about.get("name") or name,
    )


def told_classes(table: pa.Table, n_classes: int, class_hash: str, name: str) -> tuple[int, str]:
    """Return size and hash of the class list of a table; the arguments apply where its metadata say nothing.

    Raises
    ------
    MatchError
        The table names another list than `class_hash`, where that is given.
    """
    about = metadata(table)
    n = metadata_number(about, "n_classes", name)
    key = about.get("classes", "")
    differ = class_hash and ((key and key != class_hash) or (n and n != n_classes))
    if differ:
        raise MatchError(
            "The class list is not that of the table.",
            where=name,
            got=f"{n:,} classes, class list {key or 'unknown'}",
            allowed=f"{n_classes:,} classes, class list {class_hash}",
            do="give the class list that the table was made with, or leave it out",
        )
    return n or n_classes, key or about.get("classes", class_hash)


def _check_lists(labels: Labels) -> None:
    table, where = labels.table, labels.name or "labels"
    lengths = pc.list_value_length(table["classes"]).to_numpy()
    for name in ("state", "p", "n_votes"):
        if name in table.column_names and table[name].null_count == 0:
            other = pc.list_value_length(table[name]).to_numpy()
            if (other != lengths).any():
                row = int(np.flatnonzero(other != lengths)[0])
                raise InputError(
                    f"The lists `classes` and {name!r} of an image have different lengths.",
                    where=f"{where}, image {labels.image_id[row]}",
                    got=f"{lengths[row]} and {other[row]}",
                )
    flat = pc.list_flatten(table["classes"]).to_numpy()
    rows = np.repeat(np.arange(len(labels)), lengths)
    check_range(flat, rows, labels.image_id, labels.n_classes, where)
    pairs = np.sort(rows * np.int64(labels.n_classes) + flat)
    twice = np.flatnonzero(pairs[1:] == pairs[:-1])
    if len(twice):
        row, class_id = divmod(int(pairs[twice[0]]), labels.n_classes)
        raise InputError(
            "An image lists a class twice.",
            where=f"{where}, image {labels.image_id[row]}",
            got=f"class {class_id}",
        )
    if "label" in table.column_names:
        label = table["label"].drop_null().to_numpy()
        rows = np.flatnonzero(table["label"].is_valid().to_numpy())
        check_range(label, rows, labels.image_id, labels.n_classes, where)


def _check_same_label(labels: Labels, own: pa.Array, theirs: pa.Array) -> None:
    differ = pc.fill_null(pc.not_equal(own, theirs), False)
    n = pc.sum(differ).as_py() or 0
    if n:
        row = pc.index(differ, True).as_py()
        raise InputError(
            "Two files give an image different original labels.",
            where=f"{labels.name or 'labels'}, image {labels.image_id[row]}"
            + (f" and {n - 1:,} more" if n > 1 else ""),
            got=f"{own[row]} and {theirs[row]}",
            do="check that both files are over the same class list and data set",
        )
