"""Recalibration against likelihoods written out, and against the formula of isotonic regression."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, logsumexp

from manyhot.core.calibration import FitLabels, fit_isotonic, fit_temperature_of_all, fit_vector
from manyhot.core.sets import Case, LabelSets
from manyhot.errors import InputError
from manyhot.registry import get

N, C = 700, 4


def drawn(seed, weight, bias):
    """Return logits, and labels drawn from their softmax when they are multiplied and shifted."""
    rng = np.random.default_rng(seed)
    logits = (2 * rng.normal(size=(N, C))).astype(np.float32)
    p = np.exp(log_softmax(logits * weight + bias, axis=1))
    return logits, np.array([rng.choice(C, p=row / row.sum()) for row in p])


def case_of(logits, sets, label=None, kind="logit"):
    return Case.from_scores(LabelSets.from_lists(sets, C, label=label), logits, kind=kind)


@pytest.mark.parametrize("to", ["labels", "sets"])
@pytest.mark.parametrize("kind", ["logit", "probability"])
def test_one_temperature(to, kind):
    logits, label = drawn(0, 0.5, 0)
    sets = [[c] if i % 3 else [c, (c + 1) % C] for i, c in enumerate(label)]
    wanted = [[c] for c in label] if to == "labels" else sets

    def nll(log_t):
        logs = log_softmax(logits.astype(float) / np.exp(log_t), axis=1)
        return -np.mean([logsumexp(logs[i, s]) for i, s in enumerate(wanted)])

    expected = np.exp(minimize_scalar(nll, bounds=(-3, 3), method="bounded", options={"xatol": 1e-8}).x)
    scores = logits if kind == "logit" else np.exp(log_softmax(logits, axis=1))
    case = case_of(scores, sets, label, kind)
    found = fit_temperature_of_all(
        case, (FitLabels.of_labels if to == "labels" else FitLabels.of_sets)(case.labels)
    )
    assert found.temperature == pytest.approx(expected, rel=1e-3)
    if to == "labels":
        assert found.temperature == pytest.approx(2, rel=0.15)
    name = "nll" if to == "labels" else "nll_mass"
    before, after = (get("metric", name)(c).value(None) for c in (case, found.apply(case)))
    assert after < before


@pytest.mark.parametrize("common", [0, 50])
@pytest.mark.parametrize("to", ["labels", "sets"])
def test_a_weight_and_a_bias_for_each_class(to, common):
    """Whatever is added to all logits: they have the same softmax."""
    weight, bias = np.array([0.5, 1, 0.7, 0.4]), np.array([0.5, -0.5, 0, 0])
    logits, label = drawn(1, weight, bias)
    sets = [[c] if to == "labels" or i % 5 else [c, (c + 1) % C] for i, c in enumerate(label)]
    case = case_of(logits + np.float32(common), sets, label)
    outside = ~np.array([[c in s for c in range(C)] for s in sets])

    def nll(parameters):
        w, b = parameters.reshape(2, C)
        logs = log_softmax(logits * w + b, axis=1)
        return -logsumexp(np.where(outside, -np.inf, logs), axis=1).mean()

    expected = minimize(nll, np.concatenate([np.ones(C), np.zeros(C)]), method="BFGS")
    fitted_to = (FitLabels.of_labels if to == "labels" else FitLabels.of_sets)(case.labels)
    found = fit_vector(case, fitted_to)
    shift = found.bias + common * found.weight
    assert nll(np.concatenate([found.weight, shift])) == pytest.approx(expected.fun, abs=1e-5)
    if to == "labels":
        assert found.weight == pytest.approx(weight, abs=0.2)
        assert shift - shift.mean() == pytest.approx(bias - bias.mean(), abs=0.3)
    name = "nll" if to == "labels" else "nll_mass"
    after, before = (get("metric", name)(c).value(None) for c in (found.apply(case), case))
    assert after == pytest.approx(expected.fun, abs=1e-5)
    assert after < before


def test_a_class_that_is_ruled_out_stays_out():
    logits, label = drawn(2, 1, 0)
    logits[:, 3] = -np.inf
    label = label % 3
    case = case_of(logits, label[:, None], label)
    for fit in (fit_temperature_of_all, fit_vector):
        scaled = fit(case, FitLabels.of_labels(case.labels)).apply(case)
        assert np.isfinite(get("metric", "nll")(scaled).value(None))
        assert scaled.probability_of(np.arange(N), np.full(N, 3)).max() == 0


def test_isotonic_is_the_max_of_min_of_means():
    rng = np.random.default_rng(0)
    confidence = rng.random(60).round(1)  # with equals
    right = rng.random(60) < confidence**2
    found = fit_isotonic(confidence, right)
    x = np.unique(confidence)

    def mean(a, b):
        return right[(confidence >= a) & (confidence <= b)].mean()

    expected = [max(min(mean(a, b) for b in x[x >= v]) for a in x[x <= v]) for v in x]
    assert found.apply(x) == pytest.approx(expected)
    assert found.apply(np.array([-1.0, 2.0])) == pytest.approx([expected[0], expected[-1]])
    assert found.apply((x[3:4] + x[4:5]) / 2)[0] == pytest.approx((expected[3] + expected[4]) / 2)


def refused(make):
    with pytest.raises(InputError) as error:
        make()
    return str(error.value)


@pytest.mark.parametrize("fit", [fit_temperature_of_all, fit_vector])
def test_scores_that_no_softmax_gives(fit):
    """Sigmoids, negative probabilities and infinite logits are no silent temperature."""
    labels = LabelSets.from_lists([[0], [1], [2]], 3, label=[0, 1, 2])

    def message(scores, kind):
        case = replace(
            Case.from_scores(labels, np.array(scores, np.float32), kind=kind), name="image {}".format
        )
        return refused(lambda: fit(case, FitLabels.of_labels(labels)))

    whole, off = [0.5, 0.3, 0.2], [0.9, 0.8, 0.7]
    assert message([whole, off, whole], "probability") == (
        "The probabilities of an image do not add up to 1.\n"
        "  where:   image 1\n"
        "  got:     2.4; 1 of 3 images are affected\n"
        "  allowed: 1 ± 0.02\n"
        "  do:      for scores of independent classes, such as sigmoids, use ece_set, brier_set or "
        "classwise_ece_set, or recalibrate each class with manyhot calibrate"
    )
    assert message([whole, whole, [1.2, -0.2, 0]], "probability").splitlines()[:3] == [
        "A probability is not between 0 and 1.",
        "  where:   image 2",
        "  got:     1.2",
    ]
    for bad in ([np.inf, 0, 0], [-np.inf] * 3):
        assert message([whole, bad, whole], "logit").splitlines()[:2] == [
            "The softmax of the logits is undefined: a row contains NaN, infinity, or only minus infinity.",
            "  where:   image 1",
        ]
    assert message([whole, whole, [1, 0, -np.inf]], "logit").splitlines()[:2] == [
        "A class in the labels has a logit of minus infinity, so its likelihood is 0.",
        "  where:   image 2, class 2",
    ]


@pytest.mark.parametrize("kind", ["logit", "probability"])
def test_what_is_scaled_must_have_a_softmax_too(kind):
    logits, label = drawn(3, 1, 0)
    found = fit_temperature_of_all(
        case_of(logits, label[:, None], label),
        FitLabels.of_labels(LabelSets.from_lists(label[:, None], C, label=label)),
    )
    bad = case_of(np.full((N, C), np.inf if kind == "logit" else 0.9, np.float32), label[:, None], kind=kind)
    assert refused(lambda: found.apply(bad)).splitlines()[0] in (
        "The softmax of the logits is undefined: a row contains NaN, infinity, or only minus infinity.",
        "The probabilities of an image do not add up to 1.",
    )


def test_what_cannot_be_fitted():
    case = case_of(np.eye(4, dtype=np.float32), [[], [], [], []])
    assert refused(lambda: FitLabels.of_sets(case.labels)) == (
        "No image has labels to fit to.\n"
        "  got:     no image with a label set\n"
        "  allowed: images with labels in the split used for fitting"
    )
    assert "no image with an original label" in refused(lambda: FitLabels.of_labels(case.labels))
    assert refused(lambda: fit_isotonic(np.empty(0), np.empty(0, bool))) == (
        "No image has labels to fit to.\n  got:     no image\n  allowed: at least one image"
    )
    labels = LabelSets.from_lists([[0]], C, label=[0])
    lists = Case(labels, np.array([[0, 1]]), listed=np.array([[0.6, 0.4]]))
    assert refused(lambda: fit_vector(lists, FitLabels.of_labels(labels))) == (
        "Scaling needs logits or probabilities of all classes.\n"
        "  got:     lists of top classes\n"
        "  allowed: dense predictions whose scores are declared as logit or probability\n"
        "  do:      use scores of all classes, or isotonic, which needs only the top class"
    )


def test_images_that_are_left_out_are_not_fitted_to():
    labels = LabelSets.from_lists([[0], [1, 2], [3]], 4, label=[0, 1, 3], usable=np.arange(3) != 1)
    assert FitLabels.of_sets(labels).image.tolist() == [0, 2]
