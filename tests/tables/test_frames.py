"""Ids that are listed once."""

import pyarrow as pa
import pytest

from manyhot.errors import MatchError
from manyhot.tables.frames import check_unique


def test_ids_that_were_unique_do_not_vouch_for_others():
    """The last unique ids are remembered."""
    unique = pa.array(["a", "b", "c"])
    for _ in range(2):
        check_unique(unique, "labels")
        check_unique(pa.array(["a", "b", "c"]), "labels")
        for twice in (["a", "b", "b"], ["a", "b", "c", "c"]):
            with pytest.raises(MatchError, match="An image is listed more than once"):
                check_unique(pa.array(twice), "labels")
    del unique
    with pytest.raises(MatchError):
        check_unique(pa.array(["a", "a"]), "labels")
