"""How much raters count, against the beta-binomial distribution of SciPy and made-up raters."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize
from scipy.special import comb, expit
from scipy.stats import betabinom, kendalltau

from manyhot.core.rater_weights import (
    HALF,
    UNFITTED,
    _loss,
    combined_evidence,
    corrected_evidence,
    fit_answers,
    rater_evidence,
    within_unit,
)

M = 2_000


def rater_weights(*columns, **options):
    return rater_evidence(*columns, **options)[0]


def fit_strength(people, n, models):
    return np.exp(fit_answers(people, n, models)[2])


def answers(strength, n=5, seed=0):
    """Return the share of n answers of raters who know something (low strength) or nothing (None)."""
    rng = np.random.default_rng(seed)
    models = np.round(rng.random(M), 2)
    mu = expit(-2 + 3 * models)
    p = mu if strength is None else rng.beta(strength * mu, strength * (1 - mu))
    return rng.binomial(n, p) / n, np.full(M, float(n)), models, rng.integers(0, 50, M)


def test_the_loss_is_that_of_the_beta_binomial_distribution():
    people, n, models, _ = answers(2.0)
    theta, k = np.array([-1.5, 2.0, 0.7]), people * n
    value, gradient = _loss(theta, k, n, models, np.ones(M, int))
    a, b = (np.exp(0.7) * x for x in (expit(-1.5 + 2 * models), 1 - expit(-1.5 + 2 * models)))
    exact = betabinom.logpmf(k, n.astype(int), a, b)
    assert value == pytest.approx(-np.mean(exact - np.log(comb(n, k))))
    numeric = approx_fprime(theta, lambda t: _loss(t, k, n, models, np.ones(M, int))[0], 1e-7)
    np.testing.assert_allclose(gradient, numeric, atol=1e-5)


def test_the_strength_is_that_of_a_plain_fit():
    people, n, models, _ = answers(3.0)

    def loss(theta):
        mu = expit(theta[0] + theta[1] * models)
        s = np.exp(theta[2])
        return -betabinom.logpmf(people * n, n.astype(int), mu * s, (1 - mu) * s).mean()

    plain = minimize(loss, [0, 1, 1], method="Nelder-Mead", options={"maxiter": 2000, "xatol": 1e-6})
    assert fit_strength(people, n, models) == pytest.approx(np.exp(plain.x[2]), rel=0.01)
    np.testing.assert_allclose(fit_answers(people, n, models)[:2], plain.x[:2], atol=0.02)
    assert fit_strength(people, n, models) == pytest.approx(3.0, rel=0.2)


def test_weights_are_fitted_out_of_fold():
    people, n, models, group = answers(3.0)
    weight = rater_weights(people, n, models, group, most=1.0)
    for f in range(5):
        out = group % 5 == f
        strength = fit_strength(people[~out], n[~out], models[~out])
        np.testing.assert_allclose(weight[out], 5 / (5 + strength))
    # What a fold's own raters answer does not change its weights.
    changed = np.where(group % 5 == 2, 1 - people, people)
    same = rater_weights(changed, n, models, group, most=1.0)[group % 5 == 2]
    np.testing.assert_array_equal(same, weight[group % 5 == 2])
    order = np.random.default_rng(1).permutation(M)
    shuffled = rater_weights(people[order], n[order], models[order], group[order], most=1.0)
    np.testing.assert_allclose(shuffled, weight[order])


def test_raters_who_know_nothing_do_not_count():
    weight = rater_weights(*answers(None))
    assert weight.max() < 0.05
    _, n, models, group = answers(None)
    random = np.random.default_rng(4).binomial(5, 0.5, M) / 5
    score = combined_evidence(random, models, rater_weights(random, n, models, group))
    assert kendalltau(score, models).statistic > 0.9


def test_few_and_many_answers():
    people, _, models, group = answers(3.0)
    one = rater_weights(people, np.ones(M), models, group)
    np.testing.assert_array_equal(one, 1 / (1 + UNFITTED))
    assert (rater_weights(people, np.full(M, np.nan), models, group) == HALF).all()
    assert (rater_weights(people, np.full(M, 1e6), models, group) == HALF).all()
    weight = [rater_weights(*answers(3.0, n=n), most=1.0).mean() for n in (2, 5, 20)]
    assert weight == sorted(weight)
    assert (rater_weights(people[:19], np.full(19, 5.0), models[:19], group[:19], most=1.0) == 5 / 9).all()


def test_what_is_missing_is_left_out():
    people, n, models, group = answers(3.0)
    people[:3], models[2:5] = np.nan, np.nan
    weight = rater_weights(people, n, models, group)
    assert weight[:5].tolist() == [0, 0, 0, 1, 1]
    score = combined_evidence(people, models, weight)
    assert score[:2].tolist() == models[:2].tolist()
    assert np.isnan(score[2])
    assert score[3:5].tolist() == people[3:5].tolist()
    assert np.isfinite(weight).all()


def test_the_expected_evidence_is_that_of_a_logistic_fit_out_of_fold():
    """With one answer each, the likelihood is that of logistic regression, whatever the strength."""
    people, _, models, group = answers(3.0)
    people = (people > 0.3).astype(float)
    for n in (np.ones(M), np.full(M, np.nan)):
        _, expected = rater_evidence(people, n, models, group)
        for f in range(5):
            out = group % 5 == f
            x, y = models[~out], people[~out]

            def loss(t, x=x, y=y):
                return np.mean(np.logaddexp(0, t[0] + t[1] * x) - y * (t[0] + t[1] * x))

            t = minimize(loss, [0, 1]).x
            np.testing.assert_allclose(expected[out], expit(t[0] + t[1] * models[out]), atol=2e-3)


def test_answers_that_models_expect_change_nothing():
    _, n, models, group = answers(3.0)
    weight, expected = rater_evidence(answers(3.0)[0], n, models, group)
    asked = np.arange(M) % 2 == 0
    people = np.where(asked, expected, np.nan)
    score = corrected_evidence(people, models, weight, expected)
    np.testing.assert_allclose(score, within_unit(models))
    more = corrected_evidence(np.where(asked, 1, np.nan), models, weight, expected)
    less = corrected_evidence(np.where(asked, 0, np.nan), models, weight, expected)
    assert (more[asked] > score[asked]).all()
    assert (less[asked] < score[asked]).all()
    assert more[~asked].tolist() == less[~asked].tolist() == score[~asked].tolist()


def test_any_number_is_mapped_to_0_to_1_in_order():
    values = np.linspace(-1, 2, 3001)
    inside = within_unit(values)
    assert (np.diff(inside) > 0).all()
    assert ((inside > 0) & (inside < 1)).all()
    middle = (values >= 0.01) & (values <= 0.99)
    np.testing.assert_array_equal(inside[middle], values[middle])
