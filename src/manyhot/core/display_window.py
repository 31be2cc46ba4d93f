"""Map the values of an image to the greys of a screen."""

import math

import numpy as np
from numpy import typing as npt

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
    values : array-like, shape (height, width) or (height, width, channels)
        The channels of colours share the percentiles, so that hues remain. Values that are not finite become
        black and are not counted.

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
