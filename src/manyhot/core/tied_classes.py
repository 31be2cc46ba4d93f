"""Images whose highest score belongs to several classes, of which the lowest class is taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from manyhot.core.sets import YES, Case
from manyhot.core.softmax import ROWS


@dataclass(frozen=True)
class TiedTops:
    """How much the order of tied classes matters.

    Attributes
    ----------
    share : float
        Share of the images whose highest score belongs to several classes.
    real1 : float
        ``real1`` with the lowest of the tied classes, as it is computed.
    expected : float
        The mean of ``real1`` if one of the tied classes is drawn at random.
    n : int
        Number of images that count.
    """

    share: float
    real1: float
    expected: float
    n: int


def tied_tops(case: Case) -> TiedTops | None:
    """Return how much the order of tied classes matters; None without scores of all classes or label sets.

    The expectation is exact: with t tied classes, of which h are valid, it is the mean of h / t over images.
    """
    sets, scores = case.labels, case.scores
    if scores is None or not sets.scored.any():
        return None
    best = np.empty(len(scores), scores.dtype)
    n_tied = np.empty(len(scores), np.int64)
    for start in range(0, len(scores), ROWS):
        part = slice(start, start + ROWS)
        best[part] = scores[part].max(axis=1)
        n_tied[part] = np.count_nonzero(scores[part] == best[part, None], axis=1)
    valid = sets.state == YES
    rows, classes = sets.rows[valid], sets.classes[valid]
    n_valid = np.bincount(rows[scores[rows, classes] == best[rows]], minlength=len(scores))
    at = sets.scored
    return TiedTops(
        float((n_tied[at] > 1).mean()),
        float(case.hit[at, 0].mean()),
        float((n_valid[at] / n_tied[at]).mean()),
        int(np.count_nonzero(at)),
    )
