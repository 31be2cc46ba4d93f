"""The entries of images in JSON and JSON lines: the name of an image, and its classes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from manyhot.errors import InputError
from manyhot.formats.headers import (
    CLASS_NAME_COLUMNS,
    IMAGE_NAME_COLUMNS,
    class_name_column,
    fold_name,
    image_name_column,
)
from manyhot.formats.predicted_classes import SCORE_COLUMNS
from manyhot.formats.reading import JSON_KEY, cut_for_message, head, load_json, parse_json
from manyhot.tables.rounded_ids import check_no_decimals

_ENTRY = re.compile(r'\{\s*"(?:[^"\\]|\\.)*"\s*:\s*(\[\s*("|\]|-?\d)|")')
"""The beginning of an object of names by image."""

_OTHER_KEYS = frozenset(
    (
        "annotations",
        "predictions",
        "completed_by",
        "annotation_id",
        "data",
        "samples",
        "index",
        *SCORE_COLUMNS,
    )
)


def has_label_lists(start: str) -> bool:
    """Return whether JSON that begins with this text lists the classes of images."""
    if re.match(r"\[?\s*\{", start) is None:
        return False
    keys = {fold_name(key) for key in JSON_KEY.findall(start)}
    if keys & set(IMAGE_NAME_COLUMNS) and keys & set(CLASS_NAME_COLUMNS):
        return not keys & _OTHER_KEYS
    return _ENTRY.match(start) is not None


def classes_by_image(path: Path, among: Sequence[str]) -> Iterator[tuple[str, Any, str]]:
    """Yield the name, the classes and the place of each image of a file."""
    start = head(path)
    if path.suffix.lower() == ".jsonl" or (start.startswith("{") and re.search(r"\}\s*\n\s*\{", start)):
        lines = enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1)
        for number, line in lines:
            if line.strip():
                where = f"{path}, line {number}"
                yield (*_entry(parse_json(line, where), where, among), where)
        return
    content = load_json(path)
    keys = content if isinstance(content, dict) else ()
    if keys and None in (image_name_column(keys), class_name_column(keys, among)):
        for image, value in content.items():
            yield image, value, f"{path}, image {cut_for_message(image)}"
        return
    for i, entry in enumerate(_entries(content, path, among)):
        where = f"{path}, entry {i}"
        yield (*_entry(entry, where, among), where)


def _entries(content: Any, path: Path, among: Sequence[str]) -> list[Any]:
    """Return the entries of a list, of a single object, or of an object with a list per column."""
    if isinstance(content, list):
        return content
    ids, label = image_name_column(content), class_name_column(content, among)
    columns = [content.get(ids), content.get(label)]
    if not all(isinstance(column, list) for column in columns) or isinstance(content[ids], str):
        return [content]
    if len(columns[0]) != len(columns[1]):
        raise InputError(
            "The lists of images and classes differ in length.",
            where=path,
            got=f"{len(columns[0]):,} and {len(columns[1]):,}",
        )
    return [{ids: image, label: value} for image, value in zip(*columns, strict=True)]


def _entry(entry: Any, where: str, among: Sequence[str]) -> tuple[str, Any]:
    keys = list(entry) if isinstance(entry, dict) else []
    ids, label = image_name_column(keys), class_name_column(keys, among)
    check_no_decimals(None if ids is None else entry[ids], where)
    if ids is None or label is None or not isinstance(entry[ids], str | int):
        raise InputError(
            "The entry does not contain the name and the classes of an image.",
            where=where,
            got=cut_for_message(", ".join(keys) if keys else repr(entry)),
            allowed='an object such as {"image": "a.jpg", "labels": ["cat"]}',
        )
    return str(entry[ids]), entry[label]
