"""Agreement of raters on the questions about each class: raw, Fleiss' kappa, and Gwet's AC1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from manyhot.core.agreement import FEWEST_IMAGES
from manyhot.core.answers import N_ANSWERS, YES, Answers
from manyhot.core.array_types import Floats, Ints, Ints64
from manyhot.core.resampling import LEVEL


@dataclass(frozen=True)
class ClassAgreement:
    """Agreement on the questions about each class, each array of shape (C,); NaN where it is undefined.

    Attributes
    ----------
    n, n_skipped : ndarray of int64
        Number of questions that two or more raters answered, and number of questions that one answered.
    yes : ndarray of float64
        Mean share of yes answers.
    pairwise, fleiss_kappa : ndarray of float64
        As in `manyhot.core.agreement.measure_answers`.
    ac1, lo, hi : ndarray of float64
        Gwet's AC1 with its interval.
    """

    n: Ints64
    n_skipped: Ints64
    yes: Floats
    pairwise: Floats
    fleiss_kappa: Floats
    ac1: Floats
    lo: Floats
    hi: Floats


def agreement_by_class(answers: Answers, class_id: Ints, n_classes: int) -> ClassAgreement:
    """Return the agreement of raters on the questions about each class.

    Parameters
    ----------
    class_id : ndarray of int, shape (Q,)
        The class of each question. Each question of a class is about a different image.

    Notes
    -----
    Kappa corrects for the agreement of raters who answer yes as often as all raters do, so it is near 0 if
    nearly all answers are equal, even if raters agree. AC1 is ``(a - e) / (1 - e)`` for the mean share ``a``
    of equal pairs of answers to a question and ``e = sum(p (1 - p)) / (q - 1)`` for the mean share ``p`` of
    each of q answers. ``e`` is small where nearly all answers are equal. q is the number of different answers
    in all votes, at least 2. Questions that only one rater answered are left out of ``p``, too.

    The interval of AC1 is a jackknife interval over images, as in `manyhot.core.agreement.measure_answers`.

    References
    ----------
    Gwet 2008, Computing inter-rater reliability and its variance in the presence of high agreement, doi
    10.1348/000711006X126600. Fleiss 1971, doi 10.1037/h0031619.
    """
    counts = answers.counts()
    total = counts.sum(1)
    several = total > 1
    q = max(2, int(np.count_nonzero(counts[several].sum(0))))
    of, counts, total = class_id[several], counts[several], total[several]
    same, pairs = (counts * (counts - 1)).sum(1), total * (total - 1)
    features: Floats = np.column_stack(
        [np.ones(len(of)), same, pairs, same / pairs, counts, counts / total[:, None]]
    ).astype(np.float64)
    sums = np.stack([np.bincount(of, column, n_classes) for column in features.T], 1, dtype=np.float64)
    pairwise, kappa, ac1 = _measures(sums, q)
    n = sums[:, 0].astype(np.int64)
    half = _half_width(_measures(sums[of] - features, q)[2], of, n)
    with np.errstate(invalid="ignore"):
        yes = sums[:, 4 + N_ANSWERS + YES] / sums[:, 0]
    skipped = np.bincount(class_id[answers.counts().sum(1) == 1], minlength=n_classes)
    return ClassAgreement(n, skipped, yes, pairwise, kappa, ac1, ac1 - half, np.minimum(ac1 + half, 1))


def _measures(sums: Floats, q: int) -> tuple[Floats, Floats, Floats]:
    """Return raw agreement, kappa and AC1 from sums of features, shape (m, 10)."""
    n, same, pairs, shares = sums[:, :4].T
    counts, mean = sums[:, 4 : 4 + N_ANSWERS], sums[:, 4 + N_ANSWERS :]
    with np.errstate(invalid="ignore", divide="ignore"):
        observed, p = shares / n, mean / n[:, None]
        by_chance = ((counts / counts.sum(1, keepdims=True)) ** 2).sum(1)
        # Only rounding distinguishes a share of 1 from 1, so kappa would be arbitrary.
        kappa = np.where(
            np.count_nonzero(counts, axis=1) < 2, np.nan, (observed - by_chance) / (1 - by_chance)
        )
        expected = (p * (1 - p)).sum(1) / (q - 1)
        return same / pairs, kappa, (observed - expected) / (1 - expected)


def _half_width(without: Floats, of: Ints, n: Ints64) -> Floats:
    """Return half the width of each class's jackknife interval, from the values without each question."""
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(of, without, len(n)) / n
        squares = np.bincount(of, (without - mean[of]) ** 2, len(n))
        error = np.sqrt((n - 1) / n * squares)
        half = stdtrit(np.maximum(n - 1, 1), (1 + LEVEL) / 2) * error
    return np.where((n >= FEWEST_IMAGES) & (error > 0), half, np.nan)
