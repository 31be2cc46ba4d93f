"""Tables of two groups of models at equal accuracy."""

from __future__ import annotations

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.report.listings import ColumnHead, Listing, ListingRow, Shared
from manyhot.report.text import ends, title_of, with_minus

_NOTE = (
    "Means over the models of the second group, in points. Local regression compares each of these models "
    "with the models of the first group within 5 points of its accuracy. The logit line is fitted to the "
    "whole first group, so the difference from this line is effective robustness. Intervals are over "
    "families of models of both groups."
)


def equal_listings(table: pa.Table, shared: Shared) -> list[Listing]:
    """Return the tables of mean differences between the groups; none if no groups were compared."""
    rows = table.filter(pc.is_null(table["at"])).to_pylist()
    if not rows:
        return []
    first, second, x = (rows[0][c] for c in ("group_a", "group_b", "dataset_x"))
    heads = (
        ColumnHead("Data set", number=False),
        ColumnHead("Metric", number=False),
        ColumnHead("Method", number=False),
        ColumnHead(first),
        ColumnHead(second),
        ColumnHead("Difference", title="With its 95 % interval over families of models"),
        ColumnHead("Models", title="In the first and in the second group"),
        ColumnHead("Accuracy", title=f"Range on {title_of(x)} in which both groups have models, in percent"),
    )
    entries = []
    for row in rows:
        pair = (row["difference_lo"], row["difference_hi"])
        between = "" if None in pair else f" ({ends((100 * pair[0], 100 * pair[1]))})"
        cells = (
            title_of(row["dataset_y"]),
            shared.named(row["metric_y"]).label,
            row["method"],
            f"{100 * row['value_a']:.2f}",
            f"{100 * row['value_b']:.2f}",
            with_minus(100 * row["difference"], 2) + between,
            f"{row['n_a']:,} and {row['n_b']:,}",
            f"{100 * row['from_x']:.1f} to {100 * row['to_x']:.1f}",
        )
        entries.append(ListingRow(cells))
    title = f"{second} compared with {first} at equal accuracy on {title_of(x)}"
    return [Listing(shared.anchors("shift", "equal", x), title, heads, tuple(entries), _NOTE)]
