"""The part of a report about groups of images."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.core.jackknife import FEWEST_POSITIVES
from manyhot.evaluate.report.datasets import DataSet, MetricColumn
from manyhot.evaluate.report.report_tables import ReportTables
from manyhot.report.listings import (
    ColumnHead,
    Listing,
    ListingRow,
    Shared,
    group_by_dataset,
    list_drops,
    picked,
    span,
)
from manyhot.report.text import (
    Metric,
    count_range,
    counted,
    ends,
    images_of,
    listed,
    slice_label,
    title_of,
    with_minus,
)
from manyhot.tables import Row


def groups_part(
    tables: ReportTables, datasets: Sequence[DataSet], shared: Shared, *, is_drawn: bool
) -> tuple[tuple[str, ...], str, tuple[Listing, ...]]:
    """Return the lead, the warning and the tables of the part."""
    drops = [
        r
        for r in picked(tables["drops"], shared.own)
        if r["dataset_x"] == r["dataset_y"] and r["slice_x"] != r["slice_y"]
    ]
    listings = [
        list_drops(rows, shared, title=f"From some images to others, {name}", section="groups")
        for name, rows in group_by_dataset(drops).items()
    ]
    listings += _ratios(tables["error_ratios"], shared)
    results = tables["results"]
    sliced = results.filter(pc.not_equal(results["slice"], "all"))
    listings += filter(None, (_group(data, sliced, shared) for data in datasets))
    lead = () if is_drawn else tuple(_range_of(data, sliced) for data in datasets)
    return tuple(filter(None, lead)), "", tuple(listings)


def _ratios(table: pa.Table, shared: Shared) -> list[Listing]:
    """Return the error ratios of each data set: the mean over models, then the user's own models."""
    found: dict[str, list[Row]] = {}
    for row in picked(table, shared.own):
        if row["slice"] != row["whole"]:
            found.setdefault(row["dataset"], []).append(row)
    return [_ratios_of(dataset, rows, shared) for dataset, rows in found.items()]


def _ratios_of(dataset: str, rows: Sequence[Row], shared: Shared) -> Listing:
    x, y = (shared.named(rows[0][f"metric_{end}"]).label for end in "xy")
    heads = (
        ColumnHead("Images", number=False),
        ColumnHead("Model", number=False),
        ColumnHead("n", title=f"Images that count for {x}, and for {y}"),
        *(ColumnHead(f"Error ratio, {label}") for label in (x, y)),
        ColumnHead("Difference", title="Second error ratio minus the first"),
    )
    entries = []
    for row in rows:
        model = row["model"] or f"mean of {counted(row['n_models'], 'model')}"
        numbers = (_with_ends(row, f"error_ratio_{name}") for name in ("x", "y", "difference"))
        cells = (slice_label(row["slice"]), model, f"{row['n_x']:,} and {row['n_y']:,}", *numbers)
        entries.append(ListingRow(cells, row["model"] in shared.own))
    title = f"Error ratios, {title_of(dataset)}"
    note = f"The error on a group divided by the error on {slice_label(rows[0]['whole'])}."
    return Listing(
        shared.anchors("groups", "ratios", dataset), title, heads, tuple(entries), note, folded=True
    )


def _with_ends(row: Row, column: str) -> str:
    between = ends((row[f"{column}_lo"], row[f"{column}_hi"]))
    return with_minus(row[column], 2) + f" ({between})" * bool(between)


def _range_of(data: DataSet, sliced: pa.Table) -> str:
    """Return on which groups of images the first model is worst and best; empty for fewer than two.

    If the metric that decides cannot be compared between groups, it is the mean average precision of images.
    """
    columns = (data.column(name) for name in (data.primary.name, "map_image"))
    m = next((c.metric for c in columns if c is not None and _is_comparable(c.metric)), None)
    if m is None:
        return ""
    model = data.models[0].name
    ends = (("dataset", data.name), ("metric", m.name), ("model", model))
    own = (r for r in sliced.to_pylist() if all(r[k] == v for k, v in ends))
    rows = [r for r in own if r["value"] == r["value"] and r["n"] >= FEWEST_POSITIVES]
    if len(rows) < 2:
        return ""
    low, high = (pick(rows, key=lambda r: r["value"]) for pick in (min, max))
    if low["value"] == high["value"]:
        return ""
    column = data.column(m.name)
    decimals = column.decimals if column else 1
    said = [
        f"{m.text(r['value'], decimals)}{m.unit} on {images_of(r['slice'])} (n {r['n']:,})"
        for r in (low, high)
    ]
    among = (
        f"Among groups of {FEWEST_POSITIVES} images or more, {m.label} of {model} on {title_of(data.name)}"
    )
    return f"{among} ranges from {said[0]} to {said[1]}."


def _is_comparable(m: Metric) -> bool:
    """Return whether values of a metric can be compared between groups of images.

    A macro metric is a mean over the classes of a group, and these differ from group to group, as do their
    shares of images.
    """
    return not m.name.endswith("_macro")


MOST_NAMED = 3
"""Number of models up to which the values of each are shown by group."""


def _group(data: DataSet, sliced: pa.Table, shared: Shared) -> Listing | None:
    """Return the values by group, of each model or, for many models, the median and the range in brackets."""
    shown = [c for c in data.columns if c.shown]
    columns = [c for c in shown if _is_comparable(c.metric)]
    where = pc.and_(
        pc.equal(sliced["dataset"], data.name),
        pc.is_in(sliced["metric"], pa.array([c.metric.name for c in columns], pa.string())),
    )
    is_few = len(data.models) <= MOST_NAMED
    each = is_few and len(data.models) > 1
    found: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in sliced.filter(where).to_pylist():
        if row["value"] == row["value"]:
            key = (row["slice"], row["model"] if each else "")
            found.setdefault(key, {}).setdefault(row["metric"], []).append(row)
    if not found:
        return None
    groups = {group: at for at, group in enumerate(dict.fromkeys(group for group, _ in found))}
    models = {model.name: at for at, model in enumerate(data.models)}
    entries = []
    for group, model in sorted(found, key=lambda key: (groups[key[0]], models.get(key[1], 0))):
        by_metric = found[group, model]
        cells = [slice_label(group), *[model] * each]
        cells.append(count_range(row["n"] for rows in by_metric.values() for row in rows))
        cells += [_in_cell(by_metric.get(c.metric.name, ()), c, is_few) for c in columns]
        entries.append(ListingRow(tuple(cells)))
    heads = (
        ColumnHead("Images", number=False),
        *[ColumnHead("Model", number=False)] * each,
        ColumnHead("n"),
        *(ColumnHead(f"{c.metric.label}{c.metric.unit}", title=c.metric.definition) for c in columns),
    )
    many = "Values are medians over models, with the lowest and the highest value in brackets."
    has_ends = any("(" in cell for entry in entries for cell in entry.cells[2:])
    single = "95 % intervals are in brackets." if has_ends else ""
    note = single if is_few else many
    note = " ".join(filter(None, (note, _left_out([c.metric for c in shown if c not in columns]))))
    title = f"By group of images, {title_of(data.name)}"
    return Listing(shared.anchors("groups", data.name), title, heads, tuple(entries), note, folded=True)


def _in_cell(rows: Sequence[Row], column: MetricColumn, has_ends: bool) -> str:
    """Return a value with its interval, or the median of several with their range."""
    values, m = [row["value"] for row in rows], column.metric
    if not values:
        return "–"
    middle = m.text(median(values), column.decimals)
    if len(values) > 1:
        return f"{middle} ({span(values, m, 1)})"
    lo, hi = rows[0]["lo"], rows[0]["hi"]
    return (
        middle
        if not has_ends or lo is None or hi is None
        else f"{middle} ({m.text(lo, 1)} to {m.text(hi, 1)})"
    )


def _left_out(metrics: Sequence[Metric]) -> str:
    """Return which metrics the table lacks, and why."""
    names = listed([m.label for m in metrics], len(metrics))
    verb = "is" if len(metrics) == 1 else "are"
    return f"{names} {verb} left out, because the classes of the groups differ." if metrics else ""
