"""A source of images consists of parts, each of which can be read, skipped, resumed and sent elsewhere."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from manyhot.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy import typing as npt

from manyhot.formats.image_folder import SUFFIXES
from manyhot.predict.decode import EncodedImage, GreyBits, decode

EXTENSIONS = SUFFIXES
"""Suffixes of images, in any case. The bytes decide how they are decoded."""


PART_SIZE = 512
"""Images per part: at most these are lost when a process is killed, some seconds of work."""


MAX_IMAGE_BYTES = 1 << 30
"""The largest file that is read as an image; decoding it needs as much memory again."""


@dataclass(frozen=True, slots=True)
class Item:
    """An image that is listed by a source but not opened yet.

    Attributes
    ----------
    image_id : str
        The base name with extension; with folders if two images of the source have the same base name.
    uri : str
        Its path or address.
    label : str or int, optional
        The original label in the source: a key, a name or a number.
    """

    image_id: str
    uri: str
    label: str | int | None = None


ImageReader = Callable[[], "bytes | str | Tensor"]
"""Reads the bytes of an image, or its pixels if they were altered; or returns why there is no image."""


class SourcePart(Protocol):
    """A part of a source, with the same images in the same order each time. It can be pickled."""

    @property
    def name(self) -> str:
        """A valid file name, unique among the parts of a source."""
        ...

    @property
    def n(self) -> int | None:
        """The number of images; None if unknown before reading."""
        ...

    def items(self) -> Iterator[tuple[Item, ImageReader]]:
        """Yield each image with a function that reads it. Another thread may call the function."""
        ...

    def key(self) -> str:
        """Return a key that identifies the images of this part, for the fingerprint."""
        ...


@dataclass(frozen=True)
class ImageSource:
    """A source of images.

    Attributes
    ----------
    uri : str
        The path or address that was passed.
    parts : tuple of SourcePart
    strict : bool
        Whether to raise an error if the label of an image is not one of the classes, as for tables of labels.
        Otherwise, the image has no label, as for folders.
    labelled_by : str
        The table that replaces the labels of the source; empty if there is none.
    bits : int or str, optional
        Number of bits that images of more than 8 bits use; see `manyhot.predict.decode.GreyBits`.
    notes : tuple of str
        Notes on how the images are listed and decoded.
    """

    uri: str
    parts: tuple[SourcePart, ...]
    strict: bool = False
    labelled_by: str = ""
    bits: GreyBits = None
    notes: tuple[str, ...] = ()

    @property
    def n(self) -> int | None:
        """The number of images; None if unknown before reading."""
        counts = [part.n for part in self.parts]
        return None if None in counts else sum(c for c in counts if c is not None)

    @property
    def fingerprint(self) -> str:
        """A hash that identifies the source: 16 hexadecimal digits."""
        return short_hash(f"{part.name}\n{part.key()}" for part in self.parts)

    def shard(self, index: int, of: int) -> ImageSource:
        """Return every `of`-th part, starting with part `index` (0 … of - 1)."""
        return replace(self, parts=self.parts[index::of])


class NoneLeftError(InputError):
    """All images of a source were skipped."""

    def __init__(self, *args: Any, skipped: Sequence[Mapping[str, str]] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.skipped = [*skipped]

    @classmethod
    def of(cls, where: str, skipped: Sequence[Mapping[str, str]]) -> NoneLeftError:
        """Return the error for a source, given the id, the address and the reason of each skipped image."""
        more = f"; and {len(skipped) - 1:,} more" if skipped[1:] else ""
        return cls(
            "None of the images could be decoded.",
            where=where,
            got=f"{skipped[0]['uri']}: {skipped[0]['reason']}{more}" if skipped else "no images",
            skipped=skipped,
        )


def part_ranges(n: int, size: int = PART_SIZE) -> Iterator[tuple[str, int, int]]:
    """Yield the name, start and end of each part of n images."""
    starts = range(0, n, size)
    for name, start in zip(part_names(len(starts)), starts, strict=True):
        yield name, start, min(start + size, n)


def part_names(count: int) -> Iterator[str]:
    """Yield the names of parts: their numbers, padded with zeros."""
    digits = max(5, len(str(count - 1)))
    return (f"{i:0{digits}}" for i in range(count))


def short_hash(lines: Iterable[str]) -> str:
    """Return a short hash of some texts."""
    found = hashlib.sha256()
    for line in lines:
        found.update(line.encode(errors="surrogateescape") + b"\n")
    return found.hexdigest()[:16]


def reader_of(data: bytes) -> ImageReader:
    """Return a reader of bytes that are in memory."""
    return functools.partial(_same, data)


def _same(data: bytes) -> bytes:
    return data  # not `bytes(data)`, which would lose the bits of an `EncodedImage`


def failing_reader(reason: str) -> ImageReader:
    """Return a reader that fails, so that the image is skipped with the given reason."""
    return functools.partial(_refuse, reason)


def _refuse(reason: str) -> bytes:
    raise OSError(reason)


def too_large(size: int) -> str:
    """Return the reason why a file of this size is not read, or an empty text if it is read."""
    return f"{size:,} bytes: more than {MAX_IMAGE_BYTES:,}" if size > MAX_IMAGE_BYTES else ""


def check_ids(
    ids: Sequence[str],
    where: object,
    place: Callable[[int], str],
    do: str = "rename one of them, or run predict on each folder separately",
) -> None:
    """Raise an error if several images would have the same id.

    Parameters
    ----------
    ids : sequence of str
    where : object
        For messages.
    place : callable
        A function that returns the address of the image at a position.
    do : str
        How to fix it.

    Raises
    ------
    InputError
        If two images have the same id.
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
        "Two images have the same id.",
        where=where,
        got=f"{place(one)} and {place(other)}" + (f", and {more:,} more such pairs" if more else ""),
        allowed="unique ids",
        do=do,
    )


Pixels = npt.NDArray[np.uint8]


class Alteration(Protocol):
    """A change that is made to each image. Several threads call it at the same time."""

    @property
    def key(self) -> str:
        """Differs if the resulting pixels differ."""
        ...

    def wants(self, image_id: str) -> bool:
        """Return whether an image is altered. Images that are not altered are left out without a note."""
        ...

    def __call__(self, image_id: str, pixels: Pixels) -> Pixels | str:
        """Return the altered pixels, or the reason why the image is skipped.

        Parameters
        ----------
        image_id : str
        pixels : ndarray of uint8, shape (height, width, 3)
            RGB, upright; must not be changed in place.
        """
        ...


@dataclass(frozen=True)
class _PartOfPart:
    part: SourcePart

    @property
    def name(self) -> str:
        return self.part.name

    @property
    def n(self) -> int | None:
        return None  # known only after reading


@dataclass(frozen=True)
class _GreyPart(_PartOfPart):
    bits: int | str

    @property
    def n(self) -> int | None:
        return self.part.n

    def items(self) -> Iterator[tuple[Item, ImageReader]]:
        for item, read in self.part.items():
            yield item, functools.partial(_with_bits, read, self.bits)

    def key(self) -> str:
        return f"{self.part.key()} {self.bits} bits"


def _with_bits(read: ImageReader, bits: int | str) -> bytes | str | Tensor:
    data = read()
    return EncodedImage.of(data, bits) if isinstance(data, bytes) else data


def decode_with_bits(source: ImageSource, bits: int | str) -> ImageSource:
    """Return a source whose greyscale images of more than 8 bits are decoded with `bits` bits."""
    return replace(source, parts=tuple(_GreyPart(part, bits) for part in source.parts), bits=bits)


def stored_part(part: SourcePart) -> SourcePart:
    """Return the part as it is stored, regardless of the number of bits with which its images are decoded."""
    return part.part if isinstance(part, _GreyPart) else part


def alter_images(source: ImageSource, alteration: Alteration) -> ImageSource:
    """Return a source with images that are altered while they are read.

    Parameters
    ----------
    source : ImageSource
    alteration : Alteration
    """
    parts = tuple(_AlteredPart(part, alteration) for part in source.parts)
    return replace(source, parts=parts)


@dataclass(frozen=True)
class _AlteredPart(_PartOfPart):
    alteration: Alteration

    def items(self) -> Iterator[tuple[Item, ImageReader]]:
        return ((item, read) for images in images_together([self]) for _, item, read in images)

    def key(self) -> str:
        return f"{self.part.key()} {self.alteration.key}"


def original_part(part: SourcePart) -> SourcePart:
    """Return the original of an altered part; any other part is returned unchanged."""
    return part.part if isinstance(part, _AlteredPart) else part


def images_together(parts: Sequence[SourcePart]) -> Iterator[list[tuple[int, Item, ImageReader]]]:
    """Yield the images of a part, or of parts that alter the same images.

    Each original yields one list: its images in all parts, each with the index of the part. The original is
    read and decoded once, when the first altered image is read.
    """
    for item, read in original_part(parts[0]).items():
        original = functools.cache(functools.partial(_pixels, read))
        own: list[tuple[int, Item, ImageReader]] = []
        for number, part in enumerate(parts):
            if not isinstance(part, _AlteredPart):
                own.append((number, item, read))
            elif part.alteration.wants(item.image_id):
                own.append((number, item, functools.partial(_altered, item, original, part.alteration)))
        if own:
            yield own


def _altered(item: Item, read: Callable[[], Pixels | str], alteration: Alteration) -> Tensor | str:
    import torch

    image = read()
    made = image if isinstance(image, str) else alteration(item.image_id, image)
    if isinstance(made, str):
        return made
    return torch.from_numpy(np.ascontiguousarray(made)).permute(2, 0, 1).contiguous()


def _pixels(read: ImageReader) -> Pixels | str:
    image = decode(read())
    return image if isinstance(image, str) else image.permute(1, 2, 0).numpy()


def decoded_images(source: ImageSource, ids: Collection[str]) -> Iterator[tuple[str, Pixels]]:
    """Yield the given images with their ids, without those that cannot be decoded."""
    for part in source.parts:
        for item, read in part.items():
            if item.image_id in ids and not isinstance(pixels := _pixels(read), str):
                yield item.image_id, pixels


def select_images(source: ImageSource, ids: Collection[str]) -> ImageSource:
    """Return a source with only the given images and without labels.

    Other images are not read.
    """
    wanted = frozenset(ids)
    key = short_hash(sorted(wanted))
    parts = tuple(_ChosenPart(part, wanted, key) for part in source.parts)
    return ImageSource(source.uri, parts, bits=source.bits)


@dataclass(frozen=True)
class _ChosenPart(_PartOfPart):
    ids: frozenset[str]
    mark: str

    def items(self) -> Iterator[tuple[Item, ImageReader]]:
        for item, read in self.part.items():
            if item.image_id in self.ids:
                yield replace(item, label=None), read

    def key(self) -> str:
        return f"{self.part.key()} {self.mark}"
