"""Feature maps of a backbone, by the weights that classify; computed once where these stay as they are."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from manyhot.errors import InputError
from manyhot.models import Network, Preprocessing

STRIDES = (8, 16, 32)
"""Pixels of the image that a cell of a map stands for, in those that are used."""

_BATCH = 32


class Backbone(nn.Module):
    """A network without its classifier: normalised images to maps of one or several strides.

    Attributes
    ----------
    network : nn.Module
        One of timm's.
    preprocessing : Preprocessing
        Whole images, squeezed into its square.
    layers : tuple of str
        Those whose output is used.
    strides, channels : tuple of int
        Of their maps.
    """

    def __init__(self, network: Network, size: int | None = None) -> None:
        super().__init__()
        self.network = copy.deepcopy(timm_inside(network))
        self.preprocessing = _squeezed(network.preprocessing, size)
        if size and hasattr(self.network, "set_input_size"):
            self.network.set_input_size(img_size=(size, size))
        self._indices, self.layers, self.strides, self.channels = _chosen(self.network)

    @property
    def told(self) -> str:
        """Which layers, for people."""
        layers = (f"{name} (stride {s})" for name, s in zip(self.layers, self.strides, strict=True))
        return f"{', '.join(layers)}, {self.preprocessing.size[0]} pixels"

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return a map a stride, each of shape (n, channels, height, width)."""
        maps: list[Tensor] = self.network.forward_intermediates(
            images, indices=self._indices, norm=len(self.strides) == 1, intermediates_only=True
        )
        return maps

    def normalised(self, images: Tensor) -> Tensor:
        """Return images of bytes as the network wants them."""
        mean, std = (
            images.new_tensor(v, dtype=torch.float32).view(1, 3, 1, 1)
            for v in (self.preprocessing.mean, self.preprocessing.std)
        )
        return ((images / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def timm_inside(network: Network) -> Any:
    """Return the module of a network that gives feature maps.

    Raises
    ------
    InputError
        There is none.
    """
    modules = [] if network.module is None else network.module.modules()
    found = next((m for m in modules if hasattr(m, "forward_intermediates")), None)
    if found is None:
        raise InputError(
            "This backbone gives no feature maps.",
            got=network.name,
            allowed="a network of timm, or one that manyhot trained",
            do="its features serve the methods knn, probe, few-shot and multilabel",
        )
    return found


def _squeezed(preprocessing: Preprocessing, size: int | None) -> Preprocessing:
    sides = (size, size) if size else preprocessing.size
    return replace(preprocessing, size=sides, scale=sides, mode="squash")


def _chosen(module: Any) -> tuple[list[int], tuple[str, ...], tuple[int, ...], tuple[int, ...]]:
    """Return which intermediate layers are used, their names, strides and channels.

    The last of each of `STRIDES`; else, as of a plain transformer, the last of all.
    """
    info = module.feature_info
    told = info if isinstance(info, list) else info.get_dicts()
    by_stride = {entry["reduction"]: i for i, entry in enumerate(told)}
    indices = [by_stride[s] for s in STRIDES if s in by_stride] if len(by_stride) > 1 else [len(told) - 1]
    used = [told[i] for i in indices]
    names, strides, channels = (tuple(e[key] for e in used) for key in ("module", "reduction", "num_chs"))
    return indices, names, strides, channels


@dataclass(frozen=True, eq=False)
class Maps:
    """Maps of images and of their mirror images, on the disk.

    Attributes
    ----------
    levels : list of ndarray of float16, shape (n, 2, channels, height, width)
        One a stride; the second of two is that of the mirror image.
    """

    levels: list[npt.NDArray[np.float16]]

    def batch(self, rows: npt.NDArray[np.intp], mirrored: npt.NDArray[np.bool_]) -> list[Tensor]:
        """Return the maps of some images, as they are or mirrored."""
        maps = (torch.from_numpy(level[rows, mirrored.astype(int)]).float() for level in self.levels)
        return [m.contiguous(memory_format=torch.channels_last) for m in maps]


def compute_maps(
    backbone: Backbone,
    images: Iterable[Tensor],
    n: int,
    folder: Path,
    both: npt.NDArray[np.bool_],
    progress: Callable[[int, int], None] | None = None,
) -> Maps:
    """Compute the maps of images.

    Parameters
    ----------
    backbone : Backbone
    images : iterable of torch.Tensor of uint8, shape (3, height, width)
    n : int
        How many there are.
    folder : Path
        Files are written into it, of 2 bytes a number.
    both : ndarray of bool, shape (n,)
        Whether the mirror image is computed, too.
    progress : callable, optional
        Called with how many images are done, and how many there are.
    """
    levels: list[npt.NDArray[np.float16]] = []
    start = 0
    with torch.inference_mode():
        for batch in _batches(images):
            here = both[start : start + len(batch)]
            computed = backbone.eval()(
                backbone.normalised(torch.cat([batch, F.horizontal_flip(batch[here])]))
            )
            if not levels:
                levels = [_file(folder / f"{i}.npy", n, m.shape[1:]) for i, m in enumerate(computed)]
            for level, maps in zip(levels, computed, strict=True):
                half = maps.half().numpy()
                level[start : start + len(batch), 0] = half[: len(batch)]
                level[np.flatnonzero(here) + start, 1] = half[len(batch) :]
            start += len(batch)
            if progress:
                progress(start, n)
    return Maps(levels)


def _batches(images: Iterable[Tensor]) -> Iterator[Tensor]:
    held: list[Tensor] = []
    for image in images:
        held.append(image)
        if len(held) == _BATCH:
            yield torch.stack(held)
            held = []
    if held:
        yield torch.stack(held)


def _file(path: Path, n: int, shape: Any) -> npt.NDArray[np.float16]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return np.lib.format.open_memmap(path, "w+", np.float16, (n, 2, *shape))
