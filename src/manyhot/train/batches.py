"""Batches of random crops, decoded while the network trains; the same seed gives the same batches.

`collect_images` selects the images of a source that have labels, and keeps them in memory if they fit;
a `Loader` makes batches of them. Crops are functions of the seed, the epoch and the row of an image, and are
cut before they are resized.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from manyhot.errors import InputError
from manyhot.predict.decode import decode
from manyhot.predict.engines.torch import threads_given_back
from manyhot.predict.network import Preprocessing
from manyhot.predict.sources import Files, ImageReader, ImageSource, SourcePart, stored_part
from manyhot.predict.sources.source import failing_reader, reader_of, short_hash
from manyhot.predict.sources.tar import TarSlice
from manyhot.tables.unpacked import free_memory
from manyhot.train.augment import augmented
from manyhot.train.devices import local_processes, own_cores
from manyhot.train.order import BatchPlan, Everything, ImageOrder, Sample, Shards, none_found
from manyhot.train.recipe import Recipe

BATCHES_AHEAD = 3
"""Number of batches that are prepared during a step."""

MEMORY_SHARE = 0.25
"""Share of the free memory for the encoded images of a run; the decoded images may take as much again."""

ASPECTS = (3 / 4, 4 / 3)
"""Smallest and largest aspect ratio of a random crop."""

_CHUNK = 8  # Images that a thread decodes at a time.
_TRIED = 64  # Images whose mean size estimates that of all.
_TRIES = 10  # Random crops that are tried before the central one.

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Batch:
    """The images of a step.

    Attributes
    ----------
    images : torch.Tensor of uint8, shape (n, 3, h, w)
    rows : torch.Tensor of int64, shape (n,)
        Rows in the labels.
    boxes : torch.Tensor of float32, shape (n, 4)
        Left, top, right and bottom of each crop before mirroring, as shares of the image.
    mirrored : torch.Tensor of bool, shape (n,)
    """

    images: Tensor
    rows: Tensor
    boxes: Tensor
    mirrored: Tensor

    @classmethod
    def empty(cls, n: int, size: tuple[int, int], pinned: bool) -> Batch:
        """Return an empty batch."""
        laid: Any = {"memory_format": torch.channels_last, "pin_memory": pinned}
        images = torch.empty((n, 3, *size), dtype=torch.uint8, **laid)
        rows, boxes = torch.empty(n, dtype=torch.int64), torch.empty((n, 4))
        return cls(images, rows, boxes, torch.zeros(n, dtype=torch.bool))

    def put(self, at: int, row: int, view: View, mirrored: bool) -> None:
        """Fill a place."""
        self.images[at] = view.pixels.flip(2) if mirrored else view.pixels
        # With NumPy: each call of PyTorch releases Python's lock, and waits for it.
        self.rows.numpy()[at], self.mirrored.numpy()[at] = row, mirrored
        self.boxes.numpy()[at] = view.box

    def copy(self, source: int, to: int) -> None:
        """Copy one place to another."""
        for array in (self.images, self.rows, self.boxes, self.mirrored):
            array[to] = array[source]


@dataclass(eq=False)
class Views:
    """Decoded images. They are cached while they fit into memory, so that each image is decoded once.

    Attributes
    ----------
    budget : int
        Bytes.
    skipped : dict of int to str
        Reasons why images could not be decoded, by row.
    """

    recipe: Recipe
    preprocessing: Preprocessing
    budget: int
    skipped: dict[int, str] = field(default_factory=dict)
    _views: dict[int, View] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def rng(self, row: int, epoch: int) -> np.random.Generator:
        """Return the random generator for an image in an epoch."""
        return np.random.default_rng([self.recipe.seed, epoch, row])

    def __call__(self, row: int, opener: ImageReader, rng: np.random.Generator) -> tuple[View, bool] | None:
        """Return the view of an image, and whether it is mirrored; None if it is unreadable."""
        whole = self._views.get(row) or self._opened(row, opener)
        if whole is None:
            return None
        if self.recipe.augment == "none":
            return whole, False
        mirrored = bool(rng.random() < 0.5)
        view = whole if self.recipe.augment == "mirror" else self._cropped(whole, rng)
        if self.recipe.alters:
            view = view._replace(pixels=augmented(view.pixels, self.recipe, rng))
        return view, mirrored

    def _cropped(self, whole: View, rng: np.random.Generator) -> View:
        height, width = whole.pixels.shape[1:]
        box = random_box(rng, height, width, self.recipe.least_area)
        return cropped_view(whole.pixels, box, self.preprocessing.size)

    def _opened(self, row: int, opener: ImageReader) -> View | None:
        pixels = opened(opener)
        if isinstance(pixels, str):
            self.skipped[row] = pixels
            return None
        crops = self.recipe.augment == "crop"
        view = View(pixels, (0, 0, 1, 1)) if crops else centred_view(pixels, self.preprocessing)
        with self._lock:
            if view.pixels.numel() <= self.budget:
                self.budget -= view.pixels.numel()
                self._views[row] = view
        return view


@dataclass(frozen=True, eq=False)
class Loader:
    """Batches of a training set.

    Attributes
    ----------
    name : callable
        A function that returns the name of the image in a row.
    pinned : bool
        Whether batches are in pinned memory, which a GPU can read directly.
    """

    order: ImageOrder
    plan: BatchPlan
    views: Views
    name: Callable[[int], str] = str
    pinned: bool = False

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, starting with step `first`.

        An unreadable image is replaced by the next image of its lane.

        Raises
        ------
        InputError
            If none of the images of a lane of a batch can be decoded.
        """
        batches = self.order.batches(self.plan, epoch, first)
        with decoders() as pool, ThreadPoolExecutor(1) as reader:
            pending: deque[tuple[Batch, list[Future[list[int]]]]] = deque()
            for samples in _ahead(batches, reader):
                pending.append(self._begun(samples, epoch, pool))
                if len(pending) > BATCHES_AHEAD:
                    yield self._ended(*pending.popleft())
            while pending:
                yield self._ended(*pending.popleft())

    def _begun(
        self, samples: list[Sample], epoch: int, pool: ThreadPoolExecutor
    ) -> tuple[Batch, list[Future[list[int]]]]:
        batch = Batch.empty(len(samples), self.views.preprocessing.size, self.pinned)
        starts = range(0, len(samples), _CHUNK)
        return batch, [pool.submit(self._fill, batch, samples, start, epoch) for start in starts]

    def _fill(self, batch: Batch, samples: list[Sample], start: int, epoch: int) -> list[int]:
        """Fill some places of a batch, and return those whose images cannot be decoded."""
        bad, end = [], min(start + _CHUNK, len(samples))
        # All at once: between the decoding of images, it takes four times as long.
        rngs = [self.views.rng(row, epoch) for row, _ in samples[start:end]]
        for at, (row, opener), rng in zip(range(start, end), samples[start:end], rngs, strict=True):
            seen = self.views(row, opener, rng)
            if seen is None:
                batch.rows[at] = row
                bad.append(at)
            else:
                batch.put(at, row, *seen)
        return bad

    def _ended(self, batch: Batch, parts: list[Future[list[int]]]) -> Batch:
        bad = {at for part in parts for at in part.result()}
        n = len(batch.rows)
        for at in bad:
            next_ones = ((at + k * self.plan.own_lanes) % n for k in range(1, n // self.plan.own_lanes))
            good = next((other for other in next_ones if other not in bad), None)
            if good is None:
                row = int(batch.rows[at])
                raise InputError(
                    "None of the images in a lane of a batch can be decoded.",
                    got=f"{self.name(row)}: {self.views.skipped[row]}",
                    do="check that the source contains images",
                )
            batch.copy(good, at)
        return batch


def opened(opener: ImageReader) -> Tensor | str:
    """Return the pixels of an image, uint8 of shape (3, h, w), or the reason why there are none."""
    try:
        return decode(opener())
    except OSError as error:
        return error.strerror or str(error)


def decoders() -> ThreadPoolExecutor:
    """Return the pool of threads with which a process decodes images: one for each of its cores.

    In each of them, PyTorch computes with a single thread. By default, PyTorch would start a group of threads
    for each of them. On two cores, such groups wait for each other in busy loops.
    """
    count = own_cores()
    pool = ThreadPoolExecutor(count, initializer=_alone)
    begun = threading.Barrier(count + 1)
    with threads_given_back():
        for _ in range(count):
            pool.submit(begun.wait)
        begun.wait()
    return pool


def _alone() -> None:
    torch.set_num_threads(1)
    # The first request of a thread fixes its team size: later, the default of the others would apply.
    torch.get_num_threads()


def _ahead(items: Iterator[_T], reader: ThreadPoolExecutor) -> Iterator[_T]:
    """Yield the items that another thread reads ahead."""
    nothing = object()
    pending = deque(reader.submit(next, items, nothing) for _ in range(BATCHES_AHEAD))
    while (item := pending.popleft().result()) is not nothing:
        pending.append(reader.submit(next, items, nothing))
        yield item  # type: ignore[misc]


def memory_share() -> int:
    """Return the memory available to each process of the run on this machine, in bytes."""
    return int(MEMORY_SHARE * free_memory() / local_processes())


def collect_images(
    source: ImageSource, rows: Mapping[str, int], order: str, buffer: int, budget: int
) -> ImageOrder:
    """Return the images of a source that have labels. They are kept in memory if they fit.

    Parameters
    ----------
    rows : Mapping of str to int
        Row of each image to train on, by image id.
    order : str
        ``auto``, ``all`` or ``shards``.
    buffer : int
        Size of the shuffle buffer for shards, in images.
    budget : int
        Memory for the images, in bytes.

    Raises
    ------
    MatchError
        If none of the images has labels.
    """
    if order == "shards":
        return Shards(source, rows, buffer)
    tried = _sizes(source, rows)
    if not tried:
        raise none_found(source.uri, rows)
    fits = sum(tried) / len(tried) * len(rows) <= budget
    if (
        order == "auto"
        and not fits
        and not all(isinstance(stored_part(part), Files) for part in source.parts)
    ):
        return Shards(source, rows, buffer)
    found = dict(_labelled_samples(source.parts, rows))
    own = sorted(found)
    openers = [found[row] for row in own]
    ids = {row: image_id for image_id, row in rows.items()}
    key = short_hash([source.fingerprint, *(ids[row] for row in own)])
    if not fits:
        return Everything(openers, own, key)
    with ThreadPoolExecutor() as pool:
        return Everything(list(pool.map(_held, openers)), own, key)


def _labelled_samples(parts: tuple[SourcePart, ...], rows: Mapping[str, int]) -> Iterator[Sample]:
    for part in parts:
        for item, opener in part.items():
            if (row := rows.get(item.image_id)) is not None:
                yield row, opener if isinstance(stored_part(part), Files | TarSlice) else _held(opener)


def _sizes(source: ImageSource, rows: Mapping[str, int]) -> list[int]:
    first = itertools.islice(_labelled_samples(source.parts, rows), _TRIED)
    return [_size(opener) for _, opener in first]


def _size(opener: ImageReader) -> int:
    try:
        data = opener()
    except OSError:
        return 0
    return 0 if isinstance(data, str) else len(data) if isinstance(data, bytes) else data.numel()


def _held(opener: ImageReader) -> ImageReader:
    """Return a reader of an image whose bytes are read now."""
    try:
        data = opener()
    except OSError as error:
        return failing_reader(error.strerror or str(error))
    return reader_of(data) if isinstance(data, bytes) else lambda: data


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
    """Draw the top, left, height and width of a crop.

    The crop follows Szegedy et al. 2015 and torchvision's ``RandomResizedCrop``. The area is a share of the
    image between `least` and 1. The aspect ratio is between 3/4 and 4/3, and its logarithm is uniform. After
    ten crops that do not fit, the largest central crop with a ratio in this range is used.
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


def cropped_view(pixels: Tensor, at: tuple[int, int, int, int], size: tuple[int, int]) -> View:
    """Return a crop at the input size of the network. Only the crop is resized, not the whole image."""
    (top, left, h, w), (height, width) = at, pixels.shape[1:]
    cut = pixels[None, :, top : top + h, left : left + w]
    # Decoded pixels are channels-last; resizing takes half the time in this layout.
    cut = cut.contiguous(memory_format=torch.channels_last)
    # As in torchvision's resize, which does more checks before.
    resized = F.interpolate(cut, size, mode="bilinear", antialias=True)
    return View(resized[0], (left / width, top / height, (left + w) / width, (top + h) / height))


def centred_view(pixels: Tensor, preprocessing: Preprocessing) -> View:
    """Return an image with the preprocessing that is used for predictions."""
    height, width = pixels.shape[1:]
    (h, w), (top, left) = preprocessing.window(height, width)
    box = (left / w, top / h, (left + preprocessing.size[1]) / w, (top + preprocessing.size[0]) / h)
    return View(preprocessing(pixels), (max(box[0], 0), max(box[1], 0), min(box[2], 1), min(box[3], 1)))
