"""Metrics of the ranking by dense scores: average precision, coverage error and ranking loss.

Only the order matters, so logits and probabilities give the same value. Ties are not broken: all cells with
the same score enter together, as in scikit-learn.

A positive is a class with state yes of a usable image. All other classes of the image are negatives, unless
`masked` is set (*not asked is not no*): then only classes with state no are negatives, and classes that are
unclear or that raters were not asked about are ignored. If a source does not record no answers
(`LabelSets.asked_known` is False), the masked metric is undefined.

Each metric depends on two counts for each positive: its `depth`, the number of cells in its group with at
least its score, and its `hits`, the number of positives among them. A group is a class, an image, or all
cells. Under weights of images, and for intervals, `manyhot.core.ranked_cells` ranks all cells of a group.
Times below are for 50,000 × 1,000 float32 scores on one core (``benchmarks/dense.py``).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from manyhot.core.array_types import Bools, Floats, Ints, Ints64
from manyhot.core.clusters import Clusters
from manyhot.core.curve_metrics import (
    AUROC,
    AVERAGE_PRECISION,
    INTERPOLATED_PRECISION,
    CurveMetric,
    among_answers,
    auroc_micro,
    left_out,
    mean_over_groups,
)
from manyhot.core.estimates import Estimate, mean_over, undefined
from manyhot.core.jackknife import FEWEST_POSITIVES, jackknife_ends, jackknife_error
from manyhot.core.ranked_cells import RankedCells, RankingCurve, each_class, rank_cells
from manyhot.core.ranked_positives import Group, RankedPositives, rank_positives
from manyhot.core.sets import Case
from manyhot.registry import register


@register(
    "metric",
    "map_macro",
    also=("mAP", "average_precision", "mean_average_precision"),
    multi_label=True,
    better="higher",
    label="mAP (macro)",
    needs="scores",
    default=True,
    over_classes="with both if masked",
)
def map_macro(case: Case, *, masked: bool = False) -> Estimate:
    """Average precision of each class over the images, averaged over classes.

    Parameters
    ----------
    masked : bool
        Whether to ignore unclear cells and cells that no rater was asked about.

    References
    ----------
    ``sklearn.metrics.average_precision_score``.

    Notes
    -----
    AP is the sum of (R_i - R_{i-1}) P_i over the distinct scores of a class, without interpolation. `n` is
    the number of images.

    Deviation: a class that has no positives under the weights is ignored, whereas scikit-learn counts it as
    0. With `masked`, a class without negatives is ignored, too: any ranking of its positives has an AP of 1,
    which scikit-learn counts.

    The first weighted evaluation or interval sorts the scores (0.8 s). It stores 2 bytes (4 bytes with more
    than 65,536 images) for each cell that is not below the lowest positive of its class. Later evaluations
    take 0.05 s, and later intervals 0.13 s.
    """
    return _precision(case, "class", masked)


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

    Scores are compared across images and classes.

    References
    ----------
    ``sklearn.metrics.average_precision_score`` with ``average="micro"``.

    Notes
    -----
    Without `masked`, the first evaluation locates each cell among the distinct scores of the positives (1 s).
    It stores 2 bytes per cell, or 4 bytes with more than 32,767 distinct scores. Later evaluations take 0.09
    s, and later intervals 0.15 s. For intervals, the change due to an image is the sum of the changes due to
    its cells.

    Deviation: with `masked`, the value is NaN if there are no negatives; scikit-learn returns 1.
    """
    return _precision(case, "all", masked)


@register(
    "metric",
    "map_11point",
    better="higher",
    label="mAP (11 points)",
    needs="scores",
    over_classes="with both if masked",
)
def map_11point(case: Case, *, masked: bool = False) -> Estimate:
    """Interpolated average precision of each class at 11 recalls, averaged over the classes.

    The precision at each recall of 0, 0.1, …, 1 is the highest precision at that recall or above.

    References
    ----------
    Everingham et al. 2010, The Pascal Visual Object Classes (VOC) Challenge, doi 10.1007/s11263-009-0275-4,
    section 4.2. VOC 2007 used this metric. Later challenges used all recalls.

    Notes
    -----
    `n` is the number of images. A class without positives is ignored, as is, with `masked`, a class without
    negatives.

    Deviation: VOC's code breaks ties by the order of the images. Here, cells with equal scores enter
    together, as in `map_macro`.
    """
    ranked = rank_positives(case, "class", masked=masked)
    if ranked is None:
        return undefined(len(case.labels))
    metric = among_answers(INTERPOLATED_PRECISION, ranked)
    return mean_over_groups(metric, lambda: rank_cells(case, ranked), ranked.cells > 0)


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

    References
    ----------
    The "mAP" of Chen, Harun and Kanan 2026, arXiv 2603.05729 (``compute_average_precision`` in their
    evaluation.py). It equals ``sklearn.metrics.average_precision_score`` with ``average="samples"``.

    Notes
    -----
    For each image with both positives and negatives, the value equals that of `lrap`, even with ties. For
    each positive, both metrics compute the share of positives among the classes that score at least as high,
    and average this share over the positives. They differ only if all classes are positive: AP is then 1, and
    LRAP is undefined.

    Deviations: scikit-learn counts an image without positives as 0. The code of Chen et al. skips it, as this
    metric does, but breaks ties by an unstable sort, so that its value depends on the platform. Without ties,
    it gives the same value as this metric.
    """
    ranked = rank_positives(case, "image", masked=masked)
    if ranked is None:
        return undefined(len(case.labels))
    return mean_over(_image_precision(ranked), ranked.positives > 0)


@register(
    "metric", "lrap", also=("label_ranking_average_precision",), better="higher", label="LRAP", needs="scores"
)
def lrap(case: Case, *, masked: bool = False) -> Estimate:
    """Label ranking average precision: mean share of valid classes among classes at or above a valid class.

    Images without positives or without negatives are skipped.

    References
    ----------
    Schapire and Singer 2000, BoosTexter, doi 10.1023/A:1007649029923;
    ``sklearn.metrics.label_ranking_average_precision_score``.

    Notes
    -----
    See `map_image` for how the two metrics differ.

    Deviation: scikit-learn counts images without positives or without negatives as 1.
    """
    ranked = rank_positives(case, "image", masked=masked)
    if ranked is None:
        return undefined(len(case.labels))
    return mean_over(_image_precision(ranked), (ranked.positives > 0) & (ranked.positives < ranked.cells))


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
    """Mean number of top classes that are needed to cover the whole label set.

    References
    ----------
    Tsoumakas, Katakis and Vlahavas 2010, Mining multi-label data, doi 10.1007/978-0-387-09823-4_34, who count
    ranks from 0. This metric counts from 1, like ``sklearn.metrics.coverage_error``. Classes that tie with
    the lowest positive are included.

    Notes
    -----
    The best possible value is the mean size of the label sets. Images with an empty label set are skipped.

    There is no parameter `masked`, because depths counted among only the classes that raters were asked about
    are not comparable between images with different numbers of such classes.

    Deviation: scikit-learn counts an image without positives as 0.
    """
    ranked = rank_positives(case, "image")
    if ranked is None:
        return undefined(len(case.labels))
    deepest = np.zeros(len(case.labels))
    np.maximum.at(deepest, ranked.image, ranked.depth)
    return mean_over(deepest, ranked.positives > 0)


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
    """Share of pairs of a valid and an invalid class that are in the wrong order, averaged over images.

    A tie counts as an error. Images without positives or without negatives are skipped.

    References
    ----------
    Tsoumakas, Katakis and Vlahavas 2010, Mining multi-label data, doi 10.1007/978-0-387-09823-4_34;
    ``sklearn.metrics.label_ranking_loss``.

    Notes
    -----
    Deviation: scikit-learn counts images without positives or without negatives as 0.
    """
    ranked = rank_positives(case, "image", masked=masked)
    if ranked is None:
        return undefined(len(case.labels))
    wrong = np.bincount(ranked.image, ranked.depth - ranked.hits, minlength=len(case.labels))
    pairs = ranked.positives * (ranked.cells - ranked.positives)
    return mean_over(wrong / np.maximum(pairs, 1), pairs > 0)


def curve_means(case: Case, *, masked: bool = False) -> dict[str, Estimate]:
    """Return the metrics of class rankings, keyed by name. The scores of each class are sorted only once.

    The metrics are `map_macro`, `map_11point`, `auroc_macro` and, for the ranking of all cells,
    `auroc_micro`.

    Parameters
    ----------
    masked : bool
        As in `map_macro`.
    """
    ranked = rank_positives(case, "class", masked=masked)
    names = {"map_macro": AVERAGE_PRECISION, "map_11point": INTERPOLATED_PRECISION, "auroc_macro": AUROC}
    if ranked is None:
        return {name: undefined(len(case.labels)) for name in (*names, "auroc_micro")}
    sort = functools.cache(lambda: rank_cells(case, ranked))
    means = {
        name: mean_over_groups(among_answers(metric, ranked), sort, ranked.cells > 0)
        for name, metric in names.items()
    }
    return {**means, "auroc_micro": auroc_micro(case, masked=masked)}


@dataclass(frozen=True)
class ClassPrecision:
    """The average precision of each class, with an interval.

    Attributes
    ----------
    value : ndarray of float64, shape (C,)
        NaN for a class without positives, or, with a mask, without negatives.
    n_positives : ndarray of int64, shape (C,)
        Number of positives.
    error : ndarray of float64, shape (C,)
        Jackknife standard error over images; NaN with fewer than two positives.
    lo, hi : ndarray of float64, shape (C,)
        Ends of the 95 % interval; NaN with fewer than `manyhot.core.jackknife.FEWEST_POSITIVES` positives, or
        if leaving out images does not change the value.
    auroc_lo, auroc_hi : ndarray of float64, shape (C,)
        Ends of the 95 % interval of the area under the ROC curve; NaN as for `lo`, or if there are too few
        negatives.
    """

    value: Floats
    n_positives: Ints64
    error: Floats
    lo: Floats
    hi: Floats
    auroc_lo: Floats
    auroc_hi: Floats


def class_precision(case: Case, masked: bool = False, clusters: Clusters | None = None) -> ClassPrecision:
    """Return the average precision of each class, whose mean is `map_macro`.

    Parameters
    ----------
    masked : bool
        As in `map_macro`.
    clusters : Clusters, optional
        Clusters of images. The jackknife leaves out one cluster at a time or, by default, one image.

    Notes
    -----
    With 30 to 50 positives, intervals contain the expected value in 92 to 98 % of simulated data sets
    (``benchmarks/coverage_rare_classes.py --classes 1``). With 10 positives, they would contain it in 88 to
    98 %.
    """
    c = case.labels.n_classes
    ranked = rank_positives(case, "class", masked=masked)
    found = ClassPrecision(np.full(c, np.nan), np.zeros(c, np.int64), *np.full((5, c), np.nan))
    if ranked is None:
        return found
    cells, metric = rank_cells(case, ranked), among_answers(AVERAGE_PRECISION, ranked)
    for c, curve, alone in zip(np.unique(ranked.group), cells.curves(None), each_class(cells), strict=True):
        found.n_positives[c] = curve.positives
        if np.isnan(metric.value(curve)):
            continue
        value, error, df = _estimate(metric, curve, alone, clusters)
        found.value[c], found.error[c] = value, error
        if not _vary(ranked.image[ranked.group == c], clusters):
            continue
        if curve.positives >= FEWEST_POSITIVES:
            found.lo[c], found.hi[c] = jackknife_ends(value, error, df)
        if min(curve.positives, curve.negatives) >= FEWEST_POSITIVES:
            found.auroc_lo[c], found.auroc_hi[c] = jackknife_ends(*_estimate(AUROC, curve, alone, clusters))
    return found


def _vary(positives: Ints, clusters: Clusters | None) -> bool:
    """Return whether the images with a class are in several clusters, as an interval needs."""
    return clusters is None or len(np.unique(clusters.number[positives])) > 1


def _estimate(
    metric: CurveMetric, curve: RankingCurve, alone: tuple[RankedCells, Bools], clusters: Clusters | None
) -> tuple[float, float, float]:
    """Return the value of a class, its standard error and degrees of freedom."""
    if clusters is None:
        return metric.estimate(curve)
    cells, counted = alone
    changes = left_out(metric, cells, None)[counted]
    return metric.value(curve), *jackknife_error(clusters.summed(changes, counted))


@dataclass(frozen=True, eq=False)
class ClassDifferences:
    """The differences in average precision between two models, by class. Each array has shape (C,).

    Attributes
    ----------
    values : ndarray of float64, shape (2, C)
        The average precision of both models; NaN as in `ClassPrecision`.
    lo, hi, p : ndarray of float64
        The interval of the second value minus the first, and the two-sided p-value; NaN for classes with
        fewer than `FEWEST_POSITIVES` positives.
    """

    values: Floats
    n_positives: Ints64
    lo: Floats
    hi: Floats
    p: Floats


def class_differences(
    first: Case, second: Case, clusters: Clusters | None = None, *, masked: bool = False
) -> ClassDifferences:
    """Compare the average precision of each class between two models on the same images.

    Parameters
    ----------
    first, second : Case
        The scores of two models for the same images.
    clusters : Clusters, optional
    masked : bool
        As in `class_precision`.

    Notes
    -----
    The standard error comes from a jackknife of the difference, in which images that are difficult for both
    models cancel out. `p` is based on Student's t.
    """
    c = first.labels.n_classes
    found = ClassDifferences(np.full((2, c), np.nan), np.zeros(c, np.int64), *np.full((3, c), np.nan))
    pairs = zip(_changes_by_class(first, masked), _changes_by_class(second, masked), strict=True)
    for (i, value, positives, counted, changes), (_, other, _, _, others) in pairs:
        n = len(positives)
        found.values[:, i], found.n_positives[i] = (value, other), n
        change = (others - changes)[counted]
        error, df = jackknife_error(change if clusters is None else clusters.summed(change, counted))
        if n >= FEWEST_POSITIVES and error > 0 and _vary(positives, clusters):
            found.lo[i], found.hi[i] = jackknife_ends(other - value, error, df, scale="plain")
            found.p[i] = 2 * stdtr(df, -abs(other - value) / error)
    return found


def _changes_by_class(case: Case, masked: bool) -> Iterator[tuple[int, float, Ints, Bools, Floats]]:
    """Yield each class, its average precision, its images, which count, and the changes without each."""
    ranked = rank_positives(case, "class", masked=masked)
    if ranked is None:
        return
    metric = among_answers(AVERAGE_PRECISION, ranked)
    for i, (one, counted) in zip(np.unique(ranked.group), each_class(rank_cells(case, ranked)), strict=True):
        (curve,) = one.curves(None)
        changes = left_out(metric, one, None)
        yield int(i), metric.value(curve), ranked.image[ranked.group == i], counted, changes


def _precision(case: Case, by: Group, masked: bool) -> Estimate:
    """Return the average precision of each group, averaged over the groups."""
    ranked = rank_positives(case, by, masked=masked)
    if ranked is None:
        return undefined(len(case.labels))
    return mean_over_groups(
        among_answers(AVERAGE_PRECISION, ranked),
        lambda: rank_cells(case, ranked),
        ranked.cells > 0,
        # The places of all cells, which an interval needs, take less time than sorting the cells above.
        plain=None if by == "all" else lambda: _mean_precision(ranked),
    )


def _mean_precision(ranked: RankedPositives) -> float:
    total, sums = np.bincount(ranked.group), np.bincount(ranked.group, ranked.hits / ranked.depth)
    counts = total > 0
    if ranked.needs_negatives:
        n_images = np.count_nonzero(ranked.cells)
        asked = ranked.asked
        counts &= (n_images if asked is None else np.bincount(asked[0])[: len(total)]) > total
    return float(np.mean(sums[counts] / total[counts])) if counts.any() else float("nan")


def _image_precision(ranked: RankedPositives) -> Floats:
    total = np.bincount(ranked.image, ranked.hits / ranked.depth, minlength=len(ranked.positives))
    return total / np.maximum(ranked.positives, 1)
