"""Texts are as wide as they are taken to be."""

import re

import pytest

from manyhot.report.svg import fitting, lean, letter_widths, width


def test_widths_are_those_of_arial():
    assert width("iM W", 10) == pytest.approx((222 + 833 + 278 + 944) / 100)
    assert width("iM W", 10, bold=True) == pytest.approx((278 + 833 + 278 + 944) / 100)
    assert {width(d, 10) for d in "0123456789"} == {5.56}


def test_letters_whose_width_is_not_known_are_left_as_they_are():
    assert width("雪", 12) is None
    assert not list(fitting("雪", 12))
    assert not list(fitting("", 12))


def test_the_script_of_a_page_gets_each_letter_once():
    for table in letter_widths():
        letters = "".join(table.values())
        assert len(set(letters)) == len(letters)
        assert set(map(chr, range(32, 127))) <= set(letters)


def test_each_line_of_a_drawing_says_its_width():
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><g><text font-size="10px">ab</text>'
        '<text font-size="10px" font-weight="bold"><tspan>ab</tspan><tspan>i</tspan></text></g></svg>'
    )
    assert re.findall('textLength="([^"]*)" lengthAdjust="spacingAndGlyphs"', lean(svg, "f")) == [
        "11.12",
        "11.67",
        "2.78",
    ]
