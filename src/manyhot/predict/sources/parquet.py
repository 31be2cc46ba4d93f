"""Parquet files that hold the bytes of images."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import parquet as pq

from manyhot.errors import InputError
from manyhot.predict.sources.image_columns import (
    Columns,
    RowBlock,
    RowPosition,
    features_of,
    find_columns,
    has_paths,
    ids_and_labels,
    row_images,
    source_of,
)
from manyhot.predict.sources.image_labels import with_labels
from manyhot.predict.sources.remote import (
    expand,
    first_line,
    is_remote,
    lost,
    open_random,
    version_of,
    without_query,
)
from manyhot.predict.sources.source import ImageReader, ImageSource, Item, part_names, part_ranges

_BATCH = 64
_BUFFER = 1 << 20


def is_parquet(path: str) -> bool:
    """Return whether a file has the suffix of Parquet."""
    return without_query(path).lower().endswith((".parquet", ".pq"))


@dataclass(frozen=True)
class ParquetRows:
    """A part: rows of a row group.

    Attributes
    ----------
    name : str
    place : RowPosition
        Position of the first row.
    columns : Columns
    group : int
        The row group.
    start, end : int
        Its rows.
    mark : str
        Differs if the images differ.
    """

    name: str
    place: RowPosition
    columns: Columns
    group: int
    start: int
    end: int
    mark: str

    @property
    def n(self) -> int:
        """The number of images."""
        return self.end - self.start

    def items(self) -> Iterator[tuple[Item, ImageReader]]:
        """Yield each image with a function that reads it."""
        key = (self.place.file, self.group, self.columns)
        with _reading(self.place.file):
            cursor = _IDLE.pop(key, None)
            if cursor is None or cursor.at > self.start:
                cursor = _Cursor(self.place.file, self.group, self.columns)
            cursor.skip(self.start - cursor.at)
            yield from row_images(cursor.take(self.n), self.columns, self.place)
            _IDLE.clear()
            _IDLE[key] = cursor

    def key(self) -> str:
        """Return a key that identifies the images of this part."""
        return f"{self.place.stem} {self.group} {self.start} {self.end} {self.mark}"


class _Cursor:
    """A place in a row group.

    Pages have no index of rows, so a part in the middle is read from the start of its group. Consecutive
    parts share a cursor: Polars writes 262,144 rows per group, which are 512 parts.
    """

    def __init__(self, path: str, group: int, columns: Columns) -> None:
        self.at = 0
        self._rest: pa.RecordBatch | None = None
        self._batches = _open(path).iter_batches(
            _BATCH, row_groups=[group], columns=columns.all(), use_threads=False
        )

    def skip(self, count: int) -> None:
        for _ in self.take(count):
            pass

    def take(self, count: int) -> Iterator[pa.RecordBatch]:
        while count:
            batch = next(self._batches, None) if self._rest is None else self._rest
            if batch is None:
                raise pa.ArrowInvalid("the file has become shorter")
            taken = batch.slice(0, count)
            self._rest = batch.slice(count) if len(batch) > count else None
            self.at += len(taken)
            count -= len(taken)
            yield taken


_IDLE: dict[tuple[str, int, Columns], _Cursor] = {}


def open_parquet(
    where: str, labels: Mapping[str, str] | None = None, files: Sequence[str] | None = None
) -> ImageSource:
    """List the images in Parquet files with a column of bytes and, optionally, of ids and labels.

    Parameters
    ----------
    where : str
        A file, or a pattern such as ``train-*.parquet``.
    labels : Mapping of str to str, optional
        Label of each image by id.
    files : sequence of str, optional
        The files, if they are known.

    Raises
    ------
    InputError
        If a file does not exist or is incomplete, if no column contains images or several columns could, if
        an image has no id, or if two images have the same id.
    """
    found = expand(where) if files is None else list(files)
    columns = _columns(found[0])
    if not is_remote(found[0]):

        def blocks(own: Columns) -> list[RowBlock]:
            return [block for path in found for block in _blocks(path, own)]

        return source_of(where, columns, blocks, labels, strict=bool(columns.label))
    # Ids of a remote file are read with its images: separately, they would take a request per row group.
    cuts = [piece for path in found for piece in _cuts(path, columns, version_of(path))]
    if not cuts:
        raise InputError("The table has no rows.", where=where)
    parts = tuple(replace(part, name=name) for name, part in zip(part_names(len(cuts)), cuts, strict=True))
    return with_labels(ImageSource(where, parts, strict=bool(columns.label)), labels)


def _blocks(path: str, columns: Columns) -> Iterator[RowBlock]:
    with _listing(path), _open(path) as file:
        for part in _cuts_of(file, path, columns, version_of(path)):
            if part.start == 0:
                table = file.read_row_group(part.group, columns=columns.without_bytes(), use_threads=False)
                if not table.num_columns:  # as many rows as the group, even if no column was read
                    table = pa.table({"": pa.nulls(file.metadata.row_group(part.group).num_rows)})
                ids, labels = ids_and_labels(table, columns, part.place)
            own = slice(part.start, part.end)
            yield RowBlock(part.place, ids[own], labels[own], part)


def _cuts(path: str, columns: Columns, mark: str) -> list[ParquetRows]:
    with _listing(path), _open(path) as file:
        return list(_cuts_of(file, path, columns, mark))


def _cuts_of(file: pq.ParquetFile, path: str, columns: Columns, mark: str) -> Iterator[ParquetRows]:
    _check_columns(file.schema_arrow, columns, path)
    stem, first = PurePosixPath(without_query(path)).stem, 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        for _, start, end in part_ranges(count):
            yield ParquetRows("", RowPosition(path, stem, first + start), columns, group, start, end, mark)
        first += count


def _columns(path: str) -> Columns:
    with _listing(path), _open(path) as file:
        schema = file.schema_arrow
        columns = find_columns(schema, features_of(schema.metadata), path)
        if not columns.by_path or not file.num_row_groups:
            return columns
        first = file.read_row_group(0, columns=[f"{columns.image}.path"])
        return replace(columns, by_path=has_paths(first, columns))


def _check_columns(schema: pa.Schema, columns: Columns, path: str) -> None:
    absent = [name for name in columns.all() if name not in schema.names]
    if absent:
        raise InputError(
            "The file lacks columns that the other files have.",
            where=path,
            got=", ".join(schema.names),
            allowed=f"at least {', '.join(columns.all())}",
        )


def _open(path: str) -> pq.ParquetFile:
    return pq.ParquetFile(open_random(path) if is_remote(path) else path, buffer_size=_BUFFER)


@contextlib.contextmanager
def _listing(path: str) -> Iterator[Any]:
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError("The file does not exist.", where=path) from error
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise _broken(path, error) from error
    except _failures(path) as error:
        if "range requests" in str(error):
            raise InputError(
                "The file cannot be read, because the server does not support range requests.",
                where=path,
                do="download it, or use another server",
            ) from error
        raise InputError(f"The file cannot be read: {first_line(error)}.", where=path) from error


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except _failures(path) as error:
        if isinstance(error, FileNotFoundError) or (
            is_remote(path) and not isinstance(error, pa.ArrowInvalid)
        ):
            raise lost(path, error) from error
        raise _broken(path, error) from error


def _failures(path: str) -> tuple[type[Exception], ...]:
    # Clients of object stores raise many kinds of errors.
    return (Exception,) if is_remote(path) else (OSError, pa.ArrowException, UnicodeDecodeError)


def _broken(path: str, error: Exception) -> InputError:
    if is_remote(path) or Path(path).exists():
        return InputError(
            "The Parquet file is incomplete.",
            where=path,
            got=first_line(error),
            do="download or create it again",
        )
    return lost(path, FileNotFoundError("the file no longer exists"))
