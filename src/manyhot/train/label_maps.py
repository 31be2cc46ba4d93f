"""Label maps: predictions of a network at each location of an image, as targets of crops.

ReLabel (Yun et al. 2021, arXiv 2101.05022): the classifier of a strong network is applied at each location of
its last grid, and the top classes of each location are kept. The target of a random crop is the softmax of
the mean of its part of the map, instead of the label of the whole image.

The file has Arrow's IPC format, uncompressed: it is memory-mapped, so that maps of a million images take no
memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy import typing as npt
from torch import Tensor
from torchvision.ops import roi_align

from manyhot._version import __version__
from manyhot.classes import ClassList, from_keys
from manyhot.errors import InputError, MatchError
from manyhot.files import atomic_write
from manyhot.predict.decode import decode
from manyhot.predict.network import Network, Preprocessing
from manyhot.predict.scoring import read_image
from manyhot.predict.sources.source import ImageSource
from manyhot.train.batches import decoders
from manyhot.train.targets import Targets

_KEY = b"manyhot.maps"


class MapBlock(NamedTuple):
    """Label maps of several images, all with the same shape.

    Attributes
    ----------
    scores : numpy.ndarray of float16, shape (n, k, h, w)
        Logits minus their mean over all classes at the location, so that classes that are not kept count as
        0.
    classes : numpy.ndarray of int, shape (n, k, h, w)
        The classes of the scores.
    """

    image_ids: Sequence[str]
    scores: npt.NDArray[np.float16]
    classes: npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class LabelMaps:
    """A file of label maps.

    Attributes
    ----------
    grid : (int, int)
        Height and width of the maps.
    blocks : sequence of MapBlock
        Their arrays are memory-mapped.
    about : Mapping of str to Any
        How they were made.
    """

    classes: ClassList
    grid: tuple[int, int]
    blocks: Sequence[MapBlock]
    about: Mapping[str, Any]

    def __len__(self) -> int:
        return sum(len(block.image_ids) for block in self.blocks)

    def places(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Yield each image with its block and its row in the block."""
        for at, block in enumerate(self.blocks):
            for row, image_id in enumerate(block.image_ids):
                yield image_id, (at, row)

    def take(self, places: Iterable[tuple[int, int] | None]) -> tuple[Tensor, Tensor]:
        """Return the scores (float32) and classes (int64) of images, each of shape (n, k, h, w)."""
        there = [place for place in places if place is not None]
        found = [(self.blocks[at].scores[row], self.blocks[at].classes[row]) for at, row in there]
        scores, classes = (np.stack(part) for part in zip(*found, strict=True))
        return torch.from_numpy(scores.astype(np.float32)), torch.from_numpy(classes.astype(np.int64))


def write_maps(
    path: str | os.PathLike[str], blocks: Iterable[MapBlock], classes: ClassList, about: Mapping[str, Any]
) -> Path:
    """Write label maps, one block at a time.

    Raises
    ------
    InputError
        If there are no maps, if their shapes differ, or if an image occurs twice.
    OutputError
        If the file cannot be written.
    """
    path = Path(path)
    seen: set[str] = set()
    with atomic_write(path) as part, pa.OSFile(str(part), "wb") as file:
        writer = shape = None
        for block in blocks:
            if writer is None:
                shape = block.scores.shape[1:]
                schema = _schema(shape, classes, about)
                writer = pa.ipc.new_file(file, schema)
            _check_block(block, shape, seen, path)
            writer.write_batch(_batch(block, schema))
        if writer is None:
            raise InputError("There are no images from which label maps can be computed.", where=path)
        writer.close()
    return path


def _check_block(block: MapBlock, shape: Any, seen: set[str], path: Path) -> None:
    for image_id in block.image_ids:
        if image_id in seen:
            raise InputError("An image occurs twice.", where=path, got=image_id)
        seen.add(image_id)
    if block.scores.shape[1:] != shape:
        raise InputError(
            "Label maps have different shapes.", where=path, got=f"{block.scores.shape[1:]} and {shape}"
        )


def _schema(shape: tuple[int, ...], classes: ClassList, about: Mapping[str, Any]) -> pa.Schema:
    told = {
        "shape": shape,
        "classes": {"name": classes.name, "keys": classes.keys},
        "about": {**about, "version": __version__},
    }
    size = int(np.prod(shape))
    number = pa.int16() if len(classes) < 2**15 else pa.int32()
    fields = [
        pa.field("image_id", pa.string()),
        pa.field("scores", pa.list_(pa.float16(), size)),
        pa.field("classes", pa.list_(number, size)),
    ]
    return pa.schema(fields, {_KEY: json.dumps(told, ensure_ascii=False).encode()})


def _batch(block: MapBlock, schema: pa.Schema) -> pa.RecordBatch:
    columns: list[Any] = [pa.array(block.image_ids, pa.string())]
    for name, values in (("scores", block.scores), ("classes", block.classes)):
        kind = schema.field(name).type
        flat = pa.array(values.astype(kind.value_type.to_pandas_dtype()).reshape(-1))
        columns.append(pa.FixedSizeListArray.from_arrays(flat, kind.list_size))
    return pa.record_batch(columns, schema=schema)


def read_maps(path: str | os.PathLike[str]) -> LabelMaps:
    """Open a file of label maps.

    Raises
    ------
    InputError
        If the file does not exist or contains no label maps.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("The file does not exist.", where=path)
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        told = json.loads((reader.schema.metadata or {})[_KEY])
        shape = tuple(told["shape"])
        blocks = [_block(reader.get_batch(i), shape) for i in range(reader.num_record_batches)]
    except (pa.ArrowInvalid, KeyError, ValueError) as error:
        raise InputError(
            "The file contains no label maps.", where=path, do="create some with: manyhot label-maps"
        ) from error
    keys = [str(k) for k in told["classes"]["keys"]]
    return LabelMaps(from_keys(keys, told["classes"]["name"]), shape[1:], blocks, told["about"])


def _block(batch: pa.RecordBatch, shape: tuple[int, ...]) -> MapBlock:
    scores, classes = (
        batch.column(name).flatten().to_numpy(zero_copy_only=True).reshape(-1, *shape)
        for name in ("scores", "classes")
    )
    return MapBlock(batch.column("image_id").to_pylist(), scores, classes)


@dataclass(frozen=True, eq=False)
class LocalTeacher:
    """Targets for crops of training images: the softmax of the part of the label map that a crop shows.

    Attributes
    ----------
    places : sequence of (int, int) or None
        Block and row of the map of each image of the training set, or None if it has no map.
    """

    maps: LabelMaps
    places: Sequence[tuple[int, int] | None]

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return len(self.maps.classes)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def mapped(self) -> npt.NDArray[np.bool_]:
        """Which images have a map."""
        return np.array([place is not None for place in self.places])

    def batch(
        self,
        rows: Tensor,
        epoch: int = 0,
        memory: Mapping[str, Tensor] | None = None,
        *,
        boxes: Tensor | None = None,
        mirrored: Tensor | None = None,
    ) -> Targets:
        """Return the targets of crops.

        Parameters
        ----------
        rows : torch.Tensor of int64, shape (n,)
        epoch, memory
            Passed to the targets.
        boxes : torch.Tensor of float32, shape (n, 4), optional
            Left, top, right and bottom of each crop as shares of its image. By default, the whole image.
        mirrored : torch.Tensor of bool, shape (n,), optional
            Whether each crop was mirrored. A mirrored crop shows the same part of the image and has the same
            targets.
        """
        scores, classes = self.maps.take(self.places[row] for row in rows.tolist())
        if boxes is None:
            boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(len(rows), 4)
        weight = place_weights(boxes, self.maps.grid)
        n = len(rows)
        logits = torch.zeros(n, self.n_classes)
        logits.scatter_add_(1, classes.view(n, -1), (scores * weight[:, None]).view(n, -1))
        return Targets(logits.softmax(1), None, rows, epoch, memory or {})


def place_weights(boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the weight of each location of a map in a crop, by RoIAlign with a single output value.

    RoIAlign is used as in the code of ReLabel, but without the minimum box size of one location. It takes at
    least one sample point per location, and interpolates each point bilinearly between four locations. The
    weight of a location is therefore the product of the weights of its row and its column. torchvision
    computes these weights from maps that are 1 in a single row or column, so no map of 1,000 classes is
    needed.

    Parameters
    ----------
    boxes : torch.Tensor of float32, shape (n, 4)
        Left, top, right and bottom, from 0 to 1.
    grid : (int, int)
        Height and width of the map.

    Returns
    -------
    torch.Tensor of float32, shape (n, h, w)
        Weights, which sum to 1.

    References
    ----------
    He et al. 2017, Mask R-CNN, arXiv 1703.06870.
    """
    h, w = grid
    lines = torch.zeros(1, h + w, h, w)
    lines[0, torch.arange(h), torch.arange(h), :] = 1
    lines[0, h + torch.arange(w), :, torch.arange(w)] = 1
    at = torch.cat([torch.zeros(len(boxes), 1), boxes * torch.tensor([w, h, w, h])], 1)
    of: Tensor = roi_align(lines, at, 1, aligned=True).view(len(boxes), h + w)
    return of[:, :h, None] * of[:, None, h:]


def localised(path: str | os.PathLike[str], image_ids: Sequence[str], classes: ClassList) -> LocalTeacher:
    """Return the targets of the training images that have maps.

    Parameters
    ----------
    path : path-like
        A file of label maps.
    image_ids : sequence of str
        Ids of the training images, in the order of their rows.
    classes : ClassList

    Raises
    ------
    InputError
        If the file contains no label maps.
    MatchError
        If the maps have different classes or belong to different images.
    """
    maps = read_maps(path)
    if maps.classes.keys != classes.keys:
        raise MatchError(
            "The label maps and the labels have different classes.",
            where=path,
            got=f"{len(maps.classes)} classes, starting with {maps.classes.keys[0]}",
            allowed=f"{len(classes)} classes, starting with {classes.keys[0]}",
        )
    known = dict(maps.places())
    places = [known.get(i) for i in image_ids]
    if not any(places):
        raise MatchError(
            "None of the images has a label map.",
            where=path,
            got=f"maps of images such as {next(iter(known))}, labels of images such as {image_ids[0]}",
            do="create maps of these images: manyhot label-maps",
        )
    return LocalTeacher(maps, places)


def read_relabel(
    folder: str | os.PathLike[str], *, suffix: str = ".JPEG", by_columns: bool = True
) -> Iterator[MapBlock]:
    """Yield the label maps that Yun et al. released, as blocks for `write_maps`.

    Each file ``wnid/name.pt`` contains an array of shape (2, k, side, side) with scores and classes.

    Parameters
    ----------
    folder : path-like
        Folder of their unpacked archive.
    suffix : str
        The suffix of the image ids, which replaces ``.pt``.
    by_columns : bool
        Whether to swap rows and columns of the maps, which reproduces the labels of their code. That code
        passes the top, left, bottom and right of a crop to RoIAlign, but torchvision expects left, top, right
        and bottom. Either the maps are stored by columns, or the crops got the labels of other locations.
        Only the released files can show which of the two is true.

    Raises
    ------
    InputError
        If there are no such files, or if a file has different contents.
    """
    files = sorted(Path(folder).glob("*/*.pt"))
    if not files:
        raise InputError(
            "The folder contains no label maps of ReLabel.",
            where=folder,
            allowed="files such as n01440764/NAME.pt",
        )
    for start in range(0, len(files), 512):
        part = files[start : start + 512]
        found = np.stack([_released(file) for file in part])
        turned = found.swapaxes(-1, -2) if by_columns else found
        names = [file.stem + suffix for file in part]
        yield MapBlock(names, turned[:, 0].astype(np.float16), turned[:, 1].astype(np.int32))


def _released(file: Path) -> npt.NDArray[np.float32]:
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # pickles fail in many ways
        raise InputError("The file cannot be read.", where=file, got=type(error).__name__) from error
    if not isinstance(found, Tensor) or found.ndim != 4 or len(found) != 2:
        got = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise InputError(
            "The file contains no label map of ReLabel.",
            where=file,
            got=got,
            allowed="shape (2, k, side, side)",
        )
    array: npt.NDArray[np.float32] = found.float().numpy()
    return array


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
    k : int
        Number of classes to keep per location.
    size : int, optional
        Height and width of the images in pixels. By default, the input size of the network.
    skip : callable
        Called with the id of an image that cannot be read, and the reason.

    Raises
    ------
    InputError
        If the network has no grid before its classifier, or has fewer than `k` classes.
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
    """Return a function that maps images to the logits at each location, minus their mean over classes.

    Images are uint8 of shape (n, 3, H, W), and logits have the shape (n, C, h, w). If the network only
    averages the grid before the classifier, the mean of the map equals the logits of the image.

    Raises
    ------
    InputError
        If the network has no grid before its classifier.
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
                "The network has no spatial feature map before its classifier.",
                where=network.name,
                got=f"features of shape {tuple(grid.shape)}",
                allowed="a convolutional network, such as timm/resnet50",
            )
        n, d, h, w = grid.shape
        logits = module.forward_head(grid.permute(0, 2, 3, 1).reshape(-1, d, 1, 1))
        centred: Tensor = logits - logits.mean(1, keepdim=True)
        return centred.view(n, h, w, -1).permute(0, 3, 1, 2)

    return see
