"""Score the parts of a source: batches of images through an engine, on all cores."""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from errno import EACCES, EHOSTDOWN, EIO, ENOTCONN, EPERM, ESTALE, ETIMEDOUT
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy import typing as npt

from manyhot.core.top_classes import top_k
from manyhot.core.uncertainty import uncertainty_of
from manyhot.errors import InputError
from manyhot.predict.decode import decode
from manyhot.predict.engines import Engine, check_outputs
from manyhot.predict.engines.torch import threads_given_back
from manyhot.predict.model_code import failures_of
from manyhot.predict.network import Bytes, Float32Array, Network, Preprocessing
from manyhot.predict.sources import ImageReader, Item, SourceLostError, SourcePart, images_together
from manyhot.predict.sources.remote import is_remote
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
        Columns with the uncertainty of averaged predictions; empty for a single model.
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
    """A network, the engine that runs it, the scores to keep, and the time that they took so far."""

    network: Network
    engine: Engine
    keep: Keep
    seconds: Seconds = field(default_factory=Seconds)


PartScorer = tuple[SourcePart, Scorer]
"""A part of a source, and the network that scores it."""


class _Image(NamedTuple):
    part: int
    item: Item
    size: tuple[int, int] | None
    reason: str


@dataclass(frozen=True, eq=False)
class _Batch:
    seconds: Seconds
    images: Sequence[_Image]
    classes: npt.NDArray[np.int32] | None = None
    scores: Float32Array | None = None
    logsumexp: Float32Array | None = None
    uncertainty: Mapping[str, Float32Array] = field(default_factory=dict)
    features: npt.NDArray[np.float16] | None = None


@dataclass(frozen=True, eq=False)
class _Bundle:
    """Images for one thread: the next ones of a group.

    Attributes
    ----------
    group, number : int
        Number of the group, and of the bundle in the group.
    scorers : sequence of (int, Scorer)
        The number of the part that each scores, and the scorers of the group.
    images : list of (int, Item, ImageReader)
        The number of the part of each image, and the image. Those of one original follow each other, so that
        it is decoded once. Without images, the group ends.
    n : int
        The number of images.
    """

    group: int
    number: int
    scorers: Sequence[tuple[int, Scorer]]
    images: list[tuple[int, Item, ImageReader]]
    n: int


def _bundles(groups: Sequence[Sequence[PartScorer]]) -> Iterator[_Bundle]:
    """Yield the images of groups, as many originals at a time as fill the smallest batch of the engines.

    Alterations skip some images. With `_FULL` originals, only the last batch of a bundle is not full.
    """
    for group, own in enumerate(groups):
        parts = {id(part): part for part, _ in own}
        scorers = [([*parts].index(id(part)), scorer) for part, scorer in own]
        images = images_together([*parts.values()])
        originals = min(scorer.engine.batch for _, scorer in own)
        if len(parts) > 1:
            originals = max(_FULL, originals // len(parts))
        for number in itertools.count():
            following = [*itertools.chain.from_iterable(itertools.islice(images, originals))]
            yield _Bundle(group, number, scorers, following, n := len(following))
            if not n:
                break


def score_parts(
    groups: Sequence[Sequence[PartScorer]], *, progress: Callable[[int], None] | None = None
) -> Iterator[list[Scored]]:
    """Score the images of parts, and yield the scores of each group when it is complete.

    Each thread processes a batch from reading to the top classes, so that no core waits for another and only
    the batches in progress are in memory. Within a group, an image is read and decoded once, altered once,
    and resized once for all networks with the same crop, and the parts fill the batches of an engine
    together.

    Parameters
    ----------
    groups : sequence of sequence of (SourcePart, Scorer)
        All pairs in a group share one part, or their parts alter the same images.
    progress : callable, optional
        Called with the number of images done since the last call; each altered image counts separately.

    Yields
    ------
    list of Scored
        The scores of each part of a group.

    Raises
    ------
    SourceLostError
        If the storage does not respond.
    InputError
        If the scores of a network are NaN.
    """
    bundles, lock = _bundles(groups), threading.Lock()
    done, stop = queue.Queue[Any](64), threading.Event()

    def take() -> _Bundle | None:
        with lock:
            return next(bundles, None)

    def work() -> None:
        try:
            while not stop.is_set() and (bundle := take()) is not None:
                _put(done, (bundle, _scored(bundle, stop) if bundle.n else None), stop)
        except BaseException as error:
            _put(done, error, stop)

    n_workers = min((scorer.engine.workers for group in groups for _, scorer in group), default=0)
    # Daemon threads: an engine cannot be interrupted in a batch, and Ctrl-C must not wait for it.
    workers = [threading.Thread(target=work, daemon=True) for _ in range(n_workers)]
    with threads_given_back():
        for worker in workers:
            worker.start()
        try:
            yield from _collected(done, groups, progress)
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
    done: queue.Queue[Any], groups: Sequence[Sequence[PartScorer]], progress: Callable[[int], None] | None
) -> Iterator[list[Scored]]:
    """Join the batches of each part, and yield the groups in order."""
    found: dict[int, dict[int, list[_Batch]]] = collections.defaultdict(dict)
    sizes: dict[int, int] = {}
    for group, parts in enumerate(groups):
        while len(found[group]) != sizes.get(group):
            got = done.get()
            if isinstance(got, BaseException):
                raise got
            bundle, batches = got
            if batches is None:
                sizes[bundle.group] = bundle.number
                continue
            found[bundle.group][bundle.number] = batches
            for (_, scorer), batch in zip(groups[bundle.group], batches, strict=True):
                scorer.seconds.add(batch.seconds)
            if progress is not None:
                progress(bundle.n)
        own = found.pop(group)
        yield [_joined(part, [own[i][k] for i in range(len(own))]) for k, (part, _) in enumerate(parts)]


def _scored(bundle: _Bundle, stop: threading.Event) -> list[_Batch] | None:
    """Return the scores of a bundle by each scorer; None if the run has stopped."""
    read = _read(bundle, stop)
    if read is None:
        return None
    images, crops, shared = read
    parts = np.array([image.part for image in images if not image.reason])
    decoded = [image.item.uri for image in images if not image.reason]
    outputs: dict[int, tuple[npt.NDArray[np.intp], Float32Array, Float32Array | None]] = {}
    batches = []
    for part, scorer in bundle.scorers:
        begun = time.perf_counter()
        batch = _Batch(replace(shared), [image for image in images if image.part == part])
        if id(scorer.engine) not in outputs:
            inside = np.isin(parts, [p for p, other in bundle.scorers if other.engine is scorer.engine])
            pixels = crops[scorer.network.preprocessing.crop][inside]
            uris = [uri for uri, is_inside in zip(decoded, inside, strict=True) if is_inside]
            outputs[id(scorer.engine)] = parts[inside], *_outputs(scorer, pixels, uris)
        part_of, scores, more = outputs[id(scorer.engine)]
        own = part_of == part
        if own.any():
            batch = _with_scores(batch, scorer, scores[own], None if more is None else more[own])
        batch.seconds.model = time.perf_counter() - begun
        batches.append(batch)
    return batches


def _read(
    bundle: _Bundle, stop: threading.Event
) -> tuple[list[_Image], dict[Preprocessing, Bytes], Seconds] | None:
    """Return the images of a bundle, their crops, and the times; None if the run has stopped."""
    crops: dict[Preprocessing, list[Bytes]] = {s.network.preprocessing.crop: [] for _, s in bundle.scorers}
    images, seconds = list[_Image](), Seconds()
    waiting = collections.deque(bundle.images)
    bundle.images.clear()  # readers of altered images share the pixels of their original
    while waiting:
        if stop.is_set():
            return None
        part, item, read = waiting.popleft()
        begun = time.perf_counter()
        data = read_image(read)
        took = time.perf_counter()
        image = decode(data)
        if isinstance(image, str):
            images.append(_Image(part, item, None, image))
        else:
            images.append(_Image(part, item, (image.shape[2], image.shape[1]), ""))
            for crop, pixels in crops.items():
                pixels.append(crop(image).numpy())
        seconds.read += (took - begun) / len(bundle.scorers)  # shared equally
        seconds.decode += (time.perf_counter() - took) / len(bundle.scorers)
    return images, {crop: np.array(pixels) for crop, pixels in crops.items()}, seconds


def _outputs(scorer: Scorer, pixels: Bytes, uris: Sequence[str]) -> tuple[Float32Array, Float32Array | None]:
    """Return what an engine returns for any number of images.

    Raises
    ------
    ManyhotError
        If the model fails, or returns another shape. The message names the images of the batch.
    """
    if not len(pixels):
        return np.empty((0, 0), np.float32), None
    made = []
    for i in range(0, len(pixels), scorer.engine.batch):
        batch = slice(i, i + scorer.engine.batch)
        images = uris[i] if len(uris[batch]) == 1 else f"{len(uris[batch])} images from {uris[i]} on"
        with failures_of(scorer.network.name, images):
            made.append(scorer.engine(pixels[batch]))
        check_outputs(*made[-1], len(uris[batch]), scorer.network, images)
    more = [two for _, two in made if two is not None]
    return np.concatenate([one for one, _ in made]), np.concatenate(more) if more else None


def _with_scores(
    batch: _Batch, scorer: Scorer, scores: Float32Array, features: Float32Array | None
) -> _Batch:
    """Return a batch with the scores that are kept, and with the uncertainty or the features."""
    network, keep = scorer.network, scorer.keep
    kept = select_scores(scores, network, keep, [i.item.uri for i in batch.images if not i.reason])
    if network.members is None or features is None:
        half = None if features is None else features.astype(np.float16)
        return _Batch(batch.seconds, batch.images, *kept, features=half)
    return _Batch(batch.seconds, batch.images, *kept, _uncertainty(scores, features, network, keep, kept[0]))


def read_image(read: ImageReader) -> bytes | str | Tensor:
    """Return the bytes or the pixels of an image, or the reason why there are none."""
    try:
        return read()
    except SourceLostError:
        raise
    except FileNotFoundError:
        return _MISSING
    except OSError as error:
        return f"{_UNREAD}{error.strerror or error}"


_MISSING, _UNREAD = "the file no longer exists", "cannot be read: "
_NO_ACCESS = frozenset(
    (
        _MISSING,
        *(
            _UNREAD + os.strerror(code)
            for code in (EACCES, EPERM, EIO, ESTALE, ENOTCONN, ETIMEDOUT, EHOSTDOWN)
        ),
    )
)


def is_unread(uri: str, reason: str) -> bool:
    """Return whether a local file was skipped because this machine could not access it."""
    return reason in _NO_ACCESS and not is_remote(uri)


def select_scores(
    logits: Float32Array, network: Network, keep: Keep, names: Sequence[str]
) -> tuple[npt.NDArray[np.int32] | None, Float32Array, Float32Array | None]:
    """Return the top classes of a batch (None to keep all), the scores of these classes, and the logsumexp.

    Raises
    ------
    InputError
        If scores are NaN or infinite. The message names one of the images. A score of minus infinity is
        allowed and rules out a class, but it must not rule out all classes of an image.
    """
    scores = logits if keep.columns is None else logits[:, keep.columns]
    highest = scores.max(axis=1, initial=-np.inf)  # NaN if a score is
    if scores.size and not np.isfinite(highest).all():
        kind = "NaN" if np.isnan(highest).any() else "infinite"
        raise InputError(
            f"The network returns {kind} scores.",
            where=network.name,
            got=f"for {names[int((np.isnan if kind == 'NaN' else np.isinf)(highest).argmax())]}",
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


def _joined(part: SourcePart, batches: Sequence[_Batch]) -> Scored:
    def rows(name: str) -> Any:
        found = [getattr(b, name) for b in batches if getattr(b, name) is not None]
        return np.concatenate(found) if found else None

    images = [image for b in batches for image in b.images]
    scores = rows("scores")
    names = dict.fromkeys(name for b in batches for name in b.uncertainty)
    return Scored(
        part,
        [image.item for image in images],
        [image.size for image in images],
        [image.reason for image in images],
        rows("classes"),
        np.empty((0, 0), np.float32) if scores is None else scores,
        rows("logsumexp"),
        {name: np.concatenate([b.uncertainty[name] for b in batches if b.uncertainty]) for name in names},
        rows("features"),
    )
