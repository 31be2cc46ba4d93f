"""Lists of what is registered: metrics, losses and proposers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from manyhot.command import command
from manyhot.console import table_lines
from manyhot.registry import Entry, get, missing_options, names, options_of
from manyhot.result import Result


@dataclass(frozen=True, eq=False)
class Registered(Result):
    """Functions that are registered under a kind.

    Attributes
    ----------
    entries : tuple of Entry
    fact : str
        Attribute of the registration to list for each function, such as ``better``. If it is empty, none is
        listed.
    """

    entries: tuple[Entry, ...]
    fact: str = ""

    def to_json(self) -> list[dict[str, Any]]:
        """Return name, options and summary of each."""
        rows = []
        for entry in self.entries:
            row = {"name": entry.name} | ({self.fact: entry.about[self.fact]} if self.fact else {})
            needed = missing_options(entry)
            options = [f"{name} (needed)" if name in needed else name for name in options_of(entry)]
            rows.append(row | {"options": ", ".join(options), "summary": entry.summary})
        return rows

    def lines(self) -> Iterator[str]:
        """Yield them as a table."""
        head = ("name", *((self.fact,) if self.fact else ()), "options", "what it is")
        yield from table_lines(head, [tuple(row.values()) for row in self.to_json()])


def _registered(kind: str, fact: str = "") -> Registered:
    return Registered(tuple(get(kind, name) for name in names(kind)), fact)


@command("metrics")
def list_metrics() -> Registered:
    """List the metrics with their descriptions and options."""
    return _registered("metric", "better")


@command("losses")
def list_losses() -> Registered:
    """List the training losses with their output functions, descriptions and options."""
    return _registered("loss", "ends")


@command("proposers")
def list_proposers() -> Registered:
    """List the rules for proposing labels, with their descriptions and options."""
    return _registered("proposer")
