"""The columns of the tables of models: the position of each value on the axis of its column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from manyhot.evaluate.report.datasets import DataSet, MetricColumn, Model, Value
from manyhot.report.figure import Axis, fences, tick_text
from manyhot.report.text import count_range

FIRST = 100
"""Rows of a table that are written as HTML. The others are built from data when a reader asks for them: 1,556
models on five data sets written out took Chromium 2.4 seconds to open."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the table.

    Attributes
    ----------
    text, note : str
        The number, and its tooltip.
    place : str
        Position on the axis, as CSS variables in percent.
    side : str
        ``below`` or ``above`` the axis, or empty.
    """

    text: str
    note: str
    place: str = ""
    side: str = ""


@dataclass(frozen=True)
class DrawnColumn:
    """A column of the table with its axis; `counted` is n, or a range if n differs between models."""

    column: MetricColumn
    axis: Axis
    counted: str

    @property
    def ends(self) -> tuple[str, str]:
        """The labels at both ends of the axis."""
        return tick_text(self.axis.lo), tick_text(self.axis.hi)

    def cell(self, index: int) -> Cell:
        """Return the cell of a model."""
        value, column, axis = self.column.values[index], self.column, self.axis
        if value is None:
            return Cell("–", "not evaluated")
        if not value.finite:
            return Cell("–", f"undefined: n {value.n:,}, {value.n_skipped:,} skipped")
        m = column.metric
        places = [("v", value.value)]
        note = "no interval"
        if value.lo is not None and value.hi is not None:
            places += [("l", value.lo), ("h", value.hi)]
            note = f"{m.text(value.lo, column.decimals)} to {m.text(value.hi, column.decimals)}"
        side = "below" if m.draw(value.value) < axis.lo else "above" if m.draw(value.value) > axis.hi else ""
        # Three digits are a third of a pixel.
        # Beyond the axis there is nothing to draw, and Chromium would print it black.
        style = ";".join(f"--{name}:{axis.at(m.draw(v), 0, 100):.3g}" for name, v in places if not side)
        return Cell(m.text(value.value, column.decimals), f"{note}, n {value.n:,}", style, side)

    def packed(self) -> dict[str, Any]:
        """Return the column for the page's script, with rounded values and the rank of each model."""
        m, decimals, values = self.column.metric, self.column.decimals, self.column.values
        drawn = [(v.value, v.lo, v.hi) if v is not None and v.finite else (None, None, None) for v in values]
        value, lo, hi = (
            [None if e is None else round(m.draw(e), decimals) for e in part]
            for part in zip(*drawn, strict=True)
        )
        return {
            "key": m.name,
            "label": m.label,
            "unit": m.unit,
            "title": m.definition,
            "lower": m.lower_is_better,
            "shown": self.column.shown,
            "decimals": decimals,
            "axis": [self.axis.lo, self.axis.hi],
            "ends": self.ends,
            "counted": self.counted,
            "value": value,
            "lo": same(lo),
            "hi": same(hi),
            "place": self.column.places(),
            "n": same([None if v is None else v.n for v in values]),
            "skipped": same([None if v is None else v.n_skipped for v in values]),
        }


def draw_column(column: MetricColumn, models: Sequence[Model]) -> DrawnColumn:
    """Lay out a column of the table on an axis that all its cells share."""
    m = column.metric
    known = [v for v in column.values if v is not None and v.finite]
    axis = Axis.over(
        (m.draw(e) for v in _typical(column.values, models) for e in _extent(v)), percent=m.percent, n_ticks=6
    )
    return DrawnColumn(column, axis, count_range(v.n for v in known))


def first_rows(data: DataSet) -> list[Model]:
    """Return the models that are written as HTML: the `FIRST` ones, and all of the user's own models."""
    return [model for model in data.models if model.index < FIRST or model.own]


def pack(data: DataSet, columns: Sequence[DrawnColumn], names: Mapping[str, int]) -> dict[str, Any]:
    """Return a data set for the page's script: positions of models in `names`, columns and comparisons."""
    return {
        "name": data.name,
        "anchor": data.anchor,
        "models": [names[m.name] for m in data.models],
        "images": same([m.images for m in data.models]),
        "looks": [
            [m.index, m.look, m.own, data.anchors.get(m.index, "")] for m in data.models if m.look is not None
        ],
        "sorted": data.primary.name,
        "columns": [column.packed() for column in columns],
        "compare": {
            name: {"order": comparison.order, "runs": comparison.runs()}
            for name, comparison in data.comparisons.items()
        },
    }


def same(values: Sequence[Any]) -> Any:
    """Return a single value if all values are equal, as n usually is; otherwise return all values."""
    return values[0] if values and all(v == values[0] for v in values) else list(values)


def _extent(value: Value) -> tuple[float, ...]:
    ends = (value.lo, value.hi)
    return (value.value, *(e for e in ends if e is not None))


def _typical(values: Sequence[Value | None], models: Sequence[Model]) -> list[Value]:
    """Return the values that an axis must hold: the user's own, and those that are not far out."""
    known = [(v, m) for v, m in zip(values, models, strict=True) if v is not None and v.finite]
    low, high = fences([v.value for v, _ in known])
    return [v for v, m in known if low <= v.value <= high or m.own]
