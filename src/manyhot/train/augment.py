"""Augmentation of batches (mixup, CutMix) and of images (RandAugment, 3-Augment, colour jitter).

Mixing pairs each image with the next one of its lane. The policies use torchvision's operations on images of
Pillow, which take a quarter of the time of tensors. Random numbers come from one generator per image:
torchvision's own classes draw from PyTorch's generator, which threads share, so that the same seed would give
different images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import ImageFilter, ImageOps
from PIL.Image import Image, fromarray
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from manyhot.train.devices import on_device
from manyhot.train.order import BatchPlan
from manyhot.train.recipe import MAGNITUDES, Recipe


@dataclass(frozen=True, eq=False)
class Mix:
    """The mixing of the n images of a batch.

    Attributes
    ----------
    order : torch.Tensor of int64, shape (n,)
        Index of the image with which each image is mixed.
    share : torch.Tensor of float32, shape (n,)
        Exact share of the image itself in the mixture, even if the box is cut off at the border.
    boxes : torch.Tensor of int64, shape (n, 4)
        Top, left, bottom and right of the pasted box, in pixels. The box is empty if images are blended.
    """

    order: Tensor
    share: Tensor
    boxes: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Return mixed images, float of shape (n, 3, h, w)."""
        there = self.to(images.device)
        return torch.lerp(images[there.order], images, there._weight(*images.shape[2:]))

    def to(self, device: torch.device) -> Mix:
        """Return the mixing on another device."""
        return Mix(*(on_device(value, device) for value in (self.order, self.share, self.boxes)))

    def _weight(self, height: int, width: int) -> Tensor:
        """Return the share of each pixel that is the image's own, shape (n, 1, h, w), on the same device."""
        device = self.boxes.device
        top, left, bottom, right = self.boxes.T[:, :, None, None]
        y, x = torch.arange(height, device=device)[:, None], torch.arange(width, device=device)
        pasted = (top <= y) & (y < bottom) & (left <= x) & (x < right)
        cut = (self.boxes[:, 2] > self.boxes[:, 0])[:, None, None]
        share = torch.where(cut, 1 - pasted.float(), self.share[:, None, None].expand(pasted.shape))
        return share[:, None]


def drawn(recipe: Recipe, plan: BatchPlan, epoch: int, step: int, size: tuple[int, int]) -> Mix | None:
    """Draw how the images of a batch are mixed, or return None if the recipe does not mix images.

    Images are mixed by mixup (Zhang et al. 2018, https://doi.org/10.48550/arXiv.1710.09412) or CutMix (Yun et
    al. 2019, section 3.2, https://doi.org/10.1109/ICCV.2019.00612). Both papers draw one share per batch,
    whereas each image has its own share here.
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
    # A box without width or height is empty.
    boxes[pasted == 0] = 0
    own = slice(plan.rank, None, plan.world)
    order = torch.arange(plan.own).roll(-plan.own_lanes)
    return Mix(order, torch.from_numpy(share[own]), torch.from_numpy(boxes[own]))


Operation = Callable[[Image, float], Image]
"""Maps an image and a strength to an image."""


def augmented(pixels: Tensor, recipe: Recipe, rng: np.random.Generator) -> Tensor:
    """Return an image with the augmentation of a recipe. The state of `rng` advances.

    Parameters
    ----------
    pixels : torch.Tensor of uint8, shape (3, h, w)
    recipe : Recipe
    rng : numpy.random.Generator
        Random generator for this image in this epoch.
    """
    image = fromarray(pixels.permute(1, 2, 0).numpy())
    if recipe.policy == "rand-augment":
        image = rand_augment(image, rng, recipe.operations, recipe.magnitude)
    elif recipe.policy == "3-augment":
        image = three_augment(image, rng)
    if recipe.jitter:
        image = jittered(image, rng, recipe.jitter)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def rand_augment(image: Image, rng: np.random.Generator, operations: int, magnitude: float) -> Image:
    """Apply operations that are drawn with replacement from fourteen, all with the same strength.

    The method is RandAugment (Cubuk et al. 2020, arXiv 1909.13719) with the operations and ranges of
    torchvision's ``RandAugment``. The `magnitude` is between 0 and 30. Operations with a sign get a random
    sign. Pixels from outside the image are black.
    """
    for which in rng.integers(len(OPERATIONS), size=operations):
        strength, operation = OPERATIONS[list(OPERATIONS)[which]]
        signed = strength(magnitude / MAGNITUDES)
        image = operation(image, signed if rng.random() < 0.5 else -signed)
    return image


def three_augment(image: Image, rng: np.random.Generator) -> Image:
    """Make an image grey, solarise it from 128 up, or blur it with σ from 0.1 to 2 pixels, at random.

    The three operations are equally likely. They are the 3-Augment of DeiT III (Touvron et al. 2022, arXiv
    2204.07118), a recipe that also jitters colours by 0.3.
    """
    which = rng.integers(3)
    if which == 0:
        return image.convert("L").convert("RGB")
    if which == 1:
        return ImageOps.solarize(image)
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.1, 2.0)))


def jittered(image: Image, rng: np.random.Generator, most: float) -> Image:
    """Multiply brightness, contrast and saturation by random factors, in a random order.

    The factors are between 1 - `most` and 1 + `most`, as in torchvision's ``ColorJitter``.
    """
    factors = rng.uniform(max(0.0, 1 - most), 1 + most, 3)
    adjust = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)
    for i in rng.permutation(3):
        image = adjust[i](image, float(factors[i]))
    return image


def _moved(image: Image, **how: object) -> Image:
    still = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    moved: Image = F.affine(image, **{**still, **how})
    return moved


def _sheared(image: Image, x: float, y: float) -> Image:
    shear = [math.degrees(math.atan(s)) for s in (x, y)]
    return _moved(image, shear=shear, center=[0, 0])


def _translated(image: Image, x: float, y: float) -> Image:
    width, height = image.size
    return _moved(image, translate=[int(x * width), int(y * height)])


def _up_to(most: float) -> Callable[[float], float]:
    return lambda share: most * share


def _no_strength(share: float) -> float:
    return 0.0


OPERATIONS: dict[str, tuple[Callable[[float], float], Operation]] = {
    "Identity": (_no_strength, lambda x, _: x),
    "ShearX": (_up_to(0.3), lambda x, s: _sheared(x, s, 0.0)),
    "ShearY": (_up_to(0.3), lambda x, s: _sheared(x, 0.0, s)),
    "TranslateX": (_up_to(150 / 331), lambda x, s: _translated(x, s, 0.0)),
    "TranslateY": (_up_to(150 / 331), lambda x, s: _translated(x, 0.0, s)),
    "Rotate": (_up_to(30.0), lambda x, s: F.rotate(x, s)),
    "Brightness": (_up_to(0.9), lambda x, s: F.adjust_brightness(x, 1 + s)),
    "Color": (_up_to(0.9), lambda x, s: F.adjust_saturation(x, 1 + s)),
    "Contrast": (_up_to(0.9), lambda x, s: F.adjust_contrast(x, 1 + s)),
    "Sharpness": (_up_to(0.9), lambda x, s: F.adjust_sharpness(x, 1 + s)),
    "Posterize": (_up_to(4.0), lambda x, s: F.posterize(x, round(8 - abs(s)))),
    "Solarize": (_up_to(1.0), lambda x, s: F.solarize(x, 255 * (1 - abs(s)))),
    "AutoContrast": (_no_strength, lambda x, _: F.autocontrast(x)),
    "Equalize": (_no_strength, lambda x, _: F.equalize(x)),
}
"""Operations by torchvision's names: the strength at a share of the largest magnitude, and the function.

Operations with one sign take the absolute value.
"""
