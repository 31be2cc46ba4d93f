"""Thresholds that were chosen on one split are applied to another, as scikit-learn does by hand."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn import metrics as sk

from manyhot import Reading, compare, diagnose_classes, evaluate
from manyhot.classes import from_keys
from manyhot.errors import InputError, MatchError
from manyhot.evaluate.class_thresholds import ClassThresholds

CLASSES = ["forest, mixed", "arable", "urban", "water", "coast"]
METRICS = ["f1_macro", "f1_micro", "f1_samples", "jaccard", "hamming", "subset_accuracy"]
READING = Reading(scores="logit")


@pytest.fixture
def splits(tmp_path, monkeypatch):
    """Label sets and logits of 150 images for validation and 120 for the test; names in another order."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(4)
    hot = rng.random((270, 5)) < [0.5, 0.4, 0.3, 0.2, 0.1]
    scores = (rng.normal(size=hot.shape) + 2 * hot - [0, 1, 2, 3, 4]).astype(np.float32)
    ids = [f"{i:03}.jpg" for i in range(270)]
    frame = pd.DataFrame(hot.astype(int), index=pd.Index(ids, name="image_id"), columns=CLASSES)
    frame[:150].to_csv("val.csv")
    frame[150:].to_csv("test.csv")
    pd.DataFrame(scores, index=frame.index, columns=CLASSES).iloc[:, [3, 0, 4, 2, 1]].to_csv("net.csv")
    return hot[150:], scores[150:]


def chosen():
    diagnose_classes("val.csv", ["net.csv"], reading=READING).write("val")
    with Path("val/thresholds.csv").open(newline="") as file:
        by_class = {row["class"]: float(row["threshold"]) for row in csv.DictReader(file)}
    return np.array([by_class[name] for name in CLASSES], np.float32)


def by_hand(hot, predicted):
    return {
        "f1_macro": sk.f1_score(hot, predicted, average="macro"),
        "f1_micro": sk.f1_score(hot, predicted, average="micro"),
        "f1_samples": sk.f1_score(hot, predicted, average="samples", zero_division=1),
        "jaccard": sk.jaccard_score(hot, predicted, average="samples", zero_division=1),
        "hamming": sk.hamming_loss(hot, predicted),
        "subset_accuracy": sk.accuracy_score(hot, predicted),
    }


@pytest.mark.filterwarnings("ignore:Jaccard is ill-defined")
@pytest.mark.parametrize("thresholds", ["val", "val/thresholds.csv"])
def test_every_metric_equals_scikit_learn(splits, thresholds):
    hot, scores = splits
    expected = by_hand(hot, scores >= chosen())
    specs = [*METRICS, "f1_micro(threshold=0.5)"]
    found = evaluate("test.csv", ["net.csv"], thresholds=thresholds, metrics=specs, reading=READING)
    assert {name: found.value(name) for name in METRICS} == pytest.approx(expected, abs=1e-12)
    half = sk.f1_score(hot, scores >= 0, average="micro")  # a threshold in the call string stays
    assert found.value("f1_micro(threshold=0.5)") == pytest.approx(half, abs=1e-12)
    (note,) = [n for n in found.model_notes if n.kind == "thresholds"]
    assert note.text == f"{', '.join(METRICS)}: with the thresholds of val/thresholds.csv"
    of_net = json.loads(found.metadata["thresholds"])["net"]
    assert np.array_equal(np.array([of_net[name] for name in CLASSES], np.float32), chosen())
    assert "thresholds.csv" in found.inputs


@pytest.mark.parametrize(("images", "which"), [("val", "all"), ("mixed", "some"), ("test", None)])
def test_images_on_which_thresholds_were_chosen_are_noted(splits, images, which):
    chosen()
    halves = pd.read_csv("val.csv", dtype=str)[:75], pd.read_csv("test.csv", dtype=str)
    pd.concat(halves).to_csv("mixed.csv", index=False)
    found = evaluate(
        f"{images}.csv", ["net.csv"], thresholds="val", metrics=["f1_macro"], reading=READING, resamples=0
    )
    (judged,) = [n.text for n in found.model_notes if n.kind == "thresholds"]
    (by_class,) = [
        text
        for text in diagnose_classes(f"{images}.csv", ["net.csv"], thresholds="val", reading=READING).notes
        if "with the thresholds" in text
    ]
    for text in (judged, by_class):
        said = f"; {which} of the images on which these thresholds were chosen are evaluated here"
        assert (said in text) if which else ("chosen" not in text)


def test_rows_of_arrays_are_not_taken_for_the_same_images(splits):
    hot, scores = splits
    first = diagnose_classes(hot[:60], scores[:60], reading=READING)
    found = evaluate(hot[60:], scores[60:], thresholds=first, metrics=["f1_macro"], reading=READING)
    (note,) = [n.text for n in found.model_notes if n.kind == "thresholds"]
    assert "evaluated here" not in note


def test_each_class_equals_scikit_learn(splits):
    hot, scores = splits
    predicted = scores >= chosen()
    found = diagnose_classes("test.csv", ["net.csv"], thresholds="val", reading=READING)
    rows = {row["name"]: row for row in found.class_results.to_pylist()}
    precision, recall, f1, _ = sk.precision_recall_fscore_support(hot, predicted)
    for c, name in enumerate(CLASSES):
        got = [rows[name][key] for key in ("precision", "recall", "f1", "n_predicted", "n_right")]
        right = np.count_nonzero(hot[:, c] & predicted[:, c])
        assert got == pytest.approx([precision[c], recall[c], f1[c], predicted[:, c].sum(), right])
    assert list(found.thresholds().values()) == [rows[row]["threshold"] for row in found.thresholds()]
    assert "thresholds: those of val/thresholds.csv" in list(found.lines())


def test_thresholds_of_logits_are_refused_for_probabilities(splits):
    chosen()  # on logits
    table = pd.read_csv("net.csv", index_col="image_id")
    Path("p").mkdir()
    (1 / (1 + np.exp(-table))).to_csv("p/net.csv")
    reading = Reading(scores="probability")
    for apply in (evaluate, diagnose_classes):
        with pytest.raises(MatchError, match="chosen on scores of another kind") as error:
            apply("test.csv", ["p/net.csv"], thresholds="val", reading=reading)
        assert error.value.details["got"] == "thresholds of logits, and scores that are probabilities"
    # A table without the column applies to any scores, as do scores whose kind nobody declares.
    pd.read_csv("val/thresholds.csv").drop(columns="scores").to_csv("own.csv", index=False)
    options = {"metrics": ["f1_macro"], "resamples": 0}
    evaluate("test.csv", ["p/net.csv"], thresholds="own.csv", reading=reading, **options)
    by_kind, by_none = (
        evaluate("test.csv", ["net.csv"], thresholds="val", reading=r, **options)
        for r in (READING, Reading())
    )
    assert by_kind.value("f1_macro") == by_none.value("f1_macro")


def test_the_report_says_that_thresholds_were_passed(splits, tmp_path):
    chosen()
    evaluate("test.csv", ["net.csv"], thresholds="val", reading=READING).write(tmp_path / "out")
    page = (tmp_path / "out/report/index.html").read_text(encoding="utf-8")
    assert "The thresholds are those that were passed" in page
    assert "computed by cross-fitting" not in page


def test_thresholds_of_another_split_are_not_fitted_to_this_one(splits):
    """Chosen on the test images, the same thresholds would have a larger F1."""
    chosen()
    options = {"metrics": ["f1_macro"], "resamples": 0, "reading": READING}
    here = diagnose_classes("test.csv", ["net.csv"], reading=READING).thresholds()
    cheated = evaluate("test.csv", ["net.csv"], thresholds=here, **options).value("f1_macro")
    assert evaluate("test.csv", ["net.csv"], thresholds="val", **options).value("f1_macro") < cheated


def test_a_class_without_a_threshold_is_never_predicted(splits):
    hot, scores = splits
    thresholds = dict.fromkeys(CLASSES, -1.0) | {"water": float("nan")}
    predicted = (scores >= -1) & (np.array(CLASSES) != "water")
    found = evaluate("test.csv", ["net.csv"], thresholds=thresholds, metrics=["f1_macro"], reading=READING)
    expected = sk.f1_score(hot, predicted, average="macro", zero_division=0)
    assert found.value("f1_macro") == pytest.approx(expected, abs=1e-12)
    assert found.model_notes[-1].text.endswith(
        "classes without a threshold are never predicted, so that their recall is 0: water"
    )
    each = diagnose_classes("test.csv", ["net.csv"], thresholds=thresholds, reading=READING)
    (row,) = [row for row in each.class_results.to_pylist() if row["name"] == "water"]
    assert (row["reason"], row["n_predicted"]) == ("no threshold", 0)


def test_two_models_are_compared_at_their_own_thresholds(splits):
    hot, scores = splits
    chosen()
    net = pd.read_csv("net.csv", index_col="image_id")
    (net + 5).to_csv("shifted.csv")
    diagnose_classes("val.csv", ["net.csv", "shifted.csv"], reading=READING).write("both")
    found = compare(
        "net.csv",
        "shifted.csv",
        labels="test.csv",
        thresholds="both",
        metrics=["f1_micro"],
        reading=READING,
        resamples=50,
    )
    values = {r["model"]: r["value"] for r in found.results.table.to_pylist() if r["slice"] == "all"}
    expected = sk.f1_score(hot, scores >= chosen(), average="micro")
    assert values == pytest.approx({"net": expected, "shifted": expected}, abs=1e-12)


@pytest.mark.parametrize(
    ("rows", "kind", "message"),
    [
        (
            [("sea", 0.1)],
            MatchError,
            "Some thresholds are for classes that are not in the class list.\n"
            "  where:   t.csv\n"
            "  got:     sea\n"
            "  allowed: the 5 classes of the labels and predictions\n"
            "  do:      choose the thresholds with the same class list, or remove these classes",
        ),
        (
            [(name, 0.1) for name in CLASSES[:4]],
            MatchError,
            "Some classes have no threshold.\n"
            "  where:   t.csv\n"
            "  got:     coast\n"
            "  allowed: a row for each class\n"
            "  do:      add these classes; a class with an empty threshold is never predicted",
        ),
        (
            [("arable", 0.1), ("arable", 0.2)],
            InputError,
            "A class has several thresholds.\n"
            "  where:   t.csv\n"
            "  got:     arable\n"
            "  do:      keep only the rows of one data set and one choice of thresholds",
        ),
        (
            [("arable", "high")],
            InputError,
            "A threshold is not a number.\n  where:   t.csv\n  got:     'high'",
        ),
    ],
)
def test_what_is_refused(splits, rows, kind, message):
    pd.DataFrame(rows, columns=["class", "threshold"]).to_csv("t.csv", index=False)
    with pytest.raises(kind) as error:
        evaluate("test.csv", ["net.csv"], thresholds="t.csv", metrics=["f1_macro"], reading=READING)
    assert str(error.value) == message


def test_thresholds_of_other_models_are_refused(splits):
    rows = [(model, name, 0.1) for model in ("a", "b") for name in CLASSES]
    pd.DataFrame(rows, columns=["model", "class", "threshold"]).to_csv("t.csv", index=False)
    with pytest.raises(MatchError) as error:
        evaluate("test.csv", ["net.csv"], thresholds="t.csv", metrics=["f1_macro"], reading=READING)
    assert str(error.value) == (
        "There are no thresholds for net.\n"
        "  where:   t.csv\n"
        "  got:     thresholds for a and b\n"
        "  do:      pass predictions with the same model names, or the thresholds of a single model"
    )


def test_thresholds_of_a_single_model_apply_to_any_and_a_note_names_it(splits):
    rows = [("old", name, 0.1) for name in CLASSES]
    pd.DataFrame(rows, columns=["model", "class", "threshold"]).to_csv("t.csv", index=False)
    found = evaluate("test.csv", ["net.csv"], thresholds="t.csv", metrics=["f1_macro"], reading=READING)
    hot, scores = splits
    expected = sk.f1_score(hot, scores >= np.float32(0.1), average="macro")
    assert found.value("f1_macro") == pytest.approx(expected, abs=1e-12)
    (note,) = [n.text for n in found.model_notes if n.kind == "thresholds"]
    assert note == "f1_macro: with the thresholds of t.csv, which were chosen for old"
    unused = evaluate("test.csv", ["net.csv"], thresholds="t.csv", metrics=["map_macro"], reading=READING)
    (note,) = [n.text for n in unused.model_notes if n.kind == "thresholds"]
    assert note == "no metric uses the thresholds; pass `metrics` that do, such as f1_macro"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("large", [1e60, 10**400, 10**5000], ids=["float", "int", "long int"])
def test_thresholds_beyond_all_scores_are_never_or_always_reached(splits, large):
    hot, scores = splits
    thresholds = dict.fromkeys(CLASSES, 0.1) | {"water": large, "coast": -large}
    found = evaluate("test.csv", ["net.csv"], thresholds=thresholds, metrics=["f1_micro"], reading=READING)
    predicted = scores >= np.array([0.1, 0.1, 0.1, np.inf, -np.inf], np.float32)
    assert found.value("f1_micro") == pytest.approx(sk.f1_score(hot, predicted, average="micro"), abs=1e-12)


def test_a_number_of_thousands_of_digits_is_no_class():
    thresholds = ClassThresholds({"": {"0": 0.1, "01": 0.2, "9" * 5000: 0.1}}, "t.csv")
    with pytest.raises(MatchError, match="not in the class list"):
        thresholds.of("net", None, 2)


def test_a_file_without_thresholds_says_how_to_choose_some(splits):
    diagnose_classes("val.csv", ["net.csv"], goal="top", reading=READING).write("val")
    Path("t.csv").write_text("dataset,model,class,threshold\n")
    assert len(Path("val/thresholds.csv").read_text().splitlines()) == 1
    for path in (Path("t.csv"), Path("val/thresholds.csv")):
        with pytest.raises(MatchError) as error:
            evaluate("test.csv", ["net.csv"], thresholds=path, metrics=["f1_macro"], reading=READING)
        assert str(error.value) == (
            f"The file contains no thresholds.\n  where:   {path}\n"
            "  do:      choose some with manyhot diagnose classes --for f1: without this option, models "
            "whose probabilities add up to 1 predict their top class, and have no thresholds"
        )


def test_thresholds_in_memory_are_those_of_their_file(splits):
    hot, scores = splits
    found = diagnose_classes("val.csv", ["net.csv"], reading=READING)
    table = pd.DataFrame({"class": CLASSES, "threshold": chosen()})
    by_class = dict(zip(CLASSES, chosen().tolist(), strict=True))
    forms = [
        found,
        table,
        table.set_index("class"),
        table.set_index("class")["threshold"],
        pl.from_pandas(table),
        pa.Table.from_pandas(table),
        {"net": by_class},
        {"net": pd.Series(by_class), "other": dict.fromkeys(CLASSES, 9.0)},
    ]
    expected = sk.f1_score(hot, scores >= chosen(), average="macro")
    for thresholds in forms:
        got = evaluate("test.csv", ["net.csv"], thresholds=thresholds, metrics=["f1_macro"], reading=READING)
        assert got.value("f1_macro") == pytest.approx(expected), thresholds
    model = {"net": pl.read_csv("net.csv").with_columns(pl.col(CLASSES) / 100 + 0.5)}
    reading = replace(READING, scores="probability")
    with pytest.raises(MatchError, match="scores of another kind"):  # as from the file
        evaluate("test.csv", model, thresholds=found, metrics=["f1_macro"], reading=reading)
    with pytest.raises(InputError, match="no thresholds of classes"):
        evaluate("test.csv", ["net.csv"], thresholds=table.rename(columns={"class": "name"}), reading=READING)


def test_thresholds_of_probabilities_in_percent_are_refused():
    thresholds = ClassThresholds.read({"cat": 0.5, "dog": 50})
    classes = from_keys(("cat", "dog"))
    with pytest.raises(InputError, match="A threshold of probabilities is above 1") as error:
        thresholds.of("net", classes, 2, "probability")
    assert "got:     50 for dog" in str(error.value)
    assert thresholds.of("net", classes, 2, "logit").tolist() == [0.5, 50]
