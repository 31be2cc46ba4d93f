"""Two groups of models at equal accuracy: values of one group at y, compared to the other at the same x.

Mean drops of two groups compare models of different accuracy, although the drop depends on accuracy. Here,
the models of one group are compared with the value that the other group would have at the same x, where both
groups have models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from manyhot.core.array_types import Bools, Floats
from manyhot.core.comparison import FEWEST_FAMILIES, NO_INTERVAL, Families, from_scale, to_scale
from manyhot.core.resampling import LEVEL

HALF_WIDTH = 0.05
"""Models that differ by less than this at x contribute to a value of the local regression: 5 points."""

FEWEST_NEAR = 5
"""Minimum number of models per group within `HALF_WIDTH`, of two families unless the group has one."""

FEWEST_DF = 1
"""Minimum degrees of freedom of an interval; with fewer, one family decides the value."""

GRID_STEP = 0.01
"""Distance of the values of x at which the groups are compared."""

EQUAL_METHODS = ("local regression", "logit line")


@dataclass(frozen=True, eq=False)
class ModelGroup:
    """Models, with their values at x and y, each of shape (M,), and their families."""

    x: Floats
    y: Floats
    families: Families

    def near(self, at: Floats) -> Bools:
        """Return which models have an x within `HALF_WIDTH` of each given value, shape (P, M)."""
        return np.asarray(np.abs(self.x - at[:, None]) < HALF_WIDTH)

    def covers(self, at: Floats) -> Bools:
        """Return whether the group has enough models at each value of x, shape (P,)."""
        near = self.near(at)
        member = np.eye(len(self.families), dtype=bool)[self.families.index]
        n_families = np.count_nonzero(near.astype(int) @ member, axis=1)
        within = (self.x.min() <= at) & (at <= self.x.max())
        return np.asarray(within & (near.sum(1) >= FEWEST_NEAR) & (n_families >= min(2, len(self.families))))


@dataclass(frozen=True)
class GroupDifference:
    """Two groups at equal accuracy: at one value of x, or averaged over the models of the second group.

    Attributes
    ----------
    method : str
        One of `EQUAL_METHODS`.
    at : float, optional
        The value of x; None for the average.
    x, a, b : float
        The value of x, and the values of both groups at y.
    interval : tuple of float
        95 % interval of b - a over families of models; NaN if there is none.
    n_a, n_b, families_a, families_b : int
        Number of models and of families that are counted in each group.
    """

    method: str
    at: float | None
    x: float
    a: float
    b: float
    interval: tuple[float, float]
    n_a: int
    n_b: int
    families_a: int
    families_b: int


def shared_models(a: ModelGroup, b: ModelGroup) -> Bools:
    """Return which models of the second group are at values of x with enough models in both groups."""
    return a.covers(b.x) & b.covers(b.x)


def count_swaps(a: ModelGroup, b: ModelGroup) -> int:
    """Return how many pairs of one model from each group are ordered differently at y than at x."""
    signs = (np.sign(np.subtract.outer(p, q)) for p, q in ((a.x, b.x), (a.y, b.y)))
    return int(np.count_nonzero(np.multiply(*signs) < 0))


def at_equal_accuracy(a: ModelGroup, b: ModelGroup) -> Iterator[GroupDifference]:
    """Yield the average difference for each method, then the differences along x with local regression.

    Nothing is yielded if fewer than `FEWEST_NEAR` models of the second group are at values of x with enough
    models in both groups.

    Notes
    -----
    The average is taken over the models of the second group at shared values of x. Each model contributes its
    value at y minus the estimate of the first group at the same x. With *local regression*, the estimate is
    the value of a line through the models of the first group within `HALF_WIDTH`, with tricube weights
    (Cleveland 1979, doi 10.1080/01621459.1979.10481038). Only models at similar x are used, and nothing is
    extrapolated. With *logit line*, the estimate is the line through all models of the first group on the
    logit scale. The average is then the mean effective robustness of the second group relative to the first
    (Taori et al. 2020, arXiv 2007.00644, section 2).

    The two groups are independent samples of families. The variance due to a group is computed by leaving out
    each of its families, as in `Families`. The two variances are added. The degrees of freedom follow Welch
    and Satterthwaite (doi 10.2307/3002019). Each group has as many degrees of freedom as its effective number
    of families minus 1, where each model is weighted by its share in the average.
    """
    shared = shared_models(a, b)
    if np.count_nonzero(shared) < FEWEST_NEAR:
        return
    for method in EQUAL_METHODS:
        yield _average(a, b, shared, method)
    steps = np.arange(np.ceil(b.x[shared].min() / GRID_STEP), np.floor(b.x[shared].max() / GRID_STEP) + 1)
    grid = np.round(steps * GRID_STEP, 10)
    grid = grid[a.covers(grid) & b.covers(grid)]
    yield from (_at_value(a, b, value) for value in grid)


def _average(a: ModelGroup, b: ModelGroup, shared: Bools, method: str) -> GroupDifference:
    x, is_local = b.x[shared], method == EQUAL_METHODS[0]
    values = _values_at(a, x) if is_local else _line_values(a, x)
    theirs = values.mean(0)
    count = _left_out(b.families)[shared]
    with np.errstate(invalid="ignore", divide="ignore"):
        own = (b.y[shared] - values[:, 0]) @ count / count.sum(0)
    parts = _kernel(a, x) if is_local else np.ones((1, len(a.x)))
    weights = (parts / parts.sum(1, keepdims=True)).mean(0)
    sides = (_Side(theirs, weights, a.families), _Side(own, shared.astype(float), b.families))
    return _difference(method, None, float(x.mean()), float(theirs[0]), float(b.y[shared].mean()), *sides)


def _at_value(a: ModelGroup, b: ModelGroup, value: float) -> GroupDifference:
    at = np.array([value])
    first, second = (_Side(_values_at(g, at)[0], _kernel(g, at)[0], g.families) for g in (a, b))
    values = float(first.values[0]), float(second.values[0])
    return _difference(EQUAL_METHODS[0], value, value, *values, first, second)


@dataclass(frozen=True, eq=False)
class _Side:
    """What a group adds to the uncertainty of a difference.

    `values` is a statistic of all models, followed by those without each family of the group; `weights`,
    shape (M,), are the parts of its models in it.
    """

    values: Floats
    weights: Floats
    families: Families

    @property
    def n(self) -> int:
        return int(np.count_nonzero(self.weights))

    @property
    def shares(self) -> Floats:
        """The shares of the families, without those that are 0."""
        sums = np.bincount(self.families.index, self.weights)
        return np.asarray(sums[sums > 0] / sums.sum())

    @property
    def variance(self) -> float:
        """The jackknife variance over families with a positive share. Other families have no influence."""
        n = len(self.shares)
        return float((n - 1) / n * ((self.values[1:] - self.values[0]) ** 2).sum())


def _difference(
    method: str, at: float | None, x: float, a: float, b: float, first: _Side, second: _Side
) -> GroupDifference:
    interval, n_families = NO_INTERVAL, [len(side.shares) for side in (first, second)]
    variances = np.array([first.variance, second.variance])
    if min(n_families) >= FEWEST_FAMILIES and np.isfinite(variances).all() and variances.any():
        freedom = np.array([1 / (side.shares**2).sum() - 1 for side in (first, second)])
        df = float(variances.sum() ** 2 / (variances**2 / freedom).sum())
        half = float(stdtrit(df, (1 + LEVEL) / 2) * np.sqrt(variances.sum()))
        interval = (b - a - half, b - a + half) if df >= FEWEST_DF else NO_INTERVAL
    return GroupDifference(method, at, x, a, b, interval, first.n, second.n, *n_families)


def _left_out(families: Families) -> Floats:
    """Return weights of the models, shape (M, 1 + F): all count, then all but those of each family."""
    member = np.eye(len(families))[families.index]
    return np.hstack([np.ones((len(member), 1)), 1 - member])


def _kernel(group: ModelGroup, at: Floats) -> Floats:
    """Return the weight of each model at each value of x, shape (P, M)."""
    apart = np.minimum(np.abs(group.x - at[:, None]) / HALF_WIDTH, 1)
    return np.asarray((1 - apart**3) ** 3)


def _values_at(group: ModelGroup, at: Floats) -> Floats:
    """Return the local regression at each value of x, of all models and without each family, (P, 1 + F)."""
    return _lines_at(group.x, group.y, at, _kernel(group, at), _left_out(group.families))


def _line_values(group: ModelGroup, at: Floats) -> Floats:
    """Return the same of the line through all models on the logit scale; values of 0 and 1 are left out."""
    u, v = to_scale(group.x, "logit"), to_scale(group.y, "logit")
    finite = np.isfinite(u) & np.isfinite(v)
    count = _left_out(group.families)[finite]
    every = np.ones((len(at), len(count)))
    return from_scale(_lines_at(u[finite], v[finite], to_scale(at, "logit"), every, count), "logit")


def _lines_at(x: Floats, y: Floats, at: Floats, kernel: Floats, count: Floats) -> Floats:
    """Return the values of weighted least-squares lines, shape (P, R).

    `kernel`, shape (P, M), weights models for each value of x, and `count`, shape (M, R), for each line. If
    all models with a weight have the same x, the value is their mean.
    """
    apart = x - at[:, None]
    n, sx, sxx, sy, sxy = (
        (kernel * part) @ count for part in (np.ones_like(apart), apart, apart**2, y, apart * y)
    )
    spread = n * sxx - sx**2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 1e-12 * n**2, (sxx * sy - sx * sxy) / spread, sy / n)
