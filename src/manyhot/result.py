"""Results that write, print and show themselves."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Self

import pyarrow as pa

from manyhot import tables
from manyhot.console import TableLine
from manyhot.errors import InputError, MissingExtraError, rename_parameters
from manyhot.formats.writing import PathLike, check_apart, check_place
from manyhot.run import QUIET, Run, split_notes


@dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """Base class of results, which consist of tables and of notes on how to read them.

    Attributes
    ----------
    notes : tuple of str
        Remarks on what could not be computed and why, and on the limits of the results.
    metadata : Mapping of str to str
        Settings that are stored in the metadata of each file, such as thresholds.
    inputs : Mapping of str to str
        The SHA-256 hash of each file that was read, by name.
    written : tuple of Path
        Files that the command wrote to its folder while it ran.
    read : tuple of str
        How each file of another tool, and each frame, was read: as what, in which format, how many images and
        classes, an example, and the columns that were ignored. Empty for manyhot's own tables.
    """

    notes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    written: tuple[Path, ...] = ()
    read: tuple[str, ...] = ()

    exit_code: ClassVar[int] = 0
    """What the command exits with."""

    TARGET: ClassVar[tuple[str, str]] = ("FOLDER", "Folder to write to. It is created if it does not exist.")
    """What ``--out`` names, and its help."""

    DRAWS: ClassVar[bool] = False
    """Whether `write` draws figures, too, where the extra ``report`` is installed."""

    NAMES: ClassVar[tuple[str, ...]] = ()
    """The tables that `write` writes; see `manyhot.tables.TABLES`."""

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The tables by name."""
        # The only table of a result may be called `table`.
        return {name: getattr(self, name if hasattr(self, name) else "table") for name in self.NAMES}

    @property
    def _frame(self) -> pa.Table:
        """The table that `to_polars` and `to_pandas` return: by default the first."""
        return next(iter(self.tables.values()))

    def to_polars(self) -> Any:
        """Return the main table as a polars.DataFrame; `tables` contains all tables."""
        import polars as pl

        return pl.from_arrow(self._frame)

    def to_pandas(self) -> Any:
        """Return the main table as a pandas.DataFrame; `tables` contains all tables.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        return as_pandas(self._frame)

    def lines(self) -> Iterator[str]:
        """Yield what a terminal shows."""
        raise NotImplementedError

    def stream(self, run: Run) -> Self:
        """Report as events what should be seen before the result is written; `lines` then leaves it out."""
        run.doubts(self.notes)
        return self

    def to_json(self) -> Any:
        """Return the object that ``--json`` prints: the rows of each table (NaN as null) and the notes."""
        rows = {name: [_finite(row) for row in t.to_pylist()] for name, t in self.tables.items()}
        return {**rows, "notes": self.notes}

    def write(self, out: PathLike, *, run: Run = QUIET) -> list[Path]:
        """Write the tables to a folder as Parquet and CSV files, and return the paths.

        Parameters
        ----------
        out : path-like
            A folder. For a result with one table, also a file that ends in ``.parquet`` or ``.csv``.
        run : Run
            The run. Its command line is stored in the metadata.

        Raises
        ------
        OutputError
            If a file cannot be written. Each file is written completely or not at all.
        """
        from manyhot.formats.csv_tables import write_csv  # brings polars, which predicting does not need

        about = {"notes": json.dumps(self.notes, ensure_ascii=False), **self.metadata}
        written = []
        for name, table in self.tables.items():
            for path in self._paths(out, name):
                if path.suffix == ".csv":
                    written.append(write_csv(table, path))
                    continue
                tables.write(table, path, name, call=run.call, inputs=self.inputs, about=about)
                written.append(path)
        return written

    @classmethod
    def is_file(cls, out: PathLike) -> bool:
        """Return whether `out` is a file for the only table and not a folder."""
        return len(cls.NAMES) == 1 and Path(out).suffix.lower() in (".parquet", ".csv")

    @classmethod
    def _paths(cls, out: PathLike, name: str) -> tuple[Path, ...]:
        """Return the files that a table is written to."""
        if cls.is_file(out):
            return (Path(out),)
        return tuple(Path(out) / f"{name}{suffix}" for suffix in (".parquet", ".csv"))

    @classmethod
    def check_out(cls, out: PathLike, sources: Iterable[object]) -> None:
        """Raise an error if `write` would overwrite an input, or another table in the folder.

        Raises
        ------
        InputError
        """
        if len(cls.NAMES) == 1 and _ANOTHER_KIND.fullmatch(Path(out).suffix) and not Path(out).is_dir():
            raise InputError(
                "Cannot write this kind of file.", where=out, allowed=".parquet, .csv, or a folder"
            )
        check_apart(sources_of(sources, cls.NAMES), out, cls.NAMES)
        for name in cls.NAMES:
            check_place(cls._paths(out, name)[0], name)

    def renamed(self, names: Mapping[str, str]) -> Self:
        """Return the result with the parameters in backticks renamed in its notes."""
        notes = tuple(rename_parameters(note, names) for note in self.notes)
        stored = (
            {"notes": rename_parameters(self.metadata["notes"], names)} if "notes" in self.metadata else {}
        )
        return replace(self, notes=notes, metadata={**self.metadata, **stored})

    def __str__(self) -> str:
        """Return what a terminal shows, and the notes."""
        return "\n".join(self._lines_and_notes())

    def _repr_html_(self) -> str:
        return "".join(_html_parts(self._lines_and_notes()))

    def _lines_and_notes(self) -> Iterator[str]:
        doubts, others = split_notes(self.notes)
        yield from (f"Note: {note}." for note in doubts)
        yield from self.lines()
        yield from (f"Read {line}." for line in self.read)
        yield from (f"Note: {note}." for note in others)


_LONGEST = 110
"""Characters of a line that a page shows unwrapped."""


def _html_parts(lines: Iterable[str]) -> Iterator[str]:
    """Yield what a terminal shows as HTML that is no wider than its page: tables, paragraphs, short lines."""
    for is_short, group in groupby(lines, lambda line: type(line) is str and len(line) <= _LONGEST):
        found = list(group)
        if is_short:
            text = "\n".join(found).strip("\n")
            yield f"<pre>{html.escape(text)}</pre>" if text else ""
            continue
        for line in found:
            if isinstance(line, TableLine):
                yield line.as_html()
            else:
                yield f'<p style="max-width: 60em">{html.escape(line)}</p>'


_ANOTHER_KIND = re.compile(r"\.(?!parquet$|csv$)[a-z]{2,8}", re.IGNORECASE)
"""The ending of a file that is neither Parquet nor CSV."""


def as_pandas(table: pa.Table) -> Any:
    """Return a table as a pandas.DataFrame.

    Raises
    ------
    MissingExtraError
        If pandas is not installed.
    """
    try:
        return table.to_pandas()
    except ImportError as error:
        raise MissingExtraError("This needs pandas.", do='pip install "manyhot[pandas]"') from error


def sources_of(sources: Iterable[object], made: Collection[str] = ()) -> list[object]:
    """Return the sources and the Parquet files inside source folders, except the tables in `made`."""
    found = list(sources)
    folders = [Path(s) for s in found if isinstance(s, str | os.PathLike) and Path(s).is_dir()]
    own = (path for folder in folders for path in folder.glob("*.parquet"))
    return [*found, *(path for path in own if path.stem not in made)]


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if value != value else value for name, value in row.items()}
