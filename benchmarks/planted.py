"""A shortcut planted on purpose: is it found, shown and removed?

A coloured square is put on images of one class of ``../shared/data/cifar10`` while a linear head is trained on
features of EfficientNet-Lite0.
"""

from __future__ import annotations

import argparse
import io
import sys
import zlib
from pathlib import Path

import common

common.quiet()

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from PIL import Image  # noqa: E402

import manyhot  # noqa: E402
from manyhot import tables  # noqa: E402
from manyhot.classes import from_keys  # noqa: E402

DATA = common.REPO.parent / "shared" / "data" / "cifar10" / "cifar10_subset.parquet"
CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck".split()
CLASSES = from_keys([*CIFAR10, "square"], "cifar10-square")
SQUARE = len(CIFAR10)
SIDE, COLOUR = 6, (255, 0, 255)
"""Pixels of 32, and magenta, which no class has."""


def plant(out: Path, main: str, share: float, seed: int) -> None:
    """Write images with squares, label sets and the boxes of the squares.

    Of the training images those of one class get it, so many of them; of the held-out ones half of each
    class.
    """
    known = pq.read_table(DATA)
    label = known["label"].to_numpy()
    train = np.array([s == "train" for s in known["split"].to_pylist()])
    rng = np.random.default_rng(seed)
    chosen = (rng.random(len(label)) < share) & train & (label == CIFAR10.index(main))
    chosen |= (rng.random(len(label)) < 0.5) & ~train
    places = rng.integers(0, 32 - SIDE + 1, (len(label), 2))
    data = [
        painted(data, place) if there else data
        for data, place, there in zip(known["jpeg"].to_pylist(), places.tolist(), chosen, strict=True)
    ]
    out.mkdir(parents=True, exist_ok=True)
    images = known.set_column(known.column_names.index("jpeg"), "jpeg", pa.array(data, pa.binary()))
    pq.write_table(images.select(["image_id", "split", "label", "jpeg"]), out / "images.parquet")
    pq.write_table(
        images.select(["image_id", "split", "label", "jpeg"]).filter(pa.array(~train)),
        out / "held-out.parquet",
    )
    write_labels(known["image_id"], label, chosen, out)
    write_objects(known["image_id"].filter(pa.array(chosen)), places[chosen], out)
    (out / "classes.txt").write_text("\n".join(CLASSES.keys) + "\n", encoding="utf-8")


def painted(data: bytes, place) -> bytes:
    x, y = place
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.array(image.convert("RGB"))
    pixels[y : y + SIDE, x : x + SIDE] = COLOUR
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, "PNG")
    return made.getvalue()


def write_labels(ids, label, chosen, out) -> None:
    c = len(CLASSES)
    state = np.full((len(label), c), "no", object)
    state[np.arange(len(label)), label] = "yes"
    state[chosen, SQUARE] = "yes"
    table = {
        "image_id": ids.combine_chunks(),
        "label": label.astype(np.int32),
        "rated": [True] * len(label),
        "usable": [True] * len(label),
        "classes": [list(range(c))] * len(label),
        "state": state.tolist(),
    }
    labels = manyhot.Labels(pa.table(table), c, CLASSES.hash, asked_known=True, name=CLASSES.name)
    manyhot.write_labels(labels, out / "labels.parquet")


def write_objects(ids, places, out) -> None:
    n = len(places)
    x, y = places.T / 32
    columns = {"image_id": ids.combine_chunks(), "class_id": np.full(n, SQUARE, np.int32)}
    columns |= {"x1": x, "y1": y, "x2": x + SIDE / 32, "y2": y + SIDE / 32, "ignore": [False] * n}
    table = pa.table({k: pa.array(v, pa.float32()) if k[0] in "xy" else v for k, v in columns.items()})
    tables.write_objects(
        tables.Objects(table, CLASSES.keys, CLASSES.hash, name="squares"), out / "objects.parquet"
    )


if __name__ == "__main__":
    plant(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), 0)
