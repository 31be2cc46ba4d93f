"""Images of more than 8 bits: their values, and how screens show them."""

from __future__ import annotations

import contextlib
import io
import math
import re
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image

_PHOTOMETRIC, _MIN_IS_WHITE = 262, 0
_BITS_PER_SAMPLE, _PLANAR, _BY_PLANE = 258, 284, 2
_EXTRA_SAMPLES = 338
_GEOGRAPHIC = frozenset((33550, 33922, 34264, 34735, 42112, 42113))
"""Tags of TIFF that only georeferenced files and files of GDAL have."""
_DEEP = re.compile(r"(RGB[AX]?|[RGBAX]);16([LBN])")
_OTHER_ORDER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
"""The order of bytes in which the lower byte of a value takes the place of the upper one."""


def is_negative(image: Image) -> bool:
    """Return whether the lowest values of a TIFF are white."""
    tags: Any = getattr(image, "tag_v2", {})
    return bool(tags.get(_PHOTOMETRIC) == _MIN_IS_WHITE)


def shown_grey(image: Image, negative: bool) -> Image:
    """Return greyscale of more than 8 bits as 8 bits, with the window of `display_window`."""
    from PIL import Image as pil

    grey = display_window(np.asarray(image))
    return pil.fromarray(255 - grey if negative else grey)


DISPLAYED = (0.5, 99.5)
"""Percentiles of the values that become black and white: a burned-in mark does not darken the rest."""

_LOOKED_AT = 1_000_000
"""Values from which the percentiles are computed: sorting those of 25 megapixels takes 2 s."""

_SIXTEEN_BITS = 65535.0


def display_window(values: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Return the values of an image as greys, scaled between two percentiles of the values.

    Values at or below the lower percentile become 0, values at or above the upper percentile become 255, and
    those in between are scaled linearly. If the percentiles are equal, the minimum and the maximum are used
    instead; if these are equal, too, the range of 16 bits is used.

    Parameters
    ----------
    values : array-like, shape (height, width) or (height, width, channels)
        All colour channels share the percentiles, so that hues are preserved. Values that are not finite
        become black and do not affect the percentiles.

    Returns
    -------
    ndarray of uint8, of the same shape
    """
    exact = np.array(values, np.float32)
    exact[~np.isfinite(exact)] = np.nan
    step = math.ceil(math.sqrt(exact.size / _LOOKED_AT)) or 1
    low, high = _percentiles(exact[::step, ::step], DISPLAYED)
    if low == high:
        low, high = _percentiles(exact, (0, 100))
    if low == high:
        low, high = 0.0, _SIXTEEN_BITS
    exact -= np.float32(low)
    exact *= np.float32(255 / (high - low))
    grey = np.nan_to_num(exact, copy=False, nan=0)
    return np.round(np.clip(grey, 0, 255)).astype(np.uint8)


def _percentiles(values: npt.NDArray[np.float32], which: tuple[float, float]) -> tuple[float, float]:
    finite = values[~np.isnan(values)]
    low, high = np.percentile(finite, which) if finite.size else (0, 0)
    return float(low), float(high)


def has_deep_colours(image: Image) -> bool:
    """Return whether an image that is not yet loaded has 16-bit colours that `deep_colours` returns."""
    return bool(_deep_modes(image))


def deep_colours(image: Image) -> npt.NDArray[np.uint16] | None:
    """Return the colours, and the opacity if any, of a 16-bit RGB image in a PNG or TIFF file.

    Pillow keeps only the upper byte of each value. The lower byte is obtained by reading the file in the
    other byte order.

    Parameters
    ----------
    image : PIL.Image.Image
        An image that was opened but not yet loaded.

    Returns
    -------
    ndarray of uint16, shape (height, width, 3 or 4), or None
        None for other images.

    Raises
    ------
    OSError
        If the file is broken, or if its channels are compressed separately, because Pillow then gives no
        access to the lower bytes.
    """
    modes = _deep_modes(image)
    if not modes:
        return None
    if _is_by_plane(image) and not is_misread(image):
        raise OSError("16-bit channels that are compressed separately; save them interleaved")
    upper = _decoded(image, modes)
    lower = _decoded(image, [_DEEP.sub(lambda m: f"{m[1]};16{_OTHER_ORDER[m[2]]}", mode) for mode in modes])
    return np.left_shift(upper, 8, dtype=np.uint16) | lower


def is_transparent(image: Image) -> bool:
    """Return whether an image that is not yet loaded has transparency, and it is meant.

    GDAL and tifffile declare the fourth channel of a TIFF as opacity, even if it is infrared or a stain. In a
    georeferenced file, opacity is a mask of the lowest and the highest value. Elsewhere, at least half of the
    pixels have these values.
    """
    tags: Any = getattr(image, "tag_v2", {})
    if image.mode != "RGBA" or tags.get(_EXTRA_SAMPLES) != (2,):
        return image.has_transparency_data
    deep = None
    with contextlib.suppress(OSError):
        deep = deep_colours(image)
    opacity = np.asarray(image.getchannel("A")) if deep is None else deep[..., 3]
    partial = ((opacity > 0) & (opacity < np.iinfo(opacity.dtype).max)).mean()
    return bool(partial <= (0 if _GEOGRAPHIC & {*tags} else 0.5))


def show_colours(image: Image) -> None:
    """Window the colours of a 16-bit image that is not yet loaded, in place, with `display_window`."""
    from PIL import Image as pil

    colours = None
    with contextlib.suppress(OSError):  # they remain as Pillow reads them
        colours = deep_colours(image)
    if colours is not None:
        image.load()
        shown = (display_window(colours[..., :3]), (colours[..., 3:] >> 8).astype(np.uint8))
        image.paste(pil.fromarray(np.concatenate(shown, -1)))


def is_misread(image: Image) -> bool:
    """Return whether Pillow alone would read noise from the image, because it mistakes bytes for values.

    This concerns uncompressed TIFFs that store one channel after the other.
    """
    opened: Any = image
    return _is_by_plane(image) and opened.tile[0][0] != "libtiff"


def _is_by_plane(image: Image) -> bool:
    tags: Any = getattr(image, "tag_v2", {})
    return bool(tags.get(_PLANAR) == _BY_PLANE)


def _deep_modes(image: Image) -> list[str]:
    """Return how Pillow reads the bytes of each tile of colours of 16 bits; empty for other images."""
    opened: Any = image
    if image.format not in ("PNG", "TIFF") or image.mode not in ("RGB", "RGBA", "RGBX"):
        return []
    modes = [args if isinstance(args, str) else str(args[0]) for *_, args in opened.tile]
    if _is_by_plane(image) and set(opened.tag_v2.get(_BITS_PER_SAMPLE, ())) == {16}:
        order = "L" if opened.tag_v2.prefix == b"II" else "B"
        modes = [mode if _DEEP.fullmatch(mode) else f"{mode};16{order}" for mode in modes]
    return modes if all(map(_DEEP.fullmatch, modes)) else []


def _decoded(image: Image, modes: list[str]) -> npt.NDArray[np.uint8]:
    """Return the bytes of an image of which Pillow reads each tile in the given way."""
    from PIL import Image as pil

    opened: Any = image
    place = opened.fp.tell()
    opened.fp.seek(0)
    data = opened.fp.read()
    opened.fp.seek(place)
    with pil.open(io.BytesIO(data), formats=(opened.format,)) as again:
        part: Any = again
        part.tile = [_with_mode(tile, mode) for tile, mode in zip(part.tile, modes, strict=True)]
        return np.asarray(part)


def _with_mode(tile: Any, mode: str) -> Any:
    *place, args = tile
    changed = (*place, mode if isinstance(args, str) else (mode, *args[1:]))
    return tile._make(changed) if hasattr(tile, "_make") else changed  # a plain tuple in Pillow 10
