"""Bytes of an image file → pixels as a person would see them."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import struct
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from manyhot.extras import required

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


# Pillow knows some 40 formats; EPS, one of them, it hands to Ghostscript.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")


_MAX_ASPECT = 100


_LARGE, _ONE_AT_A_TIME = 50_000_000, threading.Lock()


_JPEG, _FRAMES = b"\xff\xd8\xff", frozenset(b"\xc0\xc1\xc2")


_BEFORE = frozenset([0xC4, 0xDB, 0xDD, *range(0xE0, 0xFF)])


_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262


_STRIP = 4_000_000


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
        if _is_common_jpeg(data):
            return _jpeg(data)
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
        return f"cannot be decoded: {getattr(error, 'strerror', None) or _first_line(error)}"


def _is_common_jpeg(data: bytes) -> bool:
    """Say whether this is a JPEG of no unusual size, grey or of three colours of 8 bits each.

    Pillow, which looks at all else, reads more of a header than is needed: of two threads that decode a
    seventh of the time, with Python's lock.
    """
    at, last = 2, len(data) - 10
    while data.startswith(_JPEG) and at <= last and data[at] == 0xFF:
        if data[at + 1] in _FRAMES:
            bits, height, width, colours = struct.unpack_from(">BHHB", data, at + 4)
            usual = 0 < max(width, height) <= _MAX_ASPECT * min(width, height)
            return bits == 8 and colours in (1, 3) and usual and width * height <= _LARGE
        if data[at + 1] not in _BEFORE:
            break
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return False


def _pixels(image: Image, data: bytes) -> Tensor:
    width, height = image.size
    if max(width, height) > _MAX_ASPECT * min(width, height):
        raise _UnfitError(f"{width:,} × {height:,} pixels: longer than {_MAX_ASPECT} times its short side")
    with _ONE_AT_A_TIME if width * height > _LARGE else contextlib.nullcontext():
        if image.format == "JPEG" and image.mode in ("RGB", "L"):
            return _jpeg(data)
        image.load()
        return _turned(_planes(image), _orientation(image))


def _jpeg(data: bytes) -> Tensor:
    """Decode a JPEG as libjpeg-turbo does for Pillow too, at a fifth less time and without the lock."""
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    raw = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    pixels: Tensor = decode_jpeg(raw, mode=ImageReadMode.RGB, apply_exif_orientation=True)
    return pixels


def _first_line(error: Exception) -> str:
    line = str(error).partition("\n")[0]
    # "decode_jpeg, ../torchvision/csrc/io/image/cpu/decode_jpeg.cpp:167, Image is incomplete or truncated"
    return re.sub(r"^.*\.cpp:\d+, ", "", line).strip() or type(error).__name__


def _planes(image: Image) -> Tensor:
    """Return the pixels as RGB, made strip by strip."""
    import torch

    to_rgb, (width, height) = _to_rgb(image), image.size
    planes = torch.empty((3, height, width), dtype=torch.uint8)
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        strip = to_rgb(image.crop((0, top, width, min(top + rows, height))))
        planes[:, top : top + rows] = torch.from_numpy(np.array(strip)).permute(2, 0, 1)
    return planes


def _orientation(image: Image) -> int:
    # A picture whose EXIF data are broken is still a picture; it stays as it was stored.
    with contextlib.suppress(Exception):
        return int(image.getexif().get(0x0112, 1))
    return 1


def _turned(planes: Tensor, orientation: int) -> Tensor:
    """Turn an image upright by its EXIF orientation: rows as columns or not, then dimensions to flip."""
    turns = {2: (2,), 3: (1, 2), 4: (1,), 5: (), 6: (2,), 7: (1, 2), 8: (1,)}
    if orientation not in turns:
        return planes
    return (planes.mT if orientation > 4 else planes).flip(turns[orientation]).contiguous()


def _to_rgb(image: Image) -> Callable[[Image], Image]:
    """Return what makes RGB of the pixels of an image."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        # Pillow would cut at 255 and make all but the darkest pixels white.
        tags: Any = getattr(image, "tag_v2", {})
        white = 2 ** tags.get(_BITS_PER_SAMPLE, (16,))[0] - 1
        return functools.partial(_from_16_bit, white=white, inverted=tags.get(_PHOTOMETRIC) == 0)
    if image.mode in ("I", "F"):
        raise _UnfitError(f"pixels of mode {image.mode}, for which nothing says what is white")
    return _on_white if image.has_transparency_data else _converted


def _converted(image: Image) -> Image:
    return image.convert("RGB")


def _from_16_bit(image: Image, white: int, inverted: bool) -> Image:
    pil: Any = required("PIL.Image", "Decoding images")
    values = np.asarray(image)
    values = np.round((white - values if inverted else values) * (255 / white))
    grey: Image = pil.fromarray(values.astype(np.uint8))
    return grey.convert("RGB")


def _on_white(image: Image) -> Image:
    pil: Any = required("PIL.Image", "Decoding images")
    above = image.convert("RGBA")
    white: Image = pil.new("RGBA", above.size, "white")
    white.alpha_composite(above)
    return white.convert("RGB")
