"""Greyscale of more than 8 bits, as screens show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from manyhot.core.display_window import display_window

if TYPE_CHECKING:
    from PIL.Image import Image

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
