"""The models of each data set: in order, with their numbers and which of them differ beyond noise.

Values, intervals and p-values are taken from the tables, and only sorted, grouped and counted.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot.errors import InputError
from manyhot.evaluate.compared_pairs import ComparedPairs
from manyhot.evaluate.drops import BEYOND_NOISE, p_matrix
from manyhot.evaluate.ranks import image_groups, leading_metric
from manyhot.report.page import Anchors
from manyhot.report.text import Metric, Named, is_defined, metrics_of
from manyhot.tables import Results, metadata
from manyhot.tables.result_tables import first_columns, reading_order

MAX_CELLS = 60_000
"""Columns beyond the shown ones are left out above it: a page of 2,000 models must open quickly."""


LOOKS = 4
"""Distinct colours of models; further highlighted ones share them."""


UNKNOWN, SAME, DIFFERENT = 0, 1, 2
_SIGNS = "?=!"


@dataclass(frozen=True, slots=True)
class Value:
    """A value from the results table, with its interval and n."""

    value: float
    lo: float | None
    hi: float | None
    n: int
    n_skipped: int

    @property
    def finite(self) -> bool:
        """Whether the number is defined."""
        return math.isfinite(self.value)


@dataclass(frozen=True)
class Model:
    """A model on one data set.

    Attributes
    ----------
    index : int
        Position of the model in `DataSet.models`; other attributes of the data set use the same order.
    own : bool
        Whether the model is one of the user's own models, which are highlighted.
    look : int, optional
        Index of the model's colour, from 0 to `LOOKS` - 1; None if it has no colour of its own.
    images : int
        Number of images that the model was evaluated on, including skipped images.
    is_ranked : bool
        Whether the model was evaluated on the same images as most models; if not, it has no ranks.
    """

    index: int
    name: str
    own: bool
    look: int | None
    images: int
    is_ranked: bool = True


@dataclass(frozen=True)
class MetricColumn:
    """A metric over all images, with one value per model; `shown` is true if it is visible by default.

    `unranked` are the indices of the models without ranks.
    """

    metric: Metric
    shown: bool
    decimals: int
    values: tuple[Value | None, ...]
    unranked: frozenset[int] = frozenset()

    def in_full(self, value: Value) -> str:
        """Return a value as it is written in a sentence, with its interval and n."""
        m, parts = self.metric, []
        if value.lo is not None and value.hi is not None and is_defined(value.lo) and is_defined(value.hi):
            parts = [f"95 % interval {m.text(value.lo, self.decimals)} to {m.text(value.hi, self.decimals)}"]
        return f"{m.text(value.value, self.decimals)}{m.unit} ({', '.join([*parts, f'n {value.n:,}'])})"

    def places(self) -> tuple[int | None, ...]:
        """Return the rank of each model, from 1; ties share a rank, and undefined values have none."""
        ranked = [None if i in self.unranked else v for i, v in enumerate(self.values)]
        badness = [_badness(self.metric, v) for v in ranked]
        place: dict[float, int] = {}
        for i, bad in enumerate(sorted(badness), 1):
            place.setdefault(bad, i)
        return tuple(None if math.isinf(bad) else place[bad] for bad in badness)


@dataclass(frozen=True, eq=False)
class Differences:
    """The pairs of models that differ beyond noise by one metric.

    Attributes
    ----------
    order : tuple of int
        Indices of the models that have a value, from best to worst.
    states : ndarray of uint8, shape (m, m)
        `UNKNOWN`, `SAME` or `DIFFERENT` for each pair of models, by index.
    """

    order: tuple[int, ...]
    states: npt.NDArray[np.uint8]

    def runs(self) -> list[str]:
        """Return the upper triangle in `order`, one text per row: ``3=60!`` means 3 `SAME`, 60 `DIFFERENT`.

        In this order, models that do not differ are close together, so a row takes about ten characters.
        """
        ordered = self.states[np.ix_(self.order, self.order)]
        return [_runs(ordered[i, i + 1 :].tolist()) for i in range(len(self.order))]


@dataclass(frozen=True)
class Rank:
    """The rank of a model among the models that have a value. The best rank is 1, and ties share a rank."""

    metric: Metric
    value: str
    place: int
    of: int


@dataclass(frozen=True)
class Standing:
    """The ranks of one of the user's own models.

    `same` contains the models that do not differ from this model beyond noise by the metric `compared`, which
    is None if there are no pairs. `n_untested` is the number of models whose difference from this model has
    no p-value.
    """

    model: Model
    ranks: tuple[Rank, ...]
    compared: Metric | None
    same: tuple[str, ...]
    n_untested: int


@dataclass(frozen=True, eq=False)
class DataSet:
    """The contents of the report about one data set.

    `models` are sorted by the metric `primary`, the best first. `decimals` is the number of decimal places of
    percentages. `anchors` are the anchors of the rows of the user's own models, by model index. `compared`
    says which pairs of models are compared.
    """

    name: str
    anchor: str
    anchors: Mapping[int, str]
    models: tuple[Model, ...]
    primary: Metric
    decimals: int
    columns: tuple[MetricColumn, ...]
    undefined: tuple[str, ...]
    dropped: tuple[str, ...]
    comparisons: Mapping[str, Differences]
    standings: tuple[Standing, ...]
    compared: ComparedPairs

    def column(self, name: str) -> MetricColumn | None:
        """Return the column of a metric, or None if there is none."""
        return next((c for c in self.columns if c.metric.name == name), None)


_Values = dict[str, dict[str, dict[str, Value]]]
"""By data set and metric: the value of each model over all images."""


def build_datasets(
    results: pa.Table, pairs: pa.Table, highlight: Collection[str], anchors: Anchors
) -> tuple[DataSet, ...]:
    """Collect the contents of the report about each data set.

    Raises
    ------
    InputError
        If the tables are empty or contain a value twice, or a model to highlight is in none of them.
    """
    _check_highlight(results, highlight)
    own = tuple(sorted(set(highlight)))
    named, about = metrics_of(results), metadata(results)
    values = _values_by_model(results)
    n_rows = sum(len({m for of in by_metric.values() for m in of}) for by_metric in values.values())
    tables = Results(results, pairs)
    return tuple(
        _dataset(name, by_metric, tables, own, n_rows, named, anchors, ComparedPairs.of(about, name))
        for name, by_metric in values.items()
    )


def _check_highlight(results: pa.Table, highlight: Collection[str]) -> None:
    if not results.num_rows:
        raise InputError("There are no results to report.", do="evaluate at least one model")
    unknown = sorted(set(highlight) - set(pc.unique(results["model"]).to_pylist()))
    if unknown:
        raise InputError("A model to highlight is not in the results.", got=unknown[0])


def _values_by_model(results: pa.Table) -> _Values:
    rows = results.filter(pc.equal(results["slice"], "all"))
    found: _Values = {}
    keys = zip(*(rows[c].to_pylist() for c in ("dataset", "metric", "model")), strict=True)
    columns = zip(*(rows[c].to_pylist() for c in ("value", "lo", "hi", "n", "n_skipped")), strict=True)
    for (dataset, name, model), value in zip(keys, columns, strict=True):
        of_model = found.setdefault(dataset, {}).setdefault(name, {})
        if model in of_model:
            raise InputError(
                "The results contain a value twice.",
                got=", ".join((dataset, name, "all", model)),
                allowed="one row per data set, model, metric and slice",
            )
        of_model[model] = Value(*value)
    return found


def _dataset(
    name: str,
    values: Mapping[str, Mapping[str, Value]],
    results: Results,
    highlight: tuple[str, ...],
    n_rows: int,
    named: Named,
    anchors: Anchors,
    compared: ComparedPairs,
) -> DataSet:
    defined = sorted((m for m, v in values.items() if any(e.finite for e in v.values())), key=reading_order)
    # As on a terminal; a metric without values sorts nothing.
    leading = next((m for m in (leading_metric(results, name), *defined) if m in defined), min(values))
    kept, shown = _choose(values, defined, n_rows, leading)
    primary = named(leading)
    groups = image_groups(results, (name, leading, "all"))
    models = _ranked(values, primary, highlight, frozenset(groups[0] if groups else ()))
    decimals = 2 if max((m.images for m in models), default=0) >= 10_000 else 1
    columns = tuple(_column(named(m), m in shown, decimals, values[m], models) for m in kept)
    comparisons = _comparisons(name, results.pairs, columns, models)
    return DataSet(
        name,
        anchors("data", name),
        {m.index: anchors("data", name, m.name) for m in models if m.own},
        models,
        primary,
        decimals,
        columns,
        tuple(sorted(set(values) - set(defined), key=reading_order)),
        tuple(m for m in defined if m not in kept),
        comparisons,
        tuple(_standing(m, columns, comparisons, models) for m in models if m.own),
        compared,
    )


def _choose(
    values: Mapping[str, Mapping[str, Value]], defined: Sequence[str], n_rows: int, leading: str
) -> tuple[list[str], list[str]]:
    """Return the metrics of the page and those that are visible by default: also those of most models."""
    shown = [m for m in defined if m in first_columns()]
    if len(shown) < 3:
        shown = list(defined[:6])
    if leading in defined and leading not in shown:
        as_many = [m for m in defined if m != leading and len(values[m]) >= len(values[leading])]
        shown = list(dict.fromkeys([leading, *as_many[:5], *shown]))
    others = [m for m in defined if m not in shown]
    room = max(MAX_CELLS // max(n_rows, 1) - len(shown), 0)
    return [*shown, *others[:room]], shown


def _ranked(
    over_all: Mapping[str, Mapping[str, Value]],
    primary: Metric,
    highlight: tuple[str, ...],
    group: frozenset[str],
) -> tuple[Model, ...]:
    images: dict[str, int] = {}
    for values in over_all.values():
        for model, value in values.items():
            images.setdefault(model, value.n + value.n_skipped)
    best = over_all.get(primary.name, {})
    lacking = {m for m in images if m not in best}  # these may have ranks by other metrics
    names = sorted(sorted(images), key=lambda m: (m not in group, _badness(primary, best.get(m))))
    return tuple(
        Model(
            i,
            name,
            name in highlight,
            _look(i, name, len(names), highlight),
            images[name],
            name in group or name in lacking,
        )
        for i, name in enumerate(names)
    )


def _look(index: int, name: str, n: int, highlight: tuple[str, ...]) -> int | None:
    if highlight:
        return highlight.index(name) % LOOKS if name in highlight else None
    return index if n <= LOOKS else None


def _badness(metric: Metric, value: Value | None) -> float:
    if value is None or not value.finite:
        return math.inf
    return value.value if metric.lower_is_better else -value.value


def _column(
    metric: Metric, shown: bool, decimals: int, values: Mapping[str, Value], models: Sequence[Model]
) -> MetricColumn:
    return MetricColumn(
        metric,
        shown,
        decimals if metric.percent else 3,
        tuple(values.get(m.name) for m in models),
        frozenset(m.index for m in models if not m.is_ranked),
    )


def _comparisons(
    dataset: str, pairs: pa.Table, columns: Iterable[MetricColumn], models: Sequence[Model]
) -> dict[str, Differences]:
    own = pairs.filter(pc.and_(pc.equal(pairs["dataset"], dataset), pc.equal(pairs["slice"], "all")))
    found = {}
    for column in columns:
        rows = own.filter(pc.equal(own["metric"], column.metric.name))
        if column.shown and rows.num_rows:
            found[column.metric.name] = _comparison(rows, column, models)
    return found


def _comparison(rows: pa.Table, column: MetricColumn, models: Sequence[Model]) -> Differences:
    p = p_matrix(rows, [m.name for m in models])
    states = np.where(np.isnan(p), UNKNOWN, np.where(p < BEYOND_NOISE, DIFFERENT, SAME)).astype(np.uint8)
    judged = [i for i, v in enumerate(column.values) if v is not None and v.finite]
    order = sorted(judged, key=lambda i: _badness(column.metric, column.values[i]))
    return Differences(tuple(order), states)


def _runs(states: Sequence[int]) -> str:
    return "".join(f"{sum(1 for _ in run)}{_SIGNS[state]}" for state, run in groupby(states))


def _standing(
    model: Model,
    columns: Sequence[MetricColumn],
    comparisons: Mapping[str, Differences],
    models: Sequence[Model],
) -> Standing:
    shown = {c.metric.name: c for c in columns if c.shown}
    used = [shown[m] for m in ("real1", "top1") if m in shown] or list(shown.values())[:2]
    compared = next((c.metric for c in used if c.metric.name in comparisons), None)
    same: tuple[str, ...] = ()
    n_untested = 0
    if compared is not None:
        c = comparisons[compared.name]
        same = tuple(models[i].name for i in c.order if c.states[model.index, i] == SAME)
        n_untested = sum(i != model.index and c.states[model.index, i] == UNKNOWN for i in c.order)
        compared = compared if n_untested < len(c.order) - 1 else None
    ranks = (_rank(model, column) for column in used)
    return Standing(model, tuple(filter(None, ranks)), compared, same, n_untested)


def _rank(model: Model, column: MetricColumn) -> Rank | None:
    own, places = column.values[model.index], column.places()
    place = places[model.index]
    if own is None or place is None:
        return None
    text = column.metric.text(own.value, column.decimals) + column.metric.unit
    return Rank(column.metric, text, place, len(places) - places.count(None))
