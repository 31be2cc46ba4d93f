"""Reading and writing files of other tools, one module per format.

A format is a registered reader with three properties: what it `holds` (one of `HOLDS`), the `suffixes` of its
files, with `FOLDER` for folders, and a function `matches`, which decides whether a file has the format. Four
more are optional: `absent`, files that are not available, with the reason; `needs`, the columns or content
that a message asks for; `explicit`, a function that decides about a file that the caller passes as what the
format holds although no format matches it; and `numbers`, one that decides if the caller also says what the
numbers in the file are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pyarrow as pa

from manyhot import registry
from manyhot.classes import BUILT_IN_CLASSES, ClassList, class_list, from_keys
from manyhot.errors import InputError, MatchError
from manyhot.files import PathLike as PathLike
from manyhot.files import check_has_end, is_utf8, path_meant
from manyhot.formats.files_read import add_file
from manyhot.formats.format_detection import detect as detect
from manyhot.formats.format_detection import format_of, formats_holding, unknown_format
from manyhot.formats.format_detection import holds_images_alone as holds_images_alone
from manyhot.formats.format_detection import holds_photographs as holds_photographs
from manyhot.formats.format_detection import suffixes_of as suffixes_of
from manyhot.formats.headers import check_encoding, weight_notes
from manyhot.formats.reading import check_whole, declared, not_utf8, reading
from manyhot.kinds import FOLDER
from manyhot.parameters import Shown
from manyhot.registry import options_of
from manyhot.tables import Golden, Images, Labels, Objects, Predictions, Results, Votes
from manyhot.tables.arrays import single_labels
from manyhot.tables.frames import LISTED_TWICE
from manyhot.tables.image_ids import check_columns_once, row_ids
from manyhot.tables.label_values import LabelValues
from manyhot.tables.own_classes import note_on_spellings, own_list
from manyhot.tables.unshared_classes import note_on_alike

_Table = TypeVar("_Table", Labels, Predictions, Votes)

_OF_IMAGES = ("labels", "predictions", "votes", "golden", "images")
_OPTIONAL = ("rows", "label_values")
"""Options that only some readers of a kind of file have."""

ClassNamesLike = Annotated[PathLike | ClassList | Sequence[str], Shown("FILE")]
"""A class list: its file, its keys, or the name of a built-in list."""

RowsLike = Annotated[PathLike | Images | Iterable[object], Shown("FILE")]
"""The image of each row of an array: ids, or a file of them."""


def read_labels(
    path: PathLike,
    *,
    classes: ClassNamesLike | None = None,
    format: str | None = None,
    rows: RowsLike | None = None,
    label_values: LabelValues | None = None,
) -> Labels:
    """Read label sets from any registered format.

    Parameters
    ----------
    path : path-like
        A file, or a folder for formats such as images in class folders and saved data sets.
    classes : ClassList, path-like or sequence of str, optional
        The class list of the file. By default, the class list that the file declares. If the file declares
        none, ``imagenet1k`` is used for keys, names and the number of classes, and the class list is recorded
        as unknown.
    format : str, optional
        A registered format, possibly with options, such as ``chen(threshold=0.9)``. By default, it is
        detected from the file.
    rows : Images, path-like or iterable of ids, optional
        The image of each row, for files that contain only an array.
    label_values : {"states", "counts", "shares", "p", "yes-of-5"}, optional
        The meaning of the numbers in a table with one column per class, or in an array: states (0, 1 and -1),
        counts of votes, shares of votes, probabilities of classes, or how many of 5 raters (or another
        number) answered yes to a class. By default, states and counts are recognised.

    Raises
    ------
    InputError
        If the file is missing or truncated, if its format is unknown, or if its content does not fit the
        labels table.
    """
    rows = None if rows is None else read_rows(rows, classes=classes)
    labels: Labels = _read(path, "labels", format, classes=classes, rows=rows, label_values=label_values)
    labels = _with_list(labels, classes, path)
    alike = "" if declared(Path(path)) else note_on_alike(labels.image_id)  # of many ids, it takes 2 s
    notes = note_on_spellings(labels.class_list if classes is None else None), alike
    return replace(labels, notes=(*labels.notes, *filter(None, notes))) if any(notes) else labels


def read_labels_or_originals(
    path: PathLike, *, classes: ClassNamesLike | None = None, label_values: LabelValues | None = None
) -> Labels:
    """Read label sets, or an images table with original labels as label sets that are not rated.

    Parameters
    ----------
    path, classes, label_values
        As in `read_labels`.

    Raises
    ------
    InputError
        As in `read_labels`, or if an images table has no original labels.
    """
    is_images = Path(path).exists() and holds_images_alone(path, label_values)
    images = read_images(path, classes=classes) if is_images else None
    own = None if images is None else images.class_list or open_class_list(classes)
    if images is None or own is None or images.label is None:
        return read_labels(path, classes=classes, label_values=label_values)
    return replace(single_labels(images, len(own), own.hash), class_list=images.class_list)


def read_images(
    path: PathLike, *, classes: ClassNamesLike | None = None, format: str | None = None
) -> Images:
    """Read images, or the row order of predictions, from data-set JSON, CSV, Parquet or a list of ids.

    Raises
    ------
    InputError
        As in `read_labels`.
    """
    from manyhot.formats.campaign_labels import with_campaign_list

    images: Images = _read(path, "images", format, classes=classes)
    return images if classes is not None else with_campaign_list(images, Path(path))


def read_predictions(
    path: PathLike,
    *,
    rows: RowsLike | None = None,
    classes: ClassNamesLike | None = None,
    scores: str | None = None,
    format: str | None = None,
) -> Predictions:
    """Read one model's predictions from any registered format.

    Parameters
    ----------
    rows : Images, path-like or iterable of ids, optional
        The image of each row, for files that contain only arrays.
    classes : ClassList, path-like or sequence of str, optional
        The class list of the predictions. The default is as in `read_labels`.
    scores : {"logit", "probability", "cosine", "none"}, optional
        The kind of scores, if the file does not declare it.
    format : str, optional
        A registered format. By default, it is detected from the file.

    Raises
    ------
    InputError
        As in `read_labels`, or if a file contains only arrays and `rows` is missing.
    """
    rows = None if rows is None else read_rows(rows, classes=classes)
    predictions: Predictions = _read(path, "predictions", format, classes=classes, rows=rows, scores=scores)
    return _with_list(predictions if scores is None else predictions.declared(scores), classes, path)


def read_rows(rows: RowsLike, *, classes: ClassNamesLike | None = None) -> Images:
    """Return the image of each row of an array.

    Parameters
    ----------
    rows : Images, path-like or iterable of ids
        Ids in a list, an array, an index or a column; or a file of images or label sets whose rows are in the
        same order.
    classes : ClassList, path-like or sequence of str, optional
        The class list of a file.

    Raises
    ------
    InputError
        As in `read_labels`, or if the values are not ids.
    MatchError
        If an id occurs twice.
    """
    if isinstance(rows, Images):
        return rows
    if not isinstance(rows, str | os.PathLike):
        return Images(pa.table({"image_id": row_ids(rows)}), "`rows`")
    if not Path(rows).exists():
        raise no_such_file(
            Path(rows), do="set `rows` to the file with the image id of each row of the predictions"
        )
    try:
        if detect(rows, ("images",)) is None and detect(rows, ("labels",)) is not None:
            labels = _read(rows, "labels", None, classes=classes)
            return Images(labels.table.select(["image_id"]), labels.name)
        return read_images(rows, classes=classes)
    except MatchError as error:
        if error.what != LISTED_TWICE:
            raise
        do = (
            "retain one row per image, also in the array; if a DistributedSampler repeated images, save the "
            "ids with the array, and repeated rows are left out: "
            "numpy.savez('NEW.npz', ids=IDS, scores=SCORES)"
        )
        details = error.details
        raise MatchError(
            LISTED_TWICE, where=rows, got=details["got"], allowed=details["allowed"], do=do
        ) from error


def _with_list(table: _Table, classes: ClassNamesLike | None, path: PathLike) -> _Table:
    """Return a table with the class list that was passed, or with that of its campaign, unless built-in."""
    from manyhot.formats.campaign_labels import with_campaign_list

    classes = open_class_list(classes)
    if classes is None:
        return with_campaign_list(table, Path(path))
    own = None if table.class_hash != classes.hash else own_list(classes)
    return table if own is None else replace(table, class_list=own)


def read_results(path: PathLike, *, dataset: str | None = None, format: str | None = None) -> Results:
    """Read results of models from timm's tables, a results table (Parquet or CSV) or an evaluation folder.

    Parameters
    ----------
    path : path-like
        A file or folder. From a folder, the tables of pairs, samples and models are also read.
    dataset : str, optional
        The data set of the results, if neither the file nor its name declares it. If the table has a column
        ``dataset``, only the rows of this data set are read.
    format : str, optional
        A registered format. By default, it is detected from the file.

    Raises
    ------
    InputError
        As in `read_labels`, or if the data set or its number of images is unknown.
    """
    results: Results = _read(path, "results", format, dataset=dataset)
    return replace(results, name=str(path))


def read_findings(path: PathLike, *, format: str | None = None) -> pa.Table:
    """Read a findings table: published mistakes of models, or manyhot's own Parquet.

    Raises
    ------
    InputError
        As in `read_labels`.
    """
    return _read(path, "findings", format)


def read_votes(path: PathLike, *, classes: ClassNamesLike | None = None, format: str | None = None) -> Votes:
    """Read raters' answers from any registered format.

    Parameters
    ----------
    path : path-like
        A file, or a campaign folder with ``votes.parquet``.
    classes : ClassList, path-like or sequence of str, optional
        As in `read_labels`.
    format : str, optional
        A registered format, possibly with options, such as ``crowd-kit(separator='|')``. By default, it is
        detected from the file.

    Raises
    ------
    InputError
        As in `read_labels`.
    MatchError
        If a rater answers a question twice and it is unknown which answer is later.
    """
    votes: Votes = _read(path, "votes", format, classes=classes)
    return _with_list(votes, classes, path)


def read_golden(
    path: PathLike, *, classes: ClassNamesLike | None = None, format: str | None = None
) -> Golden:
    """Read experts' answers from any registered format, with raters' answers if they are in the same folder.

    Raises
    ------
    InputError, MatchError
        As in `read_votes`.
    """
    golden: Golden = _read(path, "golden", format, classes=classes)
    return replace(golden, experts=_with_list(golden.experts, classes, path))


def read_objects(
    path: PathLike,
    *,
    classes: ClassNamesLike | None = None,
    masks: PathLike | None = None,
    format: str | None = None,
) -> Objects:
    """Read the objects of images from any registered format.

    Parameters
    ----------
    path : path-like
        An objects table, a table with one box per row, COCO's instances as JSON, or a PASCAL VOC folder.
    classes : ClassList, path-like or sequence of str, optional
        The class list of the returned class ids. By default, the class list of the file.
    masks : path-like, optional
        Semantic masks: a folder of PNGs named after the images, or a table with ``image_id`` and a column of
        bytes, ``mask_png`` or ``mask``. The value of a pixel is 0 for background, ``class_id + 1`` for a
        class, and 255 for unknown.
    format : str, optional
        A registered format. By default, it is detected from the file.

    Raises
    ------
    InputError
        As in `read_labels`, or if a class is not in the class list.
    """
    from manyhot.formats.object_files import with_masks

    objects: Objects = _read(path, "objects", format, classes=classes)
    return objects if masks is None else with_masks(objects, Path(masks))


def read_proposals(
    path: PathLike, *, classes: ClassNamesLike | None = None, format: str | None = None
) -> pa.Table:
    """Read a proposals table from any registered format.

    Raises
    ------
    InputError
        As in `read_labels`.
    """
    return _read(path, "proposals", format, classes=classes)


def read_classes(name_or_path: PathLike) -> ClassList:
    """Read a class list: a built-in list by name, a file with one key per line, or a table with ``key``.

    Raises
    ------
    InputError
        As in `read_labels`, or if a key occurs twice.
    """
    if str(name_or_path) in BUILT_IN_CLASSES:
        return class_list(str(name_or_path))
    classes: ClassList = _read(name_or_path, "classes", None)
    return classes


def open_class_list(classes: ClassNamesLike | None) -> ClassList | None:
    """Return a class list from a file, the name of a built-in list, a list of names, or a class list."""
    if isinstance(classes, ClassList | None):
        return classes
    if isinstance(classes, str | os.PathLike):
        return read_classes(classes)
    return from_keys([str(key) for key in classes])


def _read(path: PathLike, holds: str, format: str | None, **options: Any) -> Any:
    if not isinstance(path, str | os.PathLike):
        raise InputError(
            "This is not a file.",
            where=f"`read_{holds}`",
            got=type(path).__name__,
            allowed="the path of a file or folder",
            do="pass what is in memory directly to functions such as `evaluate` or `aggregate`",
        )
    path = Path(path)
    if "classes" in options:
        options["classes"] = open_class_list(options["classes"])
    with reading(path):
        _check_there(path, holds)
        if format is None:
            entry = format_of(path, holds, has_values=options.get("label_values") is not None)
        else:
            entry = _entry_of(format, holds, path)
        if entry is None and holds == "labels" and options.get("classes") is not None:
            with suppress(InputError):  # a list of classes tells them from columns of measurements
                indicator = _entry_of("indicator", holds, path)
                if path.suffix.lower() in indicator.about["suffixes"]:
                    indicator(path, classes=options["classes"])
                    entry = indicator
        if entry is None:
            if path.suffix.lower() in (".csv", ".tsv") and not path.stat().st_size:
                raise InputError("The file is empty.", where=path, do="create or download it again")
            check_whole(path)
            raise unknown_format(path, holds)
        if options.get("label_values") and "label_values" not in options_of(entry):
            raise InputError(
                f"The format {entry.name!r} has no `label_values`.",
                where=path,
                got=f"label_values={options['label_values']}",
                allowed="a table with one column of numbers per class, or an array",
            )
        if options.get("label_values") is None:
            options.pop("label_values", None)  # so that an option in a call string applies
        taken = options_of(entry)
        options = {n: v for n, v in options.items() if n not in _OPTIONAL or n in taken}
        if holds in _OF_IMAGES and path.suffix.lower() in (".csv", ".tsv", ".parquet") and not declared(path):
            from manyhot.formats import table_files  # with polars, which no import may load

            table_files.check_row_numbers(path)
            if holds == "predictions":
                table_files.check_models(path)
        content = entry(path, **options)
        _check_text(content)
        if isinstance(content, Labels) and path.suffix.lower() in (".csv", ".tsv", ".parquet"):
            content = _with_weight_notes(content, path, content.class_list or options.get("classes"))
    if not len(content):
        raise InputError("The file has no rows.", where=path)
    add_file(path, entry, content, options)
    return content


def _with_weight_notes(labels: Labels, path: Path, classes: ClassList | None) -> Labels:
    from manyhot.formats.table_files import column_names

    found = weight_notes(c for c in column_names(path) if classes is None or c not in classes.keys)
    return replace(labels, notes=(*labels.notes, *found)) if found else labels


def _check_text(content: Any) -> None:
    """Raise an error for text that is not UTF-8, which Parquet readers do not check."""
    if isinstance(content, Golden):
        return _check_text(content.experts)
    if isinstance(content, Votes):
        content.rater_id.validate(full=True)
    has_ids = isinstance(content, Predictions | Votes)
    columns = content.image_id if has_ids else getattr(content, "table", content)
    if not isinstance(columns, ClassList):
        columns.validate(full=True)
    return None


def _check_there(path: Path, holds: str) -> None:
    if not is_utf8(path):
        raise not_utf8(path, path)
    if path.is_dir() and FOLDER not in suffixes_of(holds):
        raise InputError("This is a folder, not a file.", where=path)
    if path.exists():
        check_has_end(path)
        check_encoding(path)
        if path.suffix.lower() == ".parquet":
            from manyhot.formats.table_files import column_names  # with polars, which no import may load

            check_columns_once(column_names(path), path)
        return
    why = [
        e.about["absent"][path.name]
        for e in registry.entries("format")
        if path.name in e.about.get("absent", ())
    ]
    raise no_such_file(path, why[0] if why else None)


def no_such_file(path: Path, got: str | None = None, do: str | None = None) -> InputError:
    """Return the error for a path that does not exist."""
    return InputError("The file does not exist.", where=path, got=got, do=path_meant(path) or do)


def _entry_of(format: str, holds: str, path: Path) -> registry.Entry:
    entry = registry.get("format", format)
    if entry.about["holds"] != holds:
        raise InputError(
            f"The format {format!r} does not contain {holds}.",
            where=path,
            got=f"{format}, which contains {entry.about['holds']}",
            allowed="; ".join(formats_holding(holds)),
        )
    if path.is_dir() and FOLDER not in entry.about["suffixes"]:
        raise InputError("This is a folder, not a file.", where=path)
    return entry
