"""Errors on corrupted pictures as one number, and how much of a loss of accuracy is missing labels.

A model is judged on pictures and on corrupted copies of them: kinds of corruption at several severities.
Some kinds are harder than others for every model, so that errors are divided by those of a baseline, kind by
kind, before they are averaged.

References
----------
Hendrycks & Dietterich 2019, arXiv 1903.12261, section 4.2.
"""

from __future__ import annotations

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Floats
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
"""Top-1 errors of AlexNet on ImageNet-C's 50,000 images, by kind and severity, 1 to 5. Their means by kind
are what Hendrycks & Dietterich normalise by, as in ``imagenet.py`` of google-research/augmix @ 202cf4c8."""

ALEXNET_CLEAN = 0.43482
"""Top-1 error of AlexNet on the 50,000 images as they are: of its published predictions (ImageNetV2's
repository), 56.518 % are right."""


def corruption_errors(errors: Floats, baseline: Floats) -> Floats:
    """Return the corruption error of each kind: the sum of errors over severities, over a baseline's.

    Parameters
    ----------
    errors : ndarray of float64, shape (…, K, S)
        Of a model, for K kinds at S severities.
    baseline : ndarray of float64, shape (…, K, S)
        Of the baseline.

    Returns
    -------
    ndarray of float64, shape (…, K)
        NaN where the baseline makes no error. Their mean over the kinds is the mean corruption error.
    """
    return _ratio(errors.sum(-1), baseline.sum(-1))


def relative_errors(
    errors: Floats, clean: npt.ArrayLike, baseline: Floats, baseline_clean: npt.ArrayLike
) -> Floats:
    """Return the relative corruption error of each kind: how much errors grow, over how a baseline's do.

    Parameters
    ----------
    errors, baseline : ndarray of float64, shape (…, K, S)
        As in `corruption_errors`.
    clean, baseline_clean : array-like of float64, shape (…)
        Errors on the pictures as they are.

    Returns
    -------
    ndarray of float64, shape (…, K)
        NaN where the errors of the baseline do not grow.
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
    """Return what share of a loss is missing labels, with its 95 % interval.

    Under original labels a model loses accuracy from one place to another, and less of it under label sets:
    what is not lost there was right all along, and a label was missing.

    Parameters
    ----------
    single, multi : array-like of float64, shape (M,)
        Losses of accuracy under original labels and under label sets.
    single_samples, multi_samples : ndarray of float64, shape (M, R)
        The same under R resamples of the images, each the same images for both.

    Returns
    -------
    (share, lo, hi) : tuple of ndarray of float64, shape (M,)
        ``1 - multi / single``, below 0 where more is lost under label sets. NaN where the loss is not clearly
        above 0: where the interval of `single` reaches it, or there are no resamples.
    """
    single, multi = np.asarray(single, np.float64), np.asarray(multi, np.float64)
    if not single_samples.shape[-1]:
        return (np.full(single.shape, np.nan),) * 3
    clear = percentile_interval(single_samples)[0] > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        lo, hi = percentile_interval(1 - multi_samples / single_samples)
        found = (1 - multi / single, lo, hi)
    return tuple(np.where(clear, values, np.nan) for values in found)  # type: ignore[return-value]
