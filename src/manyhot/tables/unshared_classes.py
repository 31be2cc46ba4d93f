"""Classes that only the labels or only the predictions have, and notes on ids that are almost equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.classes import ClassList
from manyhot.core.array_types import Bools
from manyhot.core.sets import YES
from manyhot.errors import InputError, first_names
from manyhot.tables.arrays import label_sets
from manyhot.tables.class_list_unions import classes_at, find_class, keys_not_in
from manyhot.tables.labels import Images, Labels
from manyhot.tables.own_classes import JoinedClasses
from manyhot.tables.predictions import Predictions
from manyhot.tables.selected_classes import left_out_classes, selected_with_note

CELL_OF_CLASS = "1, 0, -1 or nothing; or yes, no, maybe or nothing"
"""What a cell may contain in a table with one column per class."""

_MOST_UNLABELLED = 10
"""Names of classes that the labels do not have, in a note."""

_EMPTY_NAMES = frozenset(("background", "blank", "empty", "no animal", "no finding", "none", "nothing"))
"""Names of a class for images that show none of the other classes."""


def note_on_empty(labels: Labels, classes: ClassList | None) -> str:
    """Return a note if label sets are empty although a class means "nothing"; otherwise, an empty text."""
    names = () if classes is None else classes.names
    nothing = [i for i, name in enumerate(names) if name.strip().casefold() in _EMPTY_NAMES]
    if not nothing:
        return ""
    sets = label_sets(labels)
    n, n_empty = np.count_nonzero(sets.usable), np.count_nonzero(sets.usable & (sets.size == 0))
    if not n_empty or ((sets.state == YES) & np.isin(sets.classes, nothing)).any():
        return ""
    name = names[nothing[0]]
    return (
        f"no image has the label {name!r}, which is a class of the predictions, but {n_empty:,} of {n:,} "
        "images have an empty label set: metrics of the top class skip these images, and all other metrics "
        f"count the prediction of {name!r} there as wrong; write {name!r} as the label of these images, or "
        "leave the class out of the predictions"
    )


def note_on_blanks(labelled: Bools) -> str:
    """Return a note on images with an empty cell in a column of single labels; an empty text if all have."""
    if labelled.all() or not labelled.any():
        return ""
    n = np.count_nonzero(~labelled)
    return (
        f"{n:,} of {len(labelled):,} images have an empty cell instead of a label and are left out; if these "
        "images have none of the classes, call the column 'labels', or write a class such as 'empty' into "
        "the cells"
    )


def notes_on_nulls(listed: Bools) -> tuple[str, ...]:
    """Return a note on images whose list of classes is null; none if all have a list, or none has."""
    n = np.count_nonzero(~listed)
    if n in (0, len(listed)):
        return ()
    return (
        f"{n:,} of {len(listed):,} images have null instead of a list of classes and are left out; if these "
        "images have none of the classes, replace null by an empty list",
    )


def without_unpredicted(labels: Labels, model: ClassList | None) -> Labels:
    """Return label sets without classes that mean "nothing" or have no answers, if a model lacks them.

    A model of findings has no scores for *No Finding*. Labels are unchanged if the model lacks any other
    classes.
    """
    own = labels.class_list
    if own is None or model is None:
        return labels
    at = np.array([-1 if (i := find_class(own, c, model)) is None else i for c in range(len(own))])
    is_nothing = np.array([name.strip().casefold() in _EMPTY_NAMES for name in own.names])
    absent = at < 0
    if not absent.any() or absent.all() or not is_nothing[left_out_classes(labels, at)].all():
        return labels
    selected = selected_with_note(labels, at, own, "without scores")
    rest = classes_at(own, np.flatnonzero(~absent).tolist())
    return replace(JoinedClasses(len(rest), rest, selects=True).of_labels(selected), notes=selected.notes)


def unlabelled_classes(labels: Labels, images: Images | None, joined: JoinedClasses) -> tuple[int, ...]:
    """Return the joined classes that occur only in the predictions, if the labels list all their classes.

    Labels that are lists of classes may lack a class because no image shows it, so nothing can be concluded
    from its absence.
    """
    lists = [t.class_list for t in (labels, images) if t is not None and t.class_list is not None]
    if joined.classes is None or not lists or not all(own.is_complete for own in lists):
        return ()
    absent = [keys_not_in(joined.classes, own) for own in lists]
    only = set(absent[0]).intersection(*absent[1:])
    return tuple(i for i, key in enumerate(joined.classes.keys) if key in only)


def check_unread(table: Labels | Predictions, classes: ClassList | None, name: str) -> None:
    """Raise an error if a column that was not read has the name of a class that the table otherwise lacks.

    `classes` are the classes of all tables, or those that the caller passed; `name` is the table's name.
    """
    own = table.known_classes
    for column, row, text in table.unread:
        is_class = classes is not None and classes.find(column) is not None
        if is_class and (own is None or own.find(column) is None):
            raise InputError(
                "A column has the name of a class, but not all of its cells can be read.",
                where=f"{name}, column {column}, row {row + 1:,} below the header",
                got=repr(text),
                allowed="numbers" if isinstance(table, Predictions) else CELL_OF_CLASS,
                do="write all cells of the column in this way, or rename the column if it is not this class",
            )


def without_nothing(classes: ClassList, ids: Sequence[int]) -> list[int]:
    """Return classes without those that mean "nothing", on which `note_on_empty` may be."""
    return [i for i in ids if classes.names[i].strip().casefold() not in _EMPTY_NAMES]


def note_on_unlabelled(classes: ClassList, only: Sequence[int], model: Predictions) -> str:
    """Return a note on classes, or other columns, of the predictions that are not in the labels."""
    names = first_names([classes.keys[i] for i in only], _MOST_UNLABELLED)
    they, them = ("it counts", "it") if len(only) == 1 else ("they count", "them")
    columns = "classes or other columns" if model.is_dense else "classes"
    return (
        f"the labels do not have {len(only):,} of the {columns} of the predictions: {names}; {they} as not "
        f"valid on all images, except in metrics with masked=True; to leave {them} out, pass the list of the "
        "labels' classes as `classes`, in which `synonyms` can contain other names of these classes"
    )


def note_on_alike(ids: pa.Array) -> str:
    """Return a note on ids that are equal but for a missing extension or letter case; empty without any."""
    ids = pc.unique(ids)
    folded, rows = pc.utf8_lower(ids), np.arange(len(ids))
    dots = pc.match_substring(pc.utf8_slice_codeunits(ids, -6), ".")
    if pc.all(dots).as_py() and len(pc.unique(folded)) == len(ids):  # spares a million ids two seconds
        return ""
    bare = pc.replace_substring_regex(folded, r"([^/])\.[a-z][a-z0-9]{1,4}$", r"\1")
    same, end = (pc.fill_null(pc.index_in(texts, folded), -1).to_numpy() for texts in (folded, bare))
    same = np.where(same < rows, same, end)
    alike = np.flatnonzero((same >= 0) & (same != rows))
    if not len(alike):
        return ""
    one, another = ids[int(alike[0])], ids[int(same[alike[0]])]
    return (
        f"{len(alike):,} of {len(ids):,} images have the name of another one, with another extension or "
        f"letter case, such as {one} and {another}, and count as different images; if they are the same, "
        "write each name in one way"
    )


def note_on_raters_alike(raters: pa.Array) -> str:
    """Return a note on raters whose names differ only in letter case or spaces; empty without any."""
    by_name: dict[str, list[str]] = {}
    for name in raters.to_pylist():
        by_name.setdefault("".join(name.split()).casefold(), []).append(name)
    alike = [names for names in by_name.values() if len(names) > 1]
    if not alike:
        return ""
    return (
        f"{sum(map(len, alike)):,} of {len(raters):,} raters have the name of another one, in another letter "
        f"case or with other spaces, such as {alike[0][0]!r} and {alike[0][1]!r}, and count as different "
        "raters; if they are the same, write each name in one way"
    )
