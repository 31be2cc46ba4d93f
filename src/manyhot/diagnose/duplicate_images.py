"""Hashes and a thumbnail of images, from one decoding, and the pairs that are equal or near copies."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import zipfile
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.core.array_types import AnyFloats, Bools, Floats32, Ints
from manyhot.core.duplicates import (
    GREY_SIDE,
    WHOLE_FRAMES,
    DuplicateCandidates,
    GreyImages,
    ImageAlignment,
    align_images,
    are_same,
    candidates_among,
    candidates_by_embedding,
    candidates_by_hash,
    equal_pairs,
)
from manyhot.core.nearest import NOBODY
from manyhot.core.threads import cores
from manyhot.diagnose.pixels.regions import write_picture
from manyhot.errors import InputError, MatchError
from manyhot.files import atomic_write
from manyhot.predict.decode import decode
from manyhot.predict.embeddings import Embedded
from manyhot.predict.scoring import read_image
from manyhot.predict.sources import ImageReader, ImageSource, Item, SourcePart
from manyhot.predict.sources.source import short_hash
from manyhot.run import Run
from manyhot.tables import count_shared
from manyhot.tables.frames import examples
from manyhot.tables.image_ids import ids_like, without_option

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
    source : ndarray of int64, shape (n,)
        The index of the source of each image.
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
    cache : Path
        Folder with the signatures of earlier runs, to which new signatures are added. Images whose signatures
        are in this folder are not read again.
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
    image = decode(data)
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
    pictures : sequence of (int, str, str or None)
        Index of the source, id of the image, and path of its picture in the folder; None if it has no
        picture.
    """
    paths = {(number, image_id): out / path for number, image_id, path in pictures if path}
    for number, source in enumerate(sources):
        wanted = {image_id for i, image_id in paths if i == number}
        for part in source.parts if wanted else ():
            for item, read in part.items():
                if item.image_id in wanted:
                    image = decode(read_image(read))
                    if not isinstance(image, str):
                        write_picture(paths[number, item.image_id], image.permute(1, 2, 0).numpy())


DUPLICATE_KINDS = ("bytes", "pixels", "near")
"""What is equal: the files, the decoded pixels, or the details of aligned pixels."""


@dataclass(frozen=True, eq=False)
class DuplicatePairs:
    """Pairs of duplicate images, as arrays of shape (m,).

    Attributes
    ----------
    first, second : ndarray of int
        Rows of the signatures; `first` is less than `second`.
    kind : ndarray of int
        Position in `DUPLICATE_KINDS`.
    overlap, similarity : ndarray of float32
        As in `manyhot.core.duplicates.ImageAlignment`; 1 for equal pixels.
    """

    first: Ints
    second: Ints
    kind: Ints
    mirrored: Bools
    overlap: Floats32
    similarity: Floats32

    def __len__(self) -> int:
        return len(self.first)

    @property
    def rows(self) -> Ints:
        """Both rows of each pair, shape (m, 2)."""
        return np.column_stack([self.first, self.second])


def find_duplicate_pairs(
    images: ImageSignatures, similar: Ints | None, min_similarity: float, run: Run
) -> DuplicatePairs:
    """Return the duplicates among images.

    Parameters
    ----------
    similar : ndarray of int, shape (m, 2), optional
        Pairs of rows of images that may be near duplicates, such as images with similar embeddings. They are
        compared in addition to pairs of images with similar hashes. By default, only hashes are used to find
        pairs.
    min_similarity : float
        Minimum similarity of the details of near duplicates.
    """
    equal = np.array(list(equal_pairs(images.pixel_hash)), np.int64).reshape(-1, 2)
    first_equal = np.arange(len(images))
    first_equal[equal[:, 1]] = equal[:, 0]
    same_file = images.file_hash[equal[:, 0]] == images.file_hash[equal[:, 1]]
    same_file &= images.file_hash[equal[:, 0]] != b""
    near, distinct = _candidates(images, similar, first_equal, run)
    fit = _aligned(images.thumbnails[distinct], near)
    same = are_same(fit, min_similarity)
    rows = np.sort(distinct[np.column_stack([near.first, near.second])[same]], axis=1)
    exact, found = np.ones(len(equal), np.float32), len(rows)
    first, second = np.concatenate([equal, rows.reshape(-1, 2)]).T
    return DuplicatePairs(
        first,
        second,
        np.concatenate([np.where(same_file, 0, 1), np.full(found, 2)]),
        np.concatenate([np.zeros(len(equal), bool), near.mirrored[same]]),
        np.concatenate([exact, fit.overlap[same]]),
        np.concatenate([exact, fit.similarity[same]]),
    )


def _aligned(thumbnails: GreyImages, near: DuplicateCandidates) -> ImageAlignment:
    moving = thumbnails[near.first]
    moving[near.mirrored] = moving[near.mirrored, :, ::-1]
    return align_images(moving, thumbnails[near.second], near.frames)


def _candidates(
    images: ImageSignatures, similar: Ints | None, first_equal: Ints, run: Run
) -> tuple[DuplicateCandidates, Ints]:
    """Return candidates among the images of distinct pixels, and the rows of these images."""
    distinct = np.unique(first_equal)
    thumbnails = images.thumbnails[distinct]
    step = None if run.on_progress is None else partial(run.on_progress, "comparing hashes")
    if similar is None:
        return candidates_by_hash(thumbnails, step), distinct
    # Of small pictures, an enlarged one has an embedding more similar to those of other enlarged ones than to
    # that of its original: embeddings alone found 98 % of the resized copies of CIFAR-10.
    whole = candidates_by_hash(thumbnails, step, WHOLE_FRAMES)
    by_embedding = np.searchsorted(distinct, first_equal[similar])
    pairs = np.concatenate([by_embedding, np.column_stack([whole.first, whole.second])])
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    return candidates_among(thumbnails, pairs[pairs[:, 0] != pairs[:, 1]]), distinct


@dataclass(frozen=True, eq=False)
class SimilarImages:
    """Images with similar embeddings.

    Attributes
    ----------
    source : ndarray of int, shape (n,)
        The index of the source of each embedding.
    image_id : pyarrow.Array, shape (n,)
    pairs : ndarray of int, shape (m, 2)
        Rows of similar embeddings.
    """

    source: Ints
    image_id: pa.Array
    pairs: Ints

    def chosen(self, n_sources: int) -> list[frozenset[str]]:
        """Return, for each source, the ids of the images that are similar to another image."""
        rows = np.unique(self.pairs)
        return [
            frozenset(self.image_id.take(pa.array(rows[self.source[rows] == i])).to_pylist())
            for i in range(n_sources)
        ]

    def rows_of(self, images: ImageSignatures) -> Ints:
        """Return the pairs as rows of signatures, without pairs in which an image could not be read."""
        places = {
            (s, item.image_id): i
            for i, (s, item) in enumerate(zip(images.source.tolist(), images.items, strict=True))
        }
        keys = zip(self.source.tolist(), self.image_id.to_pylist(), strict=True)
        row = np.array([places.get(key, NOBODY) for key in keys], np.int64)
        pairs = row[self.pairs]
        return np.asarray(pairs[(pairs != NOBODY).all(axis=1)])


def pairs_by_embedding(embedded: Sequence[Embedded], run: Run) -> SimilarImages:
    """Return the pairs of images with similar embeddings.

    Raises
    ------
    MatchError
        If the embeddings are from different models.
    """
    names = [e.predictions.model for e in embedded]
    if len(set(names)) > 1:
        raise MatchError(
            "The data sets are embedded by different models.",
            got=", ".join(names),
            allowed="one model",
            do="embed all data sets with the same model, or choose one with `embeddings_model`",
        )
    vectors: AnyFloats = (
        embedded[0].vectors if len(embedded) == 1 else np.concatenate([e.vectors for e in embedded])
    )
    step = None if run.on_progress is None else partial(run.on_progress, "comparing embeddings")
    source = np.repeat(np.arange(len(embedded)), [len(e) for e in embedded])
    ids = pa.concat_arrays([e.image_id.cast(pa.string()) for e in embedded])
    return SimilarImages(source, ids, candidates_by_embedding(vectors, step))


def check_embedded(sources: Sequence[ImageSource], folders: Sequence[object]) -> None:
    """Raise an error unless there is a folder of embeddings for each source.

    Raises
    ------
    InputError
    """
    if len(folders) != len(sources):
        raise InputError(
            "The numbers of data sets and of folders of embeddings differ.",
            got=f"{len(folders)}",
            allowed=f"{len(sources)}, in the order of the data sets",
            do="pass `embeddings` once for each data set, first the embeddings of the images",
        )


def embedded_images(items: Sequence[Item], embedded: Embedded) -> tuple[Embedded, int, str]:
    """Return embeddings with the ids of a source, the number of its images without one, and a note.

    The note says how the ids were matched.

    Raises
    ------
    MatchError
        If none of the images has an embedding, or if their ids are ambiguous.
    """
    ids = pa.array([item.image_id for item in items], pa.string())
    with without_option():
        like = ids_like(embedded.image_id, ids, name=embedded.name, other_name="the source")
    n = len(ids) - count_shared(ids, like.ids)
    if n == len(ids) > 0:
        raise MatchError(
            "None of the images has an embedding.",
            where=embedded.name or None,
            got=f"embeddings of images such as {examples(embedded.image_id)}",
            allowed=f"images such as {examples(ids)}",
            do="pass the folders of embeddings in the order of the data sets",
        )
    if like.n:
        embedded = replace(embedded, predictions=replace(embedded.predictions, image_id=like.ids))
    return embedded, n, f"{Path(embedded.name).name}: {like.text}" if like.n else ""
