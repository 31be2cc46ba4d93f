"""Macro average precision from people's answers to a sample of the images.

A model's scores rank all N images, so the depth of an image in the ranking of a class is known. Only its
labels are unknown. Let p_i be the probability that image i has the class: a logistic regression on the scores
and on whether the proposed label set has the class, fitted to people's answers, with an intercept for each
class that is shrunk towards the common one. If people were asked about the class of image i, which had the
probability π_i, and answered l_i, the label of the image is ``m_i = p_i + (l_i - p_i) / π_i``, and otherwise
``m_i = p_i``. Sums of these labels are unbiased, however bad the regression is (model-assisted estimation,
Särndal, Swensson and Wretman 1992, Model Assisted Survey Sampling, chapter 6). With the depth D_i, the
average precision of a class is

    AP = T / P,    T = sum_i m_i (1 + sum_{j != i, s_j >= s_i} m_j) / D_i,    P = sum_i m_i.

An image counts as one positive at its own depth, not as m_i, and pairs of different images are nearly
independent, so T is unbiased, too. It would be biased if only the weights of audited images made up the
ranking, because an audited positive would then stand for 1 / π_i images in its own precision.

T and P are linear in each m_i, so the change due to leaving out an image is known exactly: m_i falls by
``d_i = (l_i - p_i) / π_i``, and AP changes by ``d_i (g_i - AP) / (P - d_i)`` with g_i = dT / dm_i. These
changes make up the variance. Influences, which have P as denominator, are too small if a class has few
audited positives (`manyhot.core.jackknife`).

If questions are drawn, most pairs of an image and a class are rarely asked about: a positive among them then
counts as 1 / chance images, and usually none is drawn. P is then too small, T / P too high, and its variance
too small. Answers about such pairs therefore count λ times: ``m_i = p_i + λ (l_i - p_i) / chance_i``. With
the number R of their positives that the regression expects, and the variance V of their sum by the design and
p,

    λ = (τ R)**2 / ((τ R)**2 + V),

which has the smallest mean squared error if the numbers of positives of classes have the deviation τ R (the
composite estimator of small areas, Fay and Herriot 1979, doi 10.1080/01621459.1979.10482505). What λ leaves
out has the standard error ``(1 - λ) τ R``, independently for each class. To second order, T / P is too high
by ``b = AP λ**2 V / P**2`` if classes are as the regression expects, and right if they deviate by τ R: half
of b is subtracted, and the sum of b over classes is another standard error. The regression weights answers by
1 / chance**0.5. With weights of 1, frequent questions would determine what it expects of rare ones; with
weights of 1 / chance, a few answers would determine everything. τ, the limit of rare pairs and this root were
chosen by simulation (``benchmarks/audited_macro.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from manyhot.core.array_types import AnyFloats, Bools, Floats, Ints
from manyhot.core.audit_samples import AuditSample
from manyhot.core.audited import LinearisedValues, check_rows

FEWEST_AUDITED_POSITIVES = 5
"""If a class has fewer audited positives, some of the images ranked first must have been audited."""

FIRST_IMAGES, FEWEST_FIRST, MOST_FIRST = 20, 3, 15
"""Images of a class with the highest scores, and how many of them must have been audited."""

_PREFERRED = 1.25
"""How much more often images ranked first must have been audited than all images. Uniform samples of 1,000 of
3,000 photographs of VOC contain some images ranked first for each class, but only 86 to 90 % of the intervals
contain the value."""

_PENALTY, _PENALTY_OF_SLOPES = 1.0, 0.1
"""Inverse variances of class intercepts and slopes in the regression."""

LEAST_EXPECTED = 0.05
"""If the regression expects at least this many images to have a class, the class counts even without
positives."""

_LEAST_TOTAL = 0.2
"""Share of the regression's positives below which people's answers say too little of a class."""

_LEAST_REST = 0.25
"""Minimum share of a class's positives that remains if an image is left out."""

RARE = 6.0
"""A question is rarely asked if its chance is below this multiple of the least chance."""

_DEVIATION = 1.75
"""Deviation τ of the number of positives of a class among rare pairs, divided by the expected number."""

_LEAST_P = 1e-6
"""Minimum share of positives with which the regression starts."""


def audited_average_precision(
    audited: Bools,
    proposed: Bools,
    scores: AnyFloats,
    sample: AuditSample,
    *,
    features: Sequence[AnyFloats | Bools] | None = None,
    asked: AnyFloats | None = None,
) -> LinearisedValues:
    """Return the contributions to one model's macro average precision, for λ = 1.

    Parameters
    ----------
    audited : ndarray of bool, shape (n, C)
        People's label sets of the audited images, in the order of ``sample.images``.
    proposed : ndarray of bool, shape (N, C)
        The proposed label sets of all images.
    scores : ndarray of float, shape (N, C)
        The model's scores of all images.
    features : sequence of ndarray of float, shape (N, C), optional
        Features of the regression, such as log odds of this and other models. By default, the scores and the
        proposed label sets. If there are no features, the regression estimates only how often each class is
        valid.
    asked : ndarray of float, shape (n, C), optional
        The probability that people are asked about each class of an audited image; 0 if they were not asked.
        By default, they were asked about all classes.

    Notes
    -----
    A class is included in the mean if it is valid on an audited image. It is also included if the regression
    expects it to be valid on at least `LEAST_EXPECTED` images, because it may be valid on images that were
    not audited.
    """
    check_rows(len(audited), len(proposed), sample)
    chances = sample.probability[:, None] * (np.ones(audited.shape) if asked is None else asked)
    weights = np.where(chances > 0, 1.0, 0.0)
    if asked is not None:  # with the mean 1 over the questions
        weights = np.divide(1, np.sqrt(chances), out=weights, where=chances > 0)
        weights *= np.count_nonzero(weights) / weights.sum()
    least = 0.0 if asked is None else chances.min(where=chances > 0, initial=1)
    features = (scores, proposed) if features is None else features
    rows, n_classes = sample.images, audited.shape[1]
    residual, f, values, alone = np.zeros(len(rows)), np.zeros(len(proposed)), [], []
    further = np.zeros(n_classes + 1)
    for c, p in enumerate(_fitted(audited, weights, features, sample)):
        ranking, answer, chance = Ranking.of(scores[:, c]), audited[:, c], chances[:, c]
        if proposed[:, c].any():
            alone.append(ranking.curve(proposed[:, c].astype(np.float64)).precision)
        if not answer.any() and (p.sum() < LEAST_EXPECTED or not (chance < 1).any()):
            continue
        found = _class_precision(ranking, p, answer, chance, sample, RARE * least)
        residual, f = residual + found.residual, f + found.influence
        further[c], further[-1] = found.error, further[-1] + found.excess
        values.append(found.value)
    scale = len(proposed) / max(len(values), 1)
    residual, f, further = scale * residual, scale * f, further / max(len(values), 1)
    value, of_proposals = (np.array([np.mean(v) if v else np.nan]) for v in (values, alone))
    mean = f.mean(keepdims=True)
    base = value - mean - sample.weights @ residual
    contributions = (f[rows] + residual)[:, None], f[rows][:, None]
    return LinearisedValues(*contributions, mean, base, of_proposals, further[:, None])


@dataclass(frozen=True)
class _ClassPrecision:
    """The average precision of a class, and what its error is made of.

    Attributes
    ----------
    residual : ndarray of float64, shape (n,)
        What leaving out each audited image changes, times the probability of the image.
    influence : ndarray of float64, shape (N,)
        By how much another image like each one would change it.
    error, excess : float
        As `_RarePairs.errors` returns them.
    """

    value: float
    residual: Floats
    influence: Floats
    error: float
    excess: float


def _class_precision(
    ranking: Ranking, p: Floats, answer: Bools, chance: Floats, sample: AuditSample, limit: float
) -> _ClassPrecision:
    """Return the average precision of a class; pairs with a chance below `limit` are rare."""
    rows, free = sample.images, 1 - sample.probability
    rare = _RarePairs.of(chance, p[rows], limit, p.sum())
    change = np.divide(answer - p[rows], chance, out=np.zeros(len(rows)), where=chance > 0)
    change *= np.where(rare.rows, rare.trust, 1)
    label = p.copy()
    label[rows] += change
    curve = ranking.curve(p if label.sum() < _LEAST_TOTAL * p.sum() else label)
    slope = curve.slope[rows] - curve.precision
    rest = np.maximum(curve.total - change, _LEAST_REST * curve.total)
    # The variance has the factor 1 - π for images, but 1 - π q if q is the probability of the question.
    more = np.sqrt(np.divide(1 - chance, free, out=np.ones(len(rows)), where=free > 0))
    residual = more * change * sample.probability * slope / rest
    error, excess = rare.errors(slope, max(curve.total, _LEAST_REST * p.sum()))
    return _ClassPrecision(curve.precision - excess / 2, residual, curve.influence(p), error, excess)


@dataclass(frozen=True)
class _RarePairs:
    """The questions about a class that are rarely asked.

    Attributes
    ----------
    rows : ndarray of bool, shape (n,)
    counts : ndarray of float64, shape (n,)
        Expected positives that each question stands for; 0 for others.
    trust : float
        λ.
    positives, variance : float
        R and V.
    """

    rows: Bools
    counts: Floats
    trust: float
    positives: float
    variance: float

    @classmethod
    def of(cls, chance: Floats, p: Floats, limit: float, total: float) -> _RarePairs:
        """Return the pairs asked about with a probability below `limit`; `total` positives are expected."""
        rows = (chance > 0) & (chance < limit)
        counts = np.divide(p, chance, out=np.zeros(len(p)), where=rows)
        positives = min(counts.sum(), total)
        variance = float((counts[rows] * (1 - p[rows]) * (1 / chance[rows] - 1)).sum())
        square = (_DEVIATION * positives) ** 2
        trust = square / (square + variance) if variance > 0 else 1.0
        return cls(rows, counts, trust, positives, variance)

    def errors(self, slope: Floats, total: float) -> tuple[float, float]:
        """Return the standard error and the expected bias of average precision, given λ.

        Parameters
        ----------
        slope : ndarray of float64, shape (n,)
            dT / dm - AP.
        total : float
            P.
        """
        change = float(self.counts @ slope) / max(self.counts.sum(), _LEAST_P) / total
        error = (1 - self.trust) * _DEVIATION * self.positives * change
        return error, -change * self.trust**2 * self.variance / total


def doubt_of_classes(audited: Bools, scores: AnyFloats, sample: AuditSample) -> str:
    """Return the reason why macro average precision has no interval; empty if it has one.

    A class with few audited positives may have further positives at any score, but only those with high
    scores would change its average precision. The audit must therefore include enough of the images with the
    highest scores, and a larger share of them than of other images.

    Parameters
    ----------
    audited, scores, sample
        As in `audited_average_precision`.
    """
    few = np.flatnonzero(audited.sum(axis=0) < FEWEST_AUDITED_POSITIVES)
    k = min(FIRST_IMAGES, len(scores))
    first = np.argpartition(-scores[:, few], k - 1, axis=0)[:k]
    n_first = np.isin(first, sample.images).sum(axis=0)
    plain = _PREFERRED * k * len(sample) / len(scores)
    least = math.ceil(min(max(FEWEST_FIRST, plain), MOST_FIRST, k))
    unseen = np.count_nonzero(n_first < least)
    if not unseen:
        return ""
    return (
        f"for {unseen:,} of {audited.shape[1]:,} classes, the sample contains fewer than "
        f"{FEWEST_AUDITED_POSITIVES} positives, and fewer than {least} of the {k} images with the highest "
        "scores"
    )


def _fitted(
    audited: Bools, weights: Floats, features: Sequence[AnyFloats | Bools], sample: AuditSample
) -> Iterator[Floats]:
    """Yield the probability that each image has a class, by class."""
    here = np.zeros((len(features), *audited.shape))
    for x, feature in zip(here, features, strict=True):
        x[:] = feature[sample.images]
    centre, spread = here.mean(axis=(1, 2)), here.std(axis=(1, 2))
    spread[spread == 0] = 1
    slopes, intercepts = _regression(audited, weights, ((here.T - centre) / spread).T)
    for c, intercept in enumerate(intercepts):
        odds = np.full(len(sample.design), intercept)
        for x, slope in zip(features, slopes / spread, strict=True):
            odds += slope * x[:, c]
        yield expit(odds - slopes @ (centre / spread))


def _regression(audited: Bools, weights: AnyFloats | Bools, features: Floats) -> tuple[Floats, Floats]:
    """Return the slopes of features, shape (K, n, C), and the intercept of each class.

    Answers have weights, shape (n, C), which are 0 where people were not asked.
    """
    from scipy.optimize import minimize

    (k, _, n_classes), flat = features.shape, features.reshape(len(features), audited.size)
    penalty = np.concatenate([[0.0], np.full(k, _PENALTY_OF_SLOPES), np.full(n_classes, _PENALTY)])

    def odds(b: Floats) -> Floats:
        return np.asarray(b[0] + b[k + 1 :] + (b[1 : k + 1] @ flat).reshape(audited.shape))

    def sums(cells: Floats) -> Floats:
        """Return the sums of the products of cells and the columns of the regression."""
        return np.concatenate([[cells.sum()], flat @ cells.ravel(), cells.sum(axis=0)])

    def loss(b: Floats) -> tuple[float, Floats]:
        eta = odds(b)
        value = (weights * (np.logaddexp(0, eta) - audited * eta)).sum() + penalty @ b**2 / 2
        return float(value), sums(weights * (expit(eta) - audited)) + penalty * b

    def curvature(b: Floats) -> Floats:
        p = expit(odds(b))
        w = weights * p * (1 - p)
        products = np.diag(sums(w) + penalty)
        products[0] = products[:, 0] = sums(w)
        for i, x in enumerate(features, 1):
            products[i] = products[:, i] = sums(w * x)
        return products + np.diag(penalty * (np.arange(len(b)) <= k))

    start = np.zeros(1 + k + n_classes)
    start[0] = logit(np.clip(np.average(audited, weights=weights), _LEAST_P, 1 - _LEAST_P))
    found = minimize(loss, start, jac=True, hess=curvature, method="trust-exact").x
    return found[1 : k + 1], found[0] + found[k + 1 :]


@dataclass(frozen=True)
class Ranking:
    """The N images in ascending order of one class's scores. Images with equal scores enter together."""

    order: Ints
    first: Ints
    last: Ints

    @classmethod
    def of(cls, scores: AnyFloats) -> Ranking:
        """Return the ranking by scores, shape (N,)."""
        order = np.argsort(scores)
        ascending = scores[order]
        return cls(order, *(np.searchsorted(ascending, ascending, side) for side in ("left", "right")))

    @property
    def depth(self) -> Ints:
        """The number of images ranked at or above each image, shape (N,)."""
        found = np.empty(len(self.order), np.intp)
        found[self.order] = len(self.order) - self.first
        return found

    def curve(self, label: Floats) -> _Curve:
        """Return the average precision for labels of the images; labels need not be 0 or 1."""
        m, depth = label[self.order], len(self.order) - self.first
        above = np.append(np.cumsum(m[::-1])[::-1], 0.0)[self.first] - m
        own = (1 + above) / depth
        gained = np.append(0.0, np.cumsum(m / depth))[self.last] - m / depth
        lost = np.append(0.0, np.cumsum(m * own / depth))[self.last]
        slope, cost = np.empty(len(m)), np.empty(len(m))
        slope[self.order], cost[self.order] = own + gained, lost
        return _Curve(float(m @ own / m.sum()), float(m.sum()), slope, cost)


@dataclass(frozen=True)
class _Curve:
    """Average precision of a class: T / P, P, dT / dm of each image, and what its place costs others."""

    precision: float
    total: float
    slope: Floats
    cost: Floats

    def influence(self, label: Floats) -> Floats:
        """Return, for each image, how much one more image like it would change the average precision."""
        return (label * (self.slope - self.precision) - self.cost) / self.total
