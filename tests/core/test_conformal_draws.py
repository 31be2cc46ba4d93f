"""Monte Carlo conformal sets: draws against their distribution, and coverage over draws."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from manyhot.core.conformal import (
    DRAWN,
    countable,
    expected_coverage,
    fit_threshold,
    fit_threshold_to_draws,
)
from manyhot.core.sets import YES, Case, LabelSets
from manyhot.errors import InputError

C = 5


def labels_of(p, usable=None):
    n, c = p.shape
    rows, classes = np.nonzero(p > 0)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))])
    state = np.where(p[rows, classes] >= 0.5, YES, 1).astype(np.uint8)
    usable = np.ones(n, bool) if usable is None else usable
    label = p.argmax(axis=1).astype(np.int32)
    return LabelSets(
        c, indptr, classes.astype(np.int32), state, label, usable, True, p[rows, classes].astype(np.float32)
    )


def population(rng, n, shares):
    """Return what people answer, and a model that knows something about it."""
    logits = 2 * rng.normal(size=(n, C))
    p = softmax(logits, axis=1) if shares else 1 / (1 + np.exp(-logits))
    p[rng.random((n, C)) < 0.3] = 0
    p[:, 0] = np.maximum(p[:, 0], 0.01)
    p = p / p.sum(axis=1, keepdims=True) if shares else p
    model = softmax(logits + rng.normal(size=(n, C)), axis=1).astype(np.float32)
    return p, model


def case_of(p, model):
    return Case.from_scores(labels_of(p), model, kind="probability")


def brute_coverage(p, inside, cover):
    """Return the coverage by summing over all label sets, or classes."""
    if cover == "drawn":
        return (p * inside).sum() / p.sum()
    good = every = 0.0
    for chosen in itertools.product([0, 1], repeat=len(p)):
        chance = np.prod(np.where(chosen, p, 1 - p)) if any(chosen) else 0.0
        every += chance
        good += chance * (not any(c and not i for c, i in zip(chosen, inside, strict=True)))
    return good / every


@pytest.mark.parametrize("cover", DRAWN)
def test_coverage_of_an_image_is_that_of_all_label_sets(cover):
    p, model = population(np.random.default_rng(0), 40, shares=cover == "drawn")
    found = expected_coverage(case_of(p, model), np.arange(40), cover=cover, threshold=0.1)
    expected = [brute_coverage(a, b >= np.float32(0.1), cover) for a, b in zip(p, model, strict=True)]
    assert found == pytest.approx(np.array(expected), abs=1e-6)


@pytest.mark.parametrize("cover", DRAWN)
def test_coverage_over_draws_is_at_least_nominal(cover):
    rng, alpha, n = np.random.default_rng(1), 0.2, 40
    p, model = population(rng, 4000, shares=cover == "drawn")
    case, rates = case_of(p, model), {1: [], 8: []}
    for _ in range(200):
        rows = rng.permutation(4000)[:240]
        for draws, found in rates.items():
            options = {"cover": cover, "alpha": alpha, "draws": draws, "rng": rng}
            threshold = fit_threshold_to_draws(case, rows[:n], **options)
            found.append(expected_coverage(case, rows[n:], cover=cover, threshold=threshold).mean())
    for draws, found in rates.items():
        error = np.std(found) / np.sqrt(len(found))
        assert np.mean(found) >= 1 - alpha - 2 * error
        assert np.mean(found) <= 1 - alpha + 2 / (n + 1) + 2 * error, draws
    assert np.std(rates[8]) < np.std(rates[1])


@pytest.mark.parametrize("draws", [1, 7])
@pytest.mark.parametrize("n", [9, 40, 53])
def test_sure_labels_give_split_conformal_sets(draws, n):
    rng = np.random.default_rng(2)
    p = np.eye(C)[rng.integers(0, C, n)]
    case = case_of(p, softmax(rng.normal(size=(n, C)), axis=1).astype(np.float32))
    for cover in DRAWN:
        found = fit_threshold_to_draws(case, np.arange(n), cover=cover, alpha=0.17, draws=draws, rng=rng)
        assert found == fit_threshold(case, np.arange(n), cover="label", alpha=0.17)


@pytest.mark.parametrize("cover", DRAWN)
def test_draws_have_the_distribution_of_the_labels(cover):
    """A threshold that covers a share of the draws, against the sum over all label sets."""
    rng = np.random.default_rng(3)
    p, model = population(rng, 3, shares=cover == "drawn")
    case = case_of(p, model)
    for alpha in (0.4, 0.6, 0.8):
        options = {"cover": cover, "alpha": alpha, "draws": 20_000, "rng": rng}
        threshold = fit_threshold_to_draws(case, np.array([0, 2]), **options)
        covered, more = (
            np.mean([brute_coverage(p[i], model[i] >= t, cover) for i in (0, 2)])
            for t in (threshold, np.nextafter(threshold, 2))
        )
        level = 1 - 3 / 2 * alpha + 1 / 2  # (k - 1) / (m n) of the draws may be below, with n = 2
        assert more - 0.01 <= level <= covered + 0.01


def test_images_that_count():
    p, model = population(np.random.default_rng(4), 6, shares=True)
    p[1] = 0
    usable = np.array([True, True, False, True, True, True])
    labels = labels_of(p, usable)
    labels = replace(labels, p=np.where(labels.rows == 3, np.float32(np.nan), labels.p))
    case = Case.from_scores(labels, model, kind="probability")
    for cover in DRAWN:
        assert countable(case, cover).tolist() == [True, False, False, False, True, True]
        options = {"cover": cover, "alpha": 0.5, "draws": 1, "rng": np.random.default_rng(0)}
        assert 0 < fit_threshold_to_draws(case, np.arange(6), **options) < 1
        with pytest.raises(InputError) as error:
            fit_threshold_to_draws(case, np.array([1, 2]), **options)
        assert str(error.value) == (
            "No image has labels to fit to.\n  got:     no image\n  allowed: images with labels"
        )
        few = {**options, "alpha": 0.01}
        assert fit_threshold_to_draws(case, np.arange(6), **few) == 0
        with pytest.raises(InputError) as error:
            fit_threshold_to_draws(case, np.arange(6), **{**options, "draws": 0})
        assert str(error.value) == (
            "This is not a number of draws.\n  got:     draws=0\n  allowed: 1 or more"
        )


def test_labels_without_probabilities():
    labels = LabelSets.from_lists([[0]] * 4, C)
    case = Case.from_scores(labels, np.full((4, C), 0.2, np.float32), kind="probability")
    with pytest.raises(InputError) as error:
        countable(case, "drawn")
    assert str(error.value) == (
        "Drawing labels requires labels with probabilities, which these labels do not have.\n"
        "  allowed: a labels table with the column 'p'"
    )
