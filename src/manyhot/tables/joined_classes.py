"""Which class list labels, images and predictions share: their own lists, joined by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

from manyhot.classes import ClassList, class_list, class_list_of, classes_seen
from manyhot.errors import MatchError, first_names
from manyhot.tables.class_list_unions import followed_by, keys_not_in, sorted_by_key, union_of
from manyhot.tables.labels import Images, Labels
from manyhot.tables.own_classes import (
    NAME_CLASSES,
    JoinedClasses,
    are_numbers,
    class_numbers_in,
    own_list,
)
from manyhot.tables.predictions import Predictions
from manyhot.tables.schemas import metadata

_EXAMPLES = 3
"""Names in a message."""


def join_classes(
    labels: Labels | None,
    images: Images | None,
    first: Predictions | None,
    predicted: Sequence[ClassList] = (),
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
        The model that determines the classes of columns without names.
    predicted : sequence of ClassList
        The class lists of all models, in any order; by default, of the first model.
    sort : bool
        Whether names are sorted if the model has the same names in a different order.
    alone : bool
        Whether there are no predictions. If so, there are no columns without names, and only the meaning of
        such columns depends on the order of the names.
    in_order : bool
        Whether labels that list their classes, such as the columns of a file, keep their order. Classes that
        occur only in the predictions are appended, sorted.
    """
    lists = [t.class_list for t in (labels, images) if t is not None and t.class_list is not None]
    model = first.known_classes if first is not None else None
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
        model = _union_of_common(lists, predicted or (model,), first)
    in_order = in_order and all(own.is_complete for own in lists)
    keep = any("keys" in metadata(t.table) for t in (labels, images) if t is not None)
    keep = keep or not (sort or any(model is None or t.hash != model.hash for t in lists))
    sort = (model is not None or alone) and not keep
    return _of_names(lists, model, width, sort=sort, in_order=in_order)


def _union_of_common(
    lists: Sequence[ClassList], predicted: Sequence[ClassList], predictions: Predictions
) -> ClassList:
    """Return the classes of all models that have a class in common with the labels.

    Raises
    ------
    MatchError
        If there is no such model.
    """
    common = [
        model
        for model in predicted
        if any(len(keys_not_in(a, b)) < len(a) for own in lists for a, b in ((model, own), (own, model)))
    ]
    if common:
        return reduce(union_of, common)
    model = predicted[0]
    raise MatchError(
        f"{predictions.model} has no class in common with the labels.",
        where=predictions.source or None,
        got=first_names(model.keys, _EXAMPLES),
        allowed=f"{first_names(lists[0].keys, _EXAMPLES)}, as in {lists[0].name or 'the labels'}",
        do=NAME_CLASSES if are_numbers(model.keys) else "pass predictions of these classes",
    )


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
        own = union_of(own, other)
    both = own if model is None else union_of(own, model)
    imagenet = class_list()
    fits_imagenet = model is None and width == len(imagenet) != len(own)
    if fits_imagenet and all(imagenet.find(key) is not None for key in own.keys):
        return JoinedClasses(len(imagenet), imagenet)
    if in_order and own_list(both) is not None:
        # The ids of one file are the same in all commands, whatever the predictions are.
        both = own if model is None else followed_by(own, model)
    elif sort and not own.is_complete and own_list(both) is not None:
        # The same numbers to the last digit, whatever the order of the model's columns. Declared classes keep
        # their ids, by which ties are broken.
        both = replace(sorted_by_key(both), is_complete=model is not None or both.is_complete)
    unnamed = () if own_list(both) is None else tuple(map(both.keys.index, keys_not_in(both, own)))
    return JoinedClasses(len(both), both, own, unnamed=unnamed)


def _seen(labels: Labels) -> ClassList:
    """Return the classes of ImageNet that occur in labels, as a list of its own."""
    imagenet = class_list()
    found = classes_seen([imagenet.names[i] for i in class_numbers_in(labels.table)], labels.name)
    # A model may call a class by another of its names, such as cardigan.
    return replace(found, synonyms=tuple(imagenet.synonyms[imagenet.index(key)] for key in found.keys))
