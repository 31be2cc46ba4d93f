"""Images as sent to the browser: read from anywhere, resized once.

A request names an image by its number; its location comes from the database only. No part of a request ever
becomes part of a path.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import tarfile
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.ImageCms
import PIL.ImageOps

from manyhot.errors import InputError, ManyhotError, MissingExtraError
from manyhot.files import local_path
from manyhot.reassess.app.cached_value import CachedValue
from manyhot.report.shown_grey import (
    has_deep_colours,
    is_negative,
    is_transparent,
    show_colours,
    shown_grey,
)

SIDES: Mapping[str, int] = {"small": 256, "large": 1280}
"""Maximum length of the longer side in pixels: of examples, and of the image that is asked about."""


TILES, TILE = 9, 192
"""A strip is the example images of a class side by side, cut to squares of this many pixels. Eight are shown;
one more is there because an image is no example beside itself."""


MAX_FILE_BYTES = 100 << 20
MAX_PIXELS = 90_000_000
MAX_DECODED = 100_000_000
"""Bytes of a decoded image. JPEG files are decoded at a fraction of their size."""


MAX_COEFFICIENTS = 3 * MAX_PIXELS
"""Bytes of the coefficients of a progressive JPEG, all of which the decoder holds, however small the result:
those of `MAX_PIXELS` in colour as most encoders write it (4:2:0)."""


LARGE = MAX_DECODED // 2
"""Bytes of an image above which it is decoded alone: with copies, decoders take up to 0.6 GB (JPEG 2000)."""


# Others run programs (EPS: Ghostscript) or are read by code that nobody has attacked for years.
_KINDS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF")
_SCHEMES = ("http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "hf", "ftp", "memory")
"""What fsspec may open: others run programs (git, ssh), chain or interpret what they read (reference)."""


_DECODING, _DECODING_LARGE, _INDEXING = threading.Semaphore(2), threading.Lock(), threading.Lock()
_VERSION = 2
"""The version of the encoding: a new one makes all files again. Version 1 kept comments of the originals."""


class TooLargeError(ValueError):
    """An image that would take too much memory; the message says what it needs."""


class PictureCache:
    """A cache of images, by address, as JPEG files in the sizes that the pages use.

    Parameters
    ----------
    cache : Path
        Folder of the resized images. It can be deleted at any time. If it is not writable, images are resized
        again for each request.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._lock = threading.Lock()
        self._making: dict[Path, CachedValue[tuple[bytes, bool]]] = {}

    def read(self, uri: str, size: str) -> bytes:
        """Return an image in a size of `SIDES`.

        Raises
        ------
        InputError
            If the image cannot be read or decoded.
        """
        path = self._path(str(SIDES[size]), uri)
        return self._once(path, lambda: (shrunk(uri, size), True))[0]

    def strip(self, uris: Sequence[str]) -> tuple[bytes, bool]:
        """Return one JPEG of `TILES` images, with unreadable images in grey, and whether all are readable."""
        return self._once(self._path("strip", "\n".join(uris)), lambda: self._joined(uris))

    def has_image(self, uri: str, size: str) -> bool:
        """Return whether the cache contains an image in a size of `SIDES`."""
        return self._path(str(SIDES[size]), uri).is_file()

    def has_strip(self, uris: Sequence[str]) -> bool:
        """Return whether a strip was made before."""
        return self._path("strip", "\n".join(uris)).is_file()

    def _once(self, path: Path, make: Callable[[], tuple[bytes, bool]]) -> tuple[bytes, bool]:
        """Return a file that is kept, or made now by one of those who ask for it; and whether it is whole."""
        if data := _read_file(path):
            return data, True

        def made() -> tuple[bytes, bool]:
            if data := _read_file(path):  # since it was looked for
                return data, True
            data, whole = make()
            if whole:
                _write_file(path, data)
            return data, whole

        with self._lock:
            making = self._making.setdefault(path, CachedValue(made, math.inf))
        try:
            return making.get()
        finally:
            with self._lock:
                if self._making.get(path) is making:
                    del self._making[path]

    def _joined(self, uris: Sequence[str]) -> tuple[bytes, bool]:
        with ThreadPoolExecutor(TILES) as together:  # where they are far away
            tiles = list(together.map(self._tile, uris))
        strip = PIL.Image.new("RGB", (TILES * TILE, TILE), "#808080")
        for number, tile in enumerate(tiles):
            if tile is not None:
                strip.paste(tile, (number * TILE, 0))
        made = io.BytesIO()
        strip.save(made, "JPEG", quality=85, optimize=True)
        return made.getvalue(), None not in tiles

    def _tile(self, uri: str) -> PIL.Image.Image | None:
        try:
            data = self.read(uri, "small")
        except ManyhotError:
            return None
        with PIL.Image.open(io.BytesIO(data)) as small:
            return PIL.ImageOps.fit(_in_srgb(small), (TILE, TILE))

    def _path(self, *what: str) -> Path:
        key = f"{_VERSION} " + " ".join(what)
        name = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
        return self._cache / name[:2] / f"{name}.jpg"


def _read_file(path: Path) -> bytes | None:
    try:
        return path.read_bytes()  # empty where the machine went down before it was written
    except OSError:
        return None


def _write_file(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all; a full disk is no reason not to show the image."""
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(part).replace(path)
    except OSError:
        if part is not None:
            with contextlib.suppress(OSError):
                Path(part).unlink()


def read_picture(uri: str) -> bytes:
    """Return the bytes of an image: a file, a member of a tar archive, or a file that fsspec opens.

    Raises
    ------
    InputError
        If the image does not exist, or is too large.
    MissingExtraError
        If the image is remote, and fsspec is not installed.
    """
    try:
        path = local_path(uri)
        if path is None:
            return _remote(uri)
        if path.is_file():
            with path.open("rb") as file:
                return _limited(file.read(MAX_FILE_BYTES + 1), uri)
        return _member(path, uri)
    except ManyhotError:
        raise
    except (OSError, ValueError, tarfile.TarError) as error:  # ValueError: a null byte in a path
        raise InputError(
            "The image cannot be read.", where=uri, got=getattr(error, "strerror", None) or error
        ) from error


def _member(path: Path, uri: str) -> bytes:
    for archive in path.parents:
        if archive.is_file():
            places = _places(str(archive), archive.stat().st_mtime_ns)
            place = places.get(path.relative_to(archive).as_posix())
            if place is None:
                break
            offset, size = place
            with archive.open("rb") as file:
                file.seek(offset)
                return _limited(file.read(min(size, MAX_FILE_BYTES + 1)), uri)
    raise InputError(
        "The image does not exist.",
        where=uri,
        do="restore it, or start the app with manyhot annotate --image-folder FOLDER",
    )


def _places(archive: str, changed: int) -> dict[str, tuple[int, int]]:
    with _INDEXING:
        index = _index(archive, changed)
    return index.get()


@lru_cache(maxsize=64)
def _index(archive: str, _changed: int) -> CachedValue[dict[str, tuple[int, int]]]:
    def read() -> dict[str, tuple[int, int]]:
        with tarfile.open(archive, "r:") as tar:
            return {m.name.removeprefix("./"): (m.offset_data, m.size) for m in tar if m.isfile()}

    return CachedValue(read, math.inf)


def _remote(uri: str) -> bytes:
    scheme = uri.partition("://")[0]
    if scheme not in _SCHEMES or "::" in uri:
        raise InputError(
            "Images cannot be read from this kind of address.",
            where=uri,
            got=f"{scheme}://" if "::" not in uri else "several addresses in one",
            allowed=f"a path, or an address that starts with one of {', '.join(_SCHEMES)}",
        )
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError(
            "Remote images need fsspec.", where=uri, do='pip install "manyhot[remote]"'
        ) from error
    try:
        with fsspec.open(uri, "rb") as file:
            return _limited(file.read(MAX_FILE_BYTES + 1), uri)
    except ManyhotError:
        raise
    except Exception as error:
        # Each kind of storage has errors of its own: aiohttp's, botocore's, …
        raise InputError(
            "The image cannot be read.", where=uri, got=f"{type(error).__name__}: {error}".partition("\n")[0]
        ) from error


def _limited(data: bytes, uri: str) -> bytes:
    if len(data) > MAX_FILE_BYTES:
        raise InputError(
            "The image is too large.",
            where=uri,
            got=f"more than {MAX_FILE_BYTES:,} bytes",
            allowed=f"at most {MAX_FILE_BYTES:,} bytes",
        )
    return data


def shrunk(uri: str, size: str) -> bytes:
    """Return an image in a size of `SIDES`, made again; raises an InputError if it cannot be shown."""
    original = read_picture(uri)
    with _DECODING:
        return _shrink(original, uri, SIDES[size])


def _readable() -> tuple[str, ...]:
    """Return those of `_KINDS` that Pillow was built with: at one that it lacks it looks no further."""
    PIL.Image.init()
    return tuple(kind for kind in _KINDS if kind in PIL.Image.OPEN)


def _shrink(data: bytes, uri: str, side: int) -> bytes:
    try:
        with PIL.Image.open(io.BytesIO(data), formats=_readable()) as opened:
            profile = opened.info.get("icc_profile")
            needed = _needed_bytes(opened, side)
            with _DECODING_LARGE if needed > LARGE else contextlib.nullcontext():
                image = _smaller(opened, side)
        made = io.BytesIO()
        # What a camera meant by its colours stays; all else of its notes, places included, goes.
        image.info = {}  # Pillow writes a comment that is in it, and version 11.0 writes XMP, unasked
        kept = profile if profile and profile[16:20] == b"RGB " else None
        image.save(made, "JPEG", quality=88, optimize=True, progressive=True, icc_profile=kept)
    except Exception as error:
        # Decoders raise whatever a broken file makes them trip over: OSError, SyntaxError, struct.error, …
        raise InputError(
            "The image cannot be decoded.",
            where=uri,
            got=(str(error) or type(error).__name__).partition("\n")[0],
        ) from error
    return made.getvalue()


def _needed_bytes(opened: PIL.Image.Image, side: int) -> int:
    """Return the bytes that decoding takes, by the header; an image that takes too many raises an error."""
    if opened.width * opened.height > MAX_PIXELS:
        raise TooLargeError(f"{opened.width:,} × {opened.height:,} pixels, at most {MAX_PIXELS:,} in all")
    if (needed := _coefficient_bytes(opened)) > MAX_COEFFICIENTS:
        raise TooLargeError(
            f"{needed:,} bytes to decode a progressive JPEG, at most {MAX_COEFFICIENTS:,}; save it as a "
            "baseline JPEG"
        )
    opened.draft("RGB", (side, side))
    decoded = opened.width * opened.height * _bytes_per_pixel(opened)
    if decoded > MAX_DECODED:
        raise TooLargeError(f"{decoded:,} bytes when decoded, at most {MAX_DECODED:,}")
    return max(decoded, needed)


def why_too_large(path: Path) -> str:
    """Return why a file is too large to be shown, by its size and header; empty if it is not."""
    if (size := path.stat().st_size) > MAX_FILE_BYTES:
        return f"{size:,} bytes, at most {MAX_FILE_BYTES:,}"
    try:
        with PIL.Image.open(path, formats=_readable()) as opened:
            _needed_bytes(opened, SIDES["large"])
    except TooLargeError as error:
        return str(error)
    except PIL.Image.DecompressionBombError:
        return f"more than {MAX_PIXELS:,} pixels"
    except Exception:
        return ""  # broken, which is no question of size
    return ""


def _in_srgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """Return an image in the colours that those without a profile are taken to have."""
    profile = image.info.get("icc_profile")
    if profile:
        with contextlib.suppress(PIL.ImageCms.PyCMSError):  # a broken profile is none
            srgb = PIL.ImageCms.createProfile("sRGB")
            return PIL.ImageCms.profileToProfile(image, io.BytesIO(profile), srgb) or image
    return image


def _bytes_per_pixel(image: PIL.Image.Image) -> int:
    """Return the bytes of a pixel in the mode in which an image is made smaller; palettes become colours."""
    if has_deep_colours(image):
        return 4 * len(image.getbands())
    if image.has_transparency_data:
        return 4
    if image.mode[0] in "IF":
        return 4 * len(image.getbands())
    return 1 if image.mode in ("1", "L") else max(3, len(image.getbands()))


def _coefficient_bytes(image: Any) -> int:
    """Return the bytes of the coefficients of a progressive JPEG; 0 for other images."""
    if "progressive" not in image.info:
        return 0
    across, down = ([part[place] for part in image.layer] for place in (1, 2))
    values = sum(a * b for a, b in zip(across, down, strict=True)) / (max(across) * max(down))
    return int(2 * image.width * image.height * values)


def _smaller(image: PIL.Image.Image, side: int) -> PIL.Image.Image:
    """Return an image as RGB on white, made smaller before anything else: a copy takes up to 0.4 GB."""
    on_white = is_transparent(image)
    show_colours(image)
    PIL.ImageOps.exif_transpose(image, in_place=True)
    if image.mode[0] in "IF":  # more than 8 bits a pixel, which `convert` would clip to white
        image = shown_grey(image, is_negative(image))
    mode = "RGBA" if on_white else "L" if image.mode in ("1", "L") else "RGB"
    image = image if image.mode == mode else image.convert(mode)
    image.thumbnail((side, side), PIL.Image.Resampling.LANCZOS)
    if mode == "RGBA":
        image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
