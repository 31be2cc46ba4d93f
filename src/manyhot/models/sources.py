"""Where images come from: listing them, and decoding one as a person would see it."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from manyhot.errors import InputError
from manyhot.models.adapters import required

if TYPE_CHECKING:
    from PIL.Image import Image

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""File names that count as images, in any case. What the bytes are decides how they are decoded."""

# Pillow knows some 40 formats; EPS, one of them, it hands to Ghostscript.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")

_MAX_ASPECT = 100
# The resize makes the short side some 256 pixels: at 100 : 1 that is 20 MB, at 10,000 : 1 it would be 2 GB.


@dataclass(frozen=True)
class Listed:
    """An image that a source lists, not opened yet.

    Attributes
    ----------
    image_id : str
        The base name with extension.
    uri : str
        Where it lies: the folder as it was given, and the path in it.
    label : int, optional
        The original single label.
    """

    image_id: str
    uri: str
    label: int | None = None


@dataclass(frozen=True)
class Skipped:
    """An image that could not be decoded, and why."""

    image_id: str
    uri: str
    reason: str


class _UnfitError(Exception):
    """Pixels that nobody can say how to show; the reason is the message."""


def list_folder(folder: str | os.PathLike[str], keys: Sequence[str] = ()) -> list[Listed]:
    """List the images in a folder and below it, sorted by path.

    Hidden files and folders are passed over. Links to folders are followed.

    Parameters
    ----------
    folder : path-like
    keys : sequence of str
        The keys of the class list. An image whose own folder is called like a key has that class as label.

    Raises
    ------
    InputError
        The folder does not exist or holds no image, or two images have the same base name.
    """
    root = Path(folder)
    _check_folder(root)
    class_of = {key: i for i, key in enumerate(keys)}
    paths = sorted(_walk(root), key=lambda path: path.relative_to(root).parts)
    if not paths:
        raise InputError(
            "The folder holds no images.", where=root, allowed="files ending in " + ", ".join(EXTENSIONS)
        )
    _check_names(paths, root)
    return [Listed(p.name, p.as_posix(), class_of.get(p.parent.name)) for p in paths]


def decode(path: str | os.PathLike[str]) -> Image | str:
    """Decode an image to RGB as a person would see it, or return why that is not possible.

    Turned upright by its EXIF orientation; transparent parts on white; the first picture of an animation;
    16-bit greyscale scaled to 8. Colour profiles are ignored, as timm and torchvision do.

    Returns
    -------
    PIL.Image.Image or str
        The image, or a reason such as ``not an image of a known format``.
    """
    pil = required("PIL.Image", "Decoding images")
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd metadata and of half the size that it refuses; both are fine to go on with.
            warnings.simplefilter("ignore")
            with pil.open(path, formats=_FORMATS) as image:
                return _upright(image)
    except pil.UnidentifiedImageError:
        return "the file is empty" if Path(path).stat().st_size == 0 else "not an image of a known format"
    except pil.DecompressionBombError:
        return f"more than {2 * pil.MAX_IMAGE_PIXELS:,} pixels"
    except _UnfitError as error:
        return str(error)
    except Exception as error:
        # Decoders raise whatever a broken file makes them trip over: OSError, SyntaxError, struct.error, …
        return f"cannot be decoded: {getattr(error, 'strerror', None) or error or type(error).__name__}"


def _check_folder(root: Path) -> None:
    if not root.exists():
        raise InputError("The folder does not exist.", where=root)
    if not root.is_dir():
        raise InputError("This is not a folder.", where=root, allowed="a folder of images, flat or nested")


def _walk(root: Path) -> list[Path]:
    found = []
    for parent, folders, files in os.walk(root, onerror=_refuse, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        # "._x.jpg" beside "x.jpg" is what macOS leaves on foreign disks, and no image.
        found += [Path(parent, name) for name in files if not name.startswith(".")]
    return [path for path in found if path.suffix.lower() in EXTENSIONS]


def _refuse(error: OSError) -> None:
    # os.walk passes over what it may not read, and the images there would be missing without a word.
    raise InputError(
        f"A folder cannot be read: {error.strerror or error}.", where=error.filename, do="allow reading it"
    ) from error


def _check_names(paths: Sequence[Path], root: Path) -> None:
    first: dict[str, Path] = {}
    twice = [(first[p.name], p) for p in paths if first.setdefault(p.name, p) != p]
    if not twice:
        return
    one, other = (path.relative_to(root).as_posix() for path in twice[0])
    raise InputError(
        "Two images have the same base name.",
        where=root,
        got=f"{one} and {other}" + (f", and {len(twice) - 1:,} more such pairs" if len(twice) > 1 else ""),
        allowed="each base name once: it is the image's id in every table",
        do="rename one of them, or predict the folders one by one",
    )


def _upright(image: Image) -> Image:
    width, height = image.size
    if max(width, height) > _MAX_ASPECT * min(width, height):
        raise _UnfitError(f"{width:,} × {height:,} pixels: longer than {_MAX_ASPECT} times its short side")
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
    pil = required("PIL.Image", "Decoding images")
    grey: Image = pil.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    return grey.convert("RGB")


def _on_white(image: Image) -> Image:
    pil = required("PIL.Image", "Decoding images")
    above = image.convert("RGBA")
    white: Image = pil.new("RGBA", above.size, "white")
    white.alpha_composite(above)
    return white.convert("RGB")
