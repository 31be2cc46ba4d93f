"""Do raters' answers improve the order of doubtful labels? Judged by people who gave none of the answers.

``python benchmarks/issues_votes.py`` prints the tables of ``label-issues.md``, in a minute. CIFAR-10: answers
of CIFAR-10H, out-of-fold probabilities and verdicts of label-errors, all from ``mirror.zip``. ImageNet: ranks
of 67 models, answers of ReaL's raters, judged by other raters of ReaL or by the main objects of Tsipras et
al.
"""

from __future__ import annotations

import io
import json
import os
import zipfile

import common

common.quiet()

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
from cleanlab.rank import get_label_quality_scores  # noqa: E402
from issues import table  # noqa: E402
from sklearn.metrics import average_precision_score, roc_auc_score  # noqa: E402

import manyhot  # noqa: E402
from manyhot.data import catalog  # noqa: E402

HEAD = ("votes used", "order by", "AUROC", "average precision", "first 100", "first 500", "wrong", "images")
SEEDS = 5


class Doubts:
    """Labels of n images with the evidence of models, and answers about the labels."""

    def __init__(self, ids, label, predictions, reading, dense):
        self.ids, self.label, self.reading = ids, label, reading
        self.predictions = predictions
        self.images = manyhot.Images(pa.table({"image_id": ids, "label": pa.array(label, pa.int32())}))
        self.row = {image: i for i, image in enumerate(ids)}
        self.cleanlab = 1 - get_label_quality_scores(label, dense, method="normalized_margin")
        self.models = self.scores(None, None)

    def scores(self, valid, n):
        """Return the column `score` of each image, given the share of n answers that accept its label."""
        labels = self.images
        if n is not None:
            asked = n > 0
            counts = pa.array(np.cumsum([0, *asked]), pa.int32())
            lists = {
                "classes": pa.array(self.label[asked], pa.int32()),
                "state": pa.array(np.where(valid[asked] > 0.5, "yes", "no")),
                "p": pa.array(valid[asked], pa.float32()),
                "n_votes": pa.array(n[asked], pa.int32()),
            }
            columns = {name: pa.ListArray.from_arrays(counts, values) for name, values in lists.items()}
            flags = {"rated": pa.array(asked), "usable": pa.array(np.ones(len(n), bool))}
            rows = pa.table({"image_id": self.ids, **flags, **columns})
            # Not as confirmed labels, which settle what they confirm.
            labels = manyhot.Labels(rows, self.reading.n_classes, asked_known=True).with_labels(self.images)
        found = manyhot.find_label_issues(
            labels,
            self.predictions,
            min_doubtful=0,
            min_missing=1,
            reading=self.reading,
        ).of_kind("doubtful-label")
        score = np.empty(len(self.label))
        score[[self.row[i] for i in found["image_id"].to_pylist()]] = found["score"].to_numpy()
        return score

    def orders(self, valid, n):
        """Return the score of each image by each rule."""
        doubt = np.where(n > 0, 1 - valid, self.models)
        return {
            "models alone": self.models,
            "cleanlab, normalized margin": self.cleanlab,
            "raters, else models": np.round(doubt, 9),  # equal votes differ by rounding
            "the mean of both": np.round((doubt + self.models) / 2, 9),
            "manyhot": self.scores(valid, n),
        }


def judged(score, wrong):
    """Return AUROC, average precision and the shares that are wrong among the first 100 and 500."""
    order = np.argsort(-score, kind="stable")
    first = [np.mean(wrong[order[:k]]) if len(wrong) >= k else np.nan for k in (100, 500)]
    return [roc_auc_score(wrong, score), average_precision_score(wrong, score), *first]


def compare(draws):
    """Print the mean over draws of (name, orders, wrong, judged images), and where votes lose."""
    sums = {}
    for name, orders, wrong, where in draws:
        for by, score in orders.items():
            numbers = judged(score[where], wrong[where])
            sums.setdefault((name, by), []).append([*numbers, wrong[where].sum(), where.sum()])
    rows = []
    for key, numbers in sums.items():
        auroc, precision, a, b, wrong, n = np.mean(numbers, axis=0)
        shares = ("–" if np.isnan(x) else f"{x:.1%}" for x in (a, b))
        rows.append((*key, f"{auroc:.3f}", f"{precision:.3f}", *shares, f"{wrong:,.0f}", f"{n:,.0f}"))
    table(HEAD, rows)
    means = {key: np.mean(numbers, axis=0)[:2] for key, numbers in sums.items()}
    names = dict.fromkeys(name for name, _ in sums)
    for other in ("models alone", "cleanlab, normalized margin"):
        worse = [name for name in names if (means[name, "manyhot"] < means[name, other] - 1e-9).any()]
        print(f"\nmanyhot is worse than {other} by AUROC or average precision: {worse or 'nowhere'}")


def cifar10(archive):
    """Print the tables of CIFAR-10's test set, judged on the images that label-errors' people saw."""

    def read(end):
        (name,) = (n for n in archive.namelist() if n.endswith(end))
        return archive.read(name)

    verdicts = json.loads(read("mturk/cifar10_mturk.json"))
    dense = np.load(io.BytesIO(read("cifar10_test_set_pyx.npy"))).astype(np.float64)
    label = np.load(io.BytesIO(read("cifar10_test_set_original_labels.npy")))
    counts = np.load(io.BytesIO(read("cifar10h-counts.npy"))).astype(int)
    wrong, where = np.zeros(len(label), bool), np.zeros(len(label), bool)
    for verdict in verdicts:
        where[verdict["id"]] = True
        wrong[verdict["id"]] = verdict["mturk"]["given"] < 3
    ids = [str(i) for i in range(len(label))]
    reading = manyhot.Reading(scores="probability", n_classes=10)
    doubts = Doubts(ids, label, {"net": dense}, reading, dense)

    def draws():
        for n in (1, 3, 5, 10):
            for seed in range(SEEDS):
                rng = np.random.default_rng(seed)
                drawn = np.array([rng.multivariate_hypergeometric(row, n) for row in counts])
                valid = drawn[np.arange(len(label)), label] / n
                yield f"{n} an image", doubts.orders(valid, np.full(len(label), n)), wrong, where
        total = counts.sum(1)
        valid = counts[np.arange(len(label)), label] / total
        yield f"all ({total.mean():.0f})", doubts.orders(valid, total), wrong, where
        for seed in range(SEEDS):
            used = np.where(np.random.default_rng(seed).random(len(label)) < 0.5, total, 0)
            yield "all, of half of the images", doubts.orders(valid, used), wrong, where

    print("\nCIFAR-10, answers of CIFAR-10H, judged by label-errors' people:")
    compare(draws())


def imagenet():
    """Print the tables of ImageNet's validation set."""
    _, rows = common.validation()
    predictions = [p for _, p in common.models(rows)]
    ids, label = rows.image_id.to_pylist(), rows.label.to_numpy()
    row = {image: i for i, image in enumerate(ids)}
    best = np.zeros((len(label), 1000))
    for p in predictions:
        order = [row[i] for i in p.image_id.to_pylist()]
        best[order, p.classes[:, 0]] += 1
    doubts = Doubts(ids, label, predictions, manyhot.Reading(n_classes=1000), best / len(predictions))
    answers = real_answers(row, label)
    p = real_p(row, label)
    asked = answers[:, 0] >= 0
    no = np.select([answers == 0, answers == 1], [1.0, 0.5], 0.0)
    main = np.full(len(label), -1)
    chosen = catalog.fetch("tsipras")["annotations_classify_task.pkl"]
    for entry in manyhot.read_labels(chosen).table.select(["image_id", "classes"]).to_pylist():
        main[row[entry["image_id"]]] = entry["classes"][0]
    half = (np.random.default_rng(0).permutation(len(label)) % 2 == 0) & asked

    def by_main():
        for name, use in (("ReaL's p, all rated images", asked), ("… half of them", half)):
            yield name, doubts.orders(np.nan_to_num(p), np.where(use, 5, 0)), main != label, main >= 0
        shares = doubts.orders(1 - no.mean(1), np.where(asked, 5, 0))
        yield "shares of five answers", shares, main != label, main >= 0
        coins = np.random.default_rng(0).binomial(5, 0.5, len(label)) / 5
        yield "five coins an image", doubts.orders(coins, np.where(asked, 5, 0)), main != label, main >= 0

    def by_raters():
        for n in (1, 2, 3, 4):
            for seed in range(SEEDS):
                drawn = np.random.default_rng(seed).permuted(no, axis=1)
                wrong = (drawn[:, n:].mean(1) > 0.5) & asked
                used = 1 - drawn[:, :n].mean(1)
                yield f"{n} of 5 answers", doubts.orders(used, np.where(asked, n, 0)), wrong, asked
        for seed in range(SEEDS):
            drawn = np.random.default_rng(seed).permuted(no, axis=1)
            wrong = np.where(half, drawn[:, 3:].mean(1), no.mean(1)) > 0.5
            orders = doubts.orders(1 - drawn[:, :3].mean(1), np.where(half, 3, 0))
            yield "3 of 5, of half of the images", orders, wrong & asked, asked
            yield "… judged on the other half", orders, wrong & asked, asked & ~half

    print("\nImageNet, answers of ReaL, judged by the main objects of Tsipras et al.:")
    compare(by_main())
    print("\nImageNet, answers of ReaL, judged by the other answers of ReaL:")
    compare(by_raters())


def real_answers(row, label):
    """Return the five answers about each label, shape (n, 5); -1 if nobody was asked."""
    votes = manyhot.read_votes(catalog.fetch("imagenet-real")["raters.npz"])
    image = np.array([row[i] for i in votes.image_id.to_pylist()])
    of_label = label[image] == votes.class_id
    five = votes.answer[np.lexsort((votes.rater, votes.question))].reshape(-1, 5)
    answers = np.full((len(label), 5), -1, np.int8)
    answers[image[of_label]] = five[of_label]
    return answers


def real_p(row, label):
    """Return ReaL's probability that each label is valid; NaN if nobody was asked."""
    p = np.full(len(label), np.nan)
    scores = manyhot.read_labels(catalog.fetch("imagenet-real")["scores.npz"]).table
    for entry in scores.select(["image_id", "rated", "classes", "p"]).to_pylist():
        at = row[entry["image_id"]]
        if entry["rated"] and label[at] in entry["classes"]:
            p[at] = entry["p"][entry["classes"].index(label[at])]
    return p


def main():
    with zipfile.ZipFile(os.environ["MANYHOT_MIRROR"]) as archive:
        cifar10(archive)
    imagenet()


if __name__ == "__main__":
    main()
