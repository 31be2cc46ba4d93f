"""Votes as arrays, and the label sets that follow from the probabilities of their questions."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot import registry
from manyhot.core import sets as sets_core
from manyhot.core.answers import MAYBE, NO, SILENT, YES, Answers
from manyhot.core.array_types import Floats, Ints8
from manyhot.core.sets import NOT_ASKED, UNCLEAR
from manyhot.errors import InputError
from manyhot.tables.arrays import state_matrix
from manyhot.tables.labels import Images, Labels, sorted_by_id
from manyhot.tables.state_lists import state_lists
from manyhot.tables.votes import Golden, Refined, Votes

METHOD = "auto"
"""The default method: it needs no golden answers, and no choice of a model of raters."""

UNRATED = "original label"
"""The method of unrated images."""


def golden_of_labels(labels: Labels) -> Golden:
    """Return label sets as the answers of an expert; unclear classes are *maybe*.

    A class that is not listed is *no*, unless the label sets record which classes were asked about.
    """
    labels = sorted_by_id(labels)  # as in other files of answers, on whose order drawn samples depend
    state = state_matrix(labels, labels.n_classes)
    image, class_id = np.nonzero(state != NOT_ASKED)
    answer = np.select([state == sets_core.YES, state == UNCLEAR], [YES, MAYBE], NO).astype(np.int8)
    experts = Votes(
        labels.image_id.take(pa.array(image)),
        class_id.astype(np.int32),
        pa.array(["expert"]),
        np.arange(len(image), dtype=np.int32),
        np.zeros(len(image), np.int32),
        answer[image, class_id],
        labels.n_classes,
        labels.class_hash,
        labels.name,
        class_list=labels.class_list,
    )
    return Golden(experts)


def labels_of_votes(
    votes: Votes,
    images: Images | None,
    answers: Answers,
    p: Floats,
    *,
    levels: tuple[float, float],
    decided: Refined | None,
    method: str,
    name: str,
    keep_unasked: bool = True,
) -> Labels:
    """Return the label sets of all images; an original label without an answer is kept with 0 answers.

    Parameters
    ----------
    images : Images, optional
    answers : Answers
        The votes as arrays.
    p : ndarray of float64, shape (Q,)
        The probability of each question.
    levels : tuple of float
        Minimum probability of an unclear class, and minimum probability of a valid class.
    decided : Refined, optional
        Decisions, which override the probabilities.
    method, name : str
        The aggregator, and the name of the labels.
    keep_unasked : bool
        Whether images with votes also keep their original label if no rater answered the question about it.
        Not asked is not no; an audit, however, consists of answers only.
    """
    ids = votes.images if images is None else images.image_id
    row = votes.image if images is None else pc.index_in(votes.images, ids).to_numpy()[votes.image]
    label = None if images is None else images.label
    rated = np.bincount(row, minlength=len(ids)) > 0
    original = np.full(len(ids), SILENT, np.int32)
    if label is not None:
        original = pc.fill_null(label, SILENT).to_numpy().astype(np.int32)
    was_asked = rated
    if keep_unasked:
        was_asked = np.bincount(row[votes.class_id == original[row]], minlength=len(ids)) > 0
    alone = np.flatnonzero(~was_asked & (original != SILENT))
    order = np.argsort(np.concatenate([row, alone]), kind="stable")
    more = len(alone)
    state = (p >= levels[0]).astype(np.int8) + (p >= levels[1])
    if decided is not None:
        state[decided.question] = decided.answer
        p = p.copy()
        sure = decided.answer != MAYBE
        p[decided.question[sure]] = decided.answer[sure] == YES
    lists = {
        "classes": np.concatenate([votes.class_id, original[alone]]),
        "state": np.concatenate([state, np.full(more, 2, np.int8)]),
        "p": np.concatenate([p, np.ones(more)]).astype(np.float32),
        "n_votes": np.concatenate([answers.counts().sum(1), np.zeros(more, np.int64)]).astype(np.int32),
    }
    lengths = np.bincount(row, minlength=len(ids)) + np.bincount(alone, minlength=len(ids))
    methods = pa.DictionaryArray.from_arrays(pa.array(rated.astype(np.int8)), [UNRATED, method])
    columns = {
        "image_id": ids,
        **({} if label is None else {"label": label}),
        "rated": pa.array(rated),
        "usable": pa.array(rated | (original != SILENT)),
        **state_lists(lengths, **{name: values[order] for name, values in lists.items()}),
        "method": methods.cast(pa.string()),
    }
    return Labels(
        pa.table(columns),
        votes.n_classes,
        votes.class_hash,
        asked_known=True,
        name=name,
        class_list=votes.class_list,
        exclusive=bool(votes.kind),
    )


def answers_of(
    votes: Votes, images: Images | None = None, original_classes: Collection[int] | None = None
) -> Answers:
    """Return votes as arrays, with images, raters and questions numbered as in `votes`.

    Parameters
    ----------
    images : Images, optional
        With original labels.
    original_classes : collection of int, optional
        The classes for which the original label counts as a rater; by default, all.
    """
    original = None if images is None else original_answers(votes, images, original_classes)
    classes, group = np.unique(votes.class_id, return_inverse=True)
    return Answers(
        votes.question,
        votes.rater,
        votes.answer,
        votes.n_questions,
        votes.n_raters,
        original,
        group if len(classes) > 1 else None,
    )


def original_answers(votes: Votes, images: Images, classes: Collection[int] | None = None) -> Ints8 | None:
    """Return the answer of the original label to each question; None without labels."""
    if images.label is None:
        return None
    at = pc.index_in(votes.images, images.image_id)
    label = pc.fill_null(pc.take(images.label, at), SILENT).to_numpy()[votes.image]
    original = np.where(label == SILENT, SILENT, label == votes.class_id).astype(np.int8)
    if classes is not None:
        original[~np.isin(votes.class_id, list(classes))] = SILENT
    return original if (original != SILENT).any() else None


def combined_votes(votes: Votes) -> Labels:
    """Return the label sets of votes by the default method, as ``manyhot aggregate`` does.

    Raises
    ------
    InputError
        If raters chose one class per image. Such votes must first be aggregated with an explicit method.
    """
    if votes.kind:
        raise InputError(
            "Votes for one class per image are not combined automatically.",
            where=votes.name or None,
            do="combine them first: manyhot aggregate VOTES",
        )
    entry, answers = registry.get("aggregator", METHOD), answers_of(votes)
    threshold = float(entry.about["threshold"])
    return labels_of_votes(
        votes,
        None,
        answers,
        entry(answers, None).p,
        levels=(entry.about.get("unclear_from") or threshold, threshold),
        decided=votes.refined,
        method=entry.name,
        name=votes.name,
    )
