"""Drops, fits and orders against SciPy, and intervals against plain loops."""

import numpy as np
import pytest
from scipy.stats import binom, kendalltau, linregress, norm, t, ttest_1samp

from manyhot.core.comparison import Families, above_line, compare_orders, fit_line, from_scale, to_scale

RNG = np.random.default_rng(7)
M = 30
X = np.sort(RNG.uniform(0.5, 0.9, M))
Y = 0.9 * X - 0.1 + RNG.normal(0, 0.02, M)
NAMES = [f"family {i % 6}" for i in range(M)]


UNEVEN = [f"family {max(i - 9, 0) // 3}" for i in range(M)]
"""One family of 12 models and six of three."""


@pytest.fixture
def families():
    return Families.of(NAMES)


def jackknifed(names, statistic, value, df):
    """Return Student's interval from a statistic that is computed again without each family, one by one."""
    names, errors = np.array(names), []
    for family in dict.fromkeys(names):
        rest = names != family
        errors.append(statistic(X[rest], Y[rest]) - value)
    n = len(errors)
    half = t.ppf(0.975, df) * np.sqrt((n - 1) / n * np.square(errors).sum())
    return pytest.approx((value - half, value + half), rel=1e-6)


@pytest.mark.parametrize("scale", ["plain", "logit", "probit"])
def test_a_line_is_scipys(families, scale):
    line = fit_line(X, Y, families, scale=scale)
    expected = linregress(to_scale(X, scale), to_scale(Y, scale))
    assert line.slope == pytest.approx(expected.slope)
    assert line.intercept == pytest.approx(expected.intercept)
    assert line.r2 == pytest.approx(expected.rvalue**2)
    assert (line.n, line.n_families) == (M, 6)


def test_scales_are_those_of_the_literature():
    np.testing.assert_allclose(to_scale([0.5, 0.9], "logit"), [0, np.log(9)])
    np.testing.assert_allclose(to_scale([0.5, 0.975], "probit"), norm.ppf([0.5, 0.975]))
    for scale in ("plain", "logit", "probit"):
        np.testing.assert_allclose(from_scale(to_scale(X, scale), scale), X)


@pytest.mark.parametrize(("names", "df"), [(NAMES, 5), (UNEVEN, 900 / (12**2 + 6 * 9) - 1)])
def test_intervals_are_those_of_leaving_out_each_family(names, df):
    families = Families.of(names)
    line = fit_line(X, Y, families)
    slope, intercept = (
        jackknifed(names, lambda x, y, name=name: getattr(linregress(x, y), name), value, df)
        for name, value in (("slope", line.slope), ("intercept", line.intercept))
    )
    assert (line.slope_interval, line.intercept_interval) == (slope, intercept)
    mean = jackknifed(names, lambda x, y: (x - y).mean(), (X - Y).mean(), df)
    assert families.mean_interval(X - Y) == mean
    tau = kendalltau(X, Y).statistic
    lo, hi = jackknifed(names, lambda x, y: kendalltau(x, y).statistic, tau, df).expected
    assert compare_orders(X, Y, families).models == pytest.approx((max(lo, -1), min(hi, 1)))


def test_of_equal_families_the_mean_has_students_interval_of_their_means():
    means = np.array([(X - Y)[np.array(NAMES) == name].mean() for name in dict.fromkeys(NAMES)])
    expected = ttest_1samp(means, 0).confidence_interval(0.95)
    assert Families.of(NAMES).mean_interval(X - Y) == pytest.approx(tuple(expected))


def test_copies_of_a_model_add_nothing():
    """Ten copies of each model are no more evidence than one, where families are left out whole."""
    once = Families.of([f"f{i}" for i in range(M)])
    copied = Families.of([f"f{i}" for i in range(M) for _ in range(10)])
    np.testing.assert_allclose(once.mean_interval(X), copied.mean_interval(np.repeat(X, 10)))


SIZES = {5: (12, 6, 4, 2, 1), 10: (21, 12, 9, 6, 5, 4, 4, 3, 2, 1), 20: (21, 12, 9, 6, 5, 4, 4, 3, 2, 1) * 2}


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("uneven", [False, True])
def test_intervals_over_families_hold(n, uneven):
    """400 sets of models whose families differ: at least 93.5 %, by the binomial's bound of 99.9 %."""
    rng, sizes = np.random.default_rng(n), SIZES[n] if uneven else (5,) * n
    families = Families.of([str(f) for f, size in enumerate(sizes) for _ in range(size)])
    held = np.zeros((400, 2), bool)
    for row in held:
        common, own = rng.standard_normal((2, n))[:, families.index], rng.standard_normal((2, sum(sizes)))
        x = 0.7 + 0.02 * (common[0] + own[0])
        y = 0.9 * x + 0.02 * (common[1] + own[1])
        ends = families.mean_interval(y - 0.9 * x), fit_line(x, y, families).slope_interval
        row[:] = [lo <= true <= hi for (lo, hi), true in zip(ends, (0, 0.9), strict=True)]
    assert (held.sum(0) >= binom.ppf(0.001, len(held), 0.935)).all()


@pytest.mark.parametrize("others", [0, 4])
def test_if_one_family_decides_the_value_there_is_no_interval(others):
    """One family of all models, or of 22 of 30: 1.8 effective families, and a t of less than one degree."""
    alone = Families.of([f"family {max(i - 20, 0) // 2 if others else 0}" for i in range(M)])
    line = fit_line(X, Y, alone)
    assert np.isnan([*line.slope_interval, *line.intercept_interval, *alone.mean_interval(X)]).all()
    assert line.slope == pytest.approx(linregress(X, Y).slope)


def test_models_without_a_place_on_the_scale_are_left_out(families):
    x = np.where(np.arange(M) == 3, 1.0, X)
    line = fit_line(x, Y, families, scale="logit")
    kept = np.arange(M) != 3
    expected = linregress(to_scale(X[kept], "logit"), to_scale(Y[kept], "logit"))
    assert (line.n, line.slope) == (M - 1, pytest.approx(expected.slope))


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_models_have_no_line(n):
    line = fit_line(X[:n], Y[:n], Families.of(NAMES[:n]))
    assert np.isnan([line.slope, line.intercept, line.r2]).all()
    assert line.n == n


def test_one_value_at_x_has_no_line(families):
    line = fit_line(np.full(M, 0.7), Y, families)
    assert np.isnan(line.slope)


def test_effective_robustness_is_what_lies_above_the_line(families):
    line = fit_line(X, Y, families, scale="logit")
    fit = linregress(np.log(X / (1 - X)), np.log(Y / (1 - Y)))
    expected = Y - 1 / (1 + np.exp(-(fit.intercept + fit.slope * np.log(X / (1 - X)))))
    np.testing.assert_allclose(above_line(X, Y, line, "logit"), expected)


@pytest.mark.parametrize("digits", [8, 2])  # two digits make ties
def test_tau_is_scipys(families, digits):
    x, y = X.round(digits), Y.round(digits)
    order = compare_orders(x, y, families)
    assert order.tau == pytest.approx(kendalltau(x, y).statistic)
    swapped = sum((x[a] - x[b]) * (y[a] - y[b]) < 0 for a in range(M) for b in range(a))
    assert (order.n_pairs, order.n_swapped) == (M * (M - 1) // 2, swapped)


@pytest.mark.parametrize("digits", [8, 2])
def test_the_interval_of_tau_over_images_is_as_wide_as_its_resamples(families, digits):
    samples_x = X[:, None] + RNG.normal(0, 0.01, (M, 300))
    samples_y = Y[:, None] + RNG.normal(0, 0.01, (M, 300))
    samples_x, samples_y = samples_x.round(digits), samples_y.round(digits)
    taus = [kendalltau(samples_x[:, r], samples_y[:, r]).statistic for r in range(300)]
    order = compare_orders(X, Y, families, samples_x, samples_y)
    half = t.ppf(0.975, 299) * np.std(taus, ddof=1)
    assert order.images == (pytest.approx(order.tau - half), pytest.approx(min(order.tau + half, 1)))
    half = t.ppf(0.975, 14) * np.std(taus, ddof=1) * np.sqrt(15 / 14)
    order = compare_orders(X, Y, families, samples_x, samples_y, n=15)
    assert order.images == (pytest.approx(order.tau - half), pytest.approx(min(order.tau + half, 1)))
