"""Confidence against correctness: calibration in bins, and selective prediction by confidence.

Weights are numbers of images. All measures are computed over groups of equal confidence, so that a weight of
2 counts like two images, and the order of equal confidences has no effect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from manyhot.core.array_types import Bools, Floats, Floats32, Ints, Positions
from manyhot.core.estimates import Weights
from manyhot.core.sets import Case
from manyhot.parameters import check_count

BINS = 15
"""Default number of bins, as in Guo et al. 2017."""

NOT_RESAMPLED = "chance increases a calibration error, and each resample increases it further"
"""Why calibration errors have no interval. Corrections of this bias fail where the error is small: with 200
to 2,000 images of a calibrated model, intervals from ``2 * value - samples`` contain the error of infinitely
many images in 41 to 51 % of data sets (``docs/explanation/intervals.md``)."""


def check_bins(bins: int) -> None:
    """Raise an error if the number of bins is not an integer of at least 1."""
    check_count(bins, "This is not a number of bins.", got=f"bins={bins}", allowed="1 or more; 15 is usual")


def bin_of(p: Floats, bins: int) -> Positions:
    """Return the equal-width bin of each probability, with comparisons in float32 as in torchmetrics.

    In float64, a float32 value of 0.9 becomes 0.89999998, which is below the lower end of its bin.
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
        The weighted sums of confidence and of correctness.
    """

    weight: Floats
    confidence: Floats
    right: Floats

    @classmethod
    def of(cls, at: Positions, bins: int, *values: Floats) -> Bins:
        """Return the sums of weights, confidence and correctness in each bin."""
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

        If each of n images is right with probability a, the variance of the accuracy is a (1 - a) / n. Given
        the observed accuracy a, an unbiased estimate of this variance is a (1 - a) / (n - 1). For a bin with
        one image, there is no estimate, and nothing is subtracted.
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
    _binned: dict[int, tuple[Positions, Floats, Floats]] = field(default_factory=dict, repr=False)

    def in_bins(self, bins: int) -> Bins:
        """Return the bins of `equal_width` under equal weights."""
        if bins not in self._binned:
            at = bin_of(self.confidence, bins)
            weight = np.bincount(at, minlength=bins).astype(np.float64)
            confidence: Floats = np.bincount(at, self.confidence, bins).astype(np.float64)
            self._binned[bins] = (at, weight, confidence)
        at, weight, confidence = self._binned[bins]
        return Bins(weight, confidence, np.bincount(at[self.right], minlength=bins).astype(np.float64))

    def counted(self) -> Ranked:
        """Return the groups of `ranked` under equal weights, computed without ordering the images.

        Confidences between 0 and 1 in single precision need 30 bits. With one more bit for correctness, they
        can be sorted as integers, in a tenth of the time.
        """
        single = self.confidence.astype(np.float32)
        is_single = (single == self.confidence).all() and single.max(initial=0) <= 1
        if not (len(single) and is_single and single.min() >= 0):
            return self.ranked(np.ones(len(self.image)))
        keys = (single + np.float32(0)).view(np.uint32) << np.uint32(1) | self.right
        keys = np.sort(keys)[::-1]
        groups = keys >> np.uint32(1)
        start = np.flatnonzero(np.append(True, groups[1:] != groups[:-1]))
        weight = np.diff(np.append(start, len(keys))).astype(np.float64)
        right = np.add.reduceat((keys & np.uint32(1)).astype(np.float64), start)
        return Ranked(groups[start].view(np.float32).astype(np.float64), weight, right)

    def weigh(self, weights: Weights | None) -> Floats:
        """Return the weights of the m images, from weights of all n."""
        if weights is None:
            return np.ones(len(self.image))
        return np.asarray(weights, np.float64)[self.image]

    def among(self, n: int) -> Bools:
        """Return which of all n images these are."""
        inside = np.zeros(n, bool)
        inside[self.image] = True
        return inside

    def equal_width(self, w: Floats, bins: int) -> Bins:
        """Return bins of equal width, from k / B to (k + 1) / B. Only the last bin contains its upper end."""
        return Bins.of(bin_of(self.confidence, bins), bins, w, w * self.confidence, w * self.right)

    def equal_mass(self, w: Floats, bins: int) -> Bins:
        """Return bins of about equal weight. Equal confidences share the bin that has their middle rank."""
        groups = self.ranked(w)
        middle = np.cumsum(groups.weight) - groups.weight / 2
        at = np.minimum((bins * middle / groups.weight.sum()).astype(np.intp), bins - 1)
        return Bins.of(at, bins, groups.weight, groups.weight * groups.confidence, groups.right)

    def ranked(self, w: Floats) -> Ranked:
        """Return the groups of equal confidence with positive weight, sorted by descending confidence."""
        order, start, confidence = self._groups
        weight, right = (np.add.reduceat(v[order], start) for v in (w, w * self.right))
        there = weight > 0
        return Ranked(confidence[there], weight[there], right[there])

    def left_out(self, w: Floats, without: Callable[[Ranked], LeftOut]) -> Floats:
        """Return a measure without each of the m images, given weights of 0 and 1; NaN for a single image."""
        if w.sum() < 2:
            return np.full(len(w), np.nan)
        order, start, _ = self._groups
        values = np.full((2, len(start)), np.nan)
        values[:, np.add.reduceat(w[order], start) > 0] = without(self.ranked(w))
        group = np.empty(len(order), np.intp)
        group[order] = np.repeat(np.arange(len(start)), np.diff(np.append(start, len(order))))
        return np.asarray(np.where(self.right, values[0, group], values[1, group]))

    @cached_property
    def _groups(self) -> tuple[Positions, Positions, Floats]:
        """The images by descending confidence, and the start and the confidence of each group."""
        order = np.argsort(-self.confidence)  # the order of equal confidences does not matter
        ordered = self.confidence[order]
        start = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        return order, start, ordered[start]


LeftOut = tuple[Floats, Floats]
"""The value of a measure if a right image, or a wrong image, of each group is left out; each of shape
(G,)."""


@dataclass(frozen=True)
class Ranked:
    """Groups of images with equal confidence, by descending confidence. Each array has shape (G,).

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
        """The coverage at each group: the share of weight in it and in all groups of higher confidence."""
        return np.asarray(np.cumsum(self.weight) / self.weight.sum())

    @cached_property
    def risk(self) -> Floats:
        """The risk at each group: the error rate in it and in all groups of higher confidence."""
        return np.asarray(np.cumsum(self.weight - self.right) / np.cumsum(self.weight))

    @property
    def accuracy(self) -> float:
        """The accuracy over all images."""
        return float(self.right.sum() / self.weight.sum())

    def aurc(self) -> float:
        """Return AURC: the mean, over images, of the risk with the image's confidence as the threshold."""
        return float(np.sum(self.weight * self.risk) / self.weight.sum())

    def aurc_without(self) -> LeftOut:
        """Return AURC without one image of each group. Later groups then have fewer images ahead of them."""
        weight, errors = np.cumsum(self.weight), np.cumsum(self.weight - self.right)
        area = self.weight * self.risk
        ahead = np.cumsum(area) - area
        fewer = np.maximum(weight - 1, 1)

        def without(error: int) -> Floats:
            own = (self.weight - 1) * (errors - error) / fewer
            later = self.weight * (errors - error) / fewer
            return np.asarray((ahead + own + later.sum() - np.cumsum(later)) / (weight[-1] - 1))

        return without(0), without(1)

    def excess_aurc(self) -> float:
        """Return AURC minus the AURC of an ideal ranking, in which all errors have the lowest confidence."""
        return float(self.aurc() - _ideal_aurc(self.accuracy))

    def excess_aurc_without(self) -> LeftOut:
        """Return the excess AURC without one image of each group."""
        n, right = self.weight.sum(), self.right.sum()
        of_right, of_wrong = self.aurc_without()
        return of_right - _ideal_aurc((right - 1) / (n - 1)), of_wrong - _ideal_aurc(right / (n - 1))

    def accuracy_at(self, coverage: float) -> float:
        """Return the accuracy on the most confident images. A group at the boundary counts fractionally."""
        limit = coverage * self.weight.sum()
        before = np.cumsum(self.weight) - self.weight
        taken = np.clip(limit - before, 0, self.weight) / self.weight
        return float(np.sum(taken * self.right) / limit)

    def accuracy_at_without(self, coverage: float) -> LeftOut:
        """Return `accuracy_at` without one image of each group. The next image takes its place.

        Whether the next image is right says little about those that might have been next in other samples,
        although each change depends on it: the jackknife of a quantile is inconsistent. The share of right
        images around the boundary is used instead. As many images count on either side as the standard
        deviation of the number of images above the boundary, so that errors are as those of the bootstrap.
        """
        after, n = np.cumsum(self.weight), self.weight.sum()
        limit, before = coverage * n, after - self.weight
        reach = max(np.sqrt(limit * (1 - coverage)), 1.0)
        ends = np.clip([limit - reach, limit, limit + reach], 0, n)
        low, among, high = np.interp(ends, np.append(0, after), np.append(0, np.cumsum(self.right)))
        near = (high - low) / (ends[2] - ends[0])
        taken = np.clip(limit - before, 0, self.weight) / self.weight
        of_right, of_wrong = (
            (among - coverage * near + taken * (near - hit)) / (limit - coverage) for hit in (1, 0)
        )
        return of_right, of_wrong

    def auroc(self) -> float:
        """Return the probability that a correct prediction is more confident than a wrong one.

        Ties count as one half.
        """
        pairs = self.right.sum() * (self.weight - self.right).sum()
        return float(np.sum(self.right * self._below) / pairs) if pairs > 0 else float("nan")

    def auroc_without(self) -> LeftOut:
        """Return `auroc` without one image of each group; NaN if it is the only correct or wrong one."""
        wrong, right = self.weight - self.right, self.right.sum()
        above = np.cumsum(self.right) - self.right / 2
        ordered = np.sum(self.right * self._below)
        with np.errstate(invalid="ignore", divide="ignore"):
            of_right = (ordered - self._below) / ((right - 1) * wrong.sum())
            of_wrong = (ordered - above) / (right * (wrong.sum() - 1))
        return of_right, of_wrong

    @property
    def _below(self) -> Floats:
        """The weight of wrong predictions with less confidence than each group, half of those in it."""
        wrong = self.weight - self.right
        return np.asarray(wrong.sum() - np.cumsum(wrong) + wrong / 2)


def _ideal_aurc(accuracy: float) -> float:
    return float(1 - accuracy + (accuracy * np.log(accuracy) if accuracy > 0 else 0.0))


def against_label(case: Case) -> Outcomes | None:
    """Return confidences, and whether top classes are original labels; None if there are no probabilities."""
    return _outcomes(case, case.labels.labelled, case.is_label)


def against_set(case: Case) -> Outcomes | None:
    """Return confidences, and whether top classes are in label sets; None if there are no probabilities."""
    return _outcomes(case, case.labels.scored, case.hit)


def _outcomes(case: Case, scored: Bools, right: Bools) -> Outcomes | None:
    if case.confidence is None:
        return None
    image = np.flatnonzero(case.with_top(scored))
    return Outcomes(image, case.confidence[image], right[image, 0])
