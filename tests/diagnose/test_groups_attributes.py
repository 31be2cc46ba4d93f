"""What fixed patterns are called, by their place."""

import numpy as np
import pytest

from manyhot.core.repeated_patterns import THUMBNAIL_SIDE, FixedPattern
from manyhot.diagnose.groups_attributes import _place

ALL = slice(None)
HALF = THUMBNAIL_SIDE // 2


@pytest.mark.parametrize(
    ("rows", "columns", "name"),
    [
        (slice(0, 9), ALL, "band at the top"),
        (slice(-9, None), ALL, "band at the bottom"),
        (ALL, slice(0, HALF - 1), "band at the left"),
        (ALL, slice(0, HALF), "mark at the left"),  # a band is less than half as wide
        (slice(0, HALF), ALL, "mark at the top"),
        (ALL, slice(20, 28), "band at the middle"),
        (slice(0, 9), slice(-9, None), "tag in the top right corner"),
        (slice(20, 28), slice(20, 28), "mark at the same place"),
        (slice(10, 38), slice(10, 38), "mark at the same place"),
    ],
)
def test_a_pattern_is_named_by_its_place(rows, columns, name):
    where = np.zeros((THUMBNAIL_SIDE, THUMBNAIL_SIDE), bool)
    where[rows, columns] = True
    pattern = FixedPattern(where, np.zeros(3), False, np.zeros(1), np.ones((1, 2)))
    assert _place(pattern) == (name, f"with a {name}")
