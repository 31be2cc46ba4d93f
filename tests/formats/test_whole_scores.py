"""Scores that are whole numbers: yes or no as 1 and 0, percent, and 8 bits."""

import numpy as np
import polars as pl
import pytest

import manyhot
from manyhot import read_predictions
from manyhot.errors import InputError

ANSWERS = {"a.jpg": ["dog"], "b.jpg": ["cat"], "c.jpg": ["dog"]}
WIDE = pl.DataFrame({"image": list(ANSWERS), "dog": [90, 30, 20], "cat": [10, 70, 80]})


def written(frame, path):
    (frame.write_csv if path.suffix == ".csv" else frame.write_parquet)(path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_yes_and_no_in_rows(tmp_path, suffix):
    rows = WIDE.unpivot(index="image", variable_name="class", value_name="score")
    rows = rows.with_columns(score=(pl.col("score") > 50).cast(pl.Int64))
    path = written(rows, tmp_path / f"m{suffix}")
    done = manyhot.evaluate(ANSWERS, str(path), scores="probability", metrics=["map_macro", "real1"])
    # By hand: dog is found in a, not in c; its scores are 1, 0, 0, so its average precision is the mean of
    # 1/1 and 2/3. Cat's scores are 0, 1, 1: 1/2.
    assert done.value("map_macro") == pytest.approx((5 / 6 + 1 / 2) / 2)
    assert done.value("real1") == pytest.approx(2 / 3)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_percent_in_columns(tmp_path, suffix):
    read = read_predictions(written(WIDE, tmp_path / f"m{suffix}"), scores="none")
    assert read.class_list.keys == ("dog", "cat")
    np.testing.assert_array_equal(read.scores, WIDE.select("dog", "cat").to_numpy())
    with pytest.raises(InputError, match="not between 0 and 1"):
        read_predictions(tmp_path / f"m{suffix}", scores="probability")


def test_lists_of_whole_scores_of_different_lengths(tmp_path):
    lists = pl.DataFrame({"image": ["a", "b"], "labels": [["x", "y"], ["y"]], "scores": [[80, 20], [60]]})
    read = read_predictions(written(lists, tmp_path / "m.parquet"))
    np.testing.assert_array_equal(read.scores, np.array([[80, 20], [60, -np.inf]], np.float32))


def test_a_whole_number_beside_answers_is_ambiguous(tmp_path):
    frame = pl.DataFrame({"image": ["a", "b"], "x": [0, 1], "y": [1, 0], "z": [0, 1], "latency": [13, 15]})
    with pytest.raises(InputError, match="only 0 and 1, and others contain whole numbers"):
        read_predictions(written(frame, tmp_path / "m.csv"))
