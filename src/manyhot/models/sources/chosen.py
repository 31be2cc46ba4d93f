"""Some images of a source."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from manyhot.models.sources.base import Item, Opener, Part, Source, digest


def chosen(source: Source, ids: Collection[str]) -> Source:
    """Return a source of some images alone, without the labels that it tells.

    Others are not read.
    """
    wanted = frozenset(ids)
    key = digest(sorted(wanted))
    return Source(source.uri, tuple(_ChosenPart(part, wanted, key) for part in source.parts))


@dataclass(frozen=True)
class _ChosenPart:
    part: Part
    wanted: frozenset[str]
    chosen: str

    @property
    def name(self) -> str:
        return self.part.name

    @property
    def n(self) -> int | None:
        return None  # only reading tells which are there

    def items(self) -> Iterator[tuple[Item, Opener]]:
        for item, read in self.part.items():
            if item.image_id in self.wanted:
                yield replace(item, label=None), read

    def key(self) -> str:
        return f"{self.part.key()} {self.chosen}"
