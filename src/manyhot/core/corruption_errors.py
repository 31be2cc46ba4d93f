"""The mean corruption error, the share of a loss that is due to missing labels, and ratios of errors.

A model is evaluated on images and on copies of them with several corruptions at several severities. Some
corruptions are harder than others for all models, so errors are divided by those of a baseline, separately
for each corruption, before they are averaged.

References
----------
Hendrycks & Dietterich 2019, arXiv 1903.12261, section 4.2.
"""

from __future__ import annotations

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import AnyFloats, Floats
from manyhot.core.resampling import percentile_interval

ALEXNET = {
    "gaussian_noise": (0.69528, 0.82542, 0.93554, 0.98138, 0.99452),
    "shot_noise": (0.71224, 0.85108, 0.93574, 0.98182, 0.99146),
    "impulse_noise": (0.78374, 0.89808, 0.94870, 0.98720, 0.99548),
    "defocus_blur": (0.65624, 0.73202, 0.85036, 0.91364, 0.94714),
    "glass_blur": (0.64308, 0.75054, 0.88806, 0.91622, 0.93344),
    "motion_blur": (0.58430, 0.70048, 0.82108, 0.89750, 0.92638),
    "zoom_blur": (0.70008, 0.76992, 0.80784, 0.84198, 0.87198),
    "snow": (0.71726, 0.88392, 0.86468, 0.91870, 0.94952),
    "frost": (0.61390, 0.79734, 0.88790, 0.89942, 0.93430),
    "fog": (0.67474, 0.76050, 0.84378, 0.87260, 0.94500),
    "brightness": (0.45140, 0.48502, 0.54048, 0.62166, 0.72440),
    "contrast": (0.64548, 0.76150, 0.88874, 0.97760, 0.99270),
    "elastic_transform": (0.52596, 0.70116, 0.55686, 0.64076, 0.80554),
    "pixelate": (0.52218, 0.54620, 0.73728, 0.87092, 0.91262),
    "jpeg_compression": (0.51002, 0.54718, 0.57294, 0.65458, 0.74778),
}
"""Top-1 errors of AlexNet on ImageNet-C's 50,000 images, by corruption and severity, 1 to 5.

Hendrycks & Dietterich normalise by their means over severities, as in ``imagenet.py`` of
google-research/augmix @
202cf4c8."""

ALEXNET_CLEAN = 0.43482
"""Top-1 error of AlexNet on the original 50,000 images: 56.518 % of its published predictions (ImageNetV2's
repository) are right."""


def corruption_errors(errors: Floats, baseline: Floats) -> Floats:
    """Return corruption errors: error rates summed over severities, divided by the error rates of a baseline.

    Parameters
    ----------
    errors : ndarray of float64, shape (…, K, S)
        Error rates of a model for K corruptions at S severities.
    baseline : ndarray of float64, shape (…, K, S)
        Error rates of the baseline.

    Returns
    -------
    ndarray of float64, shape (…, K)
        NaN if the baseline makes no errors. The mean over corruptions is the mean corruption error.
    """
    return _ratio(errors.sum(-1), baseline.sum(-1))


def relative_errors(
    errors: Floats, clean: npt.ArrayLike, baseline: Floats, baseline_clean: npt.ArrayLike
) -> Floats:
    """Return relative corruption errors: increases in the error rate, divided by a baseline's increases.

    Parameters
    ----------
    errors, baseline : ndarray of float64, shape (…, K, S)
        As in `corruption_errors`.
    clean, baseline_clean : array-like of float64, shape (…)
        Error rates on the original images.

    Returns
    -------
    ndarray of float64, shape (…, K)
        NaN if the errors of the baseline do not increase.
    """
    grown, of = (
        (e - np.asarray(c, np.float64)[..., None, None]).sum(-1)
        for e, c in ((errors, clean), (baseline, baseline_clean))
    )
    return _ratio(grown, of)


def _ratio(num: Floats, den: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(den > 0, num / den, np.nan))


def missing_share(
    single: npt.ArrayLike, multi: npt.ArrayLike, single_samples: Floats, multi_samples: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return the share of a loss of accuracy that is due to missing labels, with its 95 % interval.

    From one data set to another, a model usually loses more accuracy under original labels than under label
    sets. The difference is due to correct predictions that are missing from the original labels.

    Parameters
    ----------
    single, multi : array-like of float64, shape (M,)
        Losses of accuracy under original labels and under label sets.
    single_samples, multi_samples : ndarray of float64, shape (M, R)
        The losses under R resamples of the images. Both use the same resamples.

    Returns
    -------
    (share, lo, hi) : tuple of ndarray of float64, shape (M,)
        ``1 - multi / single`` and its interval. The share is negative if the loss is larger under label sets.
        It is NaN if the interval of `single` includes 0, or if there are no resamples.
    """
    single, multi = np.asarray(single, np.float64), np.asarray(multi, np.float64)
    if not single_samples.shape[-1]:
        return (np.full(single.shape, np.nan),) * 3
    clear = percentile_interval(single_samples)[0] > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        lo, hi = percentile_interval(1 - multi_samples / single_samples)
        share = (1 - multi / single, lo, hi)
    return tuple(np.where(clear, values, np.nan) for values in share)  # type: ignore[return-value]


def error_ratio(part: AnyFloats, whole: AnyFloats) -> Floats:
    """Return the error on part of the images divided by the error on all of them; NaN if there are no errors.

    Parameters
    ----------
    part, whole : ndarray of float
        Accuracies on the part and on all images, of the same shape.

    References
    ----------
    Idrissi et al. 2023, arXiv 2211.01866: ``(1 - accuracy(factor)) / (1 - accuracy)``.
    """
    errors = 1 - np.asarray(whole, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(errors > 0, (1 - np.asarray(part, np.float64)) / errors, np.nan)
