"""Models as points in the colours of groups: maps of consistency, and groups at equal accuracy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl
import pyarrow as pa

from manyhot.evaluate.report.figures.panel import (
    Frames,
    Panel,
    beyond_said,
    column,
    compose,
    data,
    format_interval,
    ink,
    own_said,
    signed,
    slug,
)
from manyhot.evaluate.report.figures.scatter import Side, plain_side, scatter
from manyhot.report.figure import Figure
from manyhot.report.text import counted, metric, title_of
from manyhot.tables import Row

FAMILY_HUES = ("mark", "green", "purple", "ochre", "ink")
"""Colours of the families with most models."""

OTHERS = "other families"

_ROOM = 0.06


def draw_consistency(frames: Frames) -> list[Figure]:
    """Return a map for each data set by its last metric, which is real1 if there are label sets."""
    last: dict[str, list[Row]] = {}
    for row in frames.tables["model_map"].to_pylist():
        rows = last.setdefault(row["dataset"], [])
        if rows and rows[0]["metric"] != row["metric"]:
            rows.clear()
        rows.append(row)
    return [_map(dataset, rows, frames) for dataset, rows in last.items() if len(rows) > 2]


def _map(dataset: str, rows: Sequence[Row], frames: Frames) -> Figure:
    named = metric(rows[0]["metric"])
    groups = _groups([row["family"] for row in rows])
    sheet = {
        "model": [row["model"] for row in rows],
        "x": [row["x"] for row in rows],
        "y": [row["y"] for row in rows],
        "group": [row["family"] if row["family"] in groups else OTHERS for row in rows],
        "value": [named.draw(row["value"]) for row in rows],
    }
    x, y = _sides(sheet["x"], sheet["y"])
    name = f"consistency-{slug(dataset)}"
    tips = [("Family", "group"), (named.label, "value", "2", named.unit)]
    panel = scatter(
        name, sheet, x, y, title="", tips=tips, own=frames.own, groups=groups, width=440, height=400
    )
    best = max(rows, key=lambda row: row["value"])
    return Figure(
        name,
        "consistency",
        dataset,
        f"Models that fail on the same images, {title_of(dataset)}",
        "Each point is a model, in the colour of its family. The closer two models are, the more "
        f"consistent their errors are by {named.label}. The axes have no unit: classical multidimensional "
        "scaling places the models so that their distances approximate the square root of 1 − "
        f"kappa.{own_said(frames.own, 'Your own models are highlighted.')}",
        f"A map of {counted(len(rows), 'model')} of {len({row['family'] for row in rows}):,} families. "
        f"Best: {best['model']}, {named.text(best['value'], 2)}{named.unit}.",
        compose([panel], frames.own),
        pa.Table.from_pylist(list(rows)),
    )


def _groups(families: Sequence[str]) -> dict[str, str]:
    """Return the colour of the largest families of at least two models, and of all others."""
    largest = [family for family, n in Counter(families).most_common(len(FAMILY_HUES)) if n > 1]
    groups = dict(zip(largest, FAMILY_HUES, strict=False))
    return groups if len(groups) == len(set(families)) else {**groups, OTHERS: "faint"}


def _sides(xs: Sequence[float], ys: Sequence[float]) -> tuple[Side, Side]:
    """Return both axes, without ticks, on the same scale."""
    span = max(max(xs) - min(xs), (max(ys) - min(ys)) * 1.1, 1e-9) * (1 + 2 * _ROOM)
    middle = [(max(v) + min(v)) / 2 for v in (xs, ys)]
    half = (span / 2, span / 2 / 1.1)
    domains = [(m - h, m + h) for m, h in zip(middle, half, strict=True)]
    blank = {"labels": False, "ticks": False, "grid": False, "domain": False}
    return Side([""], domains[0], (), axis=blank), Side([""], domains[1], (), axis=blank)


MOST_PANELS = 3
"""Data sets of the figure, which fill a row; further ones are in the table."""

GROUP_HUES = ("mark", "ochre")
"""Colours of the two groups."""


def draw_equal_accuracy(frames: Frames) -> list[Figure]:
    """Return a figure with a panel for each of the first few data sets and metrics."""
    rows = frames["equal_accuracy"]
    if rows.is_empty():
        return []
    ends = rows.select("metric_x", "dataset_x", "dataset_y").unique(maintain_order=True)
    means = rows.filter(pl.col("at").is_null(), pl.col("method") == rows["method"][0]).to_dicts()
    panels = [_curves_panel(frames, rows, row) for row in means[:MOST_PANELS]]
    said = "; ".join(map(_difference_text, means[:MOST_PANELS]))
    first, second = means[0]["group_a"], means[0]["group_b"]
    x = ends.row(0, named=True)
    return [
        Figure(
            f"equal-accuracy-{slug(x['dataset_x'])}",
            "shift",
            "",
            f"{second} compared with {first} at equal accuracy on {title_of(x['dataset_x'])}",
            "Each point is a model, in the colour of its group. Each curve shows the value of a group at a "
            "given accuracy, by regression on its models within 5 points, over the range in which both "
            "groups have models. On the dashed line, both accuracies are "
            f"equal.{own_said(frames.own, 'Your own models are highlighted.')}{beyond_said(panels)}",
            f"{second} minus {first} at equal accuracy: {said}.",
            compose(panels, frames.own),
            rows.to_arrow(),
        )
    ]


def _difference_text(row: Row) -> str:
    named = metric(row["metric_y"])
    lo, hi = (None if row[f"difference_{e}"] is None else 100 * row[f"difference_{e}"] for e in ("lo", "hi"))
    ends = f" ({format_interval(lo, hi)})" if lo is not None else ""
    return f"{title_of(row['dataset_y'])}, {named.short}: {signed(100 * row['difference'])}{ends} points"


def _curves_panel(frames: Frames, rows: pl.DataFrame, mean: Row) -> Panel:
    names = {"first": mean["group_a"], "second": mean["group_b"]}
    groups = frames["models"].filter(pl.col("group").is_in(list(names.values()))).select("model", "group")
    ends = ((mean["dataset_x"], mean["metric_x"]), (mean["dataset_y"], mean["metric_y"]))
    both = frames.both(*ends).join(groups, on="model", how="inner").sort("model")
    sheet = {
        "model": column(both, "model"),
        "x": column(both, "x", 100),
        "y": column(both, "y", 100),
        "group": column(both, "group"),
    }
    x, y = (plain_side([f"On {title_of(end[0])} (%)"], sheet[v]) for v, end in zip("xy", ends, strict=True))
    name = f"equal-{slug(mean['dataset_y'])}-{mean['metric_y']}"
    tips = [
        ("Group", "group"),
        *((f"On {title_of(end[0])}", v, "2", " %") for v, end in zip("xy", ends, strict=True)),
    ]
    hues = dict(zip(names.values(), GROUP_HUES, strict=True))
    title = {"text": title_of(mean["dataset_y"]), "subtitle": metric(mean["metric_y"]).axis}
    panel = scatter(name, sheet, x, y, title=title, tips=tips, equal=True, own=frames.own, groups=hues)
    along = rows.filter(
        pl.col("at").is_not_null(), *(pl.col(c) == mean[c] for c in ("dataset_y", "metric_y", "metric_x"))
    )
    channels = (x.channel(alt.X, "x"), y.channel(alt.Y, "y"))
    sheets, layers = dict(panel.sheets), list(panel.layers)
    for end, hue in zip("ab", GROUP_HUES, strict=True):
        sheets[f"{name}-{end}"] = {"x": column(along, "at", 100), "y": column(along, f"value_{end}", 100)}
        base: Any = alt.Chart(data(f"{name}-{end}")).encode(*channels)
        layers += [base.mark_line(strokeWidth=w, color=ink(c)) for w, c in ((4, "paper"), (2, hue))]
    return Panel(layers, sheets, panel.width, panel.height, panel.title, panel.tips, panel.beyond)
