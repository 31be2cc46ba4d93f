"""Label sets from a matrix of answers."""

import numpy as np

from manyhot.core.sets import NOT_ASKED, LabelSets


def sets_of(state, usable=None):
    """Return label sets that record all answers; `state` has shape (n, C)."""
    n, n_classes = state.shape
    rows, classes = np.nonzero(state != NOT_ASKED)
    indptr = np.append(0, np.cumsum(np.bincount(rows, minlength=n)))
    asked = state[rows, classes].astype(np.uint8)
    none = np.full(n, -1, np.int32)
    usable = np.ones(n, bool) if usable is None else usable
    return LabelSets(n_classes, indptr, classes.astype(np.int32), asked, none, usable, asked_known=True)
