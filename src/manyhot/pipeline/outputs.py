"""What a run leaves in its folder: tables, and the report that is drawn from them."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import itertools
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from manyhot import tables
from manyhot.errors import ManyhotError, MissingExtraError, OutputError
from manyhot.files import atomic_write
from manyhot.pipeline.common import PathLike
from manyhot.steps.compare import Comparison
from manyhot.steps.describe import Description
from manyhot.steps.leaderboard import narrow, rank_models
from manyhot.steps.results import Evaluation
from manyhot.tables import Results

if TYPE_CHECKING:
    from manyhot.report import Pictures
    from manyhot.report.inputs import ReportTables

PICTURES = "pictures.json"
"""Photographs of a run, so that its report can be drawn anew."""


_SAVED = (".svg", ".png", ".csv", ".md", ".tex")
"""Suffixes of what is saved beside a report."""


def write_tables(
    made: Mapping[str, pa.Table],
    out: PathLike,
    *,
    call: str,
    inputs: Mapping[str, str],
    results: pa.Table | None = None,
) -> list[Path]:
    """Write tables as Parquet and CSV, and remove what an earlier run made and this one did not.

    With `results` each table tells whose it is, so that a folder of two runs is noticed.
    """
    from manyhot.report.export import to_csv
    from manyhot.report.inputs import MADE

    run = {} if results is None else {"results": tables.digest(results)}
    written = []
    for name, table in made.items():
        path = Path(out) / f"{name}.parquet"
        written.append(tables.write(table, path, name, call=call, inputs=inputs, about=run))
        path = Path(out) / f"{name}.csv"
        with atomic_write(path) as part:
            part.write_text(to_csv(table), encoding="utf-8", newline="\n")
        written.append(path)
    for name in set(MADE) - set(made):
        for suffix in ("parquet", "csv"):
            (Path(out) / f"{name}.{suffix}").unlink(missing_ok=True)
    return written


def write_evaluation(
    evaluation: Evaluation,
    out: PathLike,
    *,
    description: Description,
    comparison: Comparison,
    thresholds: Evaluation | None = None,
    call: str,
    inputs: Mapping[str, str],
    pictures: Pictures | None = None,
    gallery: Sequence[Path] = (),
    highlight: Sequence[str] = (),
) -> list[Path]:
    """Write an evaluation, what goes with it, and the report; `gallery` is what was written of one."""
    from manyhot.report.pictures import write_pictures

    about = {**evaluation.about, "own": json.dumps(list(highlight))}
    written = dataclasses.replace(evaluation, about=about).write(out, call=call, inputs=inputs)
    written += write_thresholds(None if thresholds is None else thresholds.results, out, call, inputs)
    made = description.tables | comparison.tables | {"models": comparison.results.models}
    made |= evaluation.confidence
    written += write_tables(made, out, call=call, inputs=inputs, results=evaluation.results)
    clear_report(out)
    if not gallery:
        clear_gallery(out)
    written += write_pictures(pictures, Path(out) / PICTURES)
    return [*written, *gallery, _write_page(out, beside=False)]


def _check_no_file(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(
            "A file is where the report's folder would be.", where=folder, do="move it, or rename it"
        )


def clear_report(out: PathLike) -> None:
    """Remove the report of an earlier run, and the figures and tables saved beside it."""
    report = Path(out) / "report"
    (report / "index.html").unlink(missing_ok=True)
    for folder in ("figures", "tables"):
        for path in (report / folder).glob("*.*"):
            if path.suffix in _SAVED:
                path.unlink()


def clear_gallery(out: PathLike) -> None:
    """Remove the gallery in the report of an earlier run."""
    from manyhot.report.gallery_files import remove_gallery

    remove_gallery(Path(out) / "report" / "gallery")


def write_thresholds(
    table: pa.Table | None, out: PathLike, call: str, inputs: Mapping[str, str]
) -> list[Path]:
    """Write results on label sets at other thresholds, or remove those of an earlier run."""
    path = Path(out) / "thresholds.parquet"
    if table is None:
        path.unlink(missing_ok=True)
        return []
    return [tables.write(table, path, "results", call=call, inputs=inputs)]


def report_folder(folder: PathLike, *, title: str = "") -> list[Path]:
    """Draw the report of the tables in a folder: ``report/index.html``, its figures and its tables.

    Figures are saved as SVG for light and dark paper, PNG and CSV, tables as CSV, Markdown and LaTeX.

    Parameters
    ----------
    folder : path-like
        That `manyhot.evaluate_files`, `manyhot.evaluate_benchmark` or `manyhot.compare_files` wrote; or a
        diagnosis, whose page is drawn anew.
    title : str
        Of the report.

    Raises
    ------
    InputError
        If there is no ``results.parquet``, or a file breaks its table.
    OutputError
        If a file cannot be written.
    """
    from manyhot.report.diagnosis import has_diagnosis
    from manyhot.report.inputs import read_tables

    if not (Path(folder) / "results.parquet").exists() and has_diagnosis(Path(folder)):
        return [write_diagnosis(folder)]
    found = read_tables(folder)
    _check_no_file(Path(folder) / "report")
    clear_report(folder)
    page = _write_page(folder, beside=True, title=title)
    figures = sorted((page.parent / "figures").glob("*.*"))
    return [page, *figures, *_write_paper_tables(found, page.parent / "tables")]


def forget_pictures(out: Path, name: str, columns: Sequence[str], folder: str) -> None:
    """Remove the pictures that a table of an earlier run names, and nothing else that it may name.

    Parameters
    ----------
    out : Path
        Where the table lies. One of another version, or broken, names nothing: it is written anew.
    name : str
        Of the table.
    columns : sequence of str
        Of files, from `out` on.
    folder : str
        Where these lie; a table from elsewhere must not remove other files.
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


def write_diagnosis(out: PathLike) -> Path:
    """Draw the page of all diagnoses in a folder, and return its path.

    Raises
    ------
    InputError
        A file breaks its table.
    OutputError
        The page cannot be written.
    """
    from manyhot.report.diagnosis_page import write_diagnosis as write

    _check_no_file(Path(out) / "report")
    return write(Path(out))


def undrawn() -> str:
    """Return why reports have no figures here, and what to do; empty where they have."""
    missing = [name for name in ("altair", "vl_convert") if importlib.util.find_spec(name) is None]
    return f'{" and ".join(missing)} missing; pip install "manyhot[report]"' if missing else ""


def save_label_figures(made: Mapping[str, pa.Table], out: PathLike, call: str) -> list[Path]:
    """Save the figures of label sets in ``figures/``; none where the extra ``report`` is not installed."""
    from manyhot.report.figures import draw_figures
    from manyhot.report.inputs import ReportTables
    from manyhot.report.save import save_figures

    found = ReportTables(tables.schema("results").empty_table(), made)
    try:
        return save_figures(draw_figures(found, command=call), Path(out) / "figures")
    except MissingExtraError:
        return []


def _write_page(folder: PathLike, *, beside: bool, title: str = "") -> Path:
    from manyhot.report.inputs import read_tables
    from manyhot.report.pictures import read_pictures
    from manyhot.report.render import write_report

    found = read_tables(folder)
    options: dict[str, Any] = {"title": title} if title else {}
    return write_report(
        Path(folder) / "report",
        found,
        notes=json.loads(found.about.get("notes", "[]")),
        pictures=read_pictures(Path(folder) / PICTURES),
        highlight=json.loads(found.about.get("own", "[]")),
        call=_commands(found.about.get("call", "")),
        beside=beside,
        **options,
    )


def _commands(call: str) -> str:
    """Return the command, and the one that draws what it wrote where it does not draw itself."""
    words = shlex.split(call)
    if words[:2] != ["manyhot", "compare"]:
        return call
    given = [after for word, after in itertools.pairwise(words) if word == "--out"]
    given += [word.removeprefix("--out=") for word in words if word.startswith("--out=")]
    return f"{call} && {shlex.join(['manyhot', 'report', *(given or ['comparison'])])}"


def _paper_tables(found: ReportTables) -> dict[str, pa.Table]:
    """Return what goes into a paper as tables: leaderboards, and comparisons without what is the same."""
    from manyhot.report.export import for_paper

    results = Results(found.results, found["pairs"], models=found["models"])
    made = {
        f"leaderboard-{_file_name(d)}": for_paper(narrow(rank_models(results, dataset=d)))
        for d in results.datasets
    }
    drops = found["drops"]
    made["drops"] = drops.filter(pc.is_null(drops["model"])).drop(["model", "above_fit"])
    made |= {n: found[n] for n in ("fits", "ranks", "sensitivity", "set_sizes", "class_pairs", "rejected")}
    made["swaps"] = found["swaps"].filter(pc.fill_null(found["swaps"]["beyond_noise"], False))
    if found["datasets"].num_rows:
        made["datasets"] = found["datasets"].drop([c for c in ("citation", "home") if c in _columns(found)])
    return {name: _without_constants(table) for name, table in made.items() if table.num_rows}


def _columns(found: ReportTables) -> list[str]:
    return list(found["datasets"].column_names)


def _without_constants(table: pa.Table) -> pa.Table:
    """Return a table without slices that are all images, and without columns that are empty."""
    empty = [c for c in table.column_names if table[c].null_count == len(table)]
    slices = [c for c in ("slice_x", "slice_y") if c in table.column_names]
    same = slices if all(pc.all(pc.equal(table[c], "all")).as_py() for c in slices) else []
    return table.drop([*empty, *same])


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)


def _write_paper_tables(found: ReportTables, folder: Path) -> list[Path]:
    from manyhot.report.export import write_text_table

    written = []
    for name, table in _paper_tables(found).items():
        for kind, suffix in (("csv", "csv"), ("markdown", "md"), ("latex", "tex")):
            path = folder / f"{name}.{suffix}"
            write_text_table(table, kind, path)
            written.append(path)
    return written
