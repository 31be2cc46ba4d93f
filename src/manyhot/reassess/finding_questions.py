"""Questions about the findings of a diagnosis, such as labels that may be wrong or missing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from manyhot.classes import ClassList
from manyhot.data.data_sets import Source
from manyhot.data.inputs import LabelsLike, Reading, open_labels
from manyhot.errors import InputError, MatchError
from manyhot.files import sha256
from manyhot.formats import read_findings
from manyhot.formats.headers import fold_name
from manyhot.formats.table_files import read_frame
from manyhot.reassess.arrow_tables import as_arrow
from manyhot.reassess.ensemble import only_source, with_listed_images, without_list
from manyhot.run import Run
from manyhot.tables import Images
from manyhot.tables.image_ids import ids_like

FINDINGS_RULE = "findings"
"""What a proposals table calls questions about findings."""

_CLASSES = {"class_a": "name_a", "class_b": "name_b"}
"""The columns of findings with the classes to ask about (numbers or names), and those with their names."""


def questions_of_findings(
    images: Images, findings: Any, classes: ClassList | None, match: str
) -> tuple[pa.Table, tuple[str, ...]]:
    """Return a question about each class in findings on images, as the table ``proposals``, and notes.

    Classes are matched by name, so the findings may number them differently.

    Raises
    ------
    InputError
        If the table has no findings on images, or a class is not in the class list.
    MatchError
        If no finding is about these images.
    """
    frame = _frame(findings)
    parts = [_of_column(frame, column, name, classes) for column, name in _CLASSES.items()]
    pairs = pl.concat(parts).sort("score", descending=True, maintain_order=True)
    pairs = pairs.unique(["image_id", "class_id"], keep="first", maintain_order=True)
    encoded = pairs["image_id"].to_arrow().cast(pa.string()).dictionary_encode()  # several findings an image
    ids = ids_like(
        encoded.dictionary,
        images.image_id,
        name="the findings",
        other_name=images.name or "the images",
        match=match,
    )
    pairs = pairs.with_columns(image_id=pl.Series(ids.ids.take(encoded.indices)))
    there = pl.DataFrame({"image_id": pl.Series(images.image_id)})
    own = pairs.join(there, on="image_id", how="semi", maintain_order="left")
    if not len(own):
        raise MatchError(
            "No finding is about these images.",
            where="`findings`",
            got=f"ids such as {pairs['image_id'][0]}" if len(pairs) else "no findings on images",
            allowed=f"ids such as {images.image_id[0]}",
        )
    notes = [f"the findings: {ids.text}"] if ids.n else []
    if n := len(pairs) - len(own):
        notes.append(f"{n:,} findings are about other images, so no questions are asked about them")
    if classes is not None and any(_has_other_numbers(frame, *pair, classes) for pair in _CLASSES.items()):
        notes.append(
            f"the findings number the classes in a different order from {classes.name}, so the classes were "
            "matched by name"
        )
    return named_questions(own.to_arrow().cast(_SCHEMA), classes), tuple(notes)


def named_questions(table: pa.Table, classes: ClassList | None) -> pa.Table:
    """Return proposals with the names of their classes, if they are known."""
    if classes is None:
        return table
    return table.append_column("class_name", pa.array(classes.names).take(table["class_id"]))


_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("class_id", pa.int32()),
        ("score", pa.float32()),
        ("n_models", pa.int32()),
        ("source", pa.string()),
    ]
)


def _frame(findings: Any) -> pl.DataFrame:
    """Return findings from a folder of `manyhot diagnose`, a file, a result or a table of any library."""
    if isinstance(findings, str | os.PathLike):
        path = findings_file(findings)
        if path.suffix.lower() == ".parquet" and path.is_file() and not pq.read_metadata(path).num_rows:
            raise _no_findings(path)
        frame = pl.DataFrame(read_findings(path)) if path.suffix.lower() == ".parquet" else read_frame(path)
    else:
        frame = pl.DataFrame(as_arrow(getattr(findings, "table", findings), "findings"))
    frame = frame.rename({c: fold_name(c) for c in frame.columns})
    if "image_id" not in frame.columns or not set(_CLASSES) & set(frame.columns):
        raise InputError(
            "These are not findings on images.",
            where="`findings`",
            got=", ".join(frame.columns[:8]),
            allowed="the table findings of manyhot diagnose, with image_id, class_a and class_b",
        )
    if not len(frame):
        raise _no_findings("`findings`")
    frame = frame.with_columns(pl.col("image_id").cast(pl.String)).drop_nulls("image_id")
    for column in set(_CLASSES) & set(frame.columns):
        if frame[column].dtype == pl.String:  # in a CSV file of one's own: names, or numbers and empty cells
            text = frame[column].str.strip_chars().replace("", None)
            numbers = text.cast(pl.Int32, strict=False)
            is_named = numbers.null_count() > text.null_count()
            frame = frame.with_columns((text if is_named else numbers).alias(column))
    return frame


def _no_findings(where: object) -> InputError:
    return InputError(
        "There are no findings to ask about.",
        where=where,
        do="pass a lower `min_doubtful` to manyhot diagnose labels",
    )


def findings_file(findings: str | os.PathLike[str]) -> Path:
    """Return the findings in a folder that `manyhot diagnose` wrote, or the file itself."""
    path = Path(findings)
    return path / "findings.parquet" if path.is_dir() else path


def _of_column(frame: pl.DataFrame, column: str, name: str, classes: ClassList | None) -> pl.DataFrame:
    """Return the questions about the classes in one column of findings."""
    if column not in frame.columns:
        return pl.DataFrame(schema=pl.Schema(_SCHEMA))
    if frame[column].dtype == pl.String:
        name = column
    named = name in frame.columns and frame[name].dtype == pl.String
    if name == column and classes is None:
        raise InputError(
            "The classes of the findings have names, but the class list is unknown.",
            where=f"`findings`, column {column}",
            got=frame[column].drop_nulls()[0],
            do="pass the class list as `classes`, or the numbers of the classes",
        )
    chosen = frame.drop_nulls(column)
    if named and classes is not None:
        texts = chosen[name].drop_nulls().unique().to_list()
        absent = [text for text in texts if classes.find(text) is None]
        if absent:
            raise InputError(
                "A class of the findings is not in the class list.",
                where=f"`findings`, column {name}",
                got=absent[0],
                allowed=f"the {len(classes):,} classes of {classes.name}",
                do="pass the class list with which the findings were made as `classes`",
            )
        ids = {text: classes.index(text) for text in texts}
        by_name = pl.col(name).replace_strict(ids, default=None, return_dtype=pl.Int32)
        class_id = by_name if name == column else pl.coalesce(by_name, pl.col(column).cast(pl.Int32))
    else:
        class_id = pl.col(column).cast(pl.Int32)
    n_models = pl.col("n_models").fill_null(0) if "n_models" in frame.columns else pl.lit(0)
    return chosen.select(
        "image_id",
        class_id.alias("class_id"),
        (pl.col("score").fill_null(0) if "score" in frame.columns else pl.lit(0.0))
        .cast(pl.Float32)
        .alias("score"),
        n_models.cast(pl.Int32).alias("n_models"),
        (pl.col("kind") if "kind" in frame.columns else pl.lit(FINDINGS_RULE))
        .cast(pl.String)
        .alias("source"),
    )


def _has_other_numbers(frame: pl.DataFrame, column: str, name: str, classes: ClassList) -> bool:
    """Return whether a class in findings has another number than in a class list."""
    if not {column, name} <= set(frame.columns):
        return False
    if frame[name].dtype != pl.String or frame[column].dtype == pl.String:
        return False
    pairs = frame.select(pl.col(column).cast(pl.Int32), name).drop_nulls().unique()
    return any(classes.find(text) != number for number, text in pairs.iter_rows())


def open_to_ask(labels: LabelsLike, reading: Reading, run: Run) -> tuple[Source, ClassList | None]:
    """Return the single data set of a call and its class list; no predictions are needed."""
    reading, listed = without_list(labels, reading)
    source = only_source(open_labels(labels, reading=reading, run=run), "Questions can be about")
    source = with_listed_images(source, listed, reading.match)
    sets = source.labels
    own = source.classes or (sets.known_classes if sets is not None else None)
    return source, own


def input_of(findings: Any) -> dict[str, str]:
    """Return the hash of the findings file, by file name; empty if the findings are not a file."""
    if not isinstance(findings, str | os.PathLike):
        return {}
    path = findings_file(findings)
    return {path.name: sha256(path)} if path.is_file() else {}
