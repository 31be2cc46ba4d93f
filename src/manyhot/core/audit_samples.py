"""Which images people answer in an audit: designs, samples, and whether a sample was drawn as recorded.

An audit asks people about a random sample of the images. A design specifies the probability that each image
is in the sample, which is never 0. It also fixes the number of images, for each stratum if there are strata.
All designs are drawn in the same way: the images are put in random order, and an image is taken if the
running sum of the probabilities passes one of the points u, u + 1, u + 2, … at this image (randomised
systematic sampling, Hartley and Rao 1962, doi 10.1214/aoms/1177704564). The probabilities hold exactly, the
size is fixed, and with equal probabilities it is simple random sampling without replacement.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import gammaincc, ndtr

from manyhot.core.array_types import AnyFloats, Floats, Ints
from manyhot.core.distinct import distinct_keys
from manyhot.errors import InputError, and_more

IMPLAUSIBLE = 1e-4
"""If a deviation is less probable than this, the sample counts as not drawn with the recorded
probabilities."""

FEWEST_IN_STRATUM = 2
"""Minimum number of audited images in a stratum, because a single image has no variance."""

_GROUPS = 10
"""Groups of images in the check of a sample, if none are passed."""

_LEAST_EFFECTIVE = 10
"""Minimum number of images that make up the variance of a mean for the mean to be approximately normal."""

_LEAST_EXPECTED = 5
"""Minimum expected number of audited images in a group of the check."""


@dataclass(frozen=True)
class AuditDesign:
    """The probability that each image is audited.

    Parameters
    ----------
    probability : ndarray of float64, shape (N,)
        The inclusion probability of each image. The sum of the probabilities is the number of audited images.
    stratum : ndarray of int, shape (N,), optional
        The stratum of each image. If strata are passed, the number of audited images in each stratum is
        fixed: it is the sum of the stratum's probabilities.

    Raises
    ------
    InputError
        If a probability is not above 0 and at most 1, or if a stratum has fewer than two audited images,
        unless all its images are audited.
    """

    probability: Floats
    stratum: Ints | None = None

    def __post_init__(self) -> None:
        p = self.probability
        bad = np.flatnonzero(~((p > 0) & (p <= 1)))
        if len(bad):
            raise InputError(
                "The probability of auditing an image is out of range.",
                where=f"image {bad[0]:,} of {len(p):,}",
                got=f"{p[bad[0]]:g}{and_more(len(bad) - 1)}",
                allowed="above 0 and at most 1",
                do="give each image a positive probability; an audit says nothing about images that it "
                "never draws",
            )
        least = np.minimum(np.bincount(self.places), FEWEST_IN_STRATUM)
        few = np.flatnonzero(self.n_by_stratum < least)
        if len(few):
            raise InputError(
                "A stratum has too few audited images.",
                where=f"stratum {self._strata[0][few[0]]}",
                got=int(self.n_by_stratum[few[0]]),
                allowed=f"at least {FEWEST_IN_STRATUM}, or all",
                do="merge small strata, or audit more images",
            )

    def __len__(self) -> int:
        return len(self.probability)

    @cached_property
    def _strata(self) -> tuple[Ints, Ints]:
        """The strata, and the place of each image's stratum among them, shape (N,)."""
        if self.stratum is None:
            return np.zeros(1, np.intp), np.zeros(len(self), np.intp)
        values, places = np.unique(self.stratum, return_inverse=True)
        return values, places

    @cached_property
    def places(self) -> Ints:
        """The stratum of each image, counted from 0, shape (N,)."""
        return self._strata[1]

    @cached_property
    def n_by_stratum(self) -> Ints:
        """The number of audited images in each stratum, shape (H,)."""
        return np.rint(np.bincount(self.places, self.probability)).astype(np.intp)

    def draw(self, rng: np.random.Generator) -> AuditSample:
        """Draw a sample with its images in random order."""
        images = self.systematic(rng.permutation(len(self)), rng.random(len(self.n_by_stratum)))
        return AuditSample(self, rng.permutation(images))

    def systematic(self, shuffled: Ints, starts: Floats) -> Ints:
        """Return the drawn images, by stratum.

        Parameters
        ----------
        shuffled : ndarray of int, shape (N,)
            All images in random order.
        starts : ndarray of float64, shape (H,)
            A random number from 0 to 1 for each stratum.
        """
        # A stable sort by stratum leaves the images of each stratum in random order.
        order = shuffled[np.argsort(self.places[shuffled], kind="stable")]
        ends = np.cumsum(np.bincount(self.places, minlength=len(self.n_by_stratum)))
        drawn = [
            _systematic(images, self.probability[images], int(n), start)
            for images, n, start in zip(np.split(order, ends[:-1]), self.n_by_stratum, starts, strict=True)
        ]
        return np.concatenate(drawn)


@dataclass(frozen=True)
class AuditSample:
    """The audited images and their sampling design.

    Parameters
    ----------
    images : ndarray of int, shape (n,)
        The audited images, in the order in which people audit them.

    Raises
    ------
    InputError
        If an image is listed twice or does not exist, or if the number of images differs from that of the
        design.
    """

    design: AuditDesign
    images: Ints

    def __post_init__(self) -> None:
        unique, n = distinct_keys(self.images), len(self.design)
        if len(unique) < len(self.images) or (len(unique) and not 0 <= unique[0] <= unique[-1] < n):
            raise InputError(
                "A row number of an audited image occurs twice or does not exist.",
                got=f"{len(self.images):,} rows, of which {len(unique):,} are different",
                allowed=f"row numbers below {n:,}, each at most once",
                do="list each audited image once",
            )
        self._check_counts()

    def _check_counts(self) -> None:
        places, expected = self.design.places, self.design.n_by_stratum
        counts = np.bincount(places[self.images], minlength=len(expected))
        wrong = np.flatnonzero(counts != expected)
        if len(wrong):
            h = wrong[0]
            raise InputError(
                "The audited images were not drawn with the recorded probabilities.",
                where=None if self.design.stratum is None else f"stratum {self.design._strata[0][h]}",
                got=f"{counts[h]:,} audited images",
                allowed=f"{expected[h]:,}, the sum of the probabilities",
                do="answer the questions about all images of the sample, or keep only the first images of "
                "its random order, "
                "provided that people answered all of them",
            )

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def probability(self) -> Floats:
        """The inclusion probability of each audited image, shape (n,)."""
        return self.design.probability[self.images]

    @cached_property
    def weights(self) -> Floats:
        """The weight of each audited image: 1 / probability, divided by the sum of these values, shape (n,).

        In a stratified sample, weights are normalised within each stratum. The sum of a stratum's weights is
        its share of the images.
        """
        inverse, places = 1 / self.probability, self.design.places
        share = np.bincount(places) / len(self.design)
        here = places[self.images]
        return inverse * (share / np.bincount(here, inverse))[here]

    @cached_property
    def strata(self) -> Ints:
        """The stratum of each audited image, counted from 0, shape (n,)."""
        return self.design.places[self.images]

    def first(self, n: int) -> AuditSample:
        """Return the first n images of the sample, for an audit that stops early.

        The sample must be in random order, as returned by `AuditDesign.draw`. The probability that an image
        is among the first n is n / len(self) times its inclusion probability. Strata are dropped, because the
        number of images per stratum is not fixed among the first n.
        """
        share = n / len(self)
        return AuditSample(AuditDesign(self.design.probability * share), self.images[:n])


def _systematic(images: Ints, p: Floats, n: int, start: float) -> Ints:
    """Return n of the images, which are in random order."""
    total = np.cumsum(p)
    points = (start + np.arange(n)) * (total[-1] / n)
    places = np.searchsorted(total, points, side="right").clip(max=len(images) - 1)
    return np.asarray(images[places])


def uniform_design(n_images: int, n: int) -> AuditDesign:
    """Return the design in which all images have the same probability.

    Parameters
    ----------
    n_images, n : int
        Number of images N, and number of audited images.
    """
    _check_size(n, n_images)
    return AuditDesign(np.full(n_images, n / n_images))


def stratified_design(
    stratum: Ints, n: int, deviation: AnyFloats | None = None, *, uniform: float = 0.0
) -> AuditDesign:
    """Return the design with a fixed number of images per stratum.

    Parameters
    ----------
    stratum : ndarray of int, shape (N,)
        The stratum of each image, such as the size of its proposed label set, or the decile of a model's
        confidence.
    n : int
        Number of audited images.
    deviation : ndarray of float, shape (N,), optional
        Expected size of each image's residual, the difference between the values under people's and under
        proposed label sets. If it is passed, the number of audited images of a stratum is proportional to its
        number of images times the root mean square of its residuals (Neyman 1934, doi 10.2307/2342192). By
        default, it is proportional to its number of images.
    uniform : float
        If deviations are passed, the share of the audited images that is distributed in proportion to the
        number of images per stratum. Without this share, hardly any images of a large stratum would be
        audited if their expected residuals were far too small.

    Raises
    ------
    InputError
        If n is less than twice the number of strata, or more than the number of images.
    """
    values, places = np.unique(stratum, return_inverse=True)
    _check_size(n, len(places), FEWEST_IN_STRATUM * len(values))
    size = np.bincount(places)
    wanted = size.astype(np.float64)
    if deviation is not None and np.any(deviation > 0):
        wanted *= np.sqrt(np.bincount(places, np.square(deviation, dtype=np.float64)) / size)
        wanted = (1 - uniform) * wanted / wanted.sum() + uniform * size / size.sum()
    counts = _apportion(wanted, n, np.minimum(FEWEST_IN_STRATUM, size), size)
    return AuditDesign((counts / size)[places], stratum)


def active_design(squared_residual: AnyFloats, n: float, *, uniform: float = 0.5) -> AuditDesign:
    """Return the design that favours images on which people may disagree with the proposed label sets.

    Parameters
    ----------
    squared_residual : ndarray of float, shape (N,) or (N, M)
        The expected square of each image's residual, for one or M models. The residual is the difference
        between the values under people's and under proposed label sets. If f is the probability that a model
        is right, the expected square is f (1 - f).
    n : int
        Number of audited images.
    uniform : float
        Share of the audited images that is drawn with equal probabilities; it must be above 0. It limits the
        weight of an image to 1 / `uniform` times its weight in a uniform sample.

    Notes
    -----
    The probability of image i is ``n ((1 - uniform) s_i / sum(s) + uniform / N)``, where s_i is the root mean
    square of its residuals over the models. This choice of s_i minimises the sum over models of the variances
    of the difference estimator. Probabilities above 1 are set to 1, and the other probabilities are
    increased.

    References
    ----------
    Zrnic and Candès 2024, Active statistical inference, arXiv 2403.03208, sections 3 and 4. Deviation: the
    sample size is fixed (see the top of this module), whereas the authors draw images independently.
    """
    if not 0 < uniform <= 1:
        raise InputError("`uniform` is not a share.", got=uniform, allowed="above 0 and at most 1")
    squares = np.asarray(squared_residual, np.float64)
    squares = squares if squares.ndim == 1 else squares.mean(axis=1)
    _check_size(n, len(squares))
    bad = np.flatnonzero(~((squares >= 0) & np.isfinite(squares)))
    if len(bad):
        raise InputError(
            "An expected squared residual is negative or not finite.",
            where=f"image {bad[0]:,} of {len(squares):,}",
            got=f"{squares[bad[0]]:g}",
        )
    size = np.sqrt(squares)
    mean = size.mean()
    mixed = np.ones(len(size)) if mean == 0 else (1 - uniform) * size / mean + uniform
    return AuditDesign(_proportional(mixed, n))


def _check_size(n: float, n_images: int, least: int = FEWEST_IN_STRATUM) -> None:
    if not least <= n <= n_images:
        raise InputError(
            "The number of images to audit is out of range.", got=n, allowed=f"{least:,} to {n_images:,}"
        )


def _proportional(size: Floats, n: float) -> Floats:
    """Return probabilities proportional to `size` that add up to n, at most 1."""
    certain = np.zeros(len(size), bool)
    while True:
        p = size * ((n - np.count_nonzero(certain)) / size[~certain].sum() if not certain.all() else 0)
        above = (p >= 1) & ~certain
        if not above.any():
            return np.where(certain, 1.0, p)
        certain |= above


def _apportion(sizes: Floats, n: int, least: Ints, most: Ints) -> Ints:
    """Return integers that add up to n, near to shares proportional to `sizes`, within bounds."""
    low, high = 0.0, float(n) / max(sizes[sizes > 0].min(), 1e-300) + 1
    for _ in range(200):  # bisection of the factor; the sum grows with it
        middle = (low + high) / 2
        enough = np.clip(middle * sizes, least, most).sum() >= n
        low, high = (low, middle) if enough else (middle, high)
    exact = np.clip(high * sizes, least, most)
    counts = np.floor(exact + 1e-9).astype(np.intp)
    room = np.where(counts < most, exact - counts, -np.inf)
    counts[np.argsort(-room, kind="stable")[: n - counts.sum()]] += 1
    return np.asarray(counts)


def sample_p(sample: AuditSample) -> float:
    """Return the probability that a sample deviates from its design at least as much as this one.

    Ten groups of images with consecutive row numbers are compared. Groups with fewer than five expected
    audited images are merged.

    Returns
    -------
    float
        The p-value; 1 if there are fewer than two groups.

    Notes
    -----
    Let O_g be the number of audited images of group g, and E_g = sum(p) the number that is expected. The
    statistic ``sum (O_g - E_g)**2 / sum_g p (1 - p)`` then approximately follows a χ² distribution. Its
    degrees of freedom are the number of groups minus one, because the counts have nearly the variances and
    covariances of independent draws with a fixed sum (Hájek 1964, doi 10.1214/aoms/1177700375). In a
    stratified sample, the statistic is smaller.
    """
    p = sample.design.probability
    _, places = np.unique(np.arange(len(p)) * _GROUPS // len(p), return_inverse=True)
    expected, spread = np.bincount(places, p), np.bincount(places, p * (1 - p))
    drawn = np.bincount(places[sample.images], minlength=len(expected))
    few = (expected < _LEAST_EXPECTED) | (spread < 1)
    parts = [np.append(x[~few], x[few].sum()) for x in (drawn - expected, spread)]
    some = parts[1] > 0
    if np.count_nonzero(some) < 2:
        return 1.0
    statistic = float((parts[0][some] ** 2 / parts[1][some]).sum())
    return float(gammaincc((np.count_nonzero(some) - 1) / 2, statistic / 2))


def check_sample(sample: AuditSample) -> None:
    """Raise an error if a sample was not drawn with the recorded probabilities.

    Raises
    ------
    InputError
        If `sample_p` is below `IMPLAUSIBLE`. Among samples that were drawn as recorded, one in 10,000 is
        rejected.
    """
    p = sample_p(sample)
    if p < IMPLAUSIBLE:
        raise InputError(
            "The audited images were not drawn with the recorded probabilities.",
            got=f"groups of images are over- or underrepresented (p = {p:.1g})",
            allowed=f"p of at least {IMPLAUSIBLE:g}",
            do="answer the questions about the drawn images, in the order in which they were drawn",
        )


def balance_p(values: AnyFloats, sample: AuditSample) -> float:
    """Return the p-value of the difference in known values between the audited images and all images.

    Proposals that were made with knowledge of the answers fit the audited images better than the other
    images. The test detects such proposals if they fit much better, but it may miss a model that was trained
    on the answers.

    Parameters
    ----------
    values : ndarray of float, shape (N,)
        Values of all images, such as whether a model's top class is in the proposed label set.

    Returns
    -------
    float
        The p-value; 1 if the effective number of audited images is below ten, because the mean is then not
        approximately normal.

    Notes
    -----
    The weighted mean of the audited images is compared with the mean of all images. Its variance is the
    variance under the design, computed from the values of all images (Hájek 1964, doi
    10.1214/aoms/1177700375): ``sum_h sum_i p (1 - p) (e_i - mean(e))**2`` with ``e = (values - mean(values))
    / (p N)``, strata h, and the mean of e weighted by p (1 - p).
    """
    p, places = sample.design.probability, sample.design.places
    apart = np.asarray(values, np.float64) - np.mean(values, dtype=np.float64)
    e, heavy = apart / (p * len(p)), p * (1 - p)
    total = np.bincount(places, heavy)
    mean = np.bincount(places, heavy * e) / np.where(total > 0, total, 1)
    squares = (1 - p) * np.square(e - mean[places])
    variance, fourth = p @ squares, p @ squares**2
    if not variance > 0 or variance**2 < _LEAST_EFFECTIVE * fourth:
        return 1.0
    return float(2 * ndtr(-abs(sample.weights @ apart[sample.images]) / np.sqrt(variance)))
