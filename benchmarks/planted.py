"""A shortcut planted on purpose: whether it is found, shown and removed.

On training images of one class of ``../shared/data/cifar10`` lies a magenta square, 6 of 32 pixels wide, at a
place drawn by chance; of the held-out images half of each class have it. Heads are fitted to features of
EfficientNet-Lite0 on 5,000 images, and judged on 2,000::

    python benchmarks/planted.py out

- mitigate: a head with the shortcut, and what augmentation makes of it: within the published caps but with
  inpainting, without caps, and with grey boxes;
- control: a head fitted to the same images without squares;
- find: ``diagnose shortcuts`` of each, over all ten pairs of a class and the square, on held-out images;
- explain: whether maps of the class point at the square, on held-out images of the class that have it.

It prints the tables of mitigation.md, in four minutes on 2 cores. Run again it goes on where it was.
``--class`` and ``--share`` plant another one, in another folder.
"""

from __future__ import annotations

import argparse
import io
import time
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
from manyhot.core.share_intervals import wilson_interval  # noqa: E402
from manyhot.diagnose.shortcuts import diagnose_shortcuts  # noqa: E402
from manyhot.predict.engines import EngineOptions  # noqa: E402
from manyhot.predict.models import find_model  # noqa: E402
from manyhot.predict.run import PredictSettings, run  # noqa: E402
from manyhot.predict.sources import open_source  # noqa: E402
from manyhot.predict.weights import write_head  # noqa: E402
from manyhot.train.heads import fit_softmax  # noqa: E402
from manyhot.train.mitigate.mitigate import mitigate  # noqa: E402

DATA = common.REPO.parent / "shared" / "data" / "cifar10" / "cifar10_subset.parquet"
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CLASSES = from_keys([*CIFAR10, "square"], "cifar10-square")
SQUARE = len(CIFAR10)
BACKBONE = "efficientnet-lite0"
SIDE, COLOUR = 6, (255, 0, 255)
"""Pixels of 32, and magenta, which no class has."""

PHASES = ("mitigate", "control", "find", "explain")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--class", dest="main", choices=CIFAR10, default="cat")
    parser.add_argument("--share", type=float, default=1.0, help="of its training images with the square")
    parser.add_argument("--only", action="append", choices=PHASES)
    given = parser.parse_args()
    known = plant(given.out, given.main, given.share)
    for phase in given.only or PHASES:
        begun = time.perf_counter()
        print(f"\n## {phase}\n", flush=True)
        if phase == "mitigate":
            treat(given.out, given.main)
        elif phase == "control":
            fit_control(given.out, known, given.main)
        elif phase == "find":
            find(given.out, given.main)
        else:
            explain(given.out, given.main)
        print(f"\n{time.perf_counter() - begun:.0f} s", flush=True)


# The data.


def plant(out: Path, main: str, share: float) -> pa.Table:
    """Write images with squares, label sets and the boxes of the squares; return the images as they were."""
    known = pq.read_table(DATA)
    train = np.array([s == "train" for s in known["split"].to_pylist()])
    known = known.filter(pa.array(~train | (np.cumsum(train) % 2 == 0)))
    train = np.array([s == "train" for s in known["split"].to_pylist()])
    label = known["label"].to_numpy()
    rng = np.random.default_rng(0)
    chosen = rng.random(len(label)) < np.where(train, share * (label == CIFAR10.index(main)), 0.5)
    places = rng.integers(0, 32 - SIDE + 1, (len(label), 2))
    data = known["jpeg"].to_pylist()
    data = [painted(data[i], places[i]) if chosen[i] else data[i] for i in range(len(data))]
    images = known.set_column(known.column_names.index("jpeg"), "jpeg", pa.array(data, pa.binary()))
    if not (out / "classes.txt").exists():  # files that are written anew are another source
        out.mkdir(parents=True, exist_ok=True)
        images = images.select(["image_id", "split", "label", "jpeg"])
        pq.write_table(images, out / "images.parquet")
        pq.write_table(images.filter(pa.array(~train)), out / "held-out.parquet")
        write_labels(known["image_id"], label, chosen, out)
        write_objects(known["image_id"].filter(pa.array(chosen)), places[chosen], out)
        (out / "classes.txt").write_text("\n".join(CLASSES.keys) + "\n", encoding="utf-8")
    own = label == CIFAR10.index(main)
    print(
        f"{train.sum():,} images to fit on, with the square {chosen[train].sum():,} of {own[train].sum():,} "
        f"of {main}; {(~train).sum():,} held out, {chosen[~train].sum():,} with it, of {main} "
        f"{chosen[~train & own].sum():,}"
    )
    return known


def painted(data: bytes, place) -> bytes:
    x, y = place
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.array(image.convert("RGB"))
    pixels[y : y + SIDE, x : x + SIDE] = COLOUR
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, "PNG")
    return made.getvalue()


def write_labels(ids, label, chosen, out) -> None:
    n, c = len(label), len(CLASSES)
    state = np.full((n, c), "no", object)
    state[np.arange(n), label] = "yes"
    state[chosen, SQUARE] = "yes"
    table = {"image_id": ids.combine_chunks(), "label": label.astype(np.int32), "rated": [True] * n}
    table |= {"usable": [True] * n, "classes": [list(range(c))] * n, "state": state.tolist()}
    labels = manyhot.Labels(pa.table(table), c, CLASSES.hash, asked_known=True, name=CLASSES.name)
    manyhot.write_labels(labels, out / "labels.parquet")


def write_objects(ids, places, out) -> None:
    x, y = (places.T / 32).astype(np.float32)
    columns = {"image_id": ids.combine_chunks(), "class_id": np.full(len(x), SQUARE, np.int32)}
    columns |= {"x1": x, "y1": y, "x2": x + np.float32(SIDE / 32), "y2": y + np.float32(SIDE / 32)}
    table = pa.table(columns | {"ignore": [False] * len(x)})
    objects = tables.Objects(table, CLASSES.keys, CLASSES.hash, name="squares")
    tables.write_objects(objects, out / "objects.parquet")


# The heads.


VARIANTS = {
    "augmented": ("mitigation", "softmax-augmentation-*"),
    "augmented, no caps": ("mitigation", "softmax-uncapped-augmentation-*"),
    "augmented, grey boxes": ("grey", "softmax-augmentation-*"),
}
"""Folder and head of what is tried against it."""

FILL_OF = {"mitigation": "inpaint", "grey": "grey"}


def heads(out: Path) -> dict[str, Path]:
    """Return the heads that are compared."""
    found = {"with the shortcut": out / "mitigation" / "heads" / "softmax.safetensors"}
    for name, (folder, head) in VARIANTS.items():
        found[name] = next((out / folder / "heads").glob(head))
    return found | {"control": out / "control.safetensors"}


def treat(out: Path, main: str) -> None:
    for part, fill in FILL_OF.items():
        folder = out / part
        folder.mkdir(exist_ok=True)
        if part != "mitigation" and not (folder / "predictions").exists():
            (folder / "predictions").symlink_to(Path("..") / "mitigation" / "predictions")
        found = mitigate(
            out / "images.parquet",
            out / "objects.parquet",
            out=folder,
            model=BACKBONE,
            pairs=[f"{main}:square"],
            labels=out / "labels.parquet",
            classes=out / "classes.txt",
            split=out / "images.parquet",
            losses=("softmax", "sigmoid") if part == "mitigation" else ("softmax",),
            fill=fill,
        )
        print("\n".join(["", *found.lines()][:3]))
        show(found.mitigation.to_pylist())


def show(rows) -> None:
    """Print a row a metric, a column a head."""
    columns = list(dict.fromkeys((r["model"].partition(", ")[2], r["treatment"]) for r in rows))
    print("| |", " | ".join(f"{model}, {treatment}" for model, treatment in columns), "|")
    print("| --- |" + " --- |" * len(columns))
    for metric in dict.fromkeys(r["metric"] for r in rows):
        of = {(r["model"].partition(", ")[2], r["treatment"]): r for r in rows if r["metric"] == metric}
        print(f"| {metric} |", " | ".join(interval(of.get(c)) for c in columns), "|")


def interval(row) -> str:
    return "{value:.1%} ({lo:.1%} to {hi:.1%})".format(**row) if row else "–"


def fit_control(out: Path, known: pa.Table, main: str) -> None:
    """Fit a head to the same images without squares: the features of all but one class are there."""
    train = np.array([s == "train" for s in known["split"].to_pylist()])
    label = known["label"].to_numpy()
    clean = known.filter(pa.array(train & (label == CIFAR10.index(main))))
    pq.write_table(clean.select(["image_id", "jpeg"]), out / "clean.parquet")
    run(
        open_source(out / "clean.parquet"),
        find_model(BACKBONE),
        out / "clean",
        PredictSettings(1, engine_options=EngineOptions(features=True)),
    )
    original = out / "mitigation" / "predictions" / "original"
    place = {image: row for row, image in enumerate(ids(original))}
    features = embeddings(original)
    features[[place[i] for i in ids(out / "clean")]] = embeddings(out / "clean")
    order = [place[i] for i in known["image_id"].filter(pa.array(train)).to_pylist()]
    head = fit_softmax(features[order], label[train], CLASSES, BACKBONE)
    write_head(head, out / "control.safetensors")


def embeddings(folder: Path):
    return np.load(folder / "embeddings" / f"{BACKBONE}.npy")


def ids(folder: Path) -> list[str]:
    return manyhot.read_predictions(folder / f"{BACKBONE}.parquet").image_id.to_pylist()


# What is found.


def find(out: Path, main: str) -> None:
    columns = ("head", "rank", "lost", "its control", "more than that", "flips", "marked", "top-1")
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for name, path in heads(out).items():
        folder = out / "found" / path.parent.parent.name / path.stem
        found = diagnose_shortcuts(
            out / "held-out.parquet",
            objects=out / "objects.parquet",
            out=folder,
            model=f"head:{path}",
            labels=out / "labels.parquet",
            classes=out / "classes.txt",
        )
        rows = found.shortcuts.to_pylist()
        rank = next(i for i, r in enumerate(rows, 1) if r["main_name"] == main)
        marked = ", ".join(dict.fromkeys(r["main_name"] for r in rows if r["mark"])) or "none"
        told = (
            "{lost:.1%} ({lost_lo:.1%} to {lost_hi:.1%}) | {control_lost:.1%} "
            "| {excess:+.1%} ({lo:+.1%} to {hi:+.1%}) | {flips:.1%}"
        ).format(**rows[rank - 1])
        print(f"| {name} | {rank} of {len(rows)} | {told} | {marked} | {accuracy(out, folder):.1%} |")


def accuracy(out: Path, folder: Path) -> float:
    file = next((folder / "predictions" / "original").glob("head--*.parquet"))
    predictions = manyhot.read_predictions(file)
    known = pq.read_table(out / "held-out.parquet", columns=["image_id", "label"])
    label = dict(zip(known["image_id"].to_pylist(), known["label"].to_pylist(), strict=True))
    truth = np.array([label[i] for i in predictions.image_id.to_pylist()])
    return float((predictions.scores.argmax(1) == truth).mean())


def explain(out: Path, main: str) -> None:
    """Print how often maps of the class point at the square, on held-out images of the class that have it."""
    from manyhot.core.detection import by_chance, centre, localise
    from manyhot.diagnose.attribution import attribute as maps_of

    images, regions = squares(out, main)
    print(
        "| head | method | points at the square | of its highest pixels on it | by chance | in the centre |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    prior = centre(32, 32)
    for name, path in heads(out).items():
        network = find_model(f"head:{path}")
        for method in ("gradcam", "saliency"):
            maps = maps_of(network, images, CLASSES.keys.index(main), method=method)
            told = [localise(m, r) for m, r in zip(maps, regions, strict=True)]
            told = [t for t in told if not np.isnan(t.pointing)]
            seen = ~np.isnan(maps[0])
            chance = np.mean([by_chance(r, seen).pointing for r in regions])
            middle = np.nanmean([localise(np.where(seen, prior, np.nan), r).pointing for r in regions])
            n, hits = len(told), sum(t.pointing for t in told)
            lo, hi = (100 * float(end) for end in wilson_interval(hits, n))
            on = np.mean([t.overlap for t in told])
            print(
                f"| {name} | {method} | {hits / n:.1%} ({lo:.1f} to {hi:.1f}; {n} images) "
                f"| {on:.1%} | {chance:.1%} | {middle:.1%} |"
            )


def squares(out: Path, main: str):
    """Return held-out images of a class that have the square, and where it is."""
    known = pq.read_table(out / "held-out.parquet")
    objects = manyhot.read_objects(out / "objects.parquet", classes=CLASSES)
    images, regions = [], []
    for row in known.to_pylist():
        at = objects.rows(row["image_id"])
        if row["label"] == CIFAR10.index(main) and len(at):
            with Image.open(io.BytesIO(row["jpeg"])) as image:
                images.append(np.array(image.convert("RGB")).transpose(2, 0, 1))
            x, y = np.rint(objects.boxes[at[0], :2] * 32).astype(int)
            region = np.zeros((32, 32), bool)
            region[y : y + SIDE, x : x + SIDE] = True
            regions.append(region)
    return np.stack(images), regions


if __name__ == "__main__":
    main()
