"""Aggregation: from the answers of several raters to the probability that a class is in an image.

An aggregator is a function of answers and golden questions that returns an `Aggregate`. This module contains
the aggregators that count answers or learn from golden questions. Those that learn from the answers alone are
in `manyhot.core.dawid_skene`. The minimum probability of a class that counts as valid is chosen on a
`manyhot.core.threshold_curve.Curve`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import typing as npt

from manyhot.core.answers import MAYBE, N_ANSWERS, NO, SILENT, YES, Answers, GoldenAnswers, History
from manyhot.core.array_types import Bools, Floats, Ints64
from manyhot.errors import InputError
from manyhot.parameters import check_one_of
from manyhot.registry import register

MAYBES = {"no": 0.0, "half": 0.5, "yes": 1.0}
"""Weight of a maybe, as a share of a yes."""

TINY = 1e-300
"""Replaces a probability of 0, whose logarithm is infinite."""

BLOCK_SIZE = 1 << 18
"""Number of values that are computed at once. Larger blocks of votes need more memory and more time."""


@dataclass(frozen=True)
class Aggregate:
    """The result of an aggregator.

    Attributes
    ----------
    p : ndarray of float64, shape (Q,)
        Probability that the class is in the image; NaN if unknown.
    matrices : ndarray of float64, shape (R, K, 3), optional
        Each rater's probability of giving each answer under each of K truths, the last of which is yes. If a
        maybe is counted as a yes or a no, the shape is (R, 2, 2). None if the method has no matrices.
    prior : ndarray of float64, shape (K,), optional
        Probability of each truth.
    iterations : int
        Number of iterations; 0 for methods without iterations.
    log_likelihood : float
        Natural logarithm of the likelihood of the answers under `matrices` and `prior`; NaN if the method has
        no likelihood.
    weights : dict of str to float, optional
        Weight of each model, if the result is a weighted mean of several models.
    counts : ndarray of float64, shape (R, 2, 3), optional
        Expected number of each answer of each rater under the truths no and yes; None if the method has no
        model of raters with two truths. Answers to hard questions are not included.
    """

    p: Floats
    matrices: Floats | None = None
    prior: Floats | None = None
    iterations: int = 0
    converged: bool = True
    log_likelihood: float = float("nan")
    weights: dict[str, float] | None = None
    counts: Floats | None = None


def expected_answers(answers: Answers, result: Aggregate) -> History:
    """Return the expected number of times that each rater gave each answer under the truths no and yes.

    Without a model of raters, the answers to each question are weighted by its `p`.
    """
    n, counts = answers.n_raters, np.zeros((answers.n_raters, N_ANSWERS, N_ANSWERS))
    if result.counts is not None:
        counts[:, [NO, YES]] = result.counts
    else:
        cells = answers.rater.astype(np.int64) * N_ANSWERS + answers.answer
        counts[:, YES] = np.bincount(cells, result.p[answers.question], n * N_ANSWERS).reshape(n, -1)
        counts[:, NO] = answers.of_raters() - counts[:, YES]
    return History.of_matrices(counts)


@register("aggregator", "majority", threshold=0.5)
def majority(answers: Answers, golden: GoldenAnswers | None = None, *, maybe: str = "no") -> Aggregate:
    """Majority vote: 1 if more than half of the answers are yes, 0 if less than half, 0.5 if exactly half.

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
    check_one_of(maybe, MAYBES, "There is no such reading of maybe.")
    total = counts.sum(1)
    with np.errstate(invalid="ignore"):
        share: Floats = (counts[:, YES] + MAYBES[maybe] * counts[:, MAYBE]) / total
    return Aggregate(share)


@register("aggregator", "source-share", threshold=0.501, unclear_from=0.5)
def source_share(answers: Answers, golden: GoldenAnswers | None = None) -> Aggregate:
    """Share of yes answers to a question, for sources with one vote each; a maybe counts as half a yes.

    A class is valid if its share is more than one half, and unclear if it is exactly one half. For up to 250
    answers, the threshold of 0.501 means more than half.
    """
    return yes_share(answers, golden, maybe="half")


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

    Raters without golden answers get the mean of the other raters' matrices. If the original label is known,
    it counts as an additional rater.

    Parameters
    ----------
    smoothing : float
        Number of pseudo-answers added to each cell of a matrix.
    original : bool
        Whether to count the original label as a rater.
    original_share : float
        When the matrix of the original label is estimated, a golden question has the truth yes if more than
        this share of the experts answered yes: by default, at least two of ReaL's five experts. For the
        matrices of raters, more than half of the experts must have answered yes, that is, at least three of
        the five.

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
    share = _share_of_yes(golden, truth)
    prior = np.array([1 - share, share])
    scores = np.log(prior)[:, None] + _log_evidence(answers, matrices)
    if original and answers.original is not None and golden.answers.original is not None:
        matrix = _original_matrix(golden, original_share, smoothing)
        has_label = answers.original != SILENT
        scores[:, has_label] += np.log(matrix)[:, answers.original[has_label].astype(np.intp)]
    posterior, log_likelihood = normalise_logs(scores)
    return Aggregate(posterior[1], matrices, prior, log_likelihood=float(log_likelihood.sum()))


def _share_of_yes(golden: GoldenAnswers, truth: Bools) -> float:
    """Return how often the truth is yes on golden questions that raters answered.

    Experts may also have answered all other classes of an image, which nobody proposes.
    """
    answered = golden.answers.counts().sum(axis=1) > 0
    share = float(truth[answered].mean()) if answered.any() else 0.0
    return share if 0 < share < 1 else float(truth.mean())


def normalise_logs(scores: Floats) -> tuple[Floats, Floats]:
    """Return posteriors, shape (K, n), and their log normalisers, shape (n,), from log scores.

    Truths are on the first axis, because summing over an inner axis of length three takes ten times as long.
    """
    most = scores.max(0)
    posterior = scores - most
    np.exp(posterior, out=posterior)
    total = posterior.sum(0)
    posterior /= total
    return posterior, most + np.log(total)


def with_added(rows: Floats, added: Floats) -> Floats:
    """Return matrices, shape (R, K, A), from expected counts and the counts added to each rater's."""
    counts = rows + added
    total = counts.sum(2, keepdims=True)
    return np.asarray(np.where(total > 0, counts / np.maximum(total, TINY), 1 / rows.shape[-1]))


def vote_blocks(n_votes: npt.NDArray[Any], columns: int = 1) -> list[tuple[slice, slice]]:
    """Return blocks of questions with at most `BLOCK_SIZE` values per block, and the votes of each block.

    Parameters
    ----------
    n_votes : ndarray, shape (Q,)
        Number of votes on each question. Votes are sorted by question. All votes on a question are in the
        same block.
    columns : int
        Number of values per vote.
    """
    ends = np.concatenate([[0], np.cumsum(n_votes)])
    blocks: list[tuple[slice, slice]] = []
    start = 0
    while start < len(n_votes) or not blocks:
        last = int(np.searchsorted(ends, ends[start] + BLOCK_SIZE // columns, side="right")) - 1
        stop = min(max(last, start + 1), len(n_votes))
        blocks.append((slice(start, stop), slice(int(ends[start]), int(ends[stop]))))
        start = stop
    return blocks


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


def golden_counts(answers: Answers, truth: Bools) -> Ints64:
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
            "This method needs golden answers: experts' answers to questions that raters also answered.",
            got="none" if golden is None or not len(golden) else f"{len(golden):,}, which no rater answered",
            do="pass golden answers as `golden`, or use dawid-skene, which needs no golden answers",
        )
    n_yes = int(np.count_nonzero(golden.truth()))
    if n_yes in (0, len(golden)):
        raise InputError(
            "All golden questions have the same truth, so nothing can be estimated for the other truth.",
            got=f"{'yes' if n_yes else 'no'} in all {len(golden):,}",
            allowed="some golden questions with the truth yes and some with the truth no",
            do="add questions with the other truth, or use dawid-skene, which needs no golden answers",
        )
    answered = set(golden.truth()[golden.answers.question].tolist())
    if len(answered) < 2:
        kind = "yes" if False in answered else "no"
        raise InputError(
            f"No rater answered a golden question with the truth {kind}.",
            got=f"{len(golden.answers):,} answers, all to golden questions with the other truth",
            allowed="raters' answers to golden questions with the truth yes and to others with the truth no",
            do=f"ask raters golden questions with the truth {kind}, too, or use dawid-skene, which needs no "
            "golden answers",
        )
    return golden
