"""Aggregators that learn how good each rater is from the answers alone: Dawid and Skene's model and one-coin.

A rater has one confusion matrix for all classes, because with 1,000 classes no rater answers enough questions about
each. Matrices are drawn towards that of all raters, and the share of questions with the truth yes in each class towards
that in all classes, as strongly as the answers say (`manyhot.core.rater_prior`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from manyhot.core.aggregation import TINY, Aggregate
from manyhot.core.answers import MAYBE, N_ANSWERS, NO, YES, Answers, GoldenAnswers
from manyhot.core.array_types import Bools, Floats
from manyhot.core.expectation_maximisation import Fit, Patterns, maximise
from manyhot.core.rater_prior import shrunk_rows
from manyhot.errors import InputError
from manyhot.parameters import check_one_of
from manyhot.registry import register

_RIGHT, _WRONG = 4.0, 1.0
"""Prior counts in each cell of the pooled matrix: raters together are better than chance."""


@register("aggregator", "dawid-skene", threshold=0.8)
def dawid_skene(
    answers: Answers,
    golden: GoldenAnswers | None = None,
    *,
    truth: str = "binary",
    hard: bool = False,
    smoothing: float | None = None,
    iterations: int = 1000,
    tolerance: float = 1e-7,
) -> Aggregate:
    """Dawid-Skene: truths and one confusion matrix per rater, estimated by expectation maximisation.

    Parameters
    ----------
    truth : {"binary", "answers"}
        ``binary``: there are two truths, class in the image or not, and each of the three answers has a
        probability under both. ``answers``: there is one truth for each answer, as in Dawid and Skene, and
        `p` is the probability of yes.
    hard : bool
        Whether some questions are too hard, so that answers to them do not depend on the truth. Without it, the
        disagreement of raters on such questions makes raters look worse on all others.
    smoothing : float, optional
        Number of answers, distributed like those of all raters, that are added for each rater and truth, so that a
        rater with few answers is treated as an average rater. By default, the number is estimated from how much
        raters differ, and a rater may be unlike all others. 0 gives Dawid and Skene's own algorithm, in which an
        answer that a rater never gave has probability 0.
    iterations : int
        Maximum number of iterations.
    tolerance : float
        Iterations stop when an iteration changes the log-likelihood by at most this much per vote.

    Raises
    ------
    InputError
        If an option is out of range, or there are no votes.

    References
    ----------
    Dawid & Skene 1979, doi 10.2307/2346806. Deviations from the paper are two truths with three answers, the
    prior, and the share of yes in each class. The pooled matrix is updated in each iteration, so it is an
    empirical prior.
    """
    check_one_of(truth, ("binary", "answers"), "There is no such truth.")
    _check_options(answers, smoothing, iterations)
    start = answers.counts().astype(np.float64)
    if truth == "binary":
        start = start[:, [NO, YES]] + start[:, [MAYBE]] / 2
    symbol = answers.rater.astype(np.int64) * N_ANSWERS + answers.answer
    overall = answers.of_raters().sum(0) + 1.0
    if hard:
        start = _with_hard(start)

    def estimate(counts: Floats) -> Floats:
        rows = counts.reshape(answers.n_raters, N_ANSWERS, -1).transpose(0, 2, 1)
        if not hard:
            return _matrices(rows, smoothing)
        matrices = _matrices(rows[:, :-1], smoothing)
        anyhow = np.broadcast_to(overall / overall.sum(), (answers.n_raters, 1, N_ANSWERS))
        return np.concatenate([matrices, anyhow], 1)

    fit = _fitted(
        answers, symbol, answers.n_raters * N_ANSWERS, start, estimate, smoothing, iterations, tolerance
    )
    return _without_hard(fit) if hard else _aggregate(fit)


@register("aggregator", "one-coin", threshold=0.8)
def one_coin(
    answers: Answers,
    golden: GoldenAnswers | None = None,
    *,
    maybe: str = "own",
    smoothing: float | None = None,
    iterations: int = 1000,
    tolerance: float = 1e-7,
) -> Aggregate:
    """One-coin model: Dawid-Skene in which a rater's probability of being right does not depend on the truth.

    Parameters
    ----------
    maybe : {"own", "no", "yes"}
        ``own``: a maybe is an answer of its own, with the same probability under both truths. Otherwise, it is
        counted as a no or a yes.
    smoothing, iterations, tolerance
        As in `dawid_skene`; `smoothing` is the number of answers added for each rater.

    Raises
    ------
    InputError
        As in `dawid_skene`.
    """
    check_one_of(maybe, ("own", "no", "yes"), "There is no such reading of maybe.")
    _check_options(answers, smoothing, iterations)
    answer, n_answers = answers.answer.astype(np.int64), N_ANSWERS
    if maybe != "own":
        answer, n_answers = (answer >= (YES if maybe == "no" else MAYBE)).astype(np.int64), 2
    shape = (answers.n_questions, n_answers)
    counts = np.bincount(
        answers.question * np.int64(n_answers) + answer, minlength=shape[0] * shape[1]
    ).reshape(shape)
    start = counts[:, [0, -1]] + (counts[:, [MAYBE]] / 2 if n_answers == N_ANSWERS else 0.0)

    def estimate(counts: Floats) -> Floats:
        rows = counts.reshape(answers.n_raters, n_answers, 2).transpose(0, 2, 1)
        # Answers to questions with the truth yes, in reverse order, are answers to questions with the truth no.
        tied = _matrices((rows[:, :1] + rows[:, 1:, ::-1]), smoothing)
        return np.concatenate([tied, tied[..., ::-1]], 1)

    symbol = answers.rater.astype(np.int64) * n_answers + answer
    size = answers.n_raters * n_answers
    return _aggregate(_fitted(answers, symbol, size, start, estimate, smoothing, iterations, tolerance))


def _fitted(
    answers: Answers,
    symbol: np.ndarray,
    n_symbols: int,
    start: Floats,
    estimate: Callable[[Floats], Floats],
    smoothing: float | None,
    iterations: int,
    tolerance: float,
) -> Fit:
    group = None if smoothing == 0 else answers.group
    return maximise(
        Patterns.of(answers.question, symbol, answers.n_questions, n_symbols, group),
        start,
        estimate,
        added=float(smoothing != 0),
        iterations=iterations,
        tolerance=tolerance,
        accelerate=smoothing is None,
    )


def _aggregate(fit: Fit) -> Aggregate:
    return Aggregate(
        fit.posterior[-1], fit.matrices, fit.prior, fit.iterations, fit.converged, fit.log_likelihood
    )


def _matrices(counts: Floats, smoothing: float | None) -> Floats:
    """Return matrices (R, K, A) from expected counts of the same shape."""
    n_truths, n_answers = counts.shape[1:]
    pooled = counts.sum(0) + _before_any(n_truths, n_answers)
    pooled /= pooled.sum(1, keepdims=True)
    if smoothing is None:
        return shrunk_rows(
            counts, pooled, pooled[:, ::-1] if n_truths < n_answers or n_answers == 2 else None
        )
    rows = counts + smoothing * pooled
    total = rows.sum(2, keepdims=True)
    return np.where(total > 0, rows / np.maximum(total, TINY), 1 / n_answers)


def _before_any(n_truths: int, n_answers: int) -> Floats:
    """Return the prior counts of the pooled matrix, shape (K, A), in which right answers are more likely."""
    cells = np.full((n_truths, n_answers), _WRONG)
    right = np.linspace(0, n_answers - 1, n_truths).astype(int)
    cells[np.arange(n_truths), right] = _RIGHT
    return cells


def _with_hard(start: Floats) -> Floats:
    """Return initial posteriors with one more truth: the question is hard."""
    share = start / np.maximum(start.sum(1, keepdims=True), TINY)
    hard = 0.5 * (1 - np.abs(share[:, -1] - share[:, 0]))
    return np.concatenate([share * (1 - hard[:, None]), hard[:, None]], 1)


def _without_hard(fit: Fit) -> Aggregate:
    """Return the result with hard questions as likely yes as others."""
    prior = fit.prior[:-1] / fit.prior[:-1].sum()
    p = fit.posterior[-2] + fit.posterior[-1] * prior[-1]
    return Aggregate(p, fit.matrices[:, :-1], prior, fit.iterations, fit.converged, fit.log_likelihood)


def _check_options(answers: Answers, smoothing: float | None, iterations: int) -> None:
    if not len(answers):
        raise InputError("There are no votes.")
    if smoothing is not None and not smoothing >= 0:
        raise InputError("Smoothing is negative or not a number.", got=smoothing, allowed="0 or more")
    if iterations < 1:
        raise InputError("There are no iterations.", got=iterations, allowed="1 or more")


FOLDS = 5
"""Parts of the answers that are held out in turn to choose a method."""

MOST_HELD_OUT = 20_000
"""Number of questions on which methods are compared; more would change nothing but the time."""

_NEGLIGIBLE = 1e-3
"""A model with a smaller weight is left out."""


@register("aggregator", "auto", threshold=0.8)
def auto(
    answers: Answers,
    golden: GoldenAnswers | None = None,
    *,
    iterations: int = 1000,
    tolerance: float = 1e-7,
    seed: int = 0,
) -> Aggregate:
    """Mean of Dawid-Skene with hard questions and one-coin, weighted by how well they predict held-out answers.

    With many answers, the weight of one of the two is 1. One-coin needs fewer answers, but it does not understand
    raters who miss many classes and seldom see too many, and Dawid-Skene does.

    Parameters
    ----------
    iterations, tolerance
        As in `dawid_skene`.
    seed : int
        Seed of the parts into which the answers are divided.

    Raises
    ------
    InputError
        As in `dawid_skene`.

    References
    ----------
    The weights are pseudo-Bayesian, from cross-validation: Yao et al. 2018, doi 10.1214/17-BA1091, equation 8
    without the bootstrap.
    """
    _check_options(answers, None, iterations)
    models: dict[str, Callable[..., Aggregate]] = {"dawid-skene(hard=True)": _hard, "one-coin": one_coin}
    fits = np.array([_held_out(answers, model, seed) for model in models.values()])
    weights = np.exp(fits - fits.max())
    weights /= weights.sum()
    weights[weights < _NEGLIGIBLE] = 0
    weights /= weights.sum()
    found = [
        (weight, model(answers, iterations=iterations, tolerance=tolerance))
        for weight, model in zip(weights, models.values(), strict=True)
        if weight
    ]
    return Aggregate(
        _mean([(w, each.p) for w, each in found]),
        _mean([(w, each.matrices) for w, each in found]),
        _mean([(w, each.prior) for w, each in found]),
        max(each.iterations for _, each in found),
        all(each.converged for _, each in found),
        float(sum(w * each.log_likelihood for w, each in found)),
        weights=dict(zip(models, weights.tolist(), strict=True)),
    )


def _hard(answers: Answers, *, iterations: int = 1000, tolerance: float = 1e-7) -> Aggregate:
    return dawid_skene(answers, hard=True, iterations=iterations, tolerance=tolerance)


def _mean(values: list[tuple[float, Floats | None]]) -> Floats:
    return np.sum([weight * np.asarray(value) for weight, value in values], axis=0)


def _held_out(answers: Answers, model: Callable[..., Aggregate], seed: int) -> float:
    """Return the log-likelihood of answers that were held out, in parts, by a model that was fitted to the rest."""
    rng = np.random.default_rng(seed)
    answers = _some_questions(answers, rng)
    part = rng.integers(0, FOLDS, len(answers))
    total = 0.0
    for i in range(FOLDS):
        inside = part != i
        if not inside.any() or inside.all():
            continue
        fit = model(_subset(answers, inside), tolerance=1e-5)
        assert fit.matrices is not None
        out = ~inside
        p = fit.p[answers.question[out]]
        likelihood = fit.matrices[answers.rater[out], :, answers.answer[out]]
        total += float(np.log((1 - p) * likelihood[:, 0] + p * likelihood[:, 1]).sum())
    return total


def _some_questions(answers: Answers, rng: np.random.Generator) -> Answers:
    """Return the answers to at most `MOST_HELD_OUT` questions."""
    if answers.n_questions <= MOST_HELD_OUT:
        return answers
    chosen = np.zeros(answers.n_questions, bool)
    chosen[rng.choice(answers.n_questions, MOST_HELD_OUT, replace=False)] = True
    inside = chosen[answers.question]
    number = np.cumsum(chosen) - 1
    return Answers(
        number[answers.question[inside]],
        answers.rater[inside],
        answers.answer[inside],
        MOST_HELD_OUT,
        answers.n_raters,
        group=None if answers.group is None else answers.group[chosen],
    )


def _subset(answers: Answers, inside: Bools) -> Answers:
    return replace(
        answers, question=answers.question[inside], rater=answers.rater[inside], answer=answers.answer[inside]
    )
