"""What diagnose calibration says about the classes of multi-label data."""

from dataclasses import replace

import numpy as np
import pytest

from manyhot import Reading, diagnose_calibration
from manyhot.tables import check

NAMES = ["atelectasis", "edema", "pneumonia"]
SIGMOIDS = Reading(scores="probability", classes=NAMES, dataset="rays")


@pytest.fixture(scope="module")
def rays():
    """Return findings of 600 images, many without any, and probabilities that are right but for one class."""
    rng = np.random.default_rng(0)
    p = rng.beta(0.4, 1.6, (600, 3))
    valid = (rng.random(p.shape) < p).astype(int)
    p[:, 2] **= 0.5
    return valid, p.astype(np.float32)


@pytest.fixture(scope="module")
def found(rays):
    valid, p = rays
    return diagnose_calibration(valid, {"net": p}, resamples=0, reading=SIGMOIDS)


def test_each_class_is_judged_on_all_images(rays, found):
    valid, p = rays
    rows = check(found.class_calibration, "class_calibration").to_pylist()
    assert [(r["model"], r["name"]) for r in rows] == [("net", name) for name in NAMES]
    for c, row in enumerate(rows):
        assert (row["n"], row["n_positives"], row["n_unasked"]) == (600, valid[:, c].sum(), 0)
        assert row["brier"] == pytest.approx(np.mean((p[:, c] - valid[:, c]) ** 2), rel=1e-5)
    assert [r["ece"] > r["ece_chance_hi"] for r in rows] == [False, False, True]
    bins = [r for r in found.calibration_bins.to_pylist() if r["event"] == "class"]
    assert sum(r["n"] for r in bins) == 1800


def test_the_terminal_judges_classes_and_not_the_top_class(found):
    lines = list(found.lines())
    (row,) = [r for r in found.class_calibration.to_pylist() if r["name"] == "pneumonia"]
    mean = np.mean([r["ece"] for r in found.class_calibration.to_pylist()])
    assert lines[0].startswith(
        f"The class probabilities of net are wrong by {mean:.3f} on average over 3 classes (class-wise ECE), "
        "measured per class on the 600 images of rays for which the label of the class is known, including "
        "images without "
        "any valid class; "
    )
    assert (
        f"Not calibrated, beyond chance: pneumonia (too high: {100 * row['predicted']:.0f} % predicted, "
        f"{100 * row['prevalence']:.0f} % valid). Top classes are not judged here"
    ) in lines[0]
    assert "rays, net: each class against its label" in lines
    assert not [line for line in lines if "right if the top class" in line]


def test_the_page_shows_the_classes(found, tmp_path):
    found.write(tmp_path)
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Each class against its label" in page
    assert "Reliability of the class probabilities of net, rays" in page
    assert "list the false positives and misses of each class." in page
    # A run that judges no class leaves no table of an earlier one.
    replace(found, class_calibration=found.class_calibration.slice(0, 0)).write(tmp_path)
    assert not list(tmp_path.glob("class_calibration.*"))
    assert "Each class against its label" not in (tmp_path / "report" / "index.html").read_text()


@pytest.mark.parametrize(("method", "is_fitted"), [("temperature", True), ("isotonic", False)])
def test_the_page_speaks_of_recalibration_only_if_there_was_one(rays, tmp_path, method, is_fitted):
    """Isotonic regression needs 200 images with the same class, but there are only 300 images to fit on."""
    valid, p = rays
    found = diagnose_calibration(valid, {"net": p}, methods=[method], resamples=0, reading=SIGMOIDS)
    assert (set(found.calibration["method"].to_pylist()) == {"none"}) != is_fitted
    found.write(tmp_path)
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Confidence of the top class" in page
    assert ("before and after recalibration" in page) == is_fitted
    assert ("Methods are fitted on some of the images" in page) == is_fitted


def test_the_top_class_is_judged_if_every_image_has_one(rays):
    valid, p = rays
    some = valid.any(axis=1)
    lines = list(diagnose_calibration(valid[some], {"net": p[some]}, resamples=0, reading=SIGMOIDS).lines())
    assert "rays, net: each class against its label" in lines
    assert [line for line in lines if "right if the top class is in the label set" in line]
    assert "Top classes are not judged here" not in lines[0]


def test_pairs_without_an_answer_are_counted(rays):
    valid, p = rays
    states = valid.astype(float)
    states[:150, 0], states[150:180, 1] = np.nan, -1
    lines = list(diagnose_calibration(states, {"net": p}, resamples=0, reading=SIGMOIDS).lines())
    assert "measured per class on the 450 to 600 images of rays" in lines[0]
    assert "because their label is unknown: 8.3 % not asked and 1.7 % unclear. If empty cells" in lines[0]


@pytest.mark.parametrize("label", [None, np.zeros(600, int)])
def test_a_softmax_and_original_labels_are_judged_by_the_top_class(rays, label):
    valid, p = rays
    scores = p / p.sum(axis=1, keepdims=True) if label is None else p
    reading = Reading(scores="probability", classes=NAMES, label=label)
    found = diagnose_calibration(valid, {"net": scores}, resamples=0, reading=reading)
    assert found.class_calibration.num_rows == 0
    assert [line for line in found.lines() if "right if the top class is in the label set" in line]
