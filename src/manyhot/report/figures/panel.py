"""Panels: a chart with its data, and what all charts share: own, pinned, found and pointed-at models."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from manyhot.report.figure import Spec
from manyhot.report.theme import colour, config

Sheet = Mapping[str, Sequence[Any]]
"""Columns of a data set that is drawn."""

Tip = tuple[str, ...]
"""A line of a tooltip: its label, the field, the decimals, the unit, and the fields of an interval."""

OWN = "own[datum.model]"
NAMED = "datum.model === hover || pins[datum.model]"
FOCUS = f"{NAMED} || found[datum.model]"
"""Which rows the layers on top draw. The page sets the signals; a drawing of no page has own models only."""

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"


@dataclass(frozen=True, eq=False)
class Panel:
    """A chart and the data that it names.

    Attributes
    ----------
    chart : altair.LayerChart
    sheets : Mapping of str to Sheet
        By the names that the chart gives to its data.
    tips : tuple of Tip
        What a tooltip tells of a mark, beside the model.
    """

    chart: Any
    sheets: Mapping[str, Sheet]
    tips: tuple[Tip, ...] = ()


def data(name: str) -> Any:
    """Return data by name: the rows come in once, for all panels."""
    return alt.NamedData(name=name)


def compose(panels: Sequence[Panel], own: Iterable[str] = (), *, columns: int = 3) -> Spec:
    """Return the specification of panels side by side."""
    sheets = {name: sheet for panel in panels for name, sheet in panel.sheets.items()}
    models = {m for sheet in sheets.values() for m in sheet.get("model", ())}
    return {
        "$schema": SCHEMA,
        "config": config(),
        "params": _params({m for m in own if m in models}),
        "columns": columns,
        "concat": [_bare(panel.chart) for panel in panels],
        "datasets": {name: rows(sheet) for name, sheet in sheets.items()},
        "usermeta": {"tips": [list(map(list, panel.tips)) for panel in panels], "models": bool(models)},
    }


def rows(sheet: Sheet) -> list[dict[str, Any]]:
    """Return a sheet by rows; numbers with five significant digits, as no eye sees more."""
    columns = {name: [_plain(v) for v in values] for name, values in sheet.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def dimmed(opacity: float) -> alt.ExprRef:
    """Return an opacity that falls while some models are set off."""
    return alt.ExprRef(f"busy ? {opacity / 3:.3g} : {opacity:.3g}")


def percent(values: Iterable[float | None]) -> list[float | None]:
    """Return shares in percent."""
    return [None if v is None or math.isnan(v) else 100 * v for v in values]


def ink(name: str) -> Any:
    """Return a colour as the value of an encoding or a mark."""
    return colour(name)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def _params(own: set[str]) -> list[dict[str, Any]]:
    return [
        {"name": "own", "value": dict.fromkeys(sorted(own), 1)},
        {"name": "pins", "value": {}},
        {"name": "found", "value": {}},
        {"name": "hover", "value": ""},
        {"name": "busy", "value": False},
    ]


def _bare(chart: Any) -> Spec:
    # Validation costs more than drawing; the tests validate every figure.
    spec: Spec = chart.to_dict(validate=False)
    for key in ("$schema", "config", "datasets"):
        spec.pop(key, None)
    return _hoisted(spec)


def _hoisted(spec: Spec) -> Spec:
    """Say once what all layers encode alike: pages of many figures are mostly axes otherwise."""
    layers = [layer.get("encoding", {}) for layer in spec["layer"]]
    shared = {k: v for k, v in layers[0].items() if k in ("x", "y") and all(e.get(k) == v for e in layers)}
    if not shared:
        return spec
    kept = [
        {**layer, "encoding": {k: v for k, v in layer["encoding"].items() if k not in shared}}
        for layer in spec["layer"]
    ]
    return {**spec, "encoding": shared, "layer": kept}
