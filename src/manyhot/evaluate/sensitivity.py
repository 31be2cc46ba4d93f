"""How much of a drop between two data sets is due to how their label sets were made.

Label sets of two data sets are rarely made in the same way. ReaL rated half of the images of ImageNet's
validation set and keeps a class from a score of 0.8 on; Multilabelfy showed twenty classes for every image of
ImageNetV2. Their set sizes are not the same quantity, so each number here is a what-if analysis, not a
correction. Nor are rated images a random sample: ReaL asked about those on which models disagreed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from manyhot.core.array_types import Floats
from manyhot.core.comparison import Families
from manyhot.tables import End, ModelValue, Results, schema
from manyhot.tables.definitions import COUNT, ITS, REAL, TEXT, bounds, declare_table

ANALYSED_METRICS = ("top1", "real1", "variable_topk")
"""Whose drop is analysed."""


PROTOCOL_WARNING = (
    "Set sizes found under different protocols are not the same quantity: re-weighting shows how much "
    "depends on the protocol, and does not remove its effect. Rated images are those on which models "
    "disagreed."
)
"""Printed with every sensitivity table."""


FEWEST = 2
"""Models in common that it takes."""


SIZE_SLICES = ("n_labels=1", "n_labels=2", "n_labels=3", "n_labels>=4")
"""Slices by size of the label set."""


RATED = "rated=true"


ANALYSES = (
    "as published",
    "not empty",
    "sizes of y",
    "sizes of x",
    "rated at x",
    "rated, sizes of y",
    "threshold at x",
)

declare_table(
    "sensitivity",
    (
        TEXT("dataset_x", "the data set on the x axis"),
        TEXT("dataset_y", "the data set on the y axis"),
        TEXT("metric", "a registered name, with its options"),
        TEXT("analysis", "what was changed", values=ANALYSES),
        REAL.nullable(
            "threshold", "threshold of the labels' probability at x; null if it is the published one"
        ),
        REAL("value_x", "mean over models at x"),
        REAL("value_y", "mean over models at y"),
        REAL("drop", "value_x less value_y"),
        *bounds("lo_models", "hi_models", f"{ITS} over families of models"),
        REAL("multi_x", "share of the sets at x with two or more labels"),
        REAL("multi_y", "share of the sets at y with two or more labels"),
        COUNT("n_x", "images counted at x, the minimum over models"),
        COUNT("n_y", "images counted at y, the minimum over models"),
        COUNT("n_models", "models averaged"),
    ),
)

_THRESHOLD = re.compile(r"(.+) p>=([\d.]+)")


_Values = dict[str, ModelValue]


_Case = tuple[str, float | None, _Values, _Values, Floats]
"""An analysis, its threshold, values at x and y, and shares of sizes at x."""


_Numbers = Mapping[End, _Values]


def sensitivity(
    results: Results,
    thresholds: Results | None,
    family: Callable[[str], str],
    resamples: int,
    seed: int,
) -> pa.Table:
    """Return the sensitivity table of the first data set against each other one.

    Parameters
    ----------
    results : Results
        With the slices `SIZE_SLICES` of both data sets; without them there is nothing to analyse.
    thresholds : Results, optional
        Results on the first data set under other thresholds, named ``NAME p>=THRESHOLD``.
    family : callable
        Returns the family of a model.
    resamples, seed : int
        Bootstrap of the families.

    Notes
    -----
    Analyses: *as published*; *not empty* leaves out images with an empty set, as do the analyses that weight
    sizes, which should therefore be compared with it; *sizes of y* weights the values at x in each set size
    by the frequency of that size at y, *sizes of x* the reverse; *rated at x* uses only images that raters
    checked, *rated, sizes of y* does both; *threshold at x* uses another threshold of the labels'
    probability. Metrics of label sets always leave out empty sets, and have no row *not empty*.
    """
    values = results.values_at | (thresholds.values_at if thresholds is not None else {})
    first, *others = results.datasets
    rows: list[dict[str, Any]] = []
    for y in others:
        for metric in ANALYSED_METRICS:
            for row, models, drop in _analyses(values, first, y, metric):
                if len(models) < FEWEST:  # one model is no comparison
                    continue
                names = [family(m) for m in models]
                families = Families.draw(names, resamples, np.random.default_rng(seed))
                interval = families.mean_interval(drop)
                ends = [float(e) if np.isfinite(e) else None for e in interval]
                rows.append(row | {"lo_models": ends[0], "hi_models": ends[1]})
    return pa.Table.from_pylist(rows, schema=schema("sensitivity"))


def _analyses(
    values: _Numbers, x: str, y: str, metric: str
) -> Iterator[tuple[dict[str, Any], Sequence[str], Floats]]:
    """Yield a row of the table for each analysis, with the models and their drops."""
    at_x, at_y = values.get((x, metric, "all")), values.get((y, metric, "all"))
    sizes_x, sizes_y = (_sizes(values, d, metric) for d in (x, y))
    if at_x is None or at_y is None or sizes_x is None or sizes_y is None:
        return
    share_x, share_y = _shares(sizes_x), _shares(sizes_y)
    cases: list[_Case] = [
        ("as published", None, at_x, at_y, share_x),
        ("not empty", None, _weighted(sizes_x, share_x), _weighted(sizes_y, share_y), share_x),
        ("sizes of y", None, _weighted(sizes_x, share_y), _weighted(sizes_y, share_y), share_y),
        ("sizes of x", None, _weighted(sizes_x, share_x), _weighted(sizes_y, share_x), share_x),
    ]
    rated, rated_sizes = values.get((x, metric, RATED)), _sizes(values, x, metric, f"{RATED},")
    if rated is not None and rated_sizes is not None:
        share = _shares(rated_sizes)
        cases.append(("rated at x", None, rated, at_y, share))
        as_y = _weighted(rated_sizes, share_y)
        cases.append(("rated, sizes of y", None, as_y, _weighted(sizes_y, share_y), share_y))
    for at, name in _thresholds(values, x) if metric != "top1" else []:
        other, sizes = values.get((name, metric, "all")), _sizes(values, name, metric)
        if other is not None and sizes is not None:
            cases.append(("threshold at x", at, other, at_y, _shares(sizes)))
    for analysis, threshold, values_x, values_y, share in cases:
        if analysis == "not empty" and metric != "top1":
            continue
        multi_y = share_x if analysis == "sizes of x" else share_y
        about: dict[str, Any] = {"dataset_x": x, "dataset_y": y, "metric": metric, "analysis": analysis}
        about |= {"threshold": threshold, "multi_x": 1 - share[0], "multi_y": 1 - multi_y[0]}
        yield _row(about, values_x, values_y)


def _row(about: dict[str, Any], x: _Values, y: _Values) -> tuple[dict[str, Any], Sequence[str], Floats]:
    models = [m for m in x if m in y and np.isfinite(x[m].value) and np.isfinite(y[m].value)]
    vx, vy = (np.array([v[m].value for m in models]) for v in (x, y))
    row = about | {
        "value_x": float(vx.mean()) if models else float("nan"),
        "value_y": float(vy.mean()) if models else float("nan"),
        "drop": float((vx - vy).mean()) if models else float("nan"),
        "n_x": min((x[m].n for m in models), default=0),
        "n_y": min((y[m].n for m in models), default=0),
        "n_models": len(models),
    }
    return row, models, vx - vy


def _sizes(values: _Numbers, dataset: str, metric: str, before: str = "") -> list[_Values] | None:
    found = [values.get((dataset, metric, f"{before}{size}")) for size in SIZE_SLICES]
    return [f for f in found if f is not None] if all(found) else None


def _shares(sizes: Sequence[_Values]) -> Floats:
    """Return how often each size of sets is among the images counted; models may differ in these a little."""
    counts = np.array([max(number.n for number in values.values()) for values in sizes], np.float64)
    return np.asarray(counts / counts.sum())


def _weighted(sizes: Sequence[_Values], shares: Floats) -> _Values:
    """Return each model's values within sizes of sets, weighted by other shares of these sizes."""
    models = [m for m in sizes[0] if all(m in values for values in sizes)]
    found: _Values = {}
    for m in models:
        value = sum(s * values[m].value for s, values in zip(shares, sizes, strict=True) if s)
        found[m] = ModelValue(float(value), None, None, sum(values[m].n for values in sizes))
    return found


def _thresholds(values: _Numbers, x: str) -> list[tuple[float, str]]:
    found = {d: m for d, _, _ in values if (m := _THRESHOLD.fullmatch(d)) and m[1] == x}
    return sorted((float(m[2]), d) for d, m in found.items())
