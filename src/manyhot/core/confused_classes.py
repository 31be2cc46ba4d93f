"""Wrongly predicted classes and the classes present in the same images, by `manyhot.core.operating_points`.

Clusters of classes that models confuse serve as superclasses where none are known. Pairs of classes that are
valid together, or confused in both directions, may be two names for the same thing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy import typing as npt
from scipy.sparse import csr_array
from scipy.special import gammaincinv

from manyhot.core.array_types import Bools, Floats, Ints, Ints64, Positions
from manyhot.core.clusters import Clusters
from manyhot.core.cooccurrence import ClassPairs, pair_keys
from manyhot.core.ensembles import Ensemble
from manyhot.core.label_issues import check_least
from manyhot.core.operating_points import OperatingPoints
from manyhot.core.ranked_positives import AnsweredCells, answered_cells, class_columns
from manyhot.core.resampling import LEVEL
from manyhot.core.sets import NO_LABEL, UNCLEAR, YES, Case, LabelSets

MOST_CONFUSIONS = 400
"""Maximum number of pairs of classes in each ranking of `confused_classes`."""

NOTHING = -1
"""Stands for no class in `Confusions`."""


@dataclass(frozen=True)
class Confusions:
    """Pairs of a wrongly predicted class and a class that is present in the same images.

    Attributes
    ----------
    predicted, present : ndarray of int64, shape (m,)
        The class that is predicted but not valid, and a class that is valid; `NOTHING` if there is none.
    n : ndarray of int64, shape (m,)
        Number of images with both.
    n_instead : ndarray of int64, shape (m,)
        Number of these images on which `present` is not predicted.
    n_wrong : ndarray of int64, shape (C,)
        Number of images on which each class is predicted but not valid.
    """

    predicted: Ints64
    present: Ints64
    n: Ints64
    n_instead: Ints64
    n_wrong: Ints64


def confused_classes(case: Case, points: OperatingPoints, *, most: int = MOST_CONFUSIONS) -> Confusions:
    """Count pairs of wrongly predicted and present classes.

    If an image has several labels, it is unknown which wrong prediction replaces which missed class. An image
    therefore counts for a pair if one class is predicted wrongly and the other class is valid (`n`). If the
    valid class is also predicted, the wrong prediction is an addition to it. If the valid class is missed,
    the wrong prediction may be a replacement (`n_instead`, a part of `n`). A missed class on an image without
    wrong predictions is paired with the predicted class `NOTHING`. A wrong prediction on an image with an
    empty label set is paired with the present class `NOTHING`.

    Parameters
    ----------
    case : Case
        The case of `points`.
    points : OperatingPoints
        Thresholds. Each image is evaluated at the thresholds of its fold. Classes without a threshold are
        never predicted. They count as present, but not as missed.
    most : int
        Maximum number of pairs in each of four groups: the pairs with the largest `n_instead`, the pairs with
        the largest `n`, and the two kinds of pairs with `NOTHING`.

    References
    ----------
    Heydarian, Doyle and Samavi 2022, MLCM: multi-label confusion matrix, doi 10.1109/ACCESS.2022.3151048,
    which also has a row for no true label and a column for no predicted label.

    Notes
    -----
    Deviation: if an image has both missed classes and wrong predictions, MLCM pairs only these with each
    other (`n_instead`). It counts pairs with correctly predicted classes only on images without missed
    classes, whereas `n` counts such pairs on all images.
    """
    answered = answered_cells(case)
    positive = answered[answered.yes]
    predicted = points.predicts(positive.score, positive.image, positive.classes)
    missed = points.is_fitted[positive.classes] & ~predicted
    shape = (len(case.labels), case.labels.n_classes)
    present, lost = (_indicator(cells, shape).T.tocsr() for cells in (positive, positive[missed]))
    wrong_on_image, n_wrong, n_alone = np.zeros(shape[0]), np.zeros(shape[1]), np.zeros(shape[1])
    empty = np.flatnonzero(case.labels.size == 0)
    pairs = [np.empty((4, 0))]
    for class_id, wrong in _wrong_by_class(case, points, answered):
        n, n_instead = present @ wrong, lost @ wrong
        other = np.union1d(_largest(n, most), _largest(n_instead, most))
        pairs.append(np.stack([np.full(len(other), class_id), other, n[other], n_instead[other]]))
        wrong_on_image += wrong
        n_wrong[class_id] = wrong.sum()
        n_alone[class_id] = wrong[empty].sum()
    n_only_missed = lost @ (wrong_on_image == 0)
    return _joined(np.concatenate(pairs, axis=1), n_only_missed, n_alone, n_wrong, most)


def _indicator(cells: AnsweredCells, shape: tuple[int, int]) -> csr_array:
    return csr_array((np.ones(len(cells.image)), (cells.image, cells.classes)), shape=shape)


def _wrong_by_class(
    case: Case, points: OperatingPoints, answered: AnsweredCells
) -> Iterator[tuple[int, Floats]]:
    """Yield each class with a threshold, and 1 for each image on which it is predicted wrongly, else 0."""
    shape = len(case.labels), case.labels.n_classes
    if points.masked:
        asked = answered[~answered.yes]
        reached = points.predicts(asked.score, asked.image, asked.classes)
        wrong_cells = _indicator(asked[reached], shape).T.tocsr()
        for class_id in points.fitted:
            yield int(class_id), wrong_cells[[class_id]].toarray()[0]
        return
    valid = _indicator(answered[answered.yes], shape).T.tocsr()
    for part, column in class_columns(case, points.fitted):
        class_id = points.fitted[part.start]
        wrong = points.predicts(column, slice(None), class_id) & case.labels.usable
        wrong[valid.indices[valid.indptr[class_id] : valid.indptr[class_id + 1]]] = False
        yield int(class_id), wrong.astype(np.float64)


def _largest(counts: Floats, most: int) -> Positions:
    """Return the places of the largest counts above 0, at most `most`; the first of equal counts."""
    order = np.argsort(-counts, kind="stable")[:most]
    return order[counts[order] > 0]


def _joined(pairs: Floats, n_only_missed: Floats, n_alone: Floats, n_wrong: Floats, most: int) -> Confusions:
    chosen = np.union1d(_largest(pairs[2], most), _largest(pairs[3], most))
    missed, alone = _largest(n_only_missed, most), _largest(n_alone, most)
    none = np.full(len(missed), NOTHING), np.full(len(alone), NOTHING)
    rows = np.concatenate(
        [
            pairs[:, chosen],
            np.stack([none[0], missed, n_only_missed[missed], n_only_missed[missed]]),
            np.stack([alone, none[1], n_alone[alone], np.zeros(len(alone))]),
        ],
        axis=1,
    ).astype(np.int64)
    rows = rows[:, np.lexsort((rows[1], rows[0], -rows[2], -rows[3]))]
    predicted, present, n, n_instead = rows
    return Confusions(predicted, present, n, n_instead, n_wrong.astype(np.int64))


MIN_RATIO = 2.0
"""How many times as often as average classes the classes of a cluster must be confused.

On PASCAL VOC, 1.5 and 2 give the same clusters from 940 errors of four heads: *bus, car, train*, *cat, dog*
and *cow, horse, sheep*. With 3, *train* is alone.
"""

MOST_CLUSTERED_CLASSES = 5000
"""Maximum number of classes. Linkage needs the similarities of all pairs, 100 MB for 5,000 classes."""


@dataclass(frozen=True, eq=False)
class ConfusionCounts:
    """How often models predict each class for images of every other class.

    Attributes
    ----------
    confused : ndarray of int64, shape (C, C)
        Each row is a class of images: the original label or, without one, the only valid class. Valid and
        unclear predictions are not confusions.
    images : ndarray of int64, shape (C,)
        Number of predictions for images of each class.
    """

    confused: Ints64
    images: Ints64

    @classmethod
    def none(cls, n_classes: int) -> ConfusionCounts:
        """Return counts of 0."""
        return cls(np.zeros((n_classes, n_classes), np.int64), np.zeros(n_classes, np.int64))

    def add(self, case: Case) -> None:
        """Add the predictions of one model."""
        of, best = only_classes(case.labels), case.top[:, 0]
        judged = (of != NO_LABEL) & (best >= 0) & case.labels.usable
        wrong: Bools = judged & (best != of) & (case.state[:, 0] < UNCLEAR)
        np.add.at(self.confused, (of[wrong], best[wrong]), 1)
        np.add.at(self.images, of[judged], 1)


def only_classes(sets: LabelSets) -> Ints:
    """Return the original label of each image or, without one, its only valid class, shape (n,)."""
    valid = sets.state == YES
    only = np.full(len(sets), NO_LABEL)
    only[sets.rows[valid]] = sets.classes[valid]
    only[sets.size != 1] = NO_LABEL
    return np.where(sets.label != NO_LABEL, sets.label, only)


def confusion_clusters(confused: Ints, images: Ints, *, ratio: float = MIN_RATIO) -> Ints64:
    """Return the cluster of each class, shape (C,), or -1 for a class that is in no cluster.

    Clusters are merged by average linkage as long as the mean similarity of their classes is at least
    `ratio`.

    Parameters
    ----------
    confused : ndarray of int, shape (C, C)
        Number of times that the column's class was predicted for images of the row's class. The diagonal is
        ignored.
    images : ndarray of int, shape (C,)
        Number of predictions for images of each class.
    ratio : float
        Minimum similarity; see `confusion_similarity`.

    References
    ----------
    Sokal & Michener, A statistical method for evaluating systematic relationships, University of Kansas
    Science Bulletin 38, 1958 (average linkage).
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    n_classes = len(images)
    none = np.full(n_classes, -1)
    if not 2 <= n_classes <= MOST_CLUSTERED_CLASSES:
        return none
    similarity = confusion_similarity(confused, images)[np.triu_indices(n_classes, 1)]
    largest = similarity.max()
    if largest < ratio:
        return none
    # Linkage needs distances; average linkage of largest - similarity is that of the similarities.
    tree = linkage(largest - similarity, method="average")
    member = fcluster(tree, largest - ratio, criterion="distance")
    joined = np.flatnonzero(np.bincount(member)[member] > 1)
    none[joined] = Clusters.of(member[joined]).number  # by their first classes
    return none


def confusion_similarity(confused: Ints, images: Ints) -> Floats:
    """Return a lower bound on how often two classes are confused, relative to the average, shape (C, C).

    An interval is computed for the number of times that either class is predicted for the other class
    (Garwood 1936, for Poisson counts). The result is the lower end of this interval, divided by the number
    expected if all pairs of classes were confused equally often. The intervals of all pairs are valid
    simultaneously at 95 % (Bonferroni). This prevents spurious similarities, which a search for the most
    confused of many pairs would otherwise find.
    """
    counts = np.where(np.eye(len(images), dtype=bool), 0, confused)
    rate = counts.sum() / max(images.sum() * (len(images) - 1), 1)
    expected = rate * (images[:, None] + images[None, :])
    both = counts + counts.T
    n_pairs = max(len(images) * (len(images) - 1) / 2, 1)
    lower = np.where(both > 0, gammaincinv(np.maximum(both, 1), (1 - LEVEL) / 2 / n_pairs), 0)
    return np.asarray(lower / np.where(expected > 0, expected, 1))


@dataclass(frozen=True, eq=False)
class Merges:
    """Pairs of classes with ``a < b`` that may be duplicates, by descending score.

    Attributes
    ----------
    a, b : ndarray of int64, shape (m,)
    score : ndarray of float64, shape (m,)
        The larger of `together` and twice the smaller of `a_as_b` and `b_as_a`; at most 1.
    together : ndarray of float64, shape (m,)
        Share of the images with the more frequent label that have both labels. NaN if a label has no images.
    a_as_b, b_as_a : ndarray of float64, shape (m,)
        Share of the images labelled a that models predict as b, and vice versa, averaged over models. NaN if
        no image has the label.
    n_together, n_a, n_b : ndarray of int64, shape (m,)
        Number of images with both labels, number of images labelled a, and number of images labelled b.
        Without original labels, the label sets count.
    """

    a: Ints
    b: Ints
    score: Floats
    together: Floats
    a_as_b: Floats
    b_as_a: Floats
    n_together: Ints
    n_a: Ints
    n_b: Ints

    def __len__(self) -> int:
        return len(self.a)


def find_merges(
    ensemble: Ensemble, *, together: float = 0.7, confused: float = 0.2, images: int = 5
) -> Merges:
    """Find pairs of classes that should be merged.

    Parameters
    ----------
    together : float
        Minimum share of the images of each class that have both labels. The share must also exceed the share
        by chance, p, by `together` / 2 (1 - p): two independent classes of most images are not one.
    confused : float
        Minimum share of the images of each class that models predict as the other class. A model that guesses
        between two names for the same class has a share of one half.
    images : int
        Minimum number of images with both labels for `together`, and minimum number of images with each label
        for `confused`.
    """
    check_least(together=together, confused=confused)
    c, label = ensemble.n_classes, ensemble.label
    labelled = np.flatnonzero(label != NO_LABEL)
    n_label = np.bincount(label[labelled], minlength=c)
    keys, share = _confusions(ensemble, labelled, n_label)
    both, count, n_yes = _co_labelled(ensemble.label_sets, c)
    low, high = np.divmod(keys, c)
    pairs = np.unique(np.concatenate([both, pair_keys(low, high, c)]))
    a, b = np.divmod(pairs, c)
    forth, back = _looked_up(keys, share, a * c + b), _looked_up(keys, share, b * c + a)
    n_both = _looked_up(both, count, pairs)
    with np.errstate(invalid="ignore", divide="ignore"):
        overlap = np.where(
            np.minimum(n_yes[a], n_yes[b]) > 0, n_both / np.maximum(n_yes[a], n_yes[b]), np.nan
        )
    forth, back = np.where(n_label[a] > 0, forth, np.nan), np.where(n_label[b] > 0, back, np.nan)
    mixed = np.where(np.minimum(n_label[a], n_label[b]) >= images, np.minimum(forth, back), 0)
    often = np.where(n_both >= images, np.nan_to_num(overlap), 0)
    if ensemble.label_sets is not None:
        chance = np.minimum(n_yes[a], n_yes[b]) / max(np.count_nonzero(ensemble.label_sets.usable), 1)
        often[often - chance < together / 2 * (1 - chance)] = 0
    score = np.maximum(often, np.minimum(2 * mixed, 1))
    keep = np.flatnonzero((often >= together) | (mixed >= confused))
    keep = keep[np.lexsort((pairs[keep], -score[keep]))]
    n_of = n_label if len(labelled) else n_yes
    return Merges(
        a[keep],
        b[keep],
        score[keep],
        overlap[keep],
        forth[keep],
        back[keep],
        n_both[keep].astype(np.int64),
        n_of[a[keep]],
        n_of[b[keep]],
    )


def _confusions(ensemble: Ensemble, labelled: Ints, n_label: Ints) -> tuple[Ints, Floats]:
    """Return keys ``label * C + top class`` of wrong predictions, and their mean share of images."""
    c, label = ensemble.n_classes, ensemble.label[labelled].astype(np.int64)
    parts = []
    for top in ensemble.top:
        best = top[labelled, 0].astype(np.int64)
        wrong = (best >= 0) & (best != label)
        parts.append(label[wrong] * c + best[wrong])
    keys, count = np.unique(np.concatenate([np.empty(0, np.int64), *parts]), return_counts=True)
    return keys, count / n_label[keys // c] / max(len(parts), 1)


def _co_labelled(sets: LabelSets | None, n_classes: int) -> tuple[Ints, Ints, Ints]:
    """Return keys of pairs that are valid together, their numbers of images, and those of each class."""
    if sets is None:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.zeros(n_classes, np.int64)
    yes = (sets.state == YES) & sets.usable[sets.rows]
    pairs = ClassPairs.of(sets)
    n_images = np.bincount(sets.classes[yes], minlength=n_classes)
    return pairs.keys[pairs.company], pairs.both[pairs.company], n_images


def _looked_up(keys: Ints, values: npt.NDArray[np.number], queries: Ints) -> Floats:
    """Return the value of each query among the ascending keys; 0 if it is not a key."""
    result = np.zeros(len(queries))
    if len(keys):
        at = np.minimum(np.searchsorted(keys, queries), len(keys) - 1)
        there = keys[at] == queries
        result[there] = values[at[there]]
    return result
