"""Labels and predictions to kinds of several labels, as an images table to slice by.

Labels and predictions in, an images table with kinds of several labels out.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot import tables
from manyhot.classes import ClassList, class_list, class_list_of
from manyhot.core.label_kinds import (
    LABEL_KINDS,
    UNKNOWN,
    ImageKinds,
    Rules,
    image_kinds,
    mutual_confusion,
    near_synonyms,
)
from manyhot.core.sets import NO_LABEL, top_k
from manyhot.data.benchmarks import BENCHMARKS
from manyhot.errors import InputError
from manyhot.files import sha256
from manyhot.formats import prediction_files, read_classes, read_images, read_labels, read_predictions
from manyhot.formats.writing import PathLike, Progress, check_apart, check_place
from manyhot.tables import Images, Labels, Predictions, check_same_classes, one_chunk
from manyhot.tables.sets import label_sets
from manyhot.tables.skipped_files import SkippedFiles, fitting_models

COUNTED = "n_objects"
"""The column of an images table that holds how many objects raters counted."""


@dataclass(frozen=True, eq=False)
class Kinds:
    """Kinds of several labels, and what the reader must know about them.

    Attributes
    ----------
    table : pyarrow.Table
        An images table with the columns `label`, `n_labels`, `n_objects`, `n_apart`, `kind` and `counted`.
    counts : dict of str to int
        Images of each kind.
    annotated, several_counted : int
        Images of the annotated ones that are among the labels, and those in which raters counted two or more
        objects; 0 where nobody counted.
    synonyms : list of (str, str, int, int)
        Names of two classes that are near-synonyms, the images with both and those with either, on which
        people were asked about both; the most images with both first.
    check : ndarray of int64, shape (2, 2)
        Images with two or more labels whose objects raters counted: rows one and several as counted, columns
        as the labels tell.
    notes : tuple of str
        Files of predictions that were skipped, and why.
    """

    table: pa.Table
    counts: dict[str, int]
    annotated: int
    several_counted: int
    synonyms: list[tuple[str, str, int, int]]
    check: npt.NDArray[np.int64]
    notes: tuple[str, ...] = ()


def kinds(
    labels: Labels,
    predictions: Iterable[Predictions],
    *,
    images: Images | None = None,
    classes: ClassList | None = None,
    rules: Rules | None = None,
    misfits: SkippedFiles | None = None,
) -> Kinds:
    """Tell of which kind the labels of each image are.

    Parameters
    ----------
    labels : Labels
    predictions : iterable of Predictions
        Models whose confusion of classes counts.
    images : Images, optional
        Original labels, and the column ``n_objects`` where raters counted the objects.
    classes : ClassList, optional
        Gives the hierarchy; the list that the labels name by default. Without a hierarchy confusion alone
        tells labels of one object.
    rules : Rules, optional
        See `manyhot.core.label_kinds.Rules`.
    misfits : Misfits, optional
        As in `manyhot.evaluate`.

    Raises
    ------
    InputError
        If there are no predictions, they hold one class an image, or a column ``n_objects`` no counts.
    MatchError
        If labels and predictions are over different class lists.
    """
    labels = labels if images is None else labels.with_labels(images)
    sets, known = label_sets(labels), classes or class_list_of(labels.class_hash)
    n_objects = np.full(len(labels), UNKNOWN) if images is None else _counted(labels, images)
    paths = _paths(known, labels.n_classes)
    misfits = misfits or SkippedFiles()
    confusion = mutual_confusion(_tops(labels, predictions, misfits), labels.n_classes)
    found = image_kinds(sets, confusion, paths, n_objects=n_objects, rules=rules)
    several = (sets.size > 1) & sets.usable & (n_objects != UNKNOWN)
    check = np.bincount((n_objects > 1)[several] * 2 + (found.apart > 1)[several], minlength=4)
    return Kinds(
        _table(labels, sets.label, sets.size, n_objects, found),
        {name: int(np.count_nonzero(found.kind == i)) for i, name in enumerate(LABEL_KINDS)},
        0 if images is None else int(pc.sum(pc.is_in(images.image_id, labels.image_id)).as_py() or 0),
        int(np.count_nonzero(n_objects > 1)),
        _named(known, sets.n_classes, near_synonyms(sets, confusion, rules)),
        check.reshape(2, 2),
        tuple(misfits.notes(labels.name)),
    )


def _counted(labels: Labels, images: Images) -> npt.NDArray[np.int64]:
    if COUNTED not in images.table.column_names:
        return np.full(len(labels), UNKNOWN)
    column = one_chunk(images.table[COUNTED])
    if not pa.types.is_integer(column.type) or (len(column.drop_null()) and pc.min(column).as_py() < 0):
        raise InputError(
            f"The column {COUNTED!r} does not count objects.",
            where=images.name or None,
            got=column.type if not pa.types.is_integer(column.type) else pc.min(column).as_py(),
            allowed="whole numbers, 0 and up; null where nobody counted",
        )
    rows = pc.index_in(labels.image_id, images.image_id)
    found = pc.fill_null(pc.take(column, rows), UNKNOWN)
    return np.asarray(found.to_numpy(zero_copy_only=False), np.int64)


def _named(
    classes: ClassList | None,
    n_classes: int,
    pairs: tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64]],
) -> list[tuple[str, str, int, int]]:
    names = classes.names if classes else [str(i) for i in range(n_classes)]
    pair, share, images = pairs
    both = np.rint(share * images).astype(int)
    order = np.lexsort((pair, -both))
    return [
        (names[pair[i] // n_classes], names[pair[i] % n_classes], int(both[i]), int(images[i])) for i in order
    ]


def _paths(classes: ClassList | None, n_classes: int) -> list[tuple[str, ...]]:
    if classes is None:
        return [(str(i),) for i in range(n_classes)]
    ups = [[step.partition(" ")[0] for step in path] for path in classes.hypernyms]
    return [(key, *up) for key, up in zip(classes.keys, ups, strict=True)]


def _tops(
    labels: Labels, predictions: Iterable[Predictions], misfits: SkippedFiles
) -> Iterator[npt.NDArray[np.integer]]:
    models = 0
    for _, top in fitting_models(predictions, lambda model: _two_best(labels, model), misfits):
        models += 1
        yield top
    if not models:
        raise InputError(
            "There are no predictions to tell confused classes by.", do="give at least one model"
        )


def _two_best(labels: Labels, model: Predictions) -> npt.NDArray[np.integer]:
    """Return at least two best classes of each image, best first."""
    check_same_classes(labels, model)
    top = model.classes
    if top is None:
        assert model.scores is not None
        top = top_k(model.scores, 2)
    if top.shape[1] < 2:
        raise InputError(
            "Two classes that a model mixes up are its best and its second best.",
            where=model.source or model.model,
            got="one class an image",
            allowed="the two best classes, or more",
        )
    return top


def _table(
    labels: Labels,
    label: npt.NDArray[np.integer],
    size: npt.NDArray[np.integer],
    n_objects: npt.NDArray[np.integer],
    found: ImageKinds,
) -> pa.Table:
    names = pa.array([*LABEL_KINDS, None], pa.string())
    # The last name, that of what is not known, is what -1 takes.
    kind = names.take(pa.array(np.where(found.kind == UNKNOWN, len(LABEL_KINDS), found.kind)))
    return pa.table(
        {
            "image_id": labels.image_id,
            "label": pa.array(label, pa.int32(), mask=label == NO_LABEL),
            "n_labels": pa.array(size, pa.int32()),
            COUNTED: pa.array(n_objects, pa.int32(), mask=n_objects == UNKNOWN),
            "n_apart": pa.array(found.apart, pa.int32()),
            "kind": kind,
            "counted": pa.array(n_objects != UNKNOWN),
        }
    )


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
        As in `manyhot.evaluate`.
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
    misfits = SkippedFiles(len(files))
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
