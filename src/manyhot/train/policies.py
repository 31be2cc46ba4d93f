"""Policies that alter crops beyond cutting and mirroring: RandAugment, 3-Augment, jittered colours.

The operations are torchvision's, on images of Pillow: a crop is altered in a quarter of the time that tensors
take. What is drawn comes from a generator of each image: torchvision's own classes draw from PyTorch's, which
threads share, so that the same seed would give other images.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import ImageFilter, ImageOps
from PIL.Image import Image, fromarray
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from manyhot.train.recipe import MAGNITUDES, Recipe

Operation = Callable[[Image, float], Image]
"""From an image and a strength to an image."""


def altered(pixels: Tensor, recipe: Recipe, rng: np.random.Generator) -> Tensor:
    """Return an image altered as a recipe asks; `rng` is read on.

    Parameters
    ----------
    pixels : torch.Tensor of uint8, shape (3, h, w)
    recipe : Recipe
    rng : numpy.random.Generator
        Of this image in this epoch.
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
    """Apply some of fourteen operations, drawn with replacement, all as strong.

    Cubuk et al. 2020 (arXiv 1909.13719), as torchvision's ``RandAugment`` has it: its operations and ranges,
    with `magnitude` from 0 to 30, and either sign of those that have one. What comes in from outside is
    black.
    """
    for which in rng.integers(len(OPERATIONS), size=operations):
        strength, operation = OPERATIONS[list(OPERATIONS)[which]]
        signed = strength(magnitude / MAGNITUDES)
        image = operation(image, signed if rng.random() < 0.5 else -signed)
    return image


def three_augment(image: Image, rng: np.random.Generator) -> Image:
    """Make an image grey, solarise it from 128 up, or blur it by σ from 0.1 to 2 pixels, each as often.

    Touvron et al. 2022 (DeiT III, arXiv 2204.07118), whose recipe jitters colours by 0.3 besides.
    """
    which = rng.integers(3)
    if which == 0:
        return image.convert("L").convert("RGB")
    if which == 1:
        return ImageOps.solarize(image)
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.1, 2.0)))


def jittered(image: Image, rng: np.random.Generator, most: float) -> Image:
    """Multiply brightness, contrast and saturation by 1 - `most` to 1 + `most`, in a random order.

    As torchvision's ``ColorJitter``.
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
"""By torchvision's names: the strength at a share of the largest magnitude, and what it does.

Those of one sign take the absolute value.
"""
