"""How a file was read, in one line, so that users notice a wrong reading before they trust a number.

No reader has to say which columns it uses: a sample of the table is read again without each column, and with
other values in it. If the reader looks at the column, it fails or reads something else. Nothing is concluded
from a column whose values are all equal, because other values might have made a difference.
"""

from __future__ import annotations

import csv
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import compute as pc

from manyhot.classes import ClassList, class_list_of
from manyhot.core.answers import ANSWERS
from manyhot.errors import counted
from manyhot.files import cache_folder
from manyhot.formats.headers import separator_of
from manyhot.formats.reading import declared
from manyhot.registry import Entry
from manyhot.run import FilesRead
from manyhot.tables import Golden, Images, Labels, Predictions, Votes
from manyhot.tables.votes import COUNTED_CLASS

_LISTED = 3
"""Classes and raters that a line names."""

_SEARCHED = 1000
"""Images among which one with labels is looked for."""


def add_file(path: Path, entry: Entry, content: Any, options: Mapping[str, Any]) -> None:
    """Add a file of labels, images, predictions or votes to those that the call has read.

    manyhot's own files and published files, which can be read in only one way, are left out.
    """
    found, content = FilesRead.current(), content.experts if isinstance(content, Golden) else content
    is_described = isinstance(content, Labels | Images | Predictions | Votes)
    if found is None or not is_described or declared(path) or cache_folder() in path.parents:
        return
    kind, name = f"{entry.about['holds']} ({entry.name})", found.frame or path.name

    def describe() -> str:
        about = _parts(content, options)
        parts = [f"{name} as {kind}: {next(about)}", *about]
        if ignored := _ignored_columns(path, entry, content, options):
            parts.append(f"ignored columns: {_some(ignored, 8)}")
        return "; ".join(parts)

    found.add(kind, found.frame or str(path), describe)


def add_arrays(name: str, content: Labels | Predictions) -> None:
    """Add an array, a list or a frame of numbers, which are not read through a file, to what was read."""
    kind = f"{'labels' if isinstance(content, Labels) else 'predictions'} (in memory)"
    if (found := FilesRead.current()) is not None:
        about = _parts(content, {})
        found.add(kind, name, lambda: "; ".join([f"{name} as {kind}: {next(about)}", *about]))


def add_column(name: str, column: str, values: pa.Array) -> None:
    """Add a column of an images table that has different texts for one number, such as 100 and 100.0."""
    found = FilesRead.current()
    if found is None or pa.types.is_nested(values.type) or pa.types.is_primitive(values.type):
        return
    texts = filter(_NUMBER.fullmatch, pc.unique(values.cast(pa.string()).drop_null()).to_pylist())
    seen: dict[float, str] = {}
    pairs = ((seen.setdefault(float(text), text), text) for text in sorted(texts))
    if pair := next((pair for pair in pairs if pair[0] != pair[1]), None):
        line = (
            f"the column {column} of {name} as text: {' and '.join(pair)} are two values, although they are "
            "the same number; to unite them, write all numbers of the column in the same way"
        )
        found.add(f"column {column}", name, lambda: line)


_NUMBER = re.compile(r"[+-]?\d{1,15}(\.\d*)?")
"""Numbers as texts. Texts with more digits are codes, of which two may be the same float."""


def _parts(content: Labels | Images | Predictions | Votes, options: Mapping[str, Any]) -> Iterator[str]:
    """Yield how much there is of what, and an example."""
    if isinstance(content, Labels):
        classes = _classes(content, options)
        yield f"{counted(len(content), 'image')}, {_size(content, classes)}"
        yield from _labels_example(content, classes)
    elif isinstance(content, Predictions):
        classes = _classes(content, options)
        ranked = "" if content.classes is None else f"the best {content.classes.shape[1]} "
        of = "of " if ranked and classes is not None else ""
        yield f"{counted(len(content), 'image')}, {ranked}{of}{_size(content, classes)}"
        kind = {"none": "no scores", "score": "scores of undeclared kind"}
        yield kind.get(content.score_kind, f"scores: {content.score_kind}")
        yield _prediction(content, classes)
    elif isinstance(content, Votes):
        raters = content.rater_id.to_pylist()
        size = counted(len(content.cast), "vote" if content.kind else "answer")
        is_known = content.kind != COUNTED_CLASS
        who = f", {counted(len(raters), 'rater')} ({_some(raters, _LISTED)})" if is_known else ""
        yield size + (who or " of unknown raters")
        if len(content):
            at = content.cast[0]
            q, rater = content.question[at], f"{raters[content.rater[at]]} on " * is_known
            name = _name(_classes(content, options), int(content.class_id[q]))
            answer = "" if content.kind else f" {ANSWERS[content.answer[at]]}"
            yield f"{rater}{content.image_id[q]}: {name}{answer}"
    else:
        yield counted(len(content), "image")
        label = None if content.label is None else content.label[0].as_py()
        shown = "no label" if label is None else _name(_classes(content, options), label)
        yield f"{content.image_id[0]}: {shown}"


def _labels_example(labels: Labels, classes: ClassList | None) -> Iterator[str]:
    rows = labels.table.slice(0, _SEARCHED).select(["image_id", "classes", "state"]).to_pylist()
    for row in rows:
        pairs = zip(row["classes"] or (), row["state"] or (), strict=True)
        if valid := [_name(classes, c) for c, state in pairs if state == "yes"]:
            yield f"{row['image_id']}: {_some(valid, _LISTED)}"
            return


def _prediction(predictions: Predictions, classes: ClassList | None) -> str:
    scores = None if predictions.scores is None else np.asarray(predictions.scores[0], np.float64)
    if predictions.classes is not None:
        best = [int(c) for c in predictions.classes[0] if c >= 0][:_LISTED]
    else:
        assert scores is not None
        best = [int(c) for c in np.argsort(-scores, kind="stable")[:_LISTED]]
    names = [_name(classes, c) for c in best]
    if scores is not None:
        shown = scores[: len(best)] if predictions.classes is not None else scores[best]
        names = [f"{name} ({score:.3g})" for name, score in zip(names, shown, strict=True)]
    return f"{predictions.image_id[0]}: {', '.join(names) or 'nothing'}"


def _classes(content: Any, options: Mapping[str, Any]) -> ClassList | None:
    own = getattr(content, "class_list", None) or options.get("classes")
    return own or class_list_of(getattr(content, "class_hash", ""))


def _name(classes: ClassList | None, number: int) -> str:
    known = classes is not None and number < len(classes)
    return classes.names[number] if known else f"class {number}"  # type: ignore[union-attr]


def _size(content: Labels | Predictions, classes: ClassList | None) -> str:
    if classes is None:  # how many there are is only assumed
        return "classes as numbers"
    return f"{counted(content.n_classes, 'class')} ({_some(classes.names, _LISTED)})"


def _some(names: Iterable[str], n: int) -> str:
    listed = [f'"{name}"' if "," in name else name for name in names]
    return ", ".join([*listed[:n], *["…"] * (len(listed) > n)])


_ROWS = 64
"""Rows of the sample."""

_NUMBER = re.compile(r"-?\d+([.,]\d*)?(e-?\d+)?|true|false", re.IGNORECASE)

_LARGEST = 2**24
"""Bytes of a JSON file that is not in lines, which has to be read whole."""

_MOST = 24
"""Columns that are tried. A table with more columns that are not classes has many of one kind."""


def _ignored_columns(path: Path, entry: Entry, content: Any, options: Mapping[str, Any]) -> list[str]:
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
    if sample is None:
        return []
    classes = getattr(content, "class_list", None) or options.get("classes")
    known = {*classes.keys, *classes.names} if classes else set()
    names = [name.strip() for name in sample.table.column_names]
    others = [at for at, name in enumerate(names) if name not in known and sample.varies(at)]
    if not others or len(others) > _MOST or len(names) < 2:
        return []
    with tempfile.TemporaryDirectory() as folder:
        read = partial(_read, path=Path(folder) / path.name, entry=entry, options=options)
        whole = read(sample)
        if whole is None:
            return []
        ignored = (at for at in others if all(read(v) == whole for v in sample.variants(at)))
        return [names[at] or "(no name)" for at in ignored]


def _read(sample: _Sample, path: Path, entry: Entry, options: Mapping[str, Any]) -> list[Any] | None:
    """Return what is read from a sample, in a form that can be compared; None if it cannot be read."""
    sample.write(sample.table, path)
    try:
        return list(_values(entry(path, **options)))
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
class _Sample:
    """The first rows of a file, and how they are written.

    The cells of CSV and of JSON are texts, as in the file. A key that an object of JSON lacks is null.
    """

    table: pa.Table
    write: Callable[[pa.Table, Path], object]
    are_texts: bool = True

    def _cells(self, at: int) -> pa.ChunkedArray:
        column = self.table.column(at)
        return column.fill_null("null") if self.are_texts else column

    def varies(self, at: int) -> bool:
        """Return whether a column has different values."""
        return len({repr(value) for value in self._cells(at).to_pylist()}) > 1

    def _has_numbers(self, at: int) -> bool:
        cells = self._cells(at)
        if self.are_texts:
            return any(_NUMBER.fullmatch(text.strip()) for text in cells.to_pylist())
        are_numbers = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating)
        return any(are(cells.type) for are in are_numbers)

    def variants(self, at: int) -> Iterator[_Sample]:
        """Yield the rows without a column, then the rows with other values in this column."""
        cells, name, n = self._cells(at), self.table.column_names[at], len(self.table)
        yield replace(self, table=self.table.remove_column(at))
        others = [cells.take(pa.array([*range(1, n), 0]))]
        if self._has_numbers(at):
            others += [pa.repeat(pa.scalar(value).cast(cells.type), n) for value in (0, 1)]
        yield from (replace(self, table=self.table.set_column(at, name, other)) for other in others)


def _write_csv(table: pa.Table, path: Path, *, separator: str) -> None:
    columns = [column.to_pylist() for column in table.columns]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=separator).writerows([table.column_names, *zip(*columns, strict=True)])


def _write_json(table: pa.Table, path: Path, *, are_lines: bool) -> None:
    rows = [
        "{" + ", ".join(f"{json.dumps(key)}: {text}" for key, text in row.items() if text is not None) + "}"
        for row in table.to_pylist()
    ]
    path.write_text("\n".join(rows) if are_lines else f"[{', '.join(rows)}]", encoding="utf-8")


def _objects(path: Path) -> _Sample | None:
    """Return a list of objects, or one object per line; None for one object, and for other values."""
    with path.open(encoding="utf-8-sig") as file:
        are_lines = file.read(1) == "{"
        if not are_lines and path.stat().st_size > _LARGEST:
            return None
        file.seek(0)
        lines = islice(filter(str.strip, file), _ROWS)
        rows = [json.loads(line) for line in lines] if are_lines else json.loads(file.read())
    if not isinstance(rows, list) or len(rows) < 2 or not all(isinstance(row, dict) for row in rows[:_ROWS]):
        return None
    texts = [{key: json.dumps(value) for key, value in row.items()} for row in rows[:_ROWS]]
    keys = dict.fromkeys(key for row in texts for key in row)
    columns = {key: pa.array([row.get(key) for row in texts], pa.string()) for key in keys}
    return _Sample(pa.table(columns), partial(_write_json, are_lines=are_lines))


def _sample(path: Path) -> _Sample | None:
    """Return the first rows of a table; None for other files."""
    suffix = path.suffix.lower()
    if suffix in (".json", ".jsonl") and path.is_file():
        try:
            return _objects(path)
        except ValueError:  # one object on several lines
            return None
    if suffix == ".parquet" and path.is_file():
        batch = next(pq.ParquetFile(path).iter_batches(_ROWS), None)
        return None if batch is None else _Sample(pa.Table.from_batches([batch]), pq.write_table, False)
    if suffix not in (".csv", ".tsv"):
        return None
    separator = separator_of(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        names, *rows = islice(csv.reader(file, delimiter=separator), _ROWS + 1)
    rows = [row for row in rows if len(row) == len(names)]
    columns = [pa.array(cells, pa.string()) for cells in zip(*rows, strict=True)]
    write = partial(_write_csv, separator=separator)
    return _Sample(pa.Table.from_arrays(columns, names), write) if rows else None
