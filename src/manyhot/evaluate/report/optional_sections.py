"""The parts of a report about what is computed on request: error consistency, and draws of label sets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.evaluate.error_consistency import (
    SHOWN_PAIRS,
    gain_text,
    mean_sentences,
    pair_cells,
    shown_pairs,
    vote_sentences,
)
from manyhot.evaluate.posterior import decided_lines, headline_rows, posterior_ends, posterior_interval
from manyhot.evaluate.report.report_tables import ReportTables
from manyhot.report.listings import ColumnHead, Listing, ListingRow, Shared
from manyhot.report.text import title_of
from manyhot.tables import Row

EXPLANATION = (
    "Error consistency is Cohen's kappa of being right: 1 if two models fail on the same images, 0 if their "
    "errors are independent. Models that fail on different images can correct one another."
)


def consistency_part(
    tables: ReportTables, shared: Shared
) -> tuple[tuple[str, ...], str, tuple[Listing, ...]]:
    """Return sentences, no warning, and tables of pairs and of majority votes for each data set."""

    def label(metric: str) -> str:
        return shared.named(metric).label

    lead, listings = list[str](), list[Listing]()
    for dataset in tables["consistency_means"]["dataset"].unique().to_pylist():
        means, pairs, votes = (
            _rows(tables[name], dataset)
            for name in ("consistency_means", "error_consistency", "majority_votes")
        )
        sentences = (*mean_sentences(title_of(dataset), means, label), *vote_sentences(votes, label))
        lead += map(_typeset, sentences)
        listings += [*_pairs(dataset, pairs, shared), *_votes(dataset, votes, shared)]
    return ((*lead, EXPLANATION) if lead else ()), "", tuple(listings)


def _rows(table: pa.Table, dataset: str) -> list[Row]:
    rows: list[Row] = table.filter(pc.equal(table["dataset"], dataset)).to_pylist()
    return rows


def _pairs(dataset: str, rows: Sequence[Row], shared: Shared) -> Iterator[Listing]:
    """Yield a table of the pairs that are most and least consistent."""
    shown = shown_pairs(rows, SHOWN_PAIRS)
    if not shown:
        return
    heads = (
        ColumnHead("Model", number=False),
        ColumnHead("Model", number=False),
        ColumnHead("Kappa"),
        ColumnHead("95 % interval", title="By the bootstrap over images"),
        ColumnHead("Both wrong", title="Images"),
        ColumnHead("One wrong", title="Images"),
        ColumnHead("n"),
    )
    label = shared.named(shown[0]["metric"]).label
    n = sum(row["metric"] == shown[0]["metric"] for row in rows)
    title = f"{'Pairs' if n <= 2 * SHOWN_PAIRS else 'The most and the least consistent pairs'} by {label}"
    entries = tuple(
        ListingRow(pair_cells(row), bool({row["model_a"], row["model_b"]} & {*shared.own})) for row in shown
    )
    more = "" if n == len(shown) else f"All {n:,} pairs are in error_consistency.csv"
    yield Listing(
        shared.anchors("consistency", dataset), f"{title}, {title_of(dataset)}", heads, entries, "", more
    )


def _votes(dataset: str, rows: Sequence[Row], shared: Shared) -> Iterator[Listing]:
    """Yield a table of the majority votes that gained most where they were chosen."""
    if not rows:
        return
    heads = (
        ColumnHead("Metric", number=False),
        ColumnHead("Best model", number=False),
        ColumnHead("with", number=False),
        ColumnHead("and", number=False),
        ColumnHead("Kappa", title="Mean error consistency of the three models"),
        ColumnHead("Chosen by", title="Gain in points on the images for choosing the vote; it is too high"),
        ColumnHead("Gain", title="In points on the other images, with its 95 % interval"),
        ColumnHead("n"),
    )
    entries = tuple(
        ListingRow(
            (
                shared.named(row["metric"]).label,
                *(row[name] for name in ("model", "model_a", "model_b")),
                f"{row['kappa']:.3f}",
                _typeset(f"{100 * row['chosen_gain']:+.2f}"),
                _typeset(gain_text(row)),
                f"{row['n']:,}",
            )
        )
        for row in rows
    )
    note = (
        "The vote is the class on which at least two of the three models agree or, if all three differ, the "
        "class of the best model. "
        "Votes were chosen on one half of the images, and the gain was measured on the other half."
    )
    title = f"Majority votes, {title_of(dataset)}"
    yield Listing(shared.anchors("votes", dataset), title, heads, entries, note, "", folded=True)


def _typeset(text: str) -> str:
    """Return a text with minus signs, and names as they are."""
    return re.sub(r"(?<!\w)-(?=\d)", "−", text)


ABOUT = (
    "Label sets were drawn from the probabilities of their classes, and every metric was computed on each "
    "draw. The interval over raters and images reflects both the uncertainty of raters and the choice of "
    "images. The interval over raters alone is for these images only."
)


def posterior_part(tables: ReportTables, shared: Shared) -> tuple[tuple[str, ...], str, tuple[Listing, ...]]:
    """Return the first sentences, no warning, and a table for each data set."""
    rows = headline_rows(tables["posterior"])
    if not rows:
        return (), "", ()
    pairs = {"posterior_pairs": tables["posterior_pairs"]}
    first = [f"{line[0].upper()}{line[1:]}." for line in decided_lines(pairs)]
    lead = (*(first or _alone(rows, shared)), ABOUT)
    names = dict.fromkeys(row["dataset"] for row in rows)
    return lead, "", tuple(_table(name, [r for r in rows if r["dataset"] == name], shared) for name in names)


def _alone(rows: Sequence[Row], shared: Shared) -> Iterator[str]:
    """Yield the first result, where there are no pairs of models."""
    row = rows[0]
    metric = shared.named(row["metric"])
    value = posterior_interval(metric, row["value"], row["lo"], row["hi"])
    yield (
        f"{title_of(row['dataset'])}: {metric.label} of {row['model']} is {value} under the posterior of the "
        f"label sets, and {metric.text(row['fixed'], 2)}{metric.unit} on the label sets as they are (n "
        f"{row['n']:,})."
    )


def _table(dataset: str, rows: Sequence[Row], shared: Shared) -> Listing:
    heads = (
        ColumnHead("Model", number=False),
        ColumnHead("Metric", number=False),
        ColumnHead("As they are", title="Value on the label sets as they are"),
        ColumnHead("Posterior", title="Mean over the draws, with the interval over raters and images"),
        ColumnHead("Raters alone", title="Interval over the draws, on these images"),
        ColumnHead("n", title="Images that count, averaged over the draws"),
        ColumnHead("Draws"),
    )
    entries = tuple(_entry(row, shared) for row in rows)
    title = f"Results under the posterior, {title_of(dataset)}"
    folded = len(entries) > FOLDED
    return Listing(shared.anchors("posterior", dataset), title, heads, entries, "", "", folded)


FOLDED = 12
"""Rows above which the table is folded."""


def _entry(row: Row, shared: Shared) -> ListingRow:
    metric = shared.named(row["metric"])
    alone = posterior_ends(metric, row["lo_raters"], row["hi_raters"])
    cells = (
        row["model"],
        metric.label,
        f"{metric.text(row['fixed'], 2)}{metric.unit}",
        posterior_interval(metric, row["value"], row["lo"], row["hi"]),
        alone or "–",
        f"{row['n']:,}",
        f"{row['draws']:,}",
    )
    return ListingRow(cells, row["model"] in shared.own)
