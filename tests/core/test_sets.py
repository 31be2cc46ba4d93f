import numpy as np

from manyhot.core.sets import Case, LabelSets


def test_unfilled_places_are_never_the_label():
    case = Case(LabelSets.from_lists([[1]], 3, label=[-1]), np.array([[2, -1]]))
    assert case.is_label.tolist() == [[False, False]]
