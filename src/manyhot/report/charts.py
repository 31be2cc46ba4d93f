"""The geometry of the drawings: where everything lies, before it becomes SVG and CSS."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from manyhot.report.build import LOOKS, TOLD, BySize, Column, DataSet, Model, Value
from manyhot.report.metrics import Metric
from manyhot.report.scales import Axis, fences, tick_text

FEW = 12
"""Models up to which each is named in a figure."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the table.

    Attributes
    ----------
    text, note : str
        The number, and what stands in its tooltip.
    place : str
        Where it lies on the axis, in percent as CSS variables.
    side : str
        ``below`` or ``above`` the axis, or empty.
    """

    text: str
    note: str
    place: str = ""
    side: str = ""


@dataclass(frozen=True)
class DrawnColumn:
    """A column of the table with its axis; `counted` is its n, or a range if the models differ in it."""

    column: Column
    ends: tuple[str, str]
    counted: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Tick:
    """A tick of an axis: its place and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Frame:
    """The plotting area of a figure, in user units of its view box."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float


@dataclass(frozen=True)
class Point:
    """A model in the scatter plot.

    Attributes
    ----------
    model : Model
    x, y : float
    cross : str
        SVG path of the two intervals; empty without any.
    tip : str
        All of it in words.
    outside : bool
        Whether it lies beyond the axes, and is drawn at their edge.
    named : bool
        Whether the name stands beside it at all times.
    label_x, label_y, anchor : float, float, str
        Where the name stands.
    """

    model: Model
    x: float
    y: float
    cross: str
    tip: str
    outside: bool
    named: bool
    label_x: float
    label_y: float
    anchor: str


@dataclass(frozen=True)
class Scatter:
    """Top-1 against ReaL: both axes are the same, so that the diagonal means equal."""

    frame: Frame
    x: Metric
    y: Metric
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    points: tuple[Point, ...]

    @property
    def n_outside(self) -> int:
        """How many models lie beyond the axes."""
        return sum(p.outside for p in self.points)


@dataclass(frozen=True)
class Line:
    """A model in a panel.

    Attributes
    ----------
    model : Model
    path, whiskers : str
        SVG paths of its line and of its intervals; no intervals for one of many.
    dots : tuple of (float, float)
    tip : str
        All of it in words; empty above `TOLD` models.
    """

    model: Model
    path: str
    whiskers: str
    dots: tuple[tuple[float, float], ...]
    tip: str


@dataclass(frozen=True)
class Panel:
    """A metric by size of the label set."""

    frame: Frame
    metric: Metric
    x_ticks: tuple[Tick, ...]
    counts: tuple[str, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    median: str


def draw_column(column: Column, models: Sequence[Model]) -> DrawnColumn:
    """Lay out a column of the table on an axis that all its cells share."""
    m = column.metric
    known = [v for v in column.values if v is not None and v.known]
    axis = Axis.over(
        (m.draw(e) for v in _typical(column.values, models) for e in _extent(v)), percent=m.percent, n_ticks=6
    )
    return DrawnColumn(
        column,
        (tick_text(axis.lo), tick_text(axis.hi)),
        count_range(v.n for v in known),
        tuple(_cell(v, column, axis) for v in column.values),
    )


def draw_scatter(dataset: DataSet) -> Scatter | None:
    """Lay out top-1 against ReaL; None where one of them is missing."""
    x, y = dataset.column("top1"), dataset.column("real1")
    if x is None or y is None:
        return None
    frame = Frame(480, 460, 44, 468, 12, 416)
    both = [
        (model, a, b)
        for model, a, b in zip(dataset.models, x.values, y.values, strict=True)
        if a is not None and b is not None and a.known and b.known
    ]
    if not both:
        return None
    shown = [*_typical(x.values, dataset.models), *_typical(y.values, dataset.models)]
    axis = Axis.over((100 * e for v in shown for e in _extent(v)), percent=True, n_ticks=8)
    drawn = [_point(model, a, b, axis, frame, x, y) for model, a, b in both]
    return Scatter(
        frame,
        x.metric,
        y.metric,
        _ticks(axis, frame.left, frame.right),
        _ticks(axis, frame.bottom, frame.top),
        # What is drawn last lies on top.
        tuple(sorted(_named(drawn, frame), key=lambda p: p.model.own)),
    )


def draw_panels(dataset: DataSet) -> tuple[Panel, ...]:
    """Lay out accuracy by set size, one panel a metric, all on one axis where they share a unit."""
    drawn = [b for b in dataset.by_size if b.metric.percent] or list(dataset.by_size)
    if not drawn:
        return ()
    values = [
        (by.metric.draw(e), model)
        for by in drawn
        for of_size in by.values
        for model, v in zip(dataset.models, of_size, strict=True)
        if v is not None and v.known
        for e in (_extent(v) if model.look is not None else (v.value,))
    ]
    axis = Axis.over((v for v, _ in values), percent=drawn[0].metric.percent)
    return tuple(_panel(by, dataset.models, axis, dataset.decimals) for by in drawn)


def count_range(counts: Iterable[int]) -> str:
    """Return an n, or the range of several."""
    found = list(counts)
    if not found:
        return "0"
    lo, hi = min(found), max(found)
    return f"{lo:,}" if lo == hi else f"{lo:,}–{hi:,}"


def in_words(value: Value, metric: Metric, decimals: int) -> str:
    """Return a value with its interval and its n."""
    text = metric.text(value.value, decimals) + metric.unit
    if value.lo is not None and value.hi is not None:
        text += f", {_interval(value, metric, decimals)}"
    return f"{text}, n {value.n:,}"


def _interval(value: Value, metric: Metric, decimals: int) -> str:
    assert value.lo is not None
    assert value.hi is not None
    return f"{metric.text(value.lo, decimals)} to {metric.text(value.hi, decimals)}"


def _extent(value: Value) -> tuple[float, ...]:
    ends = (value.lo, value.hi)
    return (value.value, *(e for e in ends if e is not None))


def _typical(values: Sequence[Value | None], models: Sequence[Model]) -> list[Value]:
    """Return the values that an axis must hold: the user's own, and those that are not far out."""
    known = [(v, m) for v, m in zip(values, models, strict=True) if v is not None and v.known]
    low, high = fences([v.value for v, _ in known])
    return [v for v, m in known if low <= v.value <= high or m.own]


def _cell(value: Value | None, column: Column, axis: Axis) -> Cell:
    if value is None:
        return Cell("–", "not judged")
    if not value.known:
        return Cell("–", f"undefined: n {value.n:,}, {value.n_skipped:,} skipped")
    m = column.metric
    places = [("v", value.value)]
    note = "no interval"
    if value.lo is not None and value.hi is not None:
        places += [("l", value.lo), ("h", value.hi)]
        note = _interval(value, m, column.decimals)
    # Six digits: the page sorts by them, and one image of 50,000 is a fifteen-thousandth of a usual axis.
    style = ";".join(f"--{name}:{axis.at(m.draw(v), 0, 100):.6g}" for name, v in places)
    side = "below" if m.draw(value.value) < axis.lo else "above" if m.draw(value.value) > axis.hi else ""
    return Cell(m.text(value.value, column.decimals), f"{note}, n {value.n:,}", style, side)


def _ticks(axis: Axis, start: float, stop: float) -> tuple[Tick, ...]:
    return tuple(Tick(round(axis.at(t, start, stop), 1), tick_text(t)) for t in axis.ticks)


def _point(model: Model, a: Value, b: Value, axis: Axis, frame: Frame, x: Column, y: Column) -> Point:
    def across(v: float) -> float:
        return round(axis.at(axis.nearest(100 * v), frame.left, frame.right), 1)

    def up(v: float) -> float:
        return round(axis.at(axis.nearest(100 * v), frame.bottom, frame.top), 1)

    px, py = across(a.value), up(b.value)
    outside = any(axis.nearest(100 * v.value) != 100 * v.value for v in (a, b))
    cross = ""
    if a.lo is not None and a.hi is not None and not outside:
        cross += f"M{across(a.lo)} {py}H{across(a.hi)}"
    if b.lo is not None and b.hi is not None and not outside:
        cross += f"M{px} {up(b.lo)}V{up(b.hi)}"
    parts = (f"{c.metric.label} {in_words(v, c.metric, c.decimals)}" for c, v in ((x, a), (y, b)))
    tip = f"{model.name}: {'; '.join(parts)}"
    left = px > (frame.left + frame.right) / 2
    beside = (px - 8, "end") if left else (px + 8, "start")
    return Point(model, px, py, cross, tip, outside, False, beside[0], py + 4, beside[1])


_Box = tuple[float, float, float, float]
_BESIDE = (
    (8, 4, "start"),
    (-8, 4, "end"),
    (6, -10, "start"),
    (-6, 18, "end"),
    (-6, -10, "end"),
    (6, 18, "start"),
)
"""Where a name may stand relative to its point, the best place first."""


def _named(points: Sequence[Point], frame: Frame) -> list[Point]:
    """Name highlighted models, then the best and the last, or all of a few: where there is room."""
    taken: list[_Box] = [(p.x - 3, p.y - 3, p.x + 3, p.y + 3) for p in points]
    inside = [p for p in points if not p.outside]
    ends = {p.model.index for p in (inside if len(inside) <= FEW else (inside[0], inside[-1]))}
    named: dict[int, Point] = {}
    for p in sorted(points, key=lambda p: (not p.model.own, p.model.index)):
        if p.model.own or p.model.index in ends:
            placed = _beside(p, taken, frame)
            if placed is not None:
                named[p.model.index], box = placed
                taken.append(box)
    return [named.get(p.model.index, p) for p in points]


def _beside(p: Point, taken: Sequence[_Box], frame: Frame) -> tuple[Point, _Box] | None:
    # Text is measured by a rule of thumb, as its font is the reader's: 6.6 units a letter at 12 units.
    width, height = 6.6 * len(p.model.name), 13.0
    for dx, dy, anchor in _BESIDE:
        x, y = p.x + dx, p.y + dy
        start = x if anchor == "start" else x - width
        box = (start, y - height + 3, start + width, y + 3)
        inside = box[0] >= frame.left and box[2] <= frame.width and box[1] >= 0 and box[3] <= frame.bottom
        if inside and not any(_overlap(box, other) for other in taken):
            return replace(p, named=True, label_x=x, label_y=y, anchor=anchor), box
    return None


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@dataclass(frozen=True)
class _SizePlot:
    """What all lines of a panel share."""

    by: BySize
    axis: Axis
    frame: Frame
    decimals: int

    @property
    def xs(self) -> list[float]:
        n = len(self.by.sizes)
        step = (self.frame.right - self.frame.left) / n
        return [round(self.frame.left + step * (i + 0.5), 1) for i in range(n)]

    def up(self, value: float) -> float:
        return round(self.axis.at(self.by.metric.draw(value), self.frame.bottom, self.frame.top), 1)

    def line(self, model: Model, shift: float, told: bool) -> Line:
        values = [
            (round(x + shift, 1), size, v)
            for x, size, of_size in zip(self.xs, self.by.sizes, self.by.values, strict=True)
            if (v := of_size[model.index]) is not None and v.known
        ]
        dots = tuple((x, self.up(v.value)) for x, _, v in values)
        words = ", ".join(
            f"{self.by.metric.text(v.value, self.decimals)} with {size}" for _, size, v in values
        )
        tip = f"{model.name}: {words} labels" if told else ""
        if model.look is None:
            return Line(model, _polyline(dots), "", (), tip)
        ends = [(x, v.lo, v.hi) for x, _, v in values]
        whiskers = (
            f"M{x} {self.up(lo)}V{self.up(hi)}" for x, lo, hi in ends if lo is not None and hi is not None
        )
        return Line(model, _polyline(dots), "".join(whiskers), dots, tip)


def _panel(by: BySize, models: Sequence[Model], axis: Axis, decimals: int) -> Panel:
    frame = Frame(300, 300, 40, 290, 14, 244)
    plot = _SizePlot(by, axis, frame, decimals)
    shift, told = _dodge(models), len(models) <= TOLD
    # What is drawn last lies on top.
    ordered = sorted(models, key=lambda m: (m.own, -m.index))
    lines = (plot.line(model, shift(model), told) for model in ordered)
    medians = _polyline((x, plot.up(m)) for x, m in zip(plot.xs, by.medians, strict=True))
    return Panel(
        frame,
        by.metric,
        tuple(Tick(x, size) for x, size in zip(plot.xs, by.sizes, strict=True)),
        tuple(count_range(ends) for ends in by.counts),
        _ticks(axis, frame.bottom, frame.top),
        tuple(line for line in lines if line.path),
        medians if len(models) > LOOKS else "",
    )


def _dodge(models: Sequence[Model]) -> Callable[[Model], float]:
    """Return how far to move a model aside, so that whiskers at one size do not hide each other."""
    middle = (len({m.look for m in models} - {None}) - 1) / 2
    return lambda model: 0.0 if model.look is None else (model.look - middle) * 5


def _polyline(points: Iterable[tuple[float, float]]) -> str:
    joined = "L".join(f"{x} {y}" for x, y in points)
    return joined and f"M{joined}"
