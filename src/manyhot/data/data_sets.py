"""Data sets that a call names: benchmarks, campaigns, folders and files, each with its models."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import ClassList, class_list, class_list_of, normal_name
from manyhot.data.benchmarks import (
    BENCHMARKS,
    BenchmarkData,
    Fetched,
    benchmark_named,
    data_set,
    same_name_note,
)
from manyhot.data.reading_options import READING, ImagesTableLike, Reading
from manyhot.data.table_inputs import images_of_table, labels_of_file, selected_single_labels
from manyhot.errors import InputError, UnknownNameError, UsageError, did_you_mean
from manyhot.files import path_meant, sha256
from manyhot.formats import (
    detect,
    holds_images_alone,
    open_class_list,
    read_images,
    read_labels,
    read_predictions,
)
from manyhot.formats.prediction_folders import prediction_files, unread_notes
from manyhot.formats.writing import PathLike, images_file
from manyhot.run import Progress
from manyhot.tables import Campaign, Images, Labels, Predictions, metadata
from manyhot.tables.arrays import single_labels
from manyhot.tables.campaign_folder import is_campaign, no_label_sets
from manyhot.tables.labels import with_ids_like
from manyhot.tables.predictions import distinct_names
from manyhot.tables.skipped_files import SkippedFiles

_Reader = Callable[[], Iterator[Predictions]]


@dataclass(frozen=True)
class Asked:
    """The arguments of a call other than the data set."""

    predictions: Sequence[PathLike] = ()
    reading: Reading = READING
    progress: Progress | None = None
    unlabelled: bool = False
    """Whether images without any labels will do."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Names of the models in files, by path; by default, those that the files declare or are called."""


@dataclass(frozen=True, eq=False)
class Source:
    """A data set with the models to evaluate on it.

    Attributes
    ----------
    labels : Labels, optional
        Label sets; None if there are none.
    images : Images, optional
        Original labels; None if only `labels` can contain them.
    models : callable
        Yields the predictions, one model at a time.
    n : int
        Maximum number of models. The actual number may be lower, because the names of the user's own models
        are only known once their files are read.
    inputs : dict of str to str
        The sha256 of each file, by file name. Hashes of the user's own models are added when their files are
        read.
    misfits : Misfits
        Files of the user's own models that are skipped.
    unlabelled : tuple of int
        The classes that occur only in the predictions, if the labels list all of their classes.
    """

    name: str
    labels: Labels | None
    images: Images | None = None
    classes: ClassList | None = None
    models: Callable[[], Iterator[Predictions]] = lambda: iter(())
    n: int = 0
    inputs: dict[str, str] = field(default_factory=dict)
    misfits: SkippedFiles = field(default_factory=SkippedFiles)
    published: BenchmarkData | None = None
    campaign: Campaign | None = None
    unlabelled: tuple[int, ...] = ()

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
            raise no_label_sets(self.campaign.folder)
        assert self.images is not None
        images = Images(self.images.table, self.name)
        if self.classes is not None:
            return single_labels(images, len(self.classes), self.classes.hash)
        predicted = next(self.models(), None)
        if predicted is not None and predicted.n_classes:
            return single_labels(images, predicted.n_classes, predicted.class_hash)
        labelled_over = class_list_of(metadata(images.table).get("classes", ""))
        if labelled_over is None:
            raise InputError(
                "The number of classes is not known.",
                where=self.name or None,
                do="pass the class list as `classes`",
            )
        return single_labels(images, len(labelled_over), labelled_over.hash)


def sources(source: PathLike, asked: Asked) -> Iterator[Source]:
    """Yield the data sets that a call names.

    Parameters
    ----------
    source : path-like
        A benchmark or one of its data sets; a campaign; a folder written by ``manyhot predict``; label sets
        or an images table, in any format.

    Raises
    ------
    ManyhotError
        If `source` has an unsupported form, if a file cannot be read, or if there are no predictions.
    """
    path = Path(source)
    if (benchmark := benchmark_named(source)) is not None:
        yield from (published_source(d, asked) for d in benchmark.datasets)
    elif (found := data_set(source)) is not None:
        yield published_source(found, asked)
    elif is_campaign(path):
        yield _campaign(Campaign.read(path), asked)
    elif path.exists():
        yield _files(path, asked)
    else:
        raise no_such_data(source)


def brings_predictions(source: PathLike) -> bool:
    """Return whether a data set has its own predictions: published, of a campaign, or written by predict."""
    path = Path(source)
    is_published = benchmark_named(source) is not None or data_set(source) is not None
    return is_published or is_campaign(path) or images_file(path) != path


def no_such_data(name: PathLike) -> InputError:
    """Return the error for a name that is not a data set, campaign or file."""
    published = list(dict.fromkeys([*BENCHMARKS, *(d.name for b in BENCHMARKS.values() for d in b.datasets)]))
    return InputError(
        "There is no such data set, campaign or file.",
        got=name,
        allowed=f"{', '.join(published)}; the folder of a campaign or of predictions; label sets or images "
        "in a file",
        do=did_you_mean(str(name), published, 1) or path_meant(Path(name)),
    )


def published_source(dataset: BenchmarkData, asked: Asked) -> Source:
    """Return a published data set with its own models, or with the user's models."""
    fetched = dataset.fetch(asked.progress)
    inputs = dict(fetched.inputs)
    if asked.predictions:
        rows = asked.reading.row_images() or fetched.rows
        models, n, misfits = own_models(
            asked.predictions, rows, class_list(), asked.reading, inputs, asked.names
        )
    else:
        models, n, misfits = _published_models(fetched, asked.reading)
    images = open_images(asked.reading.images, class_list()) or fetched.images
    return Source(dataset.name, fetched.labels, images, class_list(), models, n, inputs, misfits, dataset)


def _published_models(fetched: Fetched, reading: Reading) -> tuple[_Reader, int, SkippedFiles]:
    """Return a reader of the published models that fit, and their number."""
    files = [f for f in fetched.files if reading.fits(f.stem)]
    reading.check_some(files, [f.stem for f in fetched.files])
    return lambda: map(fetched.read, files), len(files), SkippedFiles()


def _campaign(campaign: Campaign, asked: Asked) -> Source:
    classes = open_class_list(asked.reading.classes or campaign.path("classes"))
    labels, images = campaign.path("labels"), campaign.path("images")
    inputs = {f.name: sha256(f) for f in (labels, images) if f.is_file()}
    own = campaign.path("predictions")
    if not asked.predictions and own.is_dir() and not any(own.glob("*.parquet")):
        raise InputError(
            "The campaign contains no predictions.",
            where=own,
            allowed="one table of predictions per model, as manyhot predict writes them",
            do=f"run: manyhot predict IMAGES --model NAME --out {own}. To ask raters about "
            "all classes, propose with the `rule` all-classes, which needs no predictions",
        )
    rows = asked.reading.row_images(classes)
    models, n, misfits = own_models(
        asked.predictions or [own], rows, classes, asked.reading, inputs, asked.names
    )
    return Source(
        campaign.folder.resolve().name,
        read_labels(labels, classes=classes) if labels.is_file() else None,
        open_images(images if asked.reading.images is None else asked.reading.images, classes),
        classes,
        models,
        n,
        inputs,
        misfits,
        campaign=campaign,
    )


def _files(path: Path, asked: Asked) -> Source:
    classes = open_class_list(asked.reading.classes)
    sets, table = path / "labels.parquet", images_file(path)
    shown = table if table != path else None
    table = data_file(path)
    given = asked.predictions or ([path] if table != path else [])
    if not given and path.is_file() and detect(path, ("predictions",)) is not None:
        raise InputError(
            "These are predictions without a data set to evaluate them on.",
            where=path,
            do="pass the folder written by manyhot predict, or label sets and `predictions`",
        )
    if not given:
        do = "pass them as `predictions`"
        if path.is_dir() and holds_images_alone(path):
            do += f", or make them first: manyhot predict {path} --model efficientnet-lite0"
        elif path.is_dir():
            do = f"pass a campaign or a folder that manyhot predict wrote; or {do}"
        raise UsageError("There are no predictions.", where=path, do=do)
    rows = asked.reading.row_images(classes)
    labels = None
    values = asked.reading.label_values
    if table == sets or (table == path and not holds_images_alone(path, values)):
        labels = labels_of_file(table, classes, rows=rows, label_values=values)
        labels = labels if rows is None else labels.with_labels(rows, asked.reading.match)
    elif table == path:
        labels = selected_single_labels(table, classes)
    has_both = labels is not None and values is not None and holds_images_alone(table)
    own = shown or (table if labels is None or has_both else None)  # with a column of original labels
    images = open_images(own if asked.reading.images is None else asked.reading.images, classes, labels)
    if labels is None and asked.reading.images is not None:
        images = labelled_like(images, read_images(table, classes=classes), asked.reading.match)
    unlabelled = labels is None and images is not None and images.label is None
    if unlabelled and table == path and not asked.unlabelled:
        read_labels(path)  # raises an error that names the columns of label sets
    inputs = {table.name: sha256(table)} if table.is_file() else {}
    models, n, misfits = _named_or_own(given, rows, classes, asked, inputs)
    if images is not None and unlabelled and path.is_dir():
        misfits.remarks.append(f"the {len(images):,} images of {path} have no labels")
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


def _named_or_own(
    predictions: Sequence[PathLike],
    rows: Images | None,
    classes: ClassList | None,
    asked: Asked,
    inputs: dict[str, str],
) -> tuple[_Reader, int, SkippedFiles]:
    """Return the published models of the data set that `predictions` names; otherwise as `own_models`."""
    named = data_set(predictions[0]) if len(predictions) == 1 else None
    if named is None:
        return own_models(predictions, rows, classes, asked.reading, inputs, asked.names)
    fetched = named.fetch(asked.progress)
    read = {named.rows, *(f.name for f in fetched.files)}  # not its label sets
    inputs |= {name: digest for name, digest in fetched.inputs.items() if Path(name).name in read}
    models, n, misfits = _published_models(fetched, asked.reading)
    misfits.remarks += filter(None, [same_name_note(predictions[0])])
    imagenet = class_list()

    def read_named() -> Iterator[Predictions]:
        # The files contain numbers of ImageNet-1k, whatever list the labels have.
        for model in models():
            yield replace(model, n_classes=len(imagenet), class_hash=imagenet.hash, assumed=False)

    return read_named, n, misfits


def data_file(path: Path) -> Path:
    """Return the label sets, or else the images, in a folder that predict wrote, or any other path as is."""
    # A folder with label sets is judged on them, never in silence on the original labels beside them.
    sets = path / "labels.parquet"
    return sets if sets.is_file() else images_file(path)


def first_again(models: Iterator[Predictions]) -> Callable[[], Iterator[Predictions]]:
    """Return a function whose iterators all begin with the first model; the other models are yielded once."""
    first = list(itertools.islice(models, 1))
    return lambda: itertools.chain(first, models)


def own_models(
    predictions: Sequence[PathLike],
    rows: Images | None,
    classes: ClassList | None,
    reading: Reading,
    inputs: dict[str, str],
    names: Mapping[str, str] | None = None,
) -> tuple[_Reader, int, SkippedFiles]:
    """Return a reader of the user's models, the number of files, and the skipped files.

    `inputs` contains the other files of the call, which are not read as predictions even if they are in a
    folder of predictions. `names` is as in `Asked`.
    """
    passed = names or {}
    files = prediction_files(predictions)
    misfits = SkippedFiles.among(files, strict=reading.strict)
    others = (p for p in (reading.rows, reading.images, reading.classes) if isinstance(p, str | os.PathLike))
    misfits.remarks += unread_notes(predictions, files, {*inputs, *(Path(p).name for p in others)})
    # Of files that are called alike, the folders tell the models apart, unless their metadata name them.
    default_names = dict(
        zip(map(str, files), distinct_names((normal_name(f.stem), str(f)) for f in files), strict=True)
    )

    def read() -> Iterator[Predictions]:
        named, fitting, alike, single = [], [], dict[str, tuple[str, pa.Array]](), []
        one = partial(read_predictions, rows=rows, classes=classes, scores=reading.scores)
        for found in misfits.reading(files, one):
            if found.model == normal_name(Path(found.source).stem):
                found = replace(found, model=default_names.get(found.source, found.model))
            found = replace(found, model=passed.get(found.source, found.model))
            named.append(found.model)
            remarks = [f"{found.model}: {note}" for note in found.notes]
            same = found.model, found.image_id  # not the scores, which are large
            if len(found.image_id) == 1:
                single.append(found.image_id[0])
            else:
                remarks += _note_on_parts(same, alike.setdefault(re.sub(r"\d+", "0", found.model), same))
            misfits.remarks += [note for note in remarks if note not in misfits.remarks]
            if reading.fits(found.model):
                file = Path(found.source)
                fitting.append(file)
                inputs[file.name] = inputs.get(file.name) or sha256(file)
                yield found
        if 1 < len(named) == len(set(single)):
            each = f"each of the {len(named):,} files contains one image, and is read as a model"
            note = f"{each}; if all are of one model, {_JOIN}"
            misfits.remarks += [note] if note not in misfits.remarks else []
        reading.check_some(fitting, named)

    return read, len(files), misfits


_JOIN = "join them into one file, as the page 'Your own data' shows"


def _note_on_parts(model: tuple[str, pa.Array], other: tuple[str, pa.Array]) -> list[str]:
    """Return a note if models, whose names differ only in numbers, have no image in common."""
    ids, others = model[1], other[1]
    # Most models list the same images: for a million, that takes 4 ms to see, and half a second to look up.
    if ids.equals(others) or pc.any(pc.is_in(ids, value_set=others)).as_py():
        return []
    return [
        f"{other[0]} and {model[0]} are predictions of different images; if their files are parts of the "
        f"predictions of one model, such as those of several processes, {_JOIN}"
    ]


def open_images(
    images: ImagesTableLike | None, classes: ClassList | None, labels: Labels | None = None
) -> Images | None:
    """Return an images table; a file, a folder or a data frame is read first.

    If `labels` contains label sets of the images, the subfolders of a folder are read as classes only if they
    are named after classes of these label sets. Otherwise, the subfolders may stand for cameras or days, for
    example. If `labels` has original labels over a list without some classes of the images, its own count.

    Raises
    ------
    InputError
        As in `read_images`, or if `images` is none of these.
    """
    if isinstance(images, Images | None):
        return images
    read: Callable[..., Images] = partial(images_of_table, images)
    if isinstance(images, str | os.PathLike):
        file = images_file(images)
        if classes is None and labels is not None and file.is_dir():
            classes = labels.known_classes
        read = partial(read_images, file)
    try:
        return read(classes=classes)
    except (InputError, UnknownNameError):
        if classes is None or labels is None or "label" not in labels.table.column_names:
            raise
        found = read(classes=None)
        return replace(found, table=found.table.drop_columns("label"), class_list=None)


def labelled_like(images: Images | None, own: Images, match: str) -> Images:
    """Return an images table with the data set's own original labels, if it has any, and only its images."""
    if images is None or own.label is None:
        return images or own
    images, _ = with_ids_like(images, own.image_id, other_name=own.name, match=match)
    bare = images.table.drop_columns("label") if images.label is not None else images.table
    is_own = pc.is_in(images.image_id, own.image_id)
    bare = bare.filter(is_own) if pc.any(is_own).as_py() else bare
    labelled = replace(images, table=bare).with_labels(own)
    return replace(labelled, class_list=own.class_list, of_imagenet=own.of_imagenet)
