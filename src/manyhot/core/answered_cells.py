"""The scores of the (image, class) cells with state yes or no, to which metrics of dense scores refer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from manyhot.core.array_types import AnyFloats, Bools, Ints
from manyhot.core.sets import NO, YES, Case
from manyhot.errors import InputError


@dataclass(frozen=True)
class AnsweredCells:
    """The (image, class) cells of usable images with state yes or no.

    Attributes
    ----------
    image, classes : ndarray of int, shape (m,)
        The image and the class of each cell.
    score : ndarray of float, shape (m,)
        The model's score.
    yes : ndarray of bool, shape (m,)
        Whether the cell is a positive.
    """

    image: Ints
    classes: Ints
    score: AnyFloats
    yes: Bools

    def __getitem__(self, chosen: Bools | Ints) -> AnsweredCells:
        return AnsweredCells(self.image[chosen], self.classes[chosen], self.score[chosen], self.yes[chosen])


def answered_cells(case: Case) -> AnsweredCells:
    """Return the cells of usable images with state yes or no.

    Raises
    ------
    InputError
        If the scores do not have one row per image and one column per class, or if the score of a returned
        cell is NaN. Other cells are not checked.
    """
    labels, scores = case.labels, case.scores
    if scores is None or scores.shape != (len(labels), labels.n_classes):
        raise InputError(
            "The scores do not fit the label sets.",
            got="no scores" if scores is None else f"scores of shape {scores.shape}",
            allowed=f"shape {(len(labels), labels.n_classes)}: one row per image, one column per class",
        )
    answered = np.flatnonzero(((labels.state == YES) | (labels.state == NO)) & labels.usable[labels.rows])
    image, classes = labels.rows[answered], labels.classes[answered]
    cells = AnsweredCells(image, classes, comparable(scores[image, classes]), labels.state[answered] == YES)
    missing = np.isnan(cells.score)
    if missing.any():
        raise InputError(
            f"The scores of {missing.sum()} answered cells are NaN.",
            where=f"first in row {image[missing][0]}, class {classes[missing][0]}",
            allowed="any number except NaN",
            do="fix the overflow in the model, or exclude these images by setting usable to False",
        )
    return cells


def scores_of(case: Case) -> AnyFloats:
    """Return the scores of a case with scores."""
    assert case.scores is not None  # for the type checker
    return case.scores


def comparable(scores: AnyFloats) -> AnyFloats:
    """Return float16 scores as float32, which NumPy compares and sorts with SIMD in the same order."""
    return scores.astype(np.float32) if scores.dtype == np.float16 else scores
