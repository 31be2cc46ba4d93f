"""What raters leave undecided in an audit, against closed forms and made-up raters whose errors are known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from audits import images, linearised_means
from manyhot.core.audit_samples import active_design, uniform_design
from manyhot.core.audited import estimate
from manyhot.core.posterior import adjusted_probabilities, combined, resampled_draws


def drawn(p, f, sample, m, rng, power=0.0):
    """Return what images contribute on each of m draws, and the estimates."""
    values = [linearised_means((rng.random(p.shape) < p).astype(float), f, sample) for _ in range(m)]
    return values, [estimate(v, sample, power=power) for v in values]


def test_the_variance_of_raters_is_that_of_independent_classes():
    _, f = images(400)
    sample = active_design(f * (1 - f), 100).draw(np.random.default_rng(8))
    p = np.random.default_rng(1).beta(2, 2, (100, 3))
    w = 1 / sample.probability / (1 / sample.probability).sum()
    estimates = drawn(p, np.zeros_like(f), sample, 2000, np.random.default_rng(2))[1]
    found = combined(estimates)
    within = np.mean([e.error**2 for e in estimates], axis=0)
    assert found.value == pytest.approx(w @ p, abs=0.01)
    assert found.error**2 - within == pytest.approx(w**2 @ (p * (1 - p)), rel=0.12)
    assert found.rater_share == pytest.approx(1 - within / found.error**2)


def test_the_rules_are_those_of_rubin_and_of_barnard_and_rubin():
    """Rubin 1987, equations 3.1.2 to 3.1.5; Barnard and Rubin 1999, equations 3 to 5, for one value."""
    y, f = images(300, models=1)
    sample = uniform_design(300, 60).draw(np.random.default_rng(0))
    one = estimate(linearised_means(y[sample.images], f, sample), sample)
    given = [(0.5, 0.04, 30.0), (0.53, 0.05, 34.0), (0.49, 0.045, 32.0), (0.52, 0.047, 24.0)]
    parts = [
        replace(one, **{k: np.array([x]) for k, x in zip(("value", "error", "df"), g, strict=True)})
        for g in given
    ]
    found = combined(parts)
    mean = sum(g[0] for g in given) / 4
    u = sum(g[1] ** 2 for g in given) / 4
    b = sum((g[0] - mean) ** 2 for g in given) / 3
    total = u + 1.25 * b
    r = 1.25 * b / u  # relative increase
    by_rubin = 3 * (1 + 1 / r) ** 2
    observed = (31 / 33) * 30 * (1 - 1.25 * b / total)
    assert (found.value[0], found.error[0] ** 2) == pytest.approx((mean, total))
    assert found.df[0] == pytest.approx(1 / (1 / by_rubin + 1 / observed))
    assert found.effective[0] == 15
    assert combined(parts[:1]) is parts[0]


def test_resamples_of_draws_have_the_total_variance():
    _, f = images(1000)
    sample = uniform_design(1000, 200).draw(np.random.default_rng(8))
    p = np.random.default_rng(1).beta(1, 1, (200, 3))
    values, estimates = drawn(p, f, sample, 10, np.random.default_rng(2), power=1.0)
    found = combined(estimates)
    options = {"rng": np.random.default_rng(3), "resamples": 20_000}
    each = resampled_draws(values, sample, found.power, **options)
    assert each.mean(axis=0) == pytest.approx(found.value, abs=0.002)
    assert each.var(axis=0) == pytest.approx(found.error**2, rel=0.05)


def test_adjusted_probabilities_are_those_by_the_shares_of_each_kind():
    """By Bayes' rule with two raters who err on a tenth, and shares of valid classes of 0.8 and 0.1."""
    rng = np.random.default_rng(0)
    n = 40_000
    proposed = rng.random(n) < 0.3
    share = np.where(proposed, 0.8, 0.1)
    truth = rng.random(n) < share
    yes = (truth[:, None] ^ (rng.random((n, 2)) < 0.1)).sum(axis=1)
    answers = (2 * yes - 2) * np.log(9)
    true_p = expit(answers + logit(share))
    found = adjusted_probabilities(expit(answers + logit(truth.mean())), proposed)
    assert found == pytest.approx(true_p, abs=0.02)
    same = expit(answers + logit(truth.mean()))
    assert np.abs(same - true_p)[yes == 1].max() > 0.3
    certain = adjusted_probabilities(np.array([0.0, 1.0, 0.5]), np.array([True, False, True]))
    assert certain[:2].tolist() == [0, 1]
    assert not np.isnan(adjusted_probabilities(np.zeros(3), np.ones(3, bool))).any()


@pytest.mark.slow
@pytest.mark.parametrize("raters", [2, 3])
def test_intervals_contain_the_truth_if_raters_err_at_known_rates(raters):
    """Without draws, a tie is a no as by `auto`, and values are too low."""
    rng, n_images, error, share = np.random.default_rng(raters), 3000, 0.1, 0.7
    proposed = np.clip(rng.normal(share, 0.1, (n_images, 1)), 0, 1)
    covered = []
    for _ in range(400):
        truth = rng.random((n_images, 1)) < share
        sample = uniform_design(n_images, 300).draw(rng)
        yes = (truth[sample.images] ^ (rng.random((300, raters)) < error)).sum(axis=1, keepdims=True)
        p = expit((2 * yes - raters) * np.log((1 - error) / error) + logit(share))
        fixed = estimate(linearised_means((p >= 0.8).astype(float), proposed, sample), sample)
        over_draws = combined(drawn(p, proposed, sample, 20, rng, power="tuned")[1])
        for found in (fixed, over_draws):
            lo, hi = found.interval()
            covered.append((lo <= truth.mean()) & (truth.mean() <= hi))
    without, with_draws = np.reshape(covered, (-1, 2)).mean(axis=0)
    assert with_draws >= 0.95
    assert without < (0.2 if raters == 2 else 0.95)
