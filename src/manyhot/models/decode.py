"""Bytes of an image file → pixels as a person would see them."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from manyhot.models.extras import required

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

# Pillow knows some 40 formats; EPS, one of them, it hands to Ghostscript.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")

_MAX_ASPECT = 100
# The resize makes the short side some 256 pixels: at 100 : 1 that is 20 MB, at 10,000 : 1 it would be 2 GB.


_IGNORED = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


def _ignore_warnings() -> None:
    """Ignore what Pillow warns of: odd metadata, and half the size that it refuses.

    For the process, as `warnings.catch_warnings` is for one thread alone, and several decode.
    """
    if _IGNORED not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")


class _UnfitError(Exception):
    """Pixels that nobody can say how to show; the reason is the message."""


def decode(data: bytes) -> Tensor | str:
    """Decode an image to RGB, or return why that is not possible.

    Turned upright by its EXIF orientation; transparent parts on white; the first picture of an animation;
    16-bit greyscale scaled to 8. Colour profiles are ignored, as timm and torchvision do. What the bytes are
    decides, not how the file is called.

    Returns
    -------
    torch.Tensor of uint8, shape (3, height, width), or str
        The image, or a reason such as ``not an image of a known format``.
    """
    pil = required("PIL.Image", "Decoding images")
    if not data:
        return "the file is empty"
    _ignore_warnings()
    try:
        with pil.open(io.BytesIO(data), formats=_FORMATS) as image:
            return _pixels(image, data)
    except pil.UnidentifiedImageError:
        return "not an image of a known format"
    except pil.DecompressionBombError:
        return f"more than {2 * pil.MAX_IMAGE_PIXELS:,} pixels"
    except _UnfitError as error:
        return str(error)
    except Exception as error:
        # Decoders raise whatever a broken file makes them trip over: OSError, SyntaxError, struct.error, …
        return f"cannot be decoded: {getattr(error, 'strerror', None) or error or type(error).__name__}"


def _pixels(image: Image, data: bytes) -> Tensor:
    width, height = image.size
    if max(width, height) > _MAX_ASPECT * min(width, height):
        raise _UnfitError(f"{width:,} × {height:,} pixels: longer than {_MAX_ASPECT} times its short side")
    if image.format == "JPEG" and image.mode in ("RGB", "L"):
        return _jpeg(data)
    import torch

    return torch.from_numpy(np.array(_upright(image))).permute(2, 0, 1).contiguous()


def _jpeg(data: bytes) -> Tensor:
    """Decode a JPEG as libjpeg-turbo does for Pillow too, at a fifth less time and without the lock."""
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    raw = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    try:
        pixels: Tensor = decode_jpeg(raw, mode=ImageReadMode.RGB, apply_exif_orientation=True)
    except RuntimeError as error:
        raise _UnfitError(f"cannot be decoded: {_first_line(error)}") from error
    return pixels


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].removeprefix("[enforce fail] ").strip() or type(error).__name__


def _upright(image: Image) -> Image:
    image.load()
    rgb = _rgb(image)
    # A picture whose EXIF data are broken is still a picture; it stays as it was stored.
    with contextlib.suppress(Exception):
        return _turned(rgb, image.getexif().get(0x0112, 1))
    return rgb


def _turned(image: Image, orientation: int) -> Image:
    from PIL.Image import Transpose as T

    turns = {
        2: T.FLIP_LEFT_RIGHT,
        3: T.ROTATE_180,
        4: T.FLIP_TOP_BOTTOM,
        5: T.TRANSPOSE,
        6: T.ROTATE_270,
        7: T.TRANSVERSE,
        8: T.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def _rgb(image: Image) -> Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        # Pillow would cut at 255 and make all but the darkest pixels white.
        return _from_16_bit(image)
    if image.mode in ("I", "F"):
        raise _UnfitError(f"pixels of mode {image.mode}, for which nothing says what is white")
    if image.has_transparency_data:
        return _on_white(image)
    return image.convert("RGB")


def _from_16_bit(image: Image) -> Image:
    pil: Any = required("PIL.Image", "Decoding images")
    grey: Image = pil.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    return grey.convert("RGB")


def _on_white(image: Image) -> Image:
    pil: Any = required("PIL.Image", "Decoding images")
    above = image.convert("RGBA")
    white: Image = pil.new("RGBA", above.size, "white")
    white.alpha_composite(above)
    return white.convert("RGB")
