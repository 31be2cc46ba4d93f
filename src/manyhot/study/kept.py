"""What is done already: a file in each folder tells what its parts were made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from manyhot.files import sha256, write_text

Parts = Mapping[str, Any]
"""What something is made from; it is made anew when one of them changes."""


@dataclass
class Kept:
    """What was made in a folder, and from what.

    Attributes
    ----------
    path : Path
        A JSON file.
    made : dict
        By name: the parts it was made from, seconds that it took, and what else is to be known.
    """

    path: Path
    made: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Kept:
        """Return what a file tells; nothing where there is none, or where it is broken."""
        try:
            made = json.loads(path.read_text(encoding="utf-8"))
            return cls(path, {name: dict(told) for name, told in made.items()})
        except (OSError, ValueError, AttributeError, TypeError):
            return cls(path)

    def changed(self, name: str, parts: Parts) -> tuple[str, ...] | None:
        """Return which parts changed since something was made; None where it was not."""
        if name not in self.made:
            return None
        before = self.made[name]["parts"]
        now = json.loads(json.dumps(parts))
        return tuple(sorted(p for p in {*before, *now} if before.get(p) != now.get(p)))

    def note(self, name: str, parts: Parts, **told: Any) -> None:
        """Write down that something was made."""
        self.made[name] = {"parts": dict(parts), **told}
        self._write()

    def forget(self, *names: str) -> None:
        """Write down that something is made no more."""
        for name in names:
            self.made.pop(name, None)
        self._write()

    def _write(self) -> None:
        write_text(self.path, json.dumps(self.made, indent=1, sort_keys=True) + "\n")


def folder_digest(folder: Path) -> str:
    """Return a hash of the names and the bytes of all files in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    text = "".join(f"{path.relative_to(folder).as_posix()} {sha256(path)}\n" for path in files)
    return hashlib.sha256(text.encode()).hexdigest()
