"""How well the detector of ``manyhot detect`` finds objects, and whether it does what its weights say.

VOC's 1,095 test photographs, which nothing was chosen on, and the real weights (``manyhot fetch
objectron``)::

    python benchmarks/detector.py

prints for the classes that both have, and that at least 10 of the photographs show,

- the average precision of *is the class in the image* (photographs in which all objects of the class are
  difficult left out): by manyhot, and by the same weights run plainly, twelve lines of OpenVINO and Pillow;
- AP50 of boxes, with every box from a score of 0.01 on, and with the boxes that are written as objects;
- precision and recall of *yes* in the label sets, and the share of images that are unclear;
- images per second with one thread, and the bound: the network alone, on images that are decoded.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from pathlib import Path

import common

common.quiet()

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
from PIL import Image  # noqa: E402
from sklearn.metrics import average_precision_score  # noqa: E402

import manyhot  # noqa: E402
from manyhot.classes import from_keys  # noqa: E402
from manyhot.core.detection import Boxes, box_average_precision, match  # noqa: E402
from manyhot.core.share_intervals import wilson_interval  # noqa: E402
from manyhot.formats import read_objects, read_predictions  # noqa: E402
from manyhot.formats.object_files import VOC  # noqa: E402
from manyhot.predict.adapters import objectron  # noqa: E402
from manyhot.predict.decode import decode  # noqa: E402
from manyhot.predict.detector import find_detector  # noqa: E402

PHOTOGRAPHS = common.REPO.parent / "shared" / "data" / "voc"
CLASSES = from_keys(VOC, "voc")
FEWEST = 10
COLUMNS = ("class", "photographs", "AP of presence, manyhot", "plainly", "difference", "AP50, all boxes")
COLUMNS += ("AP50, objects", "precision of yes", "recall of yes", "unclear")
SAME = {
    "Bicycle": "bicycle",
    "Person": "person",
    "Chair": "chair",
    "Cattle": "cow",
    "Cat": "cat",
    "Computer monitor": "tvmonitor",
    "Bottle": "bottle",
    "Dog": "dog",
    "Car": "car",
}
"""Written by hand, so that the matching of names is tested, too."""


def plainly(photographs):
    """Return the highest score of each class in each photograph, without a line of manyhot's adapter."""
    import openvino as ov

    network = ov.Core().read_model(str(objectron._network_file()))
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = ov.Core().compile_model(network, "CPU", settings)
    scores = []
    for data in photographs:
        image = Image.open(io.BytesIO(data)).convert("RGB").resize((300, 300), Image.BILINEAR)
        logits = compiled(np.asarray(image, np.float32)[None] / 127.5 - 1)[1][0]
        scores.append(1 / (1 + np.exp(-logits.max(axis=0))))
    return np.stack(scores)[:, [1 + objectron.CLASSES.index(name) for name in SAME]]


def detected(folder, out, **settings):
    found = manyhot.find_objects(folder, out=out, classes=CLASSES, **settings)
    assert set(SAME.values()) == {CLASSES.keys[c] for c in found.labels["classes"][0].as_py()}
    return found


def presence(out, ids):
    """Return the scores of `SAME` in manyhot's predictions, in the order of the ids."""
    predictions = read_predictions(out / "predictions" / f"{objectron.NAME}.parquet")
    scores = np.zeros((len(ids), len(CLASSES)))
    np.put_along_axis(scores, predictions.classes.astype(np.int64), predictions.scores, axis=1)
    row = {Path(name).stem: i for i, name in enumerate(predictions.image_id.to_pylist())}
    return scores[[row[i] for i in ids]][:, [CLASSES.index(name) for name in SAME.values()]]


def boxes_of(table, ids, scored):
    """Return the boxes of each photograph."""
    rows = dict.fromkeys(ids)
    for (name,), part in table.group_by("image_id"):
        rows[Path(name).stem] = part
    empty = table.clear()
    parts = [empty if rows[i] is None else rows[i] for i in ids]
    return [
        Boxes(
            part.select("x1", "y1", "x2", "y2").to_numpy().astype(float),
            part["class_id"].to_numpy().astype(np.int64),
            score=part["score"].to_numpy().astype(float) if scored else None,
            ignore=None if scored else part["difficult"].to_numpy(),
        )
        for part in parts
    ]


def ap50(annotated, out, ids):
    table = pl.from_arrow(read_objects(out / "objects.parquet").table)
    found = boxes_of(table, ids, scored=True)
    return {
        name: box_average_precision(match(annotated, found, CLASSES.index(name)))[0, 0]
        for name in SAME.values()
    }


def said(found, ids):
    """Return the state of each class of `SAME` in each photograph."""
    states = {}
    columns = (found.labels[c].to_pylist() for c in ("image_id", "classes", "state"))
    for name, classes, state in zip(*columns, strict=True):
        states[Path(name).stem] = dict(zip(classes, state, strict=True))
    return np.array([[states[i][CLASSES.index(name)] for name in SAME.values()] for i in ids])


def share(hits, of):
    (lo,), (hi,) = wilson_interval([int(hits)], [int(of)])
    return f"{hits / of:.2f} ({lo:.2f} to {hi:.2f})" if of else "–"


def seconds(photographs):
    """Return the images per second of one thread: all that a run does to an image, and the network alone."""
    pixels = [decode(data) for data in photographs[:200]]
    detector = find_detector(objectron.NAME)
    run = objectron._runner(objectron._network_file(), 1)
    ready = [objectron._PREPROCESSING(image).numpy()[None] for image in pixels]
    rates = []
    for work, inputs in (
        (lambda data: detector.detect(decode(data)), photographs[:200]),
        (lambda image: run(image), ready),
    ):
        for each in inputs[:10]:
            work(each)
        begun = time.process_time()
        for each in inputs:
            work(each)
        rates.append(len(inputs) / (time.process_time() - begun))
    return rates


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args()
    columns = ["image_id", "split", "labels", "difficult_labels", "jpeg"]
    images = pl.read_parquet(PHOTOGRAPHS / "images.parquet", columns=columns).filter(split="test")
    annotations = pl.read_parquet(PHOTOGRAPHS / "annotations.parquet").filter(split="test")
    ids, photographs = images["image_id"].to_list(), images["jpeg"].to_list()
    annotated = boxes_of(annotations, ids, scored=False)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "photographs")
        folder.mkdir()
        for image_id, data in zip(ids, photographs, strict=True):
            (folder / f"{image_id}.jpg").write_bytes(data)
        found = detected(folder, Path(place, "objects"))
        ours = presence(Path(place, "objects"), ids)
        written = ap50(annotated, Path(place, "objects"), ids)
        detected(folder, Path(place, "boxes"), min_score=0.01, min_unclear=0.01)
        every = ap50(annotated, Path(place, "boxes"), ids)
    theirs, states = plainly(photographs), said(found, ids)
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    differences, means = [], []
    for column, name in enumerate(SAME.values()):
        valid = np.array([name in labels for labels in images["labels"]])
        if valid.sum() < FEWEST:
            print(f"| {name} | {valid.sum()} | – | – | – | – | – | – | – | – |")
            continue
        judged = valid | ~np.array([name in labels for labels in images["difficult_labels"]])
        a, b = (average_precision_score(valid[judged], scores[judged, column]) for scores in (ours, theirs))
        differences.append(a - b)
        means.append((a, b, every[name], written[name]))
        yes = states[:, column] == "yes"
        cells = (
            share((yes & valid).sum(), (yes & judged).sum()),
            share((yes & valid).sum(), valid.sum()),
            f"{(states[:, column] == 'unclear').mean():.0%}",
        )
        print(
            f"| {name} | {valid.sum()} | {a:.3f} | {b:.3f} | {a - b:+.4f} | {every[name]:.3f} "
            f"| {written[name]:.3f} | {' | '.join(cells)} |"
        )
    a, b, boxes, objects = np.mean(means, axis=0)
    print(f"| mean | | {a:.3f} | {b:.3f} | {a - b:+.4f} | {boxes:.3f} | {objects:.3f} | | | |")
    whole, bound = seconds(photographs)
    print(
        f"\nLargest difference of an AP of presence: {np.abs(differences).max():.4f}. "
        f"One thread: {whole:.1f} images/s, of which the network alone would do {bound:.1f}: "
        f"{whole / bound:.0%} of the bound."
    )


if __name__ == "__main__":
    main()
