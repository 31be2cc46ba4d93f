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
from manyhot.evaluate.ranks import (
    PROTOCOL_WARNING,
    dataset_models,
    image_groups,
    leading_metric,
    shown_metrics,
)
from manyhot.evaluate.slices import is_requested
from manyhot.evaluate.worst_slices import worst_rows
from manyhot.report.text import counted
from manyhot.tables import ModelValue, Results, Row


@dataclass(frozen=True)
class Block:
    """Models of a data set that were evaluated on the same images, or models that are not ranked.

    Attributes
    ----------
    rows : sequence of tuple of str
        The numbers of images, and the values of each model.
    """

    dataset: str
    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


_SHOWN = 15
"""Number of the best models in a block."""


def headline_blocks(
    results: Results,
    own: Collection[str] = (),
    *,
    unmatched: Mapping[tuple[str, str], str] = MappingProxyType({}),
) -> Iterator[Block]:
    """Yield the best models of each data set, and the user's own models with their ranks.

    Parameters
    ----------
    own : collection of str
        The user's own models.
    unmatched : Mapping
        By data set and model: a text that says how many images have no prediction or no label.
    """
    for dataset in results.datasets:
        every = dataset_models(results, dataset)
        at = leading_metric(results, dataset)
        models, without = every, ""
        while models:  # those without the leading metric have one of their own
            ranked = results.values_at[dataset, at, "all"]
            having = [m for m in models if m in ranked]
            title = _Title(dataset, at, without, len(every) if len(having) < len(every) else 0)
            yield from _blocks_by(results, having, title, own, unmatched)
            models, without = [m for m in models if m not in ranked], without or at
            at = leading_metric(results, dataset, models) if models else ""


@dataclass(frozen=True)
class _Title:
    """The contents of block titles: the metric to rank by, the one that the models lack, and their number.

    `n_models` is 0 if all models of the data set have the metric.
    """

    dataset: str
    by: str
    without: str
    n_models: int

    def text(self, n: int, shown: int, *, is_ranked: bool, is_first: bool) -> str:
        """Return the title of a block of n models."""
        of = f" of {self.n_models:,}" if self.n_models and not self.without else ""
        models = f"{n:,}{of} model{'' if n == 1 and not of else 's'}"
        place = f"{self.dataset}, without {self.without}" if self.without else self.dataset
        if not is_ranked:
            return f"{place}, not ranked: {models}, {'' if n == 1 else 'each '}evaluated on other images"
        best = "" if n == 1 else f", best {shown}"
        among = "" if is_first else ", evaluated on other images and ranked separately"
        return f"{place}: {models}{best} by {self.by}{among}"


def _blocks_by(
    results: Results,
    models: Collection[str],
    title: _Title,
    own: Collection[str],
    unmatched: Mapping[tuple[str, str], str],
) -> Iterator[Block]:
    """Yield blocks of models that have the metric of the title."""
    about = json.loads(results.about["metrics"])
    dataset, at = title.dataset, title.by
    shown = shown_metrics(results, dataset, models if title.n_models else None)
    columns = {m: results.values_at.get((dataset, m, "all"), {}) for m in shown}
    unasked = {m: results.values_at.get((dataset, f"{m}_unasked", "all"), {}) for m in shown}
    found = ([m for m in group if m in models] for group in image_groups(results, (dataset, at, "all")))
    groups = [group for group in found if group]
    alone = [model for group in groups if len(group) == 1 < len(groups) for model in group]
    counts = [
        {m: of.get((dataset, m), {}) for m in shown}
        for of in (_counts(results, "n_skipped"), _counts(results, "n_audited"))
    ]
    for group in [*(g for g in groups if g[0] not in alone), *([alone] if alone else [])]:
        is_ranked = group is not alone
        best = _best(group, columns[at], about[at]["better"], _SHOWN, own, is_ranked)
        text = title.text(
            len(group), min(_SHOWN, len(group)), is_ranked=is_ranked, is_first=group is groups[0]
        )
        lacking = unmatched.get((dataset, group[0])) if is_ranked or len(group) == 1 else None
        rows = _rows(best, columns, about, unasked, counts)
        yield Block(dataset, f"{text}; {lacking}" if lacking else text, ("", "model", *shown), rows)


FARTHER_END = "±: to the farther end of the 95 % interval"
"""What ± means in a row of a block."""


def headline_lines(blocks: Iterable[Block], below: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """Yield the lines of blocks; `below` maps each data set to a sentence to print below its models."""
    for dataset, of_dataset in itertools.groupby(blocks, key=lambda block: block.dataset):
        for block in of_dataset:
            yield block.title
            yield from table_lines(block.head, block.rows)
        yield from [below[dataset]] if dataset in below else []


def unshown_lines(results: Results) -> Iterator[str]:
    """Yield a line with the metrics that the blocks do not show."""
    for dataset in results.datasets:
        shown = shown_metrics(results, dataset)
        every = dict.fromkeys(m for name, m, s in results.values_at if (name, s) == (dataset, "all"))
        if rest := [m for m in every if m not in shown]:
            yield f"{dataset}: {counted(len(rest), 'more metric')} in the table: {', '.join(rest)}"


_SLICES = 12
"""Requested slices that are printed."""

_SLICED_MODELS = 5


def slice_lines(results: Results, requested: Collection[str], worst: pa.Table) -> Iterator[str]:
    """Yield the leading metric of the best models on the slices that were requested, and on the worst."""
    about = json.loads(results.about["metrics"])
    for dataset in results.datasets:
        at = leading_metric(results, dataset)
        own = [(s, of) for (name, m, s), of in results.values_at.items() if (name, m) == (dataset, at)]
        asked = [(s, of) for s, of in own if is_requested(s, requested)]
        if not asked:
            continue
        values = results.values_at[dataset, at, "all"]
        ranked = _best(list(values), values, about[at]["better"], _SLICED_MODELS, (), is_ranked=True)
        models = [model for _, model in ranked]
        best = f", best {len(models)} of {len(values):,} models" if len(models) < len(values) else ""
        yield f"{dataset}: {at} on each slice{best}"
        rows = []
        for name, of in asked[:_SLICES]:
            n = next((f"{of[m].n:,}" for m in models if m in of), "–")
            rows.append((name, *(_figure(of.get(m), about[at]["unit"]) for m in models), n))
        is_lower = about[at]["better"] == "lower"
        by_column = worst_rows(worst, dataset, at, lower_is_better=is_lower)
        for column, found in by_column.items():
            of = {row["model"]: _worst_value(row) for row in found}
            last = (_figure(of.get(m), about[at]["unit"]) for m in models)
            rows.append((f"worst of {column}", *last, f"{found[0]['n_slices']:,} slices"))
        yield from table_lines(("slice", *models, "images"), rows)
        for column, (row, *others) in by_column.items():
            value = _figure(_worst_value(row), about[at]["unit"])
            if others:
                yield f"Best on its worst slice of {column}: {row['model']}, {value} on {row['slice']}"
        if len(asked) > _SLICES:
            yield f"… and {len(asked) - _SLICES:,} more slices in the table"
        sliced = {m for name, m, s in results.values_at if name == dataset and is_requested(s, requested)}
        if sliced != {at}:
            yield f"… and {counted(len(sliced) - 1, 'more metric')} on each slice in the table"


def _worst_value(row: Row) -> ModelValue:
    return ModelValue(row["value"], row["value_lo"], row["value_hi"], row["n"])


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
    """Return a number of images per model, keyed by data set and metric; nothing if the column is missing."""
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


def change_lines(drops: Sequence[Row], clustered: Collection[str] = ()) -> Iterator[str]:
    """Yield mean drops between data sets and slices, without those between metrics on the same images."""
    changed = [
        r
        for r in drops
        if r["model"] is None and (r["dataset_x"], r["slice_x"]) != (r["dataset_y"], r["slice_y"])
    ]
    if changed:
        yield from drop_lines(changed, clustered)
        yield ""


def apart_lines(results: Results, drops: pa.Table) -> Iterator[str]:
    """Yield sentences about data sets that have no model or no accuracy in common with the first."""
    ends = zip(drops["dataset_x"].to_pylist(), drops["dataset_y"].to_pylist(), strict=True)
    compared = {name for x, y in ends if x != y for name in (x, y)}
    models: dict[str, set[str]] = {}
    for dataset, model in zip(*(results.table[c].to_pylist() for c in ("dataset", "model")), strict=True):
        models.setdefault(dataset, set()).add(model)
    first, *others = results.datasets
    for dataset in others:
        if dataset not in compared:
            n = len(models[first] & models[dataset])
            shared = f"{n or 'no'} model{'' if n == 1 else 's'}"
            why = ", because no accuracy, such as real1 or map_macro, is known for both" if n else ""
            yield f"{first} and {dataset} have {shared} in common and are not compared{why}."


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
            span_text(r["lo_models"], r["hi_models"]),
            f"{r['multi_x']:.1%} → {r['multi_y']:.1%}",
            f"{r['n_x']:,} → {r['n_y']:,}",
        )
        for r in rows
    ]
    head = ("metric", "sensitivity", "drop", "95 % over families", "two or more", "images")
    yield from table_lines(head, cells)
    yield f"Warning: {PROTOCOL_WARNING}"


def drop_lines(drops: Sequence[Row], clustered: Collection[str] = ()) -> Iterator[str]:
    """Yield the points that models lose on average between data sets, and differences between metrics.

    `clustered` contains the data sets whose intervals are computed over clusters of images.
    """
    places: dict[tuple[str, str, bool], list[Row]] = {}
    for r in drops:
        places.setdefault((r["dataset_x"], r["dataset_y"], _is_of_metrics(r)), []).append(r)
    for i, ((x, y, of_metrics), alike) in enumerate(places.items()):
        if i:
            yield ""
        what = "differences in points" if of_metrics else "points lost"
        means = ", means over models" if any(r["n_models"] > 1 for r in alike) else ""
        yield f"{x if x == y else f'{x} → {y}'}: {what}{means}"
        rows = [
            (
                _between(r),
                *_changed(r, -1 if of_metrics else 1),
                str(r["n_models"]),
                f"{r['n_x']:,} → {r['n_y']:,}",
            )
            for r in alike
        ]
        change = "difference" if of_metrics else "drop"
        over = f"95 % over {'images' if {x, y}.isdisjoint(clustered) else 'clusters'}"
        head = ("metric", change, over, "95 % over families", "models", "images")
        yield from table_lines(head, rows)


def _is_of_metrics(row: Row) -> bool:
    """Return whether both ends are the same images under two metrics, so that nothing was lost."""
    same = all(row[f"{end}_x"] == row[f"{end}_y"] for end in ("dataset", "slice"))
    return same and row["metric_x"] != row["metric_y"]


def _changed(row: Row, sign: int) -> tuple[str, str, str]:
    """Return a drop with both intervals; with -1 as sign, by how much y is higher."""
    drop, lo, hi, lo_models, hi_models = (
        None if row[name] is None else sign * row[name]
        for name in ("drop", "lo", "hi", "lo_models", "hi_models")
    )
    if sign < 0:
        lo, hi, lo_models, hi_models = hi, lo, hi_models, lo_models
    return _points(drop), span_text(lo, hi), span_text(lo_models, hi_models)


def _between(row: Row) -> str:
    """Return metric and slice of both ends, what they share once."""
    (metric_x, slice_x), (metric_y, slice_y) = ((row[f"metric_{e}"], row[f"slice_{e}"]) for e in "xy")
    metrics = metric_x if metric_x == metric_y else f"{metric_x} → {metric_y}"
    if _is_of_metrics(row):
        metrics = f"{metric_y} minus {metric_x}"
    slices = slice_x if slice_x == slice_y else f"{slice_x} → {slice_y}"
    return metrics if slices == "all" else f"{metrics} [{slices}]"


def fit_lines(fits: Sequence[Row]) -> Iterator[str]:
    """Yield the slopes of the fitted lines between two places."""
    rows = [
        (
            *_ends(r),
            r["models"],
            f"{r['slope']:.3f}",
            span_text(r["slope_lo"], r["slope_hi"], 1, 3),
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
            "–" if r["n_beyond_noise"] is None else str(r["n_beyond_noise"]),
        )
        for r in ranks
    ]
    if rows:
        yield from table_lines(("x", "y", "Kendall's tau", "pairs in another order", "beyond noise"), rows)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _ends(row: Row) -> tuple[str, str]:
    """Return both ends of a comparison in words, without what they share."""
    x, y = ((row[f"dataset_{e}"], row[f"metric_{e}"], row[f"slice_{e}"]) for e in "xy")
    return _end(x), _end(y)


def _end(end: tuple[str, str, str]) -> str:
    dataset, metric, slice = end
    return f"{dataset} {metric}" + ("" if slice == "all" else f" [{slice}]")


def _points(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:z.2f}"


def span_text(lo: float | None, hi: float | None, scale: int = 100, digits: int = 2) -> str:
    """Return the ends of an interval as text; a dash if there is no interval."""
    return "–" if lo is None or hi is None else f"{lo * scale:z.{digits}f} to {hi * scale:z.{digits}f}"
