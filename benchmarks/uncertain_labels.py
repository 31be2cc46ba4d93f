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

The heads are written to FEATURES/heads, and pages to FEATURES/ood. Averages of any photographs::

    manyhot predict PHOTOS --model 'ensemble:head:FEATURES/heads/one[1-5].safetensors' --out OUT
    manyhot predict PHOTOS --model 'dropout:head:FEATURES/heads/dropping.safetensors(passes=50)' --out OUT
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
from manyhot.core.ood import auroc, confidence_scores  # noqa: E402
from manyhot.core.sets import NO, UNCLEAR, YES  # noqa: E402
from manyhot.core.uncertainty import Average, uncertainty_of  # noqa: E402
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
    heads = fitted(x[train], label[train], state[train], classes, features / "heads")
    labels = labels_of(ids[~train], label[~train], state[~train], classes, "voc")
    print(f"fitted on {train.sum():,} images, evaluated on {(~train).sum():,}")
    models = [predicted(name, ids[~train], members(x[~train]), classes) for name, members in heads.items()]
    print_metrics(labels, models)
    print_errors(labels, models)
    other_ids, y = embedded(features / "coco")
    others = by_id(SHARED / "data" / "coco" / "images.parquet", other_ids)
    shown = [[OF_COCO.get(name, name) for name in row["labels"]] for row in others]
    coco = np.full((len(others), len(classes)), NO)
    for i, names in enumerate(shown):
        coco[i, [number[name] for name in names if name in number]] = YES
    ood = labels_of(other_ids, None, coco, classes, "coco")
    theirs = [predicted(name, other_ids, members(y), classes) for name, members in heads.items()]
    found = manyhot.diagnose_ood(labels, models, ood=ood, ood_predictions=theirs)
    manyhot.diagnose_sets(labels, models, precision=0.9).write(features / "ood")
    found.write(features / "ood")
    print("\n".join(found.lines()))


def print_errors(labels, models):
    """Print how well entropy and mutual information tell errors, by the label and by label sets."""
    print("\nAUROC of errors\n| | score | by label | by label set |\n| --- | --- | --- | --- |")
    for model in models:
        case, _ = split_for_sets(labels, model, fit=0.5, seed=0)
        right = case.labels.label == case.top[:, 0], case.hit[:, 0]
        counts = [case.labels.labelled & case.labels.usable, case.labels.scored]
        several, exclusive = case.uncertainty is not None, "sigmoid" not in model.model
        possible = {"confidence": True, "entropy": several or exclusive, "mutual_information": several}
        for score in (name for name, has in possible.items() if has):
            sure = confidence_scores(case, score)
            cells = [
                auroc_cell(auroc(sure[n & r], sure[n & ~r]), n, r) for r, n in zip(right, counts, strict=True)
            ]
            print(f"| {model.model} | {score} | {' | '.join(cells)} |")


def auroc_cell(found, counted, right):
    wrong = int((counted & ~right).sum())
    return f"{found.value:.3f} ({found.lo:.3f} to {found.hi:.3f}), {wrong:,} errors of {counted.sum():,}"


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


def predicted(name, ids, members, classes):
    """Return the average of members, of which "sigmoid" in the name says that classes are independent."""
    multilabel = "sigmoid" in name
    average = Average.of(members, multilabel=multilabel)
    found = uncertainty_of(average.mean, average.mutual_information, multilabel=multilabel)
    return manyhot.Predictions(
        pa.array(ids.tolist()),
        name,
        scores=average.mean.astype(np.float32),
        score_kind="probability",
        n_classes=len(classes),
        class_hash=classes.hash,
        uncertainty=found if len(members) > 1 else None,
    )


def fitted(x, label, state, classes, folder):
    """Return functions from features to the probabilities of members, and write all heads to a folder."""
    from manyhot.predict.weights import write_head
    from manyhot.train.heads import fit_sigmoid, fit_softmax

    def of(heads):
        return lambda y: [head.probabilities(y) for head in heads]

    name = "efficientnet-lite0"
    one, several = fit_softmax(x, label, classes, name), fit_sigmoid(x, state, classes, name)
    rng = np.random.default_rng(0)
    draws = [np.bincount(rng.integers(0, len(x), len(x)), minlength=len(x)) for _ in range(MEMBERS)]
    ones = [fit_softmax(x, label, classes, name, weights=w, penalty=one.penalty) for w in draws]
    sets = [fit_sigmoid(x, state, classes, name, weights=w, penalty=several.penalty) for w in draws]
    dropping = fit_softmax(x, label, classes, name, penalty=one.penalty, dropout=RATE)
    files = {"one": one, "several": several, "dropping": dropping}
    files |= {f"one{i}": head for i, head in enumerate(ones, 1)}
    files |= {f"several{i}": head for i, head in enumerate(sets, 1)}
    for stem, head in files.items():
        write_head(head, folder / f"{stem}.safetensors")
    return {
        "one head": of([one]),
        f"ensemble of {MEMBERS} heads": of(ones),
        "head fitted with dropout": of([dropping]),
        f"its {PASSES} passes with dropout": lambda y: passes(dropping, y),
        "one sigmoid head": of([several]),
        f"ensemble of {MEMBERS} sigmoid heads": of(sets),
    }


def passes(head, features):
    """Return the probabilities of each pass, as ``dropout:head:FILE`` does, from features."""
    import torch

    from manyhot.predict.adapters.dropout import pass_masks, switch_on
    from manyhot.predict.adapters.trained import head_layer

    layer, x, found = head_layer(head), torch.from_numpy(features.astype(np.float32)), []
    switch_on(layer)
    with torch.inference_mode():
        for number in range(PASSES):
            with pass_masks(0, number):
                found.append(layer(x).double().softmax(1).numpy())
    return found


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
