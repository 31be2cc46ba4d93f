"""Kinds of label sets: an image has several labels because of several objects, ambiguity, or near-synonyms.

Two labels *belong to one object* if models confuse the two classes, ranking each second after the other, or
if the classes are close in the hierarchy, such as two breeds of dogs. They are *near-synonyms* if models
confuse them and raters accept both together, such as sunglass and sunglasses. Labels that do not belong to
one object belong to several objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from manyhot.core.array_types import Bools, Floats, Ints, Ints8, Ints64
from manyhot.core.class_hierarchy import Hierarchy
from manyhot.core.cooccurrence import pair_keys, pairs_within
from manyhot.core.sets import YES, LabelSets

LABEL_KINDS = ("one", "several-objects", "ambiguous", "near-synonyms")
"""The kinds of label sets."""

UNKNOWN = -1
"""Code of an unknown number of objects, and kind of an image without labels."""


@dataclass(frozen=True)
class Rules:
    """The thresholds that separate kinds.

    Parameters
    ----------
    confusion : float
        Two labels belong to the same object if, for each of the two classes, at least this share of the
        models' predictions with that class in first place have the other class in second place.
    distance : int
        Two labels also belong to the same object if there are at most this many steps between the classes in
        the hierarchy.
    together : float
        Two confused labels are near-synonyms if at least this share of the images with either label have
        both. Only images on which raters were asked about both classes are counted.
    together_images : int
        Minimum number of such images.
    """

    confusion: float = 0.3
    distance: int = 4
    together: float = 0.5
    together_images: int = 10


@dataclass(frozen=True, eq=False)
class ImageKinds:
    """Kinds of n images.

    Attributes
    ----------
    kind : ndarray of int8, shape (n,)
        Position in `LABEL_KINDS`, or `UNKNOWN`.
    apart : ndarray of int, shape (n,)
        Number of objects according to the labels, that is, number of groups of labels that belong to the same
        object.
    """

    kind: Ints8
    apart: Ints64


def mutual_confusion(tops: Iterable[Ints], n_classes: int) -> Floats:
    """Return how often models confuse each pair of classes, as a symmetric matrix of shape (C, C).

    The value is the share of the predictions with one class in first place that have the other class in
    second place, over all models and images. The smaller of the two directions is used. Labels are not used.

    Parameters
    ----------
    tops : iterable of ndarray of int, each of shape (n, at least 2)
        Predicted classes of each model, best first. Rows with -1 in one of the first two places are left out.
    n_classes : int
        Number of classes C.
    """
    counts = np.zeros(n_classes * n_classes, np.int64)
    for top in tops:
        first, second = top[:, 0].astype(np.int64), top[:, 1]
        there = (first >= 0) & (second >= 0)
        counts += np.bincount(first[there] * n_classes + second[there], minlength=len(counts))
    table = counts.reshape(n_classes, n_classes)
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    return np.asarray(np.minimum(share, share.T))


def share_together(sets: LabelSets) -> tuple[Ints64, Floats, Ints64]:
    """Return pairs of classes and, among images with either label, the share with both.

    Only usable images on which raters were asked about both classes are counted. If it is unknown which
    classes raters were asked about, no pairs are returned.

    Returns
    -------
    pair : ndarray of int64, shape (p,)
        ``a * C + b`` with a < b, ascending.
    share : ndarray of float64, shape (p,)
    images : ndarray of int64, shape (p,)
        Number of images with at least one of the two labels, at least 1.
    """
    if sets.complete:
        return _share_of_all(sets)
    asked = np.flatnonzero(sets.usable[sets.rows] & sets.asked_known)
    i, j = pairs_within(sets.rows[asked])
    i, j = asked[i], asked[j]
    yes_i, yes_j = sets.state[i] == YES, sets.state[j] == YES
    either = yes_i | yes_j
    number = pair_keys(sets.classes[i], sets.classes[j], sets.n_classes)[either]
    pair, at = np.unique(number, return_inverse=True)
    images = np.bincount(at, minlength=len(pair))
    both = np.bincount(at, (yes_i & yes_j)[either], minlength=len(pair))
    return pair, both / np.maximum(images, 1), images


def _share_of_all(sets: LabelSets) -> tuple[Ints64, Floats, Ints64]:
    """Return what `share_together` does if raters were asked about every class on every image."""
    yes = (sets.state == YES) & sets.usable[sets.rows]
    shape = (len(sets), sets.n_classes)
    matrix = csr_array((np.ones(np.count_nonzero(yes)), (sets.rows[yes], sets.classes[yes])), shape=shape)
    both = (matrix.T @ matrix).toarray()
    images = np.diagonal(both)[:, None] + np.diagonal(both) - both
    i, j = np.nonzero(np.triu(images, 1))
    return i * sets.n_classes + j, both[i, j] / images[i, j], images[i, j].astype(np.int64)


def near_synonyms(
    sets: LabelSets, confusion: Floats, rules: Rules | None = None
) -> tuple[Ints64, Floats, Ints64]:
    """Return the pairs of classes that are near-synonyms, in the form returned by `share_together`.

    Parameters
    ----------
    sets, confusion, rules
        As in `image_kinds`.
    """
    rules = rules or Rules()
    pair, share, images = share_together(sets)
    mixed = confusion[pair // sets.n_classes, pair % sets.n_classes] >= rules.confusion
    synonyms = mixed & (share >= rules.together) & (images >= rules.together_images)
    return pair[synonyms], share[synonyms], images[synonyms]


def image_kinds(
    sets: LabelSets,
    confusion: Floats,
    paths: Sequence[Sequence[str]],
    *,
    n_objects: Ints | None = None,
    rules: Rules | None = None,
) -> ImageKinds:
    """Return the kind of each image's label set.

    If raters counted two or more objects in an image, its kind is *several objects*, regardless of the
    labels. If they counted one object with several labels, the kind is *near-synonyms* if pairs of
    near-synonyms connect all labels, and *ambiguous* otherwise. If raters did not count objects, the kind is
    *several objects* if the labels do not all belong to one object, and is otherwise determined as for one
    object. The kind of a single label is *one*.

    Parameters
    ----------
    sets : LabelSets
        Label sets of n images.
    confusion : ndarray of float64, shape (C, C)
        The result of `mutual_confusion`.
    paths : sequence of C sequences of str
        The path of each class to the root, starting with the class.
    n_objects : ndarray of int, shape (n,), optional
        Number of objects that raters counted; `UNKNOWN` if they did not.
    """
    rules = rules or Rules()
    yes = np.flatnonzero((sets.state == YES) & sets.usable[sets.rows])
    rows, classes = sets.rows[yes], sets.classes[yes].astype(np.int64)
    i, j = pairs_within(rows)
    mixed = confusion[classes[i], classes[j]] >= rules.confusion
    close = Hierarchy.of(paths).distance(classes[i], classes[j]) <= rules.distance
    synonyms = np.isin(
        pair_keys(classes[i], classes[j], sets.n_classes), near_synonyms(sets, confusion, rules)[0]
    )
    apart = _groups(rows, i, j, mixed | close, len(sets))
    named_apart = _groups(rows, i, j, synonyms, len(sets))
    return ImageKinds(_decide(np.bincount(rows, minlength=len(sets)), apart, named_apart, n_objects), apart)


def _decide(size: Ints64, apart: Ints64, named_apart: Ints64, n_objects: Ints | None) -> Ints8:
    one, several, ambiguous, synonyms = range(len(LABEL_KINDS))
    objects = apart if n_objects is None else np.where(n_objects == UNKNOWN, apart, n_objects)
    kind = np.where(named_apart == 1, synonyms, ambiguous)
    kind = np.where(size == 1, one, kind)
    kind = np.where(size == 0, UNKNOWN, kind)
    return np.where(objects > 1, several, kind).astype(np.int8)


def _groups(rows: Ints64, i: Ints64, j: Ints64, joined: Bools, n: int) -> Ints64:
    """Return the number of connected groups of each image's entries, shape (n,)."""
    edges = (np.ones(np.count_nonzero(joined), bool), (i[joined], j[joined]))
    _, group = connected_components(coo_array(edges, shape=(len(rows), len(rows))), directed=False)
    # A group is within one image, that of its first entry.
    _, first = np.unique(group, return_index=True)
    return np.bincount(rows[first], minlength=n)
