"""``manyhot benchmarks``: published numbers beside ours."""

from __future__ import annotations

import fnmatch
import functools
import math
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa

from manyhot.command import command
from manyhot.console import table_lines
from manyhot.diagnose.benchmarks.measures import PUBLISHED_MEASURES, Measured, Published
from manyhot.errors import InputError, ManyhotError, did_you_mean
from manyhot.parameters import OptionName, Shown
from manyhot.report.text import counted
from manyhot.result import Result
from manyhot.run import QUIET, Run
from manyhot.tables import Row, schema
from manyhot.tables.definitions import COUNT, INT, ITS, REAL, TEXT, bounds, declare_table

VERDICTS = ("equal", "close", "different", "not computed")
"""Equal to the printed digits; within a tolerance, with a reason; outside; and without the data."""

_FILE = Path(__file__).with_name("published.toml")

BASES = ("images", "tables")
"""What our numbers rest on: answers about single images, or another published table of the same models."""

ONE = "-"
"""The subject of an entry about one number."""

declare_table(
    "benchmarks",
    (
        TEXT("name", "the name of the published numbers"),
        TEXT("publication", "the publication"),
        INT("year", "its year"),
        TEXT("address", "its address"),
        TEXT("place", "where in the publication the number is"),
        TEXT("read_at", "where it was read"),
        TEXT("quantity", "what the number is"),
        TEXT.nullable("subject", "the model or group; null if the entry has only one number"),
        TEXT("basis", "the source of our value: answers about images, or another table", values=BASES),
        TEXT("unit", "the unit of the numbers; empty if they have none"),
        TEXT("published", "the published number, as it was printed"),
        REAL.nullable("value", "our value; null if it could not be computed"),
        *bounds("lo", "hi", f"{ITS} (Wilson), for shares"),
        COUNT.nullable("n", "what our value is counted over"),
        TEXT("counted", "what n counts, such as images"),
        REAL.nullable("difference", "our value minus the published one"),
        REAL.nullable(
            "tolerance", "the largest difference that counts as close; null if the values must be equal"
        ),
        TEXT("verdict", "how our value agrees with the published one", values=VERDICTS),
        TEXT(
            "reason",
            "why the values differ, or why our value could not be computed; empty if the values are equal",
        ),
        TEXT("command", "the command that computes it"),
    ),
)


@dataclass(frozen=True, eq=False)
class Benchmarks(Result):
    """Published numbers next to our values.

    Attributes
    ----------
    benchmarks : pyarrow.Table
        The table ``benchmarks``; see `manyhot.tables.TABLES` for its columns.
    notes, metadata, inputs
        As in `Result`.
    """

    NAMES = ("benchmarks",)

    benchmarks: pa.Table

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """1 if a number differs, else 0."""
        return int("different" in self.benchmarks["verdict"].to_pylist())

    def lines(self) -> Iterator[str]:
        """Yield a line for each entry, with the number of values that agree."""
        rows = self.benchmarks.to_pylist()
        head = ("name", "numbers", "equal", "farthest", "published", "ours", "n", "verdict")
        yield from table_lines(head, [_cells(summary) for summary in summaries(rows)])
        yield ""
        counts = Counter(row["verdict"] for row in rows)
        agree = ", ".join(f"{counts[verdict]:,} {verdict}" for verdict in VERDICTS if counts[verdict])
        publications = counted(len({row["publication"] for row in rows}), "publication")
        yield f"{counted(len(rows), 'number')} of {publications}: {agree}"
        for row in rows:
            if row["verdict"] == "different":
                of = f" of {row['subject']}" if row["subject"] else ""
                yield f"different: {row['name']}{of}, {row['published']}, ours {shown_value(row)}"


@dataclass(frozen=True)
class Summary:
    """An entry with the number of values that agree, the row that differs most and the worst verdict."""

    farthest: Row
    n_equal: int
    n_rows: int
    verdict: str


def summaries(rows: Sequence[Row]) -> Iterator[Summary]:
    """Yield the summary of each entry, in the order of the rows."""
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        farthest = min(own, key=_by_distance)
        n_equal = sum(row["verdict"] == "equal" for row in own)
        verdict = max((row["verdict"] for row in own), key=VERDICTS.index)
        yield Summary(farthest, n_equal, len(own), verdict)


def _by_distance(row: Row) -> tuple[bool, float, str]:
    """Sort the farthest number first: those that are not equal, by difference; by name where these tie."""
    # Rounded, so that the last bits of a float decide no tie.
    return row["verdict"] == "equal", -round(abs(row["difference"] or 0), 9), row["subject"] or ""


def _cells(summary: Summary) -> tuple[str, ...]:
    row = summary.farthest
    return (
        row["name"],
        f"{summary.n_rows:,}",
        f"{summary.n_equal:,}",
        row["subject"] or "",
        f"{row['published']} {row['unit']}".strip(),
        shown_value(row),
        "–" if row["n"] is None else f"{row['n']:,}",
        summary.verdict,
    )


def shown_value(row: Row) -> str:
    """Return our value with as many digits as the published one, or one digit more if the two differ."""
    if row["value"] is None:
        return "–"
    digits = len(row["published"].partition(".")[2])
    rounded = f"{row['value']:.{digits}f}"
    is_count = not row["unit"] and not digits
    if is_count or float(rounded) == float(row["published"]):
        return rounded
    return f"{row['value']:.{digits + 1}f}"


@command(
    "benchmarks",
    examples=("manyhot benchmarks --out numbers", "manyhot benchmarks --only 'torchvision*'"),
)
def run_benchmarks(
    *,
    only: Annotated[Sequence[str], Shown("NAME")] = (),
    list_only: Annotated[bool, OptionName("--list")] = False,
    run: Run = QUIET,
) -> Benchmarks:
    """Recompute published numbers, and compare the results with the published values.

    The numbers come from tables and figures about ImageNet and label sets. Data that are not in the cache are
    downloaded. The command fails if a number that should be equal differs, or if a number differs by more
    than its tolerance. Numbers whose data are missing are listed, with the reason.

    Parameters
    ----------
    only
        Names or patterns of published numbers, such as 'torchvision*'; by default all.
    list_only
        List the published numbers without computing anything.

    Returns
    -------
    Benchmarks

    Raises
    ------
    InputError
        If a name matches no published numbers.
    """
    data = Published(run)
    rows = [
        _row(entry, subject, None if list_only else data)
        for entry in select_entries(only)
        for subject in entry.values
    ]
    table = pa.Table.from_pylist(rows, schema=schema("benchmarks"))
    return Benchmarks(table, notes=() if list_only else _notes(rows), inputs=data.inputs)


def _notes(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return why numbers could not be computed, with their names."""
    names: dict[str, dict[str, None]] = {}
    for row in rows:
        if row["verdict"] == "not computed":
            names.setdefault(row["reason"], {})[row["name"]] = None
    return tuple(f"not computed: {', '.join(found)}: {reason}" for reason, found in names.items())


def _row(entry: PublishedEntry, subject: str, data: Published | None) -> dict[str, Any]:
    published = entry.values[subject]
    found, reason = (None, "not asked for") if data is None else _measured(entry, subject, data)
    verdict = "not computed" if found is None else entry.verdict(published, found.value)
    return {
        "name": entry.name,
        "publication": entry.publication,
        "year": entry.year,
        "address": entry.address,
        "place": entry.place,
        "read_at": entry.read_at,
        "quantity": entry.quantity,
        "subject": None if subject == ONE else subject,
        "basis": entry.basis,
        "unit": entry.unit,
        "published": published,
        "value": found and found.value,
        "lo": None if found is None or math.isnan(found.lo) else found.lo,
        "hi": None if found is None or math.isnan(found.hi) else found.hi,
        "n": found and found.n,
        "counted": entry.of,
        "difference": found and found.value - float(published),
        "tolerance": entry.tolerance,
        "verdict": verdict,
        "reason": reason if found is None else entry.reason if verdict == "close" else "",
        "command": entry.command,
    }


def _measured(entry: PublishedEntry, subject: str, data: Published) -> tuple[Measured | None, str]:
    """Return our number in the unit of the published one; None and the reason if its data are not there."""
    try:
        found = PUBLISHED_MEASURES[entry.measure](data, subject, **entry.options)
    except ManyhotError as error:
        return None, error.in_a_line()
    return found.scaled(100 if entry.unit in ("%", "points") else 1), ""


@dataclass(frozen=True)
class PublishedEntry:
    """Numbers from a table, a figure or a sentence of a publication.

    Attributes
    ----------
    publication, place : str
        The publication, and the place of the numbers in it.
    address, read_at : str
        Address of the publication, and the source from which the numbers were copied.
    quantity, unit, of : str
        The measured quantity, its unit ("%", "points" or none), and what n counts.
    basis : str
        One of `BASES`.
    measure : str
        A function of ``measures.py`` that computes the numbers.
    command : str
        The command that a reader runs.
    values : Mapping of str to str
        The numbers as they were printed, by subject.
    options : Mapping of str to str
        Options of the measure.
    tolerance : float, optional
        The largest permitted difference, in the unit of the numbers. If None, numbers must round to the
        printed digits.
    reason : str
        Why the numbers differ.
    """

    name: str
    publication: str
    year: int
    address: str
    place: str
    read_at: str
    quantity: str
    unit: str
    of: str
    basis: str
    measure: str
    command: str
    values: Mapping[str, str]
    options: Mapping[str, str] = field(default_factory=dict)
    tolerance: float | None = None
    reason: str = ""

    def verdict(self, published: str, value: float) -> str:
        """Return whether a number is equal to the printed one, close to it, or different."""
        difference = abs(value - float(published))
        # Half a unit of the last printed digit, but for the last bits of a float.
        if difference <= 0.5 * 10.0 ** -len(published.partition(".")[2]) + 1e-9:
            return "equal"
        within = self.tolerance is not None and difference <= self.tolerance
        return "close" if within else "different"


@functools.cache
def published_entries() -> tuple[PublishedEntry, ...]:
    """Return all entries in the order in which the file lists them."""
    entries = tomllib.loads(_FILE.read_text(encoding="utf-8"))["entries"]
    return tuple(PublishedEntry(**{**fields, "values": _pairs(fields["values"])}) for fields in entries)


def _pairs(text: str) -> dict[str, str]:
    pairs = [pair.split() for pair in text.split(";") if pair.strip()]
    return {pair[0]: pair[1] for pair in pairs}


def select_entries(patterns: Sequence[str]) -> tuple[PublishedEntry, ...]:
    """Return the entries whose names match any of the patterns, or all entries if there are no patterns.

    Raises
    ------
    InputError
        If a pattern matches no entry.
    """
    entries = published_entries()
    names = [entry.name for entry in entries]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise InputError(
                "No published numbers have this name.",
                got=pattern,
                allowed="names or patterns such as 'torchvision*'; `list_only` lists them",
                do=did_you_mean(pattern, names),
            )
    kept = {name for pattern in patterns for name in fnmatch.filter(names, pattern)}
    return tuple(entry for entry in entries if not patterns or entry.name in kept)
