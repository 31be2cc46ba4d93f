"""Classes by the votes of the most similar images."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from manyhot.errors import InputError

_ROWS = 1024


def knn_scores(
    features: npt.NDArray[np.floating],
    label: npt.NDArray[np.integer],
    queries: npt.NDArray[np.floating],
    n_classes: int,
    *,
    k: int = 20,
    temperature: float = 0.07,
) -> npt.NDArray[np.float32]:
    """Return the share of each class in the votes of the k nearest images.

    The nearest images have the largest cosine; a neighbour votes with exp(cosine / temperature).

    Parameters
    ----------
    features : ndarray of float, shape (n, D)
    label : ndarray of int, shape (n,)
    queries : ndarray of float, shape (m, D)
    n_classes : int
    k : int
    temperature : float

    Returns
    -------
    ndarray of float32, shape (m, C)

    Raises
    ------
    InputError
        There are fewer than k images.

    References
    ----------
    Wu et al. 2018, Unsupervised feature learning via non-parametric instance discrimination,
    doi 10.1109/CVPR.2018.00393, section 3.4; k and temperature as in Caron et al. 2021, DINO,
    arXiv 2104.14294 (``eval_knn.py``).
    """
    if k > len(features):
        raise InputError(
            "There are fewer images to fit on than neighbours.",
            got=f"{len(features):,} images",
            allowed=f"at least k={k}",
            do="choose a smaller k",
        )
    known = _unit(features)
    scores = np.zeros((len(queries), n_classes), np.float32)
    for start in range(0, len(queries), _ROWS):
        cosine = _unit(queries[start : start + _ROWS]) @ known.T
        nearest = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        near = np.take_along_axis(cosine, nearest, axis=1)
        # Less the largest: e to 1 / 0.07 is 1.6 million, and with a smaller temperature no number.
        votes = np.exp((near - near.max(1, keepdims=True)) / temperature)
        rows = np.arange(start, start + len(cosine))[:, None]
        np.add.at(scores, (rows, label[nearest]), votes / votes.sum(1, keepdims=True))
    return scores


def _unit(features: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    x = features.astype(np.float32)
    unit: npt.NDArray[Any] = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return unit


def draw_shots(
    label: npt.NDArray[np.integer], classes: npt.NDArray[np.integer], shots: int, rng: np.random.Generator
) -> npt.NDArray[np.intp]:
    """Return rows of a number of random images of each class, without replacement.

    Parameters
    ----------
    label : ndarray of int, shape (n,)
    classes : ndarray of int, shape (c,)
        Each with at least this many images.
    """
    rows = [rng.permutation(np.flatnonzero(label == c))[:shots] for c in classes]
    return np.concatenate([np.empty(0, np.intp), *rows])
