"""How many images an audit needs: the variance of a design per image, from a pilot.

With n audited of N images, the variances of `manyhot.core.audited` are, to first order,

    V(n) = spread / n - whole / N.

``spread`` is the mean of r**2 / q over all images, with the residuals r = y - λ f around their mean, and the
probability q of each image, relative to a uniform sample; ``whole`` is the mean of r**2. In a stratified
sample, the mean of r is that of the stratum. Both are estimated from the images of a pilot, which may have
been drawn by another design.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincinv, ndtr, ndtri

from manyhot.core.array_types import AnyFloats, Floats, Ints
from manyhot.core.audit_designs import SmallDesign, count_apart, count_audited
from manyhot.core.audited import FEWEST_EFFECTIVE, Power
from manyhot.core.resampling import LEVEL
from manyhot.errors import InputError

QUANTILE = float(ndtri((1 + LEVEL) / 2))
"""Half the width of an interval in standard errors; Student's t is at most 2 % wider from 60 degrees on."""

EXPECTED = float(gammaincinv(FEWEST_EFFECTIVE, 0.9))
"""Expected number of audited images that make up the variance, with which nine of ten samples have at least
`FEWEST_EFFECTIVE`, as a Poisson distribution has; with an expectation of `FEWEST_EFFECTIVE`, half have."""

FEWEST_PILOT = 30
"""Images of a pilot below which no variance is estimated from it."""


@dataclass(frozen=True)
class DesignVariance:
    """The variance of K values by the number of audited images; see the top of this module.

    Parameters
    ----------
    spread, whole : ndarray of float64, shape (K,)
    effective : ndarray of float64, shape (K,)
        Share of the audited images that make up the variance: a plan has at least `EXPECTED` / `effective`
        of them, so that there is an interval.
    same : float
        For a pair of models, as in `manyhot.core.audit_designs.count_apart`: n in V is the number of audited
        images on which they differ.
    """

    spread: Floats
    whole: Floats
    effective: Floats
    same: float = 0.0

    def error(self, n: float, n_images: int) -> Floats:
        """Return the standard errors with n audited of N images."""
        apart = count_apart(n, self.same) if self.same else n
        return np.asarray(np.sqrt(np.maximum(self.spread / apart - self.whole / n_images, 0)), np.float64)

    def images(self, error: float | Floats, n_images: int) -> Ints:
        """Return the numbers of images with these standard errors, at most N."""
        n = self.spread / (np.square(error) + self.whole / n_images)
        fewest = EXPECTED / np.maximum(self.effective, 1e-12)
        n = count_audited(np.maximum(n, fewest), self.same)
        return np.minimum(np.ceil(n - 1e-9), n_images).astype(np.int64)


def design_variance(
    y: AnyFloats,
    f: AnyFloats,
    weights: Floats,
    design: SmallDesign,
    *,
    power: Power = "tuned",
) -> DesignVariance:
    """Estimate the variance of K values under a design, from the audited images of a pilot.

    Parameters
    ----------
    y, f : ndarray of float, shape (n, K)
        What each audited image contributes under people's and under proposed label sets, as in
        `manyhot.core.audited.LinearisedValues`.
    weights : ndarray of float64, shape (n,)
        The weights of the pilot's images, as `manyhot.core.audit_samples.AuditSample.weights`.
    design : SmallDesign
        The planned design.
    power : float or "tuned"
        As in `manyhot.core.audited.estimate`.

    Raises
    ------
    InputError
        If the pilot has fewer than `FEWEST_PILOT` images.
    """
    n = len(weights)
    if n < FEWEST_PILOT:
        raise InputError(
            "The pilot has too few images to plan from.",
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
    with np.errstate(invalid="ignore", divide="ignore"):
        effective = parts**2 / ((w / relative**3) @ squares**2)
    return DesignVariance(scale * parts, scale * (w @ squares), np.nan_to_num(effective), design.same)


def images_for_share(
    differences: Floats, variance: DesignVariance, share: float, n_images: int
) -> tuple[int, float]:
    """Return with how many images an expected share of the differences is decided, and that share.

    A difference is decided if its interval does not contain 0. If the share is out of reach with all images
    but one, the number is N.
    """
    return _smallest(lambda n: decided(differences, variance.error(n, n_images)), share, n_images)


def decided(differences: Floats, errors: Floats) -> float:
    """Return the expected share of differences whose intervals do not contain 0."""
    return float(np.mean(power_of(np.abs(differences), errors)))


def power_of(difference: Floats | float, error: Floats | float) -> Floats:
    """Return the probability that the interval of a difference does not contain 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.divide(difference, error)
    return np.asarray(np.where(np.isnan(z), 0, ndtr(z - QUANTILE) + ndtr(-z - QUANTILE)), np.float64)


def error_for_width(half_width: float) -> float:
    """Return the standard error with which an interval is ± `half_width`."""
    return half_width / QUANTILE


def error_for_difference(difference: float, power: float) -> float:
    """Return the standard error with which a difference is decided with the probability `power`.

    ``Φ(difference / error - 1.96) = power``; the other tail is below 1 in 10,000 for a power of at least 0.2.
    """
    return difference / (QUANTILE + float(ndtri(power)))


def detectable(error: float, power: float) -> float:
    """Return the smallest difference that is decided with the probability `power`."""
    return error * (QUANTILE + float(ndtri(power)))


def _centred(x: Floats, weights: Floats, places: Ints) -> Floats:
    total = np.bincount(places, weights)
    sums = np.stack([np.bincount(places, weights * column, len(total)) for column in x.T], axis=1)
    return np.asarray(x - (sums / total[:, None])[places])


def _smallest(reached: Callable[[int], float], goal: float, n_images: int) -> tuple[int, float]:
    low, high = 1, n_images
    while high - low > 1:
        middle = math.floor(math.sqrt(low * high)) if high > 2 * low else (low + high) // 2
        low, high = (low, middle) if reached(middle) >= goal else (middle, high)
    return high, reached(high)
