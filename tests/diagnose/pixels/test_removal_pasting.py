"""Objects cut out of one image and pasted into another."""

import numpy as np
import pyarrow as pa
import pytest

from manyhot.diagnose.pixels.removal import Cutting, Pasting, cuttings
from manyhot.tables import Objects, schema

KEYS = ("cat", "ball")


def objects(*rows):
    columns = ["image_id", "class_id", "x1", "y1", "x2", "y2", "ignore"]
    table = pa.Table.from_pylist(
        [dict(zip(columns, row, strict=True)) for row in rows], schema=schema("objects")
    )
    return Objects(table.select(columns), KEYS)


@pytest.fixture
def donor():
    """An image of 40 × 20 pixels with a red ball in a box of 8 × 4 at its right lower end, one to ignore."""
    pixels = np.full((20, 40, 3), 100, np.uint8)
    pixels[16:, 32:] = (255, 0, 0)
    known = objects(
        ("a", 1, 0.8, 0.8, 1, 1, False), ("a", 1, 0, 0, 0.1, 0.1, True), ("a", 0, 0, 0, 1, 1, False)
    )
    return known, pixels


def test_an_object_is_cut_out(donor):
    (found,) = cuttings(donor[0], 1, "a", donor[1])
    assert (found.pixels == (255, 0, 0)).all()
    assert (found.mask.shape, found.centre, found.size) == ((4, 8), (0.9, 0.9), (0.2, 0.2))


@pytest.mark.parametrize(("height", "width"), [(20, 40), (100, 200)])
def test_it_is_pasted_where_it_was(donor, height, width):
    pasting = Pasting(objects(), cuttings(donor[0], 1, "a", donor[1]), frozenset("b"))
    before = np.zeros((height, width, 3), np.uint8)
    found = pasting("b", before)
    expected = np.zeros_like(before)
    expected[height * 4 // 5 :, width * 4 // 5 :] = (255, 0, 0)
    np.testing.assert_array_equal(found, expected)
    assert not before.any()


def test_in_other_shapes_it_keeps_its_own(donor):
    pasting = Pasting(objects(), cuttings(donor[0], 1, "a", donor[1]), frozenset("b"))
    red = pasting("b", np.zeros((40, 40, 3), np.uint8))[..., 0] > 0
    assert (red.any(0).sum(), red.any(1).sum()) == (8, 4)


def frame():
    """A green frame of an image of 40 × 20 pixels, 2 pixels wide: four boxes."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:] = [(0, 255, 0)] * 4
    boxes = ((0, 0, 1, 0.1), (0, 0.9, 1, 1), (0, 0, 0.05, 1), (0.95, 0, 1, 1))
    known = objects(*(("a", 1, *box, False) for box in boxes))
    return cuttings(known, 1, "a", pixels)


def test_all_objects_of_a_donor_are_pasted_and_what_spans_an_image_is_stretched():
    pasting = Pasting(objects(), frame(), frozenset("b"))
    found = pasting("b", np.full((60, 40, 3), 9, np.uint8))[..., 1] == 255
    expected = np.zeros((60, 40), bool)
    expected[:6], expected[-6:], expected[:, :2], expected[:, -2:] = True, True, True, True
    np.testing.assert_array_equal(found, expected)


def test_both_of_two_objects_are_pasted():
    pixels = np.zeros((20, 20, 3), np.uint8)
    pixels[:4, :4], pixels[16:, 16:] = 200, 100
    known = objects(("a", 1, 0, 0, 0.2, 0.2, False), ("a", 1, 0.8, 0.8, 1, 1, False))
    found = Pasting(objects(), cuttings(known, 1, "a", pixels), frozenset("b"))("b", np.zeros_like(pixels))
    np.testing.assert_array_equal(found, pixels)


def test_the_place_of_an_object_is_filled_instead():
    pasting = Pasting(objects(), frame(), frozenset("b"), fill="grey")
    found = pasting("b", np.full((20, 40, 3), 9, np.uint8))
    assert (found[0, 0] == (124, 116, 104)).all()
    assert (found[10, 20] == 9).all()


def test_what_covers_an_image_is_not_pasted():
    whole = cuttings(objects(("a", 1, 0, 0, 1, 1, False)), 1, "a", np.full((8, 8, 3), 5, np.uint8))
    pasting = Pasting(objects(), whole, frozenset("b"))
    assert pasting("b", np.zeros((8, 8, 3), np.uint8)) == "it would cover most of the image"


def test_only_its_pixels_are_pasted():
    mask = np.eye(4, dtype=bool)
    cutting = Cutting("a", np.full((4, 4, 3), 9, np.uint8), mask, (0.5, 0.5), (1.0, 1.0))
    found = Pasting(objects(), [cutting], frozenset("b"))("b", np.zeros((4, 4, 3), np.uint8))
    np.testing.assert_array_equal(found[..., 0] == 9, mask)


def test_it_hides_no_other_object(donor):
    known = objects(("b", 0, 0.85, 0.85, 1, 1, False))
    pasting = Pasting(known, cuttings(donor[0], 1, "a", donor[1]), frozenset("b"))
    assert pasting("b", np.zeros((20, 40, 3), np.uint8)) == "it would cover another object"


def test_other_pixels_have_another_key(donor):
    cut = cuttings(donor[0], 1, "a", donor[1])
    paler = [Cutting("a", c.pixels // 2, c.mask, c.centre, c.size) for c in cut]
    pastings = [
        Pasting(objects(), c, frozenset(i), s)
        for c, i, s in ((cut, "b", 0), (paler, "b", 0), (cut, "c", 0), (cut, "b", 1))
    ]
    assert len({p.key for p in pastings}) == 4
    assert (pastings[0].wants("b"), pastings[0].wants("c")) == (True, False)
