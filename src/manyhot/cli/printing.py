"""What commands print: tables, progress, notes and what was written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from manyhot.console import counts as counts
from manyhot.console import fact_lines, table_lines, written_lines
from manyhot.console import say as say
from manyhot.console import show_progress as show_progress

if TYPE_CHECKING:
    from manyhot.formats.writing import Saved
    from manyhot.predict.doctor import MachineCheck
    from manyhot.predict.find import Listed
    from manyhot.predict.similar import Similar
    from manyhot.registry import Entry


def print_written(written: list[Path], as_json: bool) -> None:
    """Print the files that were written."""
    if as_json:
        typer.echo(json.dumps({"written": [str(p) for p in written]}))
        return
    for line in written_lines(written):
        say(line)


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
    from manyhot.report.export import undrawn

    if not as_json and (why := undrawn()):
        say(f"without figures: {why}")


def print_catalog(as_json: bool) -> None:
    """Print what can be fetched."""
    from manyhot.data import catalog

    entries = [catalog.catalog_entry(name) for name in catalog.catalog_names()]
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


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table, numbers to the right; away from a terminal nothing of it is cut."""
    for line in table_lines(head, rows):
        typer.echo(line)


def print_facts(facts: Sequence[tuple[str, str, str]]) -> None:
    """Print what is what: a name, its number, and what more there is to say about it."""
    for line in fact_lines(facts):
        say(line)


def options_text(entry: Entry) -> str:
    """Return the options of a registered function in a line."""
    from manyhot import registry

    needed = registry.missing_options(entry)
    return ", ".join(f"{name} (needed)" if name in needed else name for name in registry.options_of(entry))


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
    from manyhot.predict.find import families

    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(m) for m in listed]))
        return
    if listed:
        rows = [(m.name, str(m.size or ""), m.classes, m.source) for m in listed]
        print_table(("name", "size", "classes", "from"), rows)
    count = f"{len(listed):,} model{' fits' if len(listed) == 1 else 's fit'} {pattern!r}"
    say(f"{count}. What predict takes besides: {', '.join(families().values())}")


def print_doctor(findings: Sequence[MachineCheck], as_json: bool) -> None:
    """Print what there is, and how to get the rest."""
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(f) for f in findings]))
        return
    rows = [(f.kind, f.name, "yes" if f.there else "no", f.state) for f in findings]
    print_table(("kind", "name", "there", "what"), rows)
    for finding in findings:
        if finding.do:
            say(f"for {finding.name}: {finding.do}")
