"""From tables to what a report shows: data sets, their models in order, columns, comparisons, notes.

Nothing here is a result of its own: values, intervals and p-values are taken from the tables, and only
sorted, grouped and counted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manyhot import tables
from manyhot.errors import InputError
from manyhot.report.metrics import HEADLINE, Metric, metric, reading_order
from manyhot.report.pictures import Pictures

SIZES = (("n_labels=1", "1"), ("n_labels=2", "2"), ("n_labels=3", "3"), ("n_labels>=4", "≥ 4"))
"""Slices by size of the label set, and what they are called on an axis."""

SIZE_METRICS = ("top1", "real1", "variable_topk")
"""Drawn by size of the label set where they are there."""

MAX_CELLS = 20_000
"""Columns beyond the shown ones are left out above it: a page of 2,000 models must open quickly."""

BEYOND_NOISE = 0.05
"""Adjusted p below which two models are said to differ."""

TOLD = 300
"""Models up to which each element of a figure tells its own; with more, the page would open slowly."""

LOOKS = 4
"""Colours of models that can be told apart; further highlighted ones share them."""

UNKNOWN, SAME, DIFFERENT = 0, 1, 2
_SIGNS = "?=!"


@dataclass(frozen=True, slots=True)
class Value:
    """A number with its interval and its n, from the results table."""

    value: float
    lo: float | None
    hi: float | None
    n: int
    n_skipped: int

    @property
    def known(self) -> bool:
        """Whether the number is defined."""
        return math.isfinite(self.value)


@dataclass(frozen=True)
class Model:
    """A model on one data set.

    Attributes
    ----------
    index : int
        Its place in `DataSet.models`, which other attributes of the data set follow.
    name : str
    own : bool
        Whether it is one of the user's own, to be set off from the others.
    look : int, optional
        Its colour, 0 to `LOOKS` - 1; None for one of many.
    images : int
        Images it was judged on, skipped ones included.
    """

    index: int
    name: str
    own: bool
    look: int | None
    images: int


@dataclass(frozen=True)
class Column:
    """A metric over all images, a value a model; `shown` before anyone chooses."""

    metric: Metric
    shown: bool
    decimals: int
    values: tuple[Value | None, ...]


@dataclass(frozen=True)
class BySize:
    """A metric by size of the label set.

    Attributes
    ----------
    metric : Metric
    sizes : tuple of str
    counts : tuple of (int, int)
        The smallest and largest n of each size over the models.
    values : tuple of tuple of Value, optional
        ``values[size][model]``.
    medians : tuple of float
        Of the models, for the bold line; NaN where no model has a value.
    """

    metric: Metric
    sizes: tuple[str, ...]
    counts: tuple[tuple[int, int], ...]
    values: tuple[tuple[Value | None, ...], ...]
    medians: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Which models differ beyond noise by one metric.

    Attributes
    ----------
    order : tuple of int
        Indices of the models from best to worst, those without a value left out.
    states : ndarray of uint8, shape (m, m)
        `UNKNOWN`, `SAME` or `DIFFERENT`, by indices of models.
    """

    order: tuple[int, ...]
    states: npt.NDArray[np.uint8]

    def runs(self) -> list[str]:
        """Return the upper triangle in `order`, a text a row such as ``3=60!``: 3 the same, 60 different.

        Models that do not differ stand close together in that order, so a row takes some ten characters.
        """
        ordered = self.states[np.ix_(self.order, self.order)]
        return [_runs(ordered[i, i + 1 :].tolist()) for i in range(len(self.order))]


@dataclass(frozen=True)
class Rank:
    """The place of a model among those with a value, 1 the best; equals share it."""

    metric: Metric
    value: str
    place: int
    of: int


@dataclass(frozen=True)
class Standing:
    """Where one of the user's own models stands.

    `same` names the models that it does not differ from by the metric `compared`; that is None without pairs.
    """

    model: Model
    ranks: tuple[Rank, ...]
    compared: Metric | None
    same: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class DataSet:
    """All that is shown of a data set.

    `models` are sorted by `primary`, the best first; `decimals` are those of percentages.
    """

    name: str
    models: tuple[Model, ...]
    primary: Metric
    decimals: int
    columns: tuple[Column, ...]
    undefined: tuple[str, ...]
    dropped: tuple[str, ...]
    by_size: tuple[BySize, ...]
    comparisons: Mapping[str, Comparison]
    standings: tuple[Standing, ...]

    def column(self, name: str) -> Column | None:
        """Return the column of a metric, if there is one."""
        return next((c for c in self.columns if c.metric.name == name), None)


@dataclass(frozen=True)
class NoteGroup:
    """A note and the models of a data set that it is about."""

    dataset: str
    text: str
    models: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Report:
    """What a report shows, top to bottom."""

    title: str
    call: str
    version: str
    schema: str
    inputs: Mapping[str, str]
    datasets: tuple[DataSet, ...]
    notes: tuple[NoteGroup, ...]
    pictures: Pictures | None

    @property
    def n_models(self) -> int:
        """How many different models there are."""
        return len({model.name for dataset in self.datasets for model in dataset.models})


_Numbers = dict[tuple[str, str, str], dict[str, Value]]
_Told = Mapping[str, Mapping[str, str]]
"""By data set, metric and slice: the value of each model."""


def build_report(
    results: pa.Table,
    pairs: pa.Table,
    *,
    notes: Sequence[Mapping[str, object]] = (),
    pictures: Pictures | None = None,
    highlight: Collection[str] = (),
    title: str = "",
    call: str = "",
) -> Report:
    """Collect what a report shows; the parameters are those of `manyhot.report.write_report`.

    Raises
    ------
    InputError
        The tables are not results and pairs, hold nothing or a number twice, or a model to highlight is in
        none of them.
    """
    results, pairs = tables.check(results, "results"), tables.check(pairs, "pairs")
    _check_highlight(results, highlight)
    numbers = _numbers(results)
    own, told = tuple(sorted(set(highlight))), json.loads(tables.metadata(results).get("metrics", "{}"))
    names = pc.unique(results["dataset"]).to_pylist()
    n_rows = sum(len(_models_of(numbers, name)) for name in names)
    about = tables.metadata(results)
    return Report(
        title,
        call or about.get("call", ""),
        about.get("version", ""),
        about.get("schema", ""),
        json.loads(about.get("inputs", "{}")),
        tuple(_dataset(name, numbers, pairs, own, n_rows, told) for name in names),
        _grouped(notes),
        pictures,
    )


def _check_highlight(results: pa.Table, highlight: Collection[str]) -> None:
    if not results.num_rows:
        raise InputError("There are no results to report.", do="judge at least one model")
    unknown = sorted(set(highlight) - set(pc.unique(results["model"]).to_pylist()))
    if unknown:
        raise InputError("A model to highlight is not in the results.", got=unknown[0])


def _numbers(results: pa.Table) -> _Numbers:
    wanted = pa.array(["all", *(name for name, _ in SIZES)])
    rows = results.filter(pc.is_in(results["slice"], wanted))
    found: _Numbers = {}
    keys = zip(*(rows[c].to_pylist() for c in ("dataset", "metric", "slice")), strict=True)
    columns = zip(*(rows[c].to_pylist() for c in ("value", "lo", "hi", "n", "n_skipped")), strict=True)
    for key, model, value in zip(keys, rows["model"].to_pylist(), columns, strict=True):
        of_model = found.setdefault(key, {})
        if model in of_model:
            raise InputError(
                "The results hold a number twice.",
                got=", ".join((*key, model)),
                allowed="one row for each data set, model, metric and slice",
            )
        of_model[model] = Value(*value)
    return found


def _dataset(
    name: str, numbers: _Numbers, pairs: pa.Table, highlight: tuple[str, ...], n_rows: int, told: _Told
) -> DataSet:
    over_all = {m: v for (d, m, s), v in numbers.items() if d == name and s == "all"}
    defined = sorted((m for m, v in over_all.items() if any(e.known for e in v.values())), key=reading_order)
    kept, shown = _choose(defined, n_rows)
    primary = metric("real1" if "real1" in kept else (kept or sorted(over_all, key=reading_order))[0], told)
    models = _ranked(over_all, primary, highlight)
    decimals = 2 if max((m.images for m in models), default=0) >= 10_000 else 1
    columns = tuple(_column(metric(m, told), m in shown, decimals, over_all[m], models) for m in kept)
    comparisons = _comparisons(name, pairs, columns, models)
    by_size = [m for m in SIZE_METRICS if m in defined] or shown[:3]
    return DataSet(
        name,
        models,
        primary,
        decimals,
        columns,
        tuple(sorted(set(over_all) - set(defined), key=reading_order)),
        tuple(m for m in defined if m not in kept),
        tuple(filter(None, (_by_size(name, metric(m, told), numbers, models) for m in by_size))),
        comparisons,
        tuple(_standing(m, columns, comparisons, models) for m in models if m.own),
    )


def _choose(defined: Sequence[str], n_rows: int) -> tuple[list[str], list[str]]:
    shown = [m for m in defined if m in HEADLINE]
    if len(shown) < 3:
        shown = list(defined[:6])
    others = [m for m in defined if m not in shown]
    room = max(MAX_CELLS // max(n_rows, 1) - len(shown), 0)
    return [*shown, *others[:room]], shown


def _models_of(numbers: _Numbers, dataset: str) -> set[str]:
    return {m for (d, _, s), v in numbers.items() if d == dataset and s == "all" for m in v}


def _ranked(
    over_all: Mapping[str, Mapping[str, Value]], primary: Metric, highlight: tuple[str, ...]
) -> tuple[Model, ...]:
    images: dict[str, int] = {}
    for values in over_all.values():
        for model, value in values.items():
            images.setdefault(model, value.n + value.n_skipped)
    best = over_all.get(primary.name, {})
    names = sorted(sorted(images), key=lambda m: _badness(primary, best.get(m)))
    return tuple(
        Model(i, name, name in highlight, _look(i, name, len(names), highlight), images[name])
        for i, name in enumerate(names)
    )


def _look(index: int, name: str, n: int, highlight: tuple[str, ...]) -> int | None:
    if highlight:
        return highlight.index(name) % LOOKS if name in highlight else None
    return index if n <= LOOKS else None


def _badness(metric: Metric, value: Value | None) -> float:
    if value is None or not value.known:
        return math.inf
    return value.value if metric.lower_is_better else -value.value


def _column(
    metric: Metric, shown: bool, decimals: int, values: Mapping[str, Value], models: Sequence[Model]
) -> Column:
    return Column(metric, shown, decimals if metric.percent else 3, tuple(values.get(m.name) for m in models))


def _by_size(dataset: str, metric: Metric, numbers: _Numbers, models: Sequence[Model]) -> BySize | None:
    found = [(label, numbers.get((dataset, metric.name, name), {})) for name, label in SIZES]
    found = [(label, values) for label, values in found if any(v.known for v in values.values())]
    if len(found) < 2:
        return None
    return BySize(
        metric,
        tuple(label for label, _ in found),
        tuple((min(v.n for v in values.values()), max(v.n for v in values.values())) for _, values in found),
        tuple(tuple(values.get(m.name) for m in models) for _, values in found),
        tuple(median(v.value for v in values.values() if v.known) for _, values in found),
    )


def _comparisons(
    dataset: str, pairs: pa.Table, columns: Iterable[Column], models: Sequence[Model]
) -> dict[str, Comparison]:
    own = pairs.filter(pc.and_(pc.equal(pairs["dataset"], dataset), pc.equal(pairs["slice"], "all")))
    found = {}
    for column in columns:
        rows = own.filter(pc.equal(own["metric"], column.metric.name))
        if column.shown and rows.num_rows:
            found[column.metric.name] = _comparison(rows, column, models)
    return found


def _comparison(rows: pa.Table, column: Column, models: Sequence[Model]) -> Comparison:
    names = pa.array([m.name for m in models], pa.string())
    ends = [pc.index_in(rows[c], names) for c in ("model_a", "model_b")]
    known = pc.and_(*(e.is_valid() for e in ends))
    a, b = (e.filter(known).to_numpy() for e in ends)
    p = pc.fill_null(rows["p_adjusted"], math.nan).filter(known).to_numpy()
    states = np.zeros((len(models), len(models)), np.uint8)
    states[a, b] = states[b, a] = np.where(np.isnan(p), UNKNOWN, np.where(p < BEYOND_NOISE, DIFFERENT, SAME))
    judged = [i for i, v in enumerate(column.values) if v is not None and v.known]
    order = sorted(judged, key=lambda i: _badness(column.metric, column.values[i]))
    return Comparison(tuple(order), states)


def _runs(states: Sequence[int]) -> str:
    return "".join(f"{sum(1 for _ in run)}{_SIGNS[state]}" for state, run in groupby(states))


def _standing(
    model: Model,
    columns: Sequence[Column],
    comparisons: Mapping[str, Comparison],
    models: Sequence[Model],
) -> Standing:
    shown = {c.metric.name: c for c in columns if c.shown}
    used = [shown[m] for m in ("real1", "top1") if m in shown] or list(shown.values())[:2]
    compared = next((c.metric for c in used if c.metric.name in comparisons), None)
    same: tuple[str, ...] = ()
    if compared is not None:
        c = comparisons[compared.name]
        same = tuple(models[i].name for i in c.order if c.states[model.index, i] == SAME)
    ranks = (_rank(model, column) for column in used)
    return Standing(model, tuple(filter(None, ranks)), compared, same)


def _rank(model: Model, column: Column) -> Rank | None:
    own = column.values[model.index]
    if own is None or not own.known:
        return None
    all_of = [_badness(column.metric, v) for v in column.values if v is not None and v.known]
    better = sum(b < _badness(column.metric, own) for b in all_of)
    text = column.metric.text(own.value, column.decimals) + column.metric.unit
    return Rank(column.metric, text, better + 1, len(all_of))


def _grouped(notes: Iterable[Mapping[str, object]]) -> tuple[NoteGroup, ...]:
    models: dict[tuple[str, str], list[str]] = {}
    for note in notes:
        models.setdefault((str(note["dataset"]), str(note["text"])), []).append(str(note["model"]))
    return tuple(NoteGroup(dataset, text, tuple(who)) for (dataset, text), who in models.items())
