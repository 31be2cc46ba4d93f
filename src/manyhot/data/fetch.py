"""Published data, downloaded by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from manyhot.command import command
from manyhot.console import table_lines
from manyhot.data.catalog import CatalogEntry, catalog_entry, catalog_names, fetch, is_cached
from manyhot.parameters import Positional, Shown
from manyhot.result import Result
from manyhot.run import QUIET, Run


@dataclass(frozen=True, eq=False)
class PublishedData(Result):
    """Entries of the catalogue.

    Attributes
    ----------
    entries : tuple of CatalogEntry
    written
        The files of the fetched entries; see `Result`.
    """

    entries: tuple[CatalogEntry, ...]

    def to_json(self) -> Any:
        """Return the list of entries; nothing if entries were fetched."""
        if self.written:
            return {}
        fields = ("name", "title", "home", "licence", "citation", "notes", "size")
        return [
            {name: getattr(entry, name) for name in fields} | {"files": [file.path for file in entry.files]}
            for entry in self.entries
        ]

    def lines(self) -> Iterator[str]:
        """Yield a table of the entries; nothing if entries were fetched."""
        if self.written:
            return
        rows = [
            (
                entry.name,
                f"{entry.size / 1e6:.1f} MB",
                entry.licence,
                ("installed" if entry.package else "yes") if is_cached(entry.name) else "no",
                entry.title,
            )
            for entry in self.entries
        ]
        yield from table_lines(("name", "size", "licence", "cached", "what"), rows)


@command("fetch", examples=("manyhot fetch imagenet-real",))
def fetch_published(
    names: Annotated[Sequence[str], Positional(), Shown("NAME")] = (),
    *,
    list_: bool = False,
    run: Run = QUIET,
) -> PublishedData:
    """Download published data into the cache folder and verify them; without names, list what is available.

    If MANYHOT_MIRROR is set to a folder or zip archive that stores each file under its address, files are
    read from there.

    Parameters
    ----------
    names
        Names of the catalogue.
    list_
        List what can be fetched.

    Returns
    -------
    PublishedData

    Raises
    ------
    UnknownNameError
        If a name is not in the catalogue.
    FetchError, ChecksumError, OutputError
        As in `manyhot.fetch`.
    """
    if list_ or not names:
        return PublishedData(tuple(map(catalog_entry, catalog_names())))
    entries, written = tuple(map(catalog_entry, names)), list[Path]()
    for entry in entries:
        on_progress = run.on_progress and partial(run.on_progress, f"fetching {entry.name}")
        files = fetch(entry.name, progress=on_progress).values()
        written += () if entry.package else files
    return PublishedData(entries, written=tuple(written))
