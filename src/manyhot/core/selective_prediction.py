"""Metrics of selective prediction: whether errors have low confidence, against labels or label sets.

The terms are those of `manyhot.core.confidence_metrics`, and metrics ending in ``_set`` have the options of
the metric without ``_set``. All metrics here depend on the order of the images by confidence. They have a
jackknife interval: one pass over the ranked images gives the changes if each image is left out. They are
exact, except for the accuracy at a coverage, where the images around the boundary are smoothed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from manyhot.core.array_types import Floats
from manyhot.core.estimates import Estimate, Pooled, Weights, undefined
from manyhot.core.reliability import LeftOut, Outcomes, Ranked, against_label, against_set
from manyhot.core.sets import Case
from manyhot.parameters import check_share
from manyhot.registry import register

FEWEST_OUTCOMES = 10
"""Minimum number of right and of wrong predictions for an interval."""

_Event = Callable[[Case], Outcomes | None]


@register("metric", "aurc", better="lower", label="AURC", needs="confidence", original_only=True)
def aurc(case: Case) -> Estimate:
    """Area under the risk-coverage curve: mean error rate over all coverages, most confident images first.

    References
    ----------
    Geifman, Uziel and El-Yaniv 2019, Bias-Reduced Uncertainty Estimation, arXiv 1805.08206, section 3.
    """
    return _of_order(case, against_label, Ranked.aurc, Ranked.aurc_without)


@register("metric", "aurc_set", better="lower", label="AURC (set)", needs="confidence")
def aurc_set(case: Case) -> Estimate:
    """Area under the risk-coverage curve against label sets."""
    return _of_order(case, against_set, Ranked.aurc, Ranked.aurc_without)


@register("metric", "eaurc", better="lower", label="Excess AURC", needs="confidence", original_only=True)
def eaurc(case: Case) -> Estimate:
    """Excess AURC: AURC minus the AURC of an ideal ranking, in which all errors have the lowest confidence.

    References
    ----------
    Geifman, Uziel and El-Yaniv 2019, arXiv 1805.08206, section 3: with an error rate of r, the ideal ranking
    has an AURC of r + (1 - r) ln(1 - r).
    """
    return _of_order(case, against_label, Ranked.excess_aurc, Ranked.excess_aurc_without)


@register("metric", "eaurc_set", better="lower", label="Excess AURC (set)", needs="confidence")
def eaurc_set(case: Case) -> Estimate:
    """Excess AURC against label sets."""
    return _of_order(case, against_set, Ranked.excess_aurc, Ranked.excess_aurc_without)


@register(
    "metric",
    "accuracy_at_coverage",
    better="higher",
    label="Accuracy at coverage",
    needs="confidence",
    original_only=True,
)
def accuracy_at_coverage(case: Case, *, coverage: float) -> Estimate:
    """Top-1 accuracy on the most confident images, which are a fixed share of all images (the coverage).

    Parameters
    ----------
    coverage : float
        Share of images, above 0 and at most 1. Images with equal confidence at the boundary count
        fractionally.
    """
    return _accuracy_at(case, against_label, coverage)


@register(
    "metric",
    "accuracy_at_coverage_set",
    better="higher",
    label="Accuracy at coverage (set)",
    needs="confidence",
)
def accuracy_at_coverage_set(case: Case, *, coverage: float) -> Estimate:
    """Accuracy against label sets on the most confident images, which are a fixed share of all images."""
    return _accuracy_at(case, against_set, coverage)


@register(
    "metric", "error_auroc", better="higher", label="AUROC of errors", needs="confidence", original_only=True
)
def error_auroc(case: Case) -> Estimate:
    """AUROC of error detection: probability that a correct prediction has higher confidence than a wrong one.

    The value is undefined (NaN) if all predictions are correct, or if all are wrong.

    References
    ----------
    Hendrycks and Gimpel 2017, A Baseline for Detecting Misclassified Examples, arXiv 1610.02136;
    ``sklearn.metrics.roc_auc_score``.
    """
    return _of_order(case, against_label, Ranked.auroc, Ranked.auroc_without)


@register("metric", "error_auroc_set", better="higher", label="AUROC of errors (set)", needs="confidence")
def error_auroc_set(case: Case) -> Estimate:
    """AUROC of error detection against label sets."""
    return _of_order(case, against_set, Ranked.auroc, Ranked.auroc_without)


def _accuracy_at(case: Case, event: _Event, coverage: float) -> Estimate:
    check_share(coverage, "Coverage is not a share of the images.", got=f"coverage={coverage!r}")
    estimate = _of_order(
        case,
        event,
        lambda ranked: ranked.accuracy_at(coverage),
        lambda ranked: ranked.accuracy_at_without(coverage),
    )
    return replace(estimate, is_smoothed=coverage < 1) if isinstance(estimate, Pooled) else estimate


def _of_order(
    case: Case, event: _Event, measure: Callable[[Ranked], float], without: Callable[[Ranked], LeftOut]
) -> Estimate:
    outcomes = event(case)
    if outcomes is None:
        return undefined(len(case.labels))
    scored = outcomes.among(len(case.labels))

    def value(weights: Weights | None = None) -> float:
        w = outcomes.weigh(weights)
        return measure(outcomes.ranked(w)) if w.any() else float("nan")

    def left_out(weights: Weights | None = None) -> Floats:
        changes = np.zeros(len(scored))
        changes[outcomes.image] = outcomes.left_out(outcomes.weigh(weights), without) - value(weights)
        return changes

    def doubt(weights: Weights | None) -> str:
        w = outcomes.weigh(weights)
        for what, n in (("right", w @ outcomes.right), ("wrong", w @ ~outcomes.right)):
            if n < FEWEST_OUTCOMES:
                return f"fewer than {FEWEST_OUTCOMES} predictions are {what}"
        return ""

    return Pooled(value, scored, left_out, doubt)
