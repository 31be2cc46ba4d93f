"""The top classes of dense scores, block by block."""

from __future__ import annotations

import numpy as np

from manyhot.core.array_types import AnyFloats, Ints32

FEW_PLACES = 6
"""Up to this k, the top classes are searched one after another, which is five times as fast as a sort."""


def top_k(scores: AnyFloats, k: int, *, block: int = 1024) -> Ints32:
    """Return the top k classes of each row, best first. Among equal scores, the lower class id comes first.

    Parameters
    ----------
    scores : ndarray of float16 or float32, shape (n, C)
        Scores without NaN.
    k : int
        Number of classes, C at most.
    block : int
        Number of rows per block, which limits the additional memory.
    """
    n, n_classes = scores.shape
    k = min(k, n_classes)
    best = np.empty((n, k), np.int32)
    if k <= FEW_PLACES:
        for start in range(0, n, block):
            best[start : start + block] = few_best(scores[start : start + block], k)
        return best
    return best_by_keys(scores, best, block)


def few_best(scores: AnyFloats, k: int) -> Ints32:
    """Return the top k classes of a block of rows by looking for the highest score k times."""
    rows, left = np.arange(len(scores)), scores.astype(np.float32)  # a copy
    best = np.empty((len(scores), k), np.int32)
    for place in range(k):
        best[:, place] = left.argmax(axis=1)
        if place and (left[rows, best[:, place]] == -np.inf).any():  # it may be a place that was taken
            return best_by_keys(scores, best, len(scores))
        left[rows, best[:, place]] = -np.inf
    return best


def best_by_keys(scores: AnyFloats, best: Ints32, block: int) -> Ints32:
    """Fill in the top classes of each row by sorting scores and classes as one number."""
    (n, n_classes), k = scores.shape, best.shape[1]
    reverse = np.arange(n_classes - 1, -1, -1, dtype=np.int64)
    for start in range(0, n, block):
        key = (_ordered_int(scores[start : start + block]).astype(np.int64) << 32) | reverse
        if k < n_classes:
            key = np.partition(key, n_classes - k, axis=1)[:, n_classes - k :]
        key.sort(axis=1)
        best[start : start + block] = n_classes - 1 - (key[:, ::-1] & 0xFFFFFFFF)
    return best


def _ordered_int(scores: AnyFloats) -> Ints32:
    # Positive floats have the order of their bits; negative ones the reverse. Adding 0 makes -0.0 equal to
    # 0.0.
    bits = (scores.astype(np.float32) + np.float32(0)).view(np.int32)
    return np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)
