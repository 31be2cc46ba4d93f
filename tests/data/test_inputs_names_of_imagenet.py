"""Classes that all happen to be names of ImageNet-1k: the data set has only these classes."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

import manyhot as mh

RNG = np.random.default_rng(0)
IDS = pd.Index([f"i{k}" for k in range(100)], name="image_id")


@pytest.mark.parametrize("names", [["rifle", "revolver", "cleaver"], ["sandal", "cardigan", "jersey"]])
def test_scores_of_each_image_name_all_classes(names, tmp_path):
    y = (RNG.random((100, 3)) < 0.3).astype(int)
    wide = pd.DataFrame(y, IDS, names)
    scores = pd.DataFrame(RNG.random((100, 3)), IDS, names)
    expected = np.mean([average_precision_score(wide[c], scores[c]) for c in names])
    long = scores.reset_index().melt("image_id", var_name="label", value_name="score")
    long.to_csv(tmp_path / "p.csv", index=False)
    wide.to_csv(tmp_path / "w.csv")
    rows = [[c for c, k in zip(names, v, strict=True) if k] for v in y]
    lists = pd.DataFrame({"image_id": IDS, "labels": rows})
    for labels in (wide, tmp_path / "w.csv", lists):
        for predictions in ({"m": long}, tmp_path / "p.csv", {"m": scores}):
            found = mh.evaluate(labels, predictions, scores="probability", metrics=["map_macro"], resamples=0)
            assert found.value("map_macro") == pytest.approx(expected, abs=1e-6)


def test_top_classes_are_those_of_imagenet(tmp_path):
    rows = [("a", "rifle", 0.9), ("a", "revolver", 0.1), ("b", "rifle", 0.9), ("b", "cleaver", 0.1)]
    pd.DataFrame(rows, columns=["image_id", "label", "score"]).to_csv(tmp_path / "p.csv", index=False)
    assert mh.read_predictions(tmp_path / "p.csv").n_classes == 1000
