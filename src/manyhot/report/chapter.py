"""The results of diagnoses as one page with pictures: shortcuts, mitigation, explanations, robustness.

The page shows all tables in a folder, so that commands that write into the same folder share it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from manyhot import tables
from manyhot.registry import get, names
from manyhot.report.figure import Figure
from manyhot.report.listings import Entry, Head, Listing
from manyhot.tables import Row as Row  # handed on until its users import it from tables
from manyhot.tables.definitions import CONTROLS

MOST_PAIRS = 10
"""Pairs whose pictures are shown."""


MOST_IMAGES = 24
"""Photographs whose maps are shown."""


MOST_ROWS = 40
"""Rows of a table; the rest is in its file."""


MAX_PICTURE_BYTES = 1 << 20
"""The largest picture that is embedded in the page."""


@dataclass(frozen=True)
class Picture:
    """A picture in the page.

    Attributes
    ----------
    uri : str
        The picture itself; empty where there is none.
    title : str
        What it is, in few words.
    text : str
        What a model says of it.
    badge : str
        What sets it off, such as ``flipped``; empty for nothing.
    """

    uri: str
    title: str
    text: str = ""
    badge: str = ""


@dataclass(frozen=True)
class Strip:
    """Pictures of one image, side by side."""

    title: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Album:
    """Strips that belong together, such as those of a pair of classes."""

    anchor: str
    title: str
    text: str
    strips: tuple[Strip, ...]


@dataclass(frozen=True, eq=False)
class Chapter:
    """A part of the page.

    Attributes
    ----------
    anchor, short, title : str
    lead : tuple of str
        Paragraphs at its start.
    figures : tuple of Figure
    listings : tuple of Listing
    albums : tuple of Album
    """

    anchor: str
    short: str
    title: str
    lead: tuple[str, ...]
    figures: tuple[Figure, ...] = ()
    listings: tuple[Listing, ...] = ()
    albums: tuple[Album, ...] = ()


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The page.

    Attributes
    ----------
    title : str
    calls : tuple of str
        The commands that made the tables.
    version : str
    chapters : tuple of Chapter
    notes : tuple of str
    undrawn : str
        Why there are no figures; empty where there are.
    """

    title: str
    calls: tuple[str, ...]
    version: str
    chapters: tuple[Chapter, ...]
    notes: tuple[str, ...] = ()
    undrawn: str = field(default="")

    @property
    def figures(self) -> tuple[Figure, ...]:
        """All figures, in reading order."""
        return tuple(f for chapter in self.chapters for f in chapter.figures)


def chapter_tables() -> list[str]:
    """Return the tables that the page is made of: of each chapter the one of its name, or its `tables`."""
    entries = (get("chapter", name) for name in names("chapter"))
    return [table for entry in entries for table in entry.about.get("tables", (entry.name,))]


def has_diagnosis(folder: Path) -> bool:
    """Return whether a folder holds any of the tables."""
    return any((folder / f"{name}.parquet").is_file() for name in chapter_tables())


def read_diagnosis(folder: Path) -> dict[str, pa.Table]:
    """Return the tables of a folder that the page is made of.

    Raises
    ------
    InputError
        A file breaks its table.
    """
    files = {name: folder / f"{name}.parquet" for name in chapter_tables()}
    return {name: tables.read(path, name) for name, path in files.items() if path.is_file()}


def picture(folder: Path, file: str | None, title: str, text: str = "", badge: str = "") -> Picture:
    """Return a picture from a folder; one that is absent or too large has no `uri`."""
    data = _bytes(folder, file) if file else b""
    kind = next((kind for head, kind in _KINDS.items() if data.startswith(head)), "")
    uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}" if kind else ""
    return Picture(uri, title, text, badge)


_KINDS = {b"\xff\xd8": "jpeg", b"\x89PNG": "png"}


def _bytes(folder: Path, file: str) -> bytes:
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()):  # a table from elsewhere must not show other files
        return b""
    try:
        return path.read_bytes() if path.stat().st_size <= MAX_PICTURE_BYTES else b""
    except OSError:
        return b""


Cells = Callable[[Row], tuple[str, ...]]


def listing(
    anchor: str,
    title: str,
    heads: Sequence[Head],
    rows: Iterable[Row],
    cells: Cells,
    *,
    note: str = "",
    folded: bool = False,
) -> Listing:
    """Return a table of the first rows.

    Columns that are empty in all of them are left out; cells that are the same in all rows are shown once,
    above.
    """
    found = list(rows)
    made = [cells(row) for row in found[:MOST_ROWS]]
    values = list(zip(*made, strict=True))
    alike = [i for i, v in enumerate(values) if i and not heads[i].number and len(set(v)) == 1]
    same = alike if len(made) > 1 else []
    told = [f"{heads[i].text}: {values[i][0]}." for i in same if values[i][0]]
    kept = [i for i, v in enumerate(values) if i == 0 or (any(v) and i not in same)]
    entries = tuple(Entry(tuple(row[i] for i in kept)) for row in made)
    rest = len(found) - len(made)
    more = f"{rest:,} more rows are in the table's file." if rest > 0 else ""
    about = " ".join(filter(None, (note, *told)))
    return Listing(anchor, title, tuple(heads[i] for i in kept), entries, about, more, folded)


def testable(r: Row) -> bool:
    """Return whether a row of ``shortcuts`` has controls; without, `shortcut` is false in old tables, too."""
    return (r["n_control"] or 0) >= CONTROLS


def percent(value: float | None, decimals: int = 0) -> str:
    """Return a share in per cent; empty where there is none."""
    if value is None or value != value:
        return ""
    return f"{100 * value:.{decimals}f} %".replace("-", "−")


def with_ends(value: float | None, lo: float | None, hi: float | None, decimals: int = 0) -> str:
    """Return ``42 % (35 to 49)``, or the value alone without an interval."""
    return percent(value, decimals) + _ends(value, lo, hi, decimals)


def in_points(value: float | None, lo: float | None, hi: float | None, decimals: int = 0) -> str:
    """Return a difference of shares in points, as ``−21 (−31 to −10)``."""
    return percent(value, decimals).removesuffix(" %") + _ends(value, lo, hi, decimals)


def _ends(value: float | None, lo: float | None, hi: float | None, decimals: int) -> str:
    if any(v is None or v != v for v in (value, lo, hi)):
        return ""
    ends = " to ".join(percent(end, decimals).removesuffix(" %") for end in (lo, hi))
    return f" ({ends})"


Tables = Mapping[str, pa.Table]


def rows_of(parts: Tables, name: str) -> list[Row]:
    """Return the rows of a table, none where it is absent."""
    return parts[name].to_pylist() if name in parts else []


def n_pairs(rows: Iterable[Row]) -> int:
    """Return how many pairs of classes rows are about, by model."""
    return len({(r["model"], r["main"], r["companion"]) for r in rows})
