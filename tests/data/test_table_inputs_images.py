"""Columns beside the classes of a table of 0 and 1: conditions, slices and clusters."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from manyhot import evaluate

RNG = np.random.default_rng(5)
TRUTH, SCORES = (RNG.random((60, 2)) < 0.4).astype(int), RNG.random((60, 2)).round(3)
TEST = np.arange(60) % 2 == 0


@pytest.mark.parametrize("ids", ["image_id", "filename", "path", "Path", "Image Index"])
def test_a_table_of_labels_is_an_images_table(tmp_path, ids):
    frame = pd.DataFrame({ids: [f"{i}.jpg" for i in range(60)], "cat": TRUTH[:, 0], "dog": TRUTH[:, 1]})
    scores = pd.DataFrame({ids: frame[ids], "cat": SCORES[:, 0], "dog": SCORES[:, 1]})
    frame["split"], frame["patient"] = np.where(TEST, "test", "val"), np.arange(60) // 5
    labels = tmp_path / "labels.csv"
    frame.to_csv(labels, index=False)
    scores.to_csv(tmp_path / "net.csv", index=False)
    about = {"scores": "probability", "metrics": ["map_macro"]}
    expected = average_precision_score(TRUTH[TEST], SCORES[TEST], average="macro")
    found = evaluate(labels, tmp_path / "net.csv", where="split=test", **about)
    assert found.value("map_macro") == pytest.approx(expected, abs=1e-7)
    found = evaluate(
        labels, tmp_path / "net.csv", images=labels, slices=["split"], clusters="patient", **about
    )
    assert found.value("map_macro", slice="split=test") == pytest.approx(expected, abs=1e-7)
    assert found.value("map_macro") == pytest.approx(average_precision_score(TRUTH, SCORES), abs=1e-7)
