"""Majority votes of three models: which two others help the best model, judged on images of their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from manyhot.core.array_types import Bools, Floats, Ints
from manyhot.core.error_consistency import ErrorConsistency
from manyhot.core.resampling import student_interval
from manyhot.core.sets import NO_LABEL

MOST_VOTES = 10
"""Votes that are returned: those that were best on the images they were chosen on."""

FEWEST_TO_CHOOSE = 100
"""Images from which on votes are chosen on one half and judged on the other."""


@dataclass(frozen=True)
class MajorityVote:
    """The majority vote of the best model and two other models.

    Attributes
    ----------
    models : (int, int, int)
        The best model, and the two others. If no two of them agree, the class of the best model counts.
    kappa : float
        Mean error consistency of the three models, on the images on which they were chosen.
    chosen_gain : float
        Value of the vote minus the value of the best model on the same images. This gain is too high, because
        the vote was chosen for it.
    gain : float
        The same on the other images.
    interval : (float, float)
        Its 95 % interval over images.
    n : int
        Number of these other images.
    """

    models: tuple[int, int, int]
    kappa: float
    chosen_gain: float
    gain: float
    interval: tuple[float, float]
    n: int


def best_votes(top: Ints, right: Bools, seed: int) -> list[MajorityVote]:
    """Return the votes of the best model and two other models with the largest gain, best first.

    A random half of the images determines the best model and the votes that are returned. The gain is
    measured on the other half. Only votes with a gain on the first half are returned.

    Parameters
    ----------
    top : ndarray of int, shape (n, M)
        The top class of each of M models.
    right : ndarray of bool, shape (n, M)
        Whether it is right.
    seed : int
        Seed for the halves.
    """
    n, m = top.shape
    if n < FEWEST_TO_CHOOSE or m < 3:
        return []
    is_first = np.random.default_rng([seed, n]).permutation(n) < n // 2
    best = int(right[is_first].mean(axis=0).argmax())
    others = [i for i in range(m) if i != best]
    gains = _gains(top[is_first], right[is_first], best, others)
    a, b = np.triu_indices(len(others), 1)
    order = np.argsort(-gains, kind="stable")[:MOST_VOTES]
    return [
        _judged(top, right, is_first, (best, others[a[i]], others[b[i]]), float(gains[i]))
        for i in order
        if gains[i] > 0
    ]


def _gains(top: Ints, right: Bools, best: int, others: list[int]) -> Floats:
    """Return by how much the vote with every two others is better than the best model."""
    classes, hits = np.ascontiguousarray(top[:, others].T), np.ascontiguousarray(right[:, others].T)
    # Only where another model is right and the best one wrong, or the reverse, can a vote change the count.
    change = (hits.astype(np.int8) - right[:, best]) * _outvotes(classes, top[:, best])
    gains = []
    for i in range(len(others) - 1):
        agree = classes[i + 1 :] == classes[i]
        gains.append((agree @ change[i].astype(np.float32)) / len(top))
    return np.concatenate(gains)


def _judged(
    top: Ints, right: Bools, is_first: Bools, models: tuple[int, int, int], chosen_gain: float
) -> MajorityVote:
    best, a, b = models
    outvoted = (top[:, a] == top[:, b]) & _outvotes(top[:, a], top[:, best])
    change = np.where(outvoted, right[:, a].astype(np.float64) - right[:, best], 0.0)[~is_first]
    kappa = ErrorConsistency(right[is_first][:, list(models)]).mean
    gain, *interval = student_interval(change)
    return MajorityVote(models, kappa, chosen_gain, gain, (interval[0], interval[1]), len(change))


def _outvotes(classes: Ints, best: Ints) -> Bools:
    """Return where a class is another than that of the best model, and no empty place."""
    return np.asarray((classes != best) & (classes != NO_LABEL))
