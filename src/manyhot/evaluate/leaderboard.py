"""The leaderboard: ranked models as a table to read, write or print."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa

from manyhot.command import command
from manyhot.console import table_lines
from manyhot.data.benchmarks import ResultsLike, flattened, read_source
from manyhot.errors import InputError, first_names
from manyhot.evaluate.joined_models import join, unstored_notes
from manyhot.evaluate.ranks import narrow, rank_models
from manyhot.evaluate.terminal import span_text
from manyhot.evaluate.write import error_in_a_line
from manyhot.formats.writing import PathLike, check_apart
from manyhot.parameters import AtLeast, Positional, Shown, Was
from manyhot.report.export import for_paper, write_text_table
from manyhot.result import Result
from manyhot.run import QUIET, Run
from manyhot.tables import Results

Format = Literal["table", "csv", "markdown", "latex", "json"]

TEXT_SUFFIXES: Mapping[str, Format] = {".csv": "csv", ".json": "json", ".md": "markdown", ".tex": "latex"}
"""How a leaderboard is written, by the suffix of its file."""


@dataclass(frozen=True, eq=False)
class Leaderboard(Result):
    """Models, ranked.

    Attributes
    ----------
    ranked : pyarrow.Table
        See `manyhot.evaluate.ranks.rank_models`.
    to : str
        Output format of `lines`.
    written
        As in `Result`.
    """

    ranked: pa.Table
    to: Format = "table"

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The table by its name."""
        return {"leaderboard": self.ranked}

    def text(self, to: Format, path: Path | None = None) -> str:
        """Return the leaderboard as text, and write it to `path` if a path is passed.

        Parameters
        ----------
        to : {"csv", "json", "markdown", "latex"}
            Output format. Markdown and LaTeX have only the columns that fit on a page, and shares in percent.
        path : Path, optional
        """
        table = self.ranked if to in ("csv", "json") else for_paper(narrow(self.ranked))
        return write_text_table(table, to, path)

    def write(self, out: PathLike, *, run: Run = QUIET) -> list[Path]:
        """Write a file in the format of its suffix: .csv, .json, .md or .tex.

        Raises
        ------
        InputError
            If the file has another suffix, and `to` is ``table``.
        """
        path = Path(out)
        to = self.to if self.to != "table" else TEXT_SUFFIXES.get(path.suffix.lower())
        if to is None:
            raise InputError("Cannot write this kind of file.", where=path, allowed=", ".join(TEXT_SUFFIXES))
        self.text(to, path)
        return [path]

    def lines(self) -> Iterator[str]:
        """Yield the table or the text in the requested format; nothing if it was written to a file."""
        if self.written:
            return
        yield from (
            ranked_lines(narrow(self.ranked)) if self.to == "table" else self.text(self.to).splitlines()
        )


@command(
    "leaderboard",
    examples=("manyhot leaderboard --top 10", "manyhot leaderboard results --by mla --to markdown"),
)
def leaderboard(
    results: Annotated[ResultsLike, Positional()] = ("timm-results",),
    *,
    by: Annotated[str, Shown("METRIC")] = "",
    dataset: str = "",
    top: Annotated[int, AtLeast(0)] = 20,
    strict: bool = False,
    to: Annotated[Format, Was("--format")] = "table",
    out: Annotated[PathLike | None, Shown("FILE")] = None,
    run: Run = QUIET,
) -> Leaderboard:
    """Rank models by a metric, with intervals, numbers of parameters and pretraining.

    Parameters
    ----------
    results
        Folders or files of results, or timm-results, as for compare; by default timm-results. Models from
        different folders are ranked together if they were evaluated on the same labels with the same options.
        If some of several files or folders cannot be read, they are skipped, and a note names them.
    by
        Metric to rank by; by default real1 or, if most models have no real1, the first metric that most have.
    dataset
        Name of the data set to rank on; by default the first data set of the results.
    top
        Maximum number of models to show; 0 for all.
    strict
        Stop with an error at the first results that cannot be read, instead of skipping them with a note.
    to
        Output format; for a file, by default the format of its suffix. Markdown and LaTeX have only the
        columns that fit on a page; CSV and JSON have all columns.
    out
        File to write, with the suffix .csv, .json, .md or .tex.

    Returns
    -------
    Leaderboard

    Raises
    ------
    InputError
        If the file has none of these suffixes, or none of the results can be read.
    MatchError
        If there are no results for the metric on the data set, or if models from different results were not
        evaluated in the same way.
    ManyhotError
        If results do not exist, or cannot be downloaded.
    """
    if out is not None:
        check_apart(flattened(results), out)
    parts, unread = _readable(flattened(results), strict, run)
    ranked = rank_models(join(parts), by=by, dataset=dataset)
    notes = (*unread, *_left_out(ranked), *unstored_notes(parts))
    board = Leaderboard(ranked.slice(0, top) if top else ranked, to, notes=notes)
    return board if out is None else replace(board, written=tuple(board.write(out)))


def _readable(sources: Sequence[Any], strict: bool, run: Run) -> tuple[list[Results], list[str]]:
    """Return the results that can be read, and a note on each file or folder that cannot."""
    parts, notes = list[Results](), list[str]()
    for source in sources:
        try:
            parts += read_source(source, run)
        except InputError as error:
            is_last_hope = source is sources[-1] and not parts
            if (
                strict
                or is_last_hope
                or not isinstance(source, str | os.PathLike)
                or not Path(source).exists()
            ):
                raise
            notes.append(f"{source} is skipped: {error_in_a_line(error)}")
    return parts, notes


def _left_out(ranked: pa.Table) -> Iterator[str]:
    """Yield notes on models that are not ranked, because they have no value there."""
    about = _about(ranked)
    (by,), without = about["units"], about["without"]
    if without["models"]:
        do = f"; to rank by {without['metric']}: manyhot leaderboard RESULTS --by {without['metric']}"
        names = first_names(without["models"], 8)
        yield f"without {by}: {names}{do if without['metric'] else ''}"
    if about["elsewhere"]:
        yield (
            f"evaluated only on other data sets: {first_names(about['elsewhere'], 8)}; to rank on one of "
            "these, pass its name as `dataset`"
        )


def _about(ranked: pa.Table) -> dict[str, Any]:
    return {k.decode().removeprefix("manyhot."): json.loads(v) for k, v in ranked.schema.metadata.items()}


def ranked_lines(shown: pa.Table) -> Iterator[str]:
    """Yield a narrow leaderboard."""
    value = shown.column_names[shown.column_names.index("lo") - 1]
    columns = [c for c in shown.column_names if c not in ("lo", "hi")]
    about = _about(shown)
    n, without, by = about["models"], about["without"], value.rpartition(" ")[2]
    unit = about["units"][by]
    rows = []
    for r in shown.to_pylist():
        cells = {c: _cell(c, r[c]) for c in columns}
        if unit != "share" and r[value] is not None:
            cells[value] = f"{r[value]:.2f} {unit}".strip()
        if r["lo"] is not None:
            cells[value] += f" ({span_text(r['lo'], r['hi'], 100 if unit == 'share' else 1)})"
        rows.append(tuple(cells.values()))
    counts = " of ".join(f"{k:,}" for k in dict.fromkeys((len(shown), n + len(without["models"]))))
    yield f"{counts} model{'' if counts == '1' else 's'}, the best by {value} first"
    yield from table_lines(tuple("best rank" if c == "best_rank" else c for c in columns), rows)
    images = about["images"]
    others = (f"{c} {_images(*images[c])}" for c in columns if c in images and c != value)
    if listed := "; ".join(others):
        yield f"images: {listed}"
    if "best_rank" in columns:
        yield (
            "best rank: 1 plus the number of models that are better beyond noise, that is with p below 0.05 "
            f"after Holm's correction for all {about['pairs']:,} pairs of models"
        )
    if about["unranked"]:
        hidden = about["unranked"] - shown["rank"].null_count
        yield (
            f"without a rank: {about['unranked']:,} evaluated on other images"
            f"{f', of which {hidden:,} are not shown' if hidden else ''}"
        )


def _images(fewest: int, most: int) -> str:
    return f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"


def _cell(column: str, value: Any) -> str:
    if value is None or value != value:
        return "–"
    if isinstance(value, float):
        return f"{value:.2%}" if " " in column else f"{value:.4g} M"
    return f"{value:,}" if column == "n" else str(value)
