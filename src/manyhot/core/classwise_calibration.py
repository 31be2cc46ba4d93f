"""Class-wise calibration: of the images that give a class the probability 0.3, 30 % should have it."""

from __future__ import annotations

import functools

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import AnyFloats, Bools, Floats, Ints
from manyhot.core.confidence_metrics import check_bins
from manyhot.core.estimates import Estimate, Pooled, Weights, undefined
from manyhot.core.reliability import BINS
from manyhot.core.sets import YES, Case
from manyhot.registry import register


@register("metric", "classwise_ece", better="lower", label="Class-wise ECE", needs="probabilities")
def classwise_ece(case: Case, *, bins: int = BINS) -> Estimate:
    """Class-wise calibration error: mean gap between the probability of a class and its share of labels.

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
    With many classes, nearly all probabilities are in the lowest bin, and the value is small for any model.
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
    """Class-wise calibration error against label sets: mean gap between probability and share with the class.

    Parameters
    ----------
    bins : int
        As in `ece`, for each class.

    Notes
    -----
    This is appropriate for scores of independent classes, such as sigmoids. Softmax probabilities add up to
    1, so they cannot be calibrated if label sets have several classes.
    """
    if not case.has_probabilities:
        return undefined(len(case.labels))
    labels = case.labels
    chosen = (labels.state == YES) & labels.scored[labels.rows]
    return _by_class(case, labels.scored, labels.rows[chosen], labels.classes[chosen], bins)


def _by_class(
    case: Case,
    scored: Bools,
    image: Ints,
    classes: Ints,
    bins: int,
) -> Estimate:
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
        right_at = _bin_of(case.probability_of(image, classes), bins) * c + classes
        gap = np.bincount(at, w[rows] * p, minlength=bins * c)
        column = plain if (w == scored).all() else _column_sums(case, w)
        gap[:c] = column - gap.reshape(bins, c).sum(axis=0)
        gap -= np.bincount(right_at, w[image], minlength=bins * c)
        return float(np.abs(gap).sum() / (w.sum() * c))

    return Pooled(value, scored)


def _bin_of(p: Floats, bins: int) -> npt.NDArray[np.intp]:
    return np.minimum((p * bins).astype(np.intp), bins - 1)


def _above(
    case: Case, scored: Bools, bins: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats, Floats]:
    """Return the cells of scored images above the lowest bin, and the sum of all cells of each class.

    The cells are three arrays: the image, the bin and the class as one number, and the probability.
    """
    c = case.labels.n_classes
    rows, at, p, sums = [], [], [], np.zeros(c)
    for start, block in case.probability_blocks():
        image, classes = np.divmod(np.flatnonzero(block * np.float32(bins) >= 1), c)
        probability = block[image, classes].astype(np.float64)
        place = _bin_of(probability, bins)
        high = place > 0  # in float64, as for the cells that are right
        rows.append(start + image[high])
        at.append(place[high] * c + classes[high])
        p.append(probability[high])
        sums += _sum_rows(block, scored[start : start + len(block)].astype(np.float64))
    nothing = np.empty(0, np.intp)
    return np.concatenate([nothing, *rows]), np.concatenate([nothing, *at]), np.concatenate([[], *p]), sums


def _column_sums(case: Case, w: Floats) -> Floats:
    """Return the weighted sum of the probabilities of each class, shape (C,)."""
    total = np.zeros(case.labels.n_classes)
    for start, block in case.probability_blocks():
        total += _sum_rows(block, w[start : start + len(block)])
    return total


def _sum_rows(block: AnyFloats, w: Floats) -> Floats:
    total: Floats = w @ block.astype(np.float64)
    return total
