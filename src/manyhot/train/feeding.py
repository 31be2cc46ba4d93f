"""What a step is computed on: images as the network takes them, or features that were computed before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from manyhot.models import Preprocessing
from manyhot.train.loading import Batch, Loader
from manyhot.train.mixing import Mix, drawn
from manyhot.train.orders import Plan
from manyhot.train.recipe import Recipe


class Fed(NamedTuple):
    """A batch on the device.

    Attributes
    ----------
    x : torch.Tensor
        What the trained part of the network takes.
    batch : Batch
        Rows, boxes and, where there are any, the images as they were cropped.
    mix : Mix, optional
    """

    x: Tensor
    batch: Batch
    mix: Mix | None


class Feed(Protocol):
    """Batches of an epoch."""

    @property
    def plan(self) -> Plan:
        """How they are cut."""
        ...

    def epoch(self, epoch: int, first: int) -> Iterator[Fed]:
        """Yield the batches of this process from a step on."""
        ...


_BLOCK = 1 << 16
# Numbers that are computed at once: they stay in the cache of the processor.


class Normalise:
    """Bytes to what a network takes, on its device and in the order of memory that is fastest there."""

    def __init__(self, preprocessing: Preprocessing, device: Any) -> None:
        self.device = device
        # (x / 255 - mean) / std, in one multiplication and one addition.
        self.scale = torch.tensor([1 / (255 * s) for s in preprocessing.std], device=device).view(1, 3, 1, 1)
        pairs = zip(preprocessing.mean, preprocessing.std, strict=True)
        self.shift = torch.tensor([-m / s for m, s in pairs], device=device).view(1, 3, 1, 1)
        self._out: Tensor | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Return images, uint8 of shape (n, 3, h, w), as float32; on a CPU the next call overwrites them."""
        if self.device.type == "cpu":
            return self._by_blocks(images)
        there = images.to(self.device, non_blocking=True)
        return there.to(torch.float32, memory_format=torch.channels_last).mul_(self.scale).add_(self.shift)

    def _by_blocks(self, images: Tensor) -> Tensor:
        """Do it block by block, into memory that was used before: a fifth of the time.

        By NumPy, in one thread: those of PyTorch would wait in busy loops for cores that decode.
        """
        if self._out is None or self._out.shape != images.shape:
            self._out = torch.empty(images.shape).contiguous(memory_format=torch.channels_last)
        width = images.shape[3]
        scale, shift = (channel.view(3).repeat(width).numpy() for channel in (self.scale, self.shift))
        seen, out = (
            a.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).view(-1, 3 * width).numpy()
            for a in (images, self._out)
        )
        rows = max(1, _BLOCK // (3 * width))
        for start in range(0, len(seen), rows):
            part = out[start : start + rows]
            np.multiply(seen[start : start + rows], scale, out=part, dtype=np.float32)
            np.add(part, shift, out=part)
        return self._out


@dataclass(frozen=True, eq=False)
class ImageFeed:
    """Images: decoded, cropped, normalised and mixed."""

    loader: Loader
    recipe: Recipe
    normalise: Normalise

    @property
    def plan(self) -> Plan:
        """How batches are cut."""
        return self.loader.plan

    def epoch(self, epoch: int, first: int) -> Iterator[Fed]:
        """Yield the batches of this process from a step on."""
        for step, batch in enumerate(self.loader.epoch(epoch, first), first):
            x = self.normalise(batch.images)
            mix = drawn(self.recipe, self.plan, epoch, step, (x.shape[2], x.shape[3]))
            yield Fed(x if mix is None else mix(x), batch, mix)


@dataclass(frozen=True, eq=False)
class FeatureFeed:
    """Features of images and of their mirror images.

    Attributes
    ----------
    features : ndarray of float16 or float32, shape (n, views, …)
    rows : ndarray of int64, shape (n,)
        Of each in the labels.
    at : ndarray of int64, shape (m,)
        Those of images that could be decoded.
    """

    features: npt.NDArray[Any]
    rows: npt.NDArray[np.int64]
    at: npt.NDArray[np.int64]
    plan: Plan
    device: Any

    def epoch(self, epoch: int, first: int) -> Iterator[Fed]:
        """Yield the batches of this process from a step on."""
        rng = np.random.default_rng([self.plan.seed, epoch])
        order = self.at[rng.permutation(len(self.at))]
        mirrored = rng.random(len(order)) < 0.5 if self.features.shape[1] == 2 else np.zeros(len(order), bool)
        for step in range(first, self.plan.steps):
            own = slice(
                step * self.plan.batch + self.plan.rank, (step + 1) * self.plan.batch, self.plan.world
            )
            at, flips = order[own], mirrored[own]
            x = as_input(self.features[at, flips.astype(np.intp)], self.device)
            boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(len(at), 4)
            batch = Batch(x, torch.from_numpy(self.rows[at]), boxes, torch.from_numpy(flips))
            yield Fed(x, batch, None)


def as_input(features: npt.NDArray[Any], device: Any) -> Tensor:
    """Return features as the trained part of a network takes them."""
    x = torch.from_numpy(features).to(device).float()
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
