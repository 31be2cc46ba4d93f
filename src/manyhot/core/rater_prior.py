"""A hierarchical prior of raters: each is drawn towards all of them, as strongly as their answers say.

With few answers, a rater's confusion matrix cannot be estimated from these answers alone. The rows of the matrix are
therefore drawn from a Dirichlet distribution whose mean is the matrix of all raters together. Its strength, a number
of answers, is estimated from how much raters differ (empirical Bayes). A small share of raters may
be unlike the others: they answer in any way, or the opposite of what others answer.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from manyhot.core.array_types import Floats

STRENGTHS = 2.0 ** np.arange(0, 11)
"""Strengths of the prior among which the estimate averages, in answers."""

_CENTRE, _WIDTH = np.log(16.0), 1.5
"""Mean and standard deviation of the logarithm of the strength before any answer."""

_ORDINARY, _UNLIKE = 20.0, 1.0
"""Numbers of raters of each kind before any answer: like the others, in any way, opposite."""

_MOST = 2_000
"""Number of raters from which the strength is estimated."""

_CONCENTRATIONS = 2.0 ** np.arange(0, 15, 2)
"""Strengths of the prior of the share of each truth in a group, in questions."""


def log_marginal(counts: Floats, prior: Floats) -> Floats:
    """Return the logarithm of the probability of counts under Dirichlet priors, up to a term without the prior.

    Parameters
    ----------
    counts : ndarray of float64, shape (R, K, A)
    prior : ndarray of float64, shape (K, A)
        Parameters of the Dirichlet distribution of each row.

    Returns
    -------
    ndarray of float64, shape (R,)
        Summed over the K rows.

    References
    ----------
    Minka 2000, Estimating a Dirichlet distribution, equation 53.
    """
    of_rows = gammaln(prior.sum(-1)) - gammaln(prior.sum(-1) + counts.sum(-1))
    of_cells = gammaln(prior + counts) - gammaln(prior)
    return np.asarray(of_rows.sum(-1) + of_cells.sum((-1, -2)))


def shrunk_rows(counts: Floats, pooled: Floats, opposite: Floats | None = None) -> Floats:
    """Return the expected matrices of raters under the hierarchical prior.

    Parameters
    ----------
    counts : ndarray of float64, shape (R, K, A)
        Expected number of each answer of each rater under each truth.
    pooled : ndarray of float64, shape (K, A)
        The matrix of all raters; rows sum to 1.
    opposite : ndarray of float64, shape (K, A), optional
        The matrix of raters who mean the opposite.

    Returns
    -------
    ndarray of float64, shape (R, K, A)
    """
    anyhow = np.ones_like(pooled)
    strength = _strength(counts, pooled, anyhow)
    priors = [strength * pooled, anyhow]
    if opposite is not None:
        priors.append(max(strength, 4.0) * opposite)
    fits = np.stack([log_marginal(counts, prior) for prior in priors], 1)
    shares = np.full(len(priors), _UNLIKE)
    shares[0] = _ORDINARY
    for _ in range(5):  # a few steps, as each iteration of the caller adds its own
        kind = np.exp(fits + np.log(shares) - (fits + np.log(shares)).max(1, keepdims=True))
        kind /= kind.sum(1, keepdims=True)
        shares = kind.sum(0) + np.where(np.arange(len(priors)), _UNLIKE, _ORDINARY)
        shares /= shares.sum()
    matrices: Floats = np.zeros_like(counts)
    for k, prior in enumerate(priors):
        rows = counts + prior
        rows /= rows.sum(-1, keepdims=True)
        matrices += kind[:, k, None, None] * rows
    return matrices


def _strength(counts: Floats, pooled: Floats, anyhow: Floats) -> float:
    """Return the strength of the prior: the mean of its logarithm given the answers, as a number of answers."""
    counts = counts[:: len(counts) // _MOST + 1]
    ordinary = np.stack([log_marginal(counts, s * pooled) for s in STRENGTHS])
    unlike = log_marginal(counts, anyhow)
    rare = _UNLIKE / (_ORDINARY + _UNLIKE)
    fit = np.logaddexp(ordinary + np.log1p(-rare), unlike + np.log(rare)).sum(1)
    logs = np.log(STRENGTHS)
    fit -= ((logs - _CENTRE) / _WIDTH) ** 2 / 2
    weight = np.exp(fit - fit.max())
    return float(np.exp(weight @ logs / weight.sum()))


def shrunk_shares(counts: Floats, pooled: Floats) -> Floats:
    """Return the share of each truth in each group, drawn towards that of all groups.

    Parameters
    ----------
    counts : ndarray of float64, shape (G, K)
        Expected number of questions of each truth.
    pooled : ndarray of float64, shape (K,)

    Returns
    -------
    ndarray of float64, shape (G, K)
    """
    fit = np.array([log_marginal(counts[:, None], c * pooled[None]).sum() for c in _CONCENTRATIONS])
    weight = np.exp(fit - fit.max())
    strength = float(np.exp(weight @ np.log(_CONCENTRATIONS) / weight.sum()))
    rows = counts + strength * pooled
    return np.asarray(rows / rows.sum(1, keepdims=True))
