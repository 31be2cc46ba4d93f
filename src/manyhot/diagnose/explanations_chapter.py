"""The chapter of the report about explanations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from manyhot.registry import register
from manyhot.report.chapter import (
    MOST_IMAGES,
    Album,
    Chapter,
    Strip,
    Tables,
    listing,
    percent,
    picture,
    rows_of,
    with_ends,
)
from manyhot.report.listings import ColumnHead
from manyhot.tables import Row

_MEASURES = {
    "pointing": "Highest point on the object",
    "pointing_near": "On it or near",
    "pointing_other": "Highest point on an object of another class",
    "energy": "Share of the map on the object",
    "overlap": "Overlap with the object",
    "auroc": "AUROC of pixels",
}


@register("chapter", "explanations", tables=("maps", "localisation", "sanity"))
def explanations_chapter(named: Tables, folder: Path, draw: bool) -> Chapter | None:
    """Return where models look; None without the table ``maps``."""
    maps = rows_of(named, "maps")
    if not maps:
        return None
    lead = (
        "Where a network looks for a class: regions that support it are bright, the rest is dark. The amber "
        "line encloses values above half of the highest, the white line the object; the cross marks the "
        "highest point. Objects are often in the middle of photographs: a map is useful only as far as it is "
        "better than a spot there.",
    )
    heads = (
        ColumnHead("Measure", number=False),
        ColumnHead("Method", number=False),
        ColumnHead("Model", number=False),
        ColumnHead("Objects", number=False),
        ColumnHead("Value"),
        ColumnHead("Spot in the middle"),
        ColumnHead("By chance"),
        ColumnHead("Maps"),
    )
    made = [listing("localisation", "Are the maps on the objects?", heads, _places(named), _where)]
    checks = (
        ColumnHead("Compared with", number=False),
        ColumnHead("Method", number=False),
        ColumnHead("Model", number=False),
        ColumnHead("Rank correlation"),
        ColumnHead("Pairs"),
    )
    made.append(
        listing("sanity", "Do maps depend on what they should?", checks, rows_of(named, "sanity"), _check)
    )
    return Chapter(
        "explanations",
        "Explanations",
        "Where models look",
        lead,
        (),
        tuple(t for t in made if t.rows),
        tuple(_looks(maps, folder)),
    )


def _places(named: Tables) -> list[Row]:
    """Return how well maps point at objects; for single classes only the highest point."""
    rows = rows_of(named, "localisation")
    return [r for r in rows if r["slice"] in ("all", "difficult") or (r["metric"] == "pointing" and r["n"])]


_COMPARED = {"image": "another image", "class": "another class of the image"}


def _where(r: Row) -> tuple[str, ...]:
    return (
        str(_MEASURES.get(r["metric"], r["metric"])),
        r["method"],
        r["model"],
        r["slice"].removeprefix("class="),
        with_ends(r["value"], r["lo"], r["hi"]),
        percent(r["centre"]),
        percent(r["by_chance"]),
        f"{r['n']:,}",
    )


def _check(r: Row) -> tuple[str, ...]:
    shuffled = f"last {r['layers']} of {r['of_layers']} layers shuffled"
    ends = "" if r["lo"] is None else f" ({r['lo']:.2f} to {r['hi']:.2f})".replace("-", "−")
    against = str(_COMPARED.get(r["against"], shuffled))
    return against, r["method"], r["model"], f"{r['value']:.2f}{ends}", f"{r['n']:,}"


def _looks(maps: Sequence[Row], folder: Path) -> list[Album]:
    """Return the photographs with pictures of maps, the classes of each side by side."""
    images: dict[str, list[Row]] = {}
    for row in maps:
        if row.get("file"):
            images.setdefault(row["image_id"], []).append(row)
    strips = []
    several = sorted(images.items(), key=lambda item: -len(item[1]))
    for image_id, rows in several[:MOST_IMAGES]:
        photo = next((r["photo"] for r in rows if r.get("photo")), None)
        shown = [picture(folder, photo, "original")] if photo else []
        shown += [picture(folder, r["file"], r["class_name"], _score_of(r)) for r in rows]
        strips.append(Strip(image_id, tuple(shown)))
    rest = len(images) - len(strips)
    text = f"{rest:,} more are in the folder of this page." if rest else ""
    return [Album("looks", "Several labels of one image", text, tuple(strips))] if strips else []


def _score_of(r: Row) -> str:
    state = {"yes": ", in the label set", "no": ", not in the label set"}.get(r["state"] or "", "")
    return f"{r['score']:.2f}{state}"
