"""Frames whose columns are not all classes, or not all classes that are evaluated: read as CSV files are."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

import manyhot as mh
from manyhot.errors import InputError, MatchError

RNG = np.random.default_rng(0)
IDS = pd.Index([f"i{k}" for k in range(300)], name="image_id")
LABELS = pd.DataFrame((RNG.random((300, 3)) < [0.3, 0.2, 0.1]).astype(int), IDS, ["a", "b", "rare"])
SCORES = pd.DataFrame(RNG.random((300, 3)) * 0.6 + 0.3 * LABELS, IDS)
AP = {c: average_precision_score(LABELS[c], SCORES[c]) for c in LABELS}


def results(labels, scores, classes=None):
    options = {"metrics": ["map_macro"], "resamples": 0, "classes": classes, "scores": "probability"}
    found = mh.evaluate(labels, scores, **options)
    return found.value("map_macro"), {note.partition(": ")[2] for note in found.notes}


@pytest.mark.parametrize("classes", [None, ["a", "b"], ["a", "b", "rare"]])
@pytest.mark.parametrize("beside_labels", [{}, {"weight": 2.5}, {"age": 30, "seller_id": range(300)}])
@pytest.mark.parametrize("beside_scores", [{}, {"other": 0.5}])
def test_frames_are_read_as_files_are(classes, beside_labels, beside_scores, tmp_path):
    if beside_labels and beside_scores and classes is None:
        return  # each has columns that the other lacks: refused
    if "weight" in beside_labels and classes is None:
        with pytest.raises(
            InputError, match="fractions in weight\n  do:      pass the class list as `classes`"
        ):
            results(LABELS.assign(**beside_labels), {"m": SCORES})
        return
    labels, scores = LABELS.assign(**beside_labels), SCORES.assign(**beside_scores)
    labels.to_csv(tmp_path / "labels.csv")
    scores.to_csv(tmp_path / "m.csv")
    value, notes = results(labels, {"m": scores.sample(frac=1, random_state=0)}, classes)
    precisions = [AP[c] for c in classes or AP]
    if beside_scores and classes is None:
        precisions.append(0)  # not valid on any image
    n_defined = 3 if classes is None else len(classes)
    assert value == pytest.approx(sum(precisions) / n_defined, abs=1e-6)
    expected = results(tmp_path / "labels.csv", tmp_path / "m.csv", classes)
    assert value == pytest.approx(expected[0], abs=1e-9)
    if set(labels) != set(scores) or classes:
        assert notes == expected[1]


def test_a_class_without_scores():
    value, notes = results(LABELS, {"m": SCORES, "few": SCORES[["a", "b"]]})
    assert value == pytest.approx(sum(AP.values()) / 3, abs=1e-6)
    assert any("rare" in note and "few" in note for note in notes)


def test_labels_in_memory_and_scores_in_a_file(tmp_path):
    SCORES.to_csv(tmp_path / "m.csv")
    value, notes = results(LABELS.assign(weight=2.5), tmp_path / "m.csv", ["a", "b"])
    assert value == pytest.approx((AP["a"] + AP["b"]) / 2, abs=1e-6)
    assert any("left out of the labels: rare" in note for note in notes)


def test_frames_that_name_different_classes_are_refused():
    with pytest.raises(MatchError, match="1 name not in labels, such as c; 1 name of labels missing"):
        results(LABELS, {"m": SCORES.rename(columns={"rare": "c"})})
