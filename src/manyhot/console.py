"""Output on the terminal: lines, tables, and written files."""

from __future__ import annotations

import html
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from manyhot.errors import printable

_NUMBER = re.compile(r"[-+<]?\d[\d,]*(\.\d+)?%?( ±[\d.]+)?|\d+–\d+%|[–…]?")


def say(text: str, *, err: bool = False) -> None:
    """Print a line, with control characters in ids and names escaped."""
    stream = sys.stderr if err else sys.stdout
    stream.write(f"{printable(text)}\n")
    stream.flush()


def without_passwords(text: str) -> str:
    """Return an argument with passwords in URLs replaced by ``***``, because others may see the output."""
    return re.sub(r"(://[^\s/@:]*):.*@", r"\1:***@", text)


class TableLine(str):
    """A line of a table. The first line also contains the cells, which pages show.

    Attributes
    ----------
    head : tuple of str
    rows : sequence of tuple of str
        None but in the first line.
    """

    head: tuple[str, ...] = ()
    rows: Sequence[tuple[str, ...]] | None = None

    def as_html(self) -> str:
        """Return the table, scrollable if wide, for its first line, and an empty text for its other lines."""
        if self.rows is None:
            return ""
        are_numbers = [_are_numbers(self.rows, i) for i in range(len(self.head))]
        styles = [f' style="text-align: {"right" if right else "left"}"' for right in are_numbers]

        def row(cells: tuple[str, ...], tag: str) -> str:
            pairs = zip(cells, styles, strict=True)
            return f"<tr>{''.join(f'<{tag}{s}>{html.escape(cell)}</{tag}>' for cell, s in pairs)}</tr>"

        body = "".join(row(cells, "td") for cells in self.rows)
        table = f"<table><thead>{row(self.head, 'th')}</thead><tbody>{body}</tbody></table>"
        return f'<div style="overflow-x: auto">{table}</div>'


def _are_numbers(rows: Sequence[tuple[str, ...]], column: int) -> bool:
    return bool(rows) and all(_NUMBER.fullmatch(row[column]) for row in rows)


def table_lines(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return a table as lines with right-aligned numbers. Cells are cut off only on a terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, name in enumerate(head):
        right = _are_numbers(rows, i)
        # A narrow terminal wraps heads between words.
        longest = max(map(len, name.split()), default=0)
        plain = name in ("model", "name")
        table.add_column(name, no_wrap=plain, justify="right" if right else "left", min_width=longest)
    for row in rows:
        table.add_row(*map(printable, row))
    # Without a terminal, nothing is cut or wrapped: the lines go to a file or another program.
    console = Console(width=None if sys.stdout.isatty() else 200, markup=False, highlight=False)
    with console.capture() as captured:
        console.print(table)
    lines = [TableLine(line.rstrip()) for line in captured.get().splitlines()]
    if lines:
        lines[0].head, lines[0].rows = head, rows
    return list(lines)


def counts(n_images: Iterable[int]) -> str:
    """Return the numbers of images as text: a single number if all are equal, otherwise all numbers."""
    of = list(n_images)
    return " / ".join(f"{n:,}" for n in (of[:1] if len(set(of)) == 1 else of))


def fact_lines(facts: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    """Yield facts as aligned lines, each with a name, a number and a remark."""
    names, numbers = (max(len(fact[i]) for fact in facts) for i in range(2))
    yield from (f"{name:<{names}}  {number:>{numbers}}  {more}".rstrip() for name, number, more in facts)


def written_lines(written: Sequence[Path]) -> Iterator[str]:
    """Yield a line for each written file or, if there are many, their number and a line for each page."""
    if len(written) <= 8:
        yield from (f"wrote {path}" for path in written)
        return
    yield f"wrote {len(written)} files to {written[0].parent}"
    yield from (f"{path.parent.name}: {path}" for path in written if path.name == "index.html")
