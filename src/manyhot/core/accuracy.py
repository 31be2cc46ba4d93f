"""Metrics of predicted ranks: accuracy against the original label, and against label sets.

Each takes a `Case` and returns an `Estimate`. An image with fewer predicted classes than a metric needs is
skipped and counted as skipped.

Among tied classes, the one with the lowest id counts; `tied_tops` measures how much this choice matters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from manyhot.core.array_types import Bools, Ints, Positions
from manyhot.core.estimates import Estimate, Ratio, mean_over, undefined
from manyhot.core.sets import NOT_ASKED, UNCLEAR, YES, Case
from manyhot.core.softmax import ROWS
from manyhot.parameters import check_count
from manyhot.registry import register

SIZE_GROUPS = 4
"""Label sets are grouped by size as 1, 2, 3 and 4 or more (arXiv 2412.18409; see `asma`)."""


@register(
    "metric",
    "top1",
    also=("accuracy", "top_1"),
    better="higher",
    label="Top-1",
    short="Top-1, original labels",
    axis="Top-1 accuracy, original labels",
    judged_on="original labels",
    default=True,
    headline=True,
)
def top1(case: Case) -> Estimate:
    """Share of images whose top class is the original label. Label sets are not used.

    Notes
    -----
    Images without an original label are skipped.
    """
    return _label_in_top(case, 1)


@register(
    "metric",
    "top5",
    also=("top_5",),
    better="higher",
    label="Top-5",
    short="Top-5, original labels",
    axis="Top-5 accuracy, original labels",
    judged_on="original labels",
    default=True,
)
def top5(case: Case) -> Estimate:
    """Share of images whose original label is among the top five classes."""
    return _label_in_top(case, 5)


@register(
    "metric",
    "real1",
    also=("accuracy", "real"),
    better="higher",
    label="ReaL",
    short="ReaL, label sets",
    axis="ReaL accuracy: top class in the label set",
    judged_on="label sets",
    default=True,
    headline=True,
)
def real1(case: Case) -> Estimate:
    """Share of images whose top class is in the label set.

    Images with an empty label set are skipped, as in the paper.

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
    axis="ReaL top-5: any of the top five classes in the label set",
    judged_on="label sets",
    default=True,
)
def real5(case: Case) -> Estimate:
    """Share of images with at least one of the top five classes in the label set.

    References
    ----------
    The value equals that of ``timm.data.RealLabelsImagenet`` with k = 5. Beyer et al. report only k = 1.
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
    """Multi-label accuracy: share of images with a valid or unclear top class, averaged over original labels.

    References
    ----------
    Shankar et al. 2020, Evaluating Machine Accuracy on ImageNet, PMLR 119. The mean over classes is computed
    as in ``imagenet_multilabel_accuracy`` of google-research/imagenet-mistakes.

    Notes
    -----
    Accuracy is computed over the images of each original label and then averaged over the original labels.
    Unusable images are skipped. `n` is the number of images, not the number of classes.

    Deviation: images without any valid or unclear class are skipped, because no prediction could be right. In
    the published data, every usable image has a valid or unclear class.
    """
    labels = case.labels
    scored = case.reaching(1, (labels.accepted > 0) & labels.labelled)
    right = (case.to_depth(1).state[:, 0] >= UNCLEAR) & scored
    return Ratio(right, scored, scored, labels.label)


@register(
    "metric",
    "variable_topk",
    better="higher",
    label="Variable top-k",
    axis="Variable top-k: share of the label set",
    judged_on="label sets",
    default=True,
    headline=True,
)
def variable_topk(case: Case, *, exact: bool = False) -> Ratio:
    """Share of the label set that is in the top k, where k is the size of the set, averaged over images.

    Images are skipped if their label set is empty or has more classes than the list of predictions.

    Parameters
    ----------
    exact : bool
        Count an image as 1 if its top k classes equal the label set, otherwise as 0.

    References
    ----------
    Anzaku et al. 2024, arXiv 2412.18409.
    """
    if exact:
        hits, scored = case.once(_hits_in_variable_top)
        return mean_over(np.equal(hits, case.labels.size), scored)
    return case.once(_share_in_variable_top)


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
    """Variable top-k: unweighted mean over the groups of images with 1, 2, 3 and 4 or more labels.

    The authors have not confirmed this formula.

    References
    ----------
    Anzaku et al. 2025, arXiv 2412.18409v2.

    Notes
    -----
    ASMA stands for aggregate subgroup model accuracy. According to the paper's abstract, images are grouped
    by their number of labels, and the accuracies of the groups are aggregated so that single-label images do
    not dominate. Here, the groups that contain images are averaged without weights.
    """
    plain = variable_topk(case, exact=exact)
    return Ratio(plain.num, plain.den, plain.scored, size_group(case.labels.size))


@register("metric", "valid_errors", better="higher", label="Valid errors", interval="wilson", default=True)
def valid_errors(case: Case) -> Estimate:
    """Share of Top-1 errors whose top class is in the label set; n is the number of errors.

    References
    ----------
    Vasudevan et al. 2022, When does dough become a bagel?, arXiv 2205.04596. The authors reviewed errors by
    hand and found that nearly half of the remaining errors of the best models were valid predictions.

    Notes
    -----
    Images without an original label, or with an empty label set, are skipped.
    """
    labels = case.labels
    wrong = _errors(case) & labels.scored
    return mean_over(case.to_depth(1).hit[:, 0], wrong)


@register("metric", "errors_asked", better="higher", label="Errors asked about", interval="wilson")
def errors_asked(case: Case) -> Estimate:
    """Share of Top-1 errors for which raters were asked about the top class.

    Notes
    -----
    Images without an original label are skipped. `n` is the number of errors. If no rater was asked about the
    top class, it is unknown whether the class is valid.
    """
    if not case.labels.asked_known:
        return undefined(len(case.labels))
    return mean_over(case.to_depth(1).state[:, 0] != NOT_ASKED, _errors(case))


@register("metric", "accepted_errors", better="higher", label="Accepted errors", interval="wilson")
def accepted_errors(case: Case) -> Estimate:
    """Share of errors accepted by raters, among the Top-1 errors that raters were asked about.

    Notes
    -----
    Raters were asked about an error if they were asked about its top class. `n` is the number of these
    errors, and `errors_asked` is their share of all Top-1 errors. If the label set of the image is empty,
    raters did not accept the top class, so the error counts as not accepted.
    """
    if not case.labels.asked_known:
        return undefined(len(case.labels))
    state = case.to_depth(1).state[:, 0]
    return mean_over(state == YES, _errors(case) & (state != NOT_ASKED))


@register("metric", "preferred_errors", better="higher", label="Preferred errors", interval="wilson")
def preferred_errors(case: Case) -> Estimate:
    """Share of Top-1 errors whose top class has a higher probability in the labels than the original label.

    Notes
    -----
    Errors count only if raters were asked about both classes. Equal probabilities are not a preference. What
    the probability means depends on the labels. If it is the share of *yes* answers, an error is preferred if
    a larger share of raters accepted its top class than the original label.
    """
    labels = case.labels
    if labels.p is None or not labels.asked_known:
        return undefined(len(labels))
    best, original = labels.p_of(case.top[:, 0]), labels.p_of(labels.label)
    return mean_over(best > original, _errors(case) & ~np.isnan(best) & ~np.isnan(original))


@register("metric", "precision@k", better="higher", label="Precision@k", default="precision@5")
def precision_at_k(case: Case, *, k: int) -> Estimate:
    """Share of the top k classes that are in the label set, averaged over images.

    Images with an empty label set are skipped.
    """
    hits, scored = _hits_at(case, k)
    return mean_over(hits / k, scored)


@register("metric", "recall@k", better="higher", label="Recall@k", default="recall@5")
def recall_at_k(case: Case, *, k: int) -> Estimate:
    """Share of the label set that is among the top k classes, averaged over images.

    Images with an empty label set are skipped.
    """
    hits, scored = _hits_at(case, k)
    return mean_over(hits / np.maximum(case.labels.size, 1), scored)


@register("metric", "f1@k", also=("f1", "f1_score"), better="higher", label="F1@k", default="f1@5")
def f1_at_k(case: Case, *, k: int) -> Estimate:
    """Harmonic mean of an image's precision and recall at k, averaged over images.

    Images with an empty label set are skipped.
    """
    hits, scored = _hits_at(case, k)
    return mean_over(hits / ((k + case.labels.size) / 2), scored)


@register("metric", "real1_unasked", better="lower", label="ReaL (unasked)", interval="wilson", default=True)
def real1_unasked(case: Case) -> Estimate:
    """Share of ReaL's misses for which no rater was asked about the top class."""
    return _unasked(case, case.reaching(1, case.labels.scored) & ~case.to_depth(1).hit[:, 0], 1)


@register(
    "metric", "real5_unasked", better="lower", label="ReaL top-5 (unasked)", interval="wilson", default=True
)
def real5_unasked(case: Case) -> Estimate:
    """Share of ReaL top-5's misses with at least one class in the top five that no rater was asked about."""
    hits, scored = _hits_at(case, 5)
    return _unasked(case, scored & (hits == 0), 5)


@register("metric", "mla_unasked", better="lower", label="MLA (unasked)", interval="wilson", default=True)
def mla_unasked(case: Case) -> Estimate:
    """Share of MLA's misses for which no rater was asked about the top class, averaged over images."""
    judged = mla(case)
    return _unasked(case, judged.scored & (case.to_depth(1).state[:, 0] < UNCLEAR), 1)


@register("metric", "variable_topk_unasked", better="lower", label="Variable top-k (unasked)", default=True)
def variable_topk_unasked(case: Case) -> Ratio:
    """Share of the wrong classes in the variable top k that no rater was asked about."""
    return case.once(_unasked_in_variable_top)


def _unasked_in_variable_top(case: Case) -> Ratio:
    if not case.labels.asked_known:
        return undefined(len(case.labels))
    hits, scored = case.once(_hits_in_variable_top)
    listed = case.to_depth(_largest(case))
    misses = np.where(scored, case.labels.size - hits, 0).astype(np.float64)
    k = listed.top.shape[1]
    unasked = _count(_not_asked(listed, k) & case.labels.within_depth(k)[0])
    return Ratio(np.where(scored, unasked, 0).astype(np.float64), misses, scored & (misses > 0))


@register("metric", "asma_unasked", better="lower", label="ASMA (unasked)", default=True)
def asma_unasked(case: Case) -> Estimate:
    """Share of the wrong classes in the variable top k that no rater was asked about, averaged as in ASMA."""
    plain = variable_topk_unasked(case)
    return Ratio(plain.num, plain.den, plain.scored, size_group(case.labels.size))


def size_group(size: Ints) -> Positions:
    """Return 0, 1, 2 or 3 for label sets of 1, 2, 3 or at least 4 classes, and 0 for empty sets."""
    return np.clip(size, 1, SIZE_GROUPS).astype(np.intp) - 1


def _errors(case: Case) -> Bools:
    """Return the images whose top class is not the original label; without a top class, nothing is judged."""
    return case.with_top(case.labels.labelled) & ~case.to_depth(1).is_label[:, 0]


def _label_in_top(case: Case, k: int) -> Estimate:
    in_top = np.logical_or.reduce(case.to_depth(k).is_label[:, :k], axis=1)
    return mean_over(in_top, case.reaching(k, case.labels.labelled))


def _set_in_top(case: Case, k: int) -> Estimate:
    hits, scored = _hits_at(case, k)
    return mean_over(np.greater(hits, 0), scored)


def _hits_at(case: Case, k: int) -> tuple[Ints, Bools]:
    """Return how many of the top k classes are in each label set, and the scored images with k classes."""
    check_count(k, "k is not a number of classes.", got=f"k={k}")
    return _count(case.to_depth(k).hit[:, :k]), case.reaching(k, case.labels.scored)


def _count(flags: Bools) -> Ints:
    """Return how many of k flags are set in each row, shape (n,)."""
    # NumPy adds bytes fast; k is below 256 wherever ranks are stored.
    narrow = np.uint8 if flags.shape[1] < 256 else np.int32
    count: Ints = np.add.reduce(flags.view(np.uint8), axis=1, dtype=narrow)
    return count


def _hits_in_variable_top(case: Case) -> tuple[Ints, Bools]:
    k = case.top.shape[1]
    scored = case.labels.within_depth(k)[1]
    if case.length is not None:
        scored = scored & (case.labels.size <= np.maximum(case.length, 1))  # an empty list is wrong
    listed = case.to_depth(_largest(case))
    return _count(listed.hit & case.labels.within_depth(listed.top.shape[1])[0]), scored


def _share_in_variable_top(case: Case) -> Ratio:
    hits, scored = case.once(_hits_in_variable_top)
    share = hits / np.maximum(case.labels.size, 1)
    return Ratio(np.multiply(share, scored, out=share), scored, scored)


def _largest(case: Case) -> int:
    """Return the size of the largest label set, 1 at least."""
    return int(case.labels.size.max(initial=1))


def _unasked(case: Case, miss: Bools, k: int) -> Estimate:
    if not case.labels.asked_known:
        return undefined(len(case.labels))
    return mean_over(np.logical_or.reduce(_not_asked(case.to_depth(k), k), axis=1), miss)


def _not_asked(case: Case, k: int) -> Bools:
    """Return whether each of the top k classes is one that nobody asked about, shape (n, k)."""
    unasked: Bools = case.state[:, :k] == NOT_ASKED
    return unasked if case.length is None else unasked & (case.top[:, :k] >= 0)


@dataclass(frozen=True)
class TiedTops:
    """How much the order of tied classes matters.

    Attributes
    ----------
    share : float
        Share of images on which several classes tie for the highest score.
    real1 : float
        The value of ``real1``, which takes the class with the lowest id among tied classes.
    expected : float
        The expected value of ``real1`` if one of the tied classes is drawn at random.
    n : int
        Number of images that count.
    n_equal : int
        Number of these images on which the scores of all classes are equal.
    """

    share: float
    real1: float
    expected: float
    n: int
    n_equal: int


def tied_tops(case: Case) -> TiedTops | None:
    """Return how much the order of tied classes matters; None if all-class scores or label sets are missing.

    The expectation is exact: with t tied classes, of which h are valid, it is the mean of h / t over images.
    """
    sets, scores = case.labels, case.scores
    if scores is None or not sets.scored.any():
        return None
    kind = np.result_type(scores, np.float32)  # comparisons of half precision take three times as long
    best = np.empty(len(scores), kind)
    n_tied = np.empty(len(scores), np.int64)
    for start in range(0, len(scores), ROWS):
        part = slice(start, start + ROWS)
        rows = scores[part].astype(kind, copy=False)
        best[part] = rows.max(axis=1)
        n_tied[part] = np.count_nonzero(rows == best[part, None], axis=1)
    valid = sets.state == YES
    rows, classes = sets.rows[valid], sets.classes[valid]
    n_valid = np.bincount(rows[scores[rows, classes] == best[rows]], minlength=len(scores))
    at = sets.scored
    return TiedTops(
        float((n_tied[at] > 1).mean()),
        float(case.hit[at, 0].mean()),
        float((n_valid[at] / n_tied[at]).mean()),
        int(np.count_nonzero(at)),
        int(np.count_nonzero(n_tied[at] == scores.shape[1])) if scores.shape[1] > 1 else 0,
    )
