"""What is kept of images in order to compare them: hashes and a thumbnail, from one decoding."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import zipfile
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Ints
from manyhot.core.duplicates import GREY_SIDE
from manyhot.core.threads import cores
from manyhot.diagnose.pixels.regions import write_picture
from manyhot.files import atomic_write
from manyhot.predict.decode import decode
from manyhot.predict.scoring import read_image
from manyhot.predict.sources import ImageReader, ImageSource, Item, SourcePart
from manyhot.predict.sources.source import short_hash
from manyhot.run import Run

if TYPE_CHECKING:
    from torch import Tensor

CACHE_FOLDER = "signatures"
"""Folder of the signatures of each part of a source, from which a stopped run resumes."""

_VERSION = f"1 {GREY_SIDE}"
_BATCH = 64
_BYTES = 16
_GREY = (0.299, 0.587, 0.114)


class Signature(NamedTuple):
    """The signature of an image: hashes of its file and pixels, its size, and a small greyscale copy."""

    file_hash: bytes
    pixel_hash: bytes
    width: int
    height: int
    thumbnail: npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ImageSignatures:
    """The signatures of the images of several sources.

    Attributes
    ----------
    items : list of Item
    source : ndarray of int64, shape (n,)
        The number of the source of each image.
    file_hash, pixel_hash : ndarray of bytes, shape (n,)
    size : ndarray of int64, shape (n, 2)
        Width and height.
    thumbnails : ndarray of uint8, shape (n, GREY_SIDE, GREY_SIDE)
    skipped : list of (str, str)
        Images that could not be read, and why.
    """

    items: list[Item]
    source: Ints
    file_hash: npt.NDArray[np.bytes_]
    pixel_hash: npt.NDArray[np.bytes_]
    size: Ints
    thumbnails: npt.NDArray[np.uint8]
    skipped: list[tuple[str, str]]

    def __len__(self) -> int:
        return len(self.items)

    def is_flat(self) -> npt.NDArray[np.bool_]:
        """Return which images have no contrast, and therefore no details to compare."""
        flat: npt.NDArray[np.bool_] = np.ptp(self.thumbnails.reshape(len(self), -1), axis=1) <= _FLAT
        return flat


def read_signatures(
    sources: Sequence[ImageSource],
    cache: Path,
    run: Run,
    *,
    chosen: Sequence[Collection[str]] | None = None,
) -> ImageSignatures:
    """Read the images of sources, each once.

    Parameters
    ----------
    sources : sequence of ImageSource
    cache : Path
        Folder with the signatures of earlier runs, to which new signatures are added. Images whose signatures
        are in this folder are not read again.
    run : Run
    chosen : sequence of collections of str, optional
        Ids of the images of each source to read; by default all.
    """
    items, number, found, skipped = list[Item](), list[int](), list[Signature](), list[tuple[str, str]]()
    total = None if chosen is None else sum(map(len, chosen))
    reader = _Reader(cache, run, total if total is not None else sum(s.n or 0 for s in sources))
    for i, source in enumerate(sources):
        for item, signature in reader.read(source, None if chosen is None else frozenset(chosen[i])):
            if isinstance(signature, str):
                skipped.append((item.image_id, signature))
                continue
            items.append(item)
            number.append(i)
            found.append(signature)
    columns = list(zip(*found, strict=True)) or [(), (), (), (), ()]
    return ImageSignatures(
        items,
        np.array(number, np.int64),
        np.array(columns[0], f"S{2 * _BYTES}"),
        np.array(columns[1], f"S{2 * _BYTES}"),
        np.array(columns[2:4], np.int64).reshape(2, -1).T,
        np.array(columns[4], np.uint8).reshape(-1, GREY_SIDE, GREY_SIDE),
        skipped,
    )


Found = tuple[Item, Signature | str]
"""An image with its signature, or with the reason why it has none."""


@dataclass
class _Reader:
    """Reads parts of sources with several threads, and keeps what was read in files."""

    cache: Path
    run: Run
    total: int
    done: int = 0

    def read(self, source: ImageSource, chosen: frozenset[str] | None) -> Iterator[Found]:
        with ThreadPoolExecutor(cores()) as pool:
            for part in source.parts:
                key = short_hash([_VERSION, part.name, part.key(), *sorted(chosen or ())])
                path = self.cache / f"{key}.npz"
                yield from self._cached(path, part, chosen) or self._fresh(path, part, chosen, pool)

    def _cached(self, path: Path, part: SourcePart, chosen: frozenset[str] | None) -> list[Found]:
        """Return the signatures in a file; none if the file is missing or damaged."""
        with contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile):
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                columns = [stored[name] for name in (*Signature._fields, "reason")]
            items = [item for item, _ in _listed(part, chosen)]
            found = [
                (item, str(row[-1]) or Signature(row[0], row[1], int(row[2]), int(row[3]), row[4]))
                for item, row in zip(items, zip(*columns, strict=True), strict=True)
            ]
            self._progress(len(found))
            return found
        return []

    def _fresh(
        self, path: Path, part: SourcePart, chosen: frozenset[str] | None, pool: ThreadPoolExecutor
    ) -> list[Found]:
        found, listed = list[Found](), _listed(part, chosen)
        while batch := list(itertools.islice(listed, _BATCH)):
            signatures = pool.map(_signature, [read for _, read in batch])
            found += zip([item for item, _ in batch], signatures, strict=True)
            self._progress(len(batch))
        if found:
            _store(path, [signature for _, signature in found])
        return found

    def _progress(self, n: int) -> None:
        self.done += n
        if self.run.on_progress is not None:
            self.run.on_progress("reading images", self.done, max(self.total, self.done))


def _listed(part: SourcePart, chosen: frozenset[str] | None) -> Iterator[tuple[Item, ImageReader]]:
    return (pair for pair in part.items() if chosen is None or pair[0].image_id in chosen)


def _store(path: Path, signatures: Sequence[Signature | str]) -> None:
    none = Signature(b"", b"", 0, 0, np.zeros((GREY_SIDE, GREY_SIDE), np.uint8))
    rows = [(*(none if isinstance(s, str) else s), s if isinstance(s, str) else "") for s in signatures]
    columns = dict(zip((*Signature._fields, "reason"), zip(*rows, strict=True), strict=True))
    with atomic_write(path) as part, part.open("wb") as file:
        np.savez(file, **{name: np.array(values) for name, values in columns.items()})  # type: ignore[arg-type]


def _signature(read: ImageReader) -> Signature | str:
    data = read_image(read)
    if isinstance(data, str):
        return data
    image = decode(data) if isinstance(data, bytes) else data
    if isinstance(image, str):
        return image
    height, width = image.shape[1:]
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    shape = f"{width} {height} ".encode()
    file_hash = _digest(data) if isinstance(data, bytes) else b""
    return Signature(file_hash, _digest(shape, pixels.tobytes()), width, height, _thumbnail(image))


def _digest(*parts: bytes) -> bytes:
    hashed = hashlib.blake2b(digest_size=_BYTES)
    for part in parts:
        hashed.update(part)
    # As text, for NumPy drops zero bytes at the end.
    return hashed.hexdigest().encode()


def _thumbnail(image: Tensor) -> npt.NDArray[np.uint8]:
    """Return a small greyscale copy, squeezed to a square."""
    import torch
    from torch.nn.functional import interpolate

    weights = torch.tensor(_GREY)[:, None, None]
    # Of strips, not of the whole: floats of a photograph of 50 megapixels would need 600 MB.
    grey = torch.cat([(rows.float() * weights).sum(0) for rows in torch.split(image, _ROWS, dim=1)])
    small = interpolate(
        grey[None, None],
        (GREY_SIDE, GREY_SIDE),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )
    found: npt.NDArray[np.uint8] = small[0, 0].round().clamp(0, 255).to(torch.uint8).numpy()
    return found


_ROWS = 256
_FLAT = 2


def draw_pictures(
    sources: Sequence[ImageSource], pictures: Sequence[tuple[int, str, str | None]], out: Path
) -> None:
    """Read images again, and write pictures of them.

    Parameters
    ----------
    sources : sequence of ImageSource
    pictures : sequence of (int, str, str or None)
        Number of the source, id of the image, and path of the picture in the folder; None for no picture.
    out : Path
    """
    paths = {(number, image_id): out / path for number, image_id, path in pictures if path}
    for number, source in enumerate(sources):
        wanted = {image_id for i, image_id in paths if i == number}
        for part in source.parts if wanted else ():
            for item, read in part.items():
                if item.image_id in wanted:
                    data = read_image(read)
                    image = decode(data) if isinstance(data, bytes) else data
                    if not isinstance(image, str):
                        write_picture(paths[number, item.image_id], image.permute(1, 2, 0).numpy())
