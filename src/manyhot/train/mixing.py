"""Mixup and cutmix: each image with the next one of its lane, each in its own share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from manyhot.train.orders import Plan
from manyhot.train.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Mix:
    """How the n images of a batch are mixed.

    Attributes
    ----------
    order : torch.Tensor of int64, shape (n,)
        The image that each one is mixed with.
    share : torch.Tensor of float32, shape (n,)
        Of the image itself: exactly, whatever a box lost at the border.
    boxes : torch.Tensor of int64, shape (n, 4)
        Top, left, bottom and right, in pixels, of what is pasted on; empty where images are blended.
    """

    order: Tensor
    share: Tensor
    boxes: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Return mixed images, float of shape (n, 3, h, w)."""
        device = images.device
        return torch.lerp(images[self.order.to(device)], images, self._weight(*images.shape[2:]).to(device))

    def _weight(self, height: int, width: int) -> Tensor:
        """Return the share of each pixel that is the image's own, shape (n, 1, h, w)."""
        top, left, bottom, right = self.boxes.T[:, :, None, None]
        y, x = torch.arange(height)[:, None], torch.arange(width)
        pasted = (top <= y) & (y < bottom) & (left <= x) & (x < right)
        cut = (self.boxes[:, 2] > self.boxes[:, 0])[:, None, None]
        share = torch.where(cut, 1 - pasted.float(), self.share[:, None, None].expand(pasted.shape))
        return share[:, None]


def drawn(recipe: Recipe, plan: Plan, epoch: int, step: int, size: tuple[int, int]) -> Mix | None:
    """Draw how a batch is mixed; None where it is not.

    Zhang et al. 2018 (https://doi.org/10.48550/arXiv.1710.09412); Yun et al. 2019, section 3.2
    (https://doi.org/10.1109/ICCV.2019.00612). Both draw one share a batch, here each image has its own.
    """
    if not recipe.mixup and not recipe.cutmix:
        return None
    rng = np.random.default_rng([recipe.seed, epoch, step, 1])
    n, (height, width) = plan.batch, size
    coin = rng.random(n) < 0.5
    cuts = coin if recipe.mixup and recipe.cutmix else np.full(n, recipe.cutmix > 0)
    share = np.where(cuts, *(rng.beta(a, a, n) if a else np.ones(n) for a in (recipe.cutmix, recipe.mixup)))
    half = np.sqrt(1 - share)[:, None] * (height / 2, width / 2)
    middle = rng.random((n, 2)) * size
    corners = [np.clip(np.round(middle + sign * half), 0, size) for sign in (-1, 1)]
    boxes = np.concatenate(corners, 1).astype(np.int64) * cuts[:, None]
    pasted = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / (height * width)
    share = np.where(cuts, 1 - pasted, share).astype(np.float32)
    # A box of a row without a column is none.
    boxes[pasted == 0] = 0
    own = slice(plan.rank, None, plan.world)
    order = torch.arange(plan.own).roll(-plan.own_lanes)
    return Mix(order, torch.from_numpy(share[own]), torch.from_numpy(boxes[own]))
