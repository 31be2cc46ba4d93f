"""Anchors of single-shot detectors, and the boxes that such a detector predicts relative to them.

References
----------
W. Liu et al. SSD: Single Shot MultiBox Detector. ECCV 2016, arXiv 1512.02325, section 2.2.
MediaPipe, ``SsdAnchorsCalculator`` and ``TfLiteTensorsToDetectionsCalculator``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Floats

_LOWEST = 0.1
"""Scale of the first anchor of the lowest layer, which has three anchors instead of six."""


@dataclass(frozen=True)
class AnchorLayout:
    """The layers of a single-shot detector.

    Attributes
    ----------
    side : int
        Side of the input, in pixels.
    strides : tuple of int
        Distance between anchors in each layer, in pixels, starting with the lowest layer.
    scales : tuple of float
        Side of the anchors in the lowest and the highest layer, as a share of the input. The scales of the
        layers in between are evenly spaced.
    ratios : tuple of float
        Width divided by height.
    """

    side: int = 300
    strides: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    scales: tuple[float, float] = (0.2, 0.95)
    ratios: tuple[float, ...] = (1.0, 2.0, 0.5, 3.0, 0.3333)

    def anchors(self) -> Floats:
        """Return the centre and the size of each anchor, as y, x, height and width, shape (n, 4).

        All values are shares of the input. The lowest layer has three anchors at each location. Every other
        layer has one anchor per ratio, and a square anchor whose scale is between the scales of this layer
        and the next.
        """
        return np.concatenate([self._layer(*layer) for layer in self._shapes()])

    def _shapes(self) -> Iterator[tuple[int, list[tuple[float, float]]]]:
        """Yield the stride of each layer, and the ratio and the scale of its anchors."""
        scales = [*np.linspace(*self.scales, len(self.strides)).tolist(), 1.0]
        for i, stride in enumerate(self.strides):
            own, following = scales[i], scales[i + 1]
            if i == 0:
                yield stride, [(1.0, _LOWEST), (2.0, own), (0.5, own)]
            else:
                yield stride, [*((ratio, own) for ratio in self.ratios), (1.0, math.sqrt(own * following))]

    def _layer(self, stride: int, shapes: Sequence[tuple[float, float]]) -> Floats:
        cells = math.ceil(self.side / stride)
        centre = (np.arange(cells) + 0.5) / cells
        sizes = np.array([(scale / math.sqrt(ratio), scale * math.sqrt(ratio)) for ratio, scale in shapes])
        y, x, shape = np.meshgrid(centre, centre, np.arange(len(shapes)), indexing="ij")
        placed: Floats = np.concatenate([np.stack([y, x], -1), sizes[shape]], axis=-1)
        return placed.reshape(-1, 4)


BOX_SCALES = (10.0, 10.0, 5.0, 5.0)
"""By what the predicted centre and size are divided, in the order y, x, height, width."""


def boxes_from_anchors(offsets: npt.ArrayLike, anchors: Floats) -> Floats:
    """Return boxes as left, top, right and bottom, clipped to the image, shape (n, 4).

    Parameters
    ----------
    offsets : array-like of float, shape (n, 4)
        Centre y and x, and the logarithms of height and width, all relative to the size of the anchor and
        multiplied by `BOX_SCALES`.
    anchors : ndarray of float, shape (n, 4)
        See `AnchorLayout.anchors`.
    """
    scaled = np.asarray(offsets, np.float64) / BOX_SCALES
    centre = scaled[:, :2] * anchors[:, 2:] + anchors[:, :2]
    half = np.exp(scaled[:, 2:]) * anchors[:, 2:] / 2
    corners = np.concatenate([centre - half, centre + half], axis=1)[:, [1, 0, 3, 2]]
    boxes: Floats = np.clip(corners, 0, 1)
    return boxes
