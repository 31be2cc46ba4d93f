r"""Metrics against distributions of labels: predicted probabilities against shares of votes.

The truth of an image is the probability ``p`` of each class, not a set. If raters chose one class of C
(`LabelSets.exclusive`), it is one distribution over the classes, the shares of their votes, and a class that
is not listed has a share of 0. Otherwise, as after an aggregation of yes and no, each class that raters were
asked about is a distribution of its own over *yes* and *no*. The metrics then are means over these (image,
class) pairs, and a class that no rater was asked about does not count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import entr

from manyhot.core.array_types import Bools, Floats, Ints
from manyhot.core.estimates import Estimate, Pooled, Ratio, Weights, mean_over, undefined
from manyhot.core.reliability import BINS, NOT_RESAMPLED, Bins, check_bins
from manyhot.core.sets import Case
from manyhot.core.softmax import check_sums
from manyhot.registry import register


@dataclass(frozen=True)
class _Truth:
    """The (image, class) pairs with a probability, of the images that count.

    Attributes
    ----------
    image, classes : ndarray of int, shape (m,)
    p : ndarray of float64, shape (m,)
        The probability, or the share of the votes. Those of an image add up to 1 if classes are exclusive.
    scored : ndarray of bool, shape (n,)
        Whether an image counts, and any of its classes has a probability.
    """

    image: Ints
    classes: Ints
    p: Floats
    scored: Bools
    exclusive: bool

    @classmethod
    def of(cls, case: Case) -> _Truth | None:
        """Return the label probabilities of a case; None if its labels or its model have no probabilities."""
        labels = case.labels
        if labels.p is None or not case.has_probabilities:
            return None
        n = len(labels)
        p = labels.p.astype(np.float64)
        there = ~np.isnan(p)
        total = np.bincount(labels.rows[there], p[there], minlength=n)
        scored = labels.counted & (np.bincount(labels.rows[there], minlength=n) > 0)
        if labels.exclusive:
            scored &= (total > 0) & (np.bincount(labels.rows[~there], minlength=n) == 0)
            p = p / np.where(total > 0, total, 1)[labels.rows]  # stored shares are rounded
        at = np.flatnonzero(there & scored[labels.rows])
        return cls(labels.rows[at], labels.classes[at], p[at], scored, labels.exclusive)

    def sums(self, values: Floats) -> Floats:
        """Return the sum over the (image, class) pairs of each image, shape (n,)."""
        return np.bincount(self.image, values, minlength=len(self.scored)).astype(np.float64)

    def mean(self, per_pair: Floats, per_image: Floats | float = 0.0) -> Ratio:
        """Return the mean over images or, if classes are not exclusive, over (image, class) pairs."""
        values = np.where(self.scored, self.sums(per_pair) + per_image, 0.0)
        if self.exclusive:
            return mean_over(values, self.scored)
        return Ratio(values, self.sums(np.ones(len(self.image))), self.scored)


@register(
    "metric",
    "cross_entropy_votes",
    better="lower",
    label="Cross-entropy (votes)",
    needs="probabilities",
    votes=True,
    unit="nats",
)
def cross_entropy_votes(case: Case) -> Estimate:
    """Cross-entropy of predicted probabilities against shares of votes, in nats.

    Raises
    ------
    InputError
        If raters chose one class per image and the probabilities of an image do not add up to 1, or if a
        logit of a class with votes is minus infinity.

    References
    ----------
    Peterson et al. 2019, Human uncertainty makes classification more robust, doi 10.1109/ICCV.2019.00971.

    Notes
    -----
    The value is the expected negative log-likelihood of a randomly drawn vote. Predicted probabilities of 0
    are treated as in `nll`.
    """
    truth = _Truth.of(case)
    return undefined(len(case.labels)) if truth is None else truth.mean(_cross_entropy(case, truth))


@register(
    "metric", "kl_votes", better="lower", label="KL (votes)", needs="probabilities", votes=True, unit="nats"
)
def kl_votes(case: Case) -> Estimate:
    """Kullback-Leibler divergence of predicted probabilities from shares of votes, in nats.

    Raises
    ------
    InputError
        As in `cross_entropy_votes`.

    References
    ----------
    Kullback and Leibler 1951, doi 10.1214/aoms/1177729694.

    Notes
    -----
    The value is `cross_entropy_votes` minus the entropy of the votes. This entropy does not depend on the
    model.
    """
    truth = _Truth.of(case)
    if truth is None:
        return undefined(len(case.labels))
    return truth.mean(_cross_entropy(case, truth) - _entropy(truth.p, truth.exclusive))


@register(
    "metric", "brier_votes", better="lower", label="Brier (votes)", needs="probabilities", votes=True, unit=""
)
def brier_votes(case: Case) -> Estimate:
    """Brier score of predicted probabilities against votes: the expected score for a randomly drawn vote.

    Raises
    ------
    InputError
        If raters chose one class per image and the probabilities of an image do not add up to 1.

    References
    ----------
    Brier 1950, doi 10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2, equation 2.

    Notes
    -----
    With exclusive classes, the score of a vote is the sum over the classes of the squared difference between
    probability and vote (1 or 0), from 0 to 2. Otherwise, the score of a vote is the squared difference for
    the class that the vote is about. If raters disagree, even a model that predicts the shares exactly has a
    score above 0.
    """
    truth = _Truth.of(case)
    if truth is None:
        return undefined(len(case.labels))
    predicted = case.probability_of(truth.image, truth.classes)
    if not truth.exclusive:
        return truth.mean((predicted - truth.p) ** 2 + truth.p * (1 - truth.p))
    squares = _row_sums(case, lambda p: np.einsum("ij,ij->i", p, p))
    return truth.mean(-2 * predicted * truth.p, squares + 1)


@register(
    "metric", "tv_votes", better="lower", label="Total variation (votes)", needs="probabilities", votes=True
)
def tv_votes(case: Case) -> Estimate:
    """Total variation distance between predicted probabilities and shares of votes.

    Raises
    ------
    InputError
        As in `brier_votes`.

    References
    ----------
    Baan et al. 2022, Stop Measuring Calibration When Humans Disagree, arXiv 2210.16133: the mean of DistCE.
    """
    truth = _Truth.of(case)
    if truth is None:
        return undefined(len(case.labels))
    predicted = case.probability_of(truth.image, truth.classes)
    if not truth.exclusive:
        return truth.mean(np.abs(predicted - truth.p))
    # What the model gives to classes without votes is its sum without the listed classes.
    total = _row_sums(case, lambda p: p.sum(axis=1))
    return truth.mean((np.abs(predicted - truth.p) - predicted) / 2, total / 2)


@register(
    "metric",
    "entropy_correlation",
    better="higher",
    label="Correlation of entropies",
    needs="probabilities",
    votes=True,
    unit="",
    interval="correlation",
)
def entropy_correlation(case: Case) -> Estimate:
    """Pearson correlation, over images, between the entropy of the prediction and the entropy of the votes.

    The value is undefined (NaN) if either entropy is the same for all images.

    Raises
    ------
    InputError
        As in `brier_votes`.

    References
    ----------
    Baan et al. 2022, arXiv 2210.16133, section 4, compare the two entropies of each image.
    ``scipy.stats.pearsonr``.

    Notes
    -----
    If classes are not exclusive, the entropy of an image is the mean over the classes that raters were asked
    about.
    """
    truth = _Truth.of(case)
    if truth is None:
        return undefined(len(case.labels))
    votes = truth.sums(_entropy(truth.p, truth.exclusive))
    if truth.exclusive:
        predicted = _row_sums(case, lambda p: entr(p).sum(axis=1))
    else:
        n = np.maximum(truth.sums(np.ones(len(truth.image))), 1)
        own = np.clip(case.probability_of(truth.image, truth.classes), 0, 1)
        votes, predicted = votes / n, truth.sums(_entropy(own, False)) / n
    return _correlation(votes, predicted, truth.scored)


@register("metric", "ece_votes", better="lower", label="ECE (votes)", needs="confidence", votes=True)
def ece_votes(case: Case, *, bins: int = BINS) -> Estimate:
    """Expected calibration error against votes: confidence compared to the share of votes for the top class.

    Images on which raters were not asked about the top class are skipped.

    References
    ----------
    Guo et al. 2017, arXiv 1706.04599, equation 3, with the share of votes instead of correctness.
    """
    check_bins(bins)
    if case.labels.p is None or case.confidence is None:
        return undefined(len(case.labels))
    share = top_shares(case)
    scored = ~np.isnan(share)
    at = np.minimum((case.confidence * bins).astype(np.intp), bins - 1)
    confidence, share = case.confidence, np.where(scored, share, 0.0)

    def value(weights: Weights | None = None) -> float:
        w = scored.astype(np.float64) if weights is None else np.asarray(weights, np.float64) * scored
        if not w.any():
            return float("nan")
        return Bins.of(at, bins, w, w * confidence, w * share).mean_gap()

    return Pooled(value, scored, biased=NOT_RESAMPLED)


def top_shares(case: Case) -> Floats:
    """Return the share of votes for the top class of each image, shape (n,); NaN where it does not count."""
    labels, top = case.labels, case.top[:, 0]
    share = labels.p_of(top).astype(np.float64)
    share[np.isnan(share) & labels.voted] = 0.0  # a class that is not listed has no votes
    return np.where(labels.counted & (top >= 0), share, np.nan)


def voted_pairs(case: Case) -> tuple[Ints, Ints, Floats]:
    """Return the image, the class and the share of each vote of exclusive classes; otherwise empty arrays."""
    truth = _Truth.of(case)
    at = np.flatnonzero(truth.p) if truth is not None and truth.exclusive else np.empty(0, np.intp)
    if truth is None:
        return at, at, np.empty(0)
    return truth.image[at], truth.classes[at], truth.p[at]


def _cross_entropy(case: Case, truth: _Truth) -> Floats:
    """Return the cross-entropy of each pair, in nats; those of an image without votes for a class are 0."""
    if truth.exclusive:
        loss, voted = np.zeros(len(truth.p)), np.flatnonzero(truth.p)
        log_p = case.log_probability_of(truth.image[voted], truth.classes[voted])
        loss[voted] = -truth.p[voted] * log_p
        return loss
    predicted = case.probability_of(truth.image, truth.classes)
    least = float(np.finfo(np.float32).tiny)
    yes, no = (np.log(np.maximum(p, least)) for p in (predicted, 1 - predicted))
    return np.asarray(-(truth.p * yes + (1 - truth.p) * no))


def _entropy(p: Floats, exclusive: bool) -> Floats:
    """Return what each pair adds to the entropy of its image, in nats."""
    return np.asarray(entr(p) if exclusive else entr(p) + entr(1 - p))


def _row_sums(case: Case, measure: Callable[[Floats], Floats]) -> Floats:
    """Return a function of the probabilities of each image, which must add up to 1; shape (n,)."""
    assert case.scores is not None  # for the type checker
    if case.kind != "logit":
        check_sums(case.scores, case.name)
    parts = [measure(block.astype(np.float64)) for _, block in case.probability_blocks()]
    return np.concatenate([np.empty(0), *parts])


def _correlation(x: Floats, y: Floats, scored: Bools) -> Pooled:
    """Return Pearson's correlation over the scored images, with what leaving out each image changes."""
    some = scored if scored.any() else np.ones(len(scored), bool)
    x, y = x - x[some].mean(), y - y[some].mean()  # so that sums of squares lose no digits
    terms = np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y])

    def weighted(weights: Weights | None) -> Floats:
        return scored.astype(np.float64) if weights is None else np.asarray(weights, np.float64) * scored

    def value(weights: Weights | None = None) -> float:
        return float(_pearson(terms @ weighted(weights)))

    def left_out(weights: Weights | None) -> Floats:
        w = weighted(weights)
        total = terms @ w
        return np.asarray(_pearson(total[:, None] - terms * w) - _pearson(total))

    return Pooled(value, scored, left_out)


def _pearson(sums: Floats) -> Floats:
    """Return the correlation from the sums of 1, x, y, x², y² and xy; NaN without variance."""
    n, x, y, xx, yy, xy = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        spread_x, spread_y = xx - x * x / n, yy - y * y / n
        flat = ~((spread_x > 1e-12 * xx) & (spread_y > 1e-12 * yy))
        return np.where(flat, np.nan, (xy - x * y / n) / np.sqrt(np.where(flat, 1, spread_x * spread_y)))
