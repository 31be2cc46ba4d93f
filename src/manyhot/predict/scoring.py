"""Score the parts of a source: batches of images through an engine, on all cores."""

from __future__ import annotations

import collections
import contextlib
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Bools
from manyhot.core.sets import top_k
from manyhot.core.uncertainty import uncertainty_of
from manyhot.errors import InputError
from manyhot.predict.decode import decode
from manyhot.predict.engines import Engine
from manyhot.predict.engines.torch import threads_given_back
from manyhot.predict.network import Bytes, Float32Array, Network, Preprocessing
from manyhot.predict.sources import ImageReader, Item, PartsTogether, SourceLostError, SourcePart
from manyhot.tables.predictions import uncertainty_columns

if TYPE_CHECKING:
    from torch import Tensor


Ids = npt.NDArray[np.intp]

_FULL = 8
"""Originals of a bundle of altered images. Some of VOC's images cannot be altered, and 11 % of the places in
batches of two images were empty; of the 20 to 32 images of 8 originals, at most one batch is not full."""


@dataclass
class Seconds:
    """The time of all threads, by step."""

    read: float = 0.0
    decode: float = 0.0
    model: float = 0.0
    write: float = 0.0

    def add(self, other: Seconds) -> None:
        """Add the times of another."""
        self.read += other.read
        self.decode += other.decode
        self.model += other.model
        self.write += other.write


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores of a part. Arrays have a row for each image that was not skipped.

    Attributes
    ----------
    part : SourcePart
    items : sequence of Item
    sizes : sequence of (int, int) or None
        Width and height.
    reasons : sequence of str
        Reason why each image was skipped; empty if it was not.
    classes : ndarray of int32, shape (n, k), optional
    scores : ndarray of float32, shape (n, k) or (n, C)
    logsumexp : ndarray of float32, shape (n,), optional
    uncertainty : Mapping of str to ndarray
        Columns of the predictions of an average of several models.
    features : ndarray of float16, shape (n, D), optional
    """

    part: SourcePart
    items: Sequence[Item]
    sizes: Sequence[tuple[int, int] | None]
    reasons: Sequence[str]
    classes: npt.NDArray[np.int32] | None
    scores: Float32Array
    logsumexp: Float32Array | None
    uncertainty: Mapping[str, Float32Array]
    features: npt.NDArray[np.float16] | None


@dataclass(frozen=True)
class Keep:
    """The scores to keep.

    Attributes
    ----------
    top : int, optional
        Number of top classes; None for the scores of all classes.
    columns : ndarray of int, optional
        Columns of the network's scores that hold the classes of the data set; all by default.
    """

    top: int | None = 20
    columns: Ids | None = None


@dataclass(frozen=True, eq=False)
class Scorer:
    """A network, the engine that runs it, and the scores to keep."""

    network: Network
    engine: Engine
    keep: Keep


@dataclass(frozen=True, eq=False)
class _Batch:
    items: list[Item]
    sizes: list[tuple[int, int] | None]
    reasons: list[str]
    classes: npt.NDArray[np.int32] | None
    scores: Float32Array | None
    logsumexp: Float32Array | None
    uncertainty: Mapping[str, Float32Array]
    features: npt.NDArray[np.float16] | None

    def of(self, own: Bools) -> _Batch:
        """Return some of the images."""
        if own.all():
            return self
        scored = own[[not reason for reason in self.reasons]]

        def rows(values: Any) -> Any:
            return None if values is None else values[scored]

        return _Batch(
            [*itertools.compress(self.items, own)],
            [*itertools.compress(self.sizes, own)],
            [*itertools.compress(self.reasons, own)],
            rows(self.classes),
            rows(self.scores),
            rows(self.logsumexp),
            {name: rows(values) for name, values in self.uncertainty.items()},
            rows(self.features),
        )


@dataclass(frozen=True, eq=False)
class _Bundle:
    """Images for one thread: the next ones of a part, or of all parts that alter the same images.

    Attributes
    ----------
    first, count : int
        Number of the first of these parts, and how many they are.
    batch : int
        Number of the bundle in its parts.
    images : list of (int, (Item, ImageReader))
        The part of each image, counted from `first`, and the image. Those of one original follow each other,
        so that it is decoded once. Without images, the parts end.
    """

    first: int
    count: int
    batch: int
    images: list[tuple[int, tuple[Item, ImageReader]]]


def _bundles(groups: Sequence[PartsTogether], size: int) -> Iterator[_Bundle]:
    """Yield the images of parts, up to `size` originals at a time, or more if the engine's batches are small.

    Alterations skip some images. With `_FULL` originals, only the last batch of a bundle is not full.
    """
    first = 0
    for group in groups:
        count, images = len(group.parts), group.images()
        originals = max(_FULL, size // count) if count > 1 else size
        for batch in itertools.count():
            own = [*itertools.chain.from_iterable(itertools.islice(images, originals))]
            ends = not own
            yield _Bundle(first, count, batch, own)  # which the thread empties
            if ends:
                break
        first += count


def score_parts(
    parts: Sequence[SourcePart | PartsTogether],
    network: Network,
    engine: Engine,
    keep: Keep,
    *,
    seconds: Seconds | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Scored]:
    """Score the images of parts with one network; see `score_together`."""
    scorer = Scorer(network, engine, keep)
    own = [seconds or Seconds()]
    return (scored for (scored,) in score_together(parts, [scorer], seconds=own, progress=progress))


def score_together(
    parts: Sequence[SourcePart | PartsTogether],
    scorers: Sequence[Scorer],
    *,
    seconds: Sequence[Seconds] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[list[Scored]]:
    """Score the images of parts with several networks, and yield each part when it is complete.

    Each thread processes a batch from reading to the top classes, so that no core waits for another and only
    the batches in progress are in memory. An image is read and decoded once for all networks, and resized
    once for those with the same crop.

    Parameters
    ----------
    parts : sequence of SourcePart or PartsTogether
        Each of the parts that are read together is yielded on its own.
    scorers : sequence of Scorer
        Scorers whose engines use the same number of threads.
    seconds : sequence of Seconds, optional
        The times of each network, to which the times of this call are added. Shared steps are divided
        equally.
    progress : callable, optional
        Called with the number of images done since the last call.

    Yields
    ------
    list of Scored
        The scores of a part by each network.

    Raises
    ------
    SourceLostError
        If the storage does not respond.
    InputError
        If the scores of a network are NaN.
    """
    (n_workers,) = {scorer.engine.workers for scorer in scorers}
    groups = [part if isinstance(part, PartsTogether) else PartsTogether((part,)) for part in parts]
    single = [part for group in groups for part in group.parts]
    bundles = _bundles(groups, min(scorer.engine.batch for scorer in scorers))
    lock = threading.Lock()
    done, stop = queue.Queue[Any](64), threading.Event()

    def take() -> _Bundle | None:
        with lock:
            return next(bundles, None)

    def work() -> None:
        own = [Seconds() for _ in scorers]
        try:
            while not stop.is_set() and (taken := take()) is not None:
                result = _scored(taken, scorers, own, stop) if taken.images else None
                for part in range(taken.count):
                    _put(done, (taken.first + part, taken.batch, result and result[part]), stop)
        except BaseException as error:
            _put(done, error, stop)
        _put(done, own, stop)

    # Daemon threads: an engine cannot be interrupted in a batch, and Ctrl-C must not wait for it.
    workers = [threading.Thread(target=work, daemon=True) for _ in range(n_workers)]
    with threads_given_back():
        for worker in workers:
            worker.start()
        try:
            yield from _collected(done, single, len(workers), len(scorers), seconds, progress)
        finally:
            stop.set()
            _join(workers)


def _join(workers: Sequence[threading.Thread]) -> None:
    """Wait up to a second for the threads to end: an engine aborts a process that exits while it runs."""
    until = time.monotonic() + 1
    for worker in workers:
        worker.join(max(0.0, until - time.monotonic()))


def _put(done: queue.Queue[Any], result: Any, stop: threading.Event) -> None:
    while not stop.is_set():
        with contextlib.suppress(queue.Full):
            done.put(result, timeout=0.2)
            return


def _collected(
    done: queue.Queue[Any],
    parts: Sequence[SourcePart],
    running: int,
    n_networks: int,
    seconds: Sequence[Seconds] | None,
    progress: Callable[[int], None] | None,
) -> Iterator[list[Scored]]:
    """Join batches into parts, and yield the parts in order."""
    open_: dict[int, dict[int, list[_Batch]]] = {}
    sizes: dict[int, int] = {}
    following = 0
    while running:
        got = done.get()
        if isinstance(got, BaseException):
            raise got
        if isinstance(got, list):  # the times of a thread that has ended
            running -= 1
            for total, one in zip(seconds or (), got, strict=False):
                total.add(one)
            continue
        number, batch, result = got
        if result is None:
            sizes[number] = batch
        else:
            open_.setdefault(number, {})[batch] = result
            if progress is not None:
                progress(len(result[0].items))
        while following in sizes and len(open_.get(following, {})) == sizes[following]:
            batches = open_.pop(following, {})
            own = [[batches[i][k] for i in range(len(batches))] for k in range(n_networks)]
            yield [_joined(parts[following], one) for one in own]
            following += 1


def _scored(
    bundle: _Bundle, scorers: Sequence[Scorer], seconds: Sequence[Seconds], stop: threading.Event
) -> list[list[_Batch]] | None:
    """Return the scores of each part of a bundle by each network; None if the run has stopped."""
    crops: dict[Preprocessing, list[Any]] = {s.network.preprocessing.crop: [] for s in scorers}
    items = [item for _, (item, _) in bundle.images]
    sizes: list[tuple[int, int] | None] = []
    reasons: list[str] = []
    shared = Seconds()
    readers = collections.deque(read for _, (_, read) in bundle.images)
    number = np.array([part for part, _ in bundle.images])
    bundle.images.clear()  # readers of altered images share the pixels of their original
    while readers:
        if stop.is_set():
            return None
        begun = time.perf_counter()
        data = read_image(readers.popleft())
        took = time.perf_counter()
        shared.read += took - begun
        image = decode(data) if isinstance(data, bytes) else data
        if isinstance(image, str):
            sizes.append(None)
            reasons.append(image)
        else:
            sizes.append((image.shape[2], image.shape[1]))
            reasons.append("")
            for crop, pixels in crops.items():
                pixels.append(crop(image).numpy())
        shared.decode += time.perf_counter() - took
    for own in seconds:
        own.add(Seconds(shared.read / len(scorers), shared.decode / len(scorers)))
    stacked = {crop: np.stack(pixels) for crop, pixels in crops.items() if pixels}
    together = []
    for scorer, own in zip(scorers, seconds, strict=True):
        begun = time.perf_counter()
        scores = _scores(scorer, stacked.get(scorer.network.preprocessing.crop), items, reasons)
        together.append(_Batch(items, sizes, reasons, *scores))
        own.model += time.perf_counter() - begun
    return [[batch.of(number == part) for batch in together] for part in range(bundle.count)]


_Scores = tuple[
    npt.NDArray[np.int32] | None,
    Float32Array | None,
    Float32Array | None,
    dict[str, Float32Array],
    npt.NDArray[np.float16] | None,
]


def _scores(scorer: Scorer, pixels: Bytes | None, items: Sequence[Item], reasons: Sequence[str]) -> _Scores:
    """Return classes, scores, logsumexp, uncertainty and features of the images of a bundle."""
    network, keep, size = scorer.network, scorer.keep, scorer.engine.batch
    if pixels is None:
        return None, None, None, {}, None
    made = [scorer.engine(pixels[i : i + size]) for i in range(0, len(pixels), size)]
    logits = np.concatenate([one for one, _ in made])
    more = [two for _, two in made if two is not None]
    features = np.concatenate(more) if more else None
    uris = [item.uri for item, reason in zip(items, reasons, strict=True) if not reason]
    kept = select_scores(logits, network, keep, uris)
    uncertainty: dict[str, Float32Array] = {}
    if network.members is not None and features is not None:
        uncertainty, features = _uncertainty(logits, features, network, keep, kept[0]), None
    return (*kept, uncertainty, _half(features))


def read_image(read: ImageReader) -> bytes | str | Tensor:
    """Return the bytes or the pixels of an image, or the reason why there are none."""
    try:
        return read()
    except SourceLostError:
        raise
    except FileNotFoundError:
        return "the file no longer exists"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def select_scores(
    logits: Float32Array, network: Network, keep: Keep, names: Sequence[str]
) -> tuple[npt.NDArray[np.int32] | None, Float32Array, Float32Array | None]:
    """Return the top classes of a batch (None to keep all), the scores of these classes, and the logsumexp.

    Raises
    ------
    InputError
        If scores are NaN. The message names one of the images.
    """
    scores = logits if keep.columns is None else logits[:, keep.columns]
    if np.isnan(scores).any():
        raise InputError(
            "The network returns NaN scores.",
            where=network.name,
            got=f"for {names[int(np.isnan(scores).any(1).argmax())]}",
            do="use a higher `precision`, or check the weights",
        )
    total = _logsumexp(scores) if network.score_kind == "logit" else None
    if keep.top is None:
        return None, scores, total
    classes = top_k(scores, keep.top)
    return classes.astype(np.int32), np.take_along_axis(scores, classes, axis=1), total


def _uncertainty(
    mean: Float32Array,
    information: Float32Array,
    network: Network,
    keep: Keep,
    top: npt.NDArray[np.int32] | None,
) -> dict[str, Float32Array]:
    """Return the columns of the uncertainty of a batch, over the classes that are kept."""
    if keep.columns is not None and network.multilabel:  # of exclusive classes, it is that of all
        mean, information = mean[:, keep.columns], information[:, keep.columns]
    found = uncertainty_of(mean, information, multilabel=network.multilabel)
    return uncertainty_columns(found if top is None else found.of_classes(top))


def _logsumexp(logits: Float32Array) -> Float32Array:
    exact = logits.astype(np.float64)
    best = exact.max(axis=1)
    total: npt.NDArray[np.float64] = best + np.log(np.exp(exact - best[:, None]).sum(axis=1))
    return total.astype(np.float32)


def _half(features: Float32Array | None) -> npt.NDArray[np.float16] | None:
    return None if features is None else features.astype(np.float16)


def _joined(part: SourcePart, batches: Sequence[_Batch]) -> Scored:
    def rows(name: str) -> Any:
        found = [getattr(b, name) for b in batches if getattr(b, name) is not None]
        return np.concatenate(found) if found else None

    scores = rows("scores")
    names = dict.fromkeys(name for b in batches for name in b.uncertainty)
    return Scored(
        part,
        [item for b in batches for item in b.items],
        [size for b in batches for size in b.sizes],
        [reason for b in batches for reason in b.reasons],
        rows("classes"),
        np.empty((0, 0), np.float32) if scores is None else scores,
        rows("logsumexp"),
        {name: np.concatenate([b.uncertainty[name] for b in batches if b.uncertainty]) for name in names},
        rows("features"),
    )
