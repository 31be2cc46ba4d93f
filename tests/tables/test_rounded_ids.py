"""Ids that were rounded as floats."""

import numpy as np
import pyarrow as pa
import pytest

from manyhot.errors import InputError
from manyhot.tables.rounded_ids import check_not_rounded


@pytest.mark.parametrize(
    "ids",
    [
        ["5.877e+17", "3"],
        ["1.23457E+11", None],
        ["1e+05", "2"],
        ["5.8e17"],
        ["587722981742084181.0"],
        [2.0**54, np.nan, None],
    ],
)
def test_floats_that_may_be_rounded_are_no_ids(ids):
    with pytest.raises(InputError, match="Image ids are floats that may have been rounded"):
        check_not_rounded(pa.array(ids), "votes.csv")


@pytest.mark.parametrize(
    "ids",
    [["12E0", "3"], ["5E20", "6E3"], ["5.8e+17", "a.jpg"], ["1600000000000000.0"], [2.0**53, None], [2**60]],
)
def test_exact_numbers_and_codes_are_ids(ids):
    check_not_rounded(pa.array(ids), "votes.csv")
