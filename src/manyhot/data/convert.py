"""Files of any known format to our Parquet or CSV, or to the formats of other tools."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from manyhot import tables
from manyhot.classes import ClassList
from manyhot.errors import InputError
from manyhot.files import sha256
from manyhot.formats import (
    detect,
    read_classes,
    read_findings,
    read_golden,
    read_images,
    read_labels,
    read_predictions,
    read_proposals,
    read_results,
    read_votes,
)
from manyhot.formats.tabular import write_csv
from manyhot.formats.writing import PathLike, Saved, check_apart, check_place, save
from manyhot.registry import get, names

_TABLES = ("labels", "predictions", "images", "results", "findings", "proposals", "votes", "golden")

_Found: TypeAlias = (
    tables.Labels
    | tables.Predictions
    | tables.Images
    | tables.Results
    | tables.Votes
    | tables.Golden
    | pa.Table
)


def convert(
    source: PathLike,
    target: PathLike,
    *,
    rows: PathLike | None = None,
    classes: PathLike | None = None,
    scores: str | None = None,
    format: str | None = None,
    to: str | None = None,
    long: bool = False,
    call: str = "",
) -> Saved:
    """Convert a file of any known format to our Parquet or CSV, or to another tool's.

    Parameters
    ----------
    source, target : path-like
        What the file or folder `source` holds is found out. Without `to`, the suffix of `target` tells
        whether Parquet or CSV is written.
    rows, scores
        As in `manyhot.formats.read_predictions`.
    classes : path-like, optional
        As in `evaluate_files`; by default that of the campaign in whose folder `source` or `target` lies.
    format : str, optional
        The format of `source`, or a call string, such as ``chen(threshold=0.9)``.
    to : str, optional
        The format to write: a registered writer or call string, such as ``hf-labels(split='validation')``.
    long : bool
        CSV with one row for each (image, class) pair.

    Returns
    -------
    Saved
        The files, and what `source` holds that they do not.

    Raises
    ------
    InputError
        If the source is of no known format, or the target is not of the kind that is written.
    """
    source, target = Path(source), Path(target)
    _check_target(target, to, long)
    classes = classes or _of_campaign(source, source.parent, target.parent)
    # A folder that is written may hold what is read, however deep.
    check_apart([source, rows, classes, *_around(source, to)], target)
    if source.is_dir() and target.exists():
        check_apart([target], source, {target.stem})
    known = read_classes(classes) if classes else None
    holds, found = _read_any(source, rows, known, scores, format)
    if to is not None:
        saved = save(found, target, to, holds=holds, classes=known)
    else:
        check_place(target, holds)
        saved = Saved((_write(holds, found, source, target, rows, long, call),))
    return Saved(saved.files, (*_left_out(found), *saved.left_out))


def _of_campaign(*paths: Path) -> Path | None:
    """Return the class list of the first of these folders that is a campaign."""
    beside = [p / "classes.parquet" for p in paths if (p / tables.DESCRIPTION).is_file()]
    return next((path for path in beside if path.is_file()), None)


def _write(
    holds: str, content: _Found, source: Path, target: Path, rows: PathLike | None, long: bool, call: str
) -> Path:
    table, about = _table_of(holds, content)
    if target.suffix.lower() == ".csv":
        return write_csv(table, target, long=long)
    inputs = {f.name: sha256(f) for f in (Path(f) for f in (source, rows) if f) if f.is_file()}
    return tables.write(table, target, holds, call=call, inputs=inputs, about=about)


def _around(source: Path, to: str | None) -> list[Path]:
    if to is None or not source.exists():
        return []
    return list(source.resolve().parents)


def _check_target(target: Path, to: str | None, long: bool) -> None:
    suffix = target.suffix.lower()
    if to is None and suffix not in (".parquet", ".csv"):
        raise InputError(
            "Cannot write this kind of file.",
            where=target,
            allowed=f".parquet, .csv; with --to {', '.join(names('writer'))}",
        )
    if long and (to is not None or suffix != ".csv"):
        raise InputError("Only CSV has a long form.", where=target, allowed="a target that ends in .csv")


def _read_any(
    source: Path, rows: PathLike | None, classes: ClassList | None, scores: str | None, format: str | None
) -> tuple[str, _Found]:
    """Return which table a file holds, and what it reads as."""
    entry = get("format", format) if format else detect(source, _TABLES) if source.exists() else None
    holds = entry.about["holds"] if entry else "labels"
    if holds == "predictions":
        return holds, read_predictions(source, rows=rows, classes=classes, scores=scores, format=format)
    if holds == "images":
        return holds, read_images(source, classes=classes, format=format)
    if holds == "results":
        return holds, read_results(source, format=format)
    if holds == "findings":
        return holds, read_findings(source, format=format)
    if holds == "proposals":
        return holds, read_proposals(source, classes=classes, format=format)
    if holds == "votes":
        return holds, read_votes(source, classes=classes, format=format)
    if holds == "golden":
        return holds, read_golden(source, classes=classes, format=format)
    return "labels", read_labels(source, classes=classes, format=format)


def _table_of(holds: str, content: _Found) -> tuple[pa.Table, Mapping[str, str]]:
    """Return the table itself, and what its metadata must tell."""
    if isinstance(content, tables.Predictions | tables.Votes):
        return content.to_table(), content.about()
    if isinstance(content, tables.Golden):
        return content.to_table(), content.experts.about()
    if isinstance(content, tables.Labels):
        return content.table, content.about()
    if isinstance(content, tables.Results):
        return content.table, {k: v for k, v in content.about.items() if k == "metrics"}
    return (content.table if isinstance(content, tables.Images) else content), {}


def _left_out(content: _Found) -> tuple[str, ...]:
    """Return what the source holds beside the table."""
    if isinstance(content, tables.Votes):
        return content.left_out
    if isinstance(content, tables.Golden) and content.raters is not None:
        return ("raters' answers to golden questions",)
    return ()
