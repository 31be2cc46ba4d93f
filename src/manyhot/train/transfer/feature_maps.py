"""Feature maps of a backbone, and the loop that fits heads to them.

If the backbone is not trained, its maps are computed once and read from the disk (`CachedMaps`).
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy import typing as npt
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.transforms.v2 import functional as F

from manyhot.errors import InputError
from manyhot.predict.network import Network
from manyhot.train.transfer.methods import DetectionSettings, SegmentationSettings

STRIDES = (8, 16, 32)
"""The strides of the maps that are used, in pixels of the image."""

_BATCH = 32  # Images whose maps are computed at once.
_WARMUP = 0.5  # Epochs.
_CLIP = 10.0  # Norm of the gradient.

Indices = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]
OnEpoch = Callable[[int, int, float], None]
"""Called with the number of epochs done, of all epochs, and the mean loss of the last."""


class Backbone(nn.Module):
    """A network without its classifier, which computes feature maps of one or several strides.

    Attributes
    ----------
    network : nn.Module
        A network of timm.
    preprocessing : Preprocessing
        Whole images, resized to its square.
    layers : tuple of str
        Layers whose output is used.
    strides, channels : tuple of int
        Strides and numbers of channels of the maps.
    """

    def __init__(self, network: Network, size: int | None = None) -> None:
        super().__init__()
        self.network = copy.deepcopy(timm_inside(network))
        sides = (size, size) if size else network.preprocessing.size
        self.preprocessing = replace(network.preprocessing, size=sides, scale=sides, mode="squash")
        if size and hasattr(self.network, "set_input_size"):
            self.network.set_input_size(img_size=(size, size))
        self._indices, self.layers, self.strides, self.channels = _chosen(self.network)

    @property
    def description(self) -> str:
        """Description of the layers and the size of images, for a note."""
        layers = (f"{name} (stride {s})" for name, s in zip(self.layers, self.strides, strict=True))
        return f"{', '.join(layers)}, {self.preprocessing.size[0]} pixels"

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return one map per stride, each of shape (n, channels, height, width)."""
        maps: list[Tensor] = self.network.forward_intermediates(
            images, indices=self._indices, norm=len(self.strides) == 1, intermediates_only=True
        )
        return maps

    def normalised(self, images: Tensor) -> Tensor:
        """Return images of bytes, normalised as the network requires."""
        mean, std = (
            images.new_tensor(v, dtype=torch.float32).view(1, 3, 1, 1)
            for v in (self.preprocessing.mean, self.preprocessing.std)
        )
        return ((images / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def timm_inside(network: Network) -> Any:
    """Return the part of a network that computes feature maps.

    Raises
    ------
    InputError
        If the network has no feature maps.
    """
    modules = [] if network.module is None else network.module.modules()
    found = next((m for m in modules if hasattr(m, "forward_intermediates")), None)
    if found is None:
        raise InputError(
            "This backbone has no feature maps.",
            got=network.name,
            allowed="a timm network, or one trained by manyhot",
            do="use the method knn, probe, few-shot or multilabel",
        )
    return found


def _chosen(module: Any) -> tuple[list[int], tuple[str, ...], tuple[int, ...], tuple[int, ...]]:
    """Return the indices of the used intermediate layers, their names, strides and channels.

    The last layer for each of `STRIDES`; for a plain transformer, the last layer.
    """
    info = module.feature_info
    layers = info if isinstance(info, list) else info.get_dicts()
    by_stride = {entry["reduction"]: i for i, entry in enumerate(layers)}
    indices = [by_stride[s] for s in STRIDES if s in by_stride] if len(by_stride) > 1 else [len(layers) - 1]
    used = [layers[i] for i in indices]
    names, strides, channels = (tuple(e[key] for e in used) for key in ("module", "reduction", "num_chs"))
    return indices, names, strides, channels


@dataclass(frozen=True, eq=False)
class CachedMaps:
    """Precomputed maps of images and of their mirror images, stored on disk.

    Attributes
    ----------
    levels : list of ndarray of float16, shape (n, 2, channels, height, width)
        One array per stride, with two maps per image: the map of the image, then the map of its mirror image.
    """

    levels: list[npt.NDArray[np.float16]]
    trained = None

    def __call__(self, rows: Indices, mirrored: Bools) -> list[Tensor]:
        """Return maps of some images, mirrored or not."""
        maps = (torch.from_numpy(level[rows, mirrored.astype(int)]).float() for level in self.levels)
        return [m.contiguous(memory_format=torch.channels_last) for m in maps]


def compute_maps(
    backbone: Backbone,
    images: Iterable[Tensor],
    n: int,
    folder: Path,
    both: npt.NDArray[np.bool_],
    progress: Callable[[int, int], None] | None = None,
) -> CachedMaps:
    """Compute the maps of images.

    Parameters
    ----------
    images : iterable of torch.Tensor of uint8, shape (3, height, width)
    n : int
        Number of images.
    folder : Path
        Folder to which files are written, with 2 bytes per value.
    both : ndarray of bool, shape (n,)
        Whether the map of the mirror image is also computed.
    progress : callable, optional
        Called with the number of images done and the number of all images.
    """
    levels: list[npt.NDArray[np.float16]] = []
    start = 0
    with torch.inference_mode():
        for batch in _batches(images):
            here = both[start : start + len(batch)]
            computed = backbone.eval()(
                backbone.normalised(torch.cat([batch, F.horizontal_flip(batch[here])]))
            )
            if not levels:
                levels = [_file(folder / f"{i}.npy", n, m.shape[1:]) for i, m in enumerate(computed)]
            for level, maps in zip(levels, computed, strict=True):
                half = maps.half().numpy()
                level[start : start + len(batch), 0] = half[: len(batch)]
                level[np.flatnonzero(here) + start, 1] = half[len(batch) :]
            start += len(batch)
            if progress:
                progress(start, n)
    return CachedMaps(levels)


def _batches(images: Iterable[Tensor]) -> Iterator[Tensor]:
    held: list[Tensor] = []
    for image in images:
        held.append(image)
        if len(held) == _BATCH:
            yield torch.stack(held)
            held = []
    if held:
        yield torch.stack(held)


def _file(path: Path, n: int, shape: Any) -> npt.NDArray[np.float16]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return np.lib.format.open_memmap(path, "w+", np.float16, (n, 2, *shape))


class Pyramid(nn.Module):
    """A feature pyramid over the maps of a backbone, with the same number of channels at each stride.

    A backbone with a single stride, such as a plain transformer, gets two more maps from its last one: one of
    half the stride by a transposed convolution, and one of twice the stride by pooling.

    References
    ----------
    Lin et al. 2017, Feature pyramid networks, doi 10.1109/CVPR.2017.106.
    Li et al. 2022, Exploring plain vision transformer backbones for object detection, section 3,
    doi 10.1007/978-3-031-20077-9_17.
    """

    def __init__(self, backbone: Backbone, channels: int) -> None:
        super().__init__()
        widths = backbone.channels
        strides: tuple[float, ...] = backbone.strides
        self.simple = len(widths) == 1
        if self.simple:
            self.up = nn.ConvTranspose2d(widths[0], widths[0], 2, 2)
            widths, strides = widths * 3, (strides[0] / 2, strides[0], strides[0] * 2)
        self.strides = strides
        self.fpn = FeaturePyramidNetwork(list(widths), channels)
        self.out_channels = channels

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return one map per stride, finest first."""
        if self.simple:
            last = maps[0]
            maps = [self.up(last), last, nn.functional.max_pool2d(last, 2, ceil_mode=True)]
        return list(self.fpn(OrderedDict((str(i), m) for i, m in enumerate(maps))).values())


class LiveMaps:
    """Maps of a backbone that is also trained."""

    def __init__(self, backbone: Backbone, images: Callable[[Indices], Tensor]) -> None:
        self.trained, self.images = backbone, images

    def __call__(self, rows: Indices, mirrored: Bools) -> list[Tensor]:
        """Return maps of some images, mirrored or not."""
        images = self.images(rows)
        turned = torch.from_numpy(mirrored)
        images[turned] = images[turned].flip(-1)
        maps: list[Tensor] = self.trained(self.trained.normalised(images))
        return maps


MapFeed = CachedMaps | LiveMaps
"""Maps of images, precomputed or computed by a backbone that is trained (`trained`)."""

Module = TypeVar("Module", bound=nn.Module)


def laid_out(module: Module) -> Module:
    """Return a module with its weights in the memory layout that is fastest for convolutions on CPUs."""
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


def fit_head(
    head: nn.Module,
    loss: Callable[[list[Tensor], Indices, Bools], Tensor],
    feed: MapFeed,
    rows: Indices,
    settings: DetectionSettings | SegmentationSettings,
    seed: int,
    progress: OnEpoch | None = None,
) -> None:
    """Fit a head, and the backbone if it is trained, to images. A random half of the images is mirrored.

    Parameters
    ----------
    loss : callable
        Function of the maps, the rows of the images, and whether each is mirrored. It returns a mean over
        images.
    rows : ndarray of int, shape (n,)
        The images to fit on.
    seed : int
        Seed for the order and the mirroring.
    progress : callable, optional

    Raises
    ------
    InputError
        If the loss is not finite.
    """
    groups: list[dict[str, Any]] = [{"params": list(head.parameters()), "lr": settings.lr}]
    if feed.trained is not None:
        backbone = [p for p in feed.trained.parameters() if p.requires_grad]
        groups.append({"params": backbone, "lr": settings.lr * settings.backbone_lr})
    optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    steps = max(1, len(rows) // settings.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: _rate(s / steps, settings.epochs))
    for module in (head, feed.trained):
        _ = module is not None and module.train()
    for epoch in range(settings.epochs):
        total = 0.0
        for batch, mirrored in _head_batches(rows, settings.batch, seed, epoch):
            value = loss(feed(batch, mirrored), batch, mirrored)
            if not torch.isfinite(value):
                raise InputError(
                    "The loss of the head is not finite.",
                    got=f"{value.item()} in epoch {epoch + 1}",
                    do="choose a smaller `lr`",
                )
            optimiser.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_([p for g in groups for p in g["params"]], _CLIP)
            optimiser.step()
            schedule.step()
            total += value.item()
        if progress:
            progress(epoch + 1, settings.epochs, total / steps)
    for module in (head, feed.trained):
        _ = module is not None and module.eval()


def _head_batches(rows: Indices, size: int, seed: int, epoch: int) -> Iterator[tuple[Indices, Bools]]:
    """Yield rows of the batches of an epoch, and which are mirrored; the remainder is dropped."""
    rng = np.random.default_rng([seed, epoch])
    order, mirrored = rng.permutation(rows), rng.random(len(rows)) < 0.5
    for start in range(0, max(1, len(rows) // size) * size, size):
        # In the order of the files: what is next to each other is read at once.
        part = np.argsort(order[start : start + size], kind="stable") + start
        yield order[part], mirrored[part]


def head_outputs(head: nn.Module, feed: MapFeed, rows: Indices) -> Iterator[tuple[int, Any]]:
    """Yield the rows of images, with the output of a fitted head for each."""
    for start in range(0, len(rows), _BATCH):
        part = rows[start : start + _BATCH]
        with torch.inference_mode():
            found = head(feed(part, np.zeros(len(part), bool)))
        yield from zip(part.tolist(), found, strict=True)


def _rate(done: float, epochs: int) -> float:
    warm = min(1.0, done / _WARMUP + 1e-2)
    return warm * 0.5 * (1 + math.cos(math.pi * min(done / epochs, 1.0)))
