"""Intervals of ratios over clusters, against plain loops."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import kurtosis, norm, t

from manyhot.core.clusters import Clusters
from manyhot.core.estimates import Ratio
from manyhot.core.ratio_intervals import (
    changes_without_clusters,
    cluster_intervals,
    have_cluster_percentiles,
)

RNG = np.random.default_rng(0)


def data(n=90, n_clusters=20, n_strata=8):
    number, scored = RNG.integers(0, n_clusters, n), RNG.random(n) < 0.9
    den = np.where(scored, RNG.integers(0, 3, n), 0).astype(float)
    return number, Ratio(den * RNG.random(n), den, scored, RNG.integers(0, n_strata, n))


def without_each(ratio, number, inside):
    """Return the value without each cluster that has scored images, in a loop."""
    in_order = dict.fromkeys(number.tolist())
    some = [c for c in in_order if (ratio.scored & inside & (number == c)).any()]
    return np.array([ratio.value(inside & (number != c)) for c in some])


@pytest.mark.parametrize("plain", [False, True])
def test_changes_are_those_of_leaving_out_each_cluster(plain):
    for _ in range(20):
        (number, ratio), inside = data(), RNG.random(90) < 0.8
        if plain:
            ratio = Ratio(ratio.num, ratio.den, ratio.scored)
        expected = without_each(ratio, number, inside) - ratio.value(inside)
        found = changes_without_clusters(ratio, Clusters.of(number), inside)
        assert found == pytest.approx(expected, abs=1e-12)


def test_a_stratum_within_one_cluster_drops_out_with_it():
    number, stratum = np.array([0, 0, 1, 1, 2]), np.array([0, 0, 0, 1, 1])
    ratio = Ratio(
        np.array([1.0, 0, 1, 1, 0]), np.ones(5), np.ones(5, bool), np.where(number == 0, 2, stratum)
    )
    expected = without_each(ratio, number, np.ones(5, bool)) - ratio.value()
    assert changes_without_clusters(ratio, Clusters.of(number)) == pytest.approx(expected)


def test_without_its_only_cluster_a_value_is_undefined():
    ratio = Ratio(np.array([0.1, 0.2]), np.ones(2), np.ones(2, bool))
    assert np.isnan(changes_without_clusters(ratio, Clusters.of(np.zeros(2)))).all()
    ends = cluster_intervals(ratio, np.ones((1, 2), bool), Clusters.of(np.zeros(2)), np.ones(1, bool))
    assert np.isnan(ends).all()


def test_a_mean_has_the_interval_of_the_jackknife_over_clusters():
    number, ratio = data(300, 60)
    masks = RNG.random((3, 300)) < 0.8
    lo, hi = cluster_intervals(ratio, masks, Clusters.of(number), np.array([True, False, True]))
    assert np.isnan([lo[1], hi[1]]).all()
    for s in (0, 2):
        without, value = without_each(ratio, number, masks[s]), ratio.value(masks[s])
        k = len(without)
        error = np.sqrt((k - 1) * without.var())
        half = t.ppf(0.975, min(2 * k / kurtosis(without, fisher=False), k - 1)) * error
        half /= value * (1 - value)
        assert (lo[s], hi[s]) == pytest.approx(tuple(expit(logit(value) + np.array([-half, half]))))


def test_a_share_has_wilsons_interval_of_the_effective_number_of_images():
    number = np.repeat(np.arange(40), 5)
    right = RNG.random(200) < (0.2 + 0.7 * (RNG.random(40) < 0.5))[number]
    everything = np.ones(200, bool)
    lo, hi = cluster_intervals(
        Ratio(right, everything, everything), everything[None], Clusters.of(number), np.ones(1, bool)
    )
    p, shares = right.mean(), np.array([right[number == c].mean() for c in range(40)])
    effect = shares.var(ddof=1) / 40 / (p * (1 - p) / 200)  # all clusters have the same size
    n = 200 / effect / (t.ppf(0.975, 39) / norm.ppf(0.975)) ** 2
    assert effect > 2
    z = norm.ppf(0.975)  # the ends solve (p - x)² = z² x (1 - x) / n
    ends = np.roots([1 + z**2 / n, -2 * p - z**2 / n, p**2])
    assert (lo[0], hi[0]) == pytest.approx(tuple(np.sort(ends)))


def test_percentiles_need_many_clusters_and_not_images():
    def have(number, right, **options):
        everything = np.ones(len(number), bool)
        ratio = Ratio(right, everything, everything)
        return have_cluster_percentiles(ratio, everything[None], Clusters.of(number), **options).tolist()

    alternating = np.arange(1000) % 2 == 0
    assert have(np.arange(1000) // 5, alternating) == [True]
    assert have(np.arange(1000) // 6, alternating) == [False]  # 167 clusters
    # 100 images are wrong, but in 20 clusters.
    assert have(np.arange(1000) // 5, np.arange(1000) >= 100) == [False]
    assert have(np.arange(1000) // 5, RNG.random(1000), scale="log") == [False]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_ratio_of_counts_at_a_limit_has_wilsons_interval_of_its_clusters(value):
    den = np.zeros(900)
    den[:9] = [1, 1, 2, 3, 1, 1, 1, 2, 1]
    number = np.arange(900) // 3  # the images with cases are in three clusters
    clusters = Clusters.of(number)
    ratio, everything = Ratio(value * den, den, np.ones(900, bool)), np.ones((1, 900), bool)
    of_cluster = np.bincount(number, den)
    z = norm.ppf(0.975)
    n = of_cluster.sum() ** 2 / (of_cluster**2).sum() / (t.ppf(0.975, 2) / z) ** 2
    assert not have_cluster_percentiles(ratio, everything, clusters).any()
    ends = [float(end[0]) for end in cluster_intervals(ratio, everything, clusters, np.ones(1, bool))]
    expected = [0, z**2 / (n + z**2)] if value == 0 else [n / (n + z**2), 1]
    assert ends == pytest.approx(expected)
