"""Values with intervals: differences of average precision by class, posterior values, and error ratios."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import altair as alt
import polars as pl
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.core.jackknife import FEWEST_POSITIVES
from manyhot.evaluate.class_differences import ClassVerdict, class_verdict
from manyhot.evaluate.posterior import headline_rows
from manyhot.evaluate.report.figures.bars import NO_MODELS, dots, strips, with_line
from manyhot.evaluate.report.figures.panel import (
    Frames,
    Panel,
    Sheet,
    column,
    compose,
    data,
    ink,
    shortened,
    slug,
)
from manyhot.evaluate.report.figures.scatter import Side, plain_side
from manyhot.report.figure import Figure
from manyhot.report.text import counted, metric, slice_label, title_of, with_minus
from manyhot.tables import Row

DRAWN_DIFFERENCES = 20
"""Classes with a row in the figure, those with the largest differences."""

_WIDTH, _ROW = 240, 22
"""Width of the panel, which fits on a phone with the names of classes, and height of a row."""

_TIPS = (("Class", "label"), ("Difference", "value", "2", " points", "lo", "hi"), ("Images", "text"))


def draw_class_differences(frames: Frames) -> Iterator[Figure]:
    """Yield a figure for each data set on which two models were compared by class."""
    table = frames.tables["class_differences"]
    for dataset in pc.unique(table["dataset"]).to_pylist():
        found = class_verdict(table.filter(pc.equal(table["dataset"], dataset)))
        if found is not None and found.tested:
            yield _difference_figure(dataset, found)


def _difference_figure(dataset: str, verdict: ClassVerdict) -> Figure:
    name, (reference, model) = f"class-differences-{slug(dataset)}", verdict.names
    tested = sorted(verdict.tested, key=lambda r: -abs(r["difference"]))[:DRAWN_DIFFERENCES]
    minus = f"{model} − {reference}"
    untested = verdict.untested[: DRAWN_DIFFERENCES - len(tested)]  # those on the most images first
    ends = [100 * r[f"difference{end}"] for r in tested for end in ("", "_lo", "_hi")]
    ends += [100 * r["difference"] for r in untested]
    x = plain_side(["Difference of average precision (points)"], [0.0, *ends], percent=False)
    rows = sorted([*tested, *untested], key=lambda r: -r["difference"])
    n = len(verdict.tested)
    which = f"the {len(tested)} of {n:,} classes with the largest" if n > len(tested) else "the"
    grey = " Grey circles are classes that were not tested." if untested else ""
    if n_more := len(verdict.untested) - len(untested):
        grey += (
            f" {counted(n_more, 'class')} that could not be tested {'is' if n_more == 1 else 'are'} left out."
        )
    largest = tested[0]
    return Figure(
        name,
        "classes",
        dataset,
        f"Difference of average precision by class, {minus}, {title_of(dataset)}",
        f"To the right of the line, {model} has the higher average precision. Black dots show {which} "
        f"differences, with 95 % intervals that are not corrected for the number of classes. Only classes "
        f"that {FEWEST_POSITIVES} or more images show are tested. The number of images of each class is at "
        f"the right.{grey}",
        f"The largest difference is that of {largest['key']}, "
        f"{with_minus(100 * largest['difference'], 2)} points on "
        f"{counted(largest['n_positives'], 'image')}.",
        compose([_with_untested(name, _difference_sheet(rows, tested), x)]),
        pa.Table.from_pylist(rows),
    )


def _difference_sheet(rows: Sequence[Row], tested: Sequence[Row]) -> Sheet:
    """Return the rows; ``x`` is empty and ``grey`` filled for classes that were not tested."""
    black = {r["class_id"] for r in tested}
    values = [100 * r["difference"] for r in rows]
    is_black = [r["class_id"] in black for r in rows]
    return {
        "label": [r["key"] for r in rows],
        "value": values,
        "x": [v if b else None for v, b in zip(values, is_black, strict=True)],
        "grey": [None if b else v for v, b in zip(values, is_black, strict=True)],
        **{
            end: [100 * r[f"difference_{end}"] if b else None for r, b in zip(rows, is_black, strict=True)]
            for end in ("lo", "hi")
        },
        "text": [f"{r['n_positives']:,}" for r in rows],
    }


def _with_untested(name: str, sheet: Sheet, x: Side) -> Panel:
    """Return the panel of dots with intervals, and a grey point for each class that was not tested."""
    panel = strips(name, NO_MODELS, sheet, x, tips=_TIPS, width=_WIDTH, row=_ROW, zero=True)
    y = alt.Y(field="label", type="nominal", sort=list(sheet["label"]), title=None)
    points: Any = alt.Chart(data(f"{name}-middle")).transform_filter("isValid(datum.grey)")
    grey = points.mark_point(size=60, color=ink("faint"), filled=False, opacity=1)
    return replace(panel, layers=[*panel.layers, grey.encode(x.channel(alt.X, "grey"), y)])


DOTS = 20
"""Models that are drawn."""


def draw_posterior(frames: Frames) -> list[Figure]:
    """Return, for each data set, a figure of its first metric."""
    found: dict[str, list[Row]] = {}
    for row in headline_rows(frames.tables["posterior"]):
        rows = found.setdefault(row["dataset"], [])
        if not rows or row["metric"] == rows[0]["metric"]:
            rows.append(row)
    return [_posterior_figure(dataset, rows) for dataset, rows in found.items()]


def _posterior_figure(dataset: str, rows: Sequence[Row]) -> Figure:
    named = metric(rows[0]["metric"])
    best = sorted(rows, key=lambda r: r["value"], reverse=not named.lower_is_better)
    drawn = best[:DOTS]
    ends = {"x": "value", "lo": "lo", "hi": "hi", "inner_lo": "lo_raters", "inner_hi": "hi_raters"}
    middle: Sheet = {
        to: [None if r[of] is None else named.draw(r[of]) for r in drawn] for to, of in ends.items()
    }
    texts = [f"n {r['n']:,}" for r in drawn]
    middle = {**middle, "label": [shortened(r["model"], 40) for r in drawn], "text": texts}
    name = f"posterior-{slug(dataset)}"
    tips = [("", "label"), (named.label, "x", "2", named.unit, "lo", "hi"), ("Images", "text")]
    axis = f"{named.axis or named.label}{' (%)' if named.percent else ''}"
    rest = f" The first {counted(DOTS, 'model')} of {len(rows):,} are drawn." if len(rows) > DOTS else ""
    return Figure(
        name,
        "posterior",
        dataset,
        f"{named.label} under the posterior, {title_of(dataset)}",
        "A dot is the mean over the draws of label sets. Thin bars are 95 % intervals over raters and "
        f"images, and thick bars are 95 % intervals over raters alone.{rest}",
        f"Best: {drawn[0]['model']}, {named.text(drawn[0]['value'], 2)}{named.unit}.",
        compose([dots(name, middle, axis=axis, percent=named.percent, tips=tips)]),
        pa.Table.from_pylist(list(rows)),
    )


_RATIO_WIDTH = 330


def draw_error_ratios(frames: Frames) -> list[Figure]:
    """Return a figure for each data set that has error ratios."""
    parts = frames["error_ratios"].partition_by("dataset", maintain_order=True)
    return [_ratio_figure(frames, part) for part in parts]


def _ratio_figure(frames: Frames, rows: pl.DataFrame) -> Figure:
    is_whole = pl.col("slice") == pl.col("whole")
    whole = rows.filter(is_whole).row(0, named=True)
    rows = rows.filter(~is_whole)
    means = rows.filter(pl.col("model").is_null()).sort("n_x", descending=True, maintain_order=True)
    each = rows.filter(pl.col("model").is_not_null())
    known = [v for end in "xy" for c in ("", "_lo", "_hi") for v in column(means, f"error_ratio_{end}{c}")]
    known += [1.0, *(v for end in "xy" for v in column(each, f"error_ratio_{end}"))]
    labels = [metric(whole[f"metric_{end}"]).label for end in "xy"]
    panels = [
        _ratio_panel(means, each, end, plain_side([f"Error ratio by {label}"], known, percent=False))
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
        f"({n_all}); the dashed line marks a ratio of 1. {'Each faint tick is a model. ' * (n > 1)}The dot "
        f"is {dot}, with its 95 % interval.",
        _ratio_summary(means, labels),
        compose(panels, frames.own, columns=2),
        rows.to_arrow(),
    )


def _ratio_panel(means: pl.DataFrame, each: pl.DataFrame, end: str, side: Side) -> Panel:
    names = {s: f"{slice_label(s)} (n {n:,})" for s, n in means.select("slice", f"n_{end}").iter_rows()}
    ratio = f"error_ratio_{end}"
    middle: Sheet = {
        "label": list(names.values()),
        "x": column(means, ratio),
        "lo": column(means, f"{ratio}_lo"),
        "hi": column(means, f"{ratio}_hi"),
        "text": [f"{v:.2f}" for v in means[ratio]],
    }
    models = NO_MODELS
    if means["n_models"][0] > 1:
        labels = [names[s] for s in each["slice"]]
        models = {"model": column(each, "model"), "label": labels, "x": column(each, ratio)}
    name = f"error-ratios-{end}"
    tips = [("Images", "label"), ("Error ratio", "x", "2", "", "lo", "hi")]
    panel = strips(name, models, middle, side, tips=tips, width=_RATIO_WIDTH, above=True)
    return with_line(panel, name, side, 1.0)


def _ratio_summary(means: pl.DataFrame, labels: list[str]) -> str:
    most = means.sort("error_ratio_x", descending=True).head(3)
    listed = "; ".join(
        f"{slice_label(r['slice'])} {r['error_ratio_x']:.2f} and {r['error_ratio_y']:.2f}"
        for r in most.iter_rows(named=True)
    )
    return f"Highest error ratios by {labels[0]}, and ratios of the same groups by {labels[1]}: {listed}."
