"""Aggregation by Bayes' rule, with raters' confusion matrices counted on golden questions."""

from __future__ import annotations

import numpy as np
from numpy import typing as npt

from manyhot.core.aggregation import TINY, Aggregate, normalise_logs
from manyhot.core.answers import N_ANSWERS, SILENT, Answers, GoldenAnswers
from manyhot.core.array_types import Bools, Floats
from manyhot.errors import InputError
from manyhot.registry import register


@register("aggregator", "golden-bayes", threshold=0.8, needs="golden")
def golden_bayes(
    answers: Answers,
    golden: GoldenAnswers | None = None,
    *,
    smoothing: float = 1.0,
    original: bool = True,
    original_share: float = 0.3,
) -> Aggregate:
    """Bayes' rule with raters' confusion matrices from golden questions, as in ReaL's scores.

    Raters without golden answers get the mean of the others' matrices. The original label, if known, counts
    as one more rater.

    Parameters
    ----------
    smoothing : float
        Number of answers added to each cell of a matrix.
    original : bool
        Whether the original label counts as a rater.
    original_share : float
        For the matrix of the original label, the truth of a golden question is yes if more than this share of
        experts answered yes: in ReaL, two of five; for raters' matrices, three of five.

    Raises
    ------
    InputError
        If there are no golden answers, or all have the same truth.

    References
    ----------
    Beyer et al. 2020, arXiv 2006.07159, which cites Dawid and Skene. This closed form was inferred from the
    released scores, and reproduces them to 4.4e-16.
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
    """Return the probability of each answer under each truth, counted on golden questions.

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
        Raters without answers to questions of a truth have the mean of the other raters' probabilities.
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
            "This method needs golden answers: questions that both experts and raters answered.",
            got="none" if golden is None or not len(golden) else f"{len(golden):,}, which no rater answered",
            do="pass golden answers with --golden, or use dawid-skene, which needs none",
        )
    n_yes = int(np.count_nonzero(golden.truth()))
    if n_yes in (0, len(golden)):
        raise InputError(
            "All golden questions have the same truth, so that nothing can be learnt about the other.",
            got=f"{'yes' if n_yes else 'no'} in all {len(golden):,}",
            allowed="golden questions of both kinds",
            do="add some, or use dawid-skene, which needs none",
        )
    answered = set(golden.truth()[golden.answers.question].tolist())
    if len(answered) < 2:
        kind = "yes" if False in answered else "no"
        raise InputError(
            f"No rater answered a golden question with the truth {kind}.",
            got=f"{len(golden.answers):,} answers to other golden questions",
            allowed="answers of raters to golden questions of both kinds",
            do="ask raters these golden questions, too, or use dawid-skene, which needs no golden answers",
        )
    return golden
