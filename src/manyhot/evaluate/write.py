"""The output folder of an evaluation: tables, pictures and the report drawn from them."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import re
import shlex
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import ClassList
from manyhot.data.data_sets import Source
from manyhot.data.reading_options import READING, Reading
from manyhot.errors import InputError, ManyhotError, MissingExtraError
from manyhot.evaluate.describe import Description, describe_tables
from manyhot.evaluate.ranks import narrow, rank_models
from manyhot.evaluate.slices import model_cases
from manyhot.formats import read_images, read_predictions
from manyhot.formats.writing import PathLike, images_file
from manyhot.run import Run
from manyhot.tables import Images, Labels, Predictions, Results
from manyhot.tables.labels import with_ids_like
from manyhot.tables.own_classes import JoinedClasses
from manyhot.tables.skipped_files import SkippedFiles

if TYPE_CHECKING:
    from manyhot.evaluate.report.report_tables import ReportTables
    from manyhot.report.pictures import Pictures


PICTURES, CLASS_PICTURES = "pictures.json", "class_pictures.json"
"""Photographs of a run and of its worst classes, so that its report can be drawn again."""


MAX_PICTURES = 200
"""Number of images up to which the page of a report shows them."""

MAX_GALLERY = 1000
"""Number of images up to which a report has a gallery by default: 3 s and up to 50 MB."""


@dataclass(frozen=True, eq=False)
class JudgedData:
    """A data set that models were evaluated on, with what the report needs to describe and show it.

    Attributes
    ----------
    images : Images, optional
        Images table with the locations of photographs.
    files : tuple of Path
        Files of the models' predictions; empty if predictions were not read from files.
    reading : Reading
        How the files are read.
    source : Mapping of str to str
        Licence, citation and home page of the labels, if they are published.
    is_proposed : bool
        Whether the label sets are proposals that an audit corrects. If so, the report neither describes nor
        shows them.
    """

    name: str
    labels: Labels
    images: Images | None = None
    classes: ClassList | None = None
    files: tuple[Path, ...] = ()
    reading: Reading = READING
    source: Mapping[str, str] = field(default_factory=dict)
    is_proposed: bool = False

    def models(self) -> Iterator[Predictions]:
        """Yield the predictions in `files`, with the ids and the class list of the labels."""
        rows, scores = self.reading.row_images(self.classes), self.reading.scores
        skipped = SkippedFiles.among(self.files, strict=self.reading.strict)
        read = partial(read_predictions, rows=rows, classes=self.classes, scores=scores)
        ids, name = self.labels.image_id, self.labels.name or "the labels"
        linked = map(self.reading.linked, skipped.reading(self.files, read))
        found = skipped.matching(linked, ids, name, self.reading.match)
        if self.classes is None:
            return found
        joined = JoinedClasses(len(self.classes), self.classes)
        return map(joined.of_predictions, found)

    def describe(self) -> Description:
        """Count labels, set sizes, pairs of classes and rejected original labels."""
        return describe_tables(
            self.labels, classes=self.classes, dataset=self.name or "labels", **self.source
        )


def page_pictures(judged: JudgedData) -> Pictures | None:
    """Return the photographs that the page of a report shows; None if there are none or too many.

    Raises
    ------
    MissingExtraError
        If Pillow is not installed.
    """
    from manyhot.evaluate.gallery import find_photographs
    from manyhot.report.pictures import load_pillow, make_pictures

    images = judged.images
    if not judged.files or images is None or "uri" not in images.table.column_names:
        return None
    if len(images) > MAX_PICTURES:
        return None
    load_pillow()
    photographs = find_photographs(images.table["uri"].to_pylist())
    models = list(judged.models())
    return make_pictures(images, judged.labels, models, judged.classes, photographs=photographs)


def write_class_pictures(judged: JudgedData, per_class: Mapping[str, pa.Table], out: Path) -> list[Path]:
    """Write the photographs of the best model's worst classes. Without photographs, write nothing.

    Raises
    ------
    MissingExtraError
        If Pillow is not installed.
    """
    from manyhot.evaluate.per_class.class_listings import class_albums, write_albums
    from manyhot.evaluate.per_class.class_tables import best_first, of_models

    try:
        images = _photographed(judged) if judged.files and "class_results" in per_class else None
    except InputError:  # the gallery, which needs the same table, gives the reason
        images = None
    if images is None:
        return []
    models = of_models(per_class["class_results"])
    best = next(best_first(models, judged.name))
    source = Source(judged.name, judged.labels, classes=judged.classes, models=judged.models)
    found = next(m for m in model_cases(source, trust_order=True) if m.model == best)
    ids = judged.labels.image_id.take(pa.array(found.rows)).to_pylist()
    albums = class_albums(images, found.case, ids, models[judged.name, best])
    return write_albums(albums, out / CLASS_PICTURES)


def write_report_gallery(
    judged: JudgedData, report: Path, limit: int | None, run: Run
) -> tuple[list[Path], str]:
    """Write the gallery of a report, or return the reason why there is none.

    There is none if there are more images than `limit`, by default `MAX_GALLERY`.
    """
    from manyhot.evaluate.gallery import report_gallery

    most = MAX_GALLERY if limit is None else limit
    if not most or not judged.files:
        return [], ""
    try:
        shown = _photographed(judged)
        if shown is None:
            absent = (
                "no images table contains the locations of photographs; pass a table with the column uri "
                "as `images`"
            )
            return [], absent if limit else ""
        if len(shown) > most:
            more = (
                f"there are {len(shown):,} photographs, which is more than {most:,}; to make a gallery, pass "
                f"`gallery`={len(shown)}"
            )
            return [], more
        n = len(judged.files)
        about = (judged.name, judged.labels, shown, judged.classes, judged.models, n)
        return report_gallery(Source(*about, misfits=SkippedFiles(n)), report, judged.files, run), ""
    except (InputError, MissingExtraError) as error:
        return [], error_in_a_line(error)


def error_in_a_line(error: ManyhotError) -> str:
    """Return an error and its details as one line."""
    reasons = [str(error.details[key]) for key in ("where", "got", "do") if error.details[key]]
    return f"{error.what.rstrip('.')}: {'; '.join(reasons)}"


def _photographed(judged: JudgedData) -> Images | None:
    """Return the images that are judged, if a table contains the locations of their photographs."""
    report_tables = [] if judged.images is None else [judged.images]
    beside = (images_file(folder) for folder in dict.fromkeys(f.parent for f in judged.files))
    read = (read_images(p, classes=judged.classes) for p in beside if p.is_file())
    known = next((t for t in itertools.chain(report_tables, read) if "uri" in t.table.column_names), None)
    if known is None:
        return None
    known, _ = with_ids_like(
        known, judged.labels.image_id, other_name="the labels", match=judged.reading.match
    )
    table = known.table.filter(pc.is_in(known.image_id, judged.labels.image_id))
    return Images(table, known.name) if len(table) else None


FEW_OPEN_FILES = 64
"""Number of files that a process may open below which nothing is prepared early."""


def prepare_renderer() -> None:
    """Start the process that draws figures while data are read. This takes 0.6 CPU s.

    The process needs pipes. It is not started if only few files may be open, because reading the input may
    need all of them.
    """
    from manyhot.report.prerender import start_renderer

    if _may_open_files():
        start_renderer()


def load_figures() -> None:
    """Import the code that composes figures in a thread. This takes 0.4 CPU s."""

    def load() -> None:
        with contextlib.suppress(ImportError):  # the page says what is missing
            importlib.import_module("manyhot.evaluate.report.figures.panel")

    if "manyhot.evaluate.report.figures.panel" not in sys.modules and _may_open_files():
        threading.Thread(target=load).start()


def _may_open_files() -> bool:
    if sys.platform == "win32":
        return True
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= FEW_OPEN_FILES


def write_page(folder: PathLike, *, beside: bool, title: str = "") -> Path:
    """Draw the report of the tables in a folder, and return the path of its page."""
    from manyhot.evaluate.per_class.class_listings import read_albums
    from manyhot.evaluate.report import write_report
    from manyhot.evaluate.report.report_tables import read_tables
    from manyhot.report.pictures import read_pictures

    report_tables = read_tables(folder)
    return write_report(
        Path(folder) / "report",
        report_tables,
        notes=json.loads(report_tables.about.get("notes", "[]")),
        pictures=read_pictures(Path(folder) / PICTURES),
        albums=read_albums(Path(folder) / CLASS_PICTURES),
        highlight=json.loads(report_tables.about.get("own", "[]")),
        call=_commands(report_tables.about.get("call", "")),
        beside=beside,
        title=title,
    )


def _commands(call: str) -> str:
    """Return the command, and the one that draws what it wrote where it does not draw itself."""
    words = shlex.split(call)
    if words[:2] != ["manyhot", "compare"]:
        return call
    given = [after for word, after in itertools.pairwise(words) if word == "--out"]
    given += [word.removeprefix("--out=") for word in words if word.startswith("--out=")]
    return f"{call} && {shlex.join(['manyhot', 'report', *(given or ['comparison'])])}"


def _paper_tables(report_tables: ReportTables) -> dict[str, pa.Table]:
    """Return the tables for a paper: leaderboards, and comparisons without constant or empty columns."""
    from manyhot.report.export import for_paper

    results = Results(report_tables.results, report_tables["pairs"], models=report_tables["models"])
    made = {
        f"leaderboard-{_file_name(d)}": for_paper(narrow(rank_models(results, dataset=d)))
        for d in results.datasets
    }
    drops = report_tables["drops"]
    made["drops"] = drops.filter(pc.is_null(drops["model"])).drop(["model", "above_fit"])
    made |= {
        n: report_tables[n] for n in ("fits", "ranks", "sensitivity", "set_sizes", "class_pairs", "rejected")
    }
    made["swaps"] = report_tables["swaps"].filter(pc.fill_null(report_tables["swaps"]["beyond_noise"], False))
    if report_tables["datasets"].num_rows:
        made["datasets"] = report_tables["datasets"].drop(
            [c for c in ("citation", "home") if c in report_tables["datasets"].column_names]
        )
    return {name: _without_constants(table) for name, table in made.items() if table.num_rows}


def _without_constants(table: pa.Table) -> pa.Table:
    """Return a table without slices that are all images, and without columns that are empty."""
    empty = [c for c in table.column_names if table[c].null_count == len(table)]
    slices = [c for c in ("slice_x", "slice_y") if c in table.column_names]
    same = slices if all(pc.all(pc.equal(table[c], "all")).as_py() for c in slices) else []
    return table.drop([*empty, *same])


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)


def write_paper_tables(report_tables: ReportTables, folder: Path) -> list[Path]:
    """Write the tables of a report as CSV, Markdown and LaTeX."""
    from manyhot.report.export import write_text_table

    written = []
    for name, table in _paper_tables(report_tables).items():
        for kind, suffix in (("csv", "csv"), ("markdown", "md"), ("latex", "tex")):
            path = folder / f"{name}.{suffix}"
            write_text_table(table, kind, path)
            written.append(path)
    return written
