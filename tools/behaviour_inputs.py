"""What the cases of ``behaviour.py`` read: real photographs, labels and votes, as plain files.

Written without manyhot, so that no change of it changes its input.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import polars as pl

SHARED = Path(os.environ.get("MANYHOT_SHARED") or Path(__file__).resolve().parents[2] / "shared").resolve()
"""Where photographs and published files are."""


def make_voc(folder: Path) -> None:
    """Write 110 photographs of horses and people, horses mostly with people, and what is known of them."""
    images = pl.read_parquet(SHARED / "data/voc/images.parquet").sort("image_id")
    horse, person = (pl.col("labels").list.contains(name) for name in ("horse", "person"))
    groups = ((horse & person, 50), (horse & ~person, 15), (~horse & person, 45))
    images = images.filter(pl.col("mask_png").is_not_null())
    images = pl.concat([images.filter(group).head(n) for group, n in groups])
    write_pictures(folder / "photos", images["image_id"] + ".jpg", images["jpeg"])
    write_pictures(folder / "masks", images["image_id"] + ".png", images["mask_png"])
    objects = pl.read_parquet(SHARED / "data/voc/annotations.parquet")
    classes = write_classes(folder, objects["class"], objects["class_id"])
    boxes = objects.join(images.select("image_id"), "image_id", "semi")
    boxes = boxes.with_columns(pl.col("image_id") + ".jpg").drop("split", "class_id", "area")
    boxes.write_csv(folder / "objects.csv")
    rows = [
        {
            "image_id": row["image_id"] + ".jpg",
            "label": row["label_largest"],
            "classes": " ".join(classes),
            "state": " ".join(
                "yes" if c in row["labels"] else "unclear" if c in (row["difficult_labels"] or ()) else "no"
                for c in classes
            ),
        }
        for row in images.iter_rows(named=True)
    ]
    pl.DataFrame(rows).write_csv(folder / "labels.csv")


def make_cifar(folder: Path) -> None:
    """Write 300 pictures of CIFAR-10 to train on and 100 to test on."""
    pictures = pl.read_parquet(SHARED / "data/cifar10/cifar10_subset.parquet")
    parts = [pictures.filter(pl.col("split") == s).head(n) for s, n in (("train", 300), ("test", 100))]
    pictures = pl.concat(parts).with_columns(
        image_id=pl.format("{}-{}.jpg", "split", pl.int_range(pl.len()).cast(pl.String).str.zfill(3))
    )
    write_pictures(folder / "photos", pictures["image_id"], pictures["jpeg"])
    write_classes(folder, pictures["class"], pictures["label"])
    pictures.select("image_id", "split").write_csv(folder / "split.csv")
    labels = pictures.select("image_id", "split", label="class", classes="class", state=pl.lit("yes"))
    labels.drop("split").write_csv(folder / "labels.csv")
    for split in ("train", "test"):
        labels.filter(pl.col("split") == split).drop("split").write_csv(folder / f"{split}.csv")


def make_samples(folder: Path) -> None:
    """Write 125 photographs of as many classes of ImageNet."""
    index = pl.read_csv(SHARED / "data/samples/index.csv").gather_every(8)
    names = set(index["file_name"])
    with tarfile.open(SHARED / "data/samples/samples.tar") as tar:
        pictures = {Path(m.name).name: tar.extractfile(m) for m in tar if Path(m.name).name in names}
        write_pictures(folder / "photos", pictures, (p.read() for p in pictures.values() if p))
    index.select("label", image_id="file_name").write_csv(folder / "labels.csv")


def make_votes(folder: Path) -> None:
    """Write three people's answers to 400 pictures of CIFAR-10, and its labels of 80 as golden answers."""
    with np.load(SHARED / "data/votes/cifar-10n.npz") as arrays:
        answers, noisy, clean = (arrays[name][:400].tolist() for name in ("random", "worse", "clean"))
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    write_classes(folder, names, range(10))
    votes, golden = [], []
    for i, three in enumerate(answers):
        for c in sorted({*three, noisy[i]}):
            question = {"image_id": f"{i:05}.png", "class_id": names[c]}
            said = ["yes" if answer == c else "no" for answer in three]
            votes += [{**question, "rater_id": f"rater-{k}", "answer": a} for k, a in enumerate(said)]
            golden.append({**question, "expert_id": "author", "answer": "yes" if clean[i] == c else "no"})
    images = [{"image_id": f"{i:05}.png", "label": names[c]} for i, c in enumerate(noisy)]
    golden = [row for row in golden if row["image_id"] < "00080.png"]
    for name, rows in (("votes", votes), ("golden", golden), ("images", images)):
        pl.DataFrame(rows).write_csv(folder / f"{name}.csv")


def write_pictures(folder: Path, names: Iterable[str], pictures: Iterable[bytes]) -> None:
    folder.mkdir()
    for name, picture in zip(names, pictures, strict=True):
        (folder / name).write_bytes(picture)


def write_classes(folder: Path, names: Iterable[str], ids: Iterable[int]) -> list[str]:
    """Write a class list in the order of the ids, and return it."""
    classes = [name for _, name in sorted(set(zip(ids, names, strict=True)))]
    (folder / "classes.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    return classes


INPUTS: dict[str, tuple[str, Callable[[Path], None] | None]] = {
    "voc": ("data/voc/images.parquet", make_voc),
    "cifar": ("data/cifar10/cifar10_subset.parquet", make_cifar),
    "samples": ("data/samples/samples.tar", make_samples),
    "votes": ("data/votes/cifar-10n.npz", make_votes),
    "coco": ("data/coco/images.parquet", None),
    "mirror": ("mirror.zip", None),
}
"""The file that is needed, and what makes a folder of it; without that the folder is that of the file."""
