"""``voc9``: the photographs of PASCAL VOC whose largest object is of its nine largest classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from data_sets.compositions import compose, generated, states
from data_sets.written import Pixels, Split, shared, squashed, write_seen, write_split
from manyhot.classes import from_keys

NINE = ("bus", "car", "cat", "cow", "dog", "horse", "person", "sheep", "train")

SIDE = 96
"""Pixels of a side, whatever the shape of the photograph."""

BEASTS = range(7, 151)
"""Classes of ImageNet that are none of the nine: birds, reptiles, spiders, molluscs, seals and the like."""

_SMOKE = {"train": 54, "val": 27, "test": 54}


CLASSES = from_keys(NINE, "voc9")


def make(folder: Path, smoke: bool) -> None:
    """Write the photographs of all splits, and what networks are judged on."""
    for split in ("train", "val", "test"):
        write_split(folder, split, *photographs(split, smoke), CLASSES)
    unknown = photographs("val", smoke)[0] if smoke else _unknown()
    write_seen(folder, photographs("test", smoke)[0], unknown, smoke)


def photographs(split: str, smoke: bool) -> Split:
    """Return photographs, their labels and what is known of each class.

    A class that is there only as objects that VOC calls difficult is unclear.
    """
    if smoke:
        return _generated(split)
    table = pl.read_parquet(
        shared("voc/images.parquet", "5,479 photographs of PASCAL VOC"),
        columns=["image_id", "split", "labels", "difficult_labels", "label_largest", "jpeg"],
    ).filter(pl.col("label_largest").is_in(NINE) & (pl.col("split") == split))
    pixels = {row["image_id"]: squashed(row["jpeg"], SIDE) for row in table.iter_rows(named=True)}
    label = [NINE.index(key) for key in table["label_largest"]]
    pairs = zip(table["labels"].to_list(), table["difficult_labels"].to_list(), strict=True)
    return pixels, label, [_state(set(there), set(difficult or ())) for there, difficult in pairs]


def _state(there: set[str], difficult: set[str]) -> list[str]:
    return ["yes" if key in there else "unclear" if key in difficult else "no" for key in NINE]


def _unknown() -> dict[str, Pixels]:
    """Return photographs without any of the nine classes: of ImageNet and of COCO."""
    import csv
    import tarfile

    found = {}
    index = shared("samples/index.csv", "1,000 photographs of ImageNet's classes")
    with index.open(encoding="utf-8", newline="") as file:
        names = {row["file_name"] for row in csv.DictReader(file) if int(row["label"]) in BEASTS}
    with tarfile.open(index.with_name("samples.tar")) as tar:
        for member in tar:
            name = Path(member.name).name
            data = tar.extractfile(member) if name in names else None
            if data is not None:
                found[f"imagenet-{name}"] = squashed(data.read(), SIDE)
    objects = pl.read_parquet(shared("coco/annotations.parquet", "objects of 236 photographs of COCO"))
    taken = set(objects.filter(pl.col("class").is_in(NINE))["image_id"])
    photographs = pl.read_parquet(shared("coco/images.parquet", "236 photographs of COCO"))
    for row in photographs.select("image_id", "jpeg").iter_rows(named=True):
        if row["image_id"] not in taken:
            found[f"coco-{row['image_id']}"] = squashed(row["jpeg"], SIDE)
    return found


def _generated(split: str) -> Split:
    n = _SMOKE[split]
    rng = np.random.default_rng([9, n, split == "val"])
    pictures, label = generated(len(NINE), 8, rng)
    made = list(compose(pictures, label, np.arange(len(NINE)), n, rng))
    sets = [m.classes for m in made]
    pixels = {f"voc-{split}-{i:03}": m.pixels for i, m in enumerate(made)}
    return pixels, [s[0] for s in sets], states(sets, len(NINE))
