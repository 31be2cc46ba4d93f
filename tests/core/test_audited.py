"""Estimates of core/audited.py against closed forms, all samples, simulations and ppi-python."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from audits import coverage, images, linearised_means
from manyhot.core.audit_samples import (
    AuditDesign,
    AuditSample,
    active_design,
    stratified_design,
    uniform_design,
)
from manyhot.core.audited import (
    TOO_FEW_IMAGES,
    TOO_FEW_LEFT,
    TOO_HEAVY,
    estimate,
    linearised_ratios,
    reserve_of,
)
from manyhot.core.estimates import Ratio, mean_over
from manyhot.core.posterior import resampled_values
from manyhot.core.resampling import percentile_interval
from manyhot.errors import InputError


def test_without_proposals_it_is_the_textbooks_mean():
    y, f = images(80)
    sample = uniform_design(80, 30).draw(np.random.default_rng(1))
    drawn = y[sample.images]
    found = estimate(linearised_means(drawn, f, sample), sample, power=0.0)
    assert found.value == pytest.approx(drawn.mean(0))
    assert found.error == pytest.approx(np.sqrt((1 - 30 / 80) * drawn.var(0, ddof=1) / 30))
    kurtosis = stats.kurtosis(drawn, fisher=False)
    assert found.df == pytest.approx(60 / kurtosis)
    assert found.alone == pytest.approx(f.mean(0))


def test_the_estimate_of_a_stratified_sample_is_the_textbooks():
    """Cochran 1977, Sampling Techniques, equations 5.1 and 5.12."""
    y, f = images(90)
    stratum = np.repeat([0, 1, 2], [50, 30, 10])
    sample = stratified_design(stratum, 30, np.repeat([1.0, 2, 3], [50, 30, 10])).draw(
        np.random.default_rng(1)
    )
    mean, variance = np.zeros(3), np.zeros(3)
    for h, size in enumerate((50, 30, 10)):
        inside = sample.images[stratum[sample.images] == h]
        residual = y[inside] - f[inside]
        mean += size / 90 * residual.mean(0)
        n = len(inside)
        variance += (size / 90) ** 2 * (1 - n / size) * residual.var(0, ddof=1) / n
    found = estimate(linearised_means(y[sample.images], f, sample), sample, power=1.0)
    assert found.value == pytest.approx(f.mean(0) + mean)
    assert found.error == pytest.approx(np.sqrt(variance))


def test_over_all_samples_the_difference_estimator_and_its_variance_are_unbiased():
    y, f = images(7)
    design = uniform_design(7, 4)
    found = []
    for rows in itertools.combinations(range(7), 4):
        sample = AuditSample(design, np.array(rows))
        found.append(estimate(linearised_means(y[list(rows)], f, sample), sample, power=1.0))
    values = np.array([e.value for e in found])
    assert values.mean(0) == pytest.approx(y.mean(0))
    assert np.mean([e.error**2 for e in found], axis=0) == pytest.approx(values.var(0))


def test_the_tuned_weight_has_the_smallest_variance_and_is_within_0_and_1():
    y, f = images(300)
    f[:, 1], f[:, 2] = 1 - f[:, 1], f[:, 2] / 10
    design = active_design(f * (1 - f), 100)
    sample = design.draw(np.random.default_rng(2))
    values = linearised_means(y[sample.images], f, sample)
    found = estimate(values, sample)
    assert found.power[1:].tolist() == [0, 1]
    grid = np.linspace(0, 1, 201)
    errors = [estimate(values, sample, power=p).error[0] for p in grid]
    assert found.power[0] == pytest.approx(grid[np.argmin(errors)], abs=0.003)
    # one degree of freedom is spent on the weight
    assert found.error[0] == pytest.approx(min(errors) * np.sqrt(99 / 98), rel=1e-4)
    slope, _ = np.polyfit(np.sin(np.arange(300)), np.arange(300) % 5, 1)
    uniform = AuditSample(uniform_design(300, 300 - 1), np.arange(299))
    line = np.sin(np.arange(300))[:, None], (np.arange(300) % 5)[:, None] + 0.0
    tuned = estimate(linearised_means(line[1][:299], line[0], uniform), uniform)
    assert tuned.power[0] == pytest.approx(np.clip(slope, 0, 1), abs=0.01)


PPI = {
    # ppi-python 0.2.3, ppi_mean_pointestimate and ppi_mean_ci(y[S], f[S], f[U], lam=lam, alpha=0.05), where U
    # are the images that were not audited. There lam = 1 is here a power of N / (N - n) = 1.2.
    (0, 1.2): (0.56452067, 0.48949372, 0.63954762),
    (1, 1.2): (0.55690177, 0.52459317, 0.58921036),
    (0, 0.0): (0.56, 0.46270995, 0.65729005),
    (1, 0.0): (0.53856843, 0.46773009, 0.60940677),
    (0, "tuned"): (0.56376957, 0.48984896, 0.63769019),
}


@pytest.mark.parametrize("case", PPI)
def test_with_equal_probabilities_it_is_ppi_python(case):
    model, power = case
    i = np.arange(600)
    f = np.stack([np.sin(i) ** 2, (i % 7) / 6], axis=1)
    y = np.stack([np.sin(i + 0.3) ** 2 > 0.4, np.minimum(1, (i % 7) / 5 + 0.1 * np.cos(i * i))], axis=1)
    sample = AuditSample(uniform_design(600, 100), i[:100] * 37 % 600)
    values = linearised_means(y[sample.images], f, sample)
    found = estimate(values, sample, power=power, population=True)
    value, lo, hi = PPI[case]
    # ppi-python tunes with the variance of f over all images.
    assert found.value[model] == pytest.approx(value, abs=2e-5 if power == "tuned" else 1e-8)
    # ppi-python divides by n and takes the correlation of f and y - f for 0.
    half = stats.norm.ppf(0.975) * found.error[model]
    assert (found.value[model] - half, found.value[model] + half) == pytest.approx((lo, hi), abs=1.3e-3)


def ratio(seed, n, strata=None):
    """Return a ratio of sums with denominators of 0, 1 and 2."""
    rng = np.random.default_rng(seed)
    den = rng.integers(0, 3, n).astype(float)
    stratum = None if strata is None else np.arange(n) % strata
    return Ratio(den * rng.random(n), den, den > 0, stratum)


def rows_of(r, rows):
    return Ratio(r.num[rows], r.den[rows], r.scored[rows], None if r.stratum is None else r.stratum[rows])


def test_equal_residuals_have_no_interval():
    """Rounding is no variance: 0.1 + 0.2 - 0.3 is 5e-17."""
    f = np.linspace(0.1, 0.9, 100)[:, None]
    sample = uniform_design(100, 40).draw(np.random.default_rng(1))
    found = estimate(linearised_means((f + 0.3)[sample.images], f, sample), sample, power=1.0)
    assert found.value == pytest.approx(f.mean() + 0.3)
    assert found.doubts() == [TOO_FEW_IMAGES]


def test_a_ratio_is_the_textbooks():
    """Cochran 1977, equations 6.1 and 6.13, with the denominator's mean of the sample."""
    people, models = ratio(0, 200), ratio(1, 200)
    sample = uniform_design(200, 60).draw(np.random.default_rng(3))
    audited = rows_of(people, sample.images)
    found = estimate(linearised_ratios([audited], [models], sample), sample, power=0.0)
    value = audited.num.sum() / audited.den.sum()
    residual = (audited.num - value * audited.den) / audited.den.mean()
    assert found.value[0] == pytest.approx(value)
    assert found.error[0] == pytest.approx(np.sqrt((1 - 0.3) * residual.var(ddof=1) / 60))
    assert found.alone[0] == pytest.approx(models.value())


def test_a_mean_over_classes_with_known_denominators_is_a_weighted_mean():
    """With 20 classes and 30 images there is no value of each class."""
    stratum, usable = np.arange(400) % 20 % 13, np.arange(400) % 11 > 0
    y, f = images(400, models=1)
    people, models = (Ratio(np.where(usable, x[:, 0], 0), usable, usable, stratum) for x in (y, f))
    share = usable / np.bincount(stratum, usable)[stratum] / 13
    found, design = [], uniform_design(400, 30)
    for seed in range(3):
        sample = design.draw(np.random.default_rng(seed))
        audited = rows_of(people, sample.images)
        found.append(estimate(linearised_ratios([audited], [models], sample), sample, power=1.0))
        residual = (y - f)[sample.images, 0] * share[sample.images] * 400
        within = 400 * share[sample.images] * (usable[sample.images] & True)
        assert found[-1].value[0] == pytest.approx(models.value() + residual.mean())
        assert within.sum() > 0
    every = AuditSample(uniform_design(400, 400), np.arange(400))
    assert estimate(linearised_ratios([people], [models], every), every).value[0] == pytest.approx(
        people.value()
    )


def test_a_mean_over_few_strata_is_expanded_at_what_people_answered():
    people, models = ratio(4, 3000, 4), ratio(5, 3000, 4)
    sample = uniform_design(3000, 600).draw(np.random.default_rng(0))
    audited = rows_of(people, sample.images)
    found = estimate(linearised_ratios([audited], [models], sample), sample, power=0.0)
    assert found.value[0] == pytest.approx(audited.value())
    parts = [audited.stratum == g for g in range(4)]
    variance = sum(
        (1 - 0.2)
        * np.var((audited.num - audited.num[p].sum() / audited.den[p].sum() * audited.den) * p, ddof=1)
        / np.mean(audited.den * p) ** 2
        for p in parts
    )
    assert found.error[0] == pytest.approx(np.sqrt(variance / 600) / 4, rel=0.02)


@pytest.mark.parametrize("power", [0.0, 1.0, "tuned"])
def test_if_all_images_are_audited_the_value_is_exact(power):
    people, models = ratio(0, 90), ratio(1, 90)
    sample = AuditSample(uniform_design(90, 90), np.arange(90))
    found = estimate(linearised_ratios([people], [models], sample), sample, power=power)
    assert found.value[0] == pytest.approx(people.value())
    assert found.error[0] == pytest.approx(0, abs=1e-12)
    assert np.isnan(found.interval()[0][0])


def test_differences_are_paired():
    y, f = images(300)
    sample = uniform_design(300, 120).draw(np.random.default_rng(6))
    values = linearised_means(y[sample.images], f, sample)
    found = estimate(values.differences(np.array([0, 2]), np.array([1, 0])), sample)
    for p, (a, b) in enumerate(((0, 1), (2, 0))):
        own = linearised_means(
            y[sample.images, a, None] - y[sample.images, b, None], f[:, [a]] - f[:, [b]], sample
        )
        alone = estimate(own, sample)
        assert (found.value[p], found.error[p]) == pytest.approx((alone.value[0], alone.error[0]))
        assert found.alone[p] == pytest.approx(f[:, a].mean() - f[:, b].mean())


def test_values_of_other_images_are_refused():
    sample = uniform_design(500, 60).draw(np.random.default_rng(7))
    with pytest.raises(InputError) as error:
        linearised_means(np.zeros((50, 1)), np.zeros((500, 1)), sample)
    assert str(error.value) == (
        "The values do not match the sample.\n"
        "  got:     values of 50 audited images, and proposed values of 500 images\n"
        "  allowed: 60 audited images, and 500 images"
    )


def test_the_population_adds_the_variance_of_all_images():
    y, f = images(400)
    sample = uniform_design(400, 100).draw(np.random.default_rng(8))
    drawn = y[sample.images]
    values = linearised_means(drawn, f, sample)
    for power in (0.0, 1.0):
        residual = drawn - power * f[sample.images]
        variance = (1 - 0.25) * residual.var(0, ddof=1) / 100 + drawn.var(0, ddof=1) / 400
        found = estimate(values, sample, power=power, population=True)
        assert found.error == pytest.approx(np.sqrt(variance))


def test_all_images_of_a_population_can_be_too_few():
    """One wrong image of 250 says little about a population, although all of these images are answered."""
    y = np.ones((250, 2))
    y[:1, 0], y[:12, 1] = 0, 0
    sample = AuditSample(uniform_design(250, 250), np.arange(250))
    found = estimate(linearised_means(y, y, sample), sample, population=True)
    error = np.sqrt(y.var(axis=0, ddof=1) / 250)
    assert found.error == pytest.approx(error)
    # the relative variance of a variance: (m4 - m2²) / (n m2²), without the small second part
    squares = (y - y.mean(0)) ** 2
    assert found.df == pytest.approx(2 * squares.sum(0) ** 2 / (squares**2).sum(0))
    assert found.doubts() == [TOO_FEW_IMAGES, ""]
    lo, hi = found.interval()
    assert (hi - lo)[1] == pytest.approx(2 * stats.t.ppf(0.975, found.df[1]) * error[1])


@pytest.mark.parametrize("n_images", [250, 500])
@pytest.mark.parametrize("value", [0.3, 0.7, 1.0])
def test_equal_values_say_nothing_about_a_population(n_images, value):
    """Rounding errors of equal values look as if many images made up the variance."""
    y = np.full((n_images, 1), value)
    sample = AuditSample(uniform_design(n_images, 250), np.arange(250))
    for power in ("tuned", 0.0, 1.0):
        found = estimate(linearised_means(y[:250], y, sample), sample, power=power, population=True)
        assert found.doubts() == [TOO_FEW_IMAGES]
        assert np.isnan(found.interval()).all()


@pytest.mark.parametrize(("left", "doubt"), [(0, ""), (1, TOO_FEW_LEFT), (9, TOO_FEW_LEFT), (10, "")])
def test_a_few_images_that_are_not_audited_give_no_interval(left, doubt):
    """What is uncertain is their mean, which is not normal."""
    y, f = images(300, models=1)
    sample = AuditSample(uniform_design(300, 300 - left), np.arange(300 - left))
    found = estimate(linearised_means(y[: 300 - left], f, sample), sample)
    assert found.doubts() == [doubt or (TOO_FEW_IMAGES if left == 0 else "")]
    assert np.isnan(found.interval()[0][0]) == bool(found.doubts()[0])
    population = estimate(linearised_means(y[: 300 - left], f, sample), sample, population=True)
    assert population.doubts() == [""]
    assert TOO_FEW_LEFT == "fewer than 10 images are not audited; audit those, too"


def test_too_few_disagreements_have_no_interval():
    """If people and proposals differ on k images, the effective number is about k."""
    f = np.ones((5000, 2))
    sample = uniform_design(5000, 1000).draw(np.random.default_rng(0))
    y = np.ones((1000, 2))
    y[:9, 0], y[:12, 1] = 0, 0
    found = estimate(linearised_means(y, f, sample), sample, power=1.0)
    assert found.effective == pytest.approx([9, 12], rel=0.05)
    assert found.without.tolist() == [True, False]
    lo, hi = found.interval("logit")
    assert np.isnan(lo).tolist() == np.isnan(hi).tolist() == [True, False]
    assert found.doubts() == [TOO_FEW_IMAGES, ""]
    assert TOO_FEW_IMAGES == "the variance comes from fewer than 10 audited images"


@pytest.mark.parametrize("k", [0, 1, 3, 8])
def test_with_a_reserve_few_disagreements_have_an_interval(k):
    """In the manner of Bonett and Price 2012: two more images, each by the whole contribution of one."""
    n, n_images = 60, 100_000
    sample = uniform_design(n_images, n).draw(np.random.default_rng(0))
    y, f = np.ones((n, 1)), np.ones((n_images, 1))
    y[:k] = 0
    found = estimate(
        linearised_means(y, f, sample), sample, power=1.0, reserve=np.array([(1 - n / n_images) / n**2])
    )
    spread = k * (1 - k / n) * n / (n - 1)
    error = np.sqrt((spread + 2) * (1 - n / n_images)) / n
    assert found.error == pytest.approx(error)
    squares = k * (1 - k / n) ** 4 + (n - k) * (k / n) ** 4
    df = 2 * (spread + 2) ** 2 / (squares * (n / (n - 1)) ** 2 + 2)
    lo, hi = found.interval()
    half = stats.t.ppf(0.975, df) * error
    assert (lo, hi) == (pytest.approx(1 - k / n - half), pytest.approx(1 - k / n + half))


def test_a_reserve_is_of_the_image_with_the_smallest_probability_drawn_or_not():
    y, f = images(90)
    design = active_design(np.linspace(0.1, 1, 90), 40)
    sample = design.draw(np.random.default_rng(1))
    values = linearised_means(y[sample.images], f, sample)
    rng = np.random.default_rng(2)
    size, members = rng.random(y.shape[1]), rng.random((y.shape[1], 90)) < 0.3
    lightest = np.array([design.probability[m].min() for m in members])
    w = 1 / lightest / (1 / sample.probability).sum()
    for population in (False, True):
        reserve = reserve_of(size, members, sample, population=population)
        assert reserve == pytest.approx((w**2 * (1 - lightest) + population * w / 90) * size**2)
        plain, wider = (
            estimate(values, sample, reserve=r, population=population).error ** 2 for r in (None, reserve)
        )
        assert wider == pytest.approx(plain + 2 * reserve)


def test_agreement_on_images_that_are_seldom_drawn_gives_no_interval():
    """Of 4,000 images that are seldom drawn, people disagree on 3 %: on none in 3 of 10 samples."""
    seldom = np.arange(5000) < 4000
    f = np.where(seldom, 1.0, 0.5)[:, None]
    y = np.where(seldom, np.arange(5000) % 33 > 0, np.arange(5000) % 2)[:, None].astype(float)
    design, rng = AuditDesign(np.where(seldom, 0.01, 0.16)), np.random.default_rng(0)
    agreeing = []
    for sample in (design.draw(rng) for _ in range(300)):
        if y[sample.images[seldom[sample.images]]].all():
            found = estimate(linearised_means(y[sample.images], f, sample), sample, power=1.0)
            agreeing.append((found.value[0], found.effective[0], *found.doubts(), *found.interval()[0]))
    values, effective, doubts, ends = zip(*agreeing, strict=True)
    assert len(values) > 60
    assert min(values) > y.mean()
    assert min(effective) > 50
    assert set(doubts) == {TOO_HEAVY}
    assert np.isnan(ends).all()
    assert TOO_HEAVY.startswith("one more disagreement on an image with a small probability could double")


def test_images_that_do_not_tell_two_models_apart_do_not_leave_a_difference_without_interval():
    """Few of many images with the same top class are drawn, which contribute a constant to a difference."""
    alike = np.arange(3000) < 2400
    design = AuditDesign(np.where(alike, 20 / 2400, 130 / 600), alike.astype(int))
    sample = design.draw(np.random.default_rng(0))
    same = alike[sample.images][:, None]
    y = np.where(alike, 0.0, np.resize([0.0, 1.0, 0.0, -1.0], 3000))[:, None]
    values = linearised_means(y[sample.images], np.zeros((3000, 1)), sample)
    plain, told = (estimate(values, sample, power=0.0, same=x) for x in (None, same))
    assert (plain.doubts(), told.doubts()) == ([TOO_HEAVY], [""])
    assert (told.value, told.error, told.df) == (plain.value, plain.error, plain.df)
    w, residual = sample.weights, (y[sample.images] - plain.value)[:, 0]
    parts = [
        np.max((w**2 * (1 - sample.probability))[g]) * np.max(np.abs(residual[g])) ** 2
        for g in (same[:, 0], ~same[:, 0])
    ]
    assert told.heaviest[0] * told.error[0] ** 2 == pytest.approx(max(parts))


def test_intervals_on_each_scale():
    y, f = images(900)
    sample = uniform_design(900, 200).draw(np.random.default_rng(9))
    found = estimate(linearised_means(y[sample.images], f, sample), sample)
    half = stats.t.ppf(0.975, found.df) * found.error
    v = found.value
    assert np.array(found.interval()) == pytest.approx(np.array([v - half, v + half]))
    odds, step = np.log(v / (1 - v)), half / v / (1 - v)
    ends = 1 / (1 + np.exp(-np.array([odds - step, odds + step])))
    assert np.array(found.interval("logit")) == pytest.approx(ends)
    assert np.array(found.interval("log")) == pytest.approx(np.exp(np.log(v) + np.array([-half, half]) / v))
    assert np.array(found.interval(quantile=3)) == pytest.approx(
        np.array([v - 3 * found.error, v + 3 * found.error])
    )


def test_a_value_beyond_the_scale_has_an_interval_on_the_plain_scale():
    f, y = np.full((1000, 1), 0.99), np.ones((100, 1))
    sample = uniform_design(1000, 100).draw(np.random.default_rng(0))
    f[sample.images[:50]] = 0.95
    found = estimate(linearised_means(y, f, sample), sample, power=1.0)
    assert found.value[0] > 1
    assert np.array(found.interval("logit")) == pytest.approx(np.array(found.interval()))


@pytest.mark.parametrize("population", [False, True])
def test_the_bootstrap_has_the_errors_of_the_design(population):
    y, f = images(1000)
    stratum = np.arange(1000) % 3
    rng = np.random.default_rng(10)
    for design in (
        uniform_design(1000, 300),
        stratified_design(stratum, 300),
        active_design(f * (1 - f), 300),
    ):
        sample = design.draw(rng)
        values = linearised_means(y[sample.images], f, sample)
        found = estimate(values, sample, population=population)
        power = estimate(values, sample).power
        drawn = resampled_values(values, sample, power, rng=rng, resamples=4000, population=population)
        lo, hi = percentile_interval(drawn.T)
        assert (hi - lo) / (2 * 1.96 * found.error) == pytest.approx(np.ones(3), abs=0.05)
        assert (lo + hi) / 2 == pytest.approx(found.value, abs=0.004)


@pytest.mark.parametrize("name", ["uniform", "stratified", "active"])
@pytest.mark.parametrize("power", [0.0, 1.0, "tuned"])
def test_intervals_hold_for_each_design(name, power):
    y, f = images(1200)
    spread = f * (1 - f)
    design = {
        "uniform": uniform_design(1200, 250),
        "stratified": stratified_design((f[:, 0] * 5).astype(int), 250, np.sqrt(spread.mean(1))),
        "active": active_design(spread, 250),
    }[name]

    def interval(sample):
        return estimate(linearised_means(y[sample.images], f, sample), sample, power=power)

    held, errors, bias = coverage(design, interval, y.mean(0))
    assert held == pytest.approx(np.full(3, 0.95), abs=0.02)
    assert errors == pytest.approx(np.ones(3), abs=0.06)
    assert bias == pytest.approx(np.zeros(3), abs=0.002)


def test_an_active_sample_has_the_error_that_theory_promises():
    """The variance is (mean s)² instead of the mean of s², where s² = f (1 - f) is that of an image."""
    rng = np.random.default_rng(0)
    f = rng.beta(0.5, 0.3, (40_000, 1))
    y, s = (rng.random(f.shape) < f).astype(float), np.sqrt(f * (1 - f))
    errors = []
    for design in (uniform_design(40_000, 4000), active_design(s**2, 4000, uniform=0.01)):
        sample = design.draw(rng)
        errors.append(estimate(linearised_means(y[sample.images], f, sample), sample, power=1.0).error[0])
    assert errors[1] / errors[0] == pytest.approx(s.mean() / np.sqrt(np.mean(s**2)), rel=0.06)


def test_proposed_values_of_means_are_those_of_ratios():
    y, f = images(300, models=2)
    sample = uniform_design(300, 100).draw(np.random.default_rng(0))
    every = np.ones(300, bool)
    audited = [mean_over(y[sample.images, m], every[:100]) for m in range(2)]
    ratios = linearised_ratios(audited, [mean_over(f[:, m], every) for m in range(2)], sample)
    expected = estimate(linearised_means(y[sample.images], f, sample), sample)
    found = estimate(ratios, sample)
    for name in ("value", "error", "power", "df"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name)), name


def test_further_errors_add_to_the_variance_and_cancel_in_differences():
    rng = np.random.default_rng(0)
    sample = uniform_design(500, 100).draw(rng)
    values = linearised_means(rng.random((100, 2)), rng.random((500, 2)), sample)
    more = replace(values, further=np.array([[0.03, 0.03], [0.04, -0.01]]))
    plain, found = (estimate(v, sample, power=1.0) for v in (values, more))
    assert found.value == pytest.approx(plain.value)
    assert found.error**2 - plain.error**2 == pytest.approx([0.0025, 0.001])
    one, two = (
        estimate(v.differences(np.array([0]), np.array([1])), sample, power=1.0) for v in (values, more)
    )
    assert two.error**2 - one.error**2 == pytest.approx([0.0025])  # (0.04 + 0.01)**2 of the second cause
    parts = 2 * plain.error[0] ** 4 / plain.df[0]  # the sum of the squares of the images' parts
    assert found.df[0] == pytest.approx(2 * found.error[0] ** 4 / (parts + 0.03**4 + 0.04**4))
