"""Noisy images of three tints, some with a magenta square, and a small network that sees colours."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from manyhot import tables
from manyhot.classes import from_keys

CLASSES = from_keys(("red", "green", "blue", "square"), "tints")
SQUARE = 3
SIDE = 7

BACKBONE = """
import torch
from manyhot.classes import from_keys
from manyhot.predict.network import Network, Preprocessing

def colours():
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(3, 32, 4, stride=2)
    torch.nn.init.normal_(conv.weight)
    torch.nn.init.normal_(conv.bias)
    last = torch.nn.Linear(32, 2)
    module = torch.nn.Sequential(
        conv, torch.nn.ReLU(), torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten(), last
    )
    looks = Preprocessing((32, 32), (32, 32), mean=(0.5,) * 3, std=(0.25,) * 3)
    return Network("colours", from_keys(("a", "b")), looks, module.eval(), "4")
"""


def write(n=600, with_red=0.9, seed=0):
    """Write half of the images to fit on, where only red ones have squares, and half to hold out, of which
    half have; and the same without squares.
    """
    rng = np.random.default_rng(seed)
    label, test = np.arange(n) % 3, np.arange(n) >= n // 2
    square = rng.random(n) < np.where(test, 0.5, with_red * (label == 0))
    places = rng.integers(0, 32 - SIDE, (n, 2))
    ids = [f"{i:04}.png" for i in range(n)]
    for folder in ("photos", "clean"):
        Path(folder).mkdir()
    for i in range(n):
        pixels = rng.normal(128, 40, (32, 32, 3))
        pixels[..., label[i]] += rng.normal(12, 8)
        pixels = pixels.clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(f"clean/{ids[i]}")
        if square[i]:
            x, y = places[i]
            pixels[y : y + SIDE, x : x + SIDE] = (255, 0, 255)
        Image.fromarray(pixels).save(f"photos/{ids[i]}")
    state = np.full((n, 4), "no", object)
    state[np.arange(n), label] = state[square, SQUARE] = "yes"
    known = {"image_id": ids, "label": pa.array(label, pa.int32()), "rated": [True] * n, "usable": [True] * n}
    known |= {"classes": [list(range(4))] * n, "state": state.tolist()}
    tables.write_labels(tables.Labels(pa.table(known), 4, CLASSES.hash, True, "tints"), "labels.parquet")
    write_boxes(np.array(ids)[square], places[square])
    splits = (f"{i},{'test' if held else 'train'}\n" for i, held in zip(ids, test, strict=True))
    Path("split.csv").write_text("image_id,split\n" + "".join(splits))
    Path("classes.txt").write_text("\n".join(CLASSES.keys) + "\n")
    Path("backbones.py").write_text(BACKBONE)
    return np.array(ids), label, test, square


def write_boxes(ids, places):
    x, y = (places.T / 32).astype(np.float32)
    side = np.float32(SIDE / 32)
    table = {"image_id": ids, "class_id": pa.array([SQUARE] * len(x), pa.int32())}
    table |= {"x1": x, "y1": y, "x2": x + side, "y2": y + side, "ignore": [False] * len(x)}
    objects = tables.Objects(pa.table(table), CLASSES.keys, CLASSES.hash, name="squares")
    tables.write_objects(objects, Path("objects.parquet"))
