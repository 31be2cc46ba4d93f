"""What is printed of the numbers of models: judged, compared, ranked."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from manyhot.cli.printing import print_table, print_undrawn, print_written, say

if TYPE_CHECKING:
    import pyarrow as pa

    from manyhot.evaluate.evaluate import Outcome
    from manyhot.evaluate.leaderboard import Compared


def print_outcome(outcome: Outcome, as_json: bool) -> None:
    """Print the best models, the notes and what was written."""
    evaluation = outcome.evaluation
    if as_json:
        numbers = [r for r in evaluation.results.to_pylist() if r["slice"] == "all"]
        numbers = [{k: None if v != v else v for k, v in r.items()} for r in numbers]
        notes = [dataclasses.asdict(n) for n in evaluation.notes]
        drops = [r for r in outcome.comparison.drops.to_pylist() if r["model"] is None]
        written = [str(p) for p in outcome.written]
        typer.echo(json.dumps({"results": numbers, "drops": drops, "notes": notes, "written": written}))
        return
    _print_headline(outcome)
    _print_changes(outcome)
    _print_notes(outcome)
    print_written(list(outcome.written), as_json)
    print_undrawn(as_json)
    if outcome.no_gallery:
        say(f"Note: the report has no gallery: {outcome.no_gallery}", err=True)
    for note in outcome.evaluation.notes:
        if note.kind == "skipped":  # last and each, so that none is overlooked
            say(f"Note: {note.dataset}: {note.model}: {note.text}.", err=True)


def _print_changes(outcome: Outcome) -> None:
    """Print how far models drop between data sets and slices; metrics of one data set stand side by side."""
    rows = outcome.comparison.drops.to_pylist()
    drops = [
        r
        for r in rows
        if r["model"] is None and (r["dataset_x"], r["slice_x"]) != (r["dataset_y"], r["slice_y"])
    ]
    if drops:
        _print_drops(drops)
        typer.echo()


def _print_notes(outcome: Outcome, most: int = 5) -> None:
    """Print the notes; what is said of several models of a data set is said once."""
    models: dict[tuple[str, str], list[str]] = {}
    for note in (n for n in outcome.evaluation.notes if n.kind != "skipped"):
        models.setdefault((note.dataset, note.text), []).append(note.model)
    for (dataset, text), of in list(models.items())[:most]:
        who = of[0] if len(of) == 1 else f"{len(of):,} models"
        say(f"Note: {dataset}, {who}: {text}.", err=True)
    if len(models) > most:
        say(f"Note: {len(models) - most} more, all recorded in results.parquet and the report.", err=True)


def _print_headline(outcome: Outcome, most: int = 15) -> None:
    """Print the best models of each data set, and one's own with their rank."""
    from manyhot.evaluate.leaderboard import image_groups
    from manyhot.tables.metrics import headline

    told = json.loads(outcome.evaluation.about["metrics"])
    results = outcome.evaluation.tables()
    every = list(dict.fromkeys(results.table["metric"].to_pylist()))
    usual = [m for m in headline() if m in every]
    shown = every if len(every) <= 7 else usual if len(usual) > 1 else every[:7]
    by = "real1" if "real1" in shown else shown[0]
    has_intervals = False
    for dataset in results.datasets:
        columns = {m: results.values_at.get((dataset, m, "all"), {}) for m in shown}
        at = next(m for m in (by, *shown) if columns[m])
        groups = image_groups(results, (dataset, at, "all"))
        alone = [model for group in groups if len(group) == 1 < len(groups) for model in group]
        for group in [*(g for g in groups if g[0] not in alone), *([alone] if alone else [])]:
            is_ranked = group is not alone
            kept = _best(group, columns[at], told[at]["better"], most, outcome.highlight, is_ranked)
            say(_title(dataset, len(group), min(most, len(group)), at, is_ranked, group is groups[0]))
            rows = _rows(kept, columns, told)
            print_table(("", "model", *shown), rows)
            has_intervals |= any("±" in cell for row in rows for cell in row)
    if has_intervals:
        say("±: to the farther end of the 95 % interval")


def _best(
    group: Sequence[str],
    numbers: Mapping[str, Any],
    better: str,
    most: int,
    highlight: Collection[str],
    is_ranked: bool,
) -> list[tuple[str, str]]:
    """Return the best models with their ranks, and one's own; without a rank, the first."""
    sign = -1 if better == "higher" else 1

    def cost(model: str) -> tuple[bool, float]:
        value = numbers[model].value
        return value != value, 0.0 if value != value else sign * value

    ordered = sorted(group, key=cost) if is_ranked else group
    kept = [(i, m) for i, m in enumerate(ordered, 1) if i <= most or m in highlight]
    return [(str(i) if is_ranked else "", m) for i, m in kept]


def _title(dataset: str, n: int, shown: int, by: str, is_ranked: bool, is_first: bool) -> str:
    models = "1 model" if n == 1 else f"{n:,} models"
    if not is_ranked:
        return f"{dataset}, not ranked: {models}, {'' if n == 1 else 'each '}judged on other images"
    best = "" if n == 1 else f", best {shown}"
    among = "" if is_first else ", judged on other images and ranked among themselves"
    return f"{dataset}: {models}{best} by {by}{among}"


def _rows(
    ranked: Sequence[tuple[str, str]],
    columns: Mapping[str, Mapping[str, Any]],
    told: Mapping[str, Mapping[str, str]],
) -> list[tuple[str, ...]]:
    """Return a row a model, below one with the numbers of images, again where these change."""
    blocks: list[tuple[dict[str, int], list[tuple[str, ...]]]] = []
    for rank, model in ranked:
        numbers = {m: column[model] for m, column in columns.items() if model in column}
        images = {m: number.n for m, number in numbers.items()}
        if not blocks or any(blocks[-1][0].get(m, n) != n for m, n in images.items()):
            blocks.append(({}, []))
        blocks[-1][0].update(images)
        figures = (_figure(numbers.get(m), told[m]["unit"]) for m in columns)
        blocks[-1][1].append((rank, model, *figures))
    heads = [
        ("", "images", *(f"{images[m]:,}" if m in images else "–" for m in columns)) for images, _ in blocks
    ]
    return [row for head, (_, rows) in zip(heads, blocks, strict=True) for row in (head, *rows)]


def _figure(number: Any, unit: str) -> str:
    if number is None or number.value != number.value:
        return "–"
    scale, sign = (100, "%") if unit == "share" else (1, "")
    value = f"{scale * number.value:.2f}{sign}"
    if number.lo is None or number.hi is None or number.lo != number.lo:
        return value
    # The farther end: an interval near 0 or 1 is longer on one side.
    return f"{value} ±{scale * max(number.value - number.lo, number.hi - number.value):.2f}"


def print_comparison(done: Compared, out: Path, as_json: bool) -> None:
    """Print the mean drops, the slopes and the orders."""
    tables = done.comparison.tables
    if as_json:
        numbers = {n: tables[n].to_pylist() for n in ("fits", "ranks", "sensitivity")}
        numbers["drops"] = [r for r in tables["drops"].to_pylist() if r["model"] is None]
        typer.echo(json.dumps(numbers | {"written": [str(p) for p in done.written]}))
        return
    _print_drops([r for r in tables["drops"].to_pylist() if r["model"] is None])
    _print_apart(done)
    typer.echo()
    _print_fits([r for r in tables["fits"].to_pylist() if r["scale"] == "plain"])
    typer.echo()
    _print_orders(tables["ranks"].to_pylist())
    _print_sensitivity(tables["sensitivity"].to_pylist())
    print_written(list(done.written), False)
    say(f"draw them with: manyhot report {out}")


def _print_apart(done: Compared) -> None:
    """Print which data sets have too few models in common with the first to be compared with it."""
    results = done.comparison.results
    ranks = done.comparison.ranks
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
            say(f"{first} and {dataset} have {shared} in common and are not compared.")


_ANALYSES = {
    "as published": "as published",
    "not empty": "without empty sets",
    "sizes of y": "x, with set sizes of y",
    "sizes of x": "y, with set sizes of x",
    "rated at x": "rated images of x",
    "rated, sizes of y": "rated images of x, with set sizes of y",
    "threshold at x": "x, at the threshold",
}


def _print_sensitivity(rows: list[dict[str, Any]]) -> None:
    from manyhot.evaluate.sensitivity import WARNING

    if not rows:
        return
    typer.echo()
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
    print_table(("metric", "sensitivity", "drop", "95 % over families", "two or more", "images"), cells)
    say(f"Warning: {WARNING}")


def _print_drops(drops: list[dict[str, Any]]) -> None:
    places = list(dict.fromkeys((r["dataset_x"], r["dataset_y"]) for r in drops))
    for i, (x, y) in enumerate(places):
        if i:
            typer.echo()
        say(f"{x if x == y else f'{x} → {y}'}: points lost, means over models")
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
        print_table(head, rows)


def _between(row: dict[str, Any]) -> str:
    """Return metric and slice of both ends, what they share once."""
    (metric_x, slice_x), (metric_y, slice_y) = ((row[f"metric_{e}"], row[f"slice_{e}"]) for e in "xy")
    metrics = metric_x if metric_x == metric_y else f"{metric_x} → {metric_y}"
    slices = slice_x if slice_x == slice_y else f"{slice_x} → {slice_y}"
    return metrics if slices == "all" else f"{metrics} [{slices}]"


def _print_fits(fits: list[dict[str, Any]]) -> None:
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
    print_table(("x", "y", "models", "slope", "95 % over families", "R²", "n"), rows)


def _print_orders(ranks: list[dict[str, Any]]) -> None:
    rows = [
        (
            *_ends(r),
            _number(r["tau"]),
            f"{r['n_swapped']:,} of {r['n_pairs']:,}",
            _beyond(r["n_beyond_noise"]),
        )
        for r in ranks
    ]
    print_table(("x", "y", "Kendall's tau", "pairs in another order", "beyond noise"), rows)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _beyond(n: int | None) -> str:
    return "–" if n is None else str(n)


def _ends(row: dict[str, Any]) -> tuple[str, str]:
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


def print_leaderboard(ranked: pa.Table, kind: str, out: Path | None) -> None:
    """Print or write a leaderboard; CSV and JSON have all columns, the others what fits on a page."""
    from manyhot.evaluate.leaderboard import leaderboard_text, narrow

    if kind in ("", "table") and out is None:
        _print_ranked(narrow(ranked))
        return
    text = leaderboard_text(ranked, "" if kind == "table" else kind, out)
    if out is None:
        typer.echo(text, nl=False)
        return
    say(f"wrote {out}")


def _print_ranked(shown: pa.Table) -> None:
    value = shown.column_names[shown.column_names.index("lo") - 1]
    columns = [c for c in shown.column_names if c not in ("lo", "hi")]
    rows = []
    for r in shown.to_pylist():
        cells = {c: _cell(c, r[c]) for c in columns}
        if r["lo"] is not None:
            cells[value] += f" ({_span(r['lo'], r['hi'])})"
        rows.append(tuple(cells.values()))
    say(f"{len(shown):,} models, the best by {value} first")
    print_table(tuple(c.replace("_", " ") for c in columns), rows)
    images = json.loads(shown.schema.metadata[b"manyhot.images"])
    others = (f"{c} {_images(*images[c])}" for c in columns if c in images and c != value)
    if told := "; ".join(others):
        say(f"images: {told}")
    if n := shown["rank"].null_count:
        say(f"without a rank: {n:,} judged on other images")


def _images(fewest: int, most: int) -> str:
    return f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"


def _cell(column: str, value: Any) -> str:
    if value is None or value != value:
        return "–"
    if isinstance(value, float):
        return f"{value:.2%}" if " " in column else f"{value:.4g} M"
    return f"{value:,}" if column == "n" else str(value)
