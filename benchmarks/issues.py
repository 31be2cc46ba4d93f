"""Label issues against human verdicts and against labels that were made wrong: precision at k.

``python benchmarks/issues.py`` prints the tables of ``label-issues.md`` that need published files alone.
With photographs predicted by EfficientNet-Lite it adds those on real scores::

    manyhot predict ../shared/data/samples/samples.tar --labels ../shared/data/samples/index.csv \
        --model efficientnet-lite0 --model efficientnet-lite1 --model efficientnet-lite2 \
        --out samples
    python benchmarks/issues.py --samples samples
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import common

common.quiet()

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402

import manyhot  # noqa: E402
from manyhot.classes import class_list  # noqa: E402
from manyhot.core.ensembles import mean_probabilities  # noqa: E402
from manyhot.diagnose.evidence import COLLAPSED  # noqa: E402
from manyhot.reassess.ensemble import ensemble_of  # noqa: E402
from manyhot.tables import Images  # noqa: E402
from manyhot.tables.arrays import label_sets  # noqa: E402

IMAGENET = manyhot.Reading(n_classes=1000)
AT = (100, 500, 1000, 5000)
SOME = ("alexnet", "resnet50", "pnasnet_large_tf")
FLIPPED, SEEDS = 50, 5
VERDICTS = Path(__file__).with_name("sorted_samples_blind.csv")


def table(head, rows):
    print(f"\n| {' | '.join(head)} |\n| {' | '.join('---' for _ in head)} |")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")


def at(right, ks=AT):
    """Return the share that is right among the first k, as text."""
    return [f"{np.mean(right[:k]):.1%}" if len(right) >= k else "–" for k in ks]


def against_real():
    """Print precision at k of rank-only models against ReaL's label sets."""
    labels, rows = common.validation()
    sets = label_sets(labels)
    place = {image: i for i, image in enumerate(labels.image_id.to_pylist())}
    predictions = [p for _, p in common.models(rows)]
    label = dict(zip(rows.image_id.to_pylist(), rows.label.to_pylist(), strict=True))
    full = {image for image, i in place.items() if sets.size[i]}
    valid = {image: set() for image in full}
    for i, c in zip(sets.rows, sets.classes, strict=True):
        valid[labels.image_id[int(i)].as_py()].add(int(c))
    wrong = sum(label[image] not in valid[image] for image in full)
    absent = sum(len(valid[image] - {label[image]}) for image in full)
    print(
        f"{len(full):,} images have a label set. {wrong:,} of their original labels "
        f"({wrong / len(full):.1%}) are not in the label set, and the label sets "
        f"contain {absent:,} other labels."
    )
    chosen = [("67 models", predictions)]
    chosen += [(name, [p for p in predictions if p.model == name]) for name in SOME]
    doubts, missing = [], []
    for name, models in chosen:
        found = manyhot.find_label_issues(rows, models, min_doubtful=0, min_missing=0.01, reading=IMAGENET)
        for kind, into, total in (("doubtful-label", doubts, wrong), ("missing-label", missing, absent)):
            listed = found.of_kind(kind).select(["image_id", "class_b"]).to_pydict()
            pairs = [p for p in zip(listed["image_id"], listed["class_b"], strict=True) if p[0] in full]
            right = np.array(
                [label[i] not in valid[i] if into is doubts else c in valid[i] for i, c in pairs], float
            )
            into.append((name, *at(right), f"{right[:5000].sum() / total:.1%}"))
    head = [*(f"first {k:,}" for k in AT), "found in 5,000"]
    table(("doubtful labels", *head), doubts)
    table(("missing labels", *head), missing)
    merges(rows, predictions, labels)


def merges(rows, predictions, labels):
    """Print which pairs of classes are found, beside those that experts collapse."""
    classes, pairs = class_list(), {frozenset(p) for p in COLLAPSED}
    print(f"\nVasudevan et al. collapse {len(pairs)} pairs of classes.")
    lines = []
    for name, votes in (("67 models", None), ("67 models and ReaL", labels)):
        found = manyhot.find_label_issues(
            rows, predictions, confirmed_labels=votes, reading=IMAGENET
        ).of_kind("merge-classes")
        listed = list(zip(found["class_a"].to_pylist(), found["class_b"].to_pylist(), strict=True))
        theirs = [frozenset((classes.keys[a], classes.keys[b])) in pairs for a, b in listed]
        others = [
            f"{classes.names[a]} + {classes.names[b]}"
            for (a, b), t in zip(listed, theirs, strict=True)
            if not t
        ]
        lines.append((name, len(listed), sum(theirs), "; ".join(others)))
    table(("evidence", "pairs found", "of theirs", "others"), lines)


def with_wrong_labels(folder):
    """Print precision at k on photographs some of whose labels were made wrong."""
    from cleanlab.rank import get_label_quality_scores

    images = manyhot.read_images(folder / "images.parquet")
    read = [manyhot.read_predictions(p) for p in sorted(folder.glob("efficientnet-lite*.parquet"))]
    truth = images.label.to_numpy()
    ensemble = ensemble_of(images, read, 1000, "")
    dense = np.concatenate([part for _, part in mean_probabilities(ensemble, np.ones(len(read)))])
    paths = class_list().hypernyms
    parent = np.array([path[0] if path else "" for path in paths])
    for how in ("any class", "a class of the same parent"):
        sums = {}
        for seed in range(SEEDS):
            rng = np.random.default_rng(seed)
            label, flipped = truth.copy(), np.zeros(len(truth), bool)
            for i in rng.permutation(len(truth)):
                others = np.flatnonzero(parent == parent[truth[i]]) if how != "any class" else np.arange(1000)
                others = others[others != truth[i]]
                if len(others) and flipped.sum() < FLIPPED:
                    label[i], flipped[i] = rng.choice(others), True
            changed = Images(pa.table({"image_id": images.image_id, "label": pa.array(label, pa.int32())}))
            for name, models in (("Lite0", read[:1]), ("Lite0, 1, 2", read)):
                found = manyhot.find_label_issues(changed, models, min_doubtful=0, reading=IMAGENET)
                ids = found.of_kind("doubtful-label")["image_id"].to_pylist()
                order = [images.image_id.index(i).as_py() for i in ids]
                sums.setdefault(name, []).append(flipped[order])
            for method in ("normalized_margin", "self_confidence", "confidence_weighted_entropy"):
                quality = get_label_quality_scores(label, dense, method=method)
                order = np.argsort(quality, kind="stable")
                sums.setdefault(f"cleanlab, {method}", []).append(flipped[order])
        print(f"\n{FLIPPED} of {len(truth):,} labels made {how}, mean of {SEEDS} draws:")
        means = [(name, *at(np.mean(r, axis=0), (10, 25, 50, 100, 200))) for name, r in sums.items()]
        table(("by", *(f"first {k}" for k in (10, 25, 50, 100, 200))), means)


def by_eye(folder):
    """Print how many predictions of a hundred errors are there, by their score as missing labels."""
    images = manyhot.read_images(folder / "images.parquet")
    read = [manyhot.read_predictions(p) for p in sorted(folder.glob("efficientnet-lite*.parquet"))]
    with VERDICTS.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    right = ("valid-label", "collapsed-pair")
    seen = {(r["image_id"], int(r["predicted"])): r["by_eye"] in right for r in rows}
    found = (
        manyhot.find_label_issues(images, read, min_missing=0, reading=IMAGENET)
        .of_kind("missing-label")
        .to_pydict()
    )
    order = [p for p in zip(found["image_id"], found["class_b"], strict=True) if p in seen]
    print("\nPredictions of a hundred errors by their score as missing labels; there by eye:")
    cells = (f"{sum(seen[p] for p in order[:k])} of {k}" for k in (10, 25, 50, len(order)))
    table(("first 10", "first 25", "first 50", "all"), [tuple(cells)])


def seconds():
    """Print how long the search takes on 67 models of 50,000 images."""
    labels, rows = common.validation()
    predictions = [p for _, p in common.models(rows)]
    spent = common.cpu_median(
        lambda: manyhot.find_label_issues(rows, predictions, confirmed_labels=labels, reading=IMAGENET)
    )
    begun = time.perf_counter()
    manyhot.find_label_issues(rows, predictions, confirmed_labels=labels, reading=IMAGENET)
    print(f"\n67 models, 50,000 images: {spent:.2f} CPU seconds, {time.perf_counter() - begun:.2f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=Path, help="folder that manyhot predict wrote")
    parser.add_argument("--time", action="store_true")
    arguments = parser.parse_args()
    against_real()
    if arguments.samples:
        with_wrong_labels(arguments.samples)
        by_eye(arguments.samples)
    if arguments.time:
        seconds()


if __name__ == "__main__":
    main()
