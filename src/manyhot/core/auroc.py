"""Area under the ROC curve over dense scores: how often a positive has a higher score than a negative.

Positives, negatives and `masked` are those of `manyhot.core.ranking`. Only the order of the scores matters.
"""

from __future__ import annotations

from manyhot.core.curve_metrics import AUROC, mean_over_groups
from manyhot.core.estimates import Estimate, undefined
from manyhot.core.ranked_cells import rank_cells
from manyhot.core.ranked_positives import Group, rank_positives
from manyhot.core.sets import Case
from manyhot.registry import register


@register(
    "metric",
    "auroc_macro",
    also=("auroc", "auc", "roc_auc", "roc_auc_score"),
    better="higher",
    label="AUROC (macro)",
    needs="scores",
)
def auroc_macro(case: Case, *, masked: bool = False) -> Estimate:
    """Area under the ROC curve of each class over the images, averaged over the classes.

    The area of a class is the probability that an image with the class has a higher score than an image
    without it. Ties count half.

    Parameters
    ----------
    masked : bool
        Ignore unclear cells and cells that no rater was asked about.

    References
    ----------
    ``sklearn.metrics.roc_auc_score``. The interval follows DeLong, DeLong and Clarke-Pearson 1988, doi
    10.2307/2531595, with the deviations that are described in `manyhot.core.curve_metrics`.

    Notes
    -----
    `n` is the number of images.

    Deviation: a class without positives or without negatives under the weights does not count. scikit-learn's
    macro average is then undefined.
    """
    return _auroc(case, "class", masked)


@register("metric", "auroc_micro", better="higher", label="AUROC (micro)", needs="scores")
def auroc_micro(case: Case, *, masked: bool = False) -> Estimate:
    """Area under the ROC curve of one ranking of all (image, class) pairs.

    Scores of different images and classes are compared. Ties count half.

    Parameters
    ----------
    masked : bool
        As in `auroc_macro`.

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
