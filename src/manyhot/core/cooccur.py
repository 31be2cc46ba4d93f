"""Which classes are valid together, how much more often than by chance, and whose recall hangs on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from manyhot.core.resampling import LEVEL, wilson_interval
from manyhot.core.sets import YES, LabelSets, pairs_within

Bounds = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""Values and both ends of their 95 % intervals, each of shape (p,)."""

_Z = float(ndtri((1 + LEVEL) / 2))


@dataclass(frozen=True)
class Pairs:
    """The pairs of classes that are valid together on some image.

    Attributes
    ----------
    a, b : ndarray of int64, shape (p,)
        The classes, ``a < b``; pairs ascend.
    both : ndarray of int64, shape (p,)
        Images on which both are valid.
    images : ndarray of int64, shape (C,)
        Images on which each class is valid.
    n : int
        Usable images with a label set that is not empty.
    """

    a: npt.NDArray[np.int64]
    b: npt.NDArray[np.int64]
    both: npt.NDArray[np.int64]
    images: npt.NDArray[np.int64]
    n: int

    @classmethod
    def of(cls, sets: LabelSets) -> Pairs:
        """Count the pairs of label sets."""
        yes = np.flatnonzero((sets.state == YES) & sets.usable[sets.rows])
        i, j = pairs_within(sets.rows[yes])
        one, other = sets.classes[yes[i]].astype(np.int64), sets.classes[yes[j]].astype(np.int64)
        key = np.minimum(one, other) * sets.n_classes + np.maximum(one, other)
        pair, both = np.unique(key, return_counts=True)
        images = np.bincount(sets.classes[yes], minlength=sets.n_classes)
        a, b = np.divmod(pair, sets.n_classes)
        return cls(a, b, both, images, int(np.count_nonzero(sets.scored)))

    def lift(self) -> Bounds:
        """Return how many times as often as by chance each pair is together: n n_ab / (n_a n_b).

        The interval is that of its logarithm by the delta method, of multinomial counts.
        """
        ab, a, b = (x.astype(float) for x in (self.both, self.images[self.a], self.images[self.b]))
        value = self.n * ab / (a * b)
        variance = 1 / ab - 1 / a - 1 / b - 1 / self.n + 2 * ab / (a * b)
        return _exp_interval(value, variance)

    def odds_ratio(self) -> Bounds:
        """Return the odds of one class where the other is, over those where it is not.

        Half an image is added to each of the four cells, so that none is empty; the interval is that of the
        logarithm (Gart 1966, Haldane 1956).
        """
        ab, a, b = self.both, self.images[self.a], self.images[self.b]
        cells = [x + 0.5 for x in (ab, a - ab, b - ab, self.n - a - b + ab)]
        value = cells[0] * cells[3] / (cells[1] * cells[2])
        return _exp_interval(value, sum((1 / x for x in cells), np.zeros(len(ab))))


def recall_with_and_without(
    sets: LabelSets,
    found: npt.NDArray[np.bool_],
    main: npt.NDArray[np.int64],
    companion: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return how often a class was found where a companion is valid beside it, and where not.

    Parameters
    ----------
    sets : LabelSets
    found : ndarray of bool, shape (m,)
        Whether the model found each class of each image; of entries that are not valid it does not matter.
    main, companion : ndarray of int64, shape (p,)
        Ordered pairs of classes.

    Returns
    -------
    hits, images : ndarray of int64, shape (2, p)
        With the companion in the first row, without it in the second.
    """
    yes = np.flatnonzero((sets.state == YES) & sets.usable[sets.rows])
    classes, hit = sets.classes[yes].astype(np.int64), found[yes]
    i, j = pairs_within(sets.rows[yes])
    i, j = np.concatenate([i, j]), np.concatenate([j, i])
    key, asked = classes[i] * sets.n_classes + classes[j], main * sets.n_classes + companion
    known, at = np.unique(asked, return_inverse=True)
    place = np.searchsorted(known, key)
    inside = np.flatnonzero(np.isin(key, known))
    with_images = np.bincount(place[inside], minlength=len(known))[at]
    with_hits = np.bincount(place[inside], hit[i[inside]], len(known)).astype(np.int64)[at]
    images = np.bincount(classes, minlength=sets.n_classes)[main]
    hits = np.bincount(classes, hit, sets.n_classes).astype(np.int64)[main]
    return np.stack([with_hits, hits - with_hits]), np.stack([with_images, images - with_images])


def difference_of_shares(hits: npt.NDArray[np.int64], images: npt.NDArray[np.int64]) -> Bounds:
    """Return the share in the first row less that in the second; NaN where a row has no image.

    The interval joins Wilson's of both shares (Newcombe 1998, Statistics in Medicine 17, 873-890, method 10).

    Parameters
    ----------
    hits, images : ndarray of int64, shape (2, p)
    """
    with np.errstate(invalid="ignore"):
        share = hits / images
    lo, hi = wilson_interval(hits, images)
    value = share[0] - share[1]
    below = np.hypot(share[0] - lo[0], hi[1] - share[1])
    above = np.hypot(hi[0] - share[0], share[1] - lo[1])
    return value, value - below, value + above


def _exp_interval(value: npt.NDArray[np.float64], variance: npt.NDArray[np.float64]) -> Bounds:
    apart = np.exp(_Z * np.sqrt(np.maximum(variance, 0)))
    return value, value / apart, value * apart
