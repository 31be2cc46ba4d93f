"""Confidence against accuracy, saturation of accuracy, and correlates of accuracy."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from statistics import median
from typing import Any

import altair as alt
import polars as pl

from manyhot.evaluate.report.figures.bars import strips
from manyhot.evaluate.report.figures.panel import (
    Frames,
    Panel,
    Sheet,
    axis,
    beyond_said,
    column,
    compose,
    data,
    detail,
    halo,
    ink,
    line_said,
    points_said,
    short,
    slug,
    text_of,
)
from manyhot.evaluate.report.figures.scatter import (
    Line,
    Side,
    log_side,
    percent_sheet,
    plain_side,
    scatter,
    shown,
    shown_both,
    slope_said,
    top1_and_real1,
    typical,
)
from manyhot.report.figure import Figure
from manyhot.report.text import counted, title_of

_GROUPS = {
    "pretraining": "By the data seen before ImageNet",
    "img_size": "By image size (pixels a side)",
    "family": "By architecture family",
}
"""Columns of the models table that are drawn as groups."""


MOST_GROUPS = 15

SEEN = {
    "in-1k": "ImageNet-1k only",
    "in-12k": "ImageNet-12k",
    "in-21k/22k": "ImageNet-21k",
    "jft": "JFT-300M",
    "ig-1b": "Instagram-1B",
    "yfcc-100m": "YFCC-100M",
    "laion-2b": "LAION-2B",
    "webli": "WebLI",
    "clip": "CLIP data",
    "merged-30m": "Merged-30M",
    "seer": "SEER, Instagram",
    "lvd-142m": "LVD-142M",
}
"""Pretraining data of `manyhot.families` in words."""


def draw_saturation(frames: Frames) -> Iterator[Figure | None]:
    """Yield the figures of the section."""
    yield from (real_by_top1(frames, dataset) for dataset in frames.datasets)
    yield from (label_errors(frames, dataset) for dataset in frames.datasets)
    for dataset in frames.datasets[:1]:
        yield by_parameters(frames, dataset)
        yield by_groups(frames, dataset)


def real_by_top1(frames: Frames, dataset: str) -> Figure | None:
    """Plot ReaL accuracy against top-1 accuracy, with lines fitted to all models and to the best."""
    both = frames.both((dataset, "top1"), (dataset, "real1"))
    fits = frames.fits((dataset, "top1"), (dataset, "real1"), "plain")
    best = max(column(both, "x"), default=0.0)
    found = [
        fit
        for fit in fits.sort(pl.col("models") != "all", "models").iter_rows(named=True)
        if _least(fit) <= best
    ]
    if both.is_empty() or not found:
        return None
    sheet = percent_sheet(both)
    panels = [_fitted(f"saturation-{i}", sheet, fit, frames.own) for i, fit in enumerate(found)]
    said = "; ".join(f"{_which(fit)}: {slope_said(fit)}" for fit in found)
    return Figure(
        f"saturation-{slug(dataset)}",
        "saturation",
        dataset,
        f"What a point of top-1 accuracy is worth on label sets, {title_of(dataset)}",
        "Each point is a model. The slope of the least-squares line, with its 95 % interval over families of "
        "models, is the gain in ReaL accuracy per point of top-1 accuracy. If the slope is below one, part "
        "of a gain on original labels is not a gain on label sets." + beyond_said(panels),
        f"Points of ReaL accuracy per point of top-1 accuracy. {said}.",
        compose(panels, frames.own),
        _with_lines(both.drop("x_n", "y_n"), found).to_arrow(),
    )


def _with_lines(points: pl.DataFrame, fits: list[dict[str, Any]]) -> pl.DataFrame:
    """Return the points of each panel with its line."""
    names = ("slope", "slope_lo", "slope_hi", "intercept")
    return pl.concat(
        points.filter(pl.col("x") >= _least(fit) - 1e-9).with_columns(
            pl.lit(fit["models"]).alias("models"), *(pl.lit(fit[n], pl.Float64).alias(n) for n in names)
        )
        for fit in fits
    )


def _fitted(name: str, sheet: dict[str, list[Any]], fit: dict[str, Any], own: tuple[str, ...]) -> Panel:
    least = _least(fit)
    kept = [i for i, x in enumerate(sheet["x"]) if x >= 100 * least - 1e-9]
    best = {field: [values[i] for i in kept] for field, values in sheet.items()}
    title = {"text": f"{_which(fit)} ({fit['n']:,})", "subtitle": slope_said(fit).capitalize()}
    lines = [Line(fit["slope"], 100 * fit["intercept"])]
    return line_said(top1_and_real1(name, best, own, title=title, lines=lines))


def _least(fit: dict[str, Any]) -> float:
    return float(fit["models"].partition(">=")[2] or 0)


def _which(fit: dict[str, Any]) -> str:
    return f"Models from {100 * _least(fit):g} % on" if _least(fit) else "All models"


def label_errors(frames: Frames, dataset: str) -> Figure | None:
    """Plot the share of top-1 errors whose top class is in the label set, against top-1 accuracy."""
    both = frames.both((dataset, "top1"), (dataset, "valid_errors"))
    if both.is_empty():
        return None
    sheet = percent_sheet(both)
    best = both.sort("x", descending=True).row(0, named=True)
    xs, ys = shown_both(sheet)
    panel = scatter(
        "errors",
        sheet,
        plain_side([axis("top1")], xs),
        plain_side(["Errors that are in the label set (%)"], ys),
        title="",
        tips=[
            (short("top1"), "x", "2", " %", "x_lo", "x_hi"),
            ("Errors in the label set", "y", "1", " %", "y_lo", "y_hi"),
        ],
        own=frames.own,
    )
    return Figure(
        f"label-errors-{slug(dataset)}",
        "saturation",
        dataset,
        f"How many of the remaining errors are label errors, {title_of(dataset)}",
        f"{points_said(both.height, 'the 95 % intervals')} If the top class is in the label set, "
        "the error is due to the label, which is wrong or incomplete, and not to the model."
        + beyond_said([panel]),
        f"In {100 * best['y']:.1f} % of the errors of {best['model']}, the most accurate model "
        f"({100 * best['x']:.1f} %), the top class is in the label set.",
        compose([panel], frames.own),
        both.drop("x_n").to_arrow(),
    )


def _with_models(frames: Frames, dataset: str) -> tuple[str, pl.DataFrame]:
    """Return the metric of accuracy, and its values beside size and pretraining of the models."""
    metric = next((m for m in ("real1", "top1") if frames.of(dataset, m).height), "")
    values = frames.of(dataset, metric).select("model", "value", "lo", "hi", "n")
    return metric, values.join(frames["models"], on="model", maintain_order="left")


def by_parameters(frames: Frames, dataset: str) -> Figure | None:
    """Plot accuracy against the number of parameters."""
    metric, rows = _with_models(frames, dataset)
    rows = rows.filter(pl.col("params").is_finite() & (pl.col("params") > 0))
    if rows.height < 3:
        return None
    sheet = {
        "model": column(rows, "model"),
        "x": column(rows, "params"),
        **{new: column(rows, old, 100) for new, old in (("y", "value"), ("y_lo", "lo"), ("y_hi", "hi"))},
    }
    panel = scatter(
        "parameters",
        sheet,
        log_side(["Parameters (millions)"], sheet["x"]),
        plain_side([axis(metric)], shown(sheet["y"])),
        title="",
        tips=[("Parameters", "x", "1", " million"), (short(metric), "y", "2", " %", "y_lo", "y_hi")],
        own=frames.own,
    )
    return Figure(
        f"parameters-{slug(dataset)}",
        "saturation",
        dataset,
        f"Accuracy against size of the model, {title_of(dataset)}",
        "Each point is a model. The number of parameters is on a logarithmic axis." + beyond_said([panel]),
        f"{counted(rows.height, 'model')} of {min(sheet['x']):.3g} to {max(sheet['x']):,.0f} million "
        f"parameters, {short(metric)} {min(sheet['y']):.1f} to {max(sheet['y']):.1f} %.",
        compose([panel], frames.own),
        rows.select("model", "params", "value", "lo", "hi").to_arrow(),
    )


def by_groups(frames: Frames, dataset: str) -> Figure | None:
    """Plot accuracy by pretraining data, by image size and by family, each ordered by the median."""
    metric, rows = _with_models(frames, dataset)
    panels = []
    for name, title in _GROUPS.items():
        known = rows.filter(pl.col(name).is_not_null()) if name in rows.columns else rows.clear()
        known = known.filter(pl.col(name).cast(pl.String) != "")
        # Groups of one model each are names of models, not kinds.
        if 1 < known[name].n_unique() <= known.height / 2:
            panels.append(_grouped(known, name, title, metric))
    if not panels:
        return None
    return Figure(
        f"kinds-{slug(dataset)}",
        "saturation",
        dataset,
        f"Accuracy by kind of model, {title_of(dataset)}",
        "Each faint tick is a model. The dot and the number at the right are the median of the group, and "
        f"the number of models is in brackets.{_groups_left_out(panels)} Groups differ in more than their "
        "name: this is correlation, not causation." + beyond_said(panels),
        f"Median {short(metric)}. {' '.join(map(_medians_said, panels))}",
        compose(panels, frames.own),
        rows.select("model", *(g for g in _GROUPS if g in rows.columns), "value", "lo", "hi").to_arrow(),
    )


def _groups_left_out(panels: list[Panel]) -> str:
    most = max(len(sheet["label"]) for panel in panels for sheet in _middles(panel))
    return f" At most the {MOST_GROUPS} largest groups are shown." if most == MOST_GROUPS else ""


def _middles(panel: Panel) -> list[Sheet]:
    return [sheet for name, sheet in panel.sheets.items() if name.endswith("-middle")]


def _medians_said(panel: Panel) -> str:
    """Return the medians of the first group and the last."""
    (middles,) = _middles(panel)
    (first, *_, last) = zip(middles["label"], middles["text"], strict=True)
    return f"{panel.title}: {first[0]} {first[1]} % down to {last[0]} {last[1]} %."


def _grouped(rows: pl.DataFrame, name: str, title: str, metric: str) -> Panel:
    sizes = rows.group_by(name).len().sort("len", name, descending=[True, False]).head(MOST_GROUPS)
    values = {g: rows.filter(pl.col(name) == g)["value"].to_list() for g in sizes[name]}
    order = sorted(values, key=lambda g: -median(values[g]))
    labels = {g: f"{SEEN.get(g, g)} ({len(values[g]):,})" for g in order}
    kept = rows.filter(pl.col(name).is_in(order)).sort("model")
    middles = [100 * median(values[g]) for g in order]
    side = plain_side([f"{short(metric)} (%)"], [*typical(column(kept, "value", 100)), *middles])
    return strips(
        f"kind-{name}",
        {
            "model": column(kept, "model"),
            "label": [labels[g] for g in kept[name]],
            **{new: column(kept, old, 100) for new, old in (("x", "value"), ("lo", "lo"), ("hi", "hi"))},
        },
        {"label": list(labels.values()), "x": middles, "text": [f"{m:.1f}" for m in middles]},
        side,
        title=title,
        tips=[("Group", "label"), (short(metric), "x", "2", " %", "lo", "hi")],
        width=200,
    )


MOST = 3
"""Number of models that are drawn for a data set: own models first, then in the order of evaluation."""


NAMES = {"label": "original label", "set": "label set"}
_WHOLE = (pl.col("from") == 0) & (pl.col("to") == 1)
"""The row of all images among the bins of a model."""

IS = {"label": "the original label", "set": "in the label set"}
HUES = {"label": "mark", "set": "own"}
SIDE = 320


def draw_trust(frames: Frames) -> list[Figure]:
    """Return the figures of the section, one per model.

    If a data set has no original labels, there is nothing to compare label sets with, so only audits are
    drawn. In an audit, a model without a bin that contains enough audited images has no figure.
    """
    table, drawn = frames["reliability"], list[Figure]()
    compared = pl.col("event") == "label"
    compared |= pl.col("estimator").is_not_null() if "estimator" in table.columns else False
    table = table.filter(compared.any().over("dataset"))
    for dataset in table["dataset"].unique(maintain_order=True).to_list():
        models = table.filter(~_WHOLE, dataset=dataset)["model"].unique(maintain_order=True).to_list()
        chosen = sorted(models, key=lambda m: m not in frames.own)[:MOST]
        drawn += [_confidence(frames, dataset, model, len(models)) for model in chosen]
    return drawn


def _confidence(frames: Frames, dataset: str, model: str, n_models: int) -> Figure:
    """Return reliability and risk by coverage of one model."""
    rows = frames["reliability"].filter(dataset=dataset, model=model)
    curve = frames["risk_coverage"].filter(dataset=dataset, model=model)
    overall = {r["event"]: r for r in rows.filter(_WHOLE).iter_rows(named=True)}
    bins = rows.filter(~_WHOLE)
    name = f"trust-{slug(dataset)}-{slug(model)}"
    panels = [
        reliability_panel(f"{name}-bins", bins),
        *([_risk(f"{name}-curve", curve)] if len(curve) else []),
    ]
    right = [f"{IS[event]} on {100 * row['right']:.1f} %" for event, row in overall.items()]
    return Figure(
        name,
        "trust",
        dataset,
        f"Confidence of {model}, {title_of(dataset)}",
        _caption(overall, n_models, has_curve=len(panels) > 1),
        f"Mean confidence {100 * overall['set']['confidence']:.1f} %. The top class is "
        f"{', and '.join([f'{right[0]} of the images', *right[1:]])}.",
        compose(panels),
        rows.to_arrow(),
    )


def _caption(overall: Mapping[str, Mapping[str, Any]], n_models: int, *, has_curve: bool) -> str:
    """Return how to read the figure of a model, from the rows of all images by event."""
    row, has_labels = overall["set"], "label" in overall
    n, audited = counted(row["n"], "image"), row.get("n_audited")
    parts = [
        f"{'Both panels count' if has_curve else 'The panel counts'} the {n} that have "
        f"{'an original label and ' if has_labels else ''}a label set.",
        f"Values are estimates on people's label sets, from {counted(audited, 'image')} that were audited."
        if audited is not None
        else "",
        "Reliability: images are grouped by confidence into 15 bins of equal width. Each point shows the "
        "mean confidence of a bin and its share of correct images. Bars are 95 % intervals, and larger "
        "points are bins with more images. Below the dashed line, the model is overconfident.",
        "Risk: the curve shows the share of errors among the most confident images, as fewer images are kept."
        if has_curve
        else "",
        "The distance between the two colours is due to missing labels." if has_labels else "",
        f"{MOST} of {n_models:,} models with confidences are drawn." if n_models > MOST else "",
    ]
    return " ".join(filter(None, parts))


def reliability_panel(
    name: str,
    bins: pl.DataFrame,
    title: str = "Reliability",
    *,
    axes: tuple[str, str] = ("Confidence (%)", "Right (%)"),
) -> Panel:
    """Return the reliability diagram of a model, from its bins in the table ``reliability``."""
    sheet: dict[str, Any] = {"event": [NAMES[e] for e in bins["event"]], "n": column(bins, "n")}
    sheet |= {to: column(bins, of, 100) for to, of in (("x", "confidence"), ("y", "right"))}
    sheet |= {end: column(bins, end, 100) for end in ("lo", "hi")}
    x, y = (Side([axis], (0, 100)) for axis in axes)
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
    names, said = _names(f"{name}-names", x, y, set(bins["event"]), below=True)
    sheets = {name: sheet, f"{name}-equal": ends, f"{name}-names": names}
    return Panel([*layers, *said], sheets, SIDE, SIDE, title, tips)


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
    names, said = _names(f"{name}-names", x, y, set(curve["event"]))
    tips = [
        ("Right if it is the", "event"),
        ("Images kept", "n", "0", ""),
        ("Coverage", "coverage", "1", " %"),
        ("Errors among them", "risk", "1", " %"),
        ("Confidence at least", "confidence", "1", " %"),
    ]
    sheets = {name: sheet, f"{name}-names": names}
    return Panel([*layers, *said], sheets, SIDE, SIDE, "Risk and coverage", tips)


def _names(
    name: str, x: Side, y: Side, events: Collection[str], *, below: bool = False
) -> tuple[Sheet, list[Any]]:
    """Return the names of the events in the upper left corner, or in the lower right: where there is room."""
    across, lines, align = (0.96, (0.12, 0.05), "right") if below else (0.04, (0.96, 0.89), "left")
    there = [event for event in HUES if event in events]
    sheet: Sheet = {
        "across": [x.domain[1] * across] * len(there),
        "high": [y.domain[1] * line for line in lines[len(lines) - len(there) :]],
        "event": [NAMES[event] for event in there],
    }
    layers = []
    for event in there:
        hue = HUES[event]
        look = {"align": align, "fontWeight": "bold", "color": ink(hue), **halo()}
        text = _of_event(name, event).mark_text(**look)
        layers.append(text.encode(x.channel(alt.X, "across"), y.channel(alt.Y, "high"), text_of("event")))
    return sheet, layers


def _of_event(name: str, event: str) -> Any:
    chart: Any = alt.Chart(data(name))
    return chart.transform_filter({"field": "event", "equal": NAMES[event]})
