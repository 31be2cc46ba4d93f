"""Prediction sets with a guaranteed precision: bounds against their definitions, and the guarantee itself."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import softmax
from scipy.stats import binom, entropy

from manyhot.core.conformal import (
    THRESHOLDS,
    certify_precision,
    count_in_sets,
    hoeffding_bentkus,
)
from manyhot.core.sets import NO_LABEL, Case, LabelSets
from manyhot.errors import InputError

C = 6


def drawn(rng, n, sure=3.0):
    p = softmax(sure * rng.normal(size=(n, C)), axis=1).astype(np.float32)
    sets = [np.unique(rng.choice(C, 2, p=row / row.sum())) for row in p.astype(float)]
    return p, sets


def case_of(p, sets):
    return Case.from_scores(LabelSets.from_lists(sets, C), p, kind="probability")


def certify(case, images=None, precision=0.8, delta=0.1, seed=0):
    images = np.arange(len(case.labels)) if images is None else images
    rng = np.random.default_rng(seed)
    return certify_precision(case, images, precision=precision, delta=delta, rng=rng)


def test_p_value_is_the_smaller_of_both_bounds():
    alpha = 0.2
    for risk, n in ((0.1, 50), (0.0, 20), (0.15, 400), (0.19, 30), (0.5, 40)):
        # scipy's relative entropy of two coins, and its binomial distribution.
        low = min(risk, alpha)
        hoeffding = np.exp(-n * entropy([low, 1 - low], [alpha, 1 - alpha]))
        bentkus = np.e * binom.cdf(np.ceil(round(n * risk, 9)), n, alpha)
        expected = min(hoeffding, bentkus, 1)
        assert hoeffding_bentkus(risk, n, alpha) == pytest.approx(expected, rel=1e-9)
    assert hoeffding_bentkus([0.0, 0.3], [0, 0], alpha).tolist() == [1, 1]


def test_p_values_are_valid():
    """Losses with an expectation of exactly alpha: at most a share u of the p-values is below u."""
    rng, alpha, n = np.random.default_rng(0), 0.15, 60
    for losses in (rng.random((4000, n)) < alpha, rng.beta(0.15, 0.85, (4000, n))):
        p = hoeffding_bentkus(losses.mean(axis=1), np.full(4000, n), alpha)
        for u in (0.05, 0.1, 0.3):
            assert np.mean(p <= u) <= u + 3 * np.sqrt(u * (1 - u) / 4000)


def test_counts_are_those_of_a_loop():
    p, sets = drawn(np.random.default_rng(1), 300)
    thresholds = np.array([0.01, 0.2, 0.5, 0.9])
    size, valid = count_in_sets(case_of(p, sets), thresholds)
    order = np.argsort(-p, axis=1)
    lists = Case(LabelSets.from_lists(sets, C), order, listed=np.take_along_axis(p, order, 1))
    for j, threshold in enumerate(thresholds):
        inside = [set(np.flatnonzero(row >= threshold)) for row in p]
        assert size[:, j].tolist() == [len(s) for s in inside]
        assert valid[:, j].tolist() == [len(s & set(y)) for s, y in zip(inside, sets, strict=True)]
    assert all(map(np.array_equal, count_in_sets(lists, thresholds), (size, valid)))


def test_guarantee_over_draws():
    """Of 300 draws, the precision in the population is missed in at most a share delta."""
    rng, precision, delta = np.random.default_rng(2), 0.8, 0.1
    p, sets = drawn(rng, 40_000)
    size, valid = count_in_sets(case_of(p, sets), THRESHOLDS)
    there = size > 0
    true = (valid / np.maximum(size, 1)).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    missed, certified = 0, 0
    for seed in range(300):
        rows = rng.integers(0, len(p), 500)
        found = certify(case_of(p[rows], [sets[i] for i in rows]), seed=seed)
        if np.isfinite(found.threshold):
            certified += 1
            missed += true[np.flatnonzero(found.threshold == THRESHOLDS)[0]] < precision
    assert certified > 290
    assert missed <= 300 * delta + 2 * np.sqrt(300 * delta * (1 - delta))


def test_guarantee_over_draws_with_images_without_a_valid_class():
    """As in X-rays: half of the images show nothing, and the precision of their sets is 0."""
    rng, precision, delta, n = np.random.default_rng(0), 0.8, 0.1, 1500
    chance = rng.beta(0.3, 1.5, (50_000, 4))
    valid, p = rng.random(chance.shape) < chance, np.sqrt(chance).astype(np.float32)
    assert 0.4 < np.mean(~valid.any(axis=1)) < 0.6
    true = {}
    for threshold in THRESHOLDS:
        inside = p >= threshold
        inside, own = inside[inside.any(axis=1)], valid[inside.any(axis=1)]
        true[threshold] = np.sum((own & inside).sum(axis=1) / inside.sum(axis=1)) / max(len(inside), 1)
    missed, certified = 0, 0
    for seed in range(100):
        rows = rng.integers(0, len(p), n)
        sets = LabelSets.from_lists([np.flatnonzero(row) for row in valid[rows]], 4)
        answered = replace(sets, asked_known=True, complete=True)
        found = certify(Case.from_scores(answered, p[rows], kind="probability"), seed=seed)
        if np.isfinite(found.threshold):
            certified += 1
            missed += true[found.threshold] < precision
    assert certified > 50
    assert missed <= 100 * delta + 2 * np.sqrt(100 * delta * (1 - delta))


def test_lists_end_the_sequence():
    """Lists of one class cannot say what is in sets below the probabilities that they leave out."""
    p, sets = drawn(np.random.default_rng(3), 2000, sure=6.0)
    whole = case_of(p, sets)
    top = whole.top[:, :3]
    lists = Case(whole.labels, top, listed=np.take_along_axis(p, top, 1))
    top_3 = np.take_along_axis(p, top, 1)
    ends = np.minimum(top_3[:, -1], 1 - top_3.sum(axis=1)).max()
    low, found = certify(whole, precision=0.4), certify(lists, precision=0.4)
    assert low.threshold < ends < found.threshold
    assert found.threshold == THRESHOLDS[ends < THRESHOLDS][0]


def test_number_of_images_that_are_needed():
    p, sets = drawn(np.random.default_rng(4), 5000)
    few = certify(case_of(p[:40], sets[:40]), precision=0.9, delta=0.05)
    assert np.isnan(few.threshold)
    assert few.n_needed > 40
    # A model that is always right: (1 - alpha)^n must reach delta, on three quarters of the images.
    right = case_of(np.tile(np.eye(C, dtype=np.float32)[0], (30, 1)), [[0]] * 30)
    found = certify(right, precision=0.95, delta=0.05)
    assert found.n_tested == 30 - 30 // 4
    n = brentq(lambda n: n * np.log(0.95) - np.log(0.05), 1, 1000)
    assert (np.isnan(found.threshold), found.n_needed) == (True, int(np.ceil(n * 4 / 3)))
    enough = case_of(np.tile(np.eye(C, dtype=np.float32)[0], (found.n_needed, 1)), [[0]] * found.n_needed)
    assert np.isfinite(certify(enough, precision=0.95, delta=0.05).threshold)
    # A model that is never right: no number of images helps.
    wrong = case_of(np.tile(np.eye(C, dtype=np.float32)[0], (500, 1)), [[1]] * 500)
    assert (np.isnan(certify(wrong).threshold), certify(wrong).n_needed) == (True, None)


def test_lists_that_leave_everything_open():
    labels = LabelSets.from_lists([[0]] * 20, C)
    lists = Case(labels, np.zeros((20, 1), int), listed=np.full((20, 1), 1e-6))
    found = certify(lists)
    assert (np.isnan(found.threshold), found.n_tested, found.n_needed) == (True, 0, None)


def refused(make):
    with pytest.raises(InputError) as error:
        make()
    return str(error.value)


def test_options_out_of_range():
    p, sets = drawn(np.random.default_rng(5), 20)
    assert refused(lambda: certify(case_of(p, sets), precision=1)) == (
        "The `precision` of prediction sets is out of range.\n  got:     1\n  allowed: above 0, below 1"
    )
    assert refused(lambda: certify(case_of(p, sets), delta=0)) == (
        "The `delta` of prediction sets is out of range.\n  got:     0\n  allowed: above 0, below 1"
    )
    labels = LabelSets.from_lists([[]] * 20, C, label=np.full(20, NO_LABEL))
    empty = Case.from_scores(labels, p, kind="probability")
    assert refused(lambda: certify(empty)) == (
        "No image has labels to fit to.\n  got:     no image\n  allowed: images with labels"
    )
