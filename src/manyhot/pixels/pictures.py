"""Pixels to small pictures for reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from manyhot.extras import required
from manyhot.files import atomic_write

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
