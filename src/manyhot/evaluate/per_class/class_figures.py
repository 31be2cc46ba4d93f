"""Figures of classes: average precision with prevalence, curves of the worst classes, and confusions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import altair as alt
import pyarrow as pa

from manyhot.core.jackknife import FEWEST_POSITIVES
from manyhot.evaluate.per_class.class_tables import (
    CURVE_KINDS,
    best_first,
    first_of,
    mean_ap,
    of_models,
    worst_first,
)
from manyhot.evaluate.report.figures.bars import strips
from manyhot.evaluate.report.figures.panel import Panel, Sheet, compose, data, ink, slug, text_of
from manyhot.evaluate.report.figures.scatter import Side
from manyhot.report.chapter import Tables, percent
from manyhot.report.figure import Figure
from manyhot.report.text import counted, title_of
from manyhot.tables import Row

DRAWN_CLASSES = 25
"""Classes with a row in the figure of average precision, those with the lowest."""

MATRIX = 8
"""Maximum number of rows and of columns of the confusion matrix."""

_CELL = (42, 26)
_ROW = 22
_CURVE = 180
"""Width and height of the panel of a curve: four in a row, or one on a phone."""

Models = Mapping[tuple[str, str], Sequence[Row]]


def draw_classes(named: Tables) -> tuple[Figure, ...]:
    """Return the figures of each data set, for the model with the highest mean average precision."""
    if "class_results" not in named:
        return ()
    results, pairs, curves = (
        of_models(named[name]) if name in named else {}
        for name in ("class_results", "class_confusions", "class_curves")
    )
    drawn = list[Figure]()
    for dataset in dict.fromkeys(name for name, _ in results):
        best = next(best_first(results, dataset))
        key = (dataset, best)
        if not mean_ap(results[key])[1]:
            continue
        drawn.append(_average_precision(dataset, best, results))
        # The matrix has room beside the strips.
        drawn += _matrix(dataset, best, pairs.get(key, ()))
        drawn += _curves(dataset, best, results[key], curves.get(key, ()))
    return tuple(drawn)


def _average_precision(dataset: str, best: str, results: Models) -> Figure:
    name = f"class-ap-{slug(dataset)}"
    every = [r for r in worst_first(results[dataset, best]) if not math.isnan(r["ap"])]
    rows = every[:DRAWN_CLASSES]
    models, middles = _other_models(dataset, best, results, rows), _strips(rows)
    x = Side(["Average precision (%)"], (0, 100))
    panel = strips(name, models, middles, x, tips=_STRIP_TIPS, width=400, row=_ROW)
    which = f"the {len(rows)} of {len(every):,} classes with the lowest" if len(every) > len(rows) else "the"
    before = f" (those{first_of(every).removeprefix(' of classes')} first)" if first_of(every) else ""
    others = list(dict.fromkeys(models["model"]))
    of_whom = f"of {others[0]}" if len(others) == 1 else f"of the other {len(others):,} models"
    rest = f" Thin blue marks are those {of_whom}." if others else ""
    worst = rows[0]
    return Figure(
        name,
        "classes",
        dataset,
        f"Average precision of classes, {best}, {title_of(dataset)}",
        f"Black dots show {which} average precision{before}, with 95 % intervals for classes that "
        f"{FEWEST_POSITIVES} or more images show. Red marks show the share of images with the class, which "
        f"is about the AP of a "
        f"random ranking. The number of images of each class is at the right.{rest}",
        f"The lowest average precision{first_of(every)} is that of {worst['name']}, "
        f"{percent(worst['ap'], 1)} on {counted(worst['n_positives'], 'image')}; the mean over "
        f"{len(every):,} classes is {percent(mean_ap(every)[0], 1)}.",
        compose([_with_prevalence(panel, name, x)]),
        pa.Table.from_pylist(rows),
    )


_STRIP_TIPS = (
    ("Class", "label"),
    ("AP", "x", "1", " %", "lo", "hi"),
    ("Share of images", "prevalence", "1", " %"),
    ("Images", "text"),
)


def _strips(rows: Sequence[Row]) -> Sheet:
    """Return the rows of the best model."""
    return {
        "label": [r["name"] for r in rows],
        "x": [100 * r["ap"] for r in rows],
        **{end: [_percent(r[f"ap_{end}"]) for r in rows] for end in ("lo", "hi")},
        "text": [f"{r['n_positives']:,}" for r in rows],
        "prevalence": [100 * _prevalence(r) for r in rows],
    }


def _other_models(dataset: str, best: str, results: Models, rows: Sequence[Row]) -> Sheet:
    """Return the average precision of the other models, for the classes of these rows."""
    names = {r["class_id"]: r["name"] for r in rows}
    others = [
        (model, r)
        for (of, model), found in results.items()
        for r in (found if of == dataset and model != best else ())
        if r["class_id"] in names and not math.isnan(r["ap"])
    ]
    return {
        "model": [model for model, _ in others],
        "label": [names[r["class_id"]] for _, r in others],
        "x": [100 * r["ap"] for _, r in others],
    }


def _with_prevalence(panel: Panel, name: str, x: Side) -> Panel:
    """Return a panel of strips with a mark at the prevalence of each class."""
    rows: Any = alt.Chart(data(f"{name}-middle"))
    labels = list(panel.sheets[f"{name}-middle"]["label"])
    y = alt.Y(field="label", type="nominal", sort=labels, title=None)
    mark = rows.mark_tick(height={"band": 0.6}, thickness=2, color=ink("own"), opacity=1)
    return replace(panel, layers=[*panel.layers, mark.encode(x.channel(alt.X, "prevalence"), y)])


def _prevalence(r: Row) -> float:
    return float(r["n_positives"] / (r["n_positives"] + r["n_negatives"]))


def _percent(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else 100 * value


def _curves(dataset: str, model: str, results: Sequence[Row], curves: Sequence[Row]) -> Iterator[Figure]:
    """Yield the precision-recall curves and the ROC curves of the worst classes."""
    by_class = {r["class_id"]: r for r in results}
    drawn = {r["class_id"] for r in curves}
    ids = [r["class_id"] for r in worst_first(results) if r["class_id"] in drawn]
    if not ids:
        return
    name = f"class-curves-{slug(dataset)}"
    panels = [
        panel(
            f"{name}-{kind}-{c}", by_class[c], [r for r in curves if (r["class_id"], r["curve"]) == (c, kind)]
        )
        for kind, panel in zip(CURVE_KINDS, (_precision_recall, _roc), strict=True)
        for c in ids
    ]
    yield Figure(
        name,
        "classes",
        dataset,
        f"Precision-recall and ROC curves of the worst classes, {model}, {title_of(dataset)}",
        "Precision-recall curves show the precision at each recall, for all thresholds. The area under the "
        "steps is the average precision, and the dashed line is the share of images with the class, which "
        "is the precision of a random ranking. ROC curves show the shares of the images with the class "
        "(recall) and without the class (false positive rate) on which the class is predicted. Dots show "
        "precision, recall and false positive rate as in the table. If thresholds were chosen by "
        "cross-fitting, they may be off the curve.",
        "The worst classes that have a threshold: "
        + ", ".join(f"{by_class[c]['name']} (AP {percent(by_class[c]['ap'], 1)})" for c in ids)
        + ".",
        compose(panels, columns=len(ids)),
        pa.Table.from_pylist(list(curves)),
    )


def _precision_recall(name: str, r: Row, curve: Sequence[Row]) -> Panel:
    point = {"x": [_percent(r["recall"])], "y": [_percent(r["precision"])]}
    level = 100 * _prevalence(r)
    chance = {"x": [0.0, 100.0], "y": [level, level]}
    return _curve_panel(name, r, curve, ("Recall (%)", "Precision (%)"), point, chance, step=True)


def _roc(name: str, r: Row, curve: Sequence[Row]) -> Panel:
    wrong = (r["n_predicted"] - r["n_right"]) / max(r["n_negatives"], 1)
    point = {"x": [_percent(wrong)], "y": [_percent(r["recall"])]}
    chance = {"x": [0.0, 100.0], "y": [0.0, 100.0]}
    return _curve_panel(name, r, curve, ("False positive rate (%)", "Recall (%)"), point, chance, step=False)


def _curve_panel(
    name: str,
    r: Row,
    curve: Sequence[Row],
    titles: tuple[str, str],
    point: Mapping[str, Sequence[Any]],
    chance: Mapping[str, Sequence[Any]],
    *,
    step: bool,
) -> Panel:
    x, y = (Side([title], (0, 100)) for title in titles)
    channels = (x.channel(alt.X, "x"), y.channel(alt.Y, "y"))
    sheet = {"x": [100 * p["x"] for p in curve], "y": [100 * p["y"] for p in curve]}
    line: Any = alt.Chart(data(name))
    dot: Any = alt.Chart(data(f"{name}-point"))
    level: Any = alt.Chart(data(f"{name}-chance"))
    # A precision holds from the recall of the point before.
    shape = {"interpolate": "step-before"} if step else {}
    layers = [
        level.mark_line(strokeDash=[4, 4], color=ink("axis"), strokeWidth=1).encode(*channels),
        line.mark_line(color=ink("mark"), strokeWidth=1.75, **shape).encode(*channels),
        dot.mark_point(size=70, color=ink("own"), filled=True, opacity=1).encode(*channels),
    ]
    value = f"AP {percent(r['ap'], 1)}" if step else f"AUROC {percent(r['auroc'], 1)}"
    title = {"text": r["name"], "subtitle": f"{counted(r['n_positives'], 'image')}, {value}"}
    sheets = {name: sheet, f"{name}-point": point, f"{name}-chance": chance}
    tips = [(t.removesuffix(" (%)"), end, "1", " %") for t, end in zip(titles, "xy", strict=True)]
    return Panel(layers, sheets, _CURVE, _CURVE, title, tips)


def _matrix(dataset: str, model: str, pairs: Sequence[Row]) -> Iterator[Figure]:
    """Yield the confusion matrix of the classes that are missed most often with another predicted instead."""
    instead = [r for r in pairs if r["n_instead"] and None not in (r["predicted"], r["present"])]
    if not instead:
        return
    columns = _heaviest(instead, "predicted")
    rows = _heaviest([r for r in instead if r["predicted"] in columns], "present")
    cells = [r for r in instead if r["predicted"] in columns and r["present"] in rows]
    nothing = [r for r in pairs if r["predicted"] is None and r["present"] in rows]
    first = max(instead, key=lambda r: r["n_instead"])
    name = f"class-confusions-{slug(dataset)}"
    yield Figure(
        name,
        "classes",
        dataset,
        f"What is predicted instead of missed classes, {model}, {title_of(dataset)}",
        "Each cell counts the images on which the class of the row is present but not predicted, and the "
        "class of the column is predicted wrongly. An image with several missed or wrong classes counts in "
        "several cells. The first column counts images on which nothing is predicted wrongly. At most "
        f"{MATRIX} classes are shown, those with the largest counts.",
        f"Most often, {first['predicted_name']} is predicted and {first['present_name']} is missed, on "
        f"{counted(first['n_instead'], 'image')}.",
        compose([_heat(name, [*nothing, *cells], rows, columns)]),
        pa.Table.from_pylist([*nothing, *cells]),
    )


def _heaviest(pairs: Sequence[Row], end: str) -> dict[int, str]:
    """Return the classes at one end of the pairs with the largest counts, and their names."""
    total: dict[int, int] = {}
    for r in pairs:
        total[r[end]] = total.get(r[end], 0) + r["n_instead"]
    chosen = sorted(total, key=lambda c: (-total[c], c))[:MATRIX]
    names = {r[end]: str(r[f"{end}_name"]) for r in pairs}
    return {c: names[c] for c in chosen}


def _heat(name: str, cells: Sequence[Row], rows: Mapping[int, str], columns: Mapping[int, str]) -> Panel:
    sheet = {
        "present": [r["present_name"] for r in cells],
        "predicted": [r["predicted_name"] or _NOTHING for r in cells],
        "n": [r["n_instead"] for r in cells],
        "text": [f"{r['n_instead']:,}" for r in cells],
        "missed": [r["n_missed"] for r in cells],
    }
    names = [_NOTHING, *columns.values()]
    base: Any = alt.Chart(data(name)).encode(
        _names("predicted", names, "Predicted instead", alt.X, labelAngle=-40, orient="top", labelLimit=110),
        _names("present", [*rows.values()], "Present, but missed", alt.Y, labelLimit=130),
    )
    most = max(r["n_instead"] for r in cells if r["predicted"] is not None)
    steps = [most * i / 6 for i in range(1, 6)]
    shade = alt.Scale(type="threshold", domain=steps, range=[ink(f"heat{i}") for i in range(6)])
    others = base.transform_filter({"field": "predicted", "oneOf": names[1:]})
    dark = f"datum.n >= {steps[3]} && datum.predicted !== '{_NOTHING}'"
    on = alt.condition(dark, alt.value(ink("on-dark")), alt.value(ink("on-light")))
    layers = [
        others.mark_rect(stroke=ink("paper")).encode(alt.Color("n:Q", scale=shade, legend=None)),
        base.mark_text().encode(text_of("text"), color=on),
    ]
    width, height = _CELL
    return Panel(layers, {name: sheet}, width * len(names), height * len(rows), "", _MATRIX_TIPS)


_NOTHING = "nothing"

_MATRIX_TIPS = (
    ("Present, but missed", "present"),
    ("Predicted instead", "predicted"),
    ("Images", "n", "0", ""),
    ("Missed in all", "missed", "0", ""),
)


def _names(field: str, names: Sequence[str], title: str, kind: Any, **options: Any) -> Any:
    """Return the encoding of names of classes on an axis."""
    axis = alt.Axis(grid=False, domain=False, labelColor=ink("ink"), **options)
    return kind(field=field, type="nominal", sort=list(names), title=title, axis=axis)
