"""Clusters of images that depend on each other, such as the images of a patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Bools, Floats, Ints64, Positions


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
        """Return what leaving out each cluster changes, from what leaving out each image changes.

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
        Changes of m of n images are added up and multiplied by (n - 1) / (n - m), which is exact for a mean
        over images, and exact to first order for other values.
        """
        sizes, n = self.sizes(scored), len(changes)
        sums = np.bincount(self.number[scored], changes, self.n)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((sums * (n - 1) / (n - sizes))[sizes > 0])
