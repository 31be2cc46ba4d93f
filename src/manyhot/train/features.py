"""What comes before the trained layers, computed once for each image and its mirror image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from manyhot.files import atomic_write
from manyhot.models import Preprocessing
from manyhot.models.sources import Opener
from manyhot.train.cropping import centred
from manyhot.train.loading import decoders, opened

_BATCH = 32


def computed(
    openers: Sequence[Opener],
    preprocessing: Preprocessing,
    compute: Callable[[Tensor], Tensor],
    path: Path,
    views: int,
    half: bool,
    tell: Callable[[int], None],
) -> tuple[npt.NDArray[Any], list[str]]:
    """Return features of images, and why there are none of some; an earlier run's are taken.

    Parameters
    ----------
    openers : sequence of Opener
    preprocessing : Preprocessing
    compute : callable
        From images, uint8 of shape (n, 3, h, w), to features of shape (n, …).
    path : Path
        Where they are kept, without ``.npy``; the name must tell all that they depend on.
    views : int
        1, or 2 for mirror images too.
    half : bool
        Whether to keep them in half precision.
    tell : callable
        Called with the number of images that are done.

    Returns
    -------
    features : ndarray of float16 or float32, shape (n, views, …)
        On the disk, mapped into memory. Rows of unreadable images are 0.
    reasons : list of str
        Empty where an image could be decoded.
    """
    array, text = path.with_suffix(".npy"), path.with_suffix(".txt")
    if not array.is_file() or not text.is_file():
        reasons = _write(openers, preprocessing, compute, array, views, half, tell)
        with atomic_write(text) as part:
            part.write_text("\n".join(reasons), encoding="utf-8")
    reasons = text.read_text(encoding="utf-8").split("\n")
    return np.load(array, mmap_mode="r"), reasons


def _write(
    openers: Sequence[Opener],
    preprocessing: Preprocessing,
    compute: Callable[[Tensor], Tensor],
    path: Path,
    views: int,
    half: bool,
    tell: Callable[[int], None],
) -> list[str]:
    reasons: list[str] = []
    with atomic_write(path) as part:
        out: Any = None
        for images, why in _batches(openers, preprocessing):
            found = [compute(images.flip(3) if view else images).float().cpu() for view in range(views)]
            rows = torch.stack(found, 1).numpy()
            if out is None:
                shape = (len(openers), *rows.shape[1:])
                kind = np.float16 if half else np.float32
                # The mode that open_memmap writes in; the name of the part does not end in .npy.
                out = np.lib.format.open_memmap(part, "w+", kind, shape)
            out[len(reasons) : len(reasons) + len(rows)] = rows
            reasons += why
            tell(len(reasons))
        out.flush()
    return reasons


def _batches(openers: Sequence[Opener], preprocessing: Preprocessing) -> Iterator[tuple[Tensor, list[str]]]:
    def seen(opener: Opener) -> Tensor | str:
        pixels = opened(opener)
        return pixels if isinstance(pixels, str) else centred(pixels, preprocessing).pixels

    nothing = torch.zeros((3, *preprocessing.size), dtype=torch.uint8)
    with decoders() as pool:
        for start in range(0, len(openers), _BATCH):
            made = list(pool.map(seen, openers[start : start + _BATCH]))
            reasons = [m.replace("\n", " ") if isinstance(m, str) else "" for m in made]
            yield torch.stack([nothing if isinstance(m, str) else m for m in made]), reasons


def key_of(before: Mapping[str, Tensor], *about: object) -> str:
    """Return what tells features apart: a hash of the arrays that make them, and of all else."""
    told = hashlib.sha256(repr(about).encode())
    for name, value in before.items():
        told.update(name.encode())
        told.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return told.hexdigest()[:16]
