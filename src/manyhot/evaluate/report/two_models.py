"""Two models against each other: one sentence, and the difference by each metric."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.evaluate.class_differences import MOST_CLASSES, class_cells, class_verdict
from manyhot.evaluate.pairwise import Difference, answer, cells, differences, leading_of
from manyhot.evaluate.report.datasets import DataSet
from manyhot.evaluate.report.report_tables import ReportTables
from manyhot.report.listings import ColumnHead, Listing, ListingRow
from manyhot.report.page import Anchors
from manyhot.report.text import title_of
from manyhot.tables import Results


@dataclass(frozen=True, eq=False)
class TwoModels:
    """Which of two models is better on a data set: in a sentence, by metric, and by class."""

    sentence: str
    table: Listing
    classes: Listing | None = None


def compare_two(tables: ReportTables, datasets: Sequence[DataSet], anchors: Anchors) -> tuple[TwoModels, ...]:
    """Return which of two models is better on each data set; nothing if there are more models than two."""
    if any(len(data.models) > 2 for data in datasets):
        return ()
    results = Results(tables.results, tables["pairs"])
    found = (differences(results, data.name) for data in datasets if len(data.models) == 2)
    defined = [pairs for pairs in found if pairs and _is_defined(leading_of(pairs))]
    return tuple(_verdict(pairs, tables["class_differences"], anchors) for pairs in defined)


def _is_defined(pair: Difference) -> bool:
    return not pair.same_images or not math.isnan(pair.difference)


def _verdict(pairs: Sequence[Difference], by_class: pa.Table, anchors: Anchors) -> TwoModels:
    """Return the sentence that names the better model first, and the table in the same order."""
    loss = leading_of(pairs).loss
    if loss is not None and loss[0] > 0:
        pairs = [pair.swapped() for pair in pairs]
    first = pairs[0]
    heads = (
        ColumnHead("Metric", number=False),
        ColumnHead(first.reference),
        ColumnHead(first.model),
        ColumnHead("Difference", title="In percentage points if the metric is a share"),
        ColumnHead("95 % interval"),
        ColumnHead("p", title="Two-sided, for the paired difference"),
        ColumnHead("n"),
    )
    rows = tuple(
        ListingRow((pair.metric.label, *(cell.replace("-", "−") for cell in cells(pair)))) for pair in pairs
    )
    title = f"{first.model} compared with {first.reference}, {title_of(first.dataset)}"
    table = Listing(anchors("verdict", first.dataset), title, heads, rows)
    return TwoModels(answer(leading_of(pairs)), table, _by_class(by_class, first, anchors))


def _by_class(table: pa.Table, first: Difference, anchors: Anchors) -> Listing | None:
    """Return the classes on which the models differ most clearly; None if no class was tested."""
    found = class_verdict(table.filter(pc.equal(table["dataset"], first.dataset)), first.reference)
    if found is None or not found.tested:
        return None
    heads = (
        ColumnHead("Class", number=False),
        ColumnHead("Images"),
        ColumnHead(first.reference, title="Average precision"),
        ColumnHead(first.model, title="Average precision"),
        ColumnHead("Difference", title="In percentage points"),
        ColumnHead("95 % interval", title="By the jackknife over images"),
        ColumnHead("p", title="Two-sided, by Holm's method over the classes that were tested"),
    )
    shown = found.tested[:MOST_CLASSES]
    rows = tuple(ListingRow(tuple(c.replace("-", "−") for c in class_cells(row))) for row in shown)
    rest = len(found.tested) - len(shown)
    more = f"{rest:,} more in class_differences.csv." if rest else ""
    # A name of a model keeps its letters.
    sentence = re.sub("^no difference can", "No difference can", found.sentence)
    note = f"{sentence} {found.untested}".strip()
    title = "Average precision by class, lowest p first"
    return Listing(anchors("verdict-classes", first.dataset), title, heads, rows, note, more)
