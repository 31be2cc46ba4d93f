"""Label sets and images as tables with their metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy import typing as npt

from manyhot.classes import ClassList, class_list_of, from_keys
from manyhot.errors import InputError, MatchError, and_more
from manyhot.tables.class_list_unions import OverClasses
from manyhot.tables.definitions import STATES
from manyhot.tables.frames import check_range, check_unique, one_chunk, with_column
from manyhot.tables.image_ids import AUTO, Renamed, ids_like
from manyhot.tables.schemas import check, metadata, metadata_json, metadata_number, write
from manyhot.tables.state_lists import state_lists

_Table = TypeVar("_Table", "Labels", "Images")


class _OfImages:
    """A table with a row for each image."""

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def image_id(self) -> pa.Array:
        """The ids, one per image."""
        return one_chunk(self.table["image_id"])

    def to_polars(self) -> Any:
        """Return the table as a polars.DataFrame."""
        import polars as pl

        return pl.from_arrow(self.table)


@dataclass(frozen=True, eq=False)
class Labels(_OfImages, OverClasses):
    """The label sets of a data set: a labels table with its metadata.

    Attributes
    ----------
    table : pyarrow.Table
        A row is an image; see `TABLES`.
    n_classes : int
    class_hash : str
        The hash of the class list; empty if unknown.
    asked_known : bool
        Whether all classes asked about are recorded, including those with state no.
    name : str
        The name of the labels in reports.
    class_list : ClassList, optional
        The class list of the file itself; None if it names no classes, or the classes of a built-in list.
    assumed : bool
        Whether the class list ImageNet-1k is only assumed: the file contains class numbers, or names that
        ImageNet-1k also contains.
    exclusive : bool
        Whether raters chose one class per image, so that the probabilities `p` of an image add up to 1. They
        are shares of the votes or estimates of an aggregation. If the probabilities of the listed classes add
        up to less than 1, the rest is the probability of all other classes.
    complete : bool
        Whether each class that is not listed was answered no, as in a matrix of zeros and ones. In memory,
        the zeros are not stored, because 50,000 images and 1,000 classes have 50 million cells. Files contain
        the zeros.
    positives_only : bool
        Whether the labels are a matrix with *yes* and empty cells but without *no*, such as single positive
        labels. An empty cell is then a class without an answer; lists of classes have no such cells.
    notes : tuple of str
        What was left out when the file was read, such as columns that are not classes. Files do not contain
        the notes.
    numbered : bool
        Whether the labels are a frame whose columns have the names 0 to C - 1, which may also be positions.
    unread : tuple of (str, int, str)
        Columns that are not read as classes, each with the first row that cannot be read, and its cell.
    """

    table: pa.Table
    n_classes: int
    class_hash: str = ""
    asked_known: bool = False
    name: str = ""
    class_list: ClassList | None = None
    assumed: bool = False
    exclusive: bool = False
    complete: bool = False
    positives_only: bool = False
    notes: tuple[str, ...] = ()
    numbered: bool = False
    unread: tuple[tuple[str, int, str], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", check(self.table, "labels", where=self.name or None))
        check_unique(self.image_id, self.name or "labels")
        _check_lists(self)

    def __repr__(self) -> str:
        return f"Labels({self.name!r}, {len(self):,} images, {self.n_classes:,} classes)"

    @cached_property
    def rated(self) -> npt.NDArray[np.bool_]:
        """The images that raters saw, shape (n,); true where this is unknown."""
        if "rated" not in self.table.column_names:
            return np.ones(len(self), bool)
        return np.asarray(pc.fill_null(one_chunk(self.table["rated"]), True).to_numpy(zero_copy_only=False))

    @property
    def are_original(self) -> bool:
        """Whether the label sets contain only the original labels, and no image was rated."""
        columns = self.table.column_names
        if "label" not in columns or "rated" not in columns or pc.any(self.table["rated"]).as_py():
            return False
        flat = pc.list_flatten(self.table["classes"]).cast(pa.int32())
        lengths, label = pc.list_value_length(self.table["classes"]), self.table["label"]
        has_label = pc.cast(label.is_valid(), pa.int32())
        return bool(pc.all(pc.equal(lengths, has_label)).as_py()) and flat.equals(
            label.drop_null().cast(pa.int32())
        )

    def with_labels(self, images: Images, match: str = AUTO) -> Labels:
        """Return the labels with missing original labels filled in from an images table.

        Parameters
        ----------
        images : Images
        match : str
            How ids are matched; see `manyhot.tables.image_ids.match_ids`.

        Raises
        ------
        InputError
            If an image has a different original label in the images table.
        MatchError
            If ids are written differently and are ambiguous; see `manyhot.tables.image_ids.match_ids`.
        """
        if images.label is None:
            return self
        name = self.name or "the labels"
        return _with_labels(self, with_ids_like(images, self.image_id, other_name=name, match=match)[0])

    def about(self) -> dict[str, str]:
        """Return the metadata of the file."""
        return {
            "n_classes": str(self.n_classes),
            "classes": self.class_hash,
            "asked_known": str(self.asked_known).lower(),
            "name": self.name,
            **({"exclusive": "true"} if self.exclusive else {}),
            **({"positives_only": "true"} if self.positives_only else {}),
            **keys_in_metadata(self.class_list),
        }


@dataclass(frozen=True, eq=False)
class Images(_OfImages):
    """An images table, or the row order of a predictions array: ids, and original labels if known.

    `class_list` is the class list of the original labels in the file, as in `Labels`. `of_imagenet` states
    whether the file contains names of ImageNet-1k's classes instead of their numbers.
    """

    table: pa.Table
    name: str = ""
    class_list: ClassList | None = None
    of_imagenet: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", check(self.table, "images", where=self.name or None))
        check_unique(self.image_id, self.name or "images")

    def __repr__(self) -> str:
        return f"Images({self.name!r}, {len(self):,} images)"

    @cached_property
    def label(self) -> pa.Array | None:
        """The original labels; None if the table has none."""
        return one_chunk(self.table["label"]) if "label" in self.table.column_names else None

    def with_labels(self, images: Images) -> Images:
        """Return the images with missing original labels filled in from another table with the same ids.

        Raises
        ------
        InputError
            If an image has a different original label in the other table.
        """
        return _with_labels(self, images)


def with_ids_like(
    table: _Table, ids: pa.Array, *, other_name: str, match: str = AUTO
) -> tuple[_Table, Renamed]:
    """Return label sets or images with the ids that another table uses for the same images.

    Parameters
    ----------
    table : Labels or Images
    ids : pyarrow.Array of string
        The ids of the other table.
    other_name, match : str
        As in `manyhot.tables.image_ids.ids_like`.

    Raises
    ------
    InputError
        As in `manyhot.tables.image_ids.match_ids`.
    """
    name = table.name or ("the labels" if isinstance(table, Labels) else "the images")
    like = ids_like(table.image_id, ids, name=name, other_name=other_name, match=match)
    if not like.n:
        return table, like
    return replace(table, table=with_column(table.table, "image_id", like.ids)), like


def sorted_by_id(table: _Table) -> _Table:
    """Return label sets or images with their rows in the order of their ids."""
    order = pc.sort_indices(table.image_id)
    return replace(table, table=table.table.take(order))


def write_labels(
    labels: Labels, path: str | os.PathLike[str], *, call: str = "", inputs: Mapping[str, str] | None = None
) -> Path:
    """Write label sets to a Parquet file."""
    return write(with_zeros(labels).table, path, "labels", call=call, inputs=inputs, about=labels.about())


def with_zeros(labels: Labels) -> Labels:
    """Return complete label sets with a state for every class, as in a file; others are unchanged."""
    if not labels.complete:
        return labels
    return replace(labels, table=zeros_listed(labels.table, labels.n_classes), complete=False)


def zeros_listed(table: pa.Table, c: int) -> pa.Table:
    """Return a table of complete label sets over c classes with the state *no* of each unlisted class."""
    n, lists = len(table), one_chunk(table["classes"])
    state = np.zeros((n, c), np.int8)
    rows = np.repeat(np.arange(n), pc.list_value_length(lists).to_numpy(zero_copy_only=False))
    codes = pc.index_in(one_chunk(table["state"]).flatten(), pa.array(STATES))
    state[rows, lists.flatten().to_numpy()] = codes.to_numpy(zero_copy_only=False)
    every = np.tile(np.arange(c, dtype=np.int32), n)
    for name, column in state_lists(np.full(n, c), every, state.ravel()).items():
        table = with_column(table, name, column)
    return table


def labels_from_table(table: pa.Table, *, name: str, n_classes: int = 0, class_hash: str = "") -> Labels:
    """Return labels from a checked table and its metadata. Arguments are used if metadata are missing."""
    about = metadata(table)
    states = pc.unique(pc.list_flatten(table["state"])).to_pylist()
    return Labels(
        table,
        *class_list_in_metadata(table, n_classes, class_hash, name),
        # A foreign table with a rejected class records the classes asked about.
        about.get("asked_known", str("no" in states).lower()) == "true",
        about.get("name") or name,
        class_list_from_metadata(about, name),
        exclusive=about.get("exclusive") == "true",
        positives_only=about.get("positives_only") == "true",
    )


def keys_in_metadata(classes: ClassList | None) -> dict[str, str]:
    """Return the metadata with the keys of a data set's own class list, and with the names if they differ."""
    if classes is None:
        return {}
    texts = {"keys": classes.keys} | ({"names": classes.names} if classes.names != classes.keys else {})
    return {name: json.dumps(values, ensure_ascii=False) for name, values in texts.items()}


def class_list_metadata(classes: ClassList) -> dict[str, str]:
    """Return the metadata of a table over a class list, with the prefix of manyhot's metadata."""
    own = None if class_list_of(classes.hash) else classes
    about = {"n_classes": str(len(classes)), "classes": classes.hash, **keys_in_metadata(own)}
    return {f"manyhot.{key}": value for key, value in about.items()}


def declaring(table: _Table, classes: ClassList) -> _Table:
    """Return a table whose metadata contain its class list, so that the order of this list is kept."""
    about = table.table.schema.metadata or {}
    keys = {key.encode(): value.encode() for key, value in class_list_metadata(classes).items()}
    return replace(table, table=table.table.replace_schema_metadata({**about, **keys}))


def class_list_from_metadata(about: Mapping[str, str], name: str) -> ClassList | None:
    """Return the class list that a table's metadata contain; None if there is none.

    Raises
    ------
    InputError
        If the keys differ from the class list of the table, or if the numbers of keys and names differ.
    """
    if "keys" not in about:
        return None
    keys = _texts(about, "keys")
    names = _texts(about, "names") if "names" in about else keys
    classes = from_keys(keys, name) if keys and len(names) == len(keys) else None
    if classes is not None:
        classes = replace(classes, names=tuple(names))
    if classes is None or classes.hash != about.get("classes"):
        raise InputError(
            "The class list in the metadata of the file is damaged.",
            where=name,
            do="create or download it again",
        )
    return classes


def _texts(about: Mapping[str, str], key: str) -> list[str]:
    """Return the texts of a JSON list; none if it is damaged."""
    texts = metadata_json(about, key)
    return texts if isinstance(texts, list) and all(isinstance(text, str) for text in texts) else []


def class_list_in_metadata(table: pa.Table, n_classes: int, class_hash: str, name: str) -> tuple[int, str]:
    """Return the length and the hash of a table's class list. Arguments are used if metadata are missing.

    Raises
    ------
    MatchError
        If the hash of the table's class list differs from `class_hash`.
    """
    about = metadata(table)
    n = metadata_number(about, "n_classes", name)
    key = about.get("classes", "")
    differ = class_hash and ((key and key != class_hash) or (n and n != n_classes))
    if differ:
        raise MatchError(
            "The table has a different class list from the one passed.",
            where=name,
            got=f"{n:,} classes, class list {key or 'unknown'}",
            allowed=f"{n_classes:,} classes, class list {class_hash}",
            do="pass the class list of the table, or omit it",
        )
    return n or n_classes, key or about.get("classes", class_hash)


_ZERO_ONE = (
    "the row looks like 0 and 1 for each class: pass an array with one column per class, such as "
    "np.array(rows)"
)


def _check_lists(labels: Labels) -> None:
    table, where = labels.table, labels.name or "labels"
    lengths = pc.list_value_length(table["classes"]).to_numpy()
    for name in ("state", "p", "n_votes"):
        if name in table.column_names and table[name].null_count == 0:
            other = pc.list_value_length(table[name]).to_numpy()
            if (other != lengths).any():
                row = int(np.flatnonzero(other != lengths)[0])
                raise InputError(
                    f"The lists `classes` and {name!r} of an image differ in length.",
                    where=f"{where}, image {labels.image_id[row]}",
                    got=f"{lengths[row]} and {other[row]}",
                )
    flat = pc.list_flatten(table["classes"]).to_numpy()
    rows = np.repeat(np.arange(len(labels)), lengths)
    check_range(flat, rows, labels.image_id, labels.n_classes, where)
    pairs = rows * np.int64(labels.n_classes) + flat
    if (pairs[1:] <= pairs[:-1]).any():  # most files list classes in order: sorting takes 20 times as long
        pairs.sort()
    twice = np.flatnonzero(pairs[1:] == pairs[:-1])
    if len(twice):
        row, class_id = divmod(int(pairs[twice[0]]), labels.n_classes)
        raise InputError(
            "An image lists a class twice.",
            where=f"{where}, image {labels.image_id[row]}",
            got=f"class {class_id}",
            do=_ZERO_ONE if lengths[row] > 2 and (flat[rows == row] <= 1).all() else None,
        )
    if "label" in table.column_names:
        label = table["label"].drop_null().to_numpy()
        rows = np.flatnonzero(table["label"].is_valid().to_numpy())
        check_range(label, rows, labels.image_id, labels.n_classes, where)


def _with_labels(table: _Table, images: Images) -> _Table:
    """Return label sets or images with the original labels of images with the same ids."""
    if images.label is None:
        return table
    theirs = pc.take(images.label, pc.index_in(table.image_id, images.image_id))
    if "label" not in table.table.column_names:
        return replace(table, table=table.table.append_column("label", theirs))
    own = one_chunk(table.table["label"])
    _check_same_label(table, own, theirs)
    return replace(table, table=with_column(table.table, "label", pc.coalesce(own, theirs)))


def _check_same_label(labels: Labels | Images, own: pa.Array, theirs: pa.Array) -> None:
    differ = pc.fill_null(pc.not_equal(own, theirs), False)
    n = pc.sum(differ).as_py() or 0
    if n:
        row = pc.index(differ, True).as_py()
        raise InputError(
            "Two files have different original labels for an image.",
            where=f"{labels.name or 'labels'}, image {labels.image_id[row]}{and_more(n - 1)}",
            got=f"{own[row]} and {theirs[row]}",
            do="check that both files have the same class list and data set",
        )
