"""Whether shortcuts are named without any annotation, and nothing is named where none was planted.

On the training images of one class of ``../shared/data/cifar10`` or ``../shared/data/voc`` something is
planted, so that a head on features of EfficientNet-Lite0 learns it; of held-out images half of each class
have it, which the head never saw. ``diagnose groups`` is asked twice, without boxes: about the head on
held-out images, and about the labels of the training images, with no model at all::

    python benchmarks/groups.py out                       # all, resumable; 40 CPU minutes
    python benchmarks/groups.py out --only plant --data voc
    python benchmarks/groups.py out --part dev            # images and classes that thresholds were chosen on

- plant: each kind of shortcut: its rank among the findings, and what the first finding says. It is named if
  it is among the first three findings of either question;
- clean: heads without planting, on other draws of the images: findings, and what is never to be named there;
- chance: labels permuted within classes: how often anything is found, beside the stated 5 %.

It writes ``groups.csv`` beside this file (not with ``--part dev``).
"""

from __future__ import annotations

import argparse
import csv
import io
import time
from dataclasses import dataclass
from pathlib import Path

import common

common.quiet()

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from PIL import Image, ImageDraw, ImageFilter, ImageFont  # noqa: E402

import manyhot  # noqa: E402
from manyhot import Reading  # noqa: E402
from manyhot.classes import from_keys  # noqa: E402
from manyhot.core.share_intervals import wilson_interval  # noqa: E402
from manyhot.diagnose.groups import diagnose_groups  # noqa: E402
from manyhot.diagnose.groups_attributes import measured_groups  # noqa: E402
from manyhot.diagnose.groups_findings import GroupSettings, find_groups  # noqa: E402
from manyhot.diagnose.groups_outcomes import label_outcomes  # noqa: E402
from manyhot.diagnose.image_statistics import measure_images  # noqa: E402
from manyhot.predict.engines import EngineOptions  # noqa: E402
from manyhot.predict.models import find_model  # noqa: E402
from manyhot.predict.run import PredictSettings, run  # noqa: E402
from manyhot.predict.sources import open_source  # noqa: E402
from manyhot.train.heads import fit_softmax  # noqa: E402

DATA = common.REPO.parent / "shared" / "data"
BACKBONE = "efficientnet-lite0"
CIFAR10 = from_keys(
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"], "cifar10"
)
VOC = from_keys(
    [
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
    ],
    "voc",
)
TRAIN, HELD_OUT = 1200, 700
PENALTY = 3e-3
KINDS = ("frame", "tag", "text", "band", "object", "two objects", "companion", "tint", "blur", "brightness")
SHARE = {"object": 0.9}
"""Share of the training images of the class that have it; 0.95 for the others."""

EXPECTED = {
    "frame": lambda r: r["kind"] == "frame",
    "tag": lambda r: r["kind"] == "mark" and "corner" in r["name"],
    "text": lambda r: r["kind"] == "text",
    "band": lambda r: r["kind"] == "mark" and "band" in r["name"],
    "object": lambda r: r["kind"] == "patch",
    "two objects": lambda r: r["kind"] == "patch",
    "companion": lambda r: r["kind"] in ("label", "object") and "person" in r["name"],
    "tint": lambda r: r["kind"] == "tint" and any(c in r["name"] for c in ("orange", "yellow")),
    "blur": lambda r: r["name"].startswith("sharpness ≤"),
    "brightness": lambda r: r["name"].startswith(("brightness ≥", "border brightness ≥")),
}
CLASSES = {
    ("cifar10", "report"): ("dog", "ship", "bird", "horse", "cat", "deer", "", "frog", "truck", "automobile"),
    ("voc", "report"): ("dog", "car", "sheep", "cat", "horse", "train", "horse", "dog", "cat", "cow"),
    ("cifar10", "dev"): ("deer", "cat", "frog", "ship", "truck", "airplane", "", "bird", "dog", "horse"),
    ("voc", "dev"): ("cat", "dog", "horse", "car", "dog", "cat", "horse", "car", "train", "dog"),
}
"""The class on which each of `KINDS` is planted; CIFAR-10 has no companions."""

NEVER = ("frame", "mark", "patch", "text")
MEASURED = ("brightness", "tint", "sharpness")


@dataclass
class Part:
    """Images of a data set: those for development, or those that are reported."""

    name: str
    table: pa.Table
    label: np.ndarray
    train: np.ndarray
    states: list
    classes: object

    def take(self, at) -> Part:
        """Return some of the images."""
        return Part(
            self.name,
            self.table.take(pa.array(at)),
            self.label[at],
            self.train[at],
            [self.states[i] for i in at],
            self.classes,
        )


def read_part(data: str, part: str) -> Part:
    parity = {"dev": 1, "report": 0}[part]
    if data == "cifar10":
        known = pq.read_table(DATA / "cifar10" / "cifar10_subset.parquet")
        label = known["label"].to_numpy().astype(np.int64)
        states = [{int(c): "yes"} for c in label]
    else:
        known = pq.read_table(DATA / "voc" / "images.parquet")
        index = VOC.keys.index
        label = np.array([index(c) for c in known["label_largest"].to_pylist()])
        states = [
            {index(c): "unclear" for c in hard} | {index(c): "yes" for c in sure}
            for sure, hard in zip(
                known["labels"].to_pylist(), known["difficult_labels"].to_pylist(), strict=True
            )
        ]
    train = np.array([s == "train" for s in known["split"].to_pylist()])
    own = np.arange(len(known)) % 2 == parity
    rng = np.random.default_rng(parity)
    at = np.concatenate(
        [rng.permutation(np.flatnonzero(own & flag))[:n] for flag, n in ((train, TRAIN), (~train, HELD_OUT))]
    )
    classes = CIFAR10 if data == "cifar10" else VOC
    every = Part(data, known.select(["image_id", "jpeg"]), label, train, states, classes)
    return every.take(np.sort(at))


# Planting.


def cut_outs(seed: int) -> list[Image.Image]:
    """Return two objects of VOC with their outlines."""
    known = pq.read_table(
        DATA / "voc" / "images.parquet", columns=["image_id", "jpeg", "mask_png"]
    ).to_pylist()
    images = {row["image_id"]: row for row in known}
    objects = pq.read_table(DATA / "voc" / "annotations.parquet").to_pylist()
    found = []
    for at in np.random.default_rng(seed).permutation(len(objects)):
        o = objects[at]
        row = images[o["image_id"]]
        if row["mask_png"] is None or o["difficult"] or not 0.05 < o["area"] < 0.4 or o["class"] == "person":
            continue
        mask, pixels = np.array(Image.open(io.BytesIO(row["mask_png"]))), opened(row["jpeg"])
        height, width = mask.shape
        box = np.s_[
            int(o["y1"] * height) : int(o["y2"] * height), int(o["x1"] * width) : int(o["x2"] * width)
        ]
        outline = mask[box] == o["class_id"] + 1
        if min(outline.shape) >= 30 and 0.4 < outline.mean() < 0.9:
            found.append(Image.fromarray(np.dstack([pixels[box], 255 * outline.astype(np.uint8)])))
        if len(found) == 2:
            break
    return found


def opened(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


def planted(kind: str, pixels: np.ndarray, rng: np.random.Generator, objects: list) -> np.ndarray:
    """Return an image with what is planted."""
    height, width = pixels.shape[:2]
    short, made = min(height, width), pixels.copy()
    if kind == "frame":
        d = max(1, round(0.09 * short))
        made[:d] = made[-d:] = (0, 150, 60)
        made[:, :d] = made[:, -d:] = (0, 150, 60)
    elif kind == "tag":
        d = round(0.2 * short)
        made[:d, -d:] = (200, 30, 30)
    elif kind == "tint":
        y, x = np.mgrid[:height, :width]
        around = ((y / height - 0.5) ** 2 + (x / width - 0.5) ** 2) > 0.33**2
        made[around] = (0.7 * made[around] + 0.3 * np.array([255, 140, 0])).astype(np.uint8)
    elif kind == "blur":
        return np.array(Image.fromarray(made).filter(ImageFilter.GaussianBlur(0.03 * short)))
    elif kind == "brightness":
        made = np.clip(made.astype(int) + 55, 0, 255).astype(np.uint8)
    else:
        return drawn(kind, made, rng, objects)
    return made


def drawn(kind: str, pixels: np.ndarray, rng: np.random.Generator, objects: list) -> np.ndarray:
    """Return an image with a text or pasted objects at a place drawn by chance, or a translucent band."""
    height, width = pixels.shape[:2]
    short = min(height, width)
    if kind == "band":
        d = round(0.16 * short)
        pixels[-d:] = (0.5 * pixels[-d:] + 127.5).astype(np.uint8)
    image = Image.fromarray(pixels)
    pen = ImageDraw.Draw(image)
    if kind == "band":
        font = ImageFont.load_default(size=max(6, 0.11 * short))
        pen.text((0.05 * width, height - 0.95 * d), "stock photo", font=font, fill=(60, 60, 60))
    elif kind == "text":
        font = ImageFont.load_default(size=max(9, 0.2 * short))
        _, _, wide, high = pen.textbbox((0, 0), "FOTO", font=font)
        low = height // 2
        place = rng.integers(0, max(1, width - wide)), rng.integers(low, max(low + 1, height - high))
        pen.text(
            tuple(map(int, place)),
            "FOTO",
            font=font,
            fill=(255, 255, 255),
            stroke_width=round(0.008 * short),
            stroke_fill=(0, 0, 0),
        )
    else:
        for one in objects[: 2 if kind == "two objects" else 1]:
            scale = 0.33 * short * rng.uniform(0.9, 1.1) / (one.width * one.height) ** 0.5
            small = one.resize(
                [round(min(side * scale, short)) for side in one.size], Image.Resampling.LANCZOS
            )
            place = rng.integers(0, width - small.width + 1), rng.integers(0, height - small.height + 1)
            image.paste(small, tuple(map(int, place)), small)
    return np.array(image)


def plant(part: Part, kind: str, main: int, seed: int) -> tuple[Part, np.ndarray]:
    """Return the images with a shortcut, and which have it; for companions, fewer training images."""
    rng = np.random.default_rng(seed)
    own = part.label == main
    if kind == "companion":
        person = part.classes.keys.index("person")
        beside = np.array([states.get(person) == "yes" for states in part.states])
        left_out = part.train & own & ~beside & (rng.random(len(own)) < 0.95)
        return part.take(np.flatnonzero(~left_out)), np.zeros(int((~left_out).sum()), bool)
    chosen = rng.random(len(own)) < np.where(part.train, SHARE.get(kind, 0.95) * own, 0.5)
    objects = cut_outs(seed) if "object" in kind else []
    data = part.table["jpeg"].to_pylist()
    for i in np.flatnonzero(chosen):
        file = io.BytesIO()
        Image.fromarray(planted(kind, opened(data[i]), rng, objects)).save(file, "JPEG", quality=92)
        data[i] = file.getvalue()
    table = part.table.set_column(1, "jpeg", pa.array(data, pa.binary()))
    return Part(part.name, table, part.label, part.train, part.states, part.classes), chosen


# Features, heads and questions.


def features_of(table: pa.Table, out: Path) -> np.ndarray:
    """Return features in the order of the images; predicted once."""
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "images.parquet").exists():
        pq.write_table(table, out / "images.parquet")
    settings = PredictSettings(1, "openvino", EngineOptions(features=True))
    run(open_source(out / "images.parquet"), find_model(BACKBONE), out / "predicted", settings)
    ids = manyhot.read_predictions(out / "predicted" / f"{BACKBONE}.parquet").image_id.to_pylist()
    row = {image: i for i, image in enumerate(ids)}
    vectors = np.load(out / "predicted" / "embeddings" / f"{BACKBONE}.npy").astype(np.float32)
    return vectors[[row[i] for i in table["image_id"].to_pylist()]]


def fit(part: Part, features: np.ndarray):
    """Return a head that is fitted to the training images."""
    at = np.flatnonzero(part.train)
    return fit_softmax(features[at], part.label[at], part.classes, BACKBONE, penalty=PENALTY)


def labels_of(part: Part) -> manyhot.Labels:
    """Return label sets, with the class that the head is fitted to as the original label."""
    n, c = len(part.label), len(part.classes)
    table = {
        "image_id": part.table["image_id"],
        "label": part.label.astype(np.int32),
        "rated": [True] * n,
        "usable": [True] * n,
        "classes": [list(range(c))] * n,
        "state": [[states.get(i, "no") for i in range(c)] for states in part.states],
    }
    return manyhot.Labels(pa.table(table), c, part.classes.hash, asked_known=True, name=part.name)


def ask(part: Part, uris: dict, out: Path, features: np.ndarray | None = None, head=None) -> list[dict]:
    """Return what is found of a head on held-out images, or of the labels of training images.

    Statistics are kept in the folder `out`, so that photographs without planting are measured once.
    """
    at = np.flatnonzero(part.train == (head is None))
    some = part.take(at)
    ids = some.table["image_id"]
    pq.write_table(
        pa.table({"image_id": ids, "uri": [uris[i] for i in ids.to_pylist()]}), out / "images.parquet"
    )
    predictions = []
    if head is not None:
        scores = (features[at] @ head.weight.T + head.bias).astype(np.float32)
        about = {"score_kind": "logit", "n_classes": len(part.classes), "class_hash": part.classes.hash}
        predictions = [manyhot.Predictions(ids, "head", scores=scores, **about)]
    reading = Reading(images=out / "images.parquet", classes=part.classes)
    found = diagnose_groups(labels_of(some), predictions, reading=reading, permutations=500)
    return [row for row in found.groups.to_pylist() if (row["model"] is None) == (head is None)]


def uris_of(table: pa.Table, path: Path) -> dict[str, str]:
    """Return the place of each photograph in a file, which `features_of` wrote."""
    return {image: f"{path}#{i}" for i, image in enumerate(table["image_id"].to_pylist())}


# The experiments.


def plants(data: str, part: str, out: Path, only=()) -> list[dict]:
    every = read_part(data, part)
    base = features_of(every.table, out / "base")
    heads = (
        "planted",
        "class",
        "others called it, with and without",
        "rank, held out",
        "finding",
        "rank, labels",
        "named",
        "wrongly named",
    )
    print(f"\n{data}\n\n| {' | '.join(heads)} |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    rows = []
    for seed, (kind, main_name) in enumerate(zip(KINDS, CLASSES[data, part], strict=True)):
        if not main_name or (only and kind not in only):
            continue
        main = every.classes.keys.index(main_name)
        found = asked_of_planted(every, base, kind, main, seed, out)
        rows.append({"data": data, "planted": kind, "class": main_name, **found})
        print("| " + " | ".join(str(v) for v in list(rows[-1].values())[1:]) + " |", flush=True)
    return rows


def asked_of_planted(every: Part, base: np.ndarray, kind: str, main: int, seed: int, out: Path) -> dict:
    row = {image: i for i, image in enumerate(every.table["image_id"].to_pylist())}
    part, chosen = plant(every, kind, main, seed)
    features = base[[row[image] for image in part.table["image_id"].to_pylist()]].copy()
    uris = uris_of(every.table, out / "base" / "images.parquet")
    if chosen.any():
        place, table = out / kind.replace(" ", "-"), part.table.filter(pa.array(chosen))
        features[chosen] = features_of(table, place)
        uris |= uris_of(table, place / "images.parquet")
    head = fit(part, features)
    of_head = ask(part, uris, out, features, head)
    of_labels = ask(part, uris, out)
    others = ~part.train & (part.label != main)
    called = (features @ head.weight.T + head.bias).argmax(axis=1) == main
    shares = [called[others & flag].mean() if (others & flag).any() else np.nan for flag in (chosen, ~chosen)]
    ranks = [rank_of(rows, kind, main) for rows in (of_head, of_labels)]
    first = (
        of_head[ranks[0] - 1]["sentence"] if ranks[0] else (of_head[0]["sentence"] if of_head else "nothing")
    )
    wrong = {r["name"] for r in of_head + of_labels if r["kind"] in NEVER and not EXPECTED[kind](r)}
    return {
        "called": " and ".join("–" if np.isnan(share) else f"{share:.0%}" for share in shares),
        "rank_held_out": ranks[0] or f"– of {len(of_head)}",
        "finding": first,
        "rank_labels": ranks[1] or f"– of {len(of_labels)}",
        "named": "yes" if any(r and r <= 3 for r in ranks) else "no",
        "wrongly_named": "; ".join(sorted(wrong)) or "–",
    }


def rank_of(rows: list, kind: str, main: int) -> int:
    """Return the place of the first finding that names what was planted, about its class; or 0."""
    named = (i for i, r in enumerate(rows, 1) if EXPECTED[kind](r) and r["class_id"] in (None, main))
    return next(named, 0)


def cleans(data: str, part: str, out: Path, heads: int) -> list[dict]:
    every = read_part(data, part)
    base = features_of(every.table, out / "base")
    uris = uris_of(every.table, out / "base" / "images.parquet")
    heads_ = (
        "head",
        "findings, held out",
        "findings, labels",
        "frame, mark, patch, text",
        "measured",
        "agree",
        "first",
    )
    print(f"\n{data}, nothing planted\n\n| {' | '.join(heads_)} |\n|{' --- |' * len(heads_)}")
    rows = []
    for seed in range(heads):
        rng = np.random.default_rng(100 + seed)
        half = np.sort(rng.permutation(len(every.label))[: int(0.7 * len(every.label))])
        some, features = every.take(half), base[half]
        of_head = ask(some, uris, out, features, fit(some, features))
        of_labels = ask(some, uris, out)
        both = of_head + of_labels
        checks = [recomputed(r, some) for r in of_labels if r["kind"] in MEASURED]
        rows.append(
            {
                "data": data,
                "head": seed,
                "held_out": len(of_head),
                "labels": len(of_labels),
                "never": "; ".join(r["name"] for r in both if r["kind"] in NEVER) or "none",
                "measured": len(checks),
                "agree": sum(checks),
                "first": both[0]["sentence"] if both else "nothing",
            }
        )
        print("| " + " | ".join(str(v) for v in list(rows[-1].values())[1:]) + " |", flush=True)
    return rows


def chances(data: str, part: str, out: Path, searches: int = 200) -> list[dict]:
    """Print how often anything measured is found in held-out photographs if their labels are permuted."""
    every = read_part(data, part)
    some = every.take(np.flatnonzero(~every.train))
    uris = uris_of(every.table, out / "base" / "images.parquet")
    ids = some.table["image_id"]
    measured = measure_images(ids.combine_chunks(), [uris[i] for i in ids.to_pylist()], out)
    groups = list(measured_groups(measured))
    rng, found = np.random.default_rng(7), 0
    for seed in range(searches):
        outcomes = label_outcomes(rng.permutation(some.label), len(some.classes), 25)
        unseen = np.zeros(len(ids), bool)
        settings = GroupSettings(25, min_difference=0.0, min_confidence=0.9, permutations=100, seed=seed)
        found += bool(find_groups(groups, unseen, outcomes, some.classes.names, settings)[0])
    lo, hi = (float(end) for end in wilson_interval(found, searches))
    print(
        f"\n{data}: {found} of {searches} searches with permuted labels found anything ({lo:.1%} to {hi:.1%})"
    )
    return [{"data": data, "searches": searches, "found": found, "lo": lo, "hi": hi}]


def recomputed(row: dict, part: Part) -> bool:
    """Return whether means of the class and of others, by Pillow alone, differ in the same direction."""
    from PIL import ImageStat
    from scipy.stats import ttest_ind

    values = []
    for data in part.table["jpeg"].filter(pa.array(part.train)).to_pylist():
        image = Image.open(io.BytesIO(data)).convert("RGB")
        if row["name"].startswith("border"):
            width, height = image.size
            d = max(1, round(0.1 * min(image.size)))
            image.paste((0, 0, 0), (d, d, width - d, height - d))
        red, green, blue = ImageStat.Stat(image).mean
        if "brightness" in row["name"]:
            values.append(0.299 * red + 0.587 * green + 0.114 * blue)
        elif row["kind"] == "tint":
            values.append(_towards(row["name"].split()[-3], red, green, blue))
        else:
            edges = image.convert("L").filter(
                ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), 1, 128)
            )
            values.append(
                ImageStat.Stat(edges).stddev[0] / (ImageStat.Stat(image.convert("L")).stddev[0] + 1)
            )
    own = part.label[part.train] == row["class_id"]
    t = ttest_ind(np.array(values)[own], np.array(values)[~own], equal_var=False)
    return bool(t.pvalue < 0.01 and (t.statistic > 0) == ("≥" in row["name"]))


def _towards(hue: str, red: float, green: float, blue: float) -> float:
    from manyhot.core.image_statistics import COLOUR_NAMES

    r, g, b = COLOUR_NAMES[hue]
    grey, own = (red + green + blue) / 3, (r + g + b) / 3
    return (red - grey) * (r - own) + (green - grey) * (g - own) + (blue - grey) * (b - own)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--part", choices=("dev", "report"), default="report")
    parser.add_argument("--data", action="append", choices=("cifar10", "voc"))
    parser.add_argument("--only", action="append", choices=("plant", "clean", "chance"))
    parser.add_argument("--kind", action="append", choices=KINDS, default=[])
    parser.add_argument("--heads", type=int, default=5)
    asked = parser.parse_args()
    rows = []
    for data in asked.data or ("cifar10", "voc"):
        out = asked.out / asked.part / data
        for phase in asked.only or ("plant", "clean", "chance"):
            begun = time.process_time()
            if phase == "plant":
                made = plants(data, asked.part, out, asked.kind)
            elif phase == "clean":
                made = cleans(data, asked.part, out, asked.heads)
            else:
                made = chances(data, asked.part, out)
            rows += [{"phase": phase, **row} for row in made]
            print(f"\n{time.process_time() - begun:.0f} CPU s", flush=True)
    if asked.part == "report":
        write(rows)


def write(rows: list[dict]) -> None:
    """Replace the rows of the same data sets and phases in ``groups.csv``."""
    path = Path(__file__).with_suffix(".csv")
    earlier = list(csv.DictReader(path.open(encoding="utf-8"))) if path.exists() else []
    done = {(row["phase"], row["data"]) for row in rows}
    rows = [row for row in earlier if (row["phase"], row["data"]) not in done] + rows
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
