"""What a run leaves in its folder: tables, and the report that is drawn from them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from manyhot import tables
from manyhot.files import atomic_write
from manyhot.pipeline.common import PathLike
from manyhot.steps.compare import Comparison
from manyhot.steps.describe import Description
from manyhot.steps.results import Evaluation

if TYPE_CHECKING:
    import polars as pl

    from manyhot.report import Pictures

MADE = ("drops", "fits", "ranks", "swaps", "sensitivity", "datasets", "set_sizes", "class_pairs", "rejected")
"""Tables beside the results that a run makes; those of an earlier run in the same folder are removed."""


def write_tables(
    made: Mapping[str, pa.Table], out: PathLike, *, call: str, inputs: Mapping[str, str]
) -> list[Path]:
    """Write tables as Parquet and CSV, and remove what an earlier run made and this one did not."""
    import polars as pl

    written = []
    for name, table in made.items():
        written.append(tables.write(table, Path(out) / f"{name}.parquet", name, call=call, inputs=inputs))
        path = Path(out) / f"{name}.csv"
        with atomic_write(path) as part:
            _flat(pl.DataFrame(pl.from_arrow(table))).write_csv(part)
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
    highlight: Sequence[str] = (),
) -> list[Path]:
    """Write an evaluation, what goes with it, and the report."""
    about = {**evaluation.about, "own": json.dumps(list(highlight))}
    written = dataclasses.replace(evaluation, about=about).write(out, call=call, inputs=inputs)
    if thresholds is not None:
        path = Path(out) / "thresholds.parquet"
        written.append(tables.write(thresholds.results, path, "results", call=call, inputs=inputs))
    made = description.tables | comparison.tables | {"models": comparison.results.models}
    written += write_tables(made, out, call=call, inputs=inputs)
    return [*written, *report_folder(out, pictures=pictures)]


def report_folder(folder: PathLike, *, pictures: Pictures | None = None, title: str = "") -> list[Path]:
    """Draw the report of the tables in a folder: ``report/index.html``, its figures and its tables.

    Parameters
    ----------
    folder : path-like
        That `manyhot.evaluate_files`, `manyhot.evaluate_benchmark` or `manyhot.compare_files` wrote.
    pictures : Pictures, optional
        Photographs to show.
    title : str
        Of the report.

    Raises
    ------
    InputError
        If there is no ``results.parquet``, or a file breaks its table.
    OutputError
        If a file cannot be written.
    """
    from manyhot.report.inputs import read_tables
    from manyhot.report.render import write_report

    found = read_tables(folder)
    options: dict[str, Any] = {"title": title} if title else {}
    report = write_report(
        Path(folder) / "report",
        found,
        notes=json.loads(found.about.get("notes", "[]")),
        pictures=pictures,
        highlight=json.loads(found.about.get("own", "[]")),
        call=found.about.get("call", ""),
        **options,
    )
    return [report]


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with lists as text: CSV has none."""
    import polars as pl
    import polars.selectors as cs

    return frame.with_columns(cs.list().list.eval(pl.element().cast(pl.String)).list.join("|"))
