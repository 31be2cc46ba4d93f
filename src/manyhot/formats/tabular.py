"""manyhot's tables as Parquet and CSV, with one row per image or in long form, and plain lists of ids.

CSV has no lists: with one row per image, lists are written separated by spaces. They are read separated by
commas, semicolons or bars, or by spaces if the column has none of these. Classes may be indices, keys such as
WordNet ids, or names of the class list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError
from manyhot.formats.class_cells import check_commas
from manyhot.formats.class_name_columns import (
    NAMES_BESIDE,
    check_numbered_names,
    names_by_number,
    numbers_by_name,
)
from manyhot.formats.csv_tables import LISTS_OF_IMAGES
from manyhot.formats.decimal_commas import with_decimal_points
from manyhot.formats.headers import (
    CLASS_NAME_COLUMNS,
    IMAGE_NAME_COLUMNS,
    check_columns,
    check_packed,
    check_utf8,
    check_width,
    fold_name,
    raw_header,
    separator_of,
)
from manyhot.formats.reading import FOLDER, cut_for_message, read_parquet, reading, with_image_ids
from manyhot.formats.reading import declared as declared
from manyhot.parameters import check_one_of
from manyhot.registry import register
from manyhot.tables import (
    TABLES,
    Images,
    Labels,
    Predictions,
    Results,
    check,
    labels_from_table,
    metadata_number,
    predictions_from_table,
    read,
    read_dense,
    read_results_folder,
)
from manyhot.tables import metadata as table_metadata
from manyhot.tables.image_ids import check_columns_once
from manyhot.tables.labels import declaring
from manyhot.tables.own_classes import list_of_names, own_list

_LIST_COLUMNS = {
    "classes": pl.String,
    "state": pl.String,
    "p": pl.Float32,
    "n_votes": pl.Int32,
    "scores": pl.Float32,
    "class_names": pl.String,
    "sources": pl.String,
    "conflicts": pl.Int32,
}

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


def column_names(path: Path) -> list[str]:
    """Return the columns of a table; empty if the file is damaged."""
    try:
        if path.suffix.lower() == ".parquet":
            return list(pq.read_schema(path).names)
        if path.suffix.lower() == ".txt":
            return ["image_id"]
        return [c.strip() for c in raw_header(path)]
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return []


def _matches(table: str) -> Callable[[Path], bool]:
    def matches(path: Path) -> bool:
        if path.is_dir():
            return (path / f"{table}.parquet").is_file()
        own = declared(path)
        own = "proposals" if own == NEXT_QUESTIONS else own
        return own == table if own else table in possible_tables(column_names(path))

    return matches


NEXT_QUESTIONS = "questions"
NEXT_COLUMNS = frozenset(("image_id", "class_id", "score", "p", "state", "n_votes"))
"""The name and the columns of the table that ``manyhot next`` writes."""


def possible_tables(columns: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the tables that a file with these columns may contain."""
    names = set(columns)
    if names >= {"model", "metric", "value", "n"}:
        return ("results",)
    if names >= {"image_id", "class_id", "n_models"} or names >= NEXT_COLUMNS:
        return ("proposals",)
    if "image_id" not in names or names & {"rater_id", "expert_id", "n_models"}:
        # A file that cannot be read is taken for predictions, whose reader reports the error.
        return () if names else ("predictions",)
    if names & {"state", "usable", "rated", "n_votes", "method"}:
        return ("labels",)
    if names & {"scores", "score", "rank", "logsumexp"}:
        return ("predictions",)
    if "class_id" in names or "classes" in names:
        return ("labels",) if "label" in names else ("predictions", "labels")
    return ("images",)


@register(
    "format",
    "labels-table",
    holds="labels",
    suffixes=TABLE_SUFFIXES,
    matches=_matches("labels"),
    needs="image_id and classes, or image_id, class_id and state",
)
def read_labels_table(path: Path, *, classes: ClassList | None) -> Labels:
    """A labels table with lists, one row per image, or in long form: ``image_id,class_id,state``.

    In long form, an image with an empty label set has one row without ``class_id``.
    """
    name = path.stem
    n_classes, key = size_and_hash(classes)
    if path.suffix.lower() == ".parquet" and declared(path):
        return labels_from_table(read_own(path, "labels"), name=name, n_classes=n_classes, class_hash=key)
    frame = read_frame(path)
    is_long = "class_id" in frame.columns
    frame = _with_lists(frame, LISTS_OF_IMAGES if is_long else _LIST_COLUMNS, classes, path)
    numbered = numbers_by_name(frame, classes, path)
    table = _labels_long(numbered.frame) if is_long else numbered.frame
    classes, assumed = named_list(table, numbered.classes, name)
    table = _indexed(table, classes, path)
    if "usable" not in table.columns:
        table = table.with_columns(usable=pl.lit(True))
    if "state" not in table.columns:
        table = table.with_columns(state=pl.col("classes").list.eval(pl.lit("yes").repeat_by(1).list.first()))
    n_classes, key = size_and_hash(classes)
    labels = labels_from_table(_arrow(table), name=name, n_classes=n_classes, class_hash=key)
    labels = replace(labels, class_list=classes and own_list(classes), assumed=assumed)
    return declaring(labels, labels.class_list) if numbered.is_own and labels.class_list else labels


@register(
    "format",
    "predictions-table",
    holds="predictions",
    suffixes=TABLE_SUFFIXES,
    matches=_matches("predictions"),
    needs="image_id and classes or scores, or image_id, class_id and rank or score",
)
def read_predictions_table(
    path: Path, *, classes: ClassList | None, rows: Images | None, scores: str | None
) -> Predictions:
    """A predictions table with lists, or in long form: ``class_id`` or ``class``, and rank or score."""
    own = path.suffix.lower() == ".parquet" and not {"classes", "class_id"} & set(column_names(path))
    if own or declared(path):
        _check_numbers(path)
        if (dense := read_dense(path, model=path.stem)) is not None:
            return dense
        return predictions_from_table(read_own(path, "predictions"), model=path.stem, source=str(path))
    frame = read_frame(path)
    if "class" in frame.columns and not {"class_id", "classes"} & set(frame.columns):
        frame = frame.rename({"class": "class_id"})
    is_long = "class_id" in frame.columns
    numbered = numbers_by_name(
        frame if is_long else _with_lists(frame, _LIST_COLUMNS, classes, path), classes, path
    )
    table = predictions_long(numbered.frame, path) if is_long else numbered.frame
    return predictions_of_frame(table, path, numbered.classes, scores or "score")


def predictions_of_frame(
    table: pl.DataFrame, path: Path, classes: ClassList | None, score_kind: str
) -> Predictions:
    """Return predictions from a frame with lists of classes, which are numbers, keys or names."""
    classes, _ = named_list(table, classes, path.stem)
    arrow = _of_numbers(_arrow(_indexed(table, classes, path)), path)
    about = {b"manyhot.scores": score_kind.encode()} if "scores" in arrow.column_names else {}
    n_classes, key = size_and_hash(classes)
    about |= {b"manyhot.n_classes": b"%d" % n_classes, b"manyhot.classes": key.encode()}
    arrow = arrow.replace_schema_metadata(about)
    predictions = predictions_from_table(arrow, model=path.stem, source=str(path))
    own, is_named = classes and own_list(classes), _holds_names(table)
    return replace(predictions, class_list=own, assumed=classes is None, by_name=is_named)


def _holds_names(table: pl.DataFrame) -> bool:
    """Return whether the classes in lists are names, and not numbers."""
    return "classes" in table.columns and table.schema["classes"] == pl.List(pl.String)


@register(
    "format",
    "results-table",
    holds="results",
    suffixes=(*TABLE_SUFFIXES, FOLDER),
    matches=_matches("results"),
    needs="model, metric, value and n",
)
def read_results_table(path: Path, *, dataset: str | None = None) -> Results:
    """A results table of ``manyhot evaluate``, or a results folder with the tables pairs, samples and models.

    Parameters
    ----------
    dataset : str, optional
        The data set of the results. If the table has a column ``dataset``, only the rows of this data set are
        read.
    """
    if path.is_dir():
        results = read_results_folder(path)
        return results if dataset is None else replace(results, table=_of(results.table, dataset, path))
    if path.suffix.lower() == ".parquet" and declared(path):
        table = read_own(path, "results")
    else:
        frame = read_frame(path)
        if dataset is not None and "dataset" not in frame.columns:
            frame = frame.with_columns(dataset=pl.lit(dataset))
        absent = [
            c.name for c in TABLES["results"] if c.nullable and c.required and c.name not in frame.columns
        ]
        table = check(
            with_small_offsets(frame.with_columns(pl.lit(None).alias(c) for c in absent).to_arrow()),
            "results",
            where=path,
        )
    return Results(table if dataset is None else _of(table, dataset, path), name=path.stem)


def _of(table: pa.Table, dataset: str, path: Path) -> pa.Table:
    datasets = table["dataset"].unique().to_pylist()
    check_one_of(dataset, datasets, "The results are on other data sets.", where=path)
    return table.filter(pc.equal(table["dataset"], dataset))


@register("format", "findings-table", holds="findings", suffixes=(".parquet",), matches=_matches("findings"))
def read_findings_table(path: Path) -> pa.Table:
    """A findings table that manyhot wrote."""
    return read_own(path, "findings")


@register(
    "format",
    "proposals-table",
    holds="proposals",
    suffixes=TABLE_SUFFIXES,
    matches=_matches("proposals"),
    needs="image_id, class_id and n_models",
)
def read_proposals_table(path: Path, *, classes: ClassList | None) -> pa.Table:
    """A proposals table, or the questions of ``manyhot next``: images and classes to ask about."""
    own = read_own(path, "proposals") if declared(path) == "proposals" else None
    frame = read_frame(path) if own is None else pl.DataFrame(own)
    if classes is not None:
        check_numbered_names(names_by_number(frame), classes, path)
    if own is not None:
        return own
    if set(frame.columns) >= NEXT_COLUMNS:
        named = [name for name in ("class_name",) if name in frame.columns]
        frame = frame.select(
            "image_id", "class_id", "score", *named, n_models=pl.lit(0, pl.Int32), source=pl.lit("next")
        )
    if frame["class_id"].dtype == pl.String:
        frame = frame.with_columns(class_id=class_indices(frame["class_id"], classes, path, ids=True))
    return check(_arrow(frame), "proposals", where=path)


def read_own(path: Path, table: str) -> pa.Table:
    """Read a Parquet file of manyhot.

    Raises
    ------
    InputError
        If the file or its metadata is damaged.
    """
    _check_numbers(path)
    return read(path, table)


def _check_numbers(path: Path) -> None:
    """Check the numbers in the metadata of a Parquet file."""
    with reading(path):
        about = table_metadata(pq.read_schema(path))
    for key in ("schema", "n_classes"):
        metadata_number(about, key, path)


_INFERRED = 10_000
"""Rows of a text file from which the types of its columns are inferred first: all take twice as long."""


def _read_text(path: Path, separator: str, names: Mapping[str, Any], most_rows: int | None) -> pl.DataFrame:
    read = partial(
        pl.read_csv,
        path,
        separator=separator,
        encoding="utf8",
        schema_overrides=dict(names),
        n_rows=most_rows,
    )
    try:
        frame = read(infer_schema_length=_INFERRED)
    except pl.exceptions.ComputeError:  # later rows have other types
        return read(infer_schema_length=None)
    head = frame.head(_INFERRED)
    # A column that is empty at first may contain numbers later.
    unknown = any(head[c].null_count() == len(head) and c not in names for c in frame.columns)
    return read(infer_schema_length=None) if unknown and len(frame) > _INFERRED else frame


def read_frame(
    path: Path, columns: Sequence[str] | None = None, *, most_rows: int | None = None
) -> pl.DataFrame:
    """Read any table without checking its columns.

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
            check_columns(frame, path)
            return frame
        if path.suffix.lower() == ".txt":
            return pl.DataFrame({"image_id": _names_in_lines(path)}, schema={"image_id": pl.String})
        header = raw_header(path)
        check_width(header, path)
        check_columns_once(filter(str.strip, header), path)
        names = {c: pl.String for c in header if fold_name(c) in _NAMES}
        separator = separator_of(path)
        frame = _read_text(path, separator, names, most_rows)
        check_columns(frame, path)
        if separator != ",":
            lists = (*CLASS_NAME_COLUMNS, *_LIST_COLUMNS)
            skip = [*names, *(c for c in header if fold_name(c) in lists)]
            frame = with_decimal_points(frame, path, skip, is_sample=most_rows is not None)
        return frame.rename({c: c.strip() for c in frame.columns})
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        if path.suffix.lower() != ".parquet":
            with path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    check_utf8(line, path, number)
        raise InputError(
            "The file cannot be read as a table.", where=path, got=str(error).partition("\n")[0]
        ) from error


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
            do="if they are the states of a class, as in NUS-WIDE, write one CSV of all classes, for example "
            "in Python: import pandas as pd; names = pd.read_csv('TestImagelist.txt', header=None)[0].rename("
            f"'image_id'); states = pd.read_csv({path.name!r}, header=None)[0]; "
            f"table = pd.DataFrame({{{path.stem!r}: states}}); table.set_index(names).to_csv('labels.csv')",
        )
    row = next((rows[0] for n in range(3) if _are_rows(rows := lines[n:])), None)
    if row is None:
        return lines
    numbers = len(row.split()) - 1
    names = ", ".join(["'image_id'", *(f"'{chr(97 + i)}'" for i in range(min(numbers, 3)))])
    raise InputError(
        "The lines of the text file are not only names of images: numbers follow each name.",
        where=path,
        got=cut_for_message(row),
        allowed="one name per line, which may contain spaces, or the text files of CelebA or PASCAL VOC",
        do="write the file as CSV, whose columns have names, for example in Python: import pandas as pd; "
        f"table = pd.read_csv({path.name!r}, sep=r'\\s+', header=None, dtype={{'image_id': str}}, "
        f"names=[{names}{', …' * (numbers > 3)}]); "
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


def _with_lists(
    frame: pl.DataFrame, columns: Iterable[str], classes: ClassList | None, path: Path
) -> pl.DataFrame:
    """Return a table with the lists in these columns, which may be written as text."""
    for name in columns:
        if name in frame.columns and not isinstance(frame[name].dtype, pl.List):
            kind, text = _LIST_COLUMNS[name], frame[name].cast(pl.String).fill_null("")
            if kind == pl.String and (text.str.starts_with('["') | text.is_in(["", "[]"])).all():
                decoded = text.replace("", "[]").str.json_decode(pl.List(pl.String))
                frame = frame.with_columns(decoded.alias(name))
                continue
            # Names may hold spaces, so spaces separate items only if nothing else does.
            item = r"[^,;|\[\]\"']+" if text.str.contains(r"[,;|]").any() else r"[^\s\[\]\"']+"
            items = text.str.extract_all(item).list.eval(pl.element().str.strip_chars())
            if name == "classes":
                items = _whole_names(text, items, classes, path)
            frame = frame.with_columns(items.cast(pl.List(kind)).alias(name))
    return frame


def _whole_names(text: pl.Series, items: pl.Series, classes: ClassList | None, path: Path) -> pl.Series:
    """Return lists of names in which a cell that is a class of the list is one name."""
    cells = text.unique().to_list()
    if not any(mark in cell for cell in cells for mark in ";|[\"'"):
        check_commas(cells, classes, f"{path}, column {text.name}")
    whole = [] if classes is None else [cell for cell in cells if classes.find(cell.strip()) is not None]
    is_whole = text.is_in(whole)
    return (
        items
        if not whole
        else items.zip_with(~is_whole, text.str.strip_chars().reshape((-1, 1)).arr.to_list())
    )


def _labels_long(frame: pl.DataFrame) -> pl.DataFrame:
    lists = [c for c in ("state", "p", "n_votes") if c in frame.columns]
    single = [c for c in ("label", "rated", "usable", "method", *LISTS_OF_IMAGES) if c in frame.columns]
    asked = pl.col("class_id").is_not_null()
    return frame.group_by("image_id", maintain_order=True).agg(
        *(pl.col(c).first() for c in single),
        pl.col("class_id").filter(asked).alias("classes"),
        *(pl.col(c).filter(asked) for c in lists),
    )


def predictions_long(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Return the rows of a long table as lists, one row per image, best class first."""
    frame = frame.rename({"score": "scores"}) if "score" in frame.columns else frame
    if "rank" in frame.columns:
        by, descending = "rank", False
    elif "scores" in frame.columns:
        by, descending = "scores", True
    else:
        raise InputError(
            "A long table of predictions needs a rank or a score for each class.",
            where=path,
            got=", ".join(frame.columns),
            allowed="image_id, class_id, and rank or score",
        )
    lists = [pl.col("class_id").alias("classes")] + ([pl.col("scores")] if "scores" in frame.columns else [])
    first = [pl.col("logsumexp").first()] if "logsumexp" in frame.columns else []
    grouped = frame.group_by("image_id", maintain_order=True)
    return grouped.agg(*(c.sort_by(by, descending=descending, maintain_order=True) for c in lists), *first)


def _of_numbers(table: pa.Table, path: Path) -> pa.Table:
    """Return a table of predictions, after checking that classes are integers and scores are numbers."""
    for name in ("classes", "scores", "logsumexp"):
        kind = table[name].type if name in table.column_names else pa.int32()
        item = kind.value_type if pa.types.is_list(kind) else kind
        if not (pa.types.is_integer(item) or pa.types.is_floating(item)):
            raise InputError(f"The column {name!r} does not contain numbers.", where=path, got=kind)
    if "classes" not in table.column_names:
        return table
    at = table.column_names.index("classes")
    try:
        return table.set_column(at, "classes", table["classes"].cast(pa.list_(pa.int32())))
    except pa.ArrowInvalid as error:
        raise InputError(
            "These are not classes.",
            where=f"{path}, column classes",
            got=str(error).partition("\n")[0],
            allowed="whole numbers",
        ) from error


def _indexed(frame: pl.DataFrame, classes: ClassList | None, path: Path) -> pl.DataFrame:
    """Turn keys and names of classes into indices."""
    if "label" in frame.columns:
        frame = frame.with_columns(label=keys_of_numbers(frame["label"], classes, path))
    if "label" in frame.columns and frame["label"].dtype == pl.String:
        frame = frame.with_columns(label=class_indices(frame["label"], classes, path))
    if "classes" in frame.columns and frame["classes"].dtype == pl.List(pl.String):
        flat = frame["classes"].explode(empty_as_null=False)
        mapped = class_indices(flat, classes, path).to_arrow()
        offsets = np.concatenate([[0], np.cumsum(frame["classes"].list.len().to_numpy())]).astype(np.int32)
        frame = frame.with_columns(classes=pl.Series(pa.ListArray.from_arrays(offsets, mapped)))
    return frame


def named_list(frame: pl.DataFrame, classes: ClassList | None, where: str) -> tuple[ClassList | None, bool]:
    """Return the class list of a table, and whether it is only assumed; see `list_of_names`.

    The list is `classes` if it is passed, and None if classes are numbers.
    """
    if classes is not None:
        return classes, False
    columns = [frame[c] for c in ("label", "class_id", "classes") if c in frame.columns]
    flat = [c.explode(empty_as_null=False) if isinstance(c.dtype, pl.List) else c for c in columns]
    text = [c.str.strip_chars() for c in flat if c.dtype == pl.String]
    names = {name for values in text for name in values.drop_nulls().to_list() if name}
    if not any(re.search(r"[^\W\d_]", name) for name in names):
        return None, True
    return list_of_names(names, where)


def size_and_hash(classes: ClassList | None) -> tuple[int, str]:
    """Return the size and the hash of a table's class list. Without a list, the hash is empty."""
    return (len(classes), classes.hash) if classes else (len(class_list()), "")


def keys_of_numbers(values: pl.Series, classes: ClassList | None, path: Path) -> pl.Series:
    """Return whole numbers as texts if they are keys of classes rather than positions in the class list.

    This is decided for the column as a whole. With the keys 1, 2 and 3, a 3 can only be a key, and a 0 can
    only be a position.

    Raises
    ------
    InputError
        If all numbers can be keys and can be positions, but of different classes.
    """
    places = {} if classes is None else {key: place for place, key in enumerate(classes.keys)}
    if not values.dtype.is_integer() or all(key == str(place) for key, place in places.items()):
        return values
    numbers = values.drop_nulls().unique().to_list()
    if not numbers or not all(str(number) in places for number in numbers):
        return values
    if not all(0 <= number < len(places) for number in numbers):
        return values.cast(pl.String)
    odd = next((number for number in sorted(numbers) if places[str(number)] != number), None)
    if odd is None:
        return values
    raise InputError(
        "The numbers may be keys of classes or positions in the class list.",
        where=f"{path}, column {values.name}",
        got=f"{odd}, for example, which is the key of one class and the position of another",
        do="write the names of the classes instead",
    )


def class_indices(
    values: pl.Series, classes: ClassList | None, path: Path, *, ids: bool = False
) -> pl.Series:
    """Return the class id of each index, key or name as Int32; null for empty values.

    Parameters
    ----------
    values : Series of str
    classes : ClassList, optional
        By default that of ImageNet-1k.
    path : Path
        For messages.
    ids : bool
        Whether a number is always an index, as in a column ``class_id``, even if it is also a key.

    Raises
    ------
    InputError
        If a value is not in the class list.
    """
    classes = classes or class_list()
    keys, table = frozenset(() if ids else classes.keys), dict[str, int]()
    for value in values.unique(maintain_order=True).drop_nulls().to_list():
        if (name := value.strip()) == "":
            continue
        # A number is an index, unless it is a key, as in a list of 1, 2 and 3; in a list of the names that a
        # file contains, it always is a name.
        is_index = classes.is_complete and _DIGITS.fullmatch(name) and name not in keys
        try:
            table[value] = _within_int32(name) if is_index else classes.index(name)
        except LookupError as error:
            raise InputError(
                "A class is not in the class list.",
                where=path,
                got=value if value.isprintable() and len(value) <= 80 else cut_for_message(repr(value)),
                allowed=f"0 to {len(classes) - 1}, or a key or name of {classes.name}",
                do="pass the list of all classes as `classes`",
            ) from error
    return values.replace_strict(table, default=None, return_dtype=pl.Int32)


_DIGITS = re.compile(r"-?[0-9]+")
# str.isdigit accepts characters that int does not, such as ².


def _within_int32(digits: str) -> int:
    # Large numbers become an invalid class, not wrapped around into a valid one. Python does not parse
    # numbers of more than 4,300 digits.
    return max(-(2**31), min(int(digits), 2**31 - 1)) if len(digits.lstrip("-0")) < 20 else 2**31 - 1


def _arrow(frame: pl.DataFrame) -> pa.Table:
    return with_image_ids(
        with_small_offsets(frame.with_columns(pl.col("image_id").cast(pl.String)).to_arrow())
    )


def with_small_offsets(table: pa.Table) -> pa.Table:
    """Return a table of polars with 32-bit offsets."""
    fields = [pa.field(f.name, _narrow_type(f.type)) for f in table.schema]
    return table.cast(pa.schema(fields))


def _narrow_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_list(kind):
        return pa.list_(_narrow_type(kind.value_type))
    if pa.types.is_large_string(kind) or str(kind) == "string_view":
        return pa.string()
    return kind
