"""Raters' and experts' answers as Parquet and CSV: votes and golden tables, crowd-kit's, campaign folders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa

from manyhot.classes import ClassList
from manyhot.errors import InputError
from manyhot.formats.choice_files import IMAGE_NAMES, is_crowd_kit
from manyhot.formats.class_lists import read_class_list
from manyhot.formats.class_names import UNSURE, class_indices, numbers_by_name
from manyhot.formats.class_numbers import ids_of_keys
from manyhot.formats.headers import RATER_NAMES, first_column
from manyhot.formats.reading import cut_for_message, declared, reading, with_image_ids
from manyhot.formats.table_files import TABLE_SUFFIXES, read_frame, with_small_offsets
from manyhot.formats.tabular import matches_table, named_list, read_own, size_and_hash
from manyhot.kinds import FOLDER
from manyhot.registry import register
from manyhot.tables import ANSWERS, TABLES, Golden, Votes, golden_from_table, votes_from_table
from manyhot.tables.labels import class_list_metadata

_CROWD_KIT = {"task": "question", "worker": "rater_id", "label": "answer"}


_SYNONYMS = {
    "image_id": IMAGE_NAMES,
    "class_id": ("class_id", "class", "class_name", "label"),
    "rater_id": RATER_NAMES,
    "answer": ("answer",),
}
"""Columns of tables that people write by hand, by preference; class ids may be keys and names, too."""


def own_names(columns: Sequence[str]) -> list[str]:
    """Return names of columns, with the first synonym of each column of votes under the name of this column.

    Columns of votes that are there keep their names.
    """
    own = {first_column(columns, names): name for name, names in _SYNONYMS.items() if name not in columns}
    return [own.get(column, column) for column in columns]


_VOTES = {"image_id", "class_id", "rater_id", "answer"}
_GOLDEN = {"image_id", "class_id", "expert_id", "answer"}


@register(
    "format",
    "votes-table",
    holds="votes",
    suffixes=(*TABLE_SUFFIXES, FOLDER),
    matches=matches_table("votes", lambda columns: {*own_names(columns)} >= _VOTES),
    needs="image_id, class_id, rater_id and answer",
)
def read_votes_table(path: Path, *, classes: ClassList | None) -> Votes:
    """A votes table with one answer per row, or a campaign folder with ``votes.parquet``."""
    path, classes = _of_campaign(path, "votes", classes)
    n_classes, key = size_and_hash(classes)
    if declared(path):
        return votes_from_table(read_own(path, "votes"), name=path.stem, n_classes=n_classes, class_hash=key)
    frame = read_frame(path)
    has_ids = "class_id" in frame.columns
    frame.columns = own_names(frame.columns)
    others = other_columns(frame.columns)
    table = indexed_answers(frame.drop(others), classes, path, has_ids=has_ids)
    votes = votes_from_table(table, name=path.stem, n_classes=n_classes, class_hash=key)
    return replace(votes, left_out=tuple(f"the column {column!r}" for column in others))


def other_columns(columns: Iterable[str]) -> list[str]:
    """Return the columns that the votes table does not have; names of classes may stand beside their ids."""
    return [c for c in columns if c not in ("class_name", *(own.name for own in TABLES["votes"]))]


@register(
    "format",
    "golden-table",
    holds="golden",
    suffixes=(*TABLE_SUFFIXES, FOLDER),
    matches=matches_table("golden", lambda columns: {*own_names(columns)} >= _GOLDEN),
    needs="image_id, class_id, expert_id and answer",
)
def read_golden_table(path: Path, *, classes: ClassList | None) -> Golden:
    """A golden table with one expert's answer per row, or a campaign folder with ``golden.parquet``."""
    path, classes = _of_campaign(path, "golden", classes)
    n_classes, key = size_and_hash(classes)
    if declared(path):
        table = read_own(path, "golden")
    else:
        frame = read_frame(path)
        has_ids = "class_id" in frame.columns
        frame.columns = own_names(frame.columns)
        table = indexed_answers(frame, classes, path, has_ids=has_ids)
    return golden_from_table(table, name=path.stem, n_classes=n_classes, class_hash=key)


@register(
    "format",
    "crowd-kit",
    holds="votes",
    suffixes=TABLE_SUFFIXES,
    matches=is_crowd_kit,
    needs="task, worker and label",
)
def read_crowd_kit(path: Path, *, classes: ClassList | None, separator: str = ":") -> Votes:
    """crowd-kit's columns ``task``, ``worker`` and ``label``. A task is an image id, a colon and a class.

    Parameters
    ----------
    separator : str
        Text between image and class. If a task contains it several times, the last occurrence counts.
    """
    frame = read_frame(path).rename(_CROWD_KIT)
    question = frame["question"].cast(pl.String)
    escaped = "".join(f"\\x{{{ord(c):x}}}" for c in separator)
    parts = question.str.extract_groups(f"^(?s)(.+){escaped}(.+)$").struct
    image, class_name = parts.field("1"), parts.field("2")
    if class_name.null_count() > question.null_count():
        raise InputError(
            "A task does not consist of an image and a class.",
            where=path,
            got=question.filter(class_name.is_null() & question.is_not_null())[0],
            allowed=f"an image id, {separator!r} and a class, such as photo.jpg{separator}65",
            do="pass the separator in `format`: \"crowd-kit(separator='|')\"; if labels are classes, pass "
            "`format`=choices",
        )
    frame = frame.with_columns(image_id=image, class_id=class_name).select(*sorted(_VOTES))
    n_classes, key = size_and_hash(classes)
    table = indexed_answers(frame, classes, path)
    return votes_from_table(table, name=path.stem, n_classes=n_classes, class_hash=key)


def _of_campaign(path: Path, table: str, classes: ClassList | None) -> tuple[Path, ClassList | None]:
    """Return the file of a table and its class list; in a campaign's folder, both are read from there."""
    if not path.is_dir():
        return path, classes
    beside = path / "classes.parquet"
    if classes is None and beside.exists():
        with reading(beside):
            classes = read_class_list(beside)
    return path / f"{table}.parquet", classes


def indexed_answers(
    frame: pl.DataFrame, classes: ClassList | None, path: Path, *, has_ids: bool = True
) -> pa.Table:
    """Return the answers in a foreign table, with classes as numbers, and ids and answers as text.

    Numbers are ids of classes, unless they can only be keys. If `has_ids` is false, as for a column
    ``label``, those that are keys are keys. If classes are names, or have names beside their numbers, the
    metadata contain their class list.
    """
    frame, named = numbers_by_name(frame, classes, path)
    own = named if classes is None else None
    frame = frame.with_columns(answer=plain_answers(frame["answer"]))
    _check_answers(frame["answer"], path)
    if has_ids or classes is None or "class_name" in frame.columns:
        frame = frame.with_columns(class_id=ids_of_keys(frame["class_id"], classes))
    else:
        frame = frame.with_columns(pl.col("class_id").cast(pl.String))
    if frame["class_id"].dtype == pl.String:
        own, _ = named_list(frame.select("class_id"), classes, path.stem)
        frame = frame.with_columns(class_id=class_indices(frame["class_id"], own, path, ids=has_ids))
    _check_ids(frame, path)
    texts = [c for c in ("rater_id", "expert_id", "answer") if c in frame.columns]
    frame = frame.with_columns(pl.col(c).cast(pl.String) for c in ("image_id", *texts))
    about = {} if own is None else class_list_metadata(own)
    return with_image_ids(with_small_offsets(frame.to_arrow())).replace_schema_metadata(about)


def _check_ids(frame: pl.DataFrame, path: Path) -> None:
    """Raise an error for ids that are neither texts nor integers: 1.0 differs from 1 in another file."""
    for name in ("image_id", "rater_id", "expert_id"):
        kind = frame[name].dtype if name in frame.columns else pl.String()
        if not (kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum, pl.Binary, pl.Null)):
            raise InputError(
                f"The column {name!r} does not contain names.",
                where=path,
                got=kind,
                allowed="strings or whole numbers",
            )


ANSWER_WORDS = {
    **dict.fromkeys(("present",), "yes"),
    **dict.fromkeys(("absent",), "no"),
    **dict.fromkeys(UNSURE, "maybe"),
}
"""What raters write in place of yes, no and maybe, in lower case."""

_WORDS = {
    **dict.fromkeys(("true", "wahr", "y", "t"), "yes"),
    **dict.fromkeys(("false", "falsch", "n", "f"), "no"),
    **ANSWER_WORDS,
}
_NUMBERS = {"1": "yes", "0": "no"}


def plain_answers(answer: pl.Series) -> pl.Series:
    """Return answers of other tools as `ANSWERS`, ignoring case and spaces; other values are unchanged.

    1 and 0 are read as *yes* and *no* only if both occur and no other value does. A single value, or three
    different values, may have another meaning.
    """
    if answer.dtype.is_float() and (answer.fill_nan(None).drop_nulls() % 1 == 0).all():
        answer = answer.fill_nan(None).cast(pl.Int64)
    texts = answer.cast(pl.String)
    plain = texts.str.strip_chars().str.to_lowercase()
    meant = _NUMBERS if set(plain.drop_nulls()) == set(_NUMBERS) else _WORDS
    known = {**meant, **{answer: answer for answer in ANSWERS}}
    return plain.replace_strict(known, default=texts).rename("answer")


def _check_answers(answer: pl.Series, path: Path) -> None:
    counts = answer.filter(answer.is_null() | ~answer.is_in(ANSWERS)).value_counts(sort=True)
    if not len(counts):
        return
    shown = [
        f"{cut_for_message(repr(value))} in {n:,}"
        for value, n in counts.sort("count", "answer", descending=[True, False]).head(3).iter_rows()
    ]
    raise InputError(
        "A value is not an answer.",
        where=path,
        got=f"{', '.join(shown)}{', …' * (len(counts) > len(shown))} of {len(answer):,} rows",
        allowed=", ".join(ANSWERS),
        do="leave out the rows without an answer, such as skipped questions"
        if answer.null_count() == counts["count"].sum()
        else "use these words; true and false are also accepted, and so are 1 and 0 if both occur and there "
        "is no other value",
    )
