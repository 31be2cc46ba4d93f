"""Maps of what in images supports their labels: tables and what they show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from manyhot.console import table_lines
from manyhot.core.share_intervals import wilson_interval
from manyhot.diagnose.page import DiagnosisResult
from manyhot.registry import register
from manyhot.report.chapter import (
    MOST_IMAGES,
    Album,
    Chapter,
    NextStep,
    Strip,
    Tables,
    listing,
    percent,
    picture,
    rows_by,
    rows_of,
    with_ends,
    with_range,
)
from manyhot.report.listings import number_heads, text_heads
from manyhot.tables import Row
from manyhot.tables.definitions import (
    COUNT,
    FLAG,
    INT,
    ITS,
    REAL,
    STATES,
    TEXT,
    Column,
    bounds,
    declare_table,
    interval,
)

EXPLAINED_BY = ("gradcam", "integrated-gradients", "occlusion", "saliency")
MAP_MEASURES = ("pointing", "pointing_near", "pointing_other", "energy", "overlap", "auroc")
COMPARED_WITH = ("weights", "class", "image")
PRINTED_CLASSES = 12
"""Classes that the terminal shows."""

MEASURE_NAMES = {
    "pointing": "highest point on the object",
    "pointing_near": "… or near it",
    "pointing_other": "… on an object of another class",
    "energy": "share of the map on it",
    "overlap": "highest pixels on it",
    "auroc": "AUROC of its pixels",
}

_OVER_IMAGES = f"{ITS} over images"


def _of_maps(name: str, doc: str) -> tuple[Column, ...]:
    """Return the columns of a measure of maps, and what it would be without looking at the image."""
    return (
        REAL.nullable(name, doc),
        REAL.nullable(f"{name}_by_chance", "the expected value for a random map"),
        REAL.nullable(f"{name}_centre", "the value for a Gaussian at the centre of the image"),
    )


declare_table(
    "maps",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        TEXT("method", "how the map was made", values=EXPLAINED_BY),
        TEXT("image_id", "as in images"),
        INT("class_id", "the class that the map is for, in the model's class list"),
        TEXT("class_name", "name of the class"),
        REAL("score", "probability of the class; its score if the model has no probabilities"),
        INT("rank", "1 for the model's top class"),
        TEXT.nullable("state", "state of the class; null if no rater was asked about it", values=STATES),
        TEXT.nullable("skipped", "the reason why the map was not measured; null if it was measured"),
        REAL.nullable(
            "x", "distance of the highest point of the map from the left edge, as a share of the width"
        ),
        REAL.nullable("y", "distance of the highest point from the top edge, as a share of the height"),
        REAL.nullable("area", "share of the model's crop that is covered by objects of this class"),
        FLAG.nullable(
            "difficult",
            "whether the boxes of this class cover less than a quarter of the image, and "
            "there are objects of other classes",
        ),
        *_of_maps("pointing", "whether the highest point lies on the object"),
        *_of_maps(
            "pointing_near",
            "whether the highest point lies on the object, or at most 3 % of the image's longer side away "
            "from it",
        ),
        *_of_maps(
            "pointing_other",
            "whether the highest point lies on an object of another class; null if there is no such object",
        ),
        *_of_maps("energy", "share of the sum of positive values that lies on the object"),
        *_of_maps(
            "overlap",
            "share of the k pixels with the highest values that lie on the object, where k is the number of "
            "pixels of the object",
        ),
        *_of_maps(
            "auroc", "probability that a pixel of the object has a higher value than a pixel outside it"
        ),
        TEXT.optional(
            "file", "path to a picture of the map overlaid on the image, relative to the folder of the table"
        ),
        TEXT.optional("photo", "path of a picture of the image, relative to the folder of the table"),
    ),
)

declare_table(
    "localisation",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        TEXT("method", "as in maps", values=EXPLAINED_BY),
        TEXT(
            "slice",
            "the maps that are counted: all, those of difficult objects, or those of a class, as class=NAME",
        ),
        TEXT("metric", "a measure of maps", values=MAP_MEASURES),
        REAL("value", "mean over maps; NaN if there are none"),
        *bounds("lo", "hi", _OVER_IMAGES),
        REAL("by_chance", "the expected value for a random map"),
        REAL("centre", "the value for a Gaussian at the centre of each image"),
        *interval("excess", "value minus centre", _OVER_IMAGES, value=REAL),
        COUNT("n", "number of measured maps of classes in the label set"),
        COUNT("n_images", "number of images of these maps"),
        COUNT("n_skipped", "number of maps of classes in the label set that were not measured"),
    ),
    renamed={f"more{end}": f"excess{end}" for end in ("", "_lo", "_hi")},
)

declare_table(
    "sanity",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        TEXT("method", "as in maps", values=EXPLAINED_BY),
        TEXT(
            "against",
            "what a map is compared with: the map of the network with shuffled weights, the map of another "
            "class in the label set of the image, or the map of another image",
            values=COMPARED_WITH,
        ),
        INT.nullable(
            "layers", "number of final layers with shuffled weights; null if weights are not shuffled"
        ),
        INT.nullable("of_layers", "number of layers with weights; null if weights are not shuffled"),
        REAL("value", "mean rank correlation (Spearman) of the two maps"),
        *bounds("lo", "hi", _OVER_IMAGES),
        COUNT("n", "pairs of maps"),
        COUNT("n_skipped", "number of pairs that are skipped because one of the maps is constant"),
    ),
)


@dataclass(frozen=True, eq=False)
class Explanations(DiagnosisResult):
    """Maps of the regions that support a class, and measures of how reliable the maps are.

    Attributes
    ----------
    maps, localisation, sanity : pyarrow.Table
        The tables with these names. `localisation` and `sanity` have no rows if nothing was measured.
    notes, metadata, inputs, written
        As in `Result`.
    """

    NAMES = OPTIONAL = ("maps", "localisation", "sanity")

    maps: pa.Table
    localisation: pa.Table
    sanity: pa.Table

    def lines(self) -> Iterator[str]:
        """Yield the answer, measures of how well maps point at objects, and the sanity checks."""
        maps = self.maps.to_pylist()
        images = len({row["image_id"] for row in maps})
        yield f"{maps[0]['model']}: {len(maps):,} maps of {images:,} images"
        measured = self.localisation.to_pylist()
        for sentence in explanations_answer(measured):
            yield from ("", sentence)
        whole, difficult = ([r for r in measured if r["slice"] == part] for part in ("all", "difficult"))
        yield from _measure_lines(whole, "objects")
        if [r["n"] for r in difficult] != [r["n"] for r in whole]:
            yield from _measure_lines(difficult, "difficult objects: small, and not alone")
        yield from _class_lines([r for r in measured if r["slice"].startswith("class=") and r["n"]])
        if self.sanity.num_rows:
            yield ""
            head = ("method", "compared with", "rank correlation", "pairs")
            yield from table_lines(head, [_checked(row) for row in self.sanity.to_pylist()])
        yield ""


def _measure_lines(rows: Sequence[Row], objects: str) -> Iterator[str]:
    if not rows:
        return
    # Of a class without objects in the file, only the measures on other objects are known.
    n, n_skipped, rows = rows[0]["n"], rows[0]["n_skipped"], [r for r in rows if r["n"]]
    same = len({r["n"] for r in rows}) == 1
    skipped = f", {n_skipped:,} not measured" if n_skipped else ""
    yield ""
    yield (f"{objects}: {n:,} maps{skipped}")
    if not rows:
        return
    head = ("method", "measure", "maps", "chance", "centre", "maps minus centre", *(() if same else ("n",)))
    cells = [
        (
            r["method"],
            MEASURE_NAMES[r["metric"]],
            with_range(r["value"], r["lo"], r["hi"]),
            with_range(r["by_chance"]),
            with_range(r["centre"]),
            with_range(r["excess"], r["excess_lo"], r["excess_hi"], "+.3f"),
            *(() if same else (f"{r['n']:,}",)),
        )
        for r in rows
    ]
    yield from table_lines(head, cells)


def _class_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the share of objects of each class that the highest point is on, most objects first."""
    pointing = sorted((r for r in rows if r["metric"] == "pointing"), key=lambda r: -r["n"])
    beside = {(r["method"], r["slice"]): r for r in rows if r["metric"] == "pointing_other"}
    if not pointing:
        return
    yield ""
    cells = [
        (
            r["method"],
            r["slice"].removeprefix("class="),
            f"{r['n']:,}",
            with_range(r["value"], r["lo"], r["hi"]),
            with_range(r["by_chance"]),
            with_range(r["centre"]),
            _beside(r, beside.get((r["method"], r["slice"]))),
        )
        for r in pointing[:PRINTED_CLASSES]
    ]
    yield from table_lines(
        ("method", "class", "maps", "highest point on it", "chance", "centre", "on another"), cells
    )
    if len(pointing) > PRINTED_CLASSES:
        yield (f"… and {len(pointing) - PRINTED_CLASSES:,} more in the table")


def _beside(row: Row, other: Row | None) -> str:
    """Return a mean over as many maps as those of `row`, or with its n."""
    if other is None:
        return "–"
    n = "" if other["n"] == row["n"] else f" of {other['n']:,}"
    return with_range(other["value"], other["lo"], other["hi"]) + n


def _checked(r: Row) -> tuple[str, ...]:
    return r["method"], _compared(r), with_range(r["value"], r["lo"], r["hi"]), f"{r['n']:,}"


def _compared(row: Row) -> str:
    if row["against"] == "weights":
        return f"last {row['layers']} of {row['of_layers']} layers shuffled"
    return "another class of the image" if row["against"] == "class" else "another image"


_MEASURES = {
    "pointing": "Highest point on the object",
    "pointing_near": "Highest point on the object or near it",
    "pointing_other": "Highest point on an object of another class",
    "energy": "Share of the map on the object",
    "overlap": "Overlap with the object",
    "auroc": "AUROC of pixels",
}


@register(
    "chapter",
    "explanations",
    tables=("maps", "localisation", "sanity"),
    next=NextStep(
        "remove the objects that the model looks at, and count how many predictions change.",
        "manyhot diagnose shortcuts IMAGES --objects FILE --model NAME",
    ),
)
def explanations_chapter(named: Tables, folder: Path, draw: bool) -> Chapter | None:
    """Return the chapter about the regions that models use, or None if there is no table ``maps``."""
    maps = rows_of(named, "maps")
    if not maps:
        return None
    lead = (
        *explanations_answer(rows_of(named, "localisation")),
        "The maps show which regions support a class. These regions are bright, and the rest is dark. The "
        "amber line encloses values above half of the maximum, the white line encloses the object, and "
        "the cross marks the maximum. Objects are often at the centre of photographs, so a map is useful "
        "only if it is better than a spot at the centre.",
    )
    heads = (
        *text_heads("Measure", "Method", "Model", "Objects"),
        *number_heads("Value", "Spot at the centre", "By chance", "Maps"),
    )
    made = [listing("localisation", "Are the maps on the objects?", heads, _places(named), _where)]
    checks = (*text_heads("Compared with", "Method", "Model"), *number_heads("Rank correlation", "Pairs"))
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


def explanations_answer(rows: Sequence[Row]) -> list[str]:
    """Return sentences on what maps point at, starting with the clearest excess over chance."""
    own, other = list(_pointing(rows)), list(_pointing_other(rows))
    # The sentence on own objects is about all maps, that on other objects about those of one class.
    places = ([r for r in rows if r["slice"] == "all"], rows)
    beyond = [
        max((_beyond_chance(r) for r in of if r["metric"] == metric), default=0)
        for metric, of in zip(_POINTING, places, strict=True)
    ]
    return [*other, *own] if beyond[1] > beyond[0] else [*own, *other]


_POINTING = ("pointing", "pointing_other")
_FEWEST_IMAGES = 5  # of a statement about a class


def _beyond_chance(row: Row) -> float:
    """Return by how much a share exceeds chance; 0 if Wilson's interval over the images does not."""
    n = row["n_images"]
    if n < _FEWEST_IMAGES or wilson_interval(row["value"] * n, n)[0] <= row["by_chance"]:
        return 0.0
    return float(row["value"] - row["by_chance"])


def _pointing_other(rows: Sequence[Row]) -> Iterator[str]:
    """Yield of which class maps point at objects of other classes, where this is clearly not chance."""
    known = [r for r in rows if r["metric"] == "pointing_other" and r["slice"].startswith("class=")]
    best = max(known, key=_beyond_chance, default=None)
    if best is not None and _beyond_chance(best):
        yield (
            f"For {best['model']} and {best['method']}, the highest point of the map of "
            f"{best['slice'].removeprefix('class=')} is on an object of another class in "
            f"{with_ends(best['value'], best['lo'], best['hi'])} of {best['n']:,} maps, compared with "
            f"{percent(best['by_chance'])} by chance."
        )


def _pointing(rows: Sequence[Row]) -> Iterator[str]:
    """Yield how often the highest point of a map is on an object, for the method that does best."""
    known = [r for r in rows if r["metric"] == "pointing" and r["slice"] == "all" and r["n"]]
    if not known:
        return
    best = max(known, key=lambda r: float(r["value"]))
    is_better = best["excess_lo"] is not None and best["excess_lo"] > 0
    yield (
        f"For {best['model']} and {best['method']}, the highest point of the map is on the object in "
        f"{with_ends(best['value'], best['lo'], best['hi'])} of {best['n']:,} maps. The centre of the image "
        f"is on the object in {percent(best['centre'])}: the maps are {'' if is_better else 'not clearly '}"
        "better."
    )


def _places(named: Tables) -> list[Row]:
    """Return how well maps point at objects; for single classes only the highest point."""
    rows = [r for r in rows_of(named, "localisation") if r["n"]]
    return [r for r in rows if r["slice"] in ("all", "difficult") or r["metric"] in _POINTING]


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
    value = with_range(r["value"], r["lo"], r["hi"], ".2f").replace("-", "−")
    return _compared(r), r["method"], r["model"], value, f"{r['n']:,}"


def _looks(maps: Sequence[Row], folder: Path) -> list[Album]:
    """Return the photographs with pictures of maps, the classes of each side by side."""
    images = rows_by((row for row in maps if row.get("file")), "image_id")
    several_methods = len({row["method"] for row in maps}) > 1
    strips = []
    several = sorted(images.items(), key=lambda item: -len(item[1]))
    for (image_id,), rows in several[:MOST_IMAGES]:
        photo = next((r["photo"] for r in rows if r.get("photo")), None)
        shown = [picture(folder, photo, "original")] if photo else []
        names = (f"{r['class_name']}, {r['method']}" if several_methods else r["class_name"] for r in rows)
        shown += [picture(folder, r["file"], name, _score_of(r)) for name, r in zip(names, rows, strict=True)]
        strips.append(Strip(image_id, tuple(shown)))
    rest = len(images) - len(strips)
    text = f"{rest:,} more images are in the folder of this page." if rest else ""
    return [Album("looks", "Several labels of one image", text, tuple(strips))] if strips else []


def _score_of(r: Row) -> str:
    state = {"yes": ", in the label set", "no": ", not in the label set"}.get(r["state"] or "", "")
    return f"{r['score']:.2f}{state}"
