"""Whether two images show the same picture: one is aligned with the other, and details are compared.

Images are small greyscale squares. A frame says which part of the moving image lies under the fixed one: the
place of its left edge and its width, and of its upper edge and its height, as shares of the moving image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from manyhot.core.array_types import Bools, Floats32

GREY_SIDE = 32
"""Pixels of each side of a small image. With 64, the same copies of photographs are found, in eight times the
time."""

Frames = npt.NDArray[np.float32]
GreyImages = npt.NDArray[np.uint8 | np.float32]
"""Grey levels from 0 to 255, shape (n, GREY_SIDE, GREY_SIDE)."""

_STEPS, _LARGEST_STEP = 12, 0.05
_DAMPING = 0.01
_BLUR = 1.0
_DETAIL, _NEIGHBOURHOOD = 1.5, 3.0
_NOISE = 4.0
"""Grey levels below which details are noise, such as that of JPEG."""

_AT_ONCE, _PIXELS = 2_000, GREY_SIDE**2


@dataclass(frozen=True, eq=False)
class ImageAlignment:
    """How pairs of images fit.

    Attributes
    ----------
    frames : ndarray of float32, shape (m, 4)
        The part of the moving image that is under the fixed image.
    similarity : ndarray of float32, shape (m,)
        Correlation of the details of both images where they overlap, from -1 to 1.
    overlap : ndarray of float32, shape (m,)
        Share of the union of both images that is in both images.
    """

    frames: Frames
    similarity: Floats32
    overlap: Floats32


def align_images(moving: GreyImages, fixed: GreyImages, frames: Frames) -> ImageAlignment:
    """Align each moving image with the fixed image, starting from a frame, and compare their details.

    Parameters
    ----------
    moving, fixed : ndarray of uint8 or float32, shape (m, GREY_SIDE, GREY_SIDE)
        Grey levels from 0 to 255.
    frames : ndarray of float32, shape (m, 4)
        The frames to start from.

    Notes
    -----
    The inverse compositional algorithm minimises the squared difference of the blurred images, each with mean
    0 and norm 1, over position and size. Details are the part of an image that a blur of 1.5 pixels removes.
    They are divided by their local root mean square, so that the outline of an object does not count more
    than a plain background. Otherwise, any two dark aeroplanes in the sky would be similar.

    References
    ----------
    Baker and Matthews 2004, Lucas-Kanade 20 Years On, doi 10.1023/B:VISI.0000011205.11775.fd, section 3.2.
    """
    parts = [
        _align(*(np.asarray(a[start : start + _AT_ONCE], np.float32) for a in (moving, fixed, frames)))
        for start in range(0, len(frames), _AT_ONCE)
    ] or [_align(*(np.asarray(a, np.float32) for a in (moving, fixed, frames)))]
    return ImageAlignment(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("frames", "similarity", "overlap")
        )
    )


def _align(moving: Floats32, fixed: Floats32, frames: Frames) -> ImageAlignment:
    frames = _minimised(_blurred(moving, _BLUR), _blurred(fixed, _BLUR), frames)
    warped, inside = _warped(moving, frames)
    correlation = (_unit(_details(warped), inside) * _unit(_details(fixed), inside)).sum(axis=(1, 2))
    return ImageAlignment(frames, correlation, _overlap(frames))


def resampling(frames: Floats32) -> Floats32:
    """Return the matrices that resample rows of pixels linearly, shape (m, GREY_SIDE, GREY_SIDE).

    Parameters
    ----------
    frames : ndarray of float32, shape (m, 2)
        Start and length of the part of each row, as shares. Pixels beyond an end repeat the last pixel at
        this end.
    """
    position = frames[:, :1] + frames[:, 1:] * _CENTRES
    pixel = np.clip(position * GREY_SIDE - 0.5, 0, GREY_SIDE - 1)
    weights: Floats32 = np.maximum(0, 1 - np.abs(pixel[..., None] - np.arange(GREY_SIDE, dtype=np.float32)))
    return weights


_CENTRES = ((np.arange(GREY_SIDE) + 0.5) / GREY_SIDE).astype(np.float32)


def _warped(moving: Floats32, frames: Frames) -> tuple[Floats32, Floats32]:
    """Return the part of each moving image, and 1 where it is inside the image and 0 elsewhere."""
    across, down = resampling(frames[:, :2]), resampling(frames[:, 2:])
    within = [
        (np.abs(frames[:, i : i + 1] + frames[:, i + 1 : i + 2] * _CENTRES - 0.5) <= 0.5) for i in (0, 2)
    ]
    inside = within[1][:, :, None] & within[0][:, None, :]
    warped = down @ moving @ across.transpose(0, 2, 1)
    return np.asarray(warped, np.float32), inside.astype(np.float32)


def _unit(images: Floats32, inside: Floats32) -> Floats32:
    """Return images with mean 0 and norm 1 inside, and 0 elsewhere."""
    n = np.maximum(inside.sum(axis=(1, 2), keepdims=True), 1)
    centred = (images - (images * inside).sum(axis=(1, 2), keepdims=True) / n) * inside
    norm = np.sqrt((centred * centred).sum(axis=(1, 2), keepdims=True))
    unit: Floats32 = centred / np.maximum(norm, np.float32(1e-3))
    return unit


def _minimised(moving: Floats32, fixed: Floats32, frames: Frames) -> Frames:
    """Return the frames of the smallest squared difference near the first ones."""
    everywhere = np.ones_like(fixed)
    target = _unit(fixed, everywhere)
    down, across = (np.gradient(target, axis=axis) * GREY_SIDE for axis in (1, 2))
    slopes = np.stack([across, across * _CENTRES, down, down * _CENTRES[:, None]], axis=1)
    slopes = slopes.reshape(len(fixed), 4, _PIXELS)
    curvature = slopes @ slopes.transpose(0, 2, 1)
    scale = np.maximum(np.trace(curvature, axis1=1, axis2=2) / 4, 1e-6)
    inverse = np.linalg.inv(curvature + (_DAMPING * scale)[:, None, None] * np.eye(4, dtype=np.float32))
    for _ in range(_STEPS):
        warped, inside = _warped(moving, frames)
        difference = _unit(warped, inside) - target * inside
        step = inverse @ (slopes @ difference.reshape(len(fixed), _PIXELS, 1))
        frames = _composed(frames, np.clip(step[:, :, 0], -_LARGEST_STEP, _LARGEST_STEP))
    return frames


def _composed(frames: Frames, step: Frames) -> Frames:
    """Return the frames after the inverse of a step: start and growth, in shares of the fixed image."""
    start, size = frames[:, ::2], frames[:, 1::2]
    moved, grown = step[:, ::2], 1 + step[:, 1::2]
    new = np.empty_like(frames)
    new[:, ::2], new[:, 1::2] = start - size * moved / grown, size / grown
    return new


def _details(images: Floats32) -> Floats32:
    details = images - _blurred(images, _DETAIL)
    nearby = _blurred(details * details, _NEIGHBOURHOOD)
    return np.asarray(details / np.sqrt(nearby + np.float32(_NOISE**2)), np.float32)


def _blurred(images: Floats32, sigma: float) -> Floats32:
    blurred: Floats32 = gaussian_filter(images, (0, sigma, sigma), mode="nearest", truncate=3)
    return blurred


def _overlap(frames: Frames) -> Floats32:
    """Return the share of the union of both images that both show."""
    ends = [(np.maximum(frames[:, i], 0), np.minimum(frames[:, i] + frames[:, i + 1], 1)) for i in (0, 2)]
    both = np.prod([np.maximum(stop - start, 0) for start, stop in ends], axis=0)
    either = 1 + frames[:, 1] * frames[:, 3] - both
    overlap: Floats32 = (both / np.maximum(either, 1e-6)).astype(np.float32)
    return overlap


def are_same(alignment: ImageAlignment, min_similarity: float) -> Bools:
    """Return which pairs show the same picture.

    Position and size were chosen to make a pair similar. If one image shows more than the other, the
    similarity of the pair must therefore be higher by `_MARGIN`, and the overlap must be at least
    `MIN_OVERLAP`.
    """
    margin = np.where(alignment.overlap >= _WHOLE, 0, _MARGIN)
    same: Bools = (alignment.similarity >= min_similarity + margin) & (alignment.overlap >= MIN_OVERLAP)
    return same


MIN_OVERLAP, _WHOLE, _MARGIN = 0.5, 0.9, 0.05
"""Copies of which a tenth of the width and height was cut off have a similarity of 0.9 or more, and pairs of
different images 0.6 or less, but for one with 0.78."""
