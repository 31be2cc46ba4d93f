"""Average precision and AUROC of a ranking, their means over classes, and how they change without an image.

For a mean over classes, the change due to an image is exact: each class loses one cell, an (image, class)
pair. A ranking of all cells loses all cells of an image at once; the changes for its cells are added up,
which is correct to first order. Leaving out an image with the only positive of a class removes the class from
the mean. This change counts, too, because the class might as well have been missing.

Positives, negatives and `masked` are those of `manyhot.core.ranking`. Only the order of the scores matters. A
value says little without `random_average_precision`, the expected value of a random ranking.

References
----------
Quenouille 1956, doi 10.2307/2332914, and Efron and Stein 1981, doi 10.1214/aos/1176345462, for the jackknife;
DeLong, DeLong and Clarke-Pearson 1988, doi 10.2307/2531595, whose structural components of AUROC are these
changes, up to a factor P / (P - 1) for positives and N / (N - 1) for negatives.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy import typing as npt
from scipy.special import digamma

from manyhot.core.array_types import Bools, Floats, Positions
from manyhot.core.estimates import Estimate, Pooled, Weights, undefined
from manyhot.core.jackknife import FEWEST_POSITIVES, doubt_of, jackknife_error
from manyhot.core.ranked_cells import CellChanges, RankedCells, RankingCurve, rank_cells
from manyhot.core.ranked_positives import Group, RankedPositives, rank_positives
from manyhot.core.sets import YES, Case, LabelSets
from manyhot.registry import register

RECALLS = np.arange(11) / 10
"""The recalls of the 11-point average precision."""

_ROUNDING = 1e-9
"""Tolerance of a recall, as a share of the positives."""


@dataclass(frozen=True)
class CurveMetric:
    """A metric of a ranking.

    Attributes
    ----------
    value : callable
        Returns the metric of a curve; NaN if undefined.
    changes : callable
        Returns, for each cell, the change in the metric if the cell is left out. It is called only if the
        metric is defined and all cells have weights of 0 or 1. The change is NaN if the metric is undefined
        without the cell.
    cases : str
        What is counted for an interval.
    cases_per_negative : float
        If negatives are needed, too, the number of cases for which each negative counts: the number of cases
        of a class is then the number of its positives or, if it is smaller, the number for which its
        negatives count. 0 if only positives count.
    is_additive : bool
        As in `manyhot.core.estimates.Pooled`.
    """

    value: Callable[[RankingCurve], float]
    changes: Callable[[RankingCurve], CellChanges]
    cases: str = "positives"
    cases_per_negative: float = 0.0
    is_additive: bool = True

    def estimate(self, curve: RankingCurve) -> tuple[float, float, float]:
        """Return the value of a curve, its standard error over images, and the degrees of freedom."""
        changes = self.changes(curve)
        error, df = jackknife_error(
            np.append(changes.negative, changes.positive), np.append(curve.others, curve.gain)
        )
        return self.value(curve), error, df


def among_answers(metric: CurveMetric, ranked: RankedPositives) -> CurveMetric:
    """Return a metric that, in masked rankings, has no value for groups without negatives.

    A class without a known negative need not be present on all images. Any ranking of its positives is
    perfect, so precision says nothing about the model.
    """
    if not ranked.needs_negatives:
        return metric

    def value(curve: RankingCurve) -> float:
        return metric.value(curve) if curve.negatives > 0 else float("nan")

    def changes(curve: RankingCurve) -> CellChanges:
        change = metric.changes(curve)
        return (
            change if curve.negatives > 1 else replace(change, negative=np.full_like(change.negative, np.nan))
        )

    return replace(metric, value=value, changes=changes)


def mean_over_groups(
    metric: CurveMetric,
    rank: Callable[[], RankedCells],
    scored: Bools,
    plain: Callable[[], float] | None = None,
    *,
    is_smoothed: bool = False,
) -> Pooled:
    """Return an estimate: the mean of a metric over the groups in which it is defined.

    Parameters
    ----------
    rank : callable
        Returns the ranked cells.
    scored : ndarray of bool, shape (n,)
    plain : callable, optional
        A faster function that returns the value over all images.
    is_smoothed : bool
        As in `Pooled`.
    """
    cells = functools.cache(rank)

    def value(weights: Weights | None = None) -> float:
        if weights is None and plain is not None:
            return plain()
        values = np.array([metric.value(curve) for curve in cells().curves(weights)])
        return _mean(values)

    return Pooled(
        value,
        scored,
        left_out=lambda inside: left_out(metric, cells(), inside),
        doubt=lambda inside: _doubt(metric, cells(), inside) or _few_images(scored, inside),
        is_smoothed=is_smoothed,
        is_additive=metric.is_additive,
    )


def _few_images(scored: Bools, inside: Weights | None) -> str:
    """Return why too few images have no interval: the positives of one image are no independent cases."""
    n = np.count_nonzero(scored if inside is None else scored & (np.asarray(inside, np.float64) > 0))
    return f"there are fewer than {FEWEST_POSITIVES} images" if n < FEWEST_POSITIVES else ""


def _mean(values: Floats) -> float:
    """Return the mean of the defined values, whose last digit does not depend on their order."""
    defined = values[~np.isnan(values)]
    return math.fsum(defined) / len(defined) if len(defined) else float("nan")


def left_out(metric: CurveMetric, cells: RankedCells, inside: Weights | None) -> Floats:
    """Return, for each image, how the mean over groups changes if the image is left out."""
    curves = cells.curves(inside)
    values = np.array([metric.value(curve) for curve in curves])
    changes = [_nothing(c) if np.isnan(v) else metric.changes(c) for c, v in zip(curves, values, strict=True)]
    n_groups = np.count_nonzero(~np.isnan(values))
    filled = [_filled(change, -v) for change, v in zip(changes, values, strict=True)]
    change = cells.sum_by_image(filled)
    left = np.full(len(change), float(n_groups))
    if any(np.isnan(c.positive).any() or np.isnan(c.negative).any() for c in changes):
        left -= cells.sum_by_image([_vanishing(c) for c in changes])
    mean = _mean(values)
    return np.asarray((n_groups * mean + change) / np.where(left > 0, left, np.nan) - mean)


def _doubt(metric: CurveMetric, cells: RankedCells, inside: Weights | None) -> str:
    """Return why the mean over groups has no interval; empty if it has one."""
    curves = cells.curves(inside)
    share = metric.cases_per_negative
    counts = np.array(
        [
            min(c.positives, share * c.negatives) if share else c.positives
            for c in curves
            if not np.isnan(metric.value(c))
        ]
    )
    return doubt_of(counts, metric.cases, classes=len(curves) > 1)


def _nothing(curve: RankingCurve) -> CellChanges:
    return CellChanges(np.zeros(len(curve.weight)), np.zeros(len(curve.gain)))


def _filled(change: CellChanges, without: float) -> CellChanges:
    """Return the changes of the sum over groups, which loses the whole value of a group that vanishes."""
    return CellChanges(*(np.where(np.isnan(a), without, a) for a in (change.negative, change.positive)))


def _vanishing(change: CellChanges) -> CellChanges:
    return CellChanges(*(np.isnan(a).astype(np.float64) for a in (change.negative, change.positive)))


def _at_or_below(values: Floats) -> Floats:
    """Return the sum over this and all later places."""
    return np.asarray(np.cumsum(values[::-1])[::-1])


def _precision_value(curve: RankingCurve) -> float:
    total = curve.positives
    if not total > 0:
        return float("nan")
    return float((curve.gain * _ratio(curve.hits, curve.depth)).sum() / total)


def _ratio(hits: Floats, depth: Floats) -> Floats:
    """Return precision; 0 where nothing counts."""
    return np.divide(hits, depth, out=np.zeros(len(hits)), where=depth > 0)


def _precision_changes(curve: RankingCurve) -> CellChanges:
    """Return the changes of average precision.

    Without a negative, cells at and below it have one cell fewer above them; without a positive, also one
    positive fewer.
    """
    gain, hits, depth, p = curve.gain, curve.hits, curve.depth, curve.positives
    fewer = np.maximum(depth - 1, 1)
    old = gain * _ratio(hits, depth)
    negative = _at_or_below(gain * hits / fewer - old) / p
    with np.errstate(invalid="ignore", divide="ignore"):
        moved = _at_or_below(gain * (hits - 1) / fewer - old) - (hits - 1) / fewer
        positive = (old.sum() + moved) / (p - 1) - old.sum() / p  # NaN for the only positive
    return CellChanges(np.append(np.repeat(negative, 2), 0.0), positive)


AVERAGE_PRECISION = CurveMetric(_precision_value, _precision_changes)


def _interpolated_value(curve: RankingCurve) -> float:
    """Return the mean over 11 recalls of the highest precision at this recall or a higher one."""
    hits, precision, _ = _steps(curve)
    if not len(hits):
        return float("nan")
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best[_first_at(hits, hits[-1])].mean())


def _steps(curve: RankingCurve) -> tuple[Floats, Floats, Floats]:
    """Return hits, precision and depth where recall increases."""
    some = curve.gain > 0
    hits, depth = curve.hits[some], curve.depth[some]
    return hits, hits / depth, depth


def _first_at(hits: Floats, positives: float) -> Positions:
    """Return the first place at which each recall of so many positives is reached, shape (11,)."""
    return np.searchsorted(hits, RECALLS * positives - _ROUNDING * max(positives, 0.0))


def _interpolated_changes(curve: RankingCurve) -> CellChanges:
    hits, precision, depth = _steps(curve)
    size, fewer = len(hits), np.maximum(depth - 1, 1)
    value = _interpolated_value(curve)
    start = _first_at(hits, hits[-1])
    negative = _best_without(precision, hits / fewer, start, start) - value
    if hits[-1] <= 1:
        positive = np.full(size, np.nan)
    else:
        start, later = (_first_at(h, hits[-1] - 1) for h in (hits, hits - 1))
        positive = _best_without(precision, (hits - 1) / fewer, start, later)[:size] - value
    # Places without positives under the weights: their cells are those of the next place with some.
    at = np.searchsorted(np.flatnonzero(curve.gain > 0), np.arange(len(curve.gain)))
    return CellChanges(np.append(np.repeat(negative[at], 2), 0.0), positive[np.minimum(at, size - 1)])


def _best_without(precision: Floats, moved: Floats, start: Positions, later: Positions) -> Floats:
    """Return the value if a cell at each place, or below all places, is left out, shape (K + 1,).

    Places above the cell have the same `precision` as before, and places at and below it have `moved`. Each
    recall is reached at its `start`, or `later` if the start is at or below the cell.
    """
    size, place = len(precision), np.arange(len(precision) + 1)
    rest = np.append(np.maximum.accumulate(moved[::-1])[::-1], -np.inf)
    total = np.zeros(size + 1)
    for first, then in zip(start, later, strict=True):
        above = np.append(np.full(first + 1, -np.inf), np.maximum.accumulate(precision[first:]))
        total += np.where(place > first, np.maximum(above, rest), rest[then])
    return total / len(start)


# Without one of several like images, a recall may move to the next score; without all of them, it does not.
INTERPOLATED_PRECISION = CurveMetric(_interpolated_value, _interpolated_changes, is_additive=False)


def _auroc_value(curve: RankingCurve) -> float:
    p, n = curve.positives, curve.negatives
    if not (p > 0 and n > 0):
        return float("nan")
    return float((curve.others * _positives_above(curve)).sum() / (p * n))


def _positives_above(curve: RankingCurve) -> Floats:
    """Return the weight of the positives above each run, and half of those tied with it."""
    above = np.append(0.0, curve.hits)
    return np.append(np.stack([above[:-1], above[:-1] + curve.gain / 2], axis=1).ravel(), above[-1])


def _auroc_changes(curve: RankingCurve) -> CellChanges:
    others, above, p, n = curve.others, _positives_above(curve), curve.positives, curve.negatives
    right = others @ above
    below = (n - np.cumsum(others) + others / 2)[1::2]
    nothing = np.nan
    negative = (right - above) / (p * (n - 1)) if n > 1 else np.full(len(above), nothing)
    positive = (right - below) / ((p - 1) * n) if p > 1 else np.full(len(below), nothing)
    return CellChanges(negative - right / (p * n), positive - right / (p * n))


AUROC = CurveMetric(_auroc_value, _auroc_changes, "positives or negatives", cases_per_negative=1)


@register(
    "metric",
    "auroc_macro",
    also=("auroc", "auc", "roc_auc", "roc_auc_score"),
    better="higher",
    label="AUROC (macro)",
    needs="scores",
    over_classes="with both",
)
def auroc_macro(case: Case, *, masked: bool = False) -> Estimate:
    """Area under each class's ROC curve over the images, averaged over the classes.

    The area of a class is the probability that an image with it has a higher score than one without it.
    Ties count half.

    Parameters
    ----------
    masked : bool
        Whether to ignore unclear cells and cells that no rater was asked about.

    References
    ----------
    ``sklearn.metrics.roc_auc_score``. The interval follows DeLong, DeLong and Clarke-Pearson 1988, doi
    10.2307/2531595, with the deviations that are described in `manyhot.core.curve_metrics`.

    Notes
    -----
    `n` is the number of images.

    Deviation: a class that has no positives or no negatives under the weights is ignored; scikit-learn's
    macro average is undefined if there is such a class.
    """
    return _auroc(case, "class", masked)


@register("metric", "auroc_micro", better="higher", label="AUROC (micro)", needs="scores")
def auroc_micro(case: Case, *, masked: bool = False) -> Estimate:
    """Area under the ROC curve of one ranking of all (image, class) pairs.

    Scores are compared across images and classes. Ties count half.

    References
    ----------
    ``sklearn.metrics.roc_auc_score`` with ``average="micro"``.
    """
    return _auroc(case, "all", masked)


def _auroc(case: Case, by: Group, masked: bool) -> Estimate:
    ranked = rank_positives(case, by, masked=masked)
    if ranked is None:
        return undefined(len(case.labels))
    return mean_over_groups(AUROC, lambda: rank_cells(case, ranked), ranked.cells > 0)


CHANCE = "chance"
"""The kind of notes with expected values."""

RANKING_METRICS = ("map_macro", "map_micro", "map_image", "lrap")
"""The metrics that have an expected value: means of average precision."""


def random_average_precision(n_positives: npt.ArrayLike, n: int) -> Floats:
    """Return the expected average precision of a random order of n places, `n_positives` of them positive.

    The expected average precision is above the share of positives, especially for short lists: for 1 positive
    among 20 places, it is 0.18, not 0.05.

    Notes
    -----
    Bestgen 2015, doi 10.1515/pralin-2015-0007: with H = 1 + 1/2 + … + 1/n, it is
    ((n_positives - 1) / (n - 1) (n - H) + H) / n.
    """
    harmonic = digamma(n + 1) - digamma(1)
    share = (np.asarray(n_positives, np.float64) - 1) / max(n - 1, 1)
    return np.asarray((share * (n - harmonic) + harmonic) / n)


def random_values(sets: LabelSets) -> dict[str, tuple[float, int]]:
    """Return the expected value of each metric of average precision, and the number of images.

    As in the metrics, means are taken over the classes or images with positives. If there are no ties, LRAP
    is the mean of the images' average precision.
    """
    is_positive = (sets.state == YES) & sets.usable[sets.rows]
    of_classes = np.bincount(sets.classes[is_positive], minlength=sets.n_classes)
    of_images = np.bincount(sets.rows[is_positive], minlength=len(sets))
    n, total = int(sets.usable.sum()), int(is_positive.sum())
    if not total:
        return {}
    in_image = float(random_average_precision(of_images[of_images > 0], sets.n_classes).mean())
    found = {
        "map_macro": (float(random_average_precision(of_classes[of_classes > 0], n).mean()), n),
        "map_micro": (float(random_average_precision(total, n * sets.n_classes)), n),
    }
    return found | dict.fromkeys(("map_image", "lrap"), (in_image, int((of_images > 0).sum())))
