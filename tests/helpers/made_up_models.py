"""Ensembles of made-up models."""

import numpy as np

from manyhot.core.label_issues import Ensemble
from manyhot.core.top_classes import top_k

C = 7


def ensemble(label, *given, ranks=False, known=None):
    """Return models of dense probabilities, or of the ranks that they give."""
    tops = tuple(top_k(p, C) for p in given)
    values = tuple(np.take_along_axis(p, t.astype(int), 1) for p, t in zip(given, tops, strict=True))
    nothing = (None,) * len(given)
    return Ensemble(
        C,
        tuple(f"m{i}" for i in range(len(given))),
        tops,
        nothing if ranks else values,
        nothing if ranks else values,
        np.asarray(label, np.int32),
        known,
    )
