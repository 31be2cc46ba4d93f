"""How sure against how right: calibration in bins, and what is gained by leaving out the least sure.

Weights count images. Everything is taken over groups of equal confidence, so that a weight counts like
repetition and nothing depends on the order of equals.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from manyhot.core.array_types import Bools, Floats, Ints
from manyhot.core.estimates import Weights
from manyhot.core.sets import Case

BINS = 15
"""As usual since Guo et al. 2017."""


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
        """Add up weight, confidence and right by the bin of each."""
        return cls(*(np.bincount(at, v, minlength=bins).astype(np.float64) for v in values))

    @property
    def gaps(self) -> Floats:
        """Mean confidence less the share right; 0 in empty bins."""
        return np.asarray((self.confidence - self.right) / np.where(self.weight > 0, self.weight, 1))

    @property
    def shares(self) -> Floats:
        """The share of the weight that each bin has."""
        return np.asarray(self.weight / self.weight.sum())

    def mean_gap(self) -> float:
        """Return the expected calibration error: the mean of the absolute gaps."""
        return float(np.sum(self.shares * np.abs(self.gaps)))

    def largest_gap(self) -> float:
        """Return the maximum calibration error."""
        return float(np.abs(self.gaps).max())

    def debiased_gap(self) -> float:
        """Return the root of the mean squared gap, less what chance alone adds to it; at least 0.

        Of n images that are right with probability a, the share right has a variance of a (1 - a) / n, which
        a (1 - a) / (n - 1) estimates without bias. A bin of one image tells no variance: nothing is taken
        off.
        """
        accuracy = self.right / np.where(self.weight > 0, self.weight, 1)
        several = self.weight > 1
        chance = np.where(several, accuracy * (1 - accuracy) / np.where(several, self.weight - 1, 1), 0)
        return float(np.sqrt(max(0.0, np.sum(self.shares * (self.gaps**2 - chance)))))


@dataclass(frozen=True)
class Outcomes:
    """How sure a model is of each of m images, and whether it is right.

    Parameters
    ----------
    image : ndarray of int, shape (m,)
        The images among all n.
    confidence : ndarray of float64, shape (m,)
        Within 0 and 1.
    right : ndarray of bool, shape (m,)
    """

    image: Ints
    confidence: Floats
    right: Bools

    def weigh(self, weights: Weights | None) -> Floats:
        """Return the weight of each of the m images, from weights of all n."""
        if weights is None:
            return np.ones(len(self.image))
        found: Floats = np.asarray(weights, np.float64)[self.image]
        return found

    def equal_width(self, w: Floats, bins: int) -> Bins:
        """Return bins of equal width: k / B up to (k + 1) / B, the upper end in the last bin only."""
        at = np.minimum((self.confidence * bins).astype(np.intp), bins - 1)
        return Bins.of(at, bins, w, w * self.confidence, w * self.right)

    def equal_mass(self, w: Floats, bins: int) -> Bins:
        """Return bins of equal weight, as nearly as images of equal confidence, which stay together, allow.

        A group of equals goes to the bin that its middle rank is in.
        """
        found = self.ranked(w)
        middle = np.cumsum(found.weight) - found.weight / 2
        at = np.minimum((bins * middle / found.weight.sum()).astype(np.intp), bins - 1)
        return Bins.of(at, bins, found.weight, found.weight * found.confidence, found.right)

    def ranked(self, w: Floats) -> Ranked:
        """Return the groups of equal confidence that weigh anything, the surest first."""
        order, start, confidence = self._groups
        weight, right = (np.add.reduceat(v[order], start) for v in (w, w * self.right))
        there = weight > 0
        return Ranked(confidence[there], weight[there], right[there])

    @cached_property
    def _groups(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats]:
        """The images, surest first; where each group of equals starts; and how sure it is."""
        order = np.argsort(-self.confidence, kind="stable")
        ordered = self.confidence[order]
        start = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        return order, start, ordered[start]


@dataclass(frozen=True)
class Ranked:
    """Groups of images of equal confidence, the surest first, each array of shape (G,).

    Attributes
    ----------
    confidence, weight, right : ndarray of float64
        How sure, the weight of the images, and of those that are right.
    """

    confidence: Floats
    weight: Floats
    right: Floats

    @cached_property
    def coverage(self) -> Floats:
        """The share of the weight down to each group."""
        return np.asarray(np.cumsum(self.weight) / self.weight.sum())

    @cached_property
    def risk(self) -> Floats:
        """The share of errors down to each group: the risk at its coverage."""
        return np.asarray(np.cumsum(self.weight - self.right) / np.cumsum(self.weight))

    @property
    def accuracy(self) -> float:
        """The share right of all."""
        return float(self.right.sum() / self.weight.sum())

    def aurc(self) -> float:
        """Return the mean risk, each image's confidence taken as the threshold in turn."""
        return float(np.sum(self.weight * self.risk) / self.weight.sum())

    def excess_aurc(self) -> float:
        """Return the AURC less that of the best order there is: every error less sure than all others."""
        a = self.accuracy
        return float(self.aurc() - (1 - a + (a * np.log(a) if a > 0 else 0.0)))

    def accuracy_at(self, coverage: float) -> float:
        """Return the share right among the surest images; of a group at the edge its share counts."""
        limit = coverage * self.weight.sum()
        before = np.cumsum(self.weight) - self.weight
        taken = np.clip(limit - before, 0, self.weight) / self.weight
        return float(np.sum(taken * self.right) / limit)

    def auroc(self) -> float:
        """Return the chance that what is right is surer than what is wrong, a tie being half; NaN without."""
        wrong = self.weight - self.right
        below = wrong.sum() - np.cumsum(wrong)
        pairs = self.right.sum() * wrong.sum()
        return float(np.sum(self.right * (below + wrong / 2)) / pairs) if pairs > 0 else float("nan")


def against_label(case: Case) -> Outcomes | None:
    """Return confidence and whether the best class is the original label; None without probabilities."""
    return _outcomes(case, case.labels.labelled, case.is_label)


def against_set(case: Case) -> Outcomes | None:
    """Return confidence and whether the best class is in the label set; None without probabilities."""
    return _outcomes(case, case.labels.scored, case.hit)


def _outcomes(case: Case, scored: Bools, right: Bools) -> Outcomes | None:
    if case.confidence is None:
        return None
    image = np.flatnonzero(case.reaching(1, scored))
    return Outcomes(image, case.confidence[image], right[image, 0])
