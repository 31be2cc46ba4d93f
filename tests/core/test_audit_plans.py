"""The variance of a design per image, against formulas of survey sampling and simulated audits."""

import numpy as np
import pytest
from scipy.stats import f as f_distribution
from scipy.stats import norm, poisson, t

from audits import images, linearised_means
from manyhot.core.audit_designs import SmallDesign, count_apart, count_audited, design_by_models, small_design
from manyhot.core.audit_plans import (
    DesignVariance,
    _smallest,
    decided,
    design_variance,
    detectable,
    error_for_difference,
    images_for_share,
    power_of,
)
from manyhot.core.audit_samples import AuditDesign, stratified_design, uniform_design
from manyhot.core.audited import estimate
from manyhot.core.resampling import QUANTILE
from manyhot.errors import InputError

N = 4000
WHOLE = np.full(N, 1 / N)


def test_a_uniform_sample_without_proposals_has_the_variance_of_the_textbook():
    people, proposed = images(N)
    v = design_variance(people, proposed, WHOLE, SmallDesign(np.ones(N)), power=0.0)
    s2 = people.var(axis=0, ddof=1)
    assert np.allclose(v.error(400, N) ** 2, (1 - 400 / N) * s2 / 400)
    df = 2 * 400 * v.effective
    half = t.ppf(0.975, df) * np.sqrt(f_distribution.ppf(0.5, df, 2 * v.pilot) * (1 - 400 / N) * s2 / 400)
    assert v.images(half, N).tolist() == [400, 400, 400]


def test_tuning_takes_the_correlation_out():
    people, proposed = images(N)
    v = design_variance(people, proposed, WHOLE, SmallDesign(np.ones(N)))
    rho = [np.corrcoef(people[:, m], proposed[:, m])[0, 1] for m in range(3)]
    plain = design_variance(people, proposed, WHOLE, SmallDesign(np.ones(N)), power=0.0)
    assert np.allclose(v.spread / plain.spread, 1 - np.square(rho), rtol=1e-3)


def test_a_stratified_sample_has_the_variance_within_strata():
    people, proposed = images(N)
    stratum = (proposed.mean(1) > 0.7).astype(int)
    n = np.array([300, 100])
    size = np.bincount(stratum)
    design = AuditDesign((n / size)[stratum], stratum)
    v = design_variance(
        people, proposed, WHOLE, SmallDesign(design.probability * N / 400, stratum), power=0.0
    )
    within = np.array([people[stratum == h].var(axis=0, ddof=1) for h in (0, 1)])
    expected = sum((size[h] / N) ** 2 * (1 - n[h] / size[h]) * within[h] / n[h] for h in (0, 1))
    assert np.allclose(v.error(400, N) ** 2, expected, rtol=1e-3)


@pytest.mark.parametrize("prefer", ["uniform", "active", "differences"])
def test_planned_errors_are_those_that_come(prefer):
    """Drawn 300 times, the deviation of the estimates is the planned error, within 10 %."""
    people, proposed = images(N)
    best = (proposed > np.random.default_rng(0).random(proposed.shape)).astype(int)
    small, n = small_design(prefer, best), 400
    expected = design_variance(people, proposed, WHOLE, small).error(n, N)
    design, found = AuditDesign(small.relative * n / N), []
    for seed in range(300):
        sample = design.draw(np.random.default_rng(seed))
        found.append(estimate(linearised_means(people[sample.images], proposed, sample), sample).value)
    assert np.allclose(np.std(found, axis=0) / expected, 1, atol=0.1)


def test_a_pilot_of_one_design_plans_another():
    """From pilots by strata, the mean of the estimated variances is that from all images."""
    people, proposed = images(N)
    stratum = (proposed.mean(1) > 0.7).astype(int)
    pilot = stratified_design(stratum, 400, np.where(stratum, 1.0, 3.0))
    small = small_design("active", (proposed > 0.5).astype(int))
    truth = design_variance(people, proposed, WHOLE, small).spread
    found = []
    for seed in range(100):
        sample = pilot.draw(np.random.default_rng(seed))
        rows = sample.images
        v = design_variance(people[rows], proposed[rows], sample.weights, SmallDesign(small.relative[rows]))
        found.append(v.spread)
    assert np.allclose(np.mean(found, axis=0) / truth, 1, atol=0.05)


def test_images_and_errors_are_inverse():
    v = DesignVariance(np.array([0.2, 0.1]), np.array([0.1, 0.1]), np.ones(2))
    n = v.images(0.01, 50_000)
    assert (v.half_width(n, 50_000) <= 0.01).all()
    assert (v.half_width(n - 1, 50_000) > 0.01).all()
    pair = DesignVariance(np.full(1, 0.2), np.full(1, 0.1), np.ones(1), same=3.0)
    n = pair.images(0.01, 50_000)
    assert pair.half_width(n, 50_000) <= 0.01 < pair.half_width(n - 1, 50_000)
    assert v.images(1e-9, 50_000).tolist() == [50_000, 50_000]


def test_at_least_ten_images_make_up_the_variance():
    """With known variances, of 95 % of the samples; with those of a pilot, ten are a share of more."""
    v = DesignVariance(np.full(1, 0.2), np.full(1, 0.2), np.full(1, 0.05))
    (n,) = v.images(0.2, 50_000)
    assert poisson.sf(9, 0.05 * n) > 0.95 > poisson.sf(9, 0.05 * (n - 1))
    pilot = DesignVariance(*3 * [np.full(1, 0.05)], pilot=np.full(1, 5.0))
    rng = np.random.default_rng(0)
    rates = 0.05 * rng.gamma(5, 1 / 5, 200_000)  # that five disagreements in a pilot leave open
    assert np.mean(rng.poisson(rates * pilot.fewest) >= 10) == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize(("size", "share"), [(300, 0.02), (1000, 0.02), (300, 0.1)])
def test_planned_widths_are_those_that_come(size, share):
    """From pilots with 6, 20 and 30 disagreements: the median is within 5 %, and 80 % are in the range."""
    rng = np.random.default_rng(0)
    people = (rng.random((20_000, 1)) < 0.8).astype(np.float32)
    proposed = np.where(rng.random((20_000, 1)) < share, 1 - people, people)
    ratio, usual, without = [], [], []
    for _ in range(400):
        pilot, small = rng.choice(20_000, size, replace=False), SmallDesign(np.ones(size))
        v = design_variance(people[pilot], proposed[pilot], np.full(size, 1 / size), small)
        n = int(v.images(0.03, 20_000)[0])
        sample = uniform_design(20_000, n).draw(rng)
        lo, hi = estimate(linearised_means(people[sample.images], proposed, sample), sample).interval()
        half = (hi - lo) / 2
        low, middle, high = (v.half_width(n, 20_000, p) for p in (0.1, 0.5, 0.9))
        ratio += list(half / middle)
        usual += list((low <= half) & (half <= high))
        without += list(np.isnan(half))
    assert np.nanmedian(ratio) == pytest.approx(1, abs=0.05)
    assert 0.75 < np.mean(usual) / (1 - np.mean(without)) < 0.97
    assert np.mean(without) < 0.12


def test_images_with_small_probabilities_need_more_of_them():
    people, proposed = images(N)
    best = (proposed > np.random.default_rng(0).random(proposed.shape)).astype(int)
    small, n = small_design("active", best), 400
    v = design_variance(people, proposed, WHOLE, small)
    design, found = AuditDesign(small.relative * n / N), []
    for seed in range(100):
        sample = design.draw(np.random.default_rng(seed))
        found.append(estimate(linearised_means(people[sample.images], proposed, sample), sample).heaviest)
    assert np.allclose(np.mean(found, axis=0) / (v.heaviest / n), 1, atol=0.15)
    rare = DesignVariance(*3 * [np.ones(1)], heaviest=np.full(1, 300.0))
    assert rare.images(1.0, 50_000) > 300
    same = design_variance(people, proposed, WHOLE, small, same=np.ones(people.shape, bool))
    assert (same.heaviest == 0).all()


def test_power_is_that_of_the_two_sided_test():
    z = norm.ppf(0.975)
    assert pytest.approx(z) == QUANTILE
    error = error_for_difference(0.03, 0.8)
    assert error == pytest.approx(0.03 / (z + norm.ppf(0.8)))
    assert power_of(0.03, error) == pytest.approx(0.8, abs=1e-4)
    assert detectable(error, 0.8) == pytest.approx(0.03)
    assert power_of(0.0, 0.01) == pytest.approx(0.05)
    draws = np.random.default_rng(0).normal(0.03, error, 200_000)
    assert np.mean(np.abs(draws) > z * error) == pytest.approx(0.8, abs=0.005)


def test_images_for_a_share_of_pairs():
    differences = np.array([0.01, 0.03, 0.1])
    v = DesignVariance(np.full(3, 0.2), np.full(3, 0.2), np.ones(3))
    n, share = images_for_share(differences, v, 0.6, 50_000)
    assert share >= 0.6 > decided(differences, v.half_width(n - 1, 50_000) / QUANTILE)
    assert share == pytest.approx(np.mean(power_of(differences, v.half_width(n, 50_000) / QUANTILE)))


@pytest.mark.parametrize("goal", [1, 2, 3, 4, 5, 31, 99, 100])
def test_the_smallest_number_that_reaches_a_goal(goal):
    assert _smallest(float, goal, 100) == (goal, goal)


def test_too_small_a_pilot():
    with pytest.raises(InputError) as error:
        design_variance(np.zeros((20, 1)), np.zeros((20, 1)), np.full(20, 0.05), SmallDesign(np.ones(20)))
    assert str(error.value) == (
        "The pilot has too few images for a plan.\n"
        "  got:     20\n"
        "  allowed: at least 30\n"
        "  do:      audit more images, or plan without a pilot"
    )


def test_the_uniform_design_is_that_of_a_sample():
    design = small_design("uniform", np.zeros((10, 2), int))
    assert design.stratum is None
    assert np.allclose(design.relative * 4 / 10, uniform_design(10, 4).probability)


@pytest.mark.parametrize("n", [20, 200, 2000])
def test_images_of_a_pair(n):
    for same in (0.5, 3.5, 10.0):
        apart = count_apart(n, same)
        assert n / 3 <= apart < n
        assert count_audited(np.array([apart]), same)[0] == pytest.approx(n)


def test_planned_errors_of_a_pair_are_those_that_come():
    """The difference is 0 where the two agree; drawn 300 times by `design_by_models`."""
    rng = np.random.default_rng(0)
    best = rng.integers(0, 3, (N, 2))
    best[rng.random(N) < 0.7, 1] = 0
    best[:, 0] = np.where(rng.random(N) < 0.7, best[:, 1], best[:, 0])
    people = ((best[:, :1] == 0).astype(float) - (best[:, 1:] == 0)) * (rng.random((N, 1)) < 0.7)
    proposed = ((best[:, :1] == 0).astype(float) - (best[:, 1:] == 0)) * 0.8
    expected = design_variance(people, proposed, WHOLE, small_design("differences", best)).error(400, N)
    design, found = design_by_models("differences", best, 400).design, []
    for seed in range(300):
        sample = design.draw(np.random.default_rng(seed))
        found.append(estimate(linearised_means(people[sample.images], proposed, sample), sample))
    assert np.mean([f.without[0] for f in found]) < 0.02
    assert np.std([f.value for f in found]) / expected[0] == pytest.approx(1, abs=0.1)
