"""Recall at a fixed false positive rate: how many positives are found if so many false alarms are allowed.

The threshold of each class is the lowest at which at most this share of the negatives is predicted, on the
same images. Positives, negatives and `masked` are those of `manyhot.core.ranking`.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from manyhot.core.array_types import Floats
from manyhot.core.class_counts import FPR_ROUNDING
from manyhot.core.curve_metrics import CurveMetric, mean_over_groups
from manyhot.core.estimates import Estimate, undefined
from manyhot.core.ranked_cells import CellChanges, RankingCurve, rank_cells
from manyhot.core.ranked_positives import rank_positives
from manyhot.core.sets import Case
from manyhot.parameters import check_share
from manyhot.registry import register

_CASES_PER_FALSE_POSITIVE = 3
"""An interval needs 30 cases: 30 positives and 10 allowed false positives, with which it holds."""


@register(
    "metric",
    "recall_at_fpr",
    also=("tpr_at_fpr", "sensitivity_at_specificity", "recall_at_false_positive_rate"),
    better="higher",
    label="Recall at FPR (macro)",
    needs="scores",
    over_classes="with both",
)
def recall_at_fpr(case: Case, *, fpr: float, masked: bool = False) -> Estimate:
    """Recall of each class at the lowest threshold with a false positive rate, averaged over the classes.

    Parameters
    ----------
    fpr : float
        Maximum share of the images without a class on which the class is predicted, above 0 and at most 1.
    masked : bool
        Whether to ignore unclear cells and cells that no rater was asked about.

    References
    ----------
    The highest ``tpr`` of ``sklearn.metrics.roc_curve`` with at most this ``fpr``. The standard error is the
    one of Linnet 1987, doi 10.1002/sim.4780060207: that of the recall at a fixed threshold, and that of the
    threshold, a quantile of the negatives' scores, multiplied by the slope of the ROC curve.

    Notes
    -----
    The threshold is chosen on the images on which the recall is measured. `n` is the number of images. A
    class without positives or negatives is ignored. Images with tied scores are predicted together.
    """
    check_share(fpr, "The false positive rate is not a share of the negatives.", got=f"fpr={fpr!r}")
    ranked = rank_positives(case, "class", masked=masked)
    if ranked is None:
        return undefined(len(case.labels))
    metric = CurveMetric(
        partial(_value, fpr=fpr),
        partial(_changes, fpr=fpr),
        cases="positives or allowed false positives",
        cases_per_negative=_CASES_PER_FALSE_POSITIVE * fpr,
    )
    return mean_over_groups(metric, lambda: rank_cells(case, ranked), ranked.cells > 0, is_smoothed=True)


def _wrong(curve: RankingCurve) -> Floats:
    """Return the weight of the negatives at or above each distinct score of positives, shape (K,)."""
    return np.asarray(np.cumsum(curve.others)[1::2])


def _n_above(curve: RankingCurve, fpr: float) -> int:
    """Return how many distinct scores of positives are at or above the threshold."""
    return int(np.searchsorted(_wrong(curve), fpr * curve.negatives * (1 + FPR_ROUNDING), side="right"))


def _value(curve: RankingCurve, *, fpr: float) -> float:
    if not (curve.positives > 0 and curve.negatives > 0):
        return float("nan")
    above = _n_above(curve, fpr)
    return float(curve.hits[above - 1] / curve.positives) if above else 0.0


def _changes(curve: RankingCurve, *, fpr: float) -> CellChanges:
    """Return the changes without one cell, smoothed around the threshold.

    The next positive below the threshold may be one negative away or many, which says little about other
    samples: the jackknife of a quantile is inconsistent. The slope of the ROC curve around the threshold is
    used instead, over as many negatives on either side as the standard deviation of their number above it.
    """
    p, n, above = curve.positives, curve.negatives, _n_above(curve, fpr)
    found, limit = float(curve.gain[:above].sum()), fpr * n
    reach = max(np.sqrt(limit * (1 - fpr)), 1.0)
    wrong, hits = np.concatenate([[0], _wrong(curve), [n]]), np.concatenate([[0], curve.hits, [p]])
    last = np.append(np.diff(wrong) > 0, True)
    ends = np.clip([limit - reach, limit + reach], 0, n)
    low, high = np.interp(ends, wrong[last], hits[last])
    slope = (high - low) / (ends[1] - ends[0]) / p
    # Without a negative above the threshold, the threshold sinks past 1 - fpr of a negative.
    negative = np.where(np.arange(len(curve.weight)) < 2 * above, (1 - fpr) * slope, -fpr * slope)
    hit = (np.arange(len(curve.gain)) < above).astype(np.float64)
    positive = (found - hit) / max(p - 1, 1) - found / p
    return CellChanges(negative + (0 if n > 1 else np.nan), positive + (0 if p > 1 else np.nan))
