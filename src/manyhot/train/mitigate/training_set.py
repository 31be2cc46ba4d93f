"""Images and label sets on which ``manyhot train`` trains a whole network without a shortcut."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import parquet as pq

from manyhot.core.sets import NO_LABEL, NOT_ASKED
from manyhot.diagnose.pixels.removal import Pixels
from manyhot.extras import required
from manyhot.predict.decode import decode
from manyhot.tables import Labels, write_labels
from manyhot.train.mitigate.features import ImageFeatures
from manyhot.train.mitigate.fitting import HeadFitter, Treatment

TRAINING_SET = ("images.parquet", "labels.parquet")

_STATES = np.array(["not asked", "no", "unclear", "yes"])


def write_training_set(fitter: HeadFitter, treatment: Treatment, out: Path, *, call: str = "") -> list[Path]:
    """Write the images to fit on and their altered copies, and the label sets of both.

    An image or altered image that counts for w images is written w times. A fraction is rounded up with a
    probability equal to the fraction, so that the expected loss is the weighted loss.
    """
    images, known = fitter.images, fitter.images.labels
    groups = [a for _, a in treatment.groups]
    rows = np.concatenate([known.fitting, *(a.rows for a in groups)])
    alterations = [None] * len(known.fitting) + [a.alteration for a in groups for _ in a.rows]
    weights = fitter.weights(treatment)
    times = np.floor(weights + np.random.default_rng(images.seed).random(len(weights))).astype(int)
    made: dict[str, list[tuple[int, Any]]] = {}
    for i in np.flatnonzero(times).tolist():
        made.setdefault(known.names[rows[i]], []).append((i, alterations[i]))
    out.mkdir(parents=True, exist_ok=True)
    ids, order = _write_images(images, made, times, out / TRAINING_SET[0])
    states = known.states(treatment.groups, sets=True)[order]
    labels = _labels(ids, states, known.labels(treatment.groups)[order], known.classes)
    return [out / TRAINING_SET[0], write_labels(labels, out / TRAINING_SET[1], call=call)]


def _write_images(
    images: ImageFeatures, made: dict[str, list[tuple[int, Any]]], times: npt.NDArray[np.int_], path: Path
) -> tuple[list[str], list[int]]:
    """Write images, a row group for each part of the source; return ids and which image each is a copy of."""
    ids, order = list[str](), list[int]()
    schema = pa.schema({"image_id": pa.string(), "image": pa.binary()})
    with pq.ParquetWriter(path, schema) as writer:
        for part in images.predict.source.parts:
            data = list[bytes]()
            for item, read in part.items():
                for i, encoded in _copies(item.image_id, read, made.get(item.image_id, ())):
                    for copy in range(times[i]):
                        original = i < len(images.labels.fitting) and not copy
                        ids.append(item.image_id if original else f"{item.image_id}~{i}-{copy}")
                        order.append(i)
                        data.append(encoded)
            writer.write_table(pa.table([ids[len(ids) - len(data) :], data], schema=schema))
    return ids, order


def _copies(image_id: str, read: Any, indices: Any) -> Iterator[tuple[int, bytes]]:
    """Yield the encoded image and its altered copies, without those that cannot be made."""
    if not indices:
        return
    data = read()
    image = decode(data) if isinstance(data, bytes) else data
    if isinstance(image, str):
        return
    pixels = image.permute(1, 2, 0).numpy()
    for i, alteration in indices:
        altered = pixels if alteration is None else alteration(image_id, pixels)
        if not isinstance(altered, str):
            yield i, data if alteration is None and isinstance(data, bytes) else _png(altered)


def _png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    required("PIL.Image", "Writing images").fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _labels(ids: list[str], states: npt.NDArray[np.uint8], label: Any, classes: Any) -> Labels:
    """Return label sets with the classes that are known, and original labels."""
    known = states != NOT_ASKED
    table = {
        "image_id": ids,
        "label": pa.array(label.astype(np.int32), mask=label == NO_LABEL),
        "rated": [True] * len(ids),
        "usable": [True] * len(ids),
        "classes": [np.flatnonzero(own) for own in known],
        "state": [_STATES[state[own]].tolist() for state, own in zip(states, known, strict=True)],
    }
    return Labels(
        pa.table(table), len(classes), classes.hash, asked_known=True, name=classes.name, class_list=classes
    )
