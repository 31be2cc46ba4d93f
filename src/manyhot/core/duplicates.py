"""Near duplicates of images: candidates by a perceptual hash or by embeddings, and groups of duplicates.

The hash is a real-valued variant of pHash: the low frequencies of the cosine transform of a small greyscale
image. It is not rounded to bits, so candidates can be found as nearest neighbours by cosine similarity. A
copy that was cropped has the hash of a part of the original, and a mirrored copy that of the mirrored
original: images are therefore also searched by the hashes of some of their parts and of their mirror images.
The pixels of candidates are then aligned and compared.

Aligned images are small greyscale squares. A frame is the part of the moving image that the fixed image
covers: the position of its left edge and its width, and the position of its upper edge and its height, as
shares of the moving image.

References
----------
Zauner 2010, Implementation and Benchmarking of Perceptual Image Hash Functions (pHash).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from manyhot.core.array_types import AnyFloats, Bools, Floats, Floats32, Ints
from manyhot.core.clusters import Clusters
from manyhot.core.nearest import NOBODY, SearchProgress, nearest

GREY_SIDE = 32
"""Pixels of each side of a small image. With 64, the same copies of photographs are found, in eight times the
time."""

Frames = npt.NDArray[np.float32]
GreyImages = npt.NDArray[np.uint8 | np.float32]
"""Grey levels from 0 to 255, shape (n, GREY_SIDE, GREY_SIDE)."""

_STEPS, _LARGEST_STEP = 12, 0.05
_DAMPING = 0.01
_BLUR = 1.0
_DETAIL, _NEIGHBOURHOOD = 1.5, 3.0
_NOISE = 4.0
"""Grey levels below which details are noise, such as that of JPEG."""

_AT_ONCE, _PIXELS = 2_000, GREY_SIDE**2


@dataclass(frozen=True, eq=False)
class ImageAlignment:
    """How pairs of images fit.

    Attributes
    ----------
    frames : ndarray of float32, shape (m, 4)
        The part of the moving image that the fixed image covers.
    similarity : ndarray of float32, shape (m,)
        Correlation of the details of both images where they overlap, from -1 to 1.
    overlap : ndarray of float32, shape (m,)
        Area of overlap, divided by the area of the union of both images.
    """

    frames: Frames
    similarity: Floats32
    overlap: Floats32


def align_images(moving: GreyImages, fixed: GreyImages, frames: Frames) -> ImageAlignment:
    """Align each moving image with the fixed image, starting from a frame, and compare their details.

    Parameters
    ----------
    moving, fixed : ndarray of uint8 or float32, shape (m, GREY_SIDE, GREY_SIDE)
        Grey levels from 0 to 255.
    frames : ndarray of float32, shape (m, 4)
        The frames to start from.

    Notes
    -----
    The inverse compositional algorithm finds the position and size that minimise the squared difference of
    the blurred images, each normalised to mean 0 and norm 1. Details are the part of an image that a blur of
    1.5 pixels removes. They are divided by their local root mean square, so that the outline of an object
    does not outweigh a plain background. Otherwise, any two dark aeroplanes in the sky would be similar.

    References
    ----------
    Baker and Matthews 2004, Lucas-Kanade 20 Years On, doi 10.1023/B:VISI.0000011205.11775.fd, section 3.2.
    """
    parts = [
        _align(*(np.asarray(a[start : start + _AT_ONCE], np.float32) for a in (moving, fixed, frames)))
        for start in range(0, len(frames), _AT_ONCE)
    ] or [_align(*(np.asarray(a, np.float32) for a in (moving, fixed, frames)))]
    return ImageAlignment(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("frames", "similarity", "overlap")
        )
    )


def _align(moving: Floats32, fixed: Floats32, frames: Frames) -> ImageAlignment:
    frames = _minimised(_blurred(moving, _BLUR), _blurred(fixed, _BLUR), frames)
    warped, inside = _warped(moving, frames)
    correlation = (_unit(_details(warped), inside) * _unit(_details(fixed), inside)).sum(axis=(1, 2))
    return ImageAlignment(frames, correlation, _overlap(frames))


def resampling(frames: Floats32) -> Floats32:
    """Return the matrices that resample rows of pixels linearly, shape (m, GREY_SIDE, GREY_SIDE).

    Parameters
    ----------
    frames : ndarray of float32, shape (m, 2)
        Start and length of the part of each row, as shares. Beyond an end, the last pixel is repeated.
    """
    position = frames[:, :1] + frames[:, 1:] * _CENTRES
    pixel = np.clip(position * GREY_SIDE - 0.5, 0, GREY_SIDE - 1)
    weights: Floats32 = np.maximum(0, 1 - np.abs(pixel[..., None] - np.arange(GREY_SIDE, dtype=np.float32)))
    return weights


_CENTRES = ((np.arange(GREY_SIDE) + 0.5) / GREY_SIDE).astype(np.float32)


def _warped(moving: Floats32, frames: Frames) -> tuple[Floats32, Floats32]:
    """Return the part of each moving image, and 1 where it is inside the image and 0 elsewhere."""
    across, down = resampling(frames[:, :2]), resampling(frames[:, 2:])
    within = [
        (np.abs(frames[:, i : i + 1] + frames[:, i + 1 : i + 2] * _CENTRES - 0.5) <= 0.5) for i in (0, 2)
    ]
    inside = within[1][:, :, None] & within[0][:, None, :]
    warped = down @ moving @ across.transpose(0, 2, 1)
    return np.asarray(warped, np.float32), inside.astype(np.float32)


def _unit(images: Floats32, inside: Floats32) -> Floats32:
    """Return images with mean 0 and norm 1 inside, and 0 elsewhere."""
    n = np.maximum(inside.sum(axis=(1, 2), keepdims=True), 1)
    centred = (images - (images * inside).sum(axis=(1, 2), keepdims=True) / n) * inside
    norm = np.sqrt((centred * centred).sum(axis=(1, 2), keepdims=True))
    unit: Floats32 = centred / np.maximum(norm, np.float32(1e-3))
    return unit


def _minimised(moving: Floats32, fixed: Floats32, frames: Frames) -> Frames:
    """Return the frames of the smallest squared difference near the first ones."""
    everywhere = np.ones_like(fixed)
    target = _unit(fixed, everywhere)
    down, across = (np.gradient(target, axis=axis) * GREY_SIDE for axis in (1, 2))
    slopes = np.stack([across, across * _CENTRES, down, down * _CENTRES[:, None]], axis=1)
    slopes = slopes.reshape(len(fixed), 4, _PIXELS)
    curvature = slopes @ slopes.transpose(0, 2, 1)
    scale = np.maximum(np.trace(curvature, axis1=1, axis2=2) / 4, 1e-6)
    inverse = np.linalg.inv(curvature + (_DAMPING * scale)[:, None, None] * np.eye(4, dtype=np.float32))
    for _ in range(_STEPS):
        warped, inside = _warped(moving, frames)
        difference = _unit(warped, inside) - target * inside
        step = inverse @ (slopes @ difference.reshape(len(fixed), _PIXELS, 1))
        frames = _composed(frames, np.clip(step[:, :, 0], -_LARGEST_STEP, _LARGEST_STEP))
    return frames


def _composed(frames: Frames, step: Frames) -> Frames:
    """Return the frames after the inverse of a step: start and growth, in shares of the fixed image."""
    start, size = frames[:, ::2], frames[:, 1::2]
    moved, grown = step[:, ::2], 1 + step[:, 1::2]
    new = np.empty_like(frames)
    new[:, ::2], new[:, 1::2] = start - size * moved / grown, size / grown
    return new


def _details(images: Floats32) -> Floats32:
    details = images - _blurred(images, _DETAIL)
    nearby = _blurred(details * details, _NEIGHBOURHOOD)
    return np.asarray(details / np.sqrt(nearby + np.float32(_NOISE**2)), np.float32)


def _blurred(images: Floats32, sigma: float) -> Floats32:
    blurred: Floats32 = gaussian_filter(images, (0, sigma, sigma), mode="nearest", truncate=3)
    return blurred


def _overlap(frames: Frames) -> Floats32:
    """Return the share of the union of both images that both show."""
    ends = [(np.maximum(frames[:, i], 0), np.minimum(frames[:, i] + frames[:, i + 1], 1)) for i in (0, 2)]
    both = np.prod([np.maximum(stop - start, 0) for start, stop in ends], axis=0)
    either = 1 + frames[:, 1] * frames[:, 3] - both
    overlap: Floats32 = (both / np.maximum(either, 1e-6)).astype(np.float32)
    return overlap


def are_same(alignment: ImageAlignment, min_similarity: float) -> Bools:
    """Return which pairs show the same picture.

    Position and size were chosen to maximise the similarity of a pair. If one image shows more than the
    other, the similarity must therefore be higher by `_MARGIN`. The overlap must be at least `MIN_OVERLAP`.
    """
    margin = np.where(alignment.overlap >= _WHOLE, 0, _MARGIN)
    return (alignment.similarity >= min_similarity + margin) & (alignment.overlap >= MIN_OVERLAP)


MIN_OVERLAP, _WHOLE, _MARGIN = 0.5, 0.9, 0.05
"""Copies that lost a tenth of their width and height have a similarity of 0.9 or more. Pairs of different
images have 0.6 or less, except for one with 0.78."""


TERMS = 8
"""Frequencies of the hash in each direction. With 6, twelve times as many images of other content are
candidates; with 12, the correct original of a cropped copy is among the first five in 98 % instead
of 99 % of cases."""

NEAREST = 5
"""Maximum number of candidates for each part of an image."""

MIN_HASH_SIMILARITY = 0.7
"""Minimum similarity of the hashes of candidates. Re-encoded and resized copies have 0.85 or more."""

MIN_EMBEDDING_SIMILARITY = 0.6
"""Minimum similarity of the embeddings of candidates: copies have 0.6 to 1, two photographs of a street
0.5."""

_PART = 0.9
_PARTS = (
    (0.0, 0.0, 1.0),
    *((x, y, _PART) for x, y in itertools.product((0.0, 0.1), repeat=2)),
    (0.05, 0.05, _PART),
)

FRAMES = tuple((mirrored, *part) for mirrored in (False, True) for part in _PARTS)
"""Parts of an image, mirrored or not, of which another may be a copy: x and y of the corner, and the size."""

WHOLE_FRAMES = tuple(i for i, (*_, size) in enumerate(FRAMES) if size == 1)
"""The rows of `FRAMES` that show the whole image."""


@dataclass(frozen=True, eq=False)
class DuplicateCandidates:
    """Pairs of images that may be duplicates, with the part of the first image that resembles the second.

    Attributes
    ----------
    first, second : ndarray of int, shape (m,)
        Rows of images. Each pair occurs once.
    mirrored : ndarray of bool, shape (m,)
        Whether the first image must be mirrored to resemble the second.
    frames : ndarray of float32, shape (m, 4)
        The part of the first image, after mirroring; see `manyhot.core.duplicates`.
    """

    first: Ints
    second: Ints
    mirrored: Bools
    frames: Frames

    def __len__(self) -> int:
        return len(self.first)


def image_hashes(thumbnails: GreyImages, frame: int = 0) -> Floats32:
    """Return the perceptual hash of a part of each image, of norm 1, shape (n, TERMS²).

    Parameters
    ----------
    thumbnails : ndarray, shape (n, GREY_SIDE, GREY_SIDE)
        Greyscale images, squeezed to a square.
    frame : int
        Row of `FRAMES`.

    Notes
    -----
    Frequencies are weighted by the square root of their distance from 0, which flattens the spectrum of
    photographs. Frequency 0, the mean, is left out. The hash of an image without contrast is 0.
    """
    blocks = range(0, max(1, len(thumbnails)), _IMAGES)
    return np.concatenate([_hashes(thumbnails[start : start + _IMAGES], frame) for start in blocks])


def _hashes(thumbnails: GreyImages, frame: int) -> Floats32:
    mirrored, x, y, size = FRAMES[frame]
    pixels = np.asarray(thumbnails, np.float32)
    if size < 1:
        across, down = (resampling(np.array([[start, size]], np.float32))[0] for start in (x, y))
        pixels = down @ pixels @ across.T
    terms = dctn(pixels, axes=(1, 2), norm="ortho")[:, :TERMS, :TERMS]
    frequency = np.hypot(*np.ogrid[:TERMS, :TERMS])
    weighted = (terms * np.sqrt(frequency)).reshape(len(pixels), TERMS * TERMS)
    if mirrored:  # odd frequencies change their sign
        weighted *= np.tile(np.where(np.arange(TERMS) % 2, -1, 1), TERMS)
    norm = np.linalg.norm(weighted, axis=1, keepdims=True)
    return np.where(norm > _NO_CONTRAST, weighted / np.maximum(norm, _NO_CONTRAST), 0).astype(np.float32)


_IMAGES = 4_096
"""Images whose hashes are computed at once: of 100,000, copies with floating-point pixels would take 2 GB."""

_NO_CONTRAST = 1.0
"""Norm of the hash of an image whose grey levels differ by some hundredths."""


def candidates_by_hash(
    thumbnails: GreyImages, progress: SearchProgress | None = None, frames: Sequence[int] = range(len(FRAMES))
) -> DuplicateCandidates:
    """Return the pairs of images with similar hashes, with the most similar part of each pair.

    Parameters
    ----------
    thumbnails : ndarray, shape (n, GREY_SIDE, GREY_SIDE)
    progress : callable, optional
        Called with the number of parts searched so far and the total number of parts.
    frames : sequence of int
        Rows of `FRAMES`: the parts of each image whose hashes are compared with those of whole images.
    """
    whole = image_hashes(thumbnails)
    found = list[Floats]()
    for done, frame in enumerate(frames, 1):
        queries = image_hashes(thumbnails, frame) if frame else whole
        query, row, similarity = _similar_hashes(queries, whole)
        found.append(np.column_stack([query, row, np.full(len(query), frame), similarity]))
        if progress is not None:
            progress(done, len(frames))
    rows = np.concatenate(found)
    # The most similar row of each pair; rows are first, second, frame and similarity.
    pair = np.sort(rows[:, :2], axis=1)
    order = np.lexsort((-rows[:, 3], pair[:, 1], pair[:, 0]))
    pair = pair[order]
    is_new = np.append(True, (pair[1:] != pair[:-1]).any(axis=1))[: len(pair)]
    return _with_frames(*rows[order[is_new], :3].astype(np.int64).T)


def _similar_hashes(queries: Floats32, hashes: Floats32) -> tuple[Ints, Ints, Floats32]:
    """Return up to `NEAREST` other images with a similar hash for each image: queries, rows, similarities.

    As the bound is high, a comparison with it is a third of the work of `manyhot.core.nearest`.
    """
    found, step = [(_NONE, _NONE, np.empty(0, np.float32))], max(1, _CELLS // max(1, len(hashes)))
    for start in range(0, len(queries), step):
        scores = queries[start : start + step] @ hashes.T
        own = np.arange(len(scores))
        scores[own, start + own] = -1
        query, row = np.nonzero(scores >= MIN_HASH_SIMILARITY)
        near = np.lexsort((row, -scores[query, row], query))
        query, row = query[near], row[near]
        place = np.arange(len(query)) - np.searchsorted(query, query)
        query, row = query[place < NEAREST], row[place < NEAREST]
        found.append((query + start, row, scores[query, row]))
    query, row, score = (np.concatenate(column) for column in zip(*found, strict=True))
    return query, row, score


_CELLS, _NONE = 8_000_000, np.empty(0, np.int64)


def candidates_by_embedding(vectors: AnyFloats, progress: SearchProgress | None = None) -> Ints:
    """Return the pairs of rows with similar embeddings, shape (m, 2), each pair once, in ascending order.

    Parameters
    ----------
    vectors : ndarray of float16 or float32, shape (n, D)
    progress : callable, optional
        Called with the number of comparisons made so far and the total number of comparisons.
    """
    own = np.arange(len(vectors))
    near = nearest(vectors, vectors, min(NEAREST, max(1, len(own) - 1)), own=own, progress=progress)
    query, place = np.nonzero((near.rows != NOBODY) & (near.similarity >= MIN_EMBEDDING_SIMILARITY))
    pairs = np.sort(np.column_stack([query, near.rows[query, place]]), axis=1)
    return np.unique(pairs, axis=0)


def candidates_among(thumbnails: GreyImages, pairs: Ints) -> DuplicateCandidates:
    """Return pairs of images, with the part of one image whose hash is most similar to that of the other.

    Parameters
    ----------
    thumbnails : ndarray, shape (n, GREY_SIDE, GREY_SIDE)
    pairs : ndarray of int, shape (m, 2)
    """
    whole = image_hashes(thumbnails)
    best, frame, swapped = (np.full(len(pairs), value) for value in (-np.inf, 0, False))
    for i in range(len(FRAMES)):
        hashes = image_hashes(thumbnails, i) if i else whole
        for other_way, (first, second) in enumerate((pairs.T, pairs.T[::-1])):
            similarity = np.einsum("ij,ij->i", hashes[first], whole[second])
            better = similarity > best
            best[better], frame[better], swapped[better] = similarity[better], i, bool(other_way)
    first, second = np.where(swapped, pairs.T[::-1], pairs.T)
    return _with_frames(first, second, frame)


def _with_frames(first: Ints, second: Ints, frame: Ints) -> DuplicateCandidates:
    mirrored, x, y, size = np.array(FRAMES, np.float32)[frame].T
    # The frames of mirrored images are those of the image before it is mirrored.
    x = np.where(mirrored, 1 - x - size, x)
    return DuplicateCandidates(first, second, mirrored.astype(bool), np.column_stack([x, size, y, size]))


def connected_groups(n: int, pairs: Ints) -> Ints:
    """Return the group of each of n images, from 0; -1 for images in no pair. A pair shares a group.

    Groups are numbered by their first image.
    """
    first, second = pairs.T
    graph = coo_array((np.ones(len(pairs)), (first, second)), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    inside = np.zeros(n, bool)
    inside[pairs.ravel()] = True
    group = np.full(n, NOBODY)
    group[inside] = Clusters.of(component[inside]).number
    return group


_GAP = 0.01
"""Minimum width of a gap between similarities, in which two decimals are enough for a threshold."""


def separating_similarity(n: int, pairs: Ints, similarity: Floats32) -> tuple[float, float] | None:
    """Return the ends of the widest gap in the similarities above which no group has most of n images.

    None if there is no such gap that is at least 0.01 wide.

    Parameters
    ----------
    pairs : ndarray of int, shape (m, 2)
    similarity : ndarray of float32, shape (m,)
    """
    values = np.unique(similarity)
    width = np.diff(values)
    for i in np.argsort(-width, kind="stable"):
        if width[i] < _GAP:
            break
        group = connected_groups(n, pairs[similarity > values[i]])
        if 2 * np.bincount(group + 1)[1:].max(initial=0) <= n:
            return float(values[i]), float(values[i + 1])
    return None


def equal_pairs(keys: npt.NDArray[np.bytes_]) -> Iterator[tuple[int, int]]:
    """Yield each row whose key occurred in an earlier row, together with the first row that has this key."""
    first: dict[bytes, int] = {}
    for row, key in enumerate(keys.tolist()):
        if (earlier := first.setdefault(key, row)) != row:
            yield earlier, row
