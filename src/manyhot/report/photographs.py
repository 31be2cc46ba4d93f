"""Photographs: read, decoded, turned upright and scaled down."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from manyhot.errors import ManyhotError, MissingExtraError

Opener = Callable[[], bytes]
"""Reads the bytes of a photograph, or raises an OSError with the reason."""

MAX_BYTES = 1 << 28
"""Maximum size of a photograph's file, in bytes."""

Photographs = Iterable[tuple[int, Opener]]
"""The position of each image and its opener, in the order in which reading is fast."""

_SQUARE = 1 << 20


def load_pillow() -> Any:
    """Return the package PIL.

    Raises
    ------
    MissingExtraError
        If Pillow is not installed.
    """
    try:
        importlib.import_module("PIL.ImageOps")
        return importlib.import_module("PIL")
    except ImportError as error:
        raise MissingExtraError(
            "A report with pictures needs Pillow.", do='pip install "manyhot[report]"'
        ) from error


def in_files(uris: Sequence[str | None]) -> Iterator[tuple[int, Opener]]:
    """Yield photographs, each from a file of its own."""
    return ((i, opener(uri)) for i, uri in enumerate(uris))


def opener(uri: str | None) -> Opener:
    """Return a function that reads a file, or raises an OSError with the reason why it cannot."""
    if not uri:
        return absent("the images table has no uri for it")
    if "://" in uri and not uri.startswith("file://"):
        return absent("not a file on this computer")
    path = Path(uri.removeprefix("file://"))
    if not path.is_file():
        return absent("not a file" if path.exists() else "the file does not exist")
    size = path.stat().st_size
    return path.read_bytes if size <= MAX_BYTES else absent(f"{size:,} bytes: more than {MAX_BYTES:,}")


def absent(reason: str) -> Opener:
    """Return an opener that raises an OSError with this reason."""

    def fail() -> bytes:
        raise OSError(reason)

    return fail


def decoded(pillow: Any, read: Opener, side: int) -> tuple[Any, str]:
    """Return a photograph upright, in RGB, its long side at most `side` pixels; or None and the reason.

    The only metadata that remains is the colour profile, in ``info``.
    """
    try:
        data = read()
    except OSError as error:
        return None, f"cannot be read: {error.strerror}" if error.strerror else str(error)
    except ManyhotError as error:
        return None, error.what.rstrip(".")
    try:
        return _shrink(pillow, data, side), ""
    except Exception as error:
        # Decoders raise many kinds of errors on broken files: OSError, SyntaxError, struct.error, …
        if isinstance(error, pillow.UnidentifiedImageError):
            return None, "not an image of a known format"
        return None, f"cannot be decoded: {type(error).__name__}"


def _shrink(pillow: Any, data: bytes, side: int) -> Any:
    with pillow.Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (side, side))
        upright = pillow.ImageOps.exif_transpose(image)
        small = _on_white(pillow, upright)
        profile = image.info.get("icc_profile")
    small.thumbnail((side, side))
    # Pillow writes a comment that is in `info`, and version 11.0 writes XMP, unasked.
    small.info = {"icc_profile": profile} if profile and profile[16:20] == b"RGB " else {}
    return small


def _on_white(pillow: Any, image: Any) -> Any:
    if image.mode.startswith("I"):  # 16 bits per pixel, which `convert` would clip to white
        return image.point(lambda v: v * (1 / 256)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    white = pillow.Image.new("RGBA", rgba.size, "white")
    return pillow.Image.alpha_composite(white, rgba).convert("RGB")
