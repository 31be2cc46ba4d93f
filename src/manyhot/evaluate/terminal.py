"""What a terminal shows of models: their results, drops and rankings."""

from __future__ import annotations

import html
import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.console import table_lines
from manyhot.evaluate.ranks import PROTOCOL_WARNING, image_groups
from manyhot.evaluate.slices import is_requested
from manyhot.tables import ModelValue, Results, Row
from manyhot.tables.result_tables import headline


def shown_metrics(results: Results) -> list[str]:
    """Return the metrics that a terminal shows: all if there are at most seven, else the headline metrics."""
    every = list(dict.fromkeys(results.table["metric"].to_pylist()))
    usual = [m for m in headline() if m in every]
    return every if len(every) <= 7 else usual if len(usual) > 1 else every[:7]


def leading_metric(results: Results, dataset: str) -> str:
    """Return the metric by which models are ranked: real1 or, without it, the data set's first metric."""
    shown = shown_metrics(results)
    by = ("real1", *shown) if "real1" in shown else shown
    own = (metric for name, metric, slice in results.values_at if (name, slice) == (dataset, "all"))
    return next(str(m) for m in (*by, *own) if results.values_at.get((dataset, m, "all")))


@dataclass(frozen=True)
class Block:
    """Models of a data set that were evaluated on the same images, or models that are not ranked.

    Attributes
    ----------
    dataset, title : str
    head : tuple of str
    rows : sequence of tuple of str
        The numbers of images, and the values of each model.
    """

    dataset: str
    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def headline_blocks(
    results: Results,
    own: Collection[str] = (),
    most: int = 15,
    *,
    unmatched: Mapping[tuple[str, str], str] = MappingProxyType({}),
) -> Iterator[Block]:
    """Yield the best models of each data set, and the user's own models with their ranks.

    Parameters
    ----------
    results : Results
    own : collection of str
        The user's own models.
    most : int
        Number of models to show.
    unmatched : Mapping
        By data set and model: a text that says how many images have no prediction or no label.
    """
    about = json.loads(results.about["metrics"])
    shown, skipped, audited = (
        shown_metrics(results),
        _counts(results, "n_skipped"),
        _counts(results, "n_audited"),
    )
    for dataset in results.datasets:
        columns = {m: results.values_at.get((dataset, m, "all"), {}) for m in shown}
        unasked = {m: results.values_at.get((dataset, f"{m}_unasked", "all"), {}) for m in shown}
        at = leading_metric(results, dataset)
        groups = image_groups(results, (dataset, at, "all"))
        alone = [model for group in groups if len(group) == 1 < len(groups) for model in group]
        for group in [*(g for g in groups if g[0] not in alone), *([alone] if alone else [])]:
            is_ranked = group is not alone
            best = _best(group, columns[at], about[at]["better"], most, own, is_ranked)
            title = _title(dataset, len(group), min(most, len(group)), at, is_ranked, group is groups[0])
            lacking = unmatched.get((dataset, group[0])) if is_ranked or len(group) == 1 else None
            counts = [{m: of.get((dataset, m), {}) for m in shown} for of in (skipped, audited)]
            rows = _rows(best, columns, about, unasked, counts)
            yield Block(dataset, f"{title}; {lacking}" if lacking else title, ("", "model", *shown), rows)


FARTHER_END = "±: to the farther end of the 95 % interval"
"""What ± means in a row of a block."""


def headline_lines(blocks: Iterable[Block], below: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """Yield the lines of blocks; `below` maps each data set to a sentence to print below its models."""
    for dataset, of_dataset in itertools.groupby(blocks, key=lambda block: block.dataset):
        for block in of_dataset:
            yield block.title
            yield from table_lines(block.head, block.rows)
        yield from [below[dataset]] if dataset in below else []


_SLICES = 12
"""Requested slices that are printed."""

_SLICED_MODELS = 5


def slice_lines(results: Results, requested: Collection[str]) -> Iterator[str]:
    """Yield the leading metric of the first models on the slices that were requested."""
    about = json.loads(results.about["metrics"])
    for dataset in results.datasets:
        at = leading_metric(results, dataset)
        own = [(s, of) for (name, m, s), of in results.values_at.items() if (name, m) == (dataset, at)]
        asked = [(s, of) for s, of in own if is_requested(s, requested)]
        if not asked:
            continue
        models = list(results.values_at[dataset, at, "all"])[:_SLICED_MODELS]
        yield f"{dataset}: {at} on each slice"
        rows = []
        for name, of in asked[:_SLICES]:
            n = next((f"{of[m].n:,}" for m in models if m in of), "–")
            rows.append((name, *(_figure(of.get(m), about[at]["unit"]) for m in models), n))
        yield from table_lines(("slice", *models, "images"), rows)
        if len(asked) > _SLICES:
            yield f"… and {len(asked) - _SLICES:,} more slices in the table"


def has_interval(block: Block) -> bool:
    """Return whether a value of a block has an interval."""
    return any("±" in cell for row in block.rows for cell in row)


def block_html(block: Block) -> str:
    """Return a block as HTML, for a notebook."""
    parts = [("th", block.head), *(("td", row) for row in block.rows)]
    cells = (
        "".join(f'<{tag} style="text-align: left">{html.escape(cell)}</{tag}>' for cell in row)
        for tag, row in parts
    )
    rows = "".join(f"<tr>{row}</tr>" for row in cells)
    return f"<p>{html.escape(block.title)}</p><table>{rows}</table>"


def _best(
    group: Sequence[str],
    values: Mapping[str, Any],
    better: str,
    most: int,
    own: Collection[str],
    is_ranked: bool,
) -> list[tuple[str, str]]:
    """Return the best models with their ranks, and one's own; without a rank, the first."""
    sign = -1 if better == "higher" else 1

    def cost(model: str) -> tuple[bool, float]:
        value = values[model].value
        return value != value, 0.0 if value != value else sign * value

    ordered = sorted(group, key=cost) if is_ranked else group
    best = [(i, m) for i, m in enumerate(ordered, 1) if i <= most or m in own]
    return [(str(i) if is_ranked else "", m) for i, m in best]


def _title(dataset: str, n: int, shown: int, by: str, is_ranked: bool, is_first: bool) -> str:
    models = "1 model" if n == 1 else f"{n:,} models"
    if not is_ranked:
        return f"{dataset}, not ranked: {models}, {'' if n == 1 else 'each '}evaluated on other images"
    best = "" if n == 1 else f", best {shown}"
    among = "" if is_first else ", evaluated on other images and ranked separately"
    return f"{dataset}: {models}{best} by {by}{among}"


def _rows(
    ranked: Sequence[tuple[str, str]],
    columns: Mapping[str, Mapping[str, ModelValue]],
    about: Mapping[str, Mapping[str, str]],
    unasked: Mapping[str, Mapping[str, ModelValue]],
    counts: Sequence[Mapping[str, Mapping[str, int]]],
) -> list[tuple[str, ...]]:
    """Return one row per model, below rows with the numbers of images, repeated where these change."""
    parts: list[list[tuple[str, str]]] = []
    images: dict[str, int] = {}
    for rank, model in ranked:
        of_model = {m: column[model].n for m, column in columns.items() if model in column}
        if not parts or any(images.get(m, n) != n for m, n in of_model.items()):
            parts.append([])
            images = {}
        images |= of_model
        parts[-1].append((rank, model))
    return [
        row
        for part in parts
        for row in (
            *_image_rows([model for _, model in part], columns, unasked, *counts),
            *((r, m, *(_figure(columns[c].get(m), about[c]["unit"]) for c in columns)) for r, m in part),
        )
    ]


def _image_rows(
    models: Sequence[str],
    columns: Mapping[str, Mapping[str, ModelValue]],
    unasked: Mapping[str, Mapping[str, ModelValue]],
    skipped: Mapping[str, Mapping[str, int]],
    audited: Mapping[str, Mapping[str, int]],
) -> Iterator[tuple[str, ...]]:
    """Yield the number of images, of skipped images, and the share of misses that nobody was asked about.

    In an audit, the number of images is an estimate, and the number of audited images follows.
    """
    values = [[column[m] for m in models if m in column] for column in columns.values()]
    answered = [next((of[m] for m in models if m in of), 0) for of in audited.values()]
    estimated = " (estimated)" if any(answered) else ""
    yield ("", f"images{estimated}", *(f"{found[0].n:,}" if found else "–" for found in values))
    counts = [next((of[m] for m in models if m in of), 0) for of in skipped.values()]
    if any(counts):
        yield ("", f"skipped{estimated}", *(f"{n:,}" for n in counts))
    if any(answered):
        yield ("", "audited", *(f"{n:,}" if n else "–" for n in answered))
    shares = [
        [s.value for m in models if m in of and (s := of[m]).value == s.value] for of in unasked.values()
    ]
    if any(shares):
        yield ("", "unasked misses", *(_extent(found) for found in shares))


def _counts(results: Results, column: str) -> dict[tuple[str, str], dict[str, int]]:
    """Return a number of images of each model, by data set and metric; nothing without the column."""
    table = results.table.filter(pc.equal(results.table["slice"], "all"))
    found: dict[tuple[str, str], dict[str, int]] = {}
    if column not in table.column_names:
        return found
    for row in table.select(["dataset", "metric", "model", column]).to_pylist():
        found.setdefault((row["dataset"], row["metric"]), {})[row["model"]] = row[column] or 0
    return found


def _extent(shares: Sequence[float]) -> str:
    """Return shares as text: from the least to the greatest."""
    if not shares:
        return "–"
    low, high = (f"{100 * end:.0f}" for end in (min(shares), max(shares)))
    return f"{low}%" if low == high else f"{low}–{high}%"


def _figure(number: Any, unit: str) -> str:
    if number is None or number.value != number.value:
        return "–"
    scale, sign = (100, "%") if unit == "share" else (1, "")
    value = f"{scale * number.value:.2f}{sign}"
    if number.lo is None or number.hi is None or number.lo != number.lo:
        return value
    # The farther end: an interval near 0 or 1 is longer on one side.
    return f"{value} ±{scale * max(number.value - number.lo, number.hi - number.value):.2f}"


def spaced(*parts: Iterable[str]) -> Iterator[str]:
    """Yield the lines of each part, with an empty line between parts that have any."""
    is_first = True
    for part in parts:
        lines = list(part)
        if lines and not is_first:
            yield ""
        yield from lines
        is_first = is_first and not lines


def change_lines(drops: Sequence[Row]) -> Iterator[str]:
    """Yield mean drops between data sets and slices, without those between metrics on the same images."""
    changed = [
        r
        for r in drops
        if r["model"] is None and (r["dataset_x"], r["slice_x"]) != (r["dataset_y"], r["slice_y"])
    ]
    if changed:
        yield from drop_lines(changed)
        yield ""


def apart_lines(results: Results, ranks: pa.Table) -> Iterator[str]:
    """Yield sentences about data sets that share too few models with the first data set to be compared."""
    ends = zip(ranks["dataset_x"].to_pylist(), ranks["dataset_y"].to_pylist(), strict=True)
    compared = {name for x, y in ends if x != y for name in (x, y)}
    models: dict[str, set[str]] = {}
    for dataset, model in zip(*(results.table[c].to_pylist() for c in ("dataset", "model")), strict=True):
        models.setdefault(dataset, set()).add(model)
    first, *others = results.datasets
    for dataset in others:
        if dataset not in compared:
            n = len(models[first] & models[dataset])
            shared = f"{n or 'no'} model{'' if n == 1 else 's'}"
            yield f"{first} and {dataset} have {shared} in common and are not compared."


_ANALYSES = {
    "as published": "as published",
    "not empty": "without empty sets",
    "sizes of y": "x, with set sizes of y",
    "sizes of x": "y, with set sizes of x",
    "rated at x": "rated images of x",
    "rated, sizes of y": "rated images of x, with set sizes of y",
    "threshold at x": "x, at the threshold",
}


def sensitivity_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the drops under each analysis, to show how much depends on the protocol of the label sets."""
    if not rows:
        return
    cells = [
        (
            r["metric"],
            _ANALYSES[r["analysis"]] + ("" if r["threshold"] is None else f" {r['threshold']:g}"),
            _points(r["drop"]),
            _span(r["lo_models"], r["hi_models"]),
            f"{r['multi_x']:.1%} → {r['multi_y']:.1%}",
            f"{r['n_x']:,} → {r['n_y']:,}",
        )
        for r in rows
    ]
    head = ("metric", "sensitivity", "drop", "95 % over families", "two or more", "images")
    yield from table_lines(head, cells)
    yield f"Warning: {PROTOCOL_WARNING}"


def drop_lines(drops: Sequence[Row]) -> Iterator[str]:
    """Yield the points that models lose on average between data sets."""
    places = list(dict.fromkeys((r["dataset_x"], r["dataset_y"]) for r in drops))
    for i, (x, y) in enumerate(places):
        if i:
            yield ""
        yield (f"{x if x == y else f'{x} → {y}'}: points lost, means over models")
        rows = [
            (
                _between(r),
                _points(r["drop"]),
                _span(r["lo"], r["hi"]),
                _span(r["lo_models"], r["hi_models"]),
                str(r["n_models"]),
                f"{r['n_x']:,} → {r['n_y']:,}",
            )
            for r in drops
            if (r["dataset_x"], r["dataset_y"]) == (x, y)
        ]
        head = ("metric", "drop", "95 % over images", "95 % over families", "models", "images")
        yield from table_lines(head, rows)


def _between(row: Row) -> str:
    """Return metric and slice of both ends, what they share once."""
    (metric_x, slice_x), (metric_y, slice_y) = ((row[f"metric_{e}"], row[f"slice_{e}"]) for e in "xy")
    metrics = metric_x if metric_x == metric_y else f"{metric_x} → {metric_y}"
    slices = slice_x if slice_x == slice_y else f"{slice_x} → {slice_y}"
    return metrics if slices == "all" else f"{metrics} [{slices}]"


def fit_lines(fits: Sequence[Row]) -> Iterator[str]:
    """Yield the slopes of the fitted lines between two places."""
    rows = [
        (
            *_ends(r),
            r["models"],
            f"{r['slope']:.3f}",
            _span(r["slope_lo"], r["slope_hi"], 1, 3),
            _number(r["r2"]),
            str(r["n"]),
        )
        for r in fits
    ]
    if rows:
        yield from table_lines(("x", "y", "models", "slope", "95 % over families", "R²", "n"), rows)


def order_lines(ranks: Sequence[Row]) -> Iterator[str]:
    """Yield the agreement between rankings of models."""
    rows = [
        (
            *_ends(r),
            _number(r["tau"]),
            f"{r['n_swapped']:,} of {r['n_pairs']:,}",
            _beyond(r["n_beyond_noise"]),
        )
        for r in ranks
    ]
    if rows:
        yield from table_lines(("x", "y", "Kendall's tau", "pairs in another order", "beyond noise"), rows)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _beyond(n: int | None) -> str:
    return "–" if n is None else str(n)


def _ends(row: Row) -> tuple[str, str]:
    """Return both ends of a comparison in words, without what they share."""
    x, y = ((row[f"dataset_{e}"], row[f"metric_{e}"], row[f"slice_{e}"]) for e in "xy")
    return _end(x), _end(y)


def _end(end: tuple[str, str, str]) -> str:
    dataset, metric, slice = end
    return f"{dataset} {metric}" + ("" if slice == "all" else f" [{slice}]")


def _points(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.2f}"


def _span(lo: float | None, hi: float | None, scale: int = 100, digits: int = 2) -> str:
    return "–" if lo is None or hi is None else f"{lo * scale:.{digits}f} to {hi * scale:.{digits}f}"


def ranked_lines(shown: pa.Table) -> Iterator[str]:
    """Yield a narrow leaderboard."""
    value = shown.column_names[shown.column_names.index("lo") - 1]
    columns = [c for c in shown.column_names if c not in ("lo", "hi")]
    rows = []
    for r in shown.to_pylist():
        cells = {c: _cell(c, r[c]) for c in columns}
        if r["lo"] is not None:
            cells[value] += f" ({_span(r['lo'], r['hi'])})"
        rows.append(tuple(cells.values()))
    yield (f"{len(shown):,} models, the best by {value} first")
    yield from table_lines(tuple(c.replace("_", " ") for c in columns), rows)
    images = json.loads(shown.schema.metadata[b"manyhot.images"])
    others = (f"{c} {_images(*images[c])}" for c in columns if c in images and c != value)
    if listed := "; ".join(others):
        yield (f"images: {listed}")
    if n := shown["rank"].null_count:
        yield (f"without a rank: {n:,} evaluated on other images")


def _images(fewest: int, most: int) -> str:
    return f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"


def _cell(column: str, value: Any) -> str:
    if value is None or value != value:
        return "–"
    if isinstance(value, float):
        return f"{value:.2%}" if " " in column else f"{value:.4g} M"
    return f"{value:,}" if column == "n" else str(value)
