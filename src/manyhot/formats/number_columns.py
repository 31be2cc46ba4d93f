"""Columns that contain numbers: the states or scores of a class, beside names of classes, or metadata."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from manyhot.classes import ClassList
from manyhot.core.array_types import Bytes, Floats
from manyhot.core.sets import UNCLEAR
from manyhot.errors import InputError, first_names
from manyhot.formats.class_numbers import keys_of_numbers
from manyhot.formats.headers import IMAGE_NAME_COLUMNS, RATER_NAMES, fold_name, image_name_column, is_metadata
from manyhot.formats.predicted_classes import SCORE_COLUMNS
from manyhot.formats.reading import cut_for_message, states_of_values
from manyhot.formats.table_files import NEARLY, column_names, read_frame
from manyhot.tables import STATES
from manyhot.tables.frames import check_unique
from manyhot.tables.unshared_classes import CELL_OF_CLASS

_TEXTS = {
    **dict.fromkeys(("true", "yes", "y", "wahr"), 1.0),
    **dict.fromkeys(("false", "no", "n", "falsch"), 0.0),
    **dict.fromkeys(("maybe", "unclear"), -1.0),
    **dict.fromkeys(("", "nan", "na", "n/a", "null", "none"), np.nan),
}
"""Texts in the cells of a class, in lower case; other cells must be numbers.

German spreadsheets write WAHR and FALSCH for true and false."""

_LETTERS = {"t": 1.0, "f": 0.0} | {text: value for text, value in _TEXTS.items() if value != value}
"""Texts in a column of Postgres; beside other texts, such as m, f has another meaning."""


@dataclass(frozen=True)
class NumberColumn:
    """A column of a table.

    Attributes
    ----------
    values : ndarray of float64, shape (n,)
        The numbers, with NaN for empty cells. The array is empty if the column does not contain numbers.
    is_whole, is_text : bool
        Whether the column contains whole numbers or flags (`is_whole`), or no numbers (`is_text`).
    odd : tuple of (int, str), optional
        In a column in which nearly all cells are numbers, `text`.
    text : tuple of (int, str), optional
        In a column of texts, the first row with a text that is not a number, and this text.
    share_of_states : float
        In a column of texts, the share of cells that are 0, 1, -1, yes, no or maybe among those that are not
        empty.
    """

    name: str
    values: Floats
    is_whole: bool = False
    is_text: bool = False
    odd: tuple[int, str] | None = None
    text: tuple[int, str] | None = None
    share_of_states: float = 0.0

    @property
    def holds_states(self) -> bool:
        """Whether all cells are 0, 1, -1 or empty, but not all are empty."""
        return not self.is_empty and not len(self.strange)

    @property
    def holds_scores(self) -> bool:
        """Whether the column contains scores, rather than only states or whole numbers, such as ages."""
        return not self.is_whole and len(self.strange) > 0

    @cached_property
    def is_empty(self) -> bool:
        """Whether no cell contains a number."""
        return bool(np.isnan(self.values).all())

    @cached_property
    def strange(self) -> Floats:
        """The values other than 0, 1 and -1."""
        return self.values[~(np.isnan(self.values) | np.isin(self.values, (0, 1, -1)))]


def value_columns(frame: pl.DataFrame) -> list[NumberColumn]:
    """Return the columns other than the names of images and the pandas index."""
    index = [c for c in frame.columns if fold_name(c) in IMAGE_NAME_COLUMNS[-2:]]
    skipped = {image_name_column(frame.columns), *index}
    return [_value_column(column) for column in frame.get_columns() if column.name not in skipped]


def _value_column(column: pl.Series) -> NumberColumn:
    values = _as_floats(column)
    if values is None:
        return NumberColumn(column.name, np.empty(0), False, True, *_odd_cell(column))
    if (text := _code_in(column, values)) is not None:
        return NumberColumn(column.name, np.empty(0), is_text=True, text=text)
    is_whole = column.dtype.is_integer() or column.dtype == pl.Boolean
    return NumberColumn(column.name, values, is_whole)


def _code_in(column: pl.Series, values: Floats) -> tuple[int, str] | None:
    """Return the first row with leading zeros in a column of texts, such as 0012, and its text."""
    if column.dtype not in (pl.String, pl.Categorical, pl.Enum) or not (values > 1).any():
        return None
    texts = column.cast(pl.String)
    rows = texts.str.contains(r"^\s*0\d+\s*$").fill_null(False).arg_true()
    return (rows[0], texts[rows[0]].strip()) if len(rows) else None


def _odd_cell(column: pl.Series) -> tuple[tuple[int, str] | None, tuple[int, str] | None, float]:
    """Return `odd`, `text` and `share_of_states` of a column of texts; see `NumberColumn`."""
    if column.dtype not in (pl.String, pl.Categorical, pl.Enum):
        return None, None, 0.0
    texts = column.cast(pl.String)
    numbers = numbers_in(texts)
    values = numbers.to_numpy()  # null becomes NaN, too
    is_odd = numbers.is_null().to_numpy()
    n = len(column) - np.count_nonzero(np.isnan(values) & ~is_odd)
    share_of_states = np.count_nonzero(np.isin(values, (0, 1, -1))) / n
    row = int(np.argmax(is_odd))
    text = (row, texts[row].strip())
    return (text if np.count_nonzero(is_odd) <= (1 - NEARLY) * n else None), text, share_of_states


def _as_floats(column: pl.Series) -> Floats | None:
    """Return a column as numbers; None if it contains other texts, lists or times."""
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    kind = column.dtype
    if kind == pl.String:
        column = numbers_in(column)
        if column.null_count():
            return None
    elif not (kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
        return None
    return column.cast(pl.Float64).fill_null(np.nan).to_numpy()


def numbers_in(column: pl.Series) -> pl.Series:
    """Return the numbers in a column of texts: NaN for empty cells, null for texts that are not numbers."""
    parsed = column.cast(pl.Float64, strict=False)
    if parsed.null_count() == column.null_count():  # the rest takes 3 ms for each column
        return parsed.fill_null(np.nan)
    texts = column.unique()
    folded = texts.str.strip_chars().str.to_lowercase()
    parsed = folded.cast(pl.Float64, strict=False)
    meanings = _LETTERS if folded.fill_null("").is_in([*_LETTERS]).all() else _TEXTS
    values = [meanings.get(t or "", n) for t, n in zip(folded.to_list(), parsed.to_list(), strict=True)]
    return column.replace_strict(texts, values, return_dtype=pl.Float64)


DESCRIBED = 8
"""Number of columns whose content is described in a message."""


def describe_columns(path: Path) -> list[str]:
    """Return the columns of a table, the first of them with their content, for a message."""
    try:
        columns = {c.name: _value_column(c) for c in read_flat_frame(path).get_columns()[:DESCRIBED]}
    except InputError:
        columns = {}
    return [f"{n} ({_content(columns[n])})" if n in columns else n for n in column_names(path)]


def _content(column: NumberColumn) -> str:
    if column.is_text:
        return "text"
    if column.holds_states:
        return "0 and 1" if np.nanmin(column.values) >= 0 else "0, 1 and -1"
    return "empty" if column.is_empty else "whole numbers" if column.is_whole else "numbers"


def read_flat_frame(path: Path, *, most_rows: int | None = None) -> pl.DataFrame:
    """Read a table without nested columns, because these can be neither classes nor names of images."""
    header = column_names(path)
    name, n = Counter(header).most_common(1)[0] if header else ("", 0)
    is_text, frame = path.suffix.lower() != ".parquet", None
    if is_text and (n < 2 or not name):
        frame = read_frame(path, most_rows=most_rows)  # without columns without a name and content
        n = n if len(frame.columns) > len(header) - n + 1 else 1
    if n > 1:
        raise InputError(
            "The table has two columns with the same name.",
            where=path,
            got=cut_for_message(repr(name)),
            do="drop or rename one of them"
            if name.strip()
            else "delete rows above the header, such as a title, and columns without a name",
        )
    if frame is not None:
        return frame
    nested = (pa.types.is_nested, pa.types.is_binary, pa.types.is_large_binary)
    return read_frame(path, [f.name for f in pq.read_schema(path) if not any(is_(f.type) for is_ in nested)])


STATES_OF_ANY = ("present", "is_present")
_STATES = (*STATES_OF_ANY, "valid", "value")
"""Columns that state for each class of an image whether it is valid; the first also if all are equal."""

_MOST_WORDS = 10
"""Number of different words up to which a column may contain decisions, and not comments."""


def stated_classes(
    path: Path, ids: str, label: str, classes: ClassList | None
) -> tuple[pl.DataFrame | None, tuple[str, ...]]:
    """Return the states of the classes in a table, as in a labels table in long form, and notes.

    There are states if the table has a column such as ``present`` of zeros and ones, or yes and no. A note
    names other columns that differ between the classes of an image and are not read.

    Raises
    ------
    InputError
        If a column such as ``present`` contains other numbers or words.
    """
    if len(column_names(path)) < 3:
        return None, ()
    frame = read_flat_frame(path)
    if not {ids, label} <= set(frame.columns):
        return None, ()
    columns = [c for c in value_columns(frame.drop(label)) if _may_state(c, frame, label)]
    varying = [c for c in columns if not is_metadata(c.name) and _differs(c, frame, ids)]
    named = [c for c in columns if fold_name(c.name) in _STATES]
    states = next((c for c in named if c in varying or fold_name(c.name) in STATES_OF_ANY), None)
    if states is not None:
        _check_states(states, frame[states.name], path)
        return _long(frame, ids, label, states.values, classes, path), ()
    varying = [c for c in varying if fold_name(c.name) not in SCORE_COLUMNS]  # these have a note of their own
    if not varying:
        return None, (*_note_on_full_lists(frame, ids, label), *_note_on_flags(columns, frame[ids], label))
    names = first_names([cut_for_message(c.name) for c in varying], 3)
    if _note_on_full_lists(frame, ids, label):
        raise InputError(
            "Each image lists all classes, and a column that is not read differs between them.",
            where=f"{path}, column {names}",
            got=f"{frame[label].n_unique():,} classes on each of {frame[ids].n_unique():,} images",
            allowed="rows of valid classes only, or a column present with 1 or yes for valid and 0 or no for "
            "not valid",
            do="rename the column to present if it states which classes are valid, or to score if it "
            "contains scores, and pass the file as predictions; remove it if it states neither",
        )
    return None, (
        f"the values in {names} differ between the classes of an image and are not read: every class that "
        "an image lists is valid; if they are scores, rename the column to score and pass the file as "
        "predictions, and if they state which classes are valid, rename it to present, with 1 or yes for "
        "valid and 0 or no for not valid",
    )


def check_one_row(columns: Sequence[NumberColumn], image_id: pa.Array, path: Path) -> None:
    """Raise an error for an image with several rows, each of which may be about another class."""
    if not image_id.null_count and (do := _name_the_class(columns)):
        check_unique(image_id, str(path), f"{do}; otherwise, retain one row per image")


def note_on_states(columns: Sequence[NumberColumn], chosen: Sequence[NumberColumn]) -> str:
    """Return a note if the only class is a column such as ``present``; empty if it is not."""
    do = _name_the_class(columns)
    if not do or [fold_name(c.name) in _STATES for c in chosen] != [True]:
        return ""
    return f"the only class is {chosen[0].name!r}: {do}"


def _name_the_class(columns: Sequence[NumberColumn]) -> str:
    """Return what to do if a column of texts names the class of each row; empty if there are no texts."""
    texts = [c.name for c in columns if c.is_text and not is_metadata(c.name)]
    named = first_names([repr(cut_for_message(name)) for name in texts], 3)
    return f"if a column names the class of each row ({named}), rename it to class" if texts else ""


def check_order_of_rows(path: Path, ids: str, label: str) -> None:
    """Raise an error if a column that is not read may order the rows of an image, each with a class."""
    frame = read_flat_frame(path)
    for column in value_columns(frame.drop(label)) if {ids, label} <= set(frame.columns) else ():
        differs = _differs(column, frame, ids) and _differs(column, frame, label)
        if differs and fold_name(column.name) not in RATER_NAMES and not is_metadata(column.name):
            raise InputError(
                "A column that is not read differs between the predicted classes of an image, so their order "
                "is unknown.",
                where=f"{path}, column {cut_for_message(column.name)}",
                got=first_names([cut_for_message(repr(v)) for v in frame[column.name].head(3)], 3),
                allowed="a column score or rank of numbers; or no such column, and the top class first",
                do="rename the column to score or rank and write its cells as numbers, or remove it",
            )


def _note_on_flags(columns: list[NumberColumn], ids: pl.Series, label: str) -> tuple[str, ...]:
    """Return a note on columns of zeros and ones in a table with one row per image, which may be classes."""
    flags = [cut_for_message(c.name) for c in columns if c.holds_states and not is_metadata(c.name)]
    if not flags or ids.is_duplicated().any():
        return ()
    return (
        f"the classes are the names in the column {label!r}, so columns of zeros and ones are not read as "
        f"classes: {first_names(flags, 8)}; if they are the classes, drop or rename {label!r}",
    )


def _note_on_full_lists(frame: pl.DataFrame, ids: str, label: str) -> tuple[str, ...]:
    """Return a note if each of several images has rows for all of several classes."""
    lengths = frame.group_by(ids).agg(pl.col(label).n_unique())[label]
    n_classes = frame[label].n_unique()
    if len(lengths) < 2 or n_classes < 2 or (lengths < n_classes).any():
        return ()
    return (
        f"each of the {len(lengths):,} images lists all {n_classes:,} classes, so every class is valid on "
        "every image; if a column states which classes are valid, rename it to present, with 1 or yes for "
        "valid and 0 or no for not valid",
    )


def _may_state(column: NumberColumn, frame: pl.DataFrame, label: str) -> bool:
    """Return whether a column may state which classes are valid: numbers, or words about a class."""
    if not column.is_text:
        return not column.is_empty
    words = frame[column.name]
    if fold_name(column.name) in RATER_NAMES or words.dtype not in (pl.String, pl.Categorical, pl.Enum):
        return False
    if fold_name(column.name) in _STATES:
        return True
    # Words that are the same wherever a class is listed, such as its other name, say nothing on an image.
    return words.n_unique() <= _MOST_WORDS and _differs(column, frame, label)


def _differs(column: NumberColumn, frame: pl.DataFrame, by: str) -> bool:
    """Return whether rows of the same image, or the same class, have different values."""
    values = frame[column.name] if column.is_text else column.values
    rows = pl.DataFrame({"by": frame[by], "value": values})
    return bool((rows.group_by("by").agg(pl.col("value").n_unique())["value"] > 1).any())


def _check_states(column: NumberColumn, cells: pl.Series, path: Path) -> None:
    if column.is_text:
        texts = cells.cast(pl.String)
        words = texts.filter(numbers_in(texts).is_null()).value_counts(sort=True).rows()
        shown = [f"{cut_for_message(word)} in {n:,}" for word, n in words[:3]]
        raise InputError(
            "A column that states which classes of an image are valid contains words other than yes and no.",
            where=f"{path}, column {column.name}",
            got=f"{', '.join(shown)}{', …' * (len(words) > len(shown))} of {len(cells):,} cells",
            allowed="1 or yes, 0 or no, -1 or maybe, or nothing",
            do="use these words, or rename the column if it states something else",
        )
    if len(column.strange):
        raise InputError(
            "A column that states which classes of an image are valid contains numbers other than 0 and 1.",
            where=f"{path}, column {column.name}",
            got=f"{column.strange[0]:g} in {len(column.strange):,} of {len(column.values):,} cells",
            allowed="1 or yes, 0 or no, -1 or maybe, or nothing",
            do="if the numbers are scores, rename the column to score and pass the file as predictions",
        )


def _long(
    frame: pl.DataFrame,
    ids: str,
    label: str,
    values: Floats,
    classes: ClassList | None,
    path: Path,
) -> pl.DataFrame:
    """Return the columns image_id, class_id and state. Classes without a state were not asked about."""
    codes = states_of_values(values)
    texts = ["", *STATES]
    names = keys_of_numbers(frame[label], classes, path).cast(pl.String)
    state = pl.Series([texts[code] if code else None for code in codes], dtype=pl.String)
    columns = {"image_id": frame[ids].cast(pl.String), "class_id": names, "state": state}
    is_asked = state.is_not_null() & (names.fill_null("") != "")
    return pl.DataFrame(columns).with_columns(
        pl.when(is_asked).then(pl.col(name)).alias(name) for name in ("class_id", "state")
    )


def unread_columns(
    columns: Sequence[NumberColumn], chosen: Sequence[NumberColumn]
) -> tuple[tuple[str, int, str], ...]:
    """Return the columns that are not read, each with the first row that cannot be read, and its cell."""
    names, found = {c.name for c in chosen}, list[tuple[str, int, str]]()
    for column in (c for c in columns if c.name not in names):
        if column.text is not None:
            found.append((column.name, *column.text))
        elif len(column.strange):
            row = int(np.argmax(column.values == column.strange[0]))
            found.append((column.name, row, f"{column.strange[0]:g}"))
    return tuple(found)


def check_no_text(column: NumberColumn, path: Path) -> None:
    """Raise an error for a cell with a text in the column of a class."""
    if column.odd is not None:
        row, text = column.odd
        raise InputError(
            "The column of a class contains a cell that is not an answer.",
            where=f"{path}, column {cut_for_message(column.name)}, row {row + 1:,} below the header",
            got=cut_for_message(text),
            allowed=CELL_OF_CLASS,
            do="correct the cell, leave it empty if nobody was asked, or drop the column if it is not a "
            "class",
        )


def check_states(column: NumberColumn, path: Path) -> None:
    """Raise an error for a number in the column of a class that is not an answer."""
    if len(column.strange):
        raise InputError(
            "The column of a class contains values other than 0 and 1.",
            where=f"{path}, column {cut_for_message(column.name)}",
            got=f"{column.strange[0]:g} in {len(column.strange):,} of {len(column.values):,} cells",
            allowed=CELL_OF_CLASS,
            do="correct them, or pass a class list without this column as `classes`",
        )


_HARDLY_ANY = 0.01
"""Cells of 0 and empty cells for each -1 up to which -1 may mean no."""


def check_minus_one(state: Bytes, columns: Sequence[NumberColumn], path: Path) -> None:
    """Raise an error if nearly all classes that are not yes would be unclear: in CelebA, -1 means no.

    There, two zeros among 120,000 cells are classes that nobody knows.
    """
    n_unclear = np.count_nonzero(state == UNCLEAR)
    n_others = sum(np.count_nonzero((c.values == 0) | np.isnan(c.values)) for c in columns)
    if n_unclear and n_others <= _HARDLY_ANY * n_unclear:
        raise InputError(
            f"The table contains 1 and -1 but {'hardly any' if n_others else 'no'} 0, so -1 may mean no.",
            where=path,
            got=f"{n_unclear:,} cells of -1, and {n_others:,} of 0 or empty" if n_others else None,
            do="if it does, write 0 instead of -1; for label sets, this is done by manyhot convert "
            f"{shlex.quote(str(path))} labels.parquet --format \"indicator(minus_one='no')\"; in Python, "
            "pass what read_labels returns with this format",
        )
