"""What others have published, read from ``published.toml``."""

from __future__ import annotations

import difflib
import fnmatch
import functools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from manyhot.errors import InputError

_FILE = Path(__file__).with_name("published.toml")

BASES = ("images", "tables")
"""What our numbers rest on: answers about single images, or another published table of the same models."""


@dataclass(frozen=True)
class PublishedEntry:
    """Numbers from a table, a figure or a sentence of a publication.

    Attributes
    ----------
    name : str
    publication, place : str
        The publication, and where in it the numbers are.
    year : int
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
    """Return all entries, in the order of the file."""
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
            near = difflib.get_close_matches(pattern, names, n=3)
            raise InputError(
                "No published numbers have this name.",
                got=pattern,
                allowed="names or patterns such as 'torchvision*'; `list_only` lists them",
                do=f"did you mean {' or '.join(map(repr, near))}?" if near else None,
            )
    kept = {name for pattern in patterns for name in fnmatch.filter(names, pattern)}
    return tuple(entry for entry in entries if not patterns or entry.name in kept)
