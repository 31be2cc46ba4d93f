"""Cochran's Q against SciPy: Welch's t, Welch's analysis of variance, and χ² where variances are exact."""

import inspect

import numpy as np
import pytest
from scipy import stats

from manyhot.core.effects import cochran_q


def cells(*samples):
    """Return the means, their variances and degrees of freedom."""
    columns = [(s.mean(), s.var(ddof=1) / len(s), len(s) - 1) for s in samples]
    return np.array(columns, dtype=float).T


def normal(n, scale=1.0, seed=0):
    return scale * np.random.default_rng(seed).normal(size=n)


def test_two_cells_are_welchs_t_test():
    a, b = normal(4), normal(7, 3, seed=1) + 1
    q, p = cochran_q(*cells(a, b))
    wanted = stats.ttest_ind(a, b, equal_var=False)
    assert (q, p) == pytest.approx((wanted.statistic**2, wanted.pvalue))


def test_by_hand_and_chi_squared_where_variances_are_exact():
    """Weights 4, 1, 1: a mean of 1; 4 · 0.25 + 0.25 + 2.25 = 3.5."""
    values, variances = np.array([1.5, 0.5, -0.5]), np.array([0.25, 1, 1])
    q, p = cochran_q(values, variances, np.full(3, np.inf))
    assert q == pytest.approx(3.5)
    assert p == pytest.approx(stats.chi2(2).sf(3.5))
    assert cochran_q(values, variances, np.full(3, 2.0)).p > p


@pytest.mark.skipif("equal_var" not in inspect.signature(stats.f_oneway).parameters, reason="older SciPy")
@pytest.mark.parametrize("k", [2, 3, 6])
def test_several_cells_are_welchs_analysis_of_variance(k):
    samples = [normal(3 + i, 1 + i, seed=i) + i for i in range(k)]
    assert cochran_q(*cells(*samples)).p == pytest.approx(stats.f_oneway(*samples, equal_var=False).pvalue)


@pytest.mark.parametrize(
    ("values", "variances"),
    [
        ([1.0], [1.0]),
        ([], []),
        ([1.0, 2.0], [1.0, 0.0]),
        ([1.0, 2.0], [1.0, np.nan]),
        ([1.0, np.nan], [1, 1]),
    ],
)
def test_what_cannot_be_tested_is_nan(values, variances):
    found = cochran_q(np.array(values), np.array(variances), np.full(len(values), 2.0))
    assert np.isnan(found).all()
