"""The curves of a plan: precision by the number of images."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from manyhot.report.figure import Figure, colour, config

_COLOURS = ("muted", "mark", "own", "green", "purple", "ochre")


def plan_figure(curve: pa.Table, goal: str) -> Figure:
    """Return the figure of the table ``plan_curve``: the power, the share of clear pairs, or the width."""
    column, title, scale = _shown(curve)
    rows = [{"images": r["images"], "value": scale * r[column], "name": _name(r)} for r in curve.to_pylist()]
    names = list(dict.fromkeys(r["name"] for r in rows))
    colours = [colour(_COLOURS[i % len(_COLOURS)]) for i in range(len(names))]
    panel: dict[str, Any] = {
        "data": {"name": "curve"},
        "width": 420,
        "height": 260,
        "mark": {"type": "line", "point": {"size": 24}},
        "encoding": {
            "x": {
                "field": "images",
                "type": "quantitative",
                "scale": {"type": "log", "nice": False},
                "axis": {"title": "audited images", "values": [50, 100, 200, 500, 1000, 2000, 5000]},
            },
            "y": {"field": "value", "type": "quantitative", "axis": {"title": title}},
            "color": {
                "field": "name",
                "type": "nominal",
                "scale": {"domain": names, "range": colours},
                "legend": {"title": None, "labelColor": colour("ink"), "labelFontSize": 12, "labelLimit": 0},
            },
        },
    }
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "config": config(),
        "concat": [panel],
        "columns": 1,
        "datasets": {"curve": rows},
    }
    last = max(r["images"] for r in rows)
    ends = ", ".join(f"{r['name']} {r['value']:.1f}" for r in rows if r["images"] == last)
    return Figure(
        "plan-curve",
        "models",
        "",
        "How many images a question needs",
        f"{title} by the number of audited images, for {goal}.",
        f"{title} with {last:,} audited images: {ends}.",
        spec,
        pa.Table.from_pylist(rows),
    )


def _shown(curve: pa.Table) -> tuple[str, str, float]:
    for column, title in (("share", "clear pairs, %"), ("power", "power, %")):
        if curve[column].null_count < len(curve):
            return column, title, 100.0
    return "half_width", "half the width of the interval, points", 100.0


def _name(row: dict[str, Any]) -> str:
    sets = "without proposals" if row["estimator"] == "sample" else row["estimator"]
    return f"{row['question']}: {row['design']}, {sets}"
