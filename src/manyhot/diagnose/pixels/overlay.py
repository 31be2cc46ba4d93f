"""A map over its photograph: regions that support a class keep their colour, the rest fades to dark grey.

Brightness shows the value, not a scale of hues, so that red and green need not be distinguished and the
photograph stays visible. A thick line encloses values above half of the highest, a thin white one the object.
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


def overlay(pixels: Pixels, heat_map: npt.NDArray[np.floating], region: Mask | None = None) -> Pixels:
    """Return a photograph lit by a map, with a cross at its highest point.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)
    heat_map : ndarray of float, shape (height, width)
        Values up to 0 are dark; NaN is darker.
    region : ndarray of bool, shape (height, width), optional
        The object, whose outline is drawn.

    Returns
    -------
    ndarray of uint8, shape (h, w, 3)
        With the shape of the photograph, its long side `LONG_SIDE` pixels.
    """
    photo = enlarged(pixels).astype(np.float32)
    shape = photo.shape[:2]
    light = _resized(_light(heat_map), shape)
    seen = _resized(~np.isnan(heat_map), shape) > _HALF
    grey = photo @ np.array([0.299, 0.587, 0.114], np.float32)
    faded = grey[..., None] * np.where(seen, _DARK, _UNSEEN)[..., None]
    lit = faded + np.sqrt(light)[..., None] * (photo - faded)
    if region is not None and region.any():
        _trace(lit, _resized(region, shape) > _HALF, (255, 255, 255), 2)
    if light.any():
        _trace(lit, (light >= _HALF * light.max()) & seen, _LINE, 3)
        _cross(lit, _place(heat_map, shape))
    made: Pixels = lit.clip(0, 255).astype(np.uint8)
    return made


def enlarged(pixels: Pixels) -> Pixels:
    """Return a photograph with a long side of `LONG_SIDE` pixels, its shape kept."""
    height, width = pixels.shape[:2]
    ratio = LONG_SIDE / max(height, width)
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    pil = required("PIL.Image", "Drawing maps")
    return np.asarray(pil.fromarray(pixels).resize(size, pil.Resampling.LANCZOS))


def highest(heat_map: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Return column and row of the highest point as fractions; if there are several, of their middle."""
    rows, columns = np.nonzero(heat_map == np.nanmax(heat_map))
    return (columns.mean() + 0.5) / heat_map.shape[1], (rows.mean() + 0.5) / heat_map.shape[0]


def _place(heat_map: npt.NDArray[np.floating], shape: tuple[int, ...]) -> tuple[int, int]:
    x, y = highest(heat_map)
    return min(int(y * shape[0]), shape[0] - 1), min(int(x * shape[1]), shape[1] - 1)


def _light(heat_map: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    positive = np.maximum(np.nan_to_num(heat_map), 0)
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
    padded = np.pad(region, 1, constant_values=True)  # no line along the border of the image
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


LONG_SIDE = 320
"""Pixels of the longer side at most."""


_QUALITY = 88


def write_picture(path: Path, pixels: npt.NDArray[np.uint8]) -> Path:
    """Write an image as JPEG, made smaller if it is large.

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
    image.thumbnail((LONG_SIDE, LONG_SIDE))
    with atomic_write(path) as part:
        image.save(part, "JPEG", quality=_QUALITY)
    return path
