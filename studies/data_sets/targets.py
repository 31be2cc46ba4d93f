"""What networks are transferred to: some images of the other data set, and VOC with boxes and masks."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from data_sets.written import Split, jpeg, shared, squashed, write_split
from manyhot.classes import ClassList

N = {"train": 1200, "test": 600}
"""Images of the other data set, the first of each split."""

DENSE = {"train": 500, "test": 250}
"""Photographs with boxes and masks."""

SEVEN = ("car", "cat", "cow", "dog", "horse", "person", "sheep")
"""Classes of these photographs: the others of VOC are in few of those that have masks."""

FEW = {"train": 40, "test": 20}

VOC = [
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]


def write_other(folder: Path, splits: dict[str, Split], classes: ClassList, smoke: bool) -> None:
    """Write images of another data set with label sets, and which are held out, into ``transfer``."""
    home = folder / "transfer"
    home.mkdir()
    pixels, label, states, told = {}, [], [], []
    for split, (some, of, known) in splits.items():
        n = (FEW if smoke else N)[split]
        pixels |= dict(list(some.items())[:n])
        label += of[:n]
        states += known[:n]
        told += [split] * len(of[:n])
    write_split(home, "all", pixels, label, states, classes)
    pq.write_table(pa.table({"image_id": list(pixels), "split": told}), home / "split.parquet")


def write_dense(folder: Path, side: int, smoke: bool) -> None:
    """Write photographs of VOC with boxes and masks into ``dense``, to fit heads on and to judge them."""
    home = folder / "dense"
    home.mkdir()
    rows, objects = _drawn() if smoke else _photographs(side)
    images = pl.DataFrame(rows, schema=["image_id", "split", "jpeg", "mask_png"], orient="row")
    images.write_parquet(home / "images.parquet")
    objects.write_parquet(home / "objects.parquet")
    (home / "classes.txt").write_text("\n".join(VOC) + "\n", encoding="utf-8")


def _photographs(side: int) -> tuple[list[tuple[str, str, bytes, bytes]], pl.DataFrame]:
    photographs = "5,479 photographs of PASCAL VOC"
    known = pl.read_parquet(shared("voc/annotations.parquet", "objects of these photographs"))
    others = known.filter(~pl.col("class").is_in(SEVEN)).select("image_id")
    table = pl.read_parquet(
        shared("voc/images.parquet", photographs), columns=["image_id", "split", "jpeg", "mask_png"]
    ).filter(pl.col("mask_png").is_not_null())
    table = table.join(others, on="image_id", how="anti", maintain_order="left")
    table = pl.concat(table.filter(pl.col("split") == split).head(n) for split, n in DENSE.items())
    rows = [(i, split, jpeg(squashed(j, side)), _mask(m, side)) for i, split, j, m in table.iter_rows()]
    return rows, known.join(table.select("image_id"), on="image_id", how="semi")


def _mask(data: bytes, side: int) -> bytes:
    """Return a mask of another size; its palette is kept, which tells classes."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).resize((side, side), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def _drawn() -> tuple[list[tuple[str, str, bytes, bytes]], pl.DataFrame]:
    """Return rectangles of a colour a class, for machines without photographs."""
    rng, rows, objects = np.random.default_rng(0), [], []
    colours = rng.integers(0, 255, (2, 3))
    for split, n in FEW.items():
        for i in range(n):
            c, name = i % 2, f"{split}-{i:02}.png"
            pixels, mask = np.full((32, 32, 3), 128, np.uint8), np.zeros((32, 32), np.uint8)
            x, y = rng.integers(0, 16, 2)
            pixels[y : y + 16, x : x + 16], mask[y : y + 16, x : x + 16] = (
                colours[c],
                VOC.index("cat") + c + 1,
            )
            rows.append((name, split, jpeg(pixels), _png(mask)))
            key = VOC[VOC.index("cat") + c]
            objects.append((name, key, *(np.array([x, y, x + 16, y + 16]) / 32).tolist(), False))
    columns = ["image_id", "class", "x1", "y1", "x2", "y2", "difficult"]
    return rows, pl.DataFrame(objects, columns, orient="row")


def _png(mask: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return buffer.getvalue()
