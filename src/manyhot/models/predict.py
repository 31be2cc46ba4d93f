"""A folder of images and the name of a model → a predictions table."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from manyhot.core.sets import top_k
from manyhot.errors import InputError
from manyhot.files import write_text
from manyhot.models.adapters import Classifier
from manyhot.models.sources import Listed, Skipped, decode, list_folder
from manyhot.registry import get
from manyhot.tables import Images, Predictions

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a model said about the images of a source.

    Attributes
    ----------
    predictions : Predictions
        Logits: the best classes or all of them. In the order of `images`.
    images : Images
        The images that could be decoded.
    skipped : tuple of Skipped
        Those that could not.
    """

    predictions: Predictions
    images: Images
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class _Scored:
    classes: npt.NDArray[np.int32] | None
    scores: npt.NDArray[np.float32]
    logsumexp: npt.NDArray[np.float32]


def predict(
    source: str | os.PathLike[str],
    model: str,
    *,
    top: int | None = 20,
    batch: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Predicted:
    """Predict the classes of the images in a folder.

    An image that cannot be decoded is skipped and listed. The same files give the same numbers on the same
    machine, as long as `batch` and the number of threads stay the same.

    Parameters
    ----------
    source : path-like
        A folder of images, flat or nested. Folders called like the keys of the classes give the images their
        labels.
    model : str
        A registered name, such as ``efficientnet-lite0``.
    top : int, optional
        How many of the best classes to keep; None keeps the scores of all.
    batch : int
        Images scored at once. Small batches stay in the cache: on two cores 4 to 8 are faster than 32.
    progress : callable, optional
        Called as ``progress(images done, images in all)`` after each batch.

    Raises
    ------
    InputError
        The folder does not exist, holds no image, two of one name, or none that can be decoded.
    UnknownNameError
        There is no such model.
    MissingExtraError
        A package that the model needs is not installed.
    """
    _check_at_least_1(top=1 if top is None else top, batch=batch)
    classifier: Classifier = get("model", model)()
    listed = list_folder(source, classifier.classes.keys)
    kept: list[tuple[Listed, tuple[int, int]]] = []
    parts: list[_Scored] = []
    skipped: list[Skipped] = []
    for start in range(0, len(listed), batch):
        opened = [(item, decode(item.uri)) for item in listed[start : start + batch]]
        skipped += [Skipped(item.image_id, item.uri, why) for item, why in opened if isinstance(why, str)]
        good = [(item, image) for item, image in opened if not isinstance(image, str)]
        if good:
            parts.append(_scored(classifier, [image for _, image in good], top))
            kept += [(item, image.size) for item, image in good]
        if progress is not None:
            progress(min(start + batch, len(listed)), len(listed))
    if not kept:
        raise _nothing_left(source, skipped)
    images = _images(kept)
    return Predicted(_predictions(classifier, images, parts), images, tuple(skipped))


def write_skipped(skipped: Iterable[Skipped], path: str | os.PathLike[str]) -> Path:
    """Write the skipped images to a CSV file: ``image_id``, ``uri``, ``reason``."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("image_id", "uri", "reason"))
    rows.writerows(map(astuple, skipped))
    write_text(path, text.getvalue())
    return Path(path)


def _scored(classifier: Classifier, images: Sequence[Image], top: int | None) -> _Scored:
    logits = classifier.forward(np.stack([classifier.preprocess(image) for image in images]))
    logsumexp = _logsumexp(logits)
    if top is None:
        return _Scored(None, logits, logsumexp)
    classes = top_k(logits, top)
    return _Scored(classes, np.take_along_axis(logits, classes, axis=1), logsumexp)


def _logsumexp(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    exact = logits.astype(np.float64)
    best = exact.max(axis=1)
    total: npt.NDArray[np.float64] = best + np.log(np.exp(exact - best[:, None]).sum(axis=1))
    return total.astype(np.float32)


def _predictions(classifier: Classifier, images: Images, parts: Sequence[_Scored]) -> Predictions:
    best = [part.classes for part in parts if part.classes is not None]
    return Predictions(
        images.image_id,
        classifier.name,
        np.concatenate(best) if best else None,
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.logsumexp for part in parts]),
        "logit",
        len(classifier.classes),
        classifier.classes.hash,
    )


def _images(kept: Sequence[tuple[Listed, tuple[int, int]]]) -> Images:
    labels = [item.label for item, _ in kept]
    columns = {
        "image_id": pa.array([item.image_id for item, _ in kept], pa.string()),
        "uri": pa.array([item.uri for item, _ in kept], pa.string()),
        "label": pa.array(labels, pa.int32()),
        "width": pa.array([width for _, (width, _) in kept], pa.int32()),
        "height": pa.array([height for _, (_, height) in kept], pa.int32()),
    }
    if all(label is None for label in labels):
        del columns["label"]
    return Images(pa.table(columns))


def _check_at_least_1(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"{name} must be at least 1.", got=count)


def _nothing_left(source: str | os.PathLike[str], skipped: Sequence[Skipped]) -> InputError:
    first = skipped[0]
    return InputError(
        "None of the images could be decoded.",
        where=source,
        got=f"{first.uri}: {first.reason}" + (f"; and {len(skipped) - 1:,} more" if skipped[1:] else ""),
    )
