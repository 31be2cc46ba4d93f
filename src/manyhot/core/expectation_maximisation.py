"""Expectation maximisation over votes: from the answers to each question to the probability of each truth.

The answers are symbols: a symbol is an answer of a rater. Given matrices with the probability of each
symbol under each truth, the posterior of a question is a product over its symbols; given posteriors, the
expected count of each symbol under each truth is a sum over questions. Both are sparse matrix products. How
matrices are estimated from the counts is up to the caller, such as by a hierarchical prior of raters
(`manyhot.core.dirichlet_priors`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy import typing as npt
from scipy.sparse import csc_array, csr_array

from manyhot.core.aggregation import TINY, vote_blocks
from manyhot.core.array_types import Floats, Ints, Ints32, Ints64, Positions
from manyhot.core.dirichlet_priors import shrunk_shares
from manyhot.core.distinct import distinct_keys
from manyhot.errors import InputError

BLOCK = 32_768
"""Number of vote patterns per block."""

ALIKE = 0.8
"""Questions with identical votes are merged if the number of patterns is at most this share of questions."""

_FEW = 3
"""Number of columns up to which their products with a sparse matrix are faster one by one."""


@dataclass(frozen=True)
class Fit:
    """Result of expectation maximisation.

    Attributes
    ----------
    posterior : ndarray of float64, shape (K, Q)
        Probability of each truth for each question.
    matrices : ndarray of float64, shape (R, K, A)
        Probability of each answer of each rater under each truth.
    prior : ndarray of float64, shape (K,)
        Prior probability of each truth, over all questions.
    counts : ndarray of float64, shape (S, K)
        Expected number of times that each symbol was used under each truth.
    shares : ndarray of float64, shape (G, K)
        Prior probability of each truth in each group of questions.
    """

    posterior: Floats
    matrices: Floats
    prior: Floats
    iterations: int
    converged: bool
    log_likelihood: float
    counts: Floats
    shares: Floats


@dataclass(frozen=True)
class Patterns:
    """Patterns of votes. Questions of a group often have identical votes, which are stored once.

    Attributes
    ----------
    symbols : ndarray of int32, shape (m,)
        The symbols of all patterns, one pattern after the other.
    ends : ndarray of int64, shape (P + 1,)
        Where each pattern ends in `symbols`.
    weight : ndarray of float64, shape (P,)
        Number of questions per pattern.
    group : ndarray of int, shape (P,)
        The group of each pattern; questions of a group share the prior probability of each truth.
    pattern : ndarray of int, shape (Q,)
        The pattern of each question.
    """

    symbols: Ints32
    ends: Ints64
    weight: Floats
    group: Positions
    pattern: Positions
    n_symbols: int
    n_groups: int

    @classmethod
    def of(cls, question: Ints, symbol: Ints, n: int, n_symbols: int, group: Ints | None = None) -> Patterns:
        """Return the patterns of m votes on n questions, which may be in groups."""
        symbols = _by_question(question, symbol, n_symbols)
        ends = np.concatenate([[0], np.cumsum(np.bincount(question, minlength=n))])
        groups = np.zeros(n, np.intp) if group is None else np.asarray(group, np.intp)
        n_groups = int(groups.max(initial=0)) + 1
        first, pattern, weight = _same_votes(symbols, ends, n_symbols, groups, n_groups)
        if len(first) < n:
            lengths = np.diff(ends)[first]
            starts = np.concatenate([[0], np.cumsum(lengths)])
            symbols = symbols[np.arange(starts[-1]) + np.repeat(ends[first] - starts[:-1], lengths)]
            ends = starts
        return cls(symbols, ends, weight.astype(np.float64), groups[first], pattern, n_symbols, n_groups)

    @cached_property
    def blocks(self) -> list[tuple[slice, csr_array, csc_array]]:
        """Patterns as blocks of symbol counts, with transposes, so that an iteration needs less memory."""
        blocks = []
        ones = np.ones(int(np.diff(self.ends[np.r_[0 : len(self.ends) : BLOCK, -1]]).max(initial=0)))
        for start in range(0, len(self.weight), BLOCK):
            at = slice(start, min(start + BLOCK, len(self.weight)))
            ends = self.ends[at.start : at.stop + 1]
            parts = (
                ones[: ends[-1] - ends[0]],
                self.symbols[ends[0] : ends[-1]],
                (ends - ends[0]).astype(np.int32),
            )
            votes = csr_array(parts, shape=(at.stop - at.start, self.n_symbols))
            blocks.append((at, votes, votes.T))  # which take longer to make than to multiply
        return blocks


def _by_question(question: Ints, symbol: Ints, n_symbols: int) -> Ints32:
    """Return the symbols sorted by question."""
    if (question[1:] >= question[:-1]).all():
        return np.asarray(symbol, np.int32)
    cells = question.astype(np.int64) * n_symbols + symbol
    cells.sort()
    return (cells % n_symbols).astype(np.int32)


def _same_votes(
    symbols: Ints32, ends: Ints64, n_symbols: int, group: Positions, n_groups: int
) -> tuple[Positions, Positions, Positions]:
    """Return the first question of each pattern, the pattern of each question, and the patterns' sizes.

    A pattern is identified by the sum of random 64-bit numbers, one per symbol and one per group. The
    probability that two of a million patterns have the same sum is below 3e-8. The numbers are the same in
    each call. If few questions are alike, each is its own pattern.
    """
    numbers = np.random.default_rng(0).integers(0, 2**64, n_symbols + n_groups, np.uint64)
    sums = numbers[n_symbols:][group]
    n = len(ends) - 1
    for at, votes in vote_blocks(np.diff(ends)):
        part = np.concatenate([np.zeros(1, np.uint64), np.cumsum(numbers[symbols[votes]])])
        inside = ends[at.start : at.stop + 1] - votes.start
        sums[at] += part[inside[1:]] - part[inside[:-1]]
    sample = sums[:: n // 50_000 + 1]
    alone = np.arange(n)
    if n > 500_000 and len(distinct_keys(sample)) > ALIKE * len(sample):
        return alone, alone, np.ones(n, np.intp)
    _, first, pattern, weight = np.unique(sums, return_index=True, return_inverse=True, return_counts=True)
    return (first, pattern, weight) if len(first) < n else (alone, alone, weight)


def maximise(
    patterns: Patterns,
    start: npt.NDArray[np.number[Any]] | tuple[Floats, Floats],
    estimate: Callable[[Floats], Floats],
    *,
    added: float,
    iterations: int,
    tolerance: float,
    accelerate: bool = False,
) -> Fit:
    """Maximise the likelihood of the votes by expectation maximisation.

    Parameters
    ----------
    start : ndarray, shape (Q, K), or tuple of ndarray
        Initial posteriors, up to a factor per row, or the matrices and the prior of an earlier fit.
    estimate : callable
        Returns the matrices, shape (R, K, A), given the expected counts of each symbol, shape (R * A, K).
    added : float
        Number of pseudo-questions of each truth. With 0, the prior of a truth may become 0, and all groups
        share one prior.
    iterations : int
        Maximum number of iterations.
    tolerance : float
        Iterations stop when an iteration changes the log-likelihood by at most this much per vote.
    accelerate : bool
        Whether to extrapolate every third step, which leads to the same result in fewer iterations.

    References
    ----------
    Varadhan & Roland 2008, doi 10.1111/j.1467-9469.2007.00585.x (SQUAREM, scheme S3).
    """
    has_votes = np.diff(patterns.ends) > 0
    # Questions without votes carry no information about the prior, so they do not count.
    weight = patterns.weight * has_votes
    n_votes = float(np.diff(patterns.ends) @ patterns.weight)
    n_truths = start.shape[1] if isinstance(start, np.ndarray) else len(start[1])
    total = np.zeros(patterns.n_symbols)
    for at, _, by_symbol in patterns.blocks:
        total += by_symbol @ weight[at]
    of_group = np.asarray(np.bincount(patterns.group, weight, patterns.n_groups), np.float64)
    everything = np.empty((n_truths, len(patterns.weight)))
    posterior = everything[1:]  # that of the first truth is the rest
    if isinstance(start, np.ndarray):
        _begin(patterns, start, everything)
    else:
        shares = np.broadcast_to(start[1], (patterns.n_groups, n_truths))
        _posteriors(patterns, start[0], shares, posterior, weight, total, of_group)
    before, converged, done = -np.inf, False, 0
    state = _expected(patterns, posterior, weight, total, of_group)
    course, usual = [state], state
    while not converged and done < iterations:
        done += 1
        matrices = estimate(state[0])
        shares, prior = _shares(state[1], added)
        likelihood = _posteriors(patterns, matrices, shares, posterior, weight, total, of_group)
        if len(course) == 1 and likelihood < before and usual is not state:
            state, course = usual, [usual]  # the extrapolation went too far
            continue
        converged = bool(abs(likelihood - before) <= tolerance * n_votes)
        before = likelihood
        state = usual = _expected(patterns, posterior, weight, total, of_group)
        course.append(state)
        if accelerate and len(course) == 3:
            state = _extrapolated(course)
            course = [state]
    everything[0] = np.maximum(1 - posterior.sum(0), 0)
    alone = len(patterns.weight) == len(patterns.pattern)
    each = everything if alone else everything[:, patterns.pattern]
    return Fit(each, matrices, prior, done, converged, before, usual[0], shares)


def _extrapolated(course: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Return the expected counts to which three in a row tend."""
    (first, *_), (second, *_), (third, *_) = course
    change, turn = second - first, third - 2 * second + first
    size = float(np.sqrt(np.sum(turn**2)))
    length = max(float(np.sqrt(np.sum(change**2))) / size, 1.0) if size > 0 else 1.0
    found = []
    for a, b, c in zip(*course, strict=True):
        further = a + 2 * length * (b - a) + length**2 * (c - 2 * b + a)
        # Counts stay positive, and their sums, the numbers of answers and questions, do not change.
        further = np.maximum(further, 0)
        sums = further.sum(1, keepdims=True)
        found.append(further * (c.sum(1, keepdims=True) / np.where(sums > 0, sums, 1)))
    return found[0], found[1]


def _begin(patterns: Patterns, start: npt.NDArray[np.number[Any]], posterior: Floats) -> None:
    """Compute the initial posteriors of all truths, shape (K, P), in place."""
    posterior[:, patterns.pattern] = start.T
    total = posterior.sum(0)
    posterior /= np.maximum(total, TINY)
    posterior[:, total == 0] = 1 / len(posterior)


def _expected(
    patterns: Patterns, posterior: Floats, weight: Floats, total: Floats, of_group: Floats
) -> tuple[Floats, Floats]:
    """Return the expected counts of symbols, shape (S, K), and of truths in each group, shape (G, K)."""
    n_truths = len(posterior) + 1
    counts, truths = np.zeros((patterns.n_symbols, n_truths)), np.zeros((patterns.n_groups, n_truths))
    for at, _, by_symbol in patterns.blocks:
        weighted = posterior[:, at] * weight[at]
        counts[:, 1:] += _times(by_symbol, weighted).T
        for k in range(1, n_truths):
            truths[:, k] += np.bincount(patterns.group[at], weighted[k - 1], patterns.n_groups)
    # What is not expected under the other truths is expected under the first.
    counts[:, 0] = np.maximum(total - counts[:, 1:].sum(1), 0)
    truths[:, 0] = np.maximum(of_group - truths[:, 1:].sum(1), 0)
    return counts, truths


def _posteriors(
    patterns: Patterns,
    matrices: Floats,
    shares: Floats,
    posterior: Floats,
    weight: Floats,
    total: Floats,
    of_group: Floats,
) -> float:
    """Compute the posteriors, in place, and return the log-likelihood."""
    logs = np.log(np.maximum(matrices, TINY)).transpose(0, 2, 1).reshape(patterns.n_symbols, -1)
    # Symbols that nobody used come after those of the matrices.
    log_prior = np.log(np.maximum(shares, TINY))
    ratios, odds = logs[:, 1:] - logs[:, :1], log_prior[:, 1:] - log_prior[:, :1]
    likelihood = float(total @ logs[:, 0] + of_group @ log_prior[:, 0])
    for at, votes, _ in patterns.blocks:
        scores = _times(votes, np.ascontiguousarray(ratios.T))
        scores += odds.T if len(odds) == 1 else odds[patterns.group[at]].T
        # The first truth has the score 0.
        most = np.zeros(scores.shape[1])
        for each in scores:  # a third of the time of a maximum over the short axis
            np.maximum(most, each, out=most)
        found = np.exp(scores - most)
        sums = np.exp(-most)
        for each in found:
            sums += each
        np.divide(found, sums, out=posterior[:, at])
        log_total = most + np.log(sums)
        likelihood += float(np.sum(log_total * weight[at]))  # a product of BLAS would start threads
    return likelihood


def _times(votes: csr_array | csc_array, columns: Floats) -> Floats:
    """Return the products of a sparse matrix, shape (a, b), with K columns, shape (K, b), as (K, a)."""
    if len(columns) <= _FEW:
        return np.stack([votes @ column for column in columns])
    return np.asarray((votes @ np.ascontiguousarray(columns.T)).T)


def _shares(truths: Floats, added: float) -> tuple[Floats, Floats]:
    """Return the prior probability of each truth in each group, shape (G, K), and over all, shape (K,)."""
    pooled = truths.sum(0) + added
    pooled /= pooled.sum()
    if len(truths) == 1 or not added:
        return np.broadcast_to(pooled, truths.shape), pooled
    return shrunk_shares(truths, pooled), pooled


def check_fitting(smoothing: float | None, iterations: int) -> None:
    """Raise an error if smoothing is negative or not finite, or if there are no iterations."""
    if smoothing is not None and not 0 <= smoothing < np.inf:
        raise InputError("Smoothing is negative or not a number.", got=smoothing, allowed="0 or more")
    if iterations < 1:
        raise InputError("There are no iterations.", got=iterations, allowed="1 or more")
