"""Batches of augmented images, decoded and cropped by threads; the same seed gives the same ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import RandomResizedCrop
from torchvision.transforms.v2 import functional as F

from manyhot.models import Preprocessing, Source
from manyhot.models.decode import decode
from manyhot.train.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Loader:
    """Batches of a training set.

    Attributes
    ----------
    data : sequence of bytes
        Of the images, by row.
    recipe : Recipe
    preprocessing : Preprocessing
    """

    data: Sequence[bytes]
    recipe: Recipe
    preprocessing: Preprocessing

    @property
    def steps(self) -> int:
        """Batches of an epoch; what is left over at its end is not shown in it."""
        return max(1, len(self.data) // self.recipe.batch)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch from a step on: images, uint8 of shape (n, 3, h, w), and rows."""
        order = np.random.default_rng([self.recipe.seed, epoch]).permutation(len(self.data))
        with ThreadPoolExecutor() as pool:
            for step in range(first, self.steps):
                rows = order[step * self.recipe.batch :][: self.recipe.batch]
                images = pool.map(lambda row: self._image(int(row), epoch), rows)
                yield torch.stack(list(images)), torch.from_numpy(rows)

    def _image(self, row: int, epoch: int) -> Tensor:
        pixels = decode(self.data[row])
        assert not isinstance(pixels, str)
        if self.recipe.augment == "none":
            return self.preprocessing(pixels)
        rng = np.random.default_rng([self.recipe.seed, epoch, row])
        if self.recipe.augment == "crop":
            torch.manual_seed(int(rng.integers(2**62)))
            pixels = RandomResizedCrop(
                self.preprocessing.size,
                (self.recipe.least_area, 1.0),
                interpolation=InterpolationMode.BILINEAR,
            )(pixels)
        else:
            pixels = self.preprocessing(pixels)
        mirrored: Tensor = F.horizontal_flip(pixels) if rng.random() < 0.5 else pixels
        return mirrored


def read_images(source: Source, wanted: dict[str, int]) -> dict[int, bytes]:
    """Return the bytes of images by row; those that are not wanted are not read."""
    found = {}
    for part in source.parts:
        for item, opener in part.items():
            if item.image_id in wanted:
                data = opener()
                assert isinstance(data, bytes)
                found[wanted[item.image_id]] = data
    return found
