"""Walks past the positives of a group: how much weighs at or above each, under any weights of images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Walk:
    """The images of a group's cells, best score first down to the lowest positive: a walk past the positives.

    Attributes
    ----------
    images : ndarray of uint16 or larger, shape (cells,)
        The image of each cell.
    starts : ndarray of int, shape (runs,)
        Where each run of cells starts that ends at the (tied) positives of one score.
    run : ndarray of int, shape (positives,)
        The run that each positive ends.
    """

    images: Ints
    starts: Ints
    run: Ints


def walk(images: Ints, depth: Ints) -> Walk:
    """Return the walk over cells, best score first, in which each positive lies at a depth."""
    ends, run = np.unique(depth, return_inverse=True)
    return Walk(images, np.append(0, ends[:-1]), run)


def weigh(walks: list[Walk], w: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the weight at or above each positive, walk by walk."""
    # A running sum over all cells waits for each addition: 0.063 s for 13.5 million cells, where sums over
    # runs, and a running sum over the few runs, take 0.020 s.
    sums = [np.cumsum(np.add.reduceat(w.take(walk.images), walk.starts))[walk.run] for walk in walks]
    return np.concatenate(sums)
