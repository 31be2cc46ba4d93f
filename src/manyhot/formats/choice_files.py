"""Votes in which a rater chose one class of all: crowd-kit's and peerannot's files, matrices and counts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy import typing as npt

from manyhot.classes import ClassList, class_list, classes_seen, from_keys
from manyhot.core.answers import ANSWERS
from manyhot.core.array_types import Ints64
from manyhot.errors import InputError, first_names
from manyhot.formats.array_files import load_array, members
from manyhot.formats.choice_cells import (
    TRUTHS,
    WHEN,
    check_decisions,
    check_joined,
    check_no_answers,
    check_sets_once,
    has_boxes,
    kept_times,
    order_of,
    vote_times,
    with_sets,
)
from manyhot.formats.class_names import class_indices, numbers_by_name, undecided
from manyhot.formats.class_numbers import classes_of_numbers, keys_of_numbers
from manyhot.formats.headers import (
    CLASS_NAME_COLUMNS,
    IMAGE_NAME_COLUMNS,
    RATER_NAMES,
    first_column,
    fold_name,
    image_name_column,
)
from manyhot.formats.prediction_lists import are_scores_by_class
from manyhot.formats.reading import cut_for_message, declared, head, load_json, only_by_name, with_image_ids
from manyhot.formats.table_files import TABLE_SUFFIXES, column_names, read_frame
from manyhot.parameters import check_one_of
from manyhot.registry import register
from manyhot.tables import Votes
from manyhot.tables.choices import UNDECIDED, ChoiceColumns
from manyhot.tables.own_classes import is_class_number
from manyhot.tables.votes import COUNTED_CLASS, ONE_CLASS

IMAGE_NAMES = (
    *("image_id", "task", "image", "item"),
    *IMAGE_NAME_COLUMNS[: IMAGE_NAME_COLUMNS.index("id")],  # in votes, id may be the number of the row
)
CHOSEN_NAMES = ("class_id", "label", "class", "chosen", "class_name", *CLASS_NAME_COLUMNS)
"""Names of the columns of choices, with one vote per row."""

SHOWN = ("all", "chosen")
_PAGES = ("page_id", "classification_id", "submission_id")  # of rows submitted together

_SAMPLE = 1_000
"""Number of rows from which it is detected whether labels are answers or classes."""

_PEERANNOT = re.compile(r'\{\s*("[^"]*"\s*:\s*\{\s*\}\s*,\s*)*"[^"]*"\s*:\s*\{\s*"[^"]*"\s*:\s*("|-?\d)')
"""The first answer in a file of peerannot; images before it may have none."""

_RANDOM = re.compile(r"random(_label)?_?\d+")
_NUMBER = r"-?\d+(?:\.\d*)?(?:e[+-]?\d+)?"
_ARRAYS = ("choices", "votes", "random")

_NO_RATERS = frozenset((*RATER_NAMES, *CHOSEN_NAMES, *("question", "prompt", "proposal", "answer", "vote")))
"""Columns of tables with one answer per row, which are not named after raters."""


def _is_peerannot(path: Path) -> bool:
    return _PEERANNOT.match(head(path)) is not None


def choice_columns(columns: Iterable[str]) -> tuple[str, str, str] | None:
    """Return the columns of the image, the rater and the class; None if there are no choices."""
    columns = list(columns)
    found = [first_column(columns, names) for names in (IMAGE_NAMES, RATER_NAMES, CHOSEN_NAMES)]
    if None in found or first_column(columns, ("answer",)):
        return None
    return str(found[0]), str(found[1]), str(found[2])


def are_answers(frame: pl.DataFrame, task: str, label: str) -> bool:
    """Return whether labels are answers about an image and a class, rather than classes."""
    labels = set(frame[label].cast(pl.String).drop_nulls().str.strip_chars().str.to_lowercase().unique())
    if labels & set(ANSWERS):
        return True
    asks = frame[task].cast(pl.String).drop_nulls().str.contains(r".:.")
    return bool(labels) and labels <= TRUTHS and len(asks) > 0 and bool(asks.all())


def _matches(path: Path) -> bool:
    columns = None if declared(path) else choice_columns(column_names(path))
    if columns is None:
        return False
    image, _, chosen = columns
    return fold_name(image) != "task" or not are_answers(_some_rows(path), image, chosen)


def is_crowd_kit(path: Path) -> bool:
    """Return whether a file has crowd-kit's columns, with answers as labels."""
    if declared(path) or not {"task", "worker", "label"} <= set(column_names(path)):
        return False
    return are_answers(_some_rows(path), "task", "label")


def _some_rows(path: Path) -> pl.DataFrame:
    """Return the first rows of a table; none if the file is damaged, as the reader reports."""
    try:
        return read_frame(path, most_rows=_SAMPLE).head(_SAMPLE)
    except InputError:
        return pl.DataFrame({"task": ["a:b"], "worker": ["x"], "label": ["no"]})


@register(
    "format",
    "choices",
    holds="votes",
    suffixes=TABLE_SUFFIXES,
    matches=_matches,
    needs="image_id, rater_id and class_id, or task, worker and label",
)
def read_choices(
    path: Path, *, classes: ClassList | None, several: bool = False, shown: str = "all", separator: str = ""
) -> Votes:
    """A table with one chosen class per row: ``image_id,rater_id,class_id``, or crowd-kit's columns.

    If the cells are lists of classes, texts that a `separator` divides, or in a column with a plural name,
    such as ``tags``, each row is a set of classes. If the rows have boxes, all classes with a row are a set.

    Parameters
    ----------
    several : bool
        Whether raters chose sets of classes, with one row for each class of a set. A row without a class is
        an empty set. The votes are then *yes* and *no* answers. All rows with the same rater and image form
        one set. If the table has the columns ``page_id`` and ``answered_at``, only the rows of the last page
        form the set.
    shown : {"all", "chosen"}
        For sets, the classes that raters were asked about: all classes, or the classes that some rater chose
        for the image.
    separator : str
        Text between the classes of a cell, such as ``|``. By default, cells of a column such as ``tags`` are
        divided as in `label-lists`.
    """
    frame, classes = numbers_by_name(read_frame(path), classes, path)
    check_one_of(shown, SHOWN, "There is no such set of shown classes.", where=path)
    columns = choice_columns(frame.columns)
    if columns is None:
        raise InputError(
            "The table contains no choices.",
            where=path,
            got=", ".join(frame.columns),
            allowed="columns of images, raters and classes, such as image_id, rater_id and class_id",
        )
    names = dict(zip(columns, ("image_id", "rater_id", "class_id"), strict=True))
    frame, are_sets = with_sets(frame, columns, separator, classes, path)
    several = several or are_sets or has_boxes(frame.columns)
    page = first_column(frame.columns, _PAGES) if several else None
    when = None if several and page is None and not are_sets else first_column(frame.columns, (WHEN,))
    order = [] if when is None else [order_of(frame, columns, when, page, path)]
    chosen = frame.select(*columns, *order, *kept_times(frame)).rename(names)
    if not are_sets:
        check_decisions(frame, columns, path)
        if chosen["class_id"].dtype == pl.String:
            check_joined(chosen["class_id"], classes, path, "choices")
        votes = _votes(chosen, classes, path, several=several, shown=shown)
        boxes = ("boxes: a rater answered yes to all classes with a row",) * has_boxes(frame.columns)
        return replace(votes, left_out=(*votes.left_out, *boxes))
    return _votes_for_sets(chosen, classes, path, shown)


def _votes_for_sets(frame: pl.DataFrame, classes: ClassList | None, path: Path, shown: str = "all") -> Votes:
    """Return votes from the columns image_id, rater_id and class_id, which contains lists."""
    if WHEN not in frame.columns:
        check_sets_once(frame, path)
    # Polars 2 leaves out the rows of empty lists, which are empty sets, but not those of null.
    lists = pl.when(pl.col("class_id").list.len() > 0).then("class_id")
    exploded = frame.with_columns(class_id=lists).explode("class_id")
    return _votes(exploded, classes, path, several=True, shown=shown)


@register(
    "format",
    "peerannot",
    holds="votes",
    suffixes=(".json",),
    matches=lambda path: _is_peerannot(path) and not are_scores_by_class(head(path)),
    explicit=_is_peerannot,
)
def read_peerannot(path: Path, *, classes: ClassList | None) -> Votes:
    """Peerannot's ``answers.json``: for each image, the class that each rater chose."""
    content = load_json(path)
    rows = [
        (str(image), str(rater), chosen)
        for image, answers in _items(content, path)
        for rater, chosen in _items(answers, path)
    ]
    odd = next((c for _, _, c in rows if not _is_class(c)), None)
    if odd is not None:
        raise InputError(
            "This is not a class.",
            where=path,
            got=cut_for_message(repr(odd)),
            allowed='a number or a name for each rater, such as {"0": {"ann": 3}}',
        )
    image, rater, chosen = zip(*rows, strict=True) if rows else ((), (), ())
    text = any(isinstance(c, str) for c in chosen)
    column = pl.Series([str(c) if text else c for c in chosen], dtype=pl.String if text else pl.Int64)
    frame = pl.DataFrame({"image_id": list(image), "rater_id": list(rater), "class_id": column})
    check_no_answers(frame, classes, path)
    return _votes(frame, classes, path)


def _is_class(chosen: Any) -> bool:
    """Return whether a value can be the name or the number of a class."""
    return isinstance(chosen, str) or (type(chosen) is int and abs(chosen) < 1 << 31)


def _items(content: Any, path: Path) -> Iterable[tuple[str, Any]]:
    if not isinstance(content, Mapping):
        raise InputError(
            "The file does not contain answers of raters.",
            where=path,
            got=cut_for_message(repr(content)),
            allowed='an object that maps each image to the choices of its raters, such as {"0": {"ann": 3}}',
        )
    return content.items()


def _wide(path: Path) -> bool:
    """Return whether a file may have one column per rater.

    Raises
    ------
    InputError
        If the columns contain numbers, which may be classes or counts.
    """
    if declared(path) or image_name_column(column_names(path)) is None or len(column_names(path)) < 3:
        return False
    frame = _some_rows(path)
    others = [c for c in frame.columns if c != image_name_column(frame.columns)]
    if any(fold_name(c) in _NO_RATERS for c in others):
        return False
    if not all(frame[c].dtype.is_numeric() or frame[c].dtype == pl.Null for c in others):
        return all(frame[c].dtype in (pl.String, pl.Null) for c in others)
    raise InputError(
        "The numbers in this table may be classes (one column per rater) or counts (one column per class).",
        where=path,
        got=f"the columns {first_names(frame.columns)}",
        do="pass the format `rater-columns` or `counts` as `format`",
    )


@register(
    "format",
    "rater-columns",
    holds="votes",
    suffixes=TABLE_SUFFIXES,
    matches=only_by_name,
    explicit=_wide,
    needs="image_id and one column per rater",
)
def read_rater_columns(path: Path, *, classes: ClassList | None, separator: str = "") -> Votes:
    """A table with one row per image, and one column per rater with the class that the rater chose.

    An empty cell means that the rater gave no answer; so does -1 if classes are given as numbers.

    Parameters
    ----------
    separator : str
        Text between the classes of a cell. Each cell is then a set, and raters were asked about all classes.
    """
    frame = read_frame(path)
    image = column_of_images(frame, path)
    long = frame.unpivot(index=image, variable_name="rater_id", value_name="class_id")
    long = long.rename({image: "image_id"}).filter(pl.col("class_id").is_not_null())
    no_answer = -1 if long["class_id"].dtype.is_numeric() else ""
    check_no_answers(long, classes, path)
    long = long.filter(pl.col("class_id") != no_answer)
    if separator:
        long, _ = with_sets(long, ("image_id", "rater_id", "class_id"), separator, classes, path)
        n_empty = len(frame) * (len(frame.columns) - 1) - len(long)
        left_out = (f"empty cells ({n_empty:,}), which are no answers",) if n_empty else ()
        return replace(_votes_for_sets(long, classes, path), left_out=left_out)
    if long["class_id"].dtype == pl.String:
        check_joined(long["class_id"], classes, path, "rater-columns")
    return _votes(long, classes, path)


def column_of_images(frame: pl.DataFrame, path: Path) -> str:
    """Return the column with the names of the images.

    Raises
    ------
    InputError
        If there is no such column, or no other column.
    """
    column = image_name_column(frame.columns)
    if column is None or len(frame.columns) < 2:
        raise InputError(
            "The table does not name its images.",
            where=path,
            got=f"the columns {', '.join(frame.columns[:8])}",
            allowed="a column 'image_id', and at least one other column",
            do="rename the column with the names of the images to image_id",
        )
    return column


@register(
    "format",
    "choice-arrays",
    holds="votes",
    suffixes=(".npz",),
    matches=lambda path: bool(
        {"choices", "random"} & members(path) or any(_RANDOM.fullmatch(m) for m in members(path))
    ),
)
def read_choice_arrays(path: Path, *, classes: ClassList | None) -> Votes:
    """An archive with the chosen classes of n images: ``choices`` of shape (n, v), or ``random_label1``, ….

    -1 means no answer. ``raters``, of the same shape, names the raters. Without it, it is unknown who gave
    the votes, as in CIFAR-10N. ``image_id`` contains the image ids. Without it, images are numbered from 0.
    ``class_names`` is the class list.
    """
    arrays = load_array(path)
    columns = sorted((n for n in arrays if _RANDOM.fullmatch(n)), key=lambda n: int(re.findall(r"\d+", n)[0]))
    name = next((n for n in _ARRAYS if n in arrays), None)
    chosen = np.stack([arrays[n] for n in columns], 1) if name is None else arrays[name]
    if classes is None and "class_names" in arrays:
        classes = from_keys([str(n) for n in arrays["class_names"]], path.stem)
    return _of_matrix(chosen, arrays.get("raters"), arrays.get("image_id"), classes, path)


_LARGEST = 1e15
"""The largest number that is read as a class; infinity is none."""


@register(
    "format",
    "answer-matrix",
    holds="votes",
    suffixes=(".txt",),
    matches=lambda path: re.match(rf"\s*{_NUMBER}([ \t]+{_NUMBER})+\s*(\n|$)", head(path)) is not None,
)
def read_answer_matrix(path: Path, *, classes: ClassList | None) -> Votes:
    """A text file of numbers, one row per image and one column per rater, as for LabelMe; -1 means no answer.

    Images and raters are numbered from 0. Numbers may be written as 1.0 or 1e+00, as NumPy writes them.
    """
    try:
        numbers = np.loadtxt(path, ndmin=2)
        if (strange := numbers[(numbers != np.rint(numbers)) | (np.abs(numbers) > _LARGEST)]).size:
            raise ValueError(f"could not read {strange[0]:g} as a whole number")
        chosen = numbers.astype(np.int64)
    except ValueError as error:
        raise InputError(
            "The file is not a matrix of whole numbers.",
            where=path,
            got=str(error).partition("\n")[0],
            allowed="one row per image, one column per rater, -1 for no answer",
        ) from error
    return _of_matrix(chosen, np.broadcast_to(np.arange(chosen.shape[1]), chosen.shape), None, classes, path)


def _of_matrix(
    chosen: npt.NDArray[Any],
    raters: npt.NDArray[Any] | None,
    ids: npt.NDArray[Any] | None,
    classes: ClassList | None,
    path: Path,
) -> Votes:
    """Return votes from a matrix with one row per image."""
    wrong = chosen.ndim != 2 or chosen.dtype.kind not in "iu"
    if (
        wrong
        or (raters is not None and raters.shape != chosen.shape)
        or (ids is not None and len(ids) != len(chosen))
    ):
        shapes = [f"choices of shape {chosen.shape} and type {chosen.dtype}"]
        shapes += [
            f"{n} of shape {a.shape}" for n, a in (("raters", raters), ("image_id", ids)) if a is not None
        ]
        raise InputError(
            "The arrays do not contain one class per image and rater.",
            where=path,
            got=", ".join(shapes),
            allowed="whole numbers of shape (n, v); raters of the same shape; image_id of shape (n,)",
        )
    image, column = np.nonzero(chosen.astype(np.int64) >= 0)
    names = np.arange(len(chosen)).astype(str) if ids is None else ids.astype(str)
    who = column + 1 if raters is None else raters[image, column]
    listed, class_id = _classes(pl.Series(chosen[image, column].astype(np.int64)), classes, path)
    kind = COUNTED_CLASS if raters is None else ONE_CLASS
    return columns_of_votes(names[image], who, class_id, listed, path, kind).to_votes()


def _votes(
    frame: pl.DataFrame, classes: ClassList | None, path: Path, *, several: bool = False, shown: str = "all"
) -> Votes:
    """Return votes from the columns image_id, rater_id and class_id."""
    for name in ("image_id", "rater_id"):
        if frame[name].null_count():
            raise InputError(
                f"A vote has no {'image' if name == 'image_id' else 'rater'}.",
                where=path,
                got=f"{frame[name].null_count():,} of {len(frame):,} rows",
                allowed="an image and a rater in each row",
            )
    if isinstance(frame["class_id"].dtype, pl.Categorical | pl.Enum):
        frame = frame.with_columns(pl.col("class_id").cast(pl.String))
    frame = frame.with_columns(class_id=keys_of_numbers(frame["class_id"], classes, path))
    answered = frame if several else frame.filter(pl.col("class_id").is_not_null())
    words = undecided(answered["class_id"].unique(maintain_order=True), classes)
    is_undecided = answered["class_id"].is_in(words)
    chosen = answered.select(pl.when(~is_undecided).then("class_id").alias("class_id"))["class_id"]
    listed, class_id = _classes(chosen, classes, path)
    class_id = np.where(is_undecided.fill_null(False).to_numpy(), UNDECIDED, class_id)
    n_empty = len(frame) - len(answered)
    columns = columns_of_votes(
        answered["image_id"].cast(pl.String).to_numpy(),
        answered["rater_id"].cast(pl.String).to_numpy(),
        class_id,
        listed,
        path,
        left_out=(f"{n_empty:,} rows without a class",) if n_empty else (),
        order=answered[WHEN].to_numpy() if WHEN in answered.columns else None,
        more=vote_times(answered),
    ).decided(words)
    return columns.to_sets(shown) if several else columns.to_votes()


def _classes(values: pl.Series, classes: ClassList | None, path: Path) -> tuple[ClassList, Ints64]:
    """Return the class list of chosen classes, and the class id of each choice, which is -1 for null.

    Without a list, numbers are listed by `classes_of_numbers`, and names are those of ImageNet-1k if all are
    keys of it.
    """
    if values.dtype in (pl.String, pl.Null):
        distinct = {name for v in values.drop_nulls().unique().to_list() if (name := v.strip())}
        listed = class_list() if classes is None else classes
        if classes is None and distinct and all(is_class_number(n) and len(n) < 7 for n in distinct):
            listed = classes_of_numbers(map(int, distinct), path.stem)
        elif classes is None and not (distinct and distinct <= set(listed.keys)):
            listed = classes_seen(distinct, path.stem)
        values = values.cast(pl.String)
        return listed, class_indices(values, listed, path).fill_null(-1).to_numpy().astype(np.int64)
    if not values.dtype.is_integer():
        raise InputError(
            "These are not classes.",
            where=path,
            got=f"a column of type {values.dtype}",
            allowed="whole numbers or names",
        )
    most = len(classes) if classes is not None else 1_000_000
    numbers = values.cast(pl.Float64)  # in a narrow type, Polars cannot compare with a large number
    strange = values.filter((numbers < 0) | (numbers >= most))
    if len(strange):
        raise InputError(
            "Some votes are for classes that are not in the class list.",
            where=path,
            got=f"{strange[0]} in {len(strange):,} of {len(values):,} votes",
            allowed=f"0 to {most - 1}",
            do="pass the list of all classes as `classes`",
        )
    ids = values.cast(pl.Int64)
    if classes is None:
        classes = classes_of_numbers(ids.drop_nulls().unique().to_list(), path.stem)
        ids -= int(classes.keys[0])
    return classes, ids.fill_null(-1).to_numpy()


def columns_of_votes(
    image: npt.NDArray[Any],
    rater: npt.NDArray[Any],
    class_id: Ints64,
    classes: ClassList,
    path: Path,
    kind: str = ONE_CLASS,
    left_out: tuple[str, ...] = (),
    order: Ints64 | None = None,
    more: pa.Table | None = None,
) -> ChoiceColumns:
    """Return choices with one row per vote; images and raters may be numbers.

    If `order` says when each vote was given, the last answer of a rater to an image counts.
    """
    names, who = (pa.array(a.astype(str) if a.dtype.kind in "iu" else a, pa.string()) for a in (image, rater))
    images, raters = with_image_ids(pa.table({"image_id": names}))["image_id"], pa.chunked_array([who])
    columns = ChoiceColumns(images, raters, class_id, classes, path.stem, kind, left_out, order, more)
    return columns.last_answers()
