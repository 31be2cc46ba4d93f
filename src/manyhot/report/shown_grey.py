"""Greyscale of more than 8 bits, as screens show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

import math

from numpy import typing as npt

_PHOTOMETRIC, _MIN_IS_WHITE = 262, 0


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
    """Return the greys that show the values of an image between two percentiles of them.

    Values up to the lower percentile become 0, values from the upper percentile on become 255, and those in
    between are scaled linearly. If the percentiles are equal, the lowest and the highest value take their
    place; if these are equal, too, 16 bits are assumed.

    Parameters
    ----------
    values : array-like, shape (height, width)
        Values that are not finite become black and are not counted.

    Returns
    -------
    ndarray of uint8, shape (height, width)
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
