"""A light head that predicts the class of each pixel from the maps of a backbone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from manyhot.core.detection import VOID, pixel_counts
from manyhot.train.transfer.feature_maps import (
    Backbone,
    Bools,
    Indices,
    MapFeed,
    OnEpoch,
    Pyramid,
    fit_head,
    laid_out,
)
from manyhot.train.transfer.methods import SegmentationSettings

_Mask = npt.NDArray[np.uint8]


class Segmenter(nn.Module):
    """The sum of a feature pyramid at its finest stride, a convolution, and a class a cell.

    References
    ----------
    Kirillov et al. 2019, Panoptic feature pyramid networks, doi 10.1109/CVPR.2019.00656, figure 3, with one
    convolution after the sum instead of one for each doubling before it.
    """

    def __init__(self, backbone: Backbone, n_classes: int, channels: int) -> None:
        super().__init__()
        self.pyramid = Pyramid(backbone, channels)
        self.mix = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.classify = nn.Conv2d(channels, n_classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return logits at the finest stride, shape (n, C, height, width)."""
        finest, *others = self.pyramid(maps)
        for level in others:
            finest = finest + F.interpolate(level, finest.shape[2:], mode="bilinear", align_corners=False)
        logits: Tensor = self.classify(self.mix(finest))
        return logits


def fit_segmenter(
    backbone: Backbone,
    feed: MapFeed,
    rows: Indices,
    masks: Sequence[_Mask],
    n_classes: int,
    settings: SegmentationSettings,
    seed: int,
    progress: OnEpoch | None = None,
) -> Segmenter:
    """Fit a head to masks.

    Parameters
    ----------
    backbone : Backbone
    feed : MapFeed
    rows : ndarray of int, shape (n,)
        The images to fit on.
    masks : sequence of ndarray of uint8
        By row, each with the size of its image; `VOID` does not count.
    n_classes : int
        Including the background.
    settings : SegmentationSettings
    seed : int
        Seed of initial weights, order and mirroring.
    progress : callable, optional
    """
    torch.manual_seed(seed)
    head = laid_out(Segmenter(backbone, n_classes, settings.channels))
    side = backbone.preprocessing.size[0] // 4
    small = torch.stack([_resized(mask, side) for mask in masks])

    def loss(maps: list[Tensor], batch: Indices, mirrored: Bools) -> Tensor:
        targets = small[torch.from_numpy(batch)].long()
        turned = torch.from_numpy(mirrored)
        targets[turned] = targets[turned].flip(-1)
        logits = F.interpolate(head(maps), (side, side), mode="bilinear", align_corners=False)
        # A batch of void alone has no mean.
        summed = F.cross_entropy(logits, targets, ignore_index=VOID, reduction="sum")
        return summed / (targets != VOID).sum().clamp(min=1)

    fit_head(head, loss, feed, rows, settings, seed, progress)
    return head


def _resized(mask: _Mask, side: int) -> Tensor:
    image = torch.from_numpy(mask)[None, None]
    resized: Tensor = F.interpolate(image, (side, side), mode="nearest-exact")[0, 0]
    return resized


def count_pixels(
    head: Segmenter, feed: MapFeed, rows: Indices, masks: Sequence[_Mask], n_classes: int, batch: int = 32
) -> npt.NDArray[np.int64]:
    """Return what `manyhot.core.detection.pixel_counts` does of images, shape (n, 3, C).

    Each at the size of its own mask.
    """
    counts = []
    with torch.inference_mode():
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            logits = head(feed(part, np.zeros(len(part), bool)))
            for row, coarse in zip(part, logits, strict=True):
                mask = masks[row]
                full = F.interpolate(coarse[None], mask.shape, mode="bilinear", align_corners=False)
                counts.append(pixel_counts(mask, full[0].argmax(0).numpy(), n_classes))
    return np.array(counts, np.int64).reshape(-1, 3, n_classes)
