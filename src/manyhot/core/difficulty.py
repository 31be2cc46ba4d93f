"""How difficult images are for many models: how many of them are right, and what they answer most often.

Also how unsure a model is of each image, and the images on which a model ranks a class worst: the highest of
the wrong, and the lowest of the valid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import entr

from manyhot.core.array_types import Bools, Floats, Ints, Positions
from manyhot.core.score_threshold import adds_up_to_one
from manyhot.core.sets import NO_LABEL, UNCLEAR, YES, Case

DIFFICULTIES = {
    "none": "no model is right",
    "few": "under a quarter of the models are right",
    "split": "a quarter to three quarters of the models are right",
    "most": "more than three quarters of the models are right, but not all",
    "all": "all models are right",
}
"""Kinds of images, the most difficult first."""

_QUARTERS = (0.25, 0.75)


def difficulty_of(right: Bools) -> Positions:
    """Return the kind of each image as a position in `DIFFICULTIES`, shape (n,).

    Parameters
    ----------
    right : ndarray of bool, shape (n, M)
        Whether each of M models is right.
    """
    share = right.mean(axis=1)
    few, most = _QUARTERS
    kinds = np.select(
        [share == 0, share < few, share <= most, share < 1],
        range(len(DIFFICULTIES) - 1),
        len(DIFFICULTIES) - 1,
    )
    return kinds.astype(np.intp)


def typical_images(right: Ints, models: int, agreed: Floats, most: int) -> dict[str, Positions]:
    """Return images that no model gets right, that divide the models, and that all models get right.

    Parameters
    ----------
    right : ndarray of int, shape (n,)
        The number of models that are right on each image.
    models : int
        The number of models.
    agreed : ndarray of float, shape (n,)
        The share of the models that give the most frequent answer.
    most : int
        Maximum number of images of each kind.

    Returns
    -------
    dict of str to ndarray of int
        The images of each kind. For *none*, the images on which most models agree; for *split*, the images
        that about half of the models get right; for *all*, images at equal intervals in the data set.
    """
    none, every = np.flatnonzero(right == 0), np.flatnonzero(right == models)
    share = right / models
    divided = np.flatnonzero((share >= _QUARTERS[0]) & (share <= _QUARTERS[1]))
    steps = np.arange(min(most, len(every))) * len(every) // max(min(most, len(every)), 1)
    return {
        "none": none[np.argsort(-agreed[none], kind="stable")][:most],
        "split": divided[np.argsort(np.abs(share[divided] - 0.5), kind="stable")][:most],
        "all": every[steps],
    }


@dataclass(frozen=True, eq=False)
class CommonAnswers:
    """The most frequent top class of the models on each of n images.

    Attributes
    ----------
    classes : ndarray of int, shape (n,)
        The classes. Ties go to the class with the lower id. `NO_LABEL` if no model has a prediction.
    share : ndarray of float, shape (n,)
        Share of the models that have this top class.
    """

    classes: Ints
    share: Floats

    @classmethod
    def of(cls, top: Ints) -> CommonAnswers:
        """Return the most frequent entry of each row of `top`, shape (n, M). Negative entries are ignored."""
        n, m = top.shape
        ordered = np.sort(top, axis=1)
        starts = np.concatenate([np.ones((n, 1), bool), ordered[:, 1:] != ordered[:, :-1]], axis=1)
        # Runs of equal classes, row after row: none goes on into the next row, which starts a run.
        run_starts = np.flatnonzero(starts.ravel())
        lengths = np.diff(np.append(run_starts, n * m))
        rows, classes = run_starts // m, ordered.ravel()[run_starts]
        lengths = np.where(classes < 0, 0, lengths)
        order = np.lexsort((classes, -lengths, rows))
        first = order[np.searchsorted(rows[order], np.arange(n))]
        return cls(np.where(lengths[first] > 0, classes[first], NO_LABEL), lengths[first] / m)


def hardness(case: Case) -> Floats:
    """Return how unsure a model is of each image, and how clearly it prefers the label, shape (n, 2).

    Returns
    -------
    ndarray of float64
        The entropy of the class probabilities, in nats, which FiftyOne calls hardness; and the margin, the
        probability of the original label minus the highest probability of any other class. cleanlab's
        normalized margin is (1 + margin) / 2. NaN without the label, or without probabilities of all classes
        that add up to 1.

    References
    ----------
    Shannon 1948, doi 10.1002/j.1538-7305.1948.tb01338.x. Kuan & Mueller 2022, arXiv 2210.03920.
    """
    found = np.full((len(case.labels), 2), np.nan)
    if not (case.has_probabilities and adds_up_to_one(case)):
        return found
    for start, p in case.probability_blocks():
        found[start : start + len(p), 0] = entr(p).sum(axis=1, dtype=np.float64)
        label = case.labels.label[start : start + len(p)]
        rows = np.flatnonzero(label != NO_LABEL)
        own, others = (rows, label[rows]), p.copy()
        others[own] = -np.inf
        found[start + rows, 1] = p[own].astype(np.float64) - others[rows].max(axis=1)
    return found


def extreme_images(case: Case, class_id: int, n: int) -> tuple[Ints, Ints]:
    """Return the usable images on which a class has the worst wrong predictions and the worst misses.

    Parameters
    ----------
    case : Case
        With scores of all classes.
    n : int
        Maximum number of images of each kind.

    Returns
    -------
    wrong, missed : ndarray of int
        Images on which the class is neither valid nor unclear, highest score first; and images on which it is
        valid, lowest score first. If scores are equal, the earlier image comes first.
    """
    sets = case.labels
    assert case.scores is not None
    scores, asked = case.scores[:, class_id], sets.classes == class_id
    accepted = sets.rows[asked & (sets.state >= UNCLEAR)]
    valid = sets.rows[asked & (sets.state == YES)]
    without = np.setdiff1d(np.flatnonzero(sets.usable), accepted)
    valid = np.unique(valid[sets.usable[valid]])
    return (
        without[np.argsort(-scores[without].astype(np.float64), kind="stable")[:n]],
        valid[np.argsort(scores[valid], kind="stable")[:n]],
    )
