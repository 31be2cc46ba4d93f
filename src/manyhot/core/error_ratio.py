"""How much more often models err on some images than on all."""

from __future__ import annotations

import numpy as np

from manyhot.core.array_types import AnyFloats, Floats


def error_ratio(part: AnyFloats, whole: AnyFloats) -> Floats:
    """Return the error on a part of the images divided by the error on all; NaN if there are no errors.

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
