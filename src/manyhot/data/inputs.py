"""Inputs of a call: data sets, each with the models that predict it, from anything a call can name."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from manyhot.classes import ClassList, class_list, class_list_of
from manyhot.data.benchmarks import benchmark_named, data_set, same_name_note
from manyhot.data.data_sets import (
    Asked,
    Source,
    data_file,
    first_again,
    labelled_like,
    no_such_data,
    open_images,
    own_models,
    published_source,
    sources,
)
from manyhot.data.included_images import with_included_images
from manyhot.data.named_files import file_of_model, named_files
from manyhot.data.reading_options import READING as READING
from manyhot.data.reading_options import Reading as Reading
from manyhot.data.table_inputs import (
    columns_of_frames,
    frames_as_files,
    labels_in,
    labels_of_file,
    labels_of_table,
    selected_single_labels,
    tables_of_frames,
)
from manyhot.errors import InputError, MatchError
from manyhot.files import sha256
from manyhot.formats import holds_images_alone, open_class_list, read_images, read_labels, read_predictions
from manyhot.formats.files_read import add_arrays
from manyhot.formats.headers import weight_notes
from manyhot.formats.writing import PathLike, images_file
from manyhot.parameters import Repeated, Shown
from manyhot.run import QUIET, Run
from manyhot.tables import Campaign, Images, Labels, Predictions, metadata
from manyhot.tables.array_inputs import as_predictions, as_tables, list_of_columns
from manyhot.tables.campaign_folder import is_campaign
from manyhot.tables.class_list_unions import keys_not_in, note_on_case
from manyhot.tables.image_conditions import own_columns
from manyhot.tables.image_ids import check_match
from manyhot.tables.joined_classes import join_classes
from manyhot.tables.label_values import VOTED
from manyhot.tables.labels import sorted_by_id, with_ids_like
from manyhot.tables.lacking_classes import note_on_lacking
from manyhot.tables.own_classes import (
    JoinedClasses,
    are_numbers,
    numbers_as_names,
    own_list,
    selected_labels,
)
from manyhot.tables.unshared_classes import (
    check_unread,
    note_on_blanks,
    note_on_empty,
    note_on_unlabelled,
    unlabelled_classes,
    without_nothing,
    without_unpredicted,
)

LabelsLike = Annotated[Any, Shown("DATASET")]
"""Label sets as a table, a frame or arrays; or where they are: a file, a campaign, a benchmark."""

PredictionsLike = Annotated[Any, Shown("FILE"), Repeated()]
"""Predictions as tables, frames or arrays; or files and folders."""


_AGGREGATED = (
    "the labels were aggregated from votes for one class per image; p is the probability of each class, and "
    "metrics that use votes use p instead"
)


def open_inputs(
    labels: LabelsLike,
    predictions: PredictionsLike = (),
    *,
    unlabelled: bool = False,
    reading: Reading = READING,
    run: Run = QUIET,
) -> Iterator[Source]:
    """Yield the data sets passed to a call, each with the models to evaluate on it.

    Parameters
    ----------
    labels
        Label sets as a table, a data frame or arrays; a file, a folder written by ``manyhot predict``, a
        campaign, a benchmark or one of its data sets.
    predictions
        Predictions as tables, data frames, arrays, files or folders. By default, the predictions in the
        campaign, folder or benchmark.
    unlabelled
        Whether an images table without labels is allowed.
    reading, run
        How files are read, and how progress is reported.

    Raises
    ------
    ManyhotError
        If `labels` has an unsupported form, if a file cannot be read, if there are no predictions, or if ids
        are ambiguous.
    """
    check_match(reading.match)
    given = [predictions] if isinstance(predictions, str | os.PathLike) else predictions
    files, names = named_files(predictions)
    given = files or _with_files_read(given, reading)
    in_files = isinstance(given, list | tuple) and all(isinstance(p, str | os.PathLike) for p in given)
    if isinstance(labels, str | os.PathLike) and in_files:
        opened = _in_files(labels, Asked(given, reading, run.on_progress, unlabelled, names))
    else:
        opened = iter([_with_models(labels, given, reading, names, in_files=in_files)])
    for source in opened:
        yield with_included_images(_matched(_linked(source, reading), reading.match), labels, reading)


def _in_files(labels: PathLike, asked: Asked) -> Iterator[Source]:
    reading = asked.reading
    paths = [
        images_file(p)
        for p in (reading.rows, reading.images, reading.classes)
        if isinstance(p, str | os.PathLike)
    ]
    inputs = {p.name: sha256(p) for p in paths if p.is_file()}
    for number, part in enumerate(sources(labels, asked)):
        part.inputs.update(inputs)
        if number == 0 and (note := same_name_note(labels)):
            part.misfits.remarks.append(note)
        label = None if part.images is None or part.labels is not None else part.images.label
        if label is not None and part.campaign is None and not asked.unlabelled:
            note = note_on_blanks(label.is_valid().to_numpy(zero_copy_only=False))
            part.misfits.remarks += [note] if note else []
        yield over_one_list(replace(part, name=reading.dataset or part.name))


def _with_files_read(predictions: Any, reading: Reading) -> Any:
    """Return predictions in which a mapping of names to arrays and paths contains tables for the paths."""
    if not isinstance(predictions, Mapping):
        return predictions
    read = partial(read_predictions, classes=open_class_list(reading.classes), scores=reading.scores)
    return {
        name: replace(read(file_of_model(name, p), rows=reading.rows), model=name)
        if isinstance(p, str | os.PathLike)
        else p
        for name, p in predictions.items()
    }


def _with_models(
    labels: LabelsLike, predictions: Any, reading: Reading, names: Mapping[str, str], *, in_files: bool
) -> Source:
    """Return a data set whose labels or predictions are in memory, with the models that are selected."""
    if in_files and predictions:
        source = _in_memory(labels, {}, reading)
        rows = reading.row_images(source.classes)
        read, n, misfits = own_models(predictions, rows, source.classes, reading, source.inputs, names)
        return over_one_list(replace(source, models=read, n=n, misfits=misfits), from_file=False)
    source = _in_memory(labels, predictions, reading)
    fitting = replace(source, models=lambda: (m for m in source.models() if reading.fits(m.model)))
    return over_one_list(fitting, in_memory=True, from_file=isinstance(labels, str | os.PathLike))


def open_predictions(
    predictions: PredictionsLike, classes: ClassList | None, *, reading: Reading = READING
) -> Source:
    """Return predictions without a data set, over a class list; if it is None, over their own.

    Parameters and errors are as in `open_inputs`.
    """
    given = [predictions] if isinstance(predictions, str | os.PathLike) else predictions
    files, names = named_files(predictions)
    given = files or _with_files_read(given, reading)
    rows, inputs = reading.row_images(classes), dict[str, str]()
    if isinstance(given, list | tuple) and all(isinstance(p, str | os.PathLike) for p in given):
        models, n, misfits = own_models(given, rows, classes, reading, inputs, names)
        source = Source("", None, None, classes, models, n, inputs, misfits)
    else:
        tables = tables_of_frames(given, classes, reading.kind_of_arrays, rows)
        if not _are_tables(tables):
            ids, size = None if rows is None else rows.image_id, len(classes) if classes else 0
            tables = as_predictions(tables, n_classes=size, score_kind=reading.kind_of_arrays, rows=ids)
        again = first_again(tables) if isinstance(tables, Iterator) else lambda: iter(tables)
        source = Source("", None, classes=classes, models=again)

    def with_unlisted() -> Iterator[Predictions]:
        for model in source.models():
            own = model.known_classes
            more = keys_not_in(own, classes) if own and classes else ()
            yield replace(model, unlisted=(*model.unlisted, *more))

    return _linked(over_one_list(replace(source, models=with_unlisted)), reading)


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
        source = _in_memory(labels, {}, reading)
        in_memory = over_one_list(source, in_memory=True, alone=True, from_file=False)
        yield with_included_images(_matched(in_memory, reading.match), labels, reading)
        return
    benchmark, dataset = benchmark_named(labels), data_set(labels)
    if benchmark or dataset:
        asked = Asked(reading=Reading(images=reading.images), progress=run.on_progress)
        found = [published_source(d, asked) for d in (benchmark.datasets if benchmark else [dataset]) if d]
    else:
        found = [over_one_list(_labels_alone(Path(labels), reading), alone=True)]
    for source in found:
        named = replace(source, name=reading.dataset or source.name)
        yield with_included_images(_matched(named, reading.match), labels, reading)


def _linked(source: Source, reading: Reading) -> Source:
    """Return a data set whose predictions have the links that the call declares."""

    def models() -> Iterator[Predictions]:
        for model in source.models():
            remarks = source.misfits.remarks
            remarks += [note for note in reading.overruled(model) if note not in remarks]
            yield reading.linked(model)

    return replace(source, models=models) if reading.links or reading.scores else source


def _matched(source: Source, match: str) -> Source:
    """Return a data set whose images and predictions have the ids of its labels: later joins are exact."""
    tables = (source.images, source.labels) if source.campaign else (source.labels, source.images)
    table = next((t for t in tables if t is not None), None)
    if table is None:
        return source
    name, misfits = table.name or "the labels", source.misfits
    if source.labels is not None and source.labels.exclusive:
        remark = _AGGREGATED if "method" in source.labels.table.column_names else VOTED
        misfits.remarks += [remark] * (remark not in misfits.remarks)
    images = source.images
    misfits.remarks += [n for n in weight_notes(own_columns(images)) if n not in misfits.remarks]
    if images is not None and images is not table:
        images, like = with_ids_like(images, table.image_id, other_name=name, match=match)
        misfits.add_matched(name, images.name or "images", like)
    models = partial(misfits.matching, ids=table.image_id, name=name, match=match)
    return replace(source, images=images, models=lambda: models(source.models()))


def _labels_alone(path: Path, reading: Reading) -> Source:
    """Return the label sets of a file, a campaign, or a folder that predict wrote."""
    if not path.exists():
        raise no_such_data(path)
    campaign = Campaign.read(path) if is_campaign(path) else None
    file = campaign.path("labels") if campaign else data_file(path)
    classes = open_class_list(reading.classes or (campaign.path("classes") if campaign else None))
    is_images = file.is_file() and holds_images_alone(file, reading.label_values)
    read = read_labels if campaign else labels_of_file
    read = partial(read, classes=classes, rows=reading.rows, label_values=reading.label_values)
    labels = read(file) if file.exists() and not is_images else None
    if is_images and not campaign:
        labels = selected_single_labels(file, classes)
    is_images = is_images and labels is None
    own = campaign.path("images") if campaign else file if is_images else None
    images = open_images(own if reading.images is None else reading.images, classes, labels)
    if is_images and reading.images is not None:
        images = labelled_like(images, read_images(file, classes=classes), reading.match)
    if is_images and (images is None or images.label is None):
        read_labels(file)  # raises an error that names the columns of label sets
    inputs = {file.name: sha256(file)} if file.is_file() else {}
    name = path.resolve().name if campaign else (labels.name if labels else "") or path.resolve().stem
    return Source(name, labels, images, classes, inputs=inputs, campaign=campaign)


def _in_memory(labels: Any, predictions: Any, reading: Reading) -> Source:
    """Return a data set whose labels or predictions are in memory."""
    labels = labels_in(labels)
    kind, is_file = reading.kind_of_arrays, isinstance(labels, str | os.PathLike)
    classes = open_class_list(reading.classes)
    found = _labels_alone(Path(labels), reading) if is_file else Source("", None, classes=classes)
    classes, campaign, ids = found.classes, found.campaign, None
    n_classes = reading.n_classes or (len(classes) if classes else 0)
    rows = reading.row_images(classes)
    row_ids = None if rows is None else rows.image_id
    models = tables_of_frames(predictions, classes, kind, rows)
    if is_file:
        labels = found.images if found.labels is None else found.labels
    elif (read := labels_of_table(labels, classes, rows)) is not None:
        if reading.label_values is not None:
            raise InputError(
                "`label_values` applies only to a frame with one column of numbers per class.",
                got=f"label_values={reading.label_values}, and columns of labels or text",
                do="leave these columns out, or write the frame to a CSV file and pass the file",
            )
        # The rows of arrays beside a frame are its rows.
        ids = read.image_id if len(read) == len(labels) else None
        labels = read
    sets = labels if isinstance(labels, Labels) else None
    images = found.images if is_file else open_images(reading.images, classes, sets)
    if isinstance(labels, Labels):
        labels = selected_labels(labels, classes)
        labels = without_unpredicted(labels, columns_of_frames(models) if classes is None else None)
    if isinstance(labels, Images):
        is_array = not _are_tables(models)  # without `rows`, it has the rows of the images table
        shown = open_images(reading.images, classes) if is_file and is_array else images
        labels, images = None, labels if is_file else labelled_like(images, labels, reading.match)
        if is_array:
            ids = (shown or images).image_id
            models = as_predictions(models, n_classes=n_classes, ids=ids, score_kind=kind, rows=row_ids)
    elif not (isinstance(labels, Labels) and _are_tables(models) and reading.label is None):
        size, values = n_classes or None, reading.label_values
        is_read = isinstance(labels, Labels), _are_tables(models)
        try:
            labels, models = as_tables(
                labels, models, size, reading.label, kind, classes, ids, values, row_ids
            )
            for own in [*([] if is_read[0] else [labels]), *([] if is_read[1] else models)]:
                add_arrays("labels" if own is labels else own.model, own)
        except MatchError:
            read_alike = frames_as_files(labels, models, classes, kind, values)
            if reading.label is not None or read_alike is None:
                raise
            labels, models = read_alike
    table = images if labels is None else labels
    name = reading.dataset or found.name or (table.name if table is not None else "") or "labels"
    listed = models if isinstance(models, list) else []
    again = first_again(models) if isinstance(models, Iterator) else lambda: iter(models)
    source = Source(name, labels, images, classes, again, len(listed), campaign=campaign)
    source.misfits.remarks += [f"{m.model}: {note}" for m in listed for note in m.notes]
    return source


def _are_tables(models: Any) -> bool:
    if isinstance(models, Iterator):
        return True
    return isinstance(models, list | tuple) and all(isinstance(p, Predictions) for p in models)


def over_one_list(
    source: Source, *, in_memory: bool = False, alone: bool = False, from_file: bool = True
) -> Source:
    """Return the data set with one class list for labels, images and models, joined by name.

    `alone` states whether a call needs only label sets, and `from_file` states whether they are in a file.

    Raises
    ------
    MatchError
        As in `manyhot.tables.joined_classes.join_classes`.
    """
    if source.published is not None:
        return source
    labels, images = source.labels, source.images
    are_named = all(_names_classes(table) for table in (labels, images) if table is not None)
    source = replace(source, models=partial(_by_name, source.models, are_named))
    only, first = tuple[int, ...](), None
    if source.classes is not None:
        joined: JoinedClasses | None = JoinedClasses(len(source.classes), source.classes, selects=True)
    else:
        is_open = labels is not None and (labels.assumed or labels.class_list is not None or labels.numbered)
        is_open = is_open or (images is not None and images.class_list is not None)
        is_open = is_open or (labels is None and images is not None and not _names_classes(images))
        first, predicted = _classes_of_models(source, in_memory=in_memory) if is_open else (None, ())
        own = None if first is None else first.known_classes
        labels, images = _named_numbers(source, own)
        labels = labels and without_unpredicted(labels, own if first is not None and first.is_dense else None)
        sort = alone or not in_memory
        joined = join_classes(labels, images, first, predicted, sort=sort, alone=alone, in_order=from_file)
        if joined is None and labels is None and not alone:
            peek = partial(_classes_of_models, source, in_memory=in_memory)
            joined = _of_first_model(images, lambda: first or peek()[0])
    if joined is None:
        source.misfits.remarks += [] if labels is None else labels.notes
        return source
    if labels is not None and first is not None:
        only = unlabelled_classes(labels, images, joined)
    if joined.classes is not None and first is not None:
        # Ranked classes of a declared list may be valid on no image; collected tags are a model's own words.
        is_noted = first.is_dense or not all(own.is_complete for own in predicted)
        unnamed = only or (without_nothing(joined.classes, joined.unnamed) if is_noted else ())
        if unnamed:
            source.misfits.remarks.append(note_on_unlabelled(joined.classes, unnamed, first))
    tables: tuple[Labels | Images | None, ...] = labels, images
    for table in [t for t in tables if t is not None]:
        note = note_on_case(table.class_list, joined.classes, table.name or "labels")
        source.misfits.remarks += [note] if note else []
    if labels is not None:
        check_unread(labels, joined.classes, labels.name or "labels")
        labels = joined.of_labels(labels)
    source.misfits.remarks += [] if labels is None else labels.notes
    images = images and joined.of_images(images)
    if labels is not None and not alone and (note := note_on_empty(labels, joined.classes)):
        source.misfits.remarks.append(note)
    is_own = joined.classes is not None and own_list(joined.classes) is not None
    if is_own and source.campaign is None and not alone:
        # The same numbers to the last digit, whatever the order of the rows.
        labels, images = labels and sorted_by_id(labels), images and sorted_by_id(images)
    return replace(
        source,
        labels=labels,
        images=images,
        classes=joined.classes,
        models=lambda: _joined(source, joined),
        unlabelled=only,
    )


def _named_numbers(source: Source, model: ClassList | None) -> tuple[Labels | None, Images | None]:
    """Return labels and images, with numbers as names if a model has classes of these names."""
    labels, images, notes = source.labels, source.images, list[str]()
    if labels is not None:
        labels, note = numbers_as_names(labels, model)
        notes.append(note)
    if images is not None:
        images, note = numbers_as_names(images, model)
        notes.append(note)
    source.misfits.remarks += [note for note in dict.fromkeys(notes) if note]
    return labels, images


def _names_classes(table: Labels | Images) -> bool:
    """Return whether the classes in a table have names, so that no order of classes is assumed."""
    if isinstance(table, Labels):
        return bool(table.class_list or table.class_hash)
    return table.label is None or bool(table.class_list or metadata(table.table).get("classes"))


def _by_name(models: Callable[[], Iterator[Predictions]], are_named: bool) -> Iterator[Predictions]:
    """Yield models whose classes are matched by name only if the labels, too, have names of classes."""
    for model in models():
        numbers = model.class_list is not None and are_numbers(model.class_list.keys)
        yield replace(model, by_name=False) if model.by_name and (numbers or not are_named) else model


def _of_first_model(images: Images | None, peek: Callable[[], Predictions | None]) -> JoinedClasses | None:
    """Return the class list of original labels: ImageNet-1k for its names, else that of the first model."""
    if images is not None and images.of_imagenet:
        return JoinedClasses(len(class_list()), class_list())
    declared = metadata(images.table).get("classes", "") if images is not None else ""
    model = None if images is None or class_list_of(declared) else peek()
    own = None if model is None else model.class_list
    if images is None or own is None or (images.label is not None and declared not in ("", own.hash)):
        return None
    # Numbers are those of ImageNet-1k if the model has its classes, in any order of columns.
    listed = list_of_columns(own.keys, sort=False)
    own = listed if listed.hash == class_list().hash else own
    return JoinedClasses(len(own), own)


def _classes_of_models(
    source: Source, *, in_memory: bool = False
) -> tuple[Predictions | None, list[ClassList]]:
    """Return the model to which columns without names are compared, and the class lists of all models.

    This model is the first whose classes have names, or else the first with a known number of classes. A
    generator in memory can be read only once, so only its first model is read here.
    """
    first, lists = None, list[ClassList]()
    for model in itertools.islice(source.models(), 1 if in_memory and not source.n else None):
        own = model.known_classes
        if first is None or (own and not lists) or (first.assumed and not model.assumed):
            first = model
        lists += [own] if own else []
    return first, lists


def _joined(source: Source, joined: JoinedClasses) -> Iterator[Predictions]:
    for model in source.models():
        if (note := joined.note_on(model)) and note not in source.misfits.remarks:
            source.misfits.remarks.append(note)
        try:
            check_unread(model, joined.classes, model.source or model.model)
            named = joined.of_predictions(model)
        except InputError as error:
            source.misfits.skip(model.source or model.model, error)
            continue
        notes = note_on_lacking(named), note_on_case(model.known_classes, joined.classes, model.model)
        source.misfits.remarks += [n for n in notes if n and n not in source.misfits.remarks]
        yield named
