"""A map over its photograph: what is lit, what fades, and the lines."""

import numpy as np
import pytest

from manyhot.diagnose.pixels.regions import enlarged, highest, overlay

AMBER, WHITE = (255, 176, 0), (255, 255, 255)


def photo(height=60, width=80):
    return np.full((height, width, 3), (200, 40, 40), np.uint8)


def spot(height=60, width=80):
    found = np.zeros((height, width))
    found[10:20, 60:70] = 1
    found[15, 65] = 2
    return found


def is_colour(picture, colour):
    return (np.abs(picture.astype(int) - colour) <= 1).all(2)


@pytest.mark.parametrize(
    ("shape", "expected"), [((60, 80), (240, 320)), ((500, 250), (320, 160)), ((1, 9), (36, 320))]
)
def test_photographs_keep_their_shape(shape, expected):
    assert enlarged(photo(*shape)).shape == (*expected, 3)
    assert overlay(photo(*shape), np.zeros(shape)).shape == (*expected, 3)


def test_what_speaks_for_a_class_is_lit_and_the_rest_is_grey():
    found = spot()
    found[:, :8] = np.nan
    picture = overlay(photo(), found).astype(int)
    inside, beside, unseen = picture[46:50, 246:250], picture[150:200, 150:200], picture[:, :20]
    assert inside[..., 0].min() > 150 > inside[..., 1].max()  # still red
    assert np.ptp(beside, axis=2).max() == np.ptp(unseen, axis=2).max() == 0
    grey = 0.299 * 200 + 0.701 * 40
    assert beside.mean() == pytest.approx(0.5 * grey, abs=1)
    assert unseen.mean() == pytest.approx(0.25 * grey, abs=1)


def test_lines_go_around_half_of_the_highest_value_and_the_object():
    region = np.zeros((60, 80), bool)
    region[30:50, 10:30] = True
    picture = overlay(photo(), spot(), region)
    rows, columns = np.nonzero(is_colour(picture, AMBER))
    assert (rows.min(), columns.min()) == pytest.approx((40, 240), abs=3)
    assert (rows.max(), columns.max()) == pytest.approx((79, 279), abs=3)
    white = is_colour(picture, WHITE)
    rows, columns = np.nonzero(white[100:])
    assert (rows.min() + 100, columns.min()) == pytest.approx((120, 40), abs=3)
    assert (rows.max() + 100, columns.max()) == pytest.approx((199, 119), abs=3)
    assert not white[150, 80]  # inside of the object is no line


def test_a_cross_is_at_the_highest_point():
    assert highest(spot()) == (65.5 / 80, 15.5 / 60)
    white = is_colour(overlay(photo(), spot()), WHITE)
    rows, columns = np.nonzero(white)
    assert (rows.min() + rows.max()) / 2 == pytest.approx(62, abs=1)
    assert (columns.min() + columns.max()) / 2 == pytest.approx(262, abs=1)
    tied = np.zeros((4, 4))
    tied[1:3, 1:3] = 1
    assert highest(tied) == (0.5, 0.5)


def test_a_map_without_anything_that_speaks_for_the_class_is_dark():
    picture = overlay(photo(), np.full((60, 80), -1.0))
    assert not is_colour(picture, AMBER).any()
    assert np.ptp(picture.astype(int), axis=2).max() == 0
