"""What commands print: tables, progress, notes and what was written."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from manyhot.errors import printable

if TYPE_CHECKING:
    import pyarrow as pa

    from manyhot.pipeline import (
        Compared,
        Description,
        Finding,
        Kinds,
        Listed,
        Outcome,
        Progress,
        Saved,
        Similar,
    )
    from manyhot.registry import Entry

HEADLINE = ("top1", "real1", "mla", "variable_topk", "asma")
"""Metrics printed after an evaluation; all are in the files."""


@contextlib.contextmanager
def show_progress() -> Iterator[Progress | None]:
    """Yield a function that draws progress with the time left, or None where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of)
            # What is done makes room: the next task is what one waits for.
            bars.update(tasks[what], completed=done, total=of, visible=done < of)

        yield show


def say(text: str, *, err: bool = False) -> None:
    """Print a line; ids and names come from anywhere, and what a terminal would obey is shown, not sent."""
    typer.echo(printable(text), err=err)


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
    for note in outcome.evaluation.notes:
        models.setdefault((note.dataset, note.text), []).append(note.model)
    for (dataset, text), of in list(models.items())[:most]:
        who = of[0] if len(of) == 1 else f"{len(of):,} models"
        say(f"Note: {dataset}, {who}: {text}.", err=True)
    if len(models) > most:
        say(f"Note: {len(models) - most} more, all recorded in results.parquet and the report.", err=True)


def _print_headline(outcome: Outcome, most: int = 15) -> None:
    """Print the best models of each data set, and one's own with their rank."""
    import polars as pl

    told = json.loads(outcome.evaluation.about["metrics"])
    wide = outcome.evaluation.summary()
    usual = [m for m in HEADLINE if m in wide.columns]
    shown = usual if len(usual) > 1 else wide.columns[2:7]
    by = "real1" if "real1" in shown else shown[0]
    for (dataset,), part in wide.group_by("dataset", maintain_order=True):
        ordered = part.sort(by, descending=told[by]["better"] == "higher", nulls_last=True)
        ranked = ordered.with_row_index("rank", 1)
        kept = ranked.filter((pl.col("rank") <= most) | pl.col("model").is_in(list(outcome.highlight)))
        rows = [
            (str(r["rank"]), r["model"], *(_figure(r[m], told[m]["unit"]) for m in shown))
            for r in kept.iter_rows(named=True)
        ]
        say(f"{dataset}: {len(ranked)} models, best {min(most, len(ranked))} by {by}")
        print_table(("", "model", *shown), rows)


def _figure(value: float | None, unit: str) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:.2%}" if unit == "share" else f"{value:.2f}"


def print_written(written: list[Path], as_json: bool) -> None:
    """Print the files that were written."""
    if as_json:
        typer.echo(json.dumps({"written": [str(p) for p in written]}))
        return
    for path in written if len(written) <= 8 else []:
        say(f"wrote {path}")
    if len(written) > 8:
        say(f"wrote {len(written)} files to {written[0].parent}")
        for path in written:
            if path.name == "index.html":
                say(f"report: {path}")


def print_saved(saved: Saved, target: Path, as_json: bool) -> None:
    """Print the files that were written, and what they do not hold."""
    files = [str(path) for path in saved.files]
    if as_json:
        typer.echo(json.dumps({"written": files, "left_out": saved.left_out}))
        return
    print_written([*saved.files], as_json)
    if saved.left_out:
        say(f"Note: {target.name} does not hold {', '.join(saved.left_out)}: left out.", err=True)


def print_undrawn(as_json: bool) -> None:
    """Print that reports have no figures here, if so, and what to install."""
    from manyhot.pipeline import undrawn

    if not as_json and (why := undrawn()):
        say(f"without figures: {why}")


def print_catalog(as_json: bool) -> None:
    """Print what can be fetched."""
    from manyhot import catalog

    entries = [catalog.entry(name) for name in catalog.names()]
    if as_json:
        keys = ("name", "title", "home", "licence", "citation", "notes", "size")
        typer.echo(
            json.dumps(
                [{k: getattr(e, k) for k in keys} | {"files": [f.path for f in e.files]} for e in entries]
            )
        )
        return
    rows = [
        (e.name, f"{e.size / 1e6:.1f} MB", e.licence, "yes" if catalog.is_cached(e.name) else "no", e.title)
        for e in entries
    ]
    print_table(("name", "size", "licence", "cached", "what"), rows)


_NUMBER = re.compile(r"[-+]?\d[\d,]*(\.\d+)?%?|[–…]?")


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table, numbers to the right; away from a terminal nothing of it is cut."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, name in enumerate(head):
        right = bool(rows) and all(_NUMBER.fullmatch(row[i]) for row in rows)
        table.add_column(name, no_wrap=name in ("model", "name"), justify="right" if right else "left")
    for row in rows:
        table.add_row(*map(printable, row))
    # Away from a terminal nothing is cut or wrapped: the lines go to a file or another program.
    console = Console(width=None if sys.stdout.isatty() else 200, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())


def print_facts(facts: Sequence[tuple[str, str, str]]) -> None:
    """Print what is what: a name, its number, and what more there is to say about it."""
    names, numbers = (max(len(fact[i]) for fact in facts) for i in range(2))
    for name, number, more in facts:
        say(f"{name:<{names}}  {number:>{numbers}}  {more}".rstrip())


def options_text(entry: Entry) -> str:
    """Return the options of a registered function in a line."""
    from manyhot import registry

    needed = registry.missing_options(entry)
    return ", ".join(f"{name} (needed)" if name in needed else name for name in registry.options_of(entry))


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
    from manyhot.pipeline import WARNING

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
        )
        for r in rows
    ]
    print_table(("metric", "sensitivity", "drop", "95 % over families", "sets of two or more"), cells)
    say(f"Warning: {WARNING}")


def _print_drops(drops: list[dict[str, Any]]) -> None:
    rows = [
        (
            *_ends(r),
            _points(r["drop"]),
            _span(r["lo"], r["hi"]),
            _span(r["lo_models"], r["hi_models"]),
            str(r["n_models"]),
        )
        for r in drops
    ]
    print_table(("from", "to", "drop", "95 % over images", "95 % over families", "models"), rows)


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


def print_description(description: Description, written: list[Path], as_json: bool, most: int = 10) -> None:
    """Print sizes of label sets, the most frequent pairs and the rejected labels."""
    if as_json:
        found = {name: t.to_pylist() for name, t in description.tables.items() if name != "rejected"}
        typer.echo(json.dumps(found | {"written": [str(p) for p in written]}))
        return
    for card in description.datasets.to_pylist():
        name = card["dataset"]
        _print_card(card)
        sizes = [r for r in description.set_sizes.to_pylist() if r["dataset"] == name]
        print_table(
            ("labels", "images", "share"),
            [(str(r["size"]), f"{r['images']:,}", f"{r['share']:.2%}") for r in sizes],
        )
        pairs = [r for r in description.class_pairs.to_pylist() if r["dataset"] == name][:most]
        if pairs:
            typer.echo()
            print_table(
                ("most frequent pairs", "images"),
                [(f"{r['name_a']} + {r['name_b']}", f"{r['images']:,}") for r in pairs],
            )
        typer.echo()
    print_written(written, False)
    if len(written) > 1 and not any(p.suffix == ".svg" for p in written):
        say('Note: figures need Altair: pip install "manyhot[report]".', err=True)


def _print_card(card: dict[str, Any]) -> None:
    sets = card["images"] - card["unusable"] - card["empty"]
    say(f"{card['dataset']}: {card['images']:,} images, {card['labels']:,} labels")
    share = card["multi"] / max(sets, 1)
    facts = [("two or more labels", f"{card['multi']:,}", f"of {sets:,} images with any ({share:.1%})")]
    facts.append(("no valid class", f"{card['empty']:,}", ""))
    if card["labelled"]:
        share = card["rejected"] / card["labelled"]
        of = f"of {card['labelled']:,} ({share:.1%})"
        facts.append(("original label not valid", f"{card['rejected']:,}", of))
    if card["rated"] is not None:
        facts.append(("looked at by people", f"{card['rated']:,}", ""))
    print_facts(facts)
    typer.echo()


def print_kinds(found: Kinds, written: list[Path], as_json: bool, most: int = 10) -> None:
    """Print how many images are of each kind, near-synonyms, and how well labels tell what raters counted."""
    if as_json:
        numbers = {"kinds": found.counts, "annotated": found.annotated, "several": found.several_counted}
        told = numbers | {"check": found.check.tolist(), "near_synonyms": found.synonyms}
        told |= {"written": [str(p) for p in written]}
        typer.echo(json.dumps(told))
        return
    total = max(sum(found.counts.values()), 1)
    rows = [(kind, f"{n:,}", f"{n / total:.2%}") for kind, n in found.counts.items()]
    print_table(("kind", "images", "share"), rows)
    if found.synonyms:
        pairs = [(f"{a} + {b}", f"{both:,}", f"{either:,}") for a, b, both, either in found.synonyms[:most]]
        typer.echo()
        print_table((f"near-synonyms ({len(found.synonyms)} pairs)", "both", "either"), pairs)
        typer.echo()
    if found.annotated and found.check.sum():
        several, of = found.several_counted, found.annotated
        (one, more), (missed, told) = found.check.tolist()
        n = one + more + missed + told
        print_facts(
            [
                (
                    "counted by raters",
                    f"{of:,}",
                    f"images, {several:,} ({several / of:.1%}) with several objects",
                ),
                ("of these with several labels", f"{n:,}", ""),
                ("  told right by labels alone", f"{one + told:,}", f"({(one + told) / n:.1%})"),
                ("    several objects", f"{told:,}", f"of {missed + told:,}"),
                ("    one object", f"{one:,}", f"of {one + more:,}"),
            ]
        )
    print_written(written, as_json)


def print_leaderboard(ranked: pa.Table, kind: str, out: Path | None) -> None:
    """Print or write a leaderboard; CSV and JSON have all columns, the others what fits on a page."""
    from manyhot.pipeline import leaderboard_text, narrow

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


def _cell(column: str, value: Any) -> str:
    if value is None or value != value:
        return "–"
    if isinstance(value, float):
        return f"{value:.2%}" if " " in column else f"{value:.4g} M"
    return str(value)


def print_similar(found: Similar, written: list[Path], as_json: bool) -> None:
    """Print how many rows there are, what was left out and what was written."""
    numbers = {"images": found.n_images, "rows": len(found.table), "empty": found.n_empty}
    if as_json:
        typer.echo(json.dumps(numbers | {"notes": found.notes, "written": [str(p) for p in written]}))
        return
    say(f"{found.n_images:,} images, {len(found.table):,} rows, {found.n_empty:,} without neighbours")
    for note in found.notes:
        say(f"Note: {note}.", err=True)
    print_written(written, False)


def print_models(listed: Sequence[Listed], pattern: str, as_json: bool) -> None:
    """Print models by name, and by what names others go."""
    from manyhot import pipeline

    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(m) for m in listed]))
        return
    if listed:
        rows = [(m.name, str(m.size or ""), m.classes, m.source) for m in listed]
        print_table(("name", "size", "classes", "from"), rows)
    count = f"{len(listed):,} model{' fits' if len(listed) == 1 else 's fit'} {pattern!r}"
    say(f"{count}. What predict takes besides: {', '.join(pipeline.families().values())}")


def print_doctor(findings: Sequence[Finding], as_json: bool) -> None:
    """Print what there is, and how to get the rest."""
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(f) for f in findings]))
        return
    rows = [(f.kind, f.name, "yes" if f.there else "no", f.state) for f in findings]
    print_table(("kind", "name", "there", "what"), rows)
    for finding in findings:
        if finding.do:
            say(f"for {finding.name}: {finding.do}")
