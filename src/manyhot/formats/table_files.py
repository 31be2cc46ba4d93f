"""Tables in Parquet, CSV and text files of names, read as frames, whatever their columns mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from manyhot.errors import InputError, first_names
from manyhot.formats.class_cells import LIST_COLUMNS
from manyhot.formats.class_names import NAMES_BESIDE
from manyhot.formats.headers import (
    CLASS_NAME_COLUMNS,
    IMAGE_NAME_COLUMNS,
    RATER_NAMES,
    check_packed,
    check_utf8,
    fold_name,
    raw_header,
    separator_of,
)
from manyhot.formats.reading import cut_for_message, in_one_spelling, read_parquet
from manyhot.tables.image_ids import check_columns_once, first_column, image_name_column
from manyhot.tables.rounded_ids import check_not_rounded

TABLE_SUFFIXES = (".parquet", ".csv", ".tsv")

_NAMES = (
    *IMAGE_NAME_COLUMNS,
    *NAMES_BESIDE.values(),
    "key",
    "model",
    "rater_id",
    "expert_id",
    "page_id",
    "task",
    "worker",
)
"""Columns of names, even if these look like numbers: 007 is not 7."""


MODEL_COLUMNS = ("model", "model_name", "model_version", "model_id")
"""Columns with the name of the model of each prediction."""


_RUN_COLUMNS = ("epoch", "step", "global_step", "checkpoint", "ckpt", "seed", "run", "run_id", "iteration")
"""Columns that say which of several runs or states of a model a prediction is of."""


def column_names(path: Path) -> list[str]:
    """Return the columns of a table; empty if the file is damaged."""
    try:
        if path.suffix.lower() == ".parquet":
            return list(pq.read_schema(path).names)
        if path.suffix.lower() == ".txt" and not _is_text_table(path):
            return ["image_id"]
        return [c.strip() for c in raw_header(path)]
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return []


def _is_text_table(path: Path) -> bool:
    """Return whether a text file is a table with tabs and a header, as UCMerced's multi-label file."""
    names = [name.strip() for name in raw_header(path)]
    return separator_of(path) == "\t" and len(names) > 1 and image_name_column(names) is not None


def read_csv(
    path: Path, columns: Sequence[str] | None = None, types: Mapping[str, Any] | None = None, **options: Any
) -> pl.DataFrame:
    """Return a text table, with the names of columns as other readers of CSV read them.

    polars leaves quotes in quoted names doubled: it reads ``"heel 3\"\"\""`` as ``heel 3""``. `columns` are
    those to read, `types` are types of columns by name, and `options` are those of ``polars.read_csv``.
    """
    header, options = raw_header(path), {"separator": separator_of(path), "encoding": "utf8"} | options
    doubled: dict[str, str] = {}
    if any('"' in name for name in header):
        pairs = zip(header, pl.read_csv(path, **options | {"n_rows": 0}).columns, strict=False)
        doubled = {name: read for name, read in pairs if name != read == name.replace('"', '""')}
    overrides = {doubled.get(name, name): kind for name, kind in (types or {}).items()}
    chosen = None if columns is None else [doubled.get(name, name) for name in columns]
    frame = pl.read_csv(path, columns=chosen, schema_overrides=overrides, **options)
    return frame.rename({read: name for name, read in doubled.items()}, strict=False)


_INFERRED = 10_000
"""Rows of a text file from which the types of its columns are inferred first: all take twice as long."""


def _read_text(path: Path, names: Mapping[str, Any], most_rows: int | None) -> pl.DataFrame:
    read = partial(read_csv, path, types=names, n_rows=most_rows)
    try:
        frame = read(infer_schema_length=_INFERRED)
        head = frame.head(_INFERRED)
        # A column that is empty at first may contain numbers later.
        unknown = any(head[c].null_count() == len(head) and c not in names for c in frame.columns)
        if unknown and len(frame) > _INFERRED:
            frame = read(infer_schema_length=None)
    except pl.exceptions.ComputeError:  # later rows have other types
        frame = read(infer_schema_length=None)
    return _with_leading_zeros(frame, read)


def _with_leading_zeros(frame: pl.DataFrame, read: Callable[..., pl.DataFrame]) -> pl.DataFrame:
    """Return the table with texts for numbers in columns in which one has leading zeros: 0012 is not 12.

    A column with codes such as 12E0 is one of floats.
    """
    numbers = [c for c in frame.get_columns() if c.dtype.is_numeric()]
    # Tables have thousands of columns of zeros and ones, or of scores.
    whole = [c.name for c in numbers if fold_name(c.name) in CLASS_NAME_COLUMNS or _may_be_codes(c)]
    if not whole:
        return frame
    texts = read(columns=whole, types=dict.fromkeys(whole, pl.String))
    codes = [c for c in texts.get_columns() if c.str.contains(r"^\s*0\d+\s*$").any()]
    return frame.with_columns(codes)


def _may_be_codes(column: pl.Series) -> bool:
    """Return whether all numbers of a column are whole, and some above 1."""
    return bool((column > 1).any() and (column.dtype.is_integer() or (column.floor() == column).all()))


def with_codes(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Return the table of a text file with texts for floats, where two texts are one: 24.1 is not 24.10.

    Other columns remain numbers. Decimal commas are written as points, and NaN is null.
    """
    schema = frame.schema  # made anew each time, in 2 ms for 2,000 columns
    floats = {c.strip(): c for c in raw_header(path) if schema.get(c.strip(), pl.String).is_float()}
    if not floats:
        return frame
    texts = read_csv(path, [*floats.values()], dict.fromkeys(floats.values(), pl.String))
    for name, raw in floats.items():
        is_number = frame[name].is_finite().fill_null(False)
        values = texts[raw].str.strip_chars().str.replace(_COMMA, "${1}.${2}").alias(name)
        written = values.filter(is_number).str.replace(r"^-(0*\.?0*)$", "${1}")  # -0.0 is a rounded number
        if written.n_unique() > frame[name].filter(is_number).n_unique():
            frame = frame.with_columns(values.set(frame[name].is_nan().fill_null(False), None))
    return frame


_MOST_COLUMNS = 200_000
"""Maximum number of columns in a text table. polars reads 100,000 in 0.4 s, a million in 6 s and 2 GB."""


def _check_width(header: Sequence[str], path: Path) -> None:
    """Raise an error for a text table with too many columns."""
    if len(header) > _MOST_COLUMNS:
        raise InputError(
            "The table has too many columns.",
            where=path,
            got=f"{len(header):,}",
            allowed=f"up to {_MOST_COLUMNS:,}",
            do="check the separator, or use Parquet",
        )


def read_frame(
    path: Path, columns: Sequence[str] | None = None, *, most_rows: int | None = None
) -> pl.DataFrame:
    """Read any table without checking its columns, with texts that `in_one_spelling` unites.

    Parameters
    ----------
    columns : sequence of str, optional
        The columns to read from Parquet; by default, all.
    most_rows : int, optional
        Maximum number of rows to read from text; by default, all.
    """
    check_packed(path)
    try:
        if path.suffix.lower() == ".parquet":
            frame = pl.from_arrow(read_parquet(path, columns))
            assert isinstance(frame, pl.DataFrame)
            _check_columns(frame, path)
            return _in_one_spelling(frame)
        if path.suffix.lower() == ".txt" and not _is_text_table(path):
            return _in_one_spelling(pl.Series("image_id", _names_in_lines(path), pl.String).to_frame())
        header = raw_header(path)
        _check_width(header, path)
        check_columns_once(filter(str.strip, header), path)
        names = {c: pl.String for c in header if fold_name(c) in _NAMES}
        separator = separator_of(path)
        frame = _read_text(path, names, most_rows)
        # Published tables end in commas: columns without a name or content. The first is called "".
        unnamed = [c for c, name in zip(frame.columns, header, strict=False) if c and not name.strip()]
        frame = frame.drop(c for c in unnamed if frame[c].null_count() == len(frame))
        _check_columns(frame, path)
        if separator != ",":
            lists = (*CLASS_NAME_COLUMNS, *LIST_COLUMNS)
            skip = [*names, *(c for c in header if fold_name(c) in lists)]
            frame = with_decimal_points(frame, path, skip, is_sample=most_rows is not None)
        return _in_one_spelling(frame).rename({c: c.strip() for c in frame.columns})
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        if path.suffix.lower() != ".parquet":
            with path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    check_utf8(line, path, number)
        raise InputError(
            "The file cannot be read as a table.", where=path, got=str(error).partition("\n")[0]
        ) from error


def _check_columns(frame: pl.DataFrame, path: Path) -> None:
    """Raise an error for rounded ids, and for what Arrow cannot represent: 39 digits, and NUL in a name."""
    for whose, names in (("Image", (*IMAGE_NAME_COLUMNS, "task", "item")), ("Rater", RATER_NAMES)):
        if (ids := first_column(frame.columns, names)) is not None:
            check_not_rounded(frame[ids].to_arrow(), f"{path}, column {ids.strip()}", whose)
    for column, kind in frame.schema.items():
        if "\0" in column:
            raise InputError("The name of a column contains a NUL.", where=path, got=repr(column))
        if kind not in (pl.Int128, pl.UInt128):
            continue
        values = frame[column]
        raise InputError(
            "A number is too large.",
            where=f"{path}, column {column.strip()}",
            got=values.filter(~values.is_between(-(2**63), 2**63 - 1))[0],
            allowed="64-bit integers",
        )


def _in_one_spelling(frame: pl.DataFrame) -> pl.DataFrame:
    texts = [c for c in frame.get_columns() if c.dtype in (pl.String, pl.Categorical, pl.Enum)]
    spelt = [in_one_spelling(c.cast(pl.String).to_arrow().cast(pa.large_string())) for c in texts]
    return frame.with_columns(pl.Series(c.name, new) for c, new in zip(texts, spelt, strict=True))


def _names_in_lines(path: Path) -> list[str]:
    """Return the lines of a text file, which may contain spaces, unless they are rows of a table.

    Raises
    ------
    InputError
        If each line, after up to two lines of a header, is a name of its own and numbers.
    """
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    lines = [line for line in lines if line]
    if len(lines) > len(set(lines)) and set(lines) <= {"0", "1", "-1"}:
        raise InputError(
            "The lines of the text file are 0 and 1, not names of images.",
            where=path,
            got=f"{len(lines):,} lines",
            allowed="one name per line",
            do="if they are the states of a class, as in NUS-WIDE, write one CSV file with all classes, for "
            "example in Python: import pandas as pd; names = pd.read_csv('TestImagelist.txt', "
            "header=None)[0].rename("
            f"'image_id'); states = pd.read_csv({path.name!r}, header=None)[0]; "
            f"table = pd.DataFrame({{{path.stem!r}: states}}); table.set_index(names).to_csv('labels.csv')",
        )
    skipped = next((n for n in range(3) if _are_rows(lines[n:])), None)
    if skipped is None:
        return lines
    row, header = lines[skipped], lines[skipped - 1].split() if skipped else []
    numbers = len(row.split()) - 1
    letters = [chr(97 + i) for i in range(min(numbers, 3))]
    own = header[-numbers:][:3] if len(header) - numbers in (0, 1) else letters
    after = ""
    if header == ["image_name", "category_label"]:  # DeepFashion's numbers begin with 1
        own = ["labels"]
        after = (
            "names = pd.read_csv('list_category_cloth.txt', sep=r'\\s+', skiprows=2, header=None)[0]; "
            "table['labels'] = [names[i - 1] for i in table['labels']]; "
        )
    names = ", ".join(map(repr, ["image_id", *own]))
    raise InputError(
        "The lines of the text file are not only names of images: numbers follow each name.",
        where=path,
        got=cut_for_message(row),
        allowed="one name per line, which may contain spaces, or the text files of CelebA, DeepFashion or "
        "PASCAL VOC",
        do="write the file as CSV, whose columns have names, for example in Python: import pandas as pd; "
        f"table = pd.read_csv({path.name!r}, sep=r'\\s+', {f'skiprows={skipped}, ' * (skipped > 0)}"
        f"header=None, dtype={{'image_id': str}}, names=[{names}{', …' * (numbers > 3)}]); {after}"
        f"table.to_csv({f'{path.stem}.csv'!r}, index=False)",
    )


_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def _are_rows(lines: Sequence[str]) -> bool:
    """Return whether lines are different names, each followed by the same number of numbers."""
    if len(lines) < 2 or " " not in lines[0].replace("\t", " "):
        return False
    fields = [line.split() for line in lines]
    return (
        len({len(row) for row in fields}) == 1
        and len({row[0] for row in fields}) == len(lines)
        and all(_NUMBER.fullmatch(value) for row in fields for value in row[1:])
    )


def with_small_offsets(table: pa.Table) -> pa.Table:
    """Return an Arrow table of Polars with 32-bit offsets, and with dictionaries replaced by their values."""
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            kind = _narrow_type(field.type.value_type)
            chunks = [chunk.dictionary.cast(kind).take(chunk.indices) for chunk in table[i].chunks]
            table = table.set_column(i, field.with_type(kind), pa.chunked_array(chunks, kind))
    fields = [pa.field(f.name, _narrow_type(f.type)) for f in table.schema]
    return table.cast(pa.schema(fields, metadata=table.schema.metadata))


def _narrow_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_list(kind):
        return pa.list_(_narrow_type(kind.value_type))
    if pa.types.is_large_string(kind) or str(kind) == "string_view":
        return pa.string()
    return kind


NEARLY = 0.9
"""Share of cells with numbers from which other cells are considered mistakes."""

_NUMBER_WITH_COMMA = r"^\s*[+-]?\d+(,\d+)?([eE][+-]?\d+)?\s*$"
_COMMA = r"^([+-]?\d+),(\d+([eE][+-]?\d+)?)$"
_NUMBER_WITH_POINT = r"^\s*[+-]?\d+\.\d+([eE][+-]?\d+)?\s*$"
_GROUPED = r"^\s*[+-]?[1-9]\d{0,2}(,\d{3})+\s*$"
"""A number that may have commas between thousands, such as 1,234; 0,234 and 1,23 may not."""


def with_decimal_points(
    frame: pl.DataFrame, path: Path, skip: Collection[str], *, is_sample: bool = False
) -> pl.DataFrame:
    """Return the table with columns that use decimal commas converted to numbers.

    A column is converted if all its values are numbers; if nearly all are, only these are converted, so that
    readers can name the others. It is ambiguous if every comma could also separate thousands, and so is a
    column without commas if every point could.

    Parameters
    ----------
    skip : collection of str
        Columns with texts, such as ids and lists of classes.
    is_sample : bool
        Whether the table contains only the first rows, from which the format is recognised. Ambiguous columns
        then raise no error.

    Raises
    ------
    InputError
        If a column is ambiguous.
    """
    texts = [frame[c] for c, kind in frame.schema.items() if kind == pl.String and c not in skip]
    found = [column for column in texts if _has_decimal_commas(column, path, is_sample=is_sample)]
    if found and not is_sample:
        _check_points(path, [c for c, kind in frame.schema.items() if kind == pl.Float64])
    converted = [c.str.strip_chars().str.replace(_COMMA, "${1}.${2}") for c in found]
    return frame.with_columns(
        column.cast(pl.Float64) if old.str.contains(_NUMBER_WITH_COMMA).all() else column
        for old, column in zip(found, converted, strict=True)
    )


def _has_decimal_commas(column: pl.Series, path: Path, *, is_sample: bool) -> bool:
    values = column.drop_nulls()
    with_comma = values.filter(values.str.contains(",", literal=True))
    if not len(with_comma) or values.str.contains(_NUMBER_WITH_COMMA).sum() < NEARLY * len(values):
        return False
    points = values.filter(values.str.contains(_NUMBER_WITH_POINT))
    if len(points) and not is_sample:
        raise InputError(
            "A column contains decimal commas and decimal points.",
            where=f"{path}, column {column.name.strip()}",
            got=f"{with_comma[0]} and {points[0]}",
            allowed="one of the two",
            do="write all numbers of the column with the same mark",
        )
    if not is_sample and with_comma.str.contains(_GROUPED).all():
        raise _ambiguous("commas", "decimal commas", column.name, with_comma[0], path)
    return True


def _check_points(path: Path, columns: Sequence[str]) -> None:
    """Raise an error for a column whose points may separate thousands, in a table with decimal commas."""
    texts = dict.fromkeys(columns, pl.String)
    frame = read_csv(path, columns, texts)
    for column in frame.get_columns() if columns else ():
        points = column.filter(column.str.contains(".", literal=True))
        if len(points) and points.str.contains(_GROUPED.replace("(,", r"(\.")).all():
            raise _ambiguous("points", "decimal points", column.name, points[0], path)


def _ambiguous(marks: str, decimal: str, column: str, got: str, path: Path) -> InputError:
    return InputError(
        f"The {marks} in a column may be {decimal} or thousands separators.",
        where=f"{path}, column {column.strip()}",
        got=got,
        allowed="numbers with decimal points, such as 0.5, or with decimal commas and no thousands "
        "separators",
        do="write the numbers with decimal points",
    )


def check_models(path: Path) -> None:
    """Raise an error if a table of predictions is of several models, or an image of several runs of a model.

    They would be read as one model.
    """
    names = column_names(path)
    for name in names:
        if fold_name(name) in MODEL_COLUMNS and (column := read_frame(path, [name])[name]).dtype == pl.String:
            check_one_model(column.drop_nulls().unique(), path)
    ids = first_column(names, IMAGE_NAME_COLUMNS)
    for name in (name for name in names if fold_name(name) in _RUN_COLUMNS):
        if ids is None:
            return
        frame = read_frame(path, [ids, name])
        several = frame.group_by(ids).agg(pl.col(name).unique()).filter(pl.col(name).list.len() > 1).sort(ids)
        if len(several):
            raise InputError(
                "The file contains several predictions of an image.",
                where=f"{path}, column {name}, image {cut_for_message(str(several[0, ids]))}",
                got=first_names(sorted(map(str, several[0, name])), 5),
                allowed="the predictions of one model, which is named after the file",
                do=f"write one file for each {name}",
            )


def check_one_model(models: Iterable[str], where: Path) -> None:
    """Raise an error if several models are named. Numbers may be the scores of a class called *model*."""
    names = sorted(model for model in models if not re.fullmatch(r"[-+.\deE]*", model))
    if len(names) > 1:
        raise InputError(
            "The file contains predictions of several models.",
            where=where,
            got=first_names(names),
            allowed="the predictions of one model, which is named after the file",
            do="write one file for each model; if all are of one model, remove the column or key",
        )


def check_row_numbers(path: Path) -> None:
    """Raise an error if ids only number the rows although another column contains image names."""
    ids = first_column(column_names(path), IMAGE_NAME_COLUMNS)
    if ids is None or fold_name(ids) not in IMAGE_NAME_COLUMNS[-5:]:  # from id on
        return
    frame = read_frame(path, most_rows=_INFERRED).head(_INFERRED)
    own, n = frame[ids].cast(pl.String).to_list(), len(frame)
    if n < 2 or own not in ([*map(str, range(n))], [*map(str, range(1, n + 1))]):
        return
    file = r"^[^:]+\.(?i:jpe?g|png|tiff?|webp|bmp|gif|heic)$"
    for column in frame.select(pl.col(pl.String).exclude(ids)).get_columns():
        if column.str.contains(file).all() and column.is_unique().all():
            raise InputError(
                "The ids of images only number the rows, but another column contains names of images.",
                where=f"{path}, column {ids!r}",
                got=f"{own[0]}, {own[1]}, … beside {column[0]}, {column[1]}, … in {column.name!r}",
                do=f"rename {column.name!r} to image_id, or drop it if the numbers are the same in all files",
            )
