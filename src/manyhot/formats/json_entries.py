"""The entries of images in JSON and JSON lines: the name of an image, and its classes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

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

PRODIGY_ANSWERS = ("accept", "reject", "ignore")


def has_label_lists(start: str) -> bool:
    """Return whether JSON that begins with this text lists the classes of images."""
    if re.match(r"\[?\s*\{", start) is None:
        return False
    keys = {fold_name(key) for key in JSON_KEY.findall(start)}
    if keys & set(IMAGE_NAME_COLUMNS) and keys & set(CLASS_NAME_COLUMNS):
        return not keys & _OTHER_KEYS
    return _ENTRY.match(start) is not None


def classes_by_image(path: Path, among: Sequence[str]) -> Iterator[tuple[str, Any, str, str]]:
    """Yield the name, the classes, the place and Prodigy's answer of each entry of a file."""
    start = head(path)
    if path.suffix.lower() == ".jsonl" or (start.startswith("{") and re.search(r"\}\s*\n\s*\{", start)):
        lines = enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1)
        for number, line in lines:
            if line.strip():
                where = f"{path}, line {number}"
                yield _entry(parse_json(line, where), where, among)
        return
    content = load_json(path)
    keys = content if isinstance(content, dict) else ()
    if keys and None in (image_name_column(keys), class_name_column(keys, among)):
        for image, value in content.items():
            yield image, value, f"{path}, image {cut_for_message(image)}", ""
        return
    for i, entry in enumerate(_entries(content, path, among)):
        yield _entry(entry, f"{path}, entry {i}", among)


def states_by_prodigy(path: Path) -> tuple[pl.DataFrame, int] | None:
    """Return Prodigy's answers about one class per entry in the columns of a labels table; None without them.

    *accept* is yes, and *reject* no. Entries that were ignored are left out; their number is also returned.

    Raises
    ------
    InputError
        If a class of an image was accepted and rejected.
    """
    if "answer" not in JSON_KEY.findall(head(path)):
        return None
    rows = [*classes_by_image(path, CLASS_NAME_COLUMNS)]
    if not all(isinstance(name, str) and answer for _, name, _, answer in rows):
        return None
    counted, states = [row for row in rows if row[3] != "ignore"], dict[tuple[str, str], str]()
    for image, name, where, answer in counted:
        if states.setdefault((image, name.strip()), answer) != answer:
            raise InputError(
                "A class of an image is both accepted and rejected.",
                where=where,
                got=f"{cut_for_message(name)} of {cut_for_message(image)}",
                allowed="one answer about each class of an image",
                do="remove the other answer; to decide between raters, write a table with the columns "
                "image_id, class_id, rater_id and answer (yes or no) for manyhot aggregate",
            )
    columns = {
        "image_id": [image for image, _ in states],
        "class_id": [name for _, name in states],
        "state": ["yes" if answer == "accept" else "no" for answer in states.values()],
    }
    return pl.DataFrame(columns, dict.fromkeys(columns, pl.String)), len(rows) - len(counted)


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


def _entry(entry: Any, where: str, among: Sequence[str]) -> tuple[str, Any, str, str]:
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
    answer = entry.get("answer")
    return str(entry[ids]), entry[label], where, answer if answer in PRODIGY_ANSWERS else ""
