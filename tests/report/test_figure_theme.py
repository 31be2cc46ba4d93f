"""Colours that everyone can tell apart and read, on both papers."""

import itertools
import re

import pytest

from manyhot.report import figure

SCHEMES = ("light", "dark")


def luminance(hexadecimal):
    channels = [int(hexadecimal[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_what_it_is_known_to_be():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("at", [0, 1], ids=SCHEMES)
@pytest.mark.parametrize("name", ["ink", "muted", "mark", "own", "green", "purple", "ochre"])
def test_texts_can_be_read(name, at):
    assert contrast(figure.COLOURS[name][at], figure.COLOURS["paper"][at]) >= 4.5


@pytest.mark.parametrize("at", [0, 1], ids=SCHEMES)
@pytest.mark.parametrize("name", ["faint", "axis"])
def test_marks_can_be_seen(name, at):
    assert contrast(figure.COLOURS[name][at], figure.COLOURS["paper"][at]) >= 3


@pytest.mark.parametrize("at", [0, 1], ids=SCHEMES)
@pytest.mark.parametrize("step", range(6))
def test_numbers_in_a_heat_map_can_be_read(step, at):
    text = "on-dark" if step >= 4 else "on-light"
    assert contrast(figure.COLOURS[text][at], figure.COLOURS[f"heat{step}"][at]) >= 4.5


def test_heat_goes_one_way():
    for at in (0, 1):
        steps = [contrast(figure.COLOURS[f"heat{i}"][at], figure.COLOURS["paper"][at]) for i in range(6)]
        assert steps == sorted(steps)


# Machado, Oliveira and Fernandes (2009), severity 1: protanopia, deuteranopia, tritanopia.
BLIND = {
    "protan": ((0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)),
    "deutan": ((0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)),
    "tritan": ((1.256, -0.077, -0.179), (-0.078, 0.931, 0.148), (0.005, 0.691, 0.304)),
}


@pytest.mark.parametrize("at", [0, 1], ids=SCHEMES)
@pytest.mark.parametrize("kind", BLIND)
def test_own_models_stand_out_for_any_colour_vision(kind, at):
    def seen(name):
        rgb = [int(figure.COLOURS[name][at][i : i + 2], 16) for i in (1, 3, 5)]
        return [sum(w * c for w, c in zip(row, rgb, strict=True)) for row in BLIND[kind]]

    for a, b in itertools.combinations(("mark", "own", "ink"), 2):
        assert sum((x - y) ** 2 for x, y in zip(seen(a), seen(b), strict=True)) ** 0.5 > 60, (a, b)


def test_variables_are_defined_once_for_both_schemes():
    css = figure.style()
    assert re.findall(r"--f-([a-z0-9-]+):", css) == list(figure.COLOURS)
    assert "--f-ink: light-dark(#15191d, #e8ebee);" in css


def test_colours_can_be_written_in():
    svg = '<path fill="var(--f-own)" stroke="var(--f-on-dark)"/>'
    assert figure.concrete(svg, "light") == '<path fill="#b4400a" stroke="#ffffff"/>'
    assert figure.concrete(svg, "dark") == '<path fill="#ff9d61" stroke="#0b0e11"/>'


def test_a_colour_that_is_not_in_the_palette_is_an_error():
    with pytest.raises(KeyError):
        figure.colour("red")


def test_the_config_names_palette_colours_only():
    text = repr(figure.config())
    assert set(re.findall(r"var\(--f-([a-z0-9-]+)\)", text)) <= set(figure.COLOURS)
    assert "#" not in text
