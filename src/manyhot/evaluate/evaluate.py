"""Labels and predictions in, results and a report out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pyarrow import compute as pc

from manyhot.classes import ClassList, class_list_of
from manyhot.data.inputs import original_alone
from manyhot.errors import InputError, MissingExtraError
from manyhot.evaluate.compare import compare_tables
from manyhot.evaluate.describe import describe_tables
from manyhot.evaluate.gallery import find_photographs
from manyhot.evaluate.judge import evaluate
from manyhot.evaluate.results import Evaluation
from manyhot.evaluate.write import write_evaluation
from manyhot.files import sha256
from manyhot.formats import detect, prediction_files, read_classes, read_images, read_labels, read_predictions
from manyhot.formats.writing import PathLike, Progress, images_file
from manyhot.tables import DESCRIPTION, Images, Labels, Predictions
from manyhot.tables.metrics import ORIGINAL_LABELS, accuracies
from manyhot.tables.skipped_files import SkippedFiles

if TYPE_CHECKING:
    from manyhot.evaluate.compare import Comparison
    from manyhot.report.pictures import Pictures


MAX_PICTURES = 200
"""Images up to which the page of a report shows them."""


MAX_GALLERY = 1000
"""Images up to which a report has a gallery unless another number is asked for: 3 s and up to 50 MB."""


def evaluate_files(
    labels: PathLike,
    predictions: Sequence[PathLike],
    out: PathLike,
    *,
    rows: PathLike | None = None,
    images: PathLike | None = None,
    classes: PathLike | None = None,
    dataset: str = "",
    gallery: int | None = None,
    options: Options | None = None,
    call: str = "",
    progress: Progress | None = None,
) -> Outcome:
    """Judge prediction files on a label file and write results, pairs and the report into the folder `out`.

    Parameters
    ----------
    labels : path-like
        Any format that holds labels, or a folder with ``labels.parquet``, such as a campaign; or an images
        table, or a folder that ``manyhot predict`` wrote, for the original labels alone.
    predictions : sequence of path-like
        Files, and folders that are searched for files. Of several one that cannot be read or does not fit is
        skipped, with a note.
    rows : path-like, optional
        The image of each row, and original labels, for files that hold arrays alone.
    images : path-like, optional
        Images table, or a folder that ``manyhot predict`` wrote: original labels, columns to slice by, and
        photographs for the report.
    classes : path-like, optional
        The class list of labels and predictions, as a file or ``imagenet1k``; see
        `manyhot.formats.read_classes`.
    dataset : str
        Its name in the results; that of the labels by default.
    gallery : int, optional
        Images up to which the report has a gallery, where their photographs are at hand: in `images` or in a
        folder of `predictions`. `MAX_GALLERY` by default, 0 for none. 3 ms and up to 50 kB an image.
    options : Options, optional
    call : str
        The command, for the metadata.
    progress : callable, optional

    Raises
    ------
    ManyhotError
        For each kind of bad input; nothing is written then.
    """
    known = read_classes(classes) if classes else None
    row_order = read_images(rows, classes=known) if rows else None
    files = prediction_files(predictions)
    options = options or Options()
    # A folder with label sets is judged on them, never in silence on the original labels beside them.
    labels = _sets_file(labels)
    single = _single(labels)
    if single is None:
        read = read_labels(labels, classes=known)
    else:
        dataset = dataset or Path(labels).resolve().stem
        labels, images = single, images or single
        any_model = SkippedFiles(len(files)).reading(
            files, partial(read_predictions, rows=row_order, classes=known)
        )
        read = original_alone(read_images(single, classes=known), known, any_model.__next__)
        # On original labels alone, metrics of label sets would say the same again.
        options = replace(options, metrics=options.metrics or tuple(accuracies(ORIGINAL_LABELS)))
    images = images_file(images) if images else None
    shown = read_images(images, classes=known) if images else None
    if row_order is not None:
        read = read.with_labels(row_order)
    known = known or class_list_of(read.class_hash)
    pictured = shown is not None and "uri" in shown.table.column_names and len(shown) <= MAX_PICTURES
    if pictured:
        from manyhot.report.photographs import load_pillow

        load_pillow()  # before the judging: a picture library that is missing should not cost it
    misfits, one = SkippedFiles(len(files)), partial(read_predictions, rows=row_order, classes=known)
    models = misfits.reading(files, one)
    evaluation = judge(read, models, len(files), shown, known, dataset, options, progress, misfits)
    files = misfits.left(files)
    pictures = _pictures(read, shown, map(one, files), known) if pictured and shown is not None else None
    named = [p for p in (labels, rows, images, classes) if p and Path(p).is_file()]
    comparison = compare_tables([evaluation.tables()], seed=options.seed)
    about = _Judged(read, files, row_order, known, dataset or read.name, call)
    pages, no_gallery = _write_gallery(about, shown, predictions, gallery, Path(out) / "report", progress)
    written = write_evaluation(
        evaluation,
        out,
        description=describe_tables(read, classes=known, dataset=dataset or read.name or "labels"),
        comparison=comparison,
        call=call,
        inputs={Path(p).name: sha256(p) for p in [*named, *files]},
        pictures=pictures,
        gallery=pages,
    )
    return Outcome(evaluation, comparison, tuple(written), no_gallery=no_gallery)


def _sets_file(labels: PathLike) -> Path:
    """Return the label sets in a folder, such as that of a campaign; another path is them already."""
    inside = Path(labels) / "labels.parquet"
    if (Path(labels) / DESCRIPTION).is_file() and not inside.is_file():
        raise InputError(
            "The campaign has no label sets yet.",
            where=labels,
            do=f"make them of its votes: manyhot aggregate {labels}; or judge on the original labels alone: "
            f"--labels {Path(labels) / 'images.parquet'}",
        )
    return inside if inside.is_file() else Path(labels)


def _single(labels: PathLike) -> Path | None:
    """Return the images table that is given for labels, if one is."""
    table = images_file(labels)
    told = table != Path(labels) or detect(table, ("labels",)) is None
    return table if told and detect(table, ("images",)) is not None else None


def judge(
    labels: Labels,
    models: Iterator[Predictions],
    n: int,
    images: Images | None,
    classes: ClassList | None,
    dataset: str,
    options: Options,
    progress: Progress | None,
    misfits: SkippedFiles | None = None,
) -> Evaluation:
    """Judge `n` models on labels, and tell the progress."""
    name = dataset or labels.name
    # One step more than models: intervals and pairs.
    told = None if progress is None else (lambda done, _: progress(f"judging on {name}", done, n + 1))
    return evaluate(
        labels,
        models,
        metrics=options.metrics,
        slices=options.slices,
        images=images,
        classes=classes,
        resamples=options.resamples,
        seed=options.seed,
        map_resamples=options.map_resamples,
        trust_order=options.trust_order,
        dataset=name,
        misfits=misfits,
        progress=told,
    )


def _pictures(
    labels: Labels, images: Images, models: Iterable[Predictions], classes: ClassList | None
) -> Pictures:
    from manyhot.report.pictures import make_pictures

    photographs = find_photographs(images.table["uri"].to_pylist())
    return make_pictures(images, labels, list(models), classes, photographs=photographs)


@dataclass(frozen=True)
class _Judged:
    """What a gallery is made of."""

    labels: Labels
    files: Sequence[Path]
    rows: Images | None
    classes: ClassList | None
    dataset: str
    call: str


def _write_gallery(
    about: _Judged,
    images: Images | None,
    predictions: Sequence[PathLike],
    asked: int | None,
    report: Path,
    progress: Progress | None,
) -> tuple[list[Path], str]:
    """Write the gallery of the report; or say why there is none, which does not spoil an evaluation."""
    from manyhot.evaluate.gallery import report_gallery

    most = MAX_GALLERY if asked is None else asked
    if not most:
        return [], ""
    try:
        shown = _photographed(about, images, predictions)
        if shown is None:
            absent = "nothing says where photographs lie: --images FILE, with the column uri"
            return [], absent if asked else ""
        if len(shown) > most:
            more = f"{len(shown):,} photographs are more than {most:,}: --gallery {len(shown)} to have one"
            return [], more
        return report_gallery(shown, report, **vars(about), progress=progress), ""
    except (InputError, MissingExtraError) as error:
        reasons = [str(error.details[key]) for key in ("where", "got", "do") if error.details[key]]
        return [], f"{error.what.rstrip('.')}: {'; '.join(reasons)}"


def _photographed(about: _Judged, images: Images | None, predictions: Sequence[PathLike]) -> Images | None:
    """Return the images that are judged, where a table says where their photographs lie."""
    found = [] if images is None else [images]
    folders = (images_file(p) for p in predictions if Path(p).is_dir())
    beside = (read_images(p, classes=about.classes) for p in folders if p.is_file())
    known = next((t for t in itertools.chain(found, beside) if "uri" in t.table.column_names), None)
    if known is None:
        return None
    judged = known.table.filter(pc.is_in(known.image_id, about.labels.image_id))
    return Images(judged, known.name) if len(judged) else None


@dataclass(frozen=True)
class Options:
    """How to judge; see `manyhot.evaluate.judge.evaluate`."""

    metrics: tuple[str, ...] | None = None
    slices: tuple[str, ...] = ()
    resamples: int = 1000
    seed: int = 0
    map_resamples: int = 0
    trust_order: bool = False


@dataclass(frozen=True)
class Outcome:
    """An evaluation, what came of comparing its models, and the files they were written to.

    `no_gallery` says why the report has no gallery although photographs are at hand.
    """

    evaluation: Evaluation
    comparison: Comparison
    written: tuple[Path, ...]
    highlight: tuple[str, ...] = ()
    no_gallery: str = ""
