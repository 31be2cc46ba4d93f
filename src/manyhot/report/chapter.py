"""The diagnosis page: chapters with figures, tables and pictures.

The page shows all tables of `chapter_tables` that a folder holds, so commands that write into the same
folder share it.

After a diagnosis, the next step is a sentence and a command, on the data of the call that led there.
"""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from manyhot import tables
from manyhot.commands import COMMANDS
from manyhot.plug_ins import ReturnError
from manyhot.registry import Entry, get, names
from manyhot.report.figure import Figure
from manyhot.report.listings import NONE, ColumnHead, Listing, ListingRow
from manyhot.run import split_notes
from manyhot.tables import Row
from manyhot.tables.definitions import CONTROLS

MAX_PAIRS = 10
"""Maximum number of class pairs with pictures."""

MOST_IMAGES = 24
"""Maximum number of photographs with heat maps."""

MOST_ROWS = 40
"""Maximum number of rows of a table in the page; its file has all."""

MAX_PICTURE_BYTES = 1 << 20
"""Maximum size of a picture that is embedded in the page, in bytes."""


@dataclass(frozen=True)
class StripPicture:
    """A picture in the page.

    Attributes
    ----------
    uri : str
        The picture as a data URI; empty if there is none.
    title : str
        A short name.
    text : str
        A model's prediction.
    mark : str
        A highlighted remark, such as ``flipped``; empty for none.
    """

    uri: str
    title: str
    text: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Strip:
    """Pictures of one image, side by side."""

    title: str
    pictures: tuple[StripPicture, ...]


@dataclass(frozen=True)
class Album:
    """Strips that belong together, such as the strips of a pair of classes."""

    anchor: str
    title: str
    text: str
    strips: tuple[Strip, ...]


@dataclass(frozen=True, eq=False)
class Chapter:
    """A part of the page.

    Attributes
    ----------
    lead : tuple of str
        Introductory paragraphs.
    figures : tuple of Figure
    listings : tuple of Listing
    albums : tuple of Album
    next : NextStep, optional
    gallery : str
        What the gallery in the folder shows; empty if there is no gallery.
    gallery_folder : str
        The name of the gallery's folder, next to that of the page.
    method : tuple of str
        Paragraphs about how the results were computed, at the end of the page.
    """

    anchor: str
    short: str
    title: str
    lead: tuple[str, ...]
    figures: tuple[Figure, ...] = ()
    listings: tuple[Listing, ...] = ()
    albums: tuple[Album, ...] = ()
    next: NextStep | None = None
    gallery: str = ""
    gallery_folder: str = "gallery"
    method: tuple[str, ...] = ()


def check_chapter(entry: Entry, chapter: Any, arguments: tuple[Any, ...]) -> Chapter | None:
    """Check what a chapter of another package returned.

    Raises
    ------
    ReturnError
    """
    if not isinstance(chapter, Chapter | None):
        raise ReturnError(type(chapter).__name__, "a Chapter, or None if there are no tables for it")
    return chapter


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The diagnosis page.

    Attributes
    ----------
    calls : tuple of str
        The commands that wrote the tables.
    undrawn : str
        Reason why there are no figures; empty if there are figures.
    """

    title: str
    calls: tuple[str, ...]
    version: str
    chapters: tuple[Chapter, ...]
    notes: tuple[str, ...] = ()
    undrawn: str = field(default="")

    @property
    def doubts(self) -> list[str]:
        """The notes that question all numbers of the page."""
        return split_notes(self.notes)[0]

    @property
    def figures(self) -> tuple[Figure, ...]:
        """All figures, in reading order."""
        return tuple(f for chapter in self.chapters for f in chapter.figures)


def chapter_tables() -> list[str]:
    """Return the names of the tables of all chapters. By default, a chapter has one table of its own name."""
    entries = (get("chapter", name) for name in names("chapter"))
    return [table for entry in entries for table in entry.about.get("tables", (entry.name,))]


def has_diagnosis(folder: Path) -> bool:
    """Return whether a folder contains any table of a chapter."""
    return any((folder / f"{name}.parquet").is_file() for name in chapter_tables())


def read_diagnosis(folder: Path) -> dict[str, pa.Table]:
    """Return the tables of `chapter_tables` that a folder contains.

    Raises
    ------
    InputError
        If a file does not have the schema of its table.
    """
    files = {name: folder / f"{name}.parquet" for name in chapter_tables()}
    return {name: tables.read(path, name) for name, path in files.items() if path.is_file()}


def picture(folder: Path, file: str | None, title: str, text: str = "", mark: str = "") -> StripPicture:
    """Return a picture from a file; `uri` is empty if the file is absent, too large or outside the folder."""
    data = _bytes(folder, file) if file else b""
    kind = next((kind for head, kind in _KINDS.items() if data.startswith(head)), "")
    uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}" if kind else ""
    return StripPicture(uri, title, text, mark)


_KINDS = {b"\xff\xd8": "jpeg", b"\x89PNG": "png"}


def _bytes(folder: Path, file: str) -> bytes:
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()):  # a table from elsewhere must not show other files
        return b""
    try:
        return path.read_bytes() if path.stat().st_size <= MAX_PICTURE_BYTES else b""
    except OSError:
        return b""


Cells = Callable[[Any], tuple[str, ...]]


def listing(
    anchor: str,
    title: str,
    heads: Sequence[ColumnHead],
    rows: Iterable[Any],
    cells: Cells,
    *,
    note: str = "",
    folded: bool = False,
    link: Callable[[Any], str] | None = None,
) -> Listing:
    """Return a table of the first `MOST_ROWS` rows, whose first cells link to the addresses from `link`.

    Empty columns, and text columns that contain only dashes, are left out. A text column with the same value
    in all rows becomes a sentence above the table.
    """
    all_rows = list(rows)
    shown = [cells(row) for row in all_rows[:MOST_ROWS]]
    columns = list(zip(*shown, strict=True))
    constant = [i for i, v in enumerate(columns) if i and not heads[i].number and len(set(v)) == 1]
    constant = constant if len(shown) > 1 else []
    sentences = [f"{heads[i].text}: {columns[i][0]}." for i in constant if columns[i][0] not in ("", NONE)]
    empty = [i for i, v in enumerate(columns) if set(v) <= {"", "" if heads[i].number else NONE}]
    varying = [i for i in range(len(columns)) if i == 0 or i not in (*constant, *empty)]
    links = [{0: link(row)} if link else {} for row in all_rows[:MOST_ROWS]]
    cut = ([row[i] for i in varying] for row in shown)
    entries = tuple(ListingRow(tuple(r), links=to) for r, to in zip(cut, links, strict=True))
    rest = len(all_rows) - len(shown)
    more = f"{rest:,} more rows are in the table's file." if rest > 0 else ""
    about = " ".join(filter(None, (note, *sentences)))
    return Listing(anchor, title, tuple(heads[i] for i in varying), entries, about, more, folded)


def testable(r: Row) -> bool:
    """Return whether a row of ``shortcuts`` has enough controls; without them, `shortcut` is false."""
    return (r["n_control"] or 0) >= CONTROLS


def percent(value: float | None, decimals: int = 0) -> str:
    """Return a share in percent; empty if it is undefined."""
    if value is None or value != value:
        return ""
    return f"{100 * value:.{decimals}f} %".replace("-", "−")


def with_ends(value: float | None, lo: float | None, hi: float | None, decimals: int = 0) -> str:
    """Return a share with its interval, such as ``42 % (35 to 49)``; without an interval, only the share."""
    return percent(value, decimals) + _ends(value, lo, hi, decimals)


def in_points(value: float | None, lo: float | None, hi: float | None, decimals: int = 0) -> str:
    """Return a difference of shares in percentage points, such as ``−21 (−31 to −10)``."""
    return percent(value, decimals).removesuffix(" %") + _ends(value, lo, hi, decimals)


def _ends(value: float | None, lo: float | None, hi: float | None, decimals: int) -> str:
    if any(v is None or v != v for v in (value, lo, hi)):
        return ""
    ends = " to ".join(percent(end, decimals).removesuffix(" %") for end in (lo, hi))
    return f" ({ends})"


def with_range(
    value: float | None, lo: float | None = None, hi: float | None = None, form: str = ".3f"
) -> str:
    """Return a number with its interval, such as ``0.31 (0.25 to 0.39)``; a dash if it is undefined."""
    if value is None or value != value:
        return "–"
    ends = "" if lo is None or hi is None or lo != lo else f" ({lo:{form}} to {hi:{form}})"
    return f"{value:{form}}{ends}"


Tables = Mapping[str, pa.Table]


def rows_by(rows: Iterable[Row], *names: str) -> dict[tuple[Any, ...], list[Row]]:
    """Group rows by their values in some columns; groups are in the order of their first rows."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return found


def rows_of(tables_by_name: Tables, name: str) -> list[Row]:
    """Return the rows of a table; none if the table is missing."""
    return tables_by_name[name].to_pylist() if name in tables_by_name else []


SHARED = (
    *("classes", "dataset", "images", "label-values", "links", "match", "models", "predictions", "rows"),
    *("scores", "strict", "trust-order", "where"),
)
"""Options that say which data are read and how, which the next command needs as well."""

TO_FIT = ("bits", "classes", "labels", "masks", "split")
"""The same for a head that is fitted to images."""

TO_SHARE = {
    "manyhot aggregate ": ("classes",),
    "manyhot init ": ("classes", "match", "rows", "scores"),
    "manyhot mitigate ": TO_FIT,
    "manyhot propose ": ("classes", "images", "match"),
}
"""The same for commands with fewer or other options; for images, only how they are decoded."""

OF_IMAGES = (
    "diagnose corruptions",
    "diagnose duplicates",
    "diagnose shortcuts",
    "explain",
    "mitigate",
    "patchml",
)
"""Commands whose argument is images; that of the others is labels."""


class NextStep(NamedTuple):
    """What to do after a diagnosis: a sentence, and the command.

    A chapter registers its step as `next`. In the command, DATASET stands for the labels, IMAGES for the
    images, OUT for the folder of the diagnosis, and a word in capital letters after an option for the value
    of that option.
    """

    text: str
    command: str

    def after(self, call: str, folder: str = "") -> NextStep:
        """Return the step with the data and the options of a call; placeholders of unknown values remain.

        `folder` is the folder of the diagnosis, which is used if the call does not name one.
        """
        own_command, options = _parsed(call)
        out = next((value for name, value in options if name == "out"), folder)
        command = self.command.replace(" OUT/", f" {shlex.quote(out)}/") if out else self.command
        of_images = own_command in OF_IMAGES
        place = re.search(r"^[a-z ]+ (IMAGES|DATASET)\b", command)
        if place is not None:
            wants_images = place[1] == "IMAGES"
            given = "images" if wants_images and not of_images else ""
            first = [value for name, value in options if name == given and of_images <= wants_images]
            if len(first) != 1:
                return self._replace(command=command)
            command = command[: place.start(1)] + shlex.quote(first[0]) + command[place.end(1) :]
        elif of_images or not own_command:
            return self._replace(command=command)
        sources = [("sources", value) for name, value in options if not name]
        shared = next((own for start, own in TO_SHARE.items() if command.startswith(start)), None)
        if shared is None:
            shared = ("bits",) if of_images else () if "IMAGES" in self.command else SHARED
        return self._replace(command=_with_options(command, [*options, *sources], shared, of_images))


def _with_options(
    command: str, options: Sequence[tuple[str, str]], shared: Sequence[str], of_images: bool
) -> str:
    """Return a command with the values of options that it names, and with options that it shares."""
    for name in dict.fromkeys(name for name, _ in options if name):
        own = "".join(f" --{name} {shlex.quote(v) if v else ''}".rstrip() for n, v in options if n == name)
        found = re.search(rf"( --{name} [A-Z]+(:[A-Z]+)?(?!\S))+", command)
        if found:
            command = command[: found.start()] + own + command[found.end() :]
        elif name in shared and f" --{name} " not in command:
            command += own
    # A benchmark or a campaign has its own predictions.
    return command if of_images else command.replace(" --predictions FOLDER", "")


def _parsed(call: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the command of a command line, and its options with their names; arguments have no name."""
    try:
        _, *words = shlex.split(call)
    except ValueError:
        return "", []
    n = next((n for n in (2, 1) if " ".join(words[:n]) in COMMANDS), 0)
    command, rest, options = " ".join(words[:n]), words[n:] if n else [], list[tuple[str, str]]()
    while rest:
        word = rest.pop(0)
        name, has_value, value = word.partition("=")
        if not word.startswith("--"):
            options.append(("", word))
        elif has_value or not rest or rest[0].startswith("--"):
            options.append((name[2:], value))
        else:
            options.append((name[2:], rest.pop(0)))
    return command, options
