"""Linear heads, held against scikit-learn's logistic regression."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from manyhot.classes import from_keys
from manyhot.core.sets import NO, NO_LABEL, NOT_ASKED, UNCLEAR, YES
from manyhot.errors import InputError
from manyhot.predict.adapters.trained import head_layer
from manyhot.predict.weights import read_head, write_head
from manyhot.train.heads import MASKS, PENALTIES, Invariance, fit_sigmoid, fit_softmax

pytest.importorskip("torch")

CLASSES = from_keys(("cat", "dog", "sofa", "train"))


@pytest.fixture(scope="module")
def data():
    """600 images with 12 features of unlike scales, one of them constant, and classes that overlap."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, 600)
    x = rng.normal(size=(600, 12)) + 1.5 * rng.normal(size=(4, 12))[label]
    x = x * 10 ** rng.uniform(-2, 2, 12) + rng.normal(size=12)
    x[:, 5] = 7
    state = np.where(rng.random((600, 4)) < 0.2, YES, NO)
    state[np.arange(600), label] = YES
    return x, label, state


def sklearn_probabilities(x, y, penalty, weights=None):
    n = len(y) if weights is None else weights.sum()
    scaler = StandardScaler().fit(x, sample_weight=weights)
    fitted = LogisticRegression(C=1 / (penalty * n), max_iter=10_000, tol=1e-9)
    return fitted.fit(scaler.transform(x), y, sample_weight=weights), scaler


@pytest.mark.parametrize("penalty", [1.0, 0.01])
@pytest.mark.parametrize("weighted", [False, True])
def test_softmax_is_logistic_regression(data, penalty, weighted):
    x, label, _ = data
    weights = np.random.default_rng(1).uniform(0, 3, len(x)) if weighted else None
    head = fit_softmax(x, label, CLASSES, "b", weights=weights, penalty=penalty)
    reference, scaler = sklearn_probabilities(x, label, penalty, weights)
    np.testing.assert_allclose(
        head.probabilities(x), reference.predict_proba(scaler.transform(x)), rtol=0, atol=1e-3
    )


def test_sigmoid_is_a_logistic_regression_a_class(data):
    x, _, state = data
    head = fit_sigmoid(x, state, CLASSES, "b", penalty=0.03)
    for c in range(4):
        reference, scaler = sklearn_probabilities(x, state[:, c] == YES, 0.03)
        expected = reference.predict_proba(scaler.transform(x))[:, 1]
        np.testing.assert_allclose(head.probabilities(x)[:, c], expected, rtol=0, atol=1e-3)


def differences(x, k=30):
    """Differences along one direction and a half, as of images with something pasted in."""
    rng = np.random.default_rng(2)
    directions = rng.normal(size=(2, 12)) * [[1.0], [0.5]]
    return rng.normal(size=(k, 2)) @ directions * x.std(0)


@pytest.mark.parametrize("strength", [0.1, 3.0])
def test_a_class_that_must_not_depend_on_differences(data, strength):
    """SciPy minimises the loss as it is written: mean cross-entropy and both penalties."""
    x, _, state = data
    penalty, d, y = 0.03, differences(x), state[:, 1] == YES
    scale = np.where(np.ptp(x, axis=0), x.std(0), 1)
    seen, moved = (x - x.mean(0)) / scale, d / scale

    def loss(layer):
        w, logit = layer[:-1], seen @ layer[:-1] + layer[-1]
        own = np.mean(np.logaddexp(0, np.where(y, -logit, logit)))
        return own + penalty / 2 * w @ w + strength / 2 * np.mean((moved @ w) ** 2)

    best = minimize(loss, np.zeros(13), tol=1e-12).x
    plain = fit_sigmoid(x, state, CLASSES, "b", penalty=penalty)
    head = fit_sigmoid(x, state, CLASSES, "b", penalty=penalty, invariances=[Invariance(1, d, strength)])
    np.testing.assert_allclose(head.probabilities(x)[:, 1], expit(seen @ best[:-1] + best[-1]), atol=1e-3)
    others = [0, 2, 3]
    np.testing.assert_allclose(head.probabilities(x)[:, others], plain.probabilities(x)[:, others], atol=1e-3)


def test_a_strong_invariance_projects_the_differences_out(data):
    """In the limit, the head is one fitted to features without the directions of the differences."""
    x, label, _ = data
    d = differences(x)
    invariances = [Invariance(c, d, 1e4) for c in range(4)]
    head = fit_softmax(x, label, CLASSES, "b", penalty=0.03, invariances=invariances)
    assert np.abs(d @ head.weight.T).max() < 0.02
    scale = np.where(np.ptp(x, axis=0), x.std(0), 1)
    seen = (x - x.mean(0)) / scale
    basis = np.linalg.svd(d / scale, full_matrices=False)[2][:2]
    reference = LogisticRegression(C=1 / (0.03 * len(x)), max_iter=10_000, tol=1e-9)
    expected = reference.fit(seen - seen @ basis.T @ basis, label).predict_proba(
        seen - seen @ basis.T @ basis
    )
    np.testing.assert_allclose(head.probabilities(x), expected, rtol=0, atol=3e-3)


def test_cells_that_are_not_known_do_not_count(data):
    x, _, state = data
    rng = np.random.default_rng(2)
    unknown = rng.random(state.shape) < 0.3
    masked = np.where(unknown, np.where(rng.random(state.shape) < 0.5, UNCLEAR, NOT_ASKED), state)
    head = fit_sigmoid(x, masked, CLASSES, "b", penalty=0.03)
    for c in range(4):
        known = ~unknown[:, c]
        scaler = StandardScaler().fit(x)  # features are standardised over all images
        reference = LogisticRegression(C=1 / (0.03 * known.sum()), max_iter=10_000, tol=1e-9)
        reference.fit(scaler.transform(x[known]), state[known, c] == YES)
        expected = reference.predict_proba(scaler.transform(x))[:, 1]
        np.testing.assert_allclose(head.probabilities(x)[:, c], expected, rtol=0, atol=1e-3)


def test_weights_are_repetitions(data):
    x, label, state = data
    times = np.random.default_rng(3).integers(0, 3, len(x))
    again = np.repeat(np.arange(len(x)), times)
    for fit, wanted in ((fit_softmax, label), (fit_sigmoid, state)):
        weighted = fit(x, wanted, CLASSES, "b", weights=times, penalty=0.1)
        assert weighted.n == np.count_nonzero(times)
        repeated = fit(x[again], wanted[again], CLASSES, "b", penalty=0.1)
        np.testing.assert_allclose(weighted.probabilities(x), repeated.probabilities(x), rtol=0, atol=1e-3)


def test_a_start_leads_to_the_same_end(data):
    x, label, state = data
    for fit, wanted in ((fit_softmax, label), (fit_sigmoid, state)):
        other = fit(x[::2], wanted[::2], CLASSES, "b", penalty=0.03)
        head = fit(x, wanted, CLASSES, "b", penalty=0.03, start=other)
        np.testing.assert_allclose(
            head.probabilities(x),
            fit(x, wanted, CLASSES, "b", penalty=0.03).probabilities(x),
            rtol=0,
            atol=1e-3,
        )


def test_the_penalty_is_the_likeliest_on_a_tenth(data):
    x, label, _ = data
    held = np.arange(len(x)) % 10 == 0
    mean, deviation = x.mean(0), np.maximum(x.std(0), 1e-9)
    seen = (x - mean) / deviation
    loss = {}
    for penalty in PENALTIES:
        fitted = LogisticRegression(C=1 / (penalty * (~held).sum()), max_iter=10_000, tol=1e-9)
        p = fitted.fit(seen[~held], label[~held]).predict_proba(seen[held])
        loss[penalty] = -np.log(p[np.arange(held.sum()), label[held]]).mean()
    assert fit_softmax(x, label, CLASSES, "b").penalty == min(loss, key=loss.get)


def test_classes_without_images(data):
    x, label, state = data
    head = fit_softmax(x, np.where(label == 2, NO_LABEL, label), CLASSES, "b", penalty=0.1)
    assert head.n == (label != 2).sum()
    assert head.probabilities(x)[:, 2].max() < 1e-30
    state = state.copy()
    state[:, 1], state[:, 3] = NO, YES
    p = fit_sigmoid(x, state, CLASSES, "b", penalty=0.1).probabilities(x)
    np.testing.assert_allclose(p[:, 1], 0.5 / 601, rtol=1e-5)
    np.testing.assert_allclose(p[:, 3], 600.5 / 601, rtol=1e-5)


def test_the_same_features_give_the_same_file(data, tmp_path):
    x, label, _ = data
    for name in "ab":
        head = fit_softmax(x, label, CLASSES, "b", penalty=0.1)
        write_head(head, tmp_path / f"{name}.safetensors", call="a call")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    again = read_head(tmp_path / "a.safetensors")
    assert (again.classes.hash, again.loss, again.penalty, again.n) == (CLASSES.hash, "softmax", 0.1, 600)
    np.testing.assert_array_equal(again.weight, head.weight)


X = np.zeros((4, 2))


@pytest.mark.parametrize(
    ("fit", "arguments", "options", "message"),
    [
        (
            fit_softmax,
            (X, [0, 1, 2]),
            {},
            "The shapes of features, labels and weights do not match.\n"
            "  got:     shapes (4, 2), (3,) and (4,)\n  allowed: (n, D), one row per image, and (n,)",
        ),
        (
            fit_softmax,
            (X, [0, 1, 2, 4]),
            {},
            "A label is not one of the classes.\n  got:     4\n  allowed: 0 to 3, one per image",
        ),
        (
            fit_softmax,
            (X, [0, 0, -1, -1]),
            {},
            "A head needs images of at least two classes.\n  got:     classes with images: 1",
        ),
        (
            fit_softmax,
            (X * np.nan, [0, 1, 2, 3]),
            {},
            "Features must be finite, and weights must be finite and at least 0.",
        ),
        (
            fit_softmax,
            (X, [0, 1, 2, 3]),
            {"weights": [1, 1, 1, -1]},
            "Features must be finite, and weights must be finite and at least 0.",
        ),
        (
            fit_sigmoid,
            (X, np.full((4, 3), YES)),
            {},
            "The states do not match the classes.\n  got:     shape (4, 3)\n  allowed: (n, 4)",
        ),
        (
            fit_sigmoid,
            (X, np.full((4, 4), YES)),
            {},
            "No class is valid for some images and absent for others, so nothing can be fitted.",
        ),
    ],
)
def test_what_cannot_be_fitted(fit, arguments, options, message):
    with pytest.raises(InputError) as error:
        fit(*arguments, CLASSES, "b", **options)
    assert str(error.value) == message


def test_frames_are_matched_by_index_and_columns():
    rng = np.random.default_rng(0)
    ids, keys = [f"{i}.jpg" for i in range(30)], ["boat", "car", "dog"]
    rows, classes = rng.permutation(30), from_keys(keys)
    features, states = rng.normal(size=(30, 4)), np.where(rng.random((30, 3)) < 0.4, YES, NO)
    label, weights = rng.integers(0, 3, 30), rng.random(30)
    frame = pd.DataFrame(features, ids)
    shuffled = pd.DataFrame(states, ids, keys).iloc[rows, [2, 0, 1]]
    np.testing.assert_array_equal(
        fit_sigmoid(frame, shuffled, classes, "b", penalty=0.1).weight,
        fit_sigmoid(features, states, classes, "b", penalty=0.1).weight,
    )
    series = {"label": pd.Series(label, ids).iloc[rows], "weights": pd.Series(weights, ids).iloc[rows[::-1]]}
    np.testing.assert_array_equal(
        fit_softmax(frame, classes=classes, backbone="b", penalty=0.1, **series).weight,
        fit_softmax(features, label, classes, "b", weights=weights, penalty=0.1).weight,
    )


def test_dropout_is_a_regression_on_copies_with_dropped_features(data):
    """scikit-learn fits the same head to the copies, whose masks are those of the fit."""
    x, label, _ = data
    x = np.abs(x)  # as after a ReLU
    head = fit_softmax(x, label, CLASSES, "b", penalty=0.1, dropout=0.5)
    kept = np.random.default_rng(0).random((MASKS * len(x), x.shape[1])) >= 0.5
    copies = np.tile(x, (MASKS, 1)) * kept / 0.5
    seen = (copies - copies.mean(0)) / copies.std(0)
    fitted = LogisticRegression(C=1 / (0.1 * len(copies)), tol=1e-8, max_iter=5000)
    expected = fitted.fit(seen, np.tile(label, MASKS)).predict_proba((x - copies.mean(0)) / copies.std(0))
    assert head.probabilities(x) == pytest.approx(expected, abs=2e-3)
    assert (head.dropout, head.n) == (0.5, len(x))


def test_a_file_keeps_the_dropout_and_the_layer_has_it(data, tmp_path):
    x, label, _ = data
    head = fit_softmax(x, label, CLASSES, "b", penalty=1.0, dropout=0.25)
    again = read_head(write_head(head, tmp_path / "head.safetensors"))
    assert again.dropout == 0.25
    layers = [m for m in head_layer(again) if type(m).__name__ == "Dropout"]
    assert [m.p for m in layers] == [0.25]
    plain = fit_softmax(x, label, CLASSES, "b", penalty=1.0)
    assert not [m for m in head_layer(plain) if type(m).__name__ == "Dropout"]
    with pytest.raises(InputError) as error:
        fit_softmax(x, label, CLASSES, "b", dropout=1.0)
    assert str(error.value) == (
        "This is not a rate of dropout.\n  got:     1.0\n  allowed: 0 or more, below 1"
    )
