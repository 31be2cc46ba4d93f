"""What commands print: tables, progress, notes and what was written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import typer

from manyhot.console import counts as counts
from manyhot.console import fact_lines, table_lines, written_lines
from manyhot.console import say as say
from manyhot.console import show_progress as show_progress


def print_written(written: list[Path], as_json: bool) -> None:
    """Print the files that were written."""
    if as_json:
        typer.echo(json.dumps({"written": [str(p) for p in written]}))
        return
    for line in written_lines(written):
        say(line)


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table with right-aligned numbers; it is truncated only on a terminal."""
    for line in table_lines(head, rows):
        typer.echo(line)


def print_facts(facts: Sequence[tuple[str, str, str]]) -> None:
    """Print facts: a name, its value, and a comment."""
    for line in fact_lines(facts):
        say(line)
