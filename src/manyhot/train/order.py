"""Held-out images, and the order of the others: a function of seed and epoch, for any number of processes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.classes import ClassList
from manyhot.data.table_inputs import read_splits
from manyhot.errors import InputError, MatchError, UsageError
from manyhot.formats.writing import PathLike
from manyhot.parameters import Between, Shown
from manyhot.predict.sources import ImageReader, ImageSource, SourcePart, stored_part
from manyhot.predict.sources.parquet import ParquetRows
from manyhot.tables.frames import examples
from manyhot.tables.image_ids import ids_like, without_option

Sample = tuple[int, ImageReader]
"""An image: its row in the labels, and its reader."""


@dataclass(frozen=True)
class BatchPlan:
    """The composition of batches and their distribution to processes.

    A batch has `batch` places. Place p belongs to lane ``p % lanes`` and to the process of rank ``p %
    world``. Because `world` divides `lanes`, each lane belongs to one process, and the order within a lane
    does not depend on the number of processes.

    Attributes
    ----------
    n : int
        Images of an epoch.
    """

    batch: int
    lanes: int
    seed: int
    n: int
    rank: int = 0
    world: int = 1

    @property
    def steps(self) -> int:
        """Number of batches in an epoch. The remaining images are dropped."""
        return self.n // self.batch

    @property
    def own(self) -> int:
        """Number of images per batch in this process."""
        return self.batch // self.world

    @property
    def own_lanes(self) -> int:
        """The lanes of this process."""
        return self.lanes // self.world


def plan_of(batch: int, lanes: int, seed: int, n: int, rank: int = 0, world: int = 1) -> BatchPlan:
    """Return how batches are cut.

    Raises
    ------
    InputError
        If there are fewer images than a batch needs, or if a batch cannot be divided among the processes.
    """
    if n < batch:
        raise InputError(
            "A batch has more images than the training set.",
            got=f"batch {batch:,}, {n:,} images",
            do=f"lower `batch` to {n:,} or less",
        )
    # At least two images of a lane in a batch: mixing pairs images of a lane.
    shared = math.gcd(batch // 2 if batch % 2 == 0 else batch, lanes)
    fitting = shared if shared < batch else 1
    if fitting % world:
        allowed = ", ".join(str(w) for w in range(1, fitting + 1) if fitting % w == 0)
        raise InputError(
            "The batch cannot be divided evenly among the processes.",
            got=f"{world} processes, batch {batch}, lanes {lanes}",
            allowed=f"{allowed} processes",
            do="start a different number of processes, or set `batch` and `lanes` to multiples of that "
            "number",
        )
    return BatchPlan(batch, fitting, seed, n, rank, world)


@dataclass(frozen=True, eq=False)
class Everything:
    """Images with random access, in one random order per epoch.

    Attributes
    ----------
    openers : sequence of ImageReader
    rows : sequence of int
        Row of each image in the labels.
    key : str
        A hash that identifies these images.
    """

    openers: Sequence[ImageReader]
    rows: Sequence[int]
    key: str = ""
    name: str = "all"

    @property
    def n(self) -> int:
        """The number of images."""
        return len(self.openers)

    def batches(self, plan: BatchPlan, epoch: int, first: int) -> Iterator[list[Sample]]:
        """Yield the images of this process in each batch of an epoch, starting with step `first`."""
        order = np.random.default_rng([plan.seed, epoch]).permutation(self.n)
        for step in range(first, plan.steps):
            own = order[step * plan.batch :][: plan.batch][plan.rank :: plan.world]
            yield [(self.rows[i], self.openers[i]) for i in own]


@dataclass(frozen=True, eq=False)
class Shards:
    """Images that are read shard by shard.

    In each epoch, shards are distributed to lanes again. An exhausted lane starts again, so that the number
    of batches in an epoch depends only on the number of images.

    Attributes
    ----------
    source : ImageSource
    rows : Mapping of str to int
        Row of each image to train on, by image id.
    buffer : int
        Size of the shuffle buffer.
    """

    source: ImageSource
    rows: Mapping[str, int]
    buffer: int
    name: str = "shards"

    @property
    def n(self) -> int:
        """The number of training images."""
        return len(self.rows)

    def batches(self, plan: BatchPlan, epoch: int, first: int) -> Iterator[list[Sample]]:
        """Yield the images of this process in each batch. Earlier images are skipped without being read."""
        shards = _shards(self.source.parts)
        if len(shards) < plan.lanes:
            raise InputError(
                "There are fewer shards than lanes.",
                where=self.source.uri,
                got=f"{len(shards)} shards, {plan.lanes} lanes",
                do=f"set `lanes` to {len(shards)} or less, or `order` to all",
            )
        each = plan.batch // plan.lanes
        lanes = [self._lane(plan, epoch, lane, shards) for lane in range(plan.rank, plan.lanes, plan.world)]
        for lane in lanes:
            next(itertools.islice(lane, first * each, first * each), None)
        for _ in range(first, plan.steps):
            yield [next(lane) for _ in range(each) for lane in lanes]

    def _lane(
        self, plan: BatchPlan, epoch: int, lane: int, shards: Sequence[Sequence[SourcePart]]
    ) -> Iterator[Sample]:
        for again in itertools.count():
            deal = np.random.default_rng([plan.seed, epoch, again]).permutation(len(shards))
            own = [part for shard in deal[lane :: plan.lanes] for part in shards[shard]]
            images = shuffled(self._labelled(own), self.buffer, [plan.seed, epoch, again, lane])
            found = next(images, None)
            if found is None and again == len(shards):
                raise none_found(self.source.uri, self.rows)
            if found is not None:
                yield found
                yield from images

    def _labelled(self, parts: Sequence[SourcePart]) -> Iterator[Sample]:
        for part in parts:
            for item, opener in part.items():
                if (row := self.rows.get(item.image_id)) is not None:
                    yield row, opener


ImageOrder = Everything | Shards
"""Images of a training set; `name` is as in a recipe."""


def shuffled(samples: Iterator[Sample], size: int, seed: Sequence[int]) -> Iterator[Sample]:
    """Yield images in the order in which they leave a shuffle buffer."""
    rng = np.random.default_rng(seed)
    held = list(itertools.islice(samples, size))
    for sample in samples:
        at = int(rng.integers(len(held)))
        yield held[at]
        held[at] = sample
    for at in rng.permutation(len(held)):
        yield held[at]


def _shards(parts: Sequence[SourcePart]) -> list[list[SourcePart]]:
    """Return the parts that must be read in order, such as those of a row group of Parquet."""

    def of(part: SourcePart) -> object:
        stored = stored_part(part)
        return (stored.place.file, stored.group) if isinstance(stored, ParquetRows) else part.name

    return [list(group) for _, group in itertools.groupby(parts, of)]


def none_found(where: object, rows: Mapping[str, int]) -> MatchError:
    """Return the error to raise if no image of a source has labels."""
    return MatchError(
        "None of the images has labels.",
        where=where,
        got=f"labels of other images, such as {next(iter(rows), 'none')}",
        do="check that the images and the labels belong to the same data set, and that image ids are file "
        "names without a folder",
    )


HeldOutShare = Annotated[float, Between(0, 1, "()"), Shown("SHARE")]

HELD_OUT_SHARE = 0.3
"""The default share."""


class HeldOut(NamedTuple):
    """Held-out images: the images that a table holds out, or a random share."""

    test: Mapping[str, bool] | None
    share: float
    seed: int

    def of(self, ids: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Return which of the given images are held out."""
        if self.test is not None:
            test = _by_ids(self.test, ids)
            return np.array([test.get(i, False) for i in ids], bool)
        return np.random.default_rng([self.seed, len(ids)]).random(len(ids)) < self.share


def _by_ids(test: Mapping[str, bool], ids: Sequence[str]) -> Mapping[str, bool]:
    """Return which images are held out by their ids, if a table of splits writes all of them differently."""
    if not ids or any(i in test for i in ids):
        return test
    own, others = pa.array(test, pa.string()), pa.array(ids, pa.string())
    with without_option():
        like = ids_like(own, others, name="the split", other_name="the images")
    if not like.n:
        raise MatchError(
            "None of the images is in the table of splits.",
            got=f"splits of images such as {examples(own)}",
            allowed=f"images such as {examples(others)}",
        )
    return dict(zip(like.ids.to_pylist(), test.values(), strict=True))


def held_out_of(path: PathLike | None, share: float, seed: int) -> HeldOut:
    """Return the held-out images of a table of splits, or a random share if there is no table.

    Raises
    ------
    InputError
        If the table does not exist, has no column ``split``, or holds out no image.
    UsageError
        If both a table and a share are passed.
    """
    if path is None:
        return HeldOut(None, share, seed)
    if share != HELD_OUT_SHARE:
        raise UsageError(
            "`split` and `held_out` cannot be combined.",
            got=f"split {path} and held-out share {share:g}",
            do="omit `held_out`: the images of the split test are held out",
        )
    splits = read_splits(path)
    test = {image_id: split == "test" for image_id, split in splits.items()}
    if not any(test.values()):
        raise InputError(
            "No image is held out.",
            where=path,
            got=", ".join(sorted(map(str, set(splits.values())))),
            allowed="a split named test",
        )
    return HeldOut(test, share, seed)


@dataclass(frozen=True, eq=False)
class SplitLabels:
    """Label sets and original labels of the images to fit on and of the held-out images.

    Attributes
    ----------
    names : sequence of str, length n
        The ids of the images.
    state : ndarray of uint8, shape (n, C)
    label : ndarray of int, shape (n,)
        The original label, or `NO_LABEL`.
    held : ndarray of bool, shape (n,)
        Which images are held out.
    """

    names: Sequence[str]
    state: npt.NDArray[np.uint8]
    label: npt.NDArray[np.integer]
    held: npt.NDArray[np.bool_]
    classes: ClassList
