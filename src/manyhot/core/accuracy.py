"""Metrics that look at predicted ranks only: accuracy against one label, and against label sets.

Each takes a `Case` and returns an `Estimate`. A metric that needs more
places than are predicted for an image skips the image and counts it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from manyhot.checks import check_count
from manyhot.core.array_types import Bools, Ints
from manyhot.core.estimates import Estimate, Ratio, mean_over, undefined
from manyhot.core.sets import NOT_ASKED, UNCLEAR, YES, Case
from manyhot.registry import register

SIZE_GROUPS = 4
"""Label sets are grouped by size as 1, 2, 3 and 4 or more (arXiv 2412.18409; see `asma`)."""


@register(
    "metric",
    "top1",
    better="higher",
    label="Top-1",
    short="Top-1, original labels",
    axis="Top-1 accuracy, original labels",
    judged_on="original labels",
    default=True,
    headline=True,
)
def top1(case: Case) -> Estimate:
    """The best class is the original label; label sets play no part.

    Notes
    -----
    Images without an original label are skipped.
    """
    return _label_in_top(case, 1)


@register(
    "metric",
    "top5",
    better="higher",
    label="Top-5",
    short="Top-5, original labels",
    axis="Top-5 accuracy, original labels",
    judged_on="original labels",
    default=True,
)
def top5(case: Case) -> Estimate:
    """The original label is among the five best classes."""
    return _label_in_top(case, 5)


@register(
    "metric",
    "real1",
    better="higher",
    label="ReaL",
    short="ReaL, label sets",
    axis="ReaL accuracy: best class in the label set",
    judged_on="label sets",
    default=True,
    headline=True,
)
def real1(case: Case) -> Estimate:
    """The best class is in the label set.

    Images with an empty set are skipped, as published.

    References
    ----------
    Beyer et al. 2020, Are we done with ImageNet?, arXiv 2006.07159, section 3.
    """
    return _set_in_top(case, 1)


@register(
    "metric",
    "real5",
    better="higher",
    label="ReaL top-5",
    short="ReaL top-5, label sets",
    axis="Best five classes meet the label set",
    judged_on="label sets",
    default=True,
)
def real5(case: Case) -> Estimate:
    """Any of the five best classes is in the label set.

    References
    ----------
    As in ``timm.data.RealLabelsImagenet`` for k = 5; Beyer et al. report k = 1 only.
    """
    return _set_in_top(case, 5)


@register(
    "metric",
    "mla",
    better="higher",
    label="MLA",
    short="Multi-label accuracy",
    axis="Multi-label accuracy, mean over classes",
    judged_on="label sets",
    default=True,
    headline=True,
)
def mla(case: Case) -> Estimate:
    """Multi-label accuracy: the best class is valid or unclear; mean over classes of the original label.

    References
    ----------
    Shankar et al. 2020, Evaluating Machine Accuracy on ImageNet, PMLR 119; the mean over classes as in
    ``imagenet_multilabel_accuracy`` of google-research/imagenet-mistakes.

    Notes
    -----
    Unusable images are left out. `n` counts images.

    Deviation: images without any valid or unclear class are skipped. Their data has none among the usable
    ones; in other label tables such an image could not be got right.
    """
    labels = case.labels
    scored = case.reaching(1, (labels.accepted > 0) & labels.labelled)
    right = (case.state[:, 0] >= UNCLEAR) & scored
    return Ratio(right, scored, scored, labels.label)


@register(
    "metric",
    "variable_topk",
    better="higher",
    label="Variable top-k",
    axis="Variable top-k: share of the label set found",
    judged_on="label sets",
    default=True,
    headline=True,
)
def variable_topk(case: Case, *, exact: bool = False) -> Ratio:
    """Share of the label set found among the k best classes, k being the size of the set.

    Skipped: empty sets, and sets larger than the list of predicted classes.

    Parameters
    ----------
    exact : bool
        Count an image only when its top k equals the label set.

    References
    ----------
    Anzaku et al. 2024, arXiv 2412.18409.
    """
    found, scored = _found_in_variable_top(case)
    if exact:
        return mean_over(np.equal(found, case.labels.size), scored)
    share = found / case.labels.divisor
    return Ratio(np.multiply(share, scored, out=share), scored, scored)


@register(
    "metric",
    "asma",
    better="higher",
    label="ASMA",
    axis="ASMA: variable top-k, mean over set sizes",
    judged_on="label sets",
    default=True,
    headline=True,
)
def asma(case: Case, *, exact: bool = False) -> Estimate:
    """Mean of variable top-k over images with 1, 2, 3 and 4 or more labels, each group counting the same.

    The published formula is unconfirmed.

    Parameters
    ----------
    exact : bool
        As in `variable_topk`.

    References
    ----------
    Anzaku et al. 2025, arXiv 2412.18409v2.

    Notes
    -----
    Aggregate subgroup model accuracy. The abstract of the source says that accuracies of subgroups by number
    of labels are aggregated so that single-label images do not dominate. This takes their unweighted mean;
    groups without images do not count.
    """
    plain = variable_topk(case, exact=exact)
    return Ratio(plain.num, plain.den, plain.scored, size_group(case.labels.size))


@register("metric", "valid_errors", better="higher", label="Valid errors", interval="wilson", default=True)
def valid_errors(case: Case) -> Estimate:
    """Share of Top-1's errors whose best class is in the label set; n counts the errors.

    References
    ----------
    Vasudevan et al. 2022, When does dough become a bagel?, arXiv 2205.04596, count by hand what this counts
    by label sets: nearly half of the remaining mistakes of the best models were valid.

    Notes
    -----
    Images without an original label, or with an empty label set, are skipped.
    """
    labels = case.labels
    wrong = case.reaching(1, labels.labelled & labels.scored) & ~case.is_label[:, 0]
    return mean_over(case.hit[:, 0], wrong)


@register("metric", "errors_asked", better="higher", label="Errors asked about", interval="wilson")
def errors_asked(case: Case) -> Estimate:
    """Share of top-1 errors whose best class somebody was asked about.

    Notes
    -----
    Of images with an original label; `n` counts the errors. Nobody knows whether the others are any.
    """
    if not case.labels.asked_known:
        return undefined(len(case.labels))
    return mean_over(case.state[:, 0] != NOT_ASKED, _errors(case))


@register("metric", "accepted_errors", better="higher", label="Accepted errors", interval="wilson")
def accepted_errors(case: Case) -> Estimate:
    """Share of top-1 errors that raters accept, of those that they were asked about.

    Notes
    -----
    An error on an image whose label set is empty counts as not accepted if its class was asked about:
    people looked at it and said no. `n` counts the errors asked about, a share that `errors_asked` tells.
    """
    if not case.labels.asked_known:
        return undefined(len(case.labels))
    state = case.state[:, 0]
    return mean_over(state == YES, _errors(case) & (state != NOT_ASKED))


@register("metric", "preferred_errors", better="higher", label="Preferred errors", interval="wilson")
def preferred_errors(case: Case) -> Estimate:
    """Share of top-1 errors whose class raters prefer to the original label: its probability is higher.

    Notes
    -----
    Of errors on images where both were asked about; equal probabilities are no preference. By what
    probability that is, the labels decide: with shares of yes, it says that more raters said yes.
    """
    labels = case.labels
    if labels.p is None or not labels.asked_known:
        return undefined(len(labels))
    best, original = labels.p_of(case.top[:, 0]), labels.p_of(labels.label)
    return mean_over(best > original, _errors(case) & ~np.isnan(best) & ~np.isnan(original))


@register("metric", "precision@k", better="higher", label="Precision@k", default="precision@5")
def precision_at_k(case: Case, *, k: int) -> Estimate:
    """Share of the k best classes that are in the label set, averaged over images.

    Images with an empty label set are skipped.
    """
    hits, scored = _hits_at(case, k)
    return mean_over(hits / k, scored)


@register("metric", "recall@k", better="higher", label="Recall@k", default="recall@5")
def recall_at_k(case: Case, *, k: int) -> Estimate:
    """Share of the label set among the k best classes, averaged over images.

    Images with an empty label set are skipped.
    """
    hits, scored = _hits_at(case, k)
    return mean_over(hits / case.labels.divisor, scored)


@register("metric", "f1@k", better="higher", label="F1@k", default="f1@5")
def f1_at_k(case: Case, *, k: int) -> Estimate:
    """Harmonic mean of an image's precision and recall at k, averaged over images.

    Images with an empty label set are skipped.
    """
    hits, scored = _hits_at(case, k)
    return mean_over(hits / ((k + case.labels.size) / 2), scored)


@register("metric", "real1_unasked", better="lower", label="ReaL (unasked)", interval="wilson", default=True)
def real1_unasked(case: Case) -> Estimate:
    """Share of ReaL's misses whose class nobody was ever asked about."""
    return _unasked(case, case.reaching(1, case.labels.scored) & ~case.hit[:, 0], 1)


@register(
    "metric", "real5_unasked", better="lower", label="ReaL top-5 (unasked)", interval="wilson", default=True
)
def real5_unasked(case: Case) -> Estimate:
    """Share of ReaL top-5's misses with a class that nobody was ever asked about."""
    hits, scored = _hits_at(case, 5)
    return _unasked(case, scored & (hits == 0), 5)


@register("metric", "mla_unasked", better="lower", label="MLA (unasked)", interval="wilson", default=True)
def mla_unasked(case: Case) -> Estimate:
    """Share of MLA's misses, over images, whose class nobody was ever asked about."""
    judged = mla(case)
    return _unasked(case, judged.scored & (case.state[:, 0] < UNCLEAR), 1)


@register("metric", "variable_topk_unasked", better="lower", label="Variable top-k (unasked)", default=True)
def variable_topk_unasked(case: Case) -> Ratio:
    """Share of the wrong classes in the variable top k that nobody was ever asked about."""
    if not case.labels.asked_known:
        return undefined(len(case.labels))
    found, scored = _found_in_variable_top(case)
    misses = np.where(scored, case.labels.size - found, 0).astype(np.float64)
    unasked = (
        ((case.state == NOT_ASKED) & case.labels.within_size(case.top.shape[1])).sum(1).astype(np.float64)
    )
    return Ratio(np.where(scored, unasked, 0.0), misses, scored & (misses > 0))


@register("metric", "asma_unasked", better="lower", label="ASMA (unasked)", default=True)
def asma_unasked(case: Case) -> Estimate:
    """Share of the wrong classes in the variable top k that nobody was asked about, averaged as ASMA is."""
    plain = variable_topk_unasked(case)
    return Ratio(plain.num, plain.den, plain.scored, size_group(case.labels.size))


def size_group(size: Ints) -> npt.NDArray[np.intp]:
    """Return 0, 1, 2, 3 for label sets of 1, 2, 3 and 4 or more classes (an empty set falls in 0)."""
    group: npt.NDArray[np.intp] = np.clip(size, 1, SIZE_GROUPS).astype(np.intp) - 1
    return group


def _errors(case: Case) -> Bools:
    return case.reaching(1, case.labels.labelled) & ~case.is_label[:, 0]


def _label_in_top(case: Case, k: int) -> Estimate:
    found = np.logical_or.reduce(case.is_label[:, :k], axis=1)
    return mean_over(found, case.reaching(k, case.labels.labelled))


def _set_in_top(case: Case, k: int) -> Estimate:
    hits, scored = _hits_at(case, k)
    return mean_over(np.greater(hits, 0), scored)


def _hits_at(case: Case, k: int) -> tuple[Ints, Bools]:
    """Return how many of the k best classes are in each label set, and the scored images that have k."""
    check_count(k, "k counts the best classes looked at.", got=f"k={k}")
    return _count(case.hit[:, :k]), case.reaching(k, case.labels.scored)


def _count(flags: Bools) -> Ints:
    """Return how many of k flags are set in each row, shape (n,)."""
    # Adding bytes column by column is what NumPy does fast; k is below 256 wherever ranks are stored.
    narrow = np.uint8 if flags.shape[1] < 256 else np.int32
    count: Ints = np.add.reduce(flags.view(np.uint8), axis=1, dtype=narrow)
    return count


def _found_in_variable_top(case: Case) -> tuple[Ints, Bools]:
    k = case.top.shape[1]
    scored = case.labels.scored_within(k)
    if case.length is not None:
        scored = scored & (case.labels.size <= case.length)
    return _count(case.hit & case.labels.within_size(k)), scored


def _unasked(case: Case, miss: Bools, k: int) -> Estimate:
    if not case.labels.asked_known:
        return undefined(len(case.labels))
    return mean_over((case.state[:, :k] == NOT_ASKED).any(1), miss)
