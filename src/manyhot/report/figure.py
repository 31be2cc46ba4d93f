"""Figures as specifications, their axes, and the theme that they share.

Figures refer to colours by CSS variables. A page defines these for the light and the dark scheme, so that
figures follow the reader's setting; files contain the colours of one scheme.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Any, Literal

import pyarrow as pa

SECTIONS = ("labels", "models", "classes", "trust", "posterior", "groups", "shift", "saturation", "ranks")
"""Parts of a report that hold figures, in reading order."""

Spec = dict[str, Any]
"""A Vega-Lite specification."""


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure: its title, caption and description, and its Vega-Lite specification with the data.

    Attributes
    ----------
    name : str
        Name, such as ``shift-imagenetv2``. It is unique in a report, and is also the anchor and the file
        name.
    section : str
        One of `SECTIONS`.
    dataset : str
        The data set that the figure shows; empty if it shows several.
    title : str
        A short, plain title.
    caption : str
        Explanation of the axes, the marks and the intervals.
    alt : str
        A description with the main numbers, for screen readers.
    spec : dict
        Vega-Lite specification, with the panels in ``concat`` and the data by name in ``datasets``. Its
        colours are CSS variables, which `manyhot.report.figure` defines.
    data : pyarrow.Table
        The drawn numbers, in the units of their tables.
    folded : bool
        Whether a page first shows only the title of the figure.
    """

    name: str
    section: str
    dataset: str
    title: str
    caption: str
    alt: str
    spec: Mapping[str, Any]
    data: pa.Table
    folded: bool = False

    @property
    def panels(self) -> tuple[Spec, ...]:
        """The panels, each as a complete specification. A page arranges the panels in rows."""
        shared = {key: self.spec[key] for key in ("$schema", "config", "params") if key in self.spec}
        return tuple({**shared, **panel, "datasets": self._used(panel)} for panel in self.spec["concat"])

    def _used(self, panel: Spec) -> Spec:
        names = set(_names(panel))
        return {name: rows for name, rows in self.spec["datasets"].items() if name in names}


def _names(node: object) -> list[str]:
    """Return the names of all data that a specification uses."""
    if isinstance(node, Mapping):
        data = node.get("data")
        own = [data["name"]] if isinstance(data, Mapping) and "name" in data else []
        return own + [name for value in node.values() for name in _names(value)]
    if isinstance(node, list):
        return [name for value in node for name in _names(value)]
    return []


_STEPS = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Axis:
    """A linear axis.

    Attributes
    ----------
    lo, hi : float
        The two ends, in the unit of the drawing.
    ticks : tuple of float
        Positions of the ticks.
    """

    lo: float
    hi: float
    ticks: tuple[float, ...]

    @classmethod
    def over(cls, values: Iterable[float], *, percent: bool, n_ticks: int = 5) -> Axis:
        """Return the axis that contains all finite values, with ends at round numbers.

        An axis of shares stays between 0 and 100 %. If all values are equal, the axis has a margin on both
        sides.
        """
        finite = [v for v in values if math.isfinite(v)]
        lo, hi = (min(finite), max(finite)) if finite else (0.0, 1.0)
        if hi - lo < 1e-9:
            room = 1.0 if percent else max(abs(hi) * 0.1, 0.1)
            lo, hi = lo - room, hi + room
        step = _round_step((hi - lo) / n_ticks)
        lo, hi = math.floor(lo / step + 1e-9) * step, math.ceil(hi / step - 1e-9) * step
        if percent:
            lo, hi = max(lo, 0.0), min(hi, 100.0)
        first, last = math.ceil(lo / step - 1e-9), math.floor(hi / step + 1e-9)
        return cls(lo, hi, tuple(round(i * step, 9) for i in range(first, last + 1)))

    def at(self, value: float, start: float, stop: float) -> float:
        """Return the position of a value on an axis drawn from `start` to `stop`."""
        return start + (value - self.lo) / (self.hi - self.lo) * (stop - start)


def fences(values: Sequence[float], fewest: int = 8) -> tuple[float, float]:
    """Return Tukey's outer fences, beyond which values need not be shown: quartiles ± 3 interquartile ranges.

    Without fences, a single model at 20 % would compress 66 models between 70 and 83 % into a fifth of the
    axis. The fences are infinite if there are fewer than `fewest` values, or if the quartiles are equal.
    """
    finite = [v for v in values if math.isfinite(v)]
    if len(finite) < fewest:
        return -math.inf, math.inf
    low, _, high = quantiles(finite, method="inclusive")
    room = 3 * (high - low) or math.inf
    return low - room, high + room


def tick_text(value: float) -> str:
    """Return the label of a tick, without trailing zeros."""
    return f"{value:,.6g}"


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(s * power for s in _STEPS if s * power >= rough * 0.999)


Scheme = Literal["light", "dark"]
FONT = "Liberation Sans, Arial, Arimo, Nimbus Sans, Helvetica Neue, Helvetica, sans-serif"
"""Fonts of files, and of measured text. All but the last have the same widths of letters."""

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

The hues are those of Okabe and Ito, which people with any colour vision can distinguish. They are darkened or
lightened to a contrast of 4.5 to 1, because labels have the colours of their marks.
"""

_VARIABLE = re.compile(r"var\(--f-([a-z0-9-]+)\)")


def colour(name: str) -> str:
    """Return the CSS variable of a colour, such as ``var(--f-mark)``."""
    if name not in COLOURS:
        raise KeyError(name)
    return f"var(--f-{name})"


def style() -> str:
    """Return the CSS that defines the colours for both schemes."""
    lines = (f"  --f-{name}: light-dark({light}, {dark});" for name, (light, dark) in COLOURS.items())
    return "\n".join([":root {", *lines, "}"]) + "\n"


def concrete(svg: str, scheme: Scheme) -> str:
    """Return an SVG with the colours of one scheme in place of CSS variables."""
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
        # Measuring a text takes a millisecond, so `Axis` chooses the ticks.
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
