"""How well a confidence score separates images of known classes from images of other classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, xlogy
from scipy.stats import rankdata

from manyhot.core.array_types import Floats
from manyhot.core.jackknife import FEWEST_POSITIVES, jackknife_interval
from manyhot.core.resampling import LEVEL
from manyhot.core.sets import Case
from manyhot.core.softmax import check_sums

OOD_SCORES = ("confidence", "entropy", "mutual_information", "energy")
"""The probability of the top class, minus the entropy, minus the mutual information of an average, and the
log of the summed exponentials of logits."""

TPR = 0.95
"""Share of in-distribution images that are accepted at the threshold of FPR95."""

_DRAWS = 4000


@dataclass(frozen=True)
class Separation:
    """A value and its 95 % interval, NaN if undefined."""

    value: float
    lo: float = float("nan")
    hi: float = float("nan")


def confidence_scores(case: Case, score: str) -> Floats:
    """Return a score that increases with the model's confidence in an image, shape (n,).

    Parameters
    ----------
    case : Case
        A case with confidences. ``mutual_information`` needs the uncertainty of an average. ``entropy`` needs
        either this uncertainty or probabilities of all classes that add up to 1. ``energy`` needs logits of
        all classes.
    score : str
        One of `OOD_SCORES`.

    Raises
    ------
    InputError
        If scores are not the logits or probabilities that they are declared to be.

    References
    ----------
    Hendrycks and Gimpel 2017, arXiv 1610.02136, for the confidence; Liu et al. 2020, arXiv 2010.03759, for
    the energy at a temperature of 1, with the opposite sign; Smith and Gal 2018, arXiv 1803.08533, for the
    mutual information.
    """
    if case.link == "sigmoid" and case.kind == "logit" and score != "energy":
        # Not `link_of`: it depends on labels, so the caller sets the link of in-distribution images on both.
        case = case.independent
    if score == "confidence":
        assert case.confidence is not None  # for the type checker
        return case.confidence
    if score == "energy":
        return case.log_total
    if case.uncertainty is not None:
        stored = {
            "entropy": case.uncertainty.entropy,
            "mutual_information": case.uncertainty.mutual_information,
        }
        return -stored[score].astype(np.float64)
    assert case.scores is not None  # for the type checker
    if case.kind == "probability":
        check_sums(case.scores, case.name)
    certainty = np.empty(len(case.labels))
    for start, block in case.probability_blocks():
        p = block.astype(np.float64)
        certainty[start : start + len(p)] = xlogy(p, p).sum(axis=1)
    return certainty


def auroc(inside: Floats, outside: Floats) -> Separation:
    """Return the probability that an in-distribution image scores above another image; ties count half.

    Parameters
    ----------
    inside, outside : ndarray of float64, shapes (m,) and (n,)
        Scores of in-distribution and of out-of-distribution images.

    Notes
    -----
    The interval is a jackknife interval over both kinds of images, on the logit scale. Its variance equals
    that of DeLong, DeLong and Clarke-Pearson 1988, doi 10.2307/2531595, up to terms of order 1 / n. The
    interval is NaN if there are fewer than 30 images of either kind, or if the scores separate the two kinds
    completely.
    """
    m, n = len(inside), len(outside)
    if not m or not n:
        return Separation(float("nan"))
    ranks = rankdata(np.concatenate([inside, outside]))
    # The share of the other kind that is below each in-distribution image, and above each other image.
    below = (ranks[:m] - rankdata(inside)) / n
    above = 1 - (ranks[m:] - rankdata(outside)) / m
    value = float(below.mean())
    if min(m, n) < FEWEST_POSITIVES:
        return Separation(value)
    changes = np.concatenate([(below - value) / (m - 1), (above - value) / (n - 1)])
    return Separation(value, *jackknife_interval(value, changes))


def fpr_at_tpr(inside: Floats, outside: Floats, rng: np.random.Generator) -> Separation:
    """Return the false positive rate at the threshold that accepts 95 % of the in-distribution images.

    An image is accepted if its score is at least the threshold. The threshold is the highest one that accepts
    at least 95 % of the in-distribution images. The false positive rate is the share of out-of-distribution
    images that are accepted.

    Parameters
    ----------
    inside, outside
        As in `auroc`.

    Notes
    -----
    The interval is computed from draws of both errors. The number of in-distribution images below the true
    threshold is binomial. The share of out-of-distribution images that are accepted at such a threshold is
    drawn from Jeffreys' posterior of a proportion, so that the width of the interval is not 0 if the share is
    0. The interval is NaN in the same cases as in `auroc`.
    """
    m, n = len(inside), len(outside)
    if not m or not n:
        return Separation(float("nan"))
    ascending, others = np.sort(inside), np.sort(outside)
    place = m - int(np.ceil(TPR * m - 1e-9))  # so many may be rejected
    accepted = n - np.searchsorted(others, ascending)
    value = float(accepted[place] / n)
    if min(m, n) < FEWEST_POSITIVES:
        return Separation(value)
    # The true threshold is between two scores: either is taken as often.
    rank = rng.binomial(m, 1 - TPR, _DRAWS) - rng.integers(0, 2, _DRAWS)
    k = accepted[np.clip(rank, 0, m - 1)]
    shares = betaincinv(k + 0.5, n - k + 0.5, rng.random(_DRAWS))
    lo, hi = np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Separation(value, min(float(lo), value), max(float(hi), value))
