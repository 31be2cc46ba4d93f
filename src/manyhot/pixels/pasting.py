"""Images with an object that was not there: cut out of another image, pasted at the same place."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from manyhot.extras import required
from manyhot.pixels.regions import Mask, find_regions
from manyhot.tables import Objects

MOST = 0.5
"""The largest share of an object that may be covered."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Cutting:
    """An object that was cut out.

    Attributes
    ----------
    image_id : str
        Where it is from.
    pixels : ndarray of uint8, shape (height, width, 3)
    mask : ndarray of bool, shape (height, width)
        Which of them are the object's.
    centre : (float, float)
        Where it was: fractions of width and height.
    size : (float, float)
        The same of its width and height.
    """

    image_id: str
    pixels: Pixels
    mask: Mask
    centre: tuple[float, float]
    size: tuple[float, float]


def cuttings(objects: Objects, class_id: int, image_id: str, pixels: Pixels) -> list[Cutting]:
    """Return the objects of a class in an image, without those to ignore."""
    height, width = pixels.shape[:2]
    regions = find_regions(objects, image_id, width, height)
    if isinstance(regions, str):
        return []
    found = []
    for region in regions.objects:
        if region.class_id != class_id or region.ignore:
            continue
        left, top, right, bottom = region.box
        place = slice(top, bottom), slice(left, right)
        centre = ((left + right) / 2 / width, (top + bottom) / 2 / height)
        size = ((right - left) / width, (bottom - top) / height)
        found.append(Cutting(image_id, pixels[place].copy(), region.mask[place].copy(), centre, size))
    return found


@dataclass(frozen=True, eq=False)
class Pasting:
    """Puts an object of other images into images: an alteration, as `manyhot.models.altered` wants it.

    Which one hangs on the image's id and the seed. It is pasted where it was, as large as it was, both as
    fractions of the image; of other shapes of images it keeps its own.

    Attributes
    ----------
    objects : Objects
        Those of the images, of which no more than half may be covered.
    cuttings : sequence of Cutting
    images : frozenset of str
        Those that are wanted.
    seed : int
    """

    objects: Objects = field(repr=False)
    cuttings: Sequence[Cutting] = field(repr=False)
    images: frozenset[str] = field(repr=False)
    seed: int = 0

    @property
    def key(self) -> str:
        """What tells its pixels from others."""
        donors = (c.image_id.encode() + c.pixels.tobytes() + c.mask.tobytes() for c in self.cuttings)
        return f"pasting {self.seed} {_digest([*donors, *map(str.encode, sorted(self.images))])}"

    def wants(self, image_id: str) -> bool:
        """Return whether an image is altered."""
        return image_id in self.images

    def __call__(self, image_id: str, pixels: Pixels) -> Pixels | str:
        """Return the image with the object, or why that cannot be."""
        height, width = pixels.shape[:2]
        rng = np.random.default_rng([self.seed, zlib.crc32(image_id.encode())])
        cutting = self.cuttings[int(rng.integers(len(self.cuttings)))]
        made, there = _placed(cutting, width, height)
        regions = find_regions(self.objects, image_id, width, height)
        covered = () if isinstance(regions, str) else (r.mask for r in regions.objects)
        if any((mask & there).sum() > MOST * mask.sum() for mask in covered):
            return "it would cover another object"
        found = pixels.copy()
        found[there] = made[there]
        return found


def _placed(cutting: Cutting, width: int, height: int) -> tuple[Pixels, Mask]:
    """Return an object at its place in an image of this size, and which pixels are its own."""
    pil = required("PIL.Image", "Pasting objects")
    high, wide = cutting.mask.shape
    scale = min(cutting.size[0] * width / wide, cutting.size[1] * height / high)
    to = (max(round(wide * scale), 1), max(round(high * scale), 1))
    picture, mask = pil.fromarray(cutting.pixels), pil.fromarray(cutting.mask)
    if to != (wide, high):
        picture, mask = picture.resize(to), mask.resize(to, pil.Resampling.NEAREST)
    place = [round(c * n - t / 2) for c, n, t in zip(cutting.centre, (width, height), to, strict=True)]
    canvas, there = pil.new("RGB", (width, height)), pil.new("1", (width, height))
    canvas.paste(picture, tuple(place))
    there.paste(mask, tuple(place))
    return np.asarray(canvas), np.asarray(there)


def _digest(parts: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(hashlib.sha256(part).digest())
    return found.hexdigest()[:16]
