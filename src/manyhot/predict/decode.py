"""Decode the bytes of an image file to pixels in the orientation and colours of a viewer."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import struct
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy import typing as npt

from manyhot.extras import required
from manyhot.report.shown_grey import deep_colours, is_misread, is_negative, is_transparent

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.TiffImagePlugin import ImageFileDirectory_v2
    from torch import Tensor


# Pillow reads some 40 formats, and would pass one of them, EPS, to Ghostscript.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_MAX_ASPECT = 100
_LARGE, _ONE_AT_A_TIME = 50_000_000, threading.Lock()
_JPEG, _FRAMES = b"\xff\xd8\xff", frozenset(b"\xc0\xc1\xc2")
_SCAN, _END, _MARKER = b"\xff\xda", b"\xff\xd9", re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")
"""01 and D0 to D7 have no length: two bytes after them would be taken for one, which hid 65 kB of scans."""
_MOST_SCANS = 100
"""Scans of a JPEG: encoders write 1, or about 10 if it is progressive."""
_BEFORE = frozenset([0xC4, 0xDB, 0xDD, *range(0xE0, 0xFF)])
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SUBFILE_TYPE, _WIDTH, _HEIGHT = 254, 256, 257
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLES_PER_PIXEL, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 258, 262, 277, 338, 339
_SIXTEEN_BITS = 65535
_STRIP = 4_000_000
_IGNORED = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


def _ignore_warnings() -> None:
    """Ignore Pillow's warnings about odd metadata, and about images of half the size that it refuses.

    For the whole process: `warnings.catch_warnings` holds for one thread only, and several threads decode.
    """
    if _IGNORED not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")


class _UnfitError(Exception):
    """Pixels that cannot be shown; the message is the reason."""


MINMAX = "minmax"
"""In place of a number of bits: each image is stretched from its lowest to its highest value."""

GreyBits = int | str | None
"""The bits that images of more than 8 bits use, `MINMAX`, or None for those of the file format."""


class EncodedImage(bytes):
    """The bytes of an image file, with the number of bits that its pixels use."""

    bits: GreyBits = None

    @classmethod
    def of(cls, data: bytes, bits: GreyBits) -> EncodedImage:
        """Return bytes that `decode` decodes with the given number of bits."""
        image = cls(data)
        image.bits = bits
        return image


def decode(data: bytes | str | Tensor) -> Tensor | str:
    """Decode an image to RGB, or return the reason why it cannot be decoded.

    What a reader returns instead of bytes is returned unchanged: pixels, or the reason why there is no image.

    The image is rotated according to its EXIF orientation, transparency becomes white, and only the first
    frame of an animation is used. Images of more than 8 bits are scaled to 8 bits, from the range of the file
    format or from that of `EncodedImage.bits`. If the range of the file format is used, colours keep their
    upper 8 bits. As in timm and torchvision, colour profiles are ignored. The format is detected from the
    bytes and not from the file name.

    Returns
    -------
    torch.Tensor of uint8, shape (3, height, width), or str
        The image, or a reason such as ``not an image of a known format``.
    """
    if not isinstance(data, bytes):
        return data
    pil = required("PIL.Image", "Decoding images")
    required("torch", "Decoding images")  # or each image would be called unreadable
    if not data:
        return "the file is empty"
    bits = getattr(data, "bits", None)
    _ignore_warnings()
    try:
        if _has_many_scans(data):
            return f"a JPEG of more than {_MOST_SCANS} scans"
        if _is_common_jpeg(data):
            return _jpeg(data)
        if reason := other_channels(data):
            return reason
        with pil.open(io.BytesIO(data), formats=_FORMATS) as image:
            return _pixels(image, data, bits)
    except pil.UnidentifiedImageError:
        is_dicom = data[128:132] == b"DICM"
        return "a DICOM file; convert it to PNG or TIFF" if is_dicom else "not an image of a known format"
    except pil.DecompressionBombError:
        return f"more than {2 * pil.MAX_IMAGE_PIXELS:,} pixels"
    except _UnfitError as error:
        return str(error)
    except Exception as error:
        # Decoders raise many kinds of errors on broken files: OSError, SyntaxError, struct.error, …
        return f"cannot be decoded: {getattr(error, 'strerror', None) or _first_line(error)}"


def deep_levels(data: bytes) -> tuple[int, int] | None:
    """Return the highest value and the white level of an image; None unless it has 9 to 16 bits."""
    pil = required("PIL.Image", "Decoding images")
    _ignore_warnings()
    # Decoders raise many kinds of errors; why an image is skipped is the business of `decode`.
    with (
        contextlib.suppress(Exception),
        pil.open(io.BytesIO(data), formats=("PNG", "TIFF", "PPM")) as image,
    ):
        if (colours := deep_colours(image)) is not None:
            return int(colours[..., :3].max()), _SIXTEEN_BITS
        if white := _white_level(image):
            return int(np.asarray(image).max()), white
    return None


def _is_common_jpeg(data: bytes) -> bool:
    """Return whether this is a JPEG of ordinary size, greyscale or with three channels of 8 bits.

    Pillow, which handles all others, reads more of the header than is needed: with two decoding threads, a
    seventh of the time, holding Python's lock.
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


def other_channels(data: bytes) -> str:
    """Return why the channels of a TIFF are not an image; Pillow would read the first as greyscale."""
    if data[:4] not in _TIFF:
        return ""
    tags = _tags(data)
    n = tags.get(_SAMPLES_PER_PIXEL, 1)
    opacity = sum(kind in (1, 2) for kind in tags.get(_EXTRA_SAMPLES, ()))
    (kind, *_), (bits, *_) = tags.get(_SAMPLE_FORMAT, (1,)), tags.get(_BITS_PER_SAMPLE, (1,))
    is_grey = tags.get(_PHOTOMETRIC, 0) in (0, 1)
    if n == 1 and bits > 1 and is_grey and _continues(data, tags):  # pages of 1 bit are a document
        return (
            "a TIFF of several greyscale pages of the same size, which may be the channels of one image; "
            "save three of them as RGB or one of them alone, or pass all to manyhot.predict_loader; if they "
            "are pages of a document, split them into one file per page"
        )
    if n - opacity == 1 or not (is_grey or kind != 1):
        return ""
    numbers = {2: "signed ", 3: "floating-point "}.get(kind, "")
    return (
        f"a TIFF of {n} {numbers}channels of {bits} bits{' that are not declared as RGB' * is_grey}; save "
        "three of them as RGB of 8 or 16 bits, or pass all to manyhot.predict_loader"
    )


def _continues(data: bytes, tags: ImageFileDirectory_v2) -> bool:
    """Return whether the next page of a TIFF is as large as the first, and no preview or mask of it."""
    following = {}
    with contextlib.suppress(Exception):  # if only the next page is damaged, the first one can be shown
        following = dict(_tags(data, tags.next)) if tags.next else {}
    same = all(following.get(tag) == tags.get(tag) for tag in (_WIDTH, _HEIGHT, _BITS_PER_SAMPLE))
    return same and not following.get(_SUBFILE_TYPE, 0) and following.get(_SAMPLES_PER_PIXEL, 1) == 1


def _tags(data: bytes, offset: int | None = None) -> ImageFileDirectory_v2:
    """Return the tags of a page of a TIFF; by default, of the first."""
    return _page_tags(io.BytesIO(data), offset)


def pages_note(paths: Sequence[Path]) -> str:
    """Return a note on the TIFF files of several pages, by their headers; empty if there are none."""
    several = list[Path]()
    for path in paths:
        if path.suffix.lower() in (".tif", ".tiff"):
            with contextlib.suppress(OSError), path.open("rb") as file:  # noted when it is decoded
                several += [path] * has_pages(file)
    return note_on_pages(several, len(paths))


def note_on_pages(several: Sequence[object], n: int) -> str:
    """Return a note on the files of several pages among `n`; empty if there are none."""
    if not several:
        return ""
    return (
        f"{len(several):,} of {n:,} images whose headers were read have several pages, such as "
        f"{several[0]}; no page but the first is used: split them into one file per page"
    )


def has_pages(file: BinaryIO) -> bool:
    """Return whether a file is a TIFF with a second page that is no preview or mask."""
    with contextlib.suppress(Exception):  # broken files are noted when decoded
        after = _page_tags(file).next
        return bool(after) and not _page_tags(file, after).get(_SUBFILE_TYPE, 0) & 5
    return False


def _page_tags(file: Any, offset: int | None = None) -> ImageFileDirectory_v2:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    file.seek(0)
    head = file.read(16)
    tags = ImageFileDirectory_v2(head if 43 in head[2:4] else head[:8])
    file.seek(tags.next if offset is None else offset)
    tags.load(file)
    return tags


def _has_many_scans(data: bytes) -> bool:
    """Return whether a JPEG has more scans than encoders write; each takes as long as the whole picture.

    A file of 1 MB with 500 scans of 49 megapixels is decoded for 28 s. Bytes after the picture, such as the
    video of a moving photograph, are not counted.
    """
    if not data.startswith(_JPEG) or data.count(_SCAN) <= _MOST_SCANS:
        return False
    at, scans = 2, 0
    while (found := _MARKER.search(data, at)) and found[0] != _END and scans <= _MOST_SCANS:
        scans += found[0] == _SCAN
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
    return scans > _MOST_SCANS


def _pixels(image: Image, data: bytes, bits: GreyBits) -> Tensor:
    width, height = image.size
    if max(width, height) > _MAX_ASPECT * min(width, height):
        raise _UnfitError(f"{width:,} × {height:,} pixels: longer than {_MAX_ASPECT} times its short side")
    with _ONE_AT_A_TIME if width * height > _LARGE else contextlib.nullcontext():
        if image.format == "JPEG" and image.mode in ("RGB", "L"):
            return _jpeg(data)
        colours = deep_colours(image) if bits is not None or is_misread(image) else None
        on_white = is_transparent(image)
        image.load()
        if colours is not None:
            image.paste(_eight_bits(colours, bits))
        return _turned(_planes(image, bits, on_white), _orientation(image))


def _jpeg(data: bytes) -> Tensor:
    """Decode a JPEG with libjpeg-turbo, as Pillow does, in a fifth less time and without the lock."""
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    raw = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    pixels: Tensor = decode_jpeg(raw, mode=ImageReadMode.RGB, apply_exif_orientation=True)
    return pixels


def _first_line(error: Exception) -> str:
    line = str(error).partition("\n")[0]
    # "decode_jpeg, ../torchvision/csrc/io/image/cpu/decode_jpeg.cpp:167, Image is incomplete or truncated"
    return re.sub(r"^.*\.cpp:\d+, ", "", line).strip() or type(error).__name__


def _planes(image: Image, bits: GreyBits, on_white: bool) -> Tensor:
    """Return the pixels as RGB, made strip by strip."""
    import torch

    to_rgb, (width, height) = _to_rgb(image, bits, on_white), image.size
    planes = torch.empty((3, height, width), dtype=torch.uint8)
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        strip = to_rgb(image.crop((0, top, width, min(top + rows, height))))
        planes[:, top : top + rows] = torch.from_numpy(np.array(strip)).permute(2, 0, 1)
    return planes


def _orientation(image: Image) -> int:
    # An image with broken EXIF data is still an image; it is shown as it was stored.
    with contextlib.suppress(Exception):
        return int(image.getexif().get(0x0112, 1))
    return 1


def _turned(planes: Tensor, orientation: int) -> Tensor:
    """Rotate an image by its EXIF orientation: transposed or not, then the dimensions to flip."""
    turns = {2: (2,), 3: (1, 2), 4: (1,), 5: (), 6: (2,), 7: (1, 2), 8: (1,)}
    if orientation not in turns:
        return planes
    return (planes.mT if orientation > 4 else planes).flip(turns[orientation]).contiguous()


def _to_rgb(image: Image, bits: GreyBits, on_white: bool) -> Callable[[Image], Image]:
    """Return the function that converts the pixels of an image to RGB."""
    if level := _white_level(image):
        # Pillow would clip at 255 and make all but the darkest pixels white.
        low, white = (0.0, float(level)) if bits is None else _range(np.asarray(image), bits)
        return functools.partial(_from_grey, low=low, white=white, inverted=is_negative(image))
    if image.mode in ("I", "F"):
        if bits is None or (image.mode == "F" and bits != MINMAX):
            raise _UnfitError(f"pixels of mode {image.mode}, which has no known white level")
        low, white = _range(np.asarray(image), bits)
        return functools.partial(_from_grey, low=low, white=white, inverted=False)
    return _on_white if on_white else lambda shown: shown.convert("RGB")


def _eight_bits(colours: npt.NDArray[np.uint16], bits: GreyBits) -> Image:
    """Return colours of 16 bits as 8 bits; opacity keeps its upper 8 bits."""
    pil: Any = required("PIL.Image", "Decoding images")
    eight = (colours >> 8).astype(np.uint8)
    if bits is not None:
        low, white = _range(colours[..., :3], bits)
        steps = np.clip(np.arange(_SIXTEEN_BITS + 1) - low, 0, white - low)
        scaled = np.round(steps * (255 / (white - low) if white > low else 0)).astype(np.uint8)
        eight[..., :3] = scaled[colours[..., :3]]
    shown: Image = pil.fromarray(eight)
    return shown


def _white_level(image: Image) -> int:
    """Return the white level of greyscale of 9 to 16 bits by its file format; 0 for other images."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        tags: Any = getattr(image, "tag_v2", {})
        return int(2 ** tags.get(_BITS_PER_SAMPLE, (16,))[0] - 1)
    return 0


def _range(values: npt.NDArray[Any], bits: int | str) -> tuple[float, float]:
    """Return the values that become black and white."""
    if bits == MINMAX:
        values = values[np.isfinite(values)]
        if not values.size:
            raise _UnfitError("no pixel is a finite number")
        return float(values.min()), float(values.max())
    lowest, highest, white = int(values.min()), int(values.max()), 2 ** int(bits) - 1
    if lowest < 0 or highest > white:
        value = lowest if lowest < 0 else highest
        raise _UnfitError(
            f"a pixel has the value {value:,}, which is outside the range of {bits} bits, 0 to {white:,}"
        )
    return 0.0, float(white)


def _from_grey(image: Image, low: float, white: float, inverted: bool) -> Image:
    """Scale greyscale from `low` to `white` to 8 bits; an image of one value becomes black."""
    pil: Any = required("PIL.Image", "Decoding images")
    values = np.nan_to_num(np.asarray(image, np.float64), nan=low, posinf=white, neginf=low) - low
    range_ = white - low
    values = np.round((range_ - values if inverted else values) * (255 / range_ if range_ else 0))
    grey: Image = pil.fromarray(values.astype(np.uint8))
    return grey.convert("RGB")


def _on_white(image: Image) -> Image:
    pil: Any = required("PIL.Image", "Decoding images")
    above = image.convert("RGBA")
    white: Image = pil.new("RGBA", above.size, "white")
    white.alpha_composite(above)
    return white.convert("RGB")
