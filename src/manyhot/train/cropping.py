"""Random crops: functions of the seed, the epoch and the row of an image; cut before they are resized."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from manyhot.models import Preprocessing

ASPECTS = (3 / 4, 4 / 3)
_TRIES = 10


class View(NamedTuple):
    """Part of an image.

    Attributes
    ----------
    pixels : torch.Tensor of uint8, shape (3, h, w)
    box : (float, float, float, float)
        Left, top, right and bottom, as shares of the image.
    """

    pixels: Tensor
    box: tuple[float, float, float, float]


def random_box(rng: np.random.Generator, height: int, width: int, least: float) -> tuple[int, int, int, int]:
    """Draw top, left, height and width of a crop.

    Szegedy et al. 2015, as torchvision's ``RandomResizedCrop`` draws it: an area from `least` to 1 of the
    image, and a ratio of width to height from 3/4 to 4/3 whose logarithm is uniform; after ten that do not
    fit, the largest crop in the middle of a ratio that does.
    """
    low, high = map(math.log, ASPECTS)
    for share, at in rng.random((_TRIES, 2)).tolist():
        area = (share * (1 - least) + least) * height * width
        ratio = math.exp(at * (high - low) + low)
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    ratio = min(max(width / height, ASPECTS[0]), ASPECTS[1])
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    return (height - h) // 2, (width - w) // 2, h, w


def cropped(pixels: Tensor, at: tuple[int, int, int, int], size: tuple[int, int]) -> View:
    """Return a crop at the size of the network: cut first, so that nothing else is resized."""
    (top, left, h, w), (height, width) = at, pixels.shape[1:]
    cut = pixels[None, :, top : top + h, left : left + w]
    # Decoded pixels lie channel by channel of a pixel; so laid out the resize takes half the time.
    cut = cut.contiguous(memory_format=torch.channels_last)
    # As torchvision's resize calls it, which looks at more before.
    resized = F.interpolate(cut, size, mode="bilinear", antialias=True)
    return View(resized[0], (left / width, top / height, (left + w) / width, (top + h) / height))


def centred(pixels: Tensor, preprocessing: Preprocessing) -> View:
    """Return an image as the network sees it when it predicts."""
    height, width = pixels.shape[1:]
    (h, w), (top, left) = preprocessing.window(height, width)
    box = (left / w, top / h, (left + preprocessing.size[1]) / w, (top + preprocessing.size[0]) / h)
    return View(preprocessing(pixels), (max(box[0], 0), max(box[1], 0), min(box[2], 1), min(box[3], 1)))
