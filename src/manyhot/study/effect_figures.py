"""Figures of a study: the effects of its claims, and every seed of every arm."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pyarrow as pa

from manyhot.core.effects import PERHAPS_LITTLE, SAME
from manyhot.evaluate.report.figures.bars import by_row
from manyhot.evaluate.report.figures.panel import (
    Panel,
    Sheet,
    at,
    compose,
    data,
    halo,
    ink,
    shortened,
    slug,
    text_of,
)
from manyhot.evaluate.report.figures.scatter import Side
from manyhot.report.figure import Axis, Figure
from manyhot.report.text import Metric, counted, with_minus
from manyhot.study.claims import EffectRow

_LINE = 20
"""Height of a row."""

_LEFT = 150
"""Width of the names of rows; with the plot and the numbers a panel fits a phone."""

_WIDTH = 190
_RIGHT = 140
"""Width of the numbers of effects."""

_LETTERS = 24
"""Characters of a name that fit there."""

_HEAD = 46
"""Characters of the comparison of a claim."""

_PANEL, _NAMES = 138, 110
"""Width of the plot of a metric's values, and of the names of arms at its left."""

_TITLE = 31
"""Characters of a line above it; twice as many in the wider panel of effects."""

_VERDICTS = {SAME: "no difference"}


def draw_effects(effects: pa.Table, metrics: Mapping[str, Metric]) -> list[Figure]:
    """Return the forest plot of all claims, with one panel per metric; empty if nothing was run."""
    rows = [row for row in effects.to_pylist() if row["effect"] is not None]
    if not rows:
        return []
    by_metric = {
        name: [r for r in rows if r["metric"] == name] for name in dict.fromkeys(r["metric"] for r in rows)
    }
    panels = [_forest(f"forest-{slug(name)}", metrics, own) for name, own in by_metric.items()]
    pooled = [r for r in rows if r["dataset"] is None]
    told = "; ".join(f"{_compared(r, metrics)}, {metrics[r['metric']].label}: {_verdict(r)}" for r in pooled)
    return [
        Figure(
            "forest",
            "models",
            "",
            "Effects of all claims",
            "Marks show differences at equal seeds. To the right of zero, the first side is better. Orange "
            "marks show the mean over all pairs of data set and network. The verdict is based on this mean "
            "unless pairs contradict each other. Blue marks show single pairs. Bars are 95 % intervals over "
            "seeds and, if they were resampled, images. The grey band is the margin, which was fixed "
            "beforehand.",
            f"{counted(len(pooled), 'claim')}: {told}.",
            compose(panels, columns=2),
            effects,
        )
    ]


def _compared(row: EffectRow, metrics: Mapping[str, Metric]) -> str:
    """Return both sides of a claim; the second may be a metric."""
    arm, other = "" if row["arm"] == "all" else f"{row['arm']} ", row["against"]
    return f"{arm}against {metrics[other].label if other in metrics else other}"


def _verdict(row: EffectRow) -> str:
    """Return the verdict in as few words as fit beside a claim."""
    side = str(row["verdict"]).removesuffix(PERHAPS_LITTLE)
    return _VERDICTS.get(side, side) + (", perhaps little" if side != row["verdict"] else "")


def _forest(name: str, metrics: Mapping[str, Metric], rows: Sequence[EffectRow]) -> Panel:
    claims = [list(own) for _, own in itertools.groupby(rows, lambda r: r["claim"])]
    metric = metrics[rows[0]["metric"]]
    heads, sheet = _forest_rows(claims, metrics)
    values = [r[c] for r in rows for c in ("effect", "lo", "hi", "margin") if r[c] is not None]
    values += [-r["margin"] for r in rows]
    axis = Axis.over(map(metric.draw, values), percent=False, n_ticks=4)
    unit = " (points)" if metric.percent else ""
    x = Side([f"Better by{unit} →"], (axis.lo, axis.hi), axis.ticks)
    n_rows = len(heads["row"]) + len(sheet["row"])
    sheets = {name: sheet, f"{name}-heads": heads, f"{name}-zero": {"x": [0.0]}}
    lower = ", lower is better" if metric.lower_is_better else ""
    title = {"text": textwrap.wrap(f"{metric.label}{lower}", 2 * _TITLE), "dx": -_LEFT}
    return Panel(_forest_layers(name, x, n_rows), sheets, _WIDTH, _LINE * n_rows, title)


def _forest_layers(name: str, x: Side, n_rows: int) -> list[Any]:
    y = by_row(n_rows)
    base: Any = alt.Chart(data(name)).encode(y)
    above: Any = alt.Chart(data(f"{name}-heads")).encode(y)
    zero: Any = alt.Chart(data(f"{name}-zero"))
    pooled, end = "datum.pooled", at(_WIDTH + _RIGHT)
    band = base.mark_rule(strokeWidth=_LINE, color=ink("grid"))
    bar = base.mark_rule(strokeWidth=1.5)
    dot = base.mark_point(filled=True, opacity=1)
    bold = {"fontWeight": "bold", **halo()}
    hue = _either(pooled, ink("own"), ink("mark"))
    return [
        band.encode(x.channel(alt.X, "band_lo"), alt.X2("band_hi")),
        zero.mark_rule(color=ink("axis")).encode(x.channel(alt.X, "x")),
        bar.encode(x.channel(alt.X, "lo"), alt.X2("hi"), color=hue),
        dot.encode(x.channel(alt.X, "x"), color=hue, size=_either(pooled, 80, 45)),
        above.mark_text(align="left", **bold).encode(at(-_LEFT), text_of("head")),
        above.mark_text(align="right", **bold).encode(end, text_of("verdict")),
        base.mark_text(align="left").encode(at(10 - _LEFT), text_of("label")),
        base.mark_text(align="right").encode(end, text_of("text")),
    ]


def _forest_rows(claims: Sequence[Sequence[EffectRow]], metrics: Mapping[str, Metric]) -> tuple[Sheet, Sheet]:
    """Return the heads of claims and the rows below them, with their places from the top."""
    heads: dict[str, list[Any]] = {"row": [], "head": [], "verdict": []}
    names = ("row", "label", "x", "lo", "hi", "band_lo", "band_hi", "pooled", "text")
    sheet: dict[str, list[Any]] = {name: [] for name in names}
    metric, place = metrics[claims[0][0]["metric"]], 0
    for own in claims:
        _append(heads, (place, shortened(_compared(own[0], metrics), _HEAD), _verdict(own[0])))
        # With a single pair, the mean is that pair.
        shown = own if len(own) > 2 else own[:1]
        for i, row in enumerate(shown, 1):
            drawn = [None if row[c] is None else metric.draw(row[c]) for c in ("effect", "lo", "hi")]
            margin = metric.draw(row["margin"])
            label = _place(own[-1] if len(shown) == 1 else row)
            pooled = row["dataset"] is None
            _append(sheet, (place + i, label, *drawn, -margin, margin, pooled, _effect_text(drawn, metric)))
        place += len(shown) + 1
    return heads, sheet


def _append(sheet: Mapping[str, list[Any]], values: Sequence[Any]) -> None:
    for column, value in zip(sheet.values(), values, strict=True):
        column.append(value)


def _place(row: EffectRow) -> str:
    if row["dataset"] is None:
        return f"all {row['n_pairs']} pairs"
    return shortened(", ".join(p for p in (row["dataset"], row["network"]) if p != "all"), _LETTERS)


def _effect_text(drawn: Sequence[float | None], metric: Metric) -> str:
    value, lo, hi = ("" if v is None else with_minus(v, 1 if metric.percent else 3) for v in drawn)
    return f"{value} ({lo} to {hi})" if lo else value


def _either(test: str, yes: Any, no: Any) -> Any:
    return alt.condition(test, alt.value(yes), alt.value(no))


def draw_seeds(
    runs: pa.Table, means: pa.Table, shown: Sequence[str], metrics: Mapping[str, Metric]
) -> list[Figure]:
    """Return one figure per data set and network. Each shows the metrics `shown` for every arm and seed."""
    of_all = [r for r in means.to_pylist() if r["slice"] == "all" and r["arm"] != "all"]
    wanted = [r for r in of_all if r["metric"] in shown]
    points = [r for r in runs.to_pylist() if r["slice"] == "all" and r["value"] == r["value"]]
    places = dict.fromkeys((r["dataset"], r["network"]) for r in wanted)
    return [_seeds(place, _at(wanted, place), _at(points, place), shown, metrics) for place in places]


def _at(rows: Sequence[EffectRow], place: tuple[str, str]) -> list[EffectRow]:
    return [row for row in rows if (row["dataset"], row["network"]) == place]


def _seeds(
    place: tuple[str, str],
    means: Sequence[EffectRow],
    points: Sequence[EffectRow],
    shown: Sequence[str],
    metrics: Mapping[str, Metric],
) -> Figure:
    name = f"seeds-{slug(' '.join(place))}"
    arms = list(dict.fromkeys(r["arm"] for r in means))
    panels = [
        _dots(
            f"{name}-{slug(metric)}",
            metrics[metric],
            arms,
            [r for r in means if r["metric"] == metric],
            [r for r in points if r["metric"] == metric],
        )
        for metric in dict.fromkeys(m for m in shown if any(r["metric"] == m for r in means))
    ]
    return Figure(
        name,
        "models",
        place[0],
        f"Every seed, {place[0]}, {place[1]}",
        "Blue marks show each network. Dark marks show the mean over networks, with its 95 % interval over "
        "seeds and, if they were resampled, images.",
        f"{counted(len(arms), 'arm')} in {counted(len(panels), 'metric')}, as in the table of results.",
        compose(panels),
        pa.Table.from_pylist([r for r in points if r["metric"] in shown]),
    )


def _dots(
    name: str, metric: Metric, arms: Sequence[str], means: Sequence[EffectRow], points: Sequence[EffectRow]
) -> Panel:
    middle = _drawn(means, arms, metric, ("value", "lo", "hi"))
    single = _drawn(points, arms, metric, ("value",))
    middle["label"] = [shortened(r["arm"], _LETTERS - 5) for r in means]
    values = [v for v in (*middle["value"], *middle["lo"], *middle["hi"], *single["value"]) if v is not None]
    axis = Axis.over(values, percent=metric.percent and min(values) >= 0, n_ticks=3)
    x = Side(["Per cent" if metric.percent else "Value"], (axis.lo, axis.hi), axis.ticks)
    y = by_row(len(arms))
    base: Any = alt.Chart(data(name)).encode(y)
    dots: Any = alt.Chart(data(f"{name}-seeds")).encode(y, x.channel(alt.X, "value"))
    bar = base.mark_rule(strokeWidth=1.5, color=ink("ink"), yOffset=-3, y2Offset=-3)
    mean = base.mark_point(size=55, color=ink("ink"), opacity=1, yOffset=-3)
    layers = [
        bar.encode(x.channel(alt.X, "lo"), alt.X2("hi")),
        mean.encode(x.channel(alt.X, "value")),
        dots.mark_point(size=26, color=ink("mark"), opacity=0.8, yOffset=5),
        base.mark_text(align="right", dx=-8).encode(at(0), text_of("label")),
    ]
    better = "lower" if metric.lower_is_better else "higher"
    lines = textwrap.wrap(metric.label, _TITLE)
    title = {"text": lines, "subtitle": f"{better} is better", "dx": -_NAMES}
    return Panel(layers, {name: middle, f"{name}-seeds": single}, _PANEL, 24 * len(arms), title)


def _drawn(
    rows: Sequence[EffectRow], arms: Sequence[str], metric: Metric, columns: Sequence[str]
) -> dict[str, Any]:
    sheet: dict[str, Any] = {"row": [arms.index(r["arm"]) for r in rows]}
    for column in columns:
        sheet[column] = [None if r[column] is None else metric.draw(r[column]) for r in rows]
    return sheet
