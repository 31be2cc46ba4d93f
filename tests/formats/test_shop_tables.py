"""Tables of a shop: quotes in headers, codes that look like numbers, and CSV files of Excel."""

import csv

import numpy as np
import pandas as pd
import pytest

import manyhot as mh

NAMES = ('heel 3"', "blau", '"gold"', 'a""b', 'a, "b"')


@pytest.mark.parametrize("separator", [",", ";"])
def test_quotes_in_a_header_are_those_of_the_file(separator, tmp_path):
    states = np.random.default_rng(0).integers(0, 2, (12, len(NAMES)))
    path = tmp_path / "labels.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = ([f"{i}.jpg", *row] for i, row in enumerate(states))
        csv.writer(file, delimiter=separator).writerows([["image", *NAMES], *rows])
    assert mh.read_labels(path).known_classes.names == NAMES
    for again in ("again.csv", "twice.csv"):
        mh.convert(path, tmp_path / again, to="indicator")
        path = tmp_path / again
        frame = pd.read_csv(path, index_col=0)
        assert tuple(frame.columns) == NAMES
        np.testing.assert_array_equal(frame, states)


def test_scores_of_classes_with_quotes_have_these_names(tmp_path):
    path = tmp_path / "model.csv"
    scores = pd.DataFrame(np.random.default_rng(1).random((9, len(NAMES))).round(4), columns=NAMES)
    written = scores.set_axis([f"{i}.jpg" for i in range(9)])
    written.to_csv(path, index_label="image", sep=";", decimal=",")
    read = mh.read_predictions(path, classes=NAMES)
    np.testing.assert_array_equal(read.scores, scores.to_numpy(np.float32))


def test_corrected_csv_keeps_quotes_in_the_header(tmp_path):
    original = tmp_path / "labels.csv"
    original.write_text('image,"heel 3""",blau\na.jpg,1,0\nb.jpg,0,1\n')
    labels = pd.DataFrame({'heel 3"': [0, 0], "blau": [0, 1]}, ["a.jpg", "b.jpg"])
    labels.to_csv(tmp_path / "new.csv", index_label="image")
    to = f"corrected-csv(original='{original.as_posix()}')"
    mh.convert(tmp_path / "new.csv", tmp_path / "corrected.csv", to=to)
    assert (tmp_path / "corrected.csv").read_text() == 'image,"heel 3""",blau\na.jpg,0,0\nb.jpg,0,1\n'
