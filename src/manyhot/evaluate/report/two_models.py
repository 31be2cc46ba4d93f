"""Two models against each other: one sentence, and the difference by each metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from manyhot.evaluate.pairwise import Difference, answer, cells, differences, leading_of
from manyhot.evaluate.report.datasets import DataSet
from manyhot.evaluate.report.report_tables import ReportTables
from manyhot.report.listings import ColumnHead, Listing, ListingRow
from manyhot.report.page import Anchors
from manyhot.report.text import title_of
from manyhot.tables import Results


@dataclass(frozen=True, eq=False)
class TwoModels:
    """Which of two models is better on a data set: in a sentence, and by metric."""

    sentence: str
    table: Listing


def compare_two(tables: ReportTables, datasets: Sequence[DataSet], anchors: Anchors) -> tuple[TwoModels, ...]:
    """Return which of two models is better on each data set; nothing if there are more models than two."""
    if any(len(data.models) > 2 for data in datasets):
        return ()
    results = Results(tables.results, tables["pairs"])
    found = (differences(results, data.name) for data in datasets if len(data.models) == 2)
    return tuple(_verdict(pairs, anchors) for pairs in found if pairs and _is_defined(leading_of(pairs)))


def _is_defined(pair: Difference) -> bool:
    return not pair.same_images or not math.isnan(pair.difference)


def _verdict(pairs: Sequence[Difference], anchors: Anchors) -> TwoModels:
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
    return TwoModels(
        answer(leading_of(pairs)), Listing(anchors("verdict", first.dataset), title, heads, rows)
    )
