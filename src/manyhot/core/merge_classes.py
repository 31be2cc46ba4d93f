"""Pairs of classes that may be two names for one thing: valid together, or confused in both directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Floats, Ints
from manyhot.core.cooccurrence import ClassPairs
from manyhot.core.ensembles import Ensemble
from manyhot.core.label_issues import check_least
from manyhot.core.sets import NO_LABEL, YES, LabelSets


@dataclass(frozen=True, eq=False)
class Merges:
    """Pairs of classes with ``a < b`` that may be duplicates, by descending score.

    Attributes
    ----------
    a, b : ndarray of int64, shape (m,)
    score : ndarray of float64, shape (m,)
        The maximum of `together` and twice the minimum of `a_as_b` and `b_as_a`; at most 1.
    together : ndarray of float64, shape (m,)
        Share of the images with the more frequent label that have both labels. NaN if a label has no images.
    a_as_b, b_as_a : ndarray of float64, shape (m,)
        Among the images labelled with one class, the share that models predict as the other, averaged over
        models. NaN if no image has the label.
    n_together, n_a, n_b : ndarray of int64, shape (m,)
        Number of images with both labels, number of images labelled a, and number of images labelled b.
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
    ensemble : Ensemble
    together : float
        Minimum share of the images of each class that have both labels.
    confused : float
        Minimum share of the images of each class that models predict as the other class. For a model that
        guesses between two names of one class, the share is one half.
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
    pairs = np.unique(np.concatenate([both, np.minimum(low, high) * c + np.maximum(low, high)]))
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
    score = np.maximum(often, np.minimum(2 * mixed, 1))
    keep = np.flatnonzero((often >= together) | (mixed >= confused))
    keep = keep[np.lexsort((pairs[keep], -score[keep]))]
    return Merges(
        a[keep],
        b[keep],
        score[keep],
        overlap[keep],
        forth[keep],
        back[keep],
        n_both[keep].astype(np.int64),
        n_label[a[keep]],
        n_label[b[keep]],
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
