"""What commands print: tables, progress, notes and what was written."""

from __future__ import annotations

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
