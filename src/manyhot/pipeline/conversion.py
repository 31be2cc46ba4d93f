"""Files of any known format to our Parquet or CSV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

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
    read_results,
    read_votes,
)
from manyhot.formats.tabular import write_csv
from manyhot.pipeline.common import PathLike, check_apart
from manyhot.registry import get

_TABLES = ("labels", "predictions", "images", "results", "findings", "votes", "golden")


def convert(
    source: PathLike,
    target: PathLike,
    *,
    rows: PathLike | None = None,
    classes: PathLike | None = None,
    scores: str | None = None,
    format: str | None = None,
    long: bool = False,
    call: str = "",
) -> Path:
    """Convert labels, predictions, images, results, findings, votes or golden answers to our Parquet or CSV.

    Parameters
    ----------
    source, target : path-like
        What the file or folder `source` holds is found out, the format to write told by the suffix of
        `target`.
    rows, scores
        As in `manyhot.formats.read_predictions`.
    classes : path-like, optional
        As in `evaluate_files`.
    format : str, optional
        A registered format or call string, such as ``chen(threshold=0.9)``.
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
    check_apart([source, rows, classes], target)
    known = read_classes(classes) if classes else None
    name, table, about = _read_any(source, rows, known, scores, format)
    if target.suffix.lower() == ".csv":
        return write_csv(table, target, long=long)
    files = [Path(f) for f in (source, rows) if f and Path(f).is_file()]
    return tables.write(
        table, target, name, call=call, inputs={f.name: sha256(f) for f in files}, about=about
    )


def _read_any(
    source: Path, rows: PathLike | None, classes: ClassList | None, scores: str | None, format: str | None
) -> tuple[str, pa.Table, Mapping[str, str]]:
    """Return which table a file holds, the table, and what its metadata must tell."""
    entry = get("format", format) if format else detect(source, _TABLES) if source.exists() else None
    holds = entry.about["holds"] if entry else "labels"
    if holds == "predictions":
        predictions = read_predictions(source, rows=rows, classes=classes, scores=scores, format=format)
        return holds, predictions.to_table(), predictions.about()
    if holds == "images":
        return holds, read_images(source, classes=classes, format=format).table, {}
    if holds == "results":
        results = read_results(source, format=format)
        return holds, results.table, {k: v for k, v in results.about.items() if k == "metrics"}
    if holds == "findings":
        return holds, read_findings(source, format=format), {}
    if holds == "votes":
        votes = read_votes(source, classes=classes, format=format)
        return holds, votes.to_table(), votes.about()
    if holds == "golden":
        golden = read_golden(source, classes=classes, format=format)
        return holds, golden.to_table(), golden.experts.about()
    labels = read_labels(source, classes=classes, format=format)
    return "labels", labels.table, labels.about()
