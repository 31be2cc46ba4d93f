"""Markdown of data cards: tables, and texts that stay in their cell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from manyhot.errors import printable


def number_text(value: float) -> str:
    """Return a number with four decimals."""
    return "undefined" if math.isnan(value) else f"{value:.4f}"


def ends_text(low: float | None, high: float | None) -> str:
    """Return the ends of an interval."""
    return "none" if low is None or high is None else f"{number_text(low)} to {number_text(high)}"


def markdown_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""

    def lines() -> Iterator[str]:
        for cells in (head, ("---",) * len(head), *rows):
            yield f"| {' | '.join(cells)} |"

    return "\n".join(lines())


def cell_text(value: object) -> str:
    """Return a text as one line, with all characters that have a meaning in Markdown escaped."""
    text = printable(" ".join(writable(str(value)).split()))
    for mark in "\\|<>`*_[]&~$":
        text = text.replace(mark, f"\\{mark}")
    return text


def writable(text: str) -> str:
    """Replace characters that cannot be encoded as UTF-8, which occur in some file names."""
    return text.encode("utf-8", "replace").decode()
