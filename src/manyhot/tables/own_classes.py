"""Class lists that files and frames name by themselves, and tables over different lists, joined by name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import ClassList, class_list, class_list_of, classes_seen
from manyhot.core.array_types import Ints, Ints32
from manyhot.core.sets import YES
from manyhot.errors import MatchError
from manyhot.tables.arrays import label_sets
from manyhot.tables.frames import one_chunk
from manyhot.tables.labels import Images, Labels, with_zeros
from manyhot.tables.predictions import Predictions
from manyhot.tables.schemas import metadata
from manyhot.tables.selected_classes import labels_of_positions, left_out_classes, note_on_left_out

_T = TypeVar("_T")

_EXAMPLES = 3
"""Names in a message."""

_MOST_UNLABELLED = 10
"""Names of classes that the labels do not have, in a note."""


def list_of_names(names: Iterable[str], where: str) -> tuple[ClassList, bool]:
    """Return the class list for the names in a file, and whether this list is only assumed.

    The list is ImageNet-1k if each name is a number, or a key or a name of one of its classes. Otherwise, the
    list consists of these names. ImageNet-1k is only assumed if some names are not keys: a data set of
    bananas and umbrellas may have two classes, not 1,000.
    """
    distinct, imagenet = set(names), class_list()
    if all(imagenet.find(name) is not None for name in distinct if not name.isdecimal()):
        return imagenet, not distinct <= set(imagenet.keys)
    return classes_seen(distinct, where), False


EMPTY_NAMES = frozenset(("background", "blank", "empty", "no animal", "no finding", "none", "nothing"))
"""Names of a class for images that show none of the other classes."""


def note_on_empty(labels: Labels, classes: ClassList | None) -> str:
    """Return that label sets are empty where a class means that there is nothing; empty if they are not."""
    names = () if classes is None else classes.names
    nothing = [i for i, name in enumerate(names) if name.strip().casefold() in EMPTY_NAMES]
    if not nothing:
        return ""
    sets = label_sets(labels)
    n, n_empty = np.count_nonzero(sets.usable), np.count_nonzero(sets.usable & (sets.size == 0))
    if not n_empty or ((sets.state == YES) & np.isin(sets.classes, nothing)).any():
        return ""
    name = names[nothing[0]]
    return (
        f"no image has the label {name!r}, which is a class of the predictions, but {n_empty:,} of {n:,} "
        f"images have an empty label set: metrics of the top class skip them, and for all others {name!r} "
        f"is a wrong prediction there; write {name!r} as the label of these "
        "images, or leave the class out of the predictions"
    )


def own_list(classes: ClassList) -> ClassList | None:
    """Return the class list for the field `class_list` of a table; None for a built-in list."""
    return None if class_list_of(classes.hash) else classes


@dataclass(frozen=True, eq=False)
class JoinedClasses:
    """The class list to which all tables of a data set are mapped.

    Attributes
    ----------
    classes : ClassList, optional
        None if only the number of classes is known.
    columns : ClassList, optional
        The classes of columns that have no names, in their order; `classes` by default.
    numbered : bool
        Whether the labels are numbers, which are assumed to be positions in the list of the first model.
    selects : bool
        Whether the caller passed the list, so that scores of all other classes are left out.
    """

    n_classes: int
    classes: ClassList | None = None
    columns: ClassList | None = None
    numbered: bool = False
    selects: bool = False

    @property
    def _hash(self) -> str:
        return self.classes.hash if self.classes else ""

    @property
    def _own(self) -> ClassList | None:
        return self.classes and own_list(self.classes)

    def of_labels(self, labels: Labels) -> Labels:
        """Return label sets over the joined class list.

        If the caller passed the list, classes that are not in it are left out, which a note counts.

        Raises
        ------
        MatchError
            If an image has a class that is not in the list, and if none is.
        """
        own = _list_of(labels)
        if own is None and labels.class_hash not in ("", self._hash):
            return labels  # another list, of which only the hash is known
        at = self._positions(own)
        n_shared = labels.n_classes if at is None else np.count_nonzero(at >= 0)
        if labels.complete and self.n_classes > n_shared:
            labels = with_zeros(labels)  # no other class was answered
        if self.selects and at is not None and own is not None and n_shared:
            labels = _selected_labels(labels, at, own, "not in the class list")
        table = labels.table
        if at is not None:
            lists = one_chunk(table["classes"])
            self._check_listed(at, lists.flatten().to_numpy(), labels)
            flat = pa.array(at[lists.flatten().to_numpy()], pa.int32())
            position = table.column_names.index("classes")
            offsets = pc.subtract(lists.offsets, lists.offsets[0])
            table = table.set_column(position, "classes", pa.ListArray.from_arrays(offsets, flat))
            table = _with_label(table, at)
            table = _with_conflicts(table, at)
        return replace(
            labels,
            table=table,
            n_classes=self.n_classes,
            class_hash=self._hash,
            class_list=self._own,
            assumed=False,
        )

    def of_images(self, images: Images) -> Images:
        """Return images whose original labels are over the joined class list."""
        at = self._positions(images.class_list)
        table = images.table if at is None else _with_label(images.table, at)
        return replace(images, table=table, class_list=self._own)

    def of_predictions(self, predictions: Predictions) -> Predictions:
        """Return predictions over the joined class list.

        Raises
        ------
        MatchError
            If the model has no scores for a class, or predicts classes that are not in the list.
        """
        own = _list_of(predictions)
        if own is None and self.columns is not None:
            own, predictions = self.columns, self._in_columns(predictions, self.columns)
        if self.classes is None or own is None or own.hash == self._hash:
            if predictions.n_classes and not predictions.assumed:
                return predictions
            return replace(predictions, n_classes=self.n_classes, assumed=False)
        at = self._positions(own, predictions)
        assert at is not None
        classes, scores = predictions.classes, predictions.scores
        if classes is not None:
            classes = np.where(classes < 0, -1, at[classes])
        elif scores is not None:
            listed = np.flatnonzero(at >= 0)
            self._check_covered(at[listed], predictions)
            scores = scores[:, listed[np.argsort(at[listed])]]
        return replace(
            predictions,
            classes=classes,
            scores=scores,
            n_classes=self.n_classes,
            class_hash=self._hash,
            class_list=self._own,
        )

    def note_on(self, predictions: Predictions) -> str:
        """Return what is assumed about classes without names, or left out of a model; empty if nothing is."""
        own, listed = _list_of(predictions), self.classes
        absent = predictions.unlisted
        if self.selects and predictions.is_dense and own is not None and listed is not None:
            absent += tuple(own.keys[i] for i in range(len(own)) if find_class(own, i, listed) is None)
        if absent:
            return (
                f"{predictions.model}: the scores of {_some(absent)} were left out, because the class list "
                "does not contain them; the other scores are unchanged, so that probabilities may not add "
                "up to 1"
            )
        if self.numbered and self.classes is not None:
            return (
                "the labels contain numbers of classes and no names, so they are assumed to be positions "
                f"among the classes of the predictions: {_some(self.classes.keys)}; write the names into the "
                "labels, or pass `classes` in the order of the numbers"
            )
        if self.columns is None or _list_of(predictions) is not None:
            return ""
        order = "order of the labels' classes" if self.columns.is_complete else "sorted order of their names"
        return (
            f"the columns of scores have no names, so they are assumed to be in the {order}: "
            f"{_some(self.columns.keys)}; pass `classes` if the columns are in another order"
        )

    def _in_columns(self, model: Predictions, columns: ClassList) -> Predictions:
        """Return predictions without names over the classes of the columns."""
        width = 0 if model.scores is None or not model.is_dense else model.scores.shape[1]
        if width in (0, len(columns)):
            return replace(model, n_classes=len(columns), assumed=False)
        raise MatchError(
            f"{model.model} has {'more' if width > len(columns) else 'fewer'} columns than the labels have "
            "classes, and its columns have no names.",
            where=model.source or None,
            got=f"{width:,} columns",
            allowed=f"{len(columns):,}, one for each of {_some(columns.keys)}",
            do="pass the classes in the order of the columns as `classes`",
        )

    def _positions(self, own: ClassList | None, model: Predictions | None = None) -> Ints32 | None:
        """Return the joined class of each class of a list; None if they are the same."""
        if own is None or self.classes is None or own.hash == self._hash:
            return None
        at = [find_class(own, i, self.classes) for i in range(len(own))]
        absent = [key for key, i in zip(own.keys, at, strict=True) if i is None]
        if absent and model is not None and not (self.selects and model.is_dense):
            raise MatchError(
                f"{model.model} predicts classes that are not in the class list.",
                where=model.source or None,
                got=_some(absent),
                allowed=f"the {len(self.classes):,} classes of {self.classes.name}",
                do=_NAME_CLASSES
                if are_numbers(own.keys)
                else "pass the list of all classes as `classes`, or leave these out of the predictions",
            )
        return np.array([-1 if i is None else i for i in at], np.int32)

    def _check_listed(self, at: Ints, flat: Ints, labels: Labels) -> None:
        own = _list_of(labels)
        absent = np.unique(flat[at[flat] < 0])
        if own is not None and self.classes is not None and len(absent):
            raise MatchError(
                "The labels have classes that are not in the class list.",
                where=labels.name or None,
                got=_some([own.keys[i] for i in absent]),
                allowed=f"the {len(self.classes):,} classes of {self.classes.name}",
                do="pass the list of all classes as `classes`",
            )

    def _check_covered(self, at: Ints32, model: Predictions) -> None:
        assert self.classes is not None
        missing = sorted(set(range(self.n_classes)) - set(at.tolist()))
        if missing or len(at) != self.n_classes:
            raise MatchError(
                f"{model.model} has no scores for some classes.",
                where=model.source or None,
                got=_some([self.classes.keys[i] for i in missing]),
                allowed=f"scores for the {self.n_classes:,} classes of {self.classes.name}",
                do="predict these classes, too, or leave them out of the labels; if labels have a column for "
                "each class, `classes` selects columns: pass the list of the predicted classes",
            )


def _selected_labels(labels: Labels, at: Ints, own: ClassList, why: str) -> Labels:
    """Return label sets without the classes that have no position, and with a note that names them."""
    left_out = left_out_classes(labels, at)
    if not len(left_out):
        return labels
    selected = labels_of_positions(labels, at)
    verb = "is" if len(left_out) == 1 else "are"
    note = note_on_left_out(labels, selected, [own.keys[i] for i in left_out], f"{verb} {why}")
    return replace(selected, notes=(*labels.notes, note))


def scored_classes(model: Predictions | None) -> ClassList | None:
    """Return the classes of which a model has scores; None if it has no names, or only its best classes."""
    return _list_of(model) if model is not None and model.is_dense else None


def without_unpredicted(labels: Labels, model: ClassList | None) -> Labels:
    """Return label sets without classes for nothing, or that nobody was asked about, if a model lacks them.

    A model of findings has no scores for *No Finding*. Labels are unchanged if the model lacks other classes.
    """
    own = labels.class_list
    if own is None or model is None:
        return labels
    at = np.array([-1 if (i := find_class(own, c, model)) is None else i for c in range(len(own))])
    is_nothing = np.array([name.strip().casefold() in EMPTY_NAMES for name in own.names])
    absent = at < 0
    if not absent.any() or absent.all() or not is_nothing[left_out_classes(labels, at)].all():
        return labels
    selected = _selected_labels(labels, at, own, "without scores")
    rest = _selected(own, np.flatnonzero(~absent).tolist())
    return replace(JoinedClasses(len(rest), rest, selects=True).of_labels(selected), notes=selected.notes)


def unlabelled_classes(labels: Labels, images: Images | None, joined: JoinedClasses) -> tuple[int, ...]:
    """Return the joined classes that only the predictions have, if the labels list all of their classes.

    Labels that are lists of classes may lack a class because no image shows it, so nothing follows from that.
    """
    lists = [t.class_list for t in (labels, images) if t is not None and t.class_list is not None]
    if joined.classes is None or not lists or not all(own.is_complete for own in lists):
        return ()
    absent = [_not_in(joined.classes, own) for own in lists]
    only = set(absent[0]).intersection(*absent[1:])
    return tuple(i for i, key in enumerate(joined.classes.keys) if key in only)


def note_on_unlabelled(classes: ClassList, only: Sequence[int], model: Predictions) -> str:
    """Return that the predictions have classes, or other columns, that the labels do not have."""
    names = _some([classes.keys[i] for i in only], _MOST_UNLABELLED)
    they, them = ("it counts", "it") if len(only) == 1 else ("they count", "them")
    columns, do = "classes", f"drop {them} from the predictions"
    if model.is_dense:
        columns, do = "classes or other columns", "pass the list of the labels' classes as `classes`"
    return (
        f"the labels do not have {len(only):,} of the {columns} of the predictions: {names}; {they} as not "
        f"valid on all images, except in metrics with masked=True; to leave {them} out, {do}"
    )


def join_classes(
    labels: Labels | None,
    images: Images | None,
    first: Predictions | None,
    *,
    sort: bool = True,
    alone: bool = False,
    in_order: bool = False,
) -> JoinedClasses | None:
    """Return the class list that labels, images and predictions share; None if all declare the same list.

    Lists are joined by name and sorted, so that the order of columns does not matter. A list that numbers its
    classes, as in files of manyhot and COCO, keeps its order. ImageNet-1k is assumed only if all names and
    numbers are those of its classes, and if the predictions do not contradict it.

    Parameters
    ----------
    labels, images : Labels, Images, optional
    first : Predictions, optional
        The first model.
    sort : bool
        Whether names are sorted if the model has the same names in another order.
    alone : bool
        Whether there are no predictions. Then no columns without names depend on the order of the names.
    in_order : bool
        Whether labels that list their classes, such as the columns of a file, keep their order. Classes that
        only the predictions have come last, sorted.
    """
    lists = [t.class_list for t in (labels, images) if t is not None and t.class_list is not None]
    model = _list_of(first) if first is not None else None
    width = 0 if first is None or first.assumed else first.n_classes
    if not lists and labels is not None and labels.assumed:
        if not labels.class_hash:
            return _of_numbers(labels, model, width)
        if (model.hash if model else labels.class_hash) == labels.class_hash and width in (0, 1000):
            return None
        lists = [_seen(labels)]
    elif not lists:
        declared = class_list_of(labels.class_hash) if labels is not None else None
        return JoinedClasses(len(declared), declared) if declared else None
    if first is not None and model is not None:
        _check_common(lists, model, first)
    in_order = in_order and all(own.is_complete for own in lists)
    keep = any("keys" in metadata(t.table) for t in (labels, images) if t is not None)
    keep = keep or not (sort or any(model is None or t.hash != model.hash for t in lists))
    sort = (model is not None or alone) and not keep
    return _of_names(lists, model, width, sort=sort, in_order=in_order)


def _check_common(lists: Sequence[ClassList], model: ClassList, predictions: Predictions) -> None:
    """Raise an error for predictions that have no class in common with the labels."""
    if any(len(_not_in(model, own)) < len(model) or len(_not_in(own, model)) < len(own) for own in lists):
        return
    raise MatchError(
        f"{predictions.model} has no class in common with the labels.",
        where=predictions.source or None,
        got=_some(model.keys),
        allowed=f"{_some(lists[0].keys)}, as in {lists[0].name or 'the labels'}",
        do=_NAME_CLASSES if are_numbers(model.keys) else "pass predictions of these classes",
    )


_NAME_CLASSES = (
    "the file lacks the names of its classes: predict again with manyhot predict --classes FILE, in the "
    "order of the model's outputs"
)


def are_numbers(keys: Sequence[str]) -> bool:
    """Return whether classes have no names, only their numbers."""
    return list(keys) == [str(i) for i in range(len(keys))]


def find_class(own: ClassList, i: int, target: ClassList) -> int | None:
    """Return the class of another list with the key, the name or a synonym of class i; None if none has."""
    names = dict.fromkeys((own.keys[i], own.names[i], *own.synonyms[i]))
    return next((at for name in names if (at := target.find(name)) is not None), None)


def _of_numbers(labels: Labels, model: ClassList | None, width: int) -> JoinedClasses | None:
    """Return the classes of labels that are numbers: those that the predictions have."""
    if model is not None:
        is_certain = own_list(model) is None or are_numbers(model.keys)
        return JoinedClasses(len(model), model, numbered=not is_certain)
    return JoinedClasses(width) if width not in (0, labels.n_classes) else None


def _of_names(
    lists: Sequence[ClassList], model: ClassList | None, width: int, *, sort: bool, in_order: bool
) -> JoinedClasses:
    own = lists[0]
    for other in lists[1:]:
        own = _union(own, other)
    both = own if model is None else _union(own, model)
    imagenet = class_list()
    fits_imagenet = model is None and width == len(imagenet) != len(own)
    if fits_imagenet and all(imagenet.find(key) is not None for key in own.keys):
        return JoinedClasses(len(imagenet), imagenet)
    if in_order and own_list(both) is not None:
        # The ids of one file are the same in all commands, whatever the predictions are.
        both = own if model is None else _followed_by(own, model)
    elif sort and not own.is_complete and own_list(both) is not None:
        # The same numbers to the last digit, whatever the order of the model's columns. Declared classes keep
        # their ids, by which ties are broken.
        both = replace(_sorted(both), is_complete=model is not None or both.is_complete)
    return JoinedClasses(len(both), both, own)


def _followed_by(own: ClassList, model: ClassList) -> ClassList:
    """Return the classes of a list, and then those that only a model has, sorted."""
    only = set(_not_in(model, own))
    if not only:
        return own
    more = _sorted(_selected(model, [i for i, key in enumerate(model.keys) if key in only]))
    return replace(
        own,
        keys=own.keys + more.keys,
        names=own.names + more.names,
        synonyms=own.synonyms + more.synonyms,
        definitions=own.definitions + more.definitions,
        hypernyms=own.hypernyms + more.hypernyms,
    )


def _sorted(classes: ClassList) -> ClassList:
    """Return the classes in the order of their keys as strings."""
    return _selected(classes, sorted(range(len(classes)), key=classes.keys.__getitem__))


def _selected(classes: ClassList, order: Sequence[int]) -> ClassList:
    """Return the classes with these ids, in this order."""

    def ordered(column: tuple[_T, ...]) -> tuple[_T, ...]:
        return tuple(column[i] for i in order)

    return replace(
        classes,
        keys=ordered(classes.keys),
        names=ordered(classes.names),
        synonyms=ordered(classes.synonyms),
        definitions=ordered(classes.definitions),
        hypernyms=ordered(classes.hypernyms),
    )


def _union(a: ClassList, b: ClassList) -> ClassList:
    """Return a list of the classes of both: one of the two if it is complete and contains the other."""
    for whole, part in ((a, b), (b, a)):
        if whole.is_complete and _not_in(part, whole) == []:
            return whole
    union = classes_seen([*a.keys, *_not_in(b, a)], a.name)
    return replace(union, is_complete=a.is_complete and b.is_complete)


def _not_in(part: ClassList, whole: ClassList) -> list[str]:
    return [part.keys[i] for i in range(len(part)) if find_class(part, i, whole) is None]


def _seen(labels: Labels) -> ClassList:
    """Return the classes of ImageNet that occur in labels, as a list of its own."""
    flat = pc.list_flatten(labels.table["classes"]).to_pylist()
    label = labels.table["label"].drop_null().to_pylist() if "label" in labels.table.column_names else []
    imagenet = class_list()
    return classes_seen([imagenet.names[i] for i in {*flat, *label}], labels.name)


def selected_labels(labels: Labels, classes: ClassList | None) -> Labels:
    """Return label sets over a class list that the caller passed, if they have names of classes.

    Raises
    ------
    MatchError
        As in `JoinedClasses.of_labels`.
    """
    if classes is None or _list_of(labels) is None or labels.class_hash == classes.hash:
        return labels
    return JoinedClasses(len(classes), classes, selects=True).of_labels(labels)


def shares_classes(labels: Labels, classes: ClassList) -> bool:
    """Return whether labels name their classes, and a list contains some of these."""
    own = _list_of(labels)
    return own is not None and len(_not_in(own, classes)) < len(own)


def over_list_of(labels: Labels, other: Labels) -> Labels:
    """Return label sets over the class list of others, if both lists name the same classes.

    Otherwise, they are unchanged. A list of names that occur in a file may lack classes of the other list.
    """
    own, target = _list_of(labels), _list_of(other)
    if own is None or target is None or own.hash == target.hash or _not_in(own, target):
        return labels
    if own.is_complete and _not_in(target, own):
        return labels
    return JoinedClasses(len(target), target).of_labels(labels)


def _list_of(table: Labels | Predictions) -> ClassList | None:
    return table.class_list or class_list_of(table.class_hash)


def _with_conflicts(table: pa.Table, at: Ints32) -> pa.Table:
    if "conflicts" not in table.column_names:
        return table
    lists = one_chunk(table["conflicts"])
    flat = pa.array(at[lists.flatten().to_numpy()], pa.int32())
    offsets = pc.subtract(lists.offsets, lists.offsets[0])
    column = pa.ListArray.from_arrays(offsets, flat, mask=lists.is_null())
    return table.set_column(table.column_names.index("conflicts"), "conflicts", column)


def _with_label(table: pa.Table, at: Ints32) -> pa.Table:
    if "label" not in table.column_names:
        return table
    label = pa.array(at, pa.int32()).take(one_chunk(table["label"]).cast(pa.int32()))
    return table.set_column(table.column_names.index("label"), "label", label)


def _some(names: Collection[str], most: int = _EXAMPLES) -> str:
    shown = ", ".join(list(names)[:most])
    return shown if len(names) <= most else f"{shown}, … ({len(names):,} names)"
