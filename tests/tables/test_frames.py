"""Ids that are listed once."""

import pyarrow as pa
import pytest

from manyhot.errors import InputError, MatchError
from manyhot.tables.frames import check_unique, read_frame_part


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


LARGE = [2**53 + 1 + 2 * i for i in range(4)]
"""Numbers that no float represents."""


def frames(ids):
    """The same ids in frames of several libraries."""
    table = pa.table({"image_id": pa.array(ids, pa.int64()), "cat": [0.1, 0.2, 0.3, 0.4]})
    pl, pd = pytest.importorskip("polars"), pytest.importorskip("pandas")
    whole = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return [table, pl.DataFrame(table), whole, whole.set_index("image_id")]


def test_large_ids_are_exact():
    for frame in frames(LARGE):
        assert read_frame_part(frame, "m").ids.to_pylist() == list(map(str, LARGE))


def test_a_missing_id_is_refused_by_its_row():
    for frame in frames([*LARGE[:2], None, LARGE[3]]):
        with pytest.raises(InputError, match=r"An image id is missing\.\n  where:   m, row 2\n"):
            read_frame_part(frame, "m")


def test_ids_that_are_rounded_floats_are_refused():
    pd = pytest.importorskip("pandas")
    exact = read_frame_part(pd.DataFrame({"image_id": [1.0, 2.0**53], "cat": 0.5}), "m")
    assert exact.ids.to_pylist() == ["1", str(2**53)]
    with pytest.raises(InputError, match="Image ids are floats that may have been rounded"):
        read_frame_part(pd.DataFrame({"image_id": [1.0, 2.0**54], "cat": 0.5}), "m")
