"""Cochran's Q against SciPy: Welch's t, Welch's analysis of variance, and χ² where variances are exact."""

import inspect

import numpy as np
import pytest
from scipy import stats

from manyhot.core.effects import clustered_q, cochran_q


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


def without_each(samples):
    """Return the means of cells, and their changes without each cluster; NaN is in no cell."""
    means = np.nanmean(samples, axis=1)
    changes = [np.nanmean(np.delete(samples, i, 1), axis=1) - means for i in range(samples.shape[1])]
    return means, np.array(changes).T


def test_two_cells_of_the_same_clusters_are_the_paired_t_test():
    pairs = np.random.default_rng(2).normal(size=(2, 25)) + 3 * normal(25)
    pairs[1] += 0.6
    q, p = clustered_q(*without_each(pairs))
    expected = stats.ttest_rel(*pairs)
    assert (q, p) == pytest.approx((expected.statistic**2, expected.pvalue))


def test_cells_of_the_same_clusters_are_hotellings_test():
    rng = np.random.default_rng(4)
    cells = rng.normal(size=(3, 40)) + rng.normal(size=40)
    apart = (cells[1:] - cells[0]).T
    mean, covariance = apart.mean(0), np.cov(apart.T) / 40
    t2 = mean @ np.linalg.inv(covariance) @ mean
    assert clustered_q(*without_each(cells)) == pytest.approx((t2, stats.f.sf(t2 * 38 / (39 * 2), 2, 38)))


def test_cells_that_share_no_cluster_are_cochrans_q():
    samples = np.full((3, 3000), np.nan)
    for cell in range(3):
        samples[cell, cell * 1000 : (cell + 1) * 1000] = normal(1000, seed=cell) + 0.1 * cell
    every = [samples[cell][~np.isnan(samples[cell])] for cell in range(3)]
    found, independent = clustered_q(*without_each(samples)), cochran_q(*cells(*every))
    assert found.q == pytest.approx(independent.q, rel=0.01)
    assert found.p == pytest.approx(independent.p, rel=0.05)


def test_equal_cells_have_no_q():
    changes = np.tile(normal(30), (2, 1))
    assert np.isnan(clustered_q(np.array([0.5, 0.5]), changes)).all()
