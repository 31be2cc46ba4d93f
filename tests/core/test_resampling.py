import inspect
import itertools
from threading import Event

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import bootstrap, ttest_1samp

from manyhot.core import resampling
from manyhot.core.estimates import Cells, Ratio
from manyhot.core.model_pairs import compare_pairs, holm, only_right, paired_errors
from manyhot.core.resampling import (
    Bootstrap,
    centred_interval,
    draw_counts,
    percentile_interval,
    student_interval,
)
from resamples import means_over_few_strata, means_over_strata

N = 400


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    masks = np.stack([np.ones(N, bool), rng.random(N) < 0.5, np.arange(N) < 60, np.zeros(N, bool)])
    num = (rng.random((N, 3)) < [0.9, 0.6, 0.5]).astype(np.float32)
    den = np.stack([np.ones(N), rng.random(N) < 0.8], axis=1).astype(np.float32)
    den_of = np.array([0, 1, 1])
    return masks, num * den[:, den_of], den, den_of


def test_resamples_are_used_while_others_are_drawn_and_drawn_once(data, monkeypatch):
    class Used(Event):
        def fill(self, rows, counts, each=map):
            self.set()

    def drawn(n, resamples, rng):
        assert not sizes or used.wait(30)
        sizes.append(resamples)
        return draw(n, resamples, rng)

    used, sizes, draw = Used(), [], resampling._drawn_by_image
    monkeypatch.setattr(resampling, "_drawn_by_image", drawn)
    bootstrap = Bootstrap(data[0], 300, seed=3)
    bootstrap.resample(used)
    bootstrap.resample(used)
    assert sizes == [125, 125, 50]


def test_each_resample_is_the_metric_under_its_counts(data):
    masks, num, den, den_of = data
    samples = Bootstrap(masks, 300, seed=3).ratios(num, den, den_of)
    counts = draw_counts(N, 300, np.random.default_rng([3, N]))
    assert (counts.sum(1) == N).all()
    for s, mask in enumerate(masks):
        for m in range(3):
            ratio = Ratio(num[:, m].astype(float), den[:, den_of[m]].astype(float), np.ones(N, bool))
            expected = [ratio.value(c * mask) for c in counts]
            np.testing.assert_allclose(samples[s, :, m], expected, rtol=1e-6)


def test_means_over_strata_are_the_metric_under_its_counts(data):
    masks, num, den, _ = data
    # Many small strata: some have no image in a slice, some none in a resample.
    stratum = np.random.default_rng(1).integers(0, 90, N)
    samples = means_over_strata(Bootstrap(masks, 200, seed=3), num[:, 1:], den[:, 1], stratum)
    counts = draw_counts(N, 200, np.random.default_rng([3, N]))
    for s, mask in enumerate(masks):
        for m in range(2):
            ratio = Ratio(num[:, 1 + m].astype(float), den[:, 1].astype(float), np.ones(N, bool), stratum)
            np.testing.assert_allclose(samples[s, :, m], [ratio.value(c * mask) for c in counts], rtol=1e-5)


def test_means_over_strata_of_some_slices_are_those_of_all(data):
    masks, num, den, _ = data
    stratum = np.random.default_rng(1).integers(0, 90, N)
    samples = means_over_strata(Bootstrap(masks, 200, seed=3), num, den[:, 0], stratum)
    found = means_over_strata(Bootstrap(masks, 200, seed=3), num, den[:, 0], stratum, [1])
    np.testing.assert_array_equal(found[1], samples[1])
    assert len(masks) > 1
    assert np.isnan(np.delete(found, 1, axis=0)).all()


def test_means_over_few_strata_are_the_metric_under_its_counts(data):
    masks, num, den, den_of = data
    # Three strata, one of two images that most resamples lack; numerators with different denominators.
    stratum = np.where(np.arange(N) < 2, 2, np.random.default_rng(1).integers(0, 2, N))
    samples = means_over_few_strata(Bootstrap(masks, 200, seed=3), num, den, den_of, stratum)
    counts = draw_counts(N, 200, np.random.default_rng([3, N]))
    for s, mask in enumerate(masks):
        for m in range(3):
            parts = (num[:, m].astype(float), den[:, den_of[m]].astype(float))
            ratio = Ratio(*parts, np.ones(N, bool), stratum)
            np.testing.assert_allclose(samples[s, :, m], [ratio.value(c * mask) for c in counts], rtol=1e-5)


def test_counts_of_many_images_are_multinomial():
    """The joint counts of three images, as SciPy gives them, and sums that are the number of images."""
    n, resamples = 400, 20_000
    counts = resampling._many_drawn_by_image(n, resamples, np.random.default_rng(0))
    assert (counts.sum(axis=0, dtype=int) == n).all()
    cells = list(itertools.product(range(3), repeat=3))
    own = [(counts[[0, 17, 399]] == np.array(cell)[:, None]).all(axis=0).sum() for cell in cells]
    joint = stats.multinomial(n, [1 / n] * 3 + [1 - 3 / n])
    expected = resamples * np.array([joint.pmf([*cell, n - sum(cell)]) for cell in cells])
    more = (resamples - np.sum(own), resamples - expected.sum())
    assert stats.chisquare([*own, more[0]], [*expected, more[1]]).pvalue > 1e-3
    single = np.bincount(counts.ravel(), minlength=8)[:8]
    expected = n * resamples * stats.binom(n, 1 / n).pmf(np.arange(8))
    assert (np.abs(single - expected) < 5 * np.sqrt(expected) + 1).all()


def test_resamples_of_many_images_have_the_standard_error_of_theory(monkeypatch):
    """The mean of n values has a standard error of their deviation over the root of n."""
    monkeypatch.setattr(resampling, "_MANY", 0)
    values = np.random.default_rng(1).gamma(2, size=(900, 1)).astype(np.float32)
    ones = np.ones((900, 1), np.float32)
    samples = Bootstrap(np.ones((1, 900), bool), 4000, seed=2).ratios(values, ones, np.array([0]))
    assert samples.mean() == pytest.approx(values.mean(), abs=4 * values.std() / np.sqrt(900 * 4000))
    assert samples.std() == pytest.approx(values.std() / np.sqrt(900), rel=0.05)


@pytest.mark.parametrize("more", [0, 1, 5, 50])
def test_resamples_of_two_data_sets_are_independent(more):
    """Of as many images and of a few more, sorted alike; `compare` moves those of equal number by one."""
    n, r = 2000, 2000
    samples = []
    for size in (n, n + more):
        trend = np.linspace(0, 1, size, dtype=np.float32)[:, None]
        ones = np.ones((size, 1), np.float32)
        samples.append(Bootstrap(np.ones((1, size), bool), r, 0).ratios(trend, ones, np.array([0]))[0, :, 0])
    assert abs(np.corrcoef(samples[0], np.roll(samples[1], 1))[0, 1]) < 4 / np.sqrt(r)


def test_draws_do_not_depend_on_the_slices(data):
    masks, num, den, den_of = data
    few, many = Bootstrap(masks[:1], 50, 0), Bootstrap(masks, 50, 0)
    np.testing.assert_allclose(few.ratios(num, den, den_of)[0], many.ratios(num, den, den_of)[0], rtol=1e-6)


def test_agrees_with_scipy(data):
    masks, num, _, _ = data
    samples = Bootstrap(masks[:1], 4000, 0).ratios(num[:, :1], np.ones((N, 1), np.float32), np.array([0]))
    lo, hi = percentile_interval(samples[0, :, 0])
    seed = "rng" if "rng" in inspect.signature(bootstrap).parameters else "random_state"  # before SciPy 1.15
    theirs = bootstrap(
        (num[:, 0],), np.mean, n_resamples=4000, method="percentile", **{seed: 0}
    ).confidence_interval
    # Both estimate quantiles from 4,000 resamples: two standard errors of a 2.5 % quantile are 0.0025 here.
    assert lo == pytest.approx(theirs.low, abs=0.004)
    assert hi == pytest.approx(theirs.high, abs=0.004)


def test_intervals_cover_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        x = (rng.random((200, 1)) < 0.7).astype(np.float32)
        samples = Bootstrap(np.ones((1, 200), bool), 300, trial).ratios(x, np.ones_like(x), np.array([0]))
        lo, hi = percentile_interval(samples[0, :, 0])
        covered += lo <= 0.7 <= hi
    # 95 % nominal; the percentile interval at n = 200 covers a little less. Binomial noise: 1.3 points.
    assert 0.90 <= covered / 300 <= 0.985


def error_in_bins(confidence, right, weights, bins=15):
    inside = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(inside, weights * (confidence - right), bins)
    return np.abs(gaps).sum() / weights.sum()


@pytest.mark.parametrize("too_sure", [0, 0.02, 0.2])
def test_centred_intervals_of_a_calibration_error_cover_as_often_as_they_say(too_sure):
    """What is to be covered is the mean over fresh images, as many: chance adds to it, too."""
    rng = np.random.default_rng(1)
    n = 300

    def draw():
        confidence = rng.beta(4, 1.5, n)
        return confidence, rng.random(n) < np.clip(confidence - too_sure, 0, 1)

    mean = np.mean([error_in_bins(*draw(), np.ones(n)) for _ in range(1000)])
    covered = 0
    for _ in range(150):
        confidence, right = draw()
        value = error_in_bins(confidence, right, np.ones(n))
        samples = np.array([error_in_bins(confidence, right, w) for w in draw_counts(n, 100, rng)])
        lo, hi = centred_interval(samples, value)
        assert 0 <= lo <= value <= hi <= 1
        covered += lo <= mean <= hi
    # The percentile interval covers 80 % where only chance is there, and misses the value itself as often.
    assert covered / 150 >= 0.88


def test_a_centred_interval_is_the_percentile_interval_of_symmetric_samples():
    samples = np.append(np.linspace(-3, 7, 1001), np.nan)
    assert centred_interval(samples, 2) == pytest.approx((-2.75, 6.75))
    assert centred_interval(samples, 3) == pytest.approx((-1.75, 7.75))
    assert centred_interval(np.linspace(0.2, 0.4, 101), 0.01) == pytest.approx((0, 0.105))
    assert np.isnan(centred_interval(np.full(9, np.nan), 0.5)).all()


@settings(deadline=None)
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=60))
def test_percentiles_are_numpys(values):
    samples = np.array(values)
    lo, hi = percentile_interval(samples)
    expected = np.quantile(samples, [0.025, 0.975])
    np.testing.assert_allclose([lo, hi], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("r", [1, 2, 41, 512, 513, 1000, 1025, 5000])
def test_percentiles_of_float32_are_numpys(r):
    rng = np.random.default_rng(r)
    samples = rng.normal(size=(7, r)).astype(np.float32)
    samples[1] = np.round(samples[1], 1)  # ties
    samples[2].sort()
    samples[3] = samples[2, ::-1]
    lo, hi = percentile_interval(samples)
    expected = np.quantile(samples.astype(np.float64), [0.025, 0.975], axis=-1)
    np.testing.assert_allclose([lo, hi], expected, rtol=1e-12, atol=1e-12)


def test_undefined_resamples_are_left_out():
    samples = np.array([[1.0, np.nan, 3.0, 2.0], [np.nan] * 4])
    lo, hi = percentile_interval(samples)
    assert lo[0] == pytest.approx(1.05)
    assert hi[0] == pytest.approx(2.95)
    assert np.isnan([lo[1], hi[1]]).all()


def test_the_interval_of_a_mean_is_scipys():
    values = np.random.default_rng(0).poisson(3, 40)
    ends = ttest_1samp(values, 0).confidence_interval(0.95)
    assert student_interval(values) == pytest.approx((values.mean(), ends.low, ends.high))
    for same in ([2, 2, 2], [2]):
        assert student_interval(same) == pytest.approx((2, np.nan, np.nan), nan_ok=True)


def test_exact_errors_of_pairs_are_those_of_the_mean_difference():
    rng = np.random.default_rng(2)
    right = rng.random((4, 333)) < 0.7
    only = only_right(np.packbits(right, axis=1))
    se = paired_errors(only, only.T, 333)
    a, b = np.triu_indices(4, 1)
    expected = [np.std(right[i].astype(float) - right[j]) / np.sqrt(333) for i, j in zip(a, b, strict=True)]
    np.testing.assert_allclose(se[a, b], expected)


def test_holm_by_hand():
    # Holm's own arithmetic for four hypotheses: 4 × .005, 3 × .01, 2 × .03 and, kept monotone, 1 × .04.
    p = np.array([0.01, 0.04, np.nan, 0.03, 0.005])
    np.testing.assert_allclose(holm(p), [0.03, 0.06, np.nan, 0.06, 0.02])


def test_pairs_are_paired():
    rng = np.random.default_rng(0)
    base = rng.random(2000) < 0.7
    flip = rng.random(2000) < 0.02
    models = np.stack([base, base & ~flip, rng.random(2000) < 0.7, base], axis=1).astype(np.float32)
    samples = (
        Bootstrap(np.ones((1, 2000), bool), 1000, 0)
        .ratios(models, np.ones((2000, 1), np.float32), np.zeros(4, int))[0]
        .T
    )
    values = models.mean(0).astype(float)
    pairs = compare_pairs(values, np.ascontiguousarray(samples))
    assert list(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True)) == [
        (0, 1),
        (0, 2),
        (0, 3),
        (1, 2),
        (1, 3),
        (2, 3),
    ]
    np.testing.assert_allclose(pairs.difference, values[pairs.b] - values[pairs.a])
    # McNemar's variance of a paired difference is the independent reference of the standard error.
    d = models[:, 0] - models[:, 1]
    assert (pairs.hi[0] - pairs.lo[0]) / (2 * 1.96) == pytest.approx(d.std() / np.sqrt(2000), rel=0.1)
    assert pairs.p[0] < 1e-5
    assert pairs.p[2] == 1.0
    assert pairs.p[1] > 1e-4
    np.testing.assert_allclose(pairs.p_adjusted, holm(pairs.p))


def test_cells_give_the_value_in_every_slice(data):
    masks, num, den, _ = data
    stratum = np.arange(N) % 7
    for strata in (None, stratum):
        ratio = Ratio(num[:, 1].astype(float), den[:, 1].astype(float), den[:, 1] > 0, strata)
        expected = [ratio.value(mask) for mask in masks]
        np.testing.assert_allclose(Cells.of(masks).value(ratio), expected, rtol=1e-12)


def test_no_spread_is_no_certainty():
    pairs = compare_pairs(np.array([1.0, 0.0]), np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))
    assert np.isnan([pairs.lo[0], pairs.hi[0], pairs.p[0], pairs.p_adjusted[0]]).all()
