"""What tests of training share: a few small images with label sets, and networks of a moment."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from manyhot.classes import from_keys
from manyhot.tables import Labels, write_labels

CLASSES = from_keys(["red", "green", "blue"], "colours")

TINY = {
    "model": "timm/test_resnet",
    "weights": "none",
    "size": 32,
    "batch": 8,
    "epochs": 2,
    "warmup": 0.0,
}
"""Two epochs in half a second."""

NO_NORM = {**TINY, "model": "timm/test_convnext"}
"""A network without batch norm: parts of a batch give what the batch gives."""


def images(folder: Path, n: int = 32, size: int = 40) -> Path:
    """Write n images of noise; image i is brighter in channel ``i % 3``, every second also in the next."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(n):
        pixels = rng.integers(0, 128, (size, size + i % 5, 3))
        for c in classes_of(i):
            pixels[..., c] += 100
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:03}.png")
    return folder


def shards(folder: Path, source: Path, count: int) -> Path:
    """Write images as so many tar archives."""
    folder.mkdir()
    for k in range(count):
        with tarfile.open(folder / f"{k}.tar", "w") as archive:
            for path in sorted(source.iterdir())[k::count]:
                archive.add(path, path.name)
    return folder


def classes_of(i: int) -> list[int]:
    """Return the classes of image i."""
    return [i % 3, (i + 1) % 3] if i % 2 else [i % 3]


def labels(path: Path, n: int = 32, first: int = 0, **columns: list[object]) -> Path:
    """Write the label sets of images `first` to n, every class asked about."""
    rows = range(first, n)
    table = {
        "image_id": [f"{i:03}.png" for i in rows],
        "label": pa.array([i % 3 for i in rows], pa.int32()),
        "rated": [True] * len(rows),
        "usable": [True] * len(rows),
        "classes": pa.array([[0, 1, 2]] * len(rows), pa.list_(pa.int32())),
        "state": [["yes" if c in classes_of(i) else "no" for c in range(3)] for i in rows],
        **columns,
    }
    write_labels(Labels(pa.table(table), 3, CLASSES.hash, True, "colours"), path)
    return path


def class_list(path: Path) -> Path:
    """Write the class list."""
    path.write_text("\n".join(CLASSES.keys) + "\n")
    return path


def data(folder: Path, n: int = 32) -> tuple[Path, Path, Path]:
    """Write images, their label sets and the class list."""
    return (
        images(folder / "images", n),
        labels(folder / "labels.parquet", n),
        class_list(folder / "classes.txt"),
    )
