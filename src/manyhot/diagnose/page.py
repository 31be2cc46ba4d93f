"""The page of diagnoses: one self-contained HTML file, with a chapter for each diagnosis."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pyarrow as pa
from markupsafe import Markup

from manyhot import tables
from manyhot.command import command
from manyhot.errors import InputError, ManyhotError, PlugInError
from manyhot.evaluate.outputs import clear_report
from manyhot.evaluate.write import write_page, write_paper_tables
from manyhot.files import write_text
from manyhot.formats.writing import PathLike
from manyhot.parameters import Shown
from manyhot.registry import Entry, get, names
from manyhot.report.chapter import Chapter, Diagnosis, read_diagnosis
from manyhot.report.export import check_no_file
from manyhot.report.page import asset, environment, policy
from manyhot.report.prerender import DATA_ID, prepare
from manyhot.report.text import listed
from manyhot.result import Result
from manyhot.run import QUIET, Run


def write_diagnosis(out: PathLike, title: str = "") -> Path:
    """Write ``report/index.html`` with all diagnoses that have tables in a folder, and return its path.

    Pictures are embedded in the page. If the extra ``report`` is not installed, the page has no figures and
    explains why. By default, the title is that of the only chapter or, if there are several, a list of the
    chapters.

    Raises
    ------
    InputError
        If a file does not have the schema of its table.
    OutputError
        If the file cannot be written.
    """
    folder = Path(out)
    check_no_file(folder / "report")
    found = read_diagnosis(folder)
    chapters, undrawn = _build(found, folder)
    chapters = chapters or (_without_results(found),)
    figures = tuple(f for chapter in chapters for f in chapter.figures)
    page = prepare(figures) if figures else None
    about = [tables.metadata(table) for table in found.values()]
    diagnosis = Diagnosis(
        title or _title(chapters),
        tuple(dict.fromkeys(a["call"] for a in about if a.get("call"))),
        next((a["version"] for a in about if a.get("version")), ""),
        chapters,
        tuple(dict.fromkeys(str(note) for a in about for note in json.loads(a.get("notes", "[]")))),
        undrawn,
    )
    path = folder / "report" / "index.html"
    template = environment().get_template("diagnosis.html")
    text = template.render(
        page=diagnosis,
        figures=page,
        figures_id=DATA_ID,
        policy=policy(*([page.script] if page is not None else [])),
        css=Markup(asset("report.css") + asset("diagnosis.css")),  # noqa: S704  our own files
    )
    write_text(path, text)
    return path


def _without_results(named: Mapping[str, pa.Table]) -> Chapter:
    """Return what a page says if its tables have nothing to show."""
    files = listed([f"{name}.csv" for name in named], len(named))
    lacks = "has" if len(named) == 1 else "have"
    text = f"Nothing was found: {files} {lacks} no rows that this page could show."
    return Chapter("nothing", "Nothing found", "Nothing was found", (text,))


def _title(chapters: Sequence[Chapter]) -> str:
    if len(chapters) == 1:
        return chapters[0].title
    return ": ".join(filter(None, ("Diagnosis", ", ".join(c.short.lower() for c in chapters))))


def _build(named: Mapping[str, pa.Table], folder: Path) -> tuple[tuple[Chapter, ...], str]:
    """Return the chapters, and why they have no figures if they have none."""
    try:
        import altair as alt
        import vl_convert  # noqa: F401
    except ImportError:
        return build_chapters(named, folder, draw=False), 'Figures need Altair: pip install "manyhot[report]"'
    with alt.utils.schemapi.debug_mode(False):
        return build_chapters(named, folder, draw=True), ""


@dataclass(frozen=True, eq=False)
class DrawnReport(Result):
    """A report that was drawn; `written` lists its files."""

    DRAWS: ClassVar[bool] = True

    def lines(self) -> Iterator[str]:
        """Yield nothing: the terminal lists the files."""
        yield from ()


@command("report", examples=("manyhot report imagenet",))
def report_folder(folder: Annotated[PathLike, Shown("FOLDER")], *, title: str = "") -> DrawnReport:
    """Draw the report of a folder again, as an HTML page with separate files for its figures and tables.

    Figures are saved as SVG and PNG, for light and for dark backgrounds, and as CSV. Tables are saved as CSV,
    Markdown and LaTeX.

    Parameters
    ----------
    folder
        A folder written by evaluate, compare or a diagnosis.
    title
        Title of the report; by default, the subject of the page.

    Returns
    -------
    DrawnReport

    Raises
    ------
    InputError
        If there is no ``results.parquet``, or a file does not have the schema of its table.
    OutputError
        If a file cannot be written.
    """
    from manyhot.evaluate.report.report_tables import read_tables
    from manyhot.report.chapter import has_diagnosis

    if not (Path(folder) / "results.parquet").exists() and has_diagnosis(Path(folder)):
        return DrawnReport(written=(write_diagnosis(folder, title),))
    found = read_tables(folder)
    check_no_file(Path(folder) / "report")
    page = write_page(folder, beside=True, title=title)
    figures = sorted((page.parent / "figures").glob("*.*"))
    written = (page, *figures, *write_paper_tables(found, page.parent / "tables"))
    clear_report(folder, keep=written)
    return DrawnReport(written=written)


def forget_pictures(out: Path, name: str, columns: Sequence[str], folder: str) -> None:
    """Remove only the pictures that are listed in the table of an earlier run.

    Parameters
    ----------
    out : Path
        Folder of the table. A table that is damaged or was written by another version is ignored, because it
        will be replaced.
    name : str
        Name of the table.
    columns : sequence of str
        Columns that contain paths of files relative to `out`.
    folder : str
        Folder of these files. Files outside it are not removed, because the table may come from elsewhere.
    """
    path, place = out / f"{name}.parquet", (out / folder).resolve()
    if not path.is_file():
        return
    with contextlib.suppress(ManyhotError):
        earlier = tables.read(path, name)
        for column in [c for c in columns if c in earlier.column_names]:
            for file in (out / found for found in earlier[column].drop_null().to_pylist()):
                if file.resolve().parent == place:
                    file.unlink(missing_ok=True)


def check_outside(images: PathLike, out: Path) -> None:
    """Raise an error if pictures would be written among the images: the next run would read them."""
    if Path(images).is_dir() and out.resolve().is_relative_to(Path(images).resolve()):
        raise InputError(
            "The output folder is inside the folder of images.",
            where=out,
            got=f"images in {images}",
            do="choose an `out` outside this folder",
        )


def draw_beside(out: PathLike) -> list[Path]:
    """Draw the page of a diagnosis next to its tables, unless the folder was written by evaluate."""
    return [] if (Path(out) / "results.parquet").exists() else [write_diagnosis(out)]


def build_chapters(named: Mapping[str, pa.Table], folder: Path, draw: bool) -> tuple[Chapter, ...]:
    """Return the chapters for which there are tables, with figures if `draw` is set.

    If a chapter of a plug-in fails, the page shows the error in its place.

    Raises
    ------
    InputError
        If a table lacks a column.
    """
    found, failed = [], list[Chapter]()
    for entry in (get("chapter", name) for name in names("chapter")):
        try:
            chapter = entry(named, folder, draw)
        except PlugInError as error:
            failed.append(Chapter(entry.name, entry.name, entry.name, (f"{error.in_a_line()}.",)))
            continue
        except (
            KeyError,
            pa.ArrowInvalid,
        ) as error:  # the columns of some tables, such as findings, are optional
            raise InputError(
                "A column that the page needs is missing from a table.",
                where=folder / f"{next(iter(entry.about.get('tables', (entry.name,))))}.parquet",
                got=str(error.args[0]).partition("\n")[0][:100],
                do="run the diagnosis again",
            ) from error
        if chapter is not None:
            step, call = chapter.next or entry.about.get("next"), _call(named, entry)
            found.append(replace(chapter, next=step and step.after(call, folder.name)))
    return (*found, *failed) if found else ()


def _call(named: Mapping[str, pa.Table], entry: Entry) -> str:
    """Return the command that wrote the tables of a chapter; empty if it is unknown."""
    own = (named[name] for name in entry.about.get("tables", (entry.name,)) if name in named)
    return next((tables.metadata(table).get("call", "") for table in own), "")


class DiagnosisResult(Result):
    """A result that is shown as a chapter on the page of all diagnoses in a folder.

    The tables called `OPTIONAL` are left out if they are empty.
    """

    OPTIONAL: ClassVar[tuple[str, ...]] = ()

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The tables by name."""
        return {name: t for name, t in super().tables.items() if t.num_rows or name not in self.OPTIONAL}

    def write(self, out: PathLike, *, run: Run = QUIET) -> list[Path]:
        """Write the tables, and draw the page of the folder again; see `Result.write`."""
        for name in set(self.OPTIONAL) - set(self.tables):
            for path in self._paths(out, name):  # of an earlier run
                path.unlink(missing_ok=True)
        written = super().write(out, run=run)
        return written if self.is_file(out) else [*written, *draw_beside(out)]


@dataclass
class RunProgress:
    """Progress of several runs of `predict`, reported as one run with the remaining time.

    Attributes
    ----------
    run : Run
        The run to which events and progress are passed.
    activity : str
        The activity that is shown with the progress.
    total : int, optional
        Number of images in all runs; None if unknown.
    done : int
        Number of images in the runs that are complete.
    """

    run: Run
    activity: str
    total: int | None = None
    done: int = 0
    _scored: int = 0
    _begun: float = 0.0
    _now: int = 0
    _seen: set[str] = field(default_factory=set)

    def __call__(self, kind: str, values: dict[str, Any]) -> None:
        """Pass an event on as one of the whole; of events other than progress only the first of its kind."""
        if kind == "progress":
            self._progress(values)
        elif kind not in self._seen:
            self._seen.add(kind)
            begun = {"images": self.total, "left": None if self.total is None else self.total - self.done}
            self.run.event(kind, values | begun if kind == "model" else values)

    def progress_only(self, kind: str, values: dict[str, Any]) -> None:
        """Pass on progress alone."""
        if kind == "progress":
            self._progress(values)

    def add(self, images: int) -> None:
        """Note that a run is complete."""
        self.done += images
        self._scored += self._now
        self._now = 0

    def _progress(self, values: dict[str, Any]) -> None:
        self._begun = self._begun or time.perf_counter()
        self._now = values["images"]
        # What an earlier run predicted counts as done, but not for the rate: it would flatter the time left.
        scored, done = self._scored + self._now, self.done + self._now
        rate = scored / max(time.perf_counter() - self._begun, 1e-3)
        left = None if self.total is None else round(max(self.total - done, 0) / rate, 1)
        if self.run.on_event is None:
            if self.run.on_progress:
                self.run.on_progress(self.activity, done, self.total or 0)
            return
        self.run.event(
            "progress",
            {
                "model": values["model"],
                "images": done,
                "of": self.total,
                "images_per_second": round(rate, 1),
                "seconds_left": left,
            },
        )
