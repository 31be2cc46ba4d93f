"""Reading JSON that may be anything: what all JSON formats share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from manyhot.errors import InputError

HEAD = 4096
"""Bytes looked at to recognise a file."""


def head(path: Path) -> str:
    """Return the first `HEAD` bytes as text without white space around."""
    with path.open("rb") as file:
        return file.read(HEAD).decode("utf-8", "replace").strip()


def load(path: Path) -> Any:
    """Parse a JSON file.

    Raises
    ------
    InputError
        If it is truncated or no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            "The file is not complete JSON.", where=path, got=str(error), do="make or fetch it again"
        ) from error


def class_index(value: object, n_classes: int, where: str) -> int:
    """Return a class index given as an int or as digits.

    Raises
    ------
    InputError
        If it is neither, or out of range.
    """
    text = str(value)
    if isinstance(value, bool) or not text.isascii() or not text.isdigit() or int(text) >= n_classes:
        raise InputError(
            "This is not a class.", where=where, got=repr(value), allowed=f"0 to {n_classes - 1}"
        )
    return int(text)
