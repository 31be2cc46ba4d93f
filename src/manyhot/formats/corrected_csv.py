"""A CSV file of labels, written again with corrected labels: the same columns, rows and ids."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from manyhot.classes import ClassList
from manyhot.core.sets import NO, NOT_ASKED, UNCLEAR, YES
from manyhot.errors import InputError, MatchError, counted, first_names
from manyhot.files import atomic_write
from manyhot.formats.class_cells import splitter
from manyhot.formats.class_names import ids_of_values
from manyhot.formats.headers import class_name_column, image_name_column, is_plural, separator_of
from manyhot.formats.indicator import read_indicator
from manyhot.formats.label_lists import names_of_cell
from manyhot.formats.reading import image_ids
from manyhot.formats.table_files import read_csv
from manyhot.formats.writing import Saved, check_apart, unique_names, usable, valid_classes
from manyhot.registry import register
from manyhot.tables import Labels
from manyhot.tables.arrays import states_of_labels
from manyhot.tables.frames import examples
from manyhot.tables.image_ids import without_option
from manyhot.tables.labels import with_ids_like

_TEXTS = {YES: "1", NO: "0", UNCLEAR: "-1"}
"""Cells of states that do not occur in the file."""


@register(
    "writer",
    "corrected-csv",
    holds=("labels",),
    suffixes=(".csv", ".tsv"),
    keeps=("original labels", "unusable images"),
)
def write_corrected_csv(
    labels: Labels, path: Path, classes: ClassList | None, *, original: str = ""
) -> Saved:
    """Write a CSV file of labels again, with the same columns, ids and order of rows, and with these labels.

    Only the labels of images whose label set has changed are replaced. If the file has one row for each
    label of an image, rows are removed and added. In rows with a new label, columns that differ between the
    rows of an image, such as the name of a rater, are empty. Images without label sets keep their labels, and
    so do names and columns that are not in the class list.

    Parameters
    ----------
    original : str
        The CSV file: a column of class names, or one column of zeros and ones per class.

    Raises
    ------
    InputError
        If `original` is not passed, or is not such a file.
    MatchError
        If none of its images has a label set.
    """
    file = Path(original)
    if not original or file.suffix.lower() not in (".csv", ".tsv") or not file.is_file():
        raise InputError(
            "Corrected labels are written in the layout of an existing CSV file.",
            where=path,
            got=original or "no file",
            allowed="a .csv or .tsv file with the labels before the correction",
            do="pass it in `to`: \"corrected-csv(original='labels.csv')\"",
        )
    check_apart([file], path)
    separator = separator_of(file)
    frame = read_csv(file, infer_schema=False)
    ids = image_name_column(frame.columns)
    if ids is None:
        raise InputError("The table has no column of image names.", where=file, got=", ".join(frame.columns))
    own = classes or labels.known_classes
    image_id = image_ids(frame[ids].to_arrow(), f"{file}, column {ids}")
    name = labels.name or "the label sets"
    with without_option():
        labels, _ = with_ids_like(labels, image_id.unique(), other_name=str(file))
    images = image_id.to_pylist()
    is_used = dict(zip(labels.image_id.to_pylist(), usable(labels), strict=True))
    shared = is_used.keys() & set(images)
    if not shared:
        raise MatchError(
            "None of the images of the CSV file has a label set.",
            where=file,
            got=f"images such as {examples(image_id)}",
            allowed=f"images such as {examples(labels.image_id)}",
        )
    column = class_name_column(frame.columns)
    if column is None:
        written, notes = _with_cells(frame, image_id, labels, own, file), list[str]()
    else:
        written, notes = _with_names(frame, column, images, labels, own, file)
    with file.open("rb") as opened:
        start = opened.readline()
    with atomic_write(path) as part:
        written.write_csv(
            part,
            separator=separator,
            include_bom=start.startswith(codecs.BOM_UTF8),
            line_terminator="\r\n" if start.endswith(b"\r\n") else "\n",
        )
    if absent := len(set(images) - shared):
        notes.append(f"images of {file.name} that are not in {name}: {absent:,}; they keep their labels")
    lost = len(is_used) - len(shared)
    left_out = (f"label sets of {counted(lost, 'image')} that {file.name} does not list",)
    return Saved((path,), left_out if lost else (), tuple(notes))


def _with_cells(
    frame: pl.DataFrame, image_id: pa.Array, labels: Labels, own: ClassList | None, file: Path
) -> pl.DataFrame:
    """Return a table with one column per class, in which the cells of changed states are replaced."""
    found = {c: k for c in frame.columns if own is not None and (k := own.find(c.strip())) is not None}
    if own is None or not found:
        raise InputError(
            "The file has no column of class names, and no column of one of the classes.",
            where=file,
            got=", ".join(frame.columns[:8]),
            do="pass the class list as `classes`" if own is None else "pass the file that was corrected",
        )
    before = states_of_labels(read_indicator(file, classes=own), own).state
    after = states_of_labels(labels, own).state
    place = dict(zip(labels.image_id.to_pylist(), range(len(labels)), strict=True))
    rows = np.array([place.get(image, -1) for image in image_id.to_pylist()])
    at = np.where(rows >= 0, rows, 0)
    texts = dict(_TEXTS)
    for column, k in found.items():
        states, first = np.unique(before[:, k], return_index=True)
        texts |= {s: frame[column][i] for s, i in zip(states.tolist(), first.tolist(), strict=True) if s}
    for column, k in found.items():
        new = np.where(rows >= 0, after[at, k], NOT_ASKED)
        cells = frame[column].to_list()
        for i in np.flatnonzero((new != NOT_ASKED) & (new != before[:, k])).tolist():
            cells[i] = texts[int(new[i])]
        frame = frame.with_columns(pl.Series(column, cells, pl.String))
    return frame


def _with_names(
    frame: pl.DataFrame,
    column: str,
    images: Sequence[str],
    labels: Labels,
    own: ClassList | None,
    file: Path,
) -> tuple[pl.DataFrame, list[str]]:
    """Return a table with a column of class names, in which the names of changed label sets are new."""
    cells = frame[column].fill_null("").to_list()
    lists = _Cells.of(column, cells, own, file)
    valid = valid_classes(labels, int)
    rows_of: dict[str, list[int]] = {}
    for row, image in enumerate(images):
        rows_of.setdefault(image, []).append(row)
    is_long = len(rows_of) < len(images) and all(len(ids) <= 1 for ids in lists.ids)
    new = {row: [(row, cell)] for row, cell in enumerate(cells)}
    n_several = n_empty = 0
    for image, rows in rows_of.items():
        sets, listed = valid.get(image), {c for row in rows for c in lists.ids[row]}
        unlisted = listed & lists.unlisted.keys()
        if sets is None or listed == {*sets, *unlisted}:
            continue
        sets = [*sets, *unlisted]
        n_empty += not sets
        n_several += len(sets) > 1
        new |= lists.changed(rows, sets, is_long=is_long)
    order, texts = zip(*(pair for row in range(len(cells)) for pair in new[row]), strict=True)
    written = frame[list(order)].with_columns(pl.Series(column, texts, pl.String).replace("", None))
    notes = []
    is_new = [lists.is_new(row, text) for row, text in zip(order, texts, strict=True)] if is_long else []
    if any(is_new):
        own_of_rows = _columns_of_rows(frame, images, column)
        written = written.with_columns(
            pl.when(pl.Series(is_new)).then(None).otherwise(pl.col(c)).alias(c) for c in own_of_rows
        )
        empty = f"; their cells in {', '.join(map(repr, own_of_rows))} are empty" if own_of_rows else ""
        notes.append(f"rows with a new class: {sum(is_new):,}{empty}")
    if lists.unlisted:
        names = first_names(lists.unlisted.values())
        notes.append(f"names in {column!r} that are not in the class list, or ambiguous, are kept: {names}")
    unclear = valid_classes(labels, int, "unclear")
    n_unclear = sum(c in unclear.get(image, ()) for c, image in _listed(lists.ids, images))
    if n_unclear:
        notes.append(
            f"classes that are left out because raters' answers leave them unclear: {n_unclear:,}; the "
            "corrected label sets list them as unclear"
        )
    if n_empty:
        notes.append(
            f"corrected images without a valid class: {n_empty:,}; their cells in {column!r} are empty"
        )
    if n_several and not (is_plural(column) or is_long):
        notes.append(
            f"corrected images with several valid classes: {n_several:,}; their cells in {column!r} list "
            f"them, separated by {lists.separator!r}"
        )
    return written, notes


def _listed(ids: Sequence[Sequence[int]], images: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield the classes of each row, with its image."""
    return ((c, image) for listed, image in zip(ids, images, strict=True) for c in listed)


def _columns_of_rows(frame: pl.DataFrame, images: Sequence[str], column: str) -> list[str]:
    """Return the columns, but for that of classes, with different values in rows of one image."""
    others = frame.drop(column).with_columns(pl.Series("", images))
    most = others.group_by("").agg(pl.exclude("").fill_null("").n_unique()).select(pl.exclude("").max())
    ids = image_name_column(frame.columns)
    return [c for c in most.columns if c != ids and most[c].item() > 1]


class _Cells:
    """The cells of a column of class names: their classes, and how names are written in them.

    Attributes
    ----------
    parts : list of list of str
        The names in each cell.
    ids : list of list of int
        The classes of each cell.
    separator : str
        What separates names; empty for lists as Python or JSON writes them.
    unlisted : dict of int to str
        The names that are not in the class list, by the number that stands for them in `ids`.
    """

    def __init__(
        self,
        parts: list[list[str]],
        ids: list[list[int]],
        names: Mapping[int, str],
        separator: str,
        quote: str,
        unlisted: Mapping[int, str],
    ) -> None:
        self.parts, self.ids, self.names, self.separator, self.quote = parts, ids, names, separator, quote
        self.unlisted = unlisted

    @classmethod
    def of(cls, column: str, cells: Sequence[str], own: ClassList | None, file: Path) -> _Cells:
        """Return the cells of a column."""
        split = splitter(column, set(cells), own, "", f"{file}, column {column}", False)
        parts = [list(names_of_cell(cell, split)) for cell in cells]
        texts = list(dict.fromkeys(name for names in parts for name in names))
        found = ids_of_values(texts, own and replace(own, is_complete=False), file).ids
        names = dict(enumerate(unique_names(own))) if own is not None else {}
        # As in the file, but a new label is no synonym of a class that the file also calls by its own name.
        own_names = {text for i, text in names.items() if found.get(text) == i}
        names |= {found[text]: text for text in reversed(texts) if names.get(found[text]) not in own_names}
        several = {cell: names for cell, names in zip(cells, parts, strict=True) if len(names) > 1}
        quoted = next((cell for cell in several or cells if cell.strip().startswith("[")), "")
        between = (
            cell.partition(first)[2].partition(second)[0] for cell, (first, second, *_) in several.items()
        )
        separator = "" if quoted else next(filter(None, between), "|")
        ids = [[found[name] for name in names] for names in parts]
        unlisted = {i: text for text, i in found.items() if own is not None and i >= len(own)}
        return cls(parts, ids, names, separator, '"' if '"' in quoted else "'", unlisted)

    def changed(
        self, rows: Sequence[int], valid: Sequence[int], *, is_long: bool
    ) -> dict[int, list[tuple[int, str]]]:
        """Return the rows that replace each row of an image: the row to copy, and the new cell."""
        listed = {c for row in rows for c in self.ids[row]}
        more = iter([c for c in valid if c not in listed])
        new: dict[int, list[tuple[int, str]]] = {}
        for row in rows:
            written = dict(zip(reversed(self.ids[row]), reversed(self.parts[row]), strict=True))
            kept = [written[c] for c in dict.fromkeys(self.ids[row]) if c in valid]
            if is_long:
                kept = kept or [self._name(c) for c in islice(more, 1)]
            elif row == rows[0]:
                kept += map(self._name, more)
            new[row] = [(row, self._text(kept))] if kept or not is_long else []
        new[rows[-1]] += [(rows[-1], self._text([self._name(c)])) for c in more]
        if not any(new.values()):
            new[rows[0]] = [(rows[0], "")]
        return new

    def is_new(self, row: int, cell: str) -> bool:
        """Return whether a cell of one name has another one than in this row of the file."""
        return bool(cell) and cell != self._text(self.parts[row])

    def _name(self, c: int) -> str:
        return self.names.get(c, str(c))

    def _text(self, names: Sequence[str]) -> str:
        if self.separator:
            return self.separator.join(names)
        return json.dumps(names, ensure_ascii=False) if self.quote == '"' else str(names)
