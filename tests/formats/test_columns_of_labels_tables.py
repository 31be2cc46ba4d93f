"""Names of columns of labels tables beside columns of zeros and ones, such as the state of a country."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

import manyhot as mh
from manyhot.errors import InputError

RNG = np.random.default_rng(0)
IDS = pd.Index([f"i{k}" for k in range(100)], name="image_id")
LABELS = pd.DataFrame((RNG.random((100, 2)) < 0.3).astype(int), IDS, ["weapon", "blood"])
SCORES = pd.DataFrame(RNG.random((100, 2)), IDS, ["weapon", "blood"])
MAP = np.mean([average_precision_score(LABELS[c], SCORES[c]) for c in LABELS])


@pytest.mark.parametrize(
    ("name", "values"),
    [("state", ["CA", "NY"] * 50), ("n_votes", 3), ("rated", True), ("usable", 1), ("method", "review")],
)
def test_they_are_not_read(name, values, tmp_path):
    labels = LABELS.assign(**{name: values})
    labels.to_csv(tmp_path / "l.csv")
    for read in (labels, tmp_path / "l.csv"):
        found = mh.evaluate(read, {"m": SCORES}, metrics=["map_macro"], resamples=0)
        assert found.value("map_macro") == pytest.approx(MAP, abs=1e-6)
        assert mh.read_labels(tmp_path / "l.csv").class_list.keys == ("weapon", "blood")


def test_a_labels_table_without_classes_is_refused(tmp_path):
    (tmp_path / "l.csv").write_text("image_id,label,state\na.jpg,1,yes\n")
    with pytest.raises(InputError, match="The labels table lacks the column 'classes'"):
        mh.read_labels(tmp_path / "l.csv")
