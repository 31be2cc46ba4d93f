"""Predictions as CSV with the names of the classes, and read back."""

import csv

import numpy as np
import pyarrow as pa
import pytest

from manyhot import read_predictions
from manyhot.classes import class_list, from_keys
from manyhot.data.convert import convert
from manyhot.tables import Predictions, write_predictions

OWN = from_keys(["traffic light", "cat", "dog, wild"], "own")
IDS = pa.array(["007.jpg", "b.jpg"])


def predictions(own, **columns):
    about = {"n_classes": len(own), "class_hash": own.hash, "class_list": own}
    return Predictions(IDS, "model", score_kind="logit", **columns, **about)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("classes", [OWN, class_list("imagenet1k")], ids=["own", "imagenet"])
def test_dense_scores_have_one_column_per_class_and_are_read_back(tmp_path, classes):
    scores = np.random.default_rng(0).normal(size=(2, len(classes))).astype(np.float32)
    write_predictions(predictions(classes, scores=scores), tmp_path / "p.parquet")
    done = convert(tmp_path / "p.parquet", tmp_path / "p.csv")
    assert done.left_out == ("the kind of its scores (logit)",)
    assert rows_of(tmp_path / "p.csv")[0] == ["image_id", *classes.names]
    again = read_predictions(tmp_path / "p.csv", scores="logit")
    assert again.image_id.to_pylist() == IDS.to_pylist()
    assert again.class_hash == classes.hash
    np.testing.assert_array_equal(again.scores, scores)


def test_pairs_of_dense_scores_are_sorted_and_named(tmp_path):
    scores = np.array([[0.5, 2.0, -1.0], [3.0, 3.0, 4.0]], np.float32)
    write_predictions(predictions(OWN, scores=scores), tmp_path / "p.parquet")
    convert(tmp_path / "p.parquet", tmp_path / "l.csv", long=True)
    head, *rows = rows_of(tmp_path / "l.csv")
    assert head == ["image_id", "class", "score", "rank"]
    assert rows == [
        ["007.jpg", "cat", "2.0", "1"],
        ["007.jpg", "traffic light", "0.5", "2"],
        ["007.jpg", "dog, wild", "-1.0", "3"],
        ["b.jpg", "dog, wild", "4.0", "1"],
        ["b.jpg", "traffic light", "3.0", "2"],
        ["b.jpg", "cat", "3.0", "3"],
    ]
    again = read_predictions(tmp_path / "l.csv", classes=OWN).in_full()
    np.testing.assert_array_equal(again.scores, scores)


def test_pairs_of_the_top_classes_are_named(tmp_path):
    top = predictions(OWN, classes=np.array([[1, 0], [2, -1]]), scores=np.array([[2.0, 0.5], [4.0, -np.inf]]))
    write_predictions(top, tmp_path / "p.parquet")
    convert(tmp_path / "p.parquet", tmp_path / "l.csv", long=True)
    assert rows_of(tmp_path / "l.csv")[1:] == [
        ["007.jpg", "cat", "2.0", "1"],
        ["007.jpg", "traffic light", "0.5", "2"],
        ["b.jpg", "dog, wild", "4.0", "1"],
    ]
    again = read_predictions(tmp_path / "l.csv", classes=OWN)
    assert again.classes.tolist() == [[1, 0], [2, -1]]


def test_classes_without_names_are_numbers(tmp_path):
    scores = np.array([[0.5, 0.25], [0.125, 0.75]], np.float32)
    write_predictions(Predictions(IDS, "m", scores=scores, n_classes=2), tmp_path / "p.parquet")
    convert(tmp_path / "p.parquet", tmp_path / "p.csv")
    assert rows_of(tmp_path / "p.csv")[0] == ["image_id", "0", "1"]
    convert(tmp_path / "p.parquet", tmp_path / "l.csv", long=True)
    assert rows_of(tmp_path / "l.csv")[1] == ["007.jpg", "0", "0.5", "1"]
