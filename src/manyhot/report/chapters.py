"""The parts of the page of diagnoses, each from its tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from manyhot import tables
from manyhot.registry import get, names, register
from manyhot.report.diagnosis import (
    MOST_IMAGES,
    MOST_PAIRS,
    Album,
    Chapter,
    Picture,
    Row,
    Strip,
    in_points,
    listing,
    percent,
    picture,
    testable,
    with_ends,
)
from manyhot.report.figure import Figure
from manyhot.report.listings import Head, Listing
from manyhot.report.words import called, counted

THRESHOLD = 0.4
"""Of flips, where the table does not tell it."""


def build_chapters(found: Mapping[str, pa.Table], folder: Path, draw: bool) -> tuple[Chapter, ...]:
    """Return the chapters that there are tables for, with their figures if these can be drawn."""
    made = (get("chapter", name)(found, folder, draw) for name in names("chapter"))
    return tuple(chapter for chapter in made if chapter is not None)


Found = Mapping[str, pa.Table]


def _rows(found: Found, name: str) -> list[Row]:
    return found[name].to_pylist() if name in found else []


FILLS = {"grey": "grey box", "inpaint": "inpainting"}


@register("chapter", "shortcuts")
def _shortcuts(found: Found, folder: Path, draw: bool) -> Chapter | None:
    if "shortcuts" not in found:
        return None
    rows = _rows(found, "shortcuts")
    altered = [r for r in rows if r["skipped"] is None]
    tested = [r for r in altered if testable(r)]
    n = _pairs(r for r in tested if r["shortcut"])
    lead = (
        "A model leans on a shortcut where it no longer sees a class once another, its companion, is taken "
        "out of the picture. Whatever is done to a picture flips some predictions: what counts is how many "
        "more are lost than when a region of the same shape is filled elsewhere.",
        f"{counted(_pairs(tested), 'pair')} of classes tested; {n or 'none'} {'is' if n == 1 else 'are'} "
        f"beyond the threshold and beyond the control.{_untestable([r for r in altered if not testable(r)])}",
    )
    return Chapter(
        "shortcuts",
        "Shortcuts",
        "Which predictions lean on what stands beside",
        lead,
        tuple(_draw_shortcuts(found["shortcuts"])) if draw else (),
        tuple(_flip_tables(rows)),
        tuple(_albums(_rows(found, "shortcut_examples"), folder)),
    )


def _untestable(rows: Sequence[Row]) -> str:
    """Return what was lost where nothing tells whether any hole would have done the same."""
    if not rows:
        return ""
    n, lost = _pairs(rows), percent(max(r["lost"] for r in rows))
    most = f"lost {lost} but has" if n == 1 else f"lost up to {lost} but have"
    return f" {counted(n, 'pair')} {most} no controls to go by, for want of room: not testable."


def _pairs(rows: Iterable[Row]) -> int:
    return len({(r["model"], r["main"], r["companion"]) for r in rows})


_FLIPS = (
    Head("Class", number=False),
    Head("Without", number=False),
    Head("Model", number=False),
    Head("By", number=False),
    Head("Images"),
    Head("Flip", title="Share whose prediction of the class is another without the companion"),
    Head("Lost", title="Share whose prediction of the class is gone without the companion"),
    Head("Control", title="The same where a region of that shape is filled elsewhere"),
    Head("More, points", title="Lost less what is lost in the control"),
    Head("Recall gap, points", title="Recall beside the companion less recall without it"),
    Head("Hallucination gap, points", title="False alarms beside the companion less those without it"),
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
    gaps = (in_points(r[gap], r[f"{gap}_lo"], r[f"{gap}_hi"]) for gap in ("recall_gap", "hallucination_gap"))
    return (
        r["main_name"],
        r["companion_name"],
        r["model"],
        FILLS[r["fill"]],
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


_WORTH = {
    "lost": "Lost without the companion",
    "flips": "Flip without the companion",
    "recall_gap": "Recall gap",
    "hallucination_gap": "Hallucination gap",
    "ap": "Average precision",
    "ap_balanced": "Average precision, balanced",
    "top1": "Top-1, original labels",
    "real1": "ReaL accuracy, label sets",
    "map": "Mean average precision",
}


def _draw_shortcuts(table: pa.Table) -> list[Figure]:
    from manyhot.report.figures.diagnosis import draw_shortcuts

    return draw_shortcuts(table, float(tables.metadata(table).get("threshold", THRESHOLD)))


@register("chapter", "mitigation")
def _mitigation(found: Found, folder: Path, draw: bool) -> Chapter | None:
    rows = _rows(found, "mitigation")
    if not rows:
        return None
    pairs: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        pairs.setdefault((row["main_name"], row["companion_name"]), []).append(row)
    lead = (
        "Heads fitted anew so that the companion says nothing, each judged on the same images held out. In "
        "brackets 95 % intervals. Read the gaps beside what is lost in accuracy.",
    )
    treated = tuple(_treated(i, pair, own) for i, (pair, own) in enumerate(pairs.items(), 1))
    return Chapter("mitigation", "Mitigation", "What helps against them", lead, (), treated)


def _treated(i: int, pair: tuple[str, str], rows: Sequence[Row]) -> Listing:
    """Return a table of a pair: a row a metric and model, a column a treatment."""
    treatments = list(dict.fromkeys(r["treatment"] for r in rows))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for r in rows:
        own = cells.setdefault((str(_WORTH.get(r["metric"], r["metric"])), r["model"]), {})
        own[r["treatment"]] = with_ends(r["value"], r["lo"], r["hi"], 1)
    heads = (Head("", number=False), Head("Model", number=False), *(Head(t.capitalize()) for t in treatments))
    lines = [{"cells": (*key, *(own.get(t, "") for t in treatments))} for key, own in cells.items()]
    return listing(f"treated-{i}", f"{pair[0]} and {pair[1]}", heads, lines, lambda line: line["cells"])


_MEASURES = {
    "pointing": "Highest point on the object",
    "pointing_near": "On it or near",
    "pointing_other": "Highest point on an object of another class",
    "energy": "Share of the map on the object",
    "overlap": "Overlap with the object",
    "auroc": "AUROC of pixels",
}


@register("chapter", "explanations")
def _explanations(found: Found, folder: Path, draw: bool) -> Chapter | None:
    maps = _rows(found, "maps")
    if not maps:
        return None
    lead = (
        "Where a network looks for a class: what speaks for it stays lit, the rest is dark; the amber line "
        "goes around half of the highest value, the white one around the object, the cross is the highest "
        "point. Objects are in the middle of photographs: a map is worth what it is better than a spot "
        "there.",
    )
    heads = (
        Head("Measure", number=False),
        Head("Method", number=False),
        Head("Model", number=False),
        Head("Objects", number=False),
        Head("Value"),
        Head("Spot in the middle"),
        Head("By chance"),
        Head("Maps"),
    )
    made = [listing("localisation", "Do maps lie on the objects?", heads, _places(found), _where)]
    checks = (
        Head("Compared with", number=False),
        Head("Method", number=False),
        Head("Model", number=False),
        Head("Rank correlation"),
        Head("Pairs"),
    )
    made.append(
        listing("sanity", "Do maps depend on what they should?", checks, _rows(found, "sanity"), _check)
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


def _places(found: Found) -> list[Row]:
    """Return how well maps point at objects; of single classes that have any the highest point alone."""
    rows = _rows(found, "localisation")
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
    """Return the photographs that have pictures of maps, the classes of each side by side."""
    images: dict[str, list[Row]] = {}
    for row in maps:
        if row.get("file"):
            images.setdefault(row["image_id"], []).append(row)
    strips = []
    several = sorted(images.items(), key=lambda item: -len(item[1]))
    for image_id, rows in several[:MOST_IMAGES]:
        photo = next((r["photo"] for r in rows if r.get("photo")), None)
        shown = [picture(folder, photo, "as it is")] if photo else []
        shown += [picture(folder, r["file"], r["class_name"], _said_of(r)) for r in rows]
        strips.append(Strip(image_id, tuple(shown)))
    rest = len(images) - len(strips)
    text = f"{rest:,} more lie beside this page." if rest else ""
    return [Album("looks", "Several labels of one image", text, tuple(strips))] if strips else []


def _said_of(r: Row) -> str:
    state = {"yes": ", in the label set", "no": ", not in the label set"}.get(r["state"] or "", "")
    return f"{r['score']:.2f}{state}"


@register("chapter", "companions")
def _companions(found: Found, folder: Path, draw: bool) -> Chapter | None:
    rows = _rows(found, "companions")
    if not rows:
        return None
    tested = [r for r in rows if r["model"] is None and r["p_adjusted"] is not None]
    means = sorted(tested, key=lambda r: (r["p_adjusted"], -abs(r["diff"])))
    heads = (
        Head("Class", number=False),
        Head("Companion", number=False),
        Head("Data set", number=False),
        Head("Images with both"),
        Head("Lift", title="How many times as often together as by chance"),
        Head("Recall with"),
        Head("Recall without"),
        Head("Difference, points"),
        Head("p adjusted"),
    )
    lead = (
        "How often a class is found where another is valid beside it, and where not. A difference does not "
        "prove that a model looks at the companion: pictures with it differ in other ways, too. It says what "
        "to test.",
        *_without_comparison(found["companions"], len(tested)),
    )
    table = listing("recall-by-companion", "Recall by companion", heads, means, _companion)
    return Chapter("companions", "Companions", "Whose recall hangs on what", lead, (), (table,))


def _without_comparison(table: pa.Table, n_tested: int) -> tuple[str, ...]:
    """Return how many pairs on enough images could not be tested."""
    least = int(tables.metadata(table).get("least", 0))
    rows = (r for r in table.to_pylist() if r["model"] is None and r["n_models"])
    n = sum(r["both"] >= least for r in rows) - n_tested if least else 0
    if not n:
        return ()
    return (f"{counted(n, 'pair')} not testable, for want of images with the companion, or without it.",)


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
        in_points(r["diff"], r["lo"], r["hi"]),
        "" if p is None or p != p else ("<0.001" if p < 0.001 else f"{p:.3f}"),
    )


@register("chapter", "corruptions")
def _corruptions(found: Found, folder: Path, draw: bool) -> Chapter | None:
    losses = _rows(found, "losses")
    if not losses:
        return None
    whole = [r for r in losses if r["severity"] is None]
    heads = (
        Head("From", number=False),
        Head("To", number=False),
        Head("Model", number=False),
        Head("Metric", number=False),
        Head("Lost, points"),
        Head("Of it missing labels", title="1 less this loss over that of top-1"),
        Head("Images"),
    )
    lead = (
        "What accuracy is lost from one set of pictures to another, by the original label and by label sets. "
        "What is lost by the label alone is another valid class, named in its place: a missing label, as far "
        "as the label sets of both were made alike.",
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
        tuple(_draw_losses(found["losses"])) if draw and "losses" in found else (),
        tuple(made),
    )


def _loss(r: Row) -> tuple[str, ...]:
    return (
        called(r["base"]),
        _destination(r),
        r["model"] or f"mean of {r['n_models']:,}",
        r["metric"],
        in_points(r["loss"], r["lo"], r["hi"], 1),
        with_ends(r["share"], r["share_lo"], r["share_hi"]),
        f"{r['n']:,}",
    )


def _destination(r: Row) -> str:
    name = called(r["dataset"])
    if r["kind"] is not None:
        return f"{name}, {r['kind'].replace('_', ' ')}"
    return f"{name}, all kinds" if r["base"] == r["dataset"] else name


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


def _draw_losses(losses: pa.Table) -> list[Figure]:
    from manyhot.report.figures.diagnosis import draw_corruptions

    return draw_corruptions(losses)
