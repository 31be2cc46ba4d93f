"""Question: does the rule ``out-of-vocabulary`` find images whose object has no class? Hardly.

It takes errors whose images lie farther from their nearest neighbour than 90 % of all images do. Here the
answer is known: photographs of VOC and COCO whose largest object is of a category without any class
(`OUTSIDE`), against those whose largest object has classes (`INSIDE`). Rules see errors alone, so that of
the latter those count which the network gets wrong. Similar images are looked for among the samples, one
photograph a class, and among VOC's own training photographs of categories with classes, which are hundreds
of each. Predict them first::

    S=../shared/data; M="--model efficientnet-lite0 --embeddings"
    manyhot predict $S/samples/samples.tar --labels $S/samples/index.csv $M --out samples
    manyhot predict $S/voc/images.parquet $M --out voc
    manyhot predict $S/coco/images.parquet $M --out coco
    python benchmarks/vocabulary_rule.py samples voc coco

Time: 10 s. Result: among the samples not better than chance; among many images of each class, weakly.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import common

common.quiet()

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
from scipy.stats import rankdata  # noqa: E402

import manyhot  # noqa: E402
from manyhot.classes import class_list  # noqa: E402
from manyhot.core.error_kinds import (  # noqa: E402
    ErrorContext,
    Errors,
    Hierarchy,
    NeighbourLabels,
    out_of_vocabulary,
    rarity_of,
)
from manyhot.core.sets import NO_LABEL  # noqa: E402
from manyhot.core.share_intervals import wilson_interval  # noqa: E402

DATA = common.REPO.parent / "shared" / "data"
MODEL = "efficientnet-lite0"
AT, RESAMPLES = 0.9, 1000
THINGS = (
    "giraffe",
    "donut",
    "toothbrush",
    "scissors",
    "carrot",
    "cake",
    "sandwich",
    "skateboard",
    "snowboard",
)
OUTSIDE = {
    "voc": {"VOC: person, horse": ("person", "horse"), "VOC: person": ("person",), "VOC: horse": ("horse",)},
    "coco": {"COCO: person, horse, things": ("person", "horse", "kite", *THINGS)},
}
"""Categories without a class. The only horse of ImageNet is the sorrel, as a chestnut one may be called."""

INSIDE = {
    "dog": ("n02084071",),
    "cat": ("n02121808",),
    "car": ("n02958343",),
    "bus": ("n02924116",),
    "train": ("n02917067", "n03272562", "n04310018", "n03895866", "n04335435", "n03393912"),
    "aeroplane": ("n02691156",),
    "airplane": ("n02691156",),
    "boat": ("n02858304", "n02951358", "n03447447"),
    "bird": ("n01503061",),
    "bicycle": ("n02834778",),
    "bear": ("n02131653",),
    "elephant": ("n02503517", "n01871265"),
    "zebra": ("n02391049",),
    "laptop": ("n03642806", "n03832673"),
    "banana": ("n07753592",),
    "pizza": ("n07873807",),
    "dining table": ("n03201208",),
    "refrigerator": ("n04070727",),
    "sink": ("n04553703",),
    "bench": ("n03891251",),
    "umbrella": ("n04507155",),
    "clock": ("n03046257",),
    "teddy bear": ("n04399382",),
    "traffic light": ("n06874185",),
    "parking meter": ("n03891332",),
}
"""Categories, and the nodes of WordNet beneath which their classes lie."""


HEAD = ("outside", "index", "outside, inside, inside wrong", "AUROC, all", "AUROC, errors", "by confidence")
HEAD += ("outside taken", "inside wrong taken")


def paths():
    """Return for each class its own key and those above it."""
    known = class_list()
    return [(key, *(h.split()[0] for h in ups)) for key, ups in zip(known.keys, known.hypernyms, strict=True)]


def answers():
    """Return for each category which classes are right, as a set."""
    above = [set(path) for path in paths()]
    return {c: {i for i, path in enumerate(above) if path & set(nodes)} for c, nodes in INSIDE.items()}


def embedded(folder):
    """Return ids, unit vectors, predicted classes and their confidence."""
    read = manyhot.read_predictions(folder / f"{MODEL}.parquet")
    vectors = np.load(folder / "embeddings" / f"{MODEL}.npy").astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return read.image_id.to_pylist(), vectors, read.classes[:, 0].astype(np.int32), read.confidence()[:, 0]


def nearest(vectors, index, k=10):
    """Return the rows of the k nearest images of the index, and how near the nearest is."""
    similarity = vectors @ index.T
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return order, similarity[np.arange(len(vectors)), order[:, 0]].astype(np.float64)


def auroc(score, positive):
    """Return the area under the curve and its 95 % interval over resampled images."""

    def area(rows):
        ranks, yes = rankdata(score[rows]), positive[rows]
        n = np.count_nonzero(yes)
        return (ranks[yes].sum() - n * (n + 1) / 2) / (n * (len(rows) - n))

    rng = np.random.default_rng(0)
    p, q = np.flatnonzero(positive), np.flatnonzero(~positive)
    drawn = [area(np.concatenate([rng.choice(p, len(p)), rng.choice(q, len(q))])) for _ in range(RESAMPLES)]
    lo, hi = np.quantile(drawn, (0.025, 0.975))
    return f"{area(np.arange(len(score))):.2f} ({lo:.2f} to {hi:.2f})"


def share(hits):
    lo, hi = (float(end[0]) for end in wilson_interval([int(hits.sum())], [len(hits)]))
    return f"{hits.mean():.1%} ({lo:.0%} to {hi:.0%})"


def taken(predicted, neighbours, closest):
    """Return which images the rule takes, by its code; without labels of neighbours the rare ones."""
    if neighbours is None:
        return rarity_of(closest) >= AT
    n = len(predicted)
    known = ErrorContext(
        len(class_list()),
        np.full(n, NO_LABEL, np.int32),
        np.zeros(n + 1, np.int64),
        np.empty(0, np.int32),
        hierarchy=Hierarchy.of(paths()),
        neighbours=NeighbourLabels(neighbours, rarity_of(closest)),
    )
    state, unknown = np.zeros(n, np.uint8), np.full(n, np.nan, np.float32)
    return out_of_vocabulary(Errors(known, np.arange(n), predicted, state, unknown), rarity=AT).fits


def row(name, index, outside, wrong, confidence, closest, found):
    errors = outside | wrong
    cells = [
        name,
        index,
        f"{outside.sum():,}, {(~outside).sum():,}, {wrong.sum():,}",
        auroc(-closest, outside),
    ]
    cells += [auroc(-score[errors], outside[errors]) for score in (closest, confidence)]
    return [*cells, share(found[outside]), share(found[wrong])]


def rows_of(name, folder, samples):
    """Yield the rows of the table of one data set."""
    right = answers()
    ids, vectors, predicted, confidence = embedded(folder)
    told = pl.read_parquet(DATA / name / "images.parquet").rows_by_key("image_id", named=True, unique=True)
    category = np.array([told[i]["label_largest"] for i in ids])
    inside = np.isin(category, list(right))
    wrong = np.array([c in right and p not in right[c] for c, p in zip(category, predicted, strict=True)])
    train = np.array([told[i].get("split") == "train" for i in ids])
    for called, some in OUTSIDE[name].items():
        outside = np.isin(category, some)
        kept = np.flatnonzero(outside | inside)
        near, closest = nearest(vectors[kept], samples[0])
        found = taken(predicted[kept], samples[1][near], closest)
        yield row(called, "samples", *(x[kept] for x in (outside, wrong, confidence)), closest, found)
        if not train.any():
            continue
        kept = np.flatnonzero((outside | inside) & ~train)
        _, closest = nearest(vectors[kept], vectors[inside & train])
        found = taken(predicted[kept], None, closest)
        yield row(called, "VOC", *(x[kept] for x in (outside, wrong, confidence)), closest, found)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for folder in ("samples", "voc", "coco"):
        parser.add_argument(folder, type=Path)
    arguments = parser.parse_args()
    ids, index, _, _ = embedded(arguments.samples)
    images = manyhot.read_images(arguments.samples / "images.parquet")
    label = dict(zip(images.image_id.to_pylist(), images.label.to_pylist(), strict=True))
    samples = index, np.array([label[i] for i in ids])
    print(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}")
    for name in OUTSIDE:
        for cells in rows_of(name, getattr(arguments, name), samples):
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
