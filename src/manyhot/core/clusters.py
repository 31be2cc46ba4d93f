"""Clusters of images that depend on each other, such as the images of a patient, and their permutations.

If the images of a cluster are similar, permuting single images finds relations where there are none: 400
images of 120 patients are hardly more than 120 independent cases. Here, clusters with the same number of
counted images in each stratum exchange their outcomes as a whole, and the images of a cluster exchange theirs
within strata. If a property is unrelated to the outcome, such clusters are exchangeable, whether or not the
property is the same for all images of a cluster, so the test is exact.

References
----------
Winkler, Webster, Vidaurre, Nichols and Smith 2015, Multi-level block permutation,
doi 10.1016/j.neuroimage.2015.05.092: exchangeability blocks, permuted as a whole and within.
Donner and Klar 2000, Design and Analysis of Cluster Randomization Trials in Health Research: the intraclass
correlation from an analysis of variance, and the design effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy import typing as npt
from scipy.special import fdtrc

from manyhot.core.array_types import Bools, Floats, Ints, Ints64, Positions
from manyhot.core.estimates import Pooled
from manyhot.core.sets import YES, LabelSets


@dataclass(frozen=True, eq=False)
class Clusters:
    """The cluster of each of some images.

    Attributes
    ----------
    number : ndarray of int, shape (n,)
        The clusters are numbered from 0.
    n : int
        Number of clusters.
    """

    number: Positions
    n: int

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> Clusters:
        """Number clusters in the order in which they first occur in `values`, shape (n,)."""
        _, first, number = np.unique(values, return_index=True, return_inverse=True)
        place = np.empty(len(first), np.intp)
        place[np.argsort(first)] = np.arange(len(first))
        return cls(place[number.ravel()], len(first))

    def take(self, rows: npt.NDArray[np.integer]) -> Clusters:
        """Return the clusters of some of the images, under the same numbers."""
        return Clusters(self.number[rows], self.n)

    def sizes(self, flags: Bools) -> Ints64:
        """Return how many images of each cluster are flagged, shape (K,)."""
        return np.bincount(self.number[flags], minlength=self.n)

    def count(self, flags: Bools) -> int:
        """Return how many clusters have a flagged image."""
        return int(np.count_nonzero(self.sizes(flags)))

    def summed(self, changes: Floats, scored: Bools) -> Floats:
        """Return the changes from leaving out single clusters, given those from leaving out single images.

        Parameters
        ----------
        changes : ndarray of float64, shape (m,)
            The changes of the scored images, in order.
        scored : ndarray of bool, shape (n,)

        Returns
        -------
        ndarray of float64
            The changes of the clusters with scored images, by number.

        Notes
        -----
        The changes of a cluster of m of the n images are added up and multiplied by (n - 1) / (n - m). This
        is exact for a mean over images, and exact to first order for other values.
        """
        sizes, n = self.sizes(scored), len(changes)
        sums = np.bincount(self.number[scored], changes, self.n)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((sums * (n - 1) / (n - sizes))[sizes > 0])


LARGE_CLUSTER = 0.1
"""Share of the images above which the value without a cluster is computed instead of estimated."""

MOST_LEFT_OUT = 1000
"""Clusters up to which a value is computed without each if changes do not add up: 1 to 12 ms per cluster."""


def pooled_changes(
    estimate: Pooled, inside: Bools, value: float, changes: Floats, clusters: Clusters
) -> Floats:
    """Return the change if each cluster with scored images is left out, from the changes of single images.

    Added up over a large part of the images, these are far from the change, such as if all images of some
    classes are in one cluster.
    """
    scored = estimate.scored & inside
    by_cluster, sizes = clusters.summed(changes, scored), clusters.sizes(scored)
    counted = np.flatnonzero(sizes)
    is_exact = not estimate.is_additive and len(counted) <= MOST_LEFT_OUT
    for i in np.flatnonzero(sizes[counted] > (1 if is_exact else LARGE_CLUSTER * len(changes))):
        if not np.isnan(by_cluster[i]):
            by_cluster[i] = estimate.value(inside & (clusters.number != counted[i])) - value
    return by_cluster


class LabelCorrelation(NamedTuple):
    """How similar the label sets of the images of a cluster are.

    Attributes
    ----------
    icc : float
        Intraclass correlation: the share of the variance of the labels that is between clusters.
    widening : float
        How many times wider the interval of a mean of the labels is over clusters than over images.
    p_value : float
        The probability of at least this correlation if label sets do not depend on clusters.
    concentration : float
        Share of the labels that are in the cluster in which their class is most frequent. If it is large,
        the clusters are groups of classes.
    """

    icc: float
    widening: float
    p_value: float
    concentration: float


def label_correlation(sets: LabelSets, clusters: Clusters, counted: Bools) -> LabelCorrelation | None:
    """Return the correlation of label sets within clusters; None if it is undefined.

    Parameters
    ----------
    sets : LabelSets
        The label sets of n images.
    clusters : Clusters
    counted : ndarray of bool, shape (n,)
        The images that have a cluster.

    Notes
    -----
    With a class as a variable of zeros and ones, the mean squares between the K clusters, B, and within them,
    W, are added up over the classes. For clusters of m_k of the n images, the correlation is
    (B - W) / (B + (m - 1) W) with m = (n - Σ m_k² / n) / (K - 1), and the design effect is
    1 + (Σ m_k² / n - 1) icc. The test refers B / W to the distribution F(K - 1, n - K). It is exact for one
    normal variable, and conservative for a sum over several.
    """
    counted = counted & sets.usable
    size = clusters.sizes(counted)
    size, n = size[size > 0], int(counted.sum())
    k, squares = len(size), float(np.square(size).sum()) / max(n, 1)
    valid = (sets.state == YES) & counted[sets.rows]
    cells = sets.classes[valid].astype(np.int64) * clusters.n + clusters.number[sets.rows[valid]]
    cells, shown = np.unique(cells, return_counts=True)
    total = np.bincount(cells // max(clusters.n, 1), shown, minlength=sets.n_classes)
    at = cells % max(clusters.n, 1)
    explained = (np.square(shown) / clusters.sizes(counted)[at]).sum()
    between, within = explained - np.square(total).sum() / max(n, 1), total.sum() - explained
    if not 1 < k < n or between + within <= 0:
        return None
    b, w, m = between / (k - 1), within / (n - k), (n - squares) / (k - 1)
    icc = float((b - w) / (b + (m - 1) * w))
    largest = np.zeros(sets.n_classes)
    np.maximum.at(largest, cells // clusters.n, shown)
    return LabelCorrelation(
        icc,
        float(np.sqrt(max(1 + (squares - 1) * icc, 0))),
        float(fdtrc(k - 1, n - k, b / w)) if w > 0 else 0.0,
        float(largest.sum() / total.sum()),
    )


def like_clusters(cluster: Ints, stratum: Ints) -> list[Positions]:
    """Return the images of clusters with equal size and strata, as arrays (clusters, images per cluster).

    The images of a cluster are in the order of their strata.

    Parameters
    ----------
    cluster, stratum : ndarray of int, shape (n,)
    """
    order = np.lexsort((stratum, cluster))
    starts = np.flatnonzero(np.diff(cluster[order], prepend=cluster[order[:1]] - 1))
    alike: dict[bytes, list[Positions]] = {}
    for images in np.split(order, starts[1:]):
        alike.setdefault(stratum[images].tobytes(), []).append(images)
    return [np.array(found, np.intp) for found in alike.values()]


def n_exchangeable(cluster: Ints, stratum: Ints) -> int:
    """Return how many images are in clusters that can exchange outcomes with another cluster."""
    return sum(images.size for images in like_clusters(cluster, stratum) if len(images) > 1)


def permuted_in_clusters(
    event: Bools, stratum: Ints, cluster: Ints, times: int, rng: np.random.Generator
) -> Bools:
    """Return the event permuted between and within clusters, shape (times, n).

    Parameters
    ----------
    event : ndarray of bool, shape (n,)
    stratum, cluster : ndarray of int, shape (n,)
    """
    made = np.empty((times, len(event)), bool)
    for images in like_clusters(cluster, stratum):
        own = event[images]
        if own.all() or not own.any():
            made[:, images.ravel()] = own.all()
            continue
        order = np.argsort(rng.random((times, len(images)), np.float32), axis=1)
        # A random number below 1 is added to the place of the stratum: images stay in their stratum.
        strata = np.unique(stratum[images[0]], return_inverse=True)[1]
        within = np.argsort(strata + rng.random((times, *images.shape), np.float32), axis=2)
        made[:, images.ravel()] = np.take_along_axis(own[order], within, axis=2).reshape(times, -1)
    return made
