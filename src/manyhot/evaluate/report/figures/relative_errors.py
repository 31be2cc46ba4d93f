"""Error ratios of slices under two metrics, side by side."""

from __future__ import annotations

import polars as pl

from manyhot.evaluate.report.figures.bars import strips, with_line
from manyhot.evaluate.report.figures.panel import Frames, Panel, Sheet, column, compose, slug
from manyhot.evaluate.report.figures.scatter import Side, plain_side
from manyhot.report.figure import Figure
from manyhot.report.text import counted, metric, slice_label, title_of

_WIDTH = 330


def draw_error_ratios(frames: Frames) -> list[Figure]:
    """Return a figure for each data set that has error ratios."""
    parts = frames["error_ratios"].partition_by("dataset", maintain_order=True)
    return [_figure(frames, part) for part in parts]


def _figure(frames: Frames, rows: pl.DataFrame) -> Figure:
    is_whole = pl.col("slice") == pl.col("whole")
    whole = rows.filter(is_whole).row(0, named=True)
    rows = rows.filter(~is_whole)
    means = rows.filter(pl.col("model").is_null()).sort("n_x", descending=True, maintain_order=True)
    each = rows.filter(pl.col("model").is_not_null())
    known = [v for end in "xy" for c in ("", "_lo", "_hi") for v in column(means, f"error_ratio_{end}{c}")]
    known += [1.0, *(v for end in "xy" for v in column(each, f"error_ratio_{end}"))]
    labels = [metric(whole[f"metric_{end}"]).label for end in "xy"]
    panels = [
        _panel(means, each, end, plain_side([f"Error ratio by {label}"], known, percent=False))
        for end, label in zip("xy", labels, strict=True)
    ]
    n, n_all = whole["n_models"], f"n {whole['n_x']:,} and {whole['n_y']:,}"
    dot = f"the mean over {counted(n, 'model')}" if n > 1 else each["model"][0]
    return Figure(
        f"error-ratios-{slug(whole['dataset'])}",
        "groups",
        whole["dataset"],
        f"Errors by group of images, relative to all, {title_of(whole['dataset'])}",
        f"The error ratio is the error on a group divided by the error on {slice_label(whole['whole'])} "
        f"({n_all}); the dashed line is a ratio of 1. {'Each faint tick is a model. ' * (n > 1)}The dot is "
        f"{dot}, with its 95 % interval.",
        _summary(means, labels),
        compose(panels, frames.own, columns=2),
        rows.to_arrow(),
    )


def _panel(means: pl.DataFrame, each: pl.DataFrame, end: str, side: Side) -> Panel:
    names = {s: f"{slice_label(s)} (n {n:,})" for s, n in means.select("slice", f"n_{end}").iter_rows()}
    ratio = f"error_ratio_{end}"
    middle: Sheet = {
        "label": list(names.values()),
        "x": column(means, ratio),
        "lo": column(means, f"{ratio}_lo"),
        "hi": column(means, f"{ratio}_hi"),
        "text": [f"{v:.2f}" for v in means[ratio]],
    }
    several = means["n_models"][0] > 1
    models: Sheet = {
        "model": column(each, "model") if several else [],
        "label": [names[s] for s in each["slice"]] if several else [],
        "x": column(each, ratio) if several else [],
    }
    name = f"error-ratios-{end}"
    tips = [("Images", "label"), ("Error ratio", "x", "2", "", "lo", "hi")]
    panel = strips(name, models, middle, side, tips=tips, width=_WIDTH, above=True)
    return with_line(panel, name, side, 1.0)


def _summary(means: pl.DataFrame, labels: list[str]) -> str:
    most = means.sort("error_ratio_x", descending=True).head(3)
    listed = "; ".join(
        f"{slice_label(r['slice'])} {r['error_ratio_x']:.2f} and {r['error_ratio_y']:.2f}"
        for r in most.iter_rows(named=True)
    )
    return f"Highest error ratios by {labels[0]}, and ratios of the same groups by {labels[1]}: {listed}."
