"""Images of which raters chose one class each, but no class reached the threshold: undecided is not no."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn import metrics as sk

import manyhot as mh
from manyhot.core.posterior import draw_sets
from manyhot.report.pictures import label_rows
from manyhot.tables.arrays import label_sets
from manyhot.tables.labels import Images
from manyhot.train.recipe import Recipe
from manyhot.train.train import selected

CLASSES = ["bird", "cat", "dog", "fish", "frog"]
IDS = [f"{i:03d}.jpg" for i in range(120)]
SKIPPED = (
    "votes: metrics of label sets skip {} of 120 images, because raters chose one class of each, but no "
    "class reached the threshold: it is undecided which is valid; to include more images, aggregate the "
    "votes with a lower threshold"
)


@pytest.fixture(scope="module")
def choices():
    """Five choices on each image, of which the second half is hard; and probabilities of a model."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 120)
    p_right = np.where(np.arange(120) < 60, 0.95, 0.4)
    chosen = np.where(rng.random((5, 120)) < p_right, truth, rng.integers(0, 5, (5, 120)))
    logits = rng.normal(size=(120, 5)) + 2 * np.eye(5)[truth]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    rows = [(IDS[i], f"rater {r}", CLASSES[chosen[r, i]]) for i in range(120) for r in range(5)]
    votes = pd.DataFrame(rows, columns=["image_id", "rater_id", "class"])
    return votes, pd.DataFrame(p, IDS, CLASSES), chosen, truth


@pytest.fixture(scope="module")
def aggregated(choices):
    return mh.aggregate(choices[0], method="vote-share", threshold=0.8)


@pytest.fixture(scope="module")
def labels(aggregated):
    return aggregated.labels


def counts_of(chosen):
    return np.stack([(chosen == k).sum(axis=0) for k in range(5)], axis=1)


def test_metrics_of_label_sets_equal_those_of_scikit_learn_on_decided_images(choices, labels):
    _, p, chosen, _ = choices
    y = counts_of(chosen) >= 4
    decided = y.any(axis=1)
    y, s = y[decided], p.to_numpy()[decided]
    expected = {
        "map_macro": np.mean([sk.average_precision_score(y[:, k], s[:, k]) for k in range(5)]),
        "map_macro(masked=True)": np.mean([sk.average_precision_score(y[:, k], s[:, k]) for k in range(5)]),
        "map_micro": sk.average_precision_score(y.ravel(), s.ravel()),
        "auroc_macro": np.mean([sk.roc_auc_score(y[:, k], s[:, k]) for k in range(5)]),
        "f1_macro": sk.f1_score(y, s >= 0.5, average="macro"),
        "precision_macro": sk.precision_score(y, s >= 0.5, average="macro"),
        "hamming": sk.hamming_loss(y, s >= 0.5),
        "real1": np.mean(y[np.arange(len(y)), s.argmax(axis=1)]),
    }
    reading = mh.Reading(scores="probability")
    found = mh.evaluate(labels, {"net": p}, metrics=[*expected], reading=reading, resamples=0)
    assert [found.value(m) for m in expected] == pytest.approx([*expected.values()], rel=1e-6)
    counted = {
        r["metric"]: (r["n"], r["n_skipped"]) for r in found.results.to_pylist() if r["slice"] == "all"
    }
    n = int(decided.sum())
    assert 40 < n < 90
    assert {counted[m] for m in expected} == {(n, 120 - n)}
    assert SKIPPED.format(120 - n) in found.notes


def test_votes_and_original_labels_of_undecided_images_count(choices):
    votes, p, chosen, truth = choices
    images = pa.table({"image_id": IDS, "label": pa.array(truth, pa.int32())})
    done = mh.aggregate(votes, images=images, method="vote-share", threshold=0.8)
    reading = mh.Reading(scores="probability")
    wanted = ["top1", "cross_entropy_votes", "real1"]
    found = mh.evaluate(done.labels, {"net": p}, metrics=wanted, reading=reading, resamples=0)
    n = {r["metric"]: r["n"] for r in found.results.to_pylist() if r["slice"] == "all"}
    n_decided = int((counts_of(chosen) >= 4).any(axis=1).sum())
    assert (n["top1"], n["cross_entropy_votes"], n["real1"]) == (120, 120, n_decided)
    assert found.value("top1") == pytest.approx(np.mean(p.to_numpy().argmax(axis=1) == truth))
    shares = counts_of(chosen) / 5
    assert found.value("cross_entropy_votes") == pytest.approx(-(shares * np.log(p)).sum(axis=1).mean())
    (card,) = mh.describe(done.labels, dataset="votes").to_json()["datasets"]
    decided = (counts_of(chosen) >= 4).any(axis=1)
    top = counts_of(chosen).argmax(axis=1)
    expected = {
        "unusable": 120 - n_decided,
        "undecided": 120 - n_decided,
        "empty": 0,
        "labelled": n_decided,
        "rejected": int((decided & (top != truth)).sum()),
    }
    assert {key: card[key] for key in expected} == expected


def test_draws_from_votes_include_undecided_images(labels):
    sets = label_sets(labels)
    assert not sets.usable.all()
    drawn = draw_sets(sets, np.random.default_rng(0))
    assert (drawn.size == 1).all()
    assert drawn.usable.all()


def test_aggregate_counts_undecided_images(choices, aggregated):
    n = 120 - int((counts_of(choices[2]) >= 4).any(axis=1).sum())
    note = (
        f"no class of {n} of 120 images reaches the threshold of 0.8, although raters chose one class of "
        "each: it is undecided which is valid, so metrics of label sets skip these images; to take the most "
        "probable class of more images, lower `threshold`, or ask more raters"
    )
    assert note in aggregated.notes


def test_an_empty_label_set_of_answers_about_each_class_is_an_answer(choices):
    """The same choices as answers yes and no: no valid class means that none is in the image."""
    _, p, chosen, _ = choices
    rows = [
        (IDS[i], k, f"rater {r}", "yes" if chosen[r, i] == k else "no")
        for i in range(120)
        for r in range(5)
        for k in range(5)
    ]
    votes = pd.DataFrame(rows, columns=["image_id", "class_id", "rater_id", "answer"])
    done = mh.aggregate(votes, method="yes-share", threshold=0.8, classes=CLASSES)
    y = counts_of(chosen) >= 4
    expected = np.mean([sk.average_precision_score(y[:, k], p.to_numpy()[:, k]) for k in range(5)])
    found = mh.evaluate(done.labels, {"net": p}, metrics=["map_macro"], resamples=0)
    assert found.value("map_macro") == pytest.approx(expected, rel=1e-6)
    assert found.results.to_pylist()[0]["n"] == 120
    assert not any("undecided" in note for note in found.notes)


@pytest.mark.parametrize("to", ["o.json", "o.csv"])
def test_files_of_other_tools_do_not_say_that_undecided_images_have_no_class(
    tmp_path, choices, aggregated, to
):
    n_decided = int((counts_of(choices[2]) >= 4).any(axis=1).sum())
    aggregated.write(tmp_path / "labels.parquet")
    mh.convert(
        tmp_path / "labels.parquet",
        tmp_path / to,
        to="label-lists" if to == "o.json" else "indicator(not_asked='no')",
    )
    back = label_sets(mh.read_labels(tmp_path / to))
    assert len(back) == n_decided
    assert (back.size == 1).all()


def test_pictures_show_undecided_classes_as_unclear(labels):
    undecided = label_sets(labels).size == 0
    rows = label_rows(Images(labels.table.select(["image_id"])), labels)
    states = [{state for _, state in row.states} for row in rows]
    assert [s == {"unclear"} for s in states] == undecided.tolist()


def test_losses_learn_from_the_votes_of_undecided_images(labels):
    sets = label_sets(labels)
    rows, notes = selected(sets, Recipe(teach="soft"), "softmax")
    assert (len(rows), notes) == (120, [])
    rows, notes = selected(sets, Recipe(), "sigmoid")
    n = int(sets.undecided.sum())
    assert len(rows) == 120 - n
    assert f"{n} images whose class is undecided are left out" in notes
