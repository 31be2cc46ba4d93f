"""A gallery of photographs, labels and predictions: a folder that any browser shows.

Photographs are read where predict found them: files, members of archives, rows of tables.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import class_list_of
from manyhot.command import command
from manyhot.data.data_sets import Source, labelled_like
from manyhot.data.inputs import READING, LabelsLike, PredictionsLike, Reading, open_inputs
from manyhot.errors import InputError, ManyhotError
from manyhot.evaluate.gallery_models import ShownModel, check_alike, classes_to_show, shown_models
from manyhot.formats import read_findings, read_images
from manyhot.formats.reading import declared
from manyhot.formats.table_files import TABLE_SUFFIXES, column_names, read_frame
from manyhot.formats.writing import PathLike, check_apart, images_file
from manyhot.parameters import Repeated, Shown
from manyhot.predict.embeddings import Embedded, embedded_in
from manyhot.predict.similar import similar
from manyhot.predict.sources import open_source
from manyhot.report.gallery import FINDING_COLUMNS, PAIR_ERROR_COLUMNS
from manyhot.report.gallery_labels import rows_of_labels
from manyhot.result import Result
from manyhot.run import QUIET, Progress, Run
from manyhot.tables import Images, Labels
from manyhot.tables.image_ids import ids_like
from manyhot.tables.labels import with_ids_like
from manyhot.tables.skipped_files import SkippedFiles

if TYPE_CHECKING:
    from manyhot.report.gallery import ClassExamples, Gallery
    from manyhot.report.pictures import Opener


DIAGNOSED = ("findings.parquet", "class_errors.parquet")
"""What the folder of diagnose errors holds: kinds of errors, and false positives and misses."""

FindingsLike = Annotated[Any, Shown("FILE")]
"""A file of findings on images, or their table."""


@dataclass(frozen=True, eq=False)
class WrittenGallery(Result):
    """A gallery that was written to a folder.

    Attributes
    ----------
    gallery : Gallery
        The contents.
    n_absent : int
        Number of photographs that cannot be shown.
    notes, written
        As in `Result`.
    """

    gallery: Gallery
    n_absent: int

    def to_json(self) -> dict[str, Any]:
        """Return the number of images, the number of absent photographs, the models and the notes."""
        shown = {"images": len(self.gallery), "absent": self.n_absent, "models": self.gallery.models}
        return {**shown, "notes": self.gallery.notes}

    def lines(self) -> Iterator[str]:
        """Yield the number of images and the number of models."""
        n_models = len(self.gallery.models)
        yield f"{len(self.gallery):,} images, {n_models} model{'s' * (n_models != 1)}"


@command(
    "gallery",
    examples=(
        "manyhot gallery predictions --out gallery",
        "manyhot gallery imagenet-val --models resnet50 --images val/images.parquet",
    ),
)
def build_gallery(
    labels: LabelsLike,
    predictions: PredictionsLike = (),
    *,
    embeddings: Annotated[PathLike | None, Shown("FOLDER")] = None,
    findings: Annotated[FindingsLike, Repeated()] = (),
    title: str = "",
    out: Annotated[PathLike, Shown("FOLDER")] = "gallery",
    reading: Reading = READING,
    run: Run = QUIET,
) -> WrittenGallery:
    """Write a gallery for the browser: images with their label sets, predictions and similar images.

    Parameters
    ----------
    labels
        Name of a data set, such as imagenet-val; or a campaign, a folder written by predict or detect, or a
        file of label sets. The photographs are those of the images table or of `images`: a table with the
        column uri, or a folder written by predict.
    predictions
        Files or folders of predictions, used instead of the published predictions or the predictions in the
        campaign or folder.
    embeddings
        Folder with embeddings of the same images, written by manyhot predict --embeddings, for finding
        similar images; by default the folder of the predictions.
    findings
        Findings for filtering the images: the folder written by diagnose errors, its tables findings and
        class_errors, or a table with the columns image_id and finding, or image_id and group.
    title
        Title of the gallery; by default the name of the data set.
    out
        Folder to write to. An earlier gallery in this folder is replaced.

    Returns
    -------
    WrittenGallery

    Raises
    ------
    InputError
        If a file cannot be read, no photograph can be shown, or `out` is an input folder.
    MatchError
        If a model has no predictions for these images, or has a different class list.
    MissingExtraError
        If Pillow is not installed.
    """
    out = Path(out)
    files = predictions if isinstance(predictions, list | tuple) else [predictions]
    predictions = predictions if files else _detected(labels)
    found = [*_in_folders(findings if isinstance(findings, list | tuple) else [findings])]
    check_apart([labels, *files, reading.images, reading.rows, reading.classes, embeddings, *found], out)
    sources = list(open_inputs(labels, predictions, reading=reading, run=run))
    if len(sources) > 1:
        names = ", ".join(source.name for source in sources)
        raise InputError("A gallery shows one data set.", got=labels, allowed=names)
    source = with_photographs(sources[0], files, reading)
    images = _images_of(source, labels)
    chosen = shown_models(source.labels, source.models(), images, source.misfits)
    check_alike(chosen)
    folder = _folder_of(source, labels) if embeddings is None else embeddings
    beside = _embedded(folder, is_required=embeddings is not None)
    gallery = _gallery(source, images, chosen, beside, [*map(read_image_findings, found)], run)
    report = REPORT if _in_report(out) else ""
    notes = tuple(source.misfits.notes())
    gallery = replace(gallery, title=title or gallery.title, report=report, notes=notes)
    written = _written(gallery, out, run.on_progress)
    n_absent = len(gallery) - sum(1 for _ in (out / "photos").iterdir())
    several = "s" * (n_absent != 1)
    absent = f"{n_absent:,} photograph{several} cannot be shown; the gallery shows the reason for each"
    return WrittenGallery(
        gallery, n_absent, notes=(absent, *notes) if n_absent else notes, written=tuple(written)
    )


def report_gallery(source: Source, report: Path, files: Sequence[Path], run: Run) -> list[Path]:
    """Write the gallery of an evaluation into the folder of its report.

    `source` contains the images to show, with the column ``uri``. Embeddings next to one of the `files` of
    predictions are used to find similar images.

    Raises
    ------
    InputError
        If no photograph can be shown, or a model has no predictions for these images.
    MissingExtraError
        If Pillow is not installed.
    """
    assert source.images is not None
    shown = _with_label(source.images, source.labels)
    beside = next(filter(None, map(embedded_in, dict.fromkeys(f.parent for f in files))), None)
    chosen = shown_models(source.labels, source.models(), shown, source.misfits)
    gallery = _gallery(source, shown, chosen, beside, (), run)
    return _written(replace(gallery, report=REPORT), report / "gallery", run.on_progress)


def photographed(source: Source) -> bool:
    """Return whether a data set has a table with the locations of its photographs."""
    return source.images is not None and "uri" in source.images.table.column_names


def with_photographs(source: Source, predictions: PredictionsLike, reading: Reading) -> Source:
    """Return the data set. If it has no locations of photographs, add those in the predictions' folder."""
    given = predictions if isinstance(predictions, list | tuple) else [predictions]
    paths = [Path(p) for p in given if isinstance(p, str | os.PathLike)]
    ids = next((t.image_id for t in (source.labels, source.images) if t is not None), None)
    if photographed(source) or reading.images is not None or ids is None:
        return source
    for path in paths:
        file = images_file(path if path.is_dir() else path.parent)
        images = read_images(file) if file.is_file() else None
        if images is not None and "uri" in images.table.column_names:
            bare = images.table.drop_columns([c for c in images.table.column_names if c == "label"])
            found, _ = with_ids_like(
                Images(bare, images.name), ids, other_name=source.name, match=reading.match
            )
            own = source.images or Images(pa.table({"image_id": ids}))
            return replace(source, images=labelled_like(found, own, reading.match))
    return source


def write_gallery_of(
    source: Source,
    image_ids: Sequence[str],
    out: Path,
    *,
    models: Collection[str] = (),
    most: int,
    findings: Sequence[pa.Table] = (),
    run: Run = QUIET,
) -> list[Path]:
    """Write a gallery of some images of a data set, in the order of their ids.

    It shows the models with the names in `models` or, by default, the first `most`. `findings` are the table
    ``findings`` with the kinds of errors, or ``class_errors``.

    Raises
    ------
    InputError
        If no photograph can be shown, or a model has no predictions for these images.
    MissingExtraError
        If Pillow is not installed.
    """
    from manyhot.report.gallery import ClassExamples, classes_of_rows

    every = _images_of(source, source.name)
    rows = rows_of_labels(every, None if every.label is not None else source.labels)
    examples = ClassExamples.of(every.image_id.to_pylist(), classes_of_rows(rows))
    first = _only(every, image_ids)
    # Which classes have a row is only known with the predictions, so examples of all classes are read.
    several = _only(every, [*image_ids, *itertools.chain(*examples.ids.values())])
    named = (model for model in source.models() if not models or model.model in models)
    few = itertools.islice(named, len(models) or most)
    chosen = shown_models(source.labels, few, several, SkippedFiles())
    classes = np.unique(classes_to_show(first.image_id, chosen, several))
    beside = itertools.chain(*(examples.ids.get(int(c), ()) for c in classes))
    images = _only(every, [*first.image_id.to_pylist(), *beside])
    at = pc.index_in(images.image_id, several.image_id).to_pylist()
    chosen = [replace(m, label_places=[m.label_places[i] for i in at]) for m in chosen]
    gallery = _gallery(source, images, chosen, None, findings, run, (examples, len(images) - len(first)))
    return _written(gallery, out, None)


def _only(images: Images, ids: Sequence[str]) -> Images:
    """Return the images with these ids, in their order; unknown and repeated ids are left out."""
    at = pc.index_in(pa.array(list(dict.fromkeys(ids)), pa.string()), images.image_id).drop_null()
    return Images(images.table.take(at), images.name)


REPORT = "../index.html"
"""The address of the report, relative to a gallery in its folder."""


def _in_report(out: Path) -> bool:
    """Return whether a folder is the place of a gallery in a report."""
    report = out.resolve().parent
    return out.name == "gallery" and report.name == "report" and (report.parent / "results.parquet").is_file()


def _gallery(
    source: Source,
    images: Images,
    models: Sequence[ShownModel],
    beside: Embedded | None,
    findings: Sequence[pa.Table],
    run: Run,
    examples: tuple[ClassExamples | None, int] = (None, 0),
) -> Gallery:
    from manyhot.report.gallery import make_gallery

    near = None if beside is None else _similar(beside, images, models, run.on_progress)
    predictions = [model.predictions for model in models]
    return make_gallery(
        images,
        source.labels,
        predictions,
        source.classes or class_list_of(next((p.class_hash for p in predictions if p.class_hash), "")),
        label_places=[model.label_places for model in models],
        similar=near,
        similar_by="" if beside is None or near is None else beside.predictions.model,
        examples=examples[0],
        n_examples=examples[1],
        findings=findings,
        title=source.name,
        call=run.call,
    )


def _written(gallery: Gallery, out: Path, progress: Progress | None) -> list[Path]:
    from manyhot.report.gallery_files import write_gallery

    photographs = find_photographs([s.uri for s in gallery.shots])
    return write_gallery(gallery, out, photographs=photographs, progress=progress)


def _images_of(source: Source, labels: LabelsLike) -> Images:
    """Return the images to show, with their original labels."""
    if source.images is None or not photographed(source):
        raise InputError(
            "The locations of the photographs are unknown.",
            where=labels if isinstance(labels, str | os.PathLike) else None,
            allowed="an images table with the columns image_id and uri",
            do="pass such a table as `images`",
        )
    return _with_label(source.images, source.labels)


def _detected(labels: LabelsLike) -> list[Path]:
    """Return the folder of predictions within a folder written by detect; nothing for other label sets."""
    if not isinstance(labels, str | os.PathLike) or not (Path(labels) / "objects.parquet").is_file():
        return []
    folder = Path(labels) / "predictions"
    return [folder] if folder.is_dir() else []


def _folder_of(source: Source, labels: LabelsLike) -> Path | None:
    """Return the folder in which predictions and their embeddings are."""
    if source.campaign is not None:
        return source.campaign.path("predictions")
    is_folder = isinstance(labels, str | os.PathLike) and (Path(labels) / "images.parquet").is_file()
    return Path(labels) if is_folder and source.published is None else None


def _with_label(shown: Images, labels: Labels | None) -> Images:
    """Return the images with the original labels that only the label sets have."""
    if shown.label is not None or labels is None or "label" not in labels.table.column_names:
        return shown
    at = pc.index_in(shown.image_id, labels.image_id)
    label = pc.take(labels.table["label"], at)
    return Images(shown.table.append_column("label", label), shown.name)


def _embedded(folder: PathLike | None, *, is_required: bool) -> Embedded | None:
    """Return the embeddings in a folder; None if there are none and none are required."""
    embeddings = None if folder is None else embedded_in(Path(folder))
    if embeddings is None and is_required:
        raise InputError(
            "The folder contains no embeddings.",
            where=folder,
            allowed="a folder written by manyhot predict --embeddings",
        )
    return embeddings


def _similar(
    beside: Embedded, shown: Images, models: Sequence[ShownModel], progress: Progress | None
) -> pa.Table | None:
    """Return the nearest images of each class that has a row; None if there are no original labels."""
    from manyhot.report.gallery import SIMILAR

    like = ids_like(beside.image_id, shown.image_id, name=beside.name or "embeddings", other_name="images")
    beside = replace(beside, predictions=replace(beside.predictions, image_id=like.ids))
    at = pc.index_in(beside.image_id, shown.image_id)
    rows = np.flatnonzero(at.is_valid().to_numpy(zero_copy_only=False))
    if shown.label is None or not len(rows):
        return None
    image_id = beside.image_id.take(pa.array(rows))
    classes = classes_to_show(image_id, models, shown)
    asked = replace(
        beside.predictions, image_id=image_id, classes=classes, scores=None, logsumexp=None, uncertainty=None
    )
    asked = replace(asked, score_kind="none")
    index = Embedded(asked, beside.vectors[rows], shown, beside.name)
    run = Run(on_progress=progress)
    return similar(index, neighbours=SIMILAR, top=classes.shape[1], run=run).table


def find_photographs(uris: Sequence[str | None]) -> Iterator[tuple[int, Opener]]:
    """Yield the position of each image in `uris`, and a function that reads its bytes.

    Photographs stored as single files come first. Each archive or table is then listed once and read in its
    own order, up to the last photograph that is needed. If a photograph cannot be found, calling its function
    raises an error with the reason.
    """
    from manyhot.report.pictures import opener

    inside: dict[str, dict[str, list[int]]] = {}
    for i, uri in enumerate(uris):
        if uri and (holder := _holder(uri)):
            inside.setdefault(holder, {}).setdefault(str(Path(uri)), []).append(i)
        else:
            yield i, opener(uri)
    for holder, places in inside.items():
        yield from _inside(holder, places)


def _holder(uri: str) -> str:
    """Return the archive or table that contains an image; empty if it is a file of its own, or not local."""
    if "://" in uri or Path(uri).is_file():
        return ""
    table, hash_, row = uri.rpartition("#")
    if hash_ and row.isdecimal() and Path(table).is_file():
        # Files of a saved data set are described in the folder around them.
        return str(Path(table).parent if table.endswith(".arrow") else Path(table))
    return next((str(p) for p in Path(uri).parents if p.is_file()), "")


def _inside(holder: str, places: Mapping[str, Sequence[int]]) -> Iterator[tuple[int, Opener]]:
    from manyhot.report.pictures import absent

    left = dict(places)
    reason = f"{Path(holder).name} does not hold it"
    try:
        for part in open_source(holder).parts:
            for item, read in part.items() if left else ():
                opener = cast("Opener", read)  # bytes: nothing is altered
                yield from ((i, opener) for i in left.pop(str(Path(item.uri)), ()))
    except ManyhotError as error:
        reason = f"{Path(holder).name}: {error.what[0].lower()}{error.what[1:].rstrip('.')}"
    yield from ((i, absent(reason)) for rows in left.values() for i in rows)


def _in_folders(findings: Sequence[FindingsLike]) -> Iterator[FindingsLike]:
    """Yield findings; of a folder written by diagnose errors, its tables."""
    for given in findings:
        folder = [Path(given) / name for name in DIAGNOSED] if isinstance(given, str | os.PathLike) else []
        yield from [path for path in folder if path.is_file()] or [given]


def read_image_findings(findings: FindingsLike) -> pa.Table:
    """Return findings on images, from ``diagnose errors`` or from a table with a column of findings.

    Raises
    ------
    InputError
        If the file is neither.
    """
    if not isinstance(findings, str | os.PathLike):
        return findings
    path = Path(findings)
    is_table = path.suffix.lower() in TABLE_SUFFIXES and path.is_file()
    names = column_names(path) if is_table else []
    if {*PAIR_ERROR_COLUMNS} <= {*names}:
        return read_frame(path).select(PAIR_ERROR_COLUMNS).to_arrow()
    found = [c for c in FINDING_COLUMNS if c in names]
    if "image_id" in names and found:
        return read_frame(path).select("image_id", found[0]).to_arrow()
    if names and declared(path) != "findings":
        raise InputError(
            "The table has no findings on images.",
            where=path,
            got=f"columns {', '.join(names)}",
            allowed=(
                "image_id, and finding or group; or findings.parquet or class_errors.parquet of manyhot "
                "diagnose errors"
            ),
        )
    return read_findings(path)
