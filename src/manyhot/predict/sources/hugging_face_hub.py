"""Hugging Face data sets: saved folders, read with PyArrow only, and those loaded by name."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Container, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from manyhot.errors import FetchError, InputError
from manyhot.extras import required
from manyhot.formats.hugging_face import features_in
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
    SourceLostError,
    fetch_bytes,
    first_line,
    is_remote,
    lost,
    open_stream,
    version_of,
)
from manyhot.predict.sources.source import ImageReader, ImageSource, Item, part_names, part_ranges

_NEEDED = object()
PREFIX = "hf:"
"""The prefix of the name of a data set."""


@dataclass(frozen=True)
class ArrowRows:
    """A part: rows of an Arrow file of a saved data set.

    Attributes
    ----------
    name : str
    place : RowPosition
    columns : Columns
    n : int
    mark : str
        Differs if the images differ.
    """

    name: str
    place: RowPosition
    columns: Columns
    n: int
    mark: str

    def items(self) -> Iterator[tuple[Item, ImageReader]]:
        """Yield each image with a function that reads it."""
        try:
            table = _mapped(self.place.file)
            piece = _checked(table.select(self.columns.all()).slice(self.place.first, self.n))
        except FileNotFoundError as error:
            raise lost(self.place.file, error) from error
        except pa.ArrowException as error:
            raise _cut_off(self.place.file, error) from error
        yield from row_images(piece.to_batches(), self.columns, self.place, external=True)

    def key(self) -> str:
        """Return a key that identifies the images of this part."""
        return f"{self.place.stem} {self.place.first} {self.n} {self.mark}"


@dataclass(frozen=True, eq=False)
class HubRows:
    """A part: rows of a data set that ``datasets`` has loaded.

    Attributes
    ----------
    name : str
    dataset : datasets.Dataset
        The data set, with Arrow tables as its format. It is pickled as the names of its files.
    place : RowPosition
    columns : Columns
    n : int
    mark : str
        Differs if the images differ.
    """

    name: str
    dataset: Any
    place: RowPosition
    columns: Columns
    n: int
    mark: str

    def items(self) -> Iterator[tuple[Item, ImageReader]]:
        """Yield each image with a function that reads it."""
        table = self.dataset[self.place.first : self.place.first + self.n]
        yield from row_images(table.to_batches(), self.columns, self.place, external=True)

    def key(self) -> str:
        """Return a key that identifies the images of this part."""
        return f"{self.place.first} {self.n} {self.mark}"


@dataclass(frozen=True)
class ArrowStream:
    """A part: an Arrow file of a saved data set on remote storage, read from its start.

    Attributes
    ----------
    name : str
    file : str
        Its address.
    columns : Columns
    version : str
        Differs if its contents differ.
    """

    name: str
    file: str
    columns: Columns
    version: str

    @property
    def n(self) -> None:
        """Unknown before reading."""
        return

    def items(self) -> Iterator[tuple[Item, ImageReader]]:
        """Yield each image with a function that reads it."""
        yield from row_images(_streamed(self.file), self.columns, RowPosition(self.file, _stem(self.file), 0))

    def key(self) -> str:
        """Return a key that identifies the images of this part."""
        return f"{_stem(self.file)} {self.version}"


def is_saved(files: Container[str]) -> bool:
    """Return whether a folder with these files was written by ``save_to_disk``."""
    return "state.json" in files or "dataset_dict.json" in files


def open_saved(where: str, labels: Mapping[str, str] | None = None) -> ImageSource:
    """List the images of a folder written by ``save_to_disk``.

    Local files are memory-mapped and divided into parts. On remote storage, each file is one part, because
    Arrow streams have no index.

    Raises
    ------
    InputError
        If the folder contains several splits or is incomplete, if no column contains images, if an image has
        no id, or if two images have the same id.
    """
    folder = _split(where.rstrip("/"))
    files = _data_files(folder)
    first = _first(files[0]) if is_remote(where) else _listed(files[0])
    features = features_in(_json(f"{folder}/dataset_info.json", {})) or features_of(first.schema.metadata)
    columns = _settled(find_columns(first.schema, features, where), first)
    if not is_remote(where):

        def blocks(own: Columns) -> list[RowBlock]:
            return [block for file in files for block in _blocks(file, own)]

        return source_of(where, columns, blocks, labels, strict=bool(columns.label))
    parts = tuple(
        ArrowStream(name, file, columns, version_of(file))
        for name, file in zip(part_names(len(files)), files, strict=True)
    )
    return with_labels(ImageSource(where, parts, strict=bool(columns.label)), labels)


def open_hub(where: str, labels: Mapping[str, str] | None = None) -> ImageSource:
    """List the images of a data set by name: ``hf:NAME`` or ``hf:NAME:SPLIT``.

    ``NAME`` is anything that ``datasets.load_dataset`` accepts, such as a folder.

    Raises
    ------
    MissingExtraError
        If ``datasets`` is not installed.
    FetchError
        If the hub does not respond.
    InputError
        If no data set is named, if the data set cannot be loaded or has several splits, if no column contains
        images, if an image has no id, or if two images have the same id.
    """
    name, _, split = where.removeprefix(PREFIX).partition(":")
    if not name:
        raise InputError(
            "The name of the data set is missing.", where=where, allowed=f"{PREFIX}NAME or {PREFIX}NAME:SPLIT"
        )
    dataset = _loaded(where, name, split)
    # Found by type, not by name: the column is decoded by default, and formats other than Arrow copy.
    for column, feature in dataset.features.items():
        if type(feature).__name__ == "Image":
            dataset = dataset.cast_column(column, type(feature)(decode=False))
    dataset = dataset.with_format("arrow")
    schema = dataset.features.arrow_schema
    columns = find_columns(schema, features_of(schema.metadata), where)
    dataset = dataset.select_columns(columns.all())
    columns = _settled(columns, dataset[:1000])
    stem = name.rstrip("/").rpartition("/")[2] + (f"-{re.sub(r'[^A-Za-z0-9]+', '-', split)}" if split else "")

    def blocks(own: Columns) -> list[RowBlock]:
        return list(_hub_blocks(dataset, own, where, stem))

    return source_of(where, columns, blocks, labels, strict=bool(columns.label))


def _blocks(file: str, columns: Columns) -> Iterator[RowBlock]:
    table, version = _listed(file), version_of(file)
    for _, start, end in part_ranges(len(table)):
        place = RowPosition(file, _stem(file), start)
        ids, labels = ids_and_labels(table.slice(start, end - start), columns, place)
        part = ArrowRows("", place, columns, end - start, version)
        yield RowBlock(place, ids, labels, part)


def _loaded(where: str, name: str, split: str) -> Any:
    # The hub counts downloads of data sets unless told not to.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    datasets = required("datasets", "Reading a Hugging Face data set by name", '"manyhot[hub]"')
    try:
        found = datasets.load_dataset(name, split=split or None)
    except Exception as error:
        # datasets raises an error of its own if the hub answers that there is no such data set.
        kind = FetchError if isinstance(error, ConnectionError) else InputError
        raise kind(
            "The data set cannot be loaded.",
            where=where,
            got=first_line(error),
            allowed="hf:NAME or hf:NAME:SPLIT",
            do="check the name and the internet connection; the path of a saved folder does not start with "
            "hf:",
        ) from error
    if not isinstance(found, dict):
        return found
    if len(found) > 1:
        raise _several(where, list(found), f"{PREFIX}{name}:{next(iter(found))}")
    return next(iter(found.values()))


def _hub_blocks(dataset: Any, columns: Columns, where: str, stem: str) -> Iterator[RowBlock]:
    for _, start, end in part_ranges(len(dataset)):
        place = RowPosition(where, stem, start)
        ids, labels = ids_and_labels(dataset[start:end], columns, place)
        part = HubRows("", dataset, place, columns, end - start, "")
        yield RowBlock(place, ids, labels, part)


def _stem(file: str) -> str:
    return PurePosixPath(file).stem


def _split(folder: str) -> str:
    content = _json(f"{folder}/dataset_dict.json", None)
    if content is None:
        return folder
    found = [str(name) for name in content.get("splits", ())] if isinstance(content, dict) else []
    if len(found) != 1:
        raise _several(folder, found, f"{folder}/{found[0] if found else 'train'}")
    return f"{folder}/{found[0]}"


def _several(where: object, splits: Iterable[str], first: str) -> InputError:
    return InputError(
        "The data set has several splits.",
        where=where,
        allowed=", ".join(splits),
        do=f"choose one, such as {first}",
    )


def _data_files(folder: str) -> list[str]:
    state = _json(f"{folder}/state.json")
    found = state.get("_data_files") if isinstance(state, dict) else None
    listed = found if isinstance(found, list) else []
    names = [file.get("filename") for file in listed if isinstance(file, dict)]
    files = [f"{folder}/{PurePosixPath(name).name}" for name in names if isinstance(name, str)]
    if not files or len(files) < len(listed) or state.get("_indices_data_files"):
        raise InputError(
            "The folder is not a data set written by save_to_disk.",
            where=folder,
            got="rows that are selected by an index" if files else "no data files",
            do="save it again with datasets 2.0 or later",
        )
    return files


def _json(path: str, absent: Any = _NEEDED) -> Any:
    """Return the content of a file, or `absent` if there is no file."""
    try:
        return json.loads(fetch_bytes(path))
    except FileNotFoundError as error:
        if absent is not _NEEDED:
            return absent
        raise _incomplete(path) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError("The file cannot be read as JSON.", where=path, got=first_line(error)) from error


def _incomplete(absent: str) -> InputError:
    folder, _, name = absent.rpartition("/")
    return InputError(
        "The folder is not a complete saved data set.",
        where=folder,
        got=f"no {name}",
        do="create or download it again",
    )


def _mapped(path: str) -> pa.Table:
    # Memory-mapped: the bytes of an image are read when it is decoded.
    try:
        mapped = pa.memory_map(path)
    except UnicodeEncodeError as error:  # half a character, which no file name has
        raise FileNotFoundError(path) from error
    with pa.ipc.open_stream(mapped) as stream:
        return stream.read_all()


def _checked(rows: Any) -> Any:
    """Return rows whose offsets lie in the file: Arrow ends the process when it reads others."""
    try:
        rows.validate(full=True)
    except UnicodeDecodeError as error:  # in Arrow's own message about what is no text
        raise pa.ArrowInvalid("a string is not UTF-8") from error
    return rows


def _streamed(file: str) -> Generator[pa.RecordBatch, None, None]:
    try:
        with open_stream(file) as raw, pa.ipc.open_stream(raw) as stream:
            yield from map(_checked, stream)
    except (pa.ArrowException, OSError) as error:
        raise _cut_off(file, error) from error


def _first(file: str) -> pa.Table:
    """Return the first rows of a remote file."""
    try:
        with contextlib.closing(_streamed(file)) as batches:
            first = next(batches, None)
    except SourceLostError as error:
        raise InputError("The file cannot be opened.", where=file, got=first_line(error)) from error
    if first is None:
        raise InputError("The table has no rows.", where=file)
    return pa.Table.from_batches([first])


def _listed(file: str) -> pa.Table:
    try:
        return _checked(_mapped(file))
    except FileNotFoundError as error:
        raise _incomplete(file) from error
    except (pa.ArrowException, OSError) as error:
        raise _cut_off(file, error) from error


def _cut_off(file: str, error: Exception) -> InputError:
    return InputError(
        "The data set is not complete.", where=file, got=first_line(error), do="create or download it again"
    )


def _settled(columns: Columns, table: pa.Table) -> Columns:
    """Return the columns, with the path in the struct only if it names images."""
    return replace(columns, by_path=has_paths(table, columns)) if columns.by_path else columns
