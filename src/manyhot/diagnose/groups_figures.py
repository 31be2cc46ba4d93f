"""The figure of groups: how much more frequent an outcome is inside than outside."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from manyhot.evaluate.report.figures.bars import dots
from manyhot.evaluate.report.figures.panel import Sheet, compose, shortened
from manyhot.report.chapter import percent
from manyhot.report.figure import Figure
from manyhot.tables import Row

DRAWN_GROUPS = 15
"""Findings that are drawn."""

_WHAT = {
    "error": "errors",
    "sure_error": "sure errors",
    "called": "called {}",
    "missed": "errors on {}",
    "label": "labelled {}",
}


def draw_group_differences(rows: Sequence[Row]) -> list[Figure]:
    """Plot the difference between the shares inside and outside each of the first groups."""
    drawn = list(rows[:DRAWN_GROUPS])
    if not drawn:
        return []
    labels = [
        shortened(f"{r['group']}. {r['name']}: {_WHAT[r['outcome']].format(r['class_name'])}", 56)
        for r in drawn
    ]
    middle: Sheet = {
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
    return [
        Figure(
            "groups-differences",
            "groups",
            "",
            "How much groups differ from other images",
            "A dot is the share of images with the event inside the group minus the share outside. For "
            "labels, it is the share of images with the label that are in the group minus the share of "
            "the other images that are. Bars are 95 % intervals, not corrected for the search."
            f"{rest}",
            f"First: {labels[0]}, {middle['text'][0]}.",
            compose([panel]),
            pa.Table.from_pylist(drawn),
        )
    ]
