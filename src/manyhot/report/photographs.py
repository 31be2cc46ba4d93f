"""Photographs: their bytes from any source, decoded small and upright."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from manyhot.errors import ManyhotError, MissingExtraError

Opener = Callable[[], bytes]
"""Reads the bytes of a photograph; its OSError says why it cannot."""

MAX_BYTES = 1 << 28
"""The largest file that is read as a photograph."""

Photographs = Iterable[tuple[int, Opener]]
"""For each image its place among the images, and what reads it; in the order in which reading is fast."""

_SQUARE = 1 << 20


def load_pillow() -> Any:
    """Return the package PIL.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    try:
        importlib.import_module("PIL.ImageOps")
        return importlib.import_module("PIL")
    except ImportError as error:
        raise MissingExtraError(
            "A report with pictures needs Pillow.", do='pip install "manyhot[report]"'
        ) from error


def in_files(uris: Sequence[str | None]) -> Iterator[tuple[int, Opener]]:
    """Yield photographs that are separate files."""
    return ((i, opener(uri)) for i, uri in enumerate(uris))


def opener(uri: str | None) -> Opener:
    """Return a function that reads a file, or says why it cannot."""
    if not uri:
        return absent("the images table does not say where it is")
    if "://" in uri and not uri.startswith("file://"):
        return absent("not a file on this computer")
    path = Path(uri.removeprefix("file://"))
    if not path.is_file():
        return absent("not a file" if path.exists() else "the file does not exist")
    size = path.stat().st_size
    return path.read_bytes if size <= MAX_BYTES else absent(f"{size:,} bytes: more than {MAX_BYTES:,}")


def absent(reason: str) -> Opener:
    """Return a function that fails to read, with the reason."""

    def fail() -> bytes:
        raise OSError(reason)

    return fail


def decoded(pillow: Any, read: Opener, side: int) -> tuple[Any, str]:
    """Return a photograph upright, in RGB, its long side at most `side` pixels; or None and the reason.

    The colour profile is the only metadata that is left, in ``info``.
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
        # Decoders raise whatever a broken file makes them trip over: OSError, SyntaxError, struct.error, …
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
    if image.mode.startswith("I"):  # 16 bits a pixel, which `convert` would clip to white
        return image.point(lambda v: v * (1 / 256)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    white = pillow.Image.new("RGBA", rgba.size, "white")
    return pillow.Image.alpha_composite(white, rgba).convert("RGB")
