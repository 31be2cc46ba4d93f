"""Two models against each other: one sentence, and the difference by each metric."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.core.curve_metrics import CHANCE, RANKING_METRICS
from manyhot.evaluate.class_differences import class_cells, class_verdict
from manyhot.evaluate.pairwise import Difference, answer, cells, differences, leading_of, votes_sentence
from manyhot.evaluate.report.datasets import DataSet
from manyhot.evaluate.report.report_tables import ReportTables
from manyhot.evaluate.slice_differences import GATE_VERDICTS, by_slice, slice_sentences, verdicts_on
from manyhot.report.listings import ColumnHead, Listing, ListingRow
from manyhot.report.page import Anchors
from manyhot.report.text import metrics_of, title_of
from manyhot.tables import Results


@dataclass(frozen=True, eq=False)
class TwoModels:
    """Which of two models is better on a data set: in a sentence, by metric, by slice, and by class."""

    sentence: str
    table: Listing
    slices: Listing | None = None
    classes: Listing | None = None


def compare_two(tables: ReportTables, datasets: Sequence[DataSet], anchors: Anchors) -> tuple[TwoModels, ...]:
    """Return which of two models is better on each data set; empty if a data set has more than two models."""
    if any(len(data.models) > 2 for data in datasets):
        return ()
    results = Results(tables.results, tables["pairs"])
    found = (differences(results, data.name) for data in datasets if len(data.models) == 2)
    leading = ((pairs, leading_of(pairs)) for pairs in found if pairs)
    defined = [pairs for pairs, of in leading if not of.same_images or not math.isnan(of.difference)]
    notes = json.loads(tables.about.get("notes", "[]"))
    chance = {n["dataset"]: _labelled(n["text"], results) for n in notes if n["kind"] == CHANCE}
    of_gate = [(name, line) for name, line in json.loads(tables.about.get(GATE_VERDICTS, "[]"))]
    votes = {data.name: votes_sentence(results, data.name, by_label=True) for data in datasets}
    rest = (tables["class_differences"], chance, of_gate, anchors)
    verdicts = (_verdict(pairs, votes[pairs[0].dataset], *rest) for pairs in defined)
    return tuple(
        replace(verdict, slices=_by_slice(results, pairs[0].dataset, anchors))
        for verdict, pairs in zip(verdicts, defined, strict=True)
    )


def _labelled(text: str, results: Results) -> str:
    """Return a note as a sentence with the labels of its metrics."""
    named = metrics_of(results.table)
    for metric in RANKING_METRICS:
        text = re.sub(rf"\b{metric}\b", named(metric).label, text)
    return f" {text[0].upper()}{text[1:].replace('%', ' %')}."


def _verdict(
    pairs: Sequence[Difference],
    votes: str,
    by_class: pa.Table,
    chance: Mapping[str, str],
    of_gate: Sequence[tuple[str, str]],
    anchors: Anchors,
) -> TwoModels:
    """Return the sentence, and the tables by metric and by class: all of the second model minus the first.

    The verdicts of a gate and what votes say are part of the sentence.
    """
    first = pairs[0]
    heads = _heads("Metric", first, ColumnHead("p", title="Two-sided, for the paired difference"))
    rows = tuple(ListingRow((pair.metric.label, *_typeset(cells(pair)))) for pair in pairs)
    title = f"{first.model} compared with {first.reference}, {title_of(first.dataset)}"
    note = f"Differences are {first.model} minus {first.reference}, in points if the metric is a share."
    note += chance.get(first.dataset, "")
    table = Listing(anchors("verdict", first.dataset), title, heads, rows, note)
    leading = leading_of(pairs)
    lines = [
        line.replace(leading.metric.name, leading.metric.label)
        for line in verdicts_on(first.dataset, of_gate)
    ]
    sentence = " ".join(filter(None, [*lines, votes, answer(leading, by_label=True)]))
    return TwoModels(sentence, table, classes=_by_class(by_class, first, anchors))


def _heads(what: str, pair: Difference, p: ColumnHead) -> tuple[ColumnHead, ...]:
    return (
        ColumnHead(what, number=False),
        ColumnHead(pair.reference),
        ColumnHead(pair.model),
        ColumnHead("Difference", title="In percentage points if the metric is a share"),
        ColumnHead("95 % interval"),
        p,
        ColumnHead("n"),
    )


def _by_slice(results: Results, dataset: str, anchors: Anchors) -> Listing | None:
    """Return the differences of the leading metric by slice; None if models were not compared on slices."""
    pairs = by_slice(results, dataset)
    if not pairs:
        return None
    p = ColumnHead("p (Holm)", title="Two-sided, corrected by Holm's method over the slices")
    rows = tuple(ListingRow((pair.slice, *_typeset(cells(pair)))) for pair in pairs)
    title, note = f"{pairs[0].metric.label} by slice", " ".join(slice_sentences(results, pairs))
    return Listing(anchors("verdict-slices", dataset), title, _heads("Slice", pairs[0], p), rows, note)


def _typeset(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the cells of a terminal as a page shows them."""
    return tuple(re.sub(r"(?<=\d)%", " %", text.replace("-", "−")) for text in texts)


def _by_class(table: pa.Table, first: Difference, anchors: Anchors) -> Listing | None:
    """Return the classes on which the models differ most clearly; None if no class is on an image."""
    found = class_verdict(table.filter(pc.equal(table["dataset"], first.dataset)))
    if found is None:
        return None
    reference, model = found.names
    heads = (
        ColumnHead("Class", number=False),
        ColumnHead("Images"),
        ColumnHead(reference, title="Average precision"),
        ColumnHead(model, title="Average precision"),
        ColumnHead("Difference", title=f"{model} minus {reference}, in percentage points"),
        ColumnHead("95 % interval", title="By the jackknife, not corrected"),
        ColumnHead("p (Holm)", title="Two-sided, corrected by Holm's method over the tested classes"),
    )
    # The name of a class keeps its letters.
    rows = tuple(ListingRow((key, *_typeset(rest))) for key, *rest in map(class_cells, found.shown))
    order = f"Lowest p first; {found.method}. " if found.tested else ""
    note = f"{order}{' '.join(found.sentences)}"
    more = f"{found.more}." if found.more else ""
    title = found.title.capitalize()
    return Listing(anchors("verdict-classes", first.dataset), title, heads, rows, note, more)
