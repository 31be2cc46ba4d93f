"""How do measures of confidence do on data sets that are not ImageNet? Linear heads on features say.

First the features, of ``../shared/data/voc`` and ``../shared/data/cifar10``, a minute each::

    manyhot predict ../shared/data/voc/images.parquet --model efficientnet-lite0 --embeddings \
        --out features/voc
    manyhot predict ../shared/data/cifar10/cifar10_subset.parquet --model efficientnet-lite0 --embeddings \
        --out features/cifar10

Then ``python benchmarks/heads.py features heads`` fits logistic regressions on the training images and writes
of the held-out ones what ``manyhot predict`` would, with label sets: a softmax over single labels, and for
VOC a sigmoid for each class. It prints the tables of calibration.md, and takes a minute.

What it wrote, to look at::

    manyhot evaluate heads/voc/labels.parquet --predictions heads/voc --out voc
    manyhot gallery heads/voc/labels.parquet --predictions heads/voc --images heads/voc \
        --classes heads/voc/classes.txt --embeddings heads/voc --out gallery
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import common

common.quiet()

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.multiclass import OneVsRestClassifier  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

import manyhot  # noqa: E402
from manyhot import tables  # noqa: E402
from manyhot.classes import ClassList, from_keys  # noqa: E402
from manyhot.core.share_intervals import wilson_interval  # noqa: E402

DATA = common.REPO.parent / "shared" / "data"
VOC = """aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person
pottedplant sheep sofa train tvmonitor"""
CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
MODEL = "efficientnet-lite0"
STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
NO, UNCLEAR, YES = range(3)
NAMES = np.array(["no", "unclear", "yes"])
METRICS = ("ece", "classwise_ece", "brier", "aurc", "accuracy_at_coverage(coverage=0.8)", "error_auroc")


@dataclass(frozen=True)
class DataSet:
    """Images as the network sees them, and what people said about them.

    `state` tells for each image and class no, unclear or yes; None where nobody was asked but for the label.
    """

    classes: ClassList
    images: pa.Table
    vectors: np.ndarray
    held_out: np.ndarray
    label: np.ndarray
    state: np.ndarray | None

    def labels(self, rows) -> manyhot.Labels:
        """Return original labels and label sets of some images."""
        n, c = len(rows), len(self.classes)
        table = {
            "image_id": self.images["image_id"].take(rows),
            "label": self.label[rows],
            "rated": [self.state is not None] * n,
            "usable": [True] * n,
        }
        if self.state is None:
            table |= {"classes": [[y] for y in self.label[rows]], "state": [["yes"]] * n}
        else:
            table |= {"classes": [list(range(c))] * n, "state": NAMES[self.state[rows]].tolist()}
        return manyhot.Labels(
            pa.table(table), c, self.classes.hash, asked_known=self.state is not None, name=self.classes.name
        )


def voc(folder) -> DataSet:
    """Read VOC: the single label is the class of the object with the largest box.

    Classes there only as objects that VOC calls difficult are unclear, all others are known to be absent.
    """
    known, seen = read(folder, DATA / "voc" / "images.parquet")
    number = {key: c for c, key in enumerate(VOC.split())}
    state = np.full((len(known), len(number)), NO)
    for column, value in (("difficult_labels", UNCLEAR), ("labels", YES)):
        for row, keys in enumerate(known[column].to_pylist()):
            state[row, [number[key] for key in keys]] = value
    label = np.array([number[key] for key in known["label_largest"].to_pylist()], np.int32)
    return DataSet(from_keys(VOC.split(), "voc"), label=label, state=state, **seen)


def cifar10(folder) -> DataSet:
    """Read CIFAR-10: one label an image."""
    known, seen = read(folder, DATA / "cifar10" / "cifar10_subset.parquet")
    label = known["label"].to_numpy().astype(np.int32)
    return DataSet(from_keys(CIFAR10.split(), "cifar10"), label=label, state=None, **seen)


def read(folder, source):
    """Return what a data set knows, and images and features of a folder, row for row."""
    predictions = manyhot.read_predictions(folder / f"{MODEL}.parquet")
    images = tables.read(folder / "images.parquet", "images").select(["image_id", "uri", "width", "height"])
    known = pq.read_table(source)
    assert known["image_id"].equals(images["image_id"])
    assert images["image_id"].to_pylist() == predictions.image_id.to_pylist()
    return known, {
        "images": images,
        "vectors": np.load(folder / "embeddings" / f"{MODEL}.npy"),
        "held_out": np.array([split == "test" for split in known["split"].to_pylist()]),
    }


def probabilities(data: DataSet, wanted, fit, predict, strengths=STRENGTHS):
    """Return the probabilities that a logistic regression fitted on some images gives others.

    `wanted` has one class an image, for a softmax, or a row of 0 and 1, for a sigmoid for each class. How
    strong the penalty is decides how sure it is: the strength is that of the best likelihood on a tenth.
    """
    seen = data.vectors.astype(np.float32)
    seen = StandardScaler().fit(seen[fit]).transform(seen)
    best = strengths[0]
    if len(strengths) > 1:
        best = best_strength(data, wanted, fit, seen, strengths)
        print(f"{data.classes.name}: strength {best:g} of {strengths}")
    return over_all(regression(wanted, best).fit(seen[fit], wanted[fit]), seen[predict], data)


def best_strength(data, wanted, fit, seen, strengths):
    kept = np.arange(len(fit)) % 10 == 0
    rest, loss = fit[~kept], {}
    for strength in strengths:
        fitted = regression(wanted, strength).fit(seen[rest], wanted[rest])
        loss[strength] = log_loss(wanted[fit[kept]], over_all(fitted, seen[fit[kept]], data))
    return min(loss, key=loss.get)


def regression(wanted, strength):
    one = LogisticRegression(C=strength, max_iter=500, tol=1e-3)
    return one if wanted.ndim == 1 else OneVsRestClassifier(one)


def over_all(fitted, seen, data):
    """Return probabilities over all classes; those that no training image has get none."""
    found = np.zeros((len(seen), len(data.classes)), np.float32)
    found[:, fitted.classes_] = fitted.predict_proba(seen)
    return found


def log_loss(wanted, p):
    p = np.clip(p, 1e-12, 1 - 1e-12)
    if wanted.ndim == 1:
        return -np.log(p[np.arange(len(p)), wanted]).mean()
    return -np.where(wanted, np.log(p), np.log1p(-p)).mean()


def write(data: DataSet, heads, folder):
    """Write what ``manyhot predict`` would of the held-out images, with label sets; return both."""
    rows = np.flatnonzero(data.held_out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("\n".join(data.classes.keys) + "\n", encoding="utf-8")
    images = data.images.take(rows).append_column("label", pa.array(data.label[rows]))
    about = {"n_classes": str(len(data.classes)), "classes": data.classes.hash}
    tables.write(images, folder / "images.parquet", "images", about=about)
    labels = data.labels(rows)
    manyhot.write_labels(labels, folder / "labels.parquet")
    models = []
    (folder / "embeddings").mkdir(exist_ok=True)
    for name, p in heads.items():
        models.append(
            manyhot.Predictions(
                labels.image_id,
                name,
                scores=p,
                score_kind="probability",
                n_classes=len(data.classes),
                class_hash=data.classes.hash,
            )
        )
        manyhot.write_predictions(models[-1], folder / f"{name}.parquet")
    np.save(folder / "embeddings" / f"{models[0].model}.npy", data.vectors[rows])
    return labels, models


def judge(labels, models):
    """Print the measures of both events, and how many confident errors are valid labels."""
    pairs = [("top1", "real1"), *((m, m.replace("(", "_set(") if "(" in m else f"{m}_set") for m in METRICS)]
    found = manyhot.evaluate(labels, models, metrics=[m for pair in pairs for m in pair], map_resamples=200)
    rows = {(r["model"], r["metric"]): r for r in found.results.to_pylist() if r["slice"] == "all"}
    for model in models:
        sure = model.scores.max(1)
        print(f"\n{labels.name}, {model.model}, {len(labels):,} images; mean confidence {sure.mean():.3f}")
        print("| | original label | label set |\n| --- | --- | --- |")
        told = [too_sure(sure - right) for right in events(labels, model.scores.argmax(1))]
        print(f"| mean confidence less share right | {told[0]} | {told[1]} |")
        for pair in pairs:
            told = ["{value:.3f} ({lo:.3f} to {hi:.3f})".format(**rows[model.model, m]) for m in pair]
            print(f"| `{pair[0]}` | {told[0]} | {told[1]} |")
        confident(labels, model, sure)


def events(labels, best):
    """Return whether the best class is the original label, and whether it is in the label set."""
    label = best == labels.table["label"].to_numpy()
    return label, label | (said_of(labels, best) == "yes")


def too_sure(gap):
    """Return the mean in points, with an interval of 1.96 standard errors."""
    mean, half = 100 * gap.mean(), 196 * gap.std(ddof=1) / len(gap) ** 0.5
    return f"{mean:+.1f} points ({mean - half:+.1f} to {mean + half:+.1f})"


def said_of(labels, best):
    """Return what people said about one class of each image; no where the label is all they gave."""
    states = labels.table["state"].to_pylist()
    return np.array([s[c] if len(s) > 1 else "no" for s, c in zip(states, best, strict=True)])


def confident(labels, model, sure):
    best = model.scores.argmax(1)
    wrong, said = ~events(labels, best)[0], said_of(labels, best)
    for least in (0.0, 0.5, 0.8, 0.9):
        errors = wrong & (sure > least)
        n, valid = errors.sum(), (errors & (said == "yes")).sum()
        lo, hi = wilson_interval(valid, n)
        unclear = (errors & (said == "unclear")).sum()
        share = f"{valid / n:.1%}; {lo:.1%} to {hi:.1%}"
        print(f"{n} errors above {least}: {valid} valid ({share}), {unclear} unclear")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "features", type=Path, help="folder that holds voc and cifar10, as predict wrote them"
    )
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    for data in (voc(arguments.features / "voc"), cifar10(arguments.features / "cifar10")):
        fit, predict = np.flatnonzero(~data.held_out), np.flatnonzero(data.held_out)
        heads = {"linear-softmax": probabilities(data, data.label, fit, predict)}
        if data.state is not None:
            heads["linear-sigmoid"] = probabilities(data, (data.state == YES).astype(int), fit, predict)
        judge(*write(data, heads, arguments.out / data.classes.name))


if __name__ == "__main__":
    main()
