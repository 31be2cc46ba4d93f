"""Which images of a source have labels, and whether they are held in memory."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from manyhot.models.sources import Files, Opener, Part, Source
from manyhot.models.sources.base import digest, given, refused
from manyhot.models.sources.tar import TarSlice
from manyhot.train.orders import Everything, Order, Sample, Shards, none_found

SHARE = 0.25
"""Of the memory that is free: what the encoded images of a run may take, and as much again the decoded."""

_TRIED = 64
"""Images whose size tells that of all."""


def memory_share() -> int:
    """Return the bytes that each process of the run on this machine may hold."""
    return int(SHARE * _free() / int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def _free() -> int:
    """Return the bytes that are free here: of the machine, or of the container."""
    about = Path("/proc/meminfo")
    if not about.is_file():
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    lines = (line.split() for line in about.read_text().splitlines())
    free = next(int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(free, int(text)) if text.isdecimal() else free


def collect(source: Source, rows: Mapping[str, int], order: str, buffer: int, budget: int) -> Order:
    """Return the images of a source that have labels, held in memory where they fit.

    Parameters
    ----------
    source : Source
    rows : Mapping of str to int
        The row of each image that is wanted, by its id.
    order : str
        ``auto``, ``all`` or ``shards``.
    buffer : int
        Of shards.
    budget : int
        Bytes that may be held.

    Raises
    ------
    MatchError
        None of the images is wanted.
    """
    if order == "shards":
        return Shards(source, rows, buffer)
    tried = _sizes(source, rows)
    if not tried:
        raise none_found(source.uri, rows)
    fits = sum(tried) / len(tried) * len(rows) <= budget
    if order == "auto" and not fits and not all(isinstance(part, Files) for part in source.parts):
        return Shards(source, rows, buffer)
    found = dict(_wanted(source.parts, rows))
    own = sorted(found)
    openers = [found[row] for row in own]
    ids = {row: image_id for image_id, row in rows.items()}
    key = digest([source.fingerprint, *(ids[row] for row in own)])
    if not fits:
        return Everything(openers, own, key)
    with ThreadPoolExecutor() as pool:
        return Everything(list(pool.map(_held, openers)), own, key)


def _wanted(parts: tuple[Part, ...], rows: Mapping[str, int]) -> Iterator[Sample]:
    for part in parts:
        for item, opener in part.items():
            if (row := rows.get(item.image_id)) is not None:
                yield row, opener if isinstance(part, Files | TarSlice) else _held(opener)


def _sizes(source: Source, rows: Mapping[str, int]) -> list[int]:
    first = itertools.islice(_wanted(source.parts, rows), _TRIED)
    return [_size(opener) for _, opener in first]


def _size(opener: Opener) -> int:
    try:
        data = opener()
    except OSError:
        return 0
    return 0 if isinstance(data, str) else len(data) if isinstance(data, bytes) else data.numel()


def _held(opener: Opener) -> Opener:
    """Return what gives the bytes of an image, which are read now."""
    try:
        data = opener()
    except OSError as error:
        return refused(error.strerror or str(error))
    return given(data) if isinstance(data, bytes) else lambda: data
