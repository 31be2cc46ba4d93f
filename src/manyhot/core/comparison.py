"""Comparison of models' values at x and y, such as accuracies on two data sets: drops, fits and rankings.

Statements about models in general are uncertain in two ways. First, values would differ on other images;
intervals over images are computed from resampled values (`manyhot.core.resampling`). Second, other models
might have been evaluated; because models of one family are not independent, intervals over models leave out
whole families.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, ndtr, ndtri, stdtrit

from manyhot.core.array_types import AnyFloats, Bools, Floats, Ints, Positions
from manyhot.core.jackknife import resampled_interval
from manyhot.core.resampling import LEVEL

FEWEST_FAMILIES = 5
"""Minimum number of families for an interval, because two or three families say little about others."""

_MOST = 10_000_000
"""Maximum number of pairs of models in all resamples of an interval of tau."""

_VALUES = 1_000_000
"""Resampled values of models that are ordered at a time: 50 MB."""

NO_INTERVAL = (float("nan"), float("nan"))
"""The ends of an undefined interval."""


@dataclass(frozen=True)
class FittedLine:
    """A least-squares line through M models, with intervals over families.

    Attributes
    ----------
    slope, intercept, r2 : float
        Parameters and R² of the line. NaN with fewer than two models, or if all models have the same value at
        x.
    slope_interval, intercept_interval : tuple of float
        95 % intervals. NaN with fewer than `FEWEST_FAMILIES` families.
    n, n_families : int
        Number of models and of families. On the logit and probit scales, models with a value of 0 or 1 are
        left out, because 0 and 1 become infinite on these scales.
    """

    slope: float
    intercept: float
    r2: float
    slope_interval: tuple[float, float]
    intercept_interval: tuple[float, float]
    n: int
    n_families: int


@dataclass(frozen=True)
class RankAgreement:
    """Agreement of two rankings of models.

    Attributes
    ----------
    tau : float
        Kendall's tau-b.
    images, models : tuple of float
        95 % intervals over images and over families of models.
    n_pairs, n_swapped : int
        Number of pairs of models, and number of pairs whose order is reversed at y.
    """

    tau: float
    images: tuple[float, float]
    models: tuple[float, float]
    n_pairs: int
    n_swapped: int


def to_scale(values: npt.ArrayLike, scale: str) -> Floats:
    """Return shares on the plain, logit or probit scale. On the last two scales, 0 and 1 become infinite."""
    plain = np.asarray(values, np.float64)
    if scale == "plain":
        return plain
    scaled: Floats = logit(plain) if scale == "logit" else ndtri(plain)
    return scaled


def from_scale(values: npt.ArrayLike, scale: str) -> Floats:
    """Return shares from values on a scale: the inverse of `to_scale`."""
    scaled = np.asarray(values, np.float64)
    if scale == "plain":
        return scaled
    plain: Floats = expit(scaled) if scale == "logit" else ndtr(scaled)
    return plain


@dataclass(frozen=True)
class Families:
    """The family of each model, and intervals computed by leaving out one family at a time.

    Attributes
    ----------
    index : ndarray of int, shape (M,)
        The family of each model, from 0.

    Notes
    -----
    Intervals are computed by a jackknife over F families. For a statistic whose value is θ, and θ_f without
    family f, the standard error is ``sqrt((F - 1) / F * sum((θ_f - θ)**2))``, and the interval uses Student's
    t. If families are equally large, a mean has F - 1 degrees of freedom, and its interval is the usual
    interval of the F family means. If a few large families dominate, there are fewer degrees of freedom: the
    inverse of the sum of the families' squared shares of the models, minus 1.
    ``benchmarks/interval_coverage.py`` shows the coverage.

    References
    ----------
    Cameron, Gelbach and Miller 2008, doi 10.1162/rest.90.3.414, on clusters; MacKinnon, Nielsen and Webb
    2023, doi 10.1002/jae.2990, on the jackknife over clusters. The effective number of families is defined as
    in Kish 1965, Survey Sampling.
    """

    index: Positions

    @classmethod
    def of(cls, names: Sequence[str]) -> Families:
        """Return the families of M models, given by name."""
        return cls(np.unique(np.asarray(names, str), return_inverse=True)[1])

    def __len__(self) -> int:
        return int(self.index.max(initial=-1)) + 1

    def take(self, models: Bools) -> Families:
        """Return the families of the selected models."""
        return Families(np.unique(self.index[models], return_inverse=True)[1])

    @property
    def df(self) -> float:
        """Degrees of freedom: the effective number of families minus 1."""
        shares = np.bincount(self.index) / len(self.index)
        return float(1 / (shares**2).sum() - 1)

    def sums_without(self, values: Floats) -> Floats:
        """Return, per family, the sum of `values`, shape (M,), over models outside it, shape (F,)."""
        own = np.bincount(self.index, values, len(self))
        return np.asarray(own.sum() - own)

    def pair_sums_without(self, values: Floats) -> Floats:
        """Return, per family, the sum of symmetric `values`, (M, M), over pairs outside it, shape (F,)."""
        member = np.eye(len(self))[self.index]
        own = member.T @ values @ member
        return np.asarray(own.sum() - 2 * own.sum(1) + np.diag(own))

    def interval(self, value: float, without: Floats) -> tuple[float, float]:
        """Return the interval of a statistic from its values with each family left out, shape (F,).

        The ends are NaN if there are fewer than `FEWEST_FAMILIES` families, if there are fewer than two
        degrees of freedom, or if the statistic is undefined without one of the families.
        """
        n = len(self)
        # Student's t has no finite variance from two degrees of freedom downwards.
        if n < FEWEST_FAMILIES or self.df < 2:
            return NO_INTERVAL
        error = np.sqrt((n - 1) / n * ((without - value) ** 2).sum())
        half = float(stdtrit(self.df, (1 + LEVEL) / 2) * error)
        return value - half, value + half

    def mean_interval(self, values: Floats) -> tuple[float, float]:
        """Return the interval of the mean of `values`, shape (M,)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            without = self.sums_without(values) / self.sums_without(np.ones(len(values)))
        return self.interval(float(values.mean()), without)


def fit_line(x: Floats, y: Floats, families: Families, *, scale: str = "plain") -> FittedLine:
    """Fit a line to y as a function of x by least squares, with both on the same scale.

    Parameters
    ----------
    x, y : ndarray of float64, shape (M,)
        Shares between 0 and 1.
    families : Families
        The families of the M models.
    scale : {"plain", "logit", "probit"}

    References
    ----------
    Recht et al. 2019, arXiv 1902.10811, fit accuracies on the probit scale; Taori et al. 2020, arXiv
    2007.00644, on the logit scale.
    """
    u, v = to_scale(x, scale), to_scale(y, scale)
    finite = np.isfinite(u) & np.isfinite(v)
    u, v, families = u[finite], v[finite], families.take(finite)
    if len(u) < 2:
        return FittedLine(*(float("nan"),) * 3, NO_INTERVAL, NO_INTERVAL, len(u), len(families))
    slope, intercept = (float(e) for e in _line(u, v, np.sum))
    without = _line(u, v, families.sums_without)
    spread, residual = np.sum((v - v.mean()) ** 2), np.sum((v - intercept - slope * u) ** 2)
    # Values that differ only by rounding have no variance to explain.
    r2 = float(1 - residual / spread) if np.ptp(v) > 1e-9 else float("nan")
    slope_ends, intercept_ends = (
        families.interval(value, other) for value, other in zip((slope, intercept), without, strict=True)
    )
    return FittedLine(slope, intercept, r2, slope_ends, intercept_ends, len(u), len(families))


def above_line(x: Floats, y: Floats, line: FittedLine, scale: str) -> Floats:
    """Return each model's effective robustness as a share: its y minus the value of the line at its x.

    References
    ----------
    Taori et al. 2020, arXiv 2007.00644, section 2.
    """
    with np.errstate(invalid="ignore"):  # a flat line at a model that is infinite on the scale
        return np.asarray(y - from_scale(line.intercept + line.slope * to_scale(x, scale), scale))


def compare_orders(
    x: Floats,
    y: Floats,
    families: Families,
    samples_x: AnyFloats | None = None,
    samples_y: AnyFloats | None = None,
    *,
    n: float = np.inf,
) -> RankAgreement:
    """Compare two rankings of M models.

    Parameters
    ----------
    x, y : ndarray of float64, shape (M,)
    families : Families
        The families of the M models.
    samples_x, samples_y : ndarray of float, shape (M, R), optional
        Resampled values for the interval over images.
    n : float
        Number of resampled images. By default, it is treated as infinite.

    Notes
    -----
    Resampling adds noise to values that are already noisy. The tau of resampled values is therefore too low,
    and a percentile interval may not contain the actual value. The interval over images is instead computed
    by `manyhot.core.jackknife.resampled_interval` and clipped to [-1, 1].
    """
    signs_x, signs_y = (np.sign(np.subtract.outer(v, v)) for v in (x, y))
    products = signs_x * signs_y
    parts = (products, np.abs(signs_x), np.abs(signs_y))
    tau = float(_tau(*(np.array([p.sum()]) for p in parts))[0])
    lo, hi = families.interval(tau, _tau(*(families.pair_sums_without(p) for p in parts)))
    models = (max(lo, -1.0), min(hi, 1.0)) if np.isfinite(lo) else NO_INTERVAL
    images = NO_INTERVAL
    if samples_x is not None and samples_y is not None and np.isfinite(tau):
        taus = _resampled_taus(samples_x, samples_y)
        lo, hi = resampled_interval(tau, taus, n=n, scale="plain")
        images = (max(lo, -1.0), min(hi, 1.0)) if np.isfinite(lo) else NO_INTERVAL
    n_swapped = int(np.count_nonzero(products < 0)) // 2
    return RankAgreement(tau, images, models, len(x) * (len(x) - 1) // 2, n_swapped)


def _line(x: Floats, y: Floats, sums: Callable[[Floats], Floats]) -> tuple[Floats, Floats]:
    """Return slope and intercept from sums over models; NaN if all have the same value at x."""
    # Centred at the means of all models, to avoid cancellation.
    u, v = x - x.mean(), y - y.mean()
    with np.errstate(invalid="ignore", divide="ignore"):
        n = sums(np.ones(len(x)))
        mu, mv = sums(u) / n, sums(v) / n
        spread = sums(u * u) / n - mu * mu
        slope = np.where(spread > 1e-15, (sums(u * v) / n - mu * mv) / spread, np.nan)
    return slope, y.mean() + mv - slope * (x.mean() + mu)


def _tau(agreed: Floats, in_x: Floats, in_y: Floats) -> Floats:
    """Return tau-b from sums over pairs: products of signs, and the pairs without ties at x and at y."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return agreed / np.sqrt(in_x * in_y)


def _resampled_taus(x: AnyFloats, y: AnyFloats) -> Floats:
    m, n_pairs = len(x), len(x) * (len(x) - 1) // 2
    # The standard deviation of 100 resamples has an error of 7 %.
    n = min(x.shape[1], max(100, _MOST // max(n_pairs, 1)))
    blocks = [slice(start, min(start + _VALUES // m + 1, n)) for start in range(0, n, _VALUES // m + 1)]
    return np.concatenate([_taus(x[:, rows].T, y[:, rows].T) for rows in blocks])


def _taus(x: AnyFloats, y: AnyFloats) -> Floats:
    """Return tau-b of each row of x and y, shape (R, M), in M log(M)^2 steps; NaN if a value is NaN.

    References
    ----------
    Knight 1966, doi 10.1080/01621459.1966.10480879.
    """
    undefined = (np.isnan(x) | np.isnan(y)).any(axis=1)
    order = np.lexsort((y, x), axis=-1)
    x, y = (np.take_along_axis(v, order, axis=1) for v in (x, y))
    by_y = np.argsort(y, axis=1, kind="stable")
    new_x, new_y = _begins(x), _begins(np.take_along_axis(y, by_y, axis=1))
    ranks = np.empty(y.shape, np.int64)
    np.put_along_axis(ranks, by_y, np.cumsum(new_y, axis=1), axis=1)
    n_pairs = x.shape[1] * (x.shape[1] - 1) // 2
    in_x, in_y = n_pairs - _n_tied(new_x), n_pairs - _n_tied(new_y)
    agreed = in_x + in_y - n_pairs + _n_tied(new_x | _begins(y)) - 2 * _inversions(ranks)
    taus: Floats = _tau(agreed, in_x, in_y)
    taus[undefined] = np.nan
    return taus


def _begins(values: AnyFloats) -> Bools:
    """Return where runs of equal values begin in each row."""
    begins = np.ones(values.shape, bool)
    begins[:, 1:] = values[:, 1:] != values[:, :-1]
    return begins


def _n_tied(begins: Bools) -> Ints:
    """Return the number of pairs in each row that are in the same run."""
    place = np.arange(begins.shape[1])
    return np.asarray((place - np.maximum.accumulate(np.where(begins, place, 0), axis=1)).sum(axis=1))


def _inversions(ranks: Ints) -> Ints:
    """Return the number of pairs in each row whose first value is greater, by sorting ever longer parts."""
    r, m = ranks.shape
    size, most = 1 << max(m - 1, 0).bit_length(), m + 1
    parts = np.full((r, size), most)
    parts[:, :m] = ranks
    found = np.zeros(r, np.int64)
    width = 1
    while width < size:
        parts = parts.reshape(-1, 2 * width)
        # Each part is moved above the one before it, so that one search is enough for all.
        shift = np.arange(len(parts))[:, None]
        left, right = (half + shift * (most + 1) for half in (parts[:, :width], parts[:, width:]))
        below = (
            np.searchsorted(left.ravel(), right.ravel(), side="right").reshape(right.shape) - shift * width
        )
        found += (width - below).reshape(r, -1).sum(axis=1)
        parts = np.sort(parts, axis=1)
        width *= 2
    return found
