"""Companions of whole images, such as a tint or a blur: their average change of colours and sharpness.

An object can be cut out and pasted. What covers the whole image cannot, but it changes the average colour and
the amplitudes of all frequencies. Images without the companion are changed as much, and images with it back,
as in Fourier domain adaptation (Yang and Soatto 2020, https://doi.org/10.1109/CVPR42600.2020.00414), but for
all frequencies, with the averages of many images, and with cosine transforms, which have no borders.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from manyhot.core.array_types import Floats
from manyhot.diagnose.pixels.removal import Pixels

_EDGES = 2.0 ** np.arange(-1.5, 10, 0.5)
"""Bands of frequencies, in cycles per shorter side of the image: half octaves."""

_MAX_GAIN = 8.0
"""The most by which an amplitude is multiplied: what a blur removed is noise, which must not be amplified."""


@dataclass(frozen=True, eq=False)
class Look:
    """The average look of images.

    Attributes
    ----------
    mean : ndarray of float, shape (3,)
        Mean of each channel, from 0 to 255.
    amplitude : ndarray of float, shape (bands, 3)
        Mean logarithm of the amplitudes in each band; NaN for bands that no image has.
    """

    mean: Floats
    amplitude: Floats

    @classmethod
    def of(cls, images: Iterable[Pixels]) -> Look:
        """Return the average over images."""
        looks = [_look(pixels.astype(np.float64)) for pixels in images]
        bands = np.stack([amplitude for _, amplitude in looks])
        known = ~np.isnan(bands)
        with np.errstate(invalid="ignore"):
            amplitude = np.where(known, bands, 0).sum(0) / known.sum(0)
        return cls(np.mean([mean for mean, _ in looks], axis=0), amplitude)


@dataclass(frozen=True, eq=False)
class LookChange:
    """An `Alteration` that changes images as one average look differs from another.

    Attributes
    ----------
    before, after : Look
    images : frozenset of str
        Ids of the images to alter.
    """

    before: Look
    after: Look
    images: frozenset[str] = field(repr=False)

    @property
    def key(self) -> str:
        """What distinguishes its pixels from others."""
        numbers = [array for look in (self.before, self.after) for array in (look.mean, look.amplitude)]
        parts = (*(a.tobytes() for a in numbers), *map(str.encode, sorted(self.images)))
        return f"look {hashlib.sha256(b'/'.join(parts)).hexdigest()[:16]}"

    def wants(self, image_id: str) -> bool:
        """Return whether an image is altered."""
        return image_id in self.images

    def __call__(self, image_id: str, pixels: Pixels) -> Pixels:
        """Return the image with another look."""
        from scipy.fft import idctn

        frequency, coefficients, mean = _transformed(pixels.astype(np.float64))
        ratio = self.after.amplitude - self.before.amplitude
        known = ~np.isnan(ratio).any(axis=1)
        centres = np.log2(_EDGES[:-1])[known] + 0.25
        at = np.log2(np.maximum(frequency, _EDGES[0]))
        gain = np.stack([np.exp(np.interp(at, centres, own)) for own in ratio[known].T], axis=2)
        gain = np.minimum(gain, _MAX_GAIN)
        shift = self.after.mean + gain[0, 0] * (mean - self.before.mean)
        made = idctn(coefficients * gain, axes=(0, 1), norm="ortho") + shift
        return np.asarray(np.rint(made.clip(0, 255)), np.uint8)


def _transformed(pixels: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the frequency of each coefficient, the coefficients, and the mean of each channel."""
    from scipy.fft import dctn

    h, w = pixels.shape[:2]
    mean = pixels.mean(axis=(0, 1))
    down, aside = (np.arange(n) / 2 * min(h, w) / n for n in (h, w))
    return np.hypot(down[:, None], aside), dctn(pixels - mean, axes=(0, 1), norm="ortho"), mean


def _look(pixels: Floats) -> tuple[Floats, Floats]:
    frequency, coefficients, mean = _transformed(pixels)
    band = (np.digitize(frequency, _EDGES) - 1).ravel()
    inside = (band >= 0) & (frequency.ravel() > 0) & (band < len(_EDGES) - 1)
    size = np.log(np.abs(coefficients).reshape(-1, 3) + 1e-3)
    counts = np.bincount(band[inside], minlength=len(_EDGES) - 1)
    sums = [np.bincount(band[inside], own[inside], len(_EDGES) - 1) for own in size.T]
    with np.errstate(invalid="ignore", divide="ignore"):
        return mean, np.stack(sums, axis=1) / counts[:, None]
