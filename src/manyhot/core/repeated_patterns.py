"""Patterns that recur in the images of a group, at the same location or at varying locations.

Frames, tags, watermarks and text are at the same location in many images. Natural images of a class do not
agree in this way: in CIFAR-10 and PASCAL VOC, the share of images of a class that agree at a pixel is never
more than 25 points above that of other classes. Objects pasted at varying locations leave nearly identical
patches.

References
----------
Dekel et al. 2017, doi 10.1109/CVPR.2017.726, find watermarks by gradients that are consistent over images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import typing as npt
from scipy import ndimage

from manyhot.core.array_types import Bools, Floats, Floats32, Ints, Ints8

THUMBNAIL_SIDE = 48
"""Side of a thumbnail in pixels. Thumbnails are square, whatever the shape of the image."""

AGREEING = 0.4
"""Minimum difference between the shares of images that agree with a pattern in the group and elsewhere."""

REPEATED = 0.5
"""The same, for a patch that recurs at varying locations. Natural images of a class reach 0.41."""

AGREES = 0.5
"""Share of the pixels of a pattern on which an image with the pattern agrees with it."""

_SAME, _STEP = 20, 6  # of 255: colours that count as one; gradients that count as an edge
_SMALLEST = 6  # pixels of a pattern, of 48 x 48
_MOST = 400  # images of each side that patterns are found on
_PATCH, _STRIDE = 6, 2
_SAMPLE = 31  # every so many patches of a thumbnail, from which directions are computed
_SEEDS, _DIRECTIONS = 5, 24
_FIRST, _SECOND = (16, 32), (60, 150)  # images of the group and elsewhere: for all patches, and for the best
_BEST, _PROMISING = 50, 0.3  # patches that are compared again, and their excess on the first images
_TIGHT = 0.6  # of the typical distance elsewhere: patches that are nearly identical
_TEXTURE = 8  # of 255: the standard deviation in a patch that has any structure

Thumbnails = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class FixedPattern:
    """A pattern at one place.

    Attributes
    ----------
    where : ndarray of bool, shape (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    colour : ndarray of float, shape (3,)
        Median colour of its pixels.
    is_flat : bool
        Whether the pattern consists mostly of a single colour.
    score : ndarray of float, shape (n,)
        Share of the pattern's pixels on which each image agrees with the pattern.
    stretch : ndarray of float, shape (n, 2)
        Width and height of the pattern in each image, as shares of the image, relative to those in the images
        on which it was found. They differ between images of different sizes if the pattern has a fixed size
        in pixels.
    """

    where: Bools
    colour: Floats
    is_flat: bool
    score: Floats
    stretch: Floats

    @property
    def is_frame(self) -> bool:
        """Whether the pattern covers most of a ring of three pixels along the border."""
        ring = np.ones((THUMBNAIL_SIDE, THUMBNAIL_SIDE), bool)
        ring[3:-3, 3:-3] = False
        return bool(self.where[ring].mean() > 0.6)

    @property
    def boxes(self) -> Floats:
        """The boxes around the pattern, as fractions of width and height, shape (k, 4); four for a frame.

        Boxes are enlarged by one thumbnail pixel on each side, because pixels at the edges are often partly
        covered.
        """
        if self.is_frame:
            depths = range(2, THUMBNAIL_SIDE // 2)  # two lines are a frame, too, with a gap between them
            deep = next((d for d in depths if _ring_at(self.where, d) < 0.5), THUMBNAIL_SIDE // 4)
            return frame_boxes((deep + 1) / THUMBNAIL_SIDE, (deep + 1) / THUMBNAIL_SIDE)
        rows, columns = np.flatnonzero(self.where.any(axis=1)), np.flatnonzero(self.where.any(axis=0))
        ends = np.array([[columns[0] - 1, rows[0] - 1, columns[-1] + 2, rows[-1] + 2]]) / THUMBNAIL_SIDE
        return np.asarray(ends.clip(0, 1), np.float64)

    def boxes_in(self, image: int) -> Floats:
        """The boxes in one image, in which each edge keeps its distance in pixels from the nearest side."""
        return from_sides(self.boxes, np.tile(self.stretch[image], 2), 1.0)


def from_sides(at: Floats, stretch: Floats, length: float) -> Floats:
    """Return positions from 0 to `length`, with distances from the nearest side multiplied by `stretch`."""
    first = at < length / 2
    return np.where(first, at * stretch, length - (length - at) * stretch).clip(0, length)


def keep_pixels(thumbnails: Thumbnails, stretch: Floats) -> Thumbnails:
    """Return thumbnails in which the same distance from a side is the same number of photograph pixels.

    The thumbnails of photographs of several shapes are square, so a tag at a fixed distance from a corner is
    in different places in them. Each half of a side is measured from its own end, so that all four corners
    are aligned at once. The middles of the sides are not aligned.

    Parameters
    ----------
    thumbnails : ndarray of uint8, shape (n, THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3)
    stretch : ndarray of float, shape (n, 2)
        Width and height of the reference, divided by those of each photograph.
    """
    if (stretch == 1).all():
        return thumbnails
    centres, last = np.arange(0.5, THUMBNAIL_SIDE, dtype=np.float64), THUMBNAIL_SIDE - 1
    made = np.asarray(thumbnails, np.float32)
    for axis in (0, 1):
        at = (from_sides(centres[None], stretch[:, axis, None], THUMBNAIL_SIDE) - 0.5).clip(0, last)
        low = np.floor(at).astype(np.int64)
        share = (at - low).astype(np.float32)
        # Columns follow the width, rows the height.
        shape = (len(made), 1, -1, 1) if axis == 0 else (len(made), -1, 1, 1)
        first, second = (
            np.take_along_axis(made, i.reshape(shape), 2 - axis) for i in (low, np.minimum(low + 1, last))
        )
        made = first + share.reshape(shape) * (second - first)
    return np.rint(made).astype(np.uint8)


def _ring_at(where: Bools, depth: int) -> float:
    """Return the share of the pixels at a distance from the border that belong to a pattern."""
    inner = where[depth : len(where) - depth, depth : len(where) - depth]
    return float(np.concatenate([inner[0], inner[-1], inner[1:-1, 0], inner[1:-1, -1]]).mean())


def frame_boxes(across: float, down: float) -> Floats:
    """Return the boxes at the top, bottom, left and right of a frame, shape (4, 4).

    `across` and `down` are the width of the frame as fractions of the image's width and height.
    """
    return np.array(
        [(0, 0, 1, down), (0, 1 - down, 1, 1), (0, down, across, 1 - down), (1 - across, down, 1, 1 - down)]
    )


def find_fixed_pattern(
    thumbnails: Thumbnails, group: Ints, elsewhere: Ints, size: Floats | None = None
) -> FixedPattern | None:
    """Return the pattern that images of a group share at the same location, or None if there is none.

    The same location means the same part of the image or, if sizes are passed, the same distance in pixels
    from the sides.

    Parameters
    ----------
    thumbnails : ndarray of uint8, shape (n, THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3)
    group, elsewhere : ndarray of int
        Rows of the images of the group and of other images. The first 400 of each are used.
    size : ndarray of float, shape (n, 2), optional
        Width and height of each photograph, in pixels.
    """
    group, elsewhere = group[:_MOST], elsewhere[:_MOST]
    ways = [np.ones((len(thumbnails), 2))]
    if size is not None and not np.allclose(stretch := _stretch(size, group), 1):
        ways.insert(0, stretch)
    found = []
    for stretch in ways:
        own, other = (keep_pixels(thumbnails[rows], stretch[rows]) for rows in (group, elsewhere))
        if (shared := _shared(own, other)) is not None:
            found.append(shared.in_all(thumbnails, stretch))
    # Of two ways, the one that tells more images of the group from others.
    shares = [[(f.score[rows] >= AGREES).mean() for rows in (group, elsewhere)] for f in found]
    return max(zip(shares, found, strict=True), key=lambda of: of[0][0] - of[0][1], default=(None, None))[1]


def _stretch(size: Floats, among: Ints) -> Floats:
    """Return the median size of some photographs divided by that of each one; 1 if a size is unknown."""
    known = np.asarray(np.isfinite(size).all(axis=1))
    among = among[known[among]]
    if not len(among):
        return np.ones(size.shape)
    return np.where(known[:, None], np.median(size[among], axis=0) / np.maximum(size, 1), 1.0)


@dataclass(frozen=True, eq=False)
class _Shared:
    """What images of a group share at one place."""

    where: Bools
    typical: Floats
    coloured: Bools
    sign: Ints8

    def in_all(self, thumbnails: Thumbnails, stretch: Floats) -> FixedPattern:
        """Return the pattern with its score on all images."""
        score = [
            self._match(keep_pixels(thumbnails[rows], stretch[rows]))
            for rows in np.array_split(np.arange(len(thumbnails)), len(thumbnails) // 512 + 1)
        ]
        coloured, where = self.coloured, self.where
        colour = np.median(self.typical[coloured if coloured.any() else where], axis=0)
        near = np.abs(self.typical[where] - colour).max(axis=-1) <= 2 * _SAME
        is_flat = bool(coloured.sum() > where.sum() / 2 and near.mean() > 0.8)
        return FixedPattern(where, colour, is_flat, np.concatenate(score), stretch)

    def _match(self, part: Thumbnails) -> Floats:
        """Return the share of pixels on which each image agrees with the pattern."""
        same = np.abs(part.astype(np.int16) - self.typical).max(axis=-1) <= _SAME
        edge = (_gradients(part) * self.sign > _STEP).sum(axis=1) * self.where
        agree = (same & self.coloured).sum(axis=(1, 2)) + edge.sum(axis=(1, 2))
        return np.asarray(agree / max(int(self.coloured.sum() + np.abs(self.sign * self.where).sum()), 1))


def _shared(own: Thumbnails, other: Thumbnails) -> _Shared | None:
    typical = np.median(own, axis=0)
    excess = _agreement(own, typical) - _agreement(other, typical)
    sign, edges = _edges(own, other)
    where = _connected(np.maximum(excess, edges) > AGREEING)
    if not where.any():
        return None
    return _Shared(where, typical, where & (excess > AGREEING), sign)


def _connected(where: Bools) -> Bools:
    """Return the pixels that are connected to enough others."""
    part, n = ndimage.label(where, np.ones((3, 3)))
    size = np.bincount(part.ravel(), minlength=n + 1)
    size[0] = 0
    return np.asarray(size[part] >= _SMALLEST)


def _agreement(images: Thumbnails, typical: Floats) -> Floats:
    return np.asarray((np.abs(images.astype(np.int16) - typical).max(axis=-1) <= _SAME).mean(axis=0))


def _gradients(images: Thumbnails) -> Floats32:
    """Return the differences to the right and downwards, shape (n, 2, THUMBNAIL_SIDE, THUMBNAIL_SIDE)."""
    light = images.astype(np.float32).mean(axis=-1)
    found = np.zeros((len(light), 2, *light.shape[1:]), np.float32)
    found[:, 0, :, :-1], found[:, 1, :-1] = np.diff(light, axis=2), np.diff(light, axis=1)
    return found


def _edges(own: Thumbnails, other: Thumbnails) -> tuple[Ints8, Floats]:
    """Return the signs of the edges that a group shares, and by how much it shares them more often.

    The signs have shape (2, THUMBNAIL_SIDE, THUMBNAIL_SIDE): for differences to the right and downwards.
    """
    mine, others = _gradients(own), _gradients(other)
    rising = (mine > _STEP).mean(axis=0) - (others > _STEP).mean(axis=0)
    falling = (mine < -_STEP).mean(axis=0) - (others < -_STEP).mean(axis=0)
    sign = np.where(rising >= falling, 1, -1) * (np.maximum(rising, falling) > AGREEING)
    return sign.astype(np.int8), np.maximum(rising, falling).max(axis=0)


@dataclass(frozen=True, eq=False)
class RepeatedPatch:
    """A patch that recurs nearly identically at varying locations.

    Attributes
    ----------
    distance : ndarray of float, shape (n,)
        Distance of the most similar patch of each image, in intensity levels from 0 to 255.
    threshold : float
        Maximum distance at which an image counts as having the patch.
    excess : float
        Share of images with the patch in the group minus the share elsewhere, among the images on which the
        patch was found.
    image, top, left : int
        The source image of the patch, and its position there.
    """

    distance: Floats
    threshold: float
    excess: float
    image: int
    top: int
    left: int


@dataclass(frozen=True, eq=False)
class Patches:
    """Compares patches of thumbnails in the directions in which patches vary most."""

    thumbnails: Thumbnails
    mean: Floats32
    directions: Floats32

    @classmethod
    def of(cls, thumbnails: Thumbnails, rng: np.random.Generator) -> Patches:
        """Return patches of thumbnails, with directions from a sample of the thumbnails."""
        few = rng.permutation(len(thumbnails))[:100]
        sample = np.concatenate([_some(thumbnails[i], _SAMPLE) for i in few])
        mean = sample.mean(axis=0)
        axes = np.linalg.svd(sample - mean, full_matrices=False)[2]
        return cls(thumbnails, mean, axes[:_DIRECTIONS].T.copy())

    def project(self, image: int) -> Floats32:
        """Return the patches of an image, shape (p, directions)."""
        return np.asarray((_all(self.thumbnails[image]) - self.mean) @ self.directions, np.float32)

    def nearest(self, queries: Floats32, images: Ints) -> Floats:
        """Return the distance of each image's most similar patch, shape (images, queries)."""
        sought = np.column_stack([-2 * queries, np.ones(len(queries), np.float32)])
        squares = (queries**2).sum(axis=1)
        found = np.empty((len(images), len(queries)))
        for i, image in enumerate(images.tolist()):
            own = self.project(image)
            extended: Floats32 = np.column_stack([own, (own**2).sum(axis=1)])
            found[i] = (extended @ sought.T).min(axis=0) + squares
        return np.asarray(np.sqrt(np.maximum(found, 0) / (3 * _PATCH**2)))


def find_repeated_patch(
    patches: Patches, group: Ints, elsewhere: Ints, rng: np.random.Generator
) -> RepeatedPatch | None:
    """Return the patch that recurs only in the images of a group, or None if there is none.

    Parameters
    ----------
    group, elsewhere : ndarray of int
        Rows of the images of the group and of other images.
    rng : numpy.random.Generator
        Draws the images for the search: 5 images from which patches are taken, and up to 60 images of the
        group and 150 other images with which the patches are compared.
    """
    group, elsewhere = rng.permutation(group), rng.permutation(elsewhere)
    queries, places = _queries(patches, group[:_SEEDS])
    if not len(queries) or min(len(group) - _SEEDS, len(elsewhere)) < _SEEDS:
        return None
    excess, _ = _separation(patches, queries, group[_SEEDS:], elsewhere, _FIRST)
    best = np.argsort(-excess, kind="stable")[:_BEST]
    best = best[excess[best] >= _PROMISING]
    if not len(best):
        return None
    excess, threshold = _separation(patches, queries[best], group[_SEEDS:], elsewhere, _SECOND)
    first = int(excess.argmax())
    if excess[first] < REPEATED:
        return None
    distance = patches.nearest(queries[best[first]][None], np.arange(len(patches.thumbnails)))[:, 0]
    return RepeatedPatch(
        distance, float(threshold[first]), float(excess[first]), *map(int, places[best[first]])
    )


def _queries(patches: Patches, seeds: Ints) -> tuple[Floats32, Ints]:
    found, places = [], []
    across = THUMBNAIL_SIDE - _PATCH + 1
    grid = np.stack(np.meshgrid(*(np.arange(0, across, _STRIDE),) * 2, indexing="ij"), -1).reshape(-1, 2)
    for image in seeds.tolist():
        every = _all(patches.thumbnails[image])[grid[:, 0] * across + grid[:, 1]]
        textured = every.reshape(len(every), 3, -1).std(axis=2).mean(axis=1) > _TEXTURE
        found.append((every[textured] - patches.mean) @ patches.directions)
        places.append(np.column_stack([np.full(textured.sum(), image), grid[textured]]))
    return np.concatenate(found), np.concatenate(places)


def _separation(
    patches: Patches, queries: Floats32, group: Ints, elsewhere: Ints, images: tuple[int, int]
) -> tuple[Floats, Floats]:
    """Return by how much more often each patch is nearly repeated in the group, and up to which distance."""
    near, far = (patches.nearest(queries, of[:n]) for of, n in zip((group, elsewhere), images, strict=True))
    typical = np.median(far, axis=0)
    best, at = np.full(near.shape[1], -1.0), np.zeros(near.shape[1])
    for share in np.arange(0.1, _TIGHT + 0.01, 0.05):
        limit = share * typical
        excess = (near <= limit).mean(axis=0) - (far <= limit).mean(axis=0)
        better = excess > best
        best, at = np.where(better, excess, best), np.where(better, limit, at)
    return best, at


def _windows(thumbnail: Thumbnails) -> Thumbnails:
    return np.lib.stride_tricks.sliding_window_view(thumbnail, (_PATCH, _PATCH), axis=(0, 1))


def _all(thumbnail: Thumbnails) -> Floats32:
    """Return all patches of a thumbnail, shape (p, 3 * patch * patch)."""
    return _windows(thumbnail).reshape(-1, 3 * _PATCH**2).astype(np.float32)


def _some(thumbnail: Thumbnails, step: int) -> Floats32:
    """Return every `step`-th of all patches, without the others."""
    windows = _windows(thumbnail)
    at = np.unravel_index(np.arange(0, windows.shape[0] * windows.shape[1], step), windows.shape[:2])
    return windows[at].reshape(-1, 3 * _PATCH**2).astype(np.float32)
