"""From the grid of a network back to the pixels of the image that it was shown: resize and crop undone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from manyhot.models.preprocessing import Preprocessing

Floats = npt.NDArray[np.float32]


def placed(maps: npt.ArrayLike, preprocessing: Preprocessing, height: int, width: int) -> Floats:
    """Return maps over the pixels of an image; NaN where the network did not see it.

    Parameters
    ----------
    maps : array-like of float, shape (…, h, w)
        Over the input of the network, however coarse: each cell counts for its centre, and between centres
        is interpolated linearly. A map finer than the image is averaged over each pixel.
    preprocessing : Preprocessing
    height, width : int
        Of the image, in pixels.

    Returns
    -------
    ndarray of float32, shape (…, height, width)
    """
    grid: Any = np.asarray(maps, np.float32)
    resized, corner = preprocessing.window(height, width)
    rows, columns = (
        _weights(cells, crop, side, after, start)
        for cells, crop, side, after, start in zip(
            grid.shape[-2:], preprocessing.size, (height, width), resized, corner, strict=True
        )
    )
    found: Floats = rows @ grid @ columns.T
    return found


def _weights(cells: int, crop: int, side: int, resized: int, start: int) -> Floats:
    """Return what each cell along an axis adds to each pixel of the image, shape (side, cells)."""
    centre = (np.arange(side) + 0.5) * resized / side - start  # in pixels of the crop
    place = np.clip(centre * cells / crop - 0.5, 0, cells - 1)
    reach = max(1.0, resized / side * cells / crop)  # of a triangle that is as wide as a pixel, or a cell
    weights: Any = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells)) / reach)
    weights /= weights.sum(1, keepdims=True)
    weights[(centre < 0) | (centre > crop)] = np.nan
    found: Floats = weights.astype(np.float32)
    return found
