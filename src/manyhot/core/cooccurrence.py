"""Co-occurrence: which classes are valid together, compared with chance, and whose recall depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.special import gammainc, gammaincc, ndtr, pdtr

from manyhot.core.array_types import AnyFloats, Bools, Floats, Ints, Ints64, Positions
from manyhot.core.resampling import LEVEL, QUANTILE
from manyhot.core.sets import NO, UNCLEAR, YES, LabelSets

Bounds = tuple[Floats, Floats, Floats]
"""Values and both ends of their 95 % intervals, each of shape (p,)."""


@dataclass(frozen=True)
class ClassPairs:
    """The pairs of classes that are valid together on at least one image.

    Attributes
    ----------
    a, b : ndarray of int64, shape (p,)
        The classes, ``a < b``; pairs ascend.
    both : ndarray of int64, shape (p,)
        Number of images on which both classes are valid.
    images : ndarray of int64, shape (C,)
        Number of images on which each class is valid.
    n : int
        Number of usable images with a non-empty label set.
    """

    a: Ints64
    b: Ints64
    both: Ints64
    images: Ints64
    n: int

    @classmethod
    def of(cls, sets: LabelSets) -> ClassPairs:
        """Return the pairs in label sets."""
        yes = np.flatnonzero((sets.state == YES) & sets.usable[sets.rows])
        i, j = pairs_within(sets.rows[yes])
        one, other = sets.classes[yes[i]].astype(np.int64), sets.classes[yes[j]].astype(np.int64)
        key = pair_keys(one, other, sets.n_classes)
        pair, both = np.unique(key, return_counts=True)
        images = np.bincount(sets.classes[yes], minlength=sets.n_classes)
        a, b = np.divmod(pair, sets.n_classes)
        return cls(a, b, both, images, int(np.count_nonzero(sets.scored)))

    @cached_property
    def company(self) -> Bools:
        """Whether each pair is valid on at least n_a n_b / n images, the number expected by chance.

        Being valid together on a single image means little: with twenty classes, for example, this is true of
        nearly all pairs, even *dog* and *cat*.
        """
        return np.asarray(self.both * self.n >= self.images[self.a] * self.images[self.b])

    @cached_property
    def keys(self) -> Ints64:
        """The pairs as ``a * C + b``, ascending."""
        return self.a * len(self.images) + self.b

    def places(self, one: Ints, other: Ints) -> Ints64:
        """Return the position of each pair of classes, in any order; -1 if no image has both classes."""
        key = pair_keys(one, other, len(self.images))
        place = np.searchsorted(self.keys, key)
        there = np.append(self.keys, -1)[place] == key
        return np.where(there, place, -1)

    def lift(self) -> Bounds:
        """Return the lift of each pair: its frequency relative to chance, n n_ab / (n_a n_b).

        The interval is computed for the logarithm, by the delta method for multinomial counts.
        """
        ab, a, b = (x.astype(float) for x in (self.both, self.images[self.a], self.images[self.b]))
        value = self.n * ab / (a * b)
        variance = 1 / ab - 1 / a - 1 / b - 1 / max(self.n, 1) + 2 * ab / (a * b)
        return _exp_interval(value, variance)

    @cached_property
    def rare(self) -> Ints64:
        """The pairs that are valid together clearly less often than expected by chance, as ``a * C + b``.

        The number of images with both classes of such a pair is in the lower tail (2.5 %) of the Poisson
        distribution whose mean is the number expected by chance. Pairs that occur on no image are included if
        their expected number of images is large enough.
        """
        expected_least = -np.log((1 - LEVEL) / 2)  # with fewer, not even 0 images are clearly less
        often = np.flatnonzero(self.images * self.images.max(initial=0) >= expected_least * self.n)
        n_classes = len(self.images)
        both = csr_array((self.both, (self.a, self.b)), shape=(n_classes, n_classes))
        parts = [np.empty(0, np.int64)]
        for place, a in enumerate(often):
            b = often[place + 1 :]
            expected = self.images[a] * self.images[b] / max(self.n, 1)
            few = pdtr(both[[a]].toarray()[0, b], expected) <= (1 - LEVEL) / 2
            parts.append(a * n_classes + b[few])
        return np.concatenate(parts)

    def is_rare(self, one: Ints, other: Ints) -> Bools:
        """Return whether each pair of classes, in any order, is one of `rare`."""
        return np.isin(pair_keys(one, other, len(self.images)), self.rare)

    def odds_ratio(self) -> Bounds:
        """Return the odds ratio: the odds of one class with the other class, divided by the odds without it.

        Half an image is added to each of the four cells, so that no cell is empty. The interval is computed
        for the logarithm (Gart 1966, Haldane 1956).
        """
        ab, a, b = self.both, self.images[self.a], self.images[self.b]
        cells = [x + 0.5 for x in (ab, a - ab, b - ab, self.n - a - b + ab)]
        value = cells[0] * cells[3] / (cells[1] * cells[2])
        return _exp_interval(value, sum((1 / x for x in cells), np.zeros(len(ab))))


@dataclass(frozen=True)
class CompanionImages:
    """The images of a class on which a companion is also valid, and the images on which it is not.

    Attributes
    ----------
    main, companion : ndarray of int64, shape (p,)
        Ordered pairs of classes.
    rows, classes : ndarray of int64, shape (m,)
        The (image, class) pairs of usable images and their valid classes.
    companions, others : sparse matrix of float64, shape (n, C)
        The valid classes of each image, and its classes with the state no or, with `rest`, its unclear
        classes.
    rest : bool
        Whether an image counts as one without the companion whenever the companion is neither valid nor
        unclear, even if no rater was asked about it.
    """

    main: Ints64
    companion: Ints64
    rows: Ints64
    classes: Ints64
    companions: Any
    others: Any
    rest: bool

    @classmethod
    def of(
        cls, sets: LabelSets, main: Ints64, companion: Ints64, *, labelled: bool = False, rest: bool = False
    ) -> CompanionImages:
        """Look up the images of ordered pairs of classes.

        Parameters
        ----------
        main, companion : ndarray of int64, shape (p,)
        labelled : bool
            Use only the images whose original label is the main class.
        rest : bool
            Whether an image counts as one without the companion if no rater was asked about the companion. If
            the source does not record *no* answers, such images always count.
        """
        rest = rest or not sets.asked_known or sets.complete
        usable = sets.usable[sets.rows]
        yes = np.flatnonzero(usable & (sets.state == YES))
        other = np.flatnonzero(usable & (sets.state == (UNCLEAR if rest else NO)))
        rows, classes = sets.rows[yes], sets.classes[yes].astype(np.int64)
        looked = classes == sets.label[rows] if labelled else slice(None)
        companions, others = (_indicator(sets, entries) for entries in (yes, other))
        return cls(main, companion, rows[looked], classes[looked], companions, others, rest)

    def sums(self, values: AnyFloats) -> Floats:
        """Return the sums of `values`, shape (m,), over the images with and the images without the companion.

        Returns
        -------
        ndarray of float64, shape (2, p)
        """
        n, n_classes = self.companions.shape
        if not len(self.main):  # SciPy returns a sparse array for no cells
            return np.zeros((2, 0))
        by_class = csr_array((values.astype(np.float64), (self.classes, self.rows)), shape=(n_classes, n))
        beside, other = (
            np.asarray((by_class @ m).tocsr()[self.main, self.companion]).ravel()
            for m in (self.companions, self.others)
        )
        total = np.bincount(self.classes, values, n_classes)[self.main]
        return np.stack([beside, total - beside - other if self.rest else other])


def difference_of_means(n: AnyFloats, sums: AnyFloats, squares: AnyFloats) -> Bounds:
    """Return the mean of the first row minus the mean of the second, for values between 0 and 1.

    NaN if a row has no values.

    Parameters
    ----------
    n, sums, squares : ndarray of float, shape (2, p)
        Number of values, their sum, and the sum of their squares.

    Notes
    -----
    For the interval, one value of 0 and one value of 1 are added to each row, so that its width is not 0 even
    if all values are equal. For shares, this is the interval of Agresti & Caffo 2000, doi
    10.1080/00031305.2000.10474560.
    """
    with np.errstate(invalid="ignore"):
        means = sums / n
    centre = (sums + 1) / (n + 2)
    variance = np.maximum((squares + 1) / (n + 2) - centre**2, 0) / (n + 2)
    value, apart = means[0] - means[1], centre[0] - centre[1]
    half = np.where(np.isnan(value), np.nan, QUANTILE * np.sqrt(variance.sum(axis=0)))
    return value, np.maximum(apart - half, -1), np.minimum(apart + half, 1)


def permutation_p(n: AnyFloats, sums: AnyFloats, powers: AnyFloats) -> Floats:
    """Return the two-sided p-value of a difference in means under random permutation of the rows.

    The p-value is twice the smaller tail of the permutation distribution. It is approximated by the Pearson
    type III distribution with the same first three moments: skewed values do not have normal tails, and with
    many pairs, the far tails matter. The result is NaN if a row has no values, and 1 if all values are equal.

    Parameters
    ----------
    n, sums : ndarray of float, shape (2, p)
        Number of values in each row, and their sum.
    powers : ndarray of float, shape (2, p)
        Sums of squares and of cubes over the values of both rows.

    References
    ----------
    Mielke & Berry, Permutation Methods, 2007, doi 10.1007/978-0-387-69813-7, chapter 2.
    """
    total, of = n.sum(axis=0), n[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, square, cube = np.stack([sums.sum(axis=0), *powers]) / total
        spread = square - mean**2
        variance = of * n[1] / (total - 1) * spread
        third = cube - 3 * mean * square + 2 * mean**3
        skew = of * n[1] * (n[1] - of) / ((total - 1) * (total - 2)) * third / variance**1.5
        away = (sums[0] - of * mean) / np.sqrt(variance)
        p = np.minimum(2 * _smaller_tail(away, np.where(np.isfinite(skew), skew, 0)), 1)
    # By rounding, the variance of equal values is about 1e-16.
    return np.where((n == 0).any(axis=0), np.nan, np.where(spread > 1e-12, p, 1.0))


def _indicator(sets: LabelSets, entries: Positions) -> Any:
    """Return a sparse matrix with 1 at the image and class of each entry, shape (n, C)."""
    at = (sets.rows[entries], sets.classes[entries])
    return csr_array((np.ones(len(entries)), at), shape=(len(sets), sets.n_classes))


def _smaller_tail(z: Floats, skew: Floats) -> Floats:
    """Return the smaller tail at z of a Pearson type III distribution with mean 0 and variance 1."""
    straight = np.abs(skew) < 1e-6
    shape = 4 / np.where(straight, 1, skew) ** 2
    at = np.maximum(shape + np.where(skew < 0, -z, z) * np.sqrt(shape), 0)
    tail = np.minimum(gammainc(shape, at), gammaincc(shape, at))
    return np.asarray(np.where(straight, ndtr(-np.abs(z)), tail))


def _exp_interval(value: Floats, variance: Floats) -> Bounds:
    apart = np.exp(QUANTILE * np.sqrt(np.maximum(variance, 0)))
    return value, value / apart, value * apart


def pair_keys(one: Ints, other: Ints, n_classes: int) -> Ints64:
    """Return pairs of classes in any order as ``a * C + b``, where a is the smaller class."""
    return np.asarray(np.minimum(one, other).astype(np.int64) * n_classes + np.maximum(one, other), np.int64)


def pairs_within(rows: Ints64) -> tuple[Ints64, Ints64]:
    """Return the entries of all pairs within a row, as two arrays of shape (p,).

    `rows` must be in ascending order.
    """
    lengths = np.bincount(rows) if len(rows) else np.zeros(0, np.int64)
    start = np.cumsum(lengths) - lengths
    parts = [np.empty((2, 0), np.int64)]
    for k in np.unique(lengths[lengths > 1]):
        i, j = np.triu_indices(k, 1)
        at = start[lengths == k][:, None]
        parts.append(np.stack([(at + i).ravel(), (at + j).ravel()]))
    first, second = np.concatenate(parts, axis=1)
    return first, second
