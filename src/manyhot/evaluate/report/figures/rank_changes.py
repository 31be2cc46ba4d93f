"""Changes of rank: how similar the rankings by two metrics or data sets are, and the path of each model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt
import polars as pl

from manyhot.evaluate.report.figures.bars import NO_MODELS, strips
from manyhot.evaluate.report.figures.panel import (
    FOCUS,
    PINNED,
    Frames,
    Panel,
    Sheet,
    badges,
    column,
    compose,
    data,
    detail,
    dimmed,
    halo,
    ink,
    pinned,
    shortened,
    spread,
    text_of,
)
from manyhot.evaluate.report.figures.scatter import Side, plain_side
from manyhot.report.figure import Figure
from manyhot.report.text import listed, metric, title_of
from manyhot.tables.result_tables import headline

_MOST = 80
"""Maximum number of models in a bump chart; if there are more, the best `BEST` and all own ones are drawn."""


BEST = 40
ORDERS = 10
"""Maximum number of pairs of rankings in a list; all are in the table."""


COLUMNS = 10
"""Metrics and data sets of a bump chart."""


MOVERS = 6
"""Number of models that are named because they change rank the most."""


_LONGEST = 32
"""Letters of a name beside a bump chart."""


DENSE = 0.6
"""Share of all pairs of columns from which on they are drawn as a square."""


_HUES = ("purple", "green", "ochre")
Column = tuple[str, str]
"""A data set and a metric."""


def draw_ranks(frames: Frames) -> Iterator[Figure | None]:
    """Yield the figures of the section."""
    yield order_agreement(frames)
    yield bump(frames)


def order_agreement(frames: Frames) -> Figure | None:
    """Plot Kendall's tau between columns: as a matrix if most pairs are known, otherwise as a list."""
    rows = frames["ranks"].filter(pl.col("tau").is_finite(), slice_x="all", slice_y="all")
    if rows.is_empty():
        return None
    ends = [
        ((r["dataset_x"], r["metric_x"]), (r["dataset_y"], r["metric_y"])) for r in rows.iter_rows(named=True)
    ]
    columns = list(dict.fromkeys(end for pair in ends for end in pair))
    dense = len(columns) > 2 and rows.height >= DENSE * len(columns) * (len(columns) - 1) / 2
    panel = _square(rows, ends, columns) if dense else _list(rows[:ORDERS], ends[:ORDERS])
    least = rows.sort("tau").row(0, named=True)
    n = rows.height
    left_out = (
        f" Only {ORDERS} of {n:,} pairs of orders are shown; the table contains all." if n > ORDERS else ""
    )
    return Figure(
        "rank-agreement",
        "ranks",
        "",
        "How similar the orders of the models are",
        "Kendall's tau compares two orders of the same models. It is 1 if all pairs of models are in the "
        "same order in both, and 0 if as many pairs are reversed as not."
        + (
            ""
            if dense
            else _bars_said(rows, frames.tables.over(*rows["dataset_x"], *rows["dataset_y"])) + left_out
        ),
        f"Least similar: {_named(least)}, tau {least['tau']:.2f}. {_swaps_said(least)}",
        compose([panel]),
        rows.to_arrow(),
    )


def _bars_said(rows: pl.DataFrame, over: str) -> str:
    """Return what the bars around tau are, as far as there are any."""
    known = [n for n in ("lo", "lo_models") if rows[n].null_count() < rows.height]
    said = {
        "lo": f"the thick bar is its 95 % interval {over}",
        "lo_models": "the thin line is its 95 % interval over families",
    }
    if known == ["lo_models"]:
        return " The line is its 95 % interval over families of models."
    text = ", and ".join(said[n] for n in known)
    return f" {text[0].upper()}{text[1:]}{' of models' if 'lo_models' in known else ''}." if text else ""


def _named(row: dict[str, Any]) -> str:
    return _pair_label((row["dataset_x"], row["metric_x"]), (row["dataset_y"], row["metric_y"]))


def _pair_label(x: Column, y: Column) -> str:
    if x[1] == y[1]:
        return f"{_brief(x[1])}: {title_of(x[0])} and {title_of(y[0])}"
    if x[0] == y[0]:
        return f"{_brief(x[1])} and {_brief(y[1])}, {title_of(x[0])}"
    return f"{_brief(x[1])} on {title_of(x[0])} and {_brief(y[1])} on {title_of(y[0])}"


def _brief(name: str) -> str:
    return metric(name).label


def _swaps_said(row: dict[str, Any]) -> str:
    beyond = row["n_beyond_noise"]
    noise = "" if beyond is None else f", {beyond:,} of them beyond noise"
    return f"{row['n_swapped']:,} of {row['n_pairs']:,} pairs of models change order{noise}."


def _list(rows: pl.DataFrame, ends: list[tuple[Column, Column]]) -> Panel:
    labels = [_pair_label(*pair) for pair in ends]
    middle = {
        "label": labels,
        "x": column(rows, "tau"),
        "lo": column(rows, "lo_models"),
        "hi": column(rows, "hi_models"),
        "inner_lo": column(rows, "lo"),
        "inner_hi": column(rows, "hi"),
        "swaps": [_swaps_said(row) for row in rows.iter_rows(named=True)],
        "text": [
            f"{tau:.2f} · {s:,} of {n:,} pairs swap"
            for tau, s, n in zip(rows["tau"], rows["n_swapped"], rows["n_pairs"], strict=True)
        ],
    }
    lows = [v for name in ("x", "lo", "inner_lo") for v in middle[name] if v is not None]
    side = plain_side(["Kendall's tau: 1 is the same order"], [*lows, 1.0], percent=False)
    tips = [("", "label"), ("Kendall's tau", "x", "3", "", "inner_lo", "inner_hi"), ("", "swaps")]
    return strips("agreement", NO_MODELS, middle, side, tips=tips, width=560, above=True)


def _square(rows: pl.DataFrame, ends: list[tuple[Column, Column]], columns: list[Column]) -> Panel:
    label = {c: f"{_brief(c[1])}, {title_of(c[0])}" for c in columns}
    place = {c: i for i, c in enumerate(columns)}
    # Below the diagonal only: the other half would say the same again.
    cells = [(max(pair, key=place.__getitem__), min(pair, key=place.__getitem__)) for pair in ends]
    sheet = {
        "y": [label[low] for low, _ in cells],
        "x": [label[high] for _, high in cells],
        "tau": column(rows, "tau"),
        "lo": column(rows, "lo"),
        "hi": column(rows, "hi"),
        "text": [f"{tau:.2f}" for tau in rows["tau"]],
        "swaps": [_swaps_said(row) for row in rows.iter_rows(named=True)],
    }
    order = list(label.values())
    steps = [0.5, 0.7, 0.8, 0.9, 0.95]
    axis: dict[str, Any] = {"grid": False, "labelLimit": 260, "labelColor": ink("ink")}
    base: Any = alt.Chart(data("agreement")).encode(
        alt.X("x:N", sort=order, title=None, axis=alt.Axis(labelAngle=-40, **axis)),
        alt.Y("y:N", sort=order, title=None, axis=alt.Axis(**axis)),
    )
    shade = alt.Scale(type="threshold", domain=steps, range=[ink(f"heat{i}") for i in range(6)])
    dark = alt.condition("datum.tau >= 0.9", alt.value(ink("on-dark")), alt.value(ink("on-light")))
    layers = [
        base.mark_rect(stroke=ink("paper"), strokeWidth=2).encode(
            alt.Color("tau:Q", scale=shade, legend=None)
        ),
        base.mark_text(fontSize=12).encode(text_of("text"), color=dark),
    ]
    tips = [("", "y"), ("and", "x"), ("Kendall's tau", "tau", "3", "", "lo", "hi"), ("", "swaps")]
    width, height = (side * (len(columns) - 1) for side in (44, 30))
    return Panel(layers, {"agreement": sheet}, width, height, "", tips)


def bump(frames: Frames) -> Figure | None:
    """Plot the rank of each model by each metric on each data set, with one line per model."""
    columns = [(d, m) for m in headline() for d in frames.datasets if m in frames.metrics(d)][:COLUMNS]
    places = _places(frames, columns)
    if len(columns) < 2 or len(places) < 3:
        return None
    total = len(places)
    shown = _shown(places, frames.own)
    if len(shown) < total:
        places = _places(frames, columns, shown)
    named = _movers(places, shown, frames.own)
    panel = _bumps(places, shown, named, columns)
    moved = max(shown, key=lambda m: _moved(places[m]))
    own = " and your own" if set(frames.own) & set(shown) else ""
    cut = (
        "" if len(shown) == total else f" Only the best {BEST}{own} of {total:,} models are drawn and ranked."
    )
    return Figure(
        "rank-changes",
        "ranks",
        "",
        "How models change rank",
        "Each line is a model. The best model is at the top of each column, and ties share a rank. "
        f"{'Your own models and the' if own else 'The'} models that move the most are named.{cut}"
        + _absent_said(frames, columns, places),
        f"{moved} moves the most: between ranks {min(places[moved])} and {max(places[moved])} of "
        f"{len(shown)}.",
        compose([panel], frames.own),
        _bump_table(places, columns),
    )


def _absent_said(frames: Frames, columns: list[Column], places: dict[str, list[int]]) -> str:
    """Return which models lack a value in one of the columns, as a sentence to follow others."""
    every = {m for d, name in columns for m in frames.of(d, name)["model"]}
    absent = sorted(every - set(places), key=lambda m: (m not in frames.own, m))
    return f" Models without some of these values are not drawn: {listed(absent, 4)}." if absent else ""


def _places(frames: Frames, columns: list[Column], among: Sequence[str] = ()) -> dict[str, list[int]]:
    """Return the places of the models that have a value in every column, among some or all."""
    found = [dict(zip(f["model"], f["value"], strict=True)) for f in (frames.of(d, m) for d, m in columns)]
    common = set.intersection(*(set(f) for f in found)) if found else set()
    common &= set(among) or common
    places: dict[str, list[int]] = {m: [] for m in sorted(common)}
    for values in found:
        # Equals share a place, as in the tables: names say nothing about who is better.
        ordered = sorted((values[m] for m in common), reverse=True)
        for model in places:
            places[model].append(ordered.index(values[model]) + 1)
    return places


def _moved(places: list[int]) -> int:
    return max(places) - min(places)


def _shown(places: dict[str, list[int]], own: tuple[str, ...]) -> list[str]:
    if len(places) <= _MOST:
        return list(places)
    best = sorted(places, key=lambda m: places[m][0])[:BEST]
    return sorted({*best, *(m for m in own if m in places)})


def _movers(places: dict[str, list[int]], shown: list[str], own: tuple[str, ...]) -> dict[str, str]:
    """Return the models that are named, with their colours."""
    movers = sorted((m for m in shown if m not in own), key=lambda m: (-_moved(places[m]), m))[:MOVERS]
    return {m: _HUES[i % len(_HUES)] for i, m in enumerate(movers)} | {m: "own" for m in own if m in shown}


def _bumps(
    places: dict[str, list[int]], shown: list[str], named: dict[str, str], columns: list[Column]
) -> Panel:
    last = max(max(places[m]) for m in shown)
    width, height = max(360, 84 * (len(columns) - 1)), max(260, min(7 * last, 360))
    sheet: dict[str, list[Any]] = {
        "model": [m for m in shown for _ in columns],
        "step": [f"{_brief(m)}, {title_of(d)}" for d, m in columns] * len(shown),
        "at": list(range(len(columns))) * len(shown),
        "y": [p for m in shown for p in places[m]],
        "hue": [named.get(m, "") for m in shown for _ in columns],
    }
    marked = {m: places[m] for m in shown if m in named}
    ends = _ends(marked, named, len(columns) - 1, 14 * last / height)
    y = Side([""], (last + 0.5, 0.5), [], "", {"grid": False, "labels": False})
    tips = (("By", "step"), ("Rank", "y", "0", ""))
    layers = _bump_layers(_top(columns), y)
    return Panel(layers, {"bump": sheet, "bump-ends": ends}, width, height, "", tips)


def _top(columns: list[Column]) -> Side:
    """Return the axis above: a metric and a data set over several lines."""
    steps = [f"{_broken(_brief(m))}|{_broken(title_of(d))}" for d, m in columns]
    labels = f"split({json.dumps(steps)}[datum.value], '|')"
    lines = max(step.count("|") for step in steps)
    axis = {"orient": "top", "labelPadding": 10 + 14 * lines}
    return Side([""], (-0.15, len(steps) - 0.85), list(range(len(steps))), labels, axis)


def _ends(places_of: dict[str, list[int]], hues: dict[str, str], last: int, apart: float) -> Sheet:
    """Return the names at both ends of lines, none on another."""
    rows = []
    for at, side in ((0, "left"), (last, "right")):
        placed = spread({m: places[at] for m, places in places_of.items()}, apart)
        for m, places in places_of.items():
            name = shortened(m, _LONGEST)
            text = f"{name} {places[at]}" if at == 0 else f"{places[at]} {name}"
            rows.append(
                {"model": m, "at": at, "place": placed[m], "text": text, "hue": hues[m], "side": side}
            )
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


def _bump_layers(x: Side, y: Side) -> list[Any]:
    base: Any = alt.Chart(data("bump")).encode(x.channel(alt.X, "at"), y.channel(alt.Y, "y"), detail())
    hues = alt.Scale(domain=[*_HUES, "own"], range=[ink(h) for h in (*_HUES, "own")])
    hue = alt.Color("hue:N", scale=hues, legend=None)
    ends: Any = alt.Chart(data("bump-ends")).encode(
        x.channel(alt.X, "at"), y.channel(alt.Y, "place"), hue, text_of("text")
    )
    marked = base.transform_filter("datum.hue")
    layers = [
        base.transform_filter("!datum.hue").mark_line(strokeWidth=1, opacity=dimmed(0.5), color=ink("faint")),
        base.mark_line(strokeWidth=7, opacity=0.001, color=ink("faint")),
        marked.mark_line(strokeWidth=2.5, opacity=dimmed(1)).encode(hue),
        marked.mark_point(size=40, opacity=dimmed(1)).encode(hue),
        base.transform_filter(FOCUS).mark_line(strokeWidth=3, color=ink("ink")),
        base.transform_filter(PINNED).mark_line(strokeWidth=3, color=pinned()),
    ]
    for side, align, dx in (("left", "right", -8), ("right", "left", 8)):
        text = ends.transform_filter(f"datum.side === '{side}'")
        layers.append(text.mark_text(align=align, dx=dx, fontWeight="bold", **halo()))
    return [*layers, *badges(base)]


def _broken(name: str) -> str:
    """Return a name over several lines of an axis."""
    lines = [""]
    for part in re.split(r"(?<= )|(?<=-)(?=\w{3})", name):  # top-k stays together
        joined = f"{lines[-1]}{part}"
        lines = [*lines[:-1], joined] if len(joined) <= 13 else [*lines, part]
    return "|".join(filter(None, lines))


def _bump_table(places: dict[str, list[int]], columns: list[Column]) -> Any:
    rows = [(m, d, name, p) for m, own in places.items() for (d, name), p in zip(columns, own, strict=True)]
    return pl.DataFrame(rows, schema=["model", "dataset", "metric", "place"], orient="row").to_arrow()
