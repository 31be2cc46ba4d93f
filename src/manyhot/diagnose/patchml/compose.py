"""Objects cut out of photographs and laid onto a background: images whose label sets are exact."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy import typing as npt

from manyhot.diagnose.pixels.regions import Region, Regions
from manyhot.diagnose.pixels.removal import GREY
from manyhot.extras import required

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Span = tuple[float, float]
Places = list[tuple[int, int]]
FOREIGN = 0.01
"""The largest share of a patch that may belong to another class."""

HIDDEN = 0.05
"""The largest share of an outline that another class may hide: its shape would be seen as a hole."""

FULL = 0.96
"""An object that fills at least this share of an image has nothing to be cut out of."""

_ATTEMPTS, _AT_LEAST_SCALE, _TRIES = 30, 20, 60
_STEPS = 16
_WINDOWS = 40


@dataclass(frozen=True, eq=False)
class Patch:
    """An object that was cut out of a photograph.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (h, w, 3)
    mask : ndarray of bool, shape (h, w)
        Pixels that belong to the object; all pixels if it was cut out by its box.
    image_id : str
        Id of the photograph that it was cut out of.
    """

    pixels: Pixels
    mask: Mask
    class_id: int = 0
    image_id: str = ""

    def scaled(self, longest: int) -> Patch:
        """Return the patch, resized so that its longer side is `longest` pixels."""
        cv2 = required("cv2", "Scaling patches", '"manyhot[diagnose]"')
        height, width = self.mask.shape
        factor = longest / max(height, width)
        to = (max(1, round(width * factor)), max(1, round(height * factor)))
        smooth = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        pixels = cv2.resize(self.pixels, to, interpolation=smooth)
        share = cv2.resize(self.mask.astype(np.float32), to, interpolation=smooth)
        return Patch(pixels, share >= min(0.5, share.max()), self.class_id, self.image_id)


def cut(
    pixels: Pixels, regions: Regions, region: Region, *, by: str, least: int, image_id: str = ""
) -> Patch | str:
    """Cut an object out of an image and return it, or the reason why it cannot be cut out.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)
    regions : Regions
        All objects of the image, including ignored objects, which have an uncertain class.
    region : Region
        The object.
    by : {"box", "mask"}
    least : int
        Minimum length of the short side, in pixels.
    image_id : str
    """
    if by == "mask" and region.known_by == "box":
        return "only its box is known"
    left, top, right, bottom = region.box if by == "box" else _bounds(region.mask)
    if min(right - left, bottom - top) < least:
        return f"smaller than {least} pixels"
    window = np.s_[top:bottom, left:right]
    own = np.ones((bottom - top, right - left), bool) if by == "box" else region.mask[window]
    if own.sum() >= FULL * regions.shape[0] * regions.shape[1]:
        return "it fills the image"
    others = regions.beside(region.class_id)[window]
    if (others & own).sum() > FOREIGN * own.sum():
        return "another class in it"
    if by == "mask" and (others & (hull := _hull(own))).sum() > HIDDEN * hull.sum():
        return "another class in front of it"
    return Patch(pixels[window].copy(), own.copy(), region.class_id, image_id)


def _hull(mask: Mask) -> Mask:
    """Return the convex hull of the pixels of a mask."""
    cv2 = required("cv2", "Cutting out by masks", '"manyhot[diagnose]"')
    points = np.argwhere(mask)[:, ::-1].astype(np.int32)
    filled = cv2.fillConvexPoly(mask.astype(np.uint8), cv2.convexHull(points), 1)
    return np.asarray(filled, bool)


def _bounds(mask: Mask) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@dataclass(frozen=True, eq=False)
class Layout:
    """The places of patches in an image.

    Attributes
    ----------
    patches : tuple of Patch
        The patches at the size at which they are shown, from the bottom layer to the top.
    places : list of (int, int)
        Left and top of each patch, in pixels.
    owner : ndarray of int8, shape (size, size)
        Index of the patch that is visible at each pixel; -1 for none.
    """

    patches: tuple[Patch, ...]
    places: Places
    owner: npt.NDArray[np.int8]

    @property
    def visible(self) -> npt.NDArray[np.int64]:
        """The number of visible pixels of each patch, shape (k,)."""
        return np.bincount(self.owner.ravel() + 1, minlength=len(self.patches) + 1)[1:]

    @property
    def covered(self) -> npt.NDArray[np.float64]:
        """The share of each patch that other patches cover, shape (k,)."""
        return np.asarray(1 - self.visible / [p.mask.sum() for p in self.patches])


def lay_out(
    patches: Sequence[Patch], size: int, scale: Span, overlap: Span, rng: np.random.Generator
) -> Layout | None:
    """Return a layout with every patch inside the image, or None if no layout is found.

    Parameters
    ----------
    size : int
        Width and height of the image.
    scale : (float, float)
        Minimum and maximum length of the longer side of a patch, as a share of the side of the image. The
        length is drawn uniformly for each patch.
    overlap : (float, float)
        Minimum and maximum share of the most covered patch that other patches hide. A single patch is never
        covered.

    Notes
    -----
    Patches are placed one after another in random order, each at a random position where it covers no more
    than allowed. If the overlap would otherwise be too small, the last patch is placed over another patch, at
    a distance that is found by bisection. If the patches do not fit, sizes and positions are drawn again.
    Several thousand positions are tried. If no attempt succeeds and no minimum overlap is required, the
    patches are placed at the smallest scale in the cells of a grid.
    """
    for attempt in range(_ATTEMPTS):
        span = scale if attempt < _AT_LEAST_SCALE else (scale[0], scale[0])
        order = [patches[i] for i in rng.permutation(len(patches))]
        sized = [p.scaled(max(1, round(size * rng.uniform(*span)))) for p in order]
        ground = _Ground(size, overlap)
        if all(ground.add(p, rng, last=i == len(sized) - 1) for i, p in enumerate(sized)):
            return Layout(tuple(sized), ground.places, ground.owner)
    smallest = [p.scaled(max(1, round(size * scale[0]))) for p in patches]
    return None if overlap[0] > 0 else _grid(smallest, size, rng)


def fits_always(n: int) -> float:
    """Return the largest scale at which n patches of any shape fit without overlap."""
    return 1 / math.ceil(math.sqrt(n))


class _Ground:
    """An image on which patches are laid."""

    def __init__(self, size: int, overlap: Span) -> None:
        self.size, self.overlap = size, overlap
        self.owner = np.full((size, size), -1, np.int8)
        self.places: Places = []
        self._whole: list[int] = []
        self._seen: list[int] = []

    def add(self, patch: Patch, rng: np.random.Generator, *, last: bool) -> bool:
        """Place a patch on top of the other patches, and return whether there was an allowed position."""
        most = [self.size - side for side in patch.mask.shape[::-1]]
        if min(most) < 0:
            return False
        must = last and bool(self.places) and self._covered(self._seen) < self.overlap[0]
        for _ in range(_TRIES):
            at = self._touching(patch, most, rng) if must else _somewhere(most, rng)
            seen = self._seen_under(patch.mask, at)
            covered = self._covered(seen)
            if covered <= self.overlap[1] and (not must or covered >= self.overlap[0]):
                self._lay(patch.mask, at, seen)
                return True
        return False

    def _covered(self, seen: Sequence[int]) -> float:
        return max((1 - s / whole for s, whole in zip(seen, self._whole, strict=True)), default=0.0)

    def _seen_under(self, mask: Mask, at: tuple[int, int]) -> list[int]:
        """Return how much of each patch would be visible with another one here."""
        under = self.owner[self._window(mask, at)][mask]
        hidden = np.bincount(under + 1, minlength=len(self._seen) + 1)[1:]
        return [s - int(h) for s, h in zip(self._seen, hidden, strict=True)]

    def _lay(self, mask: Mask, at: tuple[int, int], seen: list[int]) -> None:
        self.owner[self._window(mask, at)][mask] = len(self.places)
        whole = int(mask.sum())
        self.places.append(at)
        self._whole.append(whole)
        self._seen = [*seen, whole]

    def _window(self, mask: Mask, at: tuple[int, int]) -> tuple[slice, slice]:
        (height, width), (left, top) = mask.shape, at
        return slice(top, top + height), slice(left, left + width)

    def _touching(self, patch: Patch, most: list[int], rng: np.random.Generator) -> tuple[int, int]:
        """Return a place at which the drawn share of another patch is covered."""
        goal = rng.uniform(*self.overlap)
        start = np.array(self.places[int(rng.integers(len(self.places)))], float)
        angle = rng.uniform(0, 2 * math.pi)
        way = np.array([math.cos(angle), math.sin(angle)]) * self.size
        near, far, at = 0.0, 1.0, (0, 0)
        for _ in range(_STEPS):
            middle = (near + far) / 2
            left, top = np.clip(np.rint(start + middle * way), 0, most).astype(int)
            at = (int(left), int(top))
            if self._covered(self._seen_under(patch.mask, at)) > goal:
                near = middle
            else:
                far = middle
        return at


def _somewhere(most: Sequence[int], rng: np.random.Generator) -> tuple[int, int]:
    left, top = (int(rng.integers(m + 1)) for m in most)
    return left, top


def _grid(patches: Sequence[Patch], size: int, rng: np.random.Generator) -> Layout | None:
    """Lay each patch into a cell of its own; None if one is too large for that."""
    n = math.ceil(math.sqrt(len(patches)))
    cell = size // n
    if max(max(p.mask.shape) for p in patches) > cell:
        return None
    owner, places = np.full((size, size), -1, np.int8), []
    for i, (patch, number) in enumerate(zip(patches, rng.permutation(n * n), strict=False)):
        height, width = patch.mask.shape
        left, top = (int(c) * cell for c in (number % n, number // n))
        left, top = left + int(rng.integers(cell - width + 1)), top + int(rng.integers(cell - height + 1))
        owner[top : top + height, left : left + width][patch.mask] = i
        places.append((left, top))
    return Layout(tuple(patches), places, owner)


def paint(layout: Layout, background: Pixels, *, soft: float = 0) -> Pixels:
    """Return the image of a layout.

    Parameters
    ----------
    layout : Layout
    background : ndarray of uint8, shape (size, size, 3)
    soft : float
        Width in pixels over which edges fade. They fade inwards, so that nothing outside the object is shown.
    """
    picture = background.copy()
    for patch, (left, top) in zip(layout.patches, layout.places, strict=True):
        height, width = patch.mask.shape
        window = picture[top : top + height, left : left + width]
        if not soft:
            window[patch.mask] = patch.pixels[patch.mask]
            continue
        share = _faded(patch.mask, soft)[..., None]
        window[:] = np.rint(window * (1 - share) + patch.pixels * share).astype(np.uint8)
    return picture


def _faded(mask: Mask, soft: float) -> npt.NDArray[np.float32]:
    """Return how much of a patch is shown in each pixel: half at its edge, and nothing outside."""
    cv2 = required("cv2", "Soft edges", '"manyhot[diagnose]"')
    around = math.ceil(3 * soft)
    wide = np.pad(mask.astype(np.float32), around)
    blurred = cv2.GaussianBlur(wide, (0, 0), soft)[around : around + mask.shape[0], around:-around]
    return np.asarray(blurred * mask, np.float32)


def plain_background(size: int, colour: Sequence[int]) -> Pixels:
    """Return a background of one colour."""
    return np.full((size, size, 3), colour, np.uint8)


def noise(size: int, rng: np.random.Generator) -> Pixels:
    """Return a background of noise around grey, drawn for each pixel and channel."""
    drawn = rng.normal(GREY, 50, (size, size, 3))
    return np.clip(np.rint(drawn), 0, 255).astype(np.uint8)


def blurred(pixels: Pixels, size: int) -> Pixels:
    """Return a background made from a photograph, blurred so that only colours remain."""
    cv2 = required("cv2", "Blurred backgrounds", '"manyhot[diagnose]"')
    return np.asarray(cv2.GaussianBlur(square(pixels, size), (0, 0), size / 8), np.uint8)


def square(pixels: Pixels, size: int) -> Pixels:
    """Return the central square of a photograph, resized to the size of the image."""
    cv2 = required("cv2", "Backgrounds", '"manyhot[diagnose]"')
    side = min(pixels.shape[:2])
    top, left = ((n - side) // 2 for n in pixels.shape[:2])
    window = pixels[top : top + side, left : left + side]
    smooth = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(window, (size, size), interpolation=smooth), np.uint8)


def free_crop(
    pixels: Pixels, regions: Regions, size: int, least: int, rng: np.random.Generator
) -> Pixels | None:
    """Return the largest of several random crops that show no object; None if there is none.

    Parameters
    ----------
    least : int
        Minimum side of the crop, in pixels.
    """
    taken = np.zeros(regions.shape, bool)
    for region in regions.objects:
        left, top, right, bottom = region.box
        taken[top:bottom, left:right] = True
    free = [w for w in _windows(regions.shape, least, rng) if not taken[w].any()]
    if not free:
        return None
    rows, columns = max(free, key=lambda w: w[0].stop - w[0].start)
    return square(pixels[rows, columns], size)


def _windows(shape: tuple[int, int], least: int, rng: np.random.Generator) -> Iterator[tuple[slice, slice]]:
    """Yield square places of all sizes."""
    for _ in range(_WINDOWS if min(shape) >= least else 0):
        side = int(rng.integers(least, min(shape) + 1))
        top, left = (int(rng.integers(n - side + 1)) for n in shape)
        yield slice(top, top + side), slice(left, left + side)


def deal_evenly(
    n: int,
    sizes: tuple[int, int],
    classes: Sequence[int],
    rng: np.random.Generator,
    pairs: Sequence[tuple[int, int]] = (),
) -> list[list[int]]:
    """Return distinct classes for each of n images, so that all classes are equally frequent.

    Parameters
    ----------
    sizes : (int, int)
        Minimum and maximum number of classes per image; the number is drawn uniformly.
    classes : sequence of int
        The classes to choose from. There must be at least as many as the maximum number per image.
    pairs : sequence of (int, int)
        Pairs of classes; each image has the classes of one pair. All pairs are equally frequent, and other
        classes are added until the image has the number of classes that was drawn for it. With pairs, this
        number must be at least 2.

    Notes
    -----
    An image gets the classes that have been used least so far, with ties broken at random. Without pairs, the
    counts of two classes therefore differ by at most one.
    """
    known = np.asarray(classes)
    dealt, paired = np.zeros(len(known)), np.zeros(len(pairs))
    pictures = []
    for _ in range(n):
        size = int(rng.integers(sizes[0], sizes[1] + 1))
        order = _fewest_first(dealt, rng)
        if pairs:
            first = int(_fewest_first(paired, rng)[0])
            paired[first] += 1
            together = np.flatnonzero(np.isin(known, pairs[first]))
            order = np.concatenate([together, order[~np.isin(order, together)]])
        chosen = order[:size]
        dealt[chosen] += 1
        pictures.append([int(c) for c in rng.permutation(known[chosen])])
    return pictures


def deal_as_they_occur(
    n: int, sizes: tuple[int, int], sets: Sequence[Sequence[int]], rng: np.random.Generator
) -> list[list[int]]:
    """Return classes that occur together in one of the sets, for each of n images.

    Parameters
    ----------
    n, sizes, rng
        As in `deal_evenly`. An image has no more classes than the set that is drawn for it.
    sets : sequence of sequences of int
        Sets of classes, at least one; each has at least the minimum number of classes.
    """
    pictures = []
    for chosen in rng.integers(len(sets), size=n):
        size = int(rng.integers(sizes[0], min(sizes[1], len(sets[chosen])) + 1))
        pictures.append([int(c) for c in rng.permutation(np.asarray(sets[chosen]))[:size]])
    return pictures


def _fewest_first(counts: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.intp]:
    return np.lexsort((rng.random(len(counts)), counts))
