"""Files in, files out: what each command does, callable from Python.

This is the one place that puts readers, stages, the catalogue and the report together.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from manyhot import catalog, tables
from manyhot.classes import ClassList, class_list, class_list_of
from manyhot.errors import InputError, MatchError, UnknownNameError
from manyhot.files import sha256
from manyhot.formats import (
    detect,
    prediction_files,
    read_classes,
    read_images,
    read_labels,
    read_predictions,
)
from manyhot.formats.tabular import write_csv
from manyhot.steps.evaluate import evaluate
from manyhot.steps.results import Evaluation
from manyhot.tables import Images, Labels, Predictions

if TYPE_CHECKING:
    from manyhot.report import Pictures

PathLike = str | os.PathLike[str]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

MAX_PICTURES = 200
"""Images up to which a report shows them; a gallery for more comes with part 6."""


@dataclass(frozen=True)
class DataSet:
    """A data set of a benchmark, by names of the catalogue: labels, predictions, row order."""

    name: str
    labels: tuple[str, str]
    predictions: str
    rows: str


BENCHMARKS: dict[str, tuple[DataSet, ...]] = {
    "imagenet": (
        DataSet(
            "imagenet-val",
            ("imagenet-real", "real.json"),
            "imagenet-val-predictions",
            "imagenet-validation-original.json",
        ),
        DataSet(
            "imagenetv2-matched-frequency",
            ("multilabelfy-imagenetv2", "imagenetv2_refined_labels.json"),
            "imagenetv2-matched-frequency-predictions",
            "imagenetv2-b-33.json",
        ),
    )
}
"""What ``manyhot evaluate NAME`` judges."""


@dataclass(frozen=True)
class Options:
    """How to judge; see `manyhot.steps.evaluate.evaluate`."""

    metrics: tuple[str, ...] | None = None
    slices: tuple[str, ...] = ()
    resamples: int = 1000
    seed: int = 0
    map_resamples: int = 0
    trust_order: bool = False


@dataclass(frozen=True)
class Outcome:
    """An evaluation and the files it was written to."""

    evaluation: Evaluation
    written: tuple[Path, ...]
    highlight: tuple[str, ...] = ()


def evaluate_files(
    labels: PathLike,
    predictions: Sequence[PathLike],
    out: PathLike,
    *,
    rows: PathLike | None = None,
    images: PathLike | None = None,
    classes: PathLike | None = None,
    dataset: str = "",
    options: Options | None = None,
    call: str = "",
    progress: Progress | None = None,
) -> Outcome:
    """Judge prediction files on a label file and write results, pairs and the report into the folder `out`.

    Parameters
    ----------
    labels : path-like
        Any format that holds labels.
    predictions : sequence of path-like
        Files, and folders that are searched for files.
    rows : path-like, optional
        The image of each row, and original labels, for files that hold arrays alone.
    images : path-like, optional
        Images table: original labels, columns to slice by, and pictures for the report.
    classes : path-like, optional
        The class list of labels and predictions, as a file or ``imagenet1k``; see
        `manyhot.formats.read_classes`.
    dataset : str
        Its name in the results; that of the labels by default.
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
    read = read_labels(labels, classes=known)
    row_order = read_images(rows, classes=known) if rows else None
    shown = read_images(images, classes=known) if images else None
    files = prediction_files(predictions)
    models = (read_predictions(f, rows=row_order, classes=known) for f in files)
    if row_order is not None:
        read = read.with_labels(row_order)
    known = known or class_list_of(read.class_hash)
    # Before the judging: a picture library that is missing should not cost it.
    pictures = _pictures(read, shown, files, row_order, known) if shown is not None else None
    evaluation = _evaluate(read, models, len(files), shown, known, dataset, options or Options(), progress)
    named = [p for p in (labels, rows, images, classes) if p and Path(p).is_file()]
    inputs = {Path(p).name: sha256(p) for p in [*named, *files]}
    return _write(evaluation, out, call=call, inputs=inputs, pictures=pictures)


def evaluate_benchmark(
    name: str,
    out: PathLike,
    *,
    predictions: Sequence[PathLike] = (),
    rows: PathLike | None = None,
    options: Options | None = None,
    call: str = "",
    progress: Progress | None = None,
) -> Outcome:
    """Judge all published models of a benchmark, and one's own among them.

    Parameters
    ----------
    name : str
        One of `BENCHMARKS`.
    out : path-like
    predictions : sequence of path-like
        Own models; each is judged on the data sets whose images it predicts.
    rows, options, call, progress
        As in `evaluate_files`; `rows` is for the own predictions.

    Raises
    ------
    UnknownNameError
        If there is no such benchmark.
    MatchError
        If own predictions are of none of its data sets.
    """
    if name not in BENCHMARKS:
        near = difflib.get_close_matches(name, BENCHMARKS, n=1)
        raise UnknownNameError(
            f"There is no benchmark {name!r}.",
            allowed=", ".join(BENCHMARKS),
            do=f"did you mean {near[0]!r}?" if near else None,
        )
    own = [read_predictions(f, rows=rows) for f in prediction_files(predictions)] if predictions else []
    sets = [_Fetched.of(d, progress) for d in BENCHMARKS[name]]
    _check_own(own, sets)
    own = _set_apart(own, sets)
    parts = []
    for fetched in sets:
        mine = [p for p in own if fetched.covers(p)]
        n = len(fetched.files) + len(mine)
        models = fetched.models(mine)
        parts.append(
            _evaluate(
                fetched.labels,
                models,
                n,
                fetched.images,
                class_list(),
                fetched.name,
                options or Options(),
                progress,
            )
        )
    inputs = {key: value for fetched in sets for key, value in fetched.inputs.items()}
    inputs |= {Path(p.source).name: sha256(p.source) for p in own}
    return _write(Evaluation.concat(parts), out, call=call, inputs=inputs, highlight=[p.model for p in own])


def convert(
    source: PathLike,
    target: PathLike,
    *,
    rows: PathLike | None = None,
    classes: PathLike | None = None,
    scores: str | None = None,
    long: bool = False,
    call: str = "",
) -> Path:
    """Convert a file of labels, predictions or images to our Parquet or CSV.

    Parameters
    ----------
    source, target : path-like
        What it holds is found out from `source`, the format to write from the suffix of `target`.
    rows, scores
        As in `manyhot.formats.read_predictions`.
    classes : path-like, optional
        As in `evaluate_files`.
    long : bool
        CSV with one row for each (image, class) pair.

    Raises
    ------
    InputError
        If the source is of no known format or the target has another suffix.
    """
    source, target = Path(source), Path(target)
    if target.suffix.lower() not in (".parquet", ".csv"):
        raise InputError("Cannot write this kind of file.", where=target, allowed=".parquet, .csv")
    if long and target.suffix.lower() != ".csv":
        raise InputError("Only CSV has a long form.", where=target, allowed="a target that ends in .csv")
    held = _read_any(source, rows, read_classes(classes) if classes else None, scores)
    table = held.to_table() if isinstance(held, Predictions) else held.table
    if target.suffix.lower() == ".csv":
        return write_csv(table, target, long=long)
    name = {Predictions: "predictions", Labels: "labels", Images: "images"}[type(held)]
    about = {} if isinstance(held, Images) else held.about()
    inputs = {source.name: sha256(source)} | ({Path(rows).name: sha256(rows)} if rows else {})
    return tables.write(table, target, name, call=call, inputs=inputs, about=about)


def predict_folder(
    source: PathLike,
    models: Sequence[str],
    out: PathLike,
    *,
    top: int | None = 20,
    call: str = "",
    progress: Progress | None = None,
) -> list[Path]:
    """Predict the images of a folder with each model and write predictions, images and skipped images.

    Parameters
    ----------
    source : path-like
        A folder of images.
    models : sequence of str
        Registered names.
    out : path-like
    top : int, optional
        How many of the best classes to keep; None keeps the scores of all.
    """
    from manyhot.models.predict import predict, write_skipped

    out, written = Path(out), []
    for model in models:
        told = None if progress is None else (lambda done, of, m=model: progress(m, done, of))
        result = predict(source, model, top=top, progress=told)
        name = tables.predictions_file_name(model)
        written.append(tables.write_predictions(result.predictions, out / name, call=call))
    written.append(tables.write(result.images.table, out / "images.parquet", "images", call=call))
    written.append(write_skipped(result.skipped, out / "skipped.csv"))
    return written


def _evaluate(
    labels: Labels,
    models: Iterator[Predictions],
    n: int,
    images: Images | None,
    classes: ClassList | None,
    dataset: str,
    options: Options,
    progress: Progress | None,
) -> Evaluation:
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
        progress=told,
    )


@dataclass(frozen=True)
class _Fetched:
    """A data set of a benchmark, read from the cache."""

    name: str
    labels: Labels
    images: Images
    files: tuple[Path, ...]
    reversed: frozenset[str]
    inputs: dict[str, str]

    @classmethod
    def of(cls, d: DataSet, progress: Progress | None) -> _Fetched:
        entries = {name: catalog.entry(name) for name in (d.labels[0], d.predictions)}
        told = None if progress is None else (lambda done, of: progress(f"fetching {d.name}", done, of))
        labels_file = catalog.fetch_file(*d.labels, progress=told)
        files = catalog.fetch(d.predictions, progress=told)
        images = read_images(files[d.rows])
        predictions = entries[d.predictions].files
        used = [entries[d.labels[0]].file(d.labels[1]), *predictions]
        return cls(
            d.name,
            read_labels(labels_file).with_labels(images),
            images,
            tuple(path for name, path in files.items() if name != d.rows),
            frozenset(f.path for f in predictions if "reversed" in f.flags),
            {f"{d.name}/{f.path}": f.sha256 for f in used},
        )

    def covers(self, predictions: Predictions) -> bool:
        return bool(tables.count_shared(self.labels.image_id, predictions.image_id))

    def models(self, own: Sequence[Predictions]) -> Iterator[Predictions]:
        for path in self.files:
            found = read_predictions(path, rows=self.images)
            if path.name in self.reversed and found.classes is not None:
                found = replace(found, classes=found.classes[:, ::-1])
            yield found
        yield from own


def _set_apart(own: Sequence[Predictions], sets: Sequence[_Fetched]) -> list[Predictions]:
    """Give own models a name of their own where a published one has it: one's own resnet50 is another."""
    published = {path.stem for fetched in sets for path in fetched.files}
    return [replace(p, model=f"own/{p.model}") if p.model in published else p for p in own]


def _check_own(own: Sequence[Predictions], sets: Sequence[_Fetched]) -> None:
    for predictions in own:
        if not any(fetched.covers(predictions) for fetched in sets):
            raise MatchError(
                f"{predictions.model} predicts images of none of the benchmark's data sets.",
                where=predictions.source,
                got=f"ids such as {predictions.image_id[0]}",
                allowed=" or ".join(f"{f.labels.image_id[0]} ({f.name})" for f in sets),
                do="give the row order with --rows, or predict one of these data sets",
            )


def _read_any(
    source: Path, rows: PathLike | None, classes: ClassList | None, scores: str | None
) -> Labels | Predictions | Images:
    entry = detect(source, ("labels", "predictions", "images")) if source.is_file() else None
    holds = entry.about["holds"] if entry else "labels"
    if holds == "predictions":
        return read_predictions(source, rows=rows, classes=classes, scores=scores)
    return read_images(source, classes=classes) if holds == "images" else read_labels(source, classes=classes)


def _write(
    evaluation: Evaluation,
    out: PathLike,
    *,
    call: str,
    inputs: dict[str, str],
    pictures: Pictures | None = None,
    highlight: Sequence[str] = (),
) -> Outcome:
    from dataclasses import asdict

    from manyhot.report import write_report

    written = evaluation.write(out, call=call, inputs=inputs)
    report = write_report(
        Path(out) / "report",
        tables.read(written[0], "results"),
        evaluation.pairs,
        notes=[asdict(n) for n in evaluation.notes],
        pictures=pictures,
        highlight=highlight,
        call=call,
    )
    return Outcome(evaluation, (*written, report), tuple(highlight))


def _pictures(
    labels: Labels, images: Images, files: Sequence[Path], rows: Images | None, classes: ClassList | None
) -> Pictures | None:
    from manyhot.report import make_pictures

    if "uri" not in images.table.column_names or len(images) > MAX_PICTURES:
        return None
    models = [read_predictions(f, rows=rows, classes=classes) for f in files]
    return make_pictures(images, labels, models, classes)
