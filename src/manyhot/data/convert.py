"""Convert files of any known format to Parquet or CSV, or to the formats of other tools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from manyhot import tables
from manyhot.classes import ClassList, class_list_of, normal_name
from manyhot.command import command
from manyhot.data.imported_votes import (
    beside_standing,
    campaign_of_votes,
    check_kept,
    over_classes_of,
    without_assumed,
)
from manyhot.data.reading_options import FILE_READING, FileReading
from manyhot.data.table_inputs import labels_of_file
from manyhot.errors import InputError, UsageError
from manyhot.files import hashes_of
from manyhot.formats import (
    detect,
    open_class_list,
    read_findings,
    read_golden,
    read_images,
    read_predictions,
    read_proposals,
    read_results,
    read_votes,
)
from manyhot.formats.csv_tables import missing_from_csv, write_csv, write_predictions_csv
from manyhot.formats.reading import declared
from manyhot.formats.writing import (
    LABEL_FACTS,
    PathLike,
    Saved,
    check_apart,
    check_place,
    images_file,
    save,
)
from manyhot.registry import get, names
from manyhot.result import Result
from manyhot.run import QUIET, Run
from manyhot.tables.label_values import VOTED
from manyhot.tables.labels import with_zeros
from manyhot.tables.own_classes import note_on_left_out

_TABLES = ("labels", "predictions", "images", "results", "findings", "proposals", "votes", "golden")

_Content: TypeAlias = (
    tables.Labels
    | tables.Predictions
    | tables.Images
    | tables.Results
    | tables.Votes
    | tables.Golden
    | pa.Table
)


@dataclass(frozen=True, eq=False)
class Converted(Result):
    """A file in another format.

    Attributes
    ----------
    holds : str
        The kind of table that was written, such as labels or predictions.
    left_out : tuple of str
        Content of the source that is missing from the written files.
    what : str
        What was written, in words.
    notes, written
        As in `Result`.
    """

    holds: str
    left_out: tuple[str, ...]
    what: str

    def to_json(self) -> dict[str, Any]:
        """Return the kind of table, and the content that is missing from the written files."""
        return {"holds": self.holds, "left_out": self.left_out}

    def lines(self) -> Iterator[str]:
        """Yield what was written; the terminal lists the files."""
        yield f"{self.holds}: {self.what}"


@command(
    "convert",
    examples=(
        "manyhot convert real.json labels.parquet",
        "manyhot convert labels.parquet hub --to hf-labels",
        "manyhot convert votes.parquet export.json --to label-studio",
        "manyhot convert corrected.parquet corrected.csv --to \"corrected-csv(original='labels.csv')\"",
    ),
    moved={"--card": "manyhot card LABELS --out README.md"},
)
def convert(
    source: PathLike,
    target: PathLike,
    *,
    reading: FileReading = FILE_READING,
    format: str | None = None,
    to: str | None = None,
    long: bool = False,
    model: str = "",
    images: PathLike | None = None,
    add: bool = False,
    run: Run = QUIET,
) -> Converted:
    """Convert a file in any supported format to Parquet, CSV or the format of another tool.

    A note lists the content that is missing from the new file. With `scores`, the source is read as
    predictions, even if it contains only 0 and 1; with `label_values`, it is read as labels. The default
    class list is that of the campaign that contains the source or the target, if there is one.

    Parameters
    ----------
    source
        File or folder with labels, predictions, images, results, proposals or votes, in any format.
    target
        File to write (.parquet or .csv). With `to`, a file or folder in that format.
    format
        Format of the source, or a call string such as 'chen(threshold=0.9)'. By default, it is detected.
    to
        Format of another tool to write: indicator, label-lists, corrected-csv, coco-labels, real,
        tfds-multilabel, multilabelfy, hf-labels, label-studio, label-studio-golden, fiftyone,
        fiftyone-samples or zooniverse-manifest, a writer of a plug-in (the command doctor lists them), or a
        call string such as 'hf-labels(split="validation")'.
    long
        Write CSV with one row for each (image, class) pair. Without this option, predictions with scores of
        all classes get one column per class.
    model
        Name of the model that made the predictions. By default, the name in the source or, if it contains
        none, the name of the target.
    images
        Images table or folder of images. With `to`, files for Label Studio and FiftyOne contain the path of
        each image below the folder that contains all images. By default, the images of the campaign that
        contains the source or the target. Without images, the path is the image's id.

    add
        Keep the votes of a campaign and add those of the source. The target is votes.parquet of the campaign.

    Returns
    -------
    Converted

    Raises
    ------
    InputError
        If the format of the source is unknown, if the suffix of the target is not supported, or if an option
        does not fit the content of the source.
    """
    source, target = Path(source), Path(target)
    _check_target(target, to, long)
    listed = None if reading.classes else _of_campaign("classes", source, source.parent, target.parent)
    classes = reading.classes or listed
    # A folder that is written may hold what is read, however deep.
    around = source.resolve().parents if to is not None and source.exists() else ()
    check_apart([source, reading.rows, classes, images, *around], target)
    if source.is_dir() and target.exists():
        check_apart([target], source, {target.stem})
    class_list = open_class_list(classes)
    if listed is not None and class_list is not None and declared(source) == "votes":
        own = tables.metadata(pq.read_schema(source)).get("classes", class_list.hash)
        class_list = class_list if own == class_list.hash else None
    reading = replace(reading, classes=class_list)
    holds, content = _read_any(source, reading, format)
    content = _named(content, model, source, target)
    vote_notes = tuple[str, ...]()
    campaign = campaign_of_votes(target) if holds == "votes" and to is None else None
    if add and campaign is None:
        raise InputError(
            "Only votes can be added, to those of a campaign.",
            where=target,
            got=holds,
            allowed="votes, and votes.parquet in the folder of a campaign",
            do="leave out `add`",
        )
    if isinstance(content, tables.Votes):
        if listed is not None:
            content, vote_notes = without_assumed(content, listed)
        if campaign is not None:
            content, more = over_classes_of(campaign, content)
            vote_notes += more
    if to is not None:
        images = images or _of_campaign("images", source, source.parent, target.parent)
        places = None if images is None else read_images(images_file(images), classes=class_list)
        saved = save(content, target, to, holds=holds, classes=class_list, images=places)
    else:
        check_place(target, holds)
        if add and campaign is not None and isinstance(content, tables.Votes):
            inputs = hashes_of((source, target))
            table, about, more = beside_standing(campaign, content)
            vote_notes += more
            saved = Saved((tables.write(table, target, holds, call=run.call, inputs=inputs, about=about),))
        else:
            if campaign is not None and isinstance(content, tables.Votes) and target.is_file():
                check_kept(target, content)
            saved = _write(holds, content, source, target, reading, long, run.call)
    left_out = (*_left_out(content), *saved.left_out)
    notes = [f"{target.name} does not contain {', '.join(left_out)}"] if left_out else []
    notes += [*(content.notes if isinstance(content, tables.Labels | tables.Predictions) else ())]
    if (
        isinstance(content, tables.Labels)
        and content.exclusive
        and "method" not in content.table.column_names
    ):
        notes.append(VOTED)
    if isinstance(content, tables.Predictions):
        left = note_on_left_out(content, content.unlisted)
        notes += [*([left] if left else []), *reading.overruled(content)]
    notes += vote_notes
    notes += _states_note(content, target) if to is None else saved.notes
    return Converted(holds, left_out, _what(content), notes=tuple(notes), written=saved.files)


def _states_note(content: _Content, target: Path) -> tuple[str, ...]:
    """Return that CSV of label sets also lists classes that are not valid, as few loaders expect."""
    if not isinstance(content, tables.Labels) or target.suffix.lower() != ".csv":
        return ()
    if not (content.complete or LABEL_FACTS["classes answered no"](content)):
        return ()
    return (
        f"{target.name} lists all classes that raters were asked about; those in the label sets have the "
        "state yes; `to`=indicator writes one column per class, and `to`=label-lists only the valid classes",
    )


def _named(content: _Content, model: str, source: Path, target: Path) -> _Content:
    """Return predictions with the name of their model; anything else is unchanged."""
    if isinstance(content, tables.Predictions):
        # Sources of many teams are called logits.npy; only their conversion has a name that tells them apart.
        is_default = content.model == normal_name(source.stem) and not declared(source)
        return replace(content, model=model or (target.stem if is_default else content.model))
    if model:
        raise UsageError("Only predictions have a model name.", where=source, got=f"`model`={model}")
    return content


def _what(content: _Content) -> str:
    """Return the number of rows of a table and, for predictions, the model, for the terminal."""
    if isinstance(content, tables.Predictions):
        kind = "all classes" if content.is_dense else "best classes"
        return f"{len(content):,} images, {kind}, model {content.model}, scores {content.score_kind}"
    if isinstance(content, tables.Labels | tables.Images):
        return f"{len(content):,} images"
    return f"{len(_table_of(content)[0]):,} rows"


def _of_campaign(table: str, *paths: Path) -> Path | None:
    """Return the class list or the images of the first of these folders that is a campaign."""
    beside = [p / f"{table}.parquet" for p in paths if (p / tables.DESCRIPTION).is_file()]
    return next((path for path in beside if path.is_file()), None)


def _write(
    holds: str, content: _Content, source: Path, target: Path, reading: FileReading, long: bool, call: str
) -> Saved:
    is_csv = target.suffix.lower() == ".csv"
    if is_csv and isinstance(content, tables.Predictions):
        classes = open_class_list(reading.classes)
        path = write_predictions_csv(content, target, classes=classes, long=long)
        return Saved((path,), missing_from_csv(content, long=long))
    table, about = _table_of(content)
    if is_csv:
        named = _list_of(content, open_class_list(reading.classes))
        exclusive = "exclusive" in about
        return Saved((write_csv(table, target, classes=named, long=long, exclusive=exclusive),))
    inputs = hashes_of((source, reading.rows))
    return Saved((tables.write(table, target, holds, call=call, inputs=inputs, about=about),))


def _list_of(content: _Content, classes: ClassList | None) -> ClassList | None:
    """Return the class list of a table, whose names CSV contains; None if it is unknown."""
    if classes is not None or isinstance(content, pa.Table | tables.Results | tables.Predictions):
        return classes
    if isinstance(content, tables.Images):
        return content.class_list or class_list_of(tables.metadata(content.table).get("classes", ""))
    own = content.experts if isinstance(content, tables.Golden) else content
    return own.known_classes


def _check_target(target: Path, to: str | None, long: bool) -> None:
    suffix = target.suffix.lower()
    if to is None and suffix not in (".parquet", ".csv"):
        raise InputError(
            "Cannot write this kind of file.",
            where=target,
            allowed=f".parquet, .csv; with `to`: {', '.join(names('writer'))}",
        )
    if long and (to is not None or suffix != ".csv"):
        raise InputError("Only CSV has a long form.", where=target, allowed="a target that ends in .csv")


def _read_any(source: Path, reading: FileReading, format: str | None) -> tuple[str, _Content]:
    """Return which table a file holds, and its content."""
    classes = open_class_list(reading.classes)
    entry = get("format", format) if format else detect(source, _TABLES) if source.exists() else None
    if reading.scores is not None and reading.label_values is not None:
        raise UsageError(
            "A file contains either labels or predictions.",
            got="`label_values` and `scores`",
            do="pass one of them",
        )
    holds = entry.about["holds"] if entry and reading.label_values is None else "labels"
    if reading.scores is not None:  # which only predictions have; a table of 0 and 1 may be either
        holds = "predictions"
    if holds == "predictions":
        return holds, read_predictions(
            source, rows=reading.rows, classes=classes, scores=reading.scores, format=format
        )
    if holds in ("results", "findings"):
        return holds, (read_results if holds == "results" else read_findings)(source, format=format)
    readers = {"images": read_images, "proposals": read_proposals, "votes": read_votes, "golden": read_golden}
    if (read := readers.get(holds)) is not None:
        return holds, read(source, classes=classes, format=format)
    values = reading.label_values
    return "labels", labels_of_file(source, classes, rows=reading.rows, format=format, label_values=values)


def _table_of(content: _Content) -> tuple[pa.Table, Mapping[str, str]]:
    """Return the table itself, and what its metadata must say."""
    if isinstance(content, tables.Predictions | tables.Votes):
        return content.to_table(), content.about()
    if isinstance(content, tables.Golden):
        return content.to_table(), content.experts.about()
    if isinstance(content, tables.Labels):
        return with_zeros(content).table, content.about()
    if isinstance(content, tables.Results):
        return content.table, {k: v for k, v in content.about.items() if k == "metrics"}
    return (content.table if isinstance(content, tables.Images) else content), {}


def _left_out(content: _Content) -> tuple[str, ...]:
    """Return what the source holds in addition to the table."""
    if isinstance(content, tables.Votes):
        return content.left_out
    if isinstance(content, tables.Golden) and content.raters is not None:
        return ("raters' answers to golden questions",)
    return ()
