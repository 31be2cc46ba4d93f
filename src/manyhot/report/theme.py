"""One look for all figures: fonts, sizes, and colours for light and dark paper.

Figures name their colours as CSS variables. A page defines these for both schemes, so that a figure follows
the reader's; files get the colours of one scheme written in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

Scheme = Literal["light", "dark"]

FONT = "Liberation Sans, Arial, Arimo, Nimbus Sans, Helvetica Neue, Helvetica, sans-serif"
"""Of files, and what text is measured with: all but the last have letters of the same widths."""

COLOURS: Mapping[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#121518"),
    "ink": ("#15191d", "#e8ebee"),
    "muted": ("#58616b", "#a4adb7"),
    "grid": ("#e6e9ed", "#2a3036"),
    "axis": ("#8a949e", "#6d7782"),
    "faint": ("#7d8893", "#76828e"),
    "mark": ("#0067a8", "#64b5f0"),
    "own": ("#b4400a", "#ff9d61"),
    "green": ("#007a58", "#4fd0a5"),
    "purple": ("#9a4287", "#e29bd0"),
    "ochre": ("#856200", "#e3c04d"),
    "heat0": ("#ffffff", "#121518"),
    "heat1": ("#dcebf7", "#16304a"),
    "heat2": ("#b3d3ec", "#1b4870"),
    "heat3": ("#75aed8", "#2a6da6"),
    "heat4": ("#2876ad", "#5fa9de"),
    "heat5": ("#0b5590", "#9ccdf3"),
    "on-light": ("#15191d", "#e8ebee"),
    "on-dark": ("#ffffff", "#0b0e11"),
}
"""Each colour on light and on dark paper.

After Okabe and Ito, whose hues people with any colour vision tell apart, made darker or lighter until each
mark stands out from its paper by 4.5 to 1: direct labels wear the colour of their marks.
"""

_VARIABLE = re.compile(r"var\(--f-([a-z0-9-]+)\)")


def colour(name: str) -> str:
    """Return a colour as figures name it, such as ``var(--f-mark)``."""
    if name not in COLOURS:
        raise KeyError(name)
    return f"var(--f-{name})"


def style() -> str:
    """Return the CSS that defines the colours for both schemes."""
    lines = (f"  --f-{name}: light-dark({light}, {dark});" for name, (light, dark) in COLOURS.items())
    return "\n".join([":root {", *lines, "}"]) + "\n"


def concrete(svg: str, scheme: Scheme) -> str:
    """Return an SVG with the colours of one scheme in place of variables."""
    at = 0 if scheme == "light" else 1
    return _VARIABLE.sub(lambda match: COLOURS[match[1]][at], svg)


def config() -> dict[str, object]:
    """Return the Vega-Lite config of all figures."""
    return {
        "background": "transparent",
        "aria": False,
        "font": FONT,
        "padding": 4,
        "view": {"stroke": None},
        "concat": {"spacing": 36},
        "axis": _axis(),
        "axisY": {"titlePadding": 10},
        "title": _title(),
        "text": {"color": colour("ink"), "fontSize": 12},
        "point": {"filled": True, "size": 30, "color": colour("mark")},
        "line": {"strokeWidth": 1.5, "strokeCap": "round", "strokeJoin": "round", "color": colour("mark")},
        "rule": {"color": colour("mark")},
        "bar": {"color": colour("mark")},
        "tick": {"color": colour("mark")},
    }


def _axis() -> dict[str, object]:
    return {
        "labelColor": colour("muted"),
        "labelFontSize": 12,
        "labelPadding": 6,
        "titleColor": colour("ink"),
        "titleFontSize": 13,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "grid": True,
        "gridColor": colour("grid"),
        "gridWidth": 1,
        "domain": False,
        "ticks": False,
        "labelFlush": False,
        # To measure a text takes a millisecond: what ticks there are is chosen where an axis is made.
        "labelOverlap": False,
        "labelLimit": 0,
        "titleLimit": 0,
    }


def _title() -> dict[str, object]:
    return {
        "anchor": "start",
        "frame": "group",
        "offset": 12,
        "fontSize": 14,
        "fontWeight": "bold",
        "color": colour("ink"),
        "subtitleColor": colour("muted"),
        "subtitleFontSize": 12,
        "subtitlePadding": 4,
    }
