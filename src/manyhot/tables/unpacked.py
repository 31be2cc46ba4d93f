"""How much memory a file needs, and how much there is: checked before any memory is taken."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from manyhot.errors import InputError

_BYTES = {"BOOLEAN": 0, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 8, "BYTE_ARRAY": 4}
"""Bytes of a value in memory by its physical type; of a text at least, of which only the place is counted."""

_ROOT = Path("/")


def open_parquet_lazily(path: str | os.PathLike[str]) -> pq.ParquetFile:
    """Open a Parquet file of which only the metadata, or only a few rows at a time, are read.

    By default, Arrow reads whole columns even if no row is requested.
    """
    return pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)


_BUFFER = 2**20
"""Bytes of a column that are read at a time."""


def check_parquet(path: Path, file: pq.ParquetFile) -> None:
    """Raise an error if the values of a Parquet file need more memory than is available.

    Equal values and nulls take almost no space in the file: a billion of them fit into a kilobyte. Repeated
    texts may take more memory than is estimated here.

    Raises
    ------
    InputError
    """
    columns = (group.column(i) for group in row_groups(file) for i in range(group.num_columns))
    needed = sum(
        max(c.total_uncompressed_size, c.num_values * _BYTES.get(c.physical_type, 0)) for c in columns
    )
    _check(path, needed)


def row_groups(file: pq.ParquetFile) -> Iterator[pq.RowGroupMetaData]:
    """Yield the metadata of each row group with columns of a Parquet file, after checking that it is safe.

    If the metadata of a column contradict the schema, accessing them would crash the process inside pyarrow.
    The reader detects the same contradiction and raises an error, even if no rows are requested. Open the
    file with `open_parquet_lazily`.

    Raises
    ------
    OSError
    """
    if not file.metadata.num_columns:  # of which reading no rows would crash the process, too
        return
    for i in range(file.num_row_groups):
        next(file.reader.iter_batches(0, row_groups=[i], use_threads=False), None)
        yield file.metadata.row_group(i)


def check_archive(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise an error if the arrays of an ``.npz`` file need more memory than is available.

    Raises
    ------
    InputError
    """
    _check(path, sum(member.file_size for member in archive.infolist()))


def check_dense(path: Path, scores: str, needed: int) -> None:
    """Raise an error if predictions need more memory than is free; only dense scores can be so large.

    Parameters
    ----------
    scores : str
        The number of scores, for the message.
    needed : int
        Bytes that would be allocated.

    Raises
    ------
    InputError
    """
    free = free_memory()
    if needed > free:
        raise InputError(
            "The scores of all classes need more memory than is free.",
            where=path,
            got=f"{scores}, for which {needed / 1e9:,.1f} GB would be allocated",
            allowed=f"at most {free / 1e9:,.1f} GB, which are free",
            do="keep only the top classes of each image, as manyhot predict does without --dense",
        )


def free_memory() -> int:
    """Return the free memory of the machine, or of the container or job if it has a limit, in bytes."""
    about = _ROOT / "proc/meminfo"
    if not about.is_file():
        if not hasattr(os, "sysconf"):
            return sys.maxsize
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    lines = (line.split() for line in about.read_text().splitlines())
    free = next(int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:")
    return max(0, min(free, *_left_by_limits()))


def _left_by_limits() -> Iterator[int]:
    """Yield what the limits of Linux's control groups leave, of this process's group and those above it.

    Inactive cached files count as used there, but make room when memory is needed.
    """
    yield sys.maxsize
    own = _ROOT / "proc/self/cgroup"
    for line in own.read_text().splitlines() if own.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            top, names = _ROOT / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = _ROOT / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = top / path.lstrip("/")
        while group.is_relative_to(top):  # a container may see its own group at the top
            limit, used = (_content(group / name) for name in names[:2])
            if limit.isdecimal() and used.isdecimal():
                stat = dict(row.split() for row in _content(group / "memory.stat").splitlines())
                yield int(limit) - int(used) + int(stat.get(names[2], 0))
            group = group.parent


def _content(path: Path) -> str:
    return path.read_text().strip() if path.is_file() else ""


def _check(path: Path, needed: int) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else needed
    if needed > memory:
        raise InputError(
            "The file unpacks to more than the memory of this machine.",
            where=path,
            got=f"{path.stat().st_size / 1e6:.1f} MB, which unpack to {needed / 1e9:,.0f} GB",
            allowed=f"at most {memory / 1e9:,.0f} GB",
            do="check where the file is from, or divide it",
        )
