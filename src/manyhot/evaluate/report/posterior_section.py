"""The part about results under the posterior of the label sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from manyhot.evaluate.posterior import decided_lines, headline_rows, posterior_ends, posterior_interval
from manyhot.evaluate.report.report_tables import ReportTables
from manyhot.report.listings import ColumnHead, Listing, ListingRow, Shared
from manyhot.report.text import title_of
from manyhot.tables import Row

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
