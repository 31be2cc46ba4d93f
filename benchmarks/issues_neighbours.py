"""Do similar images help to find label errors? CIFAR-10 with wrong labels, VOC with labels taken away.

Needs the features that ``benchmarks/heads.py`` says how to make::

    python benchmarks/issues_neighbours.py features

It prints tables of label-issues.md, in two minutes. Predictions are out of fold: five heads, each
fitted on the changed labels of four fifths. Neighbours are the ten nearest images by the same features.
``--sheet FILE`` draws the fifty original labels of CIFAR-10 that are doubted most, to look at.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import common

common.quiet()

import heads  # noqa: E402
import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from cleanlab.rank import get_label_quality_scores  # noqa: E402
from issues import at, table  # noqa: E402
from PIL import Image, ImageDraw  # noqa: E402
from sklearn.metrics import average_precision_score  # noqa: E402

import manyhot  # noqa: E402
from manyhot.predict.embeddings import Embedded  # noqa: E402
from manyhot.predict.similar import similar  # noqa: E402

FOLDS, SEEDS, SHARE, STRENGTH = 5, 3, 0.05, (3e-3,)
NEAR = {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"}
WEIGHTS = (0, 0.25, 0.5, 1)


def out_of_fold(data, wanted):
    """Return the probabilities of each image by a head that was not fitted on it."""
    found = np.empty((len(wanted), len(data.classes)), np.float32)
    fold = np.random.default_rng(0).permutation(len(wanted)) % FOLDS
    for f in range(FOLDS):
        fit, rest = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        found[rest] = heads.probabilities(data, wanted, fit, rest, STRENGTH)
    return found


def predictions(data, p):
    c = len(data.classes)
    return manyhot.Predictions(
        data.images["image_id"], "head", scores=p, score_kind="probability", n_classes=c
    )


def neighbours(data):
    """Return the ten nearest images of each image, whatever their class."""
    c = len(data.classes)
    blank = predictions(data, np.full((len(data.images), c), 1 / c, np.float32))
    return similar(Embedded(blank, data.vectors, labelled(data, data.label)), among="any").table


def labelled(data, label):
    columns = {"image_id": data.images["image_id"], "label": pa.array(label, pa.int32())}
    return manyhot.Images(pa.table(columns))


def made_wrong(data, how, rng):
    """Return labels of which a share is wrong, and which."""
    label, number = data.label.copy(), {key: c for c, key in enumerate(data.classes.keys)}
    near = {number[a]: number[b] for a, b in NEAR.items()}
    able = np.flatnonzero(np.isin(label, list(near)) | (how == "any class"))
    flipped = rng.choice(able, round(SHARE * len(label)), replace=False)
    if how == "any class":
        label[flipped] = (label[flipped] + rng.integers(1, len(number), len(flipped))) % len(number)
    else:
        label[flipped] = [near[y] for y in label[flipped]]
    return label, np.isin(np.arange(len(label)), flipped)


def doubtful(data, label, p, near):
    """Return the evidence of models and of neighbours against each label; NaN without neighbours."""
    changed = labelled(data, label)
    options = {} if near is None else {"similar": near, "neighbours": changed}
    issues = manyhot.find_label_issues(
        changed, [predictions(data, p)], min_doubtful=0, min_missing=1, **options
    )
    found = issues.of_kind("doubtful-label")
    place = {image: row for row, image in enumerate(data.images["image_id"].to_pylist())}
    rows = [place[image] for image in found["image_id"].to_pylist()]
    evidence = np.empty((2, len(label)))
    evidence[:, rows] = found["models"].to_numpy(), found["neighbours"].to_numpy()
    return evidence


def cifar10(folder):
    """Print how well labels that were made wrong are found."""
    data = heads.cifar10(folder / "cifar10")
    near, k = neighbours(data), (100, 300, 600)
    for how in ("any class", "a class like it"):
        rows = {}
        for seed in range(SEEDS):
            label, wrong = made_wrong(data, how, np.random.default_rng(seed))
            p = out_of_fold(data, label)
            models, similar_images = doubtful(data, label, p, near)
            scores = {
                f"ours, weight of neighbours {w:g}": (1 - w) * models + w * similar_images for w in WEIGHTS
            }
            for method in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
                scores[f"cleanlab, {method}"] = 1 - get_label_quality_scores(label, p, method=method)
            for name, score in scores.items():
                order = np.argsort(-score, kind="stable")
                found = [np.mean(wrong[order[:n]]) for n in k]
                rows.setdefault(name, []).append([*found, average_precision_score(wrong, score)])
        print(f"\nCIFAR-10, 12,000 images, 600 labels made {how}; mean of {SEEDS} draws (and least, most):")
        table(
            ("by", *(f"first {n}" for n in k), "average precision"),
            [(name, *map(told, zip(*r, strict=True))) for name, r in rows.items()],
        )


def told(values):
    return f"{np.mean(values):.1%} ({min(values):.1%}, {max(values):.1%})"


def voc(folder):
    """Print how well labels that were taken away are found: all but that of the largest object."""
    data = heads.voc(folder / "voc")
    single = labelled(data, data.label)
    near, n, c = neighbours(data), len(data.label), len(data.classes)
    one_hot = np.eye(c, dtype=int)[data.label]
    absent = (data.state == heads.YES) & (one_hot == 0)
    judged = (data.state != heads.UNCLEAR) & (one_hot == 0)
    print(f"\nVOC, {n:,} images, {absent.sum():,} labels taken away, {judged.sum():,} cells:")
    rows = []
    sets = (data.state == heads.YES).astype(int)
    for name, wanted in (
        ("softmax of the label", data.label),
        ("sigmoids of the label", one_hot),
        ("sigmoids of the label set", sets),
    ):
        p = out_of_fold(data, wanted)
        scores = missing(data, single, p, near)
        scores["scores as they are"] = p
        for way, score in scores.items():
            order = np.argsort(-score[judged], kind="stable")
            right = absent[judged][order]
            rows.append(
                (
                    name,
                    way,
                    *at(right, (100, 500, 1000)),
                    f"{average_precision_score(absent[judged], score[judged]):.1%}",
                )
            )
    table(("head", "by", "first 100", "first 500", "first 1,000", "average precision"), rows)


def missing(data, single, p, near):
    found = manyhot.find_label_issues(
        single, [predictions(data, p)], min_doubtful=1, min_missing=0, similar=near, neighbours=single
    ).of_kind("missing-label")
    place = {image: row for row, image in enumerate(data.images["image_id"].to_pylist())}
    cells = [place[image] for image in found["image_id"].to_pylist()], found["class_b"].to_numpy()
    models, similar_images = np.zeros(p.shape), np.zeros(p.shape)
    models[cells] = found["models"].to_numpy()
    similar_images[cells] = np.nan_to_num(found["neighbours"].to_numpy())  # none of classes no label has
    return {f"weight of neighbours {w:g}": (1 - w) * models + w * similar_images for w in WEIGHTS}


def sheet(folder, file):
    """Draw the original labels that are doubted most, each with its label and with what the head sees."""
    data = heads.cifar10(folder / "cifar10")
    pictures = pq.read_table(heads.DATA / "cifar10" / "cifar10_subset.parquet")["jpeg"]
    p = out_of_fold(data, data.label)
    worst = np.argsort(-doubtful(data, data.label, p, None)[0], kind="stable")[:50]
    drawn = Image.new("RGB", (10 * 128, 5 * 150), "white")
    for n, row in enumerate(worst.tolist()):
        at = n % 10 * 128, n // 10 * 150
        drawn.paste(Image.open(io.BytesIO(pictures[row].as_py())).resize((124, 124)), at)
        names = data.classes.keys[data.label[row]], data.classes.keys[p[row].argmax()]
        ImageDraw.Draw(drawn).text((at[0], at[1] + 125), "{}\n  {}".format(*names), fill="black")
    drawn.save(file)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "features", type=Path, help="folder that holds voc and cifar10, as predict wrote them"
    )
    parser.add_argument("--sheet", type=Path)
    arguments = parser.parse_args()
    voc(arguments.features)
    cifar10(arguments.features)
    if arguments.sheet:
        sheet(arguments.features, arguments.sheet)


if __name__ == "__main__":
    main()
