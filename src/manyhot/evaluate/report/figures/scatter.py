"""Models as points: one accuracy against another, with intervals, the line of equality and a fitted line.

Models on one data set: accuracy on original labels against accuracy on label sets.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import altair as alt
import numpy as np
import polars as pl
from scipy.spatial import KDTree

from manyhot.evaluate.report.figures.panel import (
    CROSSES,
    FOCUS,
    NAME_SIZE,
    OWN,
    Frames,
    Panel,
    PanelPoint,
    Sheet,
    Tip,
    axis,
    badges,
    beyond_said,
    column,
    compose,
    data,
    dimmed,
    format_interval,
    halo,
    ink,
    place_names,
    plain,
    points_said,
    short,
    slug,
    spread,
    text_of,
)
from manyhot.report.figure import Axis, Figure, fences
from manyhot.report.text import counted, title_of

SQUEEZED = 1 / 2
"""Minimum share of an axis for most models; a few outliers that would leave them less are cut off."""


ROOM = 0.05
"""Length that an axis has beyond what it must show."""


_WIDTH, _HEIGHT = 300, 260
"""Size of a panel: three of them, or one on a phone."""


PROBIT_TICKS = (
    (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99),
    (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99),
    (0.005, 0.01, 0.02, *(i / 20 for i in range(1, 20)), 0.98, 0.99, 0.995),
    (0.001, 0.002, 0.005, *(i / 50 for i in range(1, 50)), 0.99, 0.995, 0.998, 0.999),
)
"""Places of ticks, few to many; the first that gives an axis `FEWEST_TICKS` is taken."""


FEWEST_TICKS = 4
_normal = NormalDist()


def probit(share: float) -> float:
    """Return the position of a share on a probit axis; shares of 0 and 1 are at its ends."""
    return _normal.inv_cdf(min(max(share, 1e-6), 1 - 1e-6))


@dataclass(frozen=True)
class Line:
    """A fitted line in the units of the axes, and the text above its left end."""

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
    ticks : sequence of float, optional
        Positions of the ticks; by default the axis chooses them.
    labels : str
        A Vega expression for the text of a tick.
    axis : Mapping
        Further options of the axis.
    """

    title: Sequence[str]
    domain: tuple[float, float]
    ticks: Sequence[float] | None = None
    labels: str = ""
    axis: Mapping[str, Any] = field(default_factory=dict)
    log: bool = False

    def at(self, value: float, length: float) -> float:
        """Return the position of a value on an axis of this length."""
        lo, hi, v = (math.log(e) if self.log else e for e in (*self.domain, value))
        return (v - lo) / (hi - lo) * length if hi > lo else length / 2  # all models have one value

    def value(self, at: float, length: float) -> float:
        """Return the value at a position on an axis of this length."""
        lo, hi = (math.log(e) if self.log else e for e in self.domain)
        v = lo + at / length * (hi - lo)
        return math.exp(v) if self.log else v

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
    """Return an axis over all values, with some room at its ends and ticks at round numbers."""
    known = [v for v in values if v is not None]
    axis = Axis.over(known, percent=percent)
    room = ROOM * (max(known) - min(known)) if known else 0.0
    lo, hi = (
        (max(axis.lo, min(known) - room), min(axis.hi, max(known) + room)) if room else (axis.lo, axis.hi)
    )
    return Side(title, (lo, hi), [t for t in axis.ticks if lo <= t <= hi])


def probit_side(title: Sequence[str], shares: Iterable[float | None]) -> Side:
    """Return an axis on which shares near 0 and 1 are far apart, with ticks in percent."""
    known = [s for s in shares if s is not None]
    lo, hi = probit(min(known)), probit(max(known))
    room = 0.06 * (hi - lo) or 0.1
    lo, hi = lo - room, hi + room
    choices = [[t for t in places if lo <= probit(t) <= hi] for places in PROBIT_TICKS]
    chosen = next((c for c in choices if len(c) >= FEWEST_TICKS), choices[-1])
    ticks = {round(probit(t), 4): f"{100 * t:g}" for t in chosen}
    labels = f"{json.dumps(list(ticks.values()))}[indexof({list(ticks)}, datum.value)]"
    return Side(title, (lo, hi), tuple(ticks), labels, {"labelOverlap": True})


def log_side(title: Sequence[str], values: Sequence[float]) -> Side:
    """Return a logarithmic axis."""
    lo, hi = min(values) / 1.1, max(values) * 1.1
    ticks = [10.0**p * m for p in range(-3, 8) for m in (1, 2, 5) if lo <= 10.0**p * m <= hi]
    return Side(title, (lo, hi), ticks, "format(datum.value, ',~g')", {"labelOverlap": True}, log=True)


def typical(values: Iterable[float | None]) -> list[float]:
    """Return the values that an axis must show; see `manyhot.report.figure.fences`."""
    known = [v for v in values if v is not None]
    low, high = fences(known)
    return [v for v in known if low <= v <= high]


def shown(values: Iterable[float | None]) -> list[float]:
    """Return the values that an axis shows: all, or only `typical` ones if outliers would compress these."""
    known = [v for v in values if v is not None]
    near = typical(known)
    squeezed = near and max(near) - min(near) < SQUEEZED * (max(known) - min(known))
    return near if squeezed else known


def percent_sheet(both: pl.DataFrame) -> dict[str, list[Any]]:
    """Return the models, and the values and intervals of both axes in percent."""
    ends = ("x", "x_lo", "x_hi", "y", "y_lo", "y_hi")
    return {"model": column(both, "model")} | {name: column(both, name, 100) for name in ends}


def shown_both(sheet: Sheet) -> tuple[list[float], list[float]]:
    """Return the values that each axis shows, without points that are outside either axis; see `shown`.

    Intervals are included if they are drawn.
    """
    points = list(zip(sheet["x"], sheet["y"], strict=True))
    (x_lo, x_hi), (y_lo, y_hi) = ((min(v), max(v)) for v in (shown(sheet["x"]), shown(sheet["y"])))
    rows_shown = [i for i, (a, b) in enumerate(points) if x_lo <= a <= x_hi and y_lo <= b <= y_hi]
    ends = ("", "_lo", "_hi") if len(points) <= CROSSES else ("",)
    xs, ys = ([sheet[v + end][i] for end in ends if v + end in sheet for i in rows_shown] for v in "xy")
    return [x for x in xs if x is not None], [y for y in ys if y is not None]


def slope_said(fit: Mapping[str, Any]) -> str:
    """Return a slope with its interval in words."""
    ends = format_interval(fit["slope_lo"], fit["slope_hi"], 2)
    return f"slope {fit['slope']:.2f}" + (f" ({ends})" if ends else "")


def scatter(
    name: str,
    sheet: Sheet,
    x: Side,
    y: Side,
    *,
    title: str | Mapping[str, Any],
    tips: Sequence[Tip],
    equal: bool = False,
    lines: Sequence[Line] = (),
    own: Sequence[str] = (),
    first: Sequence[str] = (),
    groups: Mapping[str, str] | None = None,
    width: int = _WIDTH,
    height: int = _HEIGHT,
) -> Panel:
    """Return a panel of models as points.

    Parameters
    ----------
    name : str
        Name of its data.
    sheet : Sheet
        Columns ``model``, ``x``, ``y`` and, if there are intervals, ``x_lo``, ``x_hi``, ``y_lo`` and
        ``y_hi``.
    equal : bool
        Whether to draw the dashed line on which x and y are equal.
    lines : sequence of Line
        Fitted lines.
    own : sequence of str
        The user's own models, all of which are named.
    first : sequence of str
        Models that are named first; by default, the models at the ends of both axes. Other models are named
        if there is room.
    groups : Mapping of str to str, optional
        The colour of each value of the column ``group``, in the order of the legend.
    """
    sheet = plain(sheet, *(f"{p}{v}_{end}" for p in ("", "p_") for v in "xy" for end in ("lo", "hi")))
    beyond = _beyond(sheet, x.domain, y.domain)
    rows_shown = _inside(x.domain, y.domain) if beyond else ""
    channels = (x.channel(alt.X, "x"), y.channel(alt.Y, "y"))
    sheets: dict[str, Sheet] = {name: sheet}
    drawn = (
        [("equal", Line(1.0, 0.0), {"strokeDash": [4, 4], "color": ink("axis"), "strokeWidth": 1})]
        if equal
        else []
    )
    drawn += [(f"fit-{i}", line, {"color": ink("ink"), "strokeWidth": 1.5}) for i, line in enumerate(lines)]
    layers: list[Any] = []
    for kind, line, style in drawn:
        within = x.domain if kind == "equal" else _extent(sheet["x"], x.domain)
        ends = _ends(line, within, y.domain)
        if ends:
            sheets[f"{name}-{kind}"] = ends
            layers += _line(f"{name}-{kind}", channels, style, line.note)
    n = len(sheet["model"])
    marks = [
        *(_crosses(name, x, y, sheet, rows_shown) if n <= CROSSES else ()),
        _points(name, channels, n, rows_shown, groups),
    ]
    # A fitted line is seen over the points, the line of equals under them.
    layers[int(equal and f"{name}-equal" in sheets) : 0] = marks
    apart = 14 * (y.domain[1] - y.domain[0]) / height
    sheets[f"{name}-own"] = _own_places(sheet, own, apart)
    layers += _named(_rows(name, rows_shown).encode(*channels), f"{name}-own", sum(x.domain) / 2)
    names = _names(sheet, x, y, (width, height), drawn, first=first, own=own)
    if names["model"]:
        sheets[f"{name}-names"] = names
        layers.append(_names_of_points(f"{name}-names", channels))
    return Panel(layers, sheets, width, height, title, tips, beyond)


def _beyond(sheet: Sheet, x: tuple[float, float], y: tuple[float, float]) -> tuple[str, ...]:
    """Return the models beyond the axes."""
    rows = zip(sheet["model"], sheet["x"], sheet["y"], strict=True)
    return tuple(m for m, a, b in rows if not (x[0] <= a <= x[1] and y[0] <= b <= y[1]))


def _inside(x: tuple[float, float], y: tuple[float, float]) -> str:
    """Return the condition for rows to be drawn: clipping marks instead is slow in pictures."""
    return " && ".join(f"inrange(datum.{v}, [{d[0]:.6g}, {d[1]:.6g}])" for v, d in (("x", x), ("y", y)))


def _rows(name: str, rows_shown: str) -> Any:
    chart: Any = alt.Chart(data(name))
    return chart.transform_filter(rows_shown) if rows_shown else chart


def _points(
    name: str, channels: tuple[Any, Any], n: int, rows_shown: str, groups: Mapping[str, str] | None
) -> Any:
    size, opacity = (34, 0.8) if n <= CROSSES else (12, 0.5)
    mark = _rows(name, rows_shown).mark_point(size=size, opacity=dimmed(opacity), color=ink("mark"))
    if not groups:
        return mark.encode(*channels)
    scale = alt.Scale(domain=list(groups), range=[ink(hue) for hue in groups.values()])
    legend = alt.Legend(title=None, orient="top", columns=3, labelColor=ink("ink"), labelFontSize=12)
    return mark.encode(*channels, alt.Color(field="group", type="nominal", scale=scale, legend=legend))


def _crosses(name: str, x: Side, y: Side, sheet: Sheet, rows_shown: str) -> list[Any]:
    mark = _rows(name, rows_shown).mark_rule(strokeWidth=1, opacity=dimmed(0.4), color=ink("mark"))
    layers = []
    if any(v is not None for v in sheet.get("x_lo", ())):
        layers.append(mark.encode(x.channel(alt.X, "x_lo"), y.channel(alt.Y, "y"), alt.X2("x_hi")))
    if any(v is not None for v in sheet.get("y_lo", ())):
        layers.append(mark.encode(x.channel(alt.X, "x"), y.channel(alt.Y, "y_lo"), alt.Y2("y_hi")))
    return layers


def _names(
    sheet: Sheet,
    x: Side,
    y: Side,
    size: tuple[int, int],
    drawn: Sequence[tuple[str, Line, Any]],
    *,
    first: Sequence[str],
    own: Sequence[str],
) -> Sheet:
    """Return the names next to points, with their positions."""
    width, height = size
    points: dict[str, PanelPoint] = {}
    for model, a, b in zip(sheet["model"], sheet["x"], sheet["y"], strict=True):
        if x.domain[0] <= a <= x.domain[1] and y.domain[0] <= b <= y.domain[1]:
            points[model] = (x.at(a, width), height - y.at(b, height))
    others = {m: place for m, place in points.items() if m not in own}
    lines = [place for _, line, _ in drawn for place in _along(line, x, y, size)]
    order = dict.fromkeys([*(m for m in first if m in others), *_by_distance(others)])
    placed = place_names(
        points, order, lines, size, own={m: place for m, place in points.items() if m in own}
    )
    return {
        "model": list(placed),
        "x": [x.value(place[0], width) for _, place in placed.values()],
        "y": [y.value(height - place[1], height) for _, place in placed.values()],
        "text": [text for text, _ in placed.values()],
    }


def _along(line: Line, x: Side, y: Side, size: tuple[int, int]) -> list[PanelPoint]:
    """Return places along a line, so near to one another that no name fits between them."""
    ends = _ends(line, x.domain, y.domain)
    if ends is None:
        return []
    (a, b), (c, d) = zip(ends["x"], ends["y"], strict=True)
    start, stop = ((x.at(u, size[0]), size[1] - y.at(v, size[1])) for u, v in ((a, b), (c, d)))
    steps = [i / 60 for i in range(61)]
    return [(start[0] + s * (stop[0] - start[0]), start[1] + s * (stop[1] - start[1])) for s in steps]


def _by_distance(points: Mapping[str, PanelPoint]) -> list[str]:
    """Return the names: the best, the worst, and then those farthest from their nearest neighbours."""
    if len(points) < 2:
        return list(points)
    names, places = list(points), np.array(list(points.values()))
    ends = [names[int(places[:, 0].argmax())], names[int(places[:, 0].argmin())]]
    apart, _ = KDTree(places).query(places, k=2)
    return [*ends, *(names[i] for i in np.argsort(-apart[:, 1], kind="stable"))]


def _names_of_points(name: str, channels: tuple[Any, Any]) -> Any:
    base: Any = alt.Chart(data(name)).encode(*channels, text_of("text"))
    return base.mark_text(color=ink("muted"), fontSize=NAME_SIZE, baseline="middle", **halo())


def _named(base: Any, names: str, middle: float) -> list[Any]:
    """Return the layers on top: own models with their names beside them, and those that are set off."""
    right = f"datum.x > {middle:.6g}"
    text: dict[str, Any] = {
        "align": alt.ExprRef(f"{right} ? 'right' : 'left'"),
        "dx": alt.ExprRef(f"{right} ? -8 : 8"),
        **halo(),
    }
    point = {"opacity": 1, "stroke": ink("paper"), "strokeWidth": 1, "size": 70}
    return [
        base.transform_filter(OWN).mark_point(**point, color=ink("own")),
        base.transform_filter(FOCUS).mark_point(**point, color=ink("ink")),
        _own_names(names, base, text),
        *badges(base),
    ]


def _own_places(sheet: Sheet, own: Sequence[str], apart: float) -> Sheet:
    """Return the positions of the names of own models: next to their points, without overlap."""
    xs = {m: x for m, x in zip(sheet["model"], sheet["x"], strict=True) if m in own}
    placed = spread({m: y for m, y in zip(sheet["model"], sheet["y"], strict=True) if m in xs}, apart)
    return {"model": list(placed), "x": [xs[m] for m in placed], "y": list(placed.values())}


def _own_names(name: str, base: Any, text: dict[str, Any]) -> Any:
    chart: Any = alt.Chart(data(name)).encode(base.encoding.x, base.encoding.y)
    return chart.mark_text(**text, color=ink("own"), fontWeight="bold").encode(text_of("model"))


def _line(name: str, channels: tuple[Any, Any], style: dict[str, Any], note: str) -> list[Any]:
    base: Any = alt.Chart(data(name)).encode(*channels)
    text = base.mark_text(align="left", dy=-8, **halo()).encode(text_of("text"))
    return [base.mark_line(**style), *([text] if note else ())]


def _extent(values: Sequence[float], domain: tuple[float, float]) -> tuple[float, float]:
    return max(min(values), domain[0]), min(max(values), domain[1])


def _ends(line: Line, x: tuple[float, float], y: tuple[float, float]) -> Sheet | None:
    """Return the ends of a line within the axes; None where it misses them."""
    xs = [*x]
    if line.slope:
        at = sorted((edge - line.intercept) / line.slope for edge in y)
        xs = [max(x[0], at[0]), min(x[1], at[1])]
    if xs[0] >= xs[1]:
        return None
    return {"x": xs, "y": [line.slope * end + line.intercept for end in xs], "text": [line.note, ""]}


def top1_and_real1(name: str, sheet: Sheet, own: Sequence[str], **options: Any) -> Panel:
    """Return a panel of ReaL accuracy against top-1 accuracy, with further options of `scatter`."""
    xs, ys = shown_both(sheet)
    tips = [(short(m), v, "2", " %", f"{v}_lo", f"{v}_hi") for m, v in (("top1", "x"), ("real1", "y"))]
    sides = plain_side([axis("top1")], xs), plain_side([axis("real1")], ys)
    return scatter(name, sheet, *sides, tips=tips, equal=True, own=own, **options)


def draw_models(frames: Frames) -> Iterator[Figure | None]:
    """Yield the figures of the section."""
    if not frames.tables.has_trends:
        return
    # Where a line is fitted, the figure of saturation shows the same points.
    fitted = {d for d in frames.datasets if frames.fit((d, "top1"), (d, "real1"), "plain")}
    yield from (top1_against_real(frames, dataset) for dataset in frames.datasets if dataset not in fitted)


def top1_against_real(frames: Frames, dataset: str) -> Figure | None:
    """Plot ReaL accuracy against top-1 accuracy, with one point per model."""
    both = frames.both((dataset, "top1"), (dataset, "real1"))
    if both.is_empty():
        return None
    sheet = percent_sheet(both)
    panel = top1_and_real1("models", sheet, frames.own, title="", width=400, height=320)
    gains = both.filter(both["y"] > both["x"]).height
    return Figure(
        f"models-{slug(dataset)}",
        "models",
        dataset,
        f"Original labels against label sets, {title_of(dataset)}",
        f"{points_said(both.height, 'the 95 % intervals')} On the dashed line, both accuracies are equal. A "
        "model above this line has a higher accuracy under label sets." + beyond_said([panel]),
        f"{gains:,} of {counted(both.height, 'model')} have a higher accuracy under label sets than under "
        f"original labels. Top-1 accuracy ranges from {min(sheet['x']):.1f} to {max(sheet['x']):.1f} %, and "
        f"ReaL accuracy from "
        f"{min(sheet['y']):.1f} to {max(sheet['y']):.1f} %.",
        compose([panel], frames.own),
        both.drop("x_n", "y_n").to_arrow(),
    )
