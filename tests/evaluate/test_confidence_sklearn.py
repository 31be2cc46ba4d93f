"""Uncertainty metrics and isotonic regression against scikit-learn, on labels of one class."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from manyhot import evaluate
from manyhot.core.calibration import fit_isotonic
from manyhot.data.inputs import Reading

N, C = 2000, 10


@pytest.fixture(scope="module")
def given():
    rng = np.random.default_rng(0)
    logits = (2 * rng.normal(size=(N, C))).astype(np.float32)
    p = np.exp(logits.astype(float))
    p /= p.sum(axis=1, keepdims=True)
    label = np.array([rng.choice(C, p=row) for row in p**0.7 / (p**0.7).sum(1, keepdims=True)])
    return logits, p, label, p.argmax(1) == label


@pytest.mark.parametrize("suffix", ["", "_set"])
def test_against_scikit_learn(given, suffix):
    logits, p, label, right = given
    names = [f"{n}{suffix}" for n in ("brier", "error_auroc", "ece")]
    names += ["nll_mass", "nll_best"] if suffix else ["nll"]
    # One label an image: both events are the same.
    found = evaluate(label, logits, metrics=names, resamples=0, reading=Reading(scores="logit"))
    confidence = p.max(1)
    assert found.value(names[0]) == pytest.approx(brier_score_loss(right, confidence), abs=1e-6)
    assert found.value(names[1]) == pytest.approx(roc_auc_score(right, confidence), abs=1e-6)
    accuracy, mean = calibration_curve(right, confidence, n_bins=15)
    count = np.histogram(confidence, bins=15, range=(0, 1))[0]
    expected = np.sum(count[count > 0] * np.abs(accuracy - mean)) / N
    assert found.value(names[2]) == pytest.approx(expected, abs=1e-6)
    for name in names[3:]:
        assert found.value(name) == pytest.approx(log_loss(label, p, labels=range(C)), abs=1e-6)


def test_isotonic_regression(given):
    _, p, _, right = given
    confidence = p.max(1)
    expected = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(confidence, right)
    at = np.linspace(0, 1, 1000)
    assert fit_isotonic(confidence, right).apply(at) == pytest.approx(expected.predict(at), abs=1e-6)
