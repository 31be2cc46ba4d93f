"""Superclasses as large as a share of all classes that rounding takes below a whole number."""

from dataclasses import replace

import numpy as np

from manyhot.core.class_hierarchy import Hierarchy
from manyhot.core.error_kinds import ErrorContext, Errors
from manyhot.core.sets import LabelSets
from manyhot.registry import get


def test_a_group_of_exactly_the_largest_share_is_one_superclass():
    n, k = 22, 15
    largest = k / n
    assert largest * n < k
    paths = [(f"c{i}", "inner", "root") if i < k else (f"c{i}", "root") for i in range(n)]
    sets = LabelSets.from_lists([[0], [0]], n, label=[0, 0])
    known = replace(ErrorContext.of(sets), hierarchy=Hierarchy.of(paths))
    nothing = np.zeros(2, np.uint8), np.full(2, np.nan, np.float32)
    errors = Errors(known, np.array([0, 1]), np.array([k - 1, k], np.int32), *nothing)
    assert get("rule", f"fine-grained(largest={largest!r})")(errors).fits.tolist() == [True, False]
