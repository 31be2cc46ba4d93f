"""Clusters of classes that models confuse with one another, as superclasses where none are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import typing as npt
from scipy.special import gammaincinv

from manyhot.core.array_types import Bools, Floats, Ints
from manyhot.core.resampling import LEVEL
from manyhot.core.sets import NO_LABEL, UNCLEAR, YES, Case, LabelSets

MIN_RATIO = 2.0
"""How many times as often as classes on average the classes of a cluster must be confused.

On PASCAL VOC, 1.5 and 2 give the same clusters from 940 errors of four heads: *bus, car, train*, *cat, dog*
and *cow, horse, sheep*. With 3, *train* is alone.
"""

MOST_CLUSTERED_CLASSES = 5000
"""Maximum number of classes. Linkage needs the similarities of all pairs, 100 MB for 5,000 classes."""


@dataclass(frozen=True, eq=False)
class ConfusionCounts:
    """How often models predict each class for images of each other class.

    Attributes
    ----------
    confused : ndarray of int64, shape (C, C)
        Each row is a class of images: the original label or, without one, the only valid class. Valid and
        unclear predictions are not confusions.
    images : ndarray of int64, shape (C,)
        Number of predictions for images of each class.
    """

    confused: npt.NDArray[np.int64]
    images: npt.NDArray[np.int64]

    @classmethod
    def none(cls, n_classes: int) -> ConfusionCounts:
        """Return counts of 0."""
        return cls(np.zeros((n_classes, n_classes), np.int64), np.zeros(n_classes, np.int64))

    def add(self, case: Case) -> None:
        """Add the predictions of one model."""
        of, best = only_classes(case.labels), case.top[:, 0]
        judged = (of != NO_LABEL) & (best >= 0) & case.labels.usable
        wrong: Bools = judged & (best != of) & (case.state[:, 0] < UNCLEAR)
        np.add.at(self.confused, (of[wrong], best[wrong]), 1)
        np.add.at(self.images, of[judged], 1)


def only_classes(sets: LabelSets) -> Ints:
    """Return the original label of each image or, without one, its only valid class, shape (n,)."""
    valid = sets.state == YES
    only = np.full(len(sets), NO_LABEL)
    only[sets.rows[valid]] = sets.classes[valid]
    only[sets.size != 1] = NO_LABEL
    return np.where(sets.label != NO_LABEL, sets.label, only)


def confusion_clusters(confused: Ints, images: Ints, *, ratio: float = MIN_RATIO) -> npt.NDArray[np.int64]:
    """Return the cluster of each class, shape (C,), or -1 for a class that is in no cluster.

    Clusters are joined by average linkage as long as the mean similarity of their classes is at least
    `ratio`.

    Parameters
    ----------
    confused : ndarray of int, shape (C, C)
        Number of times that the column's class was predicted for images of the row's class. The diagonal is
        ignored.
    images : ndarray of int, shape (C,)
        Number of predictions for images of each class.
    ratio : float
        Minimum similarity; see `confusion_similarity`.

    References
    ----------
    Sokal & Michener, A statistical method for evaluating systematic relationships, University of Kansas
    Science Bulletin 38, 1958 (average linkage).
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    n_classes = len(images)
    none = np.full(n_classes, -1)
    if not 2 <= n_classes <= MOST_CLUSTERED_CLASSES:
        return none
    similarity = confusion_similarity(confused, images)[np.triu_indices(n_classes, 1)]
    largest = similarity.max()
    if largest < ratio:
        return none
    # Linkage needs distances; average linkage of largest - similarity is that of the similarities.
    tree = linkage(largest - similarity, method="average")
    member = fcluster(tree, largest - ratio, criterion="distance")
    joined = np.flatnonzero(np.bincount(member)[member] > 1)
    _, first, cluster = np.unique(member[joined], return_index=True, return_inverse=True)
    none[joined] = np.argsort(np.argsort(first))[cluster]  # numbered by their first classes
    return none


def confusion_similarity(confused: Ints, images: Ints) -> Floats:
    """Return a lower bound on how often two classes are confused, relative to the average, shape (C, C).

    The number of times that either class is predicted for the other class has an interval (Garwood 1936, for
    Poisson counts). The result is the lower end of this interval, divided by the number expected if all pairs
    of classes were confused equally often. The intervals of all pairs are valid simultaneously at 95 %
    (Bonferroni). This prevents false similarities due to the search for the most confused of many pairs.
    """
    counts = np.where(np.eye(len(images), dtype=bool), 0, confused)
    rate = counts.sum() / max(images.sum() * (len(images) - 1), 1)
    expected = rate * (images[:, None] + images[None, :])
    both = counts + counts.T
    n_pairs = max(len(images) * (len(images) - 1) / 2, 1)
    lower = np.where(both > 0, gammaincinv(np.maximum(both, 1), (1 - LEVEL) / 2 / n_pairs), 0)
    return np.asarray(lower / np.where(expected > 0, expected, 1))
