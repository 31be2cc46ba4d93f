"""The chapter of the report about shortcuts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from manyhot import tables
from manyhot.diagnose.pixels.removal import FILL_NAMES
from manyhot.diagnose.shortcuts_result import MIN_LOST
from manyhot.registry import register
from manyhot.report.chapter import (
    MAX_PAIRS,
    Album,
    Chapter,
    Strip,
    StripPicture,
    Tables,
    in_points,
    listing,
    n_pairs,
    percent,
    picture,
    rows_of,
    testable,
    with_ends,
)
from manyhot.report.figure import Figure
from manyhot.report.listings import ColumnHead, Listing
from manyhot.report.text import counted
from manyhot.tables import Row


@register("chapter", "shortcuts", tables=("shortcuts", "shortcut_examples"))
def shortcuts_chapter(named: Tables, folder: Path, draw: bool) -> Chapter | None:
    """Return the chapter about reliance on companions; None without the table ``shortcuts``."""
    if "shortcuts" not in named:
        return None
    rows = rows_of(named, "shortcuts")
    altered = [r for r in rows if r["skipped"] is None]
    tested = [r for r in altered if testable(r)]
    n = n_pairs(r for r in tested if r["shortcut"])
    untestable = _untestable([r for r in altered if not testable(r)])
    lead = (
        "A model relies on a shortcut if it no longer recognises a class once another class, its companion, "
        "is taken out of the picture. Any change to a picture flips some predictions: what counts is how "
        "many more are lost than when a region of the same shape is filled elsewhere.",
        f"{counted(n_pairs(tested), 'pair')} of classes tested; {n or 'none'} {'is' if n == 1 else 'are'} "
        f"beyond the threshold and beyond the control.{untestable}",
    )
    return Chapter(
        "shortcuts",
        "Shortcuts",
        "Which predictions depend on what is beside the object",
        lead,
        tuple(_draw_shortcuts(named["shortcuts"])) if draw else (),
        tuple(_flip_tables(rows)),
        tuple(_albums(rows_of(named, "shortcut_examples"), folder)),
    )


def _untestable(rows: Sequence[Row]) -> str:
    """Return what was lost without controls to compare with."""
    if not rows:
        return ""
    n, lost = n_pairs(rows), percent(max(r["lost"] for r in rows))
    most = f"lost {lost} but has" if n == 1 else f"lost up to {lost} but have"
    return f" {counted(n, 'pair')} {most} no controls to compare with, for lack of room: not testable."


_FLIPS = (
    ColumnHead("Class", number=False),
    ColumnHead("Without", number=False),
    ColumnHead("Model", number=False),
    ColumnHead("By", number=False),
    ColumnHead("Images"),
    ColumnHead("Flip", title="Share whose prediction of the class changes without the companion"),
    ColumnHead("Lost", title="Share whose prediction of the class is lost without the companion"),
    ColumnHead("Control", title="The same where a region of that shape is filled elsewhere"),
    ColumnHead("More, points", title="Lost minus lost in the control"),
    ColumnHead("Recall gap, points", title="Recall beside the companion minus recall without it"),
    ColumnHead("Hallucination gap, points", title="False alarms beside the companion minus those without it"),
    ColumnHead("AP", title="Average precision"),
    ColumnHead("AP, balanced", title="If the companion were as frequent with the class as without"),
    ColumnHead("Shortcut", number=False),
)


def _flip_tables(rows: Sequence[Row]) -> list[Listing]:
    tested = [r for r in rows if r["skipped"] is None]
    skipped = [r for r in rows if r["skipped"] is not None and r["fill"] == rows[0]["fill"]]
    made = []
    if tested:
        made.append(listing("pairs", "Pairs that were tested", _FLIPS, tested, _flip))
    if skipped:
        heads = (
            ColumnHead("Class", number=False),
            ColumnHead("Without", number=False),
            ColumnHead("Images with both"),
            ColumnHead("Why", number=False),
        )
        made.append(listing("untested", "Pairs that were not", heads, skipped, _skip, folded=True))
    return made


def _flip(r: Row) -> tuple[str, ...]:
    gaps = (in_points(r[gap], r[f"{gap}_lo"], r[f"{gap}_hi"]) for gap in ("recall_gap", "hallucination_gap"))
    return (
        r["main_name"],
        r["companion_name"],
        r["model"],
        FILL_NAMES[r["fill"]].removeprefix("a "),
        f"{r['n']:,}",
        percent(r["flips"]),
        with_ends(r["lost"], r["lost_lo"], r["lost_hi"]),
        with_ends(r["control_lost"], r["control_lost_lo"], r["control_lost_hi"]),
        in_points(r["more"], r["lo"], r["hi"]),
        *gaps,
        percent(r["ap"], 1),
        percent(r["ap_balanced"], 1),
        "yes" if r["shortcut"] else "" if testable(r) else "not testable",
    )


def _skip(r: Row) -> tuple[str, ...]:
    return r["main_name"], r["companion_name"], f"{r['both']:,}", r["skipped"]


def _albums(rows: Sequence[Row], folder: Path) -> list[Album]:
    """Return the pictures of each pair: the original, without the companion, and the control."""
    pairs: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        pairs.setdefault((row["main_name"], row["companion_name"], row["fill"]), []).append(row)
    albums = []
    for i, ((main, companion, fill), own) in enumerate(list(pairs.items())[:MAX_PAIRS]):
        flipped = sum(r["flipped"] for r in own)
        images = counted(len(own), "image")
        text = f"By {FILL_NAMES[fill]}. {flipped} of these {images} flip; those are shown first."
        strips = tuple(_triple(r, folder) for r in own)
        albums.append(Album(f"pair-{i + 1}", f"{main} without {companion}", text, strips))
    return albums


def _triple(r: Row, folder: Path) -> Strip:
    def shown(column: str, score: str, title: str, flipped: bool | None) -> StripPicture | None:
        if r.get(column) is None:
            return None
        text = f"{r['main_name']} {r[score]:.2f}" if r[score] is not None else ""
        return picture(folder, r[column], title, text, "flipped" if flipped else "")

    pictures = (
        shown("before", "score_before", "as it is", None),
        shown("after", "score_after", f"without {r['companion_name']}", r["flipped"]),
        shown("control", "score_control", "control", r["flipped_control"]),
    )
    return Strip(r["image_id"], tuple(p for p in pictures if p is not None))


def _draw_shortcuts(table: pa.Table) -> list[Figure]:
    from manyhot.diagnose.figures import draw_shortcuts

    return draw_shortcuts(table, float(tables.metadata(table).get("threshold", MIN_LOST)))
