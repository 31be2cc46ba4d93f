"""Cases of dense scores and states of all cells, drawn at random."""

import numpy as np

from manyhot.core.sets import NO_LABEL, NOT_ASKED, Case, LabelSets


def case_of(state, scores, usable=None):
    """Build a case from a matrix of states; its arrays are read-only, so that nothing can change them."""
    n, n_classes = state.shape
    rows, classes = np.nonzero(state != NOT_ASKED)
    arrays = [
        np.append(0, np.cumsum(np.bincount(rows, minlength=n))).astype(np.int64),
        classes.astype(np.int32),
        state[rows, classes].astype(np.uint8),
        np.full(n, NO_LABEL, np.int32),
        np.ones(n, bool) if usable is None else usable.copy(),
        np.zeros((n, 1), np.int32),
        scores.copy(),
    ]
    for array in arrays:
        array.flags.writeable = False
    return Case(LabelSets(n_classes, *arrays[:5], asked_known=True), *arrays[5:])


def draw(seed, n=160, n_classes=20, dtype=np.float32, decimals=1):
    """Return states, scores with ties that are higher for positives, and usable images.

    Classes become rarer from the first, which is valid on half of the images, to the last, on none.
    """
    rng = np.random.default_rng(seed)
    frequency = np.linspace(0.5, 0, n_classes)
    yes = rng.random((n, n_classes)) < frequency
    other = rng.choice([0, 1, 2], (n, n_classes), p=[0.5, 0.4, 0.1])
    scores = (rng.normal(size=(n, n_classes)) + 1.2 * yes).round(decimals).astype(dtype)
    return np.where(yes, 3, other).astype(np.uint8), scores, rng.random(n) < 0.9
