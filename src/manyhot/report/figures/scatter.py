"""Models as points: one accuracy against another, with intervals, the line of equals and a fitted line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import altair as alt

from manyhot.report.figures.panel import FOCUS, NAMED, OWN, Panel, Sheet, Tip, data, dimmed, ink
from manyhot.report.figures.words import interval
from manyhot.report.scales import Axis, fences

CROSSES = 100
"""Models up to which intervals are drawn."""

SIDE = 300
"""Width and height of a panel: two of them, or one on a phone."""

PROBIT_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)

_normal = NormalDist()


def probit(share: float) -> float:
    """Return the place of a share on a probit axis; shares of 0 and 1 lie at its ends."""
    return _normal.inv_cdf(min(max(share, 1e-6), 1 - 1e-6))


@dataclass(frozen=True)
class Line:
    """A fitted line in the units of the axes, and what stands above its right end."""

    slope: float
    intercept: float
    note: str = ""


@dataclass(frozen=True)
class Side:
    """An axis.

    Attributes
    ----------
    title : sequence of str
        Lines.
    domain : (float, float)
    ticks : sequence of float, optional
        Where the axis does not choose.
    labels : str
        A Vega expression of the text of a tick.
    axis : Mapping
        Further options of the axis.
    log : bool
    """

    title: Sequence[str]
    domain: tuple[float, float]
    ticks: Sequence[float] | None = None
    labels: str = ""
    axis: Mapping[str, Any] = field(default_factory=dict)
    log: bool = False

    def channel(self, kind: Any, name: str) -> Any:
        """Return the encoding of a field on this axis."""
        options: dict[str, Any] = dict(self.axis)
        if self.ticks is not None:
            options["values"] = list(self.ticks)
        if self.labels:
            options["labelExpr"] = self.labels
        return kind(
            field=name,
            type="quantitative",
            title=list(self.title) if len(self.title) > 1 else self.title[0],
            scale=alt.Scale(type="log", domain=list(self.domain), nice=False)
            if self.log
            else alt.Scale(domain=list(self.domain), nice=False, zero=False),
            axis=alt.Axis(**options),
        )


def plain_side(title: Sequence[str], values: Iterable[float | None], *, percent: bool = True) -> Side:
    """Return an axis with round ends."""
    axis = Axis.over((v for v in values if v is not None), percent=percent)
    return Side(title, (axis.lo, axis.hi), axis.ticks)


def probit_side(title: Sequence[str], shares: Iterable[float | None]) -> Side:
    """Return an axis on which shares near 0 and 1 lie far apart, its ticks in percent."""
    known = [s for s in shares if s is not None]
    lo, hi = probit(min(known)), probit(max(known))
    room = 0.06 * (hi - lo) or 0.1
    lo, hi = lo - room, hi + room
    ticks = {round(probit(t), 4): f"{100 * t:g}" for t in PROBIT_TICKS if lo <= probit(t) <= hi}
    texts = ", ".join(f"'{z:.2f}': '{text}'" for z, text in ticks.items())
    return Side(title, (lo, hi), tuple(ticks), f"{{{texts}}}[format(datum.value, '.2f')]")


def log_side(title: Sequence[str], values: Sequence[float]) -> Side:
    """Return a logarithmic axis."""
    lo, hi = min(values) / 1.1, max(values) * 1.1
    ticks = [10.0**p * m for p in range(-3, 8) for m in (1, 2, 5) if lo <= 10.0**p * m <= hi]
    return Side(title, (lo, hi), ticks, "format(datum.value, ',~g')", log=True)


def typical(values: Iterable[float | None]) -> list[float]:
    """Return the values that an axis must show; see `manyhot.report.scales.fences`."""
    known = [v for v in values if v is not None]
    low, high = fences(known)
    return [v for v in known if low <= v <= high]


def slope_said(fit: Mapping[str, Any]) -> str:
    """Return a slope with its interval in words."""
    ends = interval(fit["slope_lo"], fit["slope_hi"], 2)
    return f"slope {fit['slope']:.2f}" + (f" ({ends})" if ends else "")


def scatter(
    name: str,
    sheet: Sheet,
    x: Side,
    y: Side,
    *,
    title: alt.Title | str,
    tips: Sequence[Tip],
    equal: bool = False,
    lines: Sequence[Line] = (),
    width: int = SIDE,
    height: int = SIDE,
) -> Panel:
    """Return a panel of models as points.

    Parameters
    ----------
    name : str
        Of its data.
    sheet : Sheet
        ``model``, ``x``, ``y``, and where there are intervals ``x_lo``, ``x_hi``, ``y_lo``, ``y_hi``; models
        with a ``tag`` are named.
    x, y : Side
    title, tips
    equal : bool
        Draw the dashed line on which both are the same.
    lines : sequence of Line
        Fitted lines.
    width, height : int
    """
    channels = (x.channel(alt.X, "x"), y.channel(alt.Y, "y"))
    sheets: dict[str, Sheet] = {name: sheet}
    layers: list[Any] = []
    if equal and (ends := _equals(x.domain, y.domain)):
        sheets[f"{name}-equal"] = ends
        layers.append(_line(f"{name}-equal", channels, strokeDash=[4, 4], color=ink("axis")))
    n = len(sheet["model"])
    if n <= CROSSES:
        layers += _crosses(name, x, y, sheet)
    layers.append(_points(name, channels, n))
    for i, line in enumerate(lines):
        sheets[f"{name}-fit-{i}"] = _fitted(line, sheet["x"])
        layers += _fit(f"{name}-fit-{i}", channels)
    layers += _named(name, channels, sum(x.domain) / 2, tagged="tag" in sheet)
    chart = alt.layer(*layers).properties(width=width, height=height, title=title)
    return Panel(chart, sheets, tuple(tips))


def _points(name: str, channels: tuple[Any, Any], n: int) -> Any:
    size, opacity = (34, 0.8) if n <= CROSSES else (12, 0.5)
    mark: Any = alt.Chart(data(name)).mark_point(
        size=size, opacity=dimmed(opacity), color=ink("mark"), clip=True
    )
    return mark.encode(*channels)


def _crosses(name: str, x: Side, y: Side, sheet: Sheet) -> list[Any]:
    mark: Any = alt.Chart(data(name)).mark_rule(
        strokeWidth=1, opacity=dimmed(0.4), color=ink("mark"), clip=True
    )
    ways = {
        "x_lo": lambda: mark.encode(x.channel(alt.X, "x_lo"), y.channel(alt.Y, "y"), alt.X2("x_hi")),
        "y_lo": lambda: mark.encode(x.channel(alt.X, "x"), y.channel(alt.Y, "y_lo"), alt.Y2("y_hi")),
    }
    return [draw() for field, draw in ways.items() if any(v is not None for v in sheet.get(field, ()))]


def _named(name: str, channels: tuple[Any, Any], middle: float, *, tagged: bool) -> list[Any]:
    """Return the layers on top: own and set-off models, with their names beside them."""
    base: Any = alt.Chart(data(name)).encode(*channels)
    text: dict[str, Any] = {
        "align": alt.ExprRef(f"datum.x > {middle:.6g} ? 'right' : 'left'"),
        "dx": alt.ExprRef(f"datum.x > {middle:.6g} ? -8 : 8"),
        "fontSize": 12,
        "clip": True,
    }
    bold = {**text, "fontWeight": "bold"}
    outline = {"opacity": 1, "stroke": ink("paper"), "strokeWidth": 1, "size": 70, "clip": True}
    layers = [
        base.transform_filter(OWN).mark_point(**outline, color=ink("own")),
        base.transform_filter(FOCUS).mark_point(**outline, color=ink("ink")),
        base.transform_filter(OWN).mark_text(**bold, color=ink("own")).encode(text="model:N"),
        base.transform_filter(NAMED).mark_text(**bold, dy=-10).encode(text="model:N"),
    ]
    if tagged:
        quiet = base.transform_filter("datum.tag && !own[datum.model]")
        layers.insert(0, quiet.mark_text(**text, color=ink("muted"), opacity=dimmed(1)).encode(text="tag:N"))
    return layers


def _line(name: str, channels: tuple[Any, Any], **style: Any) -> Any:
    mark: Any = alt.Chart(data(name)).mark_line(clip=True, **{"strokeWidth": 1, **style})
    return mark.encode(*channels)


def _fit(name: str, channels: tuple[Any, Any]) -> list[Any]:
    text: Any = alt.Chart(data(name)).mark_text(align="right", dy=-8, fontSize=12, clip=True)
    return [
        _line(name, channels, color=ink("ink"), strokeWidth=1.5),
        text.encode(*channels, text="text:N"),
    ]


def _equals(x: tuple[float, float], y: tuple[float, float]) -> Sheet | None:
    lo, hi = max(x[0], y[0]), min(x[1], y[1])
    return {"x": [lo, hi], "y": [lo, hi]} if lo < hi else None


def _fitted(line: Line, xs: Sequence[float]) -> Sheet:
    """Return the ends of a fitted line over the models that it was fitted to."""
    ends = [min(xs), max(xs)]
    return {"x": ends, "y": [line.slope * end + line.intercept for end in ends], "text": ["", line.note]}
