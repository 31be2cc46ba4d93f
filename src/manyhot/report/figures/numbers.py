"""From the tables to columns that charts draw: chosen and joined, never computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

import polars as pl

from manyhot.report.inputs import ReportTables
from manyhot.report.metrics import reading_order


class Numbers:
    """The tables as frames, made once, with what several figures ask of them.

    Parameters
    ----------
    tables : ReportTables
    own : sequence of str
        The user's own models.
    """

    def __init__(self, tables: ReportTables, own: Sequence[str] = ()) -> None:
        self.tables = tables
        self.own = tuple(sorted(set(own)))
        self._frames: dict[str, pl.DataFrame] = {}

    def __getitem__(self, name: str) -> pl.DataFrame:
        """Return a table as a frame."""
        if name not in self._frames:
            self._frames[name] = cast(pl.DataFrame, pl.from_arrow(self.tables[name]))
        return self._frames[name]

    @cached_property
    def results(self) -> pl.DataFrame:
        """The results that have a value."""
        return self["results"].filter(pl.col("value").is_finite())

    @cached_property
    def whole(self) -> pl.DataFrame:
        """The results over all images."""
        return self.results.filter(pl.col("slice") == "all")

    @cached_property
    def datasets(self) -> list[str]:
        """Data sets in the order of the results."""
        return self["results"]["dataset"].unique(maintain_order=True).to_list()

    def metrics(self, dataset: str) -> list[str]:
        """Return the metrics of a data set that have values over all images, in reading order."""
        found = self.whole.filter(pl.col("dataset") == dataset)["metric"].unique().to_list()
        return sorted(found, key=reading_order)

    def of(self, dataset: str, metric: str, slice: str = "all") -> pl.DataFrame:
        """Return the values of a metric, a row a model, sorted by model."""
        rows = self.results.filter(
            (pl.col("dataset") == dataset) & (pl.col("metric") == metric) & (pl.col("slice") == slice)
        )
        return rows.sort("model")

    def both(self, x: tuple[str, ...], y: tuple[str, ...]) -> pl.DataFrame:
        """Return models with a value at x and at y: ``model``, ``x``, ``x_lo``, ``x_hi``, ``y``, …, and n.

        Parameters
        ----------
        x, y : tuple of str
            Data set, metric and, where it is not all, slice.
        """
        left, right = (self.of(*end).select("model", *_COLUMNS) for end in (x, y))
        names = {c: f"x_{c}" for c in _COLUMNS} | {"value": "x"}
        return left.rename(names).join(
            right.rename({c: f"y_{c}" for c in _COLUMNS} | {"value": "y"}), on="model"
        )

    def fit(self, x: tuple[str, str], y: tuple[str, str], scale: str, models: str) -> dict[str, Any] | None:
        """Return a fitted line over all images: between two data sets and metrics, on a scale."""
        rows = self["fits"].filter(
            (pl.col("dataset_x") == x[0])
            & (pl.col("metric_x") == x[1])
            & (pl.col("dataset_y") == y[0])
            & (pl.col("metric_y") == y[1])
            & (pl.col("slice_x") == "all")
            & (pl.col("slice_y") == "all")
            & (pl.col("scale") == scale)
            & (pl.col("models") == models)
            & pl.col("slope").is_finite()
        )
        return first(rows)


_COLUMNS = ("value", "lo", "hi", "n")


def column(frame: pl.DataFrame, name: str, times: float = 1.0) -> list[Any]:
    """Return a column as a list, numbers multiplied; None where there is nothing."""
    values = frame[name].to_list()
    if times == 1.0:
        return values
    return [None if v is None or not math.isfinite(v) else v * times for v in values]


def first(frame: pl.DataFrame) -> dict[str, Any] | None:
    """Return the first row, None without one."""
    return frame.row(0, named=True) if frame.height else None
