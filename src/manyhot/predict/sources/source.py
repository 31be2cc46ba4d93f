"""What a source of images is: parts that can be read, skipped, resumed and sent elsewhere one by one."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from manyhot.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
"""File names that count as images, in any case. What the bytes are decides how they are decoded."""


PART_SIZE = 512
"""Images of a part: what is lost at most when a process is killed, some seconds of work."""


MAX_IMAGE_BYTES = 1 << 30
"""Of a file that is read as an image; as much again is needed to decode it."""


@dataclass(frozen=True, slots=True)
class Item:
    """An image that a source lists, not opened yet.

    Attributes
    ----------
    image_id : str
        The base name with extension.
    uri : str
        Where it lies.
    label : str or int, optional
        The original single label as the source tells it: a key, a name or a number.
    """

    image_id: str
    uri: str
    label: str | int | None = None


ImageReader = Callable[[], "bytes | str | Tensor"]
"""Reads the bytes of an image; its pixels, where these were made; or tells why there is no image."""


class SourcePart(Protocol):
    """Some images of a source, always the same ones in the same order. It can be pickled."""

    @property
    def name(self) -> str:
        """Fit for a file name, and different in each part of a source."""
        ...

    @property
    def n(self) -> int | None:
        """How many images; None where only reading tells."""
        ...

    def items(self) -> Iterator[tuple[Item, ImageReader]]:
        """Yield each image with what reads it; the opener may be called in another thread."""
        ...

    def key(self) -> str:
        """Return a text that differs where the images do, for the fingerprint."""
        ...


@dataclass(frozen=True)
class ImageSource:
    """Where images come from.

    Attributes
    ----------
    uri : str
        As it was given.
    parts : tuple of SourcePart
    strict : bool
        Whether a label that is no class is an error, as in a table of labels, or no label, as in a folder.
    """

    uri: str
    parts: tuple[SourcePart, ...]
    strict: bool = False

    @property
    def n(self) -> int | None:
        """How many images there are; None where only reading tells."""
        counts = [part.n for part in self.parts]
        return None if None in counts else sum(c for c in counts if c is not None)

    @property
    def fingerprint(self) -> str:
        """What tells sources apart: 16 hexadecimal digits."""
        return short_hash(f"{part.name}\n{part.key()}" for part in self.parts)

    def shard(self, index: int, of: int) -> ImageSource:
        """Return every `of`-th part, from `index` (0 … of - 1) on."""
        return ImageSource(self.uri, self.parts[index::of], self.strict)


def part_ranges(n: int, size: int = PART_SIZE) -> Iterator[tuple[str, int, int]]:
    """Yield name, start and end of parts of n images."""
    starts = range(0, n, size)
    for name, start in zip(part_names(len(starts)), starts, strict=True):
        yield name, start, min(start + size, n)


def part_names(count: int) -> Iterator[str]:
    """Yield names for so many parts: their numbers, which as text sort as they count."""
    digits = max(5, len(str(count - 1)))
    return (f"{i:0{digits}}" for i in range(count))


def short_hash(lines: Iterable[str]) -> str:
    """Return a short hash of some texts."""
    found = hashlib.sha256()
    for line in lines:
        found.update(line.encode(errors="surrogateescape") + b"\n")
    return found.hexdigest()[:16]


def reader_of(data: bytes) -> ImageReader:
    """Return what reads bytes that are in memory already."""
    return functools.partial(bytes, data)


def failing_reader(reason: str) -> ImageReader:
    """Return what fails to read, with a reason that skipped images are listed with."""
    return functools.partial(_refuse, reason)


def _refuse(reason: str) -> bytes:
    raise OSError(reason)


def too_large(size: int) -> str:
    """Return why a file of so many bytes is not read; empty if it is."""
    return f"{size:,} bytes: more than {MAX_IMAGE_BYTES:,}" if size > MAX_IMAGE_BYTES else ""


def check_ids(
    ids: Sequence[str],
    where: object,
    place: Callable[[int], str],
    do: str = "rename one of them, or predict the folders one by one",
) -> None:
    """Refuse images that would have the same id.

    Parameters
    ----------
    ids : sequence of str
    where : object
        For messages.
    place : callable
        Tells where the image of a position lies.
    do : str
        The way out.

    Raises
    ------
    InputError
        Two images have the same id.
    """
    if len(set(ids)) == len(ids):
        return
    first: dict[str, int] = {}
    pairs = ((first.setdefault(name, i), i) for i, name in enumerate(ids))
    one, other = next((a, b) for a, b in pairs if a != b)
    if place(one) == place(other):
        raise InputError("The source names an image twice.", where=where, got=place(one))
    more = len(ids) - len(set(ids)) - 1
    raise InputError(
        "Two images have the same base name.",
        where=where,
        got=f"{place(one)} and {place(other)}" + (f", and {more:,} more such pairs" if more else ""),
        allowed="each base name once: it is the image's id in every table",
        do=do,
    )
