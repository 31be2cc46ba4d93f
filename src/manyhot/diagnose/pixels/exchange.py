"""Images in which a companion is exchanged for one of another image, or for a patch of other content."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from manyhot.core.array_types import Mask
from manyhot.diagnose.pixels.regions import Regions, find_regions
from manyhot.diagnose.pixels.removal import (
    LARGEST_SHARE,
    MAX_FILLED,
    Cutting,
    Pixels,
    at_its_place,
    by_donor,
    digest,
    removed,
)
from manyhot.extras import required
from manyhot.tables import Objects

OWN, OTHER, PATCH = "own", "other", "patch"
"""What an `Exchange` shows: the companion of the image itself, of another image, or none."""


@dataclass(frozen=True, eq=False)
class Exchange:
    """An `Alteration` that shows a companion, or a patch of other content with the same pixels.

    The region of the companion of the image itself, if it has one, and the region of the companion of a donor
    are covered with the same places of a photograph that does not show the companion. Then the companion is
    put back (``own``), the companion of the donor is pasted (``other``), or neither (``patch``). The three
    versions of an image thus differ in nothing but the companion.

    Attributes
    ----------
    objects : Objects
    companion : int
    cuttings : sequence of Cutting
        Companions of the donors.
    patches : sequence of ndarray of uint8, shape (height, width, 3)
        Photographs without the companion.
    images : frozenset of str
        Ids of the images to alter.
    shown : str
    seed : int
    """

    objects: Objects = field(repr=False)
    companion: int
    cuttings: Sequence[Cutting] = field(repr=False)
    patches: Sequence[Pixels] = field(repr=False)
    images: frozenset[str] = field(repr=False)
    shown: str
    seed: int = 0

    @property
    def key(self) -> str:
        """What distinguishes its pixels from those of other alterations."""
        donors = (c.image_id.encode() + c.pixels.tobytes() + c.mask.tobytes() for c in self.cuttings)
        parts = (*donors, *(p.tobytes() for p in self.patches), *map(str.encode, sorted(self.images)))
        return f"exchange {self.companion} {self.shown} {self.seed} {digest(parts)}"

    @cached_property
    def _donors(self) -> Sequence[Sequence[Cutting]]:
        return by_donor(self.cuttings)

    def wants(self, image_id: str) -> bool:
        """Return whether an image is altered."""
        return image_id in self.images

    def __call__(self, image_id: str, pixels: Pixels) -> Pixels | str:
        """Return the altered image, or the reason why it cannot be made."""
        height, width = pixels.shape[:2]
        rng = np.random.default_rng([self.seed, zlib.crc32(image_id.encode())])
        donors = [own for own in self._donors if own[0].image_id != image_id]
        if not donors:
            return "no other image shows the companion"
        regions = find_regions(self.objects, image_id, width, height)
        own = self._own(regions, (height, width))
        if isinstance(own, str):
            return own
        others = [] if isinstance(regions, str) else regions.objects
        made, there = pixels.copy(), np.zeros((height, width), bool)
        pasted = []
        for cutting in donors[int(rng.integers(len(donors)))]:
            picture, mask = at_its_place(cutting, width, height)
            pasted.append((picture, mask))
            there |= mask
        region = own | there
        if region.mean() > LARGEST_SHARE:
            return "it would cover most of the image"
        if any(
            (r.mask & region).sum() > LARGEST_SHARE * r.mask.sum()
            for r in others
            if r.class_id != self.companion
        ):
            return "it would cover another object"
        made[region] = self._patch(rng, width, height)[region]
        if self.shown == OWN:
            made[own] = pixels[own]
        for picture, mask in pasted if self.shown == OTHER else ():
            made[mask] = picture[mask]
        return made

    def _own(self, regions: Regions | str, shape: tuple[int, int]) -> Mask | str:
        """Return the pixels of the companion of the image; boxes are whole, because a tag lies on objects."""
        if isinstance(regions, str) or not any(r.class_id == self.companion for r in regions.objects):
            return np.zeros(shape, bool)
        if any(r.known_by != "box" for r in regions.objects if r.class_id == self.companion):
            return removed(regions, self.companion, self.objects.keys[self.companion])
        boxes = regions.boxes_of(self.companion)
        return boxes if boxes.mean() <= MAX_FILLED else "it fills the image"

    def _patch(self, rng: np.random.Generator, width: int, height: int) -> Pixels:
        pil = required("PIL.Image", "Pasting objects")
        patch = self.patches[int(rng.integers(len(self.patches)))]
        return np.asarray(pil.fromarray(patch).resize((width, height)))
