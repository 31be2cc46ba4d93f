"""Labels, predictions and photographs in, a gallery out: a folder that any browser shows.

Photographs where predict found them: files, members of archives, rows of tables.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot.classes import ClassList, class_list, class_list_of
from manyhot.data.benchmarks import BENCHMARKS
from manyhot.errors import InputError, ManyhotError
from manyhot.formats import (
    prediction_files,
    read_classes,
    read_findings,
    read_images,
    read_labels,
    read_predictions,
)
from manyhot.formats.writing import PathLike, Progress, check_apart, images_file
from manyhot.predict.similar import Embedded, embedded_in, similar
from manyhot.predict.sources import open_source
from manyhot.run import Run
from manyhot.tables import DESCRIPTION, Campaign, Images, Labels, Predictions, align, check_class_list
from manyhot.tables.skipped_files import SkippedFiles, fitting_models

if TYPE_CHECKING:
    from manyhot.report.gallery import Gallery
    from manyhot.report.photographs import Opener


TOP = 5


@dataclass(frozen=True, eq=False)
class _Source:
    """What there is to show. `folder` is where predictions lie, and embeddings may."""

    name: str
    labels: Labels | None
    files: Sequence[Path]
    images: Images | None = None
    rows: Images | None = None
    classes: ClassList | None = None
    folder: Path | None = None


def gallery_files(
    source: PathLike,
    out: PathLike = "gallery",
    *,
    predictions: Sequence[PathLike] = (),
    models: Sequence[str] = (),
    images: PathLike | None = None,
    rows: PathLike | None = None,
    classes: PathLike | None = None,
    embeddings: PathLike | None = None,
    findings: PathLike | None = None,
    title: str = "",
    call: str = "",
    progress: Progress | None = None,
) -> tuple[Gallery, list[Path]]:
    """Write a gallery of images, label sets, what models see, and similar images beside it.

    Parameters
    ----------
    source : path-like
        A data set of a benchmark, such as ``imagenet-val``; a campaign; a folder that ``manyhot predict``
        wrote; or label sets in any format.
    out : path-like
        A folder; an earlier gallery in it is replaced.
    predictions : sequence of path-like
        Files and folders of predictions; in place of those of `source`.
    models : sequence of str
        Patterns of names, such as ``resnet*``; all models by default.
    images : path-like, optional
        Images table with the column ``uri``, or a folder that ``manyhot predict`` wrote: what is shown.
    rows, classes
        As in `manyhot.evaluate_files`.
    embeddings : path-like, optional
        A folder that ``manyhot predict --embeddings`` wrote of the same images; by default the folder of
        the predictions, where it has any.
    findings : path-like, optional
        The table ``findings`` of ``manyhot diagnose errors``, to filter by the kind of error.
    title : str
        That of the data set by default.

    Raises
    ------
    ManyhotError
        For each kind of bad input; nothing is written then.
    """
    out = Path(out)
    named = (images, rows, classes, embeddings, findings)
    check_apart([source, *predictions, *named], out)
    found = _source(source, predictions, rows, classes, progress)
    shown = _shown(found, images, source)
    misfits = SkippedFiles(len(found.files))
    read = _chosen(found, models, shown, misfits)
    _check_alike(read)
    kinds = None if findings is None else read_findings(findings)
    made = _made(found, shown, read, _embedded(found, embeddings), kinds, call, progress)
    made = replace(made, title=title or made.title, report=REPORT if _in_report(out) else "")
    made = replace(made, notes=tuple(misfits.notes()))
    return made, _written(made, out, progress)


def report_gallery(
    images: Images,
    report: Path,
    *,
    labels: Labels,
    files: Sequence[Path],
    rows: Images | None,
    classes: ClassList | None,
    dataset: str,
    call: str = "",
    progress: Progress | None = None,
) -> list[Path]:
    """Write the gallery of an evaluation into the folder of its report.

    Parameters
    ----------
    images : Images
        What is shown, with the column ``uri``.
    report : Path
        A folder.
    labels : Labels
    files : sequence of Path
        Predictions; where those of a model have embeddings beside them, these find similar images.
    rows, classes
        As in `manyhot.formats.read_predictions`.
    dataset : str
        Its name in the results.

    Raises
    ------
    InputError
        Not one photograph can be shown, or a model predicts none of the images.
    MissingExtraError
        Pillow is not installed.
    """
    found = _Source(dataset, labels, files, images, rows, classes)
    shown = _with_label(images, labels)
    beside = next(filter(None, map(embedded_in, dict.fromkeys(f.parent for f in files))), None)
    made = _made(found, shown, _chosen(found, (), shown, SkippedFiles()), beside, None, call, progress)
    return _written(replace(made, report=REPORT), report / "gallery", progress)


REPORT = "../index.html"
"""Where the report lies, as seen from a gallery in its folder."""


def _in_report(out: Path) -> bool:
    """Return whether a folder is the place of a gallery in a report."""
    report = out.resolve().parent
    return out.name == "gallery" and report.name == "report" and (report.parent / "results.parquet").is_file()


def _made(
    found: _Source,
    shown: Images,
    read: Sequence[Predictions],
    beside: Embedded | None,
    findings: pa.Table | None,
    call: str,
    progress: Progress | None,
) -> Gallery:
    from manyhot.report.gallery import make_gallery

    near = None if beside is None else _similar(beside, shown, read, progress)
    return make_gallery(
        shown,
        found.labels,
        read,
        found.classes or class_list_of(next((p.class_hash for p in read if p.class_hash), "")),
        similar=near,
        similar_by="" if beside is None or near is None else beside.predictions.model,
        findings=findings,
        title=found.name,
        call=call,
    )


def _written(made: Gallery, out: Path, progress: Progress | None) -> list[Path]:
    from manyhot.report.gallery_files import write_gallery

    photographs = find_photographs([s.uri for s in made.shots])
    return write_gallery(made, out, photographs=photographs, progress=progress)


def _source(
    source: PathLike,
    predictions: Sequence[PathLike],
    rows: PathLike | None,
    classes: PathLike | None,
    progress: Progress | None,
) -> _Source:
    path = Path(source)
    published = {d.name: d for b in BENCHMARKS.values() for d in b.datasets}
    known = read_classes(classes) if classes else None
    order = read_images(rows, classes=known) if rows else None
    if (path / DESCRIPTION).is_file():
        return _campaign(Campaign.read(path), predictions, order, known)
    if str(source) in published and not path.exists():
        fetched = published[str(source)].fetch(progress)
        own = prediction_files(predictions) if predictions else fetched.files
        order = order or (None if predictions else fetched.rows)
        return _Source(fetched.name, fetched.labels, own, None, order, class_list())
    if not path.exists():
        raise InputError(
            "There is no such data set, campaign, folder or file.",
            got=source,
            allowed=f"{', '.join(published)}; the folder of a campaign; a folder that manyhot predict "
            "wrote; label sets in a file",
        )
    if (path / "images.parquet").is_file():
        files = prediction_files(predictions or [path])
        shown = read_images(path / "images.parquet", classes=known)
        return _Source(path.resolve().name, None, files, shown, order, known, path)
    labels = read_labels(path, classes=known)
    if not predictions:
        raise InputError(
            "There are no predictions to show.", where=source, do="give some: --predictions FILE"
        )
    labels = labels if order is None else labels.with_labels(order)
    known = known or class_list_of(labels.class_hash)
    return _Source(labels.name or path.stem, labels, prediction_files(predictions), None, order, known)


def _campaign(
    campaign: Campaign, predictions: Sequence[PathLike], rows: Images | None, known: ClassList | None
) -> _Source:
    classes = known or read_classes(campaign.path("classes"))
    labels, folder = campaign.path("labels"), campaign.path("predictions")
    return _Source(
        campaign.folder.resolve().name,
        read_labels(labels, classes=classes) if labels.is_file() else None,
        prediction_files(predictions or [folder]),
        read_images(campaign.path("images"), classes=classes),
        rows,
        classes,
        folder,
    )


def _shown(found: _Source, images: PathLike | None, source: PathLike) -> Images:
    shown = found.images if images is None else read_images(images_file(images), classes=found.classes)
    if shown is None or "uri" not in shown.table.column_names:
        raise InputError(
            "Nothing says where the photographs lie.",
            where=source if images is None else images,
            allowed="an images table with the columns image_id and uri",
            do="give one: --images FILE",
        )
    return _with_label(shown, found.labels)


def _with_label(shown: Images, labels: Labels | None) -> Images:
    """Return the images with the original labels that only the label sets tell."""
    if shown.label is not None or labels is None or "label" not in labels.table.column_names:
        return shown
    at = pc.index_in(shown.image_id, labels.image_id)
    label = pc.take(labels.table["label"], at)
    return Images(shown.table.append_column("label", label), shown.name)


def _chosen(found: _Source, models: Sequence[str], shown: Images, misfits: SkippedFiles) -> list[Predictions]:
    def few(model: Predictions) -> Predictions:
        if found.labels is not None:
            name = found.labels.name or "the labels"
            check_class_list(model, found.labels.n_classes, found.labels.class_hash, name)
        return _few(model, shown)

    one = partial(read_predictions, rows=found.rows, classes=found.classes)
    read = [p for _, p in fitting_models(misfits.reading(found.files, one), few, misfits)]
    asked = [p for p in read if not models or any(fnmatch.fnmatchcase(p.model, m) for m in models)]
    if not asked:
        raise InputError(
            "No model is called so." if read else "There are no predictions to show.",
            got=" or ".join(models) or None,
            allowed=", ".join(p.model for p in read) or None,
        )
    return asked


def _check_alike(read: Sequence[Predictions]) -> None:
    """Refuse models over different class lists: which of them is meant nobody can say."""
    for p in read[1:]:
        check_class_list(p, read[0].n_classes, read[0].class_hash, read[0].model)


def _embedded(found: _Source, embeddings: PathLike | None) -> Embedded | None:
    folder = found.folder if embeddings is None else Path(embeddings)
    read = None if folder is None else embedded_in(folder)
    if read is None and embeddings is not None:
        raise InputError(
            "The folder holds no embeddings.",
            where=embeddings,
            allowed="a folder that manyhot predict --embeddings wrote",
        )
    return read


def _similar(
    beside: Embedded, shown: Images, read: Sequence[Predictions], progress: Progress | None
) -> pa.Table | None:
    """Return the nearest images of each class that any model predicts; None without any original label."""
    from manyhot.report.gallery import SIMILAR

    at = pc.index_in(beside.image_id, shown.image_id)
    rows = np.flatnonzero(at.is_valid().to_numpy(zero_copy_only=False))
    if shown.label is None or not len(rows):
        return None
    image_id = beside.image_id.take(pa.array(rows))
    wanted = _predicted(image_id, read)
    asked = replace(beside.predictions, image_id=image_id, classes=wanted, scores=None, logsumexp=None)
    asked = replace(asked, score_kind="none")
    index = Embedded(asked, beside.vectors[rows], shown, beside.name)
    run = Run(on_progress=progress)
    return similar(index, neighbours=SIMILAR, top=wanted.shape[1], run=run).table


def _few(p: Predictions, shown: Images) -> Predictions:
    """Return a model's best classes of the images that are shown: a file may hold 50,000 × 1,000 scores."""
    matched = align(shown.image_id, p.image_id, left_name="the images", right_name=p.model)
    rows = np.sort(matched.right)
    scores = None if p.scores is None else p.scores[rows]
    total = None if p.logsumexp is None else p.logsumexp[rows]
    classes: npt.NDArray[np.integer]
    if p.classes is None:
        assert scores is not None
        if p.score_kind == "logit" and total is None:
            total = np.logaddexp.reduce(scores.astype(np.float32), axis=1)
        classes = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
        scores = np.take_along_axis(scores, classes, axis=1)
    else:
        classes, scores = p.classes[rows, :TOP], None if scores is None else scores[:, :TOP]
    image_id = p.image_id.take(pa.array(rows))
    return replace(p, image_id=image_id, classes=classes, scores=scores, logsumexp=total)


def _predicted(image_id: pa.Array, read: Sequence[Predictions]) -> np.ndarray:
    """Return the classes that any model predicts for each image, each once, filled up with -1."""
    parts = []
    for p in read:
        at = pc.fill_null(pc.index_in(image_id, p.image_id), -1).to_numpy()
        assert p.classes is not None
        parts.append(np.where(at[:, None] >= 0, p.classes[at].astype(np.int32), -1))
    sets = [[c for c in dict.fromkeys(row) if c >= 0] for row in np.concatenate(parts, axis=1).tolist()]
    wanted = np.full((len(sets), max(1, max(map(len, sets), default=1))), -1, np.int32)
    for i, row in enumerate(sets):
        wanted[i, : len(row)] = row
    return wanted


def find_photographs(uris: Sequence[str | None]) -> Iterator[tuple[int, Opener]]:
    """Yield for each image its place in `uris` and what reads its bytes.

    Files come first. Each archive or table is then listed once and read in its own order, no further than to
    the last photograph that is wanted. What cannot be found has an opener that tells why.
    """
    from manyhot.report.photographs import opener

    inside: dict[str, dict[str, list[int]]] = {}
    for i, uri in enumerate(uris):
        if uri and (holder := _holder(uri)):
            inside.setdefault(holder, {}).setdefault(str(Path(uri)), []).append(i)
        else:
            yield i, opener(uri)
    for holder, wanted in inside.items():
        yield from _inside(holder, wanted)


def _holder(uri: str) -> str:
    """Return what holds an image among others; empty where it is a file of its own, or not here."""
    if "://" in uri or Path(uri).is_file():
        return ""
    table, hash_, row = uri.rpartition("#")
    if hash_ and row.isdecimal() and Path(table).is_file():
        # Files of a saved data set are described in the folder around them.
        return str(Path(table).parent if table.endswith(".arrow") else Path(table))
    return next((str(p) for p in Path(uri).parents if p.is_file()), "")


def _inside(holder: str, wanted: Mapping[str, Sequence[int]]) -> Iterator[tuple[int, Opener]]:
    from manyhot.report.photographs import absent

    left = dict(wanted)
    reason = f"{Path(holder).name} does not hold it"
    try:
        for part in open_source(holder).parts:
            for item, read in part.items() if left else ():
                as_they_lie = cast("Opener", read)  # bytes: nothing is altered
                yield from ((i, as_they_lie) for i in left.pop(str(Path(item.uri)), ()))
    except ManyhotError as error:
        reason = f"{Path(holder).name}: {error.what[0].lower()}{error.what[1:].rstrip('.')}"
    yield from ((i, absent(reason)) for places in left.values() for i in places)
