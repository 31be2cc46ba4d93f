"""Temperatures, against likelihoods over dense logits written out and minimised by another method."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp

from manyhot.core.calibration import RANGE, Tail, calibrated, fit_temperature, mass_target, set_target
from manyhot.core.sets import NO_LABEL, LabelSets
from manyhot.core.top_classes import top_k

N, C = 400, 12


def drawn(seed, temperature):
    """Return logits, and labels drawn from their softmax at a temperature."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(N, C))
    p = np.exp(log_softmax(logits / temperature, axis=1))
    label = np.array([rng.choice(C, p=row / row.sum()) for row in p])
    return logits, label


def tail_of(logits, k):
    top = top_k(logits.astype(np.float32), k)
    p = np.exp(log_softmax(logits, axis=1))
    return top, Tail.of(top, np.take_along_axis(p, top.astype(int), 1), C)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_dense_scores_against_the_usual_likelihood(temperature):
    logits, label = drawn(0, temperature)

    def nll(log_t):
        return -log_softmax(logits / np.exp(log_t), axis=1)[np.arange(N), label].mean()

    expected = np.exp(minimize_scalar(nll, bounds=np.log(RANGE), method="bounded").x)
    top, tail = tail_of(logits, C)
    sets = LabelSets.from_lists(label[:, None], C)
    found = fit_temperature(tail, set_target(tail, top, sets))
    assert found == pytest.approx(expected, rel=1e-3)
    assert found == pytest.approx(temperature, rel=0.2)


def test_a_set_is_a_class_of_it_at_random():
    logits, label = drawn(1, 2.0)
    sets = [sorted({int(c), int(c + 1) % C}) if i % 2 else [int(c)] for i, c in enumerate(label)]

    def nll(log_t):
        logs = log_softmax(logits / np.exp(log_t), axis=1)
        return -np.mean([logs[i, s].mean() for i, s in enumerate(sets)])

    expected = np.exp(minimize_scalar(nll, bounds=np.log(RANGE), method="bounded").x)
    top, tail = tail_of(logits, C)
    found = fit_temperature(tail, set_target(tail, top, LabelSets.from_lists(sets, C)))
    assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("k", [C, 2])
def test_the_mass_of_a_set(k):
    """Of lists, too: what is left is spread evenly over the classes that are not listed."""
    logits, label = drawn(1, 2.0)
    sets = [sorted({int(c), int(c + 1) % C}) if i % 2 else [int(c)] for i, c in enumerate(label)]
    top, tail = tail_of(logits, k)
    logs = np.repeat(tail.other, C, axis=1)
    np.put_along_axis(logs, top.astype(int), tail.listed, axis=1)

    def nll(log_t):
        found = log_softmax(logs / np.exp(log_t), axis=1)
        return -np.mean([logsumexp(found[i, s]) for i, s in enumerate(sets)])

    expected = np.exp(minimize_scalar(nll, bounds=np.log(RANGE), method="bounded").x)
    found = fit_temperature(tail, mass_target(tail, top, LabelSets.from_lists(sets, C)))
    assert found == pytest.approx(expected, rel=1e-3)


def test_a_list_is_as_good_as_all_scores_where_the_others_are_equal():
    logits, label = drawn(2, 2.0)
    top = top_k(logits.astype(np.float32), 5)
    outside = np.ones((N, C), bool)
    np.put_along_axis(outside, top.astype(int), False, axis=1)
    logits[outside] = -1.0
    sets = LabelSets.from_lists(label[:, None], C)
    for temperature in (0.7, 1.0, 4.0):
        expected = np.exp(log_softmax(logits / temperature, axis=1))
        p = np.exp(log_softmax(logits, axis=1))
        tail = Tail.of(top, np.take_along_axis(p, top.astype(int), 1), C)
        listed, other = calibrated(tail, temperature)
        np.testing.assert_allclose(listed, np.take_along_axis(expected, top.astype(int), 1), rtol=1e-9)
        np.testing.assert_allclose(other[:, 0], expected[outside].reshape(N, -1)[:, 0], rtol=1e-9)
    dense_top, dense = tail_of(logits, C)
    assert fit_temperature(tail, set_target(tail, top, sets)) == pytest.approx(
        fit_temperature(dense, set_target(dense, dense_top, sets)), rel=1e-4
    )


def test_all_add_up_to_one_with_ragged_lists():
    top = np.array([[0, 1, 2], [3, NO_LABEL, NO_LABEL]])
    tail = Tail.of(top, np.array([[0.5, 0.3, 0.1], [0.6, 0.0, 0.0]], np.float32), 5)
    listed, other = calibrated(tail, 2.0)
    np.testing.assert_allclose(listed.sum(1) + np.array([2, 4]) * other[:, 0], 1)
    assert (listed[1, 1:] == 0).all()


@pytest.mark.parametrize(("sign", "expected"), [(1, RANGE[0]), (-1, RANGE[1])])
def test_always_right_or_always_wrong_ends_at_an_end(sign, expected):
    logits, _ = drawn(3, 1.0)
    label = (sign * logits).argmax(1)
    top, tail = tail_of(logits, C)
    assert fit_temperature(tail, set_target(tail, top, LabelSets.from_lists(label[:, None], C))) == expected
