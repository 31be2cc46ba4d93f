"""Compare two records of ``behaviour.py``: each column, key of JSON and text of a page, to the last digit."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

CHANGES = Path(__file__).with_name("behaviour_changes.toml")
TABLES = (".parquet", ".arrow")

Part = tuple[str, list[str]]
"""Of a column, of the values under a key of JSON, or of text: its type, where it has one, and its values."""


@dataclass(frozen=True)
class Difference:
    """What differs between two records, and where."""

    case: str
    file: str
    part: str
    text: str

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.case, self.file, self.part, self.text)))


@dataclass(frozen=True)
class Change:
    """Differences that are meant; see ``behaviour_changes.toml``."""

    reason: str
    case: str = "*"
    file: str = "*"
    part: str = "*"
    to: str = ""

    @classmethod
    def read(cls, path: Path = CHANGES) -> list[Change]:
        """Return all of the file."""
        return [cls(**row) for row in tomllib.loads(path.read_text(encoding="utf-8")).get("change", ())]

    def fits(self, *place: str) -> bool:
        """Whether it is about a case, a file and a part."""
        patterns = (self.case, self.file, self.part)
        return all(a == b or fnmatchcase(a, b) for a, b in zip(place, patterns, strict=True))


class Comparison:
    """The differences between two records, and which changes they belong to."""

    def __init__(self, old: Path, new: Path, changes: Sequence[Change]) -> None:
        self.old, self.new, self.changes = old, new, changes
        self.uses: Counter[Change] = Counter()
        self.notes: list[str] = []

    def differences(self, only: Sequence[str] = ()) -> Iterator[Difference]:
        """Yield what differs and is not meant."""
        for difference in self.compare(only):
            place = (difference.case, difference.file, difference.part)
            change = next((c for c in self.changes if not c.to and c.fits(*place)), None)
            if change is None:
                yield difference
            else:
                self.uses[change] += 1

    def compare(self, only: Sequence[str]) -> Iterator[Difference]:
        """Yield what differs."""
        old, new = (json.loads((f / "record.json").read_text(encoding="utf-8")) for f in (self.old, self.new))
        if others := old["machine"].items() ^ new["machine"].items():
            self.notes.append(f"other machines or versions: {sorted(others)}")
        cases = {path.name for folder in (self.old, self.new) for path in folder.iterdir() if path.is_dir()}
        for case in sorted(name for name in cases if fits(name, only)):
            if not (self.old / case).is_dir():
                self.notes.append(f"{case}: only in the new record, not compared")
            elif (self.new / case).is_dir():
                yield from self.compare_case(case)
            else:
                yield Difference(case, "", "", f"not recorded {new['left out'].get(case, '')}".strip())

    def compare_case(self, case: str) -> Iterator[Difference]:
        """Yield what differs in a case."""
        old, new = (
            {p.relative_to(folder / case).as_posix(): p for p in (folder / case).rglob("*") if p.is_file()}
            for folder in (self.old, self.new)
        )
        old = {self.renamed(case, name): path for name, path in old.items()}
        for file in sorted(old | new):
            if file not in new or file not in old:
                yield Difference(case, file, "", "is new" if file in new else "is no longer there")
            elif old[file].read_bytes() != new[file].read_bytes():
                before = read(old[file])
                parts = {self.renamed(case, file, part): before[part] for part in before}
                differences = [Difference(case, file, *d) for d in compare_parts(parts, read(new[file]))]
                if not differences and not file.endswith(TABLES):
                    differences = [Difference(case, file, "form", "the same values, written in another form")]
                yield from differences

    def renamed(self, case: str, file: str, part: str = "*") -> str:
        """Return the new name of a part or, without one, of a file."""
        for change in self.changes:
            if change.to and change.part == part and change.fits(case, file, part):
                self.uses[change] += 1
                return change.to
        return file if part == "*" else part


def compare_parts(old: Mapping[str, Part], new: Mapping[str, Part]) -> Iterator[tuple[str, str]]:
    """Yield the parts of a file that differ, and how."""
    for part in {**old, **new}:
        if part not in new or part not in old:
            yield part, "is new" if part in new else "is no longer there"
        elif old[part] != new[part]:
            yield part, describe(old[part], new[part])
    if set(old) == set(new) and list(old) != list(new):
        yield "order", f"{', '.join(old)} → {', '.join(new)}"


def describe(old: Part, new: Part, most: int = 3) -> str:
    """Say how two parts differ."""
    (old_type, before), (new_type, after) = old, new
    if old_type != new_type:
        return f"type {old_type} → {new_type}"
    if len(before) == len(after):
        places = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
        shown = [f"[{i}] {' → '.join(clipped(before[i], after[i]))}" for i in places[:most]]
        return f"{len(places)} of {len(before)} values: {'; '.join(shown)}"
    gone, come = Counter(before) - Counter(after), Counter(after) - Counter(before)
    shown = [f"{sign} {short(v)}" for sign, c in (("-", gone), ("+", come)) for v in list(c)[:most]]
    return f"{len(before)} → {len(after)} values: {'; '.join(shown)}"


def fits(name: str, only: Sequence[str]) -> bool:
    """Whether a case is asked for: by a pattern, or because none is given."""
    return not only or any(fnmatchcase(name, pattern) for pattern in only)


def short(text: str, most: int = 100) -> str:
    """Return a text, cut where it is long."""
    return text if len(text) <= most else f"{text[:most]}…"


def clipped(old: str, new: str) -> Iterator[str]:
    """Return two texts from shortly before the first character in which they differ."""
    same = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), 0)
    start = max(0, same - 30)
    return (short(f"…{text[start:]}" if start else text) for text in (old, new))


def read(path: Path) -> dict[str, Part]:
    """Return the parts of a recorded file."""
    if path.suffix in TABLES:
        table = read_table(path)
        return {c: (str(table[c].type), list(map(repr, table[c].to_pylist()))) for c in table.column_names}
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".csv":
        header, *rows = list(csv.reader(io.StringIO(text))) or [[]]
        return {c: ("", [row[i] if i < len(row) else "" for row in rows]) for i, c in enumerate(header)}
    if path.suffix == ".json":
        return leaves(json.loads(text))
    return Page.read(text) if path.suffix == ".html" else {"lines": ("", text.splitlines())}


def read_table(path: Path) -> pa.Table:
    """Read Parquet, or Arrow's file format."""
    if path.suffix == ".parquet" or path.read_bytes()[:4] == b"PAR1":
        return pq.ParquetFile(path).read()
    return pa.ipc.open_file(path.read_bytes()).read_all()


def leaves(value: Any, root: str = "") -> dict[str, Part]:
    """Return the values of JSON by their keys, those of a list together."""
    parts: dict[str, Part] = {}

    def walk(value: Any, key: str) -> None:
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                walk(inner, f"{key}.{name}" if key else name)
        elif isinstance(value, list) and value:
            for inner in value:
                walk(inner, f"{key}[]")
        else:
            parts.setdefault(key, ("", []))[1].append(repr(value))

    walk(value, root)
    return parts


class Page(html.parser.HTMLParser):
    """The text of a page that can be seen, the data of its figures, and the markup with scripts."""

    @classmethod
    def read(cls, text: str) -> dict[str, Part]:
        """Return the parts of a page."""
        page = cls()
        page.feed(text)
        page.close()
        return {"text": ("", page.text), **page.data, "markup": ("", page.markup)}

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.markup: list[str] = []
        self.data: dict[str, Part] = {}
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin an element; what scripts and styles hold cannot be seen."""
        self.markup.append(self.get_starttag_text() or tag)
        about = dict(attrs)
        if tag in ("script", "style"):
            self.inside = f"data {about.get('id')}" if "json" in (about.get("type") or "") else tag

    def handle_endtag(self, tag: str) -> None:
        """End it."""
        self.inside = ""

    def handle_data(self, data: str) -> None:
        """Keep what can be seen, data and the rest apart."""
        if self.inside.startswith("data "):
            self.data |= leaves(json.loads(data), self.inside)
        elif data.strip():
            (self.markup if self.inside else self.text).append(" ".join(data.split()))


def compare(old: Path, new: Path, changes: Sequence[Change], only: Sequence[str] = ()) -> int:
    """Print what differs between two records; return 1 where something does that is not meant."""
    comparison = Comparison(old, new, changes)
    n = 0
    for difference in comparison.differences(only):
        n += 1
        print(difference)
    for change in changes:
        place = ": ".join((change.case, change.file, change.part + (f" → {change.to}" if change.to else "")))
        uses = comparison.uses[change]
        if uses:
            print(f"meant, {uses}: {place}: {change.reason}")
        elif not only:
            print(f"stale, nothing differs there: {place}")
    for note in comparison.notes:
        print(f"note: {note}")
    print(f"{n} differences that are not meant" if n else "no difference that is not meant")
    return 1 if n else 0
