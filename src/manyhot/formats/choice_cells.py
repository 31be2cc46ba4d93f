"""Cells of tables of chosen classes: several classes in one, and the times and the order of answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import polars as pl
import pyarrow as pa

from manyhot.classes import ClassList
from manyhot.core.answers import ANSWERS
from manyhot.errors import InputError, MatchError, and_more, first_names
from manyhot.formats.class_cells import splitter
from manyhot.formats.class_names import UNSURE
from manyhot.formats.headers import fold_name, is_plural
from manyhot.formats.label_lists import names_of_cell
from manyhot.formats.reading import cut_for_message

TRUTHS = {*ANSWERS, "0", "1", "true", "false", "wahr", "falsch", "y", "n"}
"""Labels that may be answers, for tasks that name an image and a class."""


def check_no_answers(frame: pl.DataFrame, classes: ClassList | None, path: Path) -> None:
    """Raise an error if all choices are *yes*, *maybe* or *no*: then classes may stand in place of raters."""
    texts = frame["class_id"].cast(pl.String).str.strip_chars().str.to_lowercase()
    chosen = set(texts.unique()) - {"", "-1", *UNSURE}
    are_answers = bool(chosen & set(ANSWERS)) and chosen <= TRUTHS
    if classes is not None or not (are_answers or len(chosen) == 1):
        return
    raise InputError(
        "All choices are answers, not classes." if are_answers else "All raters chose the same class.",
        where=path,
        got=f"{', '.join(sorted(chosen))} of {first_names(frame['rater_id'].unique(maintain_order=True))}",
        allowed="the class that each rater chose; or image_id, class_id, rater_id and answer",
        do="if these names are classes, write one row per answer about a class; if they are raters, and the "
        "answers are the classes, pass `classes` with these answers",
    )


_BOXES = ({"x_min", "y_min"}, {"xmin", "ymin"}, {"x1", "y1"}, {"x", "y", "w", "h"}, {"bbox"})
"""Columns of boxes, of which a rater may draw several on an image."""


def has_boxes(columns: Iterable[str]) -> bool:
    """Return whether the rows of a table are boxes."""
    folded = {fold_name(column) for column in columns}
    return any(box <= folded for box in _BOXES)


def with_sets(
    frame: pl.DataFrame,
    columns: tuple[str, str, str],
    separator: str,
    classes: ClassList | None,
    path: Path,
) -> tuple[pl.DataFrame, bool]:
    """Return a table with its cells divided into lists of classes, and whether its cells are lists."""
    name = columns[2]
    cells = frame[name]
    if isinstance(cells.dtype, pl.Array):
        return frame.with_columns(cells.arr.to_list()), True
    if isinstance(cells.dtype, pl.List):
        return frame, True
    if not separator and is_plural(name) and cells.dtype in (pl.String, pl.Categorical, pl.Enum):
        texts = cells.cast(pl.String).fill_null("")
        distinct = texts.unique().to_list()
        split = splitter(name, distinct, classes, "", f"{path}, column {name}", by_row=False)
        sets = {text: [*names_of_cell(text, split)] for text in distinct}
        return frame.with_columns(texts.replace_strict(sets, return_dtype=pl.List(pl.String))), True
    if not separator:
        return frame, False
    if not isinstance(cells.dtype, pl.String | pl.Categorical | pl.Enum | pl.Null):
        raise InputError(
            "Only text can be split into classes.",
            where=f"{path}, column {name}",
            got=f"separator={separator!r}, and a column of type {cells.dtype}",
            do="leave out `separator`",
        )
    parts = cells.cast(pl.String).str.split(separator).list.eval(pl.element().str.strip_chars())
    return frame.with_columns(parts.list.eval(pl.element().filter(pl.element() != ""))), True


_MOST_DECISIONS, _N_AGREED = 5, 10
"""Number of different decisions up to which a column may contain them; of images on which all agree."""


def check_decisions(frame: pl.DataFrame, columns: tuple[str, str, str], path: Path) -> None:
    """Raise an error if the raters of each image name one class, and differ in a column of few values.

    The class is then what they were asked about, and this column contains their answers.
    """
    image, rater, chosen = columns
    words = (pl.String, pl.Categorical, pl.Enum, pl.Boolean)
    rest = [
        c
        for c in frame.columns
        if c not in columns
        and (frame[c].dtype in words or (frame[c].dtype.is_integer() and frame[c].is_between(0, 1).all()))
        and 1 < frame[c].drop_nulls().n_unique() <= _MOST_DECISIONS
    ]
    numbers = pl.col(rater, chosen, *rest).n_unique()
    judged = frame.group_by(image).agg(numbers).filter(pl.col(rater) > 1) if rest else frame.head(0)
    if len(judged) < _N_AGREED or (judged[chosen] > 1).any():
        return
    own = frame.group_by(rater).agg(pl.col(rest).n_unique())  # a column on raters, such as their language
    found = [c for c in rest if (judged[c] > 1).any() and (own[c] > 1).any()]
    if found:
        values = sorted(map(str, frame[found[0]].drop_nulls().unique()))
        raise InputError(
            f"The raters of each image name the same class and differ in the column {found[0]!r}, so the "
            "class may be what they were asked about.",
            where=path,
            got=f"{', '.join(map(cut_for_message, values))} for the same class of an image",
            allowed="image_id, class_id, rater_id and answer, which is yes, maybe or no",
            do=f"rename {found[0]!r} to answer and use these words, or drop it if raters chose the class",
        )


_JOINED = re.compile(r"\s*([|;,])\s*")
"""What often stands between the classes of a cell."""


def check_joined(cells: pl.Series, classes: ClassList | None, path: Path, name: str) -> None:
    """Raise an error for cells that are not a class but name several classes, in the format `name`.

    Without a class list, a cell such as dog|cat names several classes if other cells are dog and cat, and a
    cell such as *dog cat* does if the cells combine few words.
    """
    distinct = cells.drop_nulls().str.strip_chars().unique(maintain_order=True).to_list()
    seen, are_tags = set(distinct), classes is None and _combine_words(distinct)

    def is_class(text: str) -> bool:
        return text in seen if classes is None else classes.find(text) is not None

    for text in distinct:
        found = _JOINED.search(text)
        parts = text.split() if found is None else [*filter(None, _JOINED.split(text)[::2])]
        if len(parts) < 2 - bool(found) or (classes is not None and is_class(text)):
            continue
        if are_tags if found is None and classes is None else all(map(is_class, parts)):
            option = f"{name}(separator={' ' if found is None else found[1]!r})"
            raise InputError(
                "A cell names several classes.",
                where=path,
                got=cut_for_message(text),
                allowed="one class per row; or lists of classes",
                do=f'to divide the cells, pass `format`="{option}"'
                + (
                    "; if the cell is the name of one class, pass the list of all classes as `classes`"
                    if classes is None
                    else ""
                ),
            )


def _combine_words(cells: list[str]) -> bool:
    """Return whether cells combine few words, as tags do: fewer than there are cells, in any order.

    Names such as *polar bear* and *black bear* begin with words that are not the end of others.
    """
    several = [words for cell in cells if len(words := cell.split()) > 1]
    first, distinct = {words[0] for words in several}, {word for cell in cells for word in cell.split()}
    return len(distinct) < len(cells) and any(word in first for words in several for word in words[1:])


def check_sets_once(chosen: pl.DataFrame, path: Path) -> None:
    """Raise an error if a rater chose two sets of classes for an image and neither row is the later one."""
    pair = ["image_id", "rater_id"]
    twice = chosen.filter(pl.struct(pair).is_duplicated())
    if len(twice):
        image, rater = twice.row(0)[:2]
        n = twice.select(pair).n_unique()
        raise MatchError(
            "A rater chose two sets of classes for an image.",
            where=f"{path}, image {image}{and_more(n - 1)}",
            got=f"rater {rater}",
            allowed="one row per rater and image, or a column 'answered_at' that gives their order",
        )


WHEN = "answered_at"

_KEPT = {f"kept {name}": name for name in ("shown_at", WHEN)}
"""Columns of times, beside those that only order answers."""


def kept_times(frame: pl.DataFrame) -> Iterator[pl.Series]:
    """Yield when questions were shown and answered, if both columns contain times with a time zone."""
    found = []
    for kept, name in _KEPT.items():
        with suppress(pa.ArrowException):
            if name in frame.columns and not frame[name].dtype.is_numeric():
                times = frame[name].to_arrow().cast(pa.timestamp("us", "UTC"))
                found.append(pl.Series(kept, times))
    if len(found) == len(_KEPT):
        yield from found


def vote_times(frame: pl.DataFrame) -> pa.Table | None:
    """Return the times of votes as columns of the votes table."""
    kept = {name: frame[column].to_arrow() for column, name in _KEPT.items() if column in frame.columns}
    return pa.table(kept) if kept else None


def order_of(
    frame: pl.DataFrame, columns: tuple[str, str, str], when: str, page: str | None, path: Path
) -> pl.Series:
    """Return when each row was submitted, as a number; 0 if the rater answered the image only once."""
    image, rater, chosen = columns
    again = pl.col(chosen).count() > 1 if page is None else pl.col(page).n_unique() > 1
    rows = frame.select(again.over(image, rater)).to_series().arg_true()
    times = _times(frame[when].gather(rows), path)
    if page is not None:  # the rows of a page may have the time of each click
        parts = frame.select(pl.col(image, rater, page).gather(rows)).with_columns(times.alias(WHEN))
        times = parts.select(pl.col(WHEN).max().over(image, rater, page)).to_series()
    return pl.zeros(len(frame), times.dtype, eager=True).scatter(rows, times).alias(WHEN)


def _times(values: pl.Series, path: Path) -> pl.Series:
    """Return times as numbers."""
    values = values.fill_nan(None) if values.dtype.is_float() else values
    if values.null_count():
        raise InputError(
            f"The column {WHEN!r} contains an empty value.",
            where=path,
            got=f"{values.null_count():,} of {len(values):,} rows of raters who answered an image again",
            allowed="a time in each of these rows, or no such column",
        )
    if values.dtype.is_numeric() or values.dtype.is_temporal():
        return values.to_physical()
    for zone in ("UTC", None):
        with suppress(pa.ArrowException):
            return pl.Series(values.to_arrow().cast(pa.timestamp("ns", zone)).cast(pa.int64()))
    raise InputError(
        f"The column {WHEN!r} does not contain times.",
        where=path,
        got=cut_for_message(", ".join(map(str, values.head(8)))),
        allowed="times such as 2021-03-09T22:16:08Z, all with a time zone or all without, or numbers",
    )
