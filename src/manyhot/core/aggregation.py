"""From the answers of several raters to the probability that a class is in an image.

An aggregator is a function of answers and golden questions that returns an `Aggregate`. What is known about
a rater is shared by all classes: with 1,000 of them nobody answers each often enough to be known by class.
From which probability on a class counts is read off a `Curve` of precision and recall against golden
questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy import typing as npt
from scipy.sparse import csr_array

from manyhot.checks import check_one_of, check_share
from manyhot.core.answers import MAYBE, N_ANSWERS, NO, SILENT, YES, Answers, GoldenAnswers
from manyhot.core.array_types import Bools, Floats, Floats32, Ints
from manyhot.core.resampling import draw_counts, percentile_interval
from manyhot.errors import InputError
from manyhot.registry import register

MAYBES = {"no": 0.0, "half": 0.5, "yes": 1.0}
"""How much of a yes a maybe is."""

BLOCK = 32_768
"""Patterns of votes that are worked on at once."""

TOWARDS = ("pooled", "uniform")
"""What smoothing draws a rater's matrix towards: that of all raters together, or equal shares."""

SMOOTHING = 10.0
"""Answers by the pooled matrix that each rater gets under each truth: with fewer, rare classes and raters who
answer once are judged worse, with more, spammers pass for the others (benchmarks/simulated_raters.py)."""

_RIGHT, _WRONG = 4.0, 1.0
"""Answers in each cell of the pooled matrix before any is counted: raters together are better than chance."""

_TINY = 1e-300
"""Stands for a probability of 0, whose logarithm no sum survives."""

MAX_THRESHOLDS = 1000
"""Thresholds of a curve at most, beside those asked for; where more probabilities differ, so many by rank."""

_CHUNK = 200
"""Thresholds resampled at once: 8 MB for 10,000 images."""


@dataclass(frozen=True)
class Aggregate:
    """What answers come to.

    Attributes
    ----------
    p : ndarray of float64, shape (Q,)
        Probability that the class is in the image; NaN where nothing is known.
    matrices : ndarray of float64, shape (R, K, 3), optional
        Probability of each answer of each rater under each of K truths, the last of which is yes; (R, 2, 2)
        where maybe is no answer of its own. None where the method has none.
    prior : ndarray of float64, shape (K,), optional
        Probability of each truth.
    iterations : int
        0 where there is nothing to iterate.
    converged : bool
    log_likelihood : float
        Of the answers under `matrices` and `prior`, natural logarithm; NaN where the method has none.
    """

    p: Floats
    matrices: Floats | None = None
    prior: Floats | None = None
    iterations: int = 0
    converged: bool = True
    log_likelihood: float = float("nan")


@register("aggregator", "majority", threshold=0.5)
def majority(answers: Answers, golden: GoldenAnswers | None = None, *, maybe: str = "no") -> Aggregate:
    """1 where more than half of the answers are yes, 0 where fewer, 0.5 where exactly half.

    Parameters
    ----------
    maybe : {"no", "half", "yes"}
        What a maybe counts as.
    """
    share = yes_share(answers, golden, maybe=maybe).p
    # Shares are of small counts, so that a half is exact.
    return Aggregate(np.where(np.isnan(share), share, (1 + np.sign(share - 0.5)) / 2))


@register("aggregator", "yes-share", threshold=0.5)
def yes_share(answers: Answers, golden: GoldenAnswers | None = None, *, maybe: str = "no") -> Aggregate:
    """The share of a question's answers that are yes.

    Parameters
    ----------
    maybe : {"no", "half", "yes"}
        What a maybe counts as.
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
    """Truth and raters' matrices by expectation maximisation, one matrix a rater for all classes.

    Parameters
    ----------
    truth : {"binary", "answers"}
        Whether the class is in the image or not, under which all three answers have their probabilities; or a
        truth for each answer, as Dawid and Skene have it, of which `p` is that of yes.
    smoothing : float
        Answers added to those of each rater under each truth; 0 for Dawid and Skene's own algorithm, in which
        an answer that a rater never gave is impossible.
    towards : {"pooled", "uniform"}
        How these are divided: as the answers of all raters together, so that who has few answers counts as
        one of them; a question of each truth is added, too. Or equally: `smoothing` in each cell of a matrix,
        so that who has few answers is taken to guess.
    pool_below : int
        Raters with fewer answers share one matrix.
    iterations : int
        At most.
    tolerance : float
        It has converged when an iteration changes what it maximises by no more than this, for each vote: the
        log-likelihood, with smoothing that and the logarithm of the Dirichlet prior which smoothing is.

    Raises
    ------
    InputError
        An option is out of its range, or there are no votes.

    References
    ----------
    Dawid & Skene 1979, doi 10.2307/2346806. Deviations: two truths beside three answers, and smoothing; the
    pooled matrix is counted anew in each iteration, so that it is an empirical prior.
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
    """As Dawid-Skene, but a rater is right with one probability, whatever the truth.

    Parameters
    ----------
    maybe : {"no", "yes"}
        What a maybe counts as.
    smoothing : float
        Answers added to each rater's, right ones and wrong ones.
    towards : {"pooled", "uniform"}
        How these are divided: as all raters together are right and wrong; a question of each truth is added,
        too. Or equally: `smoothing` right ones and as many wrong ones.
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
    said = (answers.answer >= (YES if maybe == "no" else MAYBE)).astype(np.int8)
    n_yes = np.bincount(answers.question, said, answers.n_questions)
    fitted = _maximise(
        _Patterns.of(answers.question, number[answers.rater] * 2 + said, answers.n_questions, n * 2),
        np.stack([np.bincount(answers.question, minlength=answers.n_questions) - n_yes, n_yes], 1),
        lambda counts: _tied(counts.reshape(n, 2, 2), smoothing, towards),
        float(smoothing > 0 and towards == "pooled"),
        iterations,
        tolerance,
    )
    assert fitted.matrices is not None
    return replace(fitted, matrices=fitted.matrices[number])


@register("aggregator", "golden-bayes", threshold=0.8, needs="golden")
def golden_bayes(
    answers: Answers,
    golden: GoldenAnswers | None = None,
    *,
    smoothing: float = 1.0,
    original: bool = True,
    original_share: float = 0.3,
) -> Aggregate:
    """Bayes' rule with each rater's matrix counted on golden questions: how ReaL's scores were made.

    Raters without golden answers get the mean of the others' matrices. The original label, where one is
    known, counts as one more rater.

    Parameters
    ----------
    smoothing : float
        Answers added to each cell of a matrix.
    original : bool
        Whether the original label counts.
    original_share : float
        For its own matrix the truth of a golden question is yes where more than this share of experts said
        yes. ReaL's is two of five, for raters' matrices three of five.

    Raises
    ------
    InputError
        There are no golden answers, or the truth is the same in all of them.

    References
    ----------
    Beyer et al. 2020, arXiv 2006.07159, which names Dawid and Skene; that the released scores are this closed
    form was found from them, and gives them back to 4.4e-16.
    """
    golden = _checked(golden)
    truth = golden.truth()
    matrices = golden_matrices(golden.answers, truth, smoothing)
    prior = np.array([1 - truth.mean(), truth.mean()])
    scores = np.log(prior)[:, None] + _log_evidence(answers, matrices)
    if original and answers.original is not None and golden.answers.original is not None:
        matrix = _original_matrix(golden, original_share, smoothing)
        known = answers.original != SILENT
        scores[:, known] += np.log(matrix)[:, answers.original[known].astype(np.intp)]
    posterior, log_likelihood = _normalised(scores)
    return Aggregate(posterior[1], matrices, prior, log_likelihood=float(log_likelihood.sum()))


def golden_matrices(answers: Answers, truth: Bools, smoothing: float = 0.0) -> Floats:
    """Return the probability of each answer under each truth, counted on golden questions.

    Parameters
    ----------
    answers : Answers
        To the G golden questions.
    truth : ndarray of bool, shape (G,)
    smoothing : float
        Added to each count.

    Returns
    -------
    ndarray of float64, shape (R, 2, 3)
        Raters without an answer to questions of a truth have the mean of the others' probabilities.
    """
    counts = golden_counts(answers, truth)
    total = counts.sum(2)
    with np.errstate(invalid="ignore"):
        matrices: Floats = (counts + smoothing) / (total + N_ANSWERS * smoothing)[:, :, None]
    for truth_code in range(2):
        known = total[:, truth_code] > 0
        matrices[~known, truth_code] = matrices[known, truth_code].mean(0)
    return matrices


def golden_counts(answers: Answers, truth: Bools) -> npt.NDArray[np.int64]:
    """Return how often each rater gave each answer under each truth, shape (R, 2, 3)."""
    cells = (answers.rater.astype(np.int64) * 2 + truth[answers.question]) * N_ANSWERS + answers.answer
    size = answers.n_raters * 2 * N_ANSWERS
    return np.bincount(cells, minlength=size).reshape(answers.n_raters, 2, N_ANSWERS)


@dataclass(frozen=True)
class _Patterns:
    """Questions with the very same votes, of which there are many, are counted and not repeated.

    Attributes
    ----------
    votes : csr_array of float64, shape (P, S)
        How often a pattern holds a symbol: an answer of a rater.
    weight : ndarray of float64, shape (P,)
        Questions of each pattern.
    pattern : ndarray of int, shape (Q,)
        The pattern of each question.
    """

    votes: csr_array
    weight: Floats
    pattern: npt.NDArray[np.intp]

    def blocks(self) -> list[tuple[slice, csr_array]]:
        """Return patterns in blocks: in one piece, each iteration asks the system for fresh memory of all."""
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
        kept = symbols[np.arange(starts[-1]) + np.repeat(ends[first] - starts[:-1], lengths)]
        votes = csr_array((np.ones(len(kept)), kept, starts), shape=(len(first), n_symbols))
        return cls(votes, weight.astype(np.float64), pattern)


def _same_sums(
    symbols: npt.NDArray[np.int32], ends: npt.NDArray[np.int64], n_symbols: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the first question of each pattern, the pattern of each question, and questions a pattern.

    A pattern is told by the sum of random 64-bit numbers, one a symbol: that any two of a million patterns
    have one sum has a probability under 3e-8. The numbers are the same in each call.
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
    """Maximise the likelihood by turns: matrices from posteriors, posteriors from matrices.

    Parameters
    ----------
    patterns : _Patterns
    start : ndarray of float64, shape (Q, K)
        First posteriors, up to a factor a row.
    estimate : callable
        From expected counts of each symbol under each truth, shape (S, K), to matrices, shape (R, K, A), and
        the power of each of their cells in the prior, shape (K, A).
    questions : float
        Questions of each truth that are added.
    """
    lengths = patterns.votes.sum(1)
    # A question without votes says nothing of how frequent a yes is: counted in, it only drags the prior.
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
        logs = np.log(np.maximum(matrices, _TINY))
        by_symbol = logs.transpose(0, 2, 1).reshape(-1, len(prior))
        log_prior = np.log(np.maximum(prior, _TINY))[:, None]
        likelihood, counts = 0.0, np.zeros_like(by_symbol)
        for at, votes in blocks:
            # A sparse product with all truths at once takes half as long as one by one.
            posterior[:, at], logsum = _normalised(np.ascontiguousarray((votes @ by_symbol).T) + log_prior)
            likelihood += float(np.sum(logsum * weight[at]))
            counts += votes.T @ np.ascontiguousarray((posterior[:, at] * weight[at]).T)
        added = float(np.sum(power * logs.sum(0))) + questions * float(log_prior.sum())
        objective = likelihood + added
        # The pooled matrix moves, too, so that it may fall.
        converged = bool(abs(objective - before) <= tolerance * n_votes)
        before = objective
    return Aggregate(posterior[-1, patterns.pattern], matrices, prior, done, converged, likelihood)


def _first_of(patterns: _Patterns, start: Floats) -> Floats:
    """Return the first posteriors of patterns, shape (K, P); questions of one pattern have the same."""
    first = np.empty((start.shape[1], len(patterns.weight)))
    first[:, patterns.pattern] = start.T
    total = first.sum(0)
    posterior: Floats = np.where(total > 0, first / np.maximum(total, _TINY), 1 / start.shape[1])
    return posterior


def _normalised(scores: Floats) -> tuple[Floats, Floats]:
    """Return posteriors of logarithms, shape (K, n), and the logarithm of the sum over truths, shape (n,).

    Truths come first: sums over three neighbours take ten times as long.
    """
    most = scores.max(0)
    posterior = scores - most
    np.exp(posterior, out=posterior)
    total = posterior.sum(0)
    posterior /= total
    return posterior, most + np.log(total)


def _smoothed(counts: Floats, smoothing: float, towards: str) -> tuple[Floats, Floats]:
    """Return matrices (R, K, A) of expected counts (R, A, K), and the power of each cell in the prior."""
    n_answers, n_truths = counts.shape[1:]
    added = np.full((n_answers, n_truths), smoothing)
    if towards == "pooled":
        pool = counts.sum(0) + _before_any(n_answers, n_truths)
        added = smoothing * pool / pool.sum(0)
    total = counts.sum(1, keepdims=True) + added.sum(0)
    shares = (counts + added) / np.maximum(total, _TINY)
    return np.where(total > 0, shares, 1 / n_answers).transpose(0, 2, 1), added.T


def _tied(counts: Floats, smoothing: float, towards: str) -> tuple[Floats, Floats]:
    """Return matrices with one probability of being right a rater, of expected counts (R, 2, 2)."""
    right, total = counts[:, 0, 0] + counts[:, 1, 1], counts.sum((1, 2))
    added = np.full(2, smoothing)
    if towards == "pooled":
        pool = np.array([right.sum() + _RIGHT, total.sum() - right.sum() + _WRONG])
        added = smoothing * pool / pool.sum()
    total = total + added.sum()
    share = np.where(total > 0, (right + added[0]) / np.maximum(total, _TINY), 0.5)
    # Each probability is in two cells.
    return _coin(share, 1 - share), _coin(*added) / 2


def _coin(right: Any, wrong: Any) -> Floats:
    """Return the matrix of who is right or wrong whatever the truth, shape (…, 2, 2)."""
    return np.stack([np.stack([right, wrong], -1), np.stack([wrong, right], -1)], -2)


def _before_any(n_answers: int, n_truths: int) -> Floats:
    """Return the pooled matrix before any answer is counted, shape (A, K): right answers are likelier."""
    cells = np.full((n_answers, n_truths), _WRONG)
    cells[np.linspace(0, n_answers - 1, n_truths).astype(int), np.arange(n_truths)] = _RIGHT
    return cells


def _log_evidence(answers: Answers, matrices: Floats) -> Floats:
    """Return the logarithm of the answers' probability under each truth, shape (2, Q)."""
    logs = np.log(np.maximum(matrices, _TINY))
    of_votes = (logs[answers.rater, truth, answers.answer] for truth in range(2))
    return np.stack([np.bincount(answers.question, v, answers.n_questions) for v in of_votes])


def _original_matrix(golden: GoldenAnswers, share: float, smoothing: float) -> Floats:
    """Return the probability that the original label is the class, no and yes, under each truth."""
    original = golden.answers.original
    assert original is not None
    known = original != SILENT
    cells = golden.truth(share)[known] * 2 + original[known]
    counts = np.bincount(cells, minlength=4).reshape(2, 2)
    # Three answers in the denominator: ReaL's own, in which the original label could have said maybe.
    total = counts.sum(1, keepdims=True) + N_ANSWERS * smoothing
    return np.asarray((counts + smoothing) / total)


def _checked(golden: GoldenAnswers | None) -> GoldenAnswers:
    if golden is None or not len(golden) or not len(golden.answers):
        raise InputError(
            "This method needs golden answers: questions that experts answered, and raters too.",
            got="none" if golden is None or not len(golden) else f"{len(golden):,}, which no rater answered",
            do="give golden answers with --golden, or use dawid-skene, which needs none",
        )
    n_yes = int(np.count_nonzero(golden.truth()))
    if n_yes in (0, len(golden)):
        raise InputError(
            "Golden questions all have the same truth, so that nothing is known about the other.",
            got=f"{'yes' if n_yes else 'no'} in all {len(golden):,}",
            allowed="golden questions of both kinds",
            do="add some, or use dawid-skene, which needs none",
        )
    answered = set(golden.truth()[golden.answers.question].tolist())
    if len(answered) < 2:
        kind = "yes" if False in answered else "no"
        raise InputError(
            f"No rater answered a golden question whose truth is {kind}, so that nothing is known about it.",
            got=f"{len(golden.answers):,} answers to the others",
            allowed="answers of raters to golden questions of both kinds",
            do="ask raters these golden questions, too, or use dawid-skene, which needs none",
        )
    return golden


def _check_options(answers: Answers, smoothing: float, towards: str, iterations: int) -> None:
    if not len(answers):
        raise InputError("There are no votes.")
    if not smoothing >= 0:
        raise InputError("Smoothing adds answers.", got=smoothing, allowed="0 or more")
    check_one_of(towards, TOWARDS, "There is no such smoothing.")
    if iterations < 1:
        raise InputError("There is nothing to iterate.", got=iterations, allowed="1 iteration or more")


def _of_yes(maybe: str) -> float:
    check_one_of(maybe, MAYBES, "There is no such reading of maybe.")
    return MAYBES[maybe]


def _pooled(answers: Answers, below: int) -> tuple[npt.NDArray[np.intp], int]:
    """Return the matrix that each rater has, shape (R,), and how many matrices there are."""
    own = np.bincount(answers.rater, minlength=answers.n_raters) >= below
    number = np.where(own, np.cumsum(own) - 1, np.count_nonzero(own))
    return number, int(number.max()) + 1


@dataclass(frozen=True)
class Curve:
    """Precision and recall at T thresholds, ascending; each array has shape (T,).

    Attributes
    ----------
    threshold : ndarray of float64
        A class counts if its probability is no lower.
    precision, recall : ndarray of float64
        NaN where there is nothing to count.
    precision_lo, precision_hi, recall_lo, recall_hi : ndarray of float64
        Ends of 95 % intervals over images.
    kept, right : ndarray of int64
        Golden questions at or above the threshold, and those of them whose truth is yes.
    n_yes, n_questions, n_images : int
        Golden questions whose truth is yes, all of them, and their images.
    """

    threshold: Floats
    precision: Floats
    precision_lo: Floats
    precision_hi: Floats
    recall: Floats
    recall_lo: Floats
    recall_hi: Floats
    kept: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    n_yes: int
    n_questions: int
    n_images: int

    def at(self, threshold: float) -> int | None:
        """Return the row of a threshold: that of the lowest probability which counts; None above all."""
        row = int(np.searchsorted(self.threshold, threshold))
        return row if row < len(self.threshold) else None

    def for_precision(self, least: float) -> float:
        """Return the lowest threshold with a precision of at least `least`: that of the best recall.

        Raises
        ------
        InputError
            No threshold has it.
        """
        check_share(least, "A precision is a share.")
        with np.errstate(invalid="ignore"):
            good = np.flatnonzero(self.precision >= least)
        if not len(good):
            raise self._unreachable("precision", least, self.precision)
        return float(self.threshold[good[0]])

    def for_recall(self, least: float) -> float:
        """Return the highest threshold with a recall of at least `least`: the fewest classes that do.

        Raises
        ------
        InputError
            No threshold has it, for no golden question has the truth yes.
        """
        check_share(least, "A recall is a share.")
        with np.errstate(invalid="ignore"):
            good = np.flatnonzero(self.recall >= least)
        if not len(good):
            raise self._unreachable("recall", least, self.recall)
        return float(self.threshold[good[-1]])

    def _unreachable(self, what: str, least: float, values: Floats) -> InputError:
        known = values[~np.isnan(values)]
        return InputError(
            f"No threshold has the {what} that is wanted on the golden questions.",
            got=f"{least:g}",
            allowed=f"up to {known.max():.4f}" if len(known) else None,
            do=None
            if len(known)
            else f"add golden questions with the truth yes: of {self.n_questions} none has",
        )


def curve(
    p: Floats,
    truth: Bools,
    image: Ints,
    *,
    resamples: int,
    rng: np.random.Generator,
    thresholds: Sequence[float] = (),
) -> Curve:
    """Return precision and recall at every probability that a golden question has.

    Parameters
    ----------
    p : ndarray of float64, shape (G,)
    truth : ndarray of bool, shape (G,)
    image : ndarray of int, shape (G,)
        The image of each question: images are resampled, for the questions of one are alike.
    resamples : int
        0 for no intervals.
    rng : numpy.random.Generator
    thresholds : sequence of float
        Thresholds at which the curve is exact, however many probabilities differ.
    """
    threshold = np.unique(p)
    if len(threshold) > MAX_THRESHOLDS:
        ranks = np.linspace(0, len(threshold) - 1, MAX_THRESHOLDS).round().astype(int)
        exact = np.searchsorted(threshold, thresholds)
        threshold = threshold[np.union1d(ranks, exact[exact < len(threshold)])]
    images, row = np.unique(image, return_inverse=True)
    kept, right = (_at_or_above(p[flags], threshold) for flags in (np.full(len(p), True), truth))
    n_yes = int(np.count_nonzero(truth))
    drawn = draw_counts(max(len(images), 1), resamples, rng).astype(np.float32)
    ends = [
        _intervals(p, truth, row, threshold[i : i + _CHUNK], drawn) for i in range(0, len(threshold), _CHUNK)
    ]
    precision_lo, precision_hi, recall_lo, recall_hi = (
        (np.concatenate([np.empty(0), *column]) for column in zip(*ends, strict=True))
        if ends
        else (np.empty(0) for _ in range(4))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = right / kept, right / np.float64(n_yes)
    return Curve(
        threshold, precision, precision_lo, precision_hi, recall, recall_lo, recall_hi,
        kept, right, n_yes, len(p), len(images),
    )  # fmt: skip


def _at_or_above(p: Floats, threshold: Floats) -> npt.NDArray[np.int64]:
    return len(p) - np.searchsorted(np.sort(p), threshold)


def _intervals(
    p: Floats,
    truth: Bools,
    row: npt.NDArray[np.intp],
    threshold: Floats,
    drawn: Floats32,
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the ends of the intervals of precision and of recall at some thresholds."""
    if not len(drawn):
        nothing = np.full(len(threshold), np.nan)
        return nothing, nothing, nothing, nothing
    n = drawn.shape[1]
    kept = drawn @ _by_image(p, row, threshold, n)
    right = drawn @ _by_image(p[truth], row[truth], threshold, n)
    n_yes = drawn @ np.bincount(row[truth], minlength=n).astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = right / kept, right / n_yes[:, None]
    return (*percentile_interval(precision.T), *percentile_interval(recall.T))


def _by_image(p: Floats, row: npt.NDArray[np.intp], threshold: Floats, n: int) -> Floats32:
    """Return how many questions of each image are at or above each threshold, shape (n, T)."""
    size = len(threshold) + 1
    level = np.searchsorted(threshold, p, side="right")
    counts = np.bincount(row * size + level, minlength=n * size).reshape(n, size)
    # A question at level l is at or above the first l thresholds.
    above = counts[:, ::-1].cumsum(1)[:, ::-1][:, 1:]
    return np.asarray(above, np.float32)
