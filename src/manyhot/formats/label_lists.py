"""Label sets as the names of the classes of each image: a column of a table, JSON, and JSON lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from manyhot.classes import ClassList
from manyhot.core.array_types import Bools, Ints32, Ints64
from manyhot.errors import InputError, counted
from manyhot.formats.class_cells import SEPARATORS, Splitter, note_on_commas, note_on_spaces, splitter
from manyhot.formats.class_names import ids_of_values, undecided
from manyhot.formats.class_numbers import note_on_positions
from manyhot.formats.format_detection import boxes_of_tool
from manyhot.formats.headers import (
    CLASS_NAME_COLUMNS,
    ID_NEEDS,
    LABEL_NEEDS,
    RATER_NAMES,
    class_name_column,
    first_column,
    fold_name,
    image_name_column,
    is_plural,
)
from manyhot.formats.json_entries import classes_by_image, has_label_lists, states_by_prodigy
from manyhot.formats.number_columns import STATES_OF_ANY, stated_classes
from manyhot.formats.predicted_classes import SCORE_COLUMNS
from manyhot.formats.reading import (
    UNLISTED,
    constant,
    cut_for_message,
    declared,
    head,
    image_ids,
    with_unlisted,
)
from manyhot.formats.table_files import column_names, read_frame
from manyhot.formats.tabular import labels_of_frame, possible_tables
from manyhot.parameters import is_whole
from manyhot.registry import register
from manyhot.tables import Labels
from manyhot.tables.choices import undecided_text
from manyhot.tables.class_values import check_no_lists
from manyhot.tables.frames import check_unique
from manyhot.tables.state_lists import ragged
from manyhot.tables.unshared_classes import note_on_blanks, notes_on_nulls

_OTHER_TABLES = frozenset(
    (
        *("class_id", "rater_id", "expert_id", "worker", "n_models", "answer", "state"),
        *("ignore", "difficult", "crowd", "iscrowd"),
        *SCORE_COLUMNS,
    )
)
"""Columns of votes, predictions, and objects."""

_ITEM = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"|([^\s,;|'\"][^,;|'\"]*)")
"""An item of a list that is written as text, as by pandas."""


@dataclass(frozen=True)
class NamedLabels:
    """The names of the classes of each image.

    Attributes
    ----------
    image_id : pyarrow.Array of string, shape (n,)
    lengths : ndarray of int64, shape (n,)
        Number of names per image.
    names : pyarrow.Array of string, shape (m,)
        The names, image by image.
    usable : ndarray of bool, shape (n,)
    is_single : bool
        Whether a name is meant to be the only one of its image.
    is_complete : bool
        Whether classes that are not listed were answered no.
    notes : tuple of str
        What was assumed when the names were read.
    """

    image_id: pa.Array
    lengths: Ints64
    names: pa.Array
    usable: Bools
    is_single: bool = False
    is_complete: bool = False
    notes: tuple[str, ...] = ()


def labels_of_names(
    named: NamedLabels,
    classes: ClassList | None,
    path: Path,
    *,
    p: pa.Array | None = None,
    declared: ClassList | None = None,
) -> Labels:
    """Return label sets from the names of classes, with the class list of the file if it has its own.

    Parameters
    ----------
    classes : ClassList, optional
    p : pyarrow.Array of float32, shape (m,), optional
        The probability of each name.
    declared : ClassList, optional
        The classes that the file lists.

    Raises
    ------
    InputError
        If a name is not in `classes`.
    MatchError
        If an image is listed twice.
    """
    encoded = named.names.dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    found = ids_of_values(texts, classes or declared, path)
    ids = np.array([found.ids[text] for text in texts], np.int32)
    flat = ids[encoded.indices.to_numpy()] if len(texts) else np.empty(0, np.int32)
    if len(set(found.ids.values())) < len(found.ids):
        named, flat, p = _without_synonyms(named, flat, p)
    columns = {
        "image_id": named.image_id,
        "usable": pa.array(named.usable),
        "classes": ragged(named.lengths, pa.array(flat)),
        "state": ragged(named.lengths, constant("yes", len(flat), pa.string())),
    }
    if p is not None:
        columns["p"] = ragged(named.lengths, p)
    if named.is_single and (named.lengths == named.usable).all():
        label = np.zeros(len(named.usable), np.int32)
        label[named.usable] = flat
        columns |= {
            "label": pa.array(label, mask=~named.usable),
            "rated": constant(False, len(label), pa.bool_()),
        }
    return Labels(
        pa.table(columns),
        found.n_classes,
        found.class_hash,
        asked_known=False,
        name=path.stem,
        class_list=(declared if classes is None else None) or found.class_list,
        assumed=found.assumed,
        notes=(*named.notes, *note_on_positions(texts, classes)),
    )


def _without_synonyms(
    named: NamedLabels, flat: Ints32, p: pa.Array | None
) -> tuple[NamedLabels, Ints32, pa.Array | None]:
    """Return labels in which an image lists a class once, whatever its names; the first `p` counts."""
    image = np.repeat(np.arange(len(named.lengths)), named.lengths)
    _, first = np.unique(np.stack([image, flat]), axis=1, return_index=True)
    first.sort()
    lengths = np.bincount(image[first], minlength=len(named.lengths))
    return replace(named, lengths=lengths), flat[first], None if p is None else p.take(pa.array(first))


def _matches(path: Path) -> bool:
    if path.suffix.lower() in (".json", ".jsonl"):
        return has_label_lists(head(path)) and not boxes_of_tool(path)
    names = column_names(path)
    folded = {fold_name(name) for name in names}
    ids, label = image_name_column(names), class_name_column(names)
    if declared(path) or ids is None or label is None or folded & _OTHER_TABLES:
        return False
    if set(possible_tables(names)) - {"images"}:
        return False
    # An images table, which has original labels, unless an image has several or labels may be not valid.
    return (ids, label) != ("image_id", "label") or bool(folded & {*STATES_OF_ANY}) or _has_several(path)


def _has_several(path: Path) -> bool:
    try:
        frame = read_frame(path, ["image_id", "label"])
    except InputError:
        return False  # the reader of images reports it
    label = frame["label"]
    if isinstance(label.dtype, pl.List):
        return True
    split = label.dtype == pl.String and label.str.contains(r"[|;,]").any()
    return bool(split or frame["image_id"].is_duplicated().any())


@register(
    "format",
    "label-lists",
    holds="labels",
    suffixes=(".csv", ".tsv", ".parquet", ".json", ".jsonl"),
    matches=_matches,
    needs=f"{ID_NEEDS}, and {LABEL_NEEDS}",
)
def read_label_lists(
    path: Path, *, classes: ClassList | None, separator: str = "", unlisted: str = UNLISTED[0]
) -> Labels:
    """Names of the classes of each image: a column of names, JSON of names by image, or JSON lines.

    Bars, semicolons, commas or spaces separate the names in a cell. A table with one name per row may have
    several rows per image. Without a class list, the classes are the names in the file.

    Parameters
    ----------
    separator : str
        The separator of the names in a cell, as in ``label-lists(separator=' ')``. By default, the first of
        ``| ; ,`` that occurs in a cell. If none occurs, spaces separate the names if the name of the column
        ends in s, as in ``tags``.
    unlisted : {"not asked", "no"}
        The state of classes that an image does not list. ``unlisted='no'`` declares that each image lists all
        of its classes.
    """
    is_json = path.suffix.lower() in (".json", ".jsonl")
    names, notes = column_names(path), tuple[str, ...]()
    ids, label = image_name_column(names), class_name_column(names)
    if not is_json and ids is not None and label is not None:
        states, notes = stated_classes(path, ids, label, classes)
        if states is not None:
            return labels_of_frame(states, path, classes)
    if is_json and (answered := states_by_prodigy(path)) is not None:
        frame, n_ignored = answered
        labels = labels_of_frame(frame, path, classes)
        notes = (*labels.notes, *_note_on_left_out(n_ignored, "ignore"))
        labels = replace(labels, notes=notes, asked_known="no" in frame["state"])
        return with_unlisted(labels, unlisted, path)
    named = names_in_file(path, classes, separator)
    named = replace(named, notes=(*named.notes, *notes, *notes_on_nulls(named.usable)))
    unlisted = "no" if named.is_complete else unlisted
    labelled = named.lengths > 0
    if named.is_single and unlisted != "no" and (note := note_on_blanks(labelled)):
        named = replace(named, usable=labelled, notes=(*named.notes, note))
    return with_unlisted(labels_of_names(named, classes, path), unlisted, path)


def names_in_file(
    path: Path, classes: ClassList | None, separator: str = "", among: Sequence[str] = CLASS_NAME_COLUMNS
) -> NamedLabels:
    """Return the names of the classes of each image, in a column or key that is one of `among`."""
    read = _named_in_json if path.suffix.lower() in (".json", ".jsonl") else _named_in_table
    return read(path, classes, separator, among)


def _as_positions(lists: pl.Series, classes: ClassList | None, where: str) -> pl.Series | None:
    """Return the positions of the ones in lists of 0 and 1 for each class; None for lists of classes."""
    kind = lists.dtype.inner if isinstance(lists.dtype, pl.List) else pl.Null()
    lengths = lists.list.len().drop_nulls().unique().to_list()
    if len(lengths) != 1 or lengths[0] < 2 or (classes is not None and lengths[0] != len(classes)):
        return None
    flat = lists.drop_nulls().list.explode(empty_as_null=False, keep_nulls=True)
    if not (kind.is_numeric() or kind == pl.Boolean) or flat.null_count():
        return None
    if not flat.cast(pl.Float64).is_in([0.0, 1.0]).all():
        return None
    if kind.is_integer():
        check_no_lists(flat.to_numpy().reshape(-1, lengths[0]), where)
    return lists.list.eval((pl.element().cast(pl.Int64) == 1).arg_true())


def _named_in_table(
    path: Path, classes: ClassList | None, separator: str, among: Sequence[str]
) -> NamedLabels:
    names = column_names(path)
    ids, label = image_name_column(names), class_name_column(names, among)
    if ids is None or label is None:
        raise InputError(
            f"The table has no column of {'image' if ids is None else 'class'} names.",
            where=path,
            got=", ".join(names[:8]),
            allowed=f"{ID_NEEDS}, and {LABEL_NEEDS}",
        )
    kind = pq.read_schema(path).field(ids).type if path.suffix.lower() == ".parquet" else pa.null()
    is_image = pa.types.is_struct(kind) and kind.get_field_index("path") >= 0
    # Only the path is read from an image column of Hugging Face.
    rater = first_column(names, RATER_NAMES)
    frame = read_frame(path, [f"{ids}.path" if is_image else ids, label, *([rater] if rater else [])])
    image_names = frame[ids].struct.field("path") if is_image else frame[ids]
    image_id = image_ids(image_names.cast(pl.String).to_arrow(), f"{path}, column {ids}")
    values = frame[label]
    usable = np.ones(len(frame), bool)
    if isinstance(values.dtype, pl.List):
        usable = values.is_not_null().to_numpy()
        indicated = _as_positions(values, classes, f"{path}, column {label}")
        is_complete, values = indicated is not None, values if indicated is None else indicated
        lengths = values.list.len().fill_null(0).to_numpy().astype(np.int64)
        flat = _texts(values.explode(empty_as_null=False, keep_nulls=False), f"{path}, column {label}")
        named = NamedLabels(image_id, lengths, flat, usable, is_complete=is_complete)
        return named if rater is None else _of_raters(named, frame[rater], label, classes)
    cells = _texts(values, f"{path}, column {label}").fill_null("")
    texts = cells.unique().to_pylist()
    by_row = len(image_id.unique()) < len(image_id)
    split = splitter(label, texts, classes, separator, f"{path}, column {label}", by_row)
    lengths, flat = _split_cells(cells, split)
    named = NamedLabels(image_id, lengths, flat, usable, not is_plural(label))
    divided = [text for text in texts if len(split(text)) > text.count(",")]
    if not (classes or separator) and (note := note_on_commas(divided, f"the column {label!r}")):
        named = replace(named, notes=(note,))
    has_spaces = any(len(split(text)) > 1 + sum(map(text.count, SEPARATORS)) for text in texts)
    if has_spaces and not (classes or separator) and (note := note_on_spaces(texts, f"the column {label!r}")):
        named = replace(named, notes=(*named.notes, note))
    if score := first_column(names, [*SCORE_COLUMNS]):
        note = f"the column {score!r} was not read: all labels of the file count, also uncertain ones"
        named = replace(named, notes=(*named.notes, note))
    if rater is not None:
        return _of_raters(named, frame[rater], label, classes)
    return _grouped(named, f"the column {label!r}") if (lengths <= 1).all() else named


def _of_raters(named: NamedLabels, rater: pl.Series, label: str, classes: ClassList | None) -> NamedLabels:
    """Return names with each image once, and a note if a column names several raters of an image.

    Answers of several raters by which they say that they cannot decide are left out, with a note.
    """
    rows = pl.DataFrame({"image": named.image_id, "rater": rater})
    n = (rows.group_by("image").agg(pl.col("rater").drop_nulls().n_unique())["rater"] > 1).sum()
    if n and (words := undecided(named.names.unique().to_pylist(), classes)):
        is_class = pc.invert(pc.is_in(named.names, pa.array(words, named.names.type)))
        has_class = is_class.to_numpy(zero_copy_only=False)
        image = np.repeat(np.arange(len(named.lengths)), named.lengths)[has_class]
        named = replace(
            named,
            lengths=np.bincount(image, minlength=len(named.lengths)),
            names=named.names.filter(is_class),
            notes=(*named.notes, f"left out: {undecided_text(int(np.count_nonzero(~has_class)), words)}"),
        )
    # A rater with several lists for an image may have changed them.
    is_once = (named.lengths <= 1).all() or not rows.is_duplicated().any()
    named = _grouped(named, f"the column {label!r}") if is_once and named.usable.all() else named
    note = (
        f"{n:,} of {len(named.lengths):,} images have labels of several raters (column {rater.name!r}): "
        "their label sets contain what any of them chose; to decide between raters, use manyhot aggregate"
    )
    return replace(named, notes=(*named.notes, note)) if n else named


def _texts(values: pl.Series, where: str) -> pa.Array:
    """Return names or numbers of classes as texts."""
    kind = values.dtype
    fits = kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum, pl.Null)
    if kind.is_float():
        whole = values.cast(pl.Int64, strict=False)
        fits = whole.null_count() == values.null_count() and not (whole.cast(pl.Float64) != values).any()
        values = whole
    if not fits:
        raise InputError("These are not classes.", where=where, got=kind, allowed="names or whole numbers")
    return values.cast(pl.String).to_arrow().cast(pa.string())


def _split_cells(cells: pa.Array, split: Splitter) -> tuple[Ints64, pa.Array]:
    """Return the number of names in each cell, and the names. A name that a cell repeats counts once."""
    encoded = cells.dictionary_encode()
    names = [list(names_of_cell(cell, split)) for cell in encoded.dictionary.to_pylist()]
    lists = pa.array(names, pa.list_(pa.string())).take(encoded.indices)
    return pc.list_value_length(lists).to_numpy().astype(np.int64), lists.flatten()


def names_of_cell(cell: str, split: Splitter) -> Iterable[str]:
    """Return the names in a cell, each once; `split` divides cells that are not lists."""
    text = cell.strip()
    if re.fullmatch(r"\[[\d\s]*\]", text):  # as NumPy prints numbers
        parts = text[1:-1].split()
    elif text.startswith("[") and text.endswith("]"):
        parts = [next(filter(None, item.groups()), "") for item in _ITEM.finditer(text[1:-1])]
    else:
        parts = list(split(text))
    return dict.fromkeys(name for part in parts if (name := part.strip()))


_FEW = 0.1
"""Share of images below which several labels are the exception, which a note reports."""


def _grouped(named: NamedLabels, where: str) -> NamedLabels:
    """Return the names of a table in which an image has several rows, with each image once.

    If no image has two different names, they remain single labels.
    """
    encoded = named.image_id.dictionary_encode()
    if len(encoded.dictionary) == len(named.image_id) or encoded.null_count:
        return named
    texts = named.names.dictionary_encode()
    image = np.repeat(encoded.indices.to_numpy(), named.lengths).astype(np.int64)
    n = len(encoded.dictionary)
    _, first = np.unique(image * max(1, len(texts.dictionary)) + texts.indices.to_numpy(), return_index=True)
    order = np.sort(first)
    order = order[np.argsort(image[order], kind="stable")]
    lengths = np.bincount(image[order], minlength=n).astype(np.int64)
    n_several, notes = int(np.count_nonzero(lengths > 1)), named.notes
    if named.is_single and not n_several:
        n_rows = len(named.image_id)
        notes += (f"{where} has {n_rows:,} rows for {n:,} images: rows that repeat a label count once",)
    elif named.is_single and n_several < _FEW * n:
        notes += (
            f"{n_several:,} of {n:,} images have rows with different labels in {where}, so the labels are "
            "read as label sets, and there are no original labels; if each image has one label, remove the "
            "other rows",
        )
    return replace(
        named,
        image_id=encoded.dictionary,
        lengths=lengths,
        names=named.names.take(pa.array(order)),
        usable=np.ones(n, bool),
        is_single=named.is_single and not n_several,
        notes=notes,
    )


def _named_in_json(
    path: Path, classes: ClassList | None, separator: str, among: Sequence[str]
) -> NamedLabels:
    entries = list(classes_by_image(path, among))
    rows = [(image, v, where) for image, v, where, answer in entries if answer not in ("reject", "ignore")]
    # Not the name of a column: spaces divide no names in JSON, which has lists for several names.
    split = splitter("", [v for _, v, _ in rows if isinstance(v, str)], classes, separator, str(path), False)
    sets = [_names(value, split, where) for _, value, where in rows]
    image_id = image_ids(pa.array([image for image, _, _ in rows], pa.string()), path)
    check_unique(image_id, str(path))
    return NamedLabels(
        image_id,
        np.array([len(names or ()) for names in sets], np.int64),
        pa.array([name for names in sets for name in names or ()], pa.string()),
        np.array([names is not None for names in sets], bool),
        notes=_note_on_left_out(len(entries) - len(rows), "reject or ignore"),
    )


def _note_on_left_out(n: int, answer: str) -> tuple[str, ...]:
    return (f"left out: {counted(n, 'row')} with the answer {answer}",) if n else ()


def _names(value: Any, split: Splitter, where: str) -> list[str] | None:
    """Return the names of an image; None if it has no list of names. `split` divides a text."""
    if value is None:
        return None
    if isinstance(value, str):
        return list(names_of_cell(value, split))
    names = value if isinstance(value, list) else [value]
    for name in names:
        if not (isinstance(name, str) or is_whole(name)):
            raise InputError(
                "This is not a class.",
                where=where,
                got=cut_for_message(repr(name)),
                allowed="a name or a whole number",
            )
    return [str(name) for name in names]
