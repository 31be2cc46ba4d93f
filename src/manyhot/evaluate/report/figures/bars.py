"""Bars and dots by category, with the number beside each.

One line per model over a few steps, such as sizes of label sets, and one line for all models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import altair as alt

from manyhot.evaluate.report.figures.panel import (
    CROSSES,
    FOCUS,
    OWN,
    PINNED,
    Panel,
    Sheet,
    Tip,
    at,
    badges,
    data,
    detail,
    dimmed,
    halo,
    ink,
    pinned,
    plain,
    spread,
    text_of,
)
from manyhot.evaluate.report.figures.scatter import Side, plain_side

ROW = 30
"""Height of a category."""


ABOVE = 32
"""The same with its name above what is drawn, where names are long."""


_LINE = 21
"""Height of a row of a group, where all its text stands beside it."""


_BESIDE = 290
"""Width of the names beside groups."""


LABELS = 190
"""Width that the names of categories may take; two such panels, or one on a phone."""


def columns(name: str, sheet: Sheet, *, x_title: str, top: float, title: str, tips: Sequence[Tip]) -> Panel:
    """Return vertical bars of ``value``, with ``label`` below and ``text`` above; the axis ends at `top`."""
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
        base.mark_text(dy=-8, baseline="bottom", fontSize=13).encode(text_of("text")),
    ]
    return Panel(layers, {name: sheet}, max(40 * len(sheet["label"]), 220), 200, title, tips)


def bars(
    name: str, sheet: Sheet, *, x_title: str, top: float, title: str, tips: Sequence[Tip], width: int = 300
) -> Panel:
    """Return horizontal bars of ``value``: ``label`` above, ``text`` at the end; the axis ends at `top`."""
    rows = alt.Y(
        "label:N", sort=list(sheet["label"]), axis=None, scale=alt.Scale(paddingInner=0, paddingOuter=0)
    )
    axis = alt.Axis(labels=False, grid=False, titleAnchor="start")
    scale = alt.Scale(domain=[0, top], nice=False)
    base: Any = alt.Chart(data(name)).encode(
        rows, alt.X(field="value", type="quantitative", title=x_title, scale=scale, axis=axis)
    )
    half = 8
    layers = [
        base.mark_bar(size=12, yOffset=half),
        base.mark_text(dx=6, dy=half, align="left").encode(text_of("text")),
        _above(name, rows, -half + 2),
    ]
    return Panel(layers, {name: sheet}, width, ABOVE * len(sheet["label"]), title, tips)


def _above(name: str, rows: Any, dy: float) -> Any:
    """Return the names of categories above what is drawn of them, where they may be long."""
    text: Any = alt.Chart(data(name)).mark_text(align="left", dy=dy, **halo())
    return text.encode(rows, at(0), text_of("label"))


NO_MODELS: Sheet = {"model": [], "label": [], "x": []}
"""For strips of which only the middles are drawn."""


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
    row: int = ROW,
) -> Panel:
    """Return one strip per category, in which models are faint and their mean or median is bold.

    Parameters
    ----------
    name : str
        Name of its data.
    models : Sheet
        Columns ``model``, ``label`` and ``x``; empty if only the middles are known.
    middles : Sheet
        Columns ``label``, ``x`` and ``text``, and the ends of two intervals: ``lo`` and ``hi`` of the outer
        one, and ``inner_lo`` and ``inner_hi`` of the inner one, which is drawn thick.
    zero : bool
        Draw a line at zero.
    above : bool
        Whether to write the names of categories above the marks instead of at the left.
    row : int
        Height of a row, in pixels, if its name is at the left.
    """
    y = _rows(middles["label"], above=above)
    models, beyond = _inside(plain(models, "lo", "hi"), x.domain)
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
        layers.append(text.encode(y, at(width), text_of("text")))
    if models.get("model"):
        layers += badges(alt.Chart(data(name)).encode(x.channel(alt.X, "x"), y), dy=dy)
    height = (ABOVE if above else row) * len(set(middles["label"]))
    return Panel(layers, sheets, width, height, title, tips, beyond)


def _inside(models: Sheet, domain: tuple[float, float]) -> tuple[Sheet, tuple[str, ...]]:
    """Return the rows within the axis, and the models of the others; to clip would cut marks at its ends."""
    kept = [i for i, x in enumerate(models["x"]) if x is not None and domain[0] <= x <= domain[1]]
    beyond = {models["model"][i] for i in set(range(len(models["x"]))) - set(kept)}
    return {name: [values[i] for i in kept] for name, values in models.items()}, tuple(sorted(beyond))


def _rows(labels: Sequence[str], *, above: bool) -> Any:
    axis = None if above else alt.Axis(labelLimit=LABELS, labelColor=ink("ink"), grid=False)
    return alt.Y(field="label", type="nominal", sort=list(dict.fromkeys(labels)), title=None, axis=axis)


def _strip(name: str, x: Side, y: Any, n: int, dy: float) -> list[Any]:
    if not n:
        return []
    base: Any = alt.Chart(data(name)).encode(x.channel(alt.X, "x"), y)
    faint = {"opacity": dimmed(0.45 if n <= 4 * CROSSES else 0.25), "color": ink("mark"), "thickness": 1}
    tall = 0.32 if dy else 0.5
    place = {"yOffset": dy}
    strong = {"height": {"band": 1.3 * tall}, "thickness": 3, **place}
    return [
        base.mark_tick(height={"band": tall}, **faint, **place),
        base.transform_filter(OWN).mark_tick(**strong, color=ink("own")),
        base.transform_filter(FOCUS).mark_tick(**strong, color=ink("purple")),
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
        size=70, color=ink("ink"), stroke=ink("paper"), strokeWidth=1, opacity=1, yOffset=dy
    )
    layers.append(dot.encode(x.channel(alt.X, "x")))
    return layers


def dots(
    name: str,
    middles: Sheet,
    *,
    axis: str,
    percent: bool = True,
    line: float | None = None,
    also: Sequence[float] = (),
    title: str = "",
    tips: Sequence[Tip] = (),
    width: int = 400,
) -> Panel:
    """Return a dot with one or two intervals for each category, with the name of the category above the dot.

    Parameters
    ----------
    name : str
        Name of its data.
    middles : Sheet
        As in `strips`.
    axis : str
        Title of the axis.
    percent : bool
        Whether values are in percent, so that the axis does not extend beyond 0 and 100.
    line : float, optional
        Reference value, drawn as a dashed line.
    also : sequence of float
        Further values that the axis must contain, such as the values of another panel.
    """
    ends = (v for end in ("x", "lo", "hi", "inner_lo", "inner_hi") for v in middles.get(end, ()))
    known = [*also, *(v for v in ends if v is not None and v == v)]
    if line is not None:  # away from the edge, where names begin
        known += [line, line - 0.06 * (max(known, default=line) - min(known, default=line))]
    side = plain_side([axis], known, percent=percent)
    panel = strips(name, NO_MODELS, middles, side, title=title, tips=tips, width=width, above=True)
    return panel if line is None else with_line(panel, name, side, line)


def with_line(panel: Panel, name: str, x: Side, line: float) -> Panel:
    """Return a panel with a dashed vertical line under its marks."""
    rule: Any = alt.Chart(data(f"{name}-line")).mark_rule(strokeDash=[4, 4], color=ink("axis"))
    layers = [rule.encode(x.channel(alt.X, "x")), *panel.layers]
    return replace(panel, layers=layers, sheets={**panel.sheets, f"{name}-line": {"x": [line]}})


@dataclass(frozen=True, eq=False)
class Group:
    """Rows under one heading.

    Attributes
    ----------
    sheet : Sheet
        Columns ``label``, ``x``, ``lo`` and ``hi``, and the columns ``first`` and ``second``, whose text is
        written at the right.
    level : float, optional
        Reference value of the rows, which is drawn as a dashed line through all of them.
    """

    title: str
    sheet: Sheet
    level: float | None


def groups(
    name: str,
    parts: Sequence[Group],
    x: Side,
    *,
    title: str | Mapping[str, Any],
    heads: tuple[str, str],
    tips: Sequence[Tip],
    width: int = 420,
) -> Panel:
    """Return dots with intervals on one axis, in groups of rows; `heads` are above the right columns."""
    rows, titles = _listed(parts)
    n_rows = len(rows["row"]) + len(parts)
    y = by_row(n_rows)
    sheets = {name: rows, f"{name}-groups": titles, f"{name}-zero": {"x": [0.0]}}
    zero: Any = alt.Chart(data(f"{name}-zero")).mark_rule(color=ink("axis"))
    base: Any = alt.Chart(data(name)).encode(y)
    above: Any = alt.Chart(data(f"{name}-groups")).encode(y)
    level = above.transform_filter("isValid(datum.level)").mark_rule(strokeDash=[4, 4], color=ink("mark"))
    layers = [
        zero.encode(x.channel(alt.X, "x")),
        level.encode(x.channel(alt.X, "level"), alt.Y2("end")),
        base.mark_rule(strokeWidth=1.5, color=ink("ink")).encode(x.channel(alt.X, "lo"), alt.X2("hi")),
        base.mark_point(size=60, color=ink("ink"), opacity=1).encode(x.channel(alt.X, "x")),
        above.mark_text(align="left", fontWeight="bold").encode(at(-_BESIDE), text_of("title")),
        base.mark_text(align="left").encode(at(12 - _BESIDE), text_of("label")),
    ]
    for field, place in (("first", 60), ("second", 180)):
        layers.append(base.mark_text(align="right").encode(at(width + place), text_of(field)))
    for field, place in zip(("head_1", "head_2"), (60, 180), strict=True):
        text = above.mark_text(align="right", color=ink("muted")).encode(at(width + place), text_of(field))
        layers.append(text)
        titles[field] = [heads[field == "head_2"], *[""] * (len(parts) - 1)]
    return Panel(layers, sheets, width, _LINE * n_rows, title, tips)


def by_row(n_rows: int) -> Any:
    """Return the encoding of the column ``row``: the place of a row from the top."""
    scale = alt.Scale(domain=[n_rows - 0.5, -0.5], nice=False)
    return alt.Y(field="row", type="quantitative", axis=None, scale=scale)


def _listed(parts: Sequence[Group]) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """Return all rows with their places from the top, and the heads of their groups."""
    rows: dict[str, list[Any]] = {"row": [], **{name: [] for name in parts[0].sheet}}
    titles: dict[str, list[Any]] = {"row": [], "end": [], "title": [], "level": []}
    place = 0
    for group in parts:
        n = len(group.sheet["x"])
        for column, value in zip(titles.values(), (place, place + n, group.title, group.level), strict=True):
            column.append(value)
        rows["row"] += range(place + 1, place + n + 1)
        for name, values in group.sheet.items():
            rows[name] += values
        place += n + 1
    return rows, titles


LINE_BESIDE = 26
"""From the end of a line to what is written beside it: past the number that stands above the end."""


def lines(
    name: str,
    models: Sheet,
    middle: Sheet,
    steps: Sequence[str],
    y: Side,
    *,
    x_title: str | Sequence[str] | None,
    own: Sequence[str] = (),
    few: Sequence[str] = (),
    title: str = "",
    tips: Sequence[Tip] = (),
    width: int = 270,
    height: int = 280,
) -> Panel:
    """Return a panel of lines.

    Parameters
    ----------
    name : str
        Name of its data.
    models : Sheet
        Columns ``model``, ``step``, ``y`` and, if there are intervals, ``lo`` and ``hi``.
    middle : Sheet
        Columns ``step``, ``y`` and ``text``, which is written next to each point; empty for no middle line.
    steps : sequence of str
        Labels of the axis, in order. In a label, ``|`` is a line break.
    own : sequence of str
        The user's own models, which are named at the right.
    few : sequence of str
        All models if there are so few that all are named; otherwise empty.
    """
    named = {**dict.fromkeys(few), **dict.fromkeys(own)}
    if named:
        # What the names beside the lines take, so that three panels still fit a page.
        width -= LINE_BESIDE - 10
    x = alt.X(
        field="step",
        type="nominal",
        sort=list(steps),
        title=x_title,
        scale=alt.Scale(padding=0.35),
        axis=alt.Axis(labelAngle=0, labelExpr="split(datum.value, '|')", grid=False, labelLimit=width),
    )
    models, beyond = _inside_lines(plain(models, "lo", "hi"), y.domain)
    base: Any = alt.Chart(data(name)).encode(x, y.channel(alt.Y, "y"))
    numbers: Any = alt.Chart(data(f"{name}-middle")).encode(x, y.channel(alt.Y, "y"))
    layers = _models(base, len(set(models["model"])))
    sheets = {name: models}
    if middle.get("y"):
        sheets[f"{name}-middle"] = middle
        layers.append(numbers.mark_line(strokeWidth=3, color=ink("ink")))
        layers.append(numbers.mark_point(size=50, color=ink("ink"), opacity=1))
    layers += _on_top(base, x, y, intervals="lo" in models)
    sheets[f"{name}-own"] = _ends(models, list(named), steps[-1], 14 * (y.domain[1] - y.domain[0]) / height)
    layers.append(_own_names(f"{name}-own", x, y))
    # Numbers of pinned models are beside the ends of their lines, where no other text is.
    at_end = base.transform_filter({"field": "step", "equal": steps[0 if named else -1]})
    layers += badges(at_end, dx=-LINE_BESIDE if named else LINE_BESIDE)
    if middle.get("y"):
        text = numbers.mark_text(dy=-13, fontSize=13, fontWeight="bold", **halo())
        layers.append(text.encode(text_of("text")))
    return Panel(layers, sheets, width, height, title, tips, beyond)


def _inside_lines(models: Sheet, domain: tuple[float, float]) -> tuple[Sheet, tuple[str, ...]]:
    """Return the models whose lines stay within the axis, and the names of the others."""
    rows = zip(models["model"], models["y"], strict=True)
    beyond = {m for m, y in rows if not domain[0] <= y <= domain[1]}
    kept = [i for i, m in enumerate(models["model"]) if m not in beyond]
    return {field: [values[i] for i in kept] for field, values in models.items()}, tuple(sorted(beyond))


def _ends(models: Sheet, own: Sequence[str], last: str, apart: float) -> Sheet:
    """Return where the names of own models stand: at the ends of their lines, none on another."""
    rows = zip(models["model"], models["step"], models["y"], strict=True)
    placed = spread({m: y for m, step, y in rows if m in own and step == last}, apart)
    return {"model": list(placed), "step": [last] * len(placed), "y": list(placed.values())}


def _own_names(name: str, x: Any, y: Side) -> Any:
    text: Any = alt.Chart(data(name)).mark_text(align="left", dx=LINE_BESIDE - 2, fontWeight="bold", **halo())
    # A fifth of the time of all figures went into finding out that such a dictionary is a colour.
    colour = alt.ColorValue(**alt.condition(OWN, alt.value(ink("own")), alt.value(ink("ink"))))
    return text.encode(x, y.channel(alt.Y, "y"), text_of("model"), colour)


def _models(base: Any, n: int) -> list[Any]:
    width, opacity = (1.0, 0.4) if n <= CROSSES else (0.6, 0.16)
    base = base.encode(detail())
    shown = base.mark_line(strokeWidth=width, opacity=dimmed(opacity), color=ink("mark"))
    if n > CROSSES:
        return [shown]
    # Thin lines are hard to point at; this one takes the pointer, and is not seen.
    return [shown, base.mark_line(strokeWidth=7, opacity=0.001, color=ink("mark"))]


def _on_top(base: Any, x: Any, y: Side, *, intervals: bool) -> list[Any]:
    layers = []
    for chosen, hue in ((OWN, ink("own")), (FOCUS, ink("purple")), (PINNED, pinned())):
        rows = base.transform_filter(chosen)
        layers += [
            rows.mark_line(strokeWidth=2.5, color=hue).encode(detail()),
            rows.mark_point(size=34, color=hue, opacity=1),
        ]
        if intervals and chosen == OWN:
            bar = rows.mark_rule(color=hue, strokeWidth=1.5)
            layers.append(bar.encode(x, y.channel(alt.Y, "lo"), alt.Y2("hi")))
    return layers
