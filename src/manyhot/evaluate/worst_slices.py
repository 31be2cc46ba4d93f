"""The slice on which each model is worst, such as the worst group of images, with an interval."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa
from scipy.special import ndtri

from manyhot.core.resampling import LEVEL, QUANTILE
from manyhot.evaluate.slices import column_of, is_requested
from manyhot.tables import Results, Row, schema
from manyhot.tables.definitions import COUNT, REAL, TEXT, declare_table, interval
from manyhot.tables.result_tables import ModelValue, is_over_classes

declare_table(
    "worst_slices",
    (
        TEXT("dataset", "name of the data set"),
        TEXT("column", "what the slices are made by, such as place; several columns joined by commas"),
        TEXT("metric", "name of the metric"),
        TEXT("model", "name of the model"),
        TEXT("slice", "the slice on which the model is worst; the first of several"),
        *interval(
            "value",
            "value of the metric on this slice",
            "the 95 % interval of the value on whichever slice is worst; null if a slice has none",
            value=REAL,
        ),
        COUNT("n", "number of images of this slice that count"),
        COUNT("n_slices", "number of slices that have a value"),
    ),
)


def worst_slices(results: Results, requested: Collection[str]) -> pa.Table:
    """Return on which of the requested slices each model is worst.

    Metrics that are means over classes are left out, because the classes differ from slice to slice.

    Parameters
    ----------
    requested : collection of str
        Slices as passed to `manyhot.evaluate`. Those of a column are compared with one another.

    Returns
    -------
    pyarrow.Table
        The table ``worst_slices``; see `manyhot.tables.TABLES` for its columns.

    Notes
    -----
    The worst of several estimates is, on average, worse than the worst of the true values. The interval
    allows for it. Let a higher value be better. The lower end is the lowest lower end of all slices. The
    upper end is the lowest upper end after Bonferroni's correction for the number of slices S, that is, of
    one-sided limits at the level 1 - 0.025 / S. The lower end is above the worst true value only if the
    interval of the truly worst slice is, and the upper end is below it only if a corrected limit fails; so
    the interval contains it with a probability of 95 % at least, as far as the intervals of the slices are
    right. If the metric is a share, corrected limits are Wilson's for the number of images that gives the
    uncorrected limit. Otherwise, the distance from the value to its limit is extended in proportion to
    normal quantiles.
    """
    about = json.loads(results.about["metrics"])
    found: dict[tuple[str, str, str], dict[str, Mapping[str, ModelValue]]] = {}
    for (dataset, metric, name), values in results.values_at.items():
        if is_requested(name, requested) and not is_over_classes(metric):
            found.setdefault((dataset, column_of(name), metric), {})[name] = values
    rows = []
    for (dataset, column, metric), slices in found.items():
        is_share, is_lower = about[metric]["unit"] == "share", about[metric]["better"] == "lower"
        for model in dict.fromkeys(model for values in slices.values() for model in values):
            own = {name: values[model] for name, values in slices.items() if model in values}
            own = {name: value for name, value in own.items() if value.value == value.value}
            if len(own) > 1:
                worst = _worst(own, is_share=is_share, is_lower=is_lower)
                rows.append({"dataset": dataset, "column": column, "metric": metric, "model": model, **worst})
    return pa.Table.from_pylist(rows, schema("worst_slices"))


def _worst(slices: Mapping[str, ModelValue], *, is_share: bool, is_lower: bool) -> dict[str, Any]:
    """Return the worst of several slices of a model as columns of the table."""
    sign = -1 if is_lower else 1
    name = min(slices, key=lambda s: sign * slices[s].value)
    worst = {"slice": name, "value": slices[name].value, "n": slices[name].n, "n_slices": len(slices)}
    corrected: float = ndtri(1 - (1 - LEVEL) / 2 / len(slices))
    ends = []
    for own in slices.values():
        # The end on the side of worse values, and the other one.
        worse, better = (own.hi, own.lo) if is_lower else (own.lo, own.hi)
        if worse is None or better is None or worse != worse or better != better:
            return worst
        ends.append((worse, _corrected(own.value, better, corrected, is_share=is_share)))
    pick = max if is_lower else min
    lo, hi = sorted(pick(end) for end in zip(*ends, strict=True))
    return worst | {"value_lo": lo, "value_hi": hi}


def _corrected(value: float, end: float, z: float, *, is_share: bool) -> float:
    """Return an end of a 95 % interval at the normal quantile z instead."""
    if not is_share:
        return value + (end - value) * z / QUANTILE
    is_upper = end > value
    p, limit = (value, end) if is_upper else (1 - value, 1 - end)
    if limit == p or limit >= 1:
        return end
    # Wilson's limit solves (limit - p)² = z² limit (1 - limit) / n.
    n = QUANTILE**2 * limit * (1 - limit) / (limit - p) ** 2
    centre, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    upper = (centre + half) / (1 + z**2 / n)
    return upper if is_upper else 1 - upper


def worst_rows(table: pa.Table, dataset: str, metric: str, *, lower_is_better: bool) -> dict[str, list[Row]]:
    """Return the rows of a data set and a metric by column, the model with the best worst slice first."""
    found: dict[str, list[Row]] = {}
    for row in table.to_pylist():
        if (row["dataset"], row["metric"]) == (dataset, metric):
            found.setdefault(row["column"], []).append(row)
    sign = 1 if lower_is_better else -1
    return {column: sorted(rows, key=lambda row: sign * row["value"]) for column, rows in found.items()}
