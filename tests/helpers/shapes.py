"""Images of a square or a disc on noise, with boxes, masks and label sets; and small backbones."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import timm
import torch
from PIL import Image

from manyhot.classes import from_keys
from manyhot.predict.weights import Trained, write_trained
from manyhot.tables import Labels, write_labels

KEYS = ("disc", "square")
CLASSES = from_keys(KEYS, "shapes")
SIDE, N = 48, 60


def drawn(i):
    """Return pixels, and class, box and mask of each shape of image i."""
    rng = np.random.default_rng(i)
    pixels = rng.normal(90, 20, (SIDE, SIDE, 3))
    y, x = np.mgrid[:SIDE, :SIDE]
    found = []
    for c in {i % 2} | ({1 - i % 2} if i % 5 == 0 else set()):
        r = int(rng.integers(8, 11))
        cx, cy = (r + 2 + (SIDE // 2) * (c != i % 2), int(rng.integers(r, SIDE - r)))
        inside = (np.hypot(x - cx, y - cy) < r) if c == 0 else (np.maximum(abs(x - cx), abs(y - cy)) < r)
        pixels[inside] = (230, 60, 40) if c == 0 else (40, 80, 230)
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        found.append((c, np.array(box) / SIDE, inside))
    return pixels.clip(0, 255).astype(np.uint8), found


def write():
    """Write photos, boxes, masks, labels and a split into the current folder."""
    Path("photos").mkdir()
    Path("masks").mkdir()
    boxes, splits, sets, label = [], [], [], []
    for i in range(N):
        name = f"{i:02}.png"
        pixels, found = drawn(i)
        Image.fromarray(pixels).save(f"photos/{name}")
        mask = np.zeros((SIDE, SIDE), np.uint8)
        for c, box, inside in found:
            mask[inside] = c + 1
            boxes.append([name, KEYS[c], *box, 0])
        mask[0] = 255
        Image.fromarray(mask).save(f"masks/{name}")
        splits.append([name, "test" if i % 3 == 0 else "train"])
        sets.append(["yes" if c in {f[0] for f in found} else "no" for c in range(2)])
        label.append(i % 2)
    for file, header, rows in (
        ("boxes.csv", ["image_id", "class", "x1", "y1", "x2", "y2", "difficult"], boxes),
        ("split.csv", ["image_id", "split"], splits),
    ):
        with Path(file).open("w", newline="") as f:
            csv.writer(f).writerows([header, *rows])
    Path("classes.txt").write_text("\n".join(KEYS))
    table = {
        "image_id": [s[0] for s in splits],
        "label": pa.array(label, pa.int32()),
        "usable": [True] * N,
        "classes": [[0, 1]] * N,
        "state": sets,
    }
    write_labels(Labels(pa.table(table), 2, CLASSES.hash, True, "shapes"), "labels.parquet")
    network("resnet.safetensors", "test_resnet")


def network(path, architecture, size=48, ends="softmax", **options):
    """Write a network that nobody trained."""
    torch.manual_seed(1)
    module = timm.create_model(architecture, num_classes=2, **options)
    seen = {"size": (size, size), "scale": (size, size)}
    write_trained(Trained(architecture, options, CLASSES, ends, seen, module.state_dict()), path)
