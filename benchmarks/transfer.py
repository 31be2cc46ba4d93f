"""What the methods of ``manyhot transfer`` take, beside what one would write without it.

    python benchmarks/transfer.py [--images 1500] [--runs 3]

Of ``../shared/data/voc``, with EfficientNet-Lite0. Heads on features: nearest neighbours and regressions of
scikit-learn, of the same penalty on the same standardised features. Detectors and segmentation heads: the
same head for as many epochs without maps that were computed before, the images decoded and run through the
backbone in each. Ours and the peer take turns. CPU seconds of one thread, medians; and what both are worth.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import common

common.quiet()

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
import torch  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.metrics import average_precision_score  # noqa: E402
from sklearn.multiclass import OneVsRestClassifier  # noqa: E402
from sklearn.neighbors import KNeighborsClassifier  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

from manyhot import fit_sigmoid, fit_softmax, predict_in_memory, read_objects  # noqa: E402
from manyhot.classes import from_keys  # noqa: E402
from manyhot.core.detection import class_overlaps  # noqa: E402
from manyhot.core.sets import NO, YES  # noqa: E402
from manyhot.diagnose.pixels.regions import read_mask  # noqa: E402
from manyhot.predict.decode import decode  # noqa: E402
from manyhot.predict.models import find_model  # noqa: E402
from manyhot.train.transfer.by_maps import boxes_of, count_pixels, fit_segmenter  # noqa: E402
from manyhot.train.transfer.detection import coco_metrics, detect_objects, fit_detector  # noqa: E402
from manyhot.train.transfer.feature_maps import Backbone, LiveMaps, compute_maps  # noqa: E402  # noqa: E402
from manyhot.train.transfer.methods import (  # noqa: E402
    DetectionSettings,
    SegmentationSettings,
    knn_scores,
)

VOC = common.REPO.parent / "shared" / "data" / "voc"
KEYS = [
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"),
    *("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
]
CLASSES = from_keys(KEYS, "voc")
MODEL = "efficientnet-lite0"
PENALTY = 0.01
EPOCHS, SIZE = 6, 128

Work = Callable[[], float]
"""Does it, and returns what it is worth."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = pl.read_parquet(VOC / "images.parquet").filter(pl.col("mask_png").is_not_null())
        rows = rows.sort(pl.col("image_id").hash(0)).head(asked.images)
        rows.write_parquet(Path(folder) / "voc.parquet")
        for name, (ours, peer) in {**on_features(Path(folder), rows), **on_maps(Path(folder), rows)}.items():
            told = compared(ours, peer, asked.runs)
            print("{}: {:.2f} s, peer {:.2f} s, ratio {:.2f}; worth {:.1%}, peer {:.1%}".format(name, *told))


def compared(ours: Work, peer: Work, runs: int) -> tuple[float, float, float, float, float]:
    """Return medians of the CPU seconds of both, the ratio of the medians, and what both are worth."""
    spent, worth = [[], []], [0.0, 0.0]
    for _ in range(runs):
        for i, work in enumerate((ours, peer)):
            begun = time.process_time()
            worth[i] = work()
            spent[i].append(time.process_time() - begun)
    own, other = (float(np.median(s)) for s in spent)
    return own, other, own / other, worth[0], worth[1]


def on_features(folder: Path, rows: pl.DataFrame) -> dict[str, tuple[Work, Work]]:
    """Return what is fitted to features."""
    found = predict_in_memory(folder / "voc.parquet", MODEL, embeddings=True)
    x = found.embeddings.astype(np.float32)
    label = np.array([KEYS.index(k) for k in rows["label_largest"]])
    there = np.array([[k in labels for k in KEYS] for labels in rows["labels"]])
    fit = np.arange(len(x)) % 4 > 0
    judged = np.flatnonzero(there[~fit].any(0) & there[fit].any(0))
    strength = 1 / (PENALTY * fit.sum())

    def right(scores) -> float:
        return float((scores.argmax(1) == label[~fit]).mean())

    def precision(scores) -> float:
        return float(np.mean([average_precision_score(there[~fit, c], scores[:, c]) for c in judged]))

    def neighbours() -> float:
        vote = KNeighborsClassifier(
            20, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07)
        ).fit(x[fit], label[fit])
        return float((vote.predict(x[~fit]) == label[~fit]).mean())

    def standardised():
        scaler = StandardScaler().fit(x[fit])
        return scaler.transform(x[fit]), scaler.transform(x[~fit])

    def softmax() -> float:
        seen, new = standardised()
        head = LogisticRegression(C=strength, max_iter=1000).fit(seen, label[fit])
        return float((head.predict(new) == label[~fit]).mean())

    def sigmoids() -> float:
        seen, new = standardised()
        of = [c for c in judged if not there[fit, c].all()]
        heads = OneVsRestClassifier(LogisticRegression(C=strength, max_iter=1000)).fit(
            seen, there[fit][:, of]
        )
        scores = np.zeros((len(new), len(KEYS)))
        scores[:, of] = heads.decision_function(new)
        return precision(scores)

    def ours() -> float:
        head = fit_sigmoid(x[fit], np.where(there, YES, NO)[fit], CLASSES, MODEL, penalty=PENALTY)
        return precision(head.logits(x[~fit]))

    return {
        "knn": (lambda: right(knn_scores(x[fit], label[fit], x[~fit], 20)), neighbours),
        "probe": (
            lambda: right(fit_softmax(x[fit], label[fit], CLASSES, MODEL, penalty=PENALTY).logits(x[~fit])),
            softmax,
        ),
        "multilabel": (ours, sigmoids),
    }


def on_maps(folder: Path, rows: pl.DataFrame) -> dict[str, tuple[Work, Work]]:
    """Return what is fitted to feature maps: computed once, or in each epoch."""
    data, n = rows["jpeg"].to_list(), len(rows)
    fit = np.arange(n) % 4 > 0
    objects = read_objects(VOC / "annotations.parquet", classes=CLASSES)
    boxes = [boxes_of(objects, name) for name in rows["image_id"]]
    shapes = [tuple(decode(d).shape[1:]) for d in data]
    masks = [read_mask(m, s) for m, s in zip(rows["mask_png"], shapes, strict=True)]
    backbone = Backbone(find_model(MODEL), SIZE).eval().requires_grad_(False)

    def image(row):
        return backbone.preprocessing(decode(data[row]))

    class Plain(LiveMaps):
        trained = None

        def __init__(self):
            self.live = LiveMaps(backbone, lambda rows: torch.stack([image(r) for r in rows]))

        def __call__(self, rows, mirrored):
            with torch.no_grad():
                return self.live(rows, mirrored)

    def cached():
        return compute_maps(backbone, map(image, range(n)), n, folder / "maps", fit)

    def detector(feed) -> float:
        settings = replace(DetectionSettings(), epochs=EPOCHS)
        found = fit_detector(backbone, feed, np.flatnonzero(fit), boxes, 20, settings, 0)
        held = np.flatnonzero(~fit)
        return coco_metrics([boxes[r] for r in held], detect_objects(found, feed, held), 20)[0]["ap50"]

    def segmenter(feed) -> float:
        settings = replace(SegmentationSettings(), epochs=EPOCHS)
        head = fit_segmenter(backbone, feed, np.flatnonzero(fit), masks, 21, settings, 0)
        counts = count_pixels(head, feed, np.flatnonzero(~fit), masks, 21)
        return float(np.nanmean(class_overlaps(counts)))

    return {
        "detection": (lambda: detector(cached()), lambda: detector(Plain())),
        "segmentation": (lambda: segmenter(cached()), lambda: segmenter(Plain())),
    }


if __name__ == "__main__":
    main()
