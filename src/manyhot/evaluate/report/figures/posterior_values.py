"""Values under the posterior of the label sets, with what raters alone leave open."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from manyhot.evaluate.posterior import headline_rows
from manyhot.evaluate.report.figures.bars import dots
from manyhot.evaluate.report.figures.panel import Frames, Sheet, compose, shortened, slug
from manyhot.report.figure import Figure
from manyhot.report.text import counted, metric, title_of
from manyhot.tables import Row

DOTS = 20
"""Models that are drawn."""


def draw_posterior(frames: Frames) -> list[Figure]:
    """Return, for each data set, a figure of its first metric."""
    found: dict[str, list[Row]] = {}
    for row in headline_rows(frames.tables["posterior"]):
        rows = found.setdefault(row["dataset"], [])
        if not rows or row["metric"] == rows[0]["metric"]:
            rows.append(row)
    return [_figure(dataset, rows) for dataset, rows in found.items()]


def _figure(dataset: str, rows: Sequence[Row]) -> Figure:
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
