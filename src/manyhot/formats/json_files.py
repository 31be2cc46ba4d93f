"""Reading JSON that may be anything: what all JSON formats share."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from manyhot.errors import InputError

HEAD = 4096
"""Bytes looked at to recognise a file."""

_DIGITS = 38
# As many as fit 128 bits. Python itself stops at 4,300 digits, with an error of its own.

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def head(path: Path) -> str:
    """Return the first `HEAD` bytes as text without white space around."""
    with path.open("rb") as file:
        return file.read(HEAD).decode("utf-8", "replace").strip()


def load(path: Path) -> Any:
    """Parse a JSON file; raises as `parse`."""
    return parse(path.read_bytes(), path)


def parse(content: str | bytes, where: object) -> Any:
    """Parse JSON strictly.

    Raises
    ------
    InputError
        If it is truncated or no JSON, an object holds a key twice, a number is too long to be one, or a text
        holds half a character.
    """
    try:
        # Strictly: json.loads itself lets lone surrogates through.
        text = content if isinstance(content, str) else content.decode(json.detect_encoding(content))
        found = json.loads(text, object_pairs_hook=_each_once(where), parse_int=_whole_number(where))
        if _SURROGATE.search(text):
            _check_characters(found, where)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            "The file is not complete JSON.", where=where, got=str(error), do="make or fetch it again"
        ) from error
    return found


def _each_once(where: object) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise InputError(
                "The JSON holds a key twice.",
                where=where,
                got=cut(repr(twice)),
                allowed="each key once",
                do="make it again, or keep one of the two",
            )
        return found

    return build


def _whole_number(where: object) -> Callable[[str], int]:
    def read(digits: str) -> int:
        if len(digits) > _DIGITS:
            raise InputError(
                "A number is too long.",
                where=where,
                got=f"{digits[:12]}… of {len(digits):,} digits",
                allowed=f"up to {_DIGITS} digits",
            )
        return int(digits)

    return read


def _check_characters(found: Any, where: object) -> None:
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            "A text holds half a character (a lone surrogate).",
            where=where,
            got=repr(error.object[max(0, error.start - 20) : error.start + 20]),
            allowed="whole characters, which UTF-8 can hold",
            do="make or fetch it again",
        ) from error


def cut(text: str, width: int = 80) -> str:
    """Return a text for a message, at most `width` characters long."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def class_index(value: object, n_classes: int, where: str) -> int:
    """Return a class index given as an int or as digits.

    Raises
    ------
    InputError
        If it is neither, or out of range.
    """
    text = value if isinstance(value, str) else str(value)
    digits = (text.lstrip("0") or "0") if text.isascii() and text.isdigit() else ""
    if isinstance(value, bool) or not 0 < len(digits) < 10 or int(digits) >= n_classes:
        raise InputError(
            "This is not a class.", where=where, got=cut(repr(value)), allowed=f"0 to {n_classes - 1}"
        )
    return int(digits)
