"""The parts of a report, each with its text, its tables and its figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.evaluate.per_class.class_listings import chapter_lead, chapter_listings
from manyhot.evaluate.report.datasets import DataSet
from manyhot.evaluate.report.optional_sections import consistency_part, groups_part, posterior_part
from manyhot.evaluate.report.overview import PROTOCOLS, TITLES
from manyhot.evaluate.report.report_tables import ReportTables
from manyhot.evaluate.slices import ALL
from manyhot.report.chapter import Album, rows_by
from manyhot.report.figure import Figure
from manyhot.report.gallery import LARGEST
from manyhot.report.gallery_files import CONFIDENT
from manyhot.report.listings import (
    ColumnHead,
    Listing,
    ListingRow,
    Shared,
    between,
    group_by_dataset,
    list_drops,
    list_fits,
    list_ranks,
    list_sensitivity,
    list_swaps,
    number_heads,
    picked,
    text_heads,
)
from manyhot.report.text import counted, ends, slice_label, title_of, with_minus
from manyhot.tables import Row
from manyhot.tables.result_tables import LABEL_SETS, accuracies

MOST_SWAPS = 20
MOST_PAIRS = 10
MOST_SIZES = 8


COMPARED = ("shift", "saturation", "ranks")
"""The parts that compare data sets and metrics, with which the page of a comparison begins."""


@dataclass(frozen=True, eq=False)
class Section:
    """A part of the report.

    Attributes
    ----------
    lead, warning : tuple of str, str
        Paragraphs at the start of the part, and a highlighted warning.
    figures : tuple of Figure
        Figures of the part. In the part `Models`, a figure about one data set is shown with this data set.
    albums : tuple of Album
        Photographs of classes.
    """

    anchor: str
    short: str
    title: str
    lead: tuple[str, ...] = ()
    warning: str = ""
    listings: tuple[Listing, ...] = ()
    figures: tuple[Figure, ...] = field(default=())
    albums: tuple[Album, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to show; its models alone make the part of that name."""
        return bool(self.listings or self.figures or self.anchor == "models")


def build_sections(
    tables: ReportTables,
    datasets: Sequence[DataSet],
    figures: Sequence[Figure],
    shared: Shared,
    *,
    albums: Sequence[Album] = (),
    is_cautioned: bool = False,
    is_comparison: bool = False,
) -> tuple[Section, ...]:
    """Return the parts for which the tables have data.

    The warning about protocols is shown once, in the first part that needs it. It is not repeated if the page
    already shows it (`is_cautioned`). The page of a comparison (`is_comparison`) begins with the comparison,
    and a page about classes begins with the classes. Slices that were requested come before all of these.
    """
    text = {
        "labels": _labels(tables, shared, are_pairs_drawn=any(f.name == "class-pairs" for f in figures)),
        "groups": groups_part(tables, datasets, shared, is_drawn=any(f.section == "groups" for f in figures)),
        "shift": _shift(tables, shared),
        "models": ((), _seen(shared)),
        "consistency": consistency_part(tables, shared),
        "classes": _classes(tables, shared, is_drawn=any(f.section == "classes" for f in figures)),
        "trust": ((), _confident(shared)),
        "posterior": posterior_part(tables, shared),
    }
    if tables.has_trends:
        text |= {"saturation": _saturation(tables, shared), "ranks": _ranks(tables, shared)}
    sections = []
    is_by_class = tables.is_by_class or tables["class_differences"].num_rows
    first_parts = (*(COMPARED if is_comparison else ()), *(("classes",) if is_by_class else ()))
    is_sliced = "slices" in tables.about  # what was asked for comes first
    order = sorted(TITLES, key=lambda a: (not (is_sliced and a == "groups"), a not in first_parts))
    for anchor in order:
        short, title = TITLES[anchor]
        if anchor == "classes" and not tables["class_results"].num_rows:
            title = short  # differences of two models, which have their own order
        lead, listings = text.get(anchor, ((), ()))
        own = tuple(f for f in figures if f.section == anchor)
        pictured = tuple(albums) if anchor == "classes" else ()
        sections.append(Section(anchor, short, title, lead, "", listings, own, pictured))
    shown = tuple(section for section in sections if section)
    needing = set() if is_cautioned else _mixing_protocols(tables)
    first = next((section for section in shown if section.anchor in needing), None)
    return tuple(replace(s, warning=PROTOCOLS) if s is first else s for s in shown)


def _mixing_protocols(tables: ReportTables) -> set[str]:
    """Return the parts that show label sets of several data sets, which may be of different protocols."""
    names = {n for t in ("datasets", "set_sizes") for n in pc.unique(tables[t]["dataset"]).to_pylist()}
    compared = (tables[t] for t in ("drops", "fits"))
    across = (t.filter(pc.not_equal(t["dataset_x"], t["dataset_y"])) for t in compared)
    judged = {m for t in across for m in pc.unique(t["metric_y"]).to_pylist()}
    judged |= set(pc.unique(tables["sensitivity"]["metric"]).to_pylist())
    needing = {"labels"} if len(names) > 1 else set()
    return needing | ({"shift"} if judged & set(accuracies(LABEL_SETS)) else set())


_SAID = {
    "right": "Right",
    "valid": "“Wrong” but valid",
    "refuted": "Label, but not valid",
    "unclear": "Unclear",
    "unasked": "Not asked",
    "wrong": "Wrong",
}

_Part = tuple[tuple[str, ...], tuple[Listing, ...]]


def _classes(tables: ReportTables, shared: Shared, *, is_drawn: bool) -> _Part:
    if not tables["class_results"].num_rows:
        return (), ()
    return chapter_lead(tables.beside), chapter_listings(tables.beside, shared.anchors, folded=is_drawn)


def _labels(tables: ReportTables, shared: Shared, *, are_pairs_drawn: bool) -> _Part:
    cards = tables["datasets"].to_pylist()
    listings = [*_cards(cards, shared), *_sizes(tables["set_sizes"], shared)]
    listings += [] if are_pairs_drawn else _class_pairs(tables["class_pairs"], shared)
    listings += _rejected(tables["rejected"], shared)
    lead = tuple(_asked(card) + _evaluated(card, tables.results) for card in cards)
    return lead, tuple(listings)


def _evaluated(card: Row, results: pa.Table) -> str:
    """Return on how many of the described images models were evaluated; empty if on all of them."""
    is_here = pc.and_(pc.equal(results["dataset"], card["dataset"]), pc.equal(results["slice"], ALL))
    of = results.filter(is_here)
    images = pc.unique(pc.add(of["n"], pc.fill_null(of["n_skipped"], 0))).to_pylist()
    if not images or max(images) >= card["images"]:
        return ""
    return f" All of these images are described here, but models were evaluated only on {max(images):,}" + (
        " or fewer." if len(images) > 1 else "."
    )


def _asked(card: Row) -> str:
    """Return what people were asked on a data set, as far as its source says."""
    name, images = title_of(card["dataset"]), counted(card["images"], "image")
    asked = f"were asked about {card['asked'] or 0:,} (image, class) pairs"
    if card["rated"] is None:
        rated = f"{images}; the source does not record which of them raters checked"
        asked = f"it has answers about {card['asked'] or 0:,} (image, class) pairs"
    elif card["rated"] == card["images"]:
        rated = f"raters checked all {images}"
    else:
        rated = f"raters checked {card['rated']:,} of {images}"
    if card["asked"] is None:
        return (
            f"{name}: {rated}. Negative answers are not recorded, so raters may not have been asked about a "
            "class that is not in a label set."
        )
    unasked = card["labels"] - card["confirmed"]
    are = "is" if unasked == 1 else "are"
    rest = f" Another {counted(unasked, 'label')} {are} on images that no rater has seen."
    return f"{name}: {rated}, and {asked}, of which {card['confirmed']:,} are valid." + (
        rest if unasked else ""
    )


def _cards(cards: Sequence[Row], shared: Shared) -> list[Listing]:
    if not cards:
        return []
    heads = (
        ColumnHead("", number=False),
        *(ColumnHead(title_of(card["dataset"]), number=False) for card in cards),
    )
    rows = (
        # Only where the head of the column is another.
        ("Name in the tables", *(n if title_of(n) != n else "" for n in (c["dataset"] for c in cards))),
        ("Images", *(f"{c['images']:,}" for c in cards)),
        ("Left out as unusable", *(f"{c['unusable']:,}" for c in cards)),
        ("Undecided among these", *(f"{n:,}" if (n := c.get("undecided")) else "" for c in cards)),
        ("Checked by raters", *(_or_unknown(c["rated"]) for c in cards)),
        ("(image, class) pairs asked about", *(_or_unknown(c["asked"]) for c in cards)),
        ("Valid among these", *(_or_unknown(c["confirmed"]) for c in cards)),
        ("Valid (image, class) pairs in all", *(f"{c['labels']:,}" for c in cards)),
        ("Images without a valid class", *map(_without_valid, cards)),
        (
            "Images with no class found valid, but without answers about all classes",
            *map(_unknown_empty, cards),
        ),
        ("Usable images with two or more valid classes", *map(_several, cards)),
        (
            "Images on which the original label is not valid",
            *(f"{c['rejected']:,} of {c['labelled'] - (c.get('label_unasked') or 0):,}" for c in cards),
        ),
        ("Original labels that are valid, on images with any valid class", *map(_original_valid, cards)),
        ("How the label sets were made", *(c["method"] or "not recorded" for c in cards)),
        ("Licence", *(c["licence"] or "" for c in cards)),
        ("Cite", *(c["citation"] or "" for c in cards)),
        ("From", *(c["home"] or "" for c in cards)),
    )
    entries = tuple(ListingRow(tuple(cell or "–" for cell in row)) for row in rows if any(row[1:]))
    return [Listing(shared.anchors("labels", "card"), "Data card", heads, entries, folded=True)]


def _without_valid(card: Row) -> str:
    """Return how many images have no valid class; tables of earlier versions do not tell whether all do."""
    unknown = card.get("empty_unasked") or 0
    return f"{card['empty'] - unknown:,}" if card["empty"] > unknown or not unknown else ""


def _unknown_empty(card: Row) -> str:
    unknown = card.get("empty_unasked") or 0
    return f"{unknown:,}" if unknown else ""


def _several(card: Row) -> str:
    return f"{card['multi']:,}{' or more' if card.get('empty_unasked') else ''}"


def _original_valid(card: Row) -> str:
    """Return the share of original labels that are valid; tables of earlier versions lack it."""
    if not card.get("original_valid_n"):
        return ""
    share, lo, hi = (100 * card[f"original_valid{end}"] for end in ("", "_lo", "_hi"))
    return f"{share:.2f} % ({lo:.2f} to {hi:.2f}) of {card['original_valid_n']:,}"


def _or_unknown(count: int | None) -> str:
    return "not recorded" if count is None else f"{count:,}"


def _sizes(table: pa.Table, shared: Shared) -> list[Listing]:
    found = {(r["dataset"], r["size"]): r for r in table.to_pylist()}
    if not found:
        return []
    names = list(dict.fromkeys(name for name, _ in found))
    sizes = sorted({size for _, size in found})
    heads = (
        ColumnHead("Valid classes", number=False),
        *(ColumnHead(f"{title_of(name)}, {what}") for name in names for what in ("images", "share")),
    )
    entries = []
    for size in sizes[:MOST_SIZES]:
        cells = [str(size)]
        for name in names:
            row = found.get((name, size))
            cells += [f"{row['images']:,}", f"{100 * row['share']:.2f} %"] if row else ["0", "0.00 %"]
        entries.append(ListingRow(tuple(cells), links=_to_size(size, names, shared)))
    left = len(sizes) - len(entries)
    more = f"Larger sets, of up to {sizes[-1]} classes, are in set_sizes.csv." if left else ""
    title = "How many valid classes images have"
    return [Listing(shared.anchors("labels", "sizes"), title, heads, tuple(entries), "", more, True)]


def _class_pairs(table: pa.Table, shared: Shared) -> list[Listing]:
    heads = (
        *text_heads("Class", "With"),
        *number_heads("Images with both", "With the first", "With the second"),
    )
    listings = []
    for (name,), rows in rows_by(table.to_pylist(), "dataset").items():
        ordered = sorted(rows, key=lambda r: (-r["images"], r["class_a"], r["class_b"]))
        entries = tuple(
            ListingRow((r["name_a"], r["name_b"], *(f"{r[c]:,}" for c in ("images", "images_a", "images_b"))))
            for r in ordered[:MOST_PAIRS]
        )
        left = len(ordered) - len(entries)
        more = f"{left:,} more in class_pairs.csv." if left else ""
        title = f"Classes that are valid together most often, {title_of(name)}"
        listings.append(
            Listing(shared.anchors("labels", "pairs", name), title, heads, entries, "", more, True)
        )
    return listings


def _rejected(table: pa.Table, shared: Shared) -> list[Listing]:
    heads = (*text_heads("Image", "Original label", "Label set"),)
    listings = []
    counts = {r["values"]: r["counts"] for r in pc.value_counts(table["dataset"]).to_pylist()}
    for name, n in counts.items():
        rows = table.filter(pc.equal(table["dataset"], name)).slice(0, MOST_PAIRS).to_pylist()
        entries = tuple(
            ListingRow(
                (r["image_id"], r["label_name"], ", ".join(r["names"]) or "nothing is valid"),
                links=_to_image(r["image_id"], shared),
            )
            for r in rows
        )
        left = n - len(entries)
        title = f"Images with an original label that is not in their label set, {title_of(name)}: {n:,}"
        more = f"{left:,} more in rejected.csv." if left else ""
        note = "Images without any valid class are included."
        anchor = shared.anchors("labels", "rejected", name)
        listings.append(Listing(anchor, title, heads, entries, note, more, True))
    return listings


def _to_size(size: int, datasets: Iterable[str], shared: Shared) -> dict[int, str]:
    gallery = next(filter(None, map(shared.gallery_of, datasets)), None)
    return {0: gallery.to(size=str(min(size, LARGEST)))} if gallery is not None and gallery.rated else {}


def _to_image(image_id: str, shared: Shared) -> dict[int, str]:
    gallery = shared.gallery
    return {0: gallery.to(image=image_id)} if gallery is not None and image_id in gallery.ids else {}


def _seen(shared: Shared) -> tuple[Listing, ...]:
    """Return how many images of the gallery each model gets right, wrong and so on, with links to them."""
    if shared.gallery is None:
        return ()
    title = f"Top classes of models on the {counted(len(shared.gallery), 'image')} of the gallery"
    return _by_kind(shared, "models", title, shared.gallery.counts)


def _confident(shared: Shared) -> tuple[Listing, ...]:
    """Return the same for predictions of which models are confident."""
    if shared.gallery is None or not any(map(any, shared.gallery.confident.values())):
        return ()
    title = f"Top classes of models with a confidence above {CONFIDENT:.0%}, on the images of the gallery"
    title = title.replace("%", " %")
    return _by_kind(shared, "trust", title, shared.gallery.confident, above=str(CONFIDENT))


def _by_kind(
    shared: Shared, section: str, title: str, counted_of: Mapping[str, Mapping[str, int]], **filters: str
) -> tuple[Listing, ...]:
    assert shared.gallery is not None
    kinds = {k: text for k, text in _SAID.items() if any(of.get(k) for of in counted_of.values())}
    entries = []
    for model, counts in counted_of.items():
        links = {
            i: shared.gallery.to(show=k, **filters, model=model)
            for i, k in enumerate(kinds, 1)
            if counts.get(k)
        }
        cells = (model, *(f"{counts.get(k, 0):,}" for k in kinds))
        entries.append(ListingRow(cells, model in shared.own, links=links))
    heads = (ColumnHead("Model", number=False), *(ColumnHead(text) for text in kinds.values()))
    note = "Each number links to its images."
    return (Listing(shared.anchors(section, "gallery"), title, heads, tuple(entries), note),)


def _shift(tables: ReportTables, shared: Shared) -> _Part:
    drops = [r for r in picked(tables["drops"], shared.own) if r["dataset_x"] != r["dataset_y"]]
    fits = [r for r in tables["fits"].to_pylist() if r["dataset_x"] != r["dataset_y"]]
    listings = [
        list_drops(rows, shared, title=f"Drops, {name}", section="shift", folded=True)
        for name, rows in group_by_dataset(drops)
    ]
    listings += [
        list_fits(rows, shared, title=f"Lines through the models, {name}", section="shift")
        for name, rows in group_by_dataset(fits)
    ]
    listings += equal_listings(tables["equal_accuracy"], shared)
    sensitivity = group_by_dataset(tables["sensitivity"].to_pylist())
    listings += [
        list_sensitivity(rows, shared, title=f"What set sizes do to the drop, {name}")
        for name, rows in sensitivity
    ]
    return (), tuple(listings)


def _saturation(tables: ReportTables, shared: Shared) -> _Part:
    fits = [
        r
        for r in tables["fits"].to_pylist()
        if r["dataset_x"] == r["dataset_y"] and (r["metric_x"], r["slice_x"]) != (r["metric_y"], r["slice_y"])
    ]
    listings = [
        list_fits(rows, shared, title=f"Lines through the models, {name}", section="saturation")
        for name, rows in group_by_dataset(fits)
    ]
    return (), tuple(listings)


def _ranks(tables: ReportTables, shared: Shared) -> _Part:
    ranks = tables["ranks"].to_pylist()
    if not ranks:
        return (), ()
    swaps = tables["swaps"]
    beyond = swaps.filter(pc.fill_null(swaps["beyond_noise"], False)).to_pylist()
    ends_of = [f"{what}_{end}" for what in ("metric", "slice", "dataset") for end in "xy"]
    listings = [list_ranks(ranks, shared)]
    for rows in rows_by(beyond, *ends_of).values():
        title = f"Swapped beyond noise by {_orders(rows[0], shared)}: {counted(len(rows), 'pair')}"
        listings.append(list_swaps(rows, shared, title=title, most=MOST_SWAPS))
    return (), tuple(listings)


def _orders(row: Row, shared: Shared) -> str:
    images = {slice_label(row["slice_x"]), slice_label(row["slice_y"])} - {"all images"}
    return ", ".join([shared.pair(row), between(row), *sorted(images)])


_NOTE = (
    "Means over the models of the second group, in points. Local regression compares each of these models "
    "with the models of the first group within 5 points of its accuracy. The logit line is fitted to the "
    "whole first group, so the difference from this line is effective robustness. Intervals are computed "
    "over families of models of both groups."
)


def equal_listings(table: pa.Table, shared: Shared) -> list[Listing]:
    """Return the tables of mean differences between the groups; none if no groups were compared."""
    rows = table.filter(pc.is_null(table["at"])).to_pylist()
    if not rows:
        return []
    first, second, x = (rows[0][c] for c in ("group_a", "group_b", "dataset_x"))
    heads = (
        *text_heads("Data set", "Metric", "Method"),
        *number_heads(first, second),
        ColumnHead("Difference", title="With its 95 % interval over families of models"),
        ColumnHead("Models", title="In the first and in the second group"),
        ColumnHead("Accuracy", title=f"Range on {title_of(x)} in which both groups have models, in percent"),
    )
    entries = []
    for row in rows:
        pair = (row["difference_lo"], row["difference_hi"])
        between = "" if None in pair else f" ({ends((100 * pair[0], 100 * pair[1]))})"
        cells = (
            title_of(row["dataset_y"]),
            shared.named(row["metric_y"]).label,
            row["method"],
            f"{100 * row['value_a']:.2f}",
            f"{100 * row['value_b']:.2f}",
            with_minus(100 * row["difference"], 2) + between,
            f"{row['n_a']:,} and {row['n_b']:,}",
            f"{100 * row['from_x']:.1f} to {100 * row['to_x']:.1f}",
        )
        entries.append(ListingRow(cells))
    title = f"{second} compared with {first} at equal accuracy on {title_of(x)}"
    return [Listing(shared.anchors("shift", "equal", x), title, heads, tuple(entries), _NOTE)]
