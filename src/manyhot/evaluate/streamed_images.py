"""The images of an `Evaluator`: their labels as a table, and what the model predicted as an array."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot.classes import ClassList, from_json, to_json
from manyhot.errors import InputError, MatchError, first_names
from manyhot.tables import Labels, one_chunk
from manyhot.tables.class_values import on_host
from manyhot.tables.labels import zeros_listed

_TYPES = {
    "image_id": pa.string(),
    "label": pa.int32(),
    "usable": pa.bool_(),
    "classes": pa.list_(pa.int32()),
    "state": pa.list_(pa.string()),
    "p": pa.list_(pa.float32()),
}
"""Columns of the labels; `image_id` and `p` may be absent."""


@dataclass
class StreamedImages:
    """Images in batches, in the order in which they were added.

    Attributes
    ----------
    tables : list of pyarrow.Table
        Ids (if there are any), original labels and label sets; one table per batch.
    predicted : list of ndarray, shape (b, k) of int or (b, C) of float
        The top classes or the scores for the same images; one array per batch.
    classes : ClassList, optional
        The class list, if a batch names the classes: a frame, or a table with a class list.
    class_hash : str
        The hash of the class list of the batches or of the evaluator; empty if classes are numbers.
    asked_known, complete, positives_only, exclusive : bool
        As in `Labels`, for all batches together.
    n_classes : int
        Number of classes; 0 if unknown.
    merged : bool
        Whether the batches come from several evaluators, so that their order is arbitrary.
    """

    tables: list[pa.Table] = field(default_factory=list)
    predicted: list[npt.NDArray[Any]] = field(default_factory=list)
    classes: ClassList | None = None
    class_hash: str = ""
    asked_known: bool = True
    merged: bool = False
    complete: bool = True
    positives_only: bool = False
    n_classes: int = 0
    exclusive: bool = False

    @classmethod
    def of(cls, labels: Labels, predicted: npt.NDArray[Any], ids: pa.Array | None) -> StreamedImages:
        """Return a batch."""
        if ids is not None and len(ids) != len(labels):
            raise InputError(
                "Images and their ids differ in number.",
                got=f"{len(ids):,} ids",
                allowed=f"{len(labels):,}, one for each image of the batch",
            )
        own = labels.table
        columns = {} if ids is None else {"image_id": ids}
        columns["label"] = own["label"] if "label" in own.column_names else pa.nulls(len(own))
        columns |= {
            name: own[name] for name in ("usable", "classes", "state", "p") if name in own.column_names
        }
        table = pa.table(columns).cast(pa.schema([(name, _TYPES[name]) for name in columns]))
        return cls(
            [table],
            [predicted],
            asked_known=labels.asked_known,
            complete=labels.complete,
            positives_only=labels.positives_only,
            n_classes=labels.n_classes,
            exclusive=labels.exclusive,
        )

    def over(self, classes: ClassList | None, *, is_own: bool) -> StreamedImages:
        """Return the images with a class list or, if it is not their own, only with its hash."""
        class_hash = "" if classes is None else classes.hash
        return replace(self, classes=classes if is_own else None, class_hash=class_hash)

    @property
    def has_ids(self) -> bool:
        """Whether images have ids. Otherwise each row is an image of its own."""
        return bool(self.tables) and "image_id" in self.tables[0].column_names

    def add(self, other: StreamedImages, where: str) -> None:
        """Add the batches of another object, which messages call `where`.

        Raises
        ------
        InputError
            If only one of the two has ids, or only one has scores over all classes.
        MatchError
            If the classes of columns differ.
        """
        if other.tables and self.tables:
            self._check(other, where)
            # A class that is not listed was answered no in complete batches, and not asked in others.
            if self.complete != other.complete and self.n_classes and other.n_classes:
                self._list_zeros()
                other = replace(other, tables=[*other.tables])
                other._list_zeros()
            records = [part.asked_known or part.positives_only for part in (self, other)]
            is_known = all(records) and self.complete == other.complete
            self.positives_only &= other.positives_only
            # A batch of a matrix with empty cells may happen to contain no negatives.
            self.asked_known = is_known and not self.positives_only
            self.complete &= other.complete
        elif other.tables:
            self.asked_known, self.complete = other.asked_known, other.complete
            self.positives_only, self.exclusive = other.positives_only, other.exclusive
        self.n_classes = self.n_classes or other.n_classes
        self.tables += other.tables
        self.predicted += other.predicted
        self.classes = self.classes or other.classes
        self.class_hash = self.class_hash or other.class_hash

    def _list_zeros(self) -> None:
        """List the classes that were answered no in complete batches."""
        if self.complete:
            self.tables = [zeros_listed(table, self.n_classes) for table in self.tables]
            self.complete = False

    def _check(self, other: StreamedImages, where: str) -> None:
        if self.has_ids != other.has_ids:
            raise InputError(
                "Some images have ids, and others do not.",
                where=where,
                got="ids" if other.has_ids else "no ids",
                allowed="ids, as in earlier batches" if self.has_ids else "no ids, as in earlier batches",
                do="pass `ids` with all batches or with none",
            )
        kinds = [part.predicted[0].dtype.kind == "f" for part in (self, other)]
        if kinds[0] != kinds[1]:
            raise InputError(
                "Some predictions are scores, and others are classes.",
                where=where,
                got="scores" if kinds[1] else "classes, best first",
                allowed="scores" if kinds[0] else "classes, best first",
                do="pass scores over all classes with all batches",
            )
        if self.exclusive != other.exclusive:
            raise InputError(
                "Some labels are votes for one class per image, and others are not.",
                where=where,
                got="votes for one class" if other.exclusive else "classes that can be valid together",
                do="create the evaluator with `label_values`, so that all batches are read in the same way",
            )
        if "" not in (self.class_hash, other.class_hash) and self.class_hash != other.class_hash:
            raise MatchError(
                "The columns do not match the class list.",
                where=where,
                got=some_names(other.classes) or f"class list {other.class_hash}",
                allowed=some_names(self.classes) or f"class list {self.class_hash}",
                do="give the frames of all batches the same columns in the same order, or pass `classes`",
            )

    def joined(self) -> StreamedImages:
        """Return the images as one batch. Lists of top classes are cut to the length of the shortest list."""
        if len(self.tables) == 1:
            return self
        width = min(p.shape[1] for p in self.predicted)
        table = pa.concat_tables(self.tables, promote_options="default").combine_chunks()
        table = table.select([name for name in _TYPES if name in table.column_names])
        predicted = np.concatenate([p[:, :width] for p in self.predicted])
        return replace(self, tables=[table], predicted=[predicted])

    def numbered(self) -> StreamedImages:
        """Return the images as one batch without their ids, because ids may repeat."""
        images = self.joined()
        names = [name for name in images.tables[0].column_names if name != "image_id"]
        return replace(images, tables=[images.tables[0].select(names)])

    def distinct(self) -> tuple[StreamedImages, int, int]:
        """Return the images, each id once, in an order that does not depend on merging.

        Returns
        -------
        StreamedImages
            The images by id. Without ids, merged images are sorted by their contents, and images that were
            not merged keep their order.
        int
            Number of rows left out because an earlier one has the same id.
        int
            Number of images with several different predictions, only one of which is used.

        Raises
        ------
        MatchError
            If an id occurs with different labels.
        """
        images = self.joined()
        if not (self.has_ids or self.merged):
            return images, 0, 0
        table, predicted = images.tables[0], images.predicted[0]
        code = np.zeros(len(table), np.int64)
        if self.has_ids:
            code = pc.rank(one_chunk(table["image_id"]), tiebreaker="dense").to_numpy().astype(np.int64)
        repeated = np.bincount(code)[code] > 1
        digests = np.zeros((len(table), 2), np.uint64)
        digests[repeated] = _digests(table.filter(pa.array(repeated)), predicted[repeated])
        order = np.lexsort((digests[:, 1], digests[:, 0], code))
        if not self.has_ids:
            return images._taken(order), 0, 0
        again = np.concatenate([[False], code[order][1:] == code[order][:-1]])
        labels_differ, predictions_differ = (
            again & np.concatenate([[False], digests[order][1:, i] != digests[order][:-1, i]]) for i in (0, 1)
        )
        if labels_differ.any():
            raise _differing(table["image_id"].take(pa.array(order[labels_differ])))
        n_differing = len(np.unique(code[order][predictions_differ]))
        return images._taken(order[~again]), int(again.sum()), n_differing

    def _taken(self, rows: npt.NDArray[np.intp]) -> StreamedImages:
        table, predicted = self.tables[0], self.predicted[0]
        return replace(self, tables=[table.take(pa.array(rows))], predicted=[predicted[rows]])

    def to_bytes(self) -> bytes | None:
        """Return the images as an Arrow stream: the columns of the labels, and ``predicted``.

        Without images, return None, because PyTorch does not load empty bytes with ``weights_only=True``.
        """
        if not self.tables:
            return None
        images = self.joined()
        table, predicted = images.tables[0], images.predicted[0]
        flat = pa.array(np.ascontiguousarray(predicted).ravel())
        rows = pa.FixedSizeListArray.from_arrays(flat, predicted.shape[1])
        about = {
            "n": len(table),
            "classes": self.classes and to_json(self.classes),
            "class_hash": self.class_hash,
            "asked_known": self.asked_known,
            "merged": self.merged,
            "complete": self.complete,
            "positives_only": self.positives_only,
            "n_classes": self.n_classes,
            "exclusive": self.exclusive,
        }
        table = table.append_column("predicted", rows).replace_schema_metadata({"images": json.dumps(about)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return bytes(sink.getvalue())

    @classmethod
    def from_bytes(cls, data: bytes | None) -> StreamedImages:
        """Return the images of concatenated streams. Their classes may be out of range.

        Raises
        ------
        InputError
            If a stream is damaged, or if `add` rejects a stream.
        """
        images, at = cls(), 0
        if data is None:
            return images
        if not isinstance(data, bytes):
            raise _damaged(type(data).__name__)
        while at < len(data):
            try:
                source = pa.BufferReader(memoryview(data)[at:])
                table = pa.ipc.open_stream(source).read_all().combine_chunks()
                table.validate(full=True)
                batch = cls._read(table)
            except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, InputError) as error:
                raise _damaged(str(error)) from error
            images.add(batch, "the state")
            images.merged |= batch.merged
            at += source.tell()
        return images

    @classmethod
    def _read(cls, table: pa.Table) -> StreamedImages:
        about = json.loads(table.schema.metadata[b"images"])
        if about["n"] != len(table):
            raise ValueError(f"{len(table):,} of {about['n']:,} images")
        predicted = _predicted(table["predicted"])
        labels = table.drop_columns("predicted").replace_schema_metadata(None)
        expected = pa.schema([(name, _TYPES[name]) for name in labels.column_names])
        if labels.schema != expected or not {*_TYPES} - {"image_id", "p"} <= {*labels.column_names}:
            raise TypeError(", ".join(f"{f.name}: {f.type}" for f in labels.schema))
        classes = None if about["classes"] is None else from_json(about["classes"])
        flags = bool(about["asked_known"]), bool(about["merged"])
        complete, positives_only = (bool(about.get(name, False)) for name in ("complete", "positives_only"))
        images = cls(
            [labels], [predicted], classes, str(about["class_hash"]), *flags, complete, positives_only
        )
        exclusive = bool(about.get("exclusive", False))
        return replace(images, n_classes=int(about.get("n_classes", 0)), exclusive=exclusive)


def read_ids(ids: Any) -> pa.Array:
    """Return ids of images, which may be strings or numbers, as strings."""
    values = on_host(ids)
    values = values.tolist() if hasattr(values, "tolist") else list(values)
    return pa.array(map(str, values), pa.string())


def _predicted(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    values = one_chunk(column)
    if not pa.types.is_fixed_size_list(values.type):
        raise TypeError(f"predicted is {values.type}")
    flat = values.flatten().to_numpy(zero_copy_only=True)
    return np.asarray(flat.reshape(len(values), values.type.list_size))


def _digests(table: pa.Table, predicted: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Return a number for the labels of each image and one for its predictions, shape (n, 2)."""
    columns = [table[name].to_pylist() for name in ("label", "usable", "classes", "state")]
    p = table["p"].to_pylist() if "p" in table.column_names else [None] * len(table)
    labels = (
        repr((label, usable, sorted(zip(classes, states, more or classes, strict=True))))
        for label, usable, classes, states, more in zip(*columns, p, strict=True)
    )
    rows = (row.tobytes() for row in np.ascontiguousarray(predicted))
    pairs = [(_digest(text.encode()), _digest(row)) for text, row in zip(labels, rows, strict=True)]
    return np.array(pairs, np.uint64).reshape(-1, 2)


def _digest(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def some_names(classes: ClassList | None) -> str:
    """Return the first few classes for a message, or an empty string without a class list."""
    return first_names(classes.keys if classes else ())


def _differing(ids: pa.ChunkedArray) -> MatchError:
    examples = ", ".join(ids.unique()[:2].to_pylist())
    return MatchError(
        "An image was added with different labels.",
        got=f"{len(ids.unique()):,} such images, for example {examples}",
        allowed="the same labels whenever an id is added",
        do="check that ids are unique in the data set",
    )


def _damaged(reason: str) -> InputError:
    return InputError(
        "The state of an evaluator is damaged.", got=reason, do="pass what Evaluator.state_dict() returned"
    )
