"""Columns of a table that make no difference to what a format reads from it.

No reader has to say which columns it uses: a sample of the table is read again without each column, and with
other values in it. If the reader looks at the column, it fails or reads something else. Nothing is concluded
from a column whose values are all equal, because other values might have made a difference.
"""

from __future__ import annotations

import csv
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from manyhot.formats.headers import separator_of
from manyhot.registry import Entry
from manyhot.tables import Golden, Images, Labels, Predictions, Votes

_ROWS = 64
"""Rows of the sample."""

_NUMBER = re.compile(r"-?\d+([.,]\d*)?(e-?\d+)?|true|false", re.IGNORECASE)

_LARGEST = 2**24
"""Bytes of a JSON file that is not in lines, which has to be read whole."""

_MOST = 24
"""Columns that are tried. A table with more columns that are not classes has many of one kind."""


def ignored_columns(path: Path, entry: Entry, content: Any, options: Mapping[str, Any]) -> list[str]:
    """Return the columns that a reader ignores; empty if this cannot be found out.

    Parameters
    ----------
    path : Path
        A CSV, TSV or Parquet file, or JSON with one object per row.
    entry : Entry
        The format with which the file was read.
    content : Any
        What was read. Columns that are called like one of its classes are not tried.
    options : mapping of str to Any
        The options with which the file was read.
    """
    sample = _sample(path)
    if sample is None or not isinstance(content, Images | Labels | Predictions | Votes | Golden):
        return []
    classes = getattr(content, "class_list", None) or options.get("classes")
    known = {*classes.keys, *classes.names} if classes else set()
    others = [name for name in sample.varying() if name.strip() not in known]
    if not others or len(others) > _MOST or len(sample.names) < 2:
        return []
    with tempfile.TemporaryDirectory() as folder:
        read = _Reader(Path(folder) / path.name, entry, options)
        whole = read(sample)
        if whole is None:
            return []
        return [n.strip() for n in others if all(read(v) == whole for v in sample.variants(n))]


@dataclass(frozen=True)
class _Reader:
    path: Path
    entry: Entry
    options: Mapping[str, Any]

    def __call__(self, sample: _Rows | _Columns | _Objects) -> list[Any] | None:
        """Return what is read from a sample, in a form that can be compared; None if it cannot be read."""
        sample.write(self.path)
        try:
            return list(_values(self.entry(self.path, **self.options)))
        except Exception:  # whatever a reader raises, it has looked at the column
            return None


def _values(content: Any) -> Iterator[Any]:
    if isinstance(content, Golden):
        content = content.experts
    classes = getattr(content, "class_list", None)
    yield None if classes is None else (classes.keys, classes.names)
    yield getattr(content, "n_classes", None)
    table = content.table if hasattr(content, "table") else content.to_table()
    yield table.replace_schema_metadata(None)
    yield getattr(content, "score_kind", "")


@dataclass(frozen=True)
class _Rows:
    """Rows of a text file."""

    names: Sequence[str]
    rows: Sequence[Sequence[str]]
    separator: str

    def varying(self) -> list[str]:
        """Return the columns with different values."""
        columns = zip(self.names, zip(*self.rows, strict=True), strict=True)
        return [name for name, cells in columns if len({*cells}) > 1]

    def variants(self, name: str) -> Iterator[_Rows]:
        """Yield the rows without a column, and with other values in it."""
        at = list(self.names).index(name)
        own = [row[at] for row in self.rows]
        yield self._with(at, None)
        yield self._with(at, [*own[1:], own[0]])
        if any(_NUMBER.fullmatch(value.strip()) for value in own):
            yield from (self._with(at, [value] * len(own)) for value in ("0", "1"))

    def _with(self, at: int, cells: Sequence[str] | None) -> _Rows:
        new = [[]] * len(self.rows) if cells is None else [[cell] for cell in cells]
        rows = [[*row[:at], *n, *row[at + 1 :]] for row, n in zip(self.rows, new, strict=True)]
        names = self.names if cells is not None else [*self.names[:at], *self.names[at + 1 :]]
        return _Rows(names, rows, self.separator)

    def write(self, path: Path) -> None:
        """Write the rows to a file."""
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=self.separator).writerows([self.names, *self.rows])


@dataclass(frozen=True)
class _Columns:
    """Rows of a Parquet file."""

    table: pa.Table

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return list(self.table.column_names)

    def varying(self) -> list[str]:
        """Return the columns with different values."""
        return [n for n in self.names if len({repr(v) for v in self.table[n].to_pylist()}) > 1]

    def variants(self, name: str) -> Iterator[_Columns]:
        """Yield the table without a column, and with other values in it."""
        at, own, n = self.names.index(name), self.table[name], len(self.table)
        yield _Columns(self.table.drop_columns([name]))
        yield self._with(at, own.take(pa.array([*range(1, n), 0])))
        if pa.types.is_boolean(own.type) or pa.types.is_integer(own.type) or pa.types.is_floating(own.type):
            yield from (self._with(at, pa.repeat(pa.scalar(value).cast(own.type), n)) for value in (0, 1))

    def _with(self, at: int, cells: pa.Array) -> _Columns:
        return _Columns(self.table.set_column(at, self.names[at], cells))

    def write(self, path: Path) -> None:
        """Write the rows to a file."""
        pq.write_table(self.table, path)


@dataclass(frozen=True)
class _Objects:
    """Rows of a JSON file: a list of objects, or one object per line."""

    rows: Sequence[Mapping[str, Any]]
    is_lines: bool

    @property
    def names(self) -> list[str]:
        """The keys, in the order in which they occur."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def varying(self) -> list[str]:
        """Return the keys with different values."""
        return [name for name in self.names if len({repr(row.get(name)) for row in self.rows}) > 1]

    def variants(self, name: str) -> Iterator[_Objects]:
        """Yield the rows without a key, and with other values for it."""
        own = [row.get(name) for row in self.rows]
        yield _Objects([{n: v for n, v in row.items() if n != name} for row in self.rows], self.is_lines)
        yield self._with(name, [*own[1:], own[0]])
        if any(isinstance(value, int | float) for value in own):
            yield from (self._with(name, [value] * len(own)) for value in (0, 1))

    def _with(self, name: str, values: Sequence[Any]) -> _Objects:
        rows = [{**row, name: value} for row, value in zip(self.rows, values, strict=True)]
        return _Objects(rows, self.is_lines)

    def write(self, path: Path) -> None:
        """Write the rows to a file."""
        rows = [*map(json.dumps, self.rows)]
        path.write_text("\n".join(rows) if self.is_lines else f"[{', '.join(rows)}]", encoding="utf-8")


def _objects(path: Path) -> _Objects | None:
    with path.open(encoding="utf-8-sig") as file:
        if file.read(1) == "{":
            file.seek(0)
            return _objects_of([json.loads(line) for line in islice(filter(str.strip, file), _ROWS)], True)
    if path.stat().st_size > _LARGEST:
        return None
    return _objects_of(json.loads(path.read_text(encoding="utf-8-sig")), False)


def _objects_of(rows: Any, is_lines: bool) -> _Objects | None:
    """Return objects with different keys; None for one object, and for other values."""
    if not isinstance(rows, list) or len(rows) < 2 or not all(isinstance(row, dict) for row in rows[:_ROWS]):
        return None
    return _Objects(rows[:_ROWS], is_lines)


def _sample(path: Path) -> _Rows | _Columns | _Objects | None:
    """Return the first rows of a table; None for other files."""
    suffix = path.suffix.lower()
    if suffix in (".json", ".jsonl") and path.is_file():
        try:
            return _objects(path)
        except ValueError:  # one object on several lines
            return None
    if suffix == ".parquet" and path.is_file():
        batch = next(pq.ParquetFile(path).iter_batches(_ROWS), None)
        return None if batch is None else _Columns(pa.Table.from_batches([batch]))
    if suffix not in (".csv", ".tsv"):
        return None
    separator = separator_of(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        names, *rows = islice(csv.reader(file, delimiter=separator), _ROWS + 1)
    rows = [row for row in rows if len(row) == len(names)]
    return _Rows(names, rows, separator) if rows else None
