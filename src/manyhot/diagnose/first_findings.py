"""The first findings of a diagnosis: on the terminal, on the page, and as a gallery of just their images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import ClassList
from manyhot.console import table_lines
from manyhot.data.data_sets import Source
from manyhot.diagnose.page import DiagnosisResult, draw_beside
from manyhot.errors import ManyhotError
from manyhot.evaluate.gallery import photographed, write_gallery_of
from manyhot.evaluate.write import error_in_a_line
from manyhot.formats.writing import PathLike
from manyhot.report.gallery import finding_column
from manyhot.report.gallery_files import read_gallery_link
from manyhot.result import Result
from manyhot.run import QUIET, Run
from manyhot.tables import Row

FIRST_FINDINGS = 10
"""Findings that are printed, and whose images the gallery shows."""

GALLERY_MODELS = 5
"""Models that the gallery shows if findings are those of all models."""

NAME_COLUMNS = {"label": "label_name", "class_a": "name_a", "class_b": "name_b"}
"""Columns with class ids, and the columns with their names."""


@dataclass(frozen=True, eq=False)
class Findings(DiagnosisResult):
    """Findings on images or classes: their table, their page, and a gallery of the first findings.

    Attributes
    ----------
    table : pyarrow.Table
        The table ``findings``.
    sources : tuple of Source
        The data sets whose photographs the gallery shows.
    hints : list of str
        Notes on what `write` could not do, and how to make it possible.
    """

    NAMES = ("findings",)
    SCORE: ClassVar[str]

    table: pa.Table
    sources: tuple[Source, ...] = field(default=(), repr=False, kw_only=True)
    hints: list[str] = field(default_factory=list, repr=False, kw_only=True)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def first(self) -> list[Row]:
        """The first ten findings on images, the highest score or confidence first."""
        return first_findings(self.table, self.SCORE)

    @property
    def shown(self) -> list[Row]:
        """The findings whose images the gallery shows."""
        return self.first

    @property
    def gallery_tables(self) -> tuple[pa.Table, ...]:
        """The tables of findings that the gallery shows for these images."""
        return (self.table,)

    def write(self, out: PathLike, *, run: Run = QUIET) -> list[Path]:
        """Write the findings and, if `out` is a folder, their page and, with photographs, a gallery."""
        written = [*Result.write(self, out, run=run), *self.write_beside(out)]
        if self.is_file(out):
            return written
        folder = Path(out) / "gallery"
        gallery, hint = write_first_gallery(self.sources, self.shown, self.gallery_tables, folder, run)
        self.hints[:] = [hint] if hint else []
        return [*written, *gallery, *draw_beside(out)]

    def first_lines(self, other: str) -> Iterator[str]:
        """Yield the first findings with the names of their classes; `other` is the role of `class_b`."""
        rows, score = self.first, self.SCORE
        if not rows:
            return
        several = sorted(c for c in ("dataset", "model") if len({r.get(c) for r in rows}) > 1)
        has_scores = any(r[score] is not None for r in rows)
        total = len(self) - self.table["image_id"].null_count
        yield f"first {len(rows):,} of {total:,}{f', highest {score} first' * has_scores}"
        label = "label" if "label" in rows[0] else "class_a"
        labels = (label,) * any(r[label] is not None for r in rows)  # multi-label data may have none
        heads = ("image", *("label" for _ in labels), other, "kind", *several, *((score,) * has_scores))
        cells = [
            (
                r["image_id"],
                *(name_of_class(r, column) for column in labels),
                name_of_class(r, "class_b"),
                r["kind"],
                *(str(r[c]) for c in several),
                *(("–" if r[score] is None else f"{r[score]:.2f}",) if has_scores else ()),
            )
            for r in rows
        ]
        yield from table_lines(heads, cells)

    def write_beside(self, out: PathLike) -> list[Path]:
        """Write further files next to the findings, and return them; by default, there are none."""
        return []


def with_names(findings: pa.Table, classes: ClassList | None) -> pa.Table:
    """Return the findings with the names of their classes, which are null if the class list is unknown."""
    names = pa.array(classes.names if classes else (), pa.string())
    for column, name in NAME_COLUMNS.items():
        if column in findings.column_names:
            ids = findings[column] if classes else pa.nulls(len(findings), pa.int32())
            findings = findings.append_column(name, pc.take(names, ids))
    return findings


def first_findings(findings: pa.Table, score: str, most: int = FIRST_FINDINGS) -> list[Row]:
    """Return the first findings on images, highest score first; findings without a score keep their order."""
    on_images = findings.filter(pc.is_valid(findings["image_id"]))
    order = pc.sort_indices(on_images, sort_keys=[(score, "descending")])
    rows: list[Row] = on_images.take(order[:most]).to_pylist()
    return rows


def name_of_class(row: Row, column: str) -> str:
    """Return the name of a class, or its id if it has none."""
    class_id = row[column]
    return row[NAME_COLUMNS[column]] or ("–" if class_id is None else str(class_id))


def image_links(folder: Path) -> Callable[[Row], str] | None:
    """Return a function that returns the address of a finding's image in the gallery; None without a gallery.

    Addresses are relative to a page in ``report/``. An address is empty if the gallery does not show the
    image.
    """
    gallery = read_gallery_link(folder)
    if gallery is None:
        return None
    return lambda row: f"../{gallery.to(image=row['image_id'])}" if row["image_id"] in gallery.ids else ""


NO_PLACES = (
    "there is no gallery of these images, because the images table has no column uri with the locations of "
    "the photographs; the images.parquet that manyhot predict writes has this column"
)


def write_first_gallery(
    sources: Sequence[Source],
    rows: Sequence[Row],
    findings: Sequence[pa.Table],
    out: Path,
    run: Run,
    *,
    of_all_models: bool = False,
) -> tuple[list[Path], str]:
    """Write a gallery of the images of the first findings, or return a hint on how to get one.

    Parameters
    ----------
    sources : sequence of Source
        The data sets. A gallery shows only one data set.
    rows : sequence of Row
        The first findings.
    findings : sequence of pyarrow.Table
        All findings.
    out : Path
        Folder of the gallery.
    run : Run
    of_all_models : bool
        Whether to show each model's kinds of errors even if the first findings name no model.
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
        return [], f"to get a gallery of these images, pass a table with their photographs{call}"
    ids = list(dict.fromkeys(row["image_id"] for row in rows))
    models = {row["model"] for row in rows if row.get("model")}
    shown = [
        table.filter(pc.is_in(table["image_id"], pa.array(ids, pa.string())))
        for table in findings
        if models or of_all_models or finding_column(table)
    ]
    try:
        return write_gallery_of(
            source,
            ids,
            out,
            models=models,
            most=GALLERY_MODELS,
            findings=shown,
            run=run,
        ), ""
    except ManyhotError as error:
        return [], f"there is no gallery of these images. {error_in_a_line(error)}"
