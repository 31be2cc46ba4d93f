"""A map of models on which those that fail on the same images are close."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from manyhot.evaluate.report.figures.panel import Frames, compose, own_said, slug
from manyhot.evaluate.report.figures.scatter import Side, scatter
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
    return [_figure(dataset, rows, frames) for dataset, rows in last.items() if len(rows) > 2]


def _figure(dataset: str, rows: Sequence[Row], frames: Frames) -> Figure:
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
        "Each point is a model, in the colour of its family. The closer two models are, the more consistent "
        f"are their errors by {named.label}. The axes have no unit: classical multidimensional scaling "
        "places the models so that their distances are close to the root of 1 − kappa."
        f"{own_said(frames.own, 'Your own models are highlighted.')}",
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
