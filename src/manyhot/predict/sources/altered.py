"""Sources derived from a source: with altered pixels (objects removed, noise added), or fewer images."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy import typing as npt

from manyhot.predict.decode import decode
from manyhot.predict.sources.source import ImageReader, ImageSource, Item, SourcePart, short_hash

if TYPE_CHECKING:
    from torch import Tensor


Pixels = npt.NDArray[np.uint8]


class Alteration(Protocol):
    """A change to each image. Several threads call it at once."""

    @property
    def key(self) -> str:
        """Differs if the resulting pixels differ."""
        ...

    def wants(self, image_id: str) -> bool:
        """Return whether an image is altered; others are left out silently."""
        ...

    def __call__(self, image_id: str, pixels: Pixels) -> Pixels | str:
        """Return the altered pixels; or the reason why there are none, with which the image is skipped.

        Parameters
        ----------
        image_id : str
        pixels : ndarray of uint8, shape (height, width, 3)
            RGB, upright; must not be changed in place.
        """
        ...


def alter_images(source: ImageSource, alteration: Alteration) -> ImageSource:
    """Return a source whose images are altered while they are read.

    Parameters
    ----------
    source : ImageSource
    alteration : Alteration
    """
    parts = tuple(_AlteredPart(part, alteration) for part in source.parts)
    return ImageSource(source.uri, parts, source.strict)


@dataclass(frozen=True)
class _AlteredPart:
    part: SourcePart
    alteration: Alteration

    @property
    def name(self) -> str:
        return self.part.name

    @property
    def n(self) -> int | None:
        return None  # known only after reading

    def items(self) -> Iterator[tuple[Item, ImageReader]]:
        for item, read in self.part.items():
            if self.alteration.wants(item.image_id):
                yield item, functools.partial(_altered, item, read, self.alteration)

    def key(self) -> str:
        return f"{self.part.key()} {self.alteration.key}"


def _altered(item: Item, read: ImageReader, alteration: Alteration) -> Tensor | str:
    import torch

    data = read()
    image = decode(data) if isinstance(data, bytes) else data
    if isinstance(image, str):
        return image
    made = alteration(item.image_id, image.permute(1, 2, 0).numpy())
    if isinstance(made, str):
        return made
    return torch.from_numpy(np.ascontiguousarray(made)).permute(2, 0, 1).contiguous()


def select_images(source: ImageSource, ids: Collection[str]) -> ImageSource:
    """Return a source of some images only, without its labels.

    Other images are not read.
    """
    wanted = frozenset(ids)
    key = short_hash(sorted(wanted))
    return ImageSource(source.uri, tuple(_ChosenPart(part, wanted, key) for part in source.parts))


@dataclass(frozen=True)
class _ChosenPart:
    part: SourcePart
    ids: frozenset[str]
    mark: str

    @property
    def name(self) -> str:
        return self.part.name

    @property
    def n(self) -> int | None:
        return None  # known only after reading

    def items(self) -> Iterator[tuple[Item, ImageReader]]:
        for item, read in self.part.items():
            if item.image_id in self.ids:
                yield replace(item, label=None), read

    def key(self) -> str:
        return f"{self.part.key()} {self.mark}"
