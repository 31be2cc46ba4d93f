"""Means of ratios over many strata with few audited images each, such as the classes of ``mla``.

The ratio of stratum g is R_g = A_g / B_g, but its denominator B_g, the number of images on which people find
a valid class, cannot be estimated well from few audited images. With an expected denominator E_g, and
relative errors δ_g = B_g / E_g - 1, the expansion at any ratio Q_g,

    Q_g + (A_g - Q_g B_g) / E_g = R_g + (R_g - Q_g) δ_g,

is off by a product that does not become smaller with more images: 0.8 points, if 12 % of the images of half
of the classes have no valid class. Both factors are made small. Q_g is the ratio under the proposals,
calibrated to people's answers. In addition, if there are enough pairs of audited images in the same stratum,
the product of the errors is estimated from them and subtracted. The remaining error is (R_g - Q_g) δ_g².
"""

from __future__ import annotations

import numpy as np

from manyhot.core.array_types import AnyFloats, Bools, Floats, Ints

FEWEST_PAIRS = 200
"""Minimum number of pairs of audited images in the same stratum for subtracting the product of the errors.
With 1,000 classes, it takes 630 images. With fewer pairs, intervals would widen by more than the product
itself."""


def calibrated_ratios(
    num: AnyFloats | Bools, den: AnyFloats | Bools, stratum: Ints, weights: Floats, proposed: Floats
) -> Floats:
    """Return the strata's ratios under proposals, calibrated to people's answers by weighted least squares.

    Parameters
    ----------
    num, den : ndarray of float, shape (n,)
        Numerators and denominators of the audited images under people's label sets.
    stratum : ndarray of int, shape (n,)
    weights : ndarray of float64, shape (n, S)
        The weights of the images in each of S slices; 0 outside the slice.
    proposed : ndarray of float64, shape (G, S)
        The ratio of each of G strata under the proposed label sets.

    Returns
    -------
    ndarray of float64, shape (G, S)
        ``a + b proposed``, where a and b minimise the weighted sum of squares of ``num - (a + b proposed)
        den``.
    """
    den, product = np.asarray(den, np.float64), np.multiply(num, den, dtype=np.float64)
    heavy = weights * (den**2)[:, None]
    total = np.where(heavy.sum(axis=0) > 0, heavy.sum(axis=0), 1.0)
    ratio = proposed[stratum]
    centre, mean = (heavy * ratio).sum(axis=0) / total, product @ weights / total
    apart = ratio - centre
    spread = (heavy * apart**2).sum(axis=0)
    slope = (product[:, None] * weights * apart).sum(axis=0) / np.where(spread > 0, spread, 1.0)
    return np.asarray(mean + slope * (proposed - centre))


def has_pairs(stratum: Ints) -> bool:
    """Return whether enough pairs of audited images share a stratum to estimate products of errors."""
    n = np.bincount(stratum)
    return bool((n * (n - 1)).sum() >= 2 * FEWEST_PAIRS)


def subtract_products(
    first_order: Floats, error: Floats, stratum: Ints, weights: Floats, n_strata: int, n_images: int
) -> tuple[Floats, Floats]:
    """Return contributions after removing the products of the errors of ratios and of denominators.

    Parameters
    ----------
    first_order : ndarray of float64, shape (n, S)
        ``(num - Q den) / (G E)`` of each audited image, in each slice.
    error : ndarray of float64, shape (n, S)
        ``(den - expected den) / E``, whose mean over all images of a stratum, divided by N, is δ_g.
    stratum : ndarray of int, shape (n,)
    weights : ndarray of float64, shape (n,)

    Returns
    -------
    contributions : ndarray of float64, shape (n, S)
        The contribution of each audited image to first order, that is, its derivative. Their variance is that
        of the jackknife, which overestimates the part due to pairs by a factor of at most two.
    shift : ndarray of float64, shape (S,)
        The value to add to the weighted sums of the contributions.

    Notes
    -----
    The product of two sums over all images of a stratum is a sum over pairs of different images plus a sum
    over single images. A sample contains a pair with the probability ``p_i p_j (n - 1) / n N / (N - 1)``,
    which is exact for equal probabilities (Hartley and Rao 1962, doi 10.1214/aoms/1177704564).
    """
    n = len(weights)
    factor = (1 - 1 / n_images) / (1 - 1 / n)
    weighted = [weights[:, None] * x for x in (first_order, error)]
    sums = [np.stack([np.bincount(stratum, c, n_strata) for c in x.T], axis=1) for x in weighted]
    others = [total[stratum] - x for total, x in zip(sums, weighted, strict=True)]
    pairs = factor * (first_order * others[1] + error * others[0])
    shift = factor * np.einsum("is,is->s", weighted[0], others[1])
    return first_order - pairs - first_order * error / n_images, shift
