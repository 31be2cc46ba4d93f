"""Labels and predictions in, an images table with kinds of several labels out."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from manyhot import tables
from manyhot.classes import class_list
from manyhot.errors import InputError
from manyhot.files import sha256
from manyhot.formats import prediction_files, read_classes, read_images, read_labels, read_predictions
from manyhot.pipeline.benchmarks import BENCHMARKS
from manyhot.pipeline.common import PathLike, Progress, check_apart, check_place
from manyhot.steps.kinds import Kinds, kinds
from manyhot.steps.misfits import Misfits
from manyhot.tables import Predictions


def kinds_files(
    labels: PathLike,
    predictions: Sequence[PathLike] = (),
    out: PathLike = "kinds.parquet",
    *,
    rows: PathLike | None = None,
    images: PathLike | None = None,
    classes: PathLike | None = None,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[Kinds, list[Path]]:
    """Tell of which kind the labels of each image are, and write an images table to slice by.

    Parameters
    ----------
    labels : path-like
        Any format that holds labels, or ``tsipras``: ReaL's label sets, the published models, and the objects
        that raters counted.
    predictions : sequence of path-like
        Models whose confusion of classes counts; not for ``tsipras``.
    out : path-like
        A Parquet file.
    rows, classes
        As in `manyhot.evaluate_files`.
    images : path-like, optional
        Images table with original labels and, where raters counted objects, the column ``n_objects``.

    Raises
    ------
    ManyhotError
        For each kind of bad input; nothing is written then.
    """
    if Path(out).suffix.lower() != ".parquet":
        raise InputError("Cannot write this kind of file.", where=out, allowed=".parquet")
    if Path(out).stem in tables.TABLES:
        check_place(out, "kinds")  # which is an images table, but never the images themselves
    if str(labels) in BENCHMARKS:
        found, inputs = _published(str(labels), progress)
    else:
        check_apart([labels, *prediction_files(predictions), rows, images, classes], out)
        found, inputs = _own(labels, predictions, rows, images, classes, progress)
    about = {"notes": json.dumps(found.notes, ensure_ascii=False)} if found.notes else None
    return found, [tables.write(found.table, out, "images", call=call, inputs=inputs, about=about)]


def _own(
    labels: PathLike,
    predictions: Sequence[PathLike],
    rows: PathLike | None,
    images: PathLike | None,
    classes: PathLike | None,
    progress: Progress | None,
) -> tuple[Kinds, dict[str, str]]:
    known = read_classes(classes) if classes else None
    read = read_labels(labels, classes=known)
    order = read_images(rows, classes=known) if rows else None
    read = read if order is None else read.with_labels(order)
    files = prediction_files(predictions)
    misfits = Misfits(len(files))
    models = misfits.reading(files, partial(read_predictions, rows=order, classes=known))
    shown = read_images(images, classes=known) if images else None
    told = _told(models, len(files), progress)
    found = kinds(read, told, images=shown, classes=known, misfits=misfits)
    named = [p for p in (labels, rows, images, classes) if p and Path(p).is_file()]
    return found, {Path(p).name: sha256(p) for p in [*named, *misfits.left(files)]}


def _published(name: str, progress: Progress | None) -> tuple[Kinds, Mapping[str, str]]:
    benchmark = BENCHMARKS[name]
    if len(benchmark.datasets) > 1:
        raise InputError(
            f"The benchmark {name} has several data sets, whose labels were reached in different ways.",
            allowed=", ".join(n for n, b in BENCHMARKS.items() if len(b.datasets) == 1),
        )
    fetched = benchmark.datasets[0].fetch(progress)
    models = [
        m
        for m in fetched.published
        if not any(fnmatch.fnmatch(m.model, pattern) for pattern in benchmark.without)
    ]
    told = _told(iter(models), len(models), progress)
    return kinds(fetched.labels, told, images=fetched.images, classes=class_list()), fetched.inputs


def _told(models: Iterator[Predictions], n: int, progress: Progress | None) -> Iterator[Predictions]:
    for done, model in enumerate(models, 1):
        yield model
        if progress:
            progress("confused classes", done, n)
