"""Resamples of the images that an audit audited, for intervals and for drops and ranks of models."""

from __future__ import annotations

import numpy as np

from manyhot.core.array_types import Floats
from manyhot.core.audit_samples import AuditSample
from manyhot.core.audited import LinearisedValues, Power, estimate
from manyhot.core.resampling import percentile_interval

_CHUNK = 100
"""Resamples per block: 40 MB for 50,000 audited images."""


def bootstrap_interval(
    values: LinearisedValues,
    sample: AuditSample,
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
    power: Power = "tuned",
    population: bool = False,
) -> tuple[Floats, Floats]:
    """Return the percentile intervals of the values over resamples of the audited images.

    Parameters
    ----------
    values, sample, power, population
        As in `estimate`.
    rng : numpy.random.Generator
    resamples : int

    Returns
    -------
    lo, hi : ndarray of float64, shape (M,)

    Notes
    -----
    In each stratum, n_h - 1 images are drawn with replacement from the audited images. An image that was
    drawn m times has the weight ``w (1 + (1 - p)**0.5 (m n_h / (n_h - 1) - 1))``, so that the variance is V
    (Rao and Wu 1988, doi 10.1080/01621459.1988.10478591). For the population, p is set to 0, and the mean of
    the proposed values over all images also varies, as a mean of N values. All resamples use the λ of the
    sample.
    """
    weight = estimate(values, sample, power=power).power
    drawn = resampled_values(values, sample, weight, rng=rng, resamples=resamples, population=population)
    return percentile_interval(drawn.T)


def resampled_values(
    values: LinearisedValues,
    sample: AuditSample,
    weight: Floats,
    *,
    rng: np.random.Generator,
    resamples: int,
    population: bool = False,
) -> Floats:
    """Return the values in each resample of `bootstrap_interval`, shape (R, M); `weight` is λ, shape (M,)."""
    residual = values.audited - weight * values.proposed
    proposed = weight * (values.proposed - sample.weights @ values.proposed)
    n, means = len(sample), np.empty((resamples, residual.shape[1]))
    scale = np.sqrt(sample.weights * n / max(n - 1, 1) / len(sample.design))
    for start in range(0, resamples, _CHUNK):
        part = means[start : start + _CHUNK]
        part[:] = _resampled_weights(sample, len(part), rng, whole=population) @ residual
        if population:  # with the covariances of the values, which differences need
            part += (rng.standard_normal((len(part), n)) * scale) @ proposed
    return means + (values.base + weight * values.mean)


def _resampled_weights(
    sample: AuditSample, resamples: int, rng: np.random.Generator, *, whole: bool
) -> Floats:
    """Return the weights of the audited images in each resample, shape (R, n)."""
    free = 1.0 if whole else np.sqrt(1 - sample.probability)
    times = np.ones((resamples, len(sample)))
    for h, n in enumerate(sample.design.n_by_stratum):
        if n > 1:
            inside = sample.strata == h
            times[:, inside] = rng.multinomial(n - 1, np.full(n, 1 / n), resamples) * (n / (n - 1))
    weights = sample.weights * (1 + free * (times - 1))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
