"""Calibration of each class: what gets a class at 0.3 should be right three times of ten.

For the original label and for label sets. Needs the probabilities of all classes.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from manyhot.core.estimates import Estimate, Pooled, Weights, undefined
from manyhot.core.reliability import BINS, Reals
from manyhot.core.sets import YES, Case
from manyhot.core.uncertainty import check_bins
from manyhot.registry import register


@register("metric", "classwise_ece", better="lower", needs="probabilities")
def classwise_ece(case: Case, *, bins: int = BINS) -> Estimate:
    """Class-wise calibration error: mean over classes of the gap between probability and share labelled so.

    Parameters
    ----------
    bins : int
        As in `ece`, of each class.

    References
    ----------
    Kull et al. 2019, Beyond temperature scaling, arXiv 1910.12656, equation 3; the static calibration error
    of Nixon et al. 2019, arXiv 1904.01685.

    Notes
    -----
    With many classes nearly all probabilities are in the lowest bin, and the value is small whatever the
    model.
    """
    if not case.has_probabilities:
        return undefined(len(case.labels))
    image = np.flatnonzero(case.labels.labelled)
    return _by_class(case, case.labels.labelled, image, case.labels.label[image], bins)


@register("metric", "classwise_ece_set", better="lower", needs="probabilities", each_class=True)
def classwise_ece_set(case: Case, *, bins: int = BINS) -> Estimate:
    """Class-wise calibration error of label sets: the gap between probability and share that has the class.

    Parameters
    ----------
    bins : int
        As in `ece`, of each class.

    Notes
    -----
    Fair to scores that stand for each class alone, such as sigmoids. Those of a softmax add up to 1 and
    cannot be right where sets hold several classes.
    """
    if not case.has_probabilities:
        return undefined(len(case.labels))
    labels = case.labels
    chosen = (labels.state == YES) & labels.scored[labels.rows]
    return _by_class(case, labels.scored, labels.rows[chosen], labels.classes[chosen], bins)


def _by_class(
    case: Case,
    scored: npt.NDArray[np.bool_],
    image: npt.NDArray[np.integer],
    classes: npt.NDArray[np.integer],
    bins: int,
) -> Estimate:
    """Return the class-wise error where the given cells, of scored images, are right and no others.

    Nearly all probabilities are in the lowest bin. What is above is kept, a few cells an image; what the
    lowest bin holds is the sum over a class less these, so that a column sum is all that a pass has to take.
    """
    check_bins(bins)
    c = case.labels.n_classes
    above = functools.cache(lambda: _above(case, scored, bins))

    def value(weights: Weights | None = None) -> float:
        w = scored.astype(np.float64) if weights is None else np.asarray(weights, np.float64) * scored
        if not w.any():
            return float("nan")
        rows, at, p, plain = above()  # first: it refuses what is no probability
        right_at = _bin_of(case.probability_of(image, classes), bins) * c + classes
        gap = np.bincount(at, w[rows] * p, minlength=bins * c)
        column = plain if (w == scored).all() else _column_sums(case, w)
        gap[:c] = column - gap.reshape(bins, c).sum(axis=0)
        gap -= np.bincount(right_at, w[image], minlength=bins * c)
        return float(np.abs(gap).sum() / (w.sum() * c))

    return Pooled(value, scored)


def _bin_of(p: Reals, bins: int) -> npt.NDArray[np.intp]:
    return np.minimum((p * bins).astype(np.intp), bins - 1)


def _above(
    case: Case, scored: npt.NDArray[np.bool_], bins: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Reals, Reals]:
    """Return the cells of scored images above the lowest bin, and the sum of all cells of each class.

    The cells as three arrays: image, bin and class as one number, probability.
    """
    c = case.labels.n_classes
    rows, at, p, sums = [], [], [], np.zeros(c)
    for start, block in case.probability_blocks():
        image, classes = np.divmod(np.flatnonzero(block * np.float32(bins) >= 1), c)
        found = block[image, classes].astype(np.float64)
        place = _bin_of(found, bins)
        high = place > 0  # in float64, as `_bin_of` decides for the cells that are right
        rows.append(start + image[high])
        at.append(place[high] * c + classes[high])
        p.append(found[high])
        sums += _sum_rows(block, scored[start : start + len(block)].astype(np.float64))
    nothing = np.empty(0, np.intp)
    return np.concatenate([nothing, *rows]), np.concatenate([nothing, *at]), np.concatenate([[], *p]), sums


def _column_sums(case: Case, w: Reals) -> Reals:
    """Return the weighted sum of the probabilities of each class, shape (C,)."""
    total = np.zeros(case.labels.n_classes)
    for start, block in case.probability_blocks():
        total += _sum_rows(block, w[start : start + len(block)])
    return total


def _sum_rows(block: npt.NDArray[np.floating], w: Reals) -> Reals:
    total: Reals = w @ block.astype(np.float64)
    return total
