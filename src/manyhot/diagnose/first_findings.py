"""The first findings of a diagnosis: on the terminal, and as a gallery of exactly their images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import ClassList
from manyhot.console import table_lines
from manyhot.data.data_sets import Source
from manyhot.errors import ManyhotError
from manyhot.evaluate.gallery import photographed, write_gallery_of
from manyhot.evaluate.write import error_in_a_line
from manyhot.run import Run
from manyhot.tables import Row

FIRST_FINDINGS = 10
"""Findings that are printed, and whose images the gallery shows."""


GALLERY_MODELS = 5
"""Models that the gallery shows if findings are those of all models."""


NAME_COLUMNS = {"label": "label_name", "class_a": "name_a", "class_b": "name_b"}
"""Columns with class ids, and the columns with their names."""


def with_names(findings: pa.Table, classes: ClassList | None) -> pa.Table:
    """Return the findings with the names of their classes; null where no class list is known."""
    names = pa.array(classes.names if classes else (), pa.string())
    for column, name in NAME_COLUMNS.items():
        if column in findings.column_names:
            ids = findings[column] if classes else pa.nulls(len(findings), pa.int32())
            findings = findings.append_column(name, pc.take(names, ids))
    return findings


def first_findings(findings: pa.Table, score: str) -> list[Row]:
    """Return the first findings on images, the highest score first; findings without one keep their order."""
    on_images = findings.filter(pc.is_valid(findings["image_id"]))
    order = pc.sort_indices(on_images, sort_keys=[(score, "descending")])
    rows: list[Row] = on_images.take(order[:FIRST_FINDINGS]).to_pylist()
    return rows


def finding_lines(rows: Sequence[Row], findings: pa.Table, score: str, other: str) -> Iterator[str]:
    """Yield a table of the first findings with the names of their classes.

    Parameters
    ----------
    rows : sequence of Row
    findings : pyarrow.Table
        All findings.
    score : str
        The column of the score.
    other : str
        The role of the class other than the label, such as ``predicted``.
    """
    if not rows:
        return
    several = {c for c in ("dataset", "model") if len({r.get(c) for r in rows}) > 1}
    has_scores = any(r[score] is not None for r in rows)
    total = len(findings) - findings["image_id"].null_count
    yield f"first {len(rows):,} of {total:,}{f', highest {score} first' * has_scores}"
    heads = ("image", "label", other, "kind", *sorted(several), *((score,) if has_scores else ()))
    label = "label" if "label" in rows[0] else "class_a"
    cells = [
        (
            r["image_id"],
            name_of_class(r, label),
            name_of_class(r, "class_b"),
            r["kind"],
            *(str(r[c]) for c in sorted(several)),
            *(("–" if r[score] is None else f"{r[score]:.2f}",) if has_scores else ()),
        )
        for r in rows
    ]
    yield from table_lines(heads, cells)


def name_of_class(row: Row, column: str) -> str:
    """Return the name of a class, or its id if it has none."""
    class_id = row[column]
    return row[NAME_COLUMNS[column]] or ("–" if class_id is None else str(class_id))


NO_PLACES = (
    "there is no gallery of these images, because the images table has no column uri with the locations of "
    "the photographs; the images.parquet that manyhot predict writes has this column"
)


def write_first_gallery(
    sources: Sequence[Source],
    rows: Sequence[Row],
    findings: pa.Table,
    out: Path,
    run: Run,
    *,
    of_all_models: bool = False,
) -> tuple[list[Path], str]:
    """Write a gallery of the images of the first findings, or return how to get one.

    Parameters
    ----------
    sources : sequence of Source
        The data sets; a gallery shows one.
    rows : sequence of Row
        The first findings.
    findings : pyarrow.Table
        All findings.
    out : Path
        Folder of the gallery.
    run : Run
    of_all_models : bool
        Whether findings without a model are shown as findings of every model.
    """
    if not rows or not sources:
        return [], ""
    if len(sources) > 1:
        return [], "to get a gallery of these images, pass one data set only"
    (source,) = sources
    if not photographed(source):
        if "--images" in run.call.split():
            return [], NO_PLACES
        call = f": {run.call} --images FILE" if run.call else " as `images`"
        return [], f"for a gallery of these images, pass a table with their photographs{call}"
    ids = list(dict.fromkeys(row["image_id"] for row in rows))
    models = {row["model"] for row in rows if row.get("model")}
    shown = findings.filter(pc.is_in(findings["image_id"], pa.array(ids, pa.string())))
    try:
        return write_gallery_of(
            source,
            ids,
            out,
            models=models,
            most=GALLERY_MODELS,
            findings=shown if models or of_all_models else None,
            run=run,
        ), ""
    except ManyhotError as error:
        return [], f"there is no gallery of these images. {error_in_a_line(error)}"
