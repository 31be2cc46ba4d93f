"""Calibration to the shares of votes, for labels of which raters chose one class per image."""

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.isotonic import IsotonicRegression

from manyhot import Predictions, calibrate, diagnose_calibration, evaluate
from manyhot.tables.array_inputs import as_labels

N, C, VOTES = 1200, 4, 30


@pytest.fixture(scope="module")
def voted():
    """Return counts of votes, the probabilities that they were drawn from, and a model that is too sure."""
    rng = np.random.default_rng(5)
    p = rng.dirichlet([3, 2, 1, 1], N)
    counts = np.array([rng.multinomial(VOTES, row) for row in p])
    logits = (3 * np.log(p) + rng.normal(0, 0.3, p.shape)).astype(np.float32)
    labels = as_labels(counts, label_values="counts")
    net = Predictions(labels.image_id, "net", scores=logits, score_kind="logit", n_classes=C)
    honest = Predictions(
        labels.image_id, "honest", scores=np.log(p).astype(np.float32), score_kind="logit", n_classes=C
    )
    return counts / VOTES, labels, net, honest


def halves(labels, calibrated):
    """Return the rows that a model was fitted on, and the rows of its predictions."""
    row = {image: i for i, image in enumerate(labels.image_id.to_pylist())}
    rest = np.array([row[image] for image in calibrated.image_id.to_pylist()])
    return np.setdiff1d(np.arange(len(row)), rest), rest


def cross_entropy(shares, logits):
    return -(shares * log_softmax(logits, axis=1)).sum(1).mean()


def test_votes_are_what_a_model_is_calibrated_to_if_they_are_known(voted):
    shares, labels, net, _ = voted
    cooled = calibrate(labels, net).predictions
    assert cooled.model == "net, temperature (votes)"
    fitted, rest = halves(labels, cooled)
    best = minimize_scalar(
        lambda b: cross_entropy(shares[fitted], b * net.scores[fitted].astype(float)), bounds=(0.01, 5)
    )
    expected = log_softmax(best.x * net.scores[rest].astype(float), axis=1)
    assert log_softmax(cooled.scores.astype(float), axis=1) == pytest.approx(expected, abs=2e-3)


def test_scaling_of_each_class_has_the_highest_likelihood_of_the_votes(voted):
    shares, labels, net, _ = voted
    scaled = calibrate(labels, net, method="vector", to="votes").predictions
    fitted, rest = halves(labels, scaled)
    logits = net.scores.astype(float)
    best = minimize(
        lambda x: cross_entropy(shares[fitted], x[:C] * logits[fitted] + x[C:]),
        np.r_[np.ones(C), np.zeros(C)],
    )
    expected = softmax(best.x[:C] * logits[rest] + best.x[C:], axis=1)
    assert softmax(scaled.scores.astype(float), axis=1) == pytest.approx(expected, abs=5e-3)


def test_isotonic_regression_is_that_of_scikit_learn(voted):
    shares, labels, net, _ = voted
    curve = calibrate(labels, net, method="isotonic", to="votes").predictions
    fitted, rest = halves(labels, curve)
    p, top = softmax(net.scores, axis=1), net.scores.argmax(1)
    sure, right = p.max(1).astype(float), shares[np.arange(N), top]
    reference = IsotonicRegression(out_of_bounds="clip").fit(sure[fitted], right[fitted])
    assert curve.scores[:, 0] == pytest.approx(reference.predict(sure[rest]), abs=1e-4)


def test_lists_of_top_classes_spread_the_rest_evenly(voted):
    shares, labels, net, _ = voted
    p = softmax(net.scores.astype(float), axis=1)
    top = np.argsort(-p, axis=1)[:, :2]
    listed = np.take_along_axis(p, top, 1)
    lists = Predictions(
        labels.image_id, "net", classes=top, scores=listed, score_kind="probability", n_classes=C
    )
    cooled = calibrate(labels, lists).predictions
    fitted, rest = halves(labels, cooled)
    even = np.repeat((1 - listed.sum(1, keepdims=True)) / (C - 2), C, axis=1)
    np.put_along_axis(even, top, listed, 1)
    best = minimize_scalar(
        lambda b: cross_entropy(shares[fitted], b * np.log(even[fitted])), bounds=(0.01, 5)
    )
    expected = np.take_along_axis(softmax(best.x * np.log(even[rest]), axis=1), top[rest], 1)
    assert cooled.scores == pytest.approx(expected, abs=1e-3)


def test_the_true_probabilities_are_called_calibrated_and_remain_so(voted):
    _, labels, _, honest = voted
    found = diagnose_calibration(labels, [honest], resamples=0)
    first = next(iter(found.lines()))
    before = evaluate(labels, [honest], metrics=["ece_votes", "kl_votes"], resamples=0)
    after = evaluate(
        labels, [calibrate(labels, honest).predictions], metrics=["ece_votes", "kl_votes"], resamples=0
    )
    assert before.value("ece_votes") < 0.02
    assert after.value("ece_votes") < 0.02
    assert after.value("kl_votes") == pytest.approx(before.value("kl_votes"), abs=0.01)
    assert "The confidence of honest is wrong by 0.0" in first
    assert "(ECE against votes, ece_votes)" in first
    assert first.endswith("Confidence is compared with the share of votes for the top class.")
    assert not any("right if the top class is the original label" in line for line in found.lines())


def test_the_best_method_is_the_best_against_votes(voted):
    _, labels, net, _ = voted
    found = diagnose_calibration(labels, [net], resamples=0)
    assert "(votes), the lowest ECE of 6 methods" in next(iter(found.lines()))


def test_label_sets_without_votes_are_fitted_to_as_before(voted):
    _, _, net, _ = voted
    labels = as_labels([[int(row.argmax())] for row in net.scores], n_classes=C)
    assert calibrate(labels, net).predictions.model == "net, temperature (sets)"
    found = diagnose_calibration(labels, [net], resamples=0).calibration
    assert set(found["fitted_to"].to_pylist()) == {None, "sets"}
    assert not any("votes" in metric for metric in found["metric"].to_pylist())
