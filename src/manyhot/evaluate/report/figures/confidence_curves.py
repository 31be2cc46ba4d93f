"""Confidence against accuracy, under original labels and under label sets, in one figure."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from manyhot.evaluate.report.figures.panel import (
    Frames,
    Panel,
    Sheet,
    column,
    compose,
    data,
    detail,
    halo,
    ink,
    slug,
    text_of,
)
from manyhot.evaluate.report.figures.scatter import Side
from manyhot.report.figure import Figure
from manyhot.report.text import counted, title_of

MOST = 3
"""Models that are drawn of a data set: own ones first, then as they were judged."""


NAMES = {"label": "original label", "set": "label set"}


HUES = {"label": "mark", "set": "own"}


SIDE = 320


def draw_trust(frames: Frames) -> list[Figure]:
    """Return the figures of the section: one per model."""
    table = frames["reliability"]
    drawn = []
    for dataset in table["dataset"].unique(maintain_order=True).to_list():
        models = table.filter(pl.col("dataset") == dataset)["model"].unique(maintain_order=True).to_list()
        chosen = sorted(models, key=lambda m: m not in frames.own)[:MOST]
        drawn += [_confidence(frames, dataset, model, len(models)) for model in chosen]
    return drawn


def _confidence(frames: Frames, dataset: str, model: str, n_models: int) -> Figure:
    """Return reliability and risk by coverage of one model."""
    of = (pl.col("dataset") == dataset) & (pl.col("model") == model)
    rows = frames["reliability"].filter(of)
    curve = frames["risk_coverage"].filter(of)
    whole = (pl.col("from") == 0) & (pl.col("to") == 1)
    overall = {r["event"]: r for r in rows.filter(whole).iter_rows(named=True)}
    bins = rows.filter(~whole)
    name = f"trust-{slug(dataset)}-{slug(model)}"
    panels = [_reliability(f"{name}-bins", bins), _risk(f"{name}-curve", curve)]
    n = overall["label"]["n"]
    label, sets = (100 * overall[event]["right"] for event in NAMES)
    sure = 100 * overall["label"]["confidence"]
    rest = f" {MOST} of {n_models:,} models with confidences are drawn." if n_models > MOST else ""
    return Figure(
        name,
        "trust",
        dataset,
        f"Confidence of {model}, {title_of(dataset)}",
        f"Over the {counted(n, 'image')} that have an original label and a label set. Reliability: images by "
        "confidence, in 15 bins of equal width; a point is the mean confidence of a bin and the share of it "
        "that is right, its bar a 95 % interval, its size the number of images. Below the dashed line the "
        "model is overconfident. Risk: the share of errors among the surest images, as fewer are kept. "
        f"The distance between the two colours is due to missing labels.{rest}",
        f"Mean confidence {sure:.1f} %. The top class is the original label on {label:.1f} % of the images, "
        f"and in the label set on {sets:.1f} %.",
        compose(panels),
        rows.to_arrow(),
    )


def _reliability(name: str, bins: pl.DataFrame) -> Panel:
    sheet: dict[str, Any] = {"event": [NAMES[e] for e in bins["event"]], "n": column(bins, "n")}
    sheet |= {to: column(bins, of, 100) for to, of in (("x", "confidence"), ("y", "right"))}
    sheet |= {end: column(bins, end, 100) for end in ("lo", "hi")}
    x, y = Side(["Confidence (%)"], (0, 100)), Side(["Right (%)"], (0, 100))
    channels = (x.channel(alt.X, "x"), y.channel(alt.Y, "y"))
    ends: Sheet = {"x": [0, 100], "y": [0, 100]}
    equal: Any = alt.Chart(data(f"{name}-equal"))
    layers = [equal.mark_line(strokeDash=[4, 4], color=ink("axis"), strokeWidth=1).encode(*channels)]
    for event, hue in HUES.items():
        base = _of_event(name, event)
        bar = base.mark_rule(color=ink(hue), strokeWidth=1.5, opacity=0.6)
        layers.append(bar.encode(channels[0], y.channel(alt.Y, "lo"), alt.Y2("hi")))
        layers.append(base.mark_line(color=ink(hue), strokeWidth=1.5).encode(*channels))
        size = alt.Size(field="n", type="quantitative", scale=alt.Scale(range=[20, 260]), legend=None)
        layers.append(base.mark_point(color=ink(hue), opacity=1, filled=True).encode(*channels, size))
    tips = [
        ("Right if it is the", "event"),
        ("Mean confidence", "x", "1", " %"),
        ("Right", "y", "1", " %", "lo", "hi"),
        ("Images", "n", "0", ""),
    ]
    # A model that is right on few of the images on which it is sure is rare.
    names, said = _names(f"{name}-names", x, y, below=True)
    sheets = {name: sheet, f"{name}-equal": ends, f"{name}-names": names}
    return Panel([*layers, *said], sheets, SIDE, SIDE, "Reliability", tips)


def _risk(name: str, curve: pl.DataFrame) -> Panel:
    sheet: dict[str, Any] = {"event": [NAMES[e] for e in curve["event"]], "n": column(curve, "n")}
    sheet |= {to: column(curve, to, 100) for to in ("coverage", "risk", "confidence")}
    top = max(1.0, *sheet["risk"]) * 1.15
    x, y = Side(["Coverage: images kept (%)"], (0, 100)), Side(["Risk: errors among these (%)"], (0, top))
    channels = (x.channel(alt.X, "coverage"), y.channel(alt.Y, "risk"))
    layers: list[Any] = []
    for event, hue in HUES.items():
        base = _of_event(name, event)
        layers.append(base.mark_line(color=ink(hue), strokeWidth=2).encode(*channels, detail("event")))
        layers.append(base.mark_point(color=ink(hue), size=30, opacity=0.001).encode(*channels))
    names, said = _names(f"{name}-names", x, y)
    tips = [
        ("Right if it is the", "event"),
        ("Images kept", "n", "0", ""),
        ("Coverage", "coverage", "1", " %"),
        ("Errors among them", "risk", "1", " %"),
        ("Confidence at least", "confidence", "1", " %"),
    ]
    sheets = {name: sheet, f"{name}-names": names}
    return Panel([*layers, *said], sheets, SIDE, SIDE, "Risk and coverage", tips)


def _names(name: str, x: Side, y: Side, *, below: bool = False) -> tuple[Sheet, list[Any]]:
    """Return the names of the events in the upper left corner, or in the lower right: where there is room."""
    across, lines, align = (0.96, (0.12, 0.05), "right") if below else (0.04, (0.96, 0.89), "left")
    sheet: Sheet = {
        "across": [x.domain[1] * across] * len(HUES),
        "high": [y.domain[1] * line for line in lines],
        "event": [NAMES[event] for event in HUES],
    }
    layers = []
    for event, hue in HUES.items():
        look = {"align": align, "fontWeight": "bold", "color": ink(hue), **halo()}
        text = _of_event(name, event).mark_text(**look)
        layers.append(text.encode(x.channel(alt.X, "across"), y.channel(alt.Y, "high"), text_of("event")))
    return sheet, layers


def _of_event(name: str, event: str) -> Any:
    chart: Any = alt.Chart(data(name))
    return chart.transform_filter({"field": "event", "equal": NAMES[event]})
