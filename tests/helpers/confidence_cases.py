"""Cases of few classes for metrics of confidence."""

import numpy as np

from manyhot.core.sets import Case, LabelSets
from manyhot.registry import get, names

OURS = [
    name
    for name in names("metric")
    if get("metric", name).about.get("needs") in ("confidence", "probabilities")
    and not name.endswith(
        ("_votes", "entropy_correlation")
    )  # these need shares of votes: tests/core/test_distributions.py
]


def two_classes(first, label, kind="probability"):
    """Return a case of two classes from the probability of the first."""
    first = np.asarray(first, np.float32)
    labels = LabelSets.from_lists([[y] for y in label], 2, label=label)
    return Case.from_scores(labels, np.stack([first, 1 - first], axis=1), kind=kind)
