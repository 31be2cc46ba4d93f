"""Differences of all pairs of models on the same images, with p-values adjusted for multiple testing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtr, stdtrit

from manyhot.core.array_types import AnyFloats, Bytes, Floats, Floats32, Ints, Ints64, Positions
from manyhot.core.resampling import LEVEL, QUANTILE, percentile_interval
from manyhot.core.threads import each_in_threads

_IMAGES_AT_ONCE = 4096
"""Images per block of a product: 5 MB of float64 of 67 models twice."""

_ROUNDING = 1e-6
"""Width of an interval, as a share of the larger value, that is only the rounding of resampled values."""

_ALIKE = 1e-5
"""Squared difference of changes, as a share of their squares, below which it is added up itself."""


@dataclass(frozen=True)
class PairTable:
    """P pairs of models, as in `pairs_of`; each array has shape (P,). `difference` is b's value minus a's."""

    a: Positions
    b: Positions
    difference: Floats
    lo: Floats
    hi: Floats
    p: Floats
    p_adjusted: Floats


def pairs_of(n_models: int, reference: int | None = None) -> tuple[Positions, Positions]:
    """Return both models of all pairs with a < b; with a reference, a is the reference and b any other."""
    if reference is None:
        return np.triu_indices(n_models, 1)
    return np.full(n_models - 1, reference), np.delete(np.arange(n_models), reference)


def compare_pairs(
    values: Floats,
    samples: AnyFloats | None = None,
    *,
    reference: int | None = None,
    group: Ints | None = None,
    errors: Floats | None = None,
    df: Floats | None = None,
) -> PairTable:
    """Compare pairs of models by values on the same resamples, or by standard errors of differences.

    Parameters
    ----------
    values : ndarray of float64, shape (M,)
    samples : ndarray of float, shape (M, R), optional
        Row m contains the resampled values of model m. Without `samples`, `errors` is required, and intervals
        use Student's t.
    reference : int, optional
        The model with which all others are compared, so that P = M - 1. By default, all P = M (M - 1) / 2
        pairs are compared.
    group : ndarray of int, shape (M,), optional
        The group of each model. Models in different groups are evaluated on different images, so the values
        of their pairs are NaN.
    errors : ndarray of float64, shape (P,), optional
        Standard errors of the differences, in the order of `pairs_of`, for example from `paired_errors` or
        `jackknife_errors`. By default, they are estimated from the resamples. A pair whose error is NaN has
        no interval and no p.
    df : ndarray of float64, shape (P,), optional
        Degrees of freedom of `errors`. By default, infinite, that is, a normal distribution is used.

    Notes
    -----
    `p` is two-sided, from the distribution of the difference divided by its standard error. A standard error
    from 1,000 resamples is accurate only to 2 %, which can change a p of 0.0001 by a tenth or more. Exact
    errors are therefore preferable. A p-value from counts of resamples cannot be below 1 / (R + 1). With R =
    1,000 and 2,211 pairs, Holm's factor raises this above 1, so no difference would be significant.

    If the difference is the same on all resamples, or whichever image is left out, there are too few images
    to say how it varies: there is no interval, and p is NaN, or 1 if the difference is 0.
    """
    a, b = pairs_of(len(values), reference)
    diff = values[b] - values[a]
    if errors is None:
        assert samples is not None  # for the type checker
        errors = _sampled_errors(samples)[a, b] if reference is None else _errors_to(samples, reference)[b]
    se = errors
    freedom = np.full(len(a), np.inf) if df is None else df
    half = np.where(np.isinf(freedom), QUANTILE, stdtrit(freedom, (1 + LEVEL) / 2)) * se
    lo, hi = (diff - half, diff + half) if samples is None else _sampled_ends(samples, a, b)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = -np.abs(diff) / se
        p = np.where(diff == 0, 1.0, 2 * np.where(np.isinf(freedom), ndtr(z), stdtr(freedom, z)))
    p = np.where(np.isnan(diff) | (np.isnan(se) & (samples is None)), np.nan, p)
    rounding = _ROUNDING * np.maximum(np.abs(values[a]), np.abs(values[b]))
    constant = hi - lo <= rounding
    lo, hi = (np.where(constant, np.nan, ends) for ends in (lo, hi))
    p = np.where(constant, np.where(np.abs(diff) <= rounding, 1.0, np.nan), p)
    if group is not None:
        apart = group[a] != group[b]
        diff, lo, hi, p = (np.where(apart, np.nan, values) for values in (diff, lo, hi, p))
    return PairTable(a, b, diff, lo, hi, p, holm(p))


def _sampled_ends(samples: AnyFloats, a: Positions, b: Positions) -> tuple[Floats, Floats]:
    lo, hi = np.empty(len(a)), np.empty(len(a))

    def fill(block: slice) -> None:
        lo[block], hi[block] = percentile_interval(samples[b[block]] - samples[a[block]])

    each_in_threads(fill, (slice(start, start + 512) for start in range(0, len(a), 512)))
    return lo, hi


def jackknife_errors(changes: Floats32) -> tuple[Floats, Floats]:
    """Return the standard errors of the differences between M values on the same n images.

    Parameters
    ----------
    changes : ndarray of float32, shape (M, n)
        For each model and image, the change in the model's value if the image is left out; a row of NaN if
        the model has no interval.

    Returns
    -------
    errors, df : ndarray of float64, shape (M, M)
        The errors and their degrees of freedom, as in `manyhot.core.jackknife.jackknife_error`.

    Notes
    -----
    If an image is left out, the difference between two models changes by the difference between the changes
    of their values. Changes that both models have in common cancel out.
    """
    n = changes.shape[1]
    means = changes.mean(axis=1, dtype=np.float64)
    moments = np.zeros((3, len(changes), len(changes)))
    for start in range(0, n, _IMAGES_AT_ONCE):
        block = changes[:, start : start + _IMAGES_AT_ONCE] - means[:, None]  # float64, against cancellation
        squares = block**2
        moments += block @ block.T, (squares * block) @ block.T, squares @ squares.T
    products, cubes, fourths = moments
    spread, fourth = np.diag(products), np.diag(fourths)
    total = np.maximum(spread[:, None] + spread[None] - 2 * products, 0)
    # The sum of (a - b)⁴, which by rounding may be less than it can be with this sum of squares.
    fourth = fourth[:, None] + fourth[None] + 6 * fourths - 4 * (cubes + cubes.T)
    fourth = np.clip(fourth, total**2 / n, total**2)
    # Of nearly equal changes, only rounding is left in these sums.
    alike = np.triu(total < _ALIKE * (spread[:, None] + spread[None]), 1)
    for a, b in zip(*np.nonzero(alike), strict=True):
        squares = (changes[a].astype(np.float64) - changes[b] - (means[a] - means[b])) ** 2
        total[a, b] = total[b, a] = squares.sum()
        fourth[a, b] = fourth[b, a] = squares @ squares
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(total * (n - 1) / n), np.where(
            total > 0, np.minimum(2 * total**2 / fourth, n - 1), 1.0
        )


def only_right(right: Bytes) -> Ints64:
    """Return, for each pair of models, how many images only the first gets right, shape (M, M).

    Parameters
    ----------
    right : ndarray of uint8, shape (M, ceil(n / 8))
        For each model, one bit per image: 1 if the image is in the numerator of the model's share.
    """
    both = np.array([_both_right(right, row) for row in right])
    return np.asarray(np.diag(both)[:, None] - both)


def only_one_right(right: Bytes, reference: int | None = None) -> tuple[Ints64, Ints64]:
    """Return, for each pair, how many images only a and how many only b gets right, each of shape (P,).

    Parameters
    ----------
    right : ndarray of uint8
        As in `only_right`.
    reference : int, optional
        As in `compare_pairs`.
    """
    a, b = pairs_of(len(right), reference)
    if reference is None:
        only = only_right(right)
        return only[a, b], only[b, a]
    both, every = _both_right(right, right[reference]), np.bitwise_count(right[reference]).sum(dtype=np.int64)
    own = np.bitwise_count(right).sum(1, dtype=np.int64)
    return every - both[b], (own - both)[b]


def _both_right(right: Bytes, row: Bytes) -> Ints64:
    return np.asarray(np.bitwise_count(right & row).sum(1, dtype=np.int64))


def paired_errors(first: Ints64, second: Ints64, n: int) -> Floats:
    """Return the standard errors of the differences between pairs of shares of the same n images.

    Parameters
    ----------
    first, second : ndarray of int64
        Number of images that only the first model, and only the second model, gets right.

    Notes
    -----
    If b images are only in the numerator of one model, and c images are only in that of the other, the
    difference is (b - c) / n. Its variance is ((b + c) / n - ((b - c) / n)²) / n, as in McNemar's test (doi
    10.1007/BF02295996).
    """
    apart, difference = first + second, (first - second) / n
    return np.asarray(np.sqrt(np.maximum(apart / n - difference**2, 0) / n))


def _sampled_errors(samples: AnyFloats) -> Floats:
    cov = np.atleast_2d(np.cov(samples.astype(np.float64), bias=True))
    spread = np.diag(cov)
    # By rounding, the variance is about 1e-20 if two models agree on all images.
    return np.asarray(np.sqrt(np.maximum(spread[:, None] + spread[None] - 2 * cov, 0)))


def _errors_to(samples: AnyFloats, reference: int) -> Floats:
    """Return `_sampled_errors` of the differences to one model, shape (M,)."""
    centred = samples.astype(np.float64)
    centred -= centred.mean(axis=1, keepdims=True)
    return np.asarray(np.sqrt(((centred - centred[reference]) ** 2).mean(axis=1)))


def holm(p: Floats) -> Floats:
    """Return Holm's step-down adjusted p-values, shape (m,); NaN remains NaN and is not counted.

    References
    ----------
    Holm 1979, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6, 65–70.
    """
    adjusted = np.full(len(p), np.nan)
    defined = np.flatnonzero(~np.isnan(p))
    order = defined[np.argsort(p[defined], kind="stable")]
    factor = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factor), 1)
    return adjusted
