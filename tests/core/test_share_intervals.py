"""Intervals of shares: against SciPy, published examples and exact coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from manyhot.core.share_intervals import (
    difference_interval,
    difference_of_shares,
    proportion_interval,
    wilson_interval,
)
from proportions import proportion_ends


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(k_of_n):
    k, n = k_of_n
    lo, hi = wilson_interval(k, n)
    expected = binomtest(k, n).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose([lo, hi], [expected.low, expected.high], atol=1e-12)
    assert lo <= k / n <= hi


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.integers(1, 9))
def test_a_design_effect_divides_the_cases(k_of_n, effect):
    k, n = k_of_n
    expected = binomtest(k, n).proportion_ci(0.95, method="wilson")
    lo, hi = wilson_interval(k * effect, n * effect, effect)
    np.testing.assert_allclose([lo, hi], [expected.low, expected.high], atol=1e-12)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_of_a_share_is_modified_near_0_and_1(k_of_n):
    lo, hi = proportion_interval(*k_of_n)
    np.testing.assert_allclose([lo, hi], proportion_ends(*k_of_n), atol=1e-12)


@pytest.mark.parametrize("n", [50, 100, 400])
def test_the_interval_of_a_share_holds_near_1(n):
    """Exact coverage, of shares from 0.9 to 0.999; that of Wilson's falls to 0.84."""
    k = np.arange(n + 1)
    lo, hi = proportion_interval(k, n)
    share = np.linspace(0.9, 0.999, 500)[:, None]
    held = (binom.pmf(k, n, share) * ((lo <= share) & (share <= hi))).sum(1)
    assert held.min() > 0.925
    assert held.mean() > 0.95


def test_wilson_of_none_and_of_all_ends_at_0_and_1():
    n = np.arange(1, 3000)
    low, high = wilson_interval(0, n)[0], wilson_interval(n, n)[1]
    assert not low.any()
    assert not np.signbit(low).any()  # a page would print -0.0
    assert (high == 1).all()


def test_wilson_of_nothing_is_undefined():
    assert np.isnan(wilson_interval(0, 0)).all()


def test_differences_of_two_proportions_are_newcombes():
    """The examples of Newcombe 1998, table II, method 10 (score intervals without correction)."""
    for (a, m, b, n), expected in {
        (56, 70, 48, 80): (0.0524, 0.3339),
        (9, 10, 3, 10): (0.1705, 0.8090),
        (10, 10, 0, 20): (0.6791, 1.0),
        (5, 56, 0, 29): (-0.0381, 0.1926),
    }.items():
        x, y = (np.array([[k / t], *wilson_interval([k], [t])]) for k, t in ((a, m), (b, n)))
        lo, hi = difference_interval(x, y)
        assert (lo[0], hi[0]) == pytest.approx(expected, abs=5e-5)


def test_differences_are_newcombes():
    """The examples of his table II, method 10: Statistics in Medicine 17, 873-890 (1998)."""
    hits = np.array([[56, 9, 6, 5, 0, 0], [48, 3, 2, 0, 0, 0]])
    images = np.array([[70, 10, 7, 56, 10, 0], [80, 10, 7, 29, 20, 4]])
    value, lo, hi = difference_of_shares(hits, images)
    assert value[:5] == pytest.approx([0.2, 0.6, 0.5714, 0.0893, 0], abs=5e-5)
    assert lo[:5] == pytest.approx([0.0524, 0.1705, 0.0582, -0.0381, -0.1611], abs=5e-5)
    assert hi[:5] == pytest.approx([0.3339, 0.8090, 0.8062, 0.1926, 0.2775], abs=5e-5)
    assert np.isnan([value[5], lo[5], hi[5]]).all()
