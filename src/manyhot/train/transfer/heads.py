"""What is put on feature maps, and the loop that fits it."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from manyhot.errors import InputError
from manyhot.train.transfer.features import Backbone, Maps

_WARMUP = 0.5  # Epochs.
_CLIP = 10.0  # Norm of the gradient.

Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]
Progress = Callable[[int, int, float], None]
"""Called with how many epochs are done, how many there are, and the mean loss of the last."""


class Pyramid(nn.Module):
    """A feature pyramid over the maps of a backbone, with as many channels at each stride.

    A backbone of one stride alone, such as a plain transformer, gets the others from its last map: one of
    half the stride by a transposed convolution, one of twice the stride by pooling.

    References
    ----------
    Lin et al. 2017, Feature pyramid networks, doi 10.1109/CVPR.2017.106; Li et al. 2022, Exploring plain
    vision transformer backbones for object detection, doi 10.1007/978-3-031-20077-9_17, section 3.
    """

    def __init__(self, backbone: Backbone, channels: int) -> None:
        super().__init__()
        given = backbone.channels
        strides: tuple[float, ...] = backbone.strides
        self.simple = len(given) == 1
        if self.simple:
            self.up = nn.ConvTranspose2d(given[0], given[0], 2, 2)
            given, strides = given * 3, (strides[0] / 2, strides[0], strides[0] * 2)
        self.strides = strides
        self.fpn = FeaturePyramidNetwork(list(given), channels)
        self.out_channels = channels

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return a map a stride, finest first."""
        if self.simple:
            last = maps[0]
            maps = [self.up(last), last, nn.functional.max_pool2d(last, 2, ceil_mode=True)]
        return list(self.fpn(OrderedDict((str(i), m) for i, m in enumerate(maps))).values())


class Feed(Protocol):
    """Gives the maps of images: computed before, or by a backbone that is trained, too."""

    @property
    def trained(self) -> nn.Module | None:
        """The backbone, where it is trained."""
        ...

    def __call__(self, rows: Ints, mirrored: Bools) -> list[Tensor]:
        """Return maps of some images, as they are or mirrored."""
        ...


class Cached:
    """Maps that were computed before."""

    trained = None

    def __init__(self, maps: Maps) -> None:
        self.maps = maps

    def __call__(self, rows: Ints, mirrored: Bools) -> list[Tensor]:
        """Return maps of some images, as they are or mirrored."""
        return self.maps.batch(rows, mirrored)


class Live:
    """Maps of a backbone that is trained, too."""

    def __init__(self, backbone: Backbone, images: Callable[[Ints], Tensor]) -> None:
        self.trained, self.images = backbone, images

    def __call__(self, rows: Ints, mirrored: Bools) -> list[Tensor]:
        """Return maps of some images, as they are or mirrored."""
        images = self.images(rows)
        turned = torch.from_numpy(mirrored)
        images[turned] = images[turned].flip(-1)
        maps: list[Tensor] = self.trained(self.trained.normalised(images))
        return maps


Module = TypeVar("Module", bound=nn.Module)


def laid_out(module: Module) -> Module:
    """Return a module with its weights in the order that convolutions on CPUs are fastest in."""
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


def fit_head(
    head: nn.Module,
    loss: Callable[[list[Tensor], Ints, Bools], Tensor],
    feed: Feed,
    rows: Ints,
    settings: Any,
    seed: int,
    progress: Progress | None = None,
) -> None:
    """Fit a head, and the backbone where it is trained, to images, half of them mirrored by chance.

    Parameters
    ----------
    head : nn.Module
    loss : callable
        From maps, and the rows of the images and which are mirrored, to a mean over the images.
    feed : Feed
    rows : ndarray of int, shape (n,)
        The images to fit on.
    settings
        `Detection` or `Segmentation`.
    seed : int
        Of the order and of mirroring.
    progress : callable, optional

    Raises
    ------
    InputError
        The loss is no number.
    """
    groups = [{"params": list(head.parameters()), "lr": settings.lr}]
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
        for batch, mirrored in _batches(rows, settings.batch, seed, epoch):
            value = loss(feed(batch, mirrored), batch, mirrored)
            if not torch.isfinite(value):
                raise InputError(
                    "The loss of the head is no number.",
                    got=f"{value.item()} in epoch {epoch + 1}",
                    do="choose a smaller lr",
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


def _batches(rows: Ints, size: int, seed: int, epoch: int) -> Iterator[tuple[Ints, Bools]]:
    """Yield rows of the batches of an epoch, and which are mirrored; what is left over is not shown."""
    rng = np.random.default_rng([seed, epoch])
    order, mirrored = rng.permutation(rows), rng.random(len(rows)) < 0.5
    for start in range(0, max(1, len(rows) // size) * size, size):
        # In the order of the files: what is next to each other is read at once.
        part = np.argsort(order[start : start + size], kind="stable") + start
        yield order[part], mirrored[part]


def _rate(done: float, epochs: int) -> float:
    warm = min(1.0, done / _WARMUP + 1e-2)
    return warm * 0.5 * (1 + math.cos(math.pi * min(done / epochs, 1.0)))
