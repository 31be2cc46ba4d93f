"""Overlapping slices as unions of disjoint cells: one pass over the images serves all slices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manyhot.core.estimates import Ratio


@dataclass(frozen=True)
class Cells:
    """The images that are in exactly the same slices, for K such patterns.

    Attributes
    ----------
    cell : ndarray of int, shape (n,)
        The cell of each image.
    order : ndarray of int, shape (n,)
        Images sorted by cell.
    edges : ndarray of int, shape (K + 1,)
        Cell k is ``order[edges[k]:edges[k + 1]]``.
    member : ndarray of float64, shape (S, K)
        1 where slice s contains cell k.
    """

    cell: npt.NDArray[np.intp]
    order: npt.NDArray[np.intp]
    edges: npt.NDArray[np.intp]
    member: npt.NDArray[np.float64]

    @classmethod
    def of(cls, masks: npt.NDArray[np.bool_]) -> Cells:
        """Split images by the slices they are in; `masks` has shape (S, n)."""
        patterns, cell = np.unique(np.packbits(masks, axis=0), axis=1, return_inverse=True)
        cell = cell.ravel()
        size = np.bincount(cell, minlength=patterns.shape[1])
        member = np.unpackbits(patterns, axis=0, count=len(masks)).astype(np.float64)
        edges = np.concatenate([[0], np.cumsum(size)])
        return cls(cell, np.argsort(cell, kind="stable"), edges, member)

    def sum(self, values: npt.NDArray[np.bool_] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the sum of values of shape (n,) within each slice, shape (S,)."""
        total: npt.NDArray[np.float64] = self.member @ np.bincount(self.cell, values, self.member.shape[1])
        return total

    def value(self, ratio: Ratio) -> npt.NDArray[np.float64]:
        """Return ``ratio.value`` of each slice, shape (S,); NaN where nothing counts."""
        k = self.member.shape[1]
        at, n_strata = self.cell, 1
        if ratio.stratum is not None:
            stratum = np.where(ratio.scored, ratio.stratum, 0)
            at, n_strata = stratum * k + self.cell, int(stratum.max(initial=0)) + 1
        num = np.bincount(at, ratio.num, n_strata * k).reshape(n_strata, k) @ self.member.T
        den = np.bincount(at, ratio.den, n_strata * k).reshape(n_strata, k) @ self.member.T
        filled = den > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            values: npt.NDArray[np.float64] = np.where(filled, num / den, 0).sum(0) / filled.sum(0)
        return values
