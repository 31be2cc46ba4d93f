"""A line a model over a few steps, such as sizes of label sets, and one that stands for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from manyhot.report.figures.panel import (
    CROSSES,
    FOCUS,
    OWN,
    PINNED,
    Panel,
    Sheet,
    Tip,
    badges,
    data,
    detail,
    dimmed,
    halo,
    ink,
    pinned,
    plain,
    spread,
    words,
)
from manyhot.report.figures.scatter import Side

BESIDE = 26
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
    title: str = "",
    tips: Sequence[Tip] = (),
    width: int = 270,
    height: int = 280,
) -> Panel:
    """Return a panel of lines.

    Parameters
    ----------
    name : str
        Of its data.
    models : Sheet
        ``model``, ``step``, ``y`` and where there are intervals ``lo``, ``hi``.
    middle : Sheet
        ``step``, ``y``, and ``text`` beside each point; empty for none.
    steps : sequence of str
        What stands on the axis, in order; a line break where there is a ``|``.
    y : Side
    x_title
    own : sequence of str
        Models that are named at the right.
    title, tips, width, height
    """
    if own:
        # What the names beside the lines take, so that three panels still fit a page.
        width -= BESIDE - 10
    x = alt.X(
        field="step",
        type="nominal",
        sort=list(steps),
        title=x_title,
        scale=alt.Scale(padding=0.35),
        axis=alt.Axis(labelAngle=0, labelExpr="split(datum.value, '|')", grid=False, labelLimit=width),
    )
    models, beyond = _inside(plain(models, "lo", "hi"), y.domain)
    layers = _models(name, x, y, models)
    sheets = {name: models}
    if middle.get("y"):
        sheets[f"{name}-middle"] = middle
        layers += _middle(f"{name}-middle", x, y)
    layers += _on_top(name, x, y, intervals="lo" in models)
    sheets[f"{name}-own"] = _ends(models, own, steps[-1], 14 * (y.domain[1] - y.domain[0]) / height)
    layers.append(_own_names(f"{name}-own", x, y))
    layers += _badges(name, x, y, steps, left=bool(own))
    if middle.get("y"):
        layers.append(_numbers(f"{name}-middle", x, y))
    return Panel(layers, sheets, width, height, title, tips, beyond)


def _badges(name: str, x: Any, y: Side, steps: Sequence[str], *, left: bool) -> list[Any]:
    """Return the numbers of pinned models beside the ends of their lines, where no other text is."""
    base: Any = alt.Chart(data(name)).encode(x, y.channel(alt.Y, "y"))
    at_end = base.transform_filter({"field": "step", "equal": steps[0 if left else -1]})
    return badges(at_end, dx=-BESIDE if left else BESIDE)


def _inside(models: Sheet, domain: tuple[float, float]) -> tuple[Sheet, tuple[str, ...]]:
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
    text: Any = alt.Chart(data(name)).mark_text(
        align="left", dx=BESIDE - 2, fontWeight="bold", color=ink("own"), **halo()
    )
    return text.encode(x, y.channel(alt.Y, "y"), words("model"))


def _models(name: str, x: Any, y: Side, models: Sheet) -> list[Any]:
    n = len(set(models["model"]))
    width, opacity = (1.0, 0.4) if n <= CROSSES else (0.6, 0.16)
    base: Any = alt.Chart(data(name)).encode(x, y.channel(alt.Y, "y"), detail())
    shown = base.mark_line(strokeWidth=width, opacity=dimmed(opacity), color=ink("mark"))
    if n > CROSSES:
        return [shown]
    # Thin lines are hard to point at; this one takes the pointer, and is not seen.
    return [shown, base.mark_line(strokeWidth=7, opacity=0.001, color=ink("mark"))]


def _middle(name: str, x: Any, y: Side) -> list[Any]:
    base: Any = alt.Chart(data(name)).encode(x, y.channel(alt.Y, "y"))
    return [
        base.mark_line(strokeWidth=3, color=ink("ink")),
        base.mark_point(size=50, color=ink("ink"), opacity=1),
    ]


def _numbers(name: str, x: Any, y: Side) -> Any:
    base: Any = alt.Chart(data(name)).encode(x, y.channel(alt.Y, "y"))
    return base.mark_text(dy=-13, fontSize=13, fontWeight="bold", **halo()).encode(words("text"))


def _on_top(name: str, x: Any, y: Side, *, intervals: bool) -> list[Any]:
    base: Any = alt.Chart(data(name)).encode(x, y.channel(alt.Y, "y"))
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
