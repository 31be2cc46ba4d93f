"""Class lists that files and frames name by themselves, and tables that are mapped to other class lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import ClassList, class_list, class_list_of, classes_seen, folded_name
from manyhot.core.array_types import Ints, Ints32
from manyhot.errors import InputError, MatchError, first_names
from manyhot.tables.class_list_unions import find_class, keys_not_in, unmatched_name
from manyhot.tables.frames import one_chunk, with_column
from manyhot.tables.image_ids import fold_name
from manyhot.tables.labels import Images, Labels, with_zeros
from manyhot.tables.lacking_classes import ranked_lists, spread_scores
from manyhot.tables.predictions import Predictions
from manyhot.tables.schemas import metadata
from manyhot.tables.selected_classes import selected_with_note
from manyhot.tables.votes import Votes, votes_from_table

_Table = TypeVar("_Table", Labels, Images)

_EXAMPLES = 3
"""Names in a message."""


def is_class_number(name: str) -> bool:
    """Return whether a name is a whole number, which may be a class id. 0012 is a name: it is not 12."""
    return re.fullmatch("0|[1-9][0-9]*", name) is not None


def list_of_names(names: Iterable[str], where: str) -> tuple[ClassList, bool]:
    """Return the class list for the names in a file, and whether this list is only assumed.

    The list is ImageNet-1k if each name is a number, or a key or a name of one of its classes. Otherwise, the
    list consists of these names. ImageNet-1k is only assumed if some names are not keys: a data set of
    bananas and umbrellas may have two classes, not 1,000. A single name that is only a synonym is a class of
    its own: a spiral need not be ImageNet's coil.
    """
    distinct, imagenet = set(names), class_list()
    only = imagenet.find(*distinct) if len(distinct) == 1 else None
    if only is not None and folded_name(*distinct) in map(folded_name, imagenet.synonyms[only]):
        return classes_seen(distinct, where), False
    if all(imagenet.find(name) is not None for name in distinct if not is_class_number(name)):
        return imagenet, not distinct <= set(imagenet.keys)
    return classes_seen(distinct, where), False


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
    unnamed : tuple of int
        The classes that no label can have, because only models have them. A model may lack them.
    """

    n_classes: int
    classes: ClassList | None = None
    columns: ClassList | None = None
    numbered: bool = False
    selects: bool = False
    unnamed: tuple[int, ...] = ()

    @property
    def _hash(self) -> str:
        return self.classes.hash if self.classes else ""

    @property
    def _own(self) -> ClassList | None:
        return self.classes and own_list(self.classes)

    def of_labels(self, labels: Labels) -> Labels:
        """Return label sets over the joined class list.

        If the caller passed the list, classes that it lacks are left out, and a note reports their number.

        Raises
        ------
        MatchError
            If an image has a class that is not in the list. If the caller passed the list, only if none of
            the classes is in it.
        """
        own = labels.known_classes
        if own is None and labels.class_hash not in ("", self._hash):
            return labels  # another list, of which only the hash is known
        at = self._positions(own)
        n_shared = labels.n_classes if at is None else np.count_nonzero(at >= 0)
        if labels.complete and self.n_classes > n_shared:
            labels = with_zeros(labels)  # no other class was answered
        if self.selects and at is not None and own is not None and n_shared:
            labels = selected_with_note(labels, at, own, "not in the class list", self.classes)
        table = labels.table
        if at is not None:
            self._check_listed(at, one_chunk(table["classes"]).flatten().to_numpy(), labels)
            table = _with_classes(table, at)
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
            If the model predicts classes that are not in the list, or if it lacks classes of the labels and
            has others instead.
        """
        own = predictions.known_classes
        if own is None and self.columns is not None:
            own, named = self.columns, self._named_by_numbers(predictions)
            predictions = self._in_columns(predictions, self.columns) if named is None else named
        elif own is None and self.classes is not None and not (self._own or self.selects):
            self._in_columns(predictions, self.classes)  # checks the number of columns
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
            missing = self._check_covered(at, predictions)
            if missing:
                predictions = ranked_lists(predictions, [self.classes.keys[i] for i in missing])
                assert predictions.classes is not None
                classes, scores = at[predictions.classes], predictions.scores
            else:
                scores = spread_scores(scores[:, listed], at[listed], self.n_classes, predictions.score_kind)
        return replace(
            predictions,
            classes=classes,
            scores=scores,
            n_classes=self.n_classes,
            class_hash=self._hash,
            class_list=self._own,
        )

    def of_votes(self, votes: Votes) -> Votes:
        """Return votes over the joined class list.

        Raises
        ------
        MatchError
            If raters were asked about a class that is not in the list.
        """
        own = votes.known_classes
        at = self._positions(own)
        if own is None or at is None:
            return votes
        absent = [own.keys[i] for i in np.unique(votes.class_id) if at[i] < 0]
        if absent and self.classes is not None:
            raise MatchError(
                "The votes are about classes that are not in the class list.",
                where=votes.name or None,
                got=first_names(absent, _EXAMPLES),
                allowed=f"the {self.n_classes:,} classes of {self.classes.name}",
                do="add these classes at the end of the list (of a campaign: manyhot init CAMPAIGN --images "
                "IMAGES --classes LIST --add), or as `synonyms` of classes",
            )
        table = votes.to_table()
        table = with_column(table, "class_id", pa.array(at[one_chunk(table["class_id"]).to_numpy()]))
        moved = votes_from_table(table, name=votes.name, n_classes=self.n_classes, class_hash=self._hash)
        return replace(moved, class_list=self._own, kind=votes.kind, left_out=votes.left_out)

    def note_on(self, predictions: Predictions) -> str:
        """Return what is assumed about classes without names, or left out of a model; empty if nothing is."""
        own, listed = predictions.known_classes, self.classes
        absent = predictions.unlisted
        if self.selects and predictions.is_dense and own is not None and listed is not None:
            others = [i for i in range(len(own)) if find_class(own, i, listed) is None]
            absent += tuple(unmatched_name(own, i, listed) for i in others)
        if absent:
            return note_on_left_out(predictions, absent)
        if self.unnamed and predictions.is_dense and own is not None and listed is not None:
            lacking = [listed.keys[i] for i in self.unnamed if find_class(listed, i, own) is None]
            if lacking:
                return (
                    f"{predictions.model} has no scores for {first_names(lacking, _EXAMPLES)}, which only "
                    "other models predict, and counts as never predicting "
                    f"{'this class' if len(lacking) == 1 else 'these classes'}, so metrics over all classes, "
                    "such as hamming, differ from those without these models; to fix the classes, pass their "
                    "list as `classes`"
                )
        if self.numbered and self.classes is not None:
            return (
                "the labels contain numbers of classes and no names, so they are assumed to be positions "
                f"among the classes of the predictions: {first_names(self.classes.keys, _EXAMPLES)}; write "
                "the names into the labels, or pass `classes` in the order of the numbers"
            )
        if self.columns is None or predictions.known_classes is not None:
            return ""
        if self._named_by_numbers(predictions) is not None:
            return ""
        return note_on_columns(self.columns)

    def _named_by_numbers(self, model: Predictions) -> Predictions | None:
        """Return lists of numbers over the classes of the columns, if each is the name of such a class."""
        by_number = self.columns.by_number if self.columns is not None else {}
        if self.columns is None or model.classes is None or not by_number:
            return None
        numbers = np.unique(model.classes[model.classes >= 0])
        if not len(numbers) or not all(number in by_number for number in numbers.tolist()):
            return None
        at = np.full(numbers[-1] + 1, -1, np.int32)
        at[numbers] = [by_number[number] for number in numbers.tolist()]
        classes = np.where(model.classes < 0, -1, at[model.classes])
        return replace(model, classes=classes, n_classes=len(self.columns), assumed=False)

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
            allowed=f"{len(columns):,}, one for each of {first_names(columns.keys, _EXAMPLES)}",
            do="leave out the first column, which is the class background in models of TensorFlow"
            if width == len(columns) + 1 and own_list(columns) is None
            else "pass the classes in the order of the columns as `classes`",
        )

    def _positions(self, own: ClassList | None, model: Predictions | None = None) -> Ints32 | None:
        """Return the joined class of each class of a list; None if they are the same."""
        if own is None or self.classes is None or own.hash == self._hash:
            return None
        at = [find_class(own, i, self.classes) for i in range(len(own))]
        first, is_built_in = dict[int, str](), own_list(own) is None  # ImageNet's Cardigan is a cardigan, too
        for key, i in zip(own.keys, at, strict=True):
            if i is not None and not is_built_in and first.setdefault(i, key) != key:
                raise MatchError(
                    "Two classes of a table are the same class.",
                    where=(model.source or model.model if model else own.name) or None,
                    got=f"{first[i]} and {key}, which are {self.classes.keys[i]}",
                    allowed="each class once",
                    do="write both names in the same way, or drop or rename one of the columns",
                )
        absent = [unmatched_name(own, c, self.classes) for c, i in enumerate(at) if i is None]
        if absent and model is not None and not (self.selects and model.is_dense):
            raise MatchError(
                f"{model.model} predicts classes that are not in the class list.",
                where=model.source or None,
                got=first_names(absent, _EXAMPLES),
                allowed=f"the {len(self.classes):,} classes of {self.classes.name}",
                do=NAME_CLASSES
                if are_numbers(own.keys)
                else "pass the list of all classes as `classes`, or leave these out of the predictions",
            )
        return np.array([-1 if i is None else i for i in at], np.int32)

    def _check_listed(self, at: Ints, flat: Ints, labels: Labels) -> None:
        own = labels.known_classes
        absent = np.unique(flat[at[flat] < 0])
        if own is not None and self.classes is not None and len(absent):
            raise MatchError(
                "The labels have classes that are not in the class list.",
                where=labels.name or None,
                got=first_names([own.keys[i] for i in absent], _EXAMPLES),
                allowed=f"the {len(self.classes):,} classes of {self.classes.name}",
                do="pass the list of all classes as `classes`",
            )

    def _check_covered(self, at: Ints32, model: Predictions) -> list[int]:
        """Return the classes of the labels that a model lacks, if each of its own is one of theirs."""
        assert self.classes is not None
        own = at[at >= 0].tolist()
        missing = sorted({*range(self.n_classes)} - {*own, *self.unnamed})
        is_subset = 0 < len(own) == len(at) and not {*own} & {*self.unnamed}
        # A model with other classes instead may only call the same classes by other names.
        if (missing and not is_subset) or len(set(own)) != len(own):
            others = [self.classes.keys[i] for i in self.unnamed if i in own]
            more, do = "", ""
            if others:
                more = f"; and scores for {first_names(others, _EXAMPLES)}, which the labels do not have"
                do = "if these are other names of the same classes, pass a class list with `synonyms` as "
                do += "`classes`; otherwise, "
            raise MatchError(
                f"{model.model} has no scores for some classes.",
                where=model.source or None,
                got=first_names([self.classes.keys[i] for i in missing], _EXAMPLES) + more,
                allowed=f"scores for the {self.n_classes - len(self.unnamed):,} classes of "
                f"{self.classes.name}",
                do=f"{do}predict these classes, too, or evaluate all models on the classes that this one "
                "predicts: pass their list as `classes`, which leaves all other classes out of the labels",
            )
        return missing


def note_on_spellings(own: ClassList | None) -> str:
    """Return a note on classes of one list that differ only in case and underscores; empty without any.

    If there are none, the note is on names without letters and digits, which are probably not meant as
    classes.
    """
    if own is None:
        return ""
    signs = [name for name in own.names if name and not any(map(str.isalnum, name))]
    by_name: dict[str, list[str]] = {}
    for name in own.names:
        by_name.setdefault(folded_name(name), []).append(name)
    alike = [" and ".join(names) for names in by_name.values() if len(set(names)) > 1]
    if not alike and signs:
        return (
            f"names without letters and digits are read as classes, too: {first_names(signs, 3)}; if they "
            "mean that there is no answer, leave these cells empty, and if they separate names, write | "
            "between names"
        )
    if not alike:
        return ""
    return (
        "names that differ only in case or underscores are read as different classes: "
        f"{first_names(alike, 3)}; if they are the same class, write them in the same way"
    )


def note_on_left_out(predictions: Predictions, absent: Sequence[str]) -> str:
    """Return a note on classes of a model that are not in a class list; empty without such classes."""
    if not absent:
        return ""
    return (
        f"{predictions.model}: the scores of {first_names(absent, _EXAMPLES)} were left out, because these "
        "classes are not in the class list; the other scores are unchanged, so probabilities may not add up "
        "to 1"
    )


def note_on_columns(columns: ClassList) -> str:
    """Return a note on columns of scores without names, which are taken for those of the labels' classes."""
    order = "order of the labels' classes" if columns.is_complete else "sorted order of their names"
    return (
        f"the columns of scores have no names, so they are assumed to be in the {order}: "
        f"{first_names(columns.keys, _EXAMPLES)}; pass `classes` if the columns are in a different order"
    )


def numbers_as_names(table: _Table, model: ClassList | None) -> tuple[_Table, str]:
    """Return labels or images whose classes are numbers over the names of a model's classes, and a note.

    Numbers are names if each is the name of a class of the model. Otherwise, they remain positions. The note
    is empty unless the numbers may also be positions, but of different classes.
    """
    is_named = table.known_classes is not None if isinstance(table, Labels) else table.class_list is not None
    is_matrix = isinstance(table, Labels) and table.numbered
    is_open = table.assumed if isinstance(table, Labels) else not metadata(table.table).get("classes")
    if model is None or is_named or not (is_open or is_matrix) or are_numbers(model.keys):
        return table, ""
    numbers = (
        [*range(table.n_classes)]
        if isinstance(table, Labels) and is_matrix
        else class_numbers_in(table.table)
    )
    if not numbers or not all(number in model.by_number for number in numbers):
        return table, ""
    own = classes_seen([model.keys[model.by_number[number]] for number in numbers], table.name)
    own = replace(own, is_complete=is_matrix)
    at = np.full(max(numbers) + 1, -1, np.int32)
    at[numbers] = [own.keys.index(model.keys[model.by_number[number]]) for number in numbers]
    if isinstance(table, Images):
        named: _Table = replace(table, table=_with_label(table.table, at), class_list=own)
    else:
        named = replace(
            table,
            table=_with_classes(table.table, at),
            n_classes=len(own),
            class_hash=own.hash,
            class_list=own,
            assumed=False,
            numbered=False,
        )
    odd = next((number for number in numbers if model.by_number[number] != number), None)
    if max(numbers) >= len(model) or odd is None:
        return named, ""
    return named, (
        "the numbers of classes in the labels are read as names, because the predictions have classes of "
        f"these names: {odd} is the class {model.keys[model.by_number[odd]]}, not {model.keys[odd]}, which "
        f"is at position {odd}; if they are positions, write the names into the labels"
    )


def class_numbers_in(table: pa.Table) -> list[int]:
    """Return the classes of label sets and original labels, each once."""
    flat = pc.list_flatten(table["classes"]).unique().to_pylist() if "classes" in table.column_names else []
    label = table["label"].drop_null().unique().to_pylist() if "label" in table.column_names else []
    return sorted({*flat, *label})


NAME_CLASSES = (
    "the file lacks the names of its classes: predict again with manyhot predict --classes FILE, in the "
    "order of the model's outputs"
)


def are_numbers(keys: Sequence[str]) -> bool:
    """Return whether classes have no names, only their numbers."""
    return list(keys) == [str(i) for i in range(len(keys))]


def selected_labels(labels: Labels, classes: ClassList | None) -> Labels:
    """Return label sets over a class list that the caller passed, if they have names of classes.

    Raises
    ------
    MatchError
        As in `JoinedClasses.of_labels`.
    """
    if classes is None or labels.known_classes is None or labels.class_hash == classes.hash:
        return labels
    return JoinedClasses(len(classes), classes, selects=True).of_labels(labels)


def shares_classes(labels: Labels, classes: ClassList) -> bool:
    """Return whether labels name their classes, and a list contains some of these."""
    own = labels.known_classes
    return own is not None and len(keys_not_in(own, classes)) < len(own)


def over_list_of(labels: Labels, other: Labels) -> Labels:
    """Return label sets over the class list of other label sets, if both lists name the same classes.

    Otherwise, they are unchanged. A list of names that occur in a file may lack classes of the other list.
    """
    own, target = labels.known_classes, other.known_classes
    if own is None or target is None or own.hash == target.hash or keys_not_in(own, target):
        return labels
    if own.is_complete and keys_not_in(target, own):
        return labels
    return JoinedClasses(len(target), target).of_labels(labels)


def _with_classes(table: pa.Table, at: Ints32) -> pa.Table:
    """Return label sets with other numbers of their classes."""
    for name in [name for name in ("classes", "conflicts") if name in table.column_names]:
        lists = one_chunk(table[name])
        flat = pa.array(at[lists.flatten().to_numpy()], pa.int32())
        offsets = pc.subtract(lists.offsets, lists.offsets[0])
        renumbered = pa.ListArray.from_arrays(offsets, flat, mask=lists.is_null())
        table = with_column(table, name, renumbered)
    return _with_label(table, at)


def _with_label(table: pa.Table, at: Ints32) -> pa.Table:
    if "label" not in table.column_names:
        return table
    label = pa.array(at, pa.int32()).take(one_chunk(table["label"]).cast(pa.int32()))
    return with_column(table, "label", label)


def check_targets(names: Sequence[str], where: object) -> None:
    """Raise an error if one of several columns is named like the label of each image, as in Waterbirds."""
    found = [name for name in names if fold_name(name) in ("y", "y_true", "target")]
    rest = [name for name in names if name not in found]
    if found and rest and all(len(name) > 1 for name in rest):  # letters may be classes
        raise InputError(
            "A column is named like the label of each image, and other columns of 0 and 1 may be metadata.",
            where=where,
            got=f"{first_names(found)}, beside {first_names(rest)}",
            do=f"rename {found[0]!r} to label if it is the label of each image; if all these columns are "
            "classes, pass the class list as `classes`",
        )
