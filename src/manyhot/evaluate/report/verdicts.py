"""Two models against each other: one sentence, and the difference by each metric.

The rows are those of the table ``pairs``; nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyarrow import compute as pc

from manyhot.evaluate.drops import BEYOND_NOISE
from manyhot.evaluate.report.datasets import DataSet, MetricColumn
from manyhot.evaluate.report.report_tables import ReportTables
from manyhot.report.listings import NONE, ColumnHead, Listing, ListingRow
from manyhot.report.page import Anchors
from manyhot.report.text import Metric, ends, is_defined, points, title_of, with_minus

Row = Mapping[str, Any]

SMALLEST_P = 0.0001
"""Smallest p-value that is written out; a bootstrap does not resolve smaller ones."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """Which of two models is better on a data set: in a sentence, and by metric."""

    sentence: str
    table: Listing


def verdicts(tables: ReportTables, datasets: Sequence[DataSet], anchors: Anchors) -> tuple[Verdict, ...]:
    """Return the verdict on each data set; none if there are more models than two."""
    if any(len(data.models) > 2 for data in datasets):
        return ()
    found = (_verdict(tables, data, anchors) for data in datasets if len(data.models) == 2)
    return tuple(verdict for verdict in found if verdict is not None)


def _verdict(tables: ReportTables, data: DataSet, anchors: Anchors) -> Verdict | None:
    columns = [c for c in data.columns if c.shown and all(v is not None and v.finite for v in c.values)]
    if not columns:
        return None
    pairs = _pairs(tables, data)
    a, b = (model.name for model in data.models)
    heads = (
        ColumnHead("Metric", number=False),
        ColumnHead(a),
        ColumnHead(b),
        ColumnHead("Difference", title=f"{a} minus {b}, in percentage points if the metric is a share"),
        ColumnHead("95 % interval"),
        ColumnHead("p", title="Two-sided, for the paired difference"),
        ColumnHead("n"),
    )
    rows = tuple(_row(column, pairs.get(column.metric.name)) for column in columns)
    primary = next((c for c in columns if c.metric.name == data.primary.name), columns[0])
    table = Listing(anchors("verdict", data.name), f"{a} and {b} on {title_of(data.name)}", heads, rows)
    return Verdict(_sentence(data, primary, pairs.get(primary.metric.name)), table)


def _pairs(tables: ReportTables, data: DataSet) -> dict[str, Row]:
    """Return the differences between the first model and the second over all images, by metric."""
    pairs = tables["pairs"]
    where = pc.and_(pc.equal(pairs["dataset"], data.name), pc.equal(pairs["slice"], "all"))
    first = data.models[0].name
    rows = (row if row["model_a"] == first else _turned(row) for row in pairs.filter(where).to_pylist())
    return {row["metric"]: row for row in rows}


def _turned(row: Row) -> Row:
    """Return a pair the other way round."""
    minus = {"difference": row["difference"], "lo": row["hi"], "hi": row["lo"]}
    turned = {name: None if value is None else -value for name, value in minus.items()}
    return {**row, "model_a": row["model_b"], "model_b": row["model_a"], **turned}


def _row(column: MetricColumn, pair: Row | None) -> ListingRow:
    m, (a, b) = column.metric, column.values
    assert a is not None
    assert b is not None
    texts = [f"{m.text(v.value, column.decimals)}{m.unit}" for v in (a, b)]
    n = f"{a.n:,}" if a.n == b.n else f"{a.n:,} and {b.n:,}"
    if pair is None or not is_defined(pair["difference"]):
        return ListingRow((m.label, *texts, NONE, NONE, NONE, n))
    difference = _signed(m, pair["difference"], column.decimals)
    return ListingRow(
        (
            m.label,
            *texts,
            difference,
            ends((pair["lo"], pair["hi"]), m, column.decimals) or NONE,
            p_text(pair["p"]),
            f"{pair['n']:,}",
        )
    )


def _sentence(data: DataSet, column: MetricColumn, pair: Row | None) -> str:
    """Return which model is better by the first metric, as far as that was tested."""
    m, (a, b) = column.metric, (model.name for model in data.models)
    (x, y), where = (column.values[i] for i in (0, 1)), title_of(data.name)
    assert x is not None
    assert y is not None
    values = [m.text(v.value, column.decimals) + m.unit for v in (x, y)]
    has_test = pair is not None and pair["p"] is not None and is_defined(pair["p"])
    if pair is None or not has_test:
        return (
            f"By {m.label} on {where}, {a} has {values[0]} and {b} {values[1]} (n {x.n:,}). Whether they "
            "differ beyond noise was not tested."
        )
    apart = points(abs(pair["difference"]), m)
    interval = ends((pair["lo"], pair["hi"]), m, column.decimals)
    parts = [f"95 % interval {interval}" if interval else "no interval", _p(pair["p"]), f"n {pair['n']:,}"]
    tested = f"({', '.join(parts)})"
    if pair["p"] < BEYOND_NOISE:
        return (
            f"{a} is better than {b} by {m.label} on {where}: {values[0]} against {values[1]}, a difference "
            f"of {apart} {tested}."
        )
    return (
        f"By {m.label} on {where}, {a} and {b} do not differ beyond noise: {values[0]} against {values[1]}, "
        f"a difference of {apart} {tested}."
    )


def _signed(m: Metric, value: float, decimals: int) -> str:
    text = with_minus(m.draw(value), decimals)
    return text if text.startswith("−") or not float(text.replace(",", "")) else f"+{text}"


def _p(p: float) -> str:
    text = p_text(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def p_text(p: float | None) -> str:
    """Return a p-value with two significant digits, or ``< 0.0001``."""
    if p is None or not is_defined(p):
        return NONE
    return f"< {SMALLEST_P}" if p < SMALLEST_P else f"{p:.2g}"
