"""Statistics of the pixels of one image: light, colour, sharpness, a frame, and strokes of letters.

All are computed from one decoded photograph, and none needs annotations. Each is a plain measurement that
can be recomputed elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Bools, Floats, Floats32

Pixels = npt.NDArray[np.uint8]


SAME_COLOUR = 24
"""Largest difference of a channel, of 255, of two pixels that count as one colour."""

DEEPEST_FRAME = 0.2
"""Maximum depth at which a frame is searched, as a share of the short side."""

LETTERS = 0.09
"""Minimum density of strokes of an image with text-like edges."""

BORDER = 0.1
"""Share of the short side that is the border, for its colour."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_STRONG = 100  # of 255: the step at the edge of a letter
_UNIFORM = 0.75  # of the pixels along each side: what counts as one colour


@dataclass(frozen=True)
class ColourFrame:
    """A frame of one colour.

    Attributes
    ----------
    score : float
        Share of the frame's pixels that have a single colour, times the share of the pixels just inside the
        frame that do not have it.
    width : float
        Width of the frame, as a share of the shorter side of the image.
    colour : tuple of float
        Red, green and blue, from 0 to 255; NaN if there is none.
    """

    score: float = 0.0
    width: float = 0.0
    colour: tuple[float, float, float] = (np.nan, np.nan, np.nan)


def luma(pixels: Pixels) -> Floats32:
    """Return the brightness of each pixel, from 0 to 255 (ITU-R BT.601)."""
    return pixels.astype(np.float32) @ _LUMA


def light_and_colour(pixels: Pixels) -> dict[str, float]:
    """Return brightness, contrast, saturation, sharpness, and the tint of the image and of its border.

    Sharpness is the decimal logarithm of the variance of the Laplacian divided by the variance of the image
    (Pech-Pacheco et al. 2000, doi 10.1109/ICPR.2000.903548, who do not divide). Tint is the mean of the
    colour differences Cb and Cr.
    """
    light, rgb = luma(pixels), pixels.astype(np.float32)
    ring = border_mask(*light.shape)
    blue, red = 0.564 * (rgb[..., 2] - light), 0.713 * (rgb[..., 0] - light)
    inner = light[1:-1, 1:-1]
    laplacian = light[:-2, 1:-1] + light[2:, 1:-1] + light[1:-1, :-2] + light[1:-1, 2:] - 4 * inner
    return {
        "brightness": float(light.mean() / 255),
        "contrast": float(light.std() / 255),
        "saturation": float(np.ptp(rgb, axis=2).mean() / 255),
        "sharpness": float(np.log10((laplacian.var() + 1e-3) / (light.var() + 1.0))),
        "border_brightness": float(light[ring].mean() / 255),
        "blue": float(blue.mean() / 255),
        "red": float(red.mean() / 255),
        "border_blue": float(blue[ring].mean() / 255),
        "border_red": float(red[ring].mean() / 255),
    }


def border_mask(height: int, width: int) -> Bools:
    """Return which pixels belong to the border."""
    deep = max(1, round(BORDER * min(height, width)))
    ring = np.ones((height, width), bool)
    ring[deep:-deep, deep:-deep] = False
    return ring


def find_frame(pixels: Pixels) -> ColourFrame:
    """Return the frame of one colour around an image; its score is 0 if there is none.

    The pixels at each depth form a ring. In a frame, most of each side of a ring has the colour of the edge.
    A frame ends abruptly on at least three sides, whereas the white background of a photograph of an object
    does not.
    """
    height, width = pixels.shape[:2]
    deepest = max(2, int(DEEPEST_FRAME * min(height, width)))
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    colour = np.median(edge, axis=0)
    same = (np.abs(pixels.astype(np.float32) - colour) <= SAME_COLOUR).all(axis=-1)
    lines = np.array([_ring(same, depth) for depth in range(deepest + 2)])
    low = lines.min(axis=1) < _UNIFORM
    deep = int(low.argmax()) if low.any() else len(low)
    if not 1 <= deep <= deepest:
        return ColourFrame()
    inner = np.sort(lines, axis=1)[:, -2]  # what is beside the frame may have its colour on one side
    score = float(lines.min(axis=1)[:deep].mean() * (1 - min(inner[deep], inner[deep + 1])))
    return ColourFrame(
        score, deep / min(height, width), (float(colour[0]), float(colour[1]), float(colour[2]))
    )


def _ring(same: Bools, depth: int) -> list[float]:
    """Return the share of pixels of one colour on each side of a ring."""
    rows, columns = (slice(depth, size - depth) for size in same.shape)
    sides = (same[depth, columns], same[-1 - depth, columns], same[rows, depth], same[rows, -1 - depth])
    return [float(side.mean()) for side in sides]


def letter_density(pixels: Pixels) -> float:
    """Return how densely strong dark-to-light and light-to-dark steps alternate along rows, as in letters.

    The result is the number of steps in the rarer direction per pixel, in the densest window with the shape
    of a word: 0.3 of the width by 0.1 of the height. About 1 in 100 photographs of CIFAR-10 and PASCAL VOC
    reaches `LETTERS`.
    """
    step = np.diff(luma(pixels), axis=1)
    height, width = step.shape
    h, w = max(3, round(0.1 * height)), max(6, round(0.3 * width))
    up, down = (_window_means(flags, h, w) for flags in (step > _STRONG, step < -_STRONG))
    return float(np.minimum(up, down).max(initial=0.0))


def _window_means(flags: Bools, h: int, w: int) -> Floats:
    total = np.zeros((flags.shape[0] + 1, flags.shape[1] + 1))
    total[1:, 1:] = flags.cumsum(0).cumsum(1)
    return (total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w]) / (h * w)


COLOUR_NAMES = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "red": (205, 35, 35),
    "green": (30, 150, 60),
    "blue": (40, 80, 210),
    "yellow": (240, 225, 40),
    "orange": (245, 140, 25),
    "cyan": (40, 210, 220),
    "magenta": (225, 30, 215),
    "purple": (115, 40, 150),
    "pink": (250, 165, 190),
    "brown": (120, 75, 40),
}
"""Names of colours, with red, green and blue."""

TINTS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "magenta")
"""Names of tints, each a direction in the plane of Cb and Cr."""


def colour_name(colour: npt.ArrayLike) -> str:
    """Return the name of the nearest colour in `COLOUR_NAMES`."""
    distance = np.abs(np.array(list(COLOUR_NAMES.values())) - np.asarray(colour, float)).sum(axis=1)
    return list(COLOUR_NAMES)[int(distance.argmin())]


def tint_towards(hue: str, blue: npt.ArrayLike, red: npt.ArrayLike) -> Floats:
    """Return the component of a tint in the direction of a hue. `blue` and `red` are means of Cb and Cr."""
    r, g, b = COLOUR_NAMES[hue]
    light = float(_LUMA @ np.array([r, g, b], np.float32))
    towards = np.array([0.564 * (b - light), 0.713 * (r - light)])
    towards /= np.hypot(*towards)
    return np.asarray(np.asarray(blue, float) * towards[0] + np.asarray(red, float) * towards[1])
