"""Dirichlet priors that are estimated from the counts to which they apply (empirical Bayes).

With few answers, a rater's confusion matrix cannot be estimated from these answers alone. The rows of the
matrix are therefore drawn from a Dirichlet distribution whose mean is the matrix of all raters together.
Its strength, a number of answers, is estimated from how much raters differ. A small share of raters may be
unlike the others: they answer in any way, or the opposite of what others answer. The shares of the truths
in groups of questions are drawn in the same way around the shares in all groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from manyhot.core.array_types import Floats, Ints, Positions

_STRENGTHS = 2.0 ** np.arange(0, 11)
"""Strengths of the prior among which the estimate averages, in answers."""

CENTRE, _WIDTH = np.log(16.0), 1.5
"""Mean and standard deviation of the logarithm of the strength before any answer."""

_ORDINARY, _UNLIKE = 20.0, 1.0
"""Prior numbers of raters of each kind, before any answer: like the others, answering in any way, answering
the opposite."""

_FEWEST_OPPOSITE = 4.0
"""Minimum strength of the prior of raters who mean the opposite, in answers."""

_MOST = 2_000
"""Minimum number of raters for estimating the strength."""

_CONCENTRATIONS = 2.0 ** np.arange(0, 15, 2)
"""Strengths of the prior of the share of each truth in a group, in questions."""


def log_marginal(counts: Floats, prior: Floats) -> Floats:
    """Return the logarithm of the probability of counts under Dirichlet priors, without multinomial terms.

    Parameters
    ----------
    counts : ndarray of float64, shape (R, K, A)
    prior : ndarray of float64, shape (..., K, A)
        Parameters of the Dirichlet distribution of each row.

    Returns
    -------
    ndarray of float64, shape (..., R)
        Sum over the K rows.

    References
    ----------
    Minka 2000, Estimating a Dirichlet distribution, equation 53.
    """
    return _log_marginal(*_of_raters(counts), prior)


def _of_raters(counts: Floats) -> tuple[Floats, Floats]:
    """Return the counts as cells, shape (K * A, R), and their sums over each row, shape (K, R)."""
    # With the raters last, sums are of whole rows and not of two or three numbers, in half the time.
    of_raters = np.ascontiguousarray(np.moveaxis(counts, 0, -1))
    return of_raters.reshape(-1, len(counts)), of_raters.sum(1)


def _log_marginal(of_cells: Floats, of_rows: Floats, prior: Floats) -> Floats:
    """Return `log_marginal` of the counts of `_of_raters`."""
    cells, rows = prior.reshape(*prior.shape[:-2], -1), prior.sum(-1)
    alone = gammaln(rows).sum(-1) - gammaln(cells).sum(-1)
    found = gammaln(cells[..., None] + of_cells).sum(-2)
    found -= gammaln(rows[..., None] + of_rows).sum(-2)
    found += alone[..., None]
    return np.asarray(found)


@dataclass(frozen=True)
class RaterPrior:
    """The prior of raters' matrices: a mixture of Dirichlet distributions, one for each kind of rater.

    Attributes
    ----------
    kind : ndarray of float64, shape (R, J)
        Probability of each kind, given the rater's answers. Raters of the first kind resemble other raters,
        those of the second may answer in any way, and those of the third, if there is one, give the opposite
        answers.
    cells : ndarray of float64, shape (J, K, A)
        Parameters of the Dirichlet distribution of each row.
    """

    kind: Floats
    cells: Floats

    @classmethod
    def of(cls, counts: Floats, pooled: Floats, opposite: Floats | None = None) -> RaterPrior:
        """Estimate the prior.

        Parameters
        ----------
        counts : ndarray of float64, shape (R, K, A)
            Expected number of each answer of each rater under each truth.
        pooled : ndarray of float64, shape (K, A)
            The matrix of all raters. Rows sum to 1.
        opposite : ndarray of float64, shape (K, A), optional
            The matrix of raters who give the opposite answers.
        """
        anyhow = np.ones_like(pooled)
        of_raters = _of_raters(counts)
        unlike = _log_marginal(*of_raters, anyhow)
        strength = _strength(*of_raters, pooled, unlike)
        cells = [strength * pooled, anyhow]
        if opposite is not None:
            cells.append(max(strength, _FEWEST_OPPOSITE) * opposite)
        ordinary, *others = _log_marginal(*of_raters, np.stack(cells[::2]))
        fits = np.stack([ordinary, unlike, *others])
        fits = np.exp(fits - fits.max(0))
        shares = before = np.array([_ORDINARY, *[_UNLIKE] * (len(cells) - 1)])
        for _ in range(5):  # a few steps, as each iteration of the caller adds its own
            kind = fits * shares[:, None]
            kind /= kind.sum(0)
            shares = kind.sum(1) + before
        return cls(kind.T, np.stack(cells))

    def matrices(self, counts: Floats) -> Floats:
        """Return the expected matrices, given the counts from which the prior was estimated."""
        matrices: Floats = np.zeros_like(counts)
        sums = counts.sum(-1, keepdims=True)
        for j, prior in enumerate(self.cells):
            share = self.kind[:, j, None, None] / (sums + prior.sum(-1, keepdims=True))
            matrices += share * (counts + prior)
        return matrices

    def without(
        self, counts: Floats, rater: Ints, row: Positions, answer: Positions, posterior: Floats
    ) -> Floats:
        """Return the probability of each of m answers under T truths, as if the answer had not been counted.

        Parameters
        ----------
        counts : ndarray of float64, shape (R, K, A)
        rater : ndarray of int, shape (m,)
        row : ndarray of int, shape (T,)
            The row of `counts` in which answers are counted under each truth.
        answer : ndarray of int, shape (T, m)
            The column of each answer under each truth.
        posterior : ndarray of float64, shape (T, m)
            Probability of each truth, which was the weight of the answer in `counts`.

        Returns
        -------
        ndarray of float64, shape (T, m)
        """
        n, total = np.empty_like(posterior), np.empty_like(posterior)
        sums = counts.sum(-1)
        for t in range(len(row)):
            tied = row == row[t]
            here = np.where(tied[:, None] & (answer == answer[t]), posterior, 0).sum(0)
            n[t] = np.maximum(counts[rater, row[t], answer[t]] - here, 0)
            total[t] = np.maximum(sums[rater, row[t]] - posterior[tied].sum(0), 0)
        of_kinds = np.stack(
            [(n + prior[row[:, None], answer]) / (total + prior.sum(1)[row][:, None]) for prior in self.cells]
        )
        # A rater's answer also made a kind of rater more probable.
        kind = self.kind[rater].T / np.exp((posterior * np.log(of_kinds)).sum(1))
        kind /= kind.sum(0)
        probability: Floats = (kind[:, None] * of_kinds).sum(0)
        return probability


def _strength(of_cells: Floats, of_rows: Floats, pooled: Floats, unlike: Floats) -> float:
    """Return the strength of the prior in answers: the exponential of its expected logarithm.

    `unlike` is the log probability of each rater's counts if the rater answers in any way, shape (R,).
    """
    some = np.s_[..., :: len(unlike) // _MOST + 1]
    ordinary = _log_marginal(of_cells[some], of_rows[some], _STRENGTHS[:, None, None] * pooled)
    rare = _UNLIKE / (_ORDINARY + _UNLIKE)
    fit = np.logaddexp(ordinary + np.log1p(-rare), unlike[some] + np.log(rare)).sum(1)
    logs = np.log(_STRENGTHS)
    fit -= ((logs - CENTRE) / _WIDTH) ** 2 / 2
    weight = np.exp(fit - fit.max())
    return float(np.exp(weight @ logs / weight.sum()))


def shrunk_shares(counts: Floats, pooled: Floats) -> Floats:
    """Return the share of each truth in each group, shrunk towards the share in all groups, shape (G, K).

    Parameters
    ----------
    counts : ndarray of float64, shape (G, K)
        Expected number of questions per truth.
    pooled : ndarray of float64, shape (K,)
    """
    fit = log_marginal(counts[:, None], _CONCENTRATIONS[:, None, None] * pooled).sum(-1)
    weight = np.exp(fit - fit.max())
    strength = float(np.exp(weight @ np.log(_CONCENTRATIONS) / weight.sum()))
    rows = counts + strength * pooled
    return np.asarray(rows / rows.sum(1, keepdims=True))
