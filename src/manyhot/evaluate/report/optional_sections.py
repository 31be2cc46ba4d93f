"""The parts of a report about groups of images, error consistency, and draws of label sets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from statistics import median

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.core.jackknife import FEWEST_POSITIVES
from manyhot.evaluate.error_consistency import (
    SHOWN_PAIRS,
    gain_text,
    mean_sentences,
    pair_cells,
    shown_pairs,
    vote_sentences,
)
from manyhot.evaluate.posterior import decided_lines, headline_rows, posterior_ends, posterior_interval
from manyhot.evaluate.report.datasets import DataSet, MetricColumn
from manyhot.evaluate.report.report_tables import ReportTables
from manyhot.evaluate.slices import is_requested
from manyhot.evaluate.worst_slices import worst_rows
from manyhot.report.chapter import rows_by
from manyhot.report.listings import (
    ColumnHead,
    Listing,
    ListingRow,
    Shared,
    group_by_dataset,
    list_drops,
    picked,
    span,
    text_heads,
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
from manyhot.tables.image_conditions import parse_condition
from manyhot.tables.result_tables import is_over_classes

EXPLANATION = (
    "Error consistency is Cohen's kappa between the correctness of two models: 1 if they fail on the same "
    "images, 0 if their errors are independent. Models that fail on different images can correct one another."
)


def consistency_part(tables: ReportTables, shared: Shared) -> tuple[tuple[str, ...], tuple[Listing, ...]]:
    """Return sentences, and tables of pairs and of majority votes for each data set."""

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
    return ((*lead, EXPLANATION) if lead else ()), tuple(listings)


def _rows(table: pa.Table, dataset: str) -> list[Row]:
    rows: list[Row] = table.filter(pc.equal(table["dataset"], dataset)).to_pylist()
    return rows


def _pairs(dataset: str, rows: Sequence[Row], shared: Shared) -> Iterator[Listing]:
    """Yield a table of the most and least consistent pairs."""
    shown = shown_pairs(rows, SHOWN_PAIRS)
    if not shown:
        return
    heads = (
        *text_heads("Model", "Model"),
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
    """Yield a table of the majority votes with the largest gains on the images used to choose them."""
    if not rows:
        return
    heads = (
        *text_heads("Metric", "Best model", "with", "and"),
        ColumnHead("Kappa", title="Mean error consistency of the three models"),
        ColumnHead(
            "Chosen by",
            title=(
                "Gain in points on the images used to choose the vote, which overestimates the gain on other "
                "images"
            ),
        ),
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


def posterior_part(tables: ReportTables, shared: Shared) -> tuple[tuple[str, ...], tuple[Listing, ...]]:
    """Return the first sentences, and a table for each data set."""
    rows = headline_rows(tables["posterior"])
    if not rows:
        return (), ()
    pairs = {"posterior_pairs": tables["posterior_pairs"]}
    first = [f"{line[0].upper()}{line[1:]}." for line in decided_lines(pairs)]
    lead = (*(first or _alone(rows, shared)), ABOUT)
    return lead, tuple(_table(name, own, shared) for (name,), own in rows_by(rows, "dataset").items())


def _alone(rows: Sequence[Row], shared: Shared) -> Iterator[str]:
    """Yield the first result, where there are no pairs of models."""
    row = rows[0]
    metric = shared.named(row["metric"])
    value = posterior_interval(metric, row["value"], row["lo"], row["hi"])
    yield (
        f"{title_of(row['dataset'])}: {metric.label} of {row['model']} is {value} under the posterior of the "
        f"label sets, and {metric.text(row['fixed'], 2)}{metric.unit} on the label sets themselves (n "
        f"{row['n']:,})."
    )


def _table(dataset: str, rows: Sequence[Row], shared: Shared) -> Listing:
    heads = (
        *text_heads("Model", "Metric"),
        ColumnHead("Without draws", title="Value on the label sets themselves"),
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


def groups_part(
    tables: ReportTables, datasets: Sequence[DataSet], shared: Shared, *, is_drawn: bool
) -> tuple[tuple[str, ...], tuple[Listing, ...]]:
    """Return the lead and the tables of the part."""
    drops = [
        r
        for r in picked(tables["drops"], shared.own)
        if r["dataset_x"] == r["dataset_y"] and r["slice_x"] != r["slice_y"]
    ]
    listings = [
        list_drops(rows, shared, title=f"From some images to others, {name}", section="groups")
        for name, rows in group_by_dataset(drops)
    ]
    ratios = (r for r in picked(tables["error_ratios"], shared.own) if r["slice"] != r["whole"])
    listings += [_ratios_of(dataset, rows, shared) for (dataset,), rows in rows_by(ratios, "dataset").items()]
    results = tables["results"]
    sliced = results.filter(pc.not_equal(results["slice"], "all"))
    requested = json.loads(tables.about.get("slices", "[]"))
    by_group = [own for data in datasets if (own := _group(data, sliced, shared, requested))]
    by_group += [own for data in datasets for own in _worst(data, tables["worst_slices"], shared)]
    listings = [*by_group, *listings] if requested else [*listings, *by_group]
    lead = () if is_drawn else tuple(_range_of(data, sliced) for data in datasets)
    return tuple(filter(None, lead)), tuple(listings)


def _worst(data: DataSet, table: pa.Table, shared: Shared) -> Iterator[Listing]:
    """Yield the worst slice of each model by the metric that decides, for each column of slices."""
    m = data.primary
    for column, rows in worst_rows(table, data.name, m.name, lower_is_better=m.lower_is_better).items():
        heads = (
            *text_heads("Model", "Worst slice"),
            ColumnHead(f"{m.label}{m.unit}", title=m.definition),
            ColumnHead("n", title="Images of this slice that count"),
        )
        entries = []
        for row in rows:
            between = ends((row["value_lo"], row["value_hi"]), m, 1)
            value = m.text(row["value"], 2) + f" ({between})" * bool(between)
            cells = (row["model"], slice_label(row["slice"]), value, f"{row['n']:,}")
            entries.append(ListingRow(cells, row["model"] in shared.own))
        yield Listing(
            shared.anchors("groups", "worst", data.name, column),
            f"The worst of {rows[0]['n_slices']:,} slices by {column}, {title_of(data.name)}",
            heads,
            tuple(entries),
            "The 95 % intervals allow for the choice of the worst slice.",
        )


def _ratios_of(dataset: str, rows: Sequence[Row], shared: Shared) -> Listing:
    """Return the error ratios of a data set: the mean over models, then the user's own models."""
    x, y = (shared.named(rows[0][f"metric_{end}"]).label for end in "xy")
    heads = (
        *text_heads("Images", "Model"),
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

    Means over the classes of a group cannot: the classes differ from group to group, as do their shares of
    images.
    """
    return not is_over_classes(m.name)


MOST_NAMED = 3
"""Number of models up to which the values of each are shown by group."""


_STANDING = ("n_labels", "rated", "superclass", "class")
"""Columns of slices that are no properties of images."""


def _group(data: DataSet, sliced: pa.Table, shared: Shared, requested: Sequence[str]) -> Listing | None:
    """Return the values by group, of each model or, for many models, the median and the range in brackets.

    Slices that were requested come first, and the table is then not folded. If no metric can be compared
    between groups, the table shows only these slices.
    """
    shown = [c for c in data.columns if c.shown]
    comparable = [c for c in shown if _is_comparable(c.metric)]
    columns = comparable or shown * bool(requested)
    where = pc.and_(
        pc.equal(sliced["dataset"], data.name),
        pc.is_in(sliced["metric"], pa.array([c.metric.name for c in columns], pa.string())),
    )
    is_few = len(data.models) <= MOST_NAMED
    each = is_few and len(data.models) > 1
    found: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in sliced.filter(where).to_pylist():
        if row["value"] == row["value"] and (comparable or is_requested(row["slice"], requested)):
            key = (row["slice"], row["model"] if each else "")
            found.setdefault(key, {}).setdefault(row["metric"], []).append(row)
    if not found:
        return None
    names = sorted(dict.fromkeys(group for group, _ in found), key=lambda g: not is_requested(g, requested))
    groups = {group: at for at, group in enumerate(names)}
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
    is_own = any(parse_condition(group)[0] not in _STANDING for group in groups)
    tested = (
        "Whether a model is worse on some group than on the images of other groups is tested by manyhot "
        "diagnose groups --metadata."
        if is_own
        else ""
    )
    own = (
        ""
        if comparable
        else "Each value is a mean over the classes of its group, which may differ between groups."
    )
    without = _left_out([c.metric for c in shown if c not in columns])
    note = " ".join(filter(None, (note, own, without, tested)))
    title = f"By group of images, {title_of(data.name)}"
    is_folded = not any(is_requested(group, requested) for group in groups)
    return Listing(shared.anchors("groups", data.name), title, heads, tuple(entries), note, folded=is_folded)


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
