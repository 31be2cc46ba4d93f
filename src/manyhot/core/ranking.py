"""Metrics of the ranking by dense scores: average precision, coverage error and ranking loss.

Only the order matters, so logits and probabilities give the same value. Ties are not broken: all cells of a
score are reached at once, as in scikit-learn.

A positive is a class with state yes of a usable image. All other classes of the image are negatives, unless
`masked` is set (*not asked is not no*): then only classes with state no are negatives, and classes that are
unclear or that raters were not asked about are ignored. If a source does not record no answers
(`LabelSets.asked_known` is False), the masked metric is undefined.

Each metric depends on two counts for each positive: its `depth`, the number of cells in its group with at
least its score, and its `hits`, the number of positives among them. A group is a class, an image, or all
cells. Under weights of images, a count is the weight of the cells at or above a positive, which a `Walk`
through the cells of a group sums up. Times below are for 50,000 × 1,000 float32 scores on one core
(``benchmarks/dense.py``).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy import typing as npt

from manyhot.core.answered_cells import AnsweredCells, answered_cells, comparable, scores_of
from manyhot.core.array_types import AnyFloats, Floats, Ints
from manyhot.core.estimates import Estimate, Pooled, Weights, mean_over, undefined
from manyhot.core.sets import Case
from manyhot.registry import register

ROWS = 256
"""Images per block: 1 MB of float32 scores of 1,000 classes fits the second-level cache."""

CLASSES_AT_ONCE = 16
"""Classes copied at once: 16 float32 fill a cache line."""

Weigh = Callable[[Floats], Floats]
_Group = Literal["class", "image", "all"]


@register(
    "metric",
    "map_macro",
    also=("mAP", "average_precision", "mean_average_precision"),
    multi_label=True,
    better="higher",
    label="mAP (macro)",
    needs="scores",
    default=True,
)
def map_macro(case: Case, *, masked: bool = False) -> Estimate:
    """Average precision of each class over the images, averaged over the classes.

    Parameters
    ----------
    masked : bool
        Ignore unclear cells and cells that no rater was asked about.

    References
    ----------
    ``sklearn.metrics.average_precision_score``.

    Notes
    -----
    AP is the sum of (R_i - R_{i-1}) P_i over the distinct scores of a class, without interpolation. `n` is
    the number of images.

    Deviation: a class without positives under the weights does not count, whereas scikit-learn counts it as
    0.

    The first weighted evaluation sorts the scores (0.7 s). For each cell that is not below the lowest
    positive of its class, it stores 2 bytes, or 4 with more than 65,536 images. Later evaluations take 0.03
    s.
    """
    standing = _standing(case, "class", masked=masked)
    if standing is None:
        return undefined(len(case.labels))
    walks = functools.cache(
        lambda: _walks_in_class(case, standing) if standing.asked is None else _walks_asked(standing)
    )
    return _pooled_precision(standing, lambda w: weigh(walks(), w))


@register(
    "metric",
    "map_micro",
    multi_label=True,
    better="higher",
    label="mAP (micro)",
    needs="scores",
    default=True,
)
def map_micro(case: Case, *, masked: bool = False) -> Estimate:
    """Average precision over one ranking of all (image, class) pairs.

    Scores of different images and classes are compared.

    Parameters
    ----------
    masked : bool
        As in `map_macro`.

    References
    ----------
    ``sklearn.metrics.average_precision_score`` with ``average="micro"``.

    Notes
    -----
    Without `masked`, the first weighted evaluation finds the place of each cell among the distinct scores of
    the positives (3 s) and stores it in 2 bytes per cell, or 4 with more than 65,535 distinct scores. Later
    evaluations take 0.09 s.
    """
    standing = _standing(case, "all", masked=masked)
    if standing is None:
        return undefined(len(case.labels))
    if standing.asked is not None:
        walks = functools.cache(lambda: _walks_asked(standing))
        return _pooled_precision(standing, lambda w: weigh(walks(), w))
    places = functools.cache(lambda: _places(case, np.unique(standing.score)))
    return _pooled_precision(standing, lambda w: _weigh_places(standing, places(), w))


@register(
    "metric",
    "map_image",
    multi_label=True,
    better="higher",
    label="mAP (images)",
    needs="scores",
    default=True,
)
def map_image(case: Case, *, masked: bool = False) -> Estimate:
    """Average precision of each image over the classes, averaged over the images.

    Images with an empty label set are skipped.

    Parameters
    ----------
    masked : bool
        As in `map_macro`.

    References
    ----------
    The "mAP" of Chen, Harun and Kanan 2026, arXiv 2603.05729 (``compute_average_precision`` in their
    evaluation.py). It equals ``sklearn.metrics.average_precision_score`` with ``average="samples"``.

    Notes
    -----
    It equals `lrap` for each image with both positives and negatives, even with ties. Both average, over the
    positives, the share of positives among the classes with at least the same score. They differ only if all
    classes are positives, in which case AP is 1 and LRAP is undefined.

    Deviations: scikit-learn counts an image without positives as 0. The code of Chen et al. skips it, as
    here, but breaks ties by an unstable sort, so its value depends on the platform if there are ties. Without
    ties, the two values are equal.
    """
    standing = _standing(case, "image", masked=masked)
    if standing is None:
        return undefined(len(case.labels))
    return mean_over(_image_precision(standing), standing.positives > 0)


@register(
    "metric",
    "lrap",
    also=("label_ranking_average_precision",),
    multi_label=True,
    better="higher",
    label="LRAP",
    needs="scores",
    default=True,
)
def lrap(case: Case, *, masked: bool = False) -> Estimate:
    """Label ranking average precision: mean share of valid classes among those at or above a valid class.

    Images without positives or without negatives are skipped.

    Parameters
    ----------
    masked : bool
        As in `map_macro`.

    References
    ----------
    Schapire and Singer 2000, BoosTexter, doi 10.1023/A:1007649029923;
    ``sklearn.metrics.label_ranking_average_precision_score``.

    Notes
    -----
    See `map_image` for the difference between that metric and this one.

    Deviation: scikit-learn counts images without positives or without negatives as 1.
    """
    standing = _standing(case, "image", masked=masked)
    if standing is None:
        return undefined(len(case.labels))
    return mean_over(
        _image_precision(standing), (standing.positives > 0) & (standing.positives < standing.cells)
    )


@register(
    "metric",
    "coverage",
    also=("coverage_error",),
    better="lower",
    label="Coverage error",
    needs="scores",
    unit="classes",
    default=True,
)
def coverage(case: Case) -> Estimate:
    """Mean number of top classes that are needed to include the whole label set.

    References
    ----------
    Tsoumakas, Katakis and Vlahavas 2010, Mining multi-label data, doi 10.1007/978-0-387-09823-4_34, which
    counts from 0. ``sklearn.metrics.coverage_error`` counts from 1, as here. Classes that tie with the lowest
    positive are included.

    Notes
    -----
    The best value is the mean size of the label sets. Images with an empty label set are skipped.

    There is no parameter `masked`, because depths among the classes that raters were asked about cannot be
    compared between images with different numbers of such classes.

    Deviation: scikit-learn counts an image without positives as 0.
    """
    standing = _standing(case, "image")
    if standing is None:
        return undefined(len(case.labels))
    deepest = np.zeros(len(case.labels))
    np.maximum.at(deepest, standing.image, standing.depth)
    return mean_over(deepest, standing.positives > 0)


@register(
    "metric",
    "ranking_loss",
    also=("label_ranking_loss",),
    better="lower",
    label="Ranking loss",
    needs="scores",
    default=True,
)
def ranking_loss(case: Case, *, masked: bool = False) -> Estimate:
    """Share of the pairs of a valid and an invalid class that are ranked wrongly, averaged over images.

    A tie counts as an error. Images without positives or without negatives are skipped.

    Parameters
    ----------
    masked : bool
        As in `map_macro`.

    References
    ----------
    Tsoumakas, Katakis and Vlahavas 2010, Mining multi-label data, doi 10.1007/978-0-387-09823-4_34;
    ``sklearn.metrics.label_ranking_loss``.

    Notes
    -----
    Deviation: scikit-learn counts images without positives or without negatives as 0.
    """
    standing = _standing(case, "image", masked=masked)
    if standing is None:
        return undefined(len(case.labels))
    wrong = np.bincount(standing.image, standing.depth - standing.hits, minlength=len(case.labels))
    pairs = standing.positives * (standing.cells - standing.positives)
    return mean_over(wrong / np.maximum(pairs, 1), pairs > 0)


@dataclass(frozen=True)
class _Standing:
    """The positives, by group and with descending scores, and the numbers of cells at or above them.

    Attributes
    ----------
    group, image : ndarray of int, shape (m,)
        The group and the image of each positive.
    score : ndarray of float, shape (m,)
        The score of each positive.
    hits, depth : ndarray of int, shape (m,)
        The number of positives, and of cells, in its group with at least its score.
    positives, cells : ndarray of int, shape (n,)
        The number of positives, and of cells, of each image.
    asked : tuple of two ndarrays of int, shape (asked cells,), or None
        The group and the image of each cell, by group and with descending scores; None without a mask.
    """

    group: Ints
    image: Ints
    score: AnyFloats
    hits: Ints
    depth: Ints
    positives: Ints
    cells: Ints
    asked: tuple[Ints, Ints] | None


def _standing(case: Case, by: _Group, *, masked: bool = False) -> _Standing | None:
    """Rank the positives within each class, each image, or all cells; None if the metric is undefined."""
    labels = case.labels
    if case.scores is None or (masked and not labels.asked_known):
        return None
    answered = answered_cells(case)
    if not answered.yes.any():
        return None
    group = {"class": answered.classes, "image": answered.image, "all": np.zeros_like(answered.image)}[by]
    order = np.lexsort((-answered.score, group))
    answered, group = answered[order], group[order]
    positive, own_group = answered[answered.yes], group[answered.yes]
    find = {"class": _depth_in_class, "image": _depth_in_image, "all": _depth_in_all}[by]
    return _Standing(
        own_group,
        positive.image,
        positive.score,
        hits=_at_or_above(own_group, positive.score),
        depth=_at_or_above(group, answered.score)[answered.yes] if masked else find(case, positive),
        positives=np.bincount(positive.image, minlength=len(labels)),
        cells=(
            np.bincount(answered.image, minlength=len(labels)) if masked else labels.usable * labels.n_classes
        ),
        asked=(group, answered.image) if masked else None,
    )


def _at_or_above(group: Ints, score: AnyFloats) -> npt.NDArray[np.intp]:
    """Return the number of cells in the group of each cell with at least its score; sorted as `_Standing`."""
    new_group = np.append(True, group[1:] != group[:-1])
    new_score = new_group | np.append(True, score[1:] != score[:-1])
    start: npt.NDArray[np.intp] = np.flatnonzero(new_group)[np.cumsum(new_group) - 1]
    end: npt.NDArray[np.intp] = np.append(np.flatnonzero(new_score)[1:], len(score))[np.cumsum(new_score) - 1]
    return end - start


def _depth_in_image(case: Case, positive: AnsweredCells) -> npt.NDArray[np.intp]:
    # Summing bools into the smallest type that can hold the count is twice as fast as into int64.
    depth = np.empty(len(positive.score), np.intp)
    count = np.min_scalar_type(case.labels.n_classes)
    for start in range(0, len(depth), ROWS):
        part = slice(start, start + ROWS)
        row = comparable(scores_of(case).take(positive.image[part], axis=0))
        depth[part] = (row >= positive.score[part, None]).sum(axis=1, dtype=count)
    return depth


def _depth_in_class(case: Case, positive: AnsweredCells) -> npt.NDArray[np.intp]:
    # Cells below the lowest positive of a class never count: with informative scores, a quarter remains to be
    # sorted (0.23 s, not 1.0 s), and finding the few positives among these is fast.
    depth = np.empty(len(positive.score), np.intp)
    for part, column in _columns(case, positive.classes):
        score = positive.score[part]
        above = np.compress((column >= score[-1]) & case.labels.usable, column)
        above.sort()
        depth[part] = len(above) - np.searchsorted(above, score)
    return depth


def _depth_in_all(case: Case, positive: AnsweredCells) -> npt.NDArray[np.intp]:
    # Sorting 256 rows at once and searching all positives in them limits the memory to two blocks.
    scores, usable = scores_of(case), case.labels.usable
    distinct, place = np.unique(positive.score, return_inverse=True)
    depth = np.zeros(len(distinct), np.intp)
    for start in range(0, len(scores), ROWS):
        block = comparable(scores[start : start + ROWS][usable[start : start + ROWS]]).ravel()
        above = np.compress(block >= distinct[0], block)
        above.sort()
        depth += len(above) - np.searchsorted(above, distinct)
    return depth[place]


def _columns(case: Case, classes: Ints) -> Iterator[tuple[slice, AnyFloats]]:
    """Yield the slice of each class in the ascending `classes`, and its scores.

    The scores, shape (n,), are contiguous, and are overwritten by later ones.
    """
    scores = scores_of(case)
    copy = np.empty((CLASSES_AT_ONCE, len(scores)), np.result_type(scores.dtype, np.float32))
    edges = np.searchsorted(classes, np.arange(case.labels.n_classes + 1))
    for first in range(0, case.labels.n_classes, CLASSES_AT_ONCE):
        last = min(first + CLASSES_AT_ONCE, case.labels.n_classes)
        for start in range(0, len(scores), ROWS):  # in tiles: three times as fast as one strided copy
            copy[: last - first, start : start + ROWS] = scores[start : start + ROWS, first:last].T
        for c in range(first, last):
            if edges[c] < edges[c + 1]:
                yield slice(edges[c], edges[c + 1]), copy[c - first]


def _image_precision(standing: _Standing) -> Floats:
    total = np.bincount(standing.image, standing.hits / standing.depth, minlength=len(standing.positives))
    return total / np.maximum(standing.positives, 1)


def _pooled_precision(standing: _Standing, weigh_depth: Weigh) -> Pooled:
    """Return the mean over groups of average precision; `weigh_depth` returns `depth` under weights."""
    hit_walks = functools.cache(
        lambda: [walk(standing.image[p], standing.hits[p]) for p in _parts(standing.group)]
    )

    def value(weights: Weights | None = None) -> float:
        if weights is None:
            return _group_mean(standing.group, standing.hits / standing.depth, np.ones(len(standing.group)))
        w = np.asarray(weights, np.float64)
        gain = w[standing.image]
        precision = np.zeros(len(gain))
        np.divide(weigh(hit_walks(), w), weigh_depth(w), out=precision, where=gain > 0)
        return _group_mean(standing.group, precision, gain)

    return Pooled(value, standing.cells > 0)


def _group_mean(group: Ints, values: Floats, weights: Floats) -> float:
    """Return the weighted mean in each group, averaged over the groups with positive weight."""
    total = np.bincount(group, weights)
    filled = total > 0
    sums = np.bincount(group, weights * values)
    return float(np.mean(sums[filled] / total[filled])) if filled.any() else float("nan")


def _parts(group: Ints) -> list[slice]:
    edges = np.append(np.flatnonzero(np.append(True, group[1:] != group[:-1])), len(group))
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def _walks_asked(standing: _Standing) -> list[Walk]:
    assert standing.asked is not None  # for the type checker
    group, image = standing.asked
    parts = _parts(standing.group)
    starts = np.searchsorted(group, [standing.group[part.start] for part in parts])
    depths = [standing.depth[part] for part in parts]
    return [
        walk(image[start : start + depth[-1]], depth) for start, depth in zip(starts, depths, strict=True)
    ]


def _walks_in_class(case: Case, standing: _Standing) -> list[Walk]:
    small = np.min_scalar_type(len(case.labels) - 1)
    walks = []
    for part, column in _columns(case, standing.group):
        images = np.flatnonzero((column >= standing.score[part][-1]) & case.labels.usable)
        best_first = np.argsort(column[images])[::-1]
        walks.append(walk(images[best_first].astype(small), standing.depth[part]))
    return walks


def _places(case: Case, distinct: AnyFloats) -> npt.NDArray[np.unsignedinteger]:
    """Return the number of `distinct` scores that are not above each cell, shape (n, C)."""
    scores = scores_of(case)
    places = np.empty(scores.shape, np.min_scalar_type(len(distinct)))
    for start in range(0, len(scores), ROWS):
        block = scores[start : start + ROWS]
        places[start : start + ROWS] = np.searchsorted(distinct, comparable(block), side="right")
    return places


def _weigh_places(standing: _Standing, places: Ints, w: Floats) -> Floats:
    """Return the weight of all cells at or above each positive."""
    distinct, rank = np.unique(standing.score, return_inverse=True)
    w = np.where(standing.cells > 0, w, 0.0)
    total = np.zeros(len(distinct) + 1)
    for start in range(0, len(places), ROWS):
        block = places[start : start + ROWS]
        weights = np.repeat(w[start : start + ROWS], block.shape[1])
        total += np.bincount(block.ravel(), weights, minlength=len(total))
    return np.cumsum(total[::-1])[::-1][rank + 1]


@dataclass(frozen=True)
class Walk:
    """A walk through a group's cells in descending order of scores, down to the lowest positive.

    Attributes
    ----------
    images : ndarray of uint16 or larger, shape (cells,)
        The image of each cell.
    starts : ndarray of int, shape (runs,)
        The first cell of each run. A run ends at the (tied) positives of one score.
    run : ndarray of int, shape (positives,)
        The run that ends at each positive.
    """

    images: Ints
    starts: Ints
    run: Ints


def walk(images: Ints, depth: Ints) -> Walk:
    """Return the walk through cells in descending order of scores, given the depth of each positive."""
    ends, run = np.unique(depth, return_inverse=True)
    return Walk(images, np.append(0, ends[:-1]), run)


def weigh(walks: list[Walk], w: Floats) -> Floats:
    """Return the total weight at or above each positive, walk by walk."""
    # A running sum over 13.5 million cells takes 0.063 s; sums over runs, and a running sum over the few
    # runs, take 0.020 s.
    sums = [np.cumsum(np.add.reduceat(w.take(walk.images), walk.starts))[walk.run] for walk in walks]
    return np.concatenate(sums)
