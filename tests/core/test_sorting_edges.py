"""Rules where neighbours are fewer than asked for."""

from dataclasses import replace

import numpy as np

from manyhot.core.sets import LabelSets
from manyhot.core.sorting import NOTHING, Errors, Known, Neighbours
from manyhot.registry import get


def test_a_neighbour_that_is_not_there_is_of_no_class():
    """Not of the last one either, which its number would find."""
    near = Neighbours(np.array([[0, NOTHING], [0, 2]]), np.array([1.0, 1.0]))
    sets = LabelSets.from_lists([[0], [0]], 3, label=[0, 0])
    known = replace(Known.of(sets), groups=np.array([0, 1, 2]), neighbours=near)
    errors = Errors(
        known,
        np.array([0, 1]),
        np.array([2, 2], np.int32),
        np.zeros(2, np.uint8),
        np.full(2, np.nan, np.float32),
    )
    verdict = get("rule", "out-of-vocabulary")(errors)
    assert (verdict.fits.tolist(), verdict.because.tolist()) == ([False, True], [NOTHING, 2])
