"""What an evaluation leaves in its folder: tables, pictures and the report that is drawn from them."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.evaluate.compare import Comparison
from manyhot.evaluate.describe import Description
from manyhot.evaluate.leaderboard import narrow, rank_models
from manyhot.evaluate.outputs import clear_gallery, clear_report, write_tables, write_thresholds
from manyhot.evaluate.results import Evaluation
from manyhot.formats.writing import PathLike
from manyhot.tables import Results

if TYPE_CHECKING:
    from manyhot.evaluate.report.inputs import ReportTables
    from manyhot.report.pictures import Pictures


PICTURES = "pictures.json"
"""Photographs of a run, so that its report can be drawn anew."""


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
    return [*written, *gallery, write_page(out, beside=False)]


def write_page(folder: PathLike, *, beside: bool, title: str = "") -> Path:
    """Draw the report of the tables in a folder, and return the path of its page."""
    from manyhot.evaluate.report import write_report
    from manyhot.evaluate.report.inputs import read_tables
    from manyhot.report.pictures import read_pictures

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


def write_paper_tables(found: ReportTables, folder: Path) -> list[Path]:
    """Write the tables of a report as CSV, Markdown and LaTeX."""
    from manyhot.report.export import write_text_table

    written = []
    for name, table in _paper_tables(found).items():
        for kind, suffix in (("csv", "csv"), ("markdown", "md"), ("latex", "tex")):
            path = folder / f"{name}.{suffix}"
            write_text_table(table, kind, path)
            written.append(path)
    return written
