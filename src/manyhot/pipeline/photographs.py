"""Photographs where predict found them: files, members of archives, rows of tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from manyhot.errors import ManyhotError
from manyhot.models import open_source

if TYPE_CHECKING:
    from manyhot.report.photographs import Opener


def find_photographs(uris: Sequence[str | None]) -> Iterator[tuple[int, Opener]]:
    """Yield for each image its place in `uris` and what reads its bytes.

    Files come first. Each archive or table is then listed once and read in its own order, no further than to
    the last photograph that is wanted. What cannot be found has an opener that tells why.
    """
    from manyhot.report.photographs import opener

    inside: dict[str, dict[str, list[int]]] = {}
    for i, uri in enumerate(uris):
        if uri and (holder := _holder(uri)):
            inside.setdefault(holder, {}).setdefault(str(Path(uri)), []).append(i)
        else:
            yield i, opener(uri)
    for holder, wanted in inside.items():
        yield from _inside(holder, wanted)


def _holder(uri: str) -> str:
    """Return what holds an image among others; empty where it is a file of its own, or not here."""
    if "://" in uri or Path(uri).is_file():
        return ""
    table, hash_, row = uri.rpartition("#")
    if hash_ and row.isdecimal() and Path(table).is_file():
        # Files of a saved data set are described in the folder around them.
        return str(Path(table).parent if table.endswith(".arrow") else Path(table))
    return next((str(p) for p in Path(uri).parents if p.is_file()), "")


def _inside(holder: str, wanted: Mapping[str, Sequence[int]]) -> Iterator[tuple[int, Opener]]:
    from manyhot.report.photographs import absent

    left = dict(wanted)
    reason = f"{Path(holder).name} does not hold it"
    try:
        for part in open_source(holder).parts:
            for item, read in part.items() if left else ():
                as_they_lie = cast("Opener", read)  # bytes: nothing is altered
                yield from ((i, as_they_lie) for i in left.pop(str(Path(item.uri)), ()))
    except ManyhotError as error:
        reason = f"{Path(holder).name}: {error.what[0].lower()}{error.what[1:].rstrip('.')}"
    yield from ((i, absent(reason)) for places in left.values() for i in places)
