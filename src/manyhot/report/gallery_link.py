"""The gallery in the folder of a report, and the links into it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from manyhot.report.gallery_files import CALL, INDEX

FOLDER = "gallery"
"""Of the gallery, beside the page of the report."""

CONFIDENT = 0.9
"""Confidence above which a model is called confident; one that the gallery filters by."""


@dataclass(frozen=True, eq=False)
class GalleryLink:
    """What a report must know of its gallery.

    Attributes
    ----------
    title : str
        The data set that it shows.
    ids : frozenset of str
        Its images.
    counts : mapping of str to mapping of str to int
        For each model, of how many images its best class is what: see `manyhot.report.gallery.VERDICTS`.
    confident : mapping of str to mapping of str to int
        The same, where the model is surer than `CONFIDENT`.
    rated : bool
        Whether people went over the label set of any image.
    """

    title: str
    ids: frozenset[str]
    counts: Mapping[str, Mapping[str, int]]
    confident: Mapping[str, Mapping[str, int]]
    rated: bool

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, **filters: str) -> str:
        """Return the address of the gallery with these filters, as its own links have them."""
        told = urlencode(filters, quote_via=quote)
        return f"{FOLDER}/index.html" + (f"#{told}" if told else "")


def read_gallery_link(report: Path) -> GalleryLink | None:
    """Return what the gallery in the folder of a report tells; None where there is none."""
    folder = report / FOLDER
    try:
        text = (folder / INDEX).read_text(encoding="utf-8")
        told = json.loads(text.removeprefix(f"{CALL}index(").removesuffix(");\n"))
        link = GalleryLink(
            told["title"],
            frozenset(told["ids"]),
            _counts(told, 0),
            _counts(told, CONFIDENT * told["whole"]),
            any(told["known"]),
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return link if (folder / "index.html").is_file() else None


def _counts(told: Mapping[str, Any], above: float) -> dict[str, Counter[str]]:
    rows = list(zip(told["judged"], told["sure"], strict=True))
    return {
        model: Counter(
            told["verdicts"][int(judged[m])] for judged, sure in rows if not above or (sure[m] or 0) > above
        )
        for m, model in enumerate(told["models"])
    }
