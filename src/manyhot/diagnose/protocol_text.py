"""What `diagnose protocols` says: its sentences, the terminal, and the chapter on the page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from manyhot.console import table_lines
from manyhot.core.protocols import OTHER_STATES, RELATIONS
from manyhot.diagnose.protocol_rows import ORIGINAL, PROTOCOL_TABLES
from manyhot.registry import register
from manyhot.report.chapter import (
    Chapter,
    NextStep,
    Tables,
    in_points,
    percent,
    rows_by,
    rows_of,
    with_ends,
    with_range,
)
from manyhot.report.figure import Figure
from manyhot.report.listings import ColumnHead, Listing, ListingRow
from manyhot.tables import Row

if TYPE_CHECKING:
    from manyhot.evaluate.report.figures.panel import Panel, Sheet, Tip

MOST_PAIRS = 10
"""Pairs of classes that are listed."""

TableRows = Mapping[str, Sequence[Row]]

_SIZES = ("images of", "which", "labels", "images", "asked", "empty", "classes", "two or more", "n")
_RELATIONS = (
    "images of",
    "which",
    "equal",
    "nested",
    "overlap",
    "disjoint",
    "one empty",
    "Jaccard",
    "kappa",
    "n",
)
_KAPPA = (
    "kappa: Fleiss' kappa over the states yes, unclear and no of the classes that both protocols asked about"
)
_MISSING = ("labels of", "by", "which", *OTHER_STATES, "n")
_MODELS = ("images of", "by", "then by", "difference", "errors that are right", "n")
_RANKS = ("images of", "by", "and by", "tau", "change places", "surely", "pairs", "n")
_VARIANCE = ("images of", "models", "protocols", "both", "n")


def protocol_sentences(rows: TableRows) -> Iterator[list[str]]:
    """Yield, for each pair of label sets, how well they agree and how models' results differ between them."""
    pairs = dict.fromkeys(r["group"] for r in rows["protocol_agreement"] if r["measure"] == "equal")
    for group in pairs:
        yield [*_set_sentences(rows, group), *_model_sentences(rows, group)]


def _set_sentences(rows: TableRows, group: str) -> Iterator[str]:
    measures = {
        r["measure"]: r for r in rows["protocol_agreement"] if r["group"] == group and r["slice"] == "all"
    }
    equal, apart = measures["equal"], measures["several_difference"]
    yield f"{group}: {_share(equal)} of {equal['n']:,} images have the same label set in both protocols."
    sizes = [r for r in rows["protocol_sets"] if r["group"] == group and r["slice"] == "all"]
    if apart["n"]:
        (a, a_share), (b, b_share) = ((r["labels"], percent(r["several"], 1)) for r in sizes)
        change = in_points(apart["value"], apart["lo"], apart["hi"], 1)
        yield (
            f"{a_share} of the label sets by {a} and {b_share} of the label sets by {b} have two or more "
            f"classes; on the {apart['n']:,} images with a label set in both, this share changes by {change} "
            "points from the first to the second."
        )


def _model_sentences(rows: TableRows, group: str) -> Iterator[str]:
    means = [r for r in rows["protocol_errors"] if r["group"] == group and r["model"] is None]
    two = [r for r in means if ORIGINAL not in (r["by_a"], r["by_b"])]
    ranks = [r for r in rows["protocol_ranks"] if r["group"] == group and r["by_a"] != ORIGINAL]
    for row in two:
        share = with_ends(row["right"], row["right_lo"], row["right_hi"], 1)
        yield (
            f"{share} of the predictions that {row['by_a']} calls wrong are right according to "
            f"{row['by_b']}, on "
            f"average over models (n {row['n']:,})."
        )
    for row in ranks:
        surely = f"{row['surely']:,}" if row["surely"] else "none"
        yield (
            f"Kendall's tau of their ranks is {_tau(row)}; {row['swapped']:,} of {row['pairs']:,} pairs of "
            f"models change places, {surely} of them beyond noise (p < 0.05 for both differences, with "
            "Holm's correction)."
        )


def protocol_lines(rows: TableRows) -> Iterator[str]:
    """Yield the sentences and tables of a terminal."""
    for sentences in protocol_sentences(rows):
        yield from sentences
    for heads, cells in (
        (_SIZES, _size_cells(rows)),
        (_RELATIONS, _relation_cells(rows)),
        (_MISSING, _missing_cells(rows)),
        (_MODELS, _model_cells(rows)),
        (_RANKS, _rank_cells(rows)),
        (_VARIANCE, _variance_cells(rows)),
    ):
        shown = list(cells)
        if shown:
            yield ""
            yield from table_lines(heads, shown)
            if heads is _RELATIONS:
                yield _KAPPA


def _size_cells(rows: TableRows) -> Iterator[tuple[str, ...]]:
    """Yield the sizes of the label sets."""
    for row in rows["protocol_sets"]:
        asked = "–" if row["asked"] is None else f"{row['asked']:.1f}"
        several = with_ends(row["several"], row["several_lo"], row["several_hi"], 1)
        counts = (f"{row['images']:,}", asked, f"{row['n_empty']:,}", f"{row['mean_size']:.2f}")
        yield row["group"], row["slice"], row["labels"], *counts, several, f"{row['n']:,}"


def _relation_cells(rows: TableRows) -> Iterator[tuple[str, ...]]:
    """Yield how every two label sets are related."""
    for (group, part), own in rows_by(rows["protocol_agreement"], "group", "slice").items():
        measures = {row["measure"]: row for row in own}
        if "equal" not in measures:
            continue
        value = {name: measures[name]["value"] for name in (*RELATIONS, "jaccard")}
        nested, empty = value["a_in_b"] + value["b_in_a"], value["a_empty"] + value["b_empty"]
        shares = (nested, value["overlapping"], value["disjoint"], empty)
        others = (_number(measures["jaccard"]), _number(measures.get("fleiss_kappa")))
        n = f"{measures['equal']['n']:,}"
        yield group, part, _share(measures["equal"]), *(percent(s, 1) for s in shares), *others, n


def _missing_cells(rows: TableRows) -> Iterator[tuple[str, ...]]:
    """Yield what each protocol says about the labels of another."""
    whole = (row for row in rows["protocol_missing"] if row["slice"] == "all")
    for key, own in rows_by(whole, "labels_a", "labels_b", "which").items():
        states, n = {row["state"]: row for row in own}, own[0]["n"]
        yield *key, *(_missing(states.get(state)) for state in OTHER_STATES), f"{n:,}"


def _missing(row: Row | None) -> str:
    return "–" if row is None else with_ends(row["share"], row["share_lo"], row["share_hi"], 1)


def _model_cells(rows: TableRows) -> Iterator[tuple[str, ...]]:
    """Yield, on average over models, what changes from one protocol to another."""
    for row in rows["protocol_errors"]:
        if row["model"] is None:
            change = in_points(row["difference"], row["difference_lo"], row["difference_hi"], 1)
            right = with_ends(row["right"], row["right_lo"], row["right_hi"], 1)
            yield row["group"], row["by_a"], row["by_b"], change, right, f"{row['n']:,}"


def _rank_cells(rows: TableRows) -> Iterator[tuple[str, ...]]:
    """Yield how two protocols rank the models."""
    for row in rows["protocol_ranks"]:
        counts = (f"{row[name]:,}" for name in ("swapped", "surely", "pairs", "n"))
        yield row["group"], row["by_a"], row["by_b"], _tau(row), *counts


def _tau(row: Row) -> str:
    return with_range(row["tau"], row["tau_lo"], row["tau_hi"])


def _variance_cells(rows: TableRows) -> Iterator[tuple[str, ...]]:
    """Yield how much accuracy varies with models, with protocols, and with both."""
    for (group,), parts in rows_by(rows["protocol_variance"], "group").items():
        yield (
            group,
            *(in_points(r["sd"], r["sd_lo"], r["sd_hi"], 2) for r in parts),
            f"{parts[0]['n']:,}",
        )


def _pair_cells(rows: TableRows) -> Iterator[tuple[str, ...]]:
    """Yield the most frequent pairs of a label that only one has, and a label that the other has."""
    ordered = sorted(rows["protocol_pairs"], key=lambda r: -r["images"])
    for row in ordered[:MOST_PAIRS]:
        yield row["class_name"], row["labels_a"], row["beside_name"], row["labels_b"], f"{row['images']:,}"


def _share(row: Row) -> str:
    return with_ends(row["value"], row["lo"], row["hi"], 1)


def _number(row: Row | None) -> str:
    """Return a value with its interval."""
    return "–" if row is None else with_range(row["value"], row["lo"], row["hi"])


@register(
    "chapter",
    "protocol_sets",
    tables=PROTOCOL_TABLES,
    next=NextStep(
        "merge the label sets, and list their conflicts.", "manyhot aggregate --sources NAME --sources NAME"
    ),
)
def protocols_chapter(named: Tables, folder: Path, draw: bool) -> Chapter | None:
    """Return the chapter about protocols, or None if their tables are missing."""
    rows = {name: rows_of(named, name) for name in PROTOCOL_TABLES}
    if not rows["protocol_sets"]:
        return None
    listings = (
        _listing("sizes", "Label sets", _SIZES, _size_cells(rows), 3),
        _listing("relations", "How label sets agree", _RELATIONS, _relation_cells(rows), 2),
        _listing(
            "missing", "How one protocol judges the labels of another", _MISSING, _missing_cells(rows), 3
        ),
        _listing(
            "pairs",
            "Labels that one protocol lacks most often",
            ("class", "only in", "beside", "in", "images"),
            _pair_cells(rows),
            4,
        ),
        _listing("models", "What changes for models, on average", _MODELS, _model_cells(rows), 3),
        _listing("ranks", "How models are ranked", _RANKS, _rank_cells(rows), 3),
        _listing("variance", "What accuracy varies with, in points", _VARIANCE, _variance_cells(rows), 1),
    )
    answers = protocol_sentences(rows)
    lead = (
        *(text for first, *rest in answers for text in (first, " ".join(rest)) if text),
        "The label sets are about the same images, so all differences are due to how they were made: who "
        "was asked, about which classes, and how answers were combined. Images that a protocol left out are "
        "left out here, too. Such images are rarely a random sample.",
    )
    shown = tuple(one for one in listings if one.rows)
    figures = draw_protocols(rows["protocol_sets"], rows["protocol_accuracy"]) if draw else ()
    return Chapter("protocols", "Protocols", "The same images by several protocols", lead, figures, shown)


def _listing(
    anchor: str, title: str, heads: Sequence[str], cells: Iterable[tuple[str, ...]], n_texts: int
) -> Listing:
    """Return a table whose first columns are texts, and the others numbers."""
    columns = tuple(
        ColumnHead(head if head == "n" else head[0].upper() + head[1:], number=i >= n_texts)
        for i, head in enumerate(heads)
    )
    return Listing(f"protocol-{anchor}", title, columns, tuple(map(ListingRow, cells)))


_SEVERAL = "Share of the non-empty label sets that have two or more classes, with 95 % intervals."


def draw_protocols(sets: Sequence[Row], accuracy: Sequence[Row]) -> tuple[Figure, ...]:
    """Plot the share of label sets with several classes, and accuracies, on the images of all protocols."""
    from manyhot.evaluate.report.figures.panel import compose

    groups = [r["group"] for r in sets if r["slice"] == "all"]
    group = next(g for g in groups if groups.count(g) > 1)
    sizes = [r for r in sets if r["group"] == group and r["slice"] == "all"]
    judged = [r for r in accuracy if r["group"] == group]
    panels = [_several(sizes), *([_accuracies(judged)] if judged else [])]
    right = (
        " Right: share of the images on which the top class is right. Ticks are models, and dots are their "
        "means with 95 % intervals over images."
    )
    shares = "; ".join(f"{r['labels']}: {percent(r['several'], 1)} of {r['n']:,} sets" for r in sizes)
    figure = Figure(
        "protocols",
        "protocols",
        "",
        "The same images by each protocol",
        f"Left: {_SEVERAL.lower()}{right}" if judged else _SEVERAL,
        f"{shares}.",
        compose(panels, columns=2),
        pa.Table.from_pylist(judged or sizes),
    )
    return (figure,)


def _points(rows: Sequence[Row], column: str) -> list[float | None]:
    return [None if r[column] is None else 100 * r[column] for r in rows]


def _several(rows: Sequence[Row]) -> Panel:
    from manyhot.evaluate.report.figures.bars import dots

    sheet: Sheet = {
        "label": [r["labels"] for r in rows],
        "x": _points(rows, "several"),
        "inner_lo": _points(rows, "several_lo"),
        "inner_hi": _points(rows, "several_hi"),
        "text": [f"n {r['n']:,}" for r in rows],
    }
    tips: list[Tip] = [
        ("", "label"),
        ("Two or more", "x", "1", " %", "inner_lo", "inner_hi"),
        ("Sets", "text"),
    ]
    axis = "Sets with two or more classes (%)"
    return dots("protocols-several", sheet, axis=axis, tips=tips, width=300)


def _accuracies(rows: Sequence[Row]) -> Panel:
    from manyhot.evaluate.report.figures.bars import strips
    from manyhot.evaluate.report.figures.scatter import plain_side

    means, each = ([r for r in rows if (r["model"] is None) is is_mean] for is_mean in (True, False))
    models: Sheet = {
        "model": [r["model"] for r in each],
        "label": [r["by"] for r in each],
        "x": _points(each, "value"),
    }
    middles: Sheet = {
        "label": [r["by"] for r in means],
        "x": _points(means, "value"),
        "inner_lo": _points(means, "lo"),
        "inner_hi": _points(means, "hi"),
        "text": [percent(r["value"], 1) for r in means],
    }
    side = plain_side(["Accuracy (%)"], [*models["x"], *middles["inner_lo"], *middles["inner_hi"]])
    tips: list[Tip] = [("By", "label"), ("Model", "model"), ("Accuracy", "x", "1", " %")]
    return strips("protocols-accuracy", models, middles, side, tips=tips, above=True)
