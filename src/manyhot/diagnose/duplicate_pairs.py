"""Pairs of images that are duplicates: equal files, equal pixels, and near copies whose details agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.core.array_types import AnyFloats, Bools, Floats32, Ints
from manyhot.core.duplicates import (
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
from manyhot.diagnose.duplicate_images import ImageSignatures
from manyhot.errors import InputError, MatchError
from manyhot.predict.embeddings import Embedded
from manyhot.predict.sources import ImageSource, Item
from manyhot.run import Run

DUPLICATE_KINDS = ("bytes", "pixels", "near")
"""What is equal: the files, the decoded pixels, or the details of aligned pixels."""


@dataclass(frozen=True, eq=False)
class DuplicatePairs:
    """Pairs of images that are duplicates, shape (m,) each.

    Attributes
    ----------
    first, second : ndarray of int
        Rows of the signatures; `first` is less than `second`.
    kind : ndarray of int
        Position in `DUPLICATE_KINDS`.
    mirrored : ndarray of bool
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
    images : ImageSignatures
    similar : ndarray of int, shape (m, 2), optional
        Pairs of rows of images that may be near duplicates, such as images with similar embeddings. They are
        compared in addition to pairs of images with similar hashes. By default, only hashes are used to find
        pairs.
    min_similarity : float
        Minimum similarity of the details of near duplicates.
    run : Run
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
        The number of the source of each embedding.
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


def not_embedded(items: Sequence[Item], embedded: Embedded) -> int:
    """Return the number of images of a source that have no embedding."""
    ids = pa.array([item.image_id for item in items], pa.string())
    return int(np.count_nonzero(~pc.is_in(ids, embedded.image_id).to_numpy(zero_copy_only=False)))
