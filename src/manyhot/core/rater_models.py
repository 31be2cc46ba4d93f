"""Models of raters: how the answers of a rater depend on the truth, and how they are fitted to votes.

There are two models: one with a row of probabilities for each truth (Dawid and Skene), and one with a single
row for both truths (one-coin). Both are fitted by `manyhot.core.expectation_maximisation`, under the prior of
raters in `manyhot.core.dirichlet_priors`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy.special import logsumexp

from manyhot.core.aggregation import TINY, Aggregate, with_added
from manyhot.core.answers import MAYBE, N_ANSWERS, NO, YES, Answers
from manyhot.core.array_types import AnyFloats, Floats, Floats32, Ints
from manyhot.core.dirichlet_priors import CENTRE, RaterPrior, log_marginal
from manyhot.core.expectation_maximisation import Fit, Patterns, maximise

_RIGHT, _WRONG = 4.0, 1.0
"""Prior counts in each cell of the pooled matrix: raters as a whole are better than chance."""

_QUESTIONS = 2.0
"""Number of questions per truth before any is counted, if the strength of the prior is estimated.

With one, the accuracy on 20 questions answered by 5 raters is 0.7 points below that of a majority; with two,
0.3 points. With five, the log loss rises where only 3 % of the truths are yes.
"""

_GUESSES = 0.25
"""Share of the answers to hard questions that are guesses, with yes as probable as no, in one-coin.

The others are like all answers. If all were guesses, classes in the image would seem hard where raters miss
half of them.
"""


@dataclass(frozen=True, eq=False)
class RaterModel:
    """A model of raters, with the votes to which it is fitted.

    Attributes
    ----------
    answer : ndarray of int, shape (m,)
        The code of each vote, from 0 to A - 1. If the model counts a maybe as a no or a yes, it has the code
        of that answer.
    start : ndarray of float, shape (Q, T)
        Initial posteriors of T truths, up to a factor per question.
    n_answers : int
        A.
    tied : bool
        Whether a rater's row under the truth no is the reverse of the row under the truth yes.
    hard : ndarray of float64, shape (A,), optional
        Probability of each answer to a hard question, by any rater. The last truth then means that a question
        is hard.
    before : ndarray of float64, shape (R, 2, A), optional
        Earlier answers of each rater under the truths no and yes, which count like the votes.
    """

    answers: Answers
    answer: Ints
    start: AnyFloats
    n_answers: int = N_ANSWERS
    tied: bool = False
    hard: Floats | None = None
    before: Floats | None = None

    @classmethod
    def dawid_skene(cls, answers: Answers, *, truth: str = "binary", hard: bool = False) -> RaterModel:
        """Return the model with one row per truth, set up with the options of the aggregator."""
        counts = answers.counts()
        start = counts.astype(np.float32) if truth == "answers" else _halved(counts)
        model = cls(answers, answers.answer, start, before=earlier_answers(answers))
        return model.with_hard(counts) if hard else model

    @classmethod
    def one_coin(cls, answers: Answers, *, maybe: str = "own", hard: bool = False) -> RaterModel:
        """Return the model with one row for both truths, set up with the options of the aggregator."""
        counts, before = answers.counts(), earlier_answers(answers)
        if maybe == "own":
            model = cls(answers, answers.answer, _halved(counts), tied=True, before=before)
            return model.with_hard(counts) if hard else model
        yes = YES if maybe == "no" else MAYBE
        counts = np.add.reduceat(counts, [0, yes], 1)
        before = None if before is None else np.add.reduceat(before, [0, yes], 2)
        answer = (answers.answer >= yes).astype(np.int8)
        model = cls(answers, answer, counts.astype(np.float32), 2, tied=True, before=before)
        return model.with_hard(counts) if hard else model

    def with_hard(self, counts: Ints) -> RaterModel:
        """Return the model with hard questions. `counts` contains the number of each answer, shape (Q, A)."""
        overall = counts.sum(0) + 1.0
        share = _GUESSES if self.tied else 0.0
        hard = (1 - share / 2) * overall + share / 2 * overall[::-1]
        return replace(self, start=_with_hard(self.start), hard=hard / hard.sum())

    def untied(self) -> RaterModel:
        """Return the model of the same answers with one row per truth."""
        return replace(self, tied=False)

    def refit(self, posterior: Floats) -> Fit:
        """Return the fit of the raters to given truths, shape (T, Q), under the raters' prior."""
        return replace(self, start=posterior.T).fit(iterations=1)

    def fit(
        self,
        smoothing: float | None = None,
        iterations: int = 1000,
        tolerance: float = 1e-7,
        guess: Fit | None = None,
    ) -> Fit:
        """Fit the model with the options of the aggregators. Iterations start from `guess`, if passed."""
        size = self.answers.n_raters * self.n_answers
        symbol = self.answers.rater.astype(np.int32) * self.n_answers + self.answer.astype(np.int32)
        group = None if smoothing == 0 else self.answers.group
        return maximise(
            Patterns.of(self.answers.question, symbol, self.answers.n_questions, size, group),
            self.start if guess is None else (guess.matrices, guess.prior),
            lambda counts: self._matrices(counts, smoothing),
            added=_QUESTIONS if smoothing is None else float(smoothing != 0),
            iterations=iterations,
            tolerance=tolerance,
            accelerate=smoothing is None,
        )

    def aggregate(self, fit: Fit) -> Aggregate:
        """Return a fit as an aggregator's result. Hard questions are assumed to be yes as often as others."""
        p, prior, matrices = fit.posterior[-1], fit.prior, fit.matrices
        if self.hard is not None:
            prior, matrices = prior[:-1] / prior[:-1].sum(), matrices[:, :-1]
            p = fit.posterior[-2] + fit.posterior[-1] * prior[-1]
        course = fit.iterations, fit.converged, fit.log_likelihood
        return Aggregate(p, matrices, prior, *course, counts=self._answers(fit) if len(prior) == 2 else None)

    def _answers(self, fit: Fit) -> Floats:
        """Return the expected number of each answer of each rater under no and yes, shape (R, 2, 3)."""
        counts = fit.counts.reshape(self.answers.n_raters, self.n_answers, -1).transpose(0, 2, 1)[:, :2]
        return counts if self.n_answers == N_ANSWERS else np.insert(counts, MAYBE, 0, axis=2)

    def held_out(self, fit: Fit) -> Floats:
        """Return the log-likelihood of the votes on each question, as if the question had not been fitted.

        The votes are removed from the counts of their raters. Their contributions to the posteriors of other
        questions and to parameters that raters share are kept, so that no further fit is needed.

        Returns
        -------
        ndarray of float64, shape (Q,)

        References
        ----------
        Vehtari et al. 2016, Bayesian leave-one-out cross-validation approximations for Gaussian latent
        variable models, JMLR 17(103), who approximate the distribution without an observation in the same
        way.
        """
        question, rater, answer = self.answers.question, self.answers.rater, self.answer.astype(np.intp)
        posterior = fit.posterior[:, question]
        counts = self._rows(self._counts(posterior))
        likelihood = fit.matrices[rater, :, answer].T
        n_truths = len(posterior) - (self.hard is not None)
        mirrored = self.n_answers - 1 - answer
        likelihood[:n_truths] = RaterPrior.of(counts, *_pooled(counts)).without(
            counts,
            rater,
            np.zeros(n_truths, np.intp) if self.tied else np.arange(n_truths),
            np.stack([answer, mirrored]) if self.tied else np.tile(answer, (n_truths, 1)),
            posterior[:n_truths],
        )
        logs, n = np.log(np.maximum(likelihood, TINY)), self.answers.n_questions
        scores = np.stack([np.bincount(question, each, n) for each in logs])
        group = self.answers.group if len(fit.shares) > 1 else None
        prior = fit.shares.T if group is None else fit.shares[group].T
        return np.asarray(logsumexp(scores + np.log(np.maximum(prior, TINY)), axis=0))

    def _counts(self, posterior: Floats) -> Floats:
        """Return the expected counts of each rater's answers under each truth, shape (R * A, T)."""
        size = self.answers.n_raters * self.n_answers
        symbol = self.answers.rater.astype(np.int64) * self.n_answers + self.answer
        return np.stack([np.bincount(symbol, each, size) for each in posterior], 1)

    def _rows(self, counts: Floats) -> Floats:
        """Return the counts in each row of the raters' matrices that is estimated, shape (R, K, A)."""
        rows = counts.reshape(self.answers.n_raters, self.n_answers, -1).transpose(0, 2, 1)
        rows = rows if self.hard is None else rows[:, :-1]
        rows = rows if self.before is None else rows + self.before
        return rows[:, :1] + rows[:, 1:, ::-1] if self.tied else rows

    def _matrices(self, counts: Floats, smoothing: float | None) -> Floats:
        """Return the matrices, shape (R, T, A), from expected counts, shape (R * A, T)."""
        rows = self._rows(counts)
        pooled, opposite = _pooled(rows)
        if smoothing is None:
            matrices = RaterPrior.of(rows, pooled, opposite).matrices(rows)
        else:
            matrices = with_added(rows, smoothing * pooled)
        if self.tied:
            matrices = np.concatenate([matrices, matrices[..., ::-1]], 1)
        if self.hard is None:
            return matrices
        anyhow = np.broadcast_to(self.hard, (len(matrices), 1, self.n_answers))
        return np.concatenate([matrices, anyhow], 1)


def chance(answers: Answers) -> tuple[Floats, Floats]:
    """Return the model in which answers do not depend on the truth.

    Returns
    -------
    matrices : ndarray of float64, shape (R, 3)
        Probability of each answer of each rater.
    held_out : ndarray of float64, shape (Q,)
        The log-likelihood of the votes on each question, as if the model had been fitted without them.
    """
    counts, before = answers.of_raters()[:, None].astype(np.float64), earlier_answers(answers)
    if before is not None:
        counts += before.sum(1, keepdims=True)
    pooled = counts.sum(0) + 1
    prior = RaterPrior.of(counts, pooled / pooled.sum())
    answer, certain = answers.answer.astype(np.intp)[None], np.ones((1, len(answers)))
    held_out = prior.without(counts, answers.rater, np.zeros(1, np.intp), answer, certain)
    of_questions = np.bincount(answers.question, np.log(held_out[0]), answers.n_questions)
    return prior.matrices(counts)[:, 0], np.asarray(of_questions, np.float64)


def earlier_answers(answers: Answers) -> Floats | None:
    """Return the earlier answers of each rater under the truths no and yes, shape (R, 2, 3)."""
    if answers.history is None:
        return None
    return answers.history.matrices(answers.n_raters, N_ANSWERS)[:, [NO, YES]]


def history_gain(answers: Answers) -> float:
    """Return the log likelihood ratio of earlier answers: dependent on, versus independent of, the truth."""
    apart = earlier_answers(answers)
    if apart is None:
        return 0.0
    together = apart.sum(1, keepdims=True)
    pooled, overall = _pooled(apart)[0], together.sum(0) + 1
    strength = np.exp(CENTRE)
    gain = log_marginal(apart, strength * pooled) - log_marginal(together, strength * overall / overall.sum())
    return float(gain.sum())


def _halved(counts: Ints) -> Floats32:
    """Return the numbers of no and yes answers to each question, with a maybe as half of each."""
    start: Floats32 = counts[:, [NO, YES]].astype(np.float32)
    start += counts[:, [MAYBE]].astype(np.float32) / 2
    return start


def _with_hard(start: Floats32) -> Floats32:
    """Return initial posteriors with one more truth: the question is hard."""
    share = start / np.maximum(start.sum(1, keepdims=True), np.float32(0.5))
    hard = (1 - np.abs(share[:, -1] - share[:, 0])) / 2
    share *= 1 - hard[:, None]
    return np.concatenate([share, hard[:, None]], 1)


def _pooled(rows: Floats) -> tuple[Floats, Floats | None]:
    """Return the matrix of all raters, shape (K, A), and, if there is one, that of the opposite."""
    n_truths, n_answers = rows.shape[1:]
    pooled = rows.sum(0) + _before(n_truths, n_answers)
    pooled /= pooled.sum(1, keepdims=True)
    return pooled, pooled[:, ::-1] if n_truths < n_answers else None


@cache  # a fit asks for it in each of some hundred iterations
def _before(n_truths: int, n_answers: int) -> Floats:
    cells = np.full((n_truths, n_answers), _WRONG)
    cells[np.arange(n_truths), np.linspace(0, n_answers - 1, n_truths).astype(int)] = _RIGHT
    return cells
