"""Images as the browser gets them: from anywhere, made smaller once, kept.

Whoever asks names an image by its number; where it lies comes from the database alone. Nothing of a request
ever becomes part of a path.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import PIL.Image
import PIL.ImageOps

from manyhot.errors import InputError, MissingExtraError
from manyhot.files import atomic_write

SIDES: Mapping[str, int] = {"small": 256, "large": 1280}
"""The longer side in pixels at most: of an example, and of the image that is asked about."""

MAX_BYTES = 200 << 20
_DECODING = threading.Semaphore(2)
"""Large photographs take 100 MB each while they are decoded."""


class Pictures:
    """Images by address, as JPEG of the sides that pages show.

    Parameters
    ----------
    cache : Path
        Folder of the files that were made; it may be deleted at any time.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def file(self, uri: str, size: str) -> Path:
        """Return the file of an image in a size of `SIDES`, made now if it is not there.

        Raises
        ------
        InputError
            The image cannot be read or decoded.
        """
        name = hashlib.sha256(f"{SIDES[size]} {uri}".encode(errors="surrogateescape")).hexdigest()
        path = self._cache / name[:2] / f"{name}.jpg"
        if not path.exists():
            with _DECODING:
                if not path.exists():
                    _shrink(uri, SIDES[size], path)
        return path


def read_bytes(uri: str) -> bytes:
    """Return the bytes of an image: a file, a member of a tar archive, or what fsspec opens.

    Raises
    ------
    InputError
        It is not there, or too large.
    MissingExtraError
        It is remote, and fsspec is not installed.
    """
    try:
        if "://" in uri and not uri.startswith("file://"):
            return _remote(uri)
        path = Path(uri.removeprefix("file://"))
        if path.is_file():
            _check_size(path.stat().st_size, uri)
            return path.read_bytes()
        return _member(path, uri)
    except OSError as error:
        raise InputError("The image cannot be read.", where=uri, got=error.strerror or error) from error


def _member(path: Path, uri: str) -> bytes:
    for archive in path.parents:
        if archive.is_file():
            places = _places(str(archive), archive.stat().st_mtime_ns)
            place = places.get(path.relative_to(archive).as_posix())
            if place is None:
                break
            offset, size = place
            _check_size(size, uri)
            with archive.open("rb") as file:
                file.seek(offset)
                return file.read(size)
    raise InputError("The image is not there.", where=uri, do="put it back, or start with --images FOLDER")


@lru_cache(maxsize=64)
def _places(archive: str, _changed: int) -> dict[str, tuple[int, int]]:
    with tarfile.open(archive, "r:") as tar:
        return {m.name.removeprefix("./"): (m.offset_data, m.size) for m in tar if m.isfile()}


def _remote(uri: str) -> bytes:
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError(
            "Remote images need fsspec.", where=uri, do='pip install "manyhot[remote]"'
        ) from error
    with fsspec.open(uri, "rb") as file:
        data: bytes = file.read(MAX_BYTES + 1)
    _check_size(len(data), uri)
    return data


def _check_size(size: int, uri: str) -> None:
    if size > MAX_BYTES:
        raise InputError(
            "The image is too large.", where=uri, got=f"{size:,} bytes", allowed=f"{MAX_BYTES:,} at most"
        )


def _shrink(uri: str, side: int, path: Path) -> None:
    data = read_bytes(uri)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            with PIL.Image.open(io.BytesIO(data)) as opened:
                opened.draft("RGB", (side, side))
                image = _on_white(PIL.ImageOps.exif_transpose(opened))
        image.thumbnail((side, side), PIL.Image.Resampling.LANCZOS)
    except Exception as error:
        # Decoders raise whatever a broken file makes them trip over: OSError, SyntaxError, struct.error, …
        raise InputError(
            "The image cannot be decoded.",
            where=uri,
            got=f"{type(error).__name__}: {error}".partition("\n")[0],
        ) from error
    with atomic_write(path) as part:
        image.save(part, "JPEG", quality=88, optimize=True, progressive=True)


def _on_white(image: PIL.Image.Image) -> PIL.Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel, which `convert` would clip to white
        return image.point(lambda v: v * (1 / 256)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return PIL.Image.alpha_composite(PIL.Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
