"""Pairs of raters who answered the same questions: their agreement, and errors that they have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from manyhot.core.answers import N_ANSWERS, Answers
from manyhot.core.array_types import Bools, Floats, Ints8, Ints64
from manyhot.core.choices import Choices

COPIER, FEWEST_ERRORS = 0.8, 20
"""Minimum share of common errors of copiers, and minimum number of errors to judge a pair."""


@dataclass(frozen=True)
class RaterPairs:
    """Pairs of raters with common questions, where a < b. Each array has shape (P,).

    Attributes
    ----------
    n : ndarray of int64
        Number of questions that both answered.
    agreement, kappa : ndarray of float64
        The share of equal answers, and Cohen's kappa (1960, doi 10.1177/001316446002000104).
    wrong, same_wrong : ndarray of int64
        Number of questions on which at least one of the two raters disagrees with the majority of the other
        raters, and number on which both disagree with it and give the same answer. Only questions with at
        least two other raters and without a tie are counted.
    """

    a: Ints64
    b: Ints64
    n: Ints64
    agreement: Floats
    kappa: Floats
    wrong: Ints64
    same_wrong: Ints64

    def copiers(self) -> Bools:
        """Return the pairs of raters that often make the same errors.

        The returned pairs have at least `FEWEST_ERRORS` errors, and a share of at least `COPIER` of these
        errors are the same.
        """
        return (self.wrong >= FEWEST_ERRORS) & (self.same_wrong >= COPIER * self.wrong)


def rater_pairs(answers: Answers, choices: Choices | None = None) -> RaterPairs:
    """Return all pairs of raters with a common question.

    If `choices` are passed, each image is a question with K possible answers in `n`, `agreement` and `kappa`.
    """
    if choices is None:
        question, k = answers.question, N_ANSWERS
        symbols = answers.rater.astype(np.int64) * k + answers.answer
    else:
        question, k = choices.image, choices.n_classes
        symbols = choices.rater.astype(np.int64) * k + choices.chosen
    given_answers = csr_array(
        (np.ones(len(symbols), np.int32), (question, symbols)),
        shape=(int(question.max(initial=0)) + 1, answers.n_raters * k),
    )
    both = (given_answers.T @ given_answers).tocoo()
    upper = both.row // k < both.col // k
    row, column, count = both.row[upper], both.col[upper], both.data[upper]
    keys = (row // k).astype(np.int64) * answers.n_raters + column // k
    pairs, pair = np.unique(keys, return_inverse=True)
    size = len(pairs)
    n = np.bincount(pair, count, size)
    agreement = np.bincount(pair, count * (row % k == column % k), size) / n
    of_a, of_b = (csr_array((count / n[pair], (pair, s % k)), shape=(size, k)) for s in (row, column))
    chance = np.asarray((of_a * of_b).sum(1)).ravel()
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa = (agreement - chance) / (1 - chance)
    wrong, same = _errors(answers, pairs)
    a, b = np.divmod(pairs, max(answers.n_raters, 1))
    return RaterPairs(a, b, n.astype(np.int64), agreement, kappa, wrong, same)


def _errors(answers: Answers, pairs: Ints64) -> tuple[Ints64, Ints64]:
    """Return the numbers of questions with an error of either rater, and with the same error of both."""
    wrong, same = np.zeros(len(pairs), np.int64), np.zeros(len(pairs), np.int64)
    order = np.lexsort((answers.rater, answers.question))
    total = np.bincount(answers.question, minlength=answers.n_questions)
    start = np.concatenate([[0], np.cumsum(total)])[:-1]
    for votes in np.unique(total[total > 3]):
        rows = order[start[total == votes][:, None] + np.arange(votes)]
        rater, answer = answers.rater[rows].astype(np.int64), answers.answer[rows]
        counts = np.stack([(answer == a).sum(1) for a in range(N_ANSWERS)], 1)
        for i in range(votes):
            for j in range(i + 1, votes):
                both, alike = _against(counts, answer[:, i], answer[:, j])
                at = np.searchsorted(pairs, rater[:, i] * answers.n_raters + rater[:, j])
                wrong += np.bincount(at[both], minlength=len(pairs))
                same += np.bincount(at[alike], minlength=len(pairs))
    return wrong, same


def _against(counts: Ints64, a: Ints8, b: Ints8) -> tuple[Bools, Bools]:
    """Return where a or b disagrees with the majority of the others, and where both do with equal answers."""
    rows = np.arange(len(counts))
    others = counts.copy()
    others[rows, a] -= 1
    others[rows, b] -= 1
    most = others.argmax(1)
    decided = 2 * others[rows, most] > others.sum(1)
    return decided & ((a != most) | (b != most)), decided & (a == b) & (a != most)
