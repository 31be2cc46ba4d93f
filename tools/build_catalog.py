"""Complete `src/manyhot/data/catalog.json` from the published bytes.

::

    python tools/build_catalog.py MIRROR           # write
    python tools/build_catalog.py MIRROR --check   # only say whether anything would change

MIRROR is a folder or a zip archive in which the entry ``<host>/<path>`` holds the bytes of
``https://<host>/<path>``. The catalogue's words and addresses are written by hand; this adds sizes and
checksums. To catalogue a new file, append ``["name"]`` to the files of a source, or ``["*.npy"]`` for all
such files there. A pinned address whose bytes changed is an error: remove its record to accept them.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CATALOG = Path(__file__).parents[1] / "src" / "manyhot" / "data" / "catalog.json"

Record = list[Any]
"""``[path, size, sha256]``, with an object of flags behind where there are any."""


@dataclass(frozen=True)
class Mirror:
    """The published bytes by address."""

    addresses: list[str]
    read: Callable[[str], bytes]


def open_mirror(place: Path) -> Mirror:
    if place.is_dir():
        found = sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
        return Mirror(found, lambda address: (place / address).read_bytes())
    with zipfile.ZipFile(place) as archive:
        found = sorted(name for name in archive.namelist() if not name.endswith("/"))

    def read(address: str) -> bytes:
        with zipfile.ZipFile(place) as archive:
            return archive.read(address)

    return Mirror(found, read)


def complete(catalog: dict[str, Any], mirror: Mirror) -> dict[str, Any]:
    return catalog | {"entries": [_complete_entry(entry, mirror) for entry in catalog["entries"]]}


def _complete_entry(entry: dict[str, Any], mirror: Mirror) -> dict[str, Any]:
    if {"package", "by_hand", "elsewhere"} & set(entry):  # its files are not in a mirror
        return entry
    sources = [
        source | {"files": _complete_files(source["base"], source["files"], mirror)}
        for source in entry["sources"]
    ]
    return entry | {"sources": sources}


def _complete_files(base: str, records: list[Record], mirror: Mirror) -> list[Record]:
    known: dict[str, Record] = {}
    for record in records:
        for path in _expand(base, record[0], mirror):
            known[path] = known.get(path) or [path, *record[1:]]
    return sorted((_complete_record(base, record, mirror) for record in known.values()), key=lambda r: r[0])


def _expand(base: str, pattern: str, mirror: Mirror) -> list[str]:
    if "*" not in pattern:
        return [pattern]
    start = base.removeprefix("https://")
    here = [address.removeprefix(start) for address in mirror.addresses if address.startswith(start)]
    return [path for path in fnmatch.filter(here, pattern) if "/" not in path]


def _complete_record(base: str, record: Record, mirror: Mirror) -> Record:
    path, *known = record
    flags = [part for part in known if isinstance(part, dict)]
    pinned = [part for part in known if not isinstance(part, dict)]
    address = (base + path).removeprefix("https://")
    if address not in mirror.addresses:
        raise SystemExit(f"{address} is not in the mirror.")
    content = mirror.read(address)
    found = [len(content), hashlib.sha256(content).hexdigest()]
    if pinned and pinned != found:
        raise SystemExit(f"{address} has changed: {pinned} is catalogued, {found} is in the mirror.")
    return [path, *found, *flags]


def dump(catalog: dict[str, Any]) -> str:
    """Return the catalogue as JSON with one line a file, so that a change shows as one line."""
    held: list[str] = []

    def hold(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: [_hold_line(r, held) for r in v] if key == "files" else hold(v)
                for key, v in value.items()
            }
        return [hold(each) for each in value] if isinstance(value, list) else value

    text = json.dumps(hold(catalog), ensure_ascii=False, indent=1)
    for number, line in enumerate(held):
        text = text.replace(f'"\\u0000{number}\\u0000"', line, 1)
    return text + "\n"


def _hold_line(record: Record, held: list[str]) -> str:
    held.append(json.dumps(record, ensure_ascii=False))
    return f"\0{len(held) - 1}\0"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Complete the catalogue's sizes and checksums from a mirror."
    )
    parser.add_argument("mirror", type=Path)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if something would change"
    )
    parser.add_argument("--catalog", type=Path, default=CATALOG)
    chosen = parser.parse_args(arguments)
    before = chosen.catalog.read_text(encoding="utf-8")
    after = dump(complete(json.loads(before), open_mirror(chosen.mirror)))
    if chosen.check:
        print("up to date" if after == before else "out of date")
        return int(after != before)
    chosen.catalog.write_text(after, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
