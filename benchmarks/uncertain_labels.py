r"""Does the evaluation of predictive uncertainty depend on the labels? The tables of uncertainty.md.

    python benchmarks/uncertain_labels.py cifar
    python benchmarks/uncertain_labels.py ranks
    python benchmarks/uncertain_labels.py voc FEATURES

``cifar``: out-of-fold probabilities for CIFAR-10's 10,000 test images (cleanlab's label-errors) with the
counts of people's answers (CIFAR-10H); ``ranks``: the top classes of 67 published networks with ReaL's label
sets. Both read the archive beside the repository, and take seconds.

``voc``: heads on features of VOC photographs, fitted on 1,200 and evaluated on 1,095, with COCO photographs
as out-of-distribution images. The features, which take a few minutes::

    python benchmarks/uncertain_labels.py photographs voc.parquet
    manyhot predict voc.parquet --model efficientnet-lite0 --embeddings --out FEATURES/voc
    manyhot predict ../shared/data/coco/images.parquet --model efficientnet-lite0 --embeddings \
        --out FEATURES/coco
"""

from __future__ import annotations

import argparse
import io
import zipfile
from pathlib import Path

import common

common.quiet()

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

import manyhot  # noqa: E402
from manyhot.classes import from_keys  # noqa: E402
from manyhot.core.conformal import expected_coverage  # noqa: E402
from manyhot.core.sets import NO, UNCLEAR, YES  # noqa: E402
from manyhot.evaluate.confidence import split_for_sets  # noqa: E402

SHARED = common.REPO.parent / "shared"
RAW = "raw.githubusercontent.com"
ERRORS = f"{RAW}/cleanlab/label-errors/6d5d6b31a13216290afc40e5c6319399c4d15c06"
COUNTS = f"{RAW}/jcpeterson/cifar-10h/48da312b193b82e6939ec20f23d1f09cbdd849c8/data/cifar10h-counts.npy"
CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
VOC = """aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person
pottedplant sheep sofa train tvmonitor"""
OF_COCO = {
    "airplane": "aeroplane",
    "motorcycle": "motorbike",
    "dining table": "diningtable",
    "potted plant": "pottedplant",
    "couch": "sofa",
    "tv": "tvmonitor",
}
METRICS = ("top1", "real1", "ece", "ece_set", "error_auroc", "error_auroc_set", "aurc", "aurc_set")
TRAINED, MEMBERS, PASSES, RATE = 1200, 5, 50, 0.5
LEAST = 0.1
"""A class is in the label set of a CIFAR-10 image if at least this share of people chose it."""


def array(path):
    with zipfile.ZipFile(SHARED / "mirror.zip") as archive:
        return np.load(io.BytesIO(archive.read(path)), allow_pickle=False)


def ids_of(n):
    return pa.array([f"{i:05}" for i in range(n)])


def print_metrics(labels, models):
    """Print a table of both versions of each metric, with intervals and the numbers of images."""
    found = manyhot.evaluate(labels, models, metrics=METRICS, map_resamples=200).results.to_pylist()
    rows = {(r["model"], r["metric"]): r for r in found if r["slice"] == "all"}
    print("| | by label | by label set |\n| --- | --- | --- |")
    for model in models:
        for label, by_set in zip(METRICS[::2], METRICS[1::2], strict=True):
            cells = " | ".join(cell(rows[model.model, metric]) for metric in (label, by_set))
            print(f"| {model.model}: `{label}` | {cells} |")


def cell(row):
    ends = "" if row["lo"] is None else f" ({row['lo']:.3f} to {row['hi']:.3f})"
    return f"{row['value']:.3f}{ends}, n {row['n']:,}"


def cifar():
    p = array(f"{ERRORS}/cross_validated_predicted_probabilities/cifar10_test_set_pyx.npy").astype(np.float32)
    label = array(f"{ERRORS}/original_test_labels/cifar10_test_set_original_labels.npy").astype(np.int32)
    counts = array(COUNTS)
    shares = counts / counts.sum(axis=1, keepdims=True)
    n, c = shares.shape
    classes = from_keys(CIFAR10.split(), "cifar10")
    chosen = [np.flatnonzero(row) for row in shares]
    table = pa.table(
        {
            "image_id": ids_of(n),
            "label": label,
            "rated": [True] * n,
            "usable": [True] * n,
            "classes": [list(map(int, s)) for s in chosen],
            "state": [
                ["yes" if p >= LEAST else "no" for p in row[s]] for row, s in zip(shares, chosen, strict=True)
            ],
            "p": [row[s].tolist() for row, s in zip(shares, chosen, strict=True)],
        }
    )
    labels = manyhot.Labels(table, c, classes.hash, asked_known=True, name="cifar10")
    net = manyhot.Predictions(
        ids_of(n), "out of fold", scores=p, score_kind="probability", n_classes=c, class_hash=classes.hash
    )
    several = np.mean([(row >= LEAST).sum() > 1 for row in shares])
    print(f"{n:,} images; several classes with at least {LEAST:.0%} of the answers: {several:.1%}")
    print_metrics(labels, [net])
    for alpha in (0.1, 0.05):
        print_sets(labels, net, alpha)
    for precision in (0.95, 0.99):
        print("\n".join(manyhot.diagnose_sets(labels, [net], precision=precision).lines()))


def print_sets(labels, net, alpha):
    """Print sets that are fitted to labels and to people's answers, and how often they cover an answer."""
    case, chosen = split_for_sets(labels, net, fit=0.5, seed=0)
    print(f"\nalpha {alpha}\n| fitted to | coverage of that | coverage of an answer | mean size |")
    print("| --- | --- | --- | --- |")
    for cover in ("label", "drawn", "drawn_all"):
        found = manyhot.conformal(labels, net, cover=cover, alpha=alpha)
        rest = np.flatnonzero(~chosen)
        people = expected_coverage(case, rest, cover="drawn", threshold=found.threshold).mean()
        ends = f"({found.lo:.1%} to {found.hi:.1%}), n {found.n:,}"
        print(f"| {cover} | {found.coverage:.1%} {ends} | {people:.1%} | {found.mean_size:.2f} |")


def ranks():
    labels, rows = common.validation()
    votes, n_models = 0.0, 0
    for _, model in common.models(rows):
        best = np.zeros((len(model.image_id), model.n_classes), np.float32)
        best[np.arange(len(best)), model.classes[:, 0]] = 1
        votes, n_models, last = votes + best, n_models + 1, model
    shares = manyhot.Predictions(
        last.image_id,
        f"share of {n_models} networks",
        scores=votes / n_models,
        score_kind="probability",
        n_classes=last.n_classes,
        class_hash=last.class_hash,
    )
    print_metrics(labels, [shares])


def photographs(path):
    """Write the photographs of VOC that are predicted."""
    images = pq.read_table(SHARED / "data" / "voc" / "images.parquet")
    split = np.array(images["split"].to_pylist())
    train = np.random.default_rng(0).permutation(np.flatnonzero(split == "train"))[:TRAINED]
    chosen = np.sort(np.concatenate([train, np.flatnonzero(split == "test")]))
    pq.write_table(images.take(chosen), path)


def voc(features):
    classes = from_keys(VOC.split(), "voc")
    number = {key: i for i, key in enumerate(classes.keys)}
    ids, x = embedded(features / "voc")
    known = by_id(SHARED / "data" / "voc" / "images.parquet", ids)
    label = np.array([number[row["label_largest"]] for row in known], np.int32)
    train = np.array([row["split"] == "train" for row in known])
    state = states(known, lambda row: row["labels"], lambda row: row["difficult_labels"], number)
    heads = fitted(x[train], label[train], classes)
    labels = labels_of(ids[~train], label[~train], state[~train], classes, "voc")
    print(f"fitted on {train.sum():,} images, evaluated on {(~train).sum():,}")
    models = [predicted(name, ids[~train], head(x[~train]), classes) for name, head in heads.items()]
    print_metrics(labels, models)
    other_ids, y = embedded(features / "coco")
    others = by_id(SHARED / "data" / "coco" / "images.parquet", other_ids)
    shown = [[OF_COCO.get(name, name) for name in row["labels"]] for row in others]
    coco = np.full((len(others), len(classes)), NO)
    for i, names in enumerate(shown):
        coco[i, [number[name] for name in names if name in number]] = YES
    ood = labels_of(other_ids, None, coco, classes, "coco")
    theirs = [predicted(name, other_ids, head(y), classes) for name, head in heads.items()]
    found = manyhot.diagnose_ood(labels, models, ood=ood, ood_predictions=theirs)
    print("\n".join(found.lines()))


def embedded(folder):
    found = manyhot.read_predictions(folder / "efficientnet-lite0.parquet")
    return np.array(found.image_id.to_pylist()), np.load(folder / "embeddings" / "efficientnet-lite0.npy")


def by_id(path, ids):
    table = pq.read_table(path)
    rows = {row["image_id"]: row for row in table.drop_columns(["jpeg"]).to_pylist()}
    return [rows[i] for i in ids]


def states(known, yes, unclear, number):
    found = np.full((len(known), len(number)), NO)
    for i, row in enumerate(known):
        found[i, [number[name] for name in unclear(row)]] = UNCLEAR
        found[i, [number[name] for name in yes(row)]] = YES
    return found


def labels_of(ids, label, state, classes, name):
    names = np.array(["", "no", "unclear", "yes"])
    table = {
        "image_id": ids,
        "rated": [True] * len(ids),
        "usable": [True] * len(ids),
        "classes": [list(range(len(classes)))] * len(ids),
        "state": names[state].tolist(),
    }
    if label is not None:
        table["label"] = label
    return manyhot.Labels(pa.table(table), len(classes), classes.hash, asked_known=True, name=name)


def predicted(name, ids, p, classes):
    return manyhot.Predictions(
        pa.array(ids.tolist()),
        name,
        scores=p.astype(np.float32),
        score_kind="probability",
        n_classes=len(classes),
        class_hash=classes.hash,
    )


def fitted(x, label, classes):
    """Return functions from features to probabilities: one head, an ensemble, and one head with dropout."""
    from manyhot.train.heads import fit_softmax

    one = fit_softmax(x, label, classes, "efficientnet-lite0")
    rng = np.random.default_rng(0)
    members = []
    for _ in range(MEMBERS):
        weights = np.bincount(rng.integers(0, len(x), len(x)), minlength=len(x))
        members.append(
            fit_softmax(x, label, classes, "efficientnet-lite0", weights=weights, penalty=one.penalty)
        )
    dropping = fit_softmax(x, label, classes, "efficientnet-lite0", penalty=one.penalty, dropout=RATE)
    return {
        "one head": one.probabilities,
        f"ensemble of {MEMBERS} heads": lambda y: np.mean([m.probabilities(y) for m in members], axis=0),
        "head fitted with dropout": dropping.probabilities,
        f"its {PASSES} passes with dropout": lambda y: passes(dropping, y),
    }


def passes(head, features):
    """Return the mean probabilities over passes, as ``dropout:head:FILE`` does, from features."""
    import torch

    from manyhot.predict.adapters.dropout import pass_masks, switch_on
    from manyhot.predict.adapters.trained import head_layer

    layer, x, total = head_layer(head), torch.from_numpy(features.astype(np.float32)), 0.0
    switch_on(layer)
    with torch.inference_mode():
        for number in range(PASSES):
            with pass_masks(0, number):
                total = total + layer(x).double().softmax(1).numpy()
    return total / PASSES


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["cifar", "ranks", "voc", "photographs"])
    parser.add_argument("path", type=Path, nargs="?", help="the folder of features, or a file to write")
    arguments = parser.parse_args()
    if arguments.what in ("cifar", "ranks"):
        (cifar if arguments.what == "cifar" else ranks)()
        return
    if arguments.path is None:
        parser.error("name the folder of features, or the file to write")
    (voc if arguments.what == "voc" else photographs)(arguments.path)


if __name__ == "__main__":
    main()
