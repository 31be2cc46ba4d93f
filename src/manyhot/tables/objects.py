"""Objects in images: boxes, and semantic masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.classes import class_list_of, from_keys
from manyhot.core.array_types import Bools, Floats, Ints64
from manyhot.tables.frames import check_range
from manyhot.tables.labels import keys_in_metadata
from manyhot.tables.schemas import write

BOX = ("x1", "y1", "x2", "y2")


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects in images. Images without a row have no objects, or were not annotated.

    Attributes
    ----------
    table : pyarrow.Table
        The table ``objects``, in any order.
    keys : tuple of str
        The keys of the class list to which `class_id` refers. This list may differ from the class list of a
        model.
    class_hash : str
        The hash of the class list.
    semantic : Mapping of str to bytes or Path
        Semantic masks by image, as PNGs. The value of a pixel is 0 for background, ``class_id + 1`` for a
        class, and 255 for unknown.
    name : str
    """

    table: pa.Table
    keys: tuple[str, ...]
    class_hash: str = ""
    semantic: Mapping[str, bytes | Path] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        rows = np.arange(len(self))
        ids = self.table["image_id"].combine_chunks()
        check_range(self.class_id, rows, ids, len(self.keys), self.name or "objects")

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return f"Objects({self.name!r}, {len(self):,} objects in {len(self.images):,} images)"

    @cached_property
    def class_id(self) -> Ints64:
        """The class of each object, shape (n,)."""
        return np.asarray(self.table["class_id"].to_numpy(), np.int64)

    @cached_property
    def boxes(self) -> Floats:
        """Left, top, right and bottom of each box, as fractions of width and height, shape (n, 4)."""
        return np.stack([self.table[c].to_numpy().astype(float) for c in BOX], axis=1)

    @cached_property
    def ignore(self) -> Bools:
        """Whether each object is ignored, that is, counts neither as a label nor as an error, shape (n,)."""
        return np.asarray(self.table["ignore"].to_numpy(zero_copy_only=False), bool)

    @cached_property
    def images(self) -> Mapping[str, Ints64]:
        """The rows of each image, in the order of the table."""
        encoded = pc.dictionary_encode(self.table["image_id"].combine_chunks())
        image = encoded.indices.to_numpy()
        order = np.argsort(image, kind="stable")
        ends = np.cumsum(np.bincount(image, minlength=len(encoded.dictionary)))
        rows = np.split(order, ends[:-1]) if len(ends) else []
        return dict(zip(encoded.dictionary.to_pylist(), rows, strict=True))

    def rows(self, image_id: str) -> Ints64:
        """Return the rows of an image; empty if it has no objects."""
        return self.images.get(image_id, np.zeros(0, np.int64))


def write_objects(objects: Objects, path: Path, *, call: str = "") -> Path:
    """Write the table ``objects`` with the key of each class, without semantic masks."""
    keys = pa.array([objects.keys[c] for c in objects.class_id], pa.string())
    table = objects.table
    if "class" not in table.column_names:
        table = table.append_column("class", keys)
    about = {"n_classes": str(len(objects.keys)), "classes": objects.class_hash}
    classes = from_keys(objects.keys, objects.name)
    if classes.hash == objects.class_hash and class_list_of(classes.hash) is None:
        about |= keys_in_metadata(classes)
    return write(table, path, "objects", call=call, about=about)
