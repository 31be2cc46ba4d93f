"""How much raters' answers count relative to the evidence from models, fitted to the answers themselves.

The rule needs no verdicts: raters count for as much as their answers say, beyond the models, about a further
answer, and never for more than the models.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import typing as npt
from scipy.special import betaln, expit, psi

from manyhot.core.array_types import Floats, Ints

HALF = 0.5
"""Maximum weight of raters relative to models for a doubtful label. Raters of one campaign share errors that
their answers cannot reveal, such as breeds that none of them can tell apart. Without the maximum, ReaL's
raters make the order of 6,761 labels worse than models alone do, judged by the main objects of Tsipras et al.
(AUROC 0.697 versus 0.707). With the maximum, they make it better (0.715)."""

UNFITTED = 4.0
"""Strength if it cannot be fitted; it is 3 to 8 for ReaL's raters and those of CIFAR-10H."""

_FOLDS, _FEWEST = 5, 20
_EDGE = 0.01
"""Scores beyond this distance from 0 and 1 are compressed by `within_unit`."""

_DIGITS = 2
"""Decimals of evidence in the fit, so that equal pairs are counted once: 24,889 pairs are a few hundred."""


def rater_evidence(
    people: Floats, n_votes: Floats, models: Floats, group: Ints, *, most: float = HALF
) -> tuple[Floats, Floats]:
    """Return the weight of raters for each (image, class) pair, and the evidence expected from them.

    Parameters
    ----------
    people : ndarray of float64, shape (m,)
        Evidence from raters, from 0 to 1, such as the share of answers that reject a label; NaN if no rater
        was asked.
    n_votes : ndarray of float64, shape (m,)
        Number of answers; NaN if it is unknown.
    models : ndarray of float64, shape (m,)
        Evidence from models for the same statement, from 0 to 1; NaN if there is none.
    group : ndarray of int, shape (m,)
        Pairs of the same group, such as images with the same label, are in the same fold.
    most : float
        Maximum weight.

    Returns
    -------
    weight : ndarray of float64, shape (m,)
        From 0 to `most`; 0 if no rater was asked. Without evidence from models, the weight is 1.
    expected : ndarray of float64, shape (m,)
        Mean evidence from raters, given the evidence from models.

    Notes
    -----
    The weight of n answers is n / (n + s), at most `most`, and `most` if n is unknown. The strength s is the
    number of answers that the evidence from models is worth. It is fitted by maximum likelihood: k of n
    answers follow a beta-binomial distribution with a = s μ and b = s (1 - μ). The expected evidence μ is a
    logistic function of the evidence from models, with a slope of at least 0. The likelihood is the product
    of the probabilities of each answer given the models and the earlier answers. After k of n answers, the
    next answer has the probability (k + s μ) / (n + s). Each pair uses the fit to the other four of five
    folds. If fewer than 20 pairs have at least two answers, s is `UNFITTED`. If fewer than 20 pairs have an
    answer, μ is the evidence from models. If raters answer at random, s is large, so raters have little
    weight.

    References
    ----------
    Griffiths 1973, beta-binomial distribution, doi 10.2307/2529131.
    """
    asked = np.isfinite(people)
    fold = np.asarray(group, np.int64) % _FOLDS
    usable, answers = asked & np.isfinite(models), np.where(np.isnan(n_votes), 1.0, n_votes)
    usable &= answers > 0
    strength, expected = np.full(len(people), UNFITTED), models.copy()
    for f in np.unique(fold[usable]):
        fit, out = usable & (fold != f), fold == f
        if np.count_nonzero(fit) >= _FEWEST:
            theta = fit_answers(people[fit], answers[fit], models[fit])
            strength[out], expected[out] = np.exp(theta[2]), expit(theta[0] + theta[1] * models[out])
    share = np.where(np.isnan(n_votes), 1.0, n_votes / (n_votes + strength))
    weight = np.where(asked, np.where(np.isnan(models), 1.0, np.minimum(share, most)), 0.0)
    return weight, expected


def combined_evidence(people: Floats, models: Floats, weight: Floats) -> Floats:
    """Return ``weight * people + (1 - weight) * models``, or the only evidence that there is, or NaN."""
    both = weight * people + (1 - weight) * models
    return np.where(np.isnan(people), models, np.where(np.isnan(models), people, both))


def corrected_evidence(people: Floats, models: Floats, weight: Floats, expected: Floats) -> Floats:
    """Return the evidence from models, corrected by the difference between raters and their expectation.

    Notes
    -----
    The score is models + weight · (people - expected), mapped to values between 0 and 1 by `within_unit`.
    Answers that only confirm the models do not move an image ahead of images that no rater was asked about.
    In the weighted mean of `combined_evidence`, they do. With CIFAR-10H's answers for half of the images, the
    weighted mean ranks labels worse than models alone (AUROC 0.574 versus 0.586), whereas the correction
    ranks them better (0.73).
    """
    moved = within_unit(models + weight * (people - expected))
    return np.where(np.isnan(people), within_unit(models), np.where(np.isnan(models), people, moved))


def within_unit(values: Floats) -> Floats:
    """Map numbers to values between 0 and 1, by an increasing map that is the identity from 0.01 to 0.99."""
    over, under = np.maximum(values - 1 + _EDGE, 0), np.maximum(_EDGE - values, 0)
    inside = np.clip(values, _EDGE, 1 - _EDGE)
    return np.asarray(inside + _EDGE * (over / (over + _EDGE) - under / (under + _EDGE)))


def fit_answers(people: Floats, n_votes: Floats, models: Floats) -> Floats:
    """Return the intercept and slope of the logit of μ, and the logarithm of the strength, from -5 to 8.

    Parameters
    ----------
    people, n_votes, models : ndarray of float64, shape (m,)
        As in `rater_evidence`, without NaN.
    """
    columns = np.stack([np.round(x, _DIGITS) for x in (people * n_votes, n_votes, models)])
    (k, n, x), count = np.unique(columns, axis=1, return_counts=True)
    fitted = count @ (n >= 2) >= _FEWEST
    limits, start = ((-5.0, 8.0), 1.0) if fitted else ((np.log(UNFITTED),) * 2, np.log(UNFITTED))
    bounds, theta = [(-20, 20), (0, 50), limits], np.array([0.0, 1.0, start])
    from scipy.optimize import minimize  # 0.2 s, which every evaluation would take

    fit = minimize(_loss, theta, (k, n, x, count), "L-BFGS-B", jac=True, bounds=bounds)
    return np.asarray(fit.x, np.float64)


def _loss(theta: Floats, k: Floats, n: Floats, x: Floats, count: npt.NDArray[Any]) -> tuple[float, Floats]:
    """Return the mean negative log-likelihood of the answers, and its gradient."""
    mu = np.clip(expit(theta[0] + theta[1] * x), 1e-6, 1 - 1e-6)
    s = np.exp(theta[2])
    a, b = mu * s, (1 - mu) * s
    total = count.sum()
    value = count @ (betaln(a, b) - betaln(k + a, n - k + b)) / total
    shared = psi(s) - psi(n + s)
    by_a, by_b = psi(k + a) - psi(a) + shared, psi(n - k + b) - psi(b) + shared
    by_eta = s * mu * (1 - mu) * (by_a - by_b)
    parts = (by_eta, by_eta * x, a * by_a + b * by_b)
    return float(value), np.array([-(count @ part) / total for part in parts])
