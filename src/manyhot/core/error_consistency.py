"""Error consistency: how much more often than by chance two models fail on the same images.

Two models of accuracy a and b agree on an image if both are right on it or both are wrong. If their errors
were independent, they would agree on a share of c_exp = a b + (1 - a)(1 - b) of the images. Error consistency
is Cohen's kappa of being right, (c_obs - c_exp) / (1 - c_exp): 1 if they fail on the same images, 0 if their
errors are independent, and below 0 if one tends to be right where the other fails.

Majority votes of three models show which two others help the best model, judged on images of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from manyhot.core.array_types import Bools, Floats, Ints, Positions
from manyhot.core.resampling import QUANTILE, percentile_interval, student_interval
from manyhot.core.sets import NO_LABEL

FEWEST_OF_EACH = 30
"""Images on which each of two models must be right, and on which it must be wrong, for an interval."""

FEWEST_APART = 10
"""Images on which exactly one of the two models must be right, for an interval."""

_BLOCK = 1024
"""Pairs of models whose tables are resampled together: 16 MB with 1,000 resamples."""


@dataclass(frozen=True, eq=False)
class ErrorConsistency:
    """Error consistency of every pair of M models on the same n images.

    Parameters
    ----------
    right : ndarray of bool, shape (n, M)
        Whether each model is right on each image.

    References
    ----------
    Geirhos, Meding & Wichmann 2020, Beyond accuracy: quantifying trial-by-trial behaviour of CNNs and humans
    by measuring error consistency, equations 1 to 3, https://arxiv.org/abs/2006.16736. Intervals: Klein et
    al. 2025, Quantifying uncertainty in error consistency, https://arxiv.org/abs/2507.06645.
    """

    right: Bools

    @property
    def n(self) -> int:
        """The number of images."""
        return len(self.right)

    @cached_property
    def n_right(self) -> Ints:
        """The number of images on which each model is right, shape (M,)."""
        return np.diag(self.n_both_right)

    @cached_property
    def n_both_right(self) -> Ints:
        """The number of images on which two models are both right, shape (M, M)."""
        # Sums of ones in float32 are exact up to 2**24, so that more images are added in parts.
        total = np.zeros((self.right.shape[1],) * 2, np.int64)
        for start in range(0, self.n, 1 << 22):
            part = self.right[start : start + (1 << 22)].astype(np.float32)
            total += (part.T @ part).astype(np.int64)
        return total

    @cached_property
    def pairs(self) -> tuple[Positions, Positions]:
        """The first and the second model of each of P pairs, each of shape (P,)."""
        return np.triu_indices(self.right.shape[1], 1)

    @cached_property
    def counts(self) -> Ints:
        """Number of images that both, only the first, only the second or neither gets right, (P, 4)."""
        first, second = self.pairs
        both = self.n_both_right[first, second]
        alone, other = self.n_right[first] - both, self.n_right[second] - both
        return np.stack([both, alone, other, self.n - both - alone - other], axis=1)

    @cached_property
    def kappa(self) -> Floats:
        """Error consistency of each pair, shape (P,); NaN if both are always right or both always wrong."""
        return kappa_of(self.counts)

    def intervals(self, resamples: int, seed: int) -> tuple[Floats, Floats]:
        """Return the ends of the 95 % bootstrap interval of each pair over images, each of shape (P,).

        The ends are NaN if one of the models is right or wrong on fewer than `FEWEST_OF_EACH` images, or if
        the two models differ on fewer than `FEWEST_APART` images.

        Notes
        -----
        If n images are drawn with replacement, the four counts of a pair are multinomial, and they determine
        kappa. It is therefore sufficient to draw the counts. This is equivalent to the bootstrap over images,
        but needs no pass over the images.
        """
        lo, hi = np.full((2, len(self.counts)), np.nan)
        enough = np.flatnonzero(self._has_enough() & (resamples > 0))
        rng = np.random.default_rng([seed, self.n])
        for start in range(0, len(enough), _BLOCK):
            part = enough[start : start + _BLOCK]
            counts = self.counts[part][:, None]
            drawn = rng.multinomial(self.n, counts / self.n, (len(part), resamples))
            lo[part], hi[part] = percentile_interval(kappa_of(drawn))
        return lo, hi

    def _has_enough(self) -> Bools:
        """Return which pairs have images enough of each kind for an interval, shape (P,)."""
        first, second = self.pairs
        apart = self.counts[:, 1] + self.counts[:, 2] >= FEWEST_APART
        return self._is_often_both[first] & self._is_often_both[second] & apart

    @cached_property
    def defined(self) -> Bools:
        """Which pairs have a kappa, shape (P,)."""
        return ~np.isnan(self.kappa)

    @cached_property
    def mean(self) -> float:
        """The mean of kappa over the pairs with a kappa; NaN if there are none."""
        return float(self.kappa[self.defined].mean()) if self.defined.any() else float("nan")

    @property
    def mean_interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean; NaN if a model is right, or wrong, on too few images."""
        return self._around(self.mean, self.influence)

    def difference_from(self, other: ErrorConsistency) -> tuple[float, float, float]:
        """Return this mean minus the mean of `other`, for the same images, with its 95 % interval.

        The ends are also NaN if there are fewer than `FEWEST_OF_EACH` images on which this object and `other`
        judge a model differently.
        """
        value = self.mean - other.mean
        n_changed = np.count_nonzero((self.right != other.right).any(axis=1))
        lo, hi = self._around(value, self.influence - other.influence)
        return (value, lo, hi) if n_changed >= FEWEST_OF_EACH else (value, float("nan"), float("nan"))

    def _around(self, value: float, influence: Floats) -> tuple[float, float]:
        """Return the ends of a normal interval from the influence of each image."""
        if not self._is_often_both.all():
            return float("nan"), float("nan")
        half = QUANTILE * float(np.sqrt((influence**2).sum())) / self.n
        return value - half, value + half

    @cached_property
    def _is_often_both(self) -> Bools:
        """Which models are right on at least `FEWEST_OF_EACH` images and wrong on as many, shape (M,)."""
        return np.minimum(self.n_right, self.n - self.n_right) >= FEWEST_OF_EACH

    @cached_property
    def influence(self) -> Floats:
        """The first-order influence of each image on the mean, shape (n,). The values add up to 0.

        The standard error of the mean over images is the square root of the sum of the squared values,
        divided by n.
        """
        share = self.n_right / self.n
        first, second = (models[self.defined] for models in self.pairs)
        a, b, both = share[first], share[second], self.n_both_right[first, second] / self.n
        apart, by_chance = a + b - 2 * both, a + b - 2 * a * b
        # kappa is 1 - apart / by_chance. Its derivative is linear in x y, x and y: whether both models, the
        # first, and the second are right.
        joint = 2 / by_chance
        slopes = [-1 / by_chance + apart * (1 - 2 * other) / by_chance**2 for other in (b, a)]
        m = self.right.shape[1]
        square = np.zeros((m, m))
        square[first, second] = joint
        linear = np.bincount(first, slopes[0], m) + np.bincount(second, slopes[1], m)
        x = self.right.astype(np.float64)
        moved = np.einsum("nm,nm->n", x @ square, x) + x @ linear
        return np.asarray((moved - moved.mean()) / max(len(first), 1))


def kappa_of(counts: Ints) -> Floats:
    """Return error consistency from the last axis of `counts`, as in `ErrorConsistency.counts`.

    Parameters
    ----------
    counts : ndarray of int, shape (..., 4)
        Number of images that both models, only the first, only the second or neither gets right.
    """
    both, alone, other, _ = np.moveaxis(counts, -1, 0).astype(np.float64)
    n = counts.sum(axis=-1)
    first, second = both + alone, both + other
    by_chance = (first + second) * n - 2 * first * second
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa = 1 - (alone + other) * n / by_chance
    return np.asarray(np.where(by_chance > 0, kappa, np.nan))


def map_of_models(kappa: Floats, n_models: int) -> Floats:
    """Return a point for each model, shape (M, 2). Models that fail on the same images are close together.

    The points are computed by classical multidimensional scaling of the distance sqrt(1 - kappa). Pairs
    without a kappa get the mean of the other pairs. The signs of the axes are chosen so that the first
    model's coordinates are not negative.

    Parameters
    ----------
    kappa : ndarray of float, shape (P,)
        Error consistency of the pairs, in the order of `ErrorConsistency.pairs`.
    n_models : int
        The number of models M.

    References
    ----------
    Torgerson 1952, Multidimensional scaling: I. Theory and method, https://doi.org/10.1007/BF02288916
    """
    apart = np.zeros((n_models, n_models))
    filled = np.where(np.isnan(kappa), np.nanmean(kappa) if not np.isnan(kappa).all() else 0.0, kappa)
    apart[np.triu_indices(n_models, 1)] = 1 - filled
    squared = apart + apart.T
    centre = np.eye(n_models) - 1 / n_models
    values, vectors = np.linalg.eigh(-centre @ squared @ centre / 2)
    best = np.argsort(-values)[:2]
    points = vectors[:, best] * np.sqrt(np.maximum(values[best], 0))
    points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    return np.asarray(points * np.where(points[0] < 0, -1, 1))


MOST_VOTES = 10
"""Votes that are returned: those that were best on the images they were chosen on."""

FEWEST_TO_CHOOSE = 100
"""Minimum number of images for choosing votes on one half and judging them on the other."""


@dataclass(frozen=True)
class MajorityVote:
    """The majority vote of the best model and two other models.

    Attributes
    ----------
    models : (int, int, int)
        The best model, and the two others. If no two of them agree, the vote is the class predicted by the
        best model.
    kappa : float
        Mean error consistency of the three models, on the images on which they were chosen.
    chosen_gain : float
        Value of the vote minus the value of the best model on the same images. This gain is biased upwards,
        because the vote was chosen for it.
    gain : float
        The same on the other images.
    interval : (float, float)
        Its 95 % interval over images.
    n : int
        Number of these other images.
    """

    models: tuple[int, int, int]
    kappa: float
    chosen_gain: float
    gain: float
    interval: tuple[float, float]
    n: int


def best_votes(top: Ints, right: Bools, seed: int) -> list[MajorityVote]:
    """Return the votes of the best model and two other models with the largest gain, best first.

    A random half of the images determines the best model and the votes that are returned. The gain is
    measured on the other half. Only votes with a gain on the first half are returned.

    Parameters
    ----------
    top : ndarray of int, shape (n, M)
        The top class of each of M models.
    right : ndarray of bool, shape (n, M)
        Whether it is right.
    seed : int
        Seed for the halves.
    """
    n, m = top.shape
    if n < FEWEST_TO_CHOOSE or m < 3:
        return []
    is_first = np.random.default_rng([seed, n]).permutation(n) < n // 2
    best = int(right[is_first].mean(axis=0).argmax())
    others = [i for i in range(m) if i != best]
    gains = _gains(top[is_first], right[is_first], best, others)
    a, b = np.triu_indices(len(others), 1)
    order = np.argsort(-gains, kind="stable")[:MOST_VOTES]
    return [
        _judged(top, right, is_first, (best, others[a[i]], others[b[i]]), float(gains[i]))
        for i in order
        if gains[i] > 0
    ]


def _gains(top: Ints, right: Bools, best: int, others: list[int]) -> Floats:
    """Return by how much the vote with every two others is better than the best model."""
    classes, hits = np.ascontiguousarray(top[:, others].T), np.ascontiguousarray(right[:, others].T)
    # Only where another model is right and the best one wrong, or the reverse, can a vote change the count.
    change = (hits.astype(np.int8) - right[:, best]) * _outvotes(classes, top[:, best])
    gains = []
    for i in range(len(others) - 1):
        agree = classes[i + 1 :] == classes[i]
        gains.append((agree @ change[i].astype(np.float32)) / len(top))
    return np.concatenate(gains)


def _judged(
    top: Ints, right: Bools, is_first: Bools, models: tuple[int, int, int], chosen_gain: float
) -> MajorityVote:
    best, a, b = models
    outvoted = (top[:, a] == top[:, b]) & _outvotes(top[:, a], top[:, best])
    change = np.where(outvoted, right[:, a].astype(np.float64) - right[:, best], 0.0)[~is_first]
    kappa = ErrorConsistency(right[is_first][:, list(models)]).mean
    gain, *interval = student_interval(change)
    return MajorityVote(models, kappa, chosen_gain, gain, (interval[0], interval[1]), len(change))


def _outvotes(classes: Ints, best: Ints) -> Bools:
    """Return where a class is another than that of the best model, and no empty place."""
    return np.asarray((classes != best) & (classes != NO_LABEL))
