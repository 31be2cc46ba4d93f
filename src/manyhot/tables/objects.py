"""The objects in images: a class, a box, perhaps polygons or a mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.core.array_types import Bools, Floats
from manyhot.tables.align import check_range
from manyhot.tables.schemas import write

BOX = ("x1", "y1", "x2", "y2")


@dataclass(frozen=True, eq=False)
class Objects:
    """What is where in images. Images without a row have no object, or were not annotated.

    Attributes
    ----------
    table : pyarrow.Table
        The table of this name, in any order.
    keys : tuple of str
        The keys of the class list that `class_id` refers to, which may differ from that of a model.
    class_hash : str
        Its hash.
    semantic : Mapping of str to bytes or Path
        By image, where there is one: a PNG of whole numbers, 0 background, ``class_id + 1`` the class of a
        pixel, 255 unknown.
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
    def class_id(self) -> npt.NDArray[np.int64]:
        """Shape (n,)."""
        return np.asarray(self.table["class_id"].to_numpy(), np.int64)

    @cached_property
    def boxes(self) -> Floats:
        """Fractions of width and height: left, top, right, bottom; shape (n, 4)."""
        return np.stack([self.table[c].to_numpy().astype(float) for c in BOX], axis=1)

    @cached_property
    def ignore(self) -> Bools:
        """Objects that count neither for nor against a model; shape (n,)."""
        return np.asarray(self.table["ignore"].to_numpy(zero_copy_only=False), bool)

    @cached_property
    def images(self) -> Mapping[str, npt.NDArray[np.int64]]:
        """The rows of each image, in the order of the table."""
        encoded = pc.dictionary_encode(self.table["image_id"].combine_chunks())
        image = encoded.indices.to_numpy()
        order = np.argsort(image, kind="stable")
        ends = np.cumsum(np.bincount(image, minlength=len(encoded.dictionary)))
        rows = np.split(order, ends[:-1]) if len(ends) else []
        return dict(zip(encoded.dictionary.to_pylist(), rows, strict=True))

    def rows(self, image_id: str) -> npt.NDArray[np.int64]:
        """Return the rows of an image; none where it has no object."""
        return self.images.get(image_id, np.zeros(0, np.int64))


def write_objects(objects: Objects, path: Path, *, call: str = "") -> Path:
    """Write the table ``objects``, with the key of each class; semantic masks are not part of it."""
    keys = pa.array([objects.keys[c] for c in objects.class_id], pa.string())
    table = objects.table
    if "class" not in table.column_names:
        table = table.append_column("class", keys)
    about = {"n_classes": str(len(objects.keys)), "classes": objects.class_hash}
    return write(table, path, "objects", call=call, about=about)
