"""Prediction sets where rounding would cost an image, and of lists that leave nothing out."""

import numpy as np

from manyhot.core.conformal import fit_threshold
from manyhot.core.sets import Case, LabelSets


def test_as_many_are_missed_as_alpha_allows():
    """0.29 of 100 are 29, though the product is a little less in floating point."""
    n, alpha = 99, 0.29
    assert alpha * (n + 1) < 29
    first = np.linspace(0.5, 0.99, n).astype(np.float32)
    labels = LabelSets.from_lists([[0]] * n, 2, label=[0] * n)
    case = Case.from_scores(labels, np.stack([first, 1 - first], 1), kind="probability")
    assert fit_threshold(case, np.arange(n), cover="label", alpha=alpha) == first[28]


def test_lists_of_all_classes_end_nowhere():
    p = np.array([[0.6, 0.4], [0.55, 0.45]], np.float32)
    labels = LabelSets.from_lists([[1], [1]], 2, label=[1, 1])
    case = Case(labels, np.array([[0, 1], [0, 1]]), listed=p)
    # One image of two may be missed at most: the threshold is the first, 0.4, beneath both lists' ends.
    assert fit_threshold(case, np.arange(2), cover="label", alpha=0.4) == np.float32(0.4)
    assert fit_threshold(case, np.arange(2), cover="label", alpha=0.1) == 0
