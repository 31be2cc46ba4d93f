"""Figures of errors, label issues, calibration and groups of images."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from manyhot.evaluate.report.figures.bars import bars, dots
from manyhot.evaluate.report.figures.curves import NAMES, reliability_panel
from manyhot.evaluate.report.figures.panel import Panel, Sheet, compose, shortened, slug
from manyhot.report.chapter import percent
from manyhot.report.figure import Figure
from manyhot.report.text import title_of
from manyhot.tables import Row


def draw_error_kinds(models: Sequence[Sequence[Row]]) -> tuple[Figure, ...]:
    """Plot the shares of the kinds of errors, in a panel for each model."""
    if not models:
        return ()
    rows = [row for of_model in models for row in of_model]
    shares = "; ".join(f"{r['model']}, {r['kind']}: {percent(r['share'], 1)}" for r in rows)
    ends = [100 * row[end] for row in rows for end in ("lo", "hi")]  # one axis for all panels
    panels = [_kinds(f"errors-{i}", of_model, len(models), ends) for i, of_model in enumerate(models)]
    names = ("dataset", "model", "kind", "errors", "share", "lo", "hi", "n_sorted")
    figure = Figure(
        "errors-kinds",
        "errors",
        "",
        "Kinds of errors",
        "A dot is the share of errors of this kind, and its bar is the 95 % interval.",
        f"{shares}.",
        compose(panels, columns=len(panels)),
        pa.Table.from_pylist([{name: row[name] for name in names} for row in rows]),
    )
    return (figure,)


def _kinds(name: str, rows: Sequence[Row], n_panels: int, ends: Sequence[float]) -> Panel:
    sheet: Sheet = {
        "label": [r["kind"] for r in rows],
        "x": [100 * r["share"] for r in rows],
        "inner_lo": [100 * r["lo"] for r in rows],
        "inner_hi": [100 * r["hi"] for r in rows],
        "text": [f"{r['errors']:,} of {r['n_sorted']:,}" for r in rows],
    }
    return dots(
        name,
        sheet,
        axis="Share of the errors (%)",
        also=ends,
        title=rows[0]["model"] if n_panels > 1 else "",
        tips=[("", "label"), ("Share", "x", "1", " %", "inner_lo", "inner_hi"), ("Errors", "text")],
        width=440 if n_panels == 1 else 300,
    )


def draw_label_pairs(pairs: Sequence[Row], n_all: int) -> tuple[Figure, ...]:
    """Plot the pairs of classes with the most doubtful labels."""
    if not pairs:
        return ()
    sheet: Sheet = {
        "label": [r["pair"] for r in pairs],
        "value": [r["n"] for r in pairs],
        "text": [f"{r['n']:,}" for r in pairs],
    }
    top = 1.15 * max(r["n"] for r in pairs)
    tips = [("", "label"), ("Doubtful labels", "text")]
    title = "Images with a doubtful label"
    panel = bars("label-pairs", sheet, x_title=title, top=top, title="", tips=tips, width=440)
    figure = Figure(
        "labels-pairs",
        "labels",
        "",
        "Labels that may be wrong, and the classes suggested instead",
        f"The {len(pairs):,} most frequent of {n_all:,} pairs of a label and the class suggested instead.",
        f"First: {pairs[0]['pair']}, {pairs[0]['n']:,} images.",
        compose([panel]),
        pa.Table.from_pylist(list(pairs)),
    )
    return (figure,)


FEWEST_IN_BIN = 10
"""Images of a bin that is drawn: the share of fewer says nothing."""


def _drawn(row: Row) -> bool:
    return bool(row["n"] >= FEWEST_IN_BIN and row["event"] in NAMES)


def draw_class_reliability(dataset: str, model: str, bins: Sequence[Row]) -> tuple[Figure, ...]:
    """Plot how often classes are valid against their probability, pooled over all classes of a model."""
    own = [
        {**b, "event": "set"}
        for b in bins
        if (b["dataset"], b["model"]) == (dataset, model) and b["n"] >= FEWEST_IN_BIN and b["lo"] is not None
    ]
    if not own:
        return ()
    name = f"calibration-classes-{slug(dataset)}-{slug(model)}"
    axes = ("Probability of a class (%)", "Valid (%)")
    figure = Figure(
        name,
        "trust",
        dataset,
        f"Reliability of the class probabilities of {model}, {title_of(dataset)}",
        "A point shows the mean probability of the (image, class) pairs in a bin, and the share of these "
        "pairs whose class is in the label set. Images without any valid class count. Bars are 95 % "
        "intervals, and "
        "larger points are bins of more pairs. Below the dashed line, probabilities are too high. Bins of "
        f"fewer than {FEWEST_IN_BIN} pairs are left out.",
        "; ".join(f"{percent(b['confidence'])}: {percent(b['right'])} valid" for b in own) + ".",
        compose([reliability_panel(name, pl.DataFrame(own), "All classes", axes=axes)]),
        pa.Table.from_pylist([{**b, "event": "class"} for b in own]),
    )
    return (figure,)


def draw_reliability(before: Row, best: Row, bins: Sequence[Row]) -> tuple[Figure, ...]:
    """Plot the reliability of a model before recalibration and, if there was any, after the best method."""
    keys = ("dataset", "model", "method", "fitted_to")
    panels, drawn = [], list[Row]()
    name = f"calibration-{slug(before['dataset'])}-{slug(before['model'])}"
    for place, version in enumerate([before] if best is before else [before, best]):
        own = [b for b in bins if _drawn(b) and all(b[key] == version[key] for key in keys)]
        if own:
            title = f"After {version['method']} ({version['fitted_to']})" if place else "As it is"
            panels.append(reliability_panel(f"{name}-{place}", pl.DataFrame(own), title))
            drawn += own
    if not panels:
        return ()
    figure = Figure(
        name,
        "trust",
        before["dataset"],
        f"Reliability of {before['model']}, {title_of(before['dataset'])}",
        "A point shows the mean confidence of a bin of held-out images, and the share of these images on "
        "which the top class is right. Bars are 95 % intervals, and larger points are bins of more images. "
        "Below the "
        "dashed line, the "
        f"model is too confident. Bins of fewer than {FEWEST_IN_BIN} images are left out.",
        f"Calibration error {before['value']:.3f} as it is, {best['value']:.3f} at best.",
        compose(panels),
        pa.Table.from_pylist(drawn),
    )
    return (figure,)


DRAWN_GROUPS = 15
"""Findings that are drawn."""

_WHAT = {
    "error": "errors",
    "sure_error": "sure errors",
    "no_prediction": "no prediction",
    "called": "called {}",
    "missed": "errors on {}",
    "label": "labelled {}",
}


def draw_group_differences(rows: Sequence[Row]) -> tuple[Figure, ...]:
    """Plot the difference between the shares inside and outside each of the first groups."""
    drawn = list(rows[:DRAWN_GROUPS])
    labels = [
        shortened(f"{r['group']}. {r['name']}: {_WHAT[r['outcome']].format(r['class_name'])}", 56)
        for r in drawn
    ]
    middle = {
        "label": labels,
        "x": [100 * r["difference"] for r in drawn],
        "inner_lo": [100 * r["difference_lo"] for r in drawn],
        "inner_hi": [100 * r["difference_hi"] for r in drawn],
        "text": [f"{percent(r['share'])} of {r['n']:,}, others {percent(r['share_outside'])}" for r in drawn],
    }
    tips = [("", "label"), ("Difference", "x", "1", " points", "inner_lo", "inner_hi"), ("Inside", "text")]
    panel = dots(
        "groups",
        middle,
        axis="Share inside the group minus share outside (points)",
        percent=False,
        line=0.0,
        tips=tips,
        width=440,
    )
    rest = (
        f" The first {DRAWN_GROUPS} of {len(rows):,} findings are drawn." if len(rows) > DRAWN_GROUPS else ""
    )
    figure = Figure(
        "groups-differences",
        "groups",
        "",
        "How much groups differ from other images",
        "A dot is the share of images with the event inside the group minus the share outside. For "
        "labels, it is the share of images with the label that are in the group minus the share of other "
        "images that are in the group. Bars are 95 % intervals, not corrected for the search."
        f"{rest}",
        f"First: {labels[0]}, {middle['text'][0]}.",
        compose([panel]),
        pa.Table.from_pylist(drawn),
    )
    return (figure,)
