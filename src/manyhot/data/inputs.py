"""Inputs of a call: data sets, each with the models that predict it, from anything a call can name."""

from __future__ import annotations

import difflib
import fnmatch
import itertools
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from manyhot.classes import ClassList, class_list, from_keys
from manyhot.data.benchmarks import BENCHMARKS, BenchmarkData, benchmark_named, data_set
from manyhot.data.table_inputs import labels_of_table, read_tables
from manyhot.errors import InputError, UsageError
from manyhot.files import sha256
from manyhot.formats import detect, prediction_files, read_classes, read_images, read_labels, read_predictions
from manyhot.formats.writing import PathLike, Progress, images_file
from manyhot.parameters import Flattened, PythonOnly, Repeated, Shown
from manyhot.run import QUIET, Run
from manyhot.tables import DESCRIPTION, Campaign, Images, Labels, Predictions, ScoreKind
from manyhot.tables.array_inputs import as_predictions, as_tables
from manyhot.tables.arrays import single_labels
from manyhot.tables.image_ids import AUTO, check_match
from manyhot.tables.labels import sorted_by_id, with_ids_like
from manyhot.tables.own_classes import JoinedClasses, join_classes, own_list
from manyhot.tables.skipped_files import SkippedFiles

LabelsLike = Annotated[Any, Shown("DATASET")]
"""Label sets as a table, a frame or arrays; or where they are: a file, a campaign, a benchmark."""

PredictionsLike = Annotated[Any, Shown("FILE"), Repeated()]
"""Predictions as tables, frames or arrays; or files and folders."""

ModelPatterns = Annotated[Sequence[str], Shown("NAME")]
"""Patterns of names, such as ``resnet*``."""


ClassesLike = Annotated[PathLike | ClassList | Sequence[str], Shown("FILE")]
"""A class list: its file, its keys, or the name of a built-in list."""


@dataclass(frozen=True)
class Reading(Flattened):
    """How foreign data are read.

    Attributes
    ----------
    rows
        File with the image of each row of array files: data-set JSON, CSV, Parquet, or a list of ids.
    images
        Images table with original labels.
    classes
        Class list: a file with one key per line, a table with the columns key and name, or imagenet1k,
        imagenet-a or imagenet-r. In Python, also a list of names. By default, the names in the files.
    dataset
        Name of the data set in the tables. By default, the data set's own name.
    trust_order
        Trust the order of rows and classes and do not check it.
    match
        How ids of images are matched if files write them differently: auto, exact, path (one is the end of
        the other), name (without folders), stem (without extension), case, several joined by +, or a leading
        folder to remove, such as val/.
    label
        Original labels, one per image, for label sets that are arrays or lists; -1 if there is none.
    n_classes
        Number of classes, for labels and scores that do not determine it.
    scores
        Kind of the scores, if the file does not declare it: logit, probability, cosine, or none (they only
        rank classes).
    score_kind
        The former name of `scores`.
    """

    rows: PathLike | None = None
    images: PathLike | Images | None = None
    classes: ClassesLike | None = None
    dataset: str = ""
    trust_order: bool = False
    match: str = AUTO
    label: Annotated[Any, PythonOnly()] = None
    n_classes: Annotated[int, PythonOnly()] = 0
    scores: ScoreKind | None = None
    score_kind: Annotated[str, PythonOnly()] = ""

    def __post_init__(self) -> None:
        if self.score_kind:
            warnings.warn("score_kind is called scores now", FutureWarning, stacklevel=3)
            object.__setattr__(self, "scores", self.score_kind)
            object.__setattr__(self, "score_kind", "")

    @property
    def kind_of_arrays(self) -> str:
        """The kind of scores in arrays, which cannot declare it themselves."""
        return self.scores or "score"


READING = Reading()


def open_inputs(
    labels: LabelsLike,
    predictions: PredictionsLike = (),
    *,
    models: Sequence[str] = (),
    reading: Reading = READING,
    run: Run = QUIET,
) -> Iterator[Source]:
    """Yield the data sets passed to a call, each with the models that predict it.

    Parameters
    ----------
    labels
        Label sets as a table, a data frame or arrays; a file, a folder written by ``manyhot predict``, a
        campaign, a benchmark or one of its data sets.
    predictions
        Predictions as tables, data frames, arrays, files or folders. By default, those of the campaign,
        folder or benchmark.
    models
        Patterns of the names of models.
    reading, run
        How files are read, and how progress is reported.

    Raises
    ------
    ManyhotError
        If `labels` has an unsupported form, if a file cannot be read, if there are no predictions, or if ids
        are ambiguous.
    """
    check_match(reading.match)
    for source in _opened(labels, predictions, models, reading, run):
        yield _matched(source, reading.match)


def _opened(
    labels: LabelsLike, predictions: PredictionsLike, models: Sequence[str], reading: Reading, run: Run
) -> Iterator[Source]:
    given = [predictions] if isinstance(predictions, str | os.PathLike) else predictions
    in_files = isinstance(given, list | tuple) and all(isinstance(p, str | os.PathLike) for p in given)
    if isinstance(labels, str | os.PathLike) and in_files:
        paths = [
            images_file(p)
            for p in (reading.rows, reading.images, reading.classes)
            if isinstance(p, str | os.PathLike)
        ]
        inputs = {p.name: sha256(p) for p in paths if p.is_file()}
        asked = Asked(
            given,
            models,
            reading.rows,
            reading.images,
            reading.classes,
            run.on_progress,
            reading.match,
            reading.scores,
        )
        for part in sources(labels, asked):
            part.inputs.update(inputs)
            yield over_one_list(replace(part, name=reading.dataset or part.name))
        return
    asked = Asked(models=models, scores=reading.scores)
    if in_files and given:
        source = _in_memory(labels, {}, reading)
        rows = read_images(reading.rows, classes=source.classes) if reading.rows else None
        read, n, misfits = _own(prediction_files(given), rows, source.classes, asked, source.inputs)
        yield over_one_list(replace(source, models=read, n=n, misfits=misfits))
        return
    source = _in_memory(labels, given, reading)
    fitting = replace(source, models=lambda: (m for m in source.models() if asked.fits(m.model)))
    yield over_one_list(fitting)


def open_labels(labels: LabelsLike, *, reading: Reading = READING, run: Run = QUIET) -> Iterator[Source]:
    """Yield the data sets passed to a call, for functions that need only label sets.

    Parameters
    ----------
    labels
        Label sets as a table, a data frame or arrays; a file in any format, a campaign, a benchmark or one of
        its data sets.
    reading, run
        As in `open_inputs`.

    Raises
    ------
    ManyhotError
        If `labels` has an unsupported form, or if a file cannot be read.
    """
    check_match(reading.match)
    if not isinstance(labels, str | os.PathLike):
        yield _matched(over_one_list(_in_memory(labels, {}, reading)), reading.match)
        return
    benchmark, dataset = benchmark_named(labels), data_set(labels)
    if benchmark or dataset:
        asked = Asked(images=reading.images, progress=run.on_progress)
        found = [_published(d, asked) for d in (benchmark.datasets if benchmark else [dataset]) if d]
    else:
        found = [over_one_list(_labels_alone(Path(labels), reading))]
    for source in found:
        yield _matched(replace(source, name=reading.dataset or source.name), reading.match)


def _matched(source: Source, match: str) -> Source:
    """Return a data set whose images and predictions have the ids of its labels: later joins are exact."""
    tables = (source.images, source.labels) if source.campaign else (source.labels, source.images)
    table = next((t for t in tables if t is not None), None)
    if table is None:
        return source
    name, misfits = table.name or "the labels", source.misfits
    images = source.images
    if images is not None and images is not table:
        images, like = with_ids_like(images, table.image_id, other_name=name, match=match)
        misfits.add_matched(name, images.name or "images", like)
    models = partial(misfits.matching, ids=table.image_id, name=name, match=match)
    return replace(source, images=images, models=lambda: models(source.models()))


def _labels_alone(path: Path, reading: Reading) -> Source:
    """Return the label sets of a file or a campaign."""
    if not path.exists():
        raise _nothing_called(path)
    campaign = Campaign.read(path) if (path / DESCRIPTION).is_file() else None
    file = campaign.path("labels") if campaign else path
    classes = _class_list(reading.classes or (campaign.path("classes") if campaign else None))
    labels = read_labels(file, classes=classes) if file.exists() else None
    images = _images(reading.images or (campaign.path("images") if campaign else None), classes)
    inputs = {file.name: sha256(file)} if file.is_file() else {}
    name = path.resolve().name if campaign else (labels.name if labels else "") or path.resolve().stem
    return Source(name, labels, images, classes, lambda: iter(()), 0, inputs, campaign=campaign)


def _in_memory(labels: Any, predictions: Any, reading: Reading) -> Source:
    """Return a data set whose labels or predictions are in memory."""
    classes, kind = _class_list(reading.classes), reading.kind_of_arrays
    n_classes = reading.n_classes or (len(classes) if classes else 0)
    images, ids = _images(reading.images, classes), None
    models = read_tables(predictions, classes, kind)
    if isinstance(labels, str | os.PathLike):
        labels = read_labels(labels, classes=classes)
    elif (read := labels_of_table(labels, classes)) is not None:
        # The rows of arrays beside a frame are its rows.
        ids = read.image_id if len(read) == len(labels) else None
        labels = read
    if isinstance(labels, Images):
        labels, images = None, labels
        if not _are_tables(models):
            models = as_predictions(models, n_classes=n_classes, ids=images.image_id, score_kind=kind)
    elif not (isinstance(labels, Labels) and _are_tables(models) and reading.label is None):
        labels, models = as_tables(labels, models, n_classes or None, reading.label, kind, classes, ids)
    table = images if labels is None else labels
    name = reading.dataset or (table.name if table is not None else "") or "labels"
    n = len(models) if isinstance(models, list) else 0
    again = _first_again(models) if isinstance(models, Iterator) else lambda: iter(models)
    return Source(name, labels, images, classes, again, n, {})


def _are_tables(models: Any) -> bool:
    if isinstance(models, Iterator):
        return True
    return isinstance(models, list | tuple) and all(isinstance(p, Predictions) for p in models)


def _first_again(models: Iterator[Predictions]) -> Callable[[], Iterator[Predictions]]:
    """Return a function that yields the first model each time, and the others once."""
    first = list(itertools.islice(models, 1))
    return lambda: itertools.chain(first, models)


def over_one_list(source: Source) -> Source:
    """Return a data set whose labels, images and models have one class list, joined by name.

    Raises
    ------
    MatchError
        As in `manyhot.tables.own_classes.join_classes`.
    """
    if source.published is not None:
        return source
    labels, images = source.labels, source.images
    if source.classes is not None:
        joined: JoinedClasses | None = JoinedClasses(len(source.classes), source.classes)
    else:
        is_open = labels is not None and (labels.assumed or labels.class_list is not None)
        is_open = is_open or (images is not None and images.class_list is not None)
        joined = join_classes(labels, images, next(source.models(), None) if is_open else None)
    if joined is None:
        return source
    labels = labels and joined.of_labels(labels)
    images = images and joined.of_images(images)
    if joined.classes is not None and own_list(joined.classes) is not None and source.campaign is None:
        # The same numbers to the last digit, whatever the order of the rows.
        labels, images = labels and sorted_by_id(labels), images and sorted_by_id(images)
    return replace(
        source,
        labels=labels,
        images=images,
        classes=joined.classes,
        models=lambda: _joined(source, joined),
    )


def _joined(source: Source, joined: JoinedClasses) -> Iterator[Predictions]:
    for model in source.models():
        if (note := joined.note_on(model)) and note not in source.misfits.remarks:
            source.misfits.remarks.append(note)
        try:
            named = joined.of_predictions(model)
        except InputError as error:
            source.misfits.skip(model.source or model.model, error)
            continue
        yield named


def _images(images: PathLike | Images | None, classes: ClassList | None) -> Images | None:
    return images if isinstance(images, Images | None) else read_images(images_file(images), classes=classes)


def _class_list(classes: ClassesLike | None) -> ClassList | None:
    if isinstance(classes, ClassList | None):
        return classes
    if isinstance(classes, str | os.PathLike):
        return read_classes(classes)
    return from_keys([str(key) for key in classes])


@dataclass(frozen=True)
class Asked:
    """The arguments of a call other than the data set: files, and patterns of model names."""

    predictions: Sequence[PathLike] = ()
    models: Sequence[str] = ()
    rows: PathLike | None = None
    images: PathLike | Images | None = None
    classes: ClassesLike | None = None
    progress: Progress | None = None
    match: str = AUTO
    scores: ScoreKind | None = None

    def fits(self, model: str) -> bool:
        """Return whether a model is selected."""
        return not self.models or any(fnmatch.fnmatchcase(model, pattern) for pattern in self.models)

    def check_some(self, files: Sequence[object], names: Sequence[str]) -> None:
        """Raise an error if no model matches the patterns."""
        if not files:
            near = difflib.get_close_matches(self.models[0], names, n=1)
            raise InputError(
                "No model has such a name.",
                got=" or ".join(self.models),
                allowed=", ".join(names),
                do=f"did you mean {near[0]!r}?" if near else None,
            )


@dataclass(frozen=True, eq=False)
class Source:
    """One data set, and the models that predict it.

    Attributes
    ----------
    name : str
    labels : Labels, optional
        Label sets; None if there are none.
    images : Images, optional
        Original labels; None if only `labels` can contain them.
    classes : ClassList, optional
    models : callable
        Yields the predictions, one model at a time.
    n : int
        Maximum number of models. It may be lower, because the names of the user's own models are known only
        after reading.
    inputs : dict of str to str
        The sha256 of each file, by file name. The hashes for the user's own models are added when these are
        read.
    misfits : Misfits
        Files of the user's own models that are skipped.
    published : DataSet, optional
        Where it is one.
    campaign : Campaign, optional
        Where it is one.
    """

    name: str
    labels: Labels | None
    images: Images | None
    classes: ClassList | None
    models: Callable[[], Iterator[Predictions]]
    n: int
    inputs: dict[str, str]
    misfits: SkippedFiles = field(default_factory=SkippedFiles)
    published: BenchmarkData | None = None
    campaign: Campaign | None = None

    def sets(self) -> Labels:
        """Return the label sets. For a folder or an images table, these are only the original labels.

        Raises
        ------
        InputError
            If the data set is a campaign without label sets, or if the number of classes is unknown.
        """
        if self.labels is not None:
            return self.labels
        if self.campaign is not None:
            raise InputError(
                "The campaign has no label sets yet.",
                where=self.campaign.folder,
                do=f"make them from its votes: manyhot aggregate {self.campaign.folder}",
            )
        assert self.images is not None
        images = Images(self.images.table, self.name)
        return original_alone(images, self.classes, lambda: next(self.models()))


def sources(source: PathLike, asked: Asked) -> Iterator[Source]:
    """Yield the data sets that a call names.

    Parameters
    ----------
    source : path-like
        A benchmark or one of its data sets; a campaign; a folder written by ``manyhot predict``; label sets
        or an images table, in any format.
    asked : Asked

    Raises
    ------
    ManyhotError
        If `source` has an unsupported form, if a file cannot be read, or if there are no predictions.
    """
    path = Path(source)
    if (benchmark := benchmark_named(source)) is not None:
        yield from (_published(d, asked) for d in benchmark.datasets)
    elif (found := data_set(source)) is not None:
        yield _published(found, asked)
    elif (path / DESCRIPTION).is_file():
        yield _campaign(Campaign.read(path), asked)
    elif path.exists():
        yield _files(path, asked)
    else:
        raise _nothing_called(source)


def _nothing_called(name: PathLike) -> InputError:
    published = list(dict.fromkeys([*BENCHMARKS, *(d.name for b in BENCHMARKS.values() for d in b.datasets)]))
    folder = Path(name).parent
    beside = [str(p) for p in sorted(folder.iterdir())] if folder.is_dir() else []
    near = difflib.get_close_matches(str(name), [*published, *beside], n=1)
    return InputError(
        "There is no such data set, campaign or file.",
        got=name,
        allowed=f"{', '.join(published)}; the folder of a campaign or of predictions; label sets or images "
        "in a file",
        do=f"did you mean {near[0]!r}?" if near else None,
    )


def original_alone(images: Images, classes: ClassList | None, first: Callable[[], Predictions]) -> Labels:
    """Return the original labels of images as label sets without ratings.

    Parameters
    ----------
    images : Images
    classes : ClassList, optional
    first : callable
        Returns predictions, which determine the number of classes if there is no class list.

    Raises
    ------
    InputError
        If the number of classes is unknown, and as in `manyhot.tables.arrays.single_labels`.
    """
    if classes is not None:
        return single_labels(images, len(classes), classes.hash)
    predicted = first()
    if not predicted.n_classes:
        raise InputError(
            "The number of classes is not known.",
            where=images.name or None,
            do="pass the class list as `classes`",
        )
    return single_labels(images, predicted.n_classes, predicted.class_hash)


def _published(dataset: BenchmarkData, asked: Asked) -> Source:
    fetched = dataset.fetch(asked.progress)
    inputs = dict(fetched.inputs)
    if asked.predictions:
        rows = read_images(asked.rows) if asked.rows else fetched.rows
        models, n, misfits = _own(prediction_files(asked.predictions), rows, class_list(), asked, inputs)
    else:
        files = [f for f in fetched.files if asked.fits(f.stem)]
        asked.check_some(files, [f.stem for f in fetched.files])
        models, n, misfits = (lambda: map(fetched.read, files)), len(files), SkippedFiles()
    images = _images(asked.images, class_list()) or fetched.images
    return Source(dataset.name, fetched.labels, images, class_list(), models, n, inputs, misfits, dataset)


def _campaign(campaign: Campaign, asked: Asked) -> Source:
    classes = _class_list(asked.classes or campaign.path("classes"))
    labels, images = campaign.path("labels"), campaign.path("images")
    inputs = {f.name: sha256(f) for f in (labels, images) if f.is_file()}
    own = campaign.path("predictions")
    if not asked.predictions and own.is_dir() and not any(own.glob("*.parquet")):
        raise InputError(
            "The campaign holds no predictions.",
            where=own,
            allowed="one table of predictions per model, as manyhot predict writes them",
            do=f"predict its images: manyhot predict IMAGES --model NAME --out {own}",
        )
    files = prediction_files(asked.predictions or [own])
    rows = read_images(asked.rows, classes=classes) if asked.rows else None
    models, n, misfits = _own(files, rows, classes, asked, inputs)
    return Source(
        campaign.folder.resolve().name,
        read_labels(labels, classes=classes) if labels.is_file() else None,
        _images(asked.images or images, classes),
        classes,
        models,
        n,
        inputs,
        misfits,
        campaign=campaign,
    )


def _files(path: Path, asked: Asked) -> Source:
    classes = _class_list(asked.classes)
    # A folder with label sets is judged on them, never in silence on the original labels beside them.
    sets, table = path / "labels.parquet", images_file(path)
    shown = table if table != path else None
    table = sets if sets.is_file() else table
    given = asked.predictions or ([path] if table != path else [])
    if not given and path.is_file() and detect(path, ("predictions",)) is not None:
        raise InputError(
            "These are predictions without a data set to evaluate them on.",
            where=path,
            do="pass the folder written by manyhot predict, or label sets and --predictions FILE",
        )
    if not given:
        raise UsageError("There are no predictions.", where=path, do="pass predictions: --predictions FILE")
    rows = read_images(asked.rows, classes=classes) if asked.rows else None
    labels = None
    if table == sets or (table == path and not _holds_images_alone(path)):
        labels = read_labels(table, classes=classes)
        labels = labels if rows is None else labels.with_labels(rows, asked.match)
    images = _images(asked.images or shown or (table if labels is None else None), classes)
    if labels is None and path.is_file() and images is not None and images.label is None:
        read_labels(path)  # raises an error that names the columns of label sets
    inputs = {table.name: sha256(table)} if table.is_file() else {}
    models, n, misfits = _own(prediction_files(given), rows, classes, asked, inputs)
    return Source(
        (labels.name if labels else "") or path.resolve().stem,
        labels,
        images,
        classes,
        models,
        n,
        inputs,
        misfits,
    )


def _holds_images_alone(path: Path) -> bool:
    """Return whether a file holds images; not where it holds neither, so that the error is about labels."""
    return detect(path, ("labels",)) is None and detect(path, ("images",)) is not None


def _own(
    files: Sequence[Path],
    rows: Images | None,
    classes: ClassList | None,
    asked: Asked,
    inputs: dict[str, str],
) -> tuple[Callable[[], Iterator[Predictions]], int, SkippedFiles]:
    """Return a reader of the user's models that fit, the number of files, and what is skipped."""
    misfits = SkippedFiles(len(files))

    def read() -> Iterator[Predictions]:
        names, fitting = [], []
        one = partial(read_predictions, rows=rows, classes=classes, scores=asked.scores)
        for found in misfits.reading(files, one):
            names.append(found.model)
            if asked.fits(found.model):
                file = Path(found.source)
                fitting.append(file)
                inputs[file.name] = inputs.get(file.name) or sha256(file)
                yield found
        asked.check_some(fitting, names)

    return read, len(files), misfits
