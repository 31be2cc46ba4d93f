"""Questions with probabilities to a labels table, with the images that nobody rated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot.core.answers import MAYBE, SILENT, YES, Answers
from manyhot.tables import STATES, Images, Labels, Refined, Votes

UNRATED = "original label"
"""The method of images that nobody rated."""


def labels_of_votes(
    votes: Votes,
    images: Images | None,
    answers: Answers,
    p: npt.NDArray[np.float64],
    *,
    levels: tuple[float, float],
    decided: Refined | None,
    method: str,
    name: str,
) -> Labels:
    """Return the label sets of all images: those of the votes, and others with their original label.

    Parameters
    ----------
    votes : Votes
    images : Images, optional
    answers : Answers
        The votes as arrays.
    p : ndarray of float64, shape (Q,)
        The probability of each question.
    levels : tuple of float
        The probability from which a class is unclear, and from which it is valid.
    decided : Refined, optional
        Decisions that stand, whatever the probability.
    method, name : str
        The aggregator, and the name of the labels.
    """
    ids = votes.images if images is None else images.image_id
    row = votes.image if images is None else pc.index_in(votes.images, ids).to_numpy()[votes.image]
    label = None if images is None else images.label
    rated = np.bincount(row, minlength=len(ids)) > 0
    original = np.full(len(ids), SILENT, np.int32)
    if label is not None:
        original = pc.fill_null(label, SILENT).to_numpy().astype(np.int32)
    alone = np.flatnonzero(~rated & (original != SILENT))
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
    table = _table(ids, label, rated, rated | (original != SILENT), lengths, lists, order, method)
    return Labels(table, votes.n_classes, votes.class_hash, asked_known=True, name=name)


def _table(
    ids: pa.Array,
    label: pa.Array | None,
    rated: npt.NDArray[np.bool_],
    usable: npt.NDArray[np.bool_],
    lengths: npt.NDArray[np.int64],
    lists: dict[str, npt.NDArray[Any]],
    order: npt.NDArray[np.intp],
    method: str,
) -> pa.Table:
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    arrays = {name: pa.array(values[order]) for name, values in lists.items()}
    arrays["state"] = pa.DictionaryArray.from_arrays(arrays["state"], list(STATES)).cast(pa.string())
    methods = pa.DictionaryArray.from_arrays(pa.array(rated.astype(np.int8)), [UNRATED, method])
    return pa.table(
        {
            "image_id": ids,
            **({} if label is None else {"label": label}),
            "rated": pa.array(rated),
            "usable": pa.array(usable),
            **{name: pa.ListArray.from_arrays(offsets, values) for name, values in arrays.items()},
            "method": methods.cast(pa.string()),
        }
    )
