"""Intervals of ratios without resamples, against plain loops and SciPy."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import binomtest, kurtosis, norm, t

from manyhot.core.estimates import Cells, Ratio
from manyhot.core.model_pairs import compare_pairs, only_one_right, only_right, paired_errors
from manyhot.core.ratio_intervals import (
    changes_without,
    have_percentiles,
    ratio_interval,
    ratio_intervals,
    with_few_apart,
    with_none_apart,
)

RNG = np.random.default_rng(0)


def strata(n=60):
    scored = RNG.random(n) < 0.9
    den = np.where(scored, RNG.integers(0, 3, n), 0).astype(float)
    return Ratio(den * RNG.random(n), den, scored, RNG.integers(0, 12, n))


def without_each(ratio, inside):
    """Return the value without each scored image, in a loop."""
    kept = np.flatnonzero(ratio.scored & inside)
    return np.array([ratio.value(inside & (np.arange(len(inside)) != i)) for i in kept])


@pytest.mark.parametrize("plain", [False, True])
def test_changes_are_those_of_leaving_out_each_image(plain):
    for _ in range(20):
        ratio, inside = strata(), np.ones(60, bool)
        if plain:
            ratio = Ratio(ratio.num, ratio.den, ratio.scored)
        expected = without_each(ratio, inside) - ratio.value(inside)
        assert changes_without(ratio) == pytest.approx(expected, abs=1e-12)


def test_a_mean_over_strata_has_the_interval_of_the_jackknife():
    ratio = strata()
    without = without_each(ratio, np.ones(60, bool))
    n, value = len(without), ratio.value()
    error = np.sqrt((n - 1) * without.var())
    half = t.ppf(0.975, 2 * n / kurtosis(without, fisher=False)) * error / (value * (1 - value))
    assert ratio_interval(ratio) == pytest.approx(expit(logit(value) + np.array([-half, half])))


@pytest.mark.parametrize("values", ["flags", "few values", "numbers"])
@pytest.mark.parametrize("stratified", [True, False])
def test_the_intervals_of_slices_are_those_of_leaving_out_each_of_their_images(values, stratified):
    n, masks = 300, RNG.random((4, 300)) < 0.7
    scored = RNG.random(n) < 0.9
    den = scored if values == "flags" else np.where(scored, RNG.integers(1, 4, n), 0).astype(float)
    share = {"flags": RNG.random(n) < 0.6, "few values": RNG.integers(0, 3, n) / 2, "numbers": RNG.random(n)}
    ratio = Ratio(share[values] * den, den, scored, RNG.integers(0, 5, n) if stratified else None)
    found = np.transpose(ratio_intervals(ratio, masks))
    for mask, ends in zip(masks, found, strict=True):
        without, value = without_each(ratio, mask), ratio.value(mask)
        if values == "flags" and not stratified:  # a share
            expected = binomtest(int(value * len(without) + 0.5), len(without)).proportion_ci(method="wilson")
            assert ends == pytest.approx([expected.low, expected.high])
            continue
        df = min(2 * len(without) / kurtosis(without, fisher=False), len(without) - 1)
        error = np.sqrt((len(without) - 1) * without.var())
        half = t.ppf(0.975, df) * error / (value * (1 - value))
        assert ends == pytest.approx(expit(logit(value) + np.array([-half, half])))


def test_an_image_that_is_alone_takes_its_stratum_out_of_the_mean():
    ones = np.ones(3, bool)
    ratio = Ratio(np.array([True, False, False]), ones, ones, np.array([0, 1, 1]))
    assert ratio.value() == 0.5
    assert changes_without(ratio) == pytest.approx([-0.5, 0, 0])
    assert np.isnan(changes_without(Ratio(ones[:1], ones[:1], ones[:1], np.array([4])))).all()


def test_a_mean_above_0_has_an_interval_on_the_log_scale():
    x, ones = RNG.gamma(0.5, 2, 40), np.ones(40, bool)
    lo, hi = ratio_interval(Ratio(x, ones, ones), scale="log")
    df = 2 * 40 / kurtosis(x, fisher=False)
    half = t.ppf(0.975, df) * x.std(ddof=1) / np.sqrt(40) / x.mean()
    assert np.log([lo, hi]) == pytest.approx(np.log(x.mean()) + np.array([-half, half]))


def test_a_share_has_the_interval_of_wilson_even_if_all_are_right():
    for right in (np.ones(12, bool), RNG.random(50) < 0.8):
        n = len(right)
        inside, ones = np.arange(n) >= 2, np.ones(n, bool)
        expected = binomtest(int(right[2:].sum()), n - 2).proportion_ci(method="wilson")
        (lo,), (hi,) = ratio_intervals(Ratio(right, ones, ones), inside[None])
        assert (lo, hi) == pytest.approx((expected.low, expected.high))


def test_which_slices_have_percentiles():
    n, half = 1000, np.arange(1000) < 150
    right, ones = np.arange(n) < 970, np.ones(n, bool)
    cells = Cells.of(np.stack([ones, half, ~half]))
    assert have_percentiles(Ratio(right, ones, ones), cells).tolist() == [True, False, True]
    assert not have_percentiles(Ratio(np.arange(n) < 971, ones, ones), cells).any()  # 29 are wrong
    mean = Ratio(RNG.random(n), ones, ones)
    assert have_percentiles(mean, cells).tolist() == [True, False, True]
    assert not have_percentiles(mean, cells, "log").any()
    assert not have_percentiles(Ratio(right, ones, ones, np.zeros(n, int)), cells).any()


@pytest.mark.parametrize(("n", "apart"), [(150, 60), (5000, 12)])
def test_pairs_that_few_images_tell_apart_are_of_wald_with_an_image_more_on_both_sides(n, apart):
    right = np.zeros((2, n), bool)
    right[:, : n // 2] = True
    right[1, n // 2 : n // 2 + apart] = True
    right[1, :3] = False
    only = only_right(np.packbits(right, axis=1))
    assert only.tolist() == [[0, 3], [apart, 0]]
    samples, counts = RNG.random((2, 50)), (only[[0], 1], only[[1], 0])
    plain = compare_pairs(right.mean(1), samples, errors=paired_errors(*counts, n))
    found = with_few_apart(plain, *counts, n)
    # Wald's interval of n + 2 images, of which one more is right for one model, and one for the other.
    change = np.append(right[1].astype(float) - right[0], [1, -1])
    half = 1.959964 * change.std() / np.sqrt(n + 2)
    assert (found.lo[0], found.hi[0]) == pytest.approx((change.mean() - half, change.mean() + half))
    assert (
        found.p[0] == found.p_adjusted[0] == pytest.approx(2 * norm.sf(abs(change.mean()) / half * 1.959964))
    )
    assert found.difference == plain.difference


def test_no_image_tells_models_apart():
    """Then there is the interval of shares: one more image on both sides of 38 equal ones."""
    values = np.array([0.5, 0.5, 0.5, 0.7])
    errors, df = np.array([0, 0.02, 0.02, 0.02, 0.02, 0.02]), np.full(6, 5.0)
    plain = compare_pairs(values, errors=errors, df=df)
    found = with_none_apart(plain, np.full(6, 38))
    half = 1.959964 * np.append(np.zeros(38), [1, -1]).std() / np.sqrt(40)
    assert (found.lo[0], found.hi[0], found.p[0]) == pytest.approx((-half, half, 1))
    assert (found.lo[1:] == plain.lo[1:]).all()
    assert (found.hi[1:] == plain.hi[1:]).all()
    assert (found.p[1:] == plain.p[1:]).all()


def test_pairs_that_many_images_tell_apart_stay():
    right = RNG.random((3, 500)) < [[0.5], [0.6], [0.7]]
    counts = only_one_right(np.packbits(right, axis=1))
    plain = compare_pairs(right.mean(1), RNG.random((3, 50)), errors=paired_errors(*counts, 500))
    found = with_few_apart(plain, *counts, 500)
    for name in ("lo", "hi", "p", "p_adjusted"):
        assert (getattr(found, name) == getattr(plain, name)).all()


def wilson(p, n):
    """Return Wilson's interval of a share p of n cases, n not necessarily whole."""
    z = norm.ppf(0.975)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return np.array([p + z**2 / (2 * n) - half, p + z**2 / (2 * n) + half]) / (1 + z**2 / n)


@pytest.mark.parametrize("n", [60, 1000])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_ratio_of_counts_at_a_limit_has_wilsons_interval_of_its_images(n, value):
    # Nine images have cases: all cases of an image are one case, and t with 8 degrees of freedom is wider.
    den = np.zeros(n)
    den[:9] = [1, 1, 2, 3, 1, 1, 1, 2, 1]
    ratio = Ratio(value * den, den, np.ones(n, bool))
    effective = den.sum() ** 2 / (den**2).sum() / (t.ppf(0.975, 8) / norm.ppf(0.975)) ** 2
    assert not have_percentiles(ratio, Cells.of(np.ones((1, n), bool))).any()
    assert ratio_interval(ratio) == pytest.approx(np.clip(wilson(value, effective), 0, 1), abs=1e-12)


def test_a_ratio_of_counts_with_few_hits_has_wilsons_interval_with_a_design_effect():
    den = np.zeros(1000)
    den[:20] = RNG.integers(1, 4, 20)
    num = np.where(np.arange(1000) < 6, den, 0.0)
    ratio = Ratio(num, den, np.ones(1000, bool))
    p, m = num.sum() / den.sum(), 20
    variance = ((num - p * den) ** 2).sum() * m / (m - 1) / den.sum() ** 2
    effect = max(variance / (p * (1 - p) / den.sum()), 1) * (t.ppf(0.975, m - 1) / norm.ppf(0.975)) ** 2
    assert not have_percentiles(ratio, Cells.of(np.ones((1, 1000), bool))).any()
    assert ratio_interval(ratio) == pytest.approx(wilson(p, den.sum() / effect))


@pytest.mark.parametrize("n", [40, 100, 199, 400])
def test_one_error_does_not_widen_the_interval_beyond_wilsons(n):
    """The jackknife has two degrees of freedom then: 99 of 100 was 58 to 100 %, 95 of 100 was 87 to 98 %."""
    num = np.ones(n)
    num[0] = 0
    found = ratio_interval(Ratio(num, np.ones(n), np.ones(n, bool)))
    one = binomtest(n - 1, n).proportion_ci(method="wilson")
    assert found == pytest.approx((one.low, one.high), abs=0.1 * (one.high - one.low))


@pytest.mark.parametrize(
    ("n", "share", "m"),
    [(30, 0.99, 20), (60, 0.99, 20), (100, 0.95, 20), (190, 0.99, 20), (100, 0.99, 1), (190, 0.99, 1)],
)
def test_shares_with_errors_on_few_images_are_covered(n, share, m):
    """Estimated from a few images, a design effect is too low; near 1, Wilson's interval is too narrow."""
    rng, covered, rho = np.random.default_rng(n), [], 0.3
    for _ in range(800):
        right = rng.beta(share * (1 - rho) / rho, (1 - share) * (1 - rho) / rho, n)
        ratio = Ratio(rng.binomial(m, right).astype(float), np.full(n, float(m)), np.ones(n, bool))
        lo, hi = ratio_interval(ratio)
        covered.append(lo <= share <= hi)
    assert np.mean(covered) > 0.935


def test_the_interval_of_f1_without_hits_is_that_of_the_jaccard_index_of_cells():
    # F1 = 2 J / (1 + J), where J = TP / (TP + FP + FN); here, 40 images have one missed positive each.
    den = np.where(np.arange(500) < 40, 0.5, 0.0)
    _, hi = ratio_interval(Ratio(np.zeros(500), den, np.ones(500, bool)))
    _, jaccard = wilson(0.0, 40 / (t.ppf(0.975, 39) / norm.ppf(0.975)) ** 2)
    assert hi == pytest.approx(2 * jaccard / (1 + jaccard))


def test_shares_of_which_one_is_right_on_all_images_differ_as_with_few_images():
    n = 250
    counts = np.array([n]), np.array([0])
    plain = compare_pairs(np.array([1.0, 0.0]), np.tile([[1.0], [0.0]], 50), errors=paired_errors(*counts, n))
    found = with_few_apart(plain, *counts, n)
    change = np.append(np.full(n, -1.0), [1, -1])  # one more image on both sides
    half = 1.959964 * change.std() / np.sqrt(n + 2)
    assert (found.lo[0], found.hi[0]) == pytest.approx((-1, change.mean() + half))
    assert found.p[0] < 1e-9


def test_ratios_of_which_few_images_have_most_of_the_weight_have_no_percentiles():
    """Percentiles of F1 contain its value in 90 %: the number of labels is log-normal."""
    rng, n, covered = np.random.default_rng(6), 300, []

    def draw(n):
        labels = np.ceil(rng.lognormal(0, 1.5, n)).astype(int)
        hits = rng.binomial(labels, expit(1 + rng.normal(size=n) - 0.3 * np.log(labels)))
        return 2.0 * hits, (labels + hits + rng.poisson(0.3 * labels)).astype(float)

    num, den = draw(2_000_000)
    true, inside = num.sum() / den.sum(), np.ones((1, n), bool)
    for _ in range(600):
        ratio = Ratio(*draw(n), inside[0])
        (percentiles,) = have_percentiles(ratio, Cells.of(inside))
        if percentiles:
            counts = rng.multinomial(n, np.full(n, 1 / n), 400)
            lo, hi = np.quantile(counts @ ratio.num / (counts @ ratio.den), [0.025, 0.975])
        else:
            lo, hi = ratio_interval(ratio)
        covered.append(lo <= true <= hi)
    assert np.mean(covered) > 0.92
    even = Ratio(np.tile([1.0, 2.0, 0.0], 100), np.full(300, 2.0), inside[0])
    assert have_percentiles(even, Cells.of(inside)).all()
