"""Making label maps: the classifier of a network at each place of its last grid.

Images in; a file of what a network sees at each place of them out, to teach crops with.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from manyhot.errors import InputError
from manyhot.files import atomic_write
from manyhot.formats import read_classes
from manyhot.formats.writing import PathLike, Progress, check_apart
from manyhot.predict.decode import decode
from manyhot.predict.find import find_model
from manyhot.predict.network import Network, Preprocessing
from manyhot.predict.scoring import read_image
from manyhot.predict.sources import open_source
from manyhot.predict.sources.base import ImageSource
from manyhot.train.batches import decoders
from manyhot.train.label_maps import Block

Skip = Callable[[str, str], None]
"""Told an image that has no map, and why."""


def label_maps(
    network: Network, source: ImageSource, *, k: int = 5, size: int | None = None, batch: int = 32, skip: Skip
) -> Iterator[Block]:
    """Yield the label maps of images.

    Each image is resized as a whole, without a crop: the map covers all of it.

    Parameters
    ----------
    network : Network
        One of timm's whose classifier follows the mean of a grid.
    source : ImageSource
    k : int
        Classes that are kept of each place.
    size : int, optional
        Side of the images in pixels; by default the network's own.
    batch : int
    skip : callable
        Told the id of an image that cannot be read, and why.

    Raises
    ------
    InputError
        The network has no such grid, or fewer than `k` classes.
    """
    if not 1 <= k <= len(network.classes):
        raise InputError(
            "A place cannot keep so many classes.", got=k, allowed=f"1 to {len(network.classes)}"
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
                yield Block(list(names), scores, classes.astype(np.int32))


def _items(source: ImageSource) -> Iterator[tuple[str, Any]]:
    for part in source.parts:
        for item, opener in part.items():
            yield item.image_id, read_image(opener)


def _pixels(read: bytes | str | Tensor, preprocessing: Preprocessing) -> Tensor | str:
    pixels = decode(read) if isinstance(read, bytes) else read
    return pixels if isinstance(pixels, str) else preprocessing(pixels)


def local_logits(network: Network, preprocessing: Preprocessing) -> Callable[[Tensor], Tensor]:
    """Return a function from images to logits of each place, less their mean over classes.

    Images are uint8 of shape (n, 3, H, W), logits of shape (n, C, h, w). Where nothing but the mean lies
    between grid and classifier, the mean of the map is the logits of the image.

    Raises
    ------
    InputError
        The network has no grid before its classifier.
    """
    module: Any = network.module
    if not hasattr(module, "forward_features") or not hasattr(module, "forward_head"):
        raise InputError("This is no network of timm.", got=network.name, allowed="timm/NAME")
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


def label_map_files(
    source: PathLike,
    model: str,
    out: PathLike = "maps.arrow",
    *,
    k: int = 5,
    size: int | None = None,
    classes: PathLike | None = None,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[int, list[Path]]:
    """Write the label maps of images, for training on localised soft labels.

    Parameters
    ----------
    source : path-like
        See `manyhot.predict.sources.open_source`.
    model : str
        A network of timm whose classifier follows the mean of a grid; see `manyhot.predict.find.find_model`.
    out : path-like
        The file, ``.arrow``.
    k : int
        Classes that are kept of each place.
    size : int, optional
        Side of the images in pixels; by default the network's own.
    classes : path-like, optional
        Class list of the model, where it does not tell.
    progress : callable, optional
        Called with what is done, how much, and of how many.

    Returns
    -------
    n : int
        Images with a map.
    written : list of Path
        The file, and a list of what could not be read, if any.

    Raises
    ------
    InputError
        The file is called otherwise, the network has no grid before its classifier, or no image can be read.
    """
    from manyhot.train.label_maps import write_maps

    out = Path(out)
    if out.suffix != ".arrow":
        raise InputError("Label maps are written to an .arrow file.", got=out)
    check_apart([source, classes], out)
    network = find_model(model, None if classes is None else read_classes(classes))
    images = open_source(source)
    total = sum(part.n or 0 for part in images.parts)
    skipped: list[tuple[str, str]] = []
    n = 0

    def counted() -> Iterator[Block]:
        nonlocal n
        for block in label_maps(network, images, k=k, size=size, skip=lambda *told: skipped.append(told)):
            n += len(block.image_ids)
            if progress:
                progress("mapping", n, max(total, n))
            yield block

    about = {"model": network.name, "k": k, "size": size, "call": call, **network.about}
    written = [write_maps(out, counted(), network.classes, about)]
    if skipped:
        written.append(out.with_name(f"{out.stem}-skipped.csv"))
        with atomic_write(written[-1]) as part, part.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("image_id", "reason"), *skipped])
    return n, written
