"""Batches of crops, decoded beside the steps that use them; the same seed gives the same ones."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from manyhot.errors import InputError
from manyhot.models import Preprocessing
from manyhot.models.decode import decode
from manyhot.models.engines.torch_engine import threads_given_back
from manyhot.models.sources import Opener
from manyhot.train.cropping import View, centred, cropped, random_box
from manyhot.train.orders import Order, Plan, Sample
from manyhot.train.policies import altered
from manyhot.train.recipe import Recipe

AHEAD = 3
"""Batches that are made while a step runs."""

_CHUNK = 8
# Images that a thread takes at once.

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Batch:
    """Images of a step.

    Attributes
    ----------
    images : torch.Tensor of uint8, shape (n, 3, h, w)
    rows : torch.Tensor of int64, shape (n,)
        In the labels.
    boxes : torch.Tensor of float32, shape (n, 4)
        Left, top, right and bottom of each crop, as shares of the image, before it was mirrored.
    mirrored : torch.Tensor of bool, shape (n,)
    """

    images: Tensor
    rows: Tensor
    boxes: Tensor
    mirrored: Tensor

    @classmethod
    def empty(cls, n: int, size: tuple[int, int], pinned: bool) -> Batch:
        """Return a batch to be filled."""
        laid: Any = {"memory_format": torch.channels_last, "pin_memory": pinned}
        images = torch.empty((n, 3, *size), dtype=torch.uint8, **laid)
        rows, boxes = torch.empty(n, dtype=torch.int64), torch.empty((n, 4))
        return cls(images, rows, boxes, torch.zeros(n, dtype=torch.bool))

    def put(self, at: int, row: int, view: View, mirrored: bool) -> None:
        """Fill a place."""
        self.images[at] = view.pixels.flip(2) if mirrored else view.pixels
        # By NumPy: each call of PyTorch gives Python's lock away, and waits for it.
        self.rows.numpy()[at], self.mirrored.numpy()[at] = row, mirrored
        self.boxes.numpy()[at] = view.box

    def copy(self, source: int, to: int) -> None:
        """Fill a place with what is in another."""
        for array in (self.images, self.rows, self.boxes, self.mirrored):
            array[to] = array[source]


@dataclass(eq=False)
class Views:
    """Decoded images, kept as long as they fit into memory: what is small is decoded once.

    Attributes
    ----------
    recipe : Recipe
    preprocessing : Preprocessing
    budget : int
        Bytes.
    skipped : dict of int to str
        Why images could not be decoded, by row.
    """

    recipe: Recipe
    preprocessing: Preprocessing
    budget: int
    skipped: dict[int, str] = field(default_factory=dict)
    _kept: dict[int, View] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def rng(self, row: int, epoch: int) -> np.random.Generator:
        """Return what decides how an image is seen in an epoch."""
        return np.random.default_rng([self.recipe.seed, epoch, row])

    def __call__(self, row: int, opener: Opener, rng: np.random.Generator) -> tuple[View, bool] | None:
        """Return how an image is seen, and whether it is mirrored; None if it is unreadable."""
        whole = self._kept.get(row) or self._opened(row, opener)
        if whole is None:
            return None
        if self.recipe.augment == "none":
            return whole, False
        mirrored = bool(rng.random() < 0.5)
        view = whole if self.recipe.augment == "mirror" else self._cropped(whole, rng)
        if self.recipe.alters:
            view = view._replace(pixels=altered(view.pixels, self.recipe, rng))
        return view, mirrored

    def _cropped(self, whole: View, rng: np.random.Generator) -> View:
        height, width = whole.pixels.shape[1:]
        box = random_box(rng, height, width, self.recipe.least_area)
        return cropped(whole.pixels, box, self.preprocessing.size)

    def _opened(self, row: int, opener: Opener) -> View | None:
        pixels = opened(opener)
        if isinstance(pixels, str):
            self.skipped[row] = pixels
            return None
        crops = self.recipe.augment == "crop"
        view = View(pixels, (0, 0, 1, 1)) if crops else centred(pixels, self.preprocessing)
        with self._lock:
            if view.pixels.numel() <= self.budget:
                self.budget -= view.pixels.numel()
                self._kept[row] = view
        return view


@dataclass(frozen=True, eq=False)
class Loader:
    """Batches of a training set.

    Attributes
    ----------
    order : Order
    plan : Plan
    views : Views
    name : callable
        What an image is called, by its row.
    pinned : bool
        Whether batches lie in memory that a GPU reads directly.
    """

    order: Order
    plan: Plan
    views: Views
    name: Callable[[int], str] = str
    pinned: bool = False

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from a step on.

        The place of an unreadable image is taken by the next one of its lane.

        Raises
        ------
        InputError
            None of the images of a batch can be decoded.
        """
        batches = self.order.batches(self.plan, epoch, first)
        with decoders(self.plan.world) as pool, ThreadPoolExecutor(1) as reader:
            pending: deque[tuple[Batch, list[Future[list[int]]]]] = deque()
            for samples in _ahead(batches, reader):
                pending.append(self._begun(samples, epoch, pool))
                if len(pending) > AHEAD:
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
        # Made together: one by one, between images that are decoded, it takes four times as long.
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
                    "None of the images of a lane of a batch can be decoded.",
                    got=f"{self.name(row)}: {self.views.skipped[row]}",
                    do="look at the source: are these images?",
                )
            batch.copy(good, at)
        return batch


def opened(opener: Opener) -> Tensor | str:
    """Return the pixels of an image, uint8 of shape (3, h, w), or why there are none."""
    try:
        data = opener()
    except OSError as error:
        return error.strerror or str(error)
    return decode(data) if isinstance(data, bytes) else data


def decoders(processes: int = 1) -> ThreadPoolExecutor:
    """Return threads for what each of some processes decodes.

    Each computes alone: PyTorch would give it a team, and teams of threads that share two cores wait for one
    another in busy loops.
    """
    count = max(1, (os.cpu_count() or 1) // processes)
    pool = ThreadPoolExecutor(count, initializer=_alone)
    begun = threading.Barrier(count + 1)
    with threads_given_back():
        for _ in range(count):
            pool.submit(begun.wait)
        begun.wait()
    return pool


def _alone() -> None:
    torch.set_num_threads(1)
    # What a thread asks for first settles its team: later it would be as large as the others' again.
    torch.get_num_threads()


def _ahead(items: Iterator[_T], reader: ThreadPoolExecutor) -> Iterator[_T]:
    """Yield what another thread reads ahead."""
    nothing = object()
    pending = deque(reader.submit(next, items, nothing) for _ in range(AHEAD))
    while (item := pending.popleft().result()) is not nothing:
        pending.append(reader.submit(next, items, nothing))
        yield item  # type: ignore[misc]
