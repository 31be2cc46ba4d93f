"""Predictions in memory: for notebooks, and for modules of one's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from manyhot.classes import ClassList
from manyhot.errors import InputError
from manyhot.models.engines import Choice, Trial, choose, precision_of
from manyhot.models.find import find_model
from manyhot.models.job import Settings, columns_of, sample
from manyhot.models.network import Network
from manyhot.models.scored import Keep, Scored, score_parts
from manyhot.models.sources import Labels, Source, open_source
from manyhot.tables import Images, Predictions


@dataclass(frozen=True)
class Skipped:
    """An image that could not be predicted, and why."""

    image_id: str
    uri: str
    reason: str


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a model said about the images of a source.

    Attributes
    ----------
    predictions : Predictions
        The best classes or the scores of all. In the order of `images`.
    images : Images
        The images that could be decoded.
    skipped : tuple of Skipped
        Those that could not.
    embeddings : ndarray of float16, shape (n, D), optional
        Penultimate features, where they were asked for.
    trials : tuple of Trial
        What engines did, the chosen one among them.
    notes : tuple of str
        What to know about the model, such as that its preprocessing is assumed.
    """

    predictions: Predictions
    images: Images
    skipped: tuple[Skipped, ...]
    embeddings: npt.NDArray[np.float16] | None = None
    trials: tuple[Trial, ...] = ()
    notes: tuple[str, ...] = ()


def predict(
    source: Any,
    model: Any,
    *,
    top: int | None = 20,
    classes: ClassList | None = None,
    labels: str | os.PathLike[str] | None = None,
    engine: str = "auto",
    precision: str = "f32",
    embeddings: bool = False,
    workers: int | None = None,
    batch: int | None = None,
    ids: Sequence[str] | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Predicted:
    """Predict the classes of images.

    An image that cannot be decoded is skipped and listed. The same files give the same numbers on the same
    machine with the same engine and batch.

    Parameters
    ----------
    source : path-like, or torch.nn.Module
        A folder of images, or what else ``manyhot predict`` reads. ``predict(module, loader)`` runs a module
        over the batches of a loader as they come.
    model : str, Network, or iterable
        A name such as ``efficientnet-lite0`` or ``timm/resnet50.a1_in1k``; or the loader.
    top : int, optional
        How many of the best classes to keep; None keeps the scores of all.
    classes : ClassList, optional
        Of the data set, where they are not those of the model: the scores of these are kept, by key.
    labels : path-like, optional
        CSV with the label of each image.
    engine : str
        ``auto`` measures those that are installed where there is enough to do, and takes the fastest with
        the same answers; or ``torch``, ``openvino``, ``onnx``.
    precision : str
        ``f32``; ``bf16`` or ``f16`` are faster on some processors and change answers.
    embeddings : bool
        Whether to keep the penultimate features.
    workers, batch : int, optional
        Threads, by default one a core, and images of a call.
    ids : sequence of str, optional
        Of the images of a loader, in its order.
    progress : callable, optional
        Called as ``progress(images done, images in all)`` after each batch.

    Raises
    ------
    InputError
        The source does not exist, holds no image, two of one name, or none that can be decoded.
    MatchError
        The model does not know all the classes.
    UnknownNameError
        There is no such model or engine.
    MissingExtraError
        A package that the model or the engine needs is not installed.
    """
    if not isinstance(source, str | os.PathLike):
        from manyhot.models.loader import predict_loader

        options = {"labels": labels, "engine": engine, "precision": precision, "embeddings": embeddings}
        _check_unused(**options, workers=workers, batch=batch)
        return predict_loader(source, model, top=top, classes=classes, ids=ids, progress=progress)
    if ids is not None:
        raise InputError(
            "ids are those of a loader.", where=source, do="leave them out: a source has its own"
        )
    settings = Settings(top, engine, precision_of(precision), embeddings, workers=workers, batch=batch)
    network = model if isinstance(model, Network) else find_model(str(model), classes)
    opened = open_source(source, labels=labels)
    choice = _chosen(opened, network, settings)
    told = _counter(progress, opened.n)
    keep = Keep(top, columns_of(network, classes))
    scored = list(score_parts(opened.parts, network, choice.engine, keep, progress=told))
    return _predicted(scored, network, classes or network.classes, opened.strict, str(source), choice.trials)


def _chosen(opened: Source, network: Network, settings: Settings) -> Choice:
    return choose(
        settings.engine,
        network,
        sample(opened, network),
        opened.n,
        precision=settings.precision,
        features=settings.embeddings,
        workers=settings.workers,
        batch=settings.batch,
    )


def _check_unused(**options: Any) -> None:
    """Refuse options that a module and a loader would not heed."""
    usual = {"engine": "auto", "precision": "f32", "embeddings": False}
    given = next((name for name, value in options.items() if value != usual.get(name)), "")
    if given:
        raise InputError(
            "A module with a loader runs as it is.",
            got=f"{given}={options[given]!r}",
            allowed="top, classes, ids, progress",
            do="set it in the module or in the loader; or give a path and the name of a model",
        )


def _counter(
    progress: Callable[[int, int | None], None] | None, n: int | None
) -> Callable[[int], None] | None:
    if progress is None:
        return None
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        progress(done, n)

    return count


def _predicted(
    scored: Iterable[Scored],
    network: Network,
    classes: ClassList,
    strict: bool,
    where: str,
    trials: tuple[Trial, ...],
) -> Predicted:
    parts = list(scored)
    rows = [
        (item, size, reason)
        for part in parts
        for item, size, reason in zip(part.items, part.sizes, part.reasons, strict=True)
    ]
    skipped = tuple(Skipped(item.image_id, item.uri, why) for item, _, why in rows if why)
    good = [(item, size) for item, size, why in rows if not why]
    if not good:
        raise nothing_left(where, skipped)
    labels = Labels(classes, strict, where).all(item.label for item, _ in good)
    images = image_table(
        [item.image_id for item, _ in good], labels, [item.uri for item, _ in good], [s for _, s in good]
    )

    def joined(name: str) -> Any:
        found = [
            getattr(part, name) for part in parts if getattr(part, name) is not None and len(part.scores)
        ]
        return np.concatenate(found) if found else None

    predictions = Predictions(
        images.image_id,
        network.name,
        joined("classes"),
        joined("scores"),
        joined("logsumexp"),
        network.score_kind,
        len(classes),
        classes.hash,
    )
    return Predicted(predictions, images, skipped, joined("features"), trials, network.notes)


def image_table(
    ids: Sequence[str],
    labels: Sequence[int | None],
    uris: Sequence[str] | None = None,
    sizes: Sequence[tuple[int, int] | None] | None = None,
) -> Images:
    """Return an images table; columns of which nothing is known are left out."""
    columns: dict[str, Any] = {"image_id": pa.array(ids, pa.string())}
    if uris is not None:
        columns["uri"] = pa.array(uris, pa.string())
    if any(label is not None for label in labels):
        columns["label"] = pa.array(labels, pa.int32())
    if sizes is not None:
        columns["width"] = pa.array([size and size[0] for size in sizes], pa.int32())
        columns["height"] = pa.array([size and size[1] for size in sizes], pa.int32())
    return Images(pa.table(columns))


def nothing_left(where: str, skipped: Sequence[Skipped]) -> InputError:
    """Return the error that no image could be decoded."""
    first = skipped[0] if skipped else None
    more = f"; and {len(skipped) - 1:,} more" if skipped[1:] else ""
    return InputError(
        "None of the images could be decoded.",
        where=where,
        got=f"{first.uri}: {first.reason}{more}" if first else "no images",
    )
