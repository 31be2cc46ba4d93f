"""Figures of `diagnose protocols`: sizes of label sets, and accuracy, by each protocol on the same images."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from manyhot.evaluate.report.figures.bars import dots, strips
from manyhot.evaluate.report.figures.panel import Panel, Sheet, Tip, compose
from manyhot.evaluate.report.figures.scatter import plain_side
from manyhot.report.chapter import percent
from manyhot.report.figure import Figure
from manyhot.tables import Row

_SEVERAL = "Share of the non-empty label sets that have two or more classes, with 95 % intervals."


def draw_protocols(sets: Sequence[Row], accuracy: Sequence[Row]) -> list[Figure]:
    """Plot label sets with several classes, and accuracies, on the images that all label sets share."""
    groups = [r["group"] for r in sets if r["slice"] == "all"]
    group = next(g for g in groups if groups.count(g) > 1)
    sizes = [r for r in sets if r["group"] == group and r["slice"] == "all"]
    judged = [r for r in accuracy if r["group"] == group]
    panels = [_several(sizes), *([_accuracies(judged)] if judged else [])]
    right = (
        " Right: share of the images on which the top class is right. Ticks are models, and dots are their "
        "means with 95 % intervals over images."
    )
    shares = "; ".join(f"{r['labels']}: {percent(r['several'], 1)} of {r['n']:,} sets" for r in sizes)
    return [
        Figure(
            "protocols",
            "protocols",
            "",
            "The same images by each protocol",
            f"Left: {_SEVERAL.lower()}{right}" if judged else _SEVERAL,
            f"{shares}.",
            compose(panels, columns=2),
            pa.Table.from_pylist(judged or sizes),
        )
    ]


def _points(rows: Sequence[Row], column: str) -> list[float | None]:
    return [None if r[column] is None else 100 * r[column] for r in rows]


def _several(rows: Sequence[Row]) -> Panel:
    sheet: Sheet = {
        "label": [r["labels"] for r in rows],
        "x": _points(rows, "several"),
        "inner_lo": _points(rows, "several_lo"),
        "inner_hi": _points(rows, "several_hi"),
        "text": [f"n {r['n']:,}" for r in rows],
    }
    tips: list[Tip] = [
        ("", "label"),
        ("Two or more", "x", "1", " %", "inner_lo", "inner_hi"),
        ("Sets", "text"),
    ]
    axis = "Sets with two or more classes (%)"
    return dots("protocols-several", sheet, axis=axis, tips=tips, width=300)


def _accuracies(rows: Sequence[Row]) -> Panel:
    means, each = ([r for r in rows if (r["model"] is None) is is_mean] for is_mean in (True, False))
    models: Sheet = {
        "model": [r["model"] for r in each],
        "label": [r["by"] for r in each],
        "x": _points(each, "value"),
    }
    middles: Sheet = {
        "label": [r["by"] for r in means],
        "x": _points(means, "value"),
        "inner_lo": _points(means, "lo"),
        "inner_hi": _points(means, "hi"),
        "text": [percent(r["value"], 1) for r in means],
    }
    side = plain_side(["Accuracy (%)"], [*models["x"], *middles["inner_lo"], *middles["inner_hi"]])
    tips: list[Tip] = [("By", "label"), ("Model", "model"), ("Accuracy", "x", "1", " %")]
    return strips("protocols-accuracy", models, middles, side, tips=tips, above=True)
