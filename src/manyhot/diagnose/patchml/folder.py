"""The folder of composed pictures: its tables, and how it is put in the place of an earlier one."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy import typing as npt

from manyhot import tables
from manyhot.diagnose.patchml.compose import Layout
from manyhot.errors import OutputError
from manyhot.files import write_refused
from manyhot.tables import Labels, Objects

COMPLETE = "patchml.json"
"""Written last: with it the folder is complete."""


PARTS = ("images", "images.parquet", "labels.parquet", "objects.parquet", "classes.txt", "skipped.csv")
"""What else the folder holds."""


_UNFINISHED = ".unfinished-"


@dataclass(frozen=True)
class ComposedPicture:
    """A composed picture, as the tables describe it.

    Attributes
    ----------
    image_id, uri : str
    size : int
        Width and height, in pixels.
    classes : list of int
        Classes of its patches, the lowest first.
    label : int
        The class with the most visible pixels.
    boxes : list of tuple
        Left, top, right and bottom of each patch, in pixels.
    masks : list of bytes
        PNGs of the visible pixels of each.
    sources : list of str
        The photograph of each patch, and that of the background if there is one.
    overlap, scale : float
        Share of the most covered patch that is under others; the mean scale.
    """

    image_id: str
    uri: str
    size: int
    classes: list[int]
    label: int
    boxes: list[tuple[int, int, int, int]]
    masks: list[bytes]
    sources: list[str]
    overlap: float
    scale: float

    @classmethod
    def of(cls, image_id: str, uri: str, layout: Layout, behind: str) -> ComposedPicture:
        """Return what the tables say about a layout."""
        size, classes = len(layout.owner), [p.class_id for p in layout.patches]
        sides = [p.mask.shape for p in layout.patches]
        places = zip(layout.places, sides, strict=True)
        return cls(
            image_id,
            uri,
            size,
            classes,
            classes[int(layout.visible.argmax())],
            [(left, top, left + width, top + height) for (left, top), (height, width) in places],
            [_png(layout.owner == i) for i in range(len(classes))],
            [p.image_id for p in layout.patches] + [behind] * bool(behind),
            float(layout.covered.max()),
            float(np.mean([max(s) / size for s in sides])),
        )


def write_composed(
    pictures: Sequence[ComposedPicture],
    objects: Objects,
    folder: Path,
    *,
    call: str,
    inputs: Mapping[str, str],
) -> None:
    """Write the tables of pictures: images, label sets, objects and classes."""
    keys, class_hash = objects.keys, objects.class_hash
    columns = {
        "image_id": pa.array([p.image_id for p in pictures]),
        "uri": pa.array([p.uri for p in pictures]),
        "label": pa.array([p.label for p in pictures], pa.int32()),
        "width": pa.array([p.size for p in pictures], pa.int32()),
        "height": pa.array([p.size for p in pictures], pa.int32()),
        "n_objects": pa.array([len(p.classes) for p in pictures], pa.int32()),
        "overlap": pa.array([p.overlap for p in pictures], pa.float32()),
        "scale": pa.array([p.scale for p in pictures], pa.float32()),
        "sources": pa.array([p.sources for p in pictures], pa.list_(pa.string())),
    }
    about = {"classes": class_hash, "n_classes": str(len(keys))}
    made = pa.table(columns)
    tables.write(made, folder / "images.parquet", "images", call=call, inputs=inputs, about=about)
    labels = Labels(_label_sets(pictures, len(keys)), len(keys), class_hash, True, "patchml")
    tables.write_labels(labels, folder / "labels.parquet", call=call, inputs=inputs)
    laid = Objects(_objects(pictures), keys, class_hash)
    tables.write_objects(laid, folder / "objects.parquet", call=call)
    (folder / "classes.txt").write_text("".join(f"{k}\n" for k in keys), encoding="utf-8", newline="\n")


def write_skipped(skipped: Mapping[int, str], objects: Objects, path: Path) -> None:
    """Write why objects, by their rows, were not taken."""
    rows = sorted(skipped)
    columns = {
        "image_id": objects.table["image_id"].take(pa.array(rows, pa.int64())).to_pylist(),
        "class": [objects.keys[c] for c in objects.class_id[rows]],
        "row": rows,
        "reason": [skipped[row] for row in rows],
    }
    types = {name: pl.Int64 if name == "row" else pl.String for name in columns}
    pl.DataFrame(columns, schema=types).write_csv(path)


def _label_sets(pictures: Sequence[ComposedPicture], n_classes: int) -> pa.Table:
    """Return label sets in which all classes were asked about."""
    n = len(pictures)
    state = np.full((n, n_classes), "no", object)
    for row, picture in zip(state, pictures, strict=True):
        row[picture.classes] = "yes"
    offsets = pa.array(np.arange(n + 1) * n_classes, pa.int32())
    classes = pa.array(np.tile(np.arange(n_classes, dtype=np.int32), n))
    return pa.table(
        {
            "image_id": [p.image_id for p in pictures],
            "label": pa.array([p.label for p in pictures], pa.int32()),
            "rated": pa.repeat(True, n),
            "usable": pa.repeat(True, n),
            "classes": pa.ListArray.from_arrays(offsets, classes),
            "state": pa.ListArray.from_arrays(offsets, pa.array(state.ravel(), pa.string())),
            "method": pa.repeat("patchml", n),
        }
    )


def _objects(pictures: Sequence[ComposedPicture]) -> pa.Table:
    """Return the objects of all pictures, with the pixels of each that are seen."""
    of = [(p, i) for p in pictures for i in range(len(p.classes))]
    ends = np.array([p.boxes[i] for p, i in of]) / np.array([[p.size] for p, _ in of])
    columns = {
        "image_id": pa.array([p.image_id for p, _ in of]),
        "class_id": pa.array([p.classes[i] for p, i in of], pa.int32()),
        **{name: pa.array(ends[:, k].astype(np.float32)) for k, name in enumerate(("x1", "y1", "x2", "y2"))},
        "ignore": pa.repeat(False, len(of)),
        "mask": pa.array([p.masks[i] for p, i in of], pa.binary()),
    }
    return pa.table(columns)


def _png(mask: npt.NDArray[np.bool_]) -> bytes:
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(mask).save(data, "PNG")
    return data.getvalue()


def check_folder(out: Path) -> None:
    """Refuse a folder that holds anything but the files of an earlier run."""
    if out.exists() and not out.is_dir():
        raise OutputError("A file has the name of the folder.", where=out, do="move it")
    found = [p.name for p in out.iterdir() if not p.name.startswith(_UNFINISHED)] if out.is_dir() else []
    strange = sorted(set(found) - {*PARTS, COMPLETE})
    if strange or (found and COMPLETE not in found):
        raise OutputError(
            "The folder holds something other than composed pictures.",
            where=out,
            got=(strange or sorted(found))[0],
            do="choose another --out",
        )


@contextmanager
def beside(out: Path) -> Iterator[Path]:
    """Yield a folder within `out` to build in, so that moving is renaming; it is gone afterwards."""
    part = None
    try:
        out.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=out))
        (part / "images").mkdir()
        yield part
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise write_refused(out / COMPLETE, error) from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)
        with suppress(OSError):
            out.rmdir()  # where it is empty: nothing is left of what failed


def swap(part: Path, out: Path) -> None:
    """Put complete pictures in the place of earlier ones."""
    (out / COMPLETE).unlink(missing_ok=True)
    if (out / "images").exists():
        (out / "images").rename(part / "old")
    for name in (*PARTS, COMPLETE):
        (part / name).replace(out / name)
