"""Tables with one column per class: 0 and 1 are label sets, fractions are scores.

The columns name the classes. Columns with other content, such as a patient's age, are not classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from manyhot.classes import ClassList
from manyhot.core.array_types import Floats
from manyhot.core.sets import NO, NOT_ASKED, UNCLEAR, YES
from manyhot.errors import InputError, first_names
from manyhot.formats.array_files import first_of_equal_rows
from manyhot.formats.class_names import ClassIds, ids_of_columns, lookup_in, part_of_list
from manyhot.formats.headers import (
    ID_NEEDS,
    RATER_NAMES,
    REMARKS,
    class_name_column,
    first_column,
    fold_name,
    image_name_column,
    is_metadata,
)
from manyhot.formats.number_columns import (
    NumberColumn,
    check_minus_one,
    check_no_text,
    check_one_row,
    check_states,
    describe_columns,
    note_on_states,
    read_flat_frame,
    unread_columns,
    value_columns,
)
from manyhot.formats.reading import cut_for_message, declared, image_ids, states_of_values, stored_states
from manyhot.formats.table_files import column_names
from manyhot.formats.tabular import possible_tables
from manyhot.parameters import check_one_of
from manyhot.registry import register
from manyhot.tables import Images, Labels, Predictions
from manyhot.tables.label_values import are_counts, check_label_values, columns_of_values, is_exclusive
from manyhot.tables.own_classes import check_targets
from manyhot.tables.unshared_classes import CELL_OF_CLASS

_MEANINGS_OF_EMPTY = {"unclear": UNCLEAR, "not asked": NOT_ASKED, "no": NO}
_MEANINGS = _MEANINGS_OF_EMPTY | {"yes": YES}

_PREFIXES = ("label_", "labels_", "class_", "classes_", "tag_", "tags_", "category_", "target_", "y_")
"""Prefixes that pandas.get_dummies puts before the classes; removed if all classes have the same."""

_ALMOST = 0.9
"""Share of zeros and ones from which a column with other content may be a class with mistakes."""

_MANY = 0.5
"""Share of states from which a note names a column of texts that is not read."""

_SAMPLE = 1000
"""Number of rows that are read to recognise a table; its reader checks all rows."""

OTHER_TABLES = frozenset(
    (
        *("class_id", "rater_id", "expert_id", "worker", "n_models", "answer", "score", "rank"),
        *("x1", "xmin", "bbox", "labelname"),
    )
)
"""Columns of votes, predictions and objects."""

_SUFFIXES = (".csv", ".tsv", ".parquet")


def _candidates(path: Path, *, beside_labels: bool = False) -> list[NumberColumn]:
    """Return the columns that may be classes; none if the table has another format.

    If `beside_labels` is true, a column with names of classes may be beside their columns of scores.
    """
    names = column_names(path)
    folded, label = {fold_name(name) for name in names}, class_name_column(names)
    if (
        declared(path)
        or (ids := image_name_column(names)) is None
        or folded & OTHER_TABLES
        or names == ["image_id"]
    ):
        return []
    if label is not None and not beside_labels:
        return []
    if set(possible_tables(names)) - {"images"}:
        return []
    frame = read_flat_frame(path, most_rows=_SAMPLE).head(_SAMPLE)
    if first_column(names, RATER_NAMES) and frame[ids].is_duplicated().any():
        return []  # answers of several raters
    if label is not None and not set(frame[label].cast(pl.String).drop_nulls()) <= set(names):
        return []
    return [c for c in value_columns(frame) if not is_metadata(c.name)]


def _recognised(
    by: Callable[[list[NumberColumn]], bool], *, damaged: bool, beside_labels: bool = False
) -> Callable[[Path], bool]:
    """Return a function that tests the columns of a file; `damaged` if the reader reports what is wrong."""

    def matches(path: Path) -> bool:
        try:
            return by(_candidates(path, beside_labels=beside_labels))
        except InputError:
            return damaged

    return matches


def _hold_labels(columns: list[NumberColumn]) -> bool:
    # A column of metadata may contain fractions, and all scores of a rare class may be 0.
    n_states = sum(c.holds_states or _has_odd_state(c) for c in columns)
    more_states = n_states > sum(c.holds_scores for c in columns)
    return more_states or _hold_counts(_number_columns(columns))


def _has_odd_state(column: NumberColumn) -> bool:
    """Return whether nearly all cells of a column of texts are states, and others may be mistakes."""
    return column.odd is not None and column.share_of_states >= _ALMOST


def _number_columns(columns: Sequence[NumberColumn]) -> list[NumberColumn]:
    return [c for c in columns if not c.is_text and not c.is_empty and not is_metadata(c.name)]


def _matrix(columns: Sequence[NumberColumn]) -> Floats:
    return np.stack([c.values for c in columns], axis=1)


def _hold_scores(columns: list[NumberColumn]) -> bool:
    n_scores = sum(c.holds_scores for c in columns)
    return len(columns) > 1 and n_scores > 0 and n_scores >= sum(c.holds_states for c in columns)


def _may_hold_scores(columns: list[NumberColumn]) -> bool:
    """Return whether a table that is passed as predictions has columns of scores.

    0 and 1 are scores, too, and so are several columns of whole numbers, such as percent.
    """
    if any(c.holds_scores or (c.holds_states and (c.values >= 0).all()) for c in columns):
        return True
    if any(c.odd for c in columns):
        return True  # the reader names the cell
    return len(_number_columns(columns)) > 1


@register(
    "format",
    "indicator",
    holds="labels",
    suffixes=(*_SUFFIXES, ".txt"),
    matches=_recognised(_hold_labels, damaged=True),
    explicit=_recognised(lambda columns: _hold_counts(_number_columns(columns)), damaged=False),
    numbers=_recognised(lambda columns: bool(_number_columns(columns)), damaged=True, beside_labels=True),
    needs=f"{ID_NEEDS}, and one column of 0 and 1 per class",
)
def read_indicator(
    path: Path,
    *,
    classes: ClassList | None,
    label_values: str | None = None,
    minus_one: str = "",
    empty: str = "not asked",
    prefix: str = "",
) -> Labels:
    """One column of zeros and ones per class, as in tables from Kaggle, CheXpert and pandas.get_dummies.

    A cell is 1 or true (*yes*), 0 or false (*no*), -1, or empty. All columns that contain only such cells are
    classes, except metadata columns, such as *age*, *sex* and *split*. With a class list, only its classes
    are read. Otherwise, the classes are in the order of the columns. Columns of other numbers are not read.
    The notes of the labels name these columns, and empty columns.

    The numbers may also be votes of raters who chose one class per image: counts or, with `label_values`,
    shares. The label set then contains the class with the most votes, and the shares are the probabilities
    ``p``. Counts are recognised as in `values_kind`; other whole numbers need `label_values`.

    Parameters
    ----------
    label_values : {"states", "counts", "shares", "p", "yes-of-5"}, optional
        Meaning of the numbers: states (0, 1 and -1), counts or shares of raters who chose one class per
        image, probabilities of classes that can be valid together, or how many of 5 raters (or another
        number) answered yes to a class. By default, states and counts are recognised.
    minus_one : {"unclear", "not asked", "no", "yes"}
        Meaning of -1, as in ``indicator(minus_one='no')``; by default unclear, but a table with hardly any 0
        is refused, because -1 may mean no. In CheXpert, -1 means uncertain; its authors'
        policies U-Zeros and U-Ones correspond to *no* and *yes*.
    empty : {"not asked", "no", "unclear"}
        Meaning of an empty cell. In CheXpert, it means that the report does not mention the class.
    prefix : str
        Prefix to remove from the names of class columns, as in ``indicator(prefix='label_')``.

    References
    ----------
    Irvin et al. 2019, arXiv 1901.07031 (CheXpert).
    """
    unclear = minus_one or "unclear"
    for name, value, allowed in (("minus_one", unclear, _MEANINGS), ("empty", empty, _MEANINGS_OF_EMPTY)):
        check_one_of(value, allowed, f"The option {name!r} is not a state.", where=path)
    columns, image_id = _read_columns(path, prefix)
    check_one_row(columns, image_id, path)
    check_label_values(label_values or "states", path)
    meanings = (_MEANINGS[unclear], _MEANINGS[empty])
    is_declared = bool(minus_one)
    return labels_of_columns(
        columns, image_id, classes, path, meanings, label_values, prefix, is_declared=is_declared
    )


def labels_of_columns(
    columns: Sequence[NumberColumn],
    image_id: pa.Array,
    classes: ClassList | None,
    path: Path,
    meanings: tuple[int, int],
    label_values: str | None = None,
    prefix: str = "",
    *,
    is_declared: bool = False,
) -> Labels:
    """Return label sets from columns of numbers; `meanings` are the states of -1 and of an empty cell.

    Unless the caller has declared what -1 means, it may be *no*, which is an error.
    """
    named = _number_columns(columns) if classes is None else _columns_of_classes(columns, classes, path)[0]
    kind = label_values or ("counts" if _hold_counts(named, path) else "states")
    if classes is None:
        chosen = _label_columns(columns, prefix, path) if kind == "states" else _number_columns(columns)
        own, at = _own_classes(chosen, prefix, path)
    else:
        chosen, at = _columns_of_classes(columns, classes, path)
        own = ClassIds({}, len(classes), classes.hash)
    notes = tuple(_notes(columns, chosen, classes))
    rated = {"image_id": image_id, "usable": np.ones(len(image_id), bool)}
    if kind != "states":
        values = np.full((len(image_id), own.n_classes), 0.0 if is_exclusive(kind) else np.nan)
        values[:, at] = _matrix(chosen)
        voted = columns_of_values(values, kind, image_id, path)
        about = (own.n_classes, own.class_hash, True, path.stem, own.class_list)
        return Labels(pa.table(rated | voted), *about, exclusive=is_exclusive(kind), notes=notes)
    for column in chosen:
        check_states(column, path)
    state = np.full((len(image_id), own.n_classes), NOT_ASKED, np.uint8)
    for i, column in zip(at, chosen, strict=True):
        state[:, i] = states_of_values(column.values, *meanings)
    if not is_declared:
        check_minus_one(state, [c for c in chosen if not c.is_empty], path)
    rated["usable"] = (state != NOT_ASKED).any(axis=1)
    answers, asked_known, complete = stored_states(state)
    about = (own.n_classes, own.class_hash, asked_known, path.stem, own.class_list)
    return Labels(
        pa.table(rated | answers),
        *about,
        complete=complete,
        positives_only=not asked_known,
        notes=notes,
        unread=unread_columns(columns, chosen),
    )


def _notes(
    columns: Sequence[NumberColumn], chosen: Sequence[NumberColumn], classes: ClassList | None
) -> Iterator[str]:
    """Yield which columns of numbers are not read, and which classes nobody was asked about."""
    names = {c.name for c in chosen}
    rest = [c for c in columns if c.name not in names and not (c.is_text or is_metadata(c.name))]
    if empty := [c.name for c in (chosen if classes is None else ()) if c.is_empty]:
        yield f"the labels have empty columns, for classes that no rater was asked about: {_several(empty)}"
    if classes is None and (others := [c.name for c in rest if not c.is_empty]):
        yield (
            "columns of the labels with numbers other than 0, 1 and -1 are not read as classes: "
            f"{_several(others)}"
        )
    texts = [c.name for c in columns if c.share_of_states >= _MANY and not is_metadata(c.name)]
    if classes is None and (note := note_on_states(columns, chosen)):
        yield note
    if classes is None and texts:
        yield (
            "columns of the labels in which some cells contain text other than yes, no and maybe are not "
            f"read as classes: {_several(texts)}"
        )
    if classes is not None and (others := [c.name for c in rest if c.holds_states]):
        yield (
            "columns of zeros and ones that are not in the class list are left out of the labels: "
            f"{_several(others)}"
        )


def _hold_counts(columns: Sequence[NumberColumn], where: Path | None = None) -> bool:
    has_larger = any((c.values > 1).any() for c in columns)  # most have not, which needs no copy to know
    return len(columns) > 1 and has_larger and are_counts(_matrix(columns), where)


def _read_columns(path: Path, prefix: str = "") -> tuple[list[NumberColumn], pa.Array]:
    """Return the columns of a table whose names begin with `prefix`, and its image ids."""
    frame = read_flat_frame(path)
    ids = image_name_column(frame.columns)
    if ids is None:
        raise InputError(
            "The table has no column of image names.",
            where=path,
            got=_several(describe_columns(path)),
            allowed=ID_NEEDS,
        )
    columns = [c for c in value_columns(frame) if c.name.startswith(prefix)]
    return columns, image_ids(frame[ids].cast(pl.String).to_arrow(), f"{path}, column {ids}")


def _several(names: Sequence[str], most: int = 8) -> str:
    return first_names([*map(cut_for_message, names)], most)


def _label_columns(columns: Sequence[NumberColumn], prefix: str, path: Path) -> list[NumberColumn]:
    """Return the columns that are classes, without a class list."""
    columns = [c for c in columns if prefix or not is_metadata(c.name)]
    chosen = [c for c in columns if c.holds_states]
    shared = _prefix([c.name for c in chosen], prefix)
    empty = {c.name for c in columns if c.is_empty and not c.is_text and c.name.startswith(shared)}
    empty -= {c for c in empty if fold_name(c) in REMARKS}
    scores = [c.name for c in columns if c.holds_scores]
    for column in filter(_has_odd_state, columns):
        check_no_text(column, path)
    if not chosen:
        raise InputError(
            "No column contains only zeros and ones.",
            where=path,
            got=_several(describe_columns(path)),
            allowed=f"one column per class with {CELL_OF_CLASS}",
        )
    if scores:
        raise InputError(
            "Some columns contain zeros and ones, and others contain fractions, so the classes are "
            "ambiguous.",
            where=path,
            got=f"0 and 1 in {_several([c.name for c in chosen], 3)}; fractions in {_several(scores, 3)}",
            do="pass the class list as `classes`, or the file as predictions if these are scores",
        )
    check_targets([c.name for c in chosen if not prefix], path)
    for column in columns:
        if not column.is_empty and len(column.strange) <= (1 - _ALMOST) * len(column.values):
            check_states(column, path)
    return [c for c in columns if c.holds_states or c.name in empty]


def _own_classes(columns: Sequence[NumberColumn], prefix: str, path: Path) -> tuple[ClassIds, list[int]]:
    """Return the classes after which columns are named, without a prefix that all have, and each one's."""
    shared = _prefix([c.name for c in columns], prefix)
    names = [c.name.removeprefix(shared) for c in columns]
    own = ids_of_columns(names, path)
    return own, [own.ids[name] for name in names]


def _prefix(names: Sequence[str], prefix: str) -> str:
    """Return the prefix that all names have; empty if they have none."""
    for one in (prefix,) if prefix else _PREFIXES:
        if all(name.startswith(one) and name != one for name in names) and (prefix or len(names) > 1):
            return one
    return ""


def _columns_of_classes(
    columns: Sequence[NumberColumn], classes: ClassList, path: Path
) -> tuple[list[NumberColumn], list[int]]:
    """Return the columns of the classes of a list, and the class of each."""
    # Other columns, such as loss, do not say what numbers are; those that name a class do.
    lookup = lookup_in(classes, (c.name for c in columns if classes.find_all(c.name)))
    by_class: dict[int, NumberColumn] = {}
    for column in columns:
        bare = next((column.name.removeprefix(p) for p in _PREFIXES if column.name.startswith(p)), "")
        at = lookup(column.name)
        at = lookup(bare) if at is None and bare else at
        if at is None:
            continue
        if at in by_class:
            raise InputError(
                "A class has more than one column.",
                where=path,
                got=_several([by_class[at].name, column.name]),
                do="drop or rename one of them",
            )
        check_no_text(column, path)
        if column.is_text:
            row, text = column.text or (0, "")
            raise InputError(
                "The column of a class does not contain numbers.",
                where=f"{path}, column {cut_for_message(column.name)}, row {row + 1:,} below the header",
                got=cut_for_message(text),
                allowed=CELL_OF_CLASS,
            )
        by_class[at] = column
    if not by_class:
        raise InputError(
            "No column is named after a class of the class list.",
            where=path,
            got=f"columns {_several([c.name for c in columns])}",
            allowed=f"keys and names of {classes.name}, such as {_several(classes.keys, 3)}",
            do="name the columns of classes like these; if the table contains neither labels nor "
            "predictions, drop its columns of numbers and booleans",
        )
    return list(by_class.values()), list(by_class)


@register(
    "format",
    "score-columns",
    holds="predictions",
    suffixes=_SUFFIXES,
    matches=_recognised(_hold_scores, damaged=False),
    explicit=_recognised(_may_hold_scores, damaged=True, beside_labels=True),
    needs=f"{ID_NEEDS}, and one column of scores per class",
)
def read_score_columns(
    path: Path, *, classes: ClassList | None, rows: Images | None, scores: str | None
) -> Predictions:
    """One column of scores per class. The columns name the classes, and the file name is the model's name.

    A table that contains only whole numbers is read only if it is passed as predictions.
    """
    columns, image_id = _read_columns(path)
    _check_cells(columns, classes, path)
    chosen = numbers = [c for c in columns if not c.is_text and not is_metadata(c.name)]
    if classes is None:
        _check_scores(numbers, path)
        own, at = _own_classes(chosen, "", path)
    else:
        chosen, at = _columns_of_classes(columns, classes, path)
        own = ClassIds({}, len(classes), classes.hash)
    others = tuple(c.name for c in numbers if c not in chosen)
    if classes is not None and len(at) < len(classes):  # such as an older model
        part = part_of_list(at, classes, others, path)
        own, at = ClassIds({}, len(part), part.hash, part), np.argsort(np.argsort(at)).tolist()
    values = np.empty((len(image_id), own.n_classes), np.float32)
    with np.errstate(over="ignore"):
        for i, column in zip(at, chosen, strict=True):
            values[:, i] = column.values
    if image_id.null_count:
        raise InputError(
            "A row has no image name.",
            where=f"{path}, row {image_id.is_null().index(True).as_py() + 1:,} below the header",
            do="delete the row, also if it is empty",
        )
    image_id, values, notes = first_of_equal_rows(image_id, values, path)
    return Predictions(
        image_id,
        path.stem,
        scores=values,
        score_kind=scores or "score",
        n_classes=own.n_classes,
        class_hash=own.class_hash,
        source=str(path),
        class_list=own.class_list,
        unlisted=others,
        unread=unread_columns([c for c in columns if c.is_text], ()),
        notes=notes,
        by_name=True,
    )


def _check_cells(columns: Sequence[NumberColumn], classes: ClassList | None, path: Path) -> None:
    """Raise an error for a cell that is not a number in a column of scores."""
    for column in columns:
        is_class = classes is None or lookup_in(classes)(column.name) is not None
        if column.odd is not None and is_class and not is_metadata(column.name):
            row, text = column.odd
            raise InputError(
                "A score is not a number.",
                where=f"{path}, column {cut_for_message(column.name)}, row {row + 1:,} below the header",
                got=cut_for_message(text),
                allowed="numbers",
                do="correct the cell, leave the row out if the image has no scores, or drop the column if it "
                "is not a class",
            )


def _check_scores(chosen: Sequence[NumberColumn], path: Path) -> None:
    """Check without a class list that all columns of numbers are scores."""
    if not chosen:
        raise InputError(
            "No column contains scores.",
            where=path,
            got=_several(describe_columns(path)),
            allowed="one column of numbers per class",
        )
    whole = [c.name for c in chosen if c.is_whole and not c.holds_states]
    others = "fractions" if any(c.holds_scores for c in chosen) else "only 0 and 1"
    if whole and (others == "fractions" or 2 * len(whole) < len(chosen)):
        raise InputError(
            f"Some columns contain {others}, and others contain whole numbers, so the classes are ambiguous.",
            where=path,
            got=f"whole numbers in {_several(whole, 3)}",
            do="drop the columns that are not scores, or pass the class list as `classes`",
        )
