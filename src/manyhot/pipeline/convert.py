"""Files of any known format to our Parquet or CSV."""

from __future__ import annotations

from pathlib import Path

from manyhot import tables
from manyhot.classes import ClassList
from manyhot.errors import InputError
from manyhot.files import sha256
from manyhot.formats import detect, read_classes, read_images, read_labels, read_predictions
from manyhot.formats.tabular import write_csv
from manyhot.pipeline.common import PathLike
from manyhot.tables import Images, Labels, Predictions


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


def _read_any(
    source: Path, rows: PathLike | None, classes: ClassList | None, scores: str | None
) -> Labels | Predictions | Images:
    entry = detect(source, ("labels", "predictions", "images")) if source.is_file() else None
    holds = entry.about["holds"] if entry else "labels"
    if holds == "predictions":
        return read_predictions(source, rows=rows, classes=classes, scores=scores)
    return read_images(source, classes=classes) if holds == "images" else read_labels(source, classes=classes)
