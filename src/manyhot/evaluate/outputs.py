"""The output folder of a run: tables, and the report drawn from them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import pyarrow as pa

from manyhot import tables
from manyhot.classes import ClassList
from manyhot.errors import InputError, MissingExtraError, first_names
from manyhot.files import write_text
from manyhot.formats.writing import PathLike
from manyhot.tables import Results
from manyhot.tables.own_classes import own_list

_SAVED = (".svg", ".png", ".csv", ".md", ".tex")
"""Suffixes of the files that are saved next to a report."""


def write_tables(
    made: Mapping[str, pa.Table],
    out: PathLike,
    *,
    call: str,
    inputs: Mapping[str, str],
    results: pa.Table | None = None,
) -> list[Path]:
    """Write each table that has rows as Parquet and CSV, and remove other tables of an earlier run.

    If `results` is passed, each table stores a hash of the results, so that tables of different runs in one
    folder are detected.
    """
    from manyhot.evaluate.report.report_tables import MADE
    from manyhot.report.export import to_csv

    run = {} if results is None else {"results": tables.results_digest(results)}
    filled = {name: table for name, table in made.items() if table.num_rows}
    written = []
    for name, table in filled.items():
        path = Path(out) / f"{name}.parquet"
        written.append(tables.write(table, path, name, call=call, inputs=inputs, about=run))
        path = Path(out) / f"{name}.csv"
        write_text(path, to_csv(table))
        written.append(path)
    _remove(out, set(MADE) - set(filled))
    return written


def _remove(out: PathLike, names: Iterable[str]) -> None:
    """Remove tables of an earlier run."""
    for name in names:
        for suffix in ("parquet", "csv"):
            (Path(out) / f"{name}.{suffix}").unlink(missing_ok=True)


def write_own_classes(lists: Iterable[ClassList | None], out: PathLike) -> list[Path]:
    """Write class lists that are not built in, one key per line, to be passed as `classes` later."""
    own = {c.hash: c for c in lists if c is not None and own_list(c) is not None}
    written = []
    for i, classes in enumerate(own.values()):
        path = Path(out) / ("classes.txt" if len(own) == 1 else f"classes-{i + 1}.txt")
        write_text(path, "".join(f"{key}\n" for key in classes.keys))
        written.append(path)
    return written


def clear_report(out: PathLike, keep: Collection[Path] = ()) -> None:
    """Remove the report of an earlier run, and the figures and tables next to it, except files in `keep`."""
    report = Path(out) / "report"
    saved = (path for name in ("figures", "tables") for path in (report / name).glob("*.*"))
    for path in (report / "index.html", *(path for path in saved if path.suffix in _SAVED)):
        if path not in keep:
            path.unlink(missing_ok=True)


def clear_gallery(out: PathLike) -> None:
    """Remove the gallery in the report of an earlier run."""
    from manyhot.report.gallery_files import remove_gallery

    remove_gallery(Path(out) / "report" / "gallery")


def note_on_replaced(results: pa.Table, out: PathLike) -> str:
    """Return a note on models or data sets of an earlier run that the new results lack; empty if none."""
    path = Path(out) / "results.parquet"
    try:
        earlier = tables.read(path, "results") if path.is_file() else results
    except InputError:
        return ""  # it cannot be read, so nothing is lost
    for column in ("model", "dataset"):
        new = results[column].unique().to_pylist()
        lost = [name for name in earlier[column].unique().to_pylist() if name not in new]
        if lost:
            what = "of" if column == "model" else "on"
            return (
                f"the earlier results in {out} were replaced, and those {what} "
                f"{first_names(lost, _MOST_NAMED)} are gone; to keep the results of several "
                "runs, write each run to its own folder"
            )
    return ""


_MOST_NAMED = 10
"""Maximum number of names in a note."""


def write_numbers(
    results: Results,
    out: PathLike,
    *,
    call: str,
    inputs: Mapping[str, str],
    about: Mapping[str, str],
    thresholds: pa.Table | None = None,
) -> list[Path]:
    """Write results, and pairs and samples if there are any. Remove pairs and samples of an earlier run.

    Parameters
    ----------
    call, inputs, about
        Metadata of the results. Pairs and samples store a hash of the results instead of `about`.
    thresholds : pyarrow.Table, optional
        Results on label sets at other thresholds.
    """
    from manyhot.formats.csv_tables import write_csv  # brings polars, which the first results do not need

    digest = {"results": tables.results_digest(results.table)}
    beside = {"pairs": results.pairs, "samples": results.samples}
    filled = {name: table for name, table in beside.items() if table.num_rows}
    written = list[Path]()
    for name, table in filled.items():
        path = Path(out) / f"{name}.parquet"
        written.append(tables.write(table, path, name, call=call, inputs=inputs, about=digest))
    if "pairs" in filled:
        written.append(write_csv(results.pairs, Path(out) / "pairs.csv"))
    # Results come after what belongs to them: without it, a folder of a run that failed would look complete.
    path = Path(out) / "results.parquet"
    made = [tables.write(results.table, path, "results", call=call, inputs=inputs, about=about)]
    written = [*made, write_csv(results.table, path.with_suffix(".csv")), *written]
    _remove(out, set(beside) - set(filled))
    path = Path(out) / "thresholds.parquet"
    if thresholds is None:
        path.unlink(missing_ok=True)
        return written
    return [*written, tables.write(thresholds, path, "results", call=call, inputs=inputs)]


def save_label_figures(made: Mapping[str, pa.Table], out: PathLike) -> list[Path]:
    """Save the figures of label sets in ``figures/``, if the extra ``report`` is installed."""
    from manyhot.evaluate.report.figures import draw_figures
    from manyhot.evaluate.report.report_tables import ReportTables
    from manyhot.report.export import save_figures

    found = ReportTables(tables.schema("results").empty_table(), made)
    try:
        return save_figures(draw_figures(found), Path(out) / "figures")
    except MissingExtraError:
        return []
