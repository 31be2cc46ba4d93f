"""The label sets themselves: how many labels images have, and which classes share images."""

from __future__ import annotations

import polars as pl

from manyhot.report.figure import Figure
from manyhot.report.figures.bars import bars, columns
from manyhot.report.figures.numbers import Numbers, column
from manyhot.report.figures.panel import Panel, compose
from manyhot.report.words import called, counted, listed

MOST = 6
"""Label sets of so many labels or more are counted together."""

PAIRS = 15

_PAIR = ("name_a", "name_b", "images", "images_a", "images_b")


def draw_labels(numbers: Numbers) -> list[Figure]:
    """Return the figures of the section."""
    return [figure for figure in (set_sizes(numbers), class_pairs(numbers)) if figure is not None]


def set_sizes(numbers: Numbers) -> Figure | None:
    """Return the share of images with none, one, two, … labels, a panel a data set."""
    table = numbers["set_sizes"]
    if table.is_empty():
        return None
    names = table["dataset"].unique(maintain_order=True).to_list()
    drawn = {name: _sizes(table.filter(pl.col("dataset") == name)) for name in names}
    top = 100 * max(max(column(sheet, "share")) for sheet in drawn.values())
    panels = [_sizes_panel(i, name, sheet, 1.2 * top) for i, (name, sheet) in enumerate(drawn.items())]
    several = [f"{_several(table, name):.1f} % in {called(name)}" for name in names]
    return Figure(
        "set-sizes",
        "labels",
        names[0] if len(names) == 1 else "",
        "How many labels images have",
        "Share of usable images by the number of classes that are valid on them. An image without labels "
        f"was looked at, and nothing proposed for it was found valid.{_unrated_said(numbers, names)}",
        f"Usable images with two or more labels: {listed(several, len(several))}.",
        compose(panels),
        table.to_arrow(),
    )


def _sizes_panel(i: int, name: str, rows: pl.DataFrame, top: float) -> Panel:
    sheet = {
        "label": column(rows, "label"),
        "value": column(rows, "share", 100),
        "text": [_share(s) for s in rows["share"]],
        "images": column(rows, "images"),
    }
    tips = [("Labels", "label"), ("Share of images", "value", "2", " %"), ("Images", "images", "0", "")]
    return columns(f"sizes-{i}", sheet, x_title="Labels of an image", top=top, title=called(name), tips=tips)


def _unrated_said(numbers: Numbers, names: list[str]) -> str:
    """Return how many images nobody looked at, as a sentence to follow others."""
    cards = numbers["datasets"].filter(pl.col("dataset").is_in(names) & (pl.col("rated") < pl.col("images")))
    said = [f"{c['images'] - c['rated']:,} of {called(c['dataset'])}" for c in cards.iter_rows(named=True)]
    return (
        f" Images that nobody looked at have the labels that they came with: {listed(said, 5)}."
        if said
        else ""
    )


def class_pairs(numbers: Numbers) -> Figure | None:
    """Return the pairs of classes that share most images, a panel a data set."""
    table = numbers["class_pairs"]
    if table.is_empty():
        return None
    names = table["dataset"].unique(maintain_order=True).to_list()
    best = {
        n: table.filter(pl.col("dataset") == n).sort("images", descending=True).head(PAIRS) for n in names
    }
    panels = [_pairs_panel(i, name, rows) for i, (name, rows) in enumerate(best.items())]
    said = [_most_said(name, rows) for name, rows in best.items()]
    return Figure(
        "class-pairs",
        "labels",
        names[0] if len(names) == 1 else "",
        "Classes that are valid together",
        f"The {max(b.height for b in best.values())} pairs of classes that are both valid on most images, "
        "and on how many. One word cannot describe such an image; two names may also mean one "
        "thing.",
        f"The most frequent pair: {listed(said, len(said))}.",
        compose(panels, columns=2),
        pl.concat(best.values()).select("dataset", *_PAIR).to_arrow(),
    )


def _most_said(name: str, rows: pl.DataFrame) -> str:
    row = rows.row(0, named=True)
    images = counted(row["images"], "image")
    return f"{_short(row['name_a'])} and {_short(row['name_b'])} on {images} of {called(name)}"


def _pairs_panel(i: int, name: str, rows: pl.DataFrame) -> Panel:
    named = zip(rows["name_a"], rows["name_b"], strict=True)
    sheet = {
        "label": [f"{_short(a)} + {_short(b)}" for a, b in named],
        "value": column(rows, "images"),
        "text": [f"{n:,}" for n in rows["images"]],
        "images_a": column(rows, "images_a"),
        "images_b": column(rows, "images_b"),
    }
    tips = [
        ("Classes", "label"),
        ("Images with both", "value", "0", ""),
        ("With the first", "images_a", "0", ""),
        ("With the second", "images_b", "0", ""),
    ]
    top = 1.25 * max(column(rows, "images"))
    title = "Images on which both are valid"
    return bars(f"pairs-{i}", sheet, x_title=title, top=top, title=called(name), tips=tips)


def _sizes(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows by size, the large sizes together."""
    capped = rows.with_columns(pl.col("size").clip(upper_bound=MOST))
    together = capped.group_by("size").agg(pl.col("images").sum(), pl.col("share").sum()).sort("size")
    return together.with_columns(label=pl.col("size").map_elements(_size, return_dtype=pl.String))


def _size(size: int) -> str:
    return "none" if size == 0 else f"{size} +" if size == MOST else str(size)


def _several(table: pl.DataFrame, name: str) -> float:
    rows = table.filter((pl.col("dataset") == name) & (pl.col("size") >= 2))
    return 100 * float(rows["share"].sum())


def _share(share: float) -> str:
    percent = 100 * share
    return "< 0.1 %" if 0 < percent < 0.05 else f"{percent:.1f} %"


def _short(name: str) -> str:
    """Return the first of a class's names."""
    return name.partition(",")[0]
