"""Mean intersection over union of class masks, under any weights on the images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

VOID = 255
"""A pixel that nobody judged."""

Floats = npt.NDArray[np.float64]


def pixel_counts(
    wanted: npt.NDArray[np.integer], found: npt.NDArray[np.integer], n_classes: int
) -> npt.NDArray[np.int64]:
    """Return how many pixels of an image are of each class in both masks, in the one, and in the other.

    Parameters
    ----------
    wanted, found : ndarray of int, shape (height, width)
        `VOID` in `wanted` does not count.
    n_classes : int

    Returns
    -------
    ndarray of int64, shape (3, n_classes)
    """
    inside = wanted != VOID
    wanted, found = wanted[inside], found[inside]
    parts = (wanted[wanted == found], wanted, found)
    return np.stack([np.bincount(part, minlength=n_classes) for part in parts]).astype(np.int64)


def class_overlaps(counts: npt.NDArray[np.int64], weights: npt.ArrayLike | None = None) -> Floats:
    """Return intersection over union of each class, of the pixels of all images together.

    Parameters
    ----------
    counts : ndarray of int, shape (n, 3, C)
        See `pixel_counts`.
    weights : array-like, shape (R, n), optional
        How often each image counts; once by default.

    Returns
    -------
    ndarray of float64, shape (R, C)
        NaN where no pixel of the images is of the class.

    References
    ----------
    Everingham et al. 2015, The PASCAL Visual Object Classes Challenge: A Retrospective,
    doi 10.1007/s11263-014-0733-5, section 4.2.
    """
    w = np.ones((1, len(counts))) if weights is None else np.asarray(weights, np.float64)
    both, wanted, found = np.tensordot(w, counts.astype(np.float64), axes=1).transpose(1, 0, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(wanted > 0, both / (wanted + found - both), np.nan)
