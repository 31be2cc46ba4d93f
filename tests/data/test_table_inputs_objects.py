"""Locations of objects that are passed as frames."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from manyhot.data.table_inputs import open_objects
from manyhot.errors import InputError

FRAME = pd.DataFrame(
    {"image_id": ["a", "b"], "class": ["dog", "cat"], "x1": 0.25, "y1": 0.25, "x2": [0.5, 0.75], "y2": 0.5}
)


@pytest.mark.parametrize(
    "frame",
    [FRAME, FRAME.set_index("image_id"), pl.from_pandas(FRAME), pl.from_pandas(FRAME).to_arrow()],
    ids=["pandas", "an index of ids", "polars", "Arrow"],
)
def test_frames_are_objects(frame):
    found = open_objects(frame)
    assert found.keys == ("cat", "dog")
    assert found.class_id.tolist() == [1, 0]
    assert np.array_equal(found.boxes, [[0.25, 0.25, 0.5, 0.5], [0.25, 0.25, 0.75, 0.5]])
    assert open_objects(found) is found


def test_masks_belong_to_objects_in_memory(tmp_path):
    (tmp_path / "a.png").write_bytes(b"a mask")
    for objects in (FRAME, open_objects(FRAME)):
        assert open_objects(objects, masks=tmp_path).semantic.keys() == {"a"}


def test_what_is_no_table_of_objects_is_refused():
    with pytest.raises(InputError) as error:
        open_objects(3)
    assert str(error.value) == (
        "`objects` is not a table of objects.\n  got:     int\n"
        "  allowed: a file, a folder, an objects table, or a data frame "
        "with the column image_id, filename, path or id or with the ids as its index"
    )
