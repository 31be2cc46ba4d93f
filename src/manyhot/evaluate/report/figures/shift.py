"""From one data set to another: accuracy on both, mean drops, robustness, and what depends on the labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from manyhot.evaluate.report.figures.bars import Group, groups, strips
from manyhot.evaluate.report.figures.panel import (
    CROSSES,
    Frames,
    Panel,
    axis,
    beyond_said,
    column,
    compose,
    format_interval,
    line_said,
    points_said,
    short,
    signed,
    slug,
)
from manyhot.evaluate.report.figures.scatter import (
    Line,
    Side,
    plain_side,
    probit,
    probit_side,
    scatter,
    shown_both,
    slope_said,
    typical,
)
from manyhot.evaluate.report.overview import PROTOCOLS
from manyhot.report.figure import Figure
from manyhot.report.text import counted, listed, title_of
from manyhot.tables.result_tables import reading_order

METRICS = 6
"""Metrics of the figure of mean drops; further ones are in the tables."""


PANELS = 3
"""Metrics of a figure with one panel for each."""


ANALYSIS_TITLES = {
    "as published": "As published",
    "not empty": "Without images whose set is empty",
    "sizes of y": "First set weighted to the sizes of the second",
    "sizes of x": "Second set weighted to the sizes of the first",
    "rated at x": "Rated images of the first only",
    "rated, sizes of y": "The same, weighted to the sizes of the second",
    "threshold at x": "First set, labels from probability",
}

_LINE = ("scale", "slope", "slope_lo", "slope_hi", "intercept", "intercept_lo", "intercept_hi")
"""Columns of a fitted line in the data of a figure."""


SHIFT = (
    "On the dashed line, both accuracies are equal. The solid line is fitted to all models by least "
    "squares. The interval of its slope is computed over families of models, because models of one family "
    "are similar."
)

PROBIT = (
    "Both axes are stretched towards 0 and 100 % by the inverse of the normal distribution, because such "
    "relations tend to be straight lines on these axes."
)


def draw_shift(frames: Frames) -> Iterator[Figure | None]:
    """Yield the figures of the section."""
    for x, y in _pairs(frames):
        rows = _rows(frames, x, y)
        yield accuracy_figure(frames, rows, x, y) if frames.tables.has_trends else None
        yield mean_drops(frames, rows, x, y)
        yield robustness_figure(frames, rows, x, y) if frames.tables.has_trends else None
        yield sensitivity_figure(frames, x, y)


def _pairs(frames: Frames) -> list[tuple[str, str]]:
    """Return the pairs of data sets that were compared by one metric on all images."""
    both = pl.concat([frames[t].select("dataset_x", "dataset_y") for t in ("drops", "sensitivity")])
    found = both.filter(pl.col("dataset_x") != pl.col("dataset_y")).unique(maintain_order=True)
    return list(zip(*found.to_dict(as_series=False).values(), strict=True)) if found.height else []


def _rows(frames: Frames, x: str, y: str) -> pl.DataFrame:
    """Return the drops of the pair by one metric on all images."""
    rows = frames["drops"].filter(dataset_x=x, dataset_y=y, slice_x="all", slice_y="all")
    return rows.filter(pl.col("metric_x") == pl.col("metric_y"))


def _metrics(rows: pl.DataFrame) -> list[str]:
    return sorted(rows["metric_x"].unique().to_list(), key=reading_order)[:METRICS]


def accuracy_figure(frames: Frames, rows: pl.DataFrame, x: str, y: str) -> Figure | None:
    """Plot accuracy on the second data set against accuracy on the first, with one panel per metric.

    The axes are chosen so that the points come closest to straight lines.
    """
    each = rows.filter(pl.col("model").is_not_null())
    used = _metrics(each)[:PANELS]
    if not used:
        return None
    scale, fits = _straightest(frames, x, y, used)
    n = each["model"].n_unique()
    panels = [_accuracy(frames, each, x, y, m, scale, fits[m]) for m in used]
    lines = f" {SHIFT}" if any(fits.values()) else " On the dashed line, both accuracies are equal."
    return Figure(
        f"shift-{slug(x)}-{slug(y)}",
        "shift",
        "",
        f"Accuracy on {title_of(y)} against accuracy on {title_of(x)}",
        f"{points_said(n, f'the 95 % intervals {frames.tables.over(x, y)}')}{lines}"
        f"{f' {PROBIT}' if scale == 'probit' else ''}{beyond_said(panels)}",
        f"{counted(n, 'model')}. {_fits_said(fits)}".strip(),
        compose(panels, frames.own),
        _drawn_numbers(frames, x, y, fits),
    )


def _straightest(
    frames: Frames, x: str, y: str, used: Sequence[str]
) -> tuple[str, dict[str, dict[str, Any] | None]]:
    """Return the scale of the axes on which lines explain most, probit among equals, with its lines."""
    fits = {scale: {m: frames.fit((x, m), (y, m), scale) for m in used} for scale in ("probit", "plain")}
    best = max(fits, key=lambda scale: sum((fit or {}).get("r2") or 0.0 for fit in fits[scale].values()))
    return best, fits[best]


def _drawn_numbers(frames: Frames, x: str, y: str, fits: dict[str, dict[str, Any] | None]) -> pa.Table:
    """Return points, their intervals, and the line of each metric."""
    parts = []
    for metric, fit in fits.items():
        line = [pl.lit(fit and fit[name]).alias(name) for name in _LINE]
        parts.append(
            frames.both((x, metric), (y, metric)).select(pl.lit(metric).alias("metric"), pl.all(), *line)
        )
    return pl.concat(parts, how="vertical_relaxed").to_arrow()


def _table(rows: pl.DataFrame, used: Sequence[str], *columns: str) -> pa.Table:
    """Return the numbers that are drawn."""
    drawn = rows.filter(pl.col("metric_x").is_in(used)).rename({"metric_x": "metric"})
    return drawn.select("metric", "model", *columns).to_arrow()


def _fits_said(fits: dict[str, dict[str, Any] | None]) -> str:
    known = [f"{short(m)}: {slope_said(fit)}" for m, fit in fits.items() if fit]
    return f"Fitted lines. {'; '.join(known)}." if known else ""


def _accuracy(
    frames: Frames, each: pl.DataFrame, x: str, y: str, metric: str, scale: str, fit: dict[str, Any] | None
) -> Panel:
    own = each.filter(metric_x=metric).sort("model")
    both = frames.both((x, metric), (y, metric)).select("model", "x_lo", "x_hi", "y_lo", "y_hi")
    joined = own.join(both, on="model", how="left", maintain_order="left")
    shares = {"x": "value_x", "y": "value_y"} | {c: c for c in ("x_lo", "x_hi", "y_lo", "y_hi")}
    tips = [
        (f"On {title_of(end)}", field, "2", " %", f"{field}_lo", f"{field}_hi")
        for end, field in ((x, "x"), (y, "y"))
    ]
    return _drawn(f"{scale}-{metric}", joined, shares, (x, y), metric, scale, fit, tips, frames.own)


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
    titles = [f"On {title_of(end)} (%)" for end in ends]
    if scale == "plain":
        sheet: dict[str, list[Any]] = {new: column(rows, old, 100) for new, old in shares.items()}
        sides = [plain_side([t], v) for t, v in zip(titles, shown_both(sheet), strict=True)]
        lines = [] if fit is None else [Line(fit["slope"], 100 * fit["intercept"])]
    else:
        sheet = {new: [None if v is None else probit(v) for v in rows[old]] for new, old in shares.items()}
        sheet |= {f"p_{new}": column(rows, old, 100) for new, old in shares.items()}
        bounds = ("", "_lo", "_hi") if rows.height <= CROSSES else ("",)
        drawn = {v: [s for end in bounds for s in rows[shares[v + end]]] for v in "xy"}
        sides = [probit_side([t], drawn[v]) for t, v in zip(titles, "xy", strict=True)]
        lines = [] if fit is None else [Line(fit["slope"], fit["intercept"])]
        tips = [(t[0], *(f"p_{f}" if i in (0, 3, 4) else f for i, f in enumerate(t[1:]))) for t in tips]
    title = {
        "text": axis(metric).removesuffix(" (%)"),
        "subtitle": slope_said(fit).capitalize() if fit else "",
    }
    model = {"model": column(rows, "model")}
    panel = scatter(name, model | sheet, *sides, title=title, tips=tips, equal=True, lines=lines, own=own)
    return line_said(panel) if lines else panel


def mean_drops(frames: Frames, rows: pl.DataFrame, x: str, y: str) -> Figure | None:
    """Plot the mean drop by each metric, its intervals over images and families, and the models' drops."""
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
    ends = [v for name in ("x", "lo", "hi", "inner_lo", "inner_hi") for v in middle[name]]
    panel = strips(
        "drops",
        models,
        middle,
        plain_side(
            [f"Points lost from {title_of(x)} to {title_of(y)}"],
            [0.0, *typical(models["x"]), *ends],
            percent=False,
        ),
        tips=[("By", "label"), ("Points lost", "x", "2", "", "lo", "hi")],
        width=430,
        zero=True,
        above=True,
    )
    said = [f"{label} {text} points" for label, text in zip(labels, middle["text"], strict=True)]
    return Figure(
        f"drops-{slug(x)}-{slug(y)}",
        "shift",
        "",
        f"How much models lose from {title_of(x)} to {title_of(y)}",
        "The loss is the accuracy on the first data set minus the accuracy on the second, in percentage "
        f"points. Each faint tick is a model, and the dot is the mean over models. "
        f"{_bars_said(means, frames.tables.over(x, y))}{beyond_said([panel])}",
        f"Mean loss with its 95 % interval: {listed(said, len(said))}.",
        compose([panel], frames.own),
        _table(pl.concat([means, each]), used, "drop", "lo", "hi", "lo_models", "hi_models", "n_x", "n_y"),
    )


def _middles(means: pl.DataFrame) -> dict[str, list[Any]]:
    fields = {"x": "drop", "lo": "lo_models", "hi": "hi_models", "inner_lo": "lo", "inner_hi": "hi"}
    text = [_with_interval(*row) for row in zip(means["drop"], means["lo"], means["hi"], strict=True)]
    return {**{new: column(means, old, 100) for new, old in fields.items()}, "text": text}


def _bars_said(means: pl.DataFrame, over: str) -> str:
    """Return what the bars around the means show; results that were published as numbers have one kind."""
    if means["lo"].null_count() == means.height:
        return "The line is its 95 % interval over families of models."
    return (
        f"The thick bar is its 95 % interval {over}, and the thin line is its 95 % interval over "
        f"families of models. The mean with its interval {over} is written at the right."
    )


def _with_interval(drop: float, lo: float | None, hi: float | None) -> str:
    ends = "" if lo is None or hi is None else f" ({format_interval(100 * lo, 100 * hi)})"
    return f"{signed(100 * drop)}{ends}"


def robustness_figure(frames: Frames, rows: pl.DataFrame, x: str, y: str) -> Figure | None:
    """Plot each model's distance above the fit to all models, on the second data set."""
    each = rows.filter(pl.col("model").is_not_null() & pl.col("above_fit").is_not_null())
    if each.is_empty():
        return None
    used = _metrics(each)[:2]
    rows_of = {m: each.filter(metric_x=m).sort("model") for m in used}
    panels = [_above(own, m, x, frames.own) for m, own in rows_of.items()]
    return Figure(
        f"robustness-{slug(x)}-{slug(y)}",
        "shift",
        "",
        f"Which models do better on {title_of(y)} than their accuracy on {title_of(x)} predicts",
        "Effective robustness is the accuracy on the second data set minus the value that a line fitted on "
        "logit axes predicts from the accuracy on the first data set, in percentage points. Each point is a "
        "model. A model above zero is more robust than models of its accuracy usually are."
        + beyond_said(panels),
        " ".join(_extremes_said(own, m) for m, own in rows_of.items()),
        compose(panels, frames.own),
        _table(each, used, "value_x", "above_fit", "n_x", "n_y"),
    )


def _extremes_said(rows: pl.DataFrame, metric: str) -> str:
    top, *_, low = _extremes(rows) * 2
    values = dict(zip(rows["model"], rows["above_fit"], strict=True))
    said = f"{short(metric)}: {top} is highest ({signed(100 * values[top])} points)"
    return said + (f" and {low} is lowest ({signed(100 * values[low])})." if low != top else ".")


def _above(rows: pl.DataFrame, metric: str, x: str, own: tuple[str, ...]) -> Panel:
    sheet = {
        "model": column(rows, "model"),
        "x": column(rows, "value_x", 100),
        "y": column(rows, "above_fit", 100),
    }
    lowest, highest = min(sheet["y"]), max(sheet["y"])
    room = 0.14 * (highest - lowest)
    return scatter(
        f"above-{metric}",
        sheet,
        plain_side([f"On {title_of(x)} (%)"], sheet["x"]),
        Side(["Points above the fit"], (min(lowest, 0.0) - room, max(highest, 0.0) + room)),
        title=axis(metric).removesuffix(" (%)"),
        tips=[(f"On {title_of(x)}", "x", "2", " %"), ("Points above the fit", "y", "2", "")],
        lines=[Line(0.0, 0.0)],
        own=own,
        first=_extremes(rows),
        width=250,
        height=240,
    )


def _extremes(rows: pl.DataFrame) -> list[str]:
    """Return the model farthest above the fit, and the one farthest below."""
    order = rows.sort("above_fit", "model", descending=[True, False])["model"].to_list()
    return order if len(order) < 2 else [order[0], order[-1]]


def sensitivity_figure(frames: Frames, x: str, y: str) -> Figure | None:
    """Plot the mean drop under each sensitivity analysis."""
    rows = frames["sensitivity"].filter(dataset_x=x, dataset_y=y)
    if rows.is_empty():
        return None
    used = sorted(rows["metric"].unique().to_list(), key=reading_order)[:2]
    rows = rows.filter(pl.col("metric").is_in(used))
    found = [_analyses(rows.filter(metric=m), m) for m in used]
    values = [v for name in ("drop", "lo_models", "hi_models") for v in column(rows, name, 100)]
    panel = groups(
        "sensitivity",
        found,
        plain_side([f"Points lost from {title_of(x)} to {title_of(y)}"], [0.0, *values], percent=False),
        title="",
        heads=("Points lost", "Two or more labels"),
        tips=[("", "label"), ("Points lost", "x", "2", "", "lo", "hi"), ("Two or more labels", "second")],
    )
    return Figure(
        f"sensitivity-{slug(x)}-{slug(y)}",
        "shift",
        "",
        f"How much the loss from {title_of(x)} to {title_of(y)} depends on how label sets were made",
        "The figure shows the mean loss of all models in percentage points, with its 95 % interval over "
        f"families of models. The first data set is {title_of(x)}, and the second is {title_of(y)}. If a "
        "data set is weighted, images with each number of labels have the same share as in the other data "
        "set. The numbers at the right are the shares of images with two or more labels, among images with a "
        "label, in the first and in the second data set. The dashed line is the loss as published.",
        f"{' '.join(_analyses_said(group) for group in found)} {PROTOCOLS}",
        compose([panel]),
        rows.select(
            "metric", "analysis", "threshold", "drop", "lo_models", "hi_models", "multi_x", "multi_y"
        ).to_arrow(),
    )


def _analyses(rows: pl.DataFrame, metric: str) -> Group:
    drops = column(rows, "drop", 100)
    sheet = {
        "label": [_analysis(row) for row in rows.iter_rows(named=True)],
        "x": drops,
        "lo": column(rows, "lo_models", 100),
        "hi": column(rows, "hi_models", 100),
        "first": [signed(d) for d in drops],
        "second": [
            f"{100 * a:.0f} % and {100 * b:.0f} %"
            for a, b in zip(rows["multi_x"], rows["multi_y"], strict=True)
        ],
    }
    published = [d for d, a in zip(drops, rows["analysis"], strict=True) if a == "as published"]
    return Group(short(metric), sheet, published[0] if published else None)


def _analyses_said(group: Group) -> str:
    drops = group.sheet["x"]
    published = "" if group.level is None else f"{signed(group.level)} points as published; "
    return (
        f"{group.title}: {published}{signed(min(drops))} to {signed(max(drops))}, depending on the analysis."
    )


def _analysis(row: dict[str, Any]) -> str:
    words = ANALYSIS_TITLES.get(row["analysis"], row["analysis"])
    return words if row["threshold"] is None else f"{words} {row['threshold']:g} on"
