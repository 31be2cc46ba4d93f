"""The difference of two models in average precision, by class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import altair as alt
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.core.jackknife import FEWEST_POSITIVES
from manyhot.evaluate.class_differences import ClassVerdict, class_verdict
from manyhot.evaluate.report.figures.bars import strips
from manyhot.evaluate.report.figures.panel import Frames, Panel, Sheet, compose, data, ink, slug
from manyhot.evaluate.report.figures.scatter import Side, plain_side
from manyhot.report.figure import Figure
from manyhot.report.text import counted, title_of, with_minus
from manyhot.tables import Row

DRAWN_DIFFERENCES = 20
"""Classes with a row in the figure, those with the largest differences."""

_WIDTH, _ROW = 240, 22
"""Width of the panel, which fits on a phone with the names of classes, and height of a row."""

_TIPS = (("Class", "label"), ("Difference", "value", "2", " points", "lo", "hi"), ("Images", "text"))


def draw_class_differences(frames: Frames) -> Iterator[Figure]:
    """Yield the figure of each data set on which classes of two models were tested."""
    table = frames.tables["class_differences"]
    for dataset in pc.unique(table["dataset"]).to_pylist():
        found = class_verdict(table.filter(pc.equal(table["dataset"], dataset)))
        if found is not None and found.tested:
            yield _figure(dataset, found)


def _figure(dataset: str, verdict: ClassVerdict) -> Figure:
    name, (reference, model) = f"class-differences-{slug(dataset)}", verdict.names
    tested = sorted(verdict.tested, key=lambda r: -abs(r["difference"]))[:DRAWN_DIFFERENCES]
    minus = f"{model} − {reference}"
    ends = [100 * r[f"difference{end}"] for r in tested for end in ("", "_lo", "_hi")]
    x = plain_side(["Difference of average precision (points)"], [0.0, *ends], percent=False)
    untested = _with_room(verdict.untested, x, DRAWN_DIFFERENCES - len(tested))
    rows = sorted([*tested, *untested], key=lambda r: -r["difference"])
    n = len(verdict.tested)
    which = f"the {len(tested)} of {n:,} classes with the largest" if n > len(tested) else "the"
    grey = " Grey circles are classes that were not tested." if untested else ""
    largest = tested[0]
    return Figure(
        name,
        "classes",
        dataset,
        f"Difference of average precision by class, {minus}, {title_of(dataset)}",
        f"To the right of the line, {model} has the higher average precision. Black dots show {which} "
        f"differences on {FEWEST_POSITIVES} images or more, with 95 % intervals, not "
        f"corrected for the number of classes. The images of each class are counted at the right.{grey}",
        f"The largest difference is that of {largest['key']}, "
        f"{with_minus(100 * largest['difference'], 2)} points on "
        f"{counted(largest['n_positives'], 'image')}.",
        compose([_with_untested(name, _sheet(rows, tested), x)]),
        pa.Table.from_pylist(rows),
    )


def _with_room(untested: Sequence[Row], x: Side, most: int) -> Sequence[Row]:
    """Return classes that were not tested, within the axis, those on the most images first."""
    inside = [r for r in untested if x.domain[0] <= 100 * r["difference"] <= x.domain[1]]
    return inside[:most]


def _sheet(rows: Sequence[Row], tested: Sequence[Row]) -> Sheet:
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
    nothing: Sheet = {"model": [], "label": [], "x": []}
    panel = strips(name, nothing, sheet, x, tips=_TIPS, width=_WIDTH, row=_ROW, zero=True)
    y = alt.Y(field="label", type="nominal", sort=list(sheet["label"]), title=None)
    points: Any = alt.Chart(data(f"{name}-middle")).transform_filter("isValid(datum.grey)")
    grey = points.mark_point(size=60, color=ink("faint"), filled=False, opacity=1)
    return replace(panel, layers=[*panel.layers, grey.encode(x.channel(alt.X, "grey"), y)])
