"""Tables of images, for Parquet and Hugging Face: the roles of their columns, and their rows as images."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import class_list
from manyhot.errors import InputError
from manyhot.files import is_utf8
from manyhot.formats.headers import class_name_column
from manyhot.formats.hugging_face import features_in, is_label_sets
from manyhot.predict.sources.image_labels import base_name, with_labels
from manyhot.predict.sources.remote import fetch_bytes
from manyhot.predict.sources.source import (
    ImageReader,
    ImageSource,
    Item,
    SourcePart,
    check_ids,
    part_names,
    reader_of,
    short_hash,
)
from manyhot.tables.image_ids import check_columns_once, normal_ids

IMAGE_COLUMNS = ("image", "img", "jpeg", "jpg", "png", "bytes", "content")
IMAGE_ID_COLUMNS = ("image_id", "file_name", "filename", "path", "id", "__key__")
LABEL_COLUMNS = ("wnid", "label", "class", "cls", "fine_label")
"""Names of columns, by preference."""


_AS_THEY_ARE = ("image_id", "id")
_SAME = 0.9
Label = str | int | None


@dataclass(frozen=True)
class Columns:
    """The roles of the columns of a table.

    Attributes
    ----------
    image : str
        The column of the images, as bytes or as structs of bytes and path.
    is_struct : bool
    id : str
        The column of the ids. Empty if the ids are the paths in the structs or the row numbers.
    by_path : bool
        Whether the ids are the paths in the structs.
    label : str
        Empty without labels.
    names : tuple of str
        The classes that numeric labels refer to. Empty if the numbers are the labels.
    whole : bool
        Whether ids are whole paths, because base names are not unique.
    sets : str
        The column of label sets, which is not read. Empty if there is none.
    """

    image: str
    is_struct: bool
    id: str
    by_path: bool
    label: str
    names: tuple[str, ...]
    whole: bool = False
    sets: str = ""

    def without_bytes(self) -> list[str]:
        """Return the columns to read for ids and labels."""
        path = [f"{self.image}.path"] if self.by_path else []
        return list(dict.fromkeys(name for name in (self.id, *path, self.label) if name))

    def all(self) -> list[str]:
        """Return the columns to read."""
        return list(dict.fromkeys(name for name in (self.image, self.id, self.label) if name))


def find_columns(schema: pa.Schema, features: Mapping[str, Any], where: object) -> Columns:
    """Return the roles of the columns, inferred from their types and names.

    Parameters
    ----------
    schema : pyarrow.Schema
    features : Mapping
        Hugging Face's description of the columns; see `features_of`.
    where : object
        For messages.

    Raises
    ------
    InputError
        If no column contains images, if several columns could, or if two columns have the same name.
    """
    check_columns_once(schema.names, where)
    image = _image_column(schema, where)
    kind = schema.field(image).type
    is_struct = pa.types.is_struct(kind)
    by_name = [
        name for name in IMAGE_ID_COLUMNS if name in schema.names and _is_plain(schema.field(name).type)
    ]
    label = _label_column(schema, features)
    classes = _class_names(features.get(label))
    has_path = is_struct and kind.get_field_index("path") >= 0
    sets = class_name_column([field.name for field in schema if _is_list(field.type)]) or next(
        (name for name in schema.names if is_label_sets(features.get(name))), ""
    )
    name = by_name[0] if by_name else ""
    return Columns(image, is_struct, name, has_path and not by_name, label, classes, sets=sets)


def features_of(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """Return Hugging Face's description of the columns of a schema; empty if there is none."""
    try:
        content = json.loads((metadata or {}).get(b"huggingface", b"{}"))
    except (ValueError, RecursionError):
        return {}
    return features_in(content)


@dataclass(frozen=True)
class RowPosition:
    """Rows of a table.

    Attributes
    ----------
    file : str
        Its path, address or name.
    stem : str
        The prefix of ids that are made of row numbers.
    first : int
        The number of the first row in the file.
    """

    file: str
    stem: str
    first: int


def row_images(
    batches: Iterable[pa.RecordBatch | pa.Table],
    columns: Columns,
    place: RowPosition,
    *,
    external: bool = False,
) -> Iterator[tuple[Item, ImageReader]]:
    """Yield each row as an image with a function that reads it.

    Parameters
    ----------
    batches : iterable of pyarrow.RecordBatch or pyarrow.Table
        With the columns of `Columns.all`.
    columns : Columns
    place : RowPosition
    external : bool
        Whether a path without bytes refers to a file, as in data sets made from folders.

    Raises
    ------
    InputError
        If an image has no id.
    """
    at = place.first
    for batch in batches:
        here = replace(place, first=at)
        ids, labels = ids_and_labels(batch, columns, here)
        for i, read in enumerate(_openers(batch[columns.image], columns, external)):
            yield Item(ids[i], f"{place.file}#{at + i}", labels[i]), read
        at += len(batch)


def ids_and_labels(
    table: pa.RecordBatch | pa.Table, columns: Columns, place: RowPosition
) -> tuple[list[str], list[Label]]:
    """Return the ids and the labels of rows.

    Raises
    ------
    InputError
        If an image has no id, or a label is out of range.
    """
    return _ids(table, columns, place), _labels(table, columns, place)


@dataclass(frozen=True)
class RowBlock:
    """Rows that become a part.

    Attributes
    ----------
    place : RowPosition
    ids : list of str
    labels : list of str or int or None
    part : SourcePart
        The part without its name. A text that differs if ids or labels differ is added to its mark.
    """

    place: RowPosition
    ids: list[str]
    labels: list[Label]
    part: Any


def source_of(
    where: str,
    columns: Columns,
    blocks_of: Callable[[Columns], Sequence[RowBlock]],
    labels: Mapping[str, str] | None,
    *,
    strict: bool,
) -> ImageSource:
    """Return the source of some rows.

    Parameters
    ----------
    where : str
        For messages.
    columns : Columns
    blocks_of : callable
        Returns the rows as parts. It is called again if the base names of images are not unique.
    labels : Mapping of str to str, optional
        Label of each image by id.
    strict : bool
        See `ImageSource`.

    Raises
    ------
    InputError
        If there are no rows, if two images have the same id, or if none of the labels belongs to an image.
    """
    blocks = blocks_of(columns)
    if not blocks:
        raise InputError("The table has no rows.", where=where)
    ids = [name for block in blocks for name in block.ids]
    if len(set(ids)) < len(ids):
        blocks = blocks_of(replace(columns, whole=True))
        ids = [name for block in blocks for name in block.ids]
    places = functools.partial(_place_of, blocks)
    check_ids(
        ids, where, places, do=f"add a column {IMAGE_ID_COLUMNS[0]!r}, or run predict on each file separately"
    )
    parts = tuple(map(_named_part, part_names(len(blocks)), blocks))
    return with_labels(ImageSource(where, parts, strict=strict), labels, [block.ids for block in blocks])


def _named_part(name: str, block: RowBlock) -> SourcePart:
    mark = short_hash(f"{image} {label}" for image, label in zip(block.ids, block.labels, strict=True))
    part: SourcePart = replace(block.part, name=name, mark=f"{block.part.mark} {mark}".lstrip())
    return part


def has_paths(table: pa.Table, columns: Columns) -> bool:
    """Return whether the structs contain the path of any image."""
    paths = pc.struct_field(table[columns.image], "path")
    return bool(len(paths) > paths.null_count)


def _place_of(blocks: Sequence[RowBlock], position: int) -> str:
    for block in blocks:
        if position < len(block.ids):
            return f"{block.place.file}#{block.place.first + position}"
        position -= len(block.ids)
    raise IndexError(position)


def _image_column(schema: pa.Schema, where: object) -> str:
    # Arrow cannot select the paths in a column without a name.
    found: list[str] = [field.name for field in schema if field.name and _is_image(field.type)]
    if not found:
        raise InputError(
            "No column contains images.",
            where=where,
            got=", ".join(schema.names),
            allowed="a column of bytes, or of structs of bytes and path",
        )
    best = [name for wanted in IMAGE_COLUMNS for name in found if name.lower() == wanted]
    if len(found) > 1 and not best:
        raise InputError(
            "Several columns may contain the images.",
            where=where,
            got=", ".join(found),
            allowed="one column of bytes, or one named " + ", ".join(IMAGE_COLUMNS),
            do="rename one of them, or remove all but one",
        )
    return best[0] if best else found[0]


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _is_bytes(kind.field(at).type)
    return _is_bytes(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _is_plain(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return bool(text or pa.types.is_integer(kind))


def _is_list(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return bool(is_list and _is_plain(kind.value_type))


def _label_column(schema: pa.Schema, features: Mapping[str, Any]) -> str:
    plain = [field.name for field in schema if _is_plain(field.type)]
    found = [name for name in LABEL_COLUMNS if name in plain]
    classes = [name for name in plain if _class_names(features.get(name))]
    if found:
        return found[0]
    return classes[0] if len(classes) == 1 else ""


def _class_names(feature: Any) -> tuple[str, ...]:
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return ()
    names = tuple(map(str, found)) if isinstance(found := feature.get("names"), list) else ()
    return imagenet_keys(names) if all(map(is_utf8, names)) else ()


@functools.cache
def imagenet_keys(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return WordNet ids if the names are ImageNet's: two of its classes are called ``crane``."""
    known = class_list()
    if len(names) != len(known):
        return names
    firsts = [name.partition(",")[0].lower() for name in names]
    pairs = zip(firsts, known.names, known.synonyms, strict=True)
    same = sum(first in {text.lower() for text in (name, *synonyms)} for first, name, synonyms in pairs)
    return known.keys if same >= _SAME * len(known) else names


def _ids(table: pa.RecordBatch | pa.Table, columns: Columns, place: RowPosition) -> list[str]:
    if not columns.id and not columns.by_path:
        return [f"{place.stem}-{place.first + i:06}" for i in range(len(table))]
    column = table[columns.id] if columns.id else pc.struct_field(table[columns.image], "path")
    found = _texts(column, place, columns.id or f"{columns.image}.path")
    for i, name in enumerate(found):
        if not name:
            raise InputError(
                "An image has no id.",
                where=f"{place.file}#{place.first + i}",
                got=f"no value in column {columns.id or columns.image + '.path'}",
            )
    texts = [str(name) for name in found]
    if columns.id in _AS_THEY_ARE:
        return texts
    paths: list[str] = normal_ids(pa.array(texts, pa.string())).to_pylist()
    return paths if columns.whole else [base_name(path) for path in paths]


def _labels(table: pa.RecordBatch | pa.Table, columns: Columns, place: RowPosition) -> list[Label]:
    if not columns.label:
        return [None] * len(table)
    column = table[columns.label]
    values = column.to_pylist() if _is_number(column.type) else _texts(column, place, columns.label)
    return [_label(value, columns, place) for value in values]


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind.value_type if pa.types.is_dictionary(kind) else kind))


def _texts(column: pa.Array | pa.ChunkedArray, place: RowPosition, name: str) -> list[str | None]:
    """Return a column as texts; Arrow does not check that they are UTF-8."""
    texts = column.cast(pa.string())
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid as error:
        raise InputError(
            "A string is not UTF-8.",
            where=f"{place.file}, column {name}",
            got=str(error).rpartition(": ")[2],
            do="create it again",
        ) from error
    found: list[str | None] = texts.to_pylist()
    return found


def _label(value: str | int | None, columns: Columns, place: RowPosition) -> Label:
    # -1 stands for an image without a label in test sets.
    if value is None or value == "" or (isinstance(value, int) and value < 0):
        return None
    if not columns.names or isinstance(value, str):
        return value
    if value >= len(columns.names):
        raise InputError(
            "A label is out of range.",
            where=f"{place.file}, column {columns.label}",
            got=value,
            allowed=f"0 to {len(columns.names) - 1}",
        )
    return columns.names[int(value)]


def _openers(column: pa.Array | pa.ChunkedArray, columns: Columns, external: bool) -> Iterator[ImageReader]:
    values = pc.struct_field(column, "bytes") if columns.is_struct else column
    has_path = columns.is_struct and column.type.get_field_index("path") >= 0
    paths = pc.struct_field(column, "path").to_pylist() if external and has_path else [None] * len(column)
    for value, path in zip(values, paths, strict=True):
        content = value.as_py()
        yield functools.partial(fetch_bytes, path) if path and content is None else reader_of(content or b"")
