"""The table, terminal output and chapter of ``manyhot mitigate``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from manyhot.console import table_lines
from manyhot.diagnose.page import DiagnosisResult
from manyhot.registry import register
from manyhot.report.chapter import Chapter, NextStep, Tables, listing, rows_of, with_ends
from manyhot.report.listings import ColumnHead, Listing
from manyhot.tables import Row, schema
from manyhot.tables.definitions import COUNT, INT, ITS, REAL, TEXT, bounds, declare_table, interval
from manyhot.train.mitigate.fitting import TREATMENTS
from manyhot.train.mitigate.head_examples import albums
from manyhot.train.mitigate.removal_sentences import all_gone, sentences
from manyhot.train.mitigate.verdict import REMOVAL_VERDICTS

METRIC_LABELS = {
    "lost": "Lost without the companion",
    "lost_fitted": "… by the fill fitted on",
    "flips": "Flip without the companion",
    "recall_gap": "Recall gap",
    "called_with": "Others called the class, companion",
    "called_without": "… without the companion",
    "hallucination_gap": "Hallucination gap",
    "pasted_gap": "Companion pasted, gap",
    "pasted_recall_gap": "Companion pasted on the class, gap",
    "called_pasted": "Others called the class, companion pasted",
    "called_patched": "… patch pasted",
    "patched_gap": "Gap between the two",
    "patched_recall_gap": "Recall gap, companion or patch",
    "copied_logit": "Logit, own minus pasted companion",
    "ap": "Average precision",
    "ap_balanced": "Average precision, balanced",
    "top1": "Top-1, original labels",
    "real1": "ReaL accuracy, label sets",
    "accuracy_without": "Accuracy without the companion",
    "accuracy_patched": "… or with a patch on it",
    "map": "Mean average precision",
}

declare_table(
    "mitigation",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the backbone, and whether its head is a softmax or sigmoids"),
        TEXT("treatment", "treatment with which the head was fitted", values=TREATMENTS),
        INT("main", "main class of the pair"),
        INT("companion", "companion of the pair"),
        TEXT("main_name", "name of main"),
        TEXT("companion_name", "name of companion"),
        TEXT.optional(
            "verdict",
            "whether the shortcut is gone, the same for all metrics of the head",
            values=REMOVAL_VERDICTS,
        ),
        TEXT.optional(
            "reason",
            "what decides the verdict: what is left or, if it is *not judged*, what is missing and what to "
            "do; null if the shortcut is gone or was not present",
        ),
        TEXT("metric", "what is measured", values=tuple(METRIC_LABELS)),
        REAL("value", "on images held out"),
        *bounds("lo", "hi", "95 % interval of the value, null without one"),
        *interval(
            "change",
            "value minus the value of the same model without treatment",
            f"{ITS} over images",
            value=REAL.optional,
            ends=REAL.optional,
        ),
        COUNT("n", "number of held-out images that count"),
        COUNT("n_skipped", "number of held-out images that the metric does not count"),
        TEXT("head", "file of the head, relative to the folder of the table"),
    ),
)


@dataclass(frozen=True, eq=False)
class Mitigation(DiagnosisResult):
    """Heads fitted with and without treatment of a shortcut.

    Attributes
    ----------
    mitigation, mitigation_examples : pyarrow.Table
        The tables of these names; see `manyhot.tables.TABLES`.
    notes : tuple of str
        Notes about the altered images that were added for fitting, and about skipped images.
    metadata, inputs, written
        As in `Result`.
    """

    NAMES = ("mitigation", "mitigation_examples")

    mitigation: pa.Table
    mitigation_examples: pa.Table = field(default_factory=lambda: schema("mitigation_examples").empty_table())

    def lines(self) -> Iterator[str]:
        """Yield a table for each pair and model, with a column for each treatment."""
        yield from sentences(self.mitigation.to_pylist())
        yield ""
        models: dict[tuple[str, str, str], list[Row]] = {}
        for row in self.mitigation.to_pylist():
            models.setdefault((row["main_name"], row["companion_name"], row["model"]), []).append(row)
        for (main, companion, model), rows in models.items():
            n = rows[0]["n"] + rows[0]["n_skipped"]
            yield f"{main}, with and without {companion}; {model}; {n:,} images held out"
            yield from _model_lines(rows)
            yield ""

    def to_json(self) -> dict[str, Any]:
        """Return the rows of the table, and the notes."""
        return {"mitigation": self.mitigation.to_pylist(), "notes": self.notes}


def _model_lines(rows: Sequence[Row]) -> Iterator[str]:
    treatments = list(dict.fromkeys(row["treatment"] for row in rows))
    cells = {(row["metric"], row["treatment"]): row for row in rows}
    table = []
    for metric, label in METRIC_LABELS.items():
        own = [cells[metric, t] for t in treatments if (metric, t) in cells]
        if own:
            values = (_cell(cells[metric, t]) if (metric, t) in cells else "–" for t in treatments)
            counts = list(dict.fromkeys(row["n"] for row in own))
            n = counts if len(counts) == 1 else [row["n"] for row in own]
            table.append((label, *values, " / ".join(f"{count:,}" for count in n)))
    yield from table_lines(("", *treatments, "images"), table)


def _cell(row: Row) -> str:
    if row["metric"].endswith("_logit"):
        return f"{row['value']:+.2f} ({row['lo']:+.2f} to {row['hi']:+.2f})"
    gap = row["metric"].endswith("_gap")
    value, lo, hi = (
        None if row[k] is None else f"{100 * row[k]:{'+' if gap else ''}.1f}" for k in ("value", "lo", "hi")
    )
    return f"{value}{'' if gap else '%'}" + ("" if lo is None else f" ({lo} to {hi})")


STEP_IF_NOT_GONE = NextStep(
    "collect images of each class without the other, and fit again.",
    "manyhot mitigate IMAGES --objects FILE --model NAME --pair CLASS:COMPANION",
)


@register(
    "chapter",
    "mitigation",
    tables=("mitigation", "mitigation_examples"),
    next=NextStep("predict with the new last layer.", "manyhot predict IMAGES --model head:FILE"),
)
def _mitigation(data: Tables, folder: Path, draw: bool) -> Chapter | None:
    rows = rows_of(data, "mitigation")
    if not rows:
        return None
    pairs: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        pairs.setdefault((row["main_name"], row["companion_name"]), []).append(row)
    lead = (
        *sentences(rows),
        "Treated heads were fitted so that the companion gives no information about the class. All heads "
        "are evaluated on the same held-out images, altered in ways that they were not fitted on. Brackets "
        "contain 95 % intervals. Weigh smaller gaps against the loss of accuracy.",
    )
    treated = tuple(_treated(i, pair, own) for i, (pair, own) in enumerate(pairs.items(), 1))
    return Chapter(
        "mitigation",
        "Mitigation",
        "Mitigation of shortcuts",
        lead,
        (),
        treated,
        albums(data, folder),
        None if all_gone(rows) else STEP_IF_NOT_GONE,
    )


def _treated(i: int, pair: tuple[str, str], rows: Sequence[Row]) -> Listing:
    """Return the table of a pair: a row for each metric and model, a column for each treatment."""
    treatments = list(dict.fromkeys(r["treatment"] for r in rows))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for r in rows:
        own = cells.setdefault((str(METRIC_LABELS.get(r["metric"], r["metric"])), r["model"]), {})
        own[r["treatment"]] = with_ends(r["value"], r["lo"], r["hi"], 1)
    heads = (
        ColumnHead("", number=False),
        ColumnHead("Model", number=False),
        *(ColumnHead(t.capitalize()) for t in treatments),
    )
    lines = [{"cells": (*key, *(own.get(t, "") for t in treatments))} for key, own in cells.items()]
    return listing(f"treated-{i}", f"{pair[0]} and {pair[1]}", heads, lines, lambda line: line["cells"])
