"""Whether accuracy has saturated: what the best models gain on label sets, and what goes with accuracy."""

from __future__ import annotations

from statistics import median
from typing import Any

import polars as pl

from manyhot.report.figure import Figure
from manyhot.report.figures.bars import strips
from manyhot.report.figures.numbers import Numbers, column
from manyhot.report.figures.panel import Panel, beyond_said, compose
from manyhot.report.figures.scatter import Line, log_side, plain_side, scatter, slope_said, typical
from manyhot.report.figures.words import axis, short, slug
from manyhot.report.words import counted

GROUPS = {
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


def draw_saturation(numbers: Numbers) -> list[Figure]:
    """Return the figures of the section."""
    drawn: list[Figure | None] = []
    for dataset in numbers.datasets:
        drawn += [real_by_top1(numbers, dataset), label_errors(numbers, dataset)]
    for dataset in numbers.datasets[:1]:
        drawn += [by_parameters(numbers, dataset), by_groups(numbers, dataset)]
    return [figure for figure in drawn if figure is not None]


def real_by_top1(numbers: Numbers, dataset: str) -> Figure | None:
    """Return ReaL against top-1 accuracy with the lines fitted to all models and to the best."""
    both = numbers.both((dataset, "top1"), (dataset, "real1"))
    fits = numbers["fits"].filter(
        (pl.col("dataset_x") == dataset)
        & (pl.col("dataset_y") == dataset)
        & (pl.col("metric_x") == "top1")
        & (pl.col("metric_y") == "real1")
        & (pl.col("slice_x") == "all")
        & (pl.col("slice_y") == "all")
        & (pl.col("scale") == "plain")
        & pl.col("slope").is_finite()
    )
    best = max(column(both, "x"), default=0.0)
    found = [
        fit
        for fit in fits.sort(pl.col("models") != "all", "models").iter_rows(named=True)
        if _least(fit) <= best
    ]
    if both.is_empty() or not found:
        return None
    sheet = {"model": column(both, "model")} | {
        name: column(both, name, 100) for name in ("x", "x_lo", "x_hi", "y", "y_lo", "y_hi")
    }
    panels = [_fitted(f"saturation-{i}", sheet, fit, numbers.own) for i, fit in enumerate(found)]
    said = "; ".join(f"{_which(fit)}: {slope_said(fit)}" for fit in found)
    return Figure(
        f"saturation-{slug(dataset)}",
        "saturation",
        dataset,
        "What a point of top-1 accuracy is worth on label sets",
        "A point is a model. The line is fitted by least squares; its slope tells how many points of "
        "ReaL accuracy go with one point of top-1 accuracy, with a 95 % interval over families of "
        "models. A slope below one among the best models: much of what they gain on original labels is "
        "no gain on label sets." + beyond_said(panels),
        f"Points of ReaL accuracy to a point of top-1. {said}.",
        compose(panels, numbers.own),
        fits.to_arrow(),
    )


def _fitted(name: str, sheet: dict[str, list[Any]], fit: dict[str, Any], own: tuple[str, ...]) -> Panel:
    least = _least(fit)
    kept = [i for i, x in enumerate(sheet["x"]) if x >= 100 * least - 1e-9]
    best = {field: [values[i] for i in kept] for field, values in sheet.items()}
    return scatter(
        name,
        best,
        plain_side([axis("top1")], typical(best["x"])),
        plain_side([axis("real1")], typical(best["y"])),
        title={"text": f"{_which(fit)} ({fit['n']:,})", "subtitle": slope_said(fit).capitalize()},
        tips=[
            (short("top1"), "x", "2", " %", "x_lo", "x_hi"),
            (short("real1"), "y", "2", " %", "y_lo", "y_hi"),
        ],
        equal=True,
        own=own,
        lines=[Line(fit["slope"], 100 * fit["intercept"])],
    )


def _least(fit: dict[str, Any]) -> float:
    return float(fit["models"].partition(">=")[2] or 0)


def _which(fit: dict[str, Any]) -> str:
    return f"Models from {100 * _least(fit):g} % on" if _least(fit) else "All models"


def label_errors(numbers: Numbers, dataset: str) -> Figure | None:
    """Return which share of top-1 errors is in the label set, against top-1 accuracy."""
    both = numbers.both((dataset, "top1"), (dataset, "valid_errors"))
    if both.is_empty():
        return None
    sheet = {"model": column(both, "model")} | {
        name: column(both, name, 100) for name in ("x", "x_lo", "x_hi", "y", "y_lo", "y_hi")
    }
    best = both.sort("x", descending=True).row(0, named=True)
    panel = scatter(
        "errors",
        sheet,
        plain_side([axis("top1")], typical(sheet["x"])),
        plain_side(["Errors that are in the label set (%)"], typical(sheet["y"])),
        title="",
        tips=[
            (short("top1"), "x", "2", " %", "x_lo", "x_hi"),
            ("Errors in the label set", "y", "1", " %", "y_lo", "y_hi"),
        ],
        own=numbers.own,
        width=420,
    )
    return Figure(
        f"label-errors-{slug(dataset)}",
        "saturation",
        dataset,
        "How much of what is left is error of the labels",
        "Of the images whose best class is not the original label: the share on which that class is in "
        "the label set, so that the label, not the model, is at fault or incomplete. A point is a model, "
        "its cross the 95 % "
        "intervals." + beyond_said([panel]),
        f"Of the errors of {best['model']}, the most accurate model ({100 * best['x']:.1f} %), "
        f"{100 * best['y']:.1f} % are in the label set.",
        compose([panel], numbers.own),
        both.to_arrow(),
    )


def _with_models(numbers: Numbers, dataset: str) -> tuple[str, pl.DataFrame]:
    """Return the metric that accuracy is told by, and its values beside what is known of the models."""
    metric = next((m for m in ("real1", "top1") if numbers.of(dataset, m).height), "")
    values = numbers.of(dataset, metric).select("model", "value", "lo", "hi", "n")
    return metric, values.join(numbers["models"], on="model", maintain_order="left")


def by_parameters(numbers: Numbers, dataset: str) -> Figure | None:
    """Return accuracy against the number of parameters."""
    metric, rows = _with_models(numbers, dataset)
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
        plain_side([axis(metric)], typical(sheet["y"])),
        title="",
        tips=[("Parameters", "x", "1", " million"), (short(metric), "y", "2", " %", "y_lo", "y_hi")],
        own=numbers.own,
        width=420,
    )
    return Figure(
        f"parameters-{slug(dataset)}",
        "saturation",
        dataset,
        "Accuracy against size of the model",
        "A point is a model. Parameters are on a logarithmic axis: each step to the right is as many "
        "times more." + beyond_said([panel]),
        f"{counted(rows.height, 'model')} of {min(sheet['x']):.3g} to {max(sheet['x']):,.0f} million "
        "parameters.",
        compose([panel], numbers.own),
        rows.to_arrow(),
    )


def by_groups(numbers: Numbers, dataset: str) -> Figure | None:
    """Return accuracy by pretraining data, image size and family, each ordered by its median."""
    metric, rows = _with_models(numbers, dataset)
    panels = []
    for name, title in GROUPS.items():
        known = rows.filter(pl.col(name).is_not_null()) if name in rows.columns else rows.clear()
        known = known.filter(pl.col(name).cast(pl.String) != "")
        if known[name].n_unique() > 1:
            panels.append(_grouped(known, name, title, metric))
    if not panels:
        return None
    return Figure(
        f"kinds-{slug(dataset)}",
        "saturation",
        dataset,
        "Accuracy by kind of model",
        "A faint tick is a model, the dot the median of its group; the groups are in order of their "
        f"medians. In brackets: how many models. The {MOST_GROUPS} largest groups are shown; at the right "
        "the medians, also those beyond the axis. Groups differ in more than their name: this tells what "
        "goes together, not what causes what.",
        f"{axis(metric).removesuffix(' (%)')} of {counted(rows.height, 'model')} by what is known of them.",
        compose(panels, numbers.own),
        rows.to_arrow(),
    )


def _grouped(rows: pl.DataFrame, name: str, title: str, metric: str) -> Panel:
    sizes = rows.group_by(name).len().sort("len", name, descending=[True, False]).head(MOST_GROUPS)
    values = {g: rows.filter(pl.col(name) == g)["value"].to_list() for g in sizes[name]}
    order = sorted(values, key=lambda g: -median(values[g]))
    labels = {g: f"{SEEN.get(g, g)} ({len(values[g]):,})" for g in order}
    kept = rows.filter(pl.col(name).is_in(order)).sort("model")
    middles = [100 * median(values[g]) for g in order]
    side = plain_side([axis(metric)], typical(column(kept, "value", 100)))
    return strips(
        f"kind-{name}",
        {
            "model": column(kept, "model"),
            "label": [labels[g] for g in kept[name]],
            **{new: column(kept, old, 100) for new, old in (("x", "value"), ("lo", "lo"), ("hi", "hi"))},
        },
        {
            "label": list(labels.values()),
            "x": [m if side.domain[0] <= m <= side.domain[1] else None for m in middles],
            "text": [f"{m:.1f}" for m in middles],
        },
        side,
        title=title,
        tips=[("Group", "label"), (short(metric), "x", "2", " %", "lo", "hi")],
        width=200,
    )
