"""Data in memory: their numbers are those of scikit-learn, and what is refused.

tests/data/test_inputs_forms.py compares all forms.
"""

import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from scipy import sparse
from sklearn.metrics import average_precision_score, f1_score, label_ranking_average_precision_score
from typer.testing import CliRunner

import manyhot as mh
from manyhot import cli
from manyhot.classes import from_keys
from manyhot.errors import InputError, MatchError
from manyhot.formats import read_classes

RNG = np.random.default_rng(3)
N, CLASSES = 60, ["boat", "car", "cat", "cow", "dog"]
IDS = np.array([f"{i:02d}.jpg" for i in range(N)])
HOT = RNG.random((N, 5)) < 0.4
SCORES = (HOT * 0.3 + RNG.random((N, 5)) * 0.7).astype(np.float32)
NAMES = [[CLASSES[c] for c in np.flatnonzero(row)] for row in HOT]
METRICS = ["map_macro", "f1_micro(threshold=0.5)", "lrap"]
ROWS, COLUMNS = RNG.permutation(N), RNG.permutation(5)

LABELS = pd.DataFrame(HOT, index=IDS, columns=CLASSES)
FRAME = pd.DataFrame(SCORES, index=IDS, columns=CLASSES)


def judged(labels, predictions, **options):
    options = {"resamples": 50, "metrics": METRICS, "scores": "probability"} | options
    found = mh.evaluate(labels, predictions, **options).to_polars()
    return {r["metric"]: (r["value"], r["lo"], r["hi"], r["n"]) for r in found.filter(slice="all").to_dicts()}


EXPECTED = judged(LABELS, FRAME)


def test_the_values_are_those_of_scikit_learn():
    filled = HOT.any(axis=1) & ~HOT.all(axis=1)
    values = [value for value, *_ in EXPECTED.values()]
    assert values == pytest.approx(
        [
            average_precision_score(HOT, SCORES, average="macro"),
            f1_score(HOT, SCORES >= 0.5, average="micro"),
            label_ranking_average_precision_score(HOT[filled], SCORES[filled]),
        ],
        abs=1e-10,
    )


def test_the_columns_of_scores_without_names_are_in_the_sorted_order_which_is_noted():
    found = mh.evaluate(NAMES, SCORES, metrics=["map_macro"], resamples=0)
    assert found.value("map_macro") == pytest.approx(EXPECTED["map_macro"][0], abs=1e-12)
    assert found.notes == (
        "labels: the columns of scores have no names, so they are assumed to be in the sorted order of "
        "their names: "
        "boat, car, cat and 2 more; pass `classes` if the columns are in a different order",
        "labels: a ranking at random has map_macro 40.3%",
    )


def test_names_of_classes_as_a_file_a_list_and_a_class_list(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("\n".join(CLASSES))
    whole = judged(NAMES, SCORES, classes=CLASSES)
    assert judged(NAMES, SCORES, classes=path) == whole
    assert judged(NAMES, SCORES, classes=read_classes(path)) == whole
    assert judged(NAMES, SCORES, reading=mh.Reading(classes=np.array(CLASSES), scores="probability")) == whole


def test_single_labels_may_be_names():
    label = [CLASSES[c] for c in SCORES.argmax(axis=1)]
    found = mh.evaluate(label, SCORES, resamples=0, classes=CLASSES)
    assert found.value("top1") == 1
    assert mh.evaluate(np.array(label), {"net": label}, resamples=0, metrics=["top1"]).value("top1") == 1


def test_ranks_may_be_names_in_lists_of_different_lengths():
    ranked = [[CLASSES[c] for c in np.argsort(-row)[: 2 + i % 3]] for i, row in enumerate(SCORES)]
    by_name = mh.evaluate(NAMES, ranked, metrics=["real1"], resamples=0, classes=CLASSES).value("real1")
    assert by_name == mh.evaluate(NAMES, SCORES, metrics=["real1"], resamples=0, classes=CLASSES).value(
        "real1"
    )


def test_a_frame_of_ranks_in_long_form():
    best = SCORES.argmax(axis=1)
    frame = pd.DataFrame(
        {"image_id": IDS, "class_id": [CLASSES[c] for c in best], "score": SCORES.max(axis=1)}
    )
    found = mh.evaluate(LABELS, {"net": frame}, metrics=["real1"], resamples=0)
    assert found.value("real1") == HOT[np.arange(N), best][HOT.any(axis=1)].mean()


def test_minus_one_is_unclear_and_missing_is_not_asked():
    hot = HOT.astype(float)
    hot[0, 0], hot[1, 1] = np.nan, -1
    labels = mh.as_labels(hot, classes=from_keys(CLASSES))
    assert labels.asked_known
    states = dict(zip(*(labels.table[c][1].as_py() for c in ("classes", "state")), strict=True))
    assert states[1] == "unclear"
    assert 0 not in labels.table["classes"][0].as_py()
    asked = np.isin(hot, (0, 1))
    expected = np.mean(
        [average_precision_score(HOT[asked[:, c], c], SCORES[asked[:, c], c]) for c in range(5)]
    )
    found = mh.evaluate(labels, SCORES, metrics=["map_macro(masked=True)"], resamples=0)
    assert found.results["value"][0].as_py() == pytest.approx(expected, abs=1e-12)


def message(make, kind):
    with pytest.raises(kind) as error:
        make()
    return str(error.value)


def test_a_name_that_is_not_in_the_class_list():
    assert message(lambda: mh.evaluate([["car"], ["ufo"]], SCORES[:2], classes=CLASSES), InputError) == (
        "A class is not in the class list.\n"
        "  where:   labels\n"
        "  got:     ufo\n"
        "  allowed: a key or name of the 5 classes of own classes\n"
        "  do:      pass the list of all classes as `classes`"
    )


def test_fewer_names_than_columns():
    assert message(lambda: mh.evaluate([["car"], ["dog"]], SCORES[:2]), MatchError) == (
        "model has more columns than the labels have classes, and its columns have no names.\n"
        "  got:     5 columns\n"
        "  allowed: 2, one for each of car, dog\n"
        "  do:      pass the classes in the order of the columns as `classes`"
    )


def test_a_sparse_matrix_of_counts():
    assert message(lambda: mh.evaluate(sparse.csr_matrix(HOT * 2), SCORES), InputError) == (
        "The sparse matrix of labels does not consist of zeros and ones, with one column per class.\n"
        "  got:     shape (60, 5) of int64\n"
        "  allowed: (n, 5) of 0 and 1"
    )


def test_a_frame_with_an_error_is_called_what_the_caller_calls_it():
    twice = pd.DataFrame({"image_id": ["a", "a"], "labels": [["car"], ["dog"]]})
    assert "/" not in message(lambda: mh.evaluate(twice, {"net": [[1.0, 2.0]] * 2}), InputError)


def test_votes_on_classes_by_name(tmp_path):
    answers = [("a.jpg", "dog", "yes"), ("a.jpg", "car", "no"), ("b.jpg", "car", "yes")]
    rows = [(image, name, rater, answer) for image, name, answer in answers for rater in "xyz"]
    votes = pd.DataFrame(rows, columns=["image_id", "class_id", "rater_id", "answer"])
    votes.to_csv(tmp_path / "votes.csv", index=False)
    for given in (votes, pl.from_pandas(votes), tmp_path / "votes.csv"):
        labels = mh.aggregate(given, method="majority").labels
        assert labels.class_list.keys == ("car", "dog")
        sets = dict(zip(*(labels.table[c].to_pylist() for c in ("image_id", "classes")), strict=True))
        assert sets == {"a.jpg": [0, 1], "b.jpg": [0]}
    path = tmp_path / "labels.parquet"
    mh.aggregate(votes, method="majority").write(path)
    assert mh.read_labels(path).class_list.keys == ("car", "dog")
    scores = pd.DataFrame([[0.9, 0.1], [0.2, 0.7]], ["a.jpg", "b.jpg"], ["dog", "car"])
    assert mh.evaluate(path, scores, metrics=["real1"], resamples=0).value("real1") == 1


def test_the_rows_of_an_array_are_never_matched_with_ids_that_look_like_their_numbers():
    ids = [f"{i}.jpg" for i in ROWS]
    labels = mh.as_labels(pd.DataFrame(HOT[ROWS], ids, CLASSES))
    assert message(lambda: mh.evaluate(labels, SCORES[ROWS]), MatchError) == (
        "The labels have image ids, but the rows of an array have none.\n"
        "  where:   model, compared with labels\n"
        "  got:     60 rows\n"
        "  allowed: ids such as 0.jpg, 1.jpg\n"
        "  do:      pass the ids of the rows as `rows`, or a frame with these ids as its index, or labels "
        "as an array in the same order"
    )
    found = mh.evaluate(labels, pd.DataFrame(SCORES, [f"{i}.jpg" for i in range(N)], CLASSES), resamples=0)
    assert found.value("map_macro") == pytest.approx(EXPECTED["map_macro"][0], abs=1e-12)


def test_notes_name_the_argument_in_python_and_the_option_on_the_terminal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    LABELS.astype(int).to_csv("labels.csv", index_label="image_id")
    np.save("model.npy", SCORES)
    (tmp_path / "rows.txt").write_text("\n".join(IDS))
    found = mh.evaluate("labels.csv", "model.npy", rows="rows.txt", resamples=0)
    assert any("declare their kind with `scores`" in note for note in found.notes)
    words = ["labels.csv", "--predictions", "model.npy", "--rows", "rows.txt", "--out", "out"]
    done = CliRunner().invoke(cli.app, ["evaluate", *words, "--resamples", "0"])
    assert done.exit_code == 0, done.output
    assert "declare their kind with --scores" in done.stderr
    assert "`scores`" not in done.output
    assert all("`scores`" not in note["text"] for note in json.loads(stored_notes("out/results.parquet")))


def stored_notes(path):
    return pq.read_schema(path).metadata[b"manyhot.notes"]
