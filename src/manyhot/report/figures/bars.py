"""Bars and dots by category, the number beside each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from manyhot.report.figures.panel import (
    CROSSES,
    FOCUS,
    NAMED,
    OWN,
    Panel,
    Sheet,
    Tip,
    at,
    data,
    dimmed,
    halo,
    ink,
    plain,
    words,
)
from manyhot.report.figures.scatter import Side

ROW = 30
"""Height of a category."""

ABOVE = 36
"""The same with its name above what is drawn, where names are long."""

LABELS = 190
"""Width that the names of categories may take; two such panels, or one on a phone."""


def columns(name: str, sheet: Sheet, *, x_title: str, top: float, title: str, tips: Sequence[Tip]) -> Panel:
    """Return upright bars: ``label`` on the axis, ``value`` up to `top`, ``text`` above each."""
    base: Any = alt.Chart(data(name)).encode(
        alt.X(
            field="label",
            type="nominal",
            sort=list(sheet["label"]),
            title=x_title,
            axis=alt.Axis(labelAngle=0, grid=False, domain=True, domainColor=ink("axis")),
        ),
        alt.Y(field="value", type="quantitative", scale=alt.Scale(domain=[0, top], nice=False), axis=None),
    )
    layers = [
        base.mark_bar(width={"band": 0.72}),
        base.mark_text(dy=-8, baseline="bottom", fontSize=13).encode(words("text")),
    ]
    return Panel(layers, {name: sheet}, max(48 * len(sheet["label"]), 220), 200, title, tips)


def bars(
    name: str, sheet: Sheet, *, x_title: str, top: float, title: str, tips: Sequence[Tip], width: int = 300
) -> Panel:
    """Return lying bars: ``label`` above each, ``value`` up to `top`, ``text`` beside it."""
    rows = alt.Y(
        "label:N", sort=list(sheet["label"]), axis=None, scale=alt.Scale(paddingInner=0, paddingOuter=0)
    )
    axis = alt.Axis(labels=False, grid=False, titleAnchor="start")
    scale = alt.Scale(domain=[0, top], nice=False)
    base: Any = alt.Chart(data(name)).encode(
        rows, alt.X(field="value", type="quantitative", title=x_title, scale=scale, axis=axis)
    )
    half = 9
    layers = [
        base.mark_bar(size=12, yOffset=half),
        base.mark_text(dx=6, dy=half, align="left").encode(words("text")),
        _above(name, rows, -half + 2),
    ]
    return Panel(layers, {name: sheet}, width, ABOVE * len(sheet["label"]), title, tips)


def _above(name: str, rows: Any, dy: float) -> Any:
    """Return the names of categories above what is drawn of them, where they may be long."""
    text: Any = alt.Chart(data(name)).mark_text(align="left", dy=dy, **halo())
    return text.encode(rows, at(0), words("label"))


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
    above: bool = False,
) -> Panel:
    """Return a strip a category: the models faint, and what stands for all of them bold.

    Parameters
    ----------
    name : str
        Of its data.
    models : Sheet
        ``model``, ``label``, ``x``; empty where only the middles are known.
    middles : Sheet
        ``label``, ``x``, ``text``, and two intervals: ``lo`` and ``hi``, and thick ``inner_lo`` and
        ``inner_hi``.
    x : Side
    title, tips, width
    zero : bool
        Draw a line at zero.
    above : bool
        Write the names of categories above what is drawn, not at the left.
    """
    y = _rows(middles["label"], above=above)
    models = plain(models, "lo", "hi")
    sheets = {name: models, f"{name}-middle": middles}
    layers: list[Any] = []
    if zero:
        sheets[f"{name}-zero"] = {"x": [0.0]}
        line: Any = alt.Chart(data(f"{name}-zero")).mark_rule(color=ink("axis"))
        layers.append(line.encode(x.channel(alt.X, "x")))
    dy = 8 if above else 0
    layers += _strip(name, x, y, len(models.get("model", ())), dy)
    layers += _middle(f"{name}-middle", x, y, middles, dy)
    if above:
        layers.append(_above(f"{name}-middle", y, -9))
    if "text" in middles:
        place: dict[str, Any] = {"align": "right", "dy": -9} if above else {"align": "left", "dx": 8}
        text: Any = alt.Chart(data(f"{name}-middle")).mark_text(**place, **halo())
        layers.append(text.encode(y, at(width), words("text")))
    height = (ABOVE if above else ROW) * len(set(middles["label"]))
    return Panel(layers, sheets, width, height, title, tips)


def _rows(labels: Sequence[str], *, above: bool) -> Any:
    axis = None if above else alt.Axis(labelLimit=LABELS, labelColor=ink("ink"), grid=False)
    return alt.Y(field="label", type="nominal", sort=list(dict.fromkeys(labels)), title=None, axis=axis)


def _strip(name: str, x: Side, y: Any, n: int, dy: float) -> list[Any]:
    if not n:
        return []
    base: Any = alt.Chart(data(name)).encode(x.channel(alt.X, "x"), y)
    faint = {"opacity": dimmed(0.45 if n <= 4 * CROSSES else 0.25), "color": ink("mark"), "thickness": 1}
    tall = 0.32 if dy else 0.5
    place = {"clip": True, "yOffset": dy}
    strong = {"height": {"band": 1.3 * tall}, "thickness": 3, **place}
    name_above = base.transform_filter(NAMED).mark_text(dy=dy - 14, fontSize=11, fontWeight="bold", **halo())
    return [
        base.mark_tick(height={"band": tall}, **faint, **place),
        base.transform_filter(OWN).mark_tick(**strong, color=ink("own")),
        base.transform_filter(FOCUS).mark_tick(**strong, color=ink("purple")),
        name_above.encode(words("model")),
    ]


def _middle(name: str, x: Side, y: Any, middles: Sheet, dy: float) -> list[Any]:
    base: Any = alt.Chart(data(name)).encode(y)
    layers = []
    for lo, hi, thick in (("lo", "hi", 1.5), ("inner_lo", "inner_hi", 5)):
        if any(v is not None for v in middles.get(lo, ())):
            ends = (x.channel(alt.X, lo), alt.X2(hi))
            rule = base.mark_rule(strokeWidth=thick, color=ink("ink"), yOffset=dy, y2Offset=dy)
            layers.append(rule.encode(*ends))
    dot = base.mark_point(
        size=70, color=ink("ink"), stroke=ink("paper"), strokeWidth=1, opacity=1, yOffset=dy, clip=True
    )
    layers.append(dot.encode(x.channel(alt.X, "x")))
    return layers
