"""Figures of diagnoses: predictions lost without a companion, and accuracy lost to corruptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pyarrow as pa

from manyhot.diagnose.pixels.removal import FILL_NAMES
from manyhot.evaluate.report.figures.bars import LABELS, columns, dots, strips
from manyhot.evaluate.report.figures.panel import (
    Panel,
    Sheet,
    at,
    compose,
    data,
    halo,
    ink,
    short,
    shortened,
    signed,
    slug,
    text_of,
)
from manyhot.evaluate.report.figures.scatter import Side, plain_side, typical
from manyhot.report.chapter import in_points, percent, rows_by, testable
from manyhot.report.figure import Figure
from manyhot.report.text import counted, metric, title_of
from manyhot.tables import Row

DRAWN_PAIRS = 20
"""Pairs that are drawn for a model and a fill."""

_ROW_HEIGHT = 26
_PAIR_LABELS = LABELS + 60
"""Pixels of the names of two classes."""
CELL = (46, 24)


def draw_shortcuts(table: pa.Table, threshold: float) -> list[Figure]:
    """Plot the share of lost predictions, and the same share in the control, for each model and fill."""
    found = rows_by((row for row in table.to_pylist() if row["skipped"] is None), "model", "fill")
    return [_flips(model, fill, rows, threshold) for (model, fill), rows in found.items()]


def _flips(model: str, fill: str, rows: Sequence[Row], threshold: float) -> Figure:
    name = f"shortcuts-{slug(model)}-{fill}"
    drawn = rows[:DRAWN_PAIRS]
    sheet = {
        "label": [f"{r['main_name']} without {r['companion_name']}" for r in drawn],
        "n": [r["n"] for r in drawn],
        "text": [f"{r['n']:,}" for r in drawn],
        **{to: _percent(drawn, of) for to, of in _COLUMNS.items()},
    }
    rest = f" The first {DRAWN_PAIRS} of {len(rows):,} pairs are drawn." if len(rows) > DRAWN_PAIRS else ""
    if not all(testable(r) for r in drawn):
        rest = f" Pairs without a hollow dot have no control, because there was no room for one.{rest}"
    first = drawn[0]
    return Figure(
        name,
        "shortcuts",
        "",
        f"Predictions that are lost without a companion, {model}, {FILL_NAMES[fill]}",
        "Filled dots show, among images with both classes, the share on which the first class is no longer "
        f"predicted if the second is covered by {FILL_NAMES[fill]}. Hollow dots show the same share if, "
        "instead, a region of the same shape elsewhere is covered. Bars are 95 % intervals, and "
        f"numbers at the right count images. The dashed line is the threshold, {100 * threshold:.0f} %. "
        f"Losses no larger than those at the hollow dots are not due to the companion.{rest}",
        f"{counted(len(rows), 'pair')}. First: {first['main_name']} without {first['companion_name']}, "
        f"{100 * first['lost']:.0f} % of {first['n']:,} images are lost.",
        compose([_pairs(name, sheet, threshold)]),
        pa.Table.from_pylist(list(rows)),
    )


_COLUMNS = {
    "x": "lost",
    "lo": "lost_lo",
    "hi": "lost_hi",
    "control": "control_lost",
    "c_lo": "control_lost_lo",
    "c_hi": "control_lost_hi",
}


def _percent(rows: Sequence[Row], column: str) -> list[float | None]:
    return [None if r[column] is None else 100 * r[column] for r in rows]


def _pairs(name: str, sheet: Sheet, threshold: float) -> Panel:
    x = Side(["Predictions that are lost (%)"], (0, 100))
    y = alt.Y(
        field="label",
        type="nominal",
        sort=list(sheet["label"]),
        title=None,
        axis=alt.Axis(labelLimit=_PAIR_LABELS, labelColor=ink("ink"), grid=False),
    )
    base: Any = alt.Chart(data(name)).encode(y)
    line: Any = alt.Chart(data(f"{name}-threshold"))
    up, down = -5, 5
    width = 260  # which fits on a phone, with the names of two classes
    layers = [
        line.mark_rule(strokeDash=[4, 4], color=ink("axis")).encode(x.channel(alt.X, "x")),
        _rule(base, x, "c_lo", "c_hi", "mark", down),
        base.mark_point(
            size=55,
            filled=True,
            color=ink("paper"),
            stroke=ink("mark"),
            strokeWidth=1.5,
            opacity=1,
            yOffset=down,
        ).encode(x.channel(alt.X, "control")),
        _rule(base, x, "lo", "hi", "own", up),
        base.mark_point(size=65, color=ink("own"), opacity=1, yOffset=up).encode(x.channel(alt.X, "x")),
        base.mark_text(align="left", dx=8, **halo()).encode(at(width), text_of("text")),
    ]
    tips = [
        ("Pair", "label"),
        ("Lost", "x", "1", " %", "lo", "hi"),
        ("Control", "control", "1", " %", "c_lo", "c_hi"),
        ("Images", "n", "0", ""),
    ]
    sheets = {name: sheet, f"{name}-threshold": {"x": [100 * threshold]}}
    return Panel(layers, sheets, width, _ROW_HEIGHT * len(sheet["label"]), "", tips)


def _rule(base: Any, x: Side, lo: str, hi: str, hue: str, dy: int) -> Any:
    rule = base.mark_rule(strokeWidth=1.5, color=ink(hue), opacity=0.7, yOffset=dy, y2Offset=dy)
    return rule.encode(x.channel(alt.X, lo), alt.X2(hi))


def draw_losses(losses: Sequence[Row]) -> list[Figure]:
    """Plot how many points models lose by each metric, for each pair of data sets."""
    between = (row for row in losses if row["kind"] is None and row["base"] != row["dataset"])
    found = rows_by(between, "base", "dataset")
    return [_lost(base, dataset, rows) for (base, dataset), rows in found.items()]


def _lost(base: str, dataset: str, rows: Sequence[Row]) -> Figure:
    """Plot the mean loss by metric with its interval, on top of the losses of the models."""
    means = [r for r in rows if r["model"] is None]
    each = [r for r in rows if r["model"] is not None] if means else []
    drawn = sorted(means or rows, key=lambda r: (r["metric"] != "top1", r["metric"] != "real1", r["metric"]))
    text = [in_points(r["loss"], r["lo"], r["hi"], 1) for r in drawn]
    middle = _middles(drawn, [_by(r) for r in drawn], "loss", text)
    models: Sheet = {
        "model": [r["model"] for r in each],
        "label": [short(r["metric"]) for r in each],
        "x": [100 * r["loss"] for r in each],
    }
    side = plain_side(["Points lost"], [0.0, *typical(models["x"]), *_ends_of(middle)], percent=False)
    tips = [("By", "label"), ("Points lost", "x", "2", "")]
    name = f"losses-{slug(base)}-{slug(dataset)}"
    panel = strips(name, models, middle, side, tips=tips, width=430, zero=True, above=True)
    dots = "Each faint tick is a model, and the dot is the mean" if each else "The dot is the loss"
    return Figure(
        name,
        "corruptions",
        dataset,
        f"Accuracy lost from {title_of(base)} to {title_of(dataset)}",
        f"{dots}, in percentage points, with its 95 % interval over images. If the loss is smaller under "
        "label sets than under original labels, part of the loss under original labels is due to missing "
        "labels.",
        "; ".join(f"{label}: {t} points" for label, t in zip(middle["label"], text, strict=True)),
        compose([panel]),
        pa.Table.from_pylist(list(rows)),
    )


def _by(r: Row) -> str:
    return short(r["metric"]) + (f", {r['model']}" if r["model"] else "")


def _middles(rows: Sequence[Row], labels: Sequence[str], value: str, text: Sequence[str]) -> Sheet:
    """Return dots with thick bars for `strips`."""
    bars = {"x": value, "inner_lo": "lo", "inner_hi": "hi"}
    return {"label": labels, "text": text, **{to: _percent(rows, of) for to, of in bars.items()}}


def _ends_of(middle: Sheet) -> list[float]:
    return [v for name in ("x", "inner_lo", "inner_hi") for v in middle[name] if v is not None and v == v]


def draw_companions(rows: Sequence[Row]) -> list[Figure]:
    """Plot how recall differs with a companion, for the first pairs of each data set."""
    datasets = dict.fromkeys(r["dataset"] for r in rows)
    return [_companions(d, [r for r in rows if r["dataset"] == d]) for d in datasets]


def _companions(dataset: str, rows: Sequence[Row]) -> Figure:
    drawn = list(rows[:DRAWN_PAIRS])
    shares = [
        f"{percent(r['recall_with'])} of {r['n_with']:,} with, "
        f"{percent(r['recall_without'])} of {r['n_without']:,} without"
        for r in drawn
    ]
    labels = [shortened(f"{r['main_name']} with {r['companion_name']}", 60) for r in drawn]
    middle = _middles(drawn, labels, "difference", shares)
    axis = "Recall with the companion minus recall without it (points)"
    side = plain_side([axis], [0.0, *_ends_of(middle)], percent=False)
    tips = [("", "label"), ("Difference", "x", "1", " points", "inner_lo", "inner_hi"), ("Recall", "text")]
    empty: Sheet = {"model": [], "label": [], "x": []}
    name = f"companions-{slug(dataset)}"
    panel = strips(name, empty, middle, side, tips=tips, width=640, zero=True, above=True)
    rest = f" The first {DRAWN_PAIRS} of {len(rows):,} pairs are drawn." if len(rows) > DRAWN_PAIRS else ""
    return Figure(
        f"companions-recall-{slug(dataset)}",
        "companions",
        "",
        f"How recall differs with a companion, {title_of(dataset)}",
        "A dot left of zero marks a class that is found less often when its companion is also in the image. "
        f"Bars are 95 % intervals.{rest}",
        f"First: {middle['label'][0]}, recall {shares[0]}.",
        compose([panel]),
        pa.Table.from_pylist(drawn),
    )


def draw_precise_sets(rows: Sequence[Row]) -> list[Figure]:
    """Plot the precision of prediction sets on held-out images, for each model."""
    drawn = [r for r in rows if r["n"]][:DRAWN_PAIRS]
    if not drawn:
        return []
    labels = _model_names(drawn)
    middle = _middles(drawn, labels, "measured", [f"{r['n']:,} sets, {r['n_empty']:,} empty" for r in drawn])
    targets = {r["precision"] for r in drawn}
    line = 100 * targets.pop() if len(targets) == 1 else None
    tips = [("", "label"), ("Precision", "x", "1", " %", "inner_lo", "inner_hi"), ("Images", "text")]
    panel = dots("precise-sets", middle, axis="Valid classes in a prediction set (%)", line=line, tips=tips)
    dashed = "" if line is None else f" The dashed line is the target, {line:g} %."
    return [
        Figure(
            "precise-sets",
            "precise-sets",
            "",
            "Precision of prediction sets on held-out images",
            "A dot is the mean share of valid classes in the prediction sets that are not empty. Bars are "
            f"95 % intervals over images.{dashed}{_rest(drawn, [r for r in rows if r['n']], 'model')}",
            f"First: {labels[0]}, {100 * drawn[0]['measured']:.1f} % in {drawn[0]['n']:,} sets.",
            compose([panel]),
            pa.Table.from_pylist(drawn),
        )
    ]


def draw_difficulty(rows: Sequence[Row]) -> list[Figure]:
    """Plot the share of images of each kind, by metric, for each data set."""
    figures = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        own = [row for row in rows if row["dataset"] == dataset]
        top = 120 * max(row["share"] for row in own)
        panels = [
            columns(
                f"difficulty-{slug(dataset)}-{name}",
                {
                    "label": [row["kind"] for row in own if row["metric"] == name],
                    "value": [100 * row["share"] for row in own if row["metric"] == name],
                    "text": [percent(row["share"], 1) for row in own if row["metric"] == name],
                    "images": [row["images"] for row in own if row["metric"] == name],
                },
                x_title="Models that are right",
                top=top,
                title=metric(name).label,
                tips=[
                    ("Models", "label"),
                    ("Share of images", "value", "2", " %"),
                    ("Images", "images", "0", ""),
                ],
            )
            for name in dict.fromkeys(row["metric"] for row in own)
        ]
        figures.append(
            Figure(
                f"difficulty-{slug(dataset)}",
                "difficulty",
                dataset,
                f"How many models are right on an image, {title_of(dataset)}",
                "Shares of images by how many models are right: none, fewer than a quarter, a quarter to "
                "three quarters, more, or all.",
                "; ".join(f"{r['kind']} by {r['metric']}: {r['images']:,} images" for r in own) + ".",
                compose(panels),
                pa.Table.from_pylist(own),
            )
        )
    return figures


def draw_ood(rows: Sequence[Row], slices: Mapping[str, str]) -> list[Figure]:
    """Plot the AUROC of each model and score, with a panel for each slice of out-of-distribution images.

    `slices` maps the slices that are drawn to the titles of their panels.
    """
    known = [r for r in rows if r["measure"] == "auroc" and r["value"] == r["value"]]
    panels, drawn = [], list[Row]()
    ends = [r[c] for r in known if r["slice"] in slices for c in ("value", "lo", "hi") if r[c] == r[c]]
    for part, title in slices.items():
        own = [r for r in known if r["slice"] == part][:DRAWN_PAIRS]
        if not own:
            continue
        labels = [f"{m}, {score_name(r['score'])}" for m, r in zip(_model_names(own), own, strict=True)]
        bars = {"x": "value", "inner_lo": "lo", "inner_hi": "hi"}
        middle: Sheet = {to: [None if r[of] != r[of] else r[of] for r in own] for to, of in bars.items()}
        middle = {**middle, "label": labels, "text": [f"n {r['n_ood']:,}" for r in own]}
        tips = [("", "label"), ("AUROC", "x", "3", "", "inner_lo", "inner_hi"), ("Images", "text")]
        name = f"ood-{slug(part)}"
        panels.append(
            dots(name, middle, axis="AUROC", percent=False, also=ends, title=title, tips=tips, width=340)
        )
        drawn += own
    if not panels:
        return []
    best = max(drawn, key=lambda r: float(r["value"]))
    return [
        Figure(
            "ood-auroc",
            "ood",
            "",
            "How well scores separate out-of-distribution images",
            "A dot is the probability (AUROC) that an in-distribution image has a higher score than an "
            "out-of-distribution image; 0.5 is chance. Bars are 95 % intervals over both kinds of images. "
            f"Numbers at the right count out-of-distribution images. In-distribution images: {best['n']:,}."
            f"{_rest(drawn, [r for r in known if r['slice'] in slices], 'value')}",
            f"Highest: {best['model']} by {score_name(best['score'])}, {best['value']:.3f}.",
            compose(panels, columns=2),
            pa.Table.from_pylist(drawn),
        )
    ]


def score_name(score: str) -> str:
    """Return a score of `diagnose ood` in words."""
    return score.replace("_", " ")


def _model_names(rows: Sequence[Row]) -> list[str]:
    """Return the models of rows, with the data sets if there are several."""
    several = len({tuple(r[c] for c in ("dataset", "ood_dataset") if c in r) for r in rows}) > 1
    return [
        shortened(f"{r['model']}, {r.get('ood_dataset', r['dataset'])}" if several else r["model"], 40)
        for r in rows
    ]


def _rest(drawn: Sequence[Row], rows: Sequence[Row], noun: str) -> str:
    if len(drawn) == len(rows):
        return ""
    return f" The first {counted(len(drawn), noun)} of {len(rows):,} are drawn."


def draw_corruptions(losses: pa.Table) -> list[Figure]:
    """Plot the loss by kind and severity, by original labels and label sets, for each data set and model."""
    rows = losses.to_pylist()
    altered = (r for r in rows if r["kind"] not in (None, "clean") and r["severity"] and r["model"])
    found = rows_by(altered, "dataset", "model")
    return [_corruption(dataset, model, rows) for (dataset, model), rows in found.items()]


BY = {"top1": "by the original label", "real1": "by label sets", "map": "mean average precision"}


def _corruption(dataset: str, model: str, rows: Sequence[Row]) -> Figure:
    name = f"corruptions-{slug(dataset)}-{slug(model)}"
    metrics = [m for m in BY if any(r["metric"] == m for r in rows)]
    most = max(1.0, *(100 * r["loss"] for r in rows))
    panels = [_heat(f"{name}-{m}", BY[m], [r for r in rows if r["metric"] == m], most) for m in metrics]
    worst = max((r for r in rows if r["metric"] == metrics[0]), key=lambda r: r["loss"])
    return Figure(
        name,
        "corruptions",
        dataset,
        f"Accuracy lost to corruptions, {model}, {title_of(dataset)}",
        "The figure shows the points of accuracy lost relative to the original images, by kind and "
        "severity of the corruption. "
        "Where the right panel is paler than the left, part of the loss is due to missing labels.",
        f"The largest loss, {100 * worst['loss']:.1f} points, is under {_plain(worst['kind'])} at severity "
        f"{worst['severity']}.",
        compose(panels),
        pa.Table.from_pylist(list(rows)),
    )


def _heat(name: str, title: str, rows: Sequence[Row], most: float) -> Panel:
    kinds = list(dict.fromkeys(_plain(r["kind"]) for r in rows))
    sheet: Sheet = {
        "kind": [_plain(r["kind"]) for r in rows],
        "severity": [str(r["severity"]) for r in rows],
        "loss": [100 * r["loss"] for r in rows],
        "lo": [None if r["lo"] is None else 100 * r["lo"] for r in rows],
        "hi": [None if r["hi"] is None else 100 * r["hi"] for r in rows],
        "text": [signed(100 * r["loss"], 0) for r in rows],
    }
    severities = sorted(set(sheet["severity"]))
    base: Any = alt.Chart(data(name)).encode(
        alt.X(
            field="severity",
            type="nominal",
            sort=severities,
            title="Severity",
            axis=alt.Axis(labelAngle=0, grid=False, domain=False),
        ),
        alt.Y(
            field="kind",
            type="nominal",
            sort=kinds,
            title=None,
            axis=alt.Axis(labelColor=ink("ink"), grid=False, domain=False, labelLimit=LABELS),
        ),
    )
    steps = [most * i / 6 for i in range(1, 6)]
    shade = alt.Scale(type="threshold", domain=steps, range=[ink(f"heat{i}") for i in range(6)])
    on = alt.condition(f"datum.loss >= {steps[3]}", alt.value(ink("on-dark")), alt.value(ink("on-light")))
    layers = [
        base.mark_rect(stroke=ink("paper")).encode(alt.Color("loss:Q", scale=shade, legend=None)),
        base.mark_text().encode(text_of("text"), color=on),
    ]
    tips = [("Kind", "kind"), ("Severity", "severity"), ("Lost", "loss", "1", " points", "lo", "hi")]
    width, height = CELL
    return Panel(layers, {name: sheet}, width * len(severities), height * len(kinds), title, tips)


def _plain(kind: str) -> str:
    return kind.replace("_", " ")
