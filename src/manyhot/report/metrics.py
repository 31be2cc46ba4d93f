"""What the metrics are called in a report: label, one line of definition, direction, unit.

The report only draws, so it does not load the registry: a results table may come from elsewhere. Metrics of
the literature have a label here; any other is shown under its own name, as a plain number, with the
definition that the results' metadata carries.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

HEADLINE = ("top1", "real1", "mla", "variable_topk", "asma")
"""Shown first and by default."""

ON_LABELS = ("real1", "mla", "variable_topk", "asma", "real5")
"""Judged on label sets, the usual first."""


@dataclass(frozen=True)
class Metric:
    """How a metric is presented.

    Attributes
    ----------
    name : str
        As in the results table.
    label, definition : str
        For people.
    lower_is_better : bool
    percent : bool
        Whether it is a share, shown in percent; otherwise a plain number.
    """

    name: str
    label: str
    definition: str
    lower_is_better: bool = False
    percent: bool = True

    @property
    def unit(self) -> str:
        """What follows a number of this metric."""
        return " %" if self.percent else ""

    def draw(self, value: float) -> float:
        """Return the value in the unit it is drawn in."""
        return value * 100 if self.percent else value

    def text(self, value: float, decimals: int) -> str:
        """Return the value as text without its unit; an en dash where it is undefined."""
        return f"{self.draw(value):,.{decimals}f}" if math.isfinite(value) else "–"


_DESCRIBED = (
    Metric("top1", "Top-1", "The best class is the original label; label sets play no part."),
    Metric(
        "real1",
        "ReaL",
        "The best class is in the label set. Images with an empty set are skipped, as published.",
    ),
    Metric(
        "mla",
        "MLA",
        "Multi-label accuracy: the best class is valid or unclear; mean over classes of the original label.",
    ),
    Metric(
        "variable_topk",
        "Variable top-k",
        "Share of the label set found among the k best classes, k being the size of the set. Skipped: empty "
        "sets, and sets larger than the list of predicted classes.",
    ),
    Metric(
        "asma",
        "ASMA",
        "Mean of variable top-k over images with 1, 2, 3 and 4 or more labels, each group counting the same. "
        "The published formula is unconfirmed.",
    ),
    Metric(
        "valid_errors",
        "Valid errors",
        "Share of Top-1's errors whose best class is in the label set; n counts the errors.",
    ),
    Metric("top5", "Top-5", "The original label is among the five best classes."),
    Metric("real5", "ReaL top-5", "Any of the five best classes is in the label set."),
    Metric("precision@k", "Precision@k", "Share of the k best classes that are in the label set."),
    Metric("recall@k", "Recall@k", "Share of the label set among the k best classes."),
    Metric("f1@k", "F1@k", "Harmonic mean of an image's precision and recall at k, averaged over images."),
    Metric("map_macro", "mAP (macro)", "Average precision of each class over images, averaged over classes."),
    Metric("map_micro", "mAP (micro)", "Average precision over all (image, class) cells in one ranking."),
    Metric(
        "map_image", "mAP (images)", "Average precision of each image over classes, averaged over images."
    ),
    Metric("lrap", "LRAP", "Share of valid classes among those ranked down to each valid class."),
    Metric("jaccard", "Jaccard", "Intersection over union of predicted set and label set."),
    Metric("subset_accuracy", "Subset accuracy", "Share of images whose predicted set equals the label set."),
    Metric("f1_micro", "F1 (micro)", "2 TP / (2 TP + FP + FN), summed over all cells."),
    Metric("f1_macro", "F1 (macro)", "2 TP / (2 TP + FP + FN) of each class, averaged over classes."),
    Metric(
        "coverage",
        "Coverage error",
        "How many of the best classes it takes to include the whole label set.",
        lower_is_better=True,
        percent=False,
    ),
    Metric(
        "ranking_loss",
        "Ranking loss",
        "Share of (valid, not valid) pairs of classes of an image in which the valid one is not ahead.",
        lower_is_better=True,
    ),
    Metric("hamming", "Hamming loss", "Share of cells that are predicted wrongly.", lower_is_better=True),
    Metric(
        "real1_unasked",
        "ReaL (unasked)",
        "Share of ReaL's misses whose class nobody was ever asked about.",
        lower_is_better=True,
    ),
    Metric(
        "real5_unasked",
        "ReaL top-5 (unasked)",
        "Share of ReaL top-5's misses with a class that nobody was ever asked about.",
        lower_is_better=True,
    ),
    Metric(
        "mla_unasked",
        "MLA (unasked)",
        "Share of MLA's misses whose class nobody was ever asked about.",
        lower_is_better=True,
    ),
    Metric(
        "variable_topk_unasked",
        "Variable top-k (unasked)",
        "Share of the wrong classes in the variable top k that nobody was ever asked about.",
        lower_is_better=True,
    ),
    Metric(
        "asma_unasked",
        "ASMA (unasked)",
        "The same, averaged as ASMA is.",
        lower_is_better=True,
    ),
    Metric(
        "ece",
        "ECE",
        "Mean gap between confidence and top-1 accuracy, in bins of equal width.",
        lower_is_better=True,
    ),
    Metric(
        "ece_set",
        "ECE (set)",
        "ECE, right being in the label set.",
        lower_is_better=True,
    ),
    Metric(
        "ece_mass",
        "ECE (equal mass)",
        "Mean gap between confidence and top-1 accuracy, in bins of equally many images.",
        lower_is_better=True,
    ),
    Metric(
        "ece_mass_set",
        "ECE (equal mass, set)",
        "ECE (equal mass), right being in the label set.",
        lower_is_better=True,
    ),
    Metric(
        "ece_debiased",
        "Debiased CE",
        "Root mean squared gap between confidence and top-1 accuracy, less what chance adds.",
        lower_is_better=True,
    ),
    Metric(
        "ece_debiased_set",
        "Debiased CE (set)",
        "Debiased CE, right being in the label set.",
        lower_is_better=True,
    ),
    Metric(
        "mce",
        "MCE",
        "Largest gap between confidence and top-1 accuracy of any bin.",
        lower_is_better=True,
    ),
    Metric(
        "mce_set",
        "MCE (set)",
        "MCE, right being in the label set.",
        lower_is_better=True,
    ),
    Metric(
        "classwise_ece",
        "Class-wise ECE",
        "Mean over classes of the gap between probability and share of images labelled so.",
        lower_is_better=True,
    ),
    Metric(
        "classwise_ece_set",
        "Class-wise ECE (set)",
        "Mean over classes of the gap between probability and share of label sets with it.",
        lower_is_better=True,
    ),
    Metric(
        "brier",
        "Brier",
        "Mean squared difference of confidence and top-1 being right, 1 or 0.",
        lower_is_better=True,
        percent=False,
    ),
    Metric(
        "brier_set",
        "Brier (set)",
        "Brier, right being in the label set.",
        lower_is_better=True,
        percent=False,
    ),
    Metric(
        "nll",
        "NLL",
        "Negative log-likelihood of the original label, in nats.",
        lower_is_better=True,
        percent=False,
    ),
    Metric(
        "nll_mass",
        "NLL (mass of the set)",
        "Minus the logarithm of the probability of the label set, in nats.",
        lower_is_better=True,
        percent=False,
    ),
    Metric(
        "nll_best",
        "NLL (best of the set)",
        "Negative log-likelihood of the likeliest class of the label set, in nats.",
        lower_is_better=True,
        percent=False,
    ),
    Metric(
        "aurc",
        "AURC",
        "Mean share of errors among the images at least as sure as each.",
        lower_is_better=True,
    ),
    Metric(
        "aurc_set",
        "AURC (set)",
        "AURC, right being in the label set.",
        lower_is_better=True,
    ),
    Metric(
        "eaurc",
        "Excess AURC",
        "AURC less that of the best order of errors.",
        lower_is_better=True,
    ),
    Metric(
        "eaurc_set",
        "Excess AURC (set)",
        "Excess AURC, right being in the label set.",
        lower_is_better=True,
    ),
    Metric(
        "accuracy_at_coverage",
        "Accuracy at coverage",
        "Top-1 accuracy of the surest images, a given share of all.",
    ),
    Metric(
        "accuracy_at_coverage_set",
        "Accuracy at coverage (set)",
        "Share of the surest images whose best class is in the label set.",
    ),
    Metric("error_auroc", "AUROC of errors", "Chance that a right prediction is surer than a wrong one."),
    Metric("error_auroc_set", "AUROC of errors (set)", "AUROC of errors, right being in the label set."),
)
_BY_NAME = {metric.name: metric for metric in _DESCRIBED}
_PLACE = {metric.name: place for place, metric in enumerate(_DESCRIBED)}


def metric(name: str, told: Mapping[str, Mapping[str, str]] | None = None) -> Metric:
    """Return how the metric of a results table is presented, ``precision@5`` and call strings included.

    Parameters
    ----------
    name : str
    told : Mapping, optional
        What the results' metadata tells of each metric: ``definition`` and ``better``; for those that are not
        described here.
    """
    base, options = _family(name)
    known = _BY_NAME.get(base)
    if known is None:
        said = (told or {}).get(name, {})
        definition = said.get("definition", "Not described; see the package that registers it.")
        return Metric(name, name, definition, said.get("better") == "lower", percent=False)
    label = known.label.replace("@k", options) if options.startswith("@") else f"{known.label} {options}"
    return replace(known, name=name, label=label.strip())


def reading_order(name: str) -> tuple[int, str]:
    """Return what to sort metrics by: as described here, then by name."""
    return _PLACE.get(_family(name)[0], len(_PLACE)), name


def _family(name: str) -> tuple[str, str]:
    at = re.fullmatch(r"(.+)@(\d+)", name)
    if at:
        return f"{at[1]}@k", f"@{at[2]}"
    base, _, options = name.partition("(")
    return base, f"({options}" if options else ""
