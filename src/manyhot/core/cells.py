"""Overlapping slices as unions of disjoint cells: one pass over the images serves all slices."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cached_property
from typing import Any

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
    packed : ndarray of uint64, shape (S, ceil(n / 64))
        The slices as bits.
    """

    cell: npt.NDArray[np.intp]
    order: npt.NDArray[np.intp]
    edges: npt.NDArray[np.intp]
    member: npt.NDArray[np.float64]
    packed: npt.NDArray[np.uint64]

    @classmethod
    def of(cls, masks: npt.NDArray[np.bool_]) -> Cells:
        """Split images by the slices they are in; `masks` has shape (S, n)."""
        patterns, cell = np.unique(np.packbits(masks, axis=0), axis=1, return_inverse=True)
        cell = cell.ravel()
        size = np.bincount(cell, minlength=patterns.shape[1])
        member = np.unpackbits(patterns, axis=0, count=len(masks)).astype(np.float64)
        edges = np.concatenate([[0], np.cumsum(size)])
        return cls(cell, np.argsort(cell, kind="stable"), edges, member, _pack(masks))

    def count(self, flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Return how many of n flags are set within each slice, shape (S,)."""
        # Models share their denominators, the very same array; the last few counts are kept.
        for known, found in self._counted:
            if known is flags:
                return found
        # Counting bits of 64 images at a time is twenty times faster than adding them up by cell.
        counts: npt.NDArray[np.int64] = np.bitwise_count(self.packed & _pack(flags)).sum(1, dtype=np.int64)
        self._counted.append((flags, counts))
        return counts

    @cached_property
    def _counted(self) -> deque[tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]]:
        return deque(maxlen=8)

    def value(self, ratio: Ratio) -> npt.NDArray[np.float64]:
        """Return ``ratio.value`` of each slice, shape (S,); NaN where nothing counts."""
        num, den = self._sums(ratio, ratio.num), self._sums(ratio, ratio.den)
        filled = den > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            values: npt.NDArray[np.float64] = np.where(filled, num / den, 0).sum(0) / filled.sum(0)
        return values

    def _sums(self, ratio: Ratio, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return the sums of values by stratum and slice, shape (G, S)."""
        if ratio.stratum is None and values.dtype == bool:
            return self.count(values)[None].astype(np.float64)
        if ratio.stratum is None:
            return (self.member @ np.add.reduceat(values[self.order], self.edges[:-1]))[None]
        k = self.member.shape[1]
        stratum = np.where(ratio.scored, ratio.stratum, 0)
        at, n_strata = stratum * k + self.cell, int(stratum.max(initial=0)) + 1
        sums: npt.NDArray[np.float64] = (
            np.bincount(at, values, n_strata * k).reshape(n_strata, k) @ self.member.T
        )
        return sums


def _pack(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint64]:
    """Return flags of shape (…, n) as bits, shape (…, ceil(n / 64)); the rest is 0."""
    packed = np.packbits(flags, axis=-1)
    padded = np.zeros((*packed.shape[:-1], -(-packed.shape[-1] // 8) * 8), np.uint8)
    padded[..., : packed.shape[-1]] = packed
    return padded.view(np.uint64)
