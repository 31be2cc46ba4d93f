"""Aggregation: from the answers of several raters to the probability that a class is in an image.

An aggregator is a function of answers and golden questions that returns an `Aggregate`. A rater has one
confusion matrix for all classes, because with 1,000 classes no rater answers enough questions about each. The
probability from which a class counts as valid is chosen on a `manyhot.core.threshold_curve.Curve`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy import typing as npt
from scipy.sparse import csr_array

from manyhot.core.answers import MAYBE, N_ANSWERS, NO, SILENT, YES, Answers, GoldenAnswers
from manyhot.core.array_types import Bools, Floats, Ints
from manyhot.errors import InputError
from manyhot.parameters import check_one_of
from manyhot.registry import register

MAYBES = {"no": 0.0, "half": 0.5, "yes": 1.0}
"""Weight of a maybe, as a share of a yes."""

BLOCK = 32_768
"""Number of vote patterns per block."""

TOWARDS = ("pooled", "uniform")
"""Target of smoothing: the matrix of all raters together, or equal shares."""

SMOOTHING = 10.0
"""Number of answers, distributed like the pooled matrix, that are added to each rater under each truth.

With fewer, rare classes and raters with one answer are judged worse; with more, spammers are not recognised
(benchmarks/simulated_raters.py)."""

_RIGHT, _WRONG = 4.0, 1.0
"""Prior counts in each cell of the pooled matrix: raters together are better than chance."""

TINY = 1e-300
"""Replaces a probability of 0, whose logarithm is infinite."""


@dataclass(frozen=True)
class Aggregate:
    """The result of an aggregator.

    Attributes
    ----------
    p : ndarray of float64, shape (Q,)
        Probability that the class is in the image; NaN if unknown.
    matrices : ndarray of float64, shape (R, K, 3), optional
        Probability of each answer of each rater under each of K truths, the last of which is yes. If a maybe
        is counted as a yes or a no, the shape is (R, 2, 2). None if the method has no matrices.
    prior : ndarray of float64, shape (K,), optional
        Probability of each truth.
    iterations : int
        Number of iterations; 0 for methods without iterations.
    converged : bool
    log_likelihood : float
        Natural logarithm of the likelihood of the answers under `matrices` and `prior`; NaN if the method has
        none.
    """

    p: Floats
    matrices: Floats | None = None
    prior: Floats | None = None
    iterations: int = 0
    converged: bool = True
    log_likelihood: float = float("nan")


@register("aggregator", "majority", threshold=0.5)
def majority(answers: Answers, golden: GoldenAnswers | None = None, *, maybe: str = "no") -> Aggregate:
    """Majority vote: 1 if more than half of the answers are yes, 0 if fewer, 0.5 if exactly half.

    Parameters
    ----------
    maybe : {"no", "half", "yes"}
        How a maybe is counted.
    """
    share = yes_share(answers, golden, maybe=maybe).p
    # Counts are small, so that a share of a half is exact.
    return Aggregate(np.where(np.isnan(share), share, (1 + np.sign(share - 0.5)) / 2))


@register("aggregator", "yes-share", threshold=0.5)
def yes_share(answers: Answers, golden: GoldenAnswers | None = None, *, maybe: str = "no") -> Aggregate:
    """Share of a question's answers that are yes.

    Parameters
    ----------
    maybe : {"no", "half", "yes"}
        How a maybe is counted.
    """
    counts = answers.counts()
    total = counts.sum(1)
    with np.errstate(invalid="ignore"):
        share: Floats = (counts[:, YES] + _of_yes(maybe) * counts[:, MAYBE]) / total
    return Aggregate(share)


@register("aggregator", "dawid-skene", threshold=0.8)
def dawid_skene(
    answers: Answers,
    golden: GoldenAnswers | None = None,
    *,
    truth: str = "binary",
    smoothing: float = SMOOTHING,
    towards: str = "pooled",
    pool_below: int = 0,
    iterations: int = 1000,
    tolerance: float = 1e-8,
) -> Aggregate:
    """Dawid-Skene: truths and one confusion matrix per rater, estimated by expectation maximisation.

    Parameters
    ----------
    truth : {"binary", "answers"}
        ``binary``: there are two truths, class in the image or not, and each of the three answers has a
        probability under both. ``answers``: there is one truth for each answer, as in Dawid and Skene, and
        `p` is the probability of yes.
    smoothing : float
        Number of pseudo-answers added for each rater and truth. 0 gives Dawid and Skene's own algorithm, in
        which an answer that a rater never gave has probability 0.
    towards : {"pooled", "uniform"}
        Distribution of the added answers. ``pooled``: they are distributed like the answers of all raters, so
        that a rater with few answers is treated as an average rater. One question of each truth is added as
        well. ``uniform``: `smoothing` answers are added to each cell of a matrix, so that a rater with few
        answers is treated as guessing.
    pool_below : int
        Raters with fewer than this number of answers share one matrix.
    iterations : int
        Maximum number of iterations.
    tolerance : float
        Iterations stop when an iteration changes the objective by at most this much per vote. The objective
        is the log-likelihood. With smoothing, the logarithm of the Dirichlet prior is added.

    Raises
    ------
    InputError
        If an option is out of range, or there are no votes.

    References
    ----------
    Dawid & Skene 1979, doi 10.2307/2346806. Deviations from the paper are two truths with three answers, and
    smoothing. The pooled matrix is updated in each iteration, so it is an empirical prior.
    """
    check_one_of(truth, ("binary", "answers"), "There is no such truth.")
    _check_options(answers, smoothing, towards, iterations)
    number, n = _pooled(answers, pool_below)
    symbol = number[answers.rater] * N_ANSWERS + answers.answer
    start = answers.counts().astype(np.float64)
    if truth == "binary":
        start = start[:, [NO, YES]] + start[:, [MAYBE]] / 2
    fitted = _maximise(
        _Patterns.of(answers.question, symbol, answers.n_questions, n * N_ANSWERS),
        start,
        lambda counts: _smoothed(counts.reshape(n, N_ANSWERS, -1), smoothing, towards),
        float(smoothing > 0 and towards == "pooled"),
        iterations,
        tolerance,
    )
    assert fitted.matrices is not None
    return replace(fitted, matrices=fitted.matrices[number])


@register("aggregator", "one-coin", threshold=0.8)
def one_coin(
    answers: Answers,
    golden: GoldenAnswers | None = None,
    *,
    maybe: str = "no",
    smoothing: float = SMOOTHING,
    towards: str = "pooled",
    pool_below: int = 0,
    iterations: int = 1000,
    tolerance: float = 1e-8,
) -> Aggregate:
    """One-coin model: Dawid-Skene in which a rater's probability of being right does not depend on the truth.

    Parameters
    ----------
    maybe : {"no", "yes"}
        How a maybe is counted.
    smoothing : float
        Number of right and wrong pseudo-answers added for each rater.
    towards : {"pooled", "uniform"}
        Distribution of the added answers. ``pooled``: they are distributed like the right and wrong answers
        of all raters. One question of each truth is added as well. ``uniform``: `smoothing` right and
        `smoothing` wrong answers are added.
    pool_below, iterations, tolerance
        As in `dawid_skene`.

    Raises
    ------
    InputError
        As in `dawid_skene`.
    """
    check_one_of(maybe, ("no", "yes"), "There is no such reading of maybe.")
    _check_options(answers, smoothing, towards, iterations)
    number, n = _pooled(answers, pool_below)
    is_yes = (answers.answer >= (YES if maybe == "no" else MAYBE)).astype(np.int8)
    n_yes = np.bincount(answers.question, is_yes, answers.n_questions)
    fitted = _maximise(
        _Patterns.of(answers.question, number[answers.rater] * 2 + is_yes, answers.n_questions, n * 2),
        np.stack([np.bincount(answers.question, minlength=answers.n_questions) - n_yes, n_yes], 1),
        lambda counts: _tied(counts.reshape(n, 2, 2), smoothing, towards),
        float(smoothing > 0 and towards == "pooled"),
        iterations,
        tolerance,
    )
    assert fitted.matrices is not None
    return replace(fitted, matrices=fitted.matrices[number])


@dataclass(frozen=True)
class _Patterns:
    """Patterns of votes: questions with identical votes, which are frequent, are stored once.

    Attributes
    ----------
    votes : csr_array of float64, shape (P, S)
        Number of occurrences of each symbol, an answer of a rater, in each pattern.
    weight : ndarray of float64, shape (P,)
        Number of questions of each pattern.
    pattern : ndarray of int, shape (Q,)
        The pattern of each question.
    """

    votes: csr_array
    weight: Floats
    pattern: npt.NDArray[np.intp]

    def blocks(self) -> list[tuple[slice, csr_array]]:
        """Return patterns in blocks, so that an iteration needs less memory."""
        starts = range(0, len(self.weight), BLOCK)
        return [(slice(i, i + BLOCK), self.votes[i : i + BLOCK]) for i in starts]

    @classmethod
    def of(cls, question: Ints, symbol: Ints, n: int, n_symbols: int) -> _Patterns:
        cells = question.astype(np.int64) * n_symbols + symbol
        cells.sort()
        symbols = (cells % n_symbols).astype(np.int32)
        del cells
        ends = np.concatenate([[0], np.cumsum(np.bincount(question, minlength=n))])
        first, pattern, weight = _same_sums(symbols, ends, n_symbols)
        lengths = np.diff(ends)[first]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        own = symbols[np.arange(starts[-1]) + np.repeat(ends[first] - starts[:-1], lengths)]
        votes = csr_array((np.ones(len(own)), own, starts), shape=(len(first), n_symbols))
        return cls(votes, weight.astype(np.float64), pattern)


def _same_sums(
    symbols: npt.NDArray[np.int32], ends: npt.NDArray[np.int64], n_symbols: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the first question of each pattern, the pattern of each question, and the patterns' sizes.

    A pattern is identified by the sum of random 64-bit numbers, one per symbol. The probability that two of a
    million patterns have the same sum is below 3e-8. The numbers are the same in each call.
    """
    numbers = np.random.default_rng(0).integers(0, 2**64, n_symbols, np.uint64)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(numbers[symbols])])
    _, first, pattern, weight = np.unique(
        sums[ends[1:]] - sums[ends[:-1]], return_index=True, return_inverse=True, return_counts=True
    )
    return first, pattern, weight


def _maximise(
    patterns: _Patterns,
    start: Floats,
    estimate: Callable[[Floats], tuple[Floats, Floats]],
    questions: float,
    iterations: int,
    tolerance: float,
) -> Aggregate:
    """Maximise the likelihood by expectation maximisation.

    Parameters
    ----------
    patterns : _Patterns
    start : ndarray of float64, shape (Q, K)
        Initial posteriors, up to a factor per row.
    estimate : callable
        Returns, from the expected counts of each symbol under each truth, shape (S, K), the matrices, shape
        (R, K, A), and the power of each of their cells in the prior, shape (K, A).
    questions : float
        Number of questions of each truth that are added.
    """
    lengths = patterns.votes.sum(1)
    # Questions without votes carry no information about the prior, so they do not count.
    weight, n_votes = patterns.weight * (lengths > 0), float(np.sum(lengths * patterns.weight))
    posterior = _first_of(patterns, start)
    blocks = patterns.blocks()
    counts = sum(votes.T @ np.ascontiguousarray((posterior[:, at] * weight[at]).T) for at, votes in blocks)
    before, converged, done = -np.inf, False, 0
    while not converged and done < iterations:
        done += 1
        n_true = np.sum(posterior * weight, axis=1) + questions
        prior = n_true / (weight.sum() + questions * len(n_true))
        matrices, power = estimate(counts)
        logs = np.log(np.maximum(matrices, TINY))
        by_symbol = logs.transpose(0, 2, 1).reshape(-1, len(prior))
        log_prior = np.log(np.maximum(prior, TINY))[:, None]
        likelihood, counts = 0.0, np.zeros_like(by_symbol)
        for at, votes in blocks:
            # A sparse product with all truths at once takes half the time of separate ones.
            posterior[:, at], logsum = normalise_logs(np.ascontiguousarray((votes @ by_symbol).T) + log_prior)
            likelihood += float(np.sum(logsum * weight[at]))
            counts += votes.T @ np.ascontiguousarray((posterior[:, at] * weight[at]).T)
        added = float(np.sum(power * logs.sum(0))) + questions * float(log_prior.sum())
        objective = likelihood + added
        # The objective may decrease, because the pooled matrix changes, too.
        converged = bool(abs(objective - before) <= tolerance * n_votes)
        before = objective
    return Aggregate(posterior[-1, patterns.pattern], matrices, prior, done, converged, likelihood)


def _first_of(patterns: _Patterns, start: Floats) -> Floats:
    """Return the initial posteriors of patterns, shape (K, P); questions of a pattern have the same."""
    first = np.empty((start.shape[1], len(patterns.weight)))
    first[:, patterns.pattern] = start.T
    total = first.sum(0)
    posterior: Floats = np.where(total > 0, first / np.maximum(total, TINY), 1 / start.shape[1])
    return posterior


def normalise_logs(scores: Floats) -> tuple[Floats, Floats]:
    """Return posteriors, shape (K, n), and the logarithms of their normalisers, shape (n,), from log scores.

    Truths are the first axis, because sums over an inner axis of length three would take ten times as long.
    """
    most = scores.max(0)
    posterior = scores - most
    np.exp(posterior, out=posterior)
    total = posterior.sum(0)
    posterior /= total
    return posterior, most + np.log(total)


def _smoothed(counts: Floats, smoothing: float, towards: str) -> tuple[Floats, Floats]:
    """Return matrices (R, K, A) from expected counts (R, A, K), and the power of each cell in the prior."""
    n_answers, n_truths = counts.shape[1:]
    added = np.full((n_answers, n_truths), smoothing)
    if towards == "pooled":
        pool = counts.sum(0) + _before_any(n_answers, n_truths)
        added = smoothing * pool / pool.sum(0)
    total = counts.sum(1, keepdims=True) + added.sum(0)
    shares = (counts + added) / np.maximum(total, TINY)
    return np.where(total > 0, shares, 1 / n_answers).transpose(0, 2, 1), added.T


def _tied(counts: Floats, smoothing: float, towards: str) -> tuple[Floats, Floats]:
    """Return matrices with one probability of being right per rater, from expected counts (R, 2, 2)."""
    right, total = counts[:, 0, 0] + counts[:, 1, 1], counts.sum((1, 2))
    added = np.full(2, smoothing)
    if towards == "pooled":
        pool = np.array([right.sum() + _RIGHT, total.sum() - right.sum() + _WRONG])
        added = smoothing * pool / pool.sum()
    total = total + added.sum()
    share = np.where(total > 0, (right + added[0]) / np.maximum(total, TINY), 0.5)
    # Each probability is in two cells.
    return _coin(share, 1 - share), _coin(*added) / 2


def _coin(right: Any, wrong: Any) -> Floats:
    """Return the matrix with the same probabilities of right and wrong under both truths, shape (…, 2, 2)."""
    return np.stack([np.stack([right, wrong], -1), np.stack([wrong, right], -1)], -2)


def _before_any(n_answers: int, n_truths: int) -> Floats:
    """Return the prior counts of the pooled matrix, shape (A, K), in which right answers are more likely."""
    cells = np.full((n_answers, n_truths), _WRONG)
    cells[np.linspace(0, n_answers - 1, n_truths).astype(int), np.arange(n_truths)] = _RIGHT
    return cells


def _check_options(answers: Answers, smoothing: float, towards: str, iterations: int) -> None:
    if not len(answers):
        raise InputError("There are no votes.")
    if not smoothing >= 0:
        raise InputError("Smoothing is negative or not a number.", got=smoothing, allowed="0 or more")
    check_one_of(towards, TOWARDS, "There is no such smoothing.")
    if iterations < 1:
        raise InputError("There are no iterations.", got=iterations, allowed="1 or more")


def _of_yes(maybe: str) -> float:
    check_one_of(maybe, MAYBES, "There is no such reading of maybe.")
    return MAYBES[maybe]


def _pooled(answers: Answers, below: int) -> tuple[npt.NDArray[np.intp], int]:
    """Return the number of each rater's matrix, shape (R,), and the number of matrices."""
    own = np.bincount(answers.rater, minlength=answers.n_raters) >= below
    number = np.where(own, np.cumsum(own) - 1, np.count_nonzero(own))
    return number, int(number.max()) + 1


@register("aggregator", "golden-bayes", threshold=0.8, needs="golden")
def golden_bayes(
    answers: Answers,
    golden: GoldenAnswers | None = None,
    *,
    smoothing: float = 1.0,
    original: bool = True,
    original_share: float = 0.3,
) -> Aggregate:
    """Bayes' rule with raters' confusion matrices estimated on golden questions, as for ReaL's scores.

    Raters without golden answers get the mean of the others' matrices. The original label, if known, counts
    as one more rater.

    Parameters
    ----------
    smoothing : float
        Number of pseudo-answers added to each cell of a matrix.
    original : bool
        Whether the original label counts as a rater.
    original_share : float
        For the matrix of the original label, the truth of a golden question is yes if more than this share of
        experts answered yes. With ReaL's five experts, at least two must answer yes. For raters' matrices,
        the truth is yes if more than half of the experts answered yes, which means at least three of the
        five.

    Raises
    ------
    InputError
        If there are no golden answers, or all golden questions have the same truth.

    References
    ----------
    Beyer et al. 2020, arXiv 2006.07159, which cites Dawid and Skene. This closed form was inferred from the
    released scores, which it reproduces to within 4.4e-16.
    """
    golden = _checked(golden)
    truth = golden.truth()
    matrices = golden_matrices(golden.answers, truth, smoothing)
    prior = np.array([1 - truth.mean(), truth.mean()])
    scores = np.log(prior)[:, None] + _log_evidence(answers, matrices)
    if original and answers.original is not None and golden.answers.original is not None:
        matrix = _original_matrix(golden, original_share, smoothing)
        has_label = answers.original != SILENT
        scores[:, has_label] += np.log(matrix)[:, answers.original[has_label].astype(np.intp)]
    posterior, log_likelihood = normalise_logs(scores)
    return Aggregate(posterior[1], matrices, prior, log_likelihood=float(log_likelihood.sum()))


def golden_matrices(answers: Answers, truth: Bools, smoothing: float = 0.0) -> Floats:
    """Return each rater's probability of each answer under each truth, estimated on golden questions.

    Parameters
    ----------
    answers : Answers
        Answers to the G golden questions.
    truth : ndarray of bool, shape (G,)
    smoothing : float
        Number added to each count.

    Returns
    -------
    ndarray of float64, shape (R, 2, 3)
        A rater who answered no question with a given truth gets the mean of the other raters' probabilities.
    """
    counts = golden_counts(answers, truth)
    total = counts.sum(2)
    with np.errstate(invalid="ignore"):
        matrices: Floats = (counts + smoothing) / (total + N_ANSWERS * smoothing)[:, :, None]
    for truth_code in range(2):
        answered = total[:, truth_code] > 0
        matrices[~answered, truth_code] = matrices[answered, truth_code].mean(0)
    return matrices


def golden_counts(answers: Answers, truth: Bools) -> npt.NDArray[np.int64]:
    """Return how often each rater gave each answer under each truth, shape (R, 2, 3)."""
    cells = (answers.rater.astype(np.int64) * 2 + truth[answers.question]) * N_ANSWERS + answers.answer
    size = answers.n_raters * 2 * N_ANSWERS
    return np.bincount(cells, minlength=size).reshape(answers.n_raters, 2, N_ANSWERS)


def _log_evidence(answers: Answers, matrices: Floats) -> Floats:
    """Return the logarithm of the answers' probability under each truth, shape (2, Q)."""
    logs = np.log(np.maximum(matrices, TINY))
    of_votes = (logs[answers.rater, truth, answers.answer] for truth in range(2))
    return np.stack([np.bincount(answers.question, v, answers.n_questions) for v in of_votes])


def _original_matrix(golden: GoldenAnswers, share: float, smoothing: float) -> Floats:
    """Return the probability that the original label is the class, no and yes, under each truth."""
    original = golden.answers.original
    assert original is not None
    has_label = original != SILENT
    cells = golden.truth(share)[has_label] * 2 + original[has_label]
    counts = np.bincount(cells, minlength=4).reshape(2, 2)
    # Three answers in the denominator, as in ReaL, as if the original label could be a maybe.
    total = counts.sum(1, keepdims=True) + N_ANSWERS * smoothing
    return np.asarray((counts + smoothing) / total)


def _checked(golden: GoldenAnswers | None) -> GoldenAnswers:
    if golden is None or not len(golden) or not len(golden.answers):
        raise InputError(
            "This method needs golden answers: answers of experts to questions that raters also answered.",
            got="none" if golden is None or not len(golden) else f"{len(golden):,}, which no rater answered",
            do="pass golden answers with `golden`, or use dawid-skene, which needs no golden answers",
        )
    n_yes = int(np.count_nonzero(golden.truth()))
    if n_yes in (0, len(golden)):
        raise InputError(
            "All golden questions have the same truth, so nothing can be estimated for the other truth.",
            got=f"{'yes' if n_yes else 'no'} in all {len(golden):,}",
            allowed="golden questions with the truth yes and others with the truth no",
            do="add questions with the other truth, or use dawid-skene, which needs no golden answers",
        )
    answered = set(golden.truth()[golden.answers.question].tolist())
    if len(answered) < 2:
        kind = "yes" if False in answered else "no"
        raise InputError(
            f"No rater answered a golden question with the truth {kind}.",
            got=f"{len(golden.answers):,} answers to other golden questions",
            allowed="answers of raters to golden questions with the truth yes and others with the truth no",
            do=f"ask raters golden questions with the truth {kind}, too, or use dawid-skene, which needs no "
            "golden answers",
        )
    return golden
