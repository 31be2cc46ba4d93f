"""Shards in the layout of ImageNet as WebDataset has it, with pictures of nothing, to rehearse a run on.

``python benchmarks/fake_imagenet.py fake`` writes ``fake/train-000.tar`` to ``train-007.tar``, each with 32
images ``n01440764_17.jpg`` of 500 by 375 pixels and beside each its class as ``.cls`` and ``.json``, and
``fake/labels.parquet`` with label sets of one to three of ImageNet's 1,000 classes. See scale.md.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from manyhot.classes import ClassList, class_list
from manyhot.tables import Labels, write_labels


def picture(rng: np.random.Generator, width: int = 500, height: int = 375) -> bytes:
    """Return a JPEG of some 80 kB: blotches with a little noise, as coarse and as fine as a photograph."""
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noisy = np.clip(pixels + rng.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=90)
    return file.getvalue()


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file to an archive."""
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def write(out: Path, shards: int, images: int, seed: int = 0) -> None:
    """Write shards and label sets."""
    out.mkdir(parents=True, exist_ok=True)
    rng, classes = np.random.default_rng(seed), class_list("imagenet1k")
    rows: dict[str, list[object]] = {"image_id": [], "label": [], "classes": []}
    for shard in range(shards):
        with tarfile.open(out / f"train-{shard:03}.tar", "w") as tar:
            for i in range(images):
                label = int(rng.integers(len(classes)))
                key = f"{classes.keys[label]}_{shard * images + i}"
                add(tar, f"{key}.jpg", picture(rng))
                add(tar, f"{key}.cls", str(label).encode())
                add(tar, f"{key}.json", json.dumps({"label": label, "filename": f"{key}.JPEG"}).encode())
                more = rng.choice(len(classes), rng.integers(0, 3), replace=False)
                rows["image_id"].append(f"{key}.jpg")
                rows["label"].append(label)
                rows["classes"].append([label, *(int(c) for c in more if c != label)])
    write_labels(labels(rows, classes), out / "labels.parquet")


def labels(rows: dict[str, list[object]], classes: ClassList) -> Labels:
    """Return the label sets, in which each class that was asked about is there."""
    n = len(rows["image_id"])
    table = pa.table(
        {
            "image_id": pa.array(rows["image_id"], pa.string()),
            "label": pa.array(rows["label"], pa.int32()),
            "rated": [True] * n,
            "usable": [True] * n,
            "classes": pa.array(rows["classes"], pa.list_(pa.int32())),
            "state": [["yes"] * len(c) for c in rows["classes"]],  # type: ignore[arg-type]
            "method": ["made up"] * n,
        }
    )
    return Labels(table, len(classes), classes.hash, True, classes.name)


def main() -> None:
    """Write what is asked for."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--shards", type=int, default=8)
    arguments.add_argument("--images", type=int, default=32, help="of each shard")
    given = arguments.parse_args()
    write(given.out, given.shards, given.images)
    print(f"{given.shards * given.images} images in {given.shards} shards: {given.out}")


if __name__ == "__main__":
    main()
