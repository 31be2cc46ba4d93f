"""What data sets share: where pictures come from, and the files that runs and measures read."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from manyhot import Labels, write_labels
from manyhot.classes import ClassList
from manyhot.diagnose.pixels.corruptions import corruption
from manyhot.errors import InputError

Pixels = npt.NDArray[np.uint8]

Split = tuple[dict[str, Pixels], list[int], list[list[str]]]
"""Pictures by their ids, the label of each, and what is known of each class of it."""

VARIABLE = "MANYHOT_STUDY_DATA"
"""The folder of ``voc``, ``coco``, ``cifar10`` and ``samples``, where it is not ``../shared/data``."""

QUALITY = 95
"""Of the JPEGs."""

COPIES = tuple(
    (kind, severity)
    for kind in ("gaussian_noise", "defocus_blur", "fog", "pixelate")
    for severity in (1, 3, 5)
)
"""One kind each of ImageNet-C's noise, blur, weather and digital, at three of its severities."""

CORRUPTED = 300
"""Test images that are corrupted."""


def shared(name: str, holds: str) -> Path:
    """Return a file of the pictures that the studies are made of.

    Parameters
    ----------
    name : str
        Such as ``voc/images.parquet``.
    holds : str
        What is in it, for the message.
    """
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    path = Path(os.environ.get(VARIABLE, beside)) / name
    if not path.is_file():
        raise InputError(
            "The pictures that this study is made of are not there.",
            where=path,
            allowed=holds,
            do=f"get them, or name their folder: {VARIABLE}=FOLDER; --smoke needs none",
        )
    return path


def jpeg(pixels: Pixels) -> bytes:
    """Return a picture as a file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


def squashed(picture: bytes, side: int) -> Pixels:
    """Return a picture as a square that holds all of it: a crop would cut off classes of its label set."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS, reducing_gap=3))


def write_images(path: Path, pictures: Mapping[str, Pixels]) -> None:
    """Write pictures by their ids, as ``manyhot.predict.sources.open_source`` reads them."""
    column = pa.array([jpeg(p) for p in pictures.values()], pa.binary())
    pq.write_table(pa.table({"image_id": list(pictures), "jpeg": column}), path)


def write_split(
    folder: Path,
    split: str,
    pictures: Mapping[str, Pixels],
    label: Sequence[int],
    states: Sequence[Sequence[str]],
    classes: ClassList,
) -> None:
    """Write the images of a split and their true label sets.

    Parameters
    ----------
    folder : Path
    split : str
    pictures : Mapping of str to ndarray of uint8, shape (h, w, 3)
    label : sequence of int, length n
        The class of the largest object.
    states : sequence of n sequences of C str
        ``yes``, ``unclear`` or ``no`` for each class.
    classes : ClassList
    """
    write_images(folder / f"images-{split}.parquet", pictures)
    n, known = len(label), len(classes)
    table = pa.table(
        {
            "image_id": list(pictures),
            "label": pa.array(label, pa.int32()),
            "rated": [True] * n,
            "usable": [True] * n,
            "classes": pa.array([list(range(known))] * n, pa.list_(pa.int32())),
            "state": [list(s) for s in states],
            "method": ["truth"] * n,
        }
    )
    labels = Labels(table, known, classes.hash, asked_known=True, name=f"{classes.name}-{split}")
    write_labels(labels, folder / f"labels-{split}.parquet")
    (folder / "classes.txt").write_text("\n".join(classes.keys) + "\n", encoding="utf-8")


UNKNOWN, CLEAN = "unknown:", "clean-0"
"""What ids of images begin with that are of none of the classes, and of copies that are not corrupted."""


def write_seen(folder: Path, test: Mapping[str, Pixels], unknown: Mapping[str, Pixels], smoke: bool) -> None:
    """Write all images that networks are judged on as one file, to be predicted at once."""
    named = {f"{UNKNOWN}{name}": pixels for name, pixels in unknown.items()}
    write_images(folder / "images-seen.parquet", {**test, **named, **corrupted(test, smoke)})


def corrupted(pictures: Mapping[str, Pixels], smoke: bool) -> dict[str, Pixels]:
    """Return corrupted copies of some images, ``fog-3:ID``, and these images as they are, ``clean-0:ID``.

    Each is enlarged to 224 pixels, corrupted as in ImageNet-C, and reduced to its size again: noise is finer
    there than it would be in a photograph, and blur stronger.
    """
    some = dict(list(pictures.items())[: 8 if smoke else CORRUPTED])
    copies = (("clean", 0), *(COPIES[1:2] + COPIES[7:8] if smoke else COPIES))
    found = {}
    for kind, severity in copies:
        alter = corruption(kind, severity)
        for name, pixels in some.items():
            altered = alter(name, pixels)
            assert not isinstance(altered, str)
            found[f"{alter.kind}-{severity}:{name}"] = resized(altered, len(pixels))
    return found


def resized(pixels: Pixels, side: int) -> Pixels:
    """Return a picture as a square of another size."""
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR))
