"""The images on which a class is ranked worst: the highest of the wrong, and the lowest of the valid."""

from __future__ import annotations

import numpy as np

from manyhot.core.array_types import Ints
from manyhot.core.sets import UNCLEAR, YES, Case


def extreme_images(case: Case, class_id: int, n: int) -> tuple[Ints, Ints]:
    """Return the usable images with the worst wrong predictions and the worst misses of a class.

    Parameters
    ----------
    case : Case
        With scores of all classes.
    class_id : int
    n : int
        Maximum number of images of each kind.

    Returns
    -------
    wrong, missed : ndarray of int
        Images on which the class is neither valid nor unclear, highest score first, and images on which it is
        valid, lowest score first. If scores are equal, the earlier image comes first.
    """
    sets = case.labels
    assert case.scores is not None
    scores, asked = case.scores[:, class_id], sets.classes == class_id
    accepted = sets.rows[asked & (sets.state >= UNCLEAR)]
    valid = sets.rows[asked & (sets.state == YES)]
    without = np.setdiff1d(np.flatnonzero(sets.usable), accepted)
    valid = np.unique(valid[sets.usable[valid]])
    return (
        without[np.argsort(-scores[without].astype(np.float64), kind="stable")[:n]],
        valid[np.argsort(scores[valid], kind="stable")[:n]],
    )
