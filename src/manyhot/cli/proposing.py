"""The command that lists the rules which propose labels."""

from __future__ import annotations

import json

import typer

from manyhot.cli.options import JsonOption
from manyhot.cli.printing import options_text, print_table


def proposers(as_json: JsonOption = False) -> None:
    """List the rules that propose labels, what each is, and its options."""
    from manyhot import registry

    entries = [registry.get("proposer", name) for name in registry.names("proposer")]
    rows = [(e.name, options_text(e), e.summary) for e in entries]
    if as_json:
        typer.echo(json.dumps([dict(zip(("name", "options", "summary"), r, strict=True)) for r in rows]))
        return
    print_table(("name", "options", "what it proposes"), rows)
