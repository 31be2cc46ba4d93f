"""Corrupted images: the fifteen kinds of ImageNet-C at five severities, made on the fly.

The pixels are those of imagecorruptions-imaug. As in ImageNet-C, an image is resized to a short side of 256,
cropped to the 224 pixels in its centre and then corrupted, whatever model will see it.

References
----------
Hendrycks & Dietterich 2019, arXiv 1903.12261; ``ImageNet-C/create_c/make_imagenet_c.py`` of
hendrycks/robustness @ e0377d46.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import threading
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import AnyFloats
from manyhot.errors import InputError, MissingExtraError, UnknownNameError, did_you_mean

Bytes = npt.NDArray[np.uint8]

KINDS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""The kinds of ImageNet-C: noise, blur, weather, digital."""

CLEAN = "clean"
"""The kind of the original image, resized and cropped as corrupted ones are; its severity is 0."""

SEVERITIES = (1, 2, 3, 4, 5)
SHORT, SIDE = 256, 224
"""The short side that images are resized to, and the side of the crop from the centre."""

MIN_SIDE = 32
"""Images with a shorter side, in pixels, are not corrupted: noise would be finer than anything in them."""

_SEEDED = ("impulse_noise", "glass_blur")
"""Kinds that take a seed of their own instead of NumPy's random numbers."""


@dataclass(frozen=True)
class Corruption:
    """An `Alteration` that corrupts images; see `corruption`.

    Attributes
    ----------
    only : frozenset of str, optional
        Ids of the images to alter; other images are left out. By default, all images are altered.
    """

    kind: str
    severity: int
    seed: int = 0
    only: frozenset[str] | None = None

    @functools.cached_property
    def key(self) -> str:
        """What distinguishes it from other alterations."""
        named = f"{self.kind}-{self.severity} seed {self.seed}" if self.severity else self.kind
        return named if self.only is None else f"{named} of {_digest(sorted(self.only))}"

    @property
    def folder(self) -> str:
        """Name of the folder for its predictions, such as ``fog-3``."""
        return f"{self.kind}-{self.severity}" if self.severity else self.kind

    def wants(self, image_id: str) -> bool:
        """Return whether an image is altered."""
        return self.only is None or image_id in self.only

    def __call__(self, image_id: str, pixels: Bytes) -> Bytes | str:
        """Return the corrupted image of 224 x 224 pixels, or the reason why there is none.

        Parameters
        ----------
        image_id : str
            Determines the random numbers together with the seed, so that an image gets the same noise
            regardless of the order and the number of threads.
        pixels : ndarray of uint8, shape (height, width, 3)
        """
        height, width = pixels.shape[:2]
        if min(height, width) < MIN_SIDE:
            return f"{width} x {height} pixels: corruptions need at least {MIN_SIDE} pixels per side"
        picture = _latest_crop(pixels)
        return picture if self.kind == CLEAN else _corrupted(picture, self, image_id)


def corruption(kind: str, severity: int, seed: int = 0, only: frozenset[str] | None = None) -> Corruption:
    """Return a corruption of images.

    Parameters
    ----------
    kind : str
        One of `KINDS`, or `CLEAN`, which only crops and has severity 0.
    severity : int
        1 to 5.
    seed : int
        0 or more.
    only : frozenset of str, optional
        Ids of the images to alter; by default all.

    Raises
    ------
    UnknownNameError
        If there is no such kind.
    InputError
        If the severity or the seed is out of range.
    MissingExtraError
        If imagecorruptions-imaug is not installed.
    """
    if kind not in (*KINDS, CLEAN):
        raise UnknownNameError(
            f"There is no corruption {kind!r}.", allowed=", ".join(KINDS), do=did_you_mean(kind, KINDS, 1)
        )
    allowed = (0,) if kind == CLEAN else SEVERITIES
    if severity not in allowed:
        said = "0" if kind == CLEAN else "1 to 5"
        raise InputError(f"There is no such severity of {kind}.", got=severity, allowed=said)
    if seed < 0:
        raise InputError("The seed is negative.", got=seed, allowed="0 and up")
    if kind != CLEAN:
        _library()
    return Corruption(kind, severity, seed, only)


def crop(pixels: Bytes) -> Bytes:
    """Resize an image to a short side of 256 pixels and crop the central 224 x 224, as in ImageNet-C.

    The result is that of torchvision's ``Resize(256)``, bilinear and antialiased, followed by
    ``CenterCrop(224)``, on a PIL image.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)

    Returns
    -------
    ndarray of uint8, shape (224, 224, 3)
    """
    from PIL import Image

    height, width = pixels.shape[:2]
    long = int(SHORT * max(height, width) / min(height, width))
    size = (SHORT, long) if width <= height else (long, SHORT)
    resized = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    top, left = (round((side - SIDE) / 2) for side in resized.shape[:2])
    return np.ascontiguousarray(resized[top : top + SIDE, left : left + SIDE])


def _latest_crop(pixels: Bytes) -> Bytes:
    """Return the `crop` of an image. Each thread remembers its latest: copies follow each other."""
    if getattr(_latest, "pixels", None) is not pixels:
        _latest.pixels, _latest.crop = pixels, crop(pixels)
    found: Bytes = _latest.crop
    return found


def _corrupted(picture: Bytes, how: Corruption, image_id: str) -> Bytes:
    from PIL import Image

    seed = _seed(how, image_id)
    _drawn.state = np.random.RandomState(seed)
    options = {"seed": seed} if how.kind in _SEEDED else {}
    corrupted = _library()[how.kind](Image.fromarray(picture), how.severity, **options)
    return np.asarray(corrupted).astype(np.uint8)


def _seed(how: Corruption, image_id: str) -> int:
    return int(_digest([str(how.seed), how.kind, str(how.severity), image_id]), 16)


def _digest(texts: Iterable[str]) -> str:
    """Return a hash of texts: 8 hexadecimal digits."""
    text = "\n".join(texts).encode(errors="surrogateescape")
    return hashlib.blake2b(text, digest_size=4).hexdigest()


def chosen(image_ids: Iterable[str], n: int, seed: int = 0) -> frozenset[str]:
    """Return n of the images, or all if there are fewer than n. The choice does not depend on their order.

    Parameters
    ----------
    image_ids : iterable of str
    n : int
    seed : int
        Seed for the choice.
    """
    return frozenset(sorted(image_ids, key=lambda name: (_digest([str(seed), name]), name))[:n])


_drawn, _latest = threading.local(), threading.local()
"""The random numbers of each thread, and its latest image."""


class _NumPy:
    """NumPy, with random numbers of the thread's own."""

    def __getattr__(self, name: str) -> Any:
        return _drawn.state if name == "random" else getattr(np, name)


@functools.cache
def _library() -> Mapping[str, Callable[..., Any]]:
    """Return the functions of imagecorruptions, by name, such that several threads may call them at once.

    They draw from NumPy's one state, which all threads share: a picture's noise would depend on what the
    others draw meanwhile, and a lock around them would leave one core idle. The same code with other globals
    draws from a state of the thread, and the library itself stays as it is for whoever else uses it.
    """
    try:
        library = importlib.import_module("imagecorruptions.corruptions")
    except ImportError as error:
        raise _missing(error) from error
    names: dict[str, Any] = {**vars(library), "np": _NumPy(), "scizoom": _zoom}
    for name, function in vars(library).items():
        # What Numba compiled is no such function, and has a state a thread already.
        if isinstance(function, types.FunctionType) and function.__module__ == library.__name__:
            names[name] = types.FunctionType(function.__code__, names, name, function.__defaults__)
    return names


def _zoom(image: AnyFloats, factors: tuple[float, float, int], order: int) -> AnyFloats:
    """Zoom a picture to the bit as `scipy.ndimage.zoom`, which takes twice as long for all channels at once.

    Zoom blur, which zooms a dozen times, is the slowest kind.
    """
    from scipy.ndimage import zoom

    channels = (np.ascontiguousarray(image[..., i]) for i in range(image.shape[2]))
    return np.stack([zoom(c, factors[:2], order=order) for c in channels], axis=-1)


def _missing(error: ImportError) -> MissingExtraError:
    # opencv-python wants a screen's libraries, its headless twin does not; both are the folder cv2.
    lacks_screen = ".so" in str(error)
    return MissingExtraError(
        "Corrupting images needs the package imagecorruptions-imaug, which cannot be imported.",
        got=error,
        do="pip install --force-reinstall opencv-python-headless"
        if lacks_screen
        else 'pip install "manyhot[diagnose]"',
    )
