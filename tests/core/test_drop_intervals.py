"""Intervals of drops, against published examples, simulated coverage and percentiles of NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from manyhot.core.drop_intervals import drop_intervals, mean_drop_interval
from manyhot.core.share_intervals import clustered_interval, wilson_interval


def place(right, n):
    right = np.asarray(right)
    return np.array([right / n, *wilson_interval(right, n), np.full(right.shape, n)], np.float64)


def drawn(right_x, n_x, right_y, n_y, rng, resamples=1000):
    """Return resampled shares, which have a binomial distribution."""
    shares = ((np.asarray(right)[:, None] / n, n) for right, n in ((right_x, n_x), (right_y, n_y)))
    x, y = (rng.binomial(n, np.repeat(share, resamples, axis=1)) / n for share, n in shares)
    return x, y


def test_drops_of_few_images_are_newcombes():
    """The examples of Newcombe 1998, table II, method 10."""
    for right_x, n_x, right_y, n_y, *ends in (
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (10, 10, 0, 20, 0.6791, 1.0),
    ):
        samples = drawn([right_x], n_x, [right_y], n_y, np.random.default_rng(0))
        x, y = place([right_x], n_x), place([right_y], n_y)
        lo, hi = drop_intervals(x, y, samples, paired=False)
        assert [lo[0], hi[0]] == pytest.approx(ends, abs=5e-5)


@pytest.mark.parametrize(("p_x", "p_y"), [(0.999, 0.997), (0.999, 0.99), (0.98, 0.96), (0.9, 0.8)])
def test_intervals_contain_the_true_drop_of_models_that_are_rarely_wrong(p_x, p_y):
    """Percentiles contain the drop of 0.002 in half of the pairs of data sets."""
    rng, n = np.random.default_rng(1), 250
    x, y = (rng.binomial(n, p, 1500) for p in (p_x, p_y))
    samples = drawn(x, n, y, n, rng, resamples=400)
    lo, hi = drop_intervals(place(x, n), place(y, n), samples, paired=False)
    covered = np.mean((lo <= p_x - p_y + 1e-12) & (p_x - p_y - 1e-12 <= hi))
    assert covered > 0.935
    assert (hi > lo).all()


@pytest.mark.parametrize("n_farms", [6, 12])
def test_intervals_over_few_clusters_contain_the_true_drop(n_farms):
    """Of percentiles, 88 and 92 % contain the drop of 0 between places whose farms differ."""
    rng, per, sets = np.random.default_rng(3), 60, 3000
    right = rng.binomial(per, rng.beta(1, 1, (2, sets, n_farms)))
    shares = right.mean(axis=2) / per
    n = np.full(right.shape[1:], per)
    x, y = (
        np.stack(
            [share, *clustered_interval(one.T, n.T, lambda v: v.sum(axis=0)), np.full(sets, per * n_farms)]
        )
        for share, one in zip(shares, right, strict=True)
    )
    at = rng.integers(0, n_farms, (2, 200, n_farms))
    samples = tuple(one[:, rows].mean(axis=2) / per for one, rows in zip(right, at, strict=True))
    covered = {}
    for clustered in (False, True):
        lo, hi = drop_intervals(x, y, samples, paired=False, clustered=clustered)
        covered[clustered] = np.mean((lo <= 0) & (hi >= 0))
    assert covered[False] < 0.935
    assert 0.95 < covered[True] < 0.98


def test_mean_drops_over_clusters_combine_those_of_models():
    """With two models that are fully correlated, distances to the ends are means of theirs."""
    samples = drawn([700], 1000, [600], 1000, np.random.default_rng(4))
    samples = tuple(np.repeat(one, 2, axis=0) for one in samples)
    x, y = (np.array([[v, v], [v - 0.2, v - 0.3], [v + 0.1, v + 0.2], [1000.0] * 2]) for v in (0.7, 0.6))
    lo, hi = drop_intervals(x, y, samples, paired=False, clustered=True)
    expected = [0.1 - np.hypot(0.2, 0.1), 0.1 - np.hypot(0.3, 0.2)]
    assert lo == pytest.approx(expected)
    ends = mean_drop_interval(x, y, samples, paired=False, clustered=True)
    assert ends == pytest.approx((np.mean(lo), np.mean(hi)))


def test_drops_away_from_0_and_1_are_percentiles():
    right_x, right_y, n = [970, 700], [900, 600], 1000
    samples = drawn(right_x, n, right_y, n, np.random.default_rng(2))
    x, y = place(right_x, n), place(right_y, n)
    expected = np.quantile(samples[0] - samples[1], [0.025, 0.975], axis=1)
    assert drop_intervals(x, y, samples, paired=False) == pytest.approx(expected, abs=1e-9)
    assert drop_intervals(x, y, samples, paired=True) == pytest.approx(expected, abs=1e-9)
    x = place([971, 700], n)  # 29 are wrong
    lo, hi = drop_intervals(x, y, samples, paired=False)
    assert (lo[1], hi[1]) == pytest.approx(tuple(expected[:, 1]), abs=1e-9)
    assert abs(lo[0] - expected[0, 0]) > 1e-5
    assert np.isnan(drop_intervals(x, y, None, paired=True)).all()


@pytest.mark.parametrize("shared", [False, True])
def test_intervals_contain_the_true_mean_drop(shared):
    """Of three models that are wrong on different images, or on the same ones."""
    rng, n, covered = np.random.default_rng(4), 250, []
    for _ in range(400):
        x, y = (rng.binomial(n, p, 3) for p in (0.985, 0.96))
        samples = drawn(x, n, y, n, rng, resamples=400)
        if shared:
            x, y, *samples = (np.repeat(values[:1], 3, axis=0) for values in (x, y, *samples))
        lo, hi = mean_drop_interval(place(x, n), place(y, n), samples, paired=False)
        covered.append(lo <= 0.025 <= hi)
    assert 0.935 < np.mean(covered) < 0.985


def test_the_mean_of_models_whose_resamples_do_not_vary_has_the_mean_of_their_ends():
    n, rng = 300, np.random.default_rng(3)
    x, y = place([300, 300], n), place([300, 299], n)
    samples = drawn([300, 300], n, [300, 299], n, rng)
    lo, hi = drop_intervals(x, y, samples, paired=False)
    assert lo[0] < 0 < hi[0]
    ends = mean_drop_interval(x, y, samples, paired=False)
    assert ends == pytest.approx((lo.mean(), hi.mean()))
    # With one model that is wrong on 60 images, the mean varies enough.
    x, y = place([300, 240], n), place([300, 200], n)
    samples = drawn([300, 240], n, [300, 200], n, rng)
    ends = mean_drop_interval(x, y, samples, paired=False)
    assert ends == pytest.approx(
        tuple(np.quantile((samples[0] - samples[1]).mean(0), [0.025, 0.975])), abs=1e-9
    )
    assert np.isnan(mean_drop_interval(x, y, None, paired=False)).all()


@pytest.mark.parametrize(("p_x", "p_y", "phi"), [(0.999, 0.997, 0.0), (0.99, 0.98, 0.5), (0.97, 0.9, 0.5)])
def test_intervals_contain_the_true_drop_on_the_same_images(p_x, p_y, phi):
    """Percentiles contain the drop of 0.002 in half of the data sets. `phi` is the correlation per image."""
    rng, n, size = np.random.default_rng(5), 250, 500
    both = p_x * p_y + phi * np.sqrt(p_x * (1 - p_x) * p_y * (1 - p_y))
    cells = rng.multinomial(n, [both, p_x - both, p_y - both, 1 - p_x - p_y + both], size)
    redrawn = np.stack([rng.multinomial(n, cell / n, 400) for cell in cells])
    x, y = (cells[:, 0] + cells[:, only] for only in (1, 2))
    samples = tuple((redrawn[..., 0] + redrawn[..., only]) / n for only in (1, 2))
    lo, hi = drop_intervals(place(x, n), place(y, n), samples, paired=True)
    assert np.mean((lo <= p_x - p_y + 1e-12) & (p_x - p_y - 1e-12 <= hi)) > 0.93
