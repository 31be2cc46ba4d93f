"""The positives of each class, of each image or of all cells, ranked by score.

A positive is a class with state yes of a usable image. All other classes of the image are negatives, unless
a mask restricts the cells to those that raters answered with yes or no.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import AnyFloats, Bools, Ints, Positions
from manyhot.core.sets import NO, YES, Case
from manyhot.errors import InputError

ROWS = 256
"""Images per block: 1 MB of float32 scores of 1,000 classes fits the second-level cache."""

CLASSES_AT_ONCE = 16
"""Classes copied at once: 16 float32 fill a cache line."""

Group = Literal["class", "image", "all"]
"""What is ranked together: the cells of a class, of an image, or all cells."""


@dataclass(frozen=True)
class RankedPositives:
    """The positives by group, with descending scores, and the number of cells at or above each positive.

    Attributes
    ----------
    by : {"class", "image", "all"}
        What is ranked together.
    group, image : ndarray of int, shape (m,)
        The group and the image of each positive.
    score : ndarray of float, shape (m,)
        The score of each positive.
    count_depth : callable
        Returns `depth`: for each positive, the number of cells in its group with at least its score.
    positives, cells : ndarray of int, shape (n,)
        The number of positives and the number of cells per image.
    asked : tuple of two ndarrays of int and one of float, shape (asked cells,), or None
        The group, the image and the score of each cell about which raters were asked, by group with
        descending scores; None if there is no mask.
    needs_negatives : bool
        Whether precision is undefined without negatives, because the metric is masked, even if the mask
        leaves out no cells.
    """

    by: Group
    group: Ints
    image: Ints
    score: AnyFloats
    count_depth: Callable[[], Ints]
    positives: Ints
    cells: Ints
    asked: tuple[Ints, Ints, AnyFloats] | None
    needs_negatives: bool

    @cached_property
    def depth(self) -> Ints:
        """For each positive, the number of cells in its group with at least its score, shape (m,)."""
        return self.count_depth()

    @cached_property
    def hits(self) -> Ints:
        """For each positive, the number of positives in its group with at least its score, shape (m,)."""
        return _at_or_above(self.group, self.score)


def rank_positives(case: Case, by: Group, *, masked: bool = False) -> RankedPositives | None:
    """Rank the positives within each class, each image, or all cells; None if the metric is undefined."""
    labels = case.labels
    if case.scores is None or (masked and not labels.asked_known):
        return None
    needs_negatives, masked = masked, labels.leaves_out_cells(masked)
    answered = answered_cells(case)
    if not answered.yes.any():
        return None
    group = {"class": answered.classes, "image": answered.image, "all": np.zeros_like(answered.image)}[by]
    order = np.lexsort((-answered.score, group))
    answered, group = answered[order], group[order]
    positive, own_group = answered[answered.yes], group[answered.yes]
    find = {"class": _depth_in_class, "image": _depth_in_image, "all": _depth_in_all}[by]
    return RankedPositives(
        by,
        own_group,
        positive.image,
        positive.score,
        count_depth=(
            (lambda: _at_or_above(group, answered.score)[answered.yes])
            if masked
            else (lambda: find(case, positive))
        ),
        positives=np.bincount(positive.image, minlength=len(labels)),
        cells=(
            np.bincount(answered.image, minlength=len(labels)) if masked else labels.usable * labels.n_classes
        ),
        asked=(group, answered.image, answered.score) if masked else None,
        needs_negatives=needs_negatives,
    )


def class_columns(
    case: Case, classes: Ints, scores: npt.NDArray[Any] | None = None
) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
    """Yield the slice of each class in the ascending `classes`, with its scores.

    The yielded scores, shape (n,), are contiguous. The next step overwrites them. If `scores`, shape (n, C),
    are passed, they are used in their own type, without conversion to float32 or float64.
    """
    dtype = np.result_type(scores_of(case).dtype, np.float32) if scores is None else scores.dtype
    scores = scores_of(case) if scores is None else scores
    copy = np.empty((CLASSES_AT_ONCE, len(scores)), dtype)
    edges = np.searchsorted(classes, np.arange(case.labels.n_classes + 1))
    for first in range(0, case.labels.n_classes, CLASSES_AT_ONCE):
        last = min(first + CLASSES_AT_ONCE, case.labels.n_classes)
        for start in range(0, len(scores), ROWS):  # in tiles: three times as fast as one strided copy
            copy[: last - first, start : start + ROWS] = scores[start : start + ROWS, first:last].T
        for c in range(first, last):
            if edges[c] < edges[c + 1]:
                yield slice(edges[c], edges[c + 1]), copy[c - first]


def _at_or_above(group: Ints, score: AnyFloats) -> Positions:
    """Return the number of cells in the group of each cell with at least its score, sorted by both."""
    new_group = np.append(True, group[1:] != group[:-1])
    new_score = new_group | np.append(True, score[1:] != score[:-1])
    start: Positions = np.flatnonzero(new_group)[np.cumsum(new_group) - 1]
    end: Positions = np.append(np.flatnonzero(new_score)[1:], len(score))[np.cumsum(new_score) - 1]
    return end - start


def _depth_in_image(case: Case, positive: AnsweredCells) -> Positions:
    # Summing bools into the smallest type that can hold the count is twice as fast as into int64.
    depth = np.empty(len(positive.score), np.intp)
    count = np.min_scalar_type(case.labels.n_classes)
    for start in range(0, len(depth), ROWS):
        part = slice(start, start + ROWS)
        row = comparable(scores_of(case).take(positive.image[part], axis=0))
        depth[part] = (row >= positive.score[part, None]).sum(axis=1, dtype=count)
    return depth


def _depth_in_class(case: Case, positive: AnsweredCells) -> Positions:
    # Cells below the lowest positive of a class never count: with informative scores, a quarter remains to be
    # sorted (0.23 s, not 1.0 s), and finding the few positives among these is fast.
    depth = np.empty(len(positive.score), np.intp)
    for part, column in class_columns(case, positive.classes):
        score = positive.score[part]
        above = np.compress((column >= score[-1]) & case.labels.usable, column)
        above.sort()
        depth[part] = len(above) - np.searchsorted(above, score)
    return depth


def _depth_in_all(case: Case, positive: AnsweredCells) -> Positions:
    # Sorting 256 rows at once and searching all positives in them limits the memory to two blocks.
    scores, usable = scores_of(case), case.labels.usable
    distinct, place = np.unique(positive.score, return_inverse=True)
    depth = np.zeros(len(distinct), np.intp)
    for start in range(0, len(scores), ROWS):
        block = comparable(scores[start : start + ROWS][usable[start : start + ROWS]]).ravel()
        above = np.compress(block >= distinct[0], block)
        above.sort()
        depth += len(above) - np.searchsorted(above, distinct)
    return depth[place]


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
    image: Ints = labels.rows
    classes: Ints = labels.classes
    state = labels.state
    if labels.exclusive and not labels.complete:  # nobody chose the classes that are not listed
        states = np.full(scores.shape, NO, np.uint8)
        states[image, classes] = state
        every = np.arange(states.size)
        image, classes, state = every // labels.n_classes, every % labels.n_classes, states.ravel()
    answered = np.flatnonzero(((state == YES) | (state == NO)) & labels.usable[image])
    image, classes = image[answered], classes[answered]
    cells = AnsweredCells(image, classes, comparable(scores[image, classes]), state[answered] == YES)
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
