"""What fixed patterns are called, by their place, and which measurements define groups."""

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from manyhot.core.repeated_patterns import THUMBNAIL_SIDE, FixedPattern
from manyhot.diagnose.groups_attributes import (
    _place,
    class_groups,
    measured_groups,
    metadata_groups,
)
from manyhot.diagnose.groups_rates import rate_rows
from manyhot.diagnose.image_statistics import measure_images

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


def test_grey_photographs_have_no_tint_and_constant_columns_no_groups(tmp_path):
    """The mean colour differences of grey photographs are zero only up to rounding, about 1e-9."""
    rng = np.random.default_rng(0)
    uris = [str(tmp_path / f"{i}.png") for i in range(20)]
    for uri in uris:
        Image.fromarray(rng.integers(0, 256, (40, 30), dtype=np.uint8)).convert("RGB").save(uri)
    measured = measure_images(pa.array(uris), uris, None)
    assert {g.kind for g in measured_groups(measured)} >= {"brightness", "sharpness"}
    assert not [g.name for g in measured_groups(measured) if g.kind in ("tint", "saturation")]
    thirds = pa.table({"dose": 0.1 * np.arange(1, 21) / np.arange(1, 21)})
    assert len(set(thirds["dose"].to_pylist())) > 1
    assert not list(metadata_groups(thirds))


def test_groups_of_measurements_are_compared_with_the_rest(tmp_path):
    """The limits are quantiles: here, all images are bright, sharp and yellow, and none is dark or blue."""
    rng = np.random.default_rng(0)
    uris = [str(tmp_path / f"{i}.png") for i in range(20)]
    for i, uri in enumerate(uris):
        pixels = rng.integers(200, 256, (40, 30, 3), dtype=np.uint8)
        pixels[..., 2] = 40 + i
        Image.fromarray(pixels).save(uri)
    measured = measure_images(pa.array(uris), uris, None)
    phrases = {
        g.name: g.phrase for g in measured_groups(measured) if g.kind in ("tint", "brightness", "sharpness")
    }
    half = next(name for name in phrases if name.startswith("tint blue ≥ −"))
    assert phrases[half] == f"with a tint that is closer to blue ({half})"
    named = {phrase.partition(" (")[0] for name, phrase in phrases.items() if "border" not in name}
    assert {"that are darker", "that are brighter", "that are less sharp", "that are sharper"} <= named
    assert all(" closer " in phrase or phrase.startswith("that are ") for phrase in named)


def test_whole_numbers_above_those_of_floats_are_measurements():
    column = pa.table({"taken": 2**53 + 1 + 10**15 * np.arange(100)})
    lowest = [np.flatnonzero(g.inside) for g in metadata_groups(column) if "≤" in g.name]
    assert np.arange(20).tolist() in [rows.tolist() for rows in lowest]
    counts = {"error": (np.ones(100, int), np.ones(100, int))}
    rates = list(rate_rows({}, counts, np.arange(100), column, None, {}))
    assert [row["n"] for row in rates] == [25] * 4


def test_only_classes_with_unknown_cells_are_compared_on_images_of_their_own():
    """Two unknown cells made the search slow: each class was compared by itself."""
    shown, usable = np.eye(5, 3, dtype=bool), np.array([True, True, True, True, False])
    asked = np.ones((5, 3), bool)
    asked[4], asked[3, 1] = False, False  # an image that does not count, and one cell of another
    groups = {group.name: group.among for group in class_groups(shown, usable, "abc", asked)}
    assert [name for name, among in groups.items() if among is not None] == ["also b", "not also b"]
    assert (groups["also b"] == asked[:, 1]).all()
