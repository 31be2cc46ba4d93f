"""Where values are on an axis."""

import pytest

from manyhot.evaluate.report.figures.scatter import Side


@pytest.mark.parametrize(
    ("side", "value", "place"),
    [
        (Side((), (2.0, 6.0)), 3.0, 25),
        (Side((), (1.0, 10_000.0), log=True), 10.0, 25),
        (Side((), (3.0, 3.0)), 3.0, 50),
    ],
    ids=["linear", "logarithmic", "one value"],
)
def test_a_place_on_an_axis_is_that_of_its_value(side, value, place):
    assert side.at(value, 100) == pytest.approx(place)
    assert side.value(place, 100) == pytest.approx(value)
