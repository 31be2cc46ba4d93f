"""Results to comparisons: who drops by how much between two places, by which line, and in which order.

A comparison is between a number a model at x and one at y. Between two data sets it is shift, between top-1
and ReaL saturation, between all images and those with several objects the effect of multiple labels.

Several results as one, for what is compared between them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.checks import check_draws
from manyhot.classes import family_of
from manyhot.core.array_types import Floats
from manyhot.core.comparison import (
    NO_INTERVAL,
    Families,
    FittedLine,
    above_line,
    compare_orders,
    difference_interval,
    fit_line,
    percentile_ends,
)
from manyhot.core.model_pairs import holm
from manyhot.core.resampling import percentile_interval
from manyhot.errors import InputError, MatchError
from manyhot.evaluate.results import Evaluation
from manyhot.evaluate.sensitivity import sensitivity
from manyhot.tables import SCALES, End, ModelValue, Results, list_matrix, one_chunk, schema
from manyhot.tables.metrics import LABEL_SETS, accuracies, headline

REFERENCES = {"imagenet-a": "imagenet-val-a-classes", "imagenet-r": "imagenet-val-r-classes"}
"""Data sets of some of ImageNet's classes, and its images of the same classes, to compare them with."""


BEYOND_NOISE = 0.05
"""p_adjusted below which a pair of models differs."""


FEWEST_MODELS = 3
"""Models it takes to fit a line, and to speak of an order: two are always on a line."""


FEWEST_BEST = 10
"""Models it takes to fit a line among the best."""


TABLES = ("drops", "fits", "ranks", "swaps", "sensitivity")


@dataclass(frozen=True, eq=False)
class Comparison:
    """What came of comparing.

    Attributes
    ----------
    results : Results
        All results that were compared, with what is known about the models.
    drops, fits, ranks, swaps, sensitivity : pyarrow.Table
        The tables of these names; see `manyhot.tables.TABLES`.
    """

    results: Results
    drops: pa.Table
    fits: pa.Table
    ranks: pa.Table
    swaps: pa.Table
    sensitivity: pa.Table

    def __repr__(self) -> str:
        ends = self.ranks.num_rows
        return f"Comparison({ends} comparisons of {len(self.results.table['model'].unique())} models)"

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The tables of comparisons by name."""
        return {name: getattr(self, name) for name in TABLES}

    def mean_drop(
        self,
        metric: str,
        *,
        x: str | None = None,
        y: str | None = None,
        slice_x: str = "all",
        slice_y: str = "all",
    ) -> tuple[float, float | None, float | None]:
        """Return the mean drop under a metric, with its interval over images.

        Parameters
        ----------
        metric : str
        x, y : str, optional
            The data sets; needed where several comparisons match.
        slice_x, slice_y : str
            The images, such as ``annotation=*`` and ``n_objects>=2``.

        Raises
        ------
        InputError
            If none or several comparisons match.
        """
        import polars as pl

        wanted = {"metric_x": metric, "metric_y": metric, "dataset_x": x, "dataset_y": y}
        wanted |= {"slice_x": slice_x, "slice_y": slice_y}
        rows = pl.DataFrame(pl.from_arrow(self.drops)).filter(pl.col("model").is_null())
        rows = rows.filter(pl.col("metric_x") == pl.col("metric_y"))
        found = rows.filter(pl.col(c) == v for c, v in wanted.items() if v is not None)
        if len(found) != 1:
            known = (f"{r['metric_x']} {_words(r, 'x')} → {_words(r, 'y')}" for r in rows.to_dicts())
            raise InputError(
                f"{len(found) or 'No'} comparisons match.",
                got=", ".join(f"{c}={v}" for c, v in wanted.items() if v is not None),
                allowed="; ".join(sorted(set(known))) or "none: no two places were compared",
            )
        row = found.row(0, named=True)
        return row["drop"], row["lo"], row["hi"]


def _words(row: Mapping[str, Any], side: str) -> str:
    chosen = row[f"slice_{side}"]
    return str(row[f"dataset_{side}"]) + ("" if chosen == "all" else f" [{chosen}]")


def compare_tables(
    results: Sequence[Results],
    *,
    ends: Iterable[tuple[End, End]] = (),
    families: Mapping[str, str] | None = None,
    without: Sequence[str] = (),
    best_from: float = 0.85,
    resamples: int = 2000,
    seed: int = 0,
    thresholds: Results | None = None,
) -> Comparison:
    """Compare models between data sets, between metrics, and between any two ends.

    The first data set is the one that the others are compared with, under each accuracy that both
    have, unless `REFERENCES` names another; on each data set ``top1`` is compared with the headline metrics
    judged on label sets. Where fewer than two models have a value at both ends there is nothing to compare.

    Parameters
    ----------
    results : sequence of Results
        Joined; a data set may be in one of them only.
    ends : iterable of pairs of (dataset, metric, slice)
        What to compare beside.
    families : Mapping of str to str, optional
        The family of a model by its name; those of the models tables, and else of names, by default.
    without : sequence of str
        Patterns of models to leave out, such as ``fv_*``.
    best_from : float
        Value at x from which models count as the best, for a line of their own on the same data set.
    resamples, seed : int
        Of the families.
    thresholds : Results, optional
        Results on label sets at other thresholds, for the sensitivity analysis.

    Raises
    ------
    InputError
        If there are no results, a pattern fits no model, or an option is out of range.
    MatchError
        If two of the results hold the same numbers, an end is in none, or `families` names no model of them.
    """
    _check_options(best_from, resamples, seed)
    together = join([r.without(without) for r in results])
    if not len(together):
        raise InputError("No model is left to compare.", got=", ".join(without) or None)
    together = replace(together, pairs=_adjusted(together.pairs)) if without else together
    compared = _Compared(together, families or {}, best_from, resamples, seed)
    compared.check_families()
    for x, y in dict.fromkeys([*_shifts(together), *_within(together), *ends]):
        compared.add(x, y)
    others = None if thresholds is None else thresholds.without(without)
    fitted = sensitivity(together, others, compared.family, resamples, seed)
    return compared.finish(fitted)


def _adjusted(pairs: pa.Table) -> pa.Table:
    """Return the pairs with Holm's correction made anew, over those that are there."""
    if not len(pairs):
        return pairs
    ends = [list(map(str, e)) for e in zip(*(pairs[c].to_pylist() for c in _END), strict=True)]
    _, family = np.unique(np.array(ends), axis=0, return_inverse=True)
    p = pc.fill_null(pairs["p"], np.nan).to_numpy()
    adjusted = np.full(len(p), np.nan)
    for i in range(int(family.max()) + 1):
        adjusted[family.ravel() == i] = holm(p[family.ravel() == i])
    at = pairs.column_names.index("p_adjusted")
    return pairs.set_column(at, "p_adjusted", pa.array(adjusted, pa.float64(), from_pandas=True))


def _check_options(best_from: float, resamples: int, seed: int) -> None:
    if not 0 < best_from < 1:
        raise InputError(
            "The best models begin at a share.", got=best_from, allowed="between 0 and 1, such as 0.85"
        )
    check_draws(resamples, seed)


@dataclass
class _Compared:
    """Compares pairs of ends one by one and keeps the rows."""

    results: Results
    families: Mapping[str, str]
    best_from: float
    resamples: int
    seed: int
    _rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {name: [] for name in TABLES})
    _swaps: list[pa.Table] = field(default_factory=list)

    @cached_property
    def models(self) -> list[str]:
        names: list[str] = self.results.table["model"].unique().to_pylist()
        return names

    @cached_property
    def _known_families(self) -> Mapping[str, str]:
        table = self.results.models
        if "family" not in table.column_names:
            return {}
        rows = zip(table["model"].to_pylist(), table["family"].to_pylist(), strict=True)
        return {model: family for model, family in rows if family}

    def check_families(self) -> None:
        if self.families and not set(self.families) & set(self.models):
            raise MatchError(
                "The families name none of the models.",
                got=f"models such as {next(iter(self.families))}",
                allowed=f"models such as {self.models[0]}",
            )

    def family(self, model: str) -> str:
        """Return the family of a model: as given, else as in the models table, else by its name."""
        return self.families.get(model) or self._known_families.get(model) or family_of(model)

    @cached_property
    def _tested(self) -> dict[End, pa.Table]:
        """The pairs table of each end."""
        table = self.results.pairs
        ends = dict.fromkeys(zip(*(table[c].to_pylist() for c in _END), strict=True)) if len(table) else {}
        return {end: _where(table, end) for end in ends}

    def add(self, x: End, y: End) -> None:
        """Compare the models that have a value at both ends."""
        at_x, at_y = self._at(x), self._at(y)
        models = [m for m in at_x if m in at_y]
        if len(models) < 2:
            return
        families = Families.draw(
            [self.family(m) for m in models], self.resamples, np.random.default_rng(self.seed)
        )
        nx, ny = (np.array([at[m] for m in models], np.float64).T for at in (at_x, at_y))
        both = _Both(x, y, models, nx, ny, families, self._paired_samples(x, y, models))
        for scale in SCALES:
            self._rows["fits"] += both.fits(scale, self.best_from)
        self._rows["drops"] += both.drops()
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
                    "This is no share of images.",
                    where=f"{self.results.name}, {', '.join(end)}, {model}" if self.results.name else model,
                    got=number.value,
                    allowed="0 to 1",
                    do="divide by 100: this looks like percent" if 1 < number.value <= 100 else None,
                )
        return {m: number for m, number in numbers if np.isfinite(number.value)}

    def _paired_samples(self, x: End, y: End, models: Sequence[str]) -> tuple[Floats, Floats] | None:
        """Return resampled values at both ends, each shape (M, R), or None where a model has none."""
        rows = [[self.results.sample_rows.get(end, {}).get(m, -1) for m in models] for end in (x, y)]
        if min(map(min, rows)) < 0:
            return None
        values = self.results.samples["values"]
        at_x, at_y = (list_matrix(values.take(pa.array(r)), np.nan).astype(np.float64) for r in rows)
        r = min(at_x.shape[1], at_y.shape[1])
        at_x, at_y = at_x[:, :r], at_y[:, :r]
        # On one data set resample r is the same images at both ends. On two it is drawn from one stream of
        # random numbers: moved by one it is not.
        return at_x, at_y if x[0] == y[0] else np.roll(at_y, 1, axis=1)

    def _swapped(self, both: _Both) -> pa.Table | None:
        """Return the pairs that change order, the better at x first; None where no pairs were tested."""
        if both.x not in self._tested or both.y not in self._tested:
            return None
        p = [_p_matrix(self._tested[end], both.models) for end in (both.x, both.y)]
        return both.swaps(*p)

    def finish(self, sensitivity: pa.Table) -> Comparison:
        made = {n: pa.Table.from_pylist(self._rows[n], schema=schema(n)) for n in ("drops", "fits", "ranks")}
        swaps = pa.concat_tables(self._swaps) if self._swaps else schema("swaps").empty_table()
        told = _told_models(self.results, self.models, self.family)
        return Comparison(replace(self.results, models=told), swaps=swaps, sensitivity=sensitivity, **made)


_END = ("dataset", "metric", "slice")


@dataclass(frozen=True, eq=False)
class _Both:
    """Models with a value at both ends.

    `at_x` and `at_y` hold value, lo, hi and n of each model, shape (4, M); `samples` their resampled values,
    each of shape (M, R), where there are any.
    """

    x: End
    y: End
    models: Sequence[str]
    at_x: Floats
    at_y: Floats
    families: Families
    samples: tuple[Floats, Floats] | None

    @property
    def ends(self) -> dict[str, str]:
        """The columns that name the ends."""
        ends = (("x", self.x), ("y", self.y))
        return {f"{c}_{side}": end[i] for side, end in ends for i, c in enumerate(_END)}

    def fits(self, scale: str, best_from: float) -> Iterator[dict[str, Any]]:
        """Yield rows of the fits table: all models, and on one data set the best of them."""
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
        """Return rows of the drops table: the mean over models, and each model."""
        (x, *_, nx), (y, *_, ny) = self.at_x, self.at_y
        drop = x - y
        spread = None if self.samples is None else self.samples[0] - self.samples[1]
        above = above_line(x, y, fit_line(x, y, self.families, scale="logit"), "logit")
        images = NO_INTERVAL if spread is None else percentile_ends(spread.mean(0))
        mean = (x.mean(), y.mean(), drop.mean(), *images, *self.families.mean_interval(drop), None)
        rows: list[tuple[Any, ...]] = [(None, *map(_null, mean), int(nx.min()), int(ny.min()), len(x))]
        lo, hi = self._intervals(spread)
        for i, model in enumerate(self.models):
            row = map(_null, (x[i], y[i], drop[i], lo[i], hi[i], *NO_INTERVAL, above[i]))
            rows.append((model, *row, int(nx[i]), int(ny[i]), 1))
        return [self.ends | dict(zip(_DROP, row, strict=True)) for row in rows]

    def _intervals(self, spread: Floats | None) -> tuple[Floats, Floats]:
        """Return the interval of each model's drop over images, NaN where nothing tells it."""
        if spread is not None:
            return percentile_interval(spread)
        if self.x[0] == self.y[0]:
            nothing = np.full(len(self.models), np.nan)
            return nothing, nothing
        return difference_interval(self.at_x[:3], self.at_y[:3])

    def order(self, swaps: pa.Table | None) -> dict[str, Any]:
        """Return the row of the ranks table."""
        order = compare_orders(self.at_x[0], self.at_y[0], self.families, *(self.samples or (None, None)))
        return self.ends | {
            "tau": _null(order.tau),
            "lo": _null(order.images[0]),
            "hi": _null(order.images[1]),
            "lo_models": _null(order.models[0]),
            "hi_models": _null(order.models[1]),
            "n_models": len(self.models),
            "n_pairs": order.n_pairs,
            "n_swapped": order.n_swapped,
            "n_beyond_noise": None if swaps is None else int(pc.sum(swaps["beyond_noise"]).as_py() or 0),
        }

    def swaps(self, p_x: Floats, p_y: Floats) -> pa.Table:
        """Return the pairs that change order, with p_adjusted of all pairs at both ends, shape (M, M)."""
        x, y = self.at_x[0], self.at_y[0]
        a, b = np.nonzero((np.subtract.outer(x, x) > 0) & (np.subtract.outer(y, y) < 0))
        names, p_x, p_y = pa.array(self.models, pa.string()), p_x[a, b], p_y[a, b]
        columns: dict[str, Any] = {
            k: pa.repeat(pa.scalar(v, pa.string()), len(a)) for k, v in self.ends.items()
        }
        columns |= {"model_a": names.take(pa.array(a)), "model_b": names.take(pa.array(b))}
        columns |= {"diff_x": x[a] - x[b], "diff_y": y[a] - y[b]}
        columns |= {name: pa.array(p, from_pandas=True) for name, p in (("p_x", p_x), ("p_y", p_y))}
        columns["beyond_noise"] = (p_x < BEYOND_NOISE) & (p_y < BEYOND_NOISE)
        return pa.table(columns, schema=schema("swaps"))


_DROP = (
    "model",
    "value_x",
    "value_y",
    "drop",
    "lo",
    "hi",
    "lo_models",
    "hi_models",
    "above_fit",
    "n_x",
    "n_y",
    "n_models",
)


def _line_columns(line: FittedLine) -> dict[str, Any]:
    return {
        "slope": line.slope,
        "slope_lo": _null(line.slope_interval[0]),
        "slope_hi": _null(line.slope_interval[1]),
        "intercept": line.intercept,
        "intercept_lo": _null(line.intercept_interval[0]),
        "intercept_hi": _null(line.intercept_interval[1]),
        "r2": _null(line.r2),
        "n": line.n,
        "n_families": line.n_families,
    }


def _shifts(results: Results) -> list[tuple[End, End]]:
    have, datasets = results.values_at, results.datasets
    own = {y: x for y, x in REFERENCES.items() if x in datasets and y in datasets}
    pairs = [(own.get(d, datasets[0]), d) for d in datasets[1:] if d not in own.values()]
    found = (((x, m, "all"), (y, m, "all")) for m in accuracies() for x, y in pairs)
    return [(x, y) for x, y in found if x in have and y in have]


def _within(results: Results) -> list[tuple[End, End]]:
    have = results.values_at
    metrics = [m for m in accuracies(LABEL_SETS) if m in headline()]
    found = (((d, "top1", "all"), (d, m, "all")) for d in results.datasets for m in metrics)
    return [(x, y) for x, y in found if x in have and y in have]


def _where(table: pa.Table, end: End) -> pa.Table:
    mask = pc.equal(table[_END[0]], end[0])
    for column, value in zip(_END[1:], end[1:], strict=True):
        mask = pc.and_(mask, pc.equal(table[column], value))
    return table.filter(mask)


def _p_matrix(pairs: pa.Table, models: Sequence[str]) -> Floats:
    """Return p_adjusted of all pairs of models, NaN where unknown, shape (M, M)."""
    names = pa.array(models, pa.string())
    ends = [pc.index_in(pairs[c], names) for c in ("model_a", "model_b")]
    known = pc.and_(*(e.is_valid() for e in ends))
    a, b = (e.filter(known).to_numpy() for e in ends)
    p = np.full((len(models),) * 2, np.nan)
    p[a, b] = p[b, a] = pc.fill_null(pairs["p_adjusted"], np.nan).filter(known).to_numpy()
    return p


def _null(value: float | None) -> float | None:
    """Return what a table holds: no number is null."""
    return None if value is None or not np.isfinite(value) else float(value)


def _told_models(results: Results, models: Sequence[str], family: Any) -> pa.Table:
    """Return the models table with a row and a family for every model."""
    table = results.models
    at = pc.index_in(pa.array(models, pa.string()), one_chunk(table["model"]))
    columns = {c: table[c].take(at) for c in table.column_names if c not in ("model", "family")}
    families = pa.array([family(m) for m in models], pa.string())
    return pa.table({"model": pa.array(models, pa.string()), "family": families, **columns})


def compare(
    *results: Evaluation | Results | str | os.PathLike[str],
    families: Mapping[str, str] | None = None,
    without: Sequence[str] = (),
    best_from: float = 0.85,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare models between data sets and metrics.

    Parameters
    ----------
    *results : Evaluation, Results or path-like
        What `evaluate` returned, or files and folders of results. The first data set is the one that others
        are compared with.
    families, without, best_from, resamples, seed
        As in `manyhot.evaluate.compare.compare_tables`.

    Raises
    ------
    ManyhotError
        As in `manyhot.evaluate.compare.compare_tables` and `manyhot.read_results`.
    """
    from manyhot.tables import read_thresholds

    flat = [r for given in results for r in (given if isinstance(given, list | tuple) else [given])]
    found = [t for r in flat if isinstance(r, str | os.PathLike) and (t := read_thresholds(r)) is not None]
    return compare_tables(
        [_results(r) for r in flat],
        families=families,
        without=without,
        best_from=best_from,
        resamples=resamples,
        seed=seed,
        thresholds=found[0] if found else None,
    )


def _results(given: Evaluation | Results | str | os.PathLike[str]) -> Results:
    if isinstance(given, Results):
        return given
    if isinstance(given, Evaluation):
        return given.tables()
    from manyhot.formats import read_results

    return read_results(given)


def join(results: Sequence[Results]) -> Results:
    """Return several results as one.

    Raises
    ------
    InputError
        If there are none.
    MatchError
        If two of them hold the same numbers.
    """
    if not results:
        raise InputError("There are no results to compare.", do="give at least one")
    _check_apart(results)
    first = results[0]
    if len(results) == 1:
        return first
    models = pa.concat_tables([p.models for p in results], promote_options="default")
    joined = {k: pa.concat_tables([getattr(p, k) for p in results]) for k in ("pairs", "samples")}
    table = pa.concat_tables([p.table.replace_schema_metadata() for p in results])
    about = {f"manyhot.{k}": v for k, v in (first.about | _joined_about(results)).items()}
    name = " and ".join(dict.fromkeys(p.name for p in results if p.name))
    return Results(table.replace_schema_metadata(about), models=_once(models), name=name, **joined)


def _joined_about(results: Sequence[Results]) -> dict[str, str]:
    """Return what all results tell of their metrics, their notes and the user's own models."""
    metrics = {k: v for p in reversed(results) for k, v in json.loads(p.about.get("metrics", "{}")).items()}
    notes, own = (
        [e for p in results for e in json.loads(p.about.get(kind, "[]"))] for kind in ("notes", "own")
    )
    told = {"metrics": metrics, "notes": notes, "own": list(dict.fromkeys(own))}
    return {name: json.dumps(value) for name, value in told.items()}


def _check_apart(results: Sequence[Results]) -> None:
    seen: dict[End, str] = {}
    for part in results:
        for end in part.values_at:
            if end in seen:
                raise MatchError(
                    "Two results hold numbers of the same data set, metric and images.",
                    where=f"{seen[end]} and {part.name}",
                    got=", ".join(end),
                    allowed="each in one of the results",
                    do="compare them one at a time, or judge one under another name: --dataset NAME",
                )
            seen[end] = part.name


def _once(models: pa.Table) -> pa.Table:
    """Return the first row of each model."""
    names = one_chunk(models["model"])
    return models.take(pa.array(np.sort(np.unique(np.asarray(names, str), return_index=True)[1])))
