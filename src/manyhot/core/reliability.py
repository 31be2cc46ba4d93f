"""Confidence against correctness: calibration in bins, and selective prediction by confidence.

Weights are numbers of images. All measures are computed over groups of equal confidence, so that a weight of
2 counts like two images, and the order of equal confidences has no effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from manyhot.core.array_types import Bools, Floats, Floats32, Ints
from manyhot.core.estimates import Weights
from manyhot.core.sets import Case

BINS = 15
"""Default number of bins, as in Guo et al. 2017."""


def bin_of(p: Floats, bins: int) -> npt.NDArray[np.intp]:
    """Return the bin of equal width of each probability, compared in float32 as in torchmetrics.

    A stored float32 of 0.9 is 0.89999998 in float64, which would be below the lower end of its bin.
    """
    return np.searchsorted(inner_edges(bins), p.astype(np.float32), side="right")


def inner_edges(bins: int) -> Floats32:
    """Return the edges between bins of equal width, shape (bins - 1,)."""
    return (np.arange(1, bins) / bins).astype(np.float32)


@dataclass(frozen=True)
class Bins:
    """Sums over the images of each bin, each of shape (B,).

    Attributes
    ----------
    weight : ndarray of float64
        The weight of the images.
    confidence, right : ndarray of float64
        The weighted sums of confidence and of being right.
    """

    weight: Floats
    confidence: Floats
    right: Floats

    @classmethod
    def of(cls, at: npt.NDArray[np.intp], bins: int, *values: Floats) -> Bins:
        """Return the sums of weight, confidence and right in each bin."""
        return cls(*(np.bincount(at, v, minlength=bins).astype(np.float64) for v in values))

    @property
    def gaps(self) -> Floats:
        """Mean confidence minus accuracy; 0 in empty bins."""
        return np.asarray((self.confidence - self.right) / np.where(self.weight > 0, self.weight, 1))

    @property
    def shares(self) -> Floats:
        """Each bin's share of the total weight."""
        return np.asarray(self.weight / self.weight.sum())

    def mean_gap(self) -> float:
        """Return the expected calibration error: the mean of the absolute gaps."""
        return float(np.sum(self.shares * np.abs(self.gaps)))

    def largest_gap(self) -> float:
        """Return the maximum calibration error."""
        return float(np.abs(self.gaps).max())

    def debiased_gap(self) -> float:
        """Return the root mean squared gap, corrected for sampling bias; at least 0.

        If n images are right with probability a, the accuracy has a variance of a (1 - a) / n. With a as the
        observed accuracy, a (1 - a) / (n - 1) is an unbiased estimate. For a bin with one image, there is no
        estimate, and nothing is subtracted.
        """
        accuracy = self.right / np.where(self.weight > 0, self.weight, 1)
        several = self.weight > 1
        chance = np.where(several, accuracy * (1 - accuracy) / np.where(several, self.weight - 1, 1), 0)
        return float(np.sqrt(max(0.0, np.sum(self.shares * (self.gaps**2 - chance)))))


@dataclass(frozen=True)
class Outcomes:
    """The confidence of a model on m images, and whether it is right.

    Parameters
    ----------
    image : ndarray of int, shape (m,)
        The positions of the images among all n.
    confidence : ndarray of float64, shape (m,)
        Confidence between 0 and 1.
    right : ndarray of bool, shape (m,)
    """

    image: Ints
    confidence: Floats
    right: Bools

    def weigh(self, weights: Weights | None) -> Floats:
        """Return the weights of the m images, from weights of all n."""
        if weights is None:
            return np.ones(len(self.image))
        own: Floats = np.asarray(weights, np.float64)[self.image]
        return own

    def equal_width(self, w: Floats, bins: int) -> Bins:
        """Return bins of equal width, from k / B to (k + 1) / B. Only the last bin contains its upper end."""
        return Bins.of(bin_of(self.confidence, bins), bins, w, w * self.confidence, w * self.right)

    def equal_mass(self, w: Floats, bins: int) -> Bins:
        """Return bins of about equal weight. Equal confidences are put in the bin of their middle rank."""
        groups = self.ranked(w)
        middle = np.cumsum(groups.weight) - groups.weight / 2
        at = np.minimum((bins * middle / groups.weight.sum()).astype(np.intp), bins - 1)
        return Bins.of(at, bins, groups.weight, groups.weight * groups.confidence, groups.right)

    def ranked(self, w: Floats) -> Ranked:
        """Return the groups of equal confidence with positive weight, by descending confidence."""
        order, start, confidence = self._groups
        weight, right = (np.add.reduceat(v[order], start) for v in (w, w * self.right))
        there = weight > 0
        return Ranked(confidence[there], weight[there], right[there])

    @cached_property
    def _groups(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats]:
        """The images by descending confidence, and the start and the confidence of each group."""
        order = np.argsort(-self.confidence, kind="stable")
        ordered = self.confidence[order]
        start = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        return order, start, ordered[start]


@dataclass(frozen=True)
class Ranked:
    """Groups of images of equal confidence, by descending confidence. Each array has shape (G,).

    Attributes
    ----------
    confidence, weight, right : ndarray of float64
        The confidence, the weight of the images, and the weight of the images whose prediction is right.
    """

    confidence: Floats
    weight: Floats
    right: Floats

    @cached_property
    def coverage(self) -> Floats:
        """The coverage at each group: the share of the weight in it and in groups of higher confidence."""
        return np.asarray(np.cumsum(self.weight) / self.weight.sum())

    @cached_property
    def risk(self) -> Floats:
        """The risk at each group: the error rate in it and in groups of higher confidence."""
        return np.asarray(np.cumsum(self.weight - self.right) / np.cumsum(self.weight))

    @property
    def accuracy(self) -> float:
        """The accuracy over all images."""
        return float(self.right.sum() / self.weight.sum())

    def aurc(self) -> float:
        """Return the mean, over images, of the risk with the image's confidence as the threshold."""
        return float(np.sum(self.weight * self.risk) / self.weight.sum())

    def excess_aurc(self) -> float:
        """Return AURC minus that of an ideal ranking, in which all errors have the lowest confidence."""
        a = self.accuracy
        return float(self.aurc() - (1 - a + (a * np.log(a) if a > 0 else 0.0)))

    def accuracy_at(self, coverage: float) -> float:
        """Return the accuracy on the most confident images. A group at the boundary counts partially."""
        limit = coverage * self.weight.sum()
        before = np.cumsum(self.weight) - self.weight
        taken = np.clip(limit - before, 0, self.weight) / self.weight
        return float(np.sum(taken * self.right) / limit)

    def auroc(self) -> float:
        """Return the probability that a right prediction is more confident than a wrong one.

        Ties count as one half.
        """
        wrong = self.weight - self.right
        below = wrong.sum() - np.cumsum(wrong)
        pairs = self.right.sum() * wrong.sum()
        return float(np.sum(self.right * (below + wrong / 2)) / pairs) if pairs > 0 else float("nan")


def against_label(case: Case) -> Outcomes | None:
    """Return the confidence and whether the top class is the original label; None without probabilities."""
    return _outcomes(case, case.labels.labelled, case.is_label)


def against_set(case: Case) -> Outcomes | None:
    """Return the confidence and whether the top class is in the label set; None without probabilities."""
    return _outcomes(case, case.labels.scored, case.hit)


def _outcomes(case: Case, scored: Bools, right: Bools) -> Outcomes | None:
    if case.confidence is None:
        return None
    image = np.flatnonzero(case.reaching(1, scored))
    return Outcomes(image, case.confidence[image], right[image, 0])
