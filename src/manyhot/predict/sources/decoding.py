"""How the images of a source are decoded: the bits of images of more than 8 bits."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, TypeVar

from manyhot.errors import ManyhotError, UsageError
from manyhot.parameters import Flattened, Shown, is_whole
from manyhot.predict.decode import MINMAX, GreyBits, deep_levels, has_pages, note_on_pages
from manyhot.predict.sources.image_files import Files
from manyhot.predict.sources.remote import is_remote
from manyhot.predict.sources.source import ImageReader, ImageSource, SourcePart, decode_with_bits

_T = TypeVar("_T")

_EIGHT_BITS = (".jpg", ".jpeg", ".webp", ".bmp", ".gif")
"""Suffixes of files whose pixels have at most 8 bits: they are not opened."""

_SAMPLE, _PARTS = 64, 16
"""Images whose levels are looked at, and the parts from which they are taken."""

_REMOTE = 8
"""Images that are looked at on remote storage, or in archives and tables, which are read from the start."""


@dataclass(frozen=True, repr=False)
class Decoding(Flattened):
    """How the pixels of images are decoded.

    Attributes
    ----------
    bits
        Number of bits used by images with more than 8 bits per channel, such as 12: values are divided by
        2**bits - 1, and images with larger values are skipped. minmax stretches each of these images from its
        lowest to its highest value instead. By default, all bits of the file format are used, such as 16.
    """

    bits: Annotated[str | int | None, Shown("N")] = None

    @property
    def checked(self) -> GreyBits:
        """The number of bits, `MINMAX` or None.

        Raises
        ------
        UsageError
            If it is something else.
        """
        if self.bits is None or self.bits == MINMAX:
            return self.bits
        bits = int(self.bits) if isinstance(self.bits, str) and self.bits.isdecimal() else self.bits
        if not is_whole(bits) or not 1 <= bits <= 32:
            raise UsageError("`bits` is out of range.", got=self.bits, allowed=f"1 to 32, or {MINMAX}")
        return bits

    def applied(self, source: ImageSource) -> ImageSource:
        """Return a source decoded with these settings, with notes on dark images and on pages not read.

        Raises
        ------
        UsageError
            If `bits` is out of range.
        """
        bits = self.checked
        notes = () if isinstance(bits, str) else notes_on_images(source, bits)
        source = source if bits is None else decode_with_bits(source, bits)
        return replace(source, notes=(*source.notes, *notes))


DECODING = Decoding()


def notes_on_images(source: ImageSource, bits: int | None = None) -> tuple[str, ...]:
    """Return notes on images that use only part of their levels, and on files of several pages.

    A sample of the images is read. An image of more than 8 bits uses only part of its levels if its highest
    value is less than half the white level. For example, 12 of 16 bits are a sixteenth of the range. Files of
    several pages are noted here in archives and tables; for files on this computer, when they are listed.
    """
    levels, several, read = list[tuple[int, int]](), list[str](), 0
    is_local = all(map(_is_local, source.parts))
    for uri, data in _sampled(source):
        read += 1
        with contextlib.suppress(ManyhotError, OSError):  # it cannot be decoded, and is skipped later
            if not is_local and has_pages(io.BytesIO(data)):
                several.append(uri)
            if (found := deep_levels(data)) is not None:
                levels.append(found if bits is None else (found[0], 2**bits - 1))
    return tuple(filter(None, (_levels_note(levels), note_on_pages(several, read))))


def _levels_note(levels: Sequence[tuple[int, int]]) -> str:
    """Return a note on the images whose highest value is less than half the white level."""
    dark = [value for value, white in levels if 0 < value <= white // 2]
    if not dark:
        return ""
    n, most, white, highest = len(levels), max(dark), levels[-1][1], max(value for value, _ in levels)
    if len(dark) == n:
        which, do = (
            f"all {n:,} images" if n > 1 else "the only image",
            f"pass `bits` {max(8, most.bit_length())}, or {MINMAX}",
        )
    else:
        which, do = f"{len(dark):,} of {n:,} images", f"others use up to {highest:,}, so pass `bits` {MINMAX}"
    use, are = ("uses", "is") if len(dark) == 1 else ("use", "are")
    return (
        f"{which} with more than 8 bits per sample {use} at most {most:,} of {white:,} levels and {are} "
        f"therefore dark: {do}"
    )


def _sampled(source: ImageSource) -> Iterator[tuple[str, bytes]]:
    """Yield addresses and bytes of images of a sample."""
    for uri, read in _readers(source):
        with contextlib.suppress(ManyhotError, OSError):  # it is skipped later, with a reason
            if isinstance(data := read(), bytes):
                yield uri, data


def _readers(source: ImageSource) -> Iterator[tuple[str, ImageReader]]:
    """Yield readers of images from all parts of files on this machine; of other sources, the first images."""
    parts = source.parts
    if all(_is_local(part) for part in parts):
        chosen = _spread(parts, _PARTS)
        for part in chosen:
            items = ((item.uri, read) for item, read in part.items())
            own = [(uri, read) for uri, read in items if not uri.lower().endswith(_EIGHT_BITS)]
            yield from _spread(own, -(-_SAMPLE // len(chosen)))
        return
    with contextlib.suppress(ManyhotError, OSError):
        for item, read in itertools.islice(parts[0].items() if parts else (), _REMOTE):
            if not item.uri.lower().endswith(_EIGHT_BITS):
                yield item.uri, read


def _is_local(part: SourcePart) -> bool:
    part = getattr(part, "part", part)  # without its labels
    return isinstance(part, Files) and not is_remote(part.root) and not any(map(is_remote, part.paths[:1]))


def _spread(items: Sequence[_T], n: int) -> list[_T]:
    """Return up to `n` items at equal distances."""
    return [items[i * len(items) // n] for i in range(n)] if len(items) > n else [*items]
