"""The inputs of a step: preprocessed images, or precomputed features.

Features are the output of the layers that are not trained, computed once for each image and its mirror image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy import typing as npt
from torch import Tensor

from manyhot.files import atomic_write, write_text
from manyhot.predict.network import Preprocessing
from manyhot.predict.sources import ImageReader
from manyhot.train.augment import Mix, drawn
from manyhot.train.batches import Batch, Loader, centred_view, decoders, opened
from manyhot.train.order import BatchPlan
from manyhot.train.recipe import Recipe

_BLOCK = 1 << 16  # Values that are normalised at a time.
_BATCH = 32  # Images whose features are computed at a time.


class Fed(NamedTuple):
    """A batch on the device.

    Attributes
    ----------
    x : torch.Tensor
        Input of the trained part of the network.
    batch : Batch
        Rows, boxes and, if there are any, the cropped images.
    mix : Mix, optional
    """

    x: Tensor
    batch: Batch
    mix: Mix | None


class Normalise:
    """Normalises images for a network, on its device and in the fastest memory layout."""

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
        """Normalise block by block, into reused memory, in a fifth of the time.

        With NumPy, in one thread: PyTorch's threads would wait in busy loops for cores that decode.
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


def copied(batches: Iterable[Batch], device: torch.device) -> Iterator[tuple[Batch, Tensor]]:
    """Yield batches, and their images on a device.

    On a GPU, images are copied in a separate stream, while the network computes the previous step. The images
    must be in pinned memory.
    """
    if device.type != "cuda":
        yield from ((batch, batch.images.to(device)) for batch in batches)
        return
    stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    main = torch.cuda.current_stream(device)
    for batch in batches:
        with torch.cuda.stream(stream):
            images = batch.images.to(device, non_blocking=True)
        main.wait_stream(stream)
        images.record_stream(main)  # or the next copy could overwrite them before they are used
        yield batch, images


@dataclass(frozen=True, eq=False)
class ImageFeed:
    """Images: decoded, cropped, normalised and mixed."""

    loader: Loader
    recipe: Recipe
    normalise: Normalise

    @property
    def plan(self) -> BatchPlan:
        """The plan of the batches."""
        return self.loader.plan

    def epoch(self, epoch: int, first: int) -> Iterator[Fed]:
        """Yield the batches of this process, starting with step `first`."""
        batches = copied(self.loader.epoch(epoch, first), self.normalise.device)
        for step, (batch, images) in enumerate(batches, first):
            x = self.normalise(images)
            mix = drawn(self.recipe, self.plan, epoch, step, (x.shape[2], x.shape[3]))
            yield Fed(x if mix is None else mix(x), batch, mix)


@dataclass(frozen=True, eq=False)
class FeatureFeed:
    """Features of images and of their mirror images.

    Attributes
    ----------
    features : ndarray of float16 or float32, shape (n, views, …)
    rows : ndarray of int64, shape (n,)
        Rows in the labels.
    at : ndarray of int64, shape (m,)
        Indices of images that could be decoded.
    """

    features: npt.NDArray[Any]
    rows: npt.NDArray[np.int64]
    at: npt.NDArray[np.int64]
    plan: BatchPlan
    device: Any

    def epoch(self, epoch: int, first: int) -> Iterator[Fed]:
        """Yield the batches of this process, starting with step `first`."""
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


InputFeed = ImageFeed | FeatureFeed
"""Batches of an epoch."""


def as_input(features: npt.NDArray[Any], device: Any) -> Tensor:
    """Return features as a tensor that the trained part takes as input."""
    x = torch.from_numpy(features).to(device).float()
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def computed(
    openers: Sequence[ImageReader],
    preprocessing: Preprocessing,
    compute: Callable[[Tensor], Tensor],
    path: Path,
    views: int,
    half: bool,
    on_progress: Callable[[int], None],
) -> tuple[npt.NDArray[Any], list[str]]:
    """Return the features of images, loaded from an earlier run if possible, and why some are missing.

    Parameters
    ----------
    openers : sequence of ImageReader
    preprocessing : Preprocessing
    compute : callable
        Maps images, uint8 of shape (n, 3, h, w), to features of shape (n, …).
    path : Path
        The file of the features, without ``.npy``. Its name must identify everything that the features depend
        on.
    views : int
        1, or 2 to include mirror images.
    half : bool
        Whether to store the features in half precision.
    on_progress : callable
        Called with the number of images that are done.

    Returns
    -------
    features : ndarray of float16 or float32, shape (n, views, …)
        The features, memory-mapped. Rows of unreadable images are 0.
    reasons : list of str
        The reason for each missing image; empty for images that could be decoded.
    """
    array, text = path.with_suffix(".npy"), path.with_suffix(".txt")
    if not array.is_file() or not text.is_file():
        reasons: list[str] = []
        with atomic_write(array) as part:
            out: Any = None
            for images, why in _batches(openers, preprocessing):
                found = [compute(images.flip(3) if view else images).float().cpu() for view in range(views)]
                rows = torch.stack(found, 1).numpy()
                if out is None:
                    shape = (len(openers), *rows.shape[1:])
                    kind = np.float16 if half else np.float32
                    # With open_memmap's mode for writing; the name of the part does not end in .npy.
                    out = np.lib.format.open_memmap(part, "w+", kind, shape)
                out[len(reasons) : len(reasons) + len(rows)] = rows
                reasons += why
                on_progress(len(reasons))
            out.flush()
        write_text(text, "\n".join(reasons))
    reasons = text.read_text(encoding="utf-8").split("\n")
    return np.load(array, mmap_mode="r"), reasons


def _batches(
    openers: Sequence[ImageReader], preprocessing: Preprocessing
) -> Iterator[tuple[Tensor, list[str]]]:
    def seen(opener: ImageReader) -> Tensor | str:
        pixels = opened(opener)
        return pixels if isinstance(pixels, str) else centred_view(pixels, preprocessing).pixels

    nothing = torch.zeros((3, *preprocessing.size), dtype=torch.uint8)
    with decoders() as pool:
        for start in range(0, len(openers), _BATCH):
            made = list(pool.map(seen, openers[start : start + _BATCH]))
            reasons = [m.replace("\n", " ") if isinstance(m, str) else "" for m in made]
            yield torch.stack([nothing if isinstance(m, str) else m for m in made]), reasons


def key_of(before: Mapping[str, Tensor], *about: object) -> str:
    """Return the key of features: a hash of the weights that compute them, and of all other inputs."""
    key = hashlib.sha256(repr(about).encode())
    for name, value in before.items():
        key.update(name.encode())
        key.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return key.hexdigest()[:16]
