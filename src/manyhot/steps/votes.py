"""Votes tables to arrays, with what the original labels and the experts say beside them."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from manyhot.core.answers import SILENT, YES, Answers
from manyhot.core.answers import Golden as GoldenAnswers
from manyhot.errors import MatchError
from manyhot.tables import Golden, Images, Votes, find_questions


def answers_of(
    votes: Votes, images: Images | None = None, original_classes: Collection[int] | None = None
) -> Answers:
    """Return votes as arrays, numbered as in `votes`.

    Parameters
    ----------
    votes : Votes
    images : Images, optional
        Gives original labels.
    original_classes : collection of int, optional
        The classes about which the original label says something; all by default.
    """
    original = None if images is None else _original(votes, images, original_classes)
    return Answers(votes.question, votes.rater, votes.answer, votes.n_questions, votes.n_raters, original)


def golden_of(golden: Golden, votes: Votes, images: Images | None = None) -> GoldenAnswers:
    """Return golden questions as arrays, with the answers of the raters of `votes`.

    Answers of raters who have no votes, and those to other questions, are left out.

    Raises
    ------
    MatchError
        The two are over different class lists.
    """
    experts, raters = golden.experts, golden.raters or votes
    _check_same_classes(votes, experts)
    number = find_questions(raters, experts)
    known = pc.fill_null(pc.index_in(raters.rater_id, votes.rater_id), -1).to_numpy()
    kept = np.flatnonzero((number[raters.question] >= 0) & (known[raters.rater] >= 0))
    answers = Answers(
        number[raters.question[kept]],
        known[raters.rater[kept]],
        raters.answer[kept],
        experts.n_questions,
        votes.n_raters,
        None if images is None else _original(experts, images, None),
    )
    return GoldenAnswers(
        answers,
        np.bincount(experts.question[experts.answer == YES], minlength=experts.n_questions),
        np.bincount(experts.question, minlength=experts.n_questions),
        find_questions(experts, votes),
        experts.image,
    )


def _check_same_classes(votes: Votes, experts: Votes) -> None:
    ours, theirs = votes.class_hash, experts.class_hash
    if ours and theirs and ours != theirs:
        raise MatchError(
            "Votes and golden answers are over different class lists.",
            where=f"{votes.name or 'votes'} and {experts.name or 'golden'}",
            got=f"{experts.n_classes:,} classes, list {theirs}",
            allowed=f"{votes.n_classes:,} classes, list {ours}",
            do="read both with the same class list",
        )


def _original(votes: Votes, images: Images, classes: Collection[int] | None) -> npt.NDArray[np.int8] | None:
    """Return what the original label says about each question; None where none is known."""
    if images.label is None:
        return None
    at = pc.index_in(votes.images, images.image_id)
    label = pc.fill_null(pc.take(images.label, at), SILENT).to_numpy()[votes.image]
    original = np.where(label == SILENT, SILENT, label == votes.class_id).astype(np.int8)
    if classes is not None:
        original[~np.isin(votes.class_id, list(classes))] = SILENT
    return original if (original != SILENT).any() else None
