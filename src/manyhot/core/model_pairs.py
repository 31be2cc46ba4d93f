"""Differences of all pairs of models, with intervals and p-values adjusted for multiple testing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy import typing as npt
from scipy.special import ndtr

from manyhot.core.array_types import AnyFloats, Floats, Ints
from manyhot.core.resampling import percentile_interval


@dataclass(frozen=True)
class PairTable:
    """All pairs of M models with a < b; each array has shape (M (M - 1) / 2,)."""

    a: npt.NDArray[np.intp]
    b: npt.NDArray[np.intp]
    diff: Floats
    lo: Floats
    hi: Floats
    p: Floats
    p_adjusted: Floats


def compare_pairs(
    values: Floats,
    samples: AnyFloats,
    *,
    group: Ints | None = None,
    errors: Floats | None = None,
) -> PairTable:
    """Compare all pairs of models by their values on the same resamples.

    Parameters
    ----------
    values : ndarray of float64, shape (M,)
    samples : ndarray of float, shape (M, R)
        Row m holds the resampled values of model m.
    group : ndarray of int, shape (M,), optional
        Models of different groups count different images, so their pairs are NaN.
    errors : ndarray of float64, shape (M, M), optional
        Standard errors of the differences, such as by `paired_errors`; by default, those of the resamples.

    Notes
    -----
    `p` is two-sided, from the normal distribution of the difference divided by its standard error. A standard
    error from 1,000 resamples is accurate to 2 %, which at p = 0.0001 changes p by a tenth or more: prefer
    exact errors. Counting resamples cannot give a p below 1 / (R + 1), which Holm's factor for 2,211 pairs
    raises above 1 at R = 1,000: no difference would be significant.
    """
    a, b = np.triu_indices(len(values), 1)
    diff = values[a] - values[b]
    lo, hi = np.empty_like(diff), np.empty_like(diff)
    for start, stop in _pair_blocks(len(values)):
        lo[start:stop], hi[start:stop] = percentile_interval(samples[a[start:stop]] - samples[b[start:stop]])
    with np.errstate(invalid="ignore", divide="ignore"):
        se = _sampled_errors(samples)[a, b] if errors is None else errors[a, b]
        p = np.where(diff == 0, 1.0, 2 * ndtr(-np.abs(diff) / se))
    # A standard error of 0 means that there are too few images, not that the difference is certain.
    p = np.where(np.isnan(diff) | ((se == 0) & (diff != 0)), np.nan, p)
    if group is not None:
        apart = group[a] != group[b]
        diff, lo, hi, p = (np.where(apart, np.nan, values) for values in (diff, lo, hi, p))
    return PairTable(a, b, diff, lo, hi, p, holm(p))


def paired_errors(right: npt.NDArray[np.uint8], n: int) -> Floats:
    """Return the standard errors of the differences of M shares of the same n images, shape (M, M).

    Parameters
    ----------
    right : ndarray of uint8, shape (M, ceil(n / 8))
        The images that count for each model, as bits.
    n : int

    Notes
    -----
    If b images count only for one model and c only for the other, the difference is (b - c) / n, and its
    variance is ((b + c) / n - ((b - c) / n)²) / n, as in McNemar's test (doi 10.1007/BF02295996).
    """
    counts = np.bitwise_count(right).sum(1, dtype=np.int64)
    both = np.array([np.bitwise_count(right & row).sum(1, dtype=np.int64) for row in right])
    apart = counts[:, None] + counts[None] - 2 * both
    difference = (counts[:, None] - counts[None]) / n
    return np.asarray(np.sqrt(np.maximum(apart / n - difference**2, 0) / n))


def _sampled_errors(samples: AnyFloats) -> Floats:
    cov = np.atleast_2d(np.cov(samples.astype(np.float64), bias=True))
    spread = np.diag(cov)
    # By rounding, the variance is about 1e-20 if two models agree on all images.
    return np.asarray(np.sqrt(np.maximum(spread[:, None] + spread[None] - 2 * cov, 0)))


def holm(p: Floats) -> Floats:
    """Return Holm's step-down adjusted p-values, shape (m,); NaN remains NaN and does not count.

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


def _pair_blocks(n_models: int, size: int = 2048) -> Iterator[tuple[int, int]]:
    n_pairs = n_models * (n_models - 1) // 2
    for start in range(0, n_pairs, size):
        yield start, min(start + size, n_pairs)
