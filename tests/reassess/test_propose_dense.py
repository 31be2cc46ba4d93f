"""Proposals from dense scores of more than 20 classes: all classes count, as in lists of all classes."""

import numpy as np
import pyarrow as pa
import pytest

from manyhot.core.proposals import apply_rule
from manyhot.data.inputs import Reading
from manyhot.reassess.ensemble import ensemble_of
from manyhot.reassess.propose import propose
from manyhot.registry import get
from manyhot.tables import Images, Labels, Predictions

N, N_CLASSES = 300, 60


def probabilities(seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(N, N_CLASSES)) - 2
    logits[rng.random((N, N_CLASSES)) < 0.05] += 4
    logits[::7] += 2  # with more than 20 classes from 0.1 up
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def pairs_of(found):
    return {(int(r["image_id"]), r["class_id"]) for r in found.table.to_pylist()}


@pytest.mark.parametrize("threshold", [0.02, 0.1, 0.3])
def test_union_proposes_all_classes_from_a_threshold_up(threshold):
    p = probabilities()
    wanted = p >= threshold
    wanted[np.arange(N), p.argmax(1)] = True
    assert wanted.sum(1).max() > 20
    images = Images(pa.table({"image_id": [str(i) for i in range(N)]}))
    found = propose(
        images, p, f"union(threshold={threshold})", leave_out="nothing", reading=Reading(scores="probability")
    )
    assert pairs_of(found) == set(map(tuple, np.argwhere(wanted).tolist()))


def test_mean_probability_proposes_all_classes_from_a_threshold_up():
    p, q = probabilities(), probabilities(1)
    rng = np.random.default_rng(3)
    label = np.where(rng.random(N) < 0.3, p.argmax(1), rng.integers(0, N_CLASSES, N))
    images = Images(pa.table({"image_id": [str(i) for i in range(N)], "label": pa.array(label, pa.int32())}))
    models = [
        Predictions(images.image_id, name, scores=s, score_kind="probability", n_classes=N_CLASSES)
        for name, s in (("p", p), ("q", q))
    ]
    found = propose(images, models, "mean-probability(threshold=0.012)", leave_out="nothing")
    calibrated = []
    for name, s in (("p", p), ("q", q)):
        powers = s.astype(np.float64) ** (1 / found.about["temperatures"][name])
        calibrated.append(powers / powers.sum(1, keepdims=True))
    mean = sum(calibrated) / 2
    wanted = mean >= 0.012
    assert wanted.sum(1).max() > 20
    proposed = [r for r in found.table.to_pylist() if r["source"] != "label"]
    assert {(int(r["image_id"]), r["class_id"]) for r in proposed} == set(
        map(tuple, np.argwhere(wanted).tolist())
    )
    for r in proposed:
        at = int(r["image_id"]), r["class_id"]
        assert r["score"] == pytest.approx(mean[at], abs=1e-9)
        assert r["n_models"] == sum(c[at] >= 0.012 for c in calibrated)
    for name, s in (("p", p), ("q", q)):  # the highest likelihood of the labels, of temperatures up to 20
        around = [x for x in found.about["temperatures"][name] * np.array([1, 0.99, 1.01]) if x <= 20]
        logs = [np.log(s.astype(np.float64)) / t for t in around]
        likelihood = [(x[np.arange(N), label] - np.log(np.exp(x).sum(1))).sum() for x in logs]
        assert likelihood[0] == max(likelihood)


@pytest.mark.parametrize(
    "rule",
    [
        "union(k=30)",
        "union(threshold=0.02)",
        "union(threshold=0.3, by='score')",
        "top-k(k=40, model='p')",
        "mean-probability",
        "mean-probability(threshold=0.01)",
        "real-search(recall=0.6)",
        "real-search(recall=0.5)",
        "real-search(recall=0.8, by='score')",
        "label-errors",
    ],
)
@pytest.mark.parametrize("kind", ["probability", "logit"])
def test_dense_scores_are_lists_of_all_classes(rule, kind):
    rng = np.random.default_rng(2)
    p, q = probabilities(), probabilities(1)
    yes = (p + rng.normal(0, 0.2, p.shape) > 0.6) & (rng.random(p.shape) < 0.9)
    yes[np.arange(N), p.argmax(1)] |= rng.random(N) < 0.9
    label = np.where(yes.any(1), yes.argmax(1), p.argmax(1))
    ids = [str(i) for i in range(N)]
    images = Images(pa.table({"image_id": ids, "label": pa.array(label, pa.int32())}))
    known = Labels(
        pa.table(
            {
                "image_id": ids[::2],
                "usable": [True] * len(ids[::2]),
                "classes": pa.array([np.flatnonzero(y).tolist() for y in yes[::2]], pa.list_(pa.int32())),
                "state": [["yes"] * int(y.sum()) for y in yes[::2]],
            }
        ),
        N_CLASSES,
        name="known",
    )
    dense, lists = [], []
    moved = rng.permutation(N)
    for name, s in (("p", p), ("q", q)):
        if kind == "logit":
            s = 3 * (np.log(s) - np.log1p(-s))
        about = {"score_kind": kind, "n_classes": N_CLASSES}
        some = pa.array(ids).take(pa.array(moved))
        dense.append(
            Predictions(some, name, scores=s[moved], link="softmax" if kind == "logit" else "", **about)
        )
        order = np.argsort(-s, axis=1, kind="stable").astype(np.int32)
        total = np.logaddexp.reduce(s, axis=1) if kind == "logit" else None
        lists.append(
            Predictions(pa.array(ids), name, order, np.take_along_axis(s, order, 1), logsumexp=total, **about)
        )
    of_all, of_lists = (ensemble_of(images, models, N_CLASSES, "", known) for models in (dense, lists))
    assert of_all.top[0].shape[1] == 20
    assert of_lists.top[0].shape[1] == N_CLASSES
    a, b = (apply_rule(e, get("proposer", rule)).pairs for e in (of_all, of_lists))
    assert len(b) > 100
    assert np.array_equal(a.keys(N_CLASSES), b.keys(N_CLASSES))
    np.testing.assert_allclose(a.score, b.score, rtol=1e-6, atol=1e-9)
    assert np.array_equal(a.n_models, b.n_models)


def test_a_search_over_ranks_counts_the_ranks_that_it_leaves_out():
    p = probabilities()
    ids = [str(i) for i in range(N)]
    known = Labels(
        pa.table(
            {
                "image_id": ids,
                "usable": [True] * N,
                "classes": pa.array([[int(c)] for c in p.argmax(1)], pa.list_(pa.int32())),
                "state": [["yes"]] * N,
            }
        ),
        N_CLASSES,
    )
    images = Images(pa.table({"image_id": ids}))
    dense = Predictions(images.image_id, "p", scores=p, score_kind="probability", n_classes=N_CLASSES)
    found = propose(images, [dense], "real-search(by='rank')", known_labels=known, leave_out="nothing")
    assert any("ranks 1 to 20 of 60; the other 40 ranks" in note for note in found.notes)
    found = propose(images, [dense], "union", known_labels=known, leave_out="nothing")
    assert not any("ranks" in note for note in found.notes)
