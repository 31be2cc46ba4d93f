"""Images without an object, filled or inpainted, and their controls; images with a pasted object."""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.core.array_types import Mask
from manyhot.core.companion_effects import moved, place_control
from manyhot.diagnose.pixels.regions import Regions, find_regions
from manyhot.extras import required
from manyhot.tables import Objects

GREY = (124, 116, 104)
"""The mean colour of ImageNet, as in Plumb et al. 2022 (SPIRE)."""

FILL_NAMES = {"grey": "a grey box", "inpaint": "inpainting"}
MIN_REMOVED = 0.5
"""The least share of an object that must be removed."""

MAX_FILLED = 0.95
"""The largest share of an image that may be filled."""

_RADIUS = 3  # Pixels around a point that inpainting looks at.
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Removal:
    """An `Alteration` that removes the objects of a class from images.

    The boxes of the objects are filled, except for the pixels of all other objects. A control instead fills a
    region of the same shape at the place where it overlaps objects as little as possible.

    Attributes
    ----------
    objects : Objects
    companion : int
        The class to remove.
    fill : str
        ``grey`` fills with `GREY`; ``inpaint`` uses Telea's inpainting from the surroundings.
    control : bool
    images : frozenset of str
        Ids of the images to alter.
    seed : int
        Seed for the places of controls.
    objects_hash : str
        The `fingerprint` of the objects.
    """

    objects: Objects = field(repr=False)
    companion: int
    fill: str
    control: bool
    images: frozenset[str] = field(repr=False)
    seed: int = 0
    objects_hash: str = ""

    @cached_property
    def key(self) -> str:
        """A text that differs between alterations that result in different pixels."""
        what = (self.companion, self.fill, self.control, self.seed if self.control else "", self.objects_hash)
        return f"removal {what} {digest(i.encode() for i in sorted(self.images))}"

    def wants(self, image_id: str) -> bool:
        """Return whether an image is altered."""
        return image_id in self.images

    def __call__(self, image_id: str, pixels: Pixels) -> Pixels | str:
        """Return the image without the objects, or the reason why they cannot be removed.

        The part of the reason before the colon is the same for many images.
        """
        place = _latest_place(self.objects, self.companion, self.seed, image_id, pixels.shape[:2])
        region = place.control if self.control else place.removed
        return region if isinstance(region, str) else filled(pixels, region, self.fill, place.all_objects)


@dataclass(eq=False)
class _Place:
    """Where the objects of a class are in an image, and where their control is; or the reason why nowhere."""

    objects: Objects
    companion: int
    seed: int
    image_id: str
    shape: tuple[int, int]

    @cached_property
    def regions(self) -> Regions | str:
        return find_regions(self.objects, self.image_id, self.shape[1], self.shape[0])

    @cached_property
    def removed(self) -> Mask | str:
        if isinstance(self.regions, str):
            return f"masks that do not fit: {self.regions}"
        return removed(self.regions, self.companion, self.objects.keys[self.companion])

    @cached_property
    def all_objects(self) -> Mask:
        assert isinstance(self.regions, Regions)
        return self.regions.of(self.companion) | self._others

    @cached_property
    def _others(self) -> Mask:
        assert isinstance(self.regions, Regions)
        return other_objects(self.regions, self.companion)

    @cached_property
    def control(self) -> Mask | str:
        region, regions = self.removed, self.regions
        if isinstance(region, str) or isinstance(regions, str):
            return str(region)
        rng = np.random.default_rng([self.seed, zlib.crc32(self.image_id.encode()), self.companion])
        taken = regions.of(self.companion) | region | regions.beside(self.companion)
        way = place_control(region, taken, rng)
        if way is None:
            return "no room for a control: objects are everywhere"
        return moved(region, *way) & ~self._others


_LATEST = threading.local()


def _latest_place(*where: Any) -> _Place:
    """Return a place. Each thread remembers its latest: fills and controls of an image follow each other."""
    if getattr(_LATEST, "where", None) != where:
        _LATEST.where, _LATEST.place = where, _Place(*where)
    place: _Place = _LATEST.place
    return place


def removed(regions: Regions, companion: int, key: str) -> Mask | str:
    """Return the pixels to fill in order to remove a class, or the reason why it cannot be removed.

    Parameters
    ----------
    regions : Regions
    companion : int
    key : str
        Key of the class.
    """
    there = regions.of(companion)
    if not there.any():
        outside = [why for why in regions.skipped if why.startswith(f"{key}: ")]
        return f"no box in the image: {'; '.join(outside) or f'{key} has no object'}"
    region = regions.boxes_of(companion) & ~other_objects(regions, companion)
    removed_share = np.count_nonzero(region & there) / np.count_nonzero(there)
    if removed_share < MIN_REMOVED:
        return f"hidden by other objects: {1 - removed_share:.0%} of the object would remain"
    if region.mean() > MAX_FILLED:
        return f"it fills the image: {region.mean():.0%} of the image would be covered"
    return region


def other_objects(regions: Regions, companion: int) -> Mask:
    """Return the pixels of other objects. Boxes without a mask exclude the known pixels of the class."""
    there = np.zeros(regions.shape, bool)
    boxes = np.zeros(regions.shape, bool)
    own = np.zeros(regions.shape, bool)
    for region in regions.objects:
        exact = region.known_by != "box"
        if region.class_id == companion:
            own |= region.mask & exact
        else:
            (there if exact else boxes)[region.mask] = True
    return there | (boxes & ~own)


def filled(pixels: Pixels, region: Mask, fill: str, objects: Mask) -> Pixels:
    """Return a copy of an image with a region filled.

    Inpainting uses only the background, if there is any, because the colours of adjacent objects would run
    into the region and dissolve the outlines of these objects.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)
    region : ndarray of bool, shape (height, width)
    fill : str
        One of `FILLS`.
    objects : ndarray of bool, shape (height, width)
        The pixels of all objects.

    Raises
    ------
    MissingExtraError
        If OpenCV, which inpainting needs, is not installed.
    """
    if fill == "inpaint":
        return _inpainted(pixels, region, objects)
    found = pixels.copy()
    found[region] = GREY
    return found


def _inpainted(pixels: Pixels, region: Mask, objects: Mask) -> Pixels:
    cv2 = required("cv2", "Inpainting", '"manyhot[diagnose]"')
    unknown = region | objects
    if unknown.mean() > MAX_FILLED:
        unknown = region
    painted = cv2.inpaint(np.ascontiguousarray(pixels), unknown.astype(np.uint8), _RADIUS, cv2.INPAINT_TELEA)
    return np.where(region[:, :, None], painted, pixels)


def fingerprint(objects: Objects) -> str:
    """Return a hash of objects and their masks, as 16 hexadecimal digits."""
    sink = pa.BufferOutputStream()
    table = objects.table.replace_schema_metadata().combine_chunks()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    masks = (image.encode() + _bytes(mask) for image, mask in sorted(objects.semantic.items()))
    return digest([objects.class_hash.encode(), sink.getvalue().to_pybytes(), *masks])


def _bytes(mask: bytes | Path) -> bytes:
    try:
        return mask.read_bytes() if isinstance(mask, Path) else mask
    except OSError:  # reported for each image that has it
        return b""


def digest(parts: Iterable[bytes]) -> str:
    """Return a hash of parts, as 16 hexadecimal digits."""
    found = hashlib.sha256()
    for part in parts:
        found.update(hashlib.sha256(part).digest())
    return found.hexdigest()[:16]


LARGEST_SHARE = 0.5
"""The largest share of an object, or of the image, that pasted objects may cover."""

_SPANS = 0.99
"""Share of the width or height from which an object extends from border to border."""


@dataclass(frozen=True, eq=False)
class Cutting:
    """An object that was cut out.

    Attributes
    ----------
    image_id : str
        Id of the image that it was cut out of.
    pixels : ndarray of uint8, shape (height, width, 3)
    mask : ndarray of bool, shape (height, width)
        Pixels of the object.
    centre : (float, float)
        Centre of the object, as fractions of the width and height of the image.
    size : (float, float)
        Width and height of the object, as fractions of the width and height of the image.
    """

    image_id: str
    pixels: Pixels
    mask: Mask
    centre: tuple[float, float]
    size: tuple[float, float]


def cuttings(objects: Objects, class_id: int, image_id: str, pixels: Pixels) -> list[Cutting]:
    """Return the objects of a class in an image, without ignored objects."""
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
class _FromDonors:
    """An `Alteration` of some images that shows objects of other images in them."""

    objects: Objects = field(repr=False)
    cuttings: Sequence[Cutting] = field(repr=False)
    images: frozenset[str] = field(repr=False)

    @cached_property
    def _donors(self) -> Sequence[Sequence[Cutting]]:
        """The objects of each image that objects were cut out of."""
        donors: dict[str, list[Cutting]] = {}
        for cutting in self.cuttings:
            donors.setdefault(cutting.image_id, []).append(cutting)
        return [*donors.values()]

    def _digest(self, patches: Sequence[Pixels] = ()) -> str:
        donors = (c.image_id.encode() + c.pixels.tobytes() + c.mask.tobytes() for c in self.cuttings)
        return digest((*donors, *(p.tobytes() for p in patches), *map(str.encode, sorted(self.images))))

    def wants(self, image_id: str) -> bool:
        """Return whether an image is altered."""
        return image_id in self.images


@dataclass(frozen=True, eq=False)
class Pasting(_FromDonors):
    """An `Alteration` that pastes the objects of another image into each image.

    The choice of the other image depends on the id of the image and on the seed. All its objects are pasted,
    such as the four boxes of a frame, or two balls. Each object is pasted at its original place and size, as
    fractions of the image. It keeps its aspect ratio, unless it extends from border to border, as a frame or
    a band does.

    Attributes
    ----------
    objects : Objects
        Objects of the images. No more than half of an object may be covered.
    images : frozenset of str
        Ids of the images to alter.
    fill : str
        If it is one of `FILLS`, the places of the objects are filled with it, and nothing is pasted.
    """

    seed: int = 0
    fill: str = ""

    @property
    def key(self) -> str:
        """A text that differs between alterations that result in different pixels."""
        return f"pasting {self.fill or 'all objects of a donor'} {self.seed} {self._digest()}"

    def __call__(self, image_id: str, pixels: Pixels) -> Pixels | str:
        """Return the image with the objects, or the reason why they cannot be pasted."""
        height, width = pixels.shape[:2]
        rng = np.random.default_rng([self.seed, zlib.crc32(image_id.encode())])
        found, there = pixels.copy(), np.zeros((height, width), bool)
        for cutting in self._donors[int(rng.integers(len(self._donors)))]:
            made, own = at_its_place(cutting, width, height)
            found[own] = made[own]
            there |= own
        regions = find_regions(self.objects, image_id, width, height)
        covered = () if isinstance(regions, str) else [r.mask for r in regions.objects]
        if there.mean() > LARGEST_SHARE:
            return "it would cover most of the image"
        if any((mask & there).sum() > LARGEST_SHARE * mask.sum() for mask in covered):
            return "it would cover another object"
        return filled(pixels, there, self.fill, there) if self.fill else found


def at_its_place(cutting: Cutting, width: int, height: int) -> tuple[Pixels, Mask]:
    """Return an object at its place in an image of this size, and which pixels are its own."""
    pil = required("PIL.Image", "Pasting objects")
    high, wide = cutting.mask.shape
    across, down = cutting.size[0] * width / wide, cutting.size[1] * height / high
    if max(cutting.size) < _SPANS:
        across = down = min(across, down)
    to = (max(round(wide * across), 1), max(round(high * down), 1))
    picture, mask = pil.fromarray(cutting.pixels), pil.fromarray(cutting.mask)
    if to != (wide, high):
        picture, mask = picture.resize(to), mask.resize(to, pil.Resampling.NEAREST)
    place = [round(c * n - t / 2) for c, n, t in zip(cutting.centre, (width, height), to, strict=True)]
    canvas, there = pil.new("RGB", (width, height)), pil.new("1", (width, height))
    canvas.paste(picture, tuple(place))
    there.paste(mask, tuple(place))
    return np.asarray(canvas), np.asarray(there)


OWN, OTHER, PATCH = "own", "other", "patch"
"""What an `Exchange` shows: the companion of the image itself, of another image, or none."""


@dataclass(frozen=True, eq=False)
class Exchange(_FromDonors):
    """An `Alteration` that shows a companion, or a patch of other content in its place.

    Two regions of the image are covered with the same regions of a photograph that does not show the
    companion: the region of the image's own companion, if it has one, and the region of a donor's companion.
    Then the image's own companion is put back (``own``), the donor's companion is pasted (``other``), or
    neither is shown (``patch``). The three versions of an image thus differ only in the companion.

    Attributes
    ----------
    cuttings : sequence of Cutting
        Companions of the donors.
    patches : sequence of ndarray of uint8, shape (height, width, 3)
        Photographs without the companion.
    images : frozenset of str
        Ids of the images to alter.
    """

    companion: int
    patches: Sequence[Pixels] = field(repr=False)
    shown: str
    seed: int = 0

    @property
    def key(self) -> str:
        """A text that differs between alterations that result in different pixels."""
        return f"exchange {self.companion} {self.shown} {self.seed} {self._digest(self.patches)}"

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
