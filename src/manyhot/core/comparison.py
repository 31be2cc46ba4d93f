"""Models at two places: drops, fits and orders, with intervals over images and over families of models.

A model has a value at x and one at y, such as its accuracy on two data sets. What is said about models in
general is uncertain in two ways. Other images would have given other values: intervals over images come from
resampled values (`manyhot.core.resampling`). Other models would have been judged: models of one family are
no independent witnesses, so intervals over models redraw whole families.

References
----------
Cameron, Gelbach & Miller 2008, doi 10.1162/rest.90.3.414, for redrawing clusters. With few families such
intervals are too short.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, ndtr, ndtri

from manyhot.core.array_types import AnyFloats, Bools, Floats
from manyhot.core.resampling import LEVEL, percentile_interval

FEWEST_FAMILIES = 5
"""Families it takes for an interval: redrawing two or three says next to nothing about others."""

_MOST = 10_000_000
"""Pairs of models in all resamples of an interval of tau."""

NO_INTERVAL = (float("nan"), float("nan"))
"""The interval of what has none."""


@dataclass(frozen=True)
class FittedLine:
    """A least-squares line of M models, with percentile intervals over families.

    Attributes
    ----------
    slope, intercept, r2 : float
        NaN with fewer than two models, or where all have one value at x.
    slope_interval, intercept_interval : tuple of float
        NaN with fewer than `FEWEST_FAMILIES`.
    n, n_families : int
        Models and families; a model at 0 or 1 has no place on the logit and probit scales and is left out.
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
    """How alike two orders of models are.

    Attributes
    ----------
    tau : float
        Kendall's tau-b.
    images, models : tuple of float
        95 % intervals over images and over families.
    n_pairs, n_swapped : int
        Pairs of models, and those in another order at y than at x.
    """

    tau: float
    images: tuple[float, float]
    models: tuple[float, float]
    n_pairs: int
    n_swapped: int


def to_scale(values: npt.ArrayLike, scale: str) -> Floats:
    """Return shares on the plain, logit or probit scale; 0 and 1 become infinite on the latter two."""
    plain = np.asarray(values, np.float64)
    if scale == "plain":
        return plain
    scaled: Floats = logit(plain) if scale == "logit" else ndtri(plain)
    return scaled


def from_scale(values: npt.ArrayLike, scale: str) -> Floats:
    """Return the shares that `to_scale` came from."""
    scaled = np.asarray(values, np.float64)
    if scale == "plain":
        return scaled
    plain: Floats = expit(scaled) if scale == "logit" else ndtr(scaled)
    return plain


@dataclass(frozen=True)
class Families:
    """Which models are of one family, and resamples of the families.

    Attributes
    ----------
    index : ndarray of int, shape (M,)
        The family of each model, from 0.
    counts : ndarray of float64, shape (R, F)
        How often each family was drawn; of no rows with fewer than `FEWEST_FAMILIES`.
    """

    index: npt.NDArray[np.intp]
    counts: Floats

    @classmethod
    def draw(cls, names: Sequence[str], resamples: int, rng: np.random.Generator) -> Families:
        """Redraw the families of M models, by their names, with replacement."""
        known, index = np.unique(np.asarray(names, str), return_inverse=True)
        n = len(known)
        if n < FEWEST_FAMILIES:
            return cls(index, np.empty((0, n)))
        counts = np.zeros((resamples, n))
        np.add.at(counts, (np.arange(resamples)[:, None], rng.integers(0, n, (resamples, n))), 1)
        return cls(index, counts)

    def __len__(self) -> int:
        return len(np.unique(self.index))

    def take(self, models: Bools) -> Families:
        """Return the families of some of the models; without resamples if they are too few."""
        some = Families(self.index[models], self.counts)
        return some if len(some) >= FEWEST_FAMILIES else Families(some.index, self.counts[:0])

    def sums(self, values: Floats) -> Floats:
        """Return the sum over the models of each resample, shape (R,)."""
        sums: Floats = self.counts @ np.bincount(self.index, values, self.counts.shape[1])
        return sums

    def pair_sums(self, values: Floats) -> Floats:
        """Return the sum over the pairs of models of each resample; `values` has shape (M, M)."""
        member = np.zeros((len(self.index), self.counts.shape[1]))
        member[np.arange(len(self.index)), self.index] = 1
        sums: Floats = np.einsum("rf,rf->r", self.counts @ (member.T @ values @ member), self.counts)
        return sums

    def mean_interval(self, values: Floats) -> tuple[float, float]:
        """Return the interval of the mean of `values`, shape (M,)."""
        with np.errstate(invalid="ignore"):
            return percentile_ends(self.sums(values) / self.sums(np.ones(len(values))))


def fit_line(x: Floats, y: Floats, families: Families, *, scale: str = "plain") -> FittedLine:
    """Fit y on x by least squares, both on one scale.

    Parameters
    ----------
    x, y : ndarray of float64, shape (M,)
        Shares between 0 and 1.
    families : Families
        Of the M models.
    scale : {"plain", "logit", "probit"}

    References
    ----------
    Recht et al. 2019, arXiv 1902.10811, fit accuracies on the probit scale; Taori et al. 2020, arXiv
    2007.00644, on the logit scale.
    """
    u, v = to_scale(x, scale), to_scale(y, scale)
    known = np.isfinite(u) & np.isfinite(v)
    u, v, families = u[known], v[known], families.take(known)
    if len(u) < 2:
        return FittedLine(*(float("nan"),) * 3, NO_INTERVAL, NO_INTERVAL, len(u), len(families))
    slope, intercept = (float(e) for e in _line(u, v, np.sum))
    slopes, intercepts = _line(u, v, families.sums)
    spread, residual = np.sum((v - v.mean()) ** 2), np.sum((v - intercept - slope * u) ** 2)
    # What is equal but for rounding has no spread to explain.
    r2 = float(1 - residual / spread) if np.ptp(v) > 1e-9 else float("nan")
    return FittedLine(
        slope, intercept, r2, percentile_ends(slopes), percentile_ends(intercepts), len(u), len(families)
    )


def above_line(x: Floats, y: Floats, line: FittedLine, scale: str) -> Floats:
    """Return how far each model lies above a line, in shares: its effective robustness.

    References
    ----------
    Taori et al. 2020, arXiv 2007.00644, section 2: y less what the line gives at x.
    """
    with np.errstate(invalid="ignore"):  # a flat line at a model without a place on the scale
        return np.asarray(y - from_scale(line.intercept + line.slope * to_scale(x, scale), scale))


def compare_orders(
    x: Floats,
    y: Floats,
    families: Families,
    samples_x: AnyFloats | None = None,
    samples_y: AnyFloats | None = None,
) -> RankAgreement:
    """Compare two orders of M models.

    Parameters
    ----------
    x, y : ndarray of float64, shape (M,)
    families : Families
        Of the M models.
    samples_x, samples_y : ndarray of float, shape (M, R), optional
        Resampled values, for the interval over images.

    Notes
    -----
    Resamples add noise to values that have noise already, which brings their orders further apart: their tau
    lies below that of the values, and percentiles may miss it. The interval over images is therefore the
    value and 1.96 standard deviations of the resamples on both sides, cut at -1 and 1.
    """
    signs_x, signs_y = (np.sign(np.subtract.outer(v, v)) for v in (x, y))
    products = signs_x * signs_y
    parts = (products, np.abs(signs_x), np.abs(signs_y))
    tau = float(_tau(*(np.array([p.sum()]) for p in parts))[0])
    redrawn = _tau(*(families.pair_sums(p) for p in parts))
    images = NO_INTERVAL
    if samples_x is not None and samples_y is not None and np.isfinite(tau):
        half = float(ndtri((1 + LEVEL) / 2) * np.nanstd(_resampled_taus(samples_x, samples_y)))
        images = (max(tau - half, -1.0), min(tau + half, 1.0))
    n_swapped = int(np.count_nonzero(products < 0)) // 2
    return RankAgreement(tau, images, percentile_ends(redrawn), len(x) * (len(x) - 1) // 2, n_swapped)


def difference_interval(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return the interval of x less y of models judged on different images, from the interval of each.

    Parameters
    ----------
    x, y : ndarray of float64, shape (3, M)
        Value, lower and upper end of the interval of each model; NaN where it has none.

    References
    ----------
    Newcombe 1998, doi 10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I, method 10, which
    takes Wilson's intervals.
    """
    (vx, lx, ux), (vy, ly, uy) = x, y
    difference = vx - vy
    return difference - np.hypot(vx - lx, uy - vy), difference + np.hypot(ux - vx, vy - ly)


def percentile_ends(samples: AnyFloats) -> tuple[float, float]:
    """Return the percentile interval of samples, shape (R,), those that are NaN left out; NaN for none."""
    if np.isnan(samples).all():
        return NO_INTERVAL
    lo, hi = percentile_interval(samples[None])
    return float(lo[0]), float(hi[0])


def _line(x: Floats, y: Floats, sums: Callable[[Floats], Floats]) -> tuple[Floats, Floats]:
    """Return slope and intercept from sums over models; NaN where all have one value at x."""
    # Around the means of all models, so that squares of close values do not cancel.
    u, v = x - x.mean(), y - y.mean()
    with np.errstate(invalid="ignore", divide="ignore"):
        n = sums(np.ones(len(x)))
        mu, mv = sums(u) / n, sums(v) / n
        spread = sums(u * u) / n - mu * mu
        slope = np.where(spread > 1e-15, (sums(u * v) / n - mu * mv) / spread, np.nan)
    return slope, y.mean() + mv - slope * (x.mean() + mu)


def _tau(agreed: Floats, in_x: Floats, in_y: Floats) -> Floats:
    """Return tau-b from sums over pairs: of products of signs, and of pairs without a tie at x and at y."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return agreed / np.sqrt(in_x * in_y)


def _resampled_taus(x: AnyFloats, y: AnyFloats) -> Floats:
    a, b = np.triu_indices(len(x), 1)
    # A standard deviation of 100 resamples is known to 7 %: enough for 1,500 models, where each takes 10 ms.
    taus = np.empty(min(x.shape[1], max(100, _MOST // max(len(a), 1))))
    for r in range(len(taus)):
        signs_x, signs_y = np.sign(x[a, r] - x[b, r]), np.sign(y[a, r] - y[b, r])
        ties = np.count_nonzero(signs_x) * np.count_nonzero(signs_y)
        taus[r] = signs_x @ signs_y / np.sqrt(ties) if ties else np.nan
    return taus
