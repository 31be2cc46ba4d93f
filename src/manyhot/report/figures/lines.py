"""A line a model over a few steps, such as sizes of label sets, and one that stands for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from manyhot.report.figures.panel import FOCUS, NAMED, OWN, Panel, Sheet, Tip, data, dimmed, ink
from manyhot.report.figures.scatter import CROSSES, Side


def lines(
    name: str,
    models: Sheet,
    middle: Sheet,
    steps: Sequence[str],
    y: Side,
    *,
    x_title: str | Sequence[str] | None,
    title: Any = "",
    tips: Sequence[Tip] = (),
    width: int = 300,
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
    x_title, title, tips, width, height
    """
    x = alt.X(
        "step:N",
        sort=list(steps),
        title=x_title,
        scale=alt.Scale(padding=0.35),
        axis=alt.Axis(labelAngle=0, labelExpr="split(datum.value, '|')", grid=False, labelLimit=width),
    )
    layers = _models(name, x, y, models)
    sheets = {name: models}
    if middle.get("y"):
        sheets[f"{name}-middle"] = middle
        layers += _middle(f"{name}-middle", x, y)
    layers += _on_top(name, x, y, steps[-1], intervals="lo" in models)
    chart = alt.layer(*layers).properties(width=width, height=height, title=title)
    return Panel(chart, sheets, tuple(tips))


def _models(name: str, x: Any, y: Side, models: Sheet) -> list[Any]:
    n = len(set(models["model"]))
    width, opacity = (1.0, 0.4) if n <= CROSSES else (0.6, 0.16)
    base: Any = alt.Chart(data(name)).encode(x, y.channel(alt.Y, "y"), detail="model:N")
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
        base.mark_text(dy=-12, fontSize=13, fontWeight="bold", stroke=ink("paper"), strokeWidth=4).encode(
            text="text:N"
        ),
        base.mark_text(dy=-12, fontSize=13, fontWeight="bold").encode(text="text:N"),
    ]


def _on_top(name: str, x: Any, y: Side, last: str, *, intervals: bool) -> list[Any]:
    channels = (x, y.channel(alt.Y, "y"))
    base: Any = alt.Chart(data(name)).encode(*channels)
    layers = []
    for chosen, hue in ((OWN, "own"), (FOCUS, "purple")):
        rows = base.transform_filter(chosen)
        layers += [
            rows.mark_line(strokeWidth=2.5, color=ink(hue)).encode(detail="model:N"),
            rows.mark_point(size=34, color=ink(hue), opacity=1),
        ]
        if intervals and chosen == OWN:
            layers.append(
                rows.mark_rule(color=ink(hue), strokeWidth=1.5).encode(
                    x, y.channel(alt.Y, "lo"), alt.Y2("hi")
                )
            )
    for chosen, hue in ((OWN, "own"), (NAMED, "purple")):
        at_end = base.transform_filter(f"({chosen}) && datum.step === '{last}'")
        text = at_end.mark_text(
            align="right", dx=28, dy=16, fontSize=12, fontWeight="bold", color=ink(hue), stroke=None
        )
        layers.append(text.encode(text="model:N"))
    return layers
