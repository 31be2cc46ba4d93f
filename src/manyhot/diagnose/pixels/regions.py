"""Where in an image its objects are, pixel by pixel: from masks, else polygons, else boxes.

`overlay` draws a heat map over its photograph. Regions that support a class keep their colour, and the
rest fades to dark grey: brightness shows the value, so that red and green need not be distinguished and
the photograph stays visible. A thick line encloses values above half of the highest, a thin white one the
object.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Mask
from manyhot.extras import required
from manyhot.files import atomic_write
from manyhot.tables import Objects

_FINER = 4

_UNKNOWN = 255


@dataclass(frozen=True, eq=False)
class Region:
    """An object in an image.

    Attributes
    ----------
    box : tuple of int
        Left, top, right and bottom in pixels, clipped to the image. Right and bottom are exclusive.
    mask : ndarray of bool, shape (height, width)
        Pixels of the object, if they are known. From a semantic mask of the class, only pixels in the box are
        used.
    known_by : str
        ``mask``, ``polygons`` or ``box``.
    row : int
        Row of the table.
    """

    class_id: int
    ignore: bool
    box: tuple[int, int, int, int]
    mask: Mask
    known_by: str
    row: int = -1


@dataclass(frozen=True, eq=False)
class Regions:
    """The objects of an image.

    Attributes
    ----------
    shape : (int, int)
        Height and width of the image.
    objects : tuple of Region
        In the order of the table.
    skipped : tuple of str
        The reasons why other objects are left out.
    """

    shape: tuple[int, int]
    objects: tuple[Region, ...]
    skipped: tuple[str, ...] = ()

    def of(self, class_id: int) -> Mask:
        """Return the pixels of a class, including ignored objects, shape (height, width)."""
        return self._any(r.mask for r in self.objects if r.class_id == class_id)

    def boxes_of(self, class_id: int) -> Mask:
        """Return the pixels in boxes of a class."""
        return self._any(_box_mask(r.box, self.shape) for r in self.objects if r.class_id == class_id)

    def beside(self, class_id: int) -> Mask:
        """Return the pixels of objects of other classes."""
        return self._any(r.mask for r in self.objects if r.class_id != class_id)

    def _any(self, masks: Any) -> Mask:
        found = np.zeros(self.shape, bool)
        for mask in masks:
            found |= mask
        return found


def find_regions(objects: Objects, image_id: str, width: int, height: int) -> Regions | str:
    """Return the objects of an image, or the reason why their locations are unknown.

    Parameters
    ----------
    width, height : int
        Size of the decoded image, in pixels.

    Returns
    -------
    Regions or str
        Objects with a box outside the image are skipped, and boxes that extend beyond the image are clipped.
        If the size of the mask differs from that of the image, the reason is returned.
    """
    try:
        semantic = _semantic(objects, image_id, (height, width))
        found = [_region(objects, int(row), semantic, (height, width)) for row in objects.rows(image_id)]
    except _UnfitError as error:
        return str(error)
    regions = tuple(r for r in found if isinstance(r, Region))
    return Regions((height, width), regions, tuple(r for r in found if isinstance(r, str)))


class _UnfitError(Exception):
    pass


def _region(objects: Objects, row: int, semantic: Any, shape: tuple[int, int]) -> Region | str:
    height, width = shape
    class_id, box = int(objects.class_id[row]), objects.boxes[row]
    if not np.isfinite(box).all() or (box[:2] >= box[2:]).any():
        return f"{objects.keys[class_id]}: the box {_written(box)} is empty"
    inside = np.clip(box, 0, 1) * [width, height, width, height]
    left, top = np.floor(inside[:2] + 1e-4).astype(int)
    right, bottom = np.ceil(inside[2:] - 1e-4).astype(int)
    if left >= right or top >= bottom:
        return f"{objects.keys[class_id]}: the box {_written(box)} is outside the image"
    place = (int(left), int(top), int(right), int(bottom))
    within = _box_mask(place, shape)
    mask, known_by = _mask(objects, row, semantic, within)
    if not mask.any():  # VOC's masks leave out some of the objects
        mask, known_by = within, "box"
    return Region(class_id, bool(objects.ignore[row]), place, mask, known_by, row)


def _mask(objects: Objects, row: int, semantic: Any, within: Mask) -> tuple[Mask, str]:
    own = _cell(objects, "mask", row)
    if own:
        return _decoded(own, within.shape) > 0, "mask"
    if semantic is not None:
        return (semantic == int(objects.class_id[row]) + 1) & within, "mask"
    outlines = _cell(objects, "polygons", row)
    if outlines:
        return _drawn(outlines, within.shape), "polygons"
    return within, "box"


def _cell(objects: Objects, column: str, row: int) -> Any:
    return objects.table[column][row].as_py() if column in objects.table.column_names else None


def _semantic(objects: Objects, image_id: str, shape: tuple[int, int]) -> npt.NDArray[np.uint8] | None:
    found = objects.semantic.get(image_id)
    if found is None:
        return None
    mask = _read(found, shape)
    return np.where(mask == _UNKNOWN, 0, mask)


def read_mask(source: bytes | Path, shape: tuple[int, int]) -> npt.NDArray[np.uint8] | str:
    """Return the class numbers of a semantic mask, or the reason why it cannot be used.

    Parameters
    ----------
    source : bytes or Path
        A PNG.
    shape : (int, int)
        Height and width of the image.
    """
    try:
        return _read(source, shape)
    except _UnfitError as error:
        return str(error)


def _read(source: bytes | Path, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    try:
        data = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise _UnfitError(f"the mask cannot be read: {error.strerror or error}") from error
    return _decoded(data, shape)


def _decoded(data: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Return the numbers in a PNG; with a palette, its indices, not colours."""
    pil = required("PIL.Image", "Reading masks")
    try:
        with pil.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.size != shape[::-1]:
                sizes = f"{image.width} × {image.height} pixels, the image {shape[1]} × {shape[0]}"
                raise _UnfitError(f"the mask has {sizes}")
            numbers = np.asarray(image)
    except (OSError, SyntaxError, ValueError, pil.DecompressionBombError) as error:
        raise _UnfitError("the mask cannot be decoded") from error
    if numbers.ndim != 2:
        raise _UnfitError("the mask contains colours instead of class numbers")
    return numbers.astype(np.uint8)


def _drawn(outlines: list[list[float]], shape: tuple[int, ...]) -> Mask:
    """Return the pixels that lie at least half within polygons."""
    pil, draw = required("PIL.Image", "Drawing polygons"), required("PIL.ImageDraw", "Drawing polygons")
    height, width = shape
    canvas = pil.new("L", (width * _FINER, height * _FINER))
    pen = draw.Draw(canvas)
    for outline in outlines:
        points = np.asarray(outline[: len(outline) // 2 * 2], float).reshape(-1, 2)
        if len(points) >= 3 and np.isfinite(points).all():
            places = points * [width * _FINER, height * _FINER]
            pen.polygon([(x, y) for x, y in places.clip(-1e6, 1e6) - 0.5], fill=255)
    return np.asarray(canvas.reduce(_FINER)) > 127


def _box_mask(box: tuple[int, int, int, int], shape: tuple[int, ...]) -> Mask:
    left, top, right, bottom = box
    mask = np.zeros(shape, bool)
    mask[top:bottom, left:right] = True
    return mask


def _written(box: npt.NDArray[np.float64]) -> str:
    return ", ".join(f"{v:.3g}" for v in box)


Pixels = npt.NDArray[np.uint8]

_DARK, _UNSEEN = 0.5, 0.25
_LINE = (255, 176, 0)
_HALF = 0.5
_TOP = 99.5


def overlay(pixels: Pixels, heat_map: npt.NDArray[np.floating], region: Mask | None = None) -> Pixels:
    """Return a photograph, brightened where a map is high, with a cross at the maximum of the map.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)
    heat_map : ndarray of float, shape (height, width)
        The map. Pixels with values up to 0 are dark, and pixels with NaN are darker.
    region : ndarray of bool, shape (height, width), optional
        The object whose outline is drawn.

    Returns
    -------
    ndarray of uint8, shape (h, w, 3)
        The image, with the aspect ratio of the photograph and a longer side of `LONG_SIDE` pixels.
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
    """Return a photograph resized to a longer side of `LONG_SIDE` pixels, with the same aspect ratio."""
    height, width = pixels.shape[:2]
    ratio = LONG_SIDE / max(height, width)
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    pil = required("PIL.Image", "Drawing maps")
    return np.asarray(pil.fromarray(pixels).resize(size, pil.Resampling.LANCZOS))


def highest(heat_map: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Return the column and row of the maximum as fractions, or their mean over several maxima."""
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


def _cross(lit: npt.NDArray[np.float32], place: tuple[int, int]) -> None:
    y, x = place
    for thick, colour in ((2, 0), (0, 255)):
        top, left = max(0, y - thick), max(0, x - thick)
        reach = 7 + thick // 2
        lit[max(0, y - reach) : y + reach + 1, left : x + thick + 1] = colour
        lit[top : y + thick + 1, max(0, x - reach) : x + reach + 1] = colour


LONG_SIDE = 320
"""Pixels of the longer side at most."""

_QUALITY = 88


def write_picture(path: Path, pixels: npt.NDArray[np.uint8]) -> Path:
    """Write an image as JPEG, scaled down if it is large.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    image = required("PIL.Image", "Writing pictures").fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((LONG_SIDE, LONG_SIDE))
    with atomic_write(path) as part:
        image.save(part, "JPEG", quality=_QUALITY)
    return path
