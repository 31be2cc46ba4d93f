"""Uncertainty metrics where there is next to nothing: no weight, one image a bin, no probability at all."""

from dataclasses import replace

import numpy as np
import pytest

from confidence_cases import OURS, two_classes
from manyhot.core.reliability import Outcomes
from manyhot.core.sets import Case, LabelSets
from manyhot.registry import get


def spec(name):
    return f"{name}(coverage=0.7)" if "coverage" in name else name


@pytest.mark.parametrize("name", OURS)
def test_images_that_weigh_nothing_say_nothing(name):
    case = two_classes([0.9, 0.8, 0.7], [0, 1, 0])
    assert np.isnan(get("metric", spec(name))(case).value(np.zeros(3)))


def test_a_bin_of_one_image_tells_no_chance():
    """Three bins of one image each: the root mean squared gap itself."""
    case = two_classes([0.9, 0.8, 0.6], [0, 1, 0])
    expected = np.sqrt((0.1**2 + 0.8**2 + 0.4**2) / 3)
    assert get("metric", "ece_debiased(bins=3)")(case).value(None) == pytest.approx(expected, abs=1e-6)


def test_the_last_image_stays_in_the_last_bin_however_little_it_weighs():
    case = two_classes([0.9, 0.8], [0, 1])
    found = get("metric", "ece_mass(bins=2)")(case).value(np.array([1.0, 1e-30]))
    assert found == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize("name", ["nll_mass", "nll_best"])
def test_what_is_ruled_out_on_an_image_that_does_not_count_is_no_error(name):
    labels = LabelSets.from_lists([[0], [1]], 2, label=[0, 1], usable=np.array([True, False]))
    case = Case.from_scores(labels, np.array([[1, 0], [0, -np.inf]], np.float32), kind="logit")
    assert get("metric", name)(case).value(None) == pytest.approx(np.log1p(np.exp(-1)))


@pytest.mark.parametrize("bins", [10, 15, 20])
def test_stored_edges_are_in_the_bin_that_starts_with_them(bins):
    """In float64, a float32 of 0.9 is below 0.9: each edge would be averaged with the edge below it."""
    confidence = (np.arange(1, bins) / bins).astype(np.float32)
    right = np.arange(1, bins) % 2 == 0
    outcomes = Outcomes(np.arange(bins - 1), confidence.astype(np.float64), right)
    found = outcomes.equal_width(np.ones(bins - 1), bins)
    assert found.weight.tolist() == [0, *[1] * (bins - 1)]
    assert found.mean_gap() == pytest.approx(np.abs(confidence - right).mean())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_counts_by_confidence_are_those_of_an_order(dtype):
    rng = np.random.default_rng(0)
    p = rng.random(500).astype(dtype).astype(float)
    p[rng.random(500) < 0.5] = rng.choice([0.0, 1.0, np.float32(0.3), 1e-45], 500)[rng.random(500) < 0.5][:1]
    outcomes = Outcomes(np.arange(500), p, rng.random(500) < p)
    ranked, counted = outcomes.ranked(np.ones(500)), outcomes.counted()
    for name in ("confidence", "weight", "right"):
        np.testing.assert_array_equal(getattr(counted, name), getattr(ranked, name))
    for bins in (1, 15):
        plain, shared = outcomes.equal_width(np.ones(500), bins), outcomes.in_bins(bins)
        for name in ("weight", "confidence", "right"):
            np.testing.assert_array_equal(getattr(shared, name), getattr(plain, name))
    other = replace(outcomes, right=~outcomes.right)
    assert other.in_bins(15).right.sum() == 500 - outcomes.right.sum()
