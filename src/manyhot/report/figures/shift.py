"""From one data set to another: accuracy on both, mean drops, robustness, and what hangs on the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from manyhot.report.figure import Figure
from manyhot.report.figures.bars import strips
from manyhot.report.figures.numbers import Numbers, column, first
from manyhot.report.figures.panel import Panel, beyond_said, compose
from manyhot.report.figures.scatter import (
    Line,
    Side,
    plain_side,
    probit,
    probit_side,
    scatter,
    slope_said,
    typical,
)
from manyhot.report.figures.words import axis, interval, short, signed, slug
from manyhot.report.metrics import HEADLINE, reading_order
from manyhot.report.words import counted, listed

PANELS = 6
"""Metrics of one figure; further ones are in the tables."""

ANALYSES = {
    "as published": "As published",
    "sizes of y": "First, with set sizes of the second",
    "sizes of x": "Second, with set sizes of the first",
    "rated at x": "Only rated images of the first",
    "rated, sizes of y": "These, with set sizes of the second",
    "threshold at x": "First, labels from probability",
}

WARNING = "Set sizes found under different protocols are not the same quantity."

SHIFT = (
    "A point is a model; a cross its two 95 % intervals over images. On the dashed line both accuracies "
    "are equal. The full line is fitted to all models by least squares; the interval of its slope is "
    "over families of models, as models of one family are alike."
)

PROBIT = (
    "Both axes are stretched towards 0 and 100 % by the inverse of the normal distribution, on which such "
    "relations tend to be straight lines."
)

SHARES = "In brackets: share of images with two or more labels in each."


def draw_shift(numbers: Numbers) -> list[Figure]:
    """Return the figures of the section."""
    drawn: list[Figure | None] = []
    for x, y in _pairs(numbers):
        rows = _rows(numbers, x, y)
        drawn += [
            accuracies(numbers, rows, x, y),
            accuracies(numbers, rows, x, y, scale="probit"),
            mean_drops(numbers, rows, x, y),
            robustness(numbers, rows, x, y),
            sensitivity(numbers, x, y),
        ]
    return [figure for figure in drawn if figure is not None]


def _pairs(numbers: Numbers) -> list[tuple[str, str]]:
    """Return the pairs of data sets that were compared by one metric on all images."""
    both = pl.concat([numbers[t].select("dataset_x", "dataset_y") for t in ("drops", "sensitivity")])
    found = both.filter(pl.col("dataset_x") != pl.col("dataset_y")).unique(maintain_order=True)
    return list(zip(*found.to_dict(as_series=False).values(), strict=True)) if found.height else []


def _rows(numbers: Numbers, x: str, y: str) -> pl.DataFrame:
    """Return the drops of the pair by one metric on all images."""
    return numbers["drops"].filter(
        (pl.col("dataset_x") == x)
        & (pl.col("dataset_y") == y)
        & (pl.col("metric_x") == pl.col("metric_y"))
        & (pl.col("slice_x") == "all")
        & (pl.col("slice_y") == "all")
    )


def _metrics(rows: pl.DataFrame) -> list[str]:
    found = sorted(rows["metric_x"].unique().to_list(), key=reading_order)
    return sorted(found, key=lambda m: m not in HEADLINE)[:PANELS]


def accuracies(numbers: Numbers, rows: pl.DataFrame, x: str, y: str, scale: str = "plain") -> Figure | None:
    """Return accuracy on the second data set against that on the first, a panel a metric."""
    each = rows.filter(pl.col("model").is_not_null())
    if each.is_empty():
        return None
    used = _metrics(each)[: PANELS if scale == "plain" else 3]
    fits = {m: _fit(numbers, x, y, m, scale) for m in used}
    panels = [_accuracy(numbers, each, x, y, m, scale, fits[m]) for m in used]
    on, why = ("", "") if scale == "plain" else (", on probit axes", f" {PROBIT}")
    return Figure(
        f"shift-{slug(x)}-{slug(y)}" + ("" if scale == "plain" else f"-{scale}"),
        "shift",
        "",
        f"From {x} to {y}{on}",
        f"{SHIFT}{why}{beyond_said(panels)}",
        _fits_said(fits) or f"{counted(each['model'].n_unique(), 'model')}.",
        compose(panels, numbers.own),
        each.filter(pl.col("metric_x").is_in(used)).to_arrow(),
    )


def _fit(numbers: Numbers, x: str, y: str, metric: str, scale: str) -> dict[str, Any] | None:
    return numbers.fit((x, metric), (y, metric), scale, "all")


def _fits_said(fits: dict[str, dict[str, Any] | None]) -> str:
    known = [f"{short(m)}: {slope_said(fit)}" for m, fit in fits.items() if fit]
    return f"Fitted lines. {'; '.join(known)}." if known else ""


def _accuracy(
    numbers: Numbers, each: pl.DataFrame, x: str, y: str, metric: str, scale: str, fit: dict[str, Any] | None
) -> Panel:
    own = each.filter(pl.col("metric_x") == metric).sort("model")
    both = numbers.both((x, metric), (y, metric)).select("model", "x_lo", "x_hi", "y_lo", "y_hi")
    joined = own.join(both, on="model", how="left", maintain_order="left")
    shares = {"x": "value_x", "y": "value_y"} | {c: c for c in ("x_lo", "x_hi", "y_lo", "y_hi")}
    tips = [
        (f"On {end}", field, "2", " %", f"{field}_lo", f"{field}_hi") for end, field in ((x, "x"), (y, "y"))
    ]
    return _drawn(f"{scale}-{metric}", joined, shares, (x, y), metric, scale, fit, tips, numbers.own)


def _drawn(
    name: str,
    rows: pl.DataFrame,
    shares: dict[str, str],
    ends: tuple[str, str],
    metric: str,
    scale: str,
    fit: dict[str, Any] | None,
    tips: Sequence[tuple[str, ...]],
    own: tuple[str, ...],
) -> Panel:
    titles = [f"On {end} (%)" for end in ends]
    if scale == "plain":
        sheet: dict[str, list[Any]] = {new: column(rows, old, 100) for new, old in shares.items()}
        sides = [plain_side([t], typical(sheet[v])) for t, v in zip(titles, "xy", strict=True)]
        lines = [] if fit is None else [Line(fit["slope"], 100 * fit["intercept"])]
    else:
        sheet = {new: [None if v is None else probit(v) for v in rows[old]] for new, old in shares.items()}
        sheet |= {f"p_{new}": column(rows, old, 100) for new, old in shares.items()}
        sides = [probit_side([t], typical(rows[shares[v]])) for t, v in zip(titles, "xy", strict=True)]
        lines = [] if fit is None else [Line(fit["slope"], fit["intercept"])]
        tips = [(t[0], *(f"p_{f}" if i in (0, 3, 4) else f for i, f in enumerate(t[1:]))) for t in tips]
    title = {
        "text": axis(metric).removesuffix(" (%)"),
        "subtitle": slope_said(fit).capitalize() if fit else "",
    }
    return scatter(
        name,
        {"model": column(rows, "model")} | sheet,
        *sides,
        title=title,
        tips=tips,
        equal=True,
        lines=lines,
        own=own,
    )


def mean_drops(numbers: Numbers, rows: pl.DataFrame, x: str, y: str) -> Figure | None:
    """Return the mean drop a metric, with both intervals, over the drops of the models."""
    means = rows.filter(pl.col("model").is_null())
    if means.is_empty():
        return None
    used = _metrics(means)
    means = means.filter(pl.col("metric_x").is_in(used)).sort(
        pl.col("metric_x").replace_strict({m: i for i, m in enumerate(used)})
    )
    each = rows.filter(pl.col("model").is_not_null() & pl.col("metric_x").is_in(used))
    labels = [short(m) for m in means["metric_x"]]
    middle = {"label": labels, **_middles(means)}
    models = {
        "model": column(each, "model"),
        "label": [short(m) for m in each["metric_x"]],
        "x": column(each, "drop", 100),
        "lo": column(each, "lo", 100),
        "hi": column(each, "hi", 100),
    }
    panel = strips(
        "drops",
        models,
        middle,
        plain_side(
            [f"Points lost from {x} to {y}"], [0.0, *typical(models["x"]), *middle["x"]], percent=False
        ),
        tips=[("By", "label"), ("Points lost", "x", "2", "", "lo", "hi")],
        width=340,
        zero=True,
        above=True,
    )
    said = [f"{label} {text} points" for label, text in zip(labels, middle["text"], strict=True)]
    return Figure(
        f"drops-{slug(x)}-{slug(y)}",
        "shift",
        "",
        f"How much models lose from {x} to {y}",
        "Accuracy on the first data set less that on the second, in percentage points. A faint tick is a "
        "model, the dot their mean. The thick bar is its 95 % interval over images, the thin line over "
        "families of models. At the right: the mean with its interval over images.",
        f"Mean loss: {listed(said, len(said))}.",
        compose([panel], numbers.own),
        pl.concat([means, each]).to_arrow(),
    )


def _middles(means: pl.DataFrame) -> dict[str, list[Any]]:
    fields = {"x": "drop", "lo": "lo_models", "hi": "hi_models", "inner_lo": "lo", "inner_hi": "hi"}
    told = [_told(*row) for row in zip(means["drop"], means["lo"], means["hi"], strict=True)]
    return {**{new: column(means, old, 100) for new, old in fields.items()}, "text": told}


def _told(drop: float, lo: float | None, hi: float | None) -> str:
    ends = "" if lo is None or hi is None else f" ({interval(100 * lo, 100 * hi)})"
    return f"{signed(100 * drop)}{ends}"


def robustness(numbers: Numbers, rows: pl.DataFrame, x: str, y: str) -> Figure | None:
    """Return by how much each model is better on the second data set than the fit to all models tells."""
    each = rows.filter(pl.col("model").is_not_null() & pl.col("above_fit").is_not_null())
    if each.is_empty():
        return None
    used = _metrics(each)[:3]
    panels = [_above(each.filter(pl.col("metric_x") == m).sort("model"), m, x, numbers.own) for m in used]
    best = each.filter(pl.col("metric_x") == used[0]).sort("above_fit", "model", descending=[True, False])
    top = first(best)
    return Figure(
        f"robustness-{slug(x)}-{slug(y)}",
        "shift",
        "",
        f"Which models do better on {y} than their accuracy on {x} tells",
        "Effective robustness: accuracy on the second data set less what the line fitted on logit axes "
        "gives for the accuracy on the first, in percentage points. A point is a model; above zero it is "
        "more robust than "
        "models of its accuracy usually are." + beyond_said(panels),
        f"Highest by {short(used[0])}: {top['model']}, {signed(100 * top['above_fit'])} points."
        if top
        else "",
        compose(panels, numbers.own),
        each.filter(pl.col("metric_x").is_in(used)).to_arrow(),
    )


def _above(rows: pl.DataFrame, metric: str, x: str, own: tuple[str, ...]) -> Panel:
    sheet = {
        "model": column(rows, "model"),
        "x": column(rows, "value_x", 100),
        "y": column(rows, "above_fit", 100),
    }
    sheet["tag"] = _extremes(sheet)
    return scatter(
        f"above-{metric}",
        sheet,
        plain_side([f"On {x} (%)"], typical(sheet["x"])),
        plain_side(["Points above the fit"], [0.0, *typical(sheet["y"])], percent=False),
        title=axis(metric).removesuffix(" (%)"),
        tips=[(f"On {x}", "x", "2", " %"), ("Points above the fit", "y", "2", "")],
        lines=[Line(0.0, 0.0)],
        own=own,
        height=220,
    )


def _extremes(sheet: dict[str, list[Any]]) -> list[str]:
    """Return the names of the two models farthest above the fit, and of the one farthest below."""
    low, high = min(typical(sheet["x"])), max(typical(sheet["x"]))
    inside = [i for i, v in enumerate(sheet["x"]) if low <= v <= high]
    order = sorted(inside, key=lambda i: sheet["y"][i])
    told = {order[0], order[-1]} if len(order) > 2 else set()
    return [m if i in told else "" for i, m in enumerate(sheet["model"])]


def sensitivity(numbers: Numbers, x: str, y: str) -> Figure | None:
    """Return the mean drop under each way of making the label sets comparable."""
    rows = numbers["sensitivity"].filter((pl.col("dataset_x") == x) & (pl.col("dataset_y") == y))
    if rows.is_empty():
        return None
    used = sorted(rows["metric"].unique().to_list(), key=reading_order)[:3]
    panels = [_sensitive(rows.filter(pl.col("metric") == m), m, (x, y)) for m in used]
    drops = column(rows, "drop", 100)
    lo, hi = min(drops), max(drops)
    return Figure(
        f"sensitivity-{slug(x)}-{slug(y)}",
        "shift",
        "",
        f"How far the loss from {x} to {y} depends on how label sets were made",
        f"{WARNING} The mean loss of all models in percentage points, with its 95 % interval over "
        f"families of models. The first data set is {x}, the second {y}. A set is re-weighted so that "
        "images with few and many labels count as in the other, restricted to images that people rated, or "
        "labelled by another threshold. In brackets: the share of images with two or more labels in the "
        "first and in the second.",
        f"Between {lo:.1f} and {hi:.1f} points, by analysis.",
        compose(panels, columns=2),
        rows.to_arrow(),
    )


def _sensitive(rows: pl.DataFrame, metric: str, ends: tuple[str, str]) -> Panel:
    labels = [_analysis(row) for row in rows.iter_rows(named=True)]
    shares = [
        f"{100 * a:.0f} % and {100 * b:.0f} %" for a, b in zip(rows["multi_x"], rows["multi_y"], strict=True)
    ]
    middle = {
        "label": labels,
        "x": column(rows, "drop", 100),
        "lo": column(rows, "lo_models", 100),
        "hi": column(rows, "hi_models", 100),
        "multi": shares,
        "text": [f"{signed(100 * d)} [{s}]" for d, s in zip(rows["drop"], shares, strict=True)],
    }
    return strips(
        f"sensitivity-{metric}",
        {"model": [], "label": [], "x": []},
        middle,
        _sensitive_side(middle, ends),
        title={"text": axis(metric).removesuffix(" (%)"), "subtitle": [WARNING, SHARES]},
        tips=[
            ("", "label"),
            ("Points lost", "x", "2", "", "lo", "hi"),
            (f"Two or more labels, {ends[0]} and {ends[1]}", "multi"),
        ],
        width=330,
        zero=True,
        above=True,
    )


def _sensitive_side(middle: dict[str, list[Any]], ends: tuple[str, str]) -> Side:
    return plain_side(
        [f"Points lost from {ends[0]} to {ends[1]}"], [0.0, *middle["x"], *middle["hi"]], percent=False
    )


def _analysis(row: dict[str, Any]) -> str:
    words = ANALYSES.get(row["analysis"], row["analysis"])
    return words if row["threshold"] is None else f"{words} {row['threshold']:g} on"
