"""Next questions: which questions would change by further answers, and which are settled.

A question is an (image, class) pair. Its log odds are those that the class is in the image, given the answers
so far. An answer adds the logarithm of the ratio of its probabilities, by the rater, under both truths. The
state is yes if the probability is at least a threshold. All results are exact for answers that are
independent given the truth, as assumed by Dawid and Skene (1979).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy import typing as npt
from scipy.special import entr, expit, gammaln, logit

from manyhot.core.array_types import Bools, Floats, Ints, Ints64, Positions
from manyhot.errors import InputError
from manyhot.parameters import check_share

Ranking = Literal["expected-change", "entropy", "disagreement"]

RANKINGS: tuple[str, ...] = get_args(Ranking)
"""Scores by which questions are ranked."""

MAX_AHEAD = 50
"""Maximum number of further answers: with three kinds of answers, they have 1,326 outcomes."""


def log_ratios(quality: Floats) -> Floats:
    """Return the contribution of each answer to the log odds that a class is valid, shape (…, A).

    Parameters
    ----------
    quality : ndarray of float64, shape (…, 2, A)
        Probability of each answer of a rater if the class is not in the image, and if it is in the image.

    Raises
    ------
    InputError
        If a value in `quality` is not a probability, or is 0. With 0, a single answer would settle a
        question.
    """
    if not (np.isfinite(quality).all() and quality.min() > 0 and quality.max() <= 1):
        raise InputError(
            "The quality of a rater is not a matrix of probabilities above 0.",
            got=f"{np.min(quality):g} to {np.max(quality):g}",
            allowed="above 0, at most 1",
            do="smooth the counts: for k of N answers, use (k + 1) / (N + 3)",
        )
    return np.asarray(np.log(quality[..., 1, :]) - np.log(quality[..., 0, :]))


def average_rater(quality: Floats, weights: npt.NDArray[Any] | None = None) -> Floats:
    """Return the mean of the raters' matrices, which is the quality of an unknown rater, shape (2, A).

    Parameters
    ----------
    quality : ndarray of float64, shape (R, 2, A)
    weights : ndarray, shape (R,), optional
        Relative probability that each rater gives the next answer, such as the rater's number of answers so
        far.
    """
    return np.asarray(np.average(quality, axis=0, weights=weights), np.float64)


def flip_probability(odds: Floats, rater: Floats, *, ahead: int, threshold: float = 0.8) -> Floats:
    """Return the probability that the state of a question changes after `ahead` further answers, shape (Q,).

    The probability is exact: it is the sum over all outcomes of the further answers, weighted by their
    probabilities given the answers so far.

    Parameters
    ----------
    odds : ndarray of float64, shape (Q,)
        Log odds that the class is in the image, given the answers so far.
    rater : ndarray of float64, shape (2, A)
        The quality of the next raters.
    ahead : int
        Number of answers, from 0 to `MAX_AHEAD`.
    threshold : float
        Minimum probability of the state yes.

    Raises
    ------
    InputError
        If `ahead` or `threshold` is out of range, and as in `log_ratios`.
    """
    _check_threshold(threshold)
    return AnswerOutcomes.of(rater, ahead).flips(odds, threshold)


def expected_change(
    odds: Floats, rater: Floats, *, ahead: npt.ArrayLike = 1, threshold: float = 0.8
) -> Floats:
    """Return the expected change in the label sets per answer to each question, shape (Q,).

    With ``ahead=1``, this is the probability that the next answer changes the state. This probability cannot
    rank most new questions: it is 0 for all of them, because a single answer cannot change their state. With
    ``ahead=n``, the result is the maximum, over 1, 2, … n answers, of the probability of a change divided by
    the number of answers.

    Parameters
    ----------
    odds, rater, threshold
        As in `flip_probability`.
    ahead : int or array_like of int, shape (Q,)
        Maximum number of answers to look ahead, for example the maximum number of further answers to a
        question.

    References
    ----------
    Frazier & Powell 2010, Paradoxes in learning and the marginal value of information, Decision Analysis 7,
    doi 10.1287/deca.1100.0190. If information must accumulate before it is useful, a single step has no
    value, but the best rate over several steps is positive. In the paper, the value is a reward; here, it is
    the probability that the label set changes.
    """
    _check_threshold(threshold)
    steps = np.broadcast_to(np.asarray(ahead), odds.shape)
    best = np.zeros(len(odds))
    for n in range(1, _checked_ahead(int(steps.max(initial=0))) + 1):
        here = np.flatnonzero(steps >= n)
        best[here] = np.maximum(best[here], AnswerOutcomes.of(rater, n).flips(odds[here], threshold) / n)
    return best


def entropy(odds: Floats) -> Floats:
    """Return the entropy of each question's state in bits, shape (Q,). It is 1 for p = 0.5."""
    p, q = expit(odds), expit(-odds)
    return np.asarray((entr(p) + entr(q)) / np.log(2))


def disagreement(counts: Ints) -> Floats:
    """Return the entropy of the answers to each question, in bits, after adding one answer of each kind.

    Because of the added answers (Laplace's rule), questions without answers come first, and three equal
    answers are stronger evidence than a single answer.

    Parameters
    ----------
    counts : ndarray of int, shape (Q, A)
        Number of raters who gave each answer.

    Returns
    -------
    ndarray of float64, shape (Q,)

    References
    ----------
    Dagan & Engelson 1995, Committee-based sampling for training probabilistic classifiers (vote entropy).
    """
    share = (counts + 1.0) / (counts.sum(1, keepdims=True) + counts.shape[1])
    return np.asarray(entr(share).sum(1) / np.log(2))


def settled(
    odds: Floats,
    rater: Floats,
    left: npt.ArrayLike,
    *,
    threshold: float = 0.8,
    at_most: float = 0.0,
    sure: float = 1.0,
) -> Bools:
    """Return which questions need no further answers, shape (Q,).

    A question is settled if its probability is at least `sure` or at most ``1 - sure``. It is also settled if
    the remaining answers change its state with a probability of at most `at_most`. With ``at_most=0``, this
    means that no sequence of answers can change the state.

    Parameters
    ----------
    odds, rater, threshold
        As in `flip_probability`.
    left : int or array_like of int, shape (Q,)
        Number of answers that can still be requested. A question without remaining answers is settled.
    at_most : float
        Accepted probability of a change.
    sure : float
        Probability at which a question is settled. With 1, no question is settled by its probability alone.

    Raises
    ------
    InputError
        If `left` is negative or above `MAX_AHEAD`, and as in `log_ratios`.
    """
    _check_threshold(threshold)
    remaining = np.broadcast_to(np.asarray(left), odds.shape)
    done = np.abs(odds) >= logit(sure) if sure < 1 else np.zeros(len(odds), bool)
    for n in np.unique(remaining):
        here = np.flatnonzero(remaining == n)
        done[here] |= AnswerOutcomes.of(rater, int(n)).flips(odds[here], threshold) <= at_most
    return np.asarray(done)


def choose_questions(score: Floats, budget: int, open_: Bools | None = None) -> Positions:
    """Return the questions to ask next, sorted by descending score. Ties keep their original order.

    Parameters
    ----------
    score : ndarray of float64, shape (Q,)
    budget : int
        Maximum number of questions.
    open_ : ndarray of bool, shape (Q,), optional
        Questions that can be asked; all by default.

    Returns
    -------
    ndarray of int, shape (at most `budget`,)

    Raises
    ------
    InputError
        If the budget is negative.
    """
    if budget < 0:
        raise InputError("The budget is negative.", got=budget, allowed="0 or more")
    among = np.arange(len(score)) if open_ is None else np.flatnonzero(open_)
    order = np.argsort(-score[among], kind="stable")[:budget]
    return np.asarray(among[order])


@dataclass(frozen=True, eq=False)
class AnswerOutcomes:
    """The possible outcomes of a given number of further answers, by ascending contribution to the log odds.

    Attributes
    ----------
    added : ndarray of float64, shape (K,)
        Contribution of each outcome. Outcomes with equal sums are separate.
    below, above : ndarray of float64, shape (2, K + 1)
        Probability of the first k outcomes, and of the other outcomes, if the class is not in the image (row
        0) and if it is in the image (row 1). Both are computed as sums rather than as 1 minus the other, so
        that impossible outcomes have a probability of exactly 0.
    """

    added: Floats
    below: Floats
    above: Floats

    @classmethod
    def of(cls, rater: Floats, n: int) -> AnswerOutcomes:
        """Return the outcomes of n answers of raters with the same quality, shape (2, A).

        Raises
        ------
        InputError
            If n is out of range, and as in `log_ratios`.
        """
        ratios, counts = log_ratios(rater), _compositions(_checked_ahead(n), rater.shape[1])
        # Rows of counts, not sequences: five answers of three kinds are 21 rows and 243 sequences.
        ways = gammaln(n + 1) - gammaln(counts + 1).sum(1)
        added = (counts * ratios).sum(1)
        chance = np.exp(ways + (counts[None] * np.log(rater)[:, None]).sum(2))
        order = np.argsort(added, kind="stable")
        nothing = np.zeros((2, 1))
        below = np.concatenate([nothing, np.cumsum(chance[:, order], axis=1)], axis=1)
        above = np.concatenate([nothing, np.cumsum(chance[:, order[::-1]], axis=1)], axis=1)[:, ::-1]
        return cls(added[order], below, above)

    def flips(self, odds: Floats, threshold: float) -> Floats:
        """Return the probability that these outcomes change the state, shape (Q,)."""
        need = logit(threshold) - odds
        # From the first outcome that raises the odds to the threshold, the state is yes.
        first = np.searchsorted(self.added, need, side="left")
        absent, present = np.where(need <= 0, self.below[:, first], self.above[:, first])
        return np.asarray(expit(-odds) * absent + expit(odds) * present)


def _compositions(n: int, kinds: int) -> Ints64:
    """Return all ways to write n as an ordered sum of `kinds` counts, shape (K, kinds)."""
    grid: npt.NDArray[Any] = np.indices((n + 1,) * (kinds - 1)).reshape(kinds - 1, -1).T
    grid = grid[grid.sum(1) <= n]
    return np.concatenate([grid, n - grid.sum(1, keepdims=True)], axis=1).astype(np.int64)


def _checked_ahead(ahead: int) -> int:
    if not 0 <= ahead <= MAX_AHEAD:
        raise InputError(
            "The number of further answers is out of range.", got=ahead, allowed=f"0 to {MAX_AHEAD}"
        )
    return ahead


def _check_threshold(threshold: float) -> None:
    check_share(threshold, "The threshold is not a probability.", one=False, allowed="between 0 and 1")
