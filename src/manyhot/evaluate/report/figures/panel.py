"""Panels: charts with their data, and how all charts show own, pinned, found and hovered models.

From the tables to columns that charts draw: chosen and joined, never computed.

Names in figures, chosen so that axes explain themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import altair as alt
import numpy as np
import polars as pl
from numpy import typing as npt

from manyhot.evaluate.report.report_tables import ReportTables
from manyhot.report.figure import Spec, colour, config
from manyhot.report.svg import width
from manyhot.report.text import counted, listed, metric
from manyhot.tables.result_tables import reading_order

Sheet = Mapping[str, Sequence[Any]]
"""Columns of a data set that is drawn."""


Tip = tuple[str, ...]
"""A line of a tooltip: its label, the field, the decimals, the unit, and the fields of an interval."""


OWN = "own[datum.model]"
FOCUS = "datum.model === hover || found[datum.model]"
PINNED = "pins[datum.model]"
"""Which rows the layers on top draw. The page sets the signals; a drawing of no page has own models only."""


PINS = ("purple", "green", "ochre", "ink")
"""Colours of pinned models, in the order in which they were pinned; from the fifth on, they come again."""


CROSSES = 100
"""Models up to which intervals are drawn."""


SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"


@dataclass(frozen=True, eq=False)
class Panel:
    """Charts on the same axes, and the data that they refer to.

    Attributes
    ----------
    layers : sequence of altair.Chart
        The charts, with the first at the bottom. An altair.LayerChart is not used, because it would copy all
        charts five times.
    sheets : Mapping of str to Sheet
        Data by the names that the charts use for them.
    tips : sequence of Tip
        Fields that the tooltip of a mark shows in addition to the model.
    beyond : tuple of str
        Models that are outside the axes and are not drawn.
    """

    layers: Sequence[Any]
    sheets: Mapping[str, Sheet]
    width: int
    height: int
    title: str | Mapping[str, Any] = ""
    tips: Sequence[Tip] = ()
    beyond: tuple[str, ...] = ()


def data(name: str) -> Any:
    """Return a reference to named data, so that the rows are stored once for all panels."""
    return alt.NamedData(name=name)


def compose(panels: Sequence[Panel], own: Iterable[str] = (), *, columns: int = 3) -> Spec:
    """Return the specification of panels side by side."""
    sheets = {name: sheet for panel in panels for name, sheet in panel.sheets.items()}
    models = {m for sheet in sheets.values() for m in sheet.get("model", ())}
    beyond = sorted({name for panel in panels for name in panel.beyond})
    return {
        "$schema": SCHEMA,
        "config": config(),
        "params": _params({m for m in own if m in models}),
        "columns": columns,
        "concat": [_bare(panel) for panel in panels],
        "datasets": {name: rows(sheet) for name, sheet in sheets.items()},
        "usermeta": {
            "tips": [list(map(list, panel.tips)) for panel in panels],
            "models": bool(models),
            **({"beyond": beyond} if beyond else {}),
        },
    }


def plain(sheet: Sheet, *ends: str) -> Sheet:
    """Return a sheet, without intervals if there are many models: they would double the size of the page."""
    if len(set(sheet.get("model", ()))) <= CROSSES:
        return sheet
    return {name: values for name, values in sheet.items() if name not in ends}


def beyond_said(panels: Sequence[Panel]) -> str:
    """Return a sentence about the models that are not drawn, or an empty string if all are drawn."""
    names = sorted({name for panel in panels for name in panel.beyond})
    if not names:
        return ""
    which = listed(names, 5) if len(names) <= 5 else counted(len(names), "model")
    lies = (
        "lies outside the axes of a panel and is"
        if len(names) == 1
        else "lie outside the axes of a panel and are"
    )
    return f" {which} {lies} not drawn in it."


def line_said(panel: Panel) -> Panel:
    """Return a panel. If models are outside its axes, its subtitle says that they are part of the fit."""
    if not panel.beyond:
        return panel
    title = dict(panel.title) if isinstance(panel.title, Mapping) else {"text": panel.title}
    names = sorted(panel.beyond)
    which = names[0] if len(names) == 1 else counted(len(names), "model")
    subtitle = [title.get("subtitle", ""), f"The line is also fitted to {which} beyond the axes."]
    return replace(panel, title={**title, "subtitle": [text for text in subtitle if text]})


def points_said(n: int, cross: str) -> str:
    """Return a sentence about points and, if there are few models, their crosses."""
    return f"Each point is a model{f', and its cross shows {cross}' if n <= CROSSES else ''}."


def own_said(own: Sequence[str], text: str) -> str:
    """Return a sentence about the user's own models, to append to a text; empty if there are none."""
    return f" {text}" if own else ""


def text_of(field: str) -> Any:
    """Return an encoding that takes text from a field. This is faster than creating it from a string."""
    return alt.Text(field=field, type="nominal")


def at(x: float) -> Any:
    """Return the encoding of a fixed position, in pixels from the left."""
    value: Any = alt.XValue
    return value(x)


def detail(field: str = "model") -> Any:
    """Return the encoding that draws one line per value of a field."""
    return alt.Detail(field=field, type="nominal")


def rows(sheet: Sheet) -> list[dict[str, Any]]:
    """Return a sheet as rows, with numbers rounded to five significant digits."""
    columns = {name: [_plain(v) for v in values] for name, values in sheet.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def dimmed(opacity: float) -> alt.ExprRef:
    """Return an opacity that is lower while some models are highlighted."""
    return alt.ExprRef(f"busy ? {opacity / 3:.3g} : {opacity:.3g}")


def pinned() -> alt.ExprRef:
    """Return the colour of a pinned model."""
    return alt.ExprRef(f"{[ink(hue) for hue in PINS]}[({PINNED} - 1) % {len(PINS)}]")


def badges(base: Any, *, dx: float = 0, dy: float = 0) -> list[Any]:
    """Return charts that draw the numbers of pinned models on their marks; their names are below the figure.

    Names on the marks would overlap each other and other text, and would be cut off at the edges.
    """
    rows = base.transform_filter(PINNED)
    look = {"size": 160, "opacity": 1, "stroke": ink("paper"), "strokeWidth": 1, "xOffset": dx, "yOffset": dy}
    number = {"text": alt.ExprRef(PINNED), "fontSize": 10, "fontWeight": "bold", "dx": dx, "dy": dy}
    return [rows.mark_point(**look, color=pinned()), rows.mark_text(**number, color=ink("paper"))]


def halo() -> dict[str, Any]:
    """Return the style of text on marks, which is outlined in the colour of the background."""
    return {"stroke": ink("paper"), "strokeWidth": 3, "strokeJoin": "round"}


def spread(places: Mapping[str, float], apart: float) -> dict[str, float]:
    """Move overlapping labels apart, towards higher values and as little as necessary."""
    placed: dict[str, float] = {}
    free = -math.inf
    for name, place in sorted(places.items(), key=lambda item: (item[1], item[0])):
        placed[name] = max(float(place), free)
        free = placed[name] + apart
    return placed


def ink(name: str) -> Any:
    """Return a colour as the value of an encoding or a mark."""
    return colour(name)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def _params(own: set[str]) -> list[dict[str, Any]]:
    return [
        {"name": "own", "value": dict.fromkeys(sorted(own), 1)},
        {"name": "pins", "value": {}},
        {"name": "found", "value": {}},
        {"name": "hover", "value": ""},
        {"name": "busy", "value": False},
    ]


def _bare(panel: Panel) -> Spec:
    # Validation costs more than drawing; the tests validate every figure.
    layers = [layer.to_dict(validate=False, context={"top_level": False}) for layer in panel.layers]
    spec: Spec = {"width": panel.width, "height": panel.height, **_hoisted(layers)}
    return {"title": panel.title, **spec} if panel.title else spec


def _hoisted(layers: list[Spec]) -> Spec:
    """Say once what all layers encode alike: pages of many figures are mostly axes otherwise."""
    encodings = [layer.get("encoding", {}) for layer in layers]
    first = encodings[0]
    shared = {k: first[k] for k in ("x", "y") if k in first and all(e.get(k) == first[k] for e in encodings)}
    if not shared:
        return {"layer": layers}
    kept = [{**la, "encoding": {k: v for k, v in la["encoding"].items() if k not in shared}} for la in layers]
    return {"encoding": shared, "layer": kept}


class Frames:
    """The tables as frames, each of which is created once, and the queries that several figures share.

    Parameters
    ----------
    own : sequence of str
        The user's own models.
    """

    def __init__(self, tables: ReportTables, own: Sequence[str] = ()) -> None:
        self.tables = tables
        self.own = tuple(sorted(set(own)))
        self._frames: dict[str, pl.DataFrame] = {}

    def __getitem__(self, name: str) -> pl.DataFrame:
        """Return a table as a frame."""
        if name not in self._frames:
            self._frames[name] = cast(pl.DataFrame, pl.from_arrow(self.tables[name]))
        return self._frames[name]

    @cached_property
    def results(self) -> pl.DataFrame:
        """The results that have a value."""
        return self["results"].filter(pl.col("value").is_finite())

    @cached_property
    def whole(self) -> pl.DataFrame:
        """The results over all images."""
        return self.results.filter(slice="all")

    @cached_property
    def datasets(self) -> list[str]:
        """The data sets in the order of the results."""
        return self["results"]["dataset"].unique(maintain_order=True).to_list()

    def metrics(self, dataset: str) -> list[str]:
        """Return the metrics of a data set that have values over all images, in reading order."""
        return sorted(self.whole.filter(dataset=dataset)["metric"].unique(), key=reading_order)

    def of(self, dataset: str, metric: str, slice: str = "all") -> pl.DataFrame:
        """Return the values of a metric, one row per model, sorted by model."""
        return self.results.filter(dataset=dataset, metric=metric, slice=slice).sort("model")

    def both(self, x: tuple[str, ...], y: tuple[str, ...]) -> pl.DataFrame:
        """Return models with values at x and y: ``model``, ``x``, ``x_lo``, ``x_hi``, ``x_n`` and those of y.

        Parameters
        ----------
        x, y : tuple of str
            Data set, metric and, unless it is ``all``, slice.
        """
        left, right = (self.of(*end).select("model", *_COLUMNS) for end in (x, y))
        names = {c: f"x_{c}" for c in _COLUMNS} | {"value": "x"}
        return left.rename(names).join(
            right.rename({c: f"y_{c}" for c in _COLUMNS} | {"value": "y"}), on="model"
        )

    def fit(self, x: tuple[str, str], y: tuple[str, str], scale: str) -> dict[str, Any] | None:
        """Return the fit to all models; see `fits`. None if it is missing."""
        found = self.fits(x, y, scale).filter(models="all")
        return found.row(0, named=True) if found.height else None

    def fits(self, x: tuple[str, str], y: tuple[str, str], scale: str) -> pl.DataFrame:
        """Return the fits on a scale between two data sets and metrics over all images."""
        (dataset_x, metric_x), (dataset_y, metric_y) = x, y
        return self["fits"].filter(
            pl.col("slope").is_finite(),
            dataset_x=dataset_x,
            metric_x=metric_x,
            dataset_y=dataset_y,
            metric_y=metric_y,
            slice_x="all",
            slice_y="all",
            scale=scale,
        )


_COLUMNS = ("value", "lo", "hi", "n")


def column(frame: pl.DataFrame, name: str, times: float = 1.0) -> list[Any]:
    """Return a column as a list of values times a factor, with None for missing values."""
    values = frame[name].to_list()
    if times == 1.0:
        return values
    return [None if v is None or not math.isfinite(v) else v * times for v in values]


def axis(name: str) -> str:
    """Return the title of an axis of a metric, with its unit."""
    return f"{metric(name).axis} (%)" if metric(name).percent else metric(name).axis


def short(name: str) -> str:
    """Return a metric in few words."""
    return metric(name).short


def format_interval(lo: float | None, hi: float | None, decimals: int = 1) -> str:
    """Return ``11.6 to 12.1``; empty if there is no interval."""
    return "" if lo is None or hi is None else f"{signed(lo, decimals)} to {signed(hi, decimals)}"


def signed(value: float, decimals: int = 1) -> str:
    """Return a number with a true minus sign."""
    return f"{value:.{decimals}f}".replace("-", "−")


def shortened(name: str, most: int) -> str:
    """Return a name cut in the middle to `most` characters, because its ends distinguish versions."""
    return name if len(name) <= most else f"{name[: most - 14]}…{name[-13:]}"


def slug(name: str) -> str:
    """Return a name for files and anchors."""
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


NAME_SIZE = 11
"""Size of the letters, in pixels."""


MOST_NAMES = 16
"""Names in a panel; further ones appear on pointing."""


_LETTER = 0.6 * NAME_SIZE
"""Width of a letter that the font's table lacks."""


_LONGEST = 30
"""Letters of a name; longer ones are shortened in the middle."""


_HALF_MARK = 4.0
"""Half the side of the square around a mark in which no text stands."""


_GAPS = (8.0, 13.0)
"""Distances of a name from its point that are tried, in pixels."""


PanelPoint = tuple[float, float]
"""A position in pixels, from the left and from the top."""


def place_names(
    points: Mapping[str, PanelPoint],
    order: Iterable[str],
    lines: Sequence[PanelPoint],
    size: tuple[float, float],
    *,
    own: Mapping[str, PanelPoint] | None = None,
) -> dict[str, tuple[str, PanelPoint]]:
    """Return the names that fit into the panel and their centres; names are placed greedily in `order`.

    Parameters
    ----------
    points : Mapping of str to (float, float)
        The marks, in pixels.
    order : iterable of str
        Names, the most important first.
    lines : sequence of (float, float)
        Further positions that names must not cover, such as points along a line.
    size : (float, float)
        Width and height of the panel.
    own : Mapping of str to (float, float)
        Points that already have names beside them.
    """
    taken = np.asfortranarray(np.array([*points.values(), *lines], float).reshape(-1, 2))
    boxes = [_beside_own(name, place, size) for name, place in (own or {}).items()]
    placed: dict[str, tuple[str, PanelPoint]] = {}
    for name in order:
        if len(placed) == MOST_NAMES:
            break
        text = shortened(name, _LONGEST)
        half = (0.5 * _wide(text), 0.62 * NAME_SIZE)
        for middle in _candidates(points[name], half):
            box = _box(middle, half)
            if _fits(box, size) and not _covers(box, taken) and not any(_overlap(box, b) for b in boxes):
                boxes.append(box)
                placed[name] = (text, middle)
                break
    return placed


def _wide(text: str, *, bold: bool = False) -> float:
    return width(text, NAME_SIZE, bold=bold) or _LETTER * len(text)


Box = tuple[float, float, float, float]
"""Left, top, right and bottom."""


def _candidates(point: PanelPoint, half: PanelPoint) -> Iterator[PanelPoint]:
    (x, y), (w, h) = point, half
    for gap in _GAPS:
        yield from ((x + gap + w, y), (x - gap - w, y), (x, y - gap - h), (x, y + gap + h))
        near = 0.7 * gap
        yield from ((x + a * (near + w), y + b * (near + h)) for a in (1, -1) for b in (1, -1))


def _box(middle: PanelPoint, half: PanelPoint) -> Box:
    (x, y), (w, h) = middle, half
    return x - w, y - h, x + w, y + h


def _beside_own(name: str, place: PanelPoint, size: tuple[float, float]) -> Box:
    wide = 12 / NAME_SIZE * _wide(name, bold=True) + 8
    right = place[0] <= size[0] / 2
    middle = place[0] + (wide / 2 if right else -wide / 2)
    return _box((middle, place[1]), (wide / 2, 8.0))


def _fits(box: Box, size: tuple[float, float]) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= size[0] and box[3] <= size[1]


def _covers(box: Box, marks: npt.NDArray[np.float64]) -> bool:
    # Comparisons of whole columns take a fifth of the time of reducing pairs of numbers.
    x, y = marks[:, 0], marks[:, 1]
    across = (x > box[0] - _HALF_MARK) & (x < box[2] + _HALF_MARK)
    return bool((across & (y > box[1] - _HALF_MARK) & (y < box[3] + _HALF_MARK)).any())


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
