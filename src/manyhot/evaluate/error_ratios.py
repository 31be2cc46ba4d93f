"""Error ratios: how much more often models err on some images than on all, under two metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from manyhot.classes import family_of
from manyhot.console import table_lines
from manyhot.core.array_types import Floats
from manyhot.core.comparison import NO_INTERVAL, Families
from manyhot.core.corruption_errors import error_ratio
from manyhot.core.jackknife import Scale
from manyhot.core.ratio_intervals import FEWEST_CASES, sampled_intervals
from manyhot.tables import End, Results, Row, list_matrix, schema
from manyhot.tables.definitions import COUNT, ITS, REAL, TEXT, bounds, declare_table, interval
from manyhot.tables.frames import null_if_nan

_OVER_IMAGES = f"{ITS} over images"

declare_table(
    "error_ratios",
    (
        TEXT("dataset", "the data set"),
        TEXT("slice", "the images"),
        TEXT("whole", "the slice of all images, whose error ratio is 1"),
        TEXT("metric_x", "the metric of x"),
        TEXT("metric_y", "the metric of y"),
        TEXT.nullable("model", "the model; null for the mean over models"),
        REAL("accuracy_x", "accuracy at x"),
        REAL("accuracy_y", "accuracy at y"),
        *interval("accuracy_difference", "accuracy_y minus accuracy_x", _OVER_IMAGES, value=REAL),
        *interval(
            "error_ratio_x",
            "error on these images divided by the error on all images, at x",
            _OVER_IMAGES,
        ),
        *interval(
            "error_ratio_y", "error on these images divided by the error on all images, at y", _OVER_IMAGES
        ),
        *interval("error_ratio_difference", "error_ratio_y minus error_ratio_x", _OVER_IMAGES),
        *bounds("lo_models", "hi_models", "95 % interval of the mean difference, over families of models"),
        COUNT("n_x", "number of images counted at x; for the mean, the minimum over models"),
        COUNT("n_y", "number of images counted at y; for the mean, the minimum over models"),
        COUNT("n_models", "number of models averaged; 1 for a single model"),
    ),
)

X, Y = "top1", "real1"
"""The metrics of x and y: accuracy by original label, and by label set."""


@dataclass(frozen=True, eq=False)
class _Values:
    """Something about each model: its values, shape (M,), and its values on resamples, shape (M, R)."""

    values: Floats
    samples: Floats
    scale: Scale = "plain"

    def columns(self, name: str, n: Sequence[int]) -> Iterator[dict[str, float | None]]:
        """Yield the columns of each row: first the mean over models, then each model."""
        images = np.array([min(n), *n])
        values = np.array([self.values.mean(), *self.values])
        samples = np.vstack([self.samples.mean(axis=0), self.samples])
        lo, hi = sampled_intervals(values, samples, images, scale=self.scale)
        some = (images >= FEWEST_CASES) & (lo < hi)  # the error of all images relative to itself is always 1
        for value, low, high, has_interval in zip(values, lo, hi, some, strict=True):
            ends = (float(low), float(high)) if has_interval else (None, None)
            yield {name: null_if_nan(float(value)), f"{name}_lo": ends[0], f"{name}_hi": ends[1]}


def error_ratios(results: Results, whole: str) -> pa.Table:
    """Return the table ``error_ratios``: the mean and each model, on each slice by the column of `whole`.

    Parameters
    ----------
    results : Results
        With resampled values, for the intervals.
    whole : str
        The slice whose error ratio is 1, such as ``factor=average``. If the results lack this slice, the
        table is empty.
    """
    column = f"{whole.partition('=')[0]}="
    rows = [
        row
        for dataset, metric, name in results.values_at
        if metric == X and name.startswith(column) and (dataset, X, whole) in results.values_at
        for row in _rows(results, dataset, name, whole)
    ]
    return pa.Table.from_pylist(rows, schema=schema("error_ratios"))


def _rows(results: Results, dataset: str, name: str, whole: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a slice: the mean over models, and each model; none if a metric is lacking."""
    ends = [(dataset, metric, part) for metric in (X, Y) for part in (name, whole)]
    models = [m for m in results.values_at[ends[0]] if all(m in results.values_at.get(e, ()) for e in ends)]
    if not models:
        return
    x, all_x, y, all_y = (_accuracies(results, end, models) for end in ends)
    ratio_x, ratio_y = _ratio(x, all_x), _ratio(y, all_y)
    changed, difference = _minus(y, x), _minus(ratio_y, ratio_x)
    n_x, n_y = ([results.values_at[end][m].n for m in models] for end in (ends[0], ends[2]))
    n = [min(pair) for pair in zip(n_x, n_y, strict=True)]
    over_models = Families.of([family_of(m) for m in models]).mean_interval(difference.values)
    columns = zip(
        [None, *models],
        [x.values.mean(), *x.values],
        [y.values.mean(), *y.values],
        changed.columns("accuracy_difference", n),
        ratio_x.columns("error_ratio_x", n_x),
        ratio_y.columns("error_ratio_y", n_y),
        difference.columns("error_ratio_difference", n),
        [over_models, *[NO_INTERVAL] * len(models)],
        [min(n_x), *n_x],
        [min(n_y), *n_y],
        [len(models), *[1] * len(models)],
        strict=True,
    )
    about = {"dataset": dataset, "slice": name, "whole": whole, "metric_x": X, "metric_y": Y}
    for model, acc_x, acc_y, *intervals, (lo, hi), images_x, images_y, n_models in columns:
        yield (
            about
            | {"model": model, "accuracy_x": acc_x, "accuracy_y": acc_y}
            | {column: value for each in intervals for column, value in each.items()}
            | {
                "lo_models": null_if_nan(lo),
                "hi_models": null_if_nan(hi),
                "n_x": images_x,
                "n_y": images_y,
                "n_models": n_models,
            }
        )


def _accuracies(results: Results, end: End, models: Sequence[str]) -> _Values:
    values = np.array([results.values_at[end][m].value for m in models], np.float64)
    rows = [row for m in models if (row := results.sample_rows.get(end, {}).get(m)) is not None]
    if len(rows) < len(models):  # none were drawn
        return _Values(values, np.empty((len(models), 0)))
    samples = list_matrix(results.samples["values"].take(pa.array(rows)), np.nan)
    return _Values(values, samples.astype(np.float64))


def _ratio(part: _Values, whole: _Values) -> _Values:
    values, samples = error_ratio(part.values, whole.values), error_ratio(part.samples, whole.samples)
    return _Values(values, samples, "log")


def _minus(y: _Values, x: _Values) -> _Values:
    return _Values(y.values - x.values, y.samples - x.samples)


def ratio_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the accuracies and error ratios of each slice, as means over models."""
    means = [row for row in rows if row["model"] is None]
    if not means:
        return
    n = means[0]["n_models"]
    over = f"means over {n:,} models" if n > 1 else "1 model"
    yield f"{means[0]['dataset']}, {means[0]['metric_x']} → {means[0]['metric_y']}: {over}"
    head = ("images", "n", "accuracy", "error ratio", "difference", "95 % over images")
    yield from table_lines(head, list(map(_cells, means)))
    yield f"error ratio: error on these images divided by the error on {means[0]['whole']}"


def _cells(row: Row) -> tuple[str, ...]:
    lo, hi = row["error_ratio_difference_lo"], row["error_ratio_difference_hi"]
    return (
        row["slice"],
        f"{row['n_x']:,} → {row['n_y']:,}",
        f"{row['accuracy_x']:.2%} → {row['accuracy_y']:.2%}",
        f"{row['error_ratio_x']:.3f} → {row['error_ratio_y']:.3f}",
        f"{row['error_ratio_difference']:+.3f}",
        "–" if lo is None else f"{lo:+.3f} to {hi:+.3f}",
    )
