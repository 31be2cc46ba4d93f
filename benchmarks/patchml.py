"""How do models do on objects without context? Numbers and pictures of patchml.md.

Pictures are composed of the objects of PASCAL VOC's held-out photographs, of the classes that have enough of
them, and judged with heads that ``manyhot.train`` fitted on the other photographs::

    python benchmarks/patchml.py heads/voc-softmax.safetensors heads/voc-sigmoid.safetensors out

takes ten minutes on 2 cores, most of it predictions, and goes on where it was. ``--time`` tells seconds for
1,000 pictures, ``--figure FILE`` draws some of them.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import common

common.quiet()

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
from PIL import Image  # noqa: E402

import manyhot  # noqa: E402
from manyhot import PatchSettings, patchml, predict, read_labels  # noqa: E402
from manyhot.predict import weights  # noqa: E402

VOC = common.REPO.parent / "shared" / "data" / "voc"
CLASSES = ("bus", "car", "cat", "cow", "dog", "horse", "person", "sheep", "train")
ANIMALS = ("cat", "cow", "dog", "horse", "sheep")  # of which masks are known
METRICS = ("top1", "real1", "variable_topk")

PLAIN = {
    "n_images": 500,
    "objects_per_image": (1, 1),
    "scale": (0.5, 0.5),
    "overlap": (0.0, 0.0),
    "only": CLASSES,
}
WAYS = {
    "1 object": {},
    "2 objects": {"objects_per_image": (2, 2)},
    "3 objects": {"objects_per_image": (3, 3)},
    "4 objects": {"objects_per_image": (4, 4)},
    "scale 0.15": {"scale": (0.15, 0.15)},
    "scale 1": {"scale": (1.0, 1.0)},
    "2 objects, 40-50 % covered": {"objects_per_image": (2, 2), "overlap": (0.4, 0.5)},
    "blur": {"background": "blur"},
    "crop": {"background": "crop"},
    "animals": {"only": ANIMALS},
    "animals, mask": {"only": ANIMALS, "cut": "mask"},
    "animals, mask, crop": {"only": ANIMALS, "cut": "mask", "background": "crop"},
}

SHOWN = (
    {"scale": (0.4, 0.7)},
    {"objects_per_image": (3, 3), "scale": (0.4, 0.6), "overlap": (0.2, 0.4), "background": "blur"},
    {"objects_per_image": (2, 2), "scale": (0.5, 0.7), "soft": 12.0, "background": "noise"},
)
"""What the figure shows, from top to bottom."""


def held_out(folder: Path) -> Path:
    """Write the objects of the held-out photographs, and return the file."""
    path = folder / "objects.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    pl.read_parquet(VOC / "annotations.parquet").filter(pl.col("split") == "test").write_parquet(path)
    return path


def compose(name: str, way: dict, folder: Path) -> Path:
    out = folder / name.replace(" ", "-").replace(",", "").replace("%", "pct")
    if not (out / "patchml.json").is_file():
        images, objects = VOC / "images.parquet", held_out(folder)
        settings = PatchSettings(**PLAIN | way)
        patchml(images, objects=objects, out=out, settings=settings, masks=images)
    return out


def photographs(folder: Path) -> Path:
    """Write the held-out photographs that show one of the classes alone, as `compose` writes pictures."""
    out = folder / "photographs"
    if (out / "labels.parquet").is_file():
        return out
    (out / "images").mkdir(parents=True, exist_ok=True)
    table = pl.read_parquet(VOC / "images.parquet").filter(
        (pl.col("split") == "test")
        & (pl.col("n_labels") == 1)
        & (pl.col("difficult_labels").list.len() == 0)
        & pl.col("label_largest").is_in(CLASSES)
    )
    keys = manyhot.read_objects(VOC / "annotations.parquet").keys
    for image_id, jpeg in table.select("image_id", "jpeg").iter_rows():
        (out / "images" / f"{image_id}.jpg").write_bytes(jpeg)
    label = [keys.index(key) for key in table["label_largest"]]
    ids = [f"{i}.jpg" for i in table["image_id"]]
    labels = manyhot.as_labels([[c] for c in label], n_classes=len(keys), label=label)
    named = labels.table.set_column(labels.table.column_names.index("image_id"), "image_id", [ids])
    manyhot.write_labels(manyhot.Labels(named, len(keys), name="photographs"), out / "labels.parquet")
    return out


def predicted(out: Path, files: list[Path]) -> list[manyhot.Predictions]:
    """Return what each head says of the pictures in a folder; ``predict --model head:FILE`` says the same."""
    folder = out / "predictions"
    known = [weights.read_head(path) for path in files]
    (backbone,) = {head.backbone for head in known}
    features = folder / "embeddings" / f"{backbone}.npy"
    if not features.is_file():
        predict(out / "images", backbone, out=folder, engine="openvino", embeddings=True)
    ids = pl.read_parquet(folder / f"{backbone}.parquet")["image_id"].to_arrow()
    names = [path.stem for path in files]
    return [
        manyhot.Predictions(
            ids.cast("string"),
            name,
            scores=head.probabilities(np.load(features)).astype(np.float32),
            score_kind="probability",
            n_classes=len(head.classes),
        )
        for name, head in zip(names, known, strict=True)
    ]


def balanced(labels: manyhot.Labels, model: manyhot.Predictions) -> tuple[float, int]:
    """Return the share of images whose best class is their label, as a mean over classes, and the images."""
    frame = pl.from_arrow(labels.table.select(["image_id", "label"]))
    best = model.scores.argmax(axis=1)
    found = pl.DataFrame({"image_id": model.image_id.to_pylist(), "best": best})
    joined = frame.join(found, on="image_id").with_columns(right=pl.col("label") == pl.col("best"))
    return joined.group_by("label").agg(pl.col("right").mean())["right"].mean(), len(joined)


def rows(folder: Path, files: list[Path]) -> Iterator[str]:
    photos = photographs(folder)
    labels = read_labels(photos / "labels.parquet")
    models = predicted(photos, files)
    told = [f"{balanced(labels, m)[0]:.1%}" for m in models]
    yield f"photographs of one class, {len(labels):,}, mean over classes: {' and '.join(told)}"
    for name, way in WAYS.items():
        out = compose(name, way, folder)
        labels = read_labels(out / "labels.parquet")
        models = predicted(out, files)
        judged = manyhot.evaluate(labels, models, metrics=METRICS, resamples=1000).results.to_pylist()
        cells = []
        for model in models:
            own = [r for r in judged if (r["model"], r["slice"]) == (model.model, "all")]
            of = {r["metric"]: (100 * r["value"], 100 * r["lo"], 100 * r["hi"]) for r in own}
            cells += ["{:.1f} ({:.1f} to {:.1f})".format(*of[m]) for m in METRICS]
            cells.append(f"{100 * present(labels, model):.1f}")
        yield f"| {name} | {' | '.join(cells)} |"


def present(labels: manyhot.Labels, model: manyhot.Predictions) -> float:
    """Return the share of valid classes that have a probability of 0.5 or more."""
    frame = pl.from_arrow(labels.table.select(["image_id", "classes", "state"])).explode("classes", "state")
    valid = frame.filter(pl.col("state") == "yes")
    place = {image: i for i, image in enumerate(model.image_id.to_pylist())}
    at = np.array([place[i] for i in valid["image_id"]])
    return float((model.scores[at, valid["classes"].to_numpy()] >= 0.5).mean())


def timed(folder: Path) -> None:
    images, objects = VOC / "images.parquet", VOC / "annotations.parquet"
    for cut, background in (("box", "grey"), ("mask", "crop")):
        begun, spent = time.perf_counter(), time.process_time()
        settings = PatchSettings(cut=cut, background=background)
        out = folder / f"timed-{cut}"
        done = patchml(images, objects=objects, out=out, settings=settings, masks=images)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{cut}, {background}: {done.n:,} pictures in {time.perf_counter() - begun:.1f} s, "
            f"{time.process_time() - spent:.1f} s of CPU; {peak:,.0f} MB at most"
        )


def draw(folder: Path, path: Path) -> None:
    """Draw pictures of three ways, of the photographs that `make demo` collects."""
    boxes = common.REPO / "examples" / "demo" / "objects.csv"
    sheet = Image.new("RGB", (5 * 228 - 4, 3 * 228 - 4), "white")
    for row, way in enumerate(SHOWN):
        out = folder / f"figure-{row}"
        settings = PatchSettings(n_images=12, seed=2, min_size=40, **way)
        patchml(common.REPO / "demo" / "photos", objects=boxes, out=out, settings=settings)
        for column, picture in enumerate(pl.read_parquet(out / "images.parquet").head(5).to_dicts()):
            with Image.open(picture["uri"]) as drawn:
                sheet.paste(drawn, (column * 228, row * 228))
    sheet.save(path, quality=88)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("heads", nargs="*", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    if given.figure:
        draw(given.out, given.figure)
    elif given.time:
        timed(given.out)
    else:
        for line in rows(given.out, given.heads):
            print(line, flush=True)
