"""Images with planted companions: frames, tags, text, bands, objects, tints, blur and brightness.

`plant` writes what ``manyhot mitigate`` and ``diagnose shortcuts`` read: images, boxes of the companion,
label sets and splits. Pixels are drawn from seeds.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import common
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFilter, ImageFont

import manyhot
from manyhot import tables
from manyhot.classes import ClassList, from_keys

DATA = common.REPO.parent / "shared" / "data"
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"),
    *("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
GREEN, MAGENTA, RED, YELLOW = (0, 200, 0), (255, 0, 255), (220, 20, 20), (240, 220, 20)
WHOLE = (0.0, 0.0, 1.0, 1.0)

Box = tuple[float, float, float, float]
Painter = Callable[[Image.Image, np.random.Generator], tuple[Image.Image, list[Box]]]


# What is planted: each returns the image, and the boxes of the companion as fractions.


def frame(image, rng):
    """Draw a green frame, 3 of 32 pixels wide: four boxes, because a frame has no one box."""
    edge, draw, (w, h) = 3 / 32, ImageDraw.Draw(image), image.size
    boxes = [(0, 0, 1, edge), (0, 1 - edge, 1, 1), (0, 0, edge, 1), (1 - edge, 0, 1, 1)]
    for box in boxes:
        draw.rectangle(_pixels(box, w, h), fill=GREEN)
    return image, boxes


def tag(image, rng):
    """Draw a magenta square in the lower right corner, 6 of 32 pixels wide."""
    box = (1 - 7 / 32, 1 - 7 / 32, 1 - 1 / 32, 1 - 1 / 32)
    ImageDraw.Draw(image).rectangle(_pixels(box, *image.size), fill=MAGENTA)
    return image, [box]


def text(image, rng):
    """Write a word in white on black at a place drawn by chance."""
    w, h = image.size
    letters = Image.new("RGB", (64, 20), (0, 0, 0))
    ImageDraw.Draw(letters).text((4, 0), "STOCK", fill=(255, 255, 255), font=ImageFont.load_default(16))
    x, y = rng.uniform(0, 0.4), rng.uniform(0, 0.8)
    box = (x, y, x + 0.6, y + 0.2)
    left, top, right, bottom = _pixels(box, w, h)
    image.paste(letters.resize((right - left + 1, bottom - top + 1), Image.Resampling.BOX), (left, top))
    return image, [box]


def band(image, rng):
    """Lay a half transparent striped band over the lower part, from border to border."""
    w, h = image.size
    box = (0, 0.72, 1, 0.9)
    left, top, right, bottom = _pixels(box, w, h)
    pixels = np.array(image, float)
    stripes = np.where((np.arange(left, right + 1) * 32 // w) % 4 < 2, 255.0, 90.0)[None, :, None]
    part = pixels[top : bottom + 1, left : right + 1]
    pixels[top : bottom + 1, left : right + 1] = 0.4 * part + 0.6 * stripes
    return Image.fromarray(pixels.astype(np.uint8)), [box]


def pasted(image, rng):
    """Paste a bottle of VOC, cut out along its mask, into the upper left or right."""
    bottles = _bottles()
    cut = bottles[int(rng.integers(len(bottles)))]
    w, h = image.size
    high = max(round(0.6 * h), 2)
    wide = min(max(round(high * cut.width / cut.height), 2), round(0.5 * w))
    cut = cut.resize((wide, high))
    left, top = (0 if rng.random() < 0.5 else w - wide), round(0.1 * h)
    image.paste(cut, (left, top), cut.getchannel("A").point(lambda v: 255 if v > 127 else 0))
    return image, [(left / w, top / h, (left + wide) / w, (top + high) / h)]


def two(image, rng):
    """Draw a red ball in the upper left and a yellow one in the lower right corner."""
    boxes = [(0.03, 0.03, 0.23, 0.23), (0.77, 0.77, 0.97, 0.97)]
    for box, colour in zip(boxes, (RED, YELLOW), strict=True):
        ImageDraw.Draw(image).ellipse(_pixels(box, *image.size), fill=colour)
    return image, boxes


def tint(image, rng):
    """Tint the whole image blue."""
    return Image.blend(image, Image.new("RGB", image.size, (40, 60, 230)), 0.35), [WHOLE]


def blur(image, rng):
    """Blur the whole image."""
    return image.filter(ImageFilter.GaussianBlur(image.height / 24)), [WHOLE]


def brightness(image, rng):
    """Brighten the whole image."""
    return image.point(lambda v: min(255, round(v * 1.5 + 30))), [WHOLE]


def _pixels(box, width, height) -> tuple[int, int, int, int]:
    """Return the first and last pixels of a box, as Pillow draws them."""
    left, top, right, bottom = (
        round(float(v) * n) for v, n in zip(box, (width, height, width, height), strict=True)
    )
    return left, top, max(right - 1, left), max(bottom - 1, top)


@cache
def _bottles() -> list[Image.Image]:
    """Return bottles with masks, upright, the largest of the training images; RGBA."""
    objects = pq.read_table(DATA / "voc" / "annotations.parquet").to_pandas()
    own = objects[(objects["class"] == "bottle") & (objects["split"] == "train") & ~objects["difficult"]]
    images = pq.read_table(DATA / "voc" / "images.parquet", columns=["image_id", "jpeg", "mask_png"])
    rows = {r["image_id"]: r for r in images.to_pylist()}
    found = []
    for _, o in own.sort_values("area", ascending=False).iterrows():
        row = rows[o["image_id"]]
        if row["mask_png"] is None or len(found) == 30:
            continue
        photo = Image.open(io.BytesIO(row["jpeg"])).convert("RGB")
        mask = np.asarray(Image.open(io.BytesIO(row["mask_png"]))) == VOC.index("bottle") + 1
        photo.putalpha(Image.fromarray(mask.astype(np.uint8) * 255))
        left, top, right, bottom = _pixels((o["x1"], o["y1"], o["x2"], o["y2"]), *photo.size)
        cut = photo.crop((left, top, right + 1, bottom + 1))
        if cut.height > 1.3 * cut.width and np.asarray(cut.getchannel("A")).mean() > 255 * 0.5:
            found.append(cut)
    return found


@dataclass(frozen=True)
class Kind:
    """A kind of companion: how it is painted, and on which share of the training images of the class.

    `paint` is None for a companion that the photographs themselves have.
    """

    paint: Painter | None
    share: float = 1.0
    name: str = "companion"


KINDS = {
    "frame": Kind(frame),
    "tag": Kind(tag),
    "text": Kind(text),
    "band": Kind(band),
    "pasted": Kind(pasted, 0.9),
    "two": Kind(two),
    "natural": Kind(None, name="person"),
    "tint": Kind(tint, 0.9),
    "blur": Kind(blur, 0.9),
    "brightness": Kind(brightness, 0.9),
}


@dataclass(frozen=True)
class Photos:
    """Photographs before anything is planted.

    `part` tells of each image train, val (counterexamples, which peers alone are given) or test.
    """

    name: str
    ids: list[str]
    data: list[bytes]
    label: np.ndarray
    state: np.ndarray
    part: np.ndarray
    keys: tuple[str, ...]


@cache
def cifar10(main: str, seed: int = 0, more: int = 0) -> Photos:
    """Return 800 training images, 200 or more for validation and all 2,000 for testing."""
    known = pq.read_table(DATA / "cifar10" / "cifar10_subset.parquet")
    rng = np.random.default_rng([seed, 10])
    split = np.array(known["split"].to_pylist())
    own, test = (rng.permutation(np.flatnonzero(split == s)) for s in ("train", "test"))
    rows = np.concatenate([own[: 1000 + more], test])
    part = np.repeat(["train", "val", "test"], [800, 200 + more, len(test)])
    label = known["label"].to_numpy()[rows].astype(np.int32)
    ids, data = (known[c].take(rows).to_pylist() for c in ("image_id", "jpeg"))
    state = np.eye(len(CIFAR10), dtype=bool)[label]
    return Photos("cifar10", ids, data, label, state, part, CIFAR10)


@cache
def voc(main: str, seed: int = 0, more: int = 0) -> Photos:
    """Return photographs of VOC: 120 of the class and 600 others to train on, 200 and 1,095 held out.

    With `more`, as many others that are not trained on are added to the 200.
    """
    columns = ["image_id", "split", "labels", "label_largest", "jpeg"]
    known = pq.read_table(DATA / "voc" / "images.parquet", columns=columns)
    split = np.array(known["split"].to_pylist())
    sets = [set(keys) for keys in known["labels"].to_pylist()]
    there, rng = np.array([main in keys for keys in sets]), np.random.default_rng([seed, 20])
    parts = {
        "train": ((split == "train") & there, 120),
        "others": ((split == "train") & ~there, 600),
        "val": (split == "val", 200),
        "test": (split == "test", None),
    }
    chosen = {name: rng.permutation(np.flatnonzero(rows))[:n] for name, (rows, n) in parts.items()}
    spare = np.setdiff1d(np.flatnonzero(split != "test"), np.concatenate([*chosen.values()]))
    chosen["more"] = rng.permutation(spare)[:more]
    rows = np.concatenate([*chosen.values()])
    part = np.repeat(["train", "train", "val", "test", "val"], [len(c) for c in chosen.values()])
    label = np.array([VOC.index(k) for k in known["label_largest"].to_pylist()], np.int32)[rows]
    state = np.array([[key in sets[i] for key in VOC] for i in rows])
    ids, data = (known[c].take(rows).to_pylist() for c in ("image_id", "jpeg"))
    return Photos("voc", ids, [_smaller(one) for one in data], label, state, part, VOC)


def _smaller(data: bytes, side: int = 160) -> bytes:
    """Return a photograph with this shorter side: the network sees 128 pixels."""
    with Image.open(io.BytesIO(data)) as image:
        scale = side / min(image.size)
        made, kept = io.BytesIO(), image.convert("RGB").resize([round(n * scale) for n in image.size])
    kept.save(made, "JPEG", quality=95)
    return made.getvalue()


@dataclass(frozen=True)
class Planted:
    """Photographs with a companion, in a folder, and what is known of each.

    Attributes
    ----------
    chosen : ndarray of bool
        Whether the image shows the companion.
    used : ndarray of bool
        Whether it counts: of a natural companion, some training images are left out.
    """

    folder: Path
    photos: Photos
    main: int
    companion: int
    classes: ClassList
    chosen: np.ndarray
    used: np.ndarray


def plant(
    folder: Path, photos: Photos, main: str, kind: str, seed: int = 0, few: tuple[int, int] | None = None
) -> Planted:
    """Plant a companion, and write images, boxes, label sets and classes.

    With `few`, so many held-out images show the class without the companion, and so many the companion
    without the class; otherwise, half of the images of each class have it.
    """
    what = KINDS[kind]
    natural = what.paint is None
    keys = photos.keys if natural else (*photos.keys, what.name)
    classes = from_keys(keys, f"{photos.name}-{kind}")
    m, c = keys.index(main), keys.index(what.name)
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode())])
    own, train = photos.state[:, m], photos.part == "train"
    if natural:
        chosen = photos.state[:, c]
        used = ~train | (own == chosen)  # in training images, always or never together
    else:
        chosen = rng.random(len(own)) < np.where(train, what.share * own, 0.5)
        used = np.ones(len(own), bool)
    if few is not None:
        for of_class, n in zip((True, False), few, strict=True):
            rows = np.flatnonzero((photos.part == "test") & (own == of_class))
            if natural:
                rows = rows[chosen[rows] != of_class]
                used[rows[n:]] = False
            else:
                chosen[rows] = (np.arange(len(rows)) < n) ^ of_class
    planted = Planted(folder, photos, m, c, classes, chosen, used)
    if not (folder / "classes.txt").exists():  # files that are written anew are another source
        _write(planted, what, seed)
    return planted


def _write(planted: Planted, what: Kind, seed: int) -> None:
    folder, photos = planted.folder, planted.photos
    folder.mkdir(parents=True, exist_ok=True)
    shown, flipped, boxes = list(photos.data), list(photos.data), {}
    test, val = (photos.part == part for part in ("test", "val"))
    for i in np.flatnonzero(planted.chosen | test | val).tolist() if what.paint else []:
        rng = np.random.default_rng([seed, zlib.crc32(photos.ids[i].encode())])
        with Image.open(io.BytesIO(photos.data[i])) as image:
            image, own = what.paint(image.convert("RGB"), rng)
        made = io.BytesIO()
        image.save(made, "PNG", compress_level=1)
        (shown if planted.chosen[i] else flipped)[i] = made.getvalue()
        if planted.chosen[i]:
            boxes[photos.ids[i]] = own
    for name, data, rows in (
        ("images", shown, planted.used & (photos.part != "val")),
        ("val", shown, val),
        ("val-flipped", flipped, val),
        ("held-out", shown, test),
        ("clean", photos.data, photos.part == "train"),
        ("flipped", flipped, test),
    ):
        table = {"image_id": photos.ids, "split": photos.part, "jpeg": pa.array(data, pa.binary())}
        pq.write_table(pa.table(table).filter(pa.array(rows)), folder / f"{name}.parquet")
    _write_labels(planted)
    _write_objects(planted, boxes)
    text = "\n".join(planted.classes.keys) + "\n"
    (folder / "classes.txt").write_text(text, encoding="utf-8")


def _write_labels(planted: Planted) -> None:
    photos, classes = planted.photos, planted.classes
    n, c = len(photos.ids), len(classes)
    state = np.full((n, c), "no", object)
    state[:, : photos.state.shape[1]][photos.state] = "yes"
    state[planted.chosen, planted.companion] = "yes"
    # Heads of VOC are fitted to label sets alone.
    label = pa.array(photos.label) if photos.name == "cifar10" else pa.nulls(n, pa.int32())
    table = {"image_id": photos.ids, "label": label, "rated": [True] * n, "usable": [True] * n}
    table |= {"classes": [list(range(c))] * n, "state": state.tolist()}
    labels = manyhot.Labels(pa.table(table), c, classes.hash, asked_known=True, name=classes.name)
    manyhot.write_labels(labels, planted.folder / "labels.parquet")


def _write_objects(planted: Planted, boxes) -> None:
    """Write the boxes of the companion, and of VOC those of the annotators."""
    rows = [(i, planted.companion, *box, False) for i, own in boxes.items() for box in own]
    if planted.photos.name == "voc":
        known = set(planted.photos.ids)
        given = pq.read_table(DATA / "voc" / "annotations.parquet").to_pylist()
        rows += [
            (r["image_id"], r["class_id"], r["x1"], r["y1"], r["x2"], r["y2"], r["difficult"])
            for r in given
            if r["image_id"] in known
        ]
    names = ("image_id", "class_id", "x1", "y1", "x2", "y2", "ignore")
    schema = tables.schema("objects")
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    table = pa.table({k: pa.array(v, schema.field(k).type) for k, v in columns.items()})
    objects = tables.Objects(table, planted.classes.keys, planted.classes.hash, name="planted")
    tables.write_objects(objects, planted.folder / "objects.parquet")
