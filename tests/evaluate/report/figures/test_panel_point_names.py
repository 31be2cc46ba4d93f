"""Names of points stand beside their points and within the panel."""

import pytest

from manyhot.evaluate.report.figures.panel import NAME_SIZE, place_names
from manyhot.report.svg import width

SIZE = (300.0, 100.0)


@pytest.mark.parametrize(
    ("point", "side"),
    [((20.0, 50.0), "right"), ((290.0, 50.0), "left")],
)
def test_a_name_stands_where_there_is_room_for_it(point, side):
    text, (x, y) = place_names({"resnet50": point}, ["resnet50"], (), SIZE)["resnet50"]
    half = width(text, NAME_SIZE) / 2
    assert (text, y) == ("resnet50", point[1])
    near, far = (x - half, x + half) if side == "right" else (x + half, x - half)
    assert abs(near - point[0]) == pytest.approx(8)
    assert abs(far - point[0]) == pytest.approx(8 + 2 * half)


def test_a_name_beside_which_the_panel_ends_stands_below():
    _, (x, y) = place_names({"resnet50": (150.0, 2.0)}, ["resnet50"], (), SIZE)["resnet50"]
    assert (x, y) == (150, pytest.approx(2 + 8 + 0.62 * NAME_SIZE))


def test_a_name_for_which_there_is_no_room_is_left_out():
    assert place_names({"resnet50": (20.0, 50.0)}, ["resnet50"], (), (40.0, 100.0)) == {}
