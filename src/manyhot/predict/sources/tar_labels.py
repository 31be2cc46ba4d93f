"""Labels beside the images of a tar archive, and in its name."""

from __future__ import annotations

import json
import re
import tarfile
from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

from manyhot.errors import InputError
from manyhot.files import is_utf8
from manyhot.formats.headers import class_name_column

_KEYS = ("wnid", "label", "cls", "class", "fine_label", "class_id")
"""Keys of labels in the JSON beside an image, by preference."""

Member = tuple[tarfile.TarInfo, bytes | None]
"""A member of an archive, and its content if it was read."""


def stem_of(member: Member) -> str:
    """Return the name of a member without its last extension."""
    return member[0].name.rpartition(".")[0]


class MembersBeside:
    """The members of a sample that are not images, sorted by name for fast look-up among thousands."""

    def __init__(self, members: Iterable[Member]) -> None:
        self.all = list(members)
        self._ordered = sorted(self.all, key=stem_of)
        self._stems = [stem_of(member) for member in self._ordered]
        self._lengths = sorted({len(stem) for stem in self._stems})

    def of(self, image: str) -> list[Member]:
        """Return the members that may label an image, best first: 7.cls for 7.seg.jpg, but not 8.cls."""
        own = image.rpartition(".")[0]
        shorter = [own[:n] for n in self._lengths if f"{own}."[n : n + 1] == "."]
        found = [m for stem in shorter for m in self._between(stem, f"{stem}\0")]
        found += self._between(f"{own}.", f"{own}/")  # "/" follows "." among characters
        return sorted(found, key=lambda m: (abs(len(stem_of(m)) - len(own)), m[0].name))

    def _between(self, first: str, end: str) -> list[Member]:
        return self._ordered[bisect_left(self._stems, first) : bisect_left(self._stems, end)]


def class_of_archive(archive: str) -> str | None:
    """Return the WordNet id in an archive's name, as in ImageNet's archives per class; None for numbers."""
    found = re.fullmatch(r"(n\d{8})\.t.*", archive.rpartition("/")[2])
    return found[1] if found else None


def label_beside(archive: str, members: Iterable[Member]) -> str | None:
    """Return the first label in the members of a sample."""
    for member, data in members:
        ending = member.name.lower().rpartition(".")[2]
        if data is not None and ending in ("cls", "json"):
            place = f"{archive}/{member.name}"
            text = _text(data, place)
            label = text if ending == "cls" else _in_json(text, place)
            if label is not None:
                return label or None
    return None


def key_of_label_sets(data: bytes) -> str:
    """Return the key of a list of classes in JSON; empty if there is none."""
    try:
        content: Any = json.loads(data)
    except (ValueError, RecursionError):
        return ""
    lists = [k for k, v in content.items() if isinstance(v, list)] if isinstance(content, dict) else []
    return class_name_column(lists) or ""


def _text(data: bytes, place: str) -> str:
    try:
        return data.decode().strip()
    except UnicodeDecodeError as error:
        raise InputError("A label is not text.", where=place, got=str(error), allowed="UTF-8") from error


def _in_json(text: str, place: str) -> str | None:
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError("This is not JSON.", where=place, got=str(error)) from error
    if isinstance(content, int) and not isinstance(content, bool):
        return str(content)
    values = (content.get(key) for key in _KEYS) if isinstance(content, dict) else ()
    label = next((str(v) for v in values if isinstance(v, str | int) and not isinstance(v, bool)), None)
    if label is not None and not is_utf8(label):
        raise InputError("A label is not text.", where=place, got=repr(label), allowed="UTF-8")
    return label
