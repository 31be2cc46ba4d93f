"""Raters' answers as arrays: new ones, earlier ones, and golden questions that experts also answered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from manyhot.core.array_types import Bools, Floats, Ints, Ints8, Ints64
from manyhot.errors import InputError, and_more

ANSWERS = ("no", "maybe", "yes")
"""The three answers, in the order of their codes."""

NO, MAYBE, YES = range(3)
"""Their codes."""

N_ANSWERS = len(ANSWERS)

SILENT = -1
"""Code of a question of an image without an original label."""

MAJORITY = 0.5
"""The truth of a golden question is yes if more than this share of its experts answered yes."""


@dataclass(frozen=True)
class Answers:
    """Answers of R raters to Q questions; a question is an (image, class) pair.

    Parameters
    ----------
    question, rater : ndarray of int, shape (m,)
        The question and the rater of each of the m votes.
    answer : ndarray of int8, shape (m,)
        `NO`, `MAYBE` or `YES`.
    n_questions, n_raters : int
        Q and R. Questions without votes and raters without answers are allowed.
    original : ndarray of int8, shape (Q,), optional
        1 if the original label is the question's class, 0 if it is another class, and `SILENT` if the image
        has no original label. The original label is not a vote.
    group : ndarray of int, shape (Q,), optional
        The class of each question, counted from 0. If it is passed, the share of questions with the truth yes
        may differ between classes.
    history : History, optional
        Number of the raters' earlier answers, by truth and answer. Only methods that estimate raters' quality
        use it.

    Raises
    ------
    InputError
        If the arrays differ in length, contain values out of range, or contain two answers of a rater to a
        question.
    """

    question: Ints
    rater: Ints
    answer: Ints8
    n_questions: int
    n_raters: int
    original: Ints8 | None = None
    group: Ints | None = None
    history: History | None = None

    def __post_init__(self) -> None:
        sizes = [len(self.question), len(self.rater), len(self.answer)]
        if len(set(sizes)) > 1:
            raise InputError(
                "The arrays of votes differ in length.",
                got=f"{sizes[0]:,} questions, {sizes[1]:,} raters and {sizes[2]:,} answers",
                allowed="three arrays of the same length",
            )
        check_numbers("question", self.question, self.n_questions)
        check_numbers("rater", self.rater, self.n_raters)
        check_numbers("answer", self.answer, N_ANSWERS)
        if self.original is not None and len(self.original) != self.n_questions:
            raise InputError(
                "The array `original` does not have one value per question.",
                got=f"{len(self.original):,} values",
                allowed=f"{self.n_questions:,}",
            )
        _check_once(self)

    def __len__(self) -> int:
        return len(self.answer)

    def n_answered(self) -> int:
        """Return the number of questions with answers."""
        return int(np.count_nonzero(np.bincount(self.question)))

    def counts(self) -> Ints64:
        """Return how many raters gave each answer to each question, shape (Q, 3)."""
        cells = self.question.astype(np.int64) * N_ANSWERS + self.answer
        return np.bincount(cells, minlength=self.n_questions * N_ANSWERS).reshape(-1, N_ANSWERS)

    def of_raters(self) -> Ints64:
        """Return how often each rater gave each answer, shape (R, 3)."""
        cells = self.rater.astype(np.int64) * N_ANSWERS + self.answer
        return np.bincount(cells, minlength=self.n_raters * N_ANSWERS).reshape(-1, N_ANSWERS)


@dataclass(frozen=True)
class GoldenAnswers:
    """G golden questions with the answers of experts and of raters.

    Parameters
    ----------
    answers : Answers
        Raters' answers to the G golden questions, with raters numbered as in the votes.
    yes, experts : ndarray of int, shape (G,)
        Number of experts who answered yes, and number of experts who answered.
    asked : ndarray of int, shape (G,)
        The position of each golden question among the questions of the votes; -1 if the votes do not contain
        it.
    image : ndarray of int, shape (G,), optional
        The image of each question; by default, each question has its own image.
    choices : ndarray of int, shape (3, m), optional
        If raters chose one class of all: the rater, the valid class and the chosen class of each choice on an
        image with exactly one valid class.
    """

    answers: Answers
    yes: Ints64
    experts: Ints64
    asked: Ints64
    image: Ints | None = None
    choices: Ints64 | None = None

    def __len__(self) -> int:
        return len(self.yes)

    @property
    def images(self) -> Ints:
        """The image of each question, shape (G,)."""
        return np.arange(len(self)) if self.image is None else self.image

    def truth(self, share: float = MAJORITY) -> Bools:
        """Return whether more than `share` of the experts answered yes, shape (G,)."""
        return self.yes > share * self.experts


def check_numbers(what: str, values: Ints, n: int) -> None:
    """Raise an InputError if a value in an array of votes is not between 0 and n - 1."""
    if values.size and (values.min() < 0 or values.max() >= n):
        strange = values[(values < 0) | (values >= n)][0]
        raise InputError(f"The {what} of a vote does not exist.", got=int(strange), allowed=f"0 to {n - 1}")


def _check_once(answers: Answers) -> None:
    # Sorting 924,810 numbers takes 10 ms with NumPy's vector instructions.
    cells = np.sort(answers.question.astype(np.int64) * answers.n_raters + answers.rater)
    twice = np.flatnonzero(cells[1:] == cells[:-1])
    if len(twice):
        question, rater = divmod(int(cells[twice[0]]), answers.n_raters)
        raise InputError(
            "A rater answered a question twice.",
            got=f"rater {rater}, question {question}{and_more(len(twice) - 1)}",
            allowed="at most one answer per rater and question",
        )


@dataclass(frozen=True)
class History:
    """Raters' earlier answers, counted by expected truth.

    Classes are both truths and possible choices. For questions with the answers no, maybe and yes, the codes
    of the answers replace the classes, and the truth is no or yes.

    Attributes
    ----------
    rater, truth, chosen : ndarray of int, shape (h,)
    n : ndarray of float64, shape (h,)
        Expected number of times that the rater chose the class `chosen` when the correct class was `truth`.
    """

    rater: Ints
    truth: Ints
    chosen: Ints
    n: Floats

    @classmethod
    def of_matrices(cls, counts: Floats) -> History:
        """Return the history with these counts, shape (R, K, K). Zeros are not stored."""
        rater, truth, chosen = np.nonzero(counts)
        return cls(rater, truth, chosen, counts[rater, truth, chosen])

    def matrices(self, n_raters: int, n_classes: int) -> Floats:
        """Return the numbers as matrices, shape (R, K, K)."""
        cells = (self.rater.astype(np.int64) * n_classes + self.truth) * n_classes + self.chosen
        counts = np.bincount(cells, self.n, n_raters * n_classes**2).astype(np.float64)
        return counts.reshape(n_raters, n_classes, n_classes)

    def right_wrong(self, n_raters: int) -> Floats:
        """Return how often each rater was right and wrong, shape (R, 2)."""
        cells = self.rater.astype(np.int64) * 2 + (self.truth != self.chosen)
        counts = np.bincount(cells, self.n, n_raters * 2).astype(np.float64)
        return counts.reshape(n_raters, 2)
