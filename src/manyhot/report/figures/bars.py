"""Bars and dots by category, the number beside each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from manyhot.report.figures.panel import FOCUS, NAMED, OWN, Panel, Sheet, Tip, data, dimmed, ink
from manyhot.report.figures.scatter import CROSSES, Side

ROW = 30
"""Height of a category."""

LABELS = 190
"""Width that the names of categories may take; two such panels, or one on a phone."""


def columns(name: str, sheet: Sheet, *, x_title: str, top: float, title: str, tips: Sequence[Tip]) -> Panel:
    """Return upright bars: ``label`` on the axis, ``value`` up to `top`, ``text`` above each."""
    base: Any = alt.Chart(data(name)).encode(
        alt.X(
            "label:N",
            sort=list(sheet["label"]),
            title=x_title,
            axis=alt.Axis(labelAngle=0, grid=False, domain=True, domainColor=ink("axis")),
        ),
        alt.Y("value:Q", scale=alt.Scale(domain=[0, top], nice=False), axis=None),
    )
    layers = [
        base.mark_bar(width={"band": 0.72}),
        base.mark_text(dy=-8, baseline="bottom", fontSize=13).encode(text="text:N"),
    ]
    chart = alt.layer(*layers).properties(width=max(44 * len(sheet["label"]), 220), height=200, title=title)
    return Panel(chart, {name: sheet}, tuple(tips))


def bars(name: str, sheet: Sheet, *, x_title: str, top: float, title: str, tips: Sequence[Tip]) -> Panel:
    """Return lying bars: ``label`` at the left, ``value`` up to `top`, ``text`` beside each."""
    base: Any = alt.Chart(data(name)).encode(
        _rows(sheet["label"]),
        alt.X(
            "value:Q",
            title=x_title,
            scale=alt.Scale(domain=[0, top], nice=False),
            axis=alt.Axis(labels=False, grid=False, titleAnchor="start"),
        ),
    )
    layers = [
        base.mark_bar(height={"band": 0.66}),
        base.mark_text(dx=6, align="left", fontSize=12).encode(text="text:N"),
    ]
    chart = alt.layer(*layers).properties(width=150, height=22 * len(sheet["label"]), title=title)
    return Panel(chart, {name: sheet}, tuple(tips))


def strips(
    name: str,
    models: Sheet,
    middles: Sheet,
    x: Side,
    *,
    title: Any = "",
    tips: Sequence[Tip] = (),
    width: int = 300,
    zero: bool = False,
    labels: int = LABELS,
) -> Panel:
    """Return a strip a category: the models faint, and what stands for all of them bold.

    Parameters
    ----------
    name : str
        Of its data.
    models : Sheet
        ``model``, ``label``, ``x``; empty where only the middles are known.
    middles : Sheet
        ``label``, ``x``, ``text``, and intervals: the wide ``lo`` and ``hi``, the narrow ``inner_lo`` and ``inner_hi``.
    x : Side
    title, tips, width
    zero : bool
        Draw a line at zero.
    labels : int
        Width that the names of categories may take.
    """
    y = _rows(middles["label"], labels)
    sheets = {name: models, f"{name}-middle": middles}
    layers: list[Any] = []
    if zero:
        sheets[f"{name}-zero"] = {"x": [0.0]}
        layers.append(
            alt.Chart(data(f"{name}-zero")).mark_rule(color=ink("axis")).encode(x.channel(alt.X, "x"))
        )
    layers += _strip(name, x, y, len(models.get("model", ())))
    layers += _middle(f"{name}-middle", x, y, middles, width)
    chart = alt.layer(*layers).properties(width=width, height=ROW * len(middles["label"]), title=title)
    return Panel(chart, sheets, tuple(tips))


def _rows(labels: Sequence[str], limit: int = LABELS) -> Any:
    axis = alt.Axis(labelLimit=limit, labelColor=ink("ink"), grid=False)
    return alt.Y("label:N", sort=list(dict.fromkeys(labels)), title=None, axis=axis)


def _strip(name: str, x: Side, y: Any, n: int) -> list[Any]:
    base: Any = alt.Chart(data(name)).encode(x.channel(alt.X, "x"), y)
    faint = 0.45 if n <= 4 * CROSSES else 0.25
    return [
        base.mark_tick(height={"band": 0.5}, thickness=1, opacity=dimmed(faint), color=ink("mark")),
        base.transform_filter(OWN).mark_tick(height={"band": 0.7}, thickness=3, color=ink("own")),
        base.transform_filter(FOCUS).mark_tick(height={"band": 0.7}, thickness=3, color=ink("ink")),
        base.transform_filter(NAMED).mark_text(dy=-14, fontSize=11, fontWeight="bold").encode(text="model:N"),
    ]


def _middle(name: str, x: Side, y: Any, middles: Sheet, width: int) -> list[Any]:
    base: Any = alt.Chart(data(name)).encode(y)
    at = x.channel(alt.X, "x")
    layers = []
    for lo, hi, thick in (("lo", "hi", 1.5), ("inner_lo", "inner_hi", 5)):
        if lo in middles:
            ends = (x.channel(alt.X, lo), alt.X2(hi))
            layers.append(base.mark_rule(strokeWidth=thick, color=ink("ink")).encode(*ends))
    layers.append(
        base.mark_point(size=70, color=ink("ink"), stroke=ink("paper"), strokeWidth=1, opacity=1).encode(at)
    )
    if "text" in middles:
        text = base.mark_text(align="left", dx=8, fontSize=12).encode(text="text:N", x=alt.value(width))
        layers.append(text)
    return layers
