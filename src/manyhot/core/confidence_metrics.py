"""Metrics of confidence: calibration and likelihood, against labels or label sets.

The *confidence* is the probability of the top class. A prediction is *right* if that class is the original
label or, for metrics ending in ``_set``, if it is in the label set. The former count the same images as
`top1`, the latter the same images as `real1`. A metric ending in ``_set`` has the options of the metric
without ``_set``; `bins` is that of `ece`.

Lists of top classes are sufficient if their probabilities are known; for logits, probabilities are computed
with the ``logsumexp`` over all classes. Otherwise, as for predictions with ranks only, all metrics here are
undefined (NaN with n 0). Likelihoods need the probabilities of all classes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from manyhot.core.array_types import Bools, Floats, Ints, Positions
from manyhot.core.class_calibration import class_outcomes, only_yes
from manyhot.core.estimates import Estimate, Pooled, Weights, mean_over, undefined
from manyhot.core.reliability import (
    BINS,
    NOT_RESAMPLED,
    Bins,
    Outcomes,
    against_label,
    against_set,
    bin_of,
    check_bins,
    inner_edges,
)
from manyhot.core.sets import YES, Case
from manyhot.registry import register

_Event = Callable[[Case], Outcomes | None]


@register(
    "metric",
    "ece",
    also=("expected_calibration_error",),
    better="lower",
    label="ECE",
    needs="confidence",
    original_only=True,
)
def ece(case: Case, *, bins: int = BINS) -> Estimate:
    """Expected calibration error: mean gap between confidence and top-1 accuracy in bins of equal width.

    Parameters
    ----------
    bins : int
        Number of bins B. Bin k contains the confidences c with k / B ≤ c < (k + 1) / B. The last bin also
        contains 1.

    References
    ----------
    Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv 1706.04599, equation 3.

    Notes
    -----
    Deviation: in the paper, bins are open below and closed above. Here, as in torchmetrics, they are closed
    below and open above, and confidences are compared in float32.
    """
    return _binned(case, against_label, Outcomes.equal_width, bins, Bins.mean_gap)


@register("metric", "ece_set", better="lower", label="ECE (set)", needs="confidence")
def ece_set(case: Case, *, bins: int = BINS) -> Estimate:
    """Expected calibration error against label sets, in bins of equal width."""
    return _binned(case, against_set, Outcomes.equal_width, bins, Bins.mean_gap)


@register(
    "metric", "ece_mass", better="lower", label="ECE (equal mass)", needs="confidence", original_only=True
)
def ece_mass(case: Case, *, bins: int = BINS) -> Estimate:
    """Expected calibration error in bins with equal numbers of images.

    Parameters
    ----------
    bins : int

    References
    ----------
    Nguyen and O'Connor 2015, arXiv 1508.05154, "adaptive binning"; Nixon et al. 2019, arXiv 1904.01685.

    Notes
    -----
    All images with the same confidence are assigned to the bin that contains their middle rank.
    """
    return _binned(case, against_label, Outcomes.equal_mass, bins, Bins.mean_gap)


@register("metric", "ece_mass_set", better="lower", label="ECE (equal mass, set)", needs="confidence")
def ece_mass_set(case: Case, *, bins: int = BINS) -> Estimate:
    """Expected calibration error against label sets, in bins with equal numbers of images."""
    return _binned(case, against_set, Outcomes.equal_mass, bins, Bins.mean_gap)


@register(
    "metric",
    "ece_debiased",
    better="lower",
    label="Debiased CE",
    needs="confidence",
    depends_on_n=True,
    original_only=True,
)
def ece_debiased(case: Case, *, bins: int = BINS) -> Estimate:
    """Debiased calibration error: root mean squared gap over bins of equal mass, corrected for sampling bias.

    Parameters
    ----------
    bins : int

    References
    ----------
    Kumar, Liang and Ma 2019, Verified Uncertainty Calibration, arXiv 1909.10155, definition 4.1 and section
    5. Roelofs et al. 2022, arXiv 2012.08668, measured the bias of the plain estimate. Their sweep over the
    number of bins is not used.

    Notes
    -----
    Gaps are squared, whereas `ece` uses absolute gaps, so values of the two metrics cannot be compared. The
    result is 0 if the bias is larger than the squared gaps. Weights are treated as numbers of images, so
    doubling all weights reduces the bias.
    """
    return _binned(case, against_label, Outcomes.equal_mass, bins, Bins.debiased_gap)


@register(
    "metric",
    "ece_debiased_set",
    better="lower",
    label="Debiased CE (set)",
    needs="confidence",
    depends_on_n=True,
)
def ece_debiased_set(case: Case, *, bins: int = BINS) -> Estimate:
    """Debiased calibration error against label sets: root mean squared gap, corrected for sampling bias."""
    return _binned(case, against_set, Outcomes.equal_mass, bins, Bins.debiased_gap)


@register("metric", "mce", better="lower", label="MCE", needs="confidence", original_only=True)
def mce(case: Case, *, bins: int = BINS) -> Estimate:
    """Maximum calibration error: the largest gap between confidence and top-1 accuracy in any bin.

    References
    ----------
    Guo et al. 2017, arXiv 1706.04599, equation 5.
    """
    return _binned(case, against_label, Outcomes.equal_width, bins, Bins.largest_gap)


@register("metric", "mce_set", better="lower", label="MCE (set)", needs="confidence")
def mce_set(case: Case, *, bins: int = BINS) -> Estimate:
    """Maximum calibration error against label sets: the largest gap in any bin."""
    return _binned(case, against_set, Outcomes.equal_width, bins, Bins.largest_gap)


@register(
    "metric",
    "brier",
    also=("brier_score",),
    better="lower",
    label="Brier",
    needs="confidence",
    original_only=True,
    unit="",
)
def brier(case: Case) -> Estimate:
    """Brier score of the top class: mean squared difference between confidence and correctness (1 or 0).

    References
    ----------
    Brier 1950, doi 10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2, for the event that the top class is
    correct; ``sklearn.metrics.brier_score_loss``.
    """
    return _squared(case, against_label(case))


@register(
    "metric", "brier_set", better="lower", label="Brier (set)", needs="confidence", all_classes=True, unit=""
)
def brier_set(case: Case) -> Estimate:
    """Brier score of the top class against label sets."""
    return _squared(case, against_set(case))


@register(
    "metric",
    "nll",
    also=("log_loss",),
    better="lower",
    label="NLL",
    needs="probabilities",
    original_only=True,
    exclusive=True,
    unit="nats",
)
def nll(case: Case) -> Estimate:
    """Negative log-likelihood of the original label, in nats.

    Raises
    ------
    InputError
        If the probabilities of an image do not add up to 1, or if a logit of a label is minus infinity.

    References
    ----------
    ``sklearn.metrics.log_loss``.

    Notes
    -----
    Deviation: a stored probability of 0 is replaced by the smallest positive number of its type: 1e-38 (87.3
    nats) or, in half precision, 6e-8 (16.6 nats). scikit-learn clips at the resolution of the type: 15.9 nats
    in float32, and 36.0 nats in float64.
    """
    if not case.has_probabilities:
        return undefined(len(case.labels))
    labels = case.labels
    image = np.flatnonzero(labels.labelled)
    loss = np.zeros(len(labels))
    loss[image] = -case.log_probability_of(image, labels.label[image])
    return mean_over(loss, labels.labelled)


@register(
    "metric",
    "nll_mass",
    better="lower",
    label="NLL (mass of the set)",
    needs="probabilities",
    all_classes=True,
    exclusive=True,
    unit="nats",
)
def nll_mass(case: Case) -> Estimate:
    """Negative logarithm of the total probability of the label set, in nats.

    Notes
    -----
    The value depends only on the total probability of the set, not on the distribution within the set. It
    equals `nll` if the set consists of the original label alone.
    """
    return _set_likelihood(case, mass=True)


@register(
    "metric",
    "nll_best",
    better="lower",
    label="NLL (best of the set)",
    needs="probabilities",
    exclusive=True,
    unit="nats",
)
def nll_best(case: Case) -> Estimate:
    """Negative log-likelihood of the most probable class of the label set, in nats.

    Notes
    -----
    The value is at least `nll_mass`, and at most the negative log-likelihood of any class of the set.
    """
    return _set_likelihood(case, mass=False)


def _binned(
    case: Case,
    event: _Event,
    split: Callable[[Outcomes, Floats, int], Bins],
    bins: int,
    measure: Callable[[Bins], float],
) -> Estimate:
    check_bins(bins)
    outcomes = event(case)
    if outcomes is None:
        return undefined(len(case.labels))

    def value(weights: Weights | None = None) -> float:
        w = outcomes.weigh(weights)
        return measure(split(outcomes, w, bins)) if w.any() else float("nan")

    return Pooled(value, outcomes.among(len(case.labels)), biased=NOT_RESAMPLED)


def _squared(case: Case, outcomes: Outcomes | None) -> Estimate:
    if outcomes is None:
        return undefined(len(case.labels))
    squares = np.zeros(len(case.labels))
    squares[outcomes.image] = (outcomes.confidence - outcomes.right) ** 2
    return mean_over(squares, outcomes.among(len(squares)))


def _set_likelihood(case: Case, *, mass: bool) -> Estimate:
    if not case.has_probabilities:
        return undefined(len(case.labels))
    labels = case.labels
    chosen = (labels.state == YES) & labels.scored[labels.rows]
    image = labels.rows[chosen]
    log_p = case.log_probability_of(image, labels.classes[chosen])
    best = np.full(len(labels), -np.inf)
    np.maximum.at(best, image, log_p)
    if not mass:
        return mean_over(-best, labels.scored)
    # Relative to the most probable class, nothing underflows.
    total = np.bincount(image, np.exp(log_p - best[image]), minlength=len(labels))
    loss = -(best + np.log(np.where(labels.scored, total, 1)))
    return mean_over(loss, labels.scored)


@register(
    "metric",
    "classwise_ece",
    better="lower",
    label="Class-wise ECE",
    needs="probabilities",
    original_only=True,
)
def classwise_ece(case: Case, *, bins: int = BINS) -> Estimate:
    """Class-wise calibration error: mean gap between a class's probability and its frequency.

    Parameters
    ----------
    bins : int
        As in `ece`, for each class.

    References
    ----------
    Kull et al. 2019, Beyond temperature scaling, arXiv 1910.12656, equation 3; the static calibration error
    of Nixon et al. 2019, arXiv 1904.01685.

    Notes
    -----
    With many classes, nearly all probabilities are in the lowest bin, so the value is small for every model.
    """
    if not case.has_probabilities:
        return undefined(len(case.labels))
    image = np.flatnonzero(case.labels.labelled)
    return _by_class(case, case.labels.labelled, image, case.labels.label[image], bins)


@register(
    "metric",
    "classwise_ece_set",
    better="lower",
    label="Class-wise ECE (set)",
    needs="probabilities",
    each_class=True,
)
def classwise_ece_set(case: Case, *, bins: int = BINS) -> Estimate:
    """Class-wise calibration error: mean gap between a class's probability and its share of label sets.

    Parameters
    ----------
    bins : int
        As in `ece`, for each class.

    Notes
    -----
    The metric is appropriate for scores of independent classes, such as sigmoids. Softmax probabilities add
    up to 1, so they cannot be calibrated if label sets have several classes.
    """
    if not case.has_probabilities:
        return undefined(len(case.labels))
    labels = case.labels
    chosen = (labels.state == YES) & labels.scored[labels.rows]
    return _by_class(case, labels.scored, labels.rows[chosen], labels.classes[chosen], bins)


@register(
    "metric",
    "classwise_ece_asked",
    better="lower",
    label="Class-wise ECE (all images)",
    needs="probabilities",
    each_class=True,
)
def classwise_ece_asked(case: Case, *, bins: int = BINS) -> Estimate:
    """Class-wise calibration error over all images for which raters were asked about a class, valid or not.

    Parameters
    ----------
    bins : int
        As in `ece`, for each class.

    Notes
    -----
    Like ReaL, `classwise_ece_set` counts only images with a non-empty label set. If all classes can be absent
    from an image, this makes calibrated probabilities look too low.

    A class to which raters answered *yes* on some images and *no* on none is ignored, unless it is *yes* on
    all images: its frequency among the answers says nothing about that among all images.
    """
    check_bins(bins)
    if not case.has_probabilities:
        return undefined(len(case.labels))
    scored = np.zeros(len(case.labels), bool)
    for outcomes in class_outcomes(case):  # also checks the probabilities
        scored[outcomes.image] = True

    def value(weights: Weights | None = None) -> float:
        weighed = ((outcomes, outcomes.weigh(weights)) for outcomes in class_outcomes(case))
        n = int(np.count_nonzero(case.labels.usable * (1.0 if weights is None else np.asarray(weights))))
        gaps = [
            outcomes.equal_width(w, bins).mean_gap()
            for outcomes, w in weighed
            if w.any() and not only_yes(outcomes, n, w)
        ]
        return float(np.mean(gaps)) if gaps else float("nan")

    return Pooled(value, scored, biased=NOT_RESAMPLED)


def _by_class(case: Case, scored: Bools, image: Ints, classes: Ints, bins: int) -> Estimate:
    """Return the class-wise error if these (image, class) cells of scored images are right, and no others.

    Nearly all probabilities are in the lowest bin. Only the few cells above it are stored; the sum of the
    lowest bin is the column sum of a class minus these, so that a pass only needs column sums.
    """
    check_bins(bins)
    c = case.labels.n_classes
    above = functools.cache(lambda: _above(case, scored, bins))

    def value(weights: Weights | None = None) -> float:
        w = scored.astype(np.float64) if weights is None else np.asarray(weights, np.float64) * scored
        if not w.any():
            return float("nan")
        rows, at, p, plain = above()  # first: it checks the probabilities
        right_at = bin_of(case.probability_of(image, classes), bins) * c + classes
        gap = np.bincount(at, w[rows] * p, minlength=bins * c)
        column = plain if (w == scored).all() else _column_sums(case, w)
        gap[:c] = column - gap.reshape(bins, c).sum(axis=0)
        gap -= np.bincount(right_at, w[image], minlength=bins * c)
        return float(np.abs(gap).sum() / (w.sum() * c))

    return Pooled(value, scored, biased=NOT_RESAMPLED)


def _above(case: Case, scored: Bools, bins: int) -> tuple[Positions, Positions, Floats, Floats]:
    """Return the cells of scored images above the lowest bin, and the sum of all cells of each class.

    The cells are three arrays: the image, the bin and the class as one number, and the probability.
    """
    c = case.labels.n_classes
    rows, at, p, sums = [], [], [], np.zeros(c)
    lowest = inner_edges(bins)[0] if bins > 1 else np.float32(np.inf)
    for start, block in case.probability_blocks():
        image, classes = np.divmod(np.flatnonzero(block.astype(np.float32, copy=False) >= lowest), c)
        probability = block[image, classes].astype(np.float64)
        place = bin_of(probability, bins)
        rows.append(start + image)
        at.append(place * c + classes)
        p.append(probability)
        sums += scored[start : start + len(block)].astype(np.float64) @ block.astype(np.float64)
    nothing = np.empty(0, np.intp)
    return np.concatenate([nothing, *rows]), np.concatenate([nothing, *at]), np.concatenate([[], *p]), sums


def _column_sums(case: Case, w: Floats) -> Floats:
    """Return the weighted sum of the probabilities of each class, shape (C,)."""
    total = np.zeros(case.labels.n_classes)
    for start, block in case.probability_blocks():
        total += w[start : start + len(block)] @ block.astype(np.float64)
    return total
