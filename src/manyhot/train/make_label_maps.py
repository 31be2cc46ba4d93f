"""Compute label maps: the classifier of a network, applied at each location of its last grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from manyhot.errors import InputError
from manyhot.predict.decode import decode
from manyhot.predict.network import Network, Preprocessing
from manyhot.predict.scoring import read_image
from manyhot.predict.sources.source import ImageSource
from manyhot.train.batches import decoders
from manyhot.train.label_maps import MapBlock

Skip = Callable[[str, str], None]
"""Called with the id of an image that cannot be read, and the reason."""


def compute_label_maps(
    network: Network, source: ImageSource, *, k: int = 5, size: int | None = None, batch: int = 32, skip: Skip
) -> Iterator[MapBlock]:
    """Yield the label maps of images.

    Each image is resized without a crop, so that the map covers all of it.

    Parameters
    ----------
    network : Network
        A timm network with global average pooling before the classifier.
    source : ImageSource
    k : int
        Number of classes to keep per location.
    size : int, optional
        Side of the images in pixels; by default the network's own.
    batch : int
    skip : callable
        Called with the id of an image that cannot be read, and the reason.

    Raises
    ------
    InputError
        The network has no such grid, or fewer than `k` classes.
    """
    if not 1 <= k <= len(network.classes):
        raise InputError(
            "The number of classes to keep is out of range.", got=k, allowed=f"1 to {len(network.classes)}"
        )
    side = (size, size) if size else network.preprocessing.size
    preprocessing = replace(network.preprocessing, mode="squash", size=side, scale=side)
    see = local_logits(network, preprocessing)
    with decoders() as pool:
        listed = _items(source)
        while items := list(islice(listed, batch)):
            read = list(pool.map(lambda item: _pixels(item[1], preprocessing), items))
            for (image_id, _), pixels in zip(items, read, strict=True):
                if isinstance(pixels, str):
                    skip(image_id, pixels)
            kept = [(i, p) for (i, _), p in zip(items, read, strict=True) if isinstance(p, Tensor)]
            if kept:
                names, images = zip(*kept, strict=True)
                best = see(torch.stack(images)).topk(k, dim=1)
                scores, classes = best.values.half().cpu().numpy(), best.indices.cpu().numpy()
                yield MapBlock(list(names), scores, classes.astype(np.int32))


def _items(source: ImageSource) -> Iterator[tuple[str, Any]]:
    for part in source.parts:
        for item, opener in part.items():
            yield item.image_id, read_image(opener)


def _pixels(read: bytes | str | Tensor, preprocessing: Preprocessing) -> Tensor | str:
    pixels = decode(read) if isinstance(read, bytes) else read
    return pixels if isinstance(pixels, str) else preprocessing(pixels)


def local_logits(network: Network, preprocessing: Preprocessing) -> Callable[[Tensor], Tensor]:
    """Return a function from images to the logits at each location, minus their mean over classes.

    Images are uint8 of shape (n, 3, H, W), logits of shape (n, C, h, w). If only the mean lies between grid
    and classifier, the mean of the map equals the logits of the image.

    Raises
    ------
    InputError
        The network has no grid before its classifier.
    """
    module: Any = network.module
    if not hasattr(module, "forward_features") or not hasattr(module, "forward_head"):
        raise InputError("This is not a network of timm.", got=network.name, allowed="timm/NAME")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = module.to(device).eval()
    mean, std = (
        torch.tensor(v, device=device).view(1, 3, 1, 1) * 255 for v in (preprocessing.mean, preprocessing.std)
    )

    @torch.inference_mode()
    def see(images: Tensor) -> Tensor:
        grid = module.forward_features((images.to(device) - mean) / std)
        if grid.ndim != 4 or grid.shape[1] != module.num_features:
            raise InputError(
                "The network has no grid before its classifier.",
                where=network.name,
                got=f"features of shape {tuple(grid.shape)}",
                allowed="a network of convolutions, such as timm/resnet50",
            )
        n, d, h, w = grid.shape
        logits = module.forward_head(grid.permute(0, 2, 3, 1).reshape(-1, d, 1, 1))
        centred: Tensor = logits - logits.mean(1, keepdim=True)
        return centred.view(n, h, w, -1).permute(0, 3, 1, 2)

    return see
