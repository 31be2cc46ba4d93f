"""A map over its photograph: what speaks for a class stays as it is, the rest fades to a darker grey.

Light and colour say how much, not a scale of hues: nothing hangs on telling red from green, and the
photograph itself stays to be seen. A thick line goes around what is above half of the highest value, a thin
white one around the object.

Pixels to small pictures for reports.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy import typing as npt

from manyhot.extras import required
from manyhot.files import atomic_write

Pixels = npt.NDArray[np.uint8]


Mask = npt.NDArray[np.bool_]


_DARK, _UNSEEN = 0.5, 0.25


_LINE = (255, 176, 0)


_HALF = 0.5


_TOP = 99.5


def overlay(pixels: Pixels, found: npt.NDArray[np.floating], region: Mask | None = None) -> Pixels:
    """Return a photograph lit by a map, with a cross at its highest point.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)
    found : ndarray of float, shape (height, width)
        What is not above 0 is dark; NaN is darker.
    region : ndarray of bool, shape (height, width), optional
        The object, whose outline is drawn.

    Returns
    -------
    ndarray of uint8, shape (h, w, 3)
        Of the shape of the photograph, its long side `LONGEST` pixels.
    """
    photo = enlarged(pixels).astype(np.float32)
    shape = photo.shape[:2]
    light = _resized(_light(found), shape)
    seen = _resized(~np.isnan(found), shape) > _HALF
    grey = photo @ np.array([0.299, 0.587, 0.114], np.float32)
    faded = grey[..., None] * np.where(seen, _DARK, _UNSEEN)[..., None]
    lit = faded + np.sqrt(light)[..., None] * (photo - faded)
    if region is not None and region.any():
        _trace(lit, _resized(region, shape) > _HALF, (255, 255, 255), 2)
    if light.any():
        _trace(lit, (light >= _HALF * light.max()) & seen, _LINE, 3)
        _cross(lit, _place(found, shape))
    made: Pixels = lit.clip(0, 255).astype(np.uint8)
    return made


def enlarged(pixels: Pixels) -> Pixels:
    """Return a photograph with a long side of `LONGEST` pixels, its shape kept."""
    height, width = pixels.shape[:2]
    ratio = LONGEST / max(height, width)
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    pil = required("PIL.Image", "Drawing maps")
    return np.asarray(pil.fromarray(pixels).resize(size, pil.Resampling.LANCZOS))


def highest(found: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Return the column and row of the highest point as fractions; of several, of their middle."""
    rows, columns = np.nonzero(found == np.nanmax(found))
    return (columns.mean() + 0.5) / found.shape[1], (rows.mean() + 0.5) / found.shape[0]


def _place(found: npt.NDArray[np.floating], shape: tuple[int, ...]) -> tuple[int, int]:
    x, y = highest(found)
    return min(int(y * shape[0]), shape[0] - 1), min(int(x * shape[1]), shape[1] - 1)


def _light(found: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    positive = np.maximum(np.nan_to_num(found), 0)
    top = np.percentile(positive, _TOP) or positive.max()
    light: npt.NDArray[np.float32] = (positive / top if top > 0 else positive).clip(0, 1).astype(np.float32)
    return light


def _resized(values: npt.NDArray[np.generic], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    size = (shape[1], shape[0])
    pil = required("PIL.Image", "Drawing maps")
    return np.asarray(pil.fromarray(values.astype(np.float32)).resize(size, pil.Resampling.BILINEAR))


def _trace(lit: npt.NDArray[np.float32], region: Mask, colour: tuple[int, ...], thick: int) -> None:
    """Draw the edge of a region from inside, with black on both sides."""
    lit[~region & ~_shrunk(~region)] = 0
    inside = region
    for _ in range(thick):
        inside = _shrunk(inside)
    lit[region & ~inside] = colour
    lit[inside & ~_shrunk(inside)] = 0


def _shrunk(region: Mask) -> Mask:
    padded = np.pad(region, 1, constant_values=True)  # along the border of the image runs no line
    around = [padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
    shrunk: Mask = region & np.logical_and.reduce(around)
    return shrunk


def _cross(lit: npt.NDArray[np.float32], place: tuple[int, int], arm: int = 7) -> None:
    y, x = place
    for thick, colour in ((2, 0), (0, 255)):
        top, left = max(0, y - thick), max(0, x - thick)
        reach = arm + thick // 2
        lit[max(0, y - reach) : y + reach + 1, left : x + thick + 1] = colour
        lit[top : y + thick + 1, max(0, x - reach) : x + reach + 1] = colour


LONGEST = 320
"""Pixels of the longer side at most."""


_QUALITY = 88


def write_picture(path: Path, pixels: npt.NDArray[np.uint8]) -> Path:
    """Write an image as JPEG, made smaller where it is large.

    Parameters
    ----------
    path : Path
    pixels : ndarray of uint8, shape (height, width, 3)

    Raises
    ------
    OutputError
        It cannot be written.
    """
    image = required("PIL.Image", "Writing pictures").fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((LONGEST, LONGEST))
    with atomic_write(path) as part:
        image.save(part, "JPEG", quality=_QUALITY)
    return path
