"""The parts of the page of diagnoses, each from its tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from manyhot.report.diagnosis import (
    MOST_PAIRS,
    Album,
    Chapter,
    Picture,
    Row,
    Strip,
    listing,
    percent,
    picture,
    with_ends,
)
from manyhot.report.figure import Figure
from manyhot.report.listings import Head, Listing
from manyhot.report.words import called, counted

Drawn = Mapping[str, Sequence[Figure]]


def build_chapters(found: Mapping[str, pa.Table], folder: Path, drawn: Drawn) -> tuple[Chapter, ...]:
    """Return the parts that there are tables for; `drawn` holds the figures of each."""
    builders = {
        "shortcuts": _shortcuts,
        "companions": _companions,
        "corruptions": _corruptions,
    }
    made = (build(found, folder, drawn.get(name, ())) for name, build in builders.items())
    return tuple(chapter for chapter in made if chapter is not None)


Found = Mapping[str, pa.Table]


def _rows(found: Found, name: str) -> list[Row]:
    return found[name].to_pylist() if name in found else []


FILLS = {"grey": "grey box", "inpaint": "inpainting"}


def _shortcuts(found: Found, folder: Path, figures: Sequence[Figure]) -> Chapter | None:
    if "shortcuts" not in found:
        return None
    rows = _rows(found, "shortcuts")
    tested = [r for r in rows if r["skipped"] is None]
    n = _pairs(r for r in tested if r["shortcut"])
    lead = (
        "A model leans on a shortcut where it no longer sees a class once another, its companion, is taken "
        "out of the picture. Whatever is done to a picture flips some predictions: what counts is how many "
        "more flip than when a region of the same shape is filled elsewhere.",
        f"{counted(_pairs(tested), 'pair')} of classes tested; {n or 'none'} {'is' if n == 1 else 'are'} "
        "beyond the threshold and beyond the control.",
    )
    return Chapter(
        "shortcuts",
        "Shortcuts",
        "Which predictions lean on what stands beside",
        lead,
        tuple(figures),
        tuple(_flip_tables(rows)),
        tuple(_albums(_rows(found, "shortcut_examples"), folder)),
    )


def _pairs(rows: Iterable[Row]) -> int:
    return len({(r["model"], r["main"], r["companion"]) for r in rows})


_FLIPS = (
    Head("Class", number=False),
    Head("Without", number=False),
    Head("Model", number=False),
    Head("By", number=False),
    Head("Images"),
    Head("Flip", title="Share whose prediction of the class is another without the companion"),
    Head("Control", title="The same where a region of that shape is filled elsewhere"),
    Head("More than control"),
    Head("Recall gap", title="Recall beside the companion less recall without it"),
    Head("Hallucination gap", title="False alarms beside the companion less those without it"),
    Head("AP", title="Average precision"),
    Head("AP, balanced", title="Were the companion as frequent with the class as without"),
    Head("Shortcut", number=False),
)


def _flip_tables(rows: Sequence[Row]) -> list[Listing]:
    tested = [r for r in rows if r["skipped"] is None]
    skipped = [r for r in rows if r["skipped"] is not None and r["fill"] == rows[0]["fill"]]
    made = []
    if tested:
        made.append(listing("pairs", "Pairs that were tested", _FLIPS, tested, _flip))
    if skipped:
        heads = (
            Head("Class", number=False),
            Head("Without", number=False),
            Head("Images with both"),
            Head("Why", number=False),
        )
        made.append(listing("untested", "Pairs that were not", heads, skipped, _skip, folded=True))
    return made


def _flip(r: Row) -> tuple[str, ...]:
    gaps = (with_ends(r[gap], r[f"{gap}_lo"], r[f"{gap}_hi"]) for gap in ("recall_gap", "hallucination_gap"))
    return (
        r["main_name"],
        r["companion_name"],
        r["model"],
        FILLS[r["fill"]],
        f"{r['n']:,}",
        with_ends(r["flips"], r["flips_lo"], r["flips_hi"]),
        with_ends(r["control"], r["control_lo"], r["control_hi"]),
        with_ends(r["more"], r["lo"], r["hi"]),
        *gaps,
        percent(r["ap"], 1),
        percent(r["ap_balanced"], 1),
        "yes" if r["shortcut"] else "",
    )


def _skip(r: Row) -> tuple[str, ...]:
    return r["main_name"], r["companion_name"], f"{r['both']:,}", r["skipped"]


def _albums(rows: Sequence[Row], folder: Path) -> list[Album]:
    """Return the pictures of each pair, as they are, without the companion, and the control."""
    pairs: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        pairs.setdefault((row["main_name"], row["companion_name"], row["fill"]), []).append(row)
    albums = []
    for i, ((main, companion, fill), own) in enumerate(list(pairs.items())[:MOST_PAIRS]):
        flipped = sum(r["flipped"] for r in own)
        text = (
            f"By {FILLS[fill]}. Of these {counted(len(own), 'image')} {flipped} flip; those are chosen first."
        )
        strips = tuple(_triple(r, folder) for r in own)
        albums.append(Album(f"pair-{i + 1}", f"{main} without {companion}", text, strips))
    return albums


def _triple(r: Row, folder: Path) -> Strip:
    def shown(column: str, score: str, title: str, told: bool | None) -> Picture | None:
        if r.get(column) is None:
            return None
        text = f"{r['main_name']} {r[score]:.2f}" if r[score] is not None else ""
        return picture(folder, r[column], title, text, "flipped" if told else "")

    pictures = (
        shown("before", "score_before", "as it is", None),
        shown("after", "score_after", f"without {r['companion_name']}", r["flipped"]),
        shown("control", "score_control", "control", r["flipped_control"]),
    )
    return Strip(r["image_id"], tuple(p for p in pictures if p is not None))


def _companions(found: Found, folder: Path, figures: Sequence[Figure]) -> Chapter | None:
    rows = _rows(found, "companions")
    if not rows:
        return None
    means = [r for r in rows if r["model"] is None] or rows
    heads = (
        Head("Class", number=False),
        Head("Companion", number=False),
        Head("Data set", number=False),
        Head("Images with both"),
        Head("Lift", title="How many times as often together as by chance"),
        Head("Recall with"),
        Head("Recall without"),
        Head("Difference"),
        Head("p adjusted"),
    )
    lead = (
        "How often a class is found where another is valid beside it, and where not. A difference does not "
        "prove that a model looks at the companion: pictures with it differ in other ways, too. It says what "
        "to test.",
    )
    table = listing("recall-by-companion", "Recall by companion", heads, means, _companion)
    return Chapter("companions", "Companions", "Whose recall hangs on what", lead, tuple(figures), (table,))


def _companion(r: Row) -> tuple[str, ...]:
    p = r["p_adjusted"]
    return (
        r["main_name"],
        r["companion_name"],
        called(r["dataset"]),
        f"{r['both']:,}",
        f"{r['lift']:,.1f}",
        percent(r["recall_with"]),
        percent(r["recall_without"]),
        with_ends(r["diff"], r["lo"], r["hi"]),
        "" if p is None or p != p else ("<0.001" if p < 0.001 else f"{p:.3f}"),
    )


def _corruptions(found: Found, folder: Path, figures: Sequence[Figure]) -> Chapter | None:
    losses = _rows(found, "losses")
    if not losses:
        return None
    whole = [r for r in losses if r["severity"] is None]
    heads = (
        Head("From", number=False),
        Head("To", number=False),
        Head("Model", number=False),
        Head("Metric", number=False),
        Head("Lost"),
        Head("Of it missing labels", title="1 less this loss over that of top-1"),
        Head("Images"),
    )
    lead = (
        "What accuracy is lost from one set of pictures to another, by the original label and by label sets. "
        "What the original label loses beyond label sets is labels that are missing, not a failure of the "
        "model.",
    )
    made = [listing("losses", "What is lost", heads, whole, _loss)] if whole else []
    errors = _rows(found, "corruption_errors")
    if errors:
        made.append(_errors(errors))
    return Chapter(
        "corruptions",
        "Robustness",
        "What is lost elsewhere, and to corruption",
        lead,
        tuple(figures),
        tuple(made),
    )


def _loss(r: Row) -> tuple[str, ...]:
    return (
        called(r["base"]),
        called(r["dataset"]) if r["kind"] is None else f"{called(r['dataset'])}, {r['kind']}",
        r["model"] or f"mean of {r['n_models']:,}",
        r["metric"],
        with_ends(r["loss"], r["lo"], r["hi"], 1),
        with_ends(r["share"], r["share_lo"], r["share_hi"]),
        f"{r['n']:,}",
    )


def _errors(rows: Sequence[Row]) -> Listing:
    heads = (
        Head("Kind", number=False),
        Head("Model", number=False),
        Head("Metric", number=False),
        Head("Mean error"),
        Head("Corruption error", title="Over that of the baseline; of all kinds: mCE"),
        Head("Relative"),
    )
    ordered = sorted(rows, key=lambda r: (r["kind"] is not None, r["kind"] or ""))
    return listing("corruption-errors", "Corruption errors", heads, ordered, _error)


def _error(r: Row) -> tuple[str, ...]:
    return (
        (r["kind"] or "mean of all").replace("_", " "),
        r["model"],
        r["metric"],
        with_ends(r["error"], r["error_lo"], r["error_hi"], 1),
        with_ends(r["ce"], r["ce_lo"], r["ce_hi"], 1),
        with_ends(r["relative"], r["relative_lo"], r["relative_hi"], 1),
    )
