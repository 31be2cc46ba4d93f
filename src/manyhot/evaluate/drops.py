"""Drops of models between two places, the line fitted to them, and their rankings.

A comparison is between one value per model at x and one at y. Between two data sets it measures shift;
between top-1 and ReaL, saturation; between all images and those with several objects, the effect of multiple
labels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.core.array_types import Floats
from manyhot.core.comparison import NO_INTERVAL, Families, FittedLine, above_line, compare_orders, fit_line
from manyhot.core.drop_intervals import drop_intervals, mean_drop_interval
from manyhot.core.ratio_intervals import FEWEST_CASES
from manyhot.errors import InputError, MatchError
from manyhot.evaluate.compared_pairs import DRAWN_IMAGES, ComparedPairs, numbers_of_clusters
from manyhot.tables import End, ModelValue, Results, list_matrix, schema
from manyhot.tables.definitions import COUNT, FLAG, ITS, REAL, TEXT, bounds, declare_table, interval
from manyhot.tables.frames import null_if_nan
from manyhot.tables.result_tables import END, accuracies, at_end

SCALES = ("plain", "logit", "probit")
"""Scales on which lines are fitted."""

BEYOND_NOISE = 0.05
"""p_adjusted below which a pair of models differs."""

FEWEST_MODELS = 3
"""Fewest models for a fitted line and a ranking: two are always on a line."""

FEWEST_BEST = 10
"""Fewest models for a line fitted to the best."""

END_COLUMNS = (
    TEXT("dataset_x", "the data set of x"),
    TEXT("metric_x", "the metric of x"),
    TEXT("slice_x", "the images of x"),
    TEXT("dataset_y", "the data set of y"),
    TEXT("metric_y", "the metric of y"),
    TEXT("slice_y", "the images of y"),
)
"""Columns that say what is compared: one value per model at x, and one at y."""

_IMAGES = f"{ITS} over images, or over clusters of images if there are any"
_FAMILIES = f"{ITS} over families of models"

declare_table(
    "drops",
    (
        *END_COLUMNS,
        TEXT.nullable("model", "the model; null for the mean over models"),
        REAL("value_x", "value at x"),
        REAL("value_y", "value at y"),
        REAL("drop", "value_x minus value_y"),
        *bounds("lo", "hi", _IMAGES),
        *bounds("lo_models", "hi_models", "the mean's 95 % interval over families of models"),
        REAL.nullable(
            "above_fit", "effective robustness: value_y minus the value predicted by the logit fit"
        ),
        COUNT("n_x", "number of images counted at x; for the mean, the minimum over models"),
        COUNT("n_y", "number of images counted at y; for the mean, the minimum over models"),
        COUNT("n_models", "number of models averaged; 1 for a single model"),
    ),
)

declare_table(
    "fits",
    (
        *END_COLUMNS,
        TEXT(
            "models", "models that the line is fitted to: all, or those above a value at x, such as x>=0.85"
        ),
        TEXT("scale", "scale of both axes", values=SCALES),
        *interval("slope", "slope of the least-squares line", _FAMILIES, value=REAL),
        *interval("intercept", "intercept", _FAMILIES, value=REAL),
        REAL.nullable("r2", "share of variance explained"),
        COUNT("n", "models"),
        COUNT(
            "n_families", "number of families of models, which are left out one at a time for the intervals"
        ),
    ),
)

declare_table(
    "ranks",
    (
        *END_COLUMNS,
        REAL.nullable("tau", "Kendall's tau-b between the two rankings of the models"),
        *bounds("lo", "hi", _IMAGES),
        *bounds("lo_models", "hi_models", _FAMILIES),
        COUNT("n_models", "models ranked"),
        COUNT("n_pairs", "pairs of models"),
        COUNT("n_swapped", "pairs in a different order at y than at x"),
        COUNT.nullable(
            "n_beyond_noise",
            "number of swapped pairs that differ beyond noise both at x and at y; null unless all pairs were "
            "tested",
        ),
    ),
)

declare_table(
    "swaps",
    (
        *END_COLUMNS,
        TEXT("model_a", "the better model at x"),
        TEXT("model_b", "the better model at y"),
        REAL("difference_x", "value of model_a minus value of model_b at x"),
        REAL("difference_y", "value of model_a minus value of model_b at y"),
        REAL.nullable("p_x", "p_adjusted of the pair at x"),
        REAL.nullable("p_y", "p_adjusted of the pair at y"),
        FLAG.nullable("beyond_noise", "whether both differences are beyond noise"),
    ),
    renamed={"diff_x": "difference_x", "diff_y": "difference_y"},
)


class Comparer:
    """Compares pairs of places, and collects the rows of the tables of the comparison.

    Parameters
    ----------
    family : callable
        Returns the family of a model.
    best_from
        As in `manyhot.compare`.
    """

    def __init__(self, results: Results, family: Callable[[str], str], best_from: float) -> None:
        self.results, self.family, self.best_from = results, family, best_from
        self._rows: dict[str, list[dict[str, Any]]] = {"drops": [], "fits": [], "ranks": []}
        self._swaps: list[pa.Table] = []
        self._clusters = numbers_of_clusters(results.about)

    @cached_property
    def _tested(self) -> dict[End, pa.Table]:
        """The pairs table of each end."""
        table = self.results.pairs
        ends = dict.fromkeys(zip(*(table[c].to_pylist() for c in END), strict=True)) if len(table) else {}
        return {end: at_end(table, end) for end in ends}

    def add(self, x: End, y: End) -> None:
        """Compare the models that have a value at both places.

        A single model has no order and no line, but a drop from one data set to another.
        """
        at_x, at_y = self._at(x), self._at(y)
        models = [m for m in at_x if m in at_y]
        if len(models) < (2 if x[0] == y[0] else 1):
            return
        families = Families.of([self.family(m) for m in models])
        nx, ny = (np.array([at[m] for m in models], np.float64).T for at in (at_x, at_y))
        paired = self._are_paired(x, y)
        n = [self._clusters[end[0]] for end in (x, y) if end[0] in self._clusters]
        drawn = self._samples(x, y, models, paired)
        both = _Both(x, y, models, nx, ny, families, drawn, paired, min(n, default=None))
        self._rows["drops"] += both.drops()
        if len(models) < 2:
            return
        for scale in SCALES:
            self._rows["fits"] += both.fits(scale, self.best_from)
        swaps = self._swapped(both)
        if swaps is not None:
            self._swaps.append(swaps)
        self._rows["ranks"].append(both.order(swaps))

    def _at(self, end: End) -> dict[str, ModelValue]:
        if end not in self.results.values_at:
            raise MatchError(
                "There are no numbers to compare.",
                where=self.results.name or None,
                got=", ".join(end),
                allowed="; ".join(
                    sorted({", ".join(e) for e in self.results.values_at if e[0] == end[0]})[:20]
                )
                or ", ".join(self.results.datasets),
            )
        numbers = self.results.values_at[end].items()
        for model, number in numbers if end[1] in accuracies() else ():
            if not (0 <= number.value <= 1 or np.isnan(number.value)):
                raise InputError(
                    "This is not a share of images.",
                    where=f"{self.results.name}, {', '.join(end)}, {model}" if self.results.name else model,
                    got=number.value,
                    allowed="0 to 1",
                    do="divide by 100: this looks like percent" if 1 < number.value <= 100 else None,
                )
        return {m: number for m, number in numbers if np.isfinite(number.value)}

    def _are_paired(self, x: End, y: End) -> bool:
        """Return whether resample r contains the same images at both ends.

        It is on one data set, and on two with the same images in the same order and the same seed, such as
        old and new labels.
        """
        drawn = json.loads(self.results.about.get(DRAWN_IMAGES, "{}"))
        return x[0] == y[0] or (bool(drawn.get(x[0])) and drawn.get(x[0]) == drawn.get(y[0]))

    def _samples(self, x: End, y: End, models: Sequence[str], paired: bool) -> tuple[Floats, Floats] | None:
        """Return resampled values at both ends, each shape (M, R), or None where a model has none."""
        rows = [[self.results.sample_rows.get(end, {}).get(m, -1) for m in models] for end in (x, y)]
        if min(map(min, rows)) < 0:
            return None
        values = self.results.samples["values"]
        at_x, at_y = (list_matrix(values.take(pa.array(r)), np.nan).astype(np.float64) for r in rows)
        r = min(at_x.shape[1], at_y.shape[1])
        at_x, at_y = at_x[:, :r], at_y[:, :r]
        # Resamples of other images are drawn from one stream of random numbers: moved by one they are not.
        return at_x, at_y if paired else np.roll(at_y, 1, axis=1)

    def _swapped(self, both: _Both) -> pa.Table | None:
        """Return the pairs that change order, the better at x first; None unless all pairs were tested."""
        are_all = all(ComparedPairs.of(self.results.about, end[0]).are_all for end in (both.x, both.y))
        if both.x not in self._tested or both.y not in self._tested or not are_all:
            return None
        p = [p_matrix(self._tested[end], both.models) for end in (both.x, both.y)]
        return both.swaps(*p)

    def tables(self) -> dict[str, pa.Table]:
        """Return the tables as a dict keyed by name."""
        made = {name: pa.Table.from_pylist(rows, schema=schema(name)) for name, rows in self._rows.items()}
        return made | {"swaps": pa.concat_tables(self._swaps or [schema("swaps").empty_table()])}


@dataclass(frozen=True, eq=False)
class _Both:
    """Models with a value at both ends.

    `at_x` and `at_y` hold value, lo, hi and n of each model, shape (4, M); `samples` their resampled values,
    each of shape (M, R), where there are any; `paired` states whether these are of the same images, and
    `clusters` the smaller number of clusters, if there are any.
    """

    x: End
    y: End
    models: Sequence[str]
    at_x: Floats
    at_y: Floats
    families: Families
    samples: tuple[Floats, Floats] | None
    paired: bool
    clusters: int | None = None

    @property
    def ends(self) -> dict[str, str]:
        """The columns that name the ends."""
        ends = (("x", self.x), ("y", self.y))
        return {f"{c}_{side}": end[i] for side, end in ends for i, c in enumerate(END)}

    def fits(self, scale: str, best_from: float) -> Iterator[dict[str, Any]]:
        """Yield rows of the fits table: for all models and, within one data set, for the best models."""
        x, y = self.at_x[0], self.at_y[0]
        groups = {"all": np.ones(len(x), bool)}
        if self.x[0] == self.y[0] and FEWEST_BEST <= np.count_nonzero(x >= best_from) < len(x):
            groups[f"x>={best_from:g}"] = x >= best_from
        for name, chosen in groups.items():
            if np.count_nonzero(chosen) < FEWEST_MODELS:
                continue
            line = fit_line(x[chosen], y[chosen], self.families.take(chosen), scale=scale)
            if np.isfinite(line.slope):
                yield self.ends | {"models": name, "scale": scale} | _line_columns(line)

    def drops(self) -> list[dict[str, Any]]:
        """Return rows of the drops table: one for the mean over models, and one for each model."""
        (x, *_, nx), (y, *_, ny) = self.at_x, self.at_y
        drop = x - y
        above = above_line(x, y, fit_line(x, y, self.families, scale="logit"), "logit")
        of = {"paired": self.paired, "clustered": self.clusters is not None}
        lo, hi = drop_intervals(self.at_x, self.at_y, self.samples, **of)
        images = float(lo[0]), float(hi[0])
        if len(x) > 1:
            images = mean_drop_interval(self.at_x, self.at_y, self.samples, **of)
        if self.paired:
            n = np.minimum(nx, ny)
            lo[n < FEWEST_CASES] = hi[n < FEWEST_CASES] = np.nan
            images = NO_INTERVAL if n.min() < FEWEST_CASES else images
        mean = (x.mean(), y.mean(), drop.mean(), *images, *self.families.mean_interval(drop), None)
        columns = schema("drops").names[len(END_COLUMNS) :]
        rows: list[tuple[Any, ...]] = [(None, *map(null_if_nan, mean), int(nx.min()), int(ny.min()), len(x))]
        for i, model in enumerate(self.models):
            row = map(null_if_nan, (x[i], y[i], drop[i], lo[i], hi[i], *NO_INTERVAL, above[i]))
            rows.append((model, *row, int(nx[i]), int(ny[i]), 1))
        return [self.ends | dict(zip(columns, row, strict=True)) for row in rows]

    def order(self, swaps: pa.Table | None) -> dict[str, Any]:
        """Return the row of the ranks table."""
        samples = self.samples or (None, None)
        n = min(self.at_x[3].min(), self.at_y[3].min(), self.clusters or np.inf)
        order = compare_orders(self.at_x[0], self.at_y[0], self.families, *samples, n=n)
        return self.ends | {
            "tau": null_if_nan(order.tau),
            "lo": null_if_nan(order.images[0]),
            "hi": null_if_nan(order.images[1]),
            "lo_models": null_if_nan(order.models[0]),
            "hi_models": null_if_nan(order.models[1]),
            "n_models": len(self.models),
            "n_pairs": order.n_pairs,
            "n_swapped": order.n_swapped,
            "n_beyond_noise": None if swaps is None else int(pc.sum(swaps["beyond_noise"]).as_py() or 0),
        }

    def swaps(self, p_x: Floats, p_y: Floats) -> pa.Table:
        """Return the pairs that change order; `p_x`, `p_y` contain p_adjusted for all pairs, shape (M, M)."""
        x, y = self.at_x[0], self.at_y[0]
        a, b = np.nonzero((np.subtract.outer(x, x) > 0) & (np.subtract.outer(y, y) < 0))
        names, p_x, p_y = pa.array(self.models, pa.string()), p_x[a, b], p_y[a, b]
        columns: dict[str, Any] = {
            k: pa.repeat(pa.scalar(v, pa.string()), len(a)) for k, v in self.ends.items()
        }
        columns |= {"model_a": names.take(pa.array(a)), "model_b": names.take(pa.array(b))}
        columns |= {"difference_x": x[a] - x[b], "difference_y": y[a] - y[b]}
        columns |= {name: pa.array(p, from_pandas=True) for name, p in (("p_x", p_x), ("p_y", p_y))}
        columns["beyond_noise"] = (p_x < BEYOND_NOISE) & (p_y < BEYOND_NOISE)
        return pa.table(columns, schema=schema("swaps"))


def _line_columns(line: FittedLine) -> dict[str, Any]:
    return {
        "slope": line.slope,
        "slope_lo": null_if_nan(line.slope_interval[0]),
        "slope_hi": null_if_nan(line.slope_interval[1]),
        "intercept": line.intercept,
        "intercept_lo": null_if_nan(line.intercept_interval[0]),
        "intercept_hi": null_if_nan(line.intercept_interval[1]),
        "r2": null_if_nan(line.r2),
        "n": line.n,
        "n_families": line.n_families,
    }


def p_matrix(pairs: pa.Table, models: Sequence[str]) -> Floats:
    """Return p_adjusted of all pairs of models, NaN where unknown, shape (M, M)."""
    names = pa.array(models, pa.string())
    ends = [pc.index_in(pairs[c], names) for c in ("model_a", "model_b")]
    known = pc.and_(*(e.is_valid() for e in ends))
    a, b = (e.filter(known).to_numpy() for e in ends)
    p = np.full((len(models),) * 2, np.nan)
    p[a, b] = p[b, a] = pc.fill_null(pairs["p_adjusted"], np.nan).filter(known).to_numpy()
    return p
