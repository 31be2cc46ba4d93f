"""Proposed values that are fitted to people's answers about the audited images, and cross-fitted.

A fit is closer to the answers that it has seen than to all others, so their residuals are too small, and so
are the errors. For each audited image, values are therefore proposed by a fit that has not seen it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from manyhot.core.array_types import AnyFloats, Floats, Ints
from manyhot.core.audit_samples import AuditSample
from manyhot.core.audited import LinearisedValues
from manyhot.errors import InputError


def cross_fitted(
    fit: Callable[[Ints], tuple[AnyFloats, Floats]],
    audited: AnyFloats,
    sample: AuditSample,
    *,
    folds: int = 5,
    rng: np.random.Generator,
) -> LinearisedValues:
    """Return the contributions to means whose proposed values are fitted to people's answers.

    The audited images are divided into folds. The values proposed for an image come from a fit to the other
    folds. With λ = 1, this is the augmented inverse probability weighted estimator (AIPW).

    Parameters
    ----------
    fit : callable
        Function that takes the rows of `audited` to which it may fit. It returns the proposed values of all
        audited images, shape (n, M), and the mean of the proposed values over all N images, shape (M,).
    audited : ndarray of float, shape (n, M)
        Values of the audited images under people's label sets.

    References
    ----------
    Zrnic and Candès 2024, Cross-prediction-powered inference, doi 10.1073/pnas.2322083121. Chernozhukov et
    al. 2018, doi 10.1111/ectj.12097.
    """
    if not 2 <= folds <= len(sample) // 2:
        raise InputError(
            "The images cannot be divided into `folds` folds.", got=folds, allowed=f"2 to {len(sample) // 2}"
        )
    fold = rng.permutation(np.arange(len(sample)) % folds)
    proposed, mean = np.empty(audited.shape), np.zeros(audited.shape[1])
    for k in range(folds):
        inside = fold == k
        values, over_all = fit(np.flatnonzero(~inside))
        proposed[inside] = values[inside]
        mean += sample.weights[inside].sum() * over_all
    return LinearisedValues(audited, proposed, mean, np.zeros(len(mean)), mean)


def least_squares(
    audited: AnyFloats, features: AnyFloats, mean: Floats
) -> Callable[[Ints], tuple[AnyFloats, Floats]]:
    """Return a function that fits a linear regression of people's values on features, for `cross_fitted`.

    The resulting estimate is the cross-fitted generalised regression estimator of survey sampling (Särndal,
    Swensson and Wretman 1992, Model Assisted Survey Sampling, chapter 6).

    Parameters
    ----------
    audited : ndarray of float, shape (n, M)
        Values of the audited images under people's label sets.
    features : ndarray of float, shape (n, M, D)
        Features of the audited images, such as values under several proposed label sets. A constant is added.
    mean : ndarray of float, shape (M, D)
        Mean of the features over all N images.
    """
    x = np.concatenate([np.ones((*features.shape[:2], 1)), features], axis=2).transpose(1, 0, 2)
    over_all = np.concatenate([np.ones((len(mean), 1)), mean], axis=1)

    def fit(rows: Ints) -> tuple[AnyFloats, Floats]:
        known = x[:, rows]
        products = known.transpose(0, 2, 1) @ known
        targets = known.transpose(0, 2, 1) @ audited[rows].T[:, :, None]
        # A feature that is constant on these rows leaves the products without an inverse.
        slopes = np.linalg.pinv(products, hermitian=True) @ targets
        return (x @ slopes)[:, :, 0].T, np.asarray((over_all[:, None] @ slopes)[:, 0, 0], np.float64)

    return fit
