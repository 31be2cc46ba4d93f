"""Statistics of pixels, against Pillow and against pictures that are made of known parts."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageStat

from manyhot.core.image_statistics import (
    COLOUR_NAMES,
    LETTERS,
    TINTS,
    colour_name,
    find_frame,
    letter_density,
    light_and_colour,
    tint_towards,
)


@pytest.fixture
def photograph():
    """Return a smooth random picture, with detail."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    return np.array(small.resize((160, 120), Image.Resampling.BICUBIC))


def test_brightness_contrast_and_saturation_are_those_of_pillow(photograph):
    found = light_and_colour(photograph)
    image = Image.fromarray(photograph)
    grey = ImageStat.Stat(image.convert("L"))
    assert found["brightness"] == pytest.approx(grey.mean[0] / 255, abs=0.003)
    assert found["contrast"] == pytest.approx(grey.stddev[0] / 255, abs=0.003)
    _, blue, red = ImageStat.Stat(image.convert("YCbCr")).mean
    assert found["blue"] == pytest.approx((blue - 128) / 255, abs=0.003)
    assert found["red"] == pytest.approx((red - 128) / 255, abs=0.003)
    assert found["saturation"] == pytest.approx(np.ptp(photograph.astype(int), axis=2).mean() / 255)


def test_a_blurred_image_is_less_sharp(photograph):
    blurred = np.array(Image.fromarray(photograph).filter(ImageFilter.GaussianBlur(4)))
    noisy = photograph ^ np.random.default_rng(0).integers(0, 32, photograph.shape, dtype=np.uint8)
    sharp = [light_and_colour(pixels)["sharpness"] for pixels in (blurred, photograph, noisy)]
    assert sharp == sorted(sharp)


@pytest.mark.parametrize("width", [2, 7, 20])
def test_a_frame_is_measured(photograph, width):
    framed = photograph.copy()
    framed[:width] = framed[-width:] = COLOUR_NAMES["green"]
    framed[:, :width] = framed[:, -width:] = COLOUR_NAMES["green"]
    found = find_frame(framed)
    assert found.score > 0.9
    assert found.width == pytest.approx(width / 120)
    assert colour_name(found.colour) == "green"


def test_a_background_of_one_colour_is_no_frame(photograph):
    white = np.full_like(photograph, 255)
    white[30:90, 20:140] = photograph[30:90, 20:140]
    assert find_frame(white).score == 0
    assert find_frame(photograph).score == 0
    assert find_frame(np.full((40, 40, 3), 200, np.uint8)).score == 0


def test_a_frame_on_three_sides_is_none(photograph):
    framed = photograph.copy()
    framed[:8] = 0
    framed[:, :8] = framed[:, -8:] = 0
    assert find_frame(framed).score < 0.2


def test_text_has_more_strokes_than_what_it_is_written_on(photograph):
    image = Image.fromarray(photograph)
    ImageDraw.Draw(image).text(
        (20, 60),
        "HOSPITAL 3",
        font=ImageFont.load_default(size=20),
        fill="white",
        stroke_width=1,
        stroke_fill="black",
    )
    assert letter_density(photograph) < 0.02
    assert letter_density(np.array(image)) > LETTERS


@pytest.mark.parametrize("hue", TINTS)
def test_a_colour_is_tinted_towards_itself_most(hue):
    found = light_and_colour(np.full((20, 20, 3), COLOUR_NAMES[hue], np.uint8))
    towards = {other: float(tint_towards(other, found["blue"], found["red"])) for other in TINTS}
    assert max(towards, key=lambda other: towards[other]) == hue


def test_names_of_colours():
    assert [colour_name(c) for c in ((250, 5, 5), (0, 140, 70), (10, 10, 10), (255, 0, 255))] == [
        "red",
        "green",
        "black",
        "magenta",
    ]
