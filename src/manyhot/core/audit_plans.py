"""How many images an audit needs: the variance of a design per image, from a pilot.

With n audited of N images, the variances of `manyhot.core.audited` are, to first order,

    V(n) = spread / n - whole / N.

``spread`` is the mean of r**2 / q over all images, with the residuals r = y - λ f around their mean, and the
probability q of each image, relative to a uniform sample; ``whole`` is the mean of r**2. In a stratified
sample, the mean of r is that of the stratum. Both are estimated from the images of a pilot, which may have
been drawn by another design.

The constants, from which plans without a pilot start, are made by ``python benchmarks/audit_plans.py
variances`` from 67 published models and people's answers about ImageNet's 50,000 validation images (Beyer et
al. 2020, arXiv 2006.07159), of which every fifth was used. All constants are medians over models, pairs of
models and random sets of models.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import fdtri, ndtr, ndtri, stdtrit

from manyhot.core.array_types import AnyFloats, Bools, Floats, Ints
from manyhot.core.audit_designs import SmallDesign, count_apart, count_audited
from manyhot.core.audited import FEWEST_EFFECTIVE, Power
from manyhot.core.resampling import LEVEL, QUANTILE
from manyhot.errors import InputError

SURE = 0.95
"""Share of the planned samples that would have an interval if all images that make up a variance had
residuals of the same size. Because residuals differ in size, 84 % or more of the samples have one."""

FEWEST_PILOT = 30
"""Minimum number of images in a pilot from which a variance is estimated."""

_LEAST = 0.1
"""Minimum of V as a share of ``spread / n``, unless nearly all images are drawn."""

_ROUNDS = 20
"""Number of rounds after which a number of images no longer changes."""

_KNOWN = 1e7
"""If at least this many images make up the variance of a pilot, the variance is treated as known."""


@dataclass(frozen=True)
class DesignVariance:
    """The variance of K values as a function of the number of audited images; see the top of this module.

    Parameters
    ----------
    spread, whole : ndarray of float64, shape (K,)
    effective : ndarray of float64, shape (K,)
        Effective number of audited images, divided by the number of audited images.
    same : float
        For a pair of models, as in `manyhot.core.audit_designs.count_apart`; the n in V is then the number of
        audited images on which the two models differ.
    heaviest : ndarray of float64, shape (K,)
        Number of audited images at which a single image with the smallest probability and the largest
        residual would double the variance; see `manyhot.core.audited.AuditedEstimate.heaviest`.
    pilot : ndarray of float64, shape (K,)
        Effective number of images of the pilot from which `spread` was estimated; infinite if `spread` is
        known.

    Notes
    -----
    If the effective number of images is k, the estimated variance is approximately distributed as the true
    variance times χ² / 2k, where χ² has 2k degrees of freedom. The ratio of the variances estimated by an
    audit and by its pilot therefore follows an F distribution. In 95 % of the samples, the effective number
    is at least `FEWEST_EFFECTIVE` if its expected value is ``10 F(0.95; 20, 2k)``: 16 if the variance is
    known, 21 with k = 10, and 28 with k = 5.
    """

    spread: Floats
    whole: Floats
    effective: Floats
    same: float = 0.0
    heaviest: Floats | float = 0.0
    pilot: Floats | float = np.inf

    def error(self, n: Floats | Ints | float, n_images: int) -> Floats:
        """Return the standard errors if n of N images are audited."""
        apart = self._apart(n)
        squares = self.spread / apart - self.whole / n_images
        # V is too small if images would have probabilities above 1, which few answers may seem to say of all.
        least = _LEAST * self.spread * (1 / apart - (1 + self.same) / n_images)
        return np.asarray(np.sqrt(np.maximum(np.maximum(squares, least), 0)), np.float64)

    def half_width(self, n: Floats | Ints | float, n_images: int, share: float = 0.5) -> Floats:
        """Return the half-widths that a given share of the intervals does not exceed if n images are audited.

        Parameters
        ----------
        n : float or ndarray, shape (K,)
            Number of audited images.
        share : float
            The share of the intervals. The default gives the median half-width. The result accounts for the
            uncertainty about the variance that remains after the pilot.
        """
        of_pilot = np.minimum(2 * np.maximum(self.pilot, 1), _KNOWN)
        df = 2 * np.maximum(self.effective * self._apart(n), FEWEST_EFFECTIVE)
        ratio = np.sqrt(fdtri(df, of_pilot, share))
        return np.asarray(stdtrit(df, (1 + LEVEL) / 2) * ratio * self.error(n, n_images), np.float64)

    @property
    def fewest(self) -> Floats:
        """The smallest number of audited images with which most samples have an interval."""
        few = fdtri(2 * FEWEST_EFFECTIVE, np.minimum(2 * np.maximum(self.pilot, 1), _KNOWN), SURE)
        expected = FEWEST_EFFECTIVE * few / np.maximum(self.effective, 1e-12)
        return count_audited(np.maximum(expected, few * self.heaviest), self.same)

    def images(self, half_width: float | Floats, n_images: int) -> Ints:
        """Return how many audited images, at most N, make half of the intervals as narrow as `half_width`."""
        times: Floats | float = QUANTILE
        for _ in range(_ROUNDS):  # the quantile of Student's t depends on the number, a little
            apart = self.spread / (np.square(half_width / times) + self.whole / n_images)
            n = np.minimum(count_audited(apart, self.same), n_images)
            with np.errstate(invalid="ignore", divide="ignore"):
                times = self.half_width(n, n_images) / self.error(n, n_images)
            times = np.where(np.isfinite(times), times, QUANTILE)
        return np.minimum(np.ceil(np.maximum(n, self.fewest) - 1e-9), n_images).astype(np.int64)

    def _apart(self, n: Floats | Ints | float) -> Floats:
        number = np.asarray(n, np.float64)
        return count_apart(number, self.same) if self.same else number


def design_variance(
    y: AnyFloats,
    f: AnyFloats,
    weights: Floats,
    design: SmallDesign,
    *,
    power: Power = "tuned",
    same: Bools | None = None,
) -> DesignVariance:
    """Estimate the variance of K values under a design, from the audited images of a pilot.

    Parameters
    ----------
    y, f : ndarray of float, shape (n, K)
        The contribution of each audited image under people's and under proposed label sets, as in
        `manyhot.core.audited.LinearisedValues`.
    weights : ndarray of float64, shape (n,)
        The weights of the pilot's images, as in `manyhot.core.audit_samples.AuditSample.weights`.
    design : SmallDesign
        The planned design.
    power : float or "tuned"
        As in `manyhot.core.audited.estimate`.
    same : ndarray of bool, shape (n, K), optional
        Images on which the models of a pair do not differ, as in `manyhot.core.audited.estimate`.

    Raises
    ------
    InputError
        If the pilot has fewer than `FEWEST_PILOT` images.
    """
    n = len(weights)
    if n < FEWEST_PILOT:
        raise InputError(
            "The pilot has too few images for a plan.",
            got=n,
            allowed=f"at least {FEWEST_PILOT}",
            do="audit more images, or plan without a pilot",
        )
    relative, stratum = design.relative, design.stratum
    places = np.zeros(n, np.intp) if stratum is None else np.unique(stratum, return_inverse=True)[1]
    y, f = (_centred(np.asarray(x, np.float64), weights, places) for x in (y, f))
    w = weights / weights.sum()
    inverse = w / relative
    own, shared = inverse @ f**2, inverse @ (y * f)
    tuned = np.clip(np.divide(shared, own, out=np.zeros_like(own), where=own > 0), 0, 1)
    squares = np.square(y - (tuned if power == "tuned" else power) * f)
    free = n - len(np.unique(places)) - (power == "tuned")
    scale = n / max(free, 1)
    parts = inverse @ squares
    apart = np.ones(squares.shape, bool) if same is None else ~same
    largest = (apart / relative[:, None]).max(axis=0) ** 2 * (apart * squares).max(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        effective = parts**2 / ((w / relative**3) @ squares**2)
        pilot = parts**2 / (inverse**2 @ squares**2)
        heaviest = largest / parts
    return DesignVariance(
        scale * parts,
        scale * (w @ squares),
        np.nan_to_num(effective),
        design.same,
        np.nan_to_num(heaviest),
        np.nan_to_num(pilot),
    )


def images_for_share(
    differences: Floats, variance: DesignVariance, share: float, n_images: int
) -> tuple[int, float]:
    """Return how many audited images show, in expectation, a share of the differences, and that share.

    A difference is shown if its interval does not contain 0. If N - 1 images do not suffice, the number is
    N.
    """
    return _smallest(
        lambda n: decided(differences, variance.half_width(n, n_images) / QUANTILE), share, n_images
    )


def decided(differences: Floats, errors: Floats) -> float:
    """Return the expected share of differences whose intervals do not contain 0."""
    return float(np.mean(power_of(np.abs(differences), errors)))


def power_of(difference: Floats | float, error: Floats | float) -> Floats:
    """Return the probability that the interval of a difference does not contain 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.divide(difference, error)
    return np.asarray(np.where(np.isnan(z), 0, ndtr(z - QUANTILE) + ndtr(-z - QUANTILE)), np.float64)


def error_for_difference(difference: float, power: float) -> float:
    """Return the standard error at which a difference is detected with the probability `power`.

    The error solves ``Φ(difference / error - 1.96) = power``. The other tail is below 1 in 10,000 for a power
    of at least 0.2.
    """
    return difference / (QUANTILE + float(ndtri(power)))


def detectable(error: float, power: float) -> float:
    """Return the smallest difference that is detected with the probability `power`."""
    return error * (QUANTILE + float(ndtri(power)))


def _centred(x: Floats, weights: Floats, places: Ints) -> Floats:
    total = np.bincount(places, weights)
    sums = np.stack([np.bincount(places, weights * column, len(total)) for column in x.T], axis=1)
    return np.asarray(x - (sums / total[:, None])[places])


def _smallest(reached: Callable[[int], float], goal: float, n_images: int) -> tuple[int, float]:
    low, high = 0, n_images
    while high - low > 1:
        # On a logarithmic scale first; the root of 1 · 3 rounds down to 1.
        middle = max(math.isqrt(low * high), low + 1) if high > 2 * low else (low + high) // 2
        low, high = (low, middle) if reached(middle) >= goal else (middle, high)
    return high, reached(high)


ACCURACY = 0.832
"""Accuracy on label sets (``real1``)."""

PLAIN_ACCURACY = 1.067
"""Variance of a plain sample of one image, divided by a (1 - a) with the accuracy a.

It is above 1 because 6 % of the images have no valid class and do not count."""

DIFFERING = 0.223
"""Share of images on which the top classes of two models differ."""

PLAIN_DIFFERENCE = 0.580
"""Variance of the difference of a pair in a plain sample of one image, divided by `DIFFERING`."""

QUESTIONS = {2: 7.2, 3: 8.5, 10: 16.04, 67: 37.38}
"""Questions about an image, by the number of models: their top five classes and the original label. With top
classes alone, they are 1.4, 1.5, 2.2 and 5.1."""

EFFECTIVE = {"accuracy": 0.167, "difference": 0.118}
"""Share of the audited images that make up the variance, by question."""

EFFECTS = (
    0.0047, 0.015, 0.0262, 0.0359, 0.0463, 0.0561, 0.0656, 0.0783, 0.0893, 0.101,
    0.113, 0.13, 0.145, 0.162, 0.183, 0.209, 0.266, 0.399, 0.735, 0.991,
)  # fmt: skip
"""Differences of pairs of models, divided by the deviation of one image: quantiles from 2.5 to 97.5 %."""

VARIANCES = (
    (2, "accuracy", "models", "uniform", 0.749, 0.749),
    (2, "accuracy", "models", "active", 0.749, 0.749),
    (2, "difference", "models", "uniform", 1.0, 1.0),
    (2, "difference", "models", "pair", 0.202, 0.958),
    (2, "accuracy", "labels", "uniform", 0.615, 0.615),
    (2, "accuracy", "labels", "active", 0.615, 0.615),
    (2, "difference", "labels", "uniform", 0.62, 0.62),
    (2, "difference", "labels", "pair", 0.132, 0.618),
    (3, "accuracy", "models", "uniform", 0.744, 0.744),
    (3, "accuracy", "models", "active", 0.725, 0.744),
    (3, "difference", "models", "uniform", 0.889, 0.889),
    (3, "difference", "models", "pair", 0.192, 0.852),
    (3, "difference", "models", "differences", 0.405, 0.889),
    (3, "accuracy", "labels", "uniform", 0.611, 0.611),
    (3, "accuracy", "labels", "active", 0.6, 0.611),
    (3, "difference", "labels", "uniform", 0.61, 0.61),
    (3, "difference", "labels", "pair", 0.138, 0.595),
    (3, "difference", "labels", "differences", 0.281, 0.611),
    (10, "accuracy", "models", "uniform", 0.718, 0.718),
    (10, "accuracy", "models", "active", 0.643, 0.719),
    (10, "difference", "models", "uniform", 0.796, 0.796),
    (10, "difference", "models", "pair", 0.162, 0.766),
    (10, "difference", "models", "differences", 0.472, 0.8),
    (10, "accuracy", "labels", "uniform", 0.622, 0.622),
    (10, "accuracy", "labels", "active", 0.57, 0.622),
    (10, "difference", "labels", "uniform", 0.638, 0.638),
    (10, "difference", "labels", "pair", 0.133, 0.63),
    (10, "difference", "labels", "differences", 0.376, 0.639),
    (67, "accuracy", "models", "uniform", 0.697, 0.697),
    (67, "accuracy", "models", "active", 0.594, 0.698),
    (67, "difference", "models", "uniform", 0.74, 0.74),
    (67, "difference", "models", "pair", 0.163, 0.695),
    (67, "difference", "models", "differences", 0.503, 0.744),
    (67, "accuracy", "labels", "uniform", 0.621, 0.621),
    (67, "accuracy", "labels", "active", 0.537, 0.621),
    (67, "difference", "labels", "uniform", 0.601, 0.601),
    (67, "difference", "labels", "pair", 0.138, 0.594),
    (67, "difference", "labels", "differences", 0.413, 0.602),
)
"""Number of models, question, what proposes label sets, design, and ``spread`` and ``whole`` of
`manyhot.core.audit_plans.DesignVariance`, divided by the variance of a plain sample of one image.

``pair`` is the design for one pair of models, and ``differences`` that for all pairs."""
