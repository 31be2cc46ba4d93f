"""Accuracy by groups of images: by number of labels, and by number of objects.

Also the label sets themselves: number of labels per image, and classes that share images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

import polars as pl

from manyhot.evaluate.report.figures.bars import bars, columns, lines
from manyhot.evaluate.report.figures.panel import (
    Frames,
    Panel,
    axis,
    beyond_said,
    column,
    compose,
    format_interval,
    own_said,
    slug,
)
from manyhot.evaluate.report.figures.scatter import Line, plain_side, scatter, shown
from manyhot.report.figure import Figure
from manyhot.report.text import counted, listed, title_of

SIZES = {"n_labels=1": "1", "n_labels=2": "2", "n_labels=3": "3", "n_labels>=4": "4 or more"}
"""Slices by size of the label set, and what they are called on an axis."""


_METRICS = ("top1", "real1", "variable_topk")

OBJECTS = {
    "all": "All",
    "annotation=*": "Examined again",
    "n_objects=1": "One object",
    "n_objects>=2": "Two or more",
}
"""Slices by number of objects, in the order of the poster's figure."""


def draw_groups(frames: Frames) -> Iterator[Figure | None]:
    """Yield the figures of the section."""
    for dataset in frames.datasets:
        yield by_set_size(frames, dataset)
        yield by_objects(frames, dataset)


def by_set_size(frames: Frames, dataset: str) -> Figure | None:
    """Plot accuracy by size of the label set, with one panel per metric and one line per model."""
    is_shown = pl.col("metric").is_in(_METRICS) & pl.col("slice").is_in(list(SIZES))
    rows = frames.results.filter(is_shown, dataset=dataset)
    used = [m for m in _METRICS if rows.filter(metric=m)["slice"].n_unique() > 1]
    # Two data sets stand side by side; the third metric of each is in the table.
    used = used[:2] if len(frames.datasets) > 1 else used
    if not used:
        return None
    y_values = shown(column(rows, "value", 100))
    panels = [_sizes(frames, rows.filter(metric=m), m, y_values) for m in used]
    said = [
        f"{axis(m).removesuffix(' (%)')}: {_medians_said(rows.filter(pl.col('metric') == m))}" for m in used
    ]
    return Figure(
        f"set-size-accuracy-{slug(dataset)}",
        "groups",
        dataset,
        f"Accuracy by number of labels per image, {title_of(dataset)}",
        "Each thin line is a model"
        + (", and the bold line connects the medians of all models" * frames.tables.has_trends)
        + ". The number of images is below each number of labels."
        + own_said(frames.own, "The bars of your own models are 95 % intervals.")
        + beyond_said(panels),
        f"Medians over models from one label to four or more. {' '.join(said)}",
        compose(panels, frames.own),
        rows.select("metric", "model", "slice", "value", "lo", "hi", "n").to_arrow(),
    )


def _sizes(frames: Frames, rows: pl.DataFrame, metric: str, y_values: list[float]) -> Panel:
    steps = _steps(rows, SIZES)
    sheet = _sheet(rows, steps)
    # One or two models are named, and have no median.
    few = () if frames.tables.has_trends else tuple(dict.fromkeys(sheet["model"]))
    middles = {} if few else _medians(rows)
    return lines(
        metric,
        sheet,
        {
            "step": [steps[s] for s in middles],
            "y": [100 * m for m in middles.values()],
            "text": [f"{100 * m:.0f} %" for m in middles.values()],
        },
        list(steps.values()),
        plain_side([axis(metric)], y_values),
        x_title="Labels in the set, and number of images",
        own=frames.own,
        few=few,
        tips=[("Labels and images", "step"), (axis(metric).removesuffix(" (%)"), "y", "2", " %", "lo", "hi")],
        width=210,
        height=240,
    )


def _steps(rows: pl.DataFrame, slices: Mapping[str, str]) -> dict[str, str]:
    """Return the axis label of each slice: its name and its number of images."""
    counts: dict[str, int] = dict(rows.group_by("slice").agg(pl.col("n").max()).iter_rows())
    return {s: f"{label}|{counts[s]:,}" for s, label in slices.items() if s in counts}


def _sheet(rows: pl.DataFrame, steps: Mapping[str, str]) -> dict[str, list[Any]]:
    """Return one value per model and step, with the steps in order."""
    rows = rows.sort(pl.col("slice").replace_strict({s: i for i, s in enumerate(steps)}), "model")
    values = {new: column(rows, old, 100) for new, old in (("y", "value"), ("lo", "lo"), ("hi", "hi"))}
    return {"model": column(rows, "model"), "step": [steps[s] for s in rows["slice"]], **values}


def _medians(rows: pl.DataFrame) -> dict[str, float]:
    values = {s: rows.filter(slice=s)["value"].to_list() for s in SIZES}
    return {s: median(v) for s, v in values.items() if v}


def _medians_said(rows: pl.DataFrame) -> str:
    return ", ".join(f"{100 * m:.1f}" for m in _medians(rows).values()) + " %."


def by_objects(frames: Frames, dataset: str) -> Figure | None:
    """Plot the effect of several objects on top-1 accuracy, as lines and as the drop of each model."""
    rows = frames.results.filter(pl.col("slice").is_in(list(OBJECTS)), dataset=dataset, metric="top1")
    if not {"annotation=*", "n_objects>=2"} <= set(rows["slice"]):
        return None
    drops = frames["drops"].filter(dataset_x=dataset, dataset_y=dataset, metric_x="top1", metric_y="top1")
    several = drops.filter(slice_x="annotation=*", slice_y="n_objects>=2")
    mean = several.filter(pl.col("model").is_null())
    said = _drop_said(mean)
    panels = [_object_lines(rows, drops, frames.own)]
    each = several.filter(pl.col("model").is_not_null()).sort("model")
    if each.height:
        panels.append(_object_drops(each, mean, frames.own))
    return Figure(
        f"objects-{slug(dataset)}",
        "groups",
        dataset,
        f"Accuracy on images with several objects, {title_of(dataset)}",
        f"Left: each thin line is a model, and the bold line is the mean over {_compared_said(mean, rows)}. "
        f"The number of images is below each group.{_examined_said(rows)} Right: each point shows how much "
        f"lower the accuracy of a model is on images with two or more objects than on all examined images. "
        f"The bar of each "
        f"point is its 95 % interval {frames.tables.over(dataset)}, and the line is the mean over models."
        + beyond_said(panels),
        said or f"Top-1 accuracy of {counted(rows['model'].n_unique(), 'model')} by number of objects.",
        compose(panels, frames.own, columns=2),
        rows.select("metric", "model", "slice", "value", "lo", "hi", "n").to_arrow(),
    )


def _examined_said(rows: pl.DataFrame) -> str:
    """Return on how many of the examined images objects were counted, as a sentence to follow others."""
    n = {s: int(rows.filter(slice=s)["n"].max() or 0) for s in OBJECTS}  # type: ignore[arg-type]
    counted_on, examined = n["n_objects=1"] + n["n_objects>=2"], n["annotation=*"]
    if counted_on >= examined:
        return ""
    return f" Objects were counted on {counted_on:,} of the {examined:,} examined images."


def _compared_said(mean: pl.DataFrame, rows: pl.DataFrame) -> str:
    """Return over which models the mean is, where not all that are drawn were compared."""
    n, drawn = int(mean["n_models"].sum()), rows["model"].n_unique()
    return "models" if n in (0, drawn) else f"the {counted(n, 'model')} that were compared"


def _drop_said(mean: pl.DataFrame) -> str:
    if mean.is_empty():
        return ""
    row = mean.row(0, named=True)
    parts = [f"With two or more objects, top-1 accuracy is {100 * row['drop']:.1f} points lower on average"]
    for lo, hi, over in (("lo", "hi", "images"), ("lo_models", "hi_models", "families of models")):
        if row[lo] is not None:
            parts.append(f"{format_interval(100 * row[lo], 100 * row[hi])} over {over}")
    ends = f" (95 % interval {', '.join(parts[1:])})" if parts[1:] else ""
    return f"{parts[0]}{ends}."


def _object_lines(rows: pl.DataFrame, drops: pl.DataFrame, own: tuple[str, ...]) -> Panel:
    steps = _steps(rows, OBJECTS)
    sheet = _sheet(rows, steps)
    means = _object_means(drops, list(steps))
    middle: dict[str, list[Any]] = {
        "step": [steps[s] for s in means],
        "y": [100 * v for v in means.values()],
        "text": [f"{100 * v:.1f} %" for v in means.values()],
    }
    return lines(
        "objects",
        sheet,
        middle,
        list(steps.values()),
        plain_side([axis("top1")], shown(sheet["y"])),
        x_title="Objects in the image, and number of images",
        own=own,
        tips=[("Images", "step"), ("Top-1 accuracy", "y", "2", " %", "lo", "hi")],
        width=400,
        height=320,
    )


def _object_means(drops: pl.DataFrame, used: list[str]) -> dict[str, float]:
    """Return the means over models in the drops table."""
    mean = drops.filter(pl.col("model").is_null())
    found = {row["slice_y"]: row["value_y"] for row in mean.iter_rows(named=True)}
    found |= {row["slice_x"]: row["value_x"] for row in mean.iter_rows(named=True)}
    return {s: found[s] for s in used if s in found}


def _object_drops(each: pl.DataFrame, mean: pl.DataFrame, own: tuple[str, ...]) -> Panel:
    sheet = {
        "model": column(each, "model"),
        "x": column(each, "value_x", 100),
        "y": column(each, "drop", 100),
        "y_lo": column(each, "lo", 100),
        "y_hi": column(each, "hi", 100),
    }
    level = 100 * mean["drop"][0] if mean.height else None
    return scatter(
        "object-drops",
        sheet,
        plain_side(["Top-1 accuracy on all examined images (%)"], sheet["x"]),
        plain_side(
            ["Points lost with two or more objects"],
            [0.0, *sheet["y"], *sheet["y_lo"], *sheet["y_hi"]],
            percent=False,
        ),
        title="",
        tips=[("All examined images", "x", "2", " %"), ("Points lost", "y", "2", "", "y_lo", "y_hi")],
        own=own,
        lines=[] if level is None else [Line(0.0, level, f"mean {level:.1f} points")],
        height=320,
    )


_MOST = 6
"""Label sets with at least this many labels are counted together."""


PAIRS = 8
_PAIR = ("name_a", "name_b", "images", "images_a", "images_b")


def draw_labels(frames: Frames) -> Iterator[Figure | None]:
    """Yield the figures of the section."""
    yield set_sizes(frames)
    yield class_pairs(frames)


def set_sizes(frames: Frames) -> Figure | None:
    """Plot the share of images with no, one, two, … labels, with one panel per data set."""
    table = frames["set_sizes"]
    if table.is_empty():
        return None
    names = table["dataset"].unique(maintain_order=True).to_list()
    drawn = {name: _set_sizes(table.filter(dataset=name)) for name in names}
    top = 100 * max(max(column(sheet, "share")) for sheet in drawn.values())
    panels = [_sizes_panel(i, name, sheet, 1.2 * top) for i, (name, sheet) in enumerate(drawn.items())]
    several = [f"{_several(table, name):.1f} % in {title_of(name)}" for name in names]
    return Figure(
        "set-sizes",
        "labels",
        names[0] if len(names) == 1 else "",
        "How many labels images have",
        "The figure shows the share of usable images by the number of classes that are valid on them. "
        f"On images without labels, no class was found valid.{_unrated_said(frames, names)}",
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
    return columns(
        f"sizes-{i}", sheet, x_title="Labels of an image", top=top, title=title_of(name), tips=tips
    )


def _unrated_said(frames: Frames, names: list[str]) -> str:
    """Return how many images no rater has seen, as a sentence to follow others."""
    cards = frames["datasets"].filter(pl.col("dataset").is_in(names) & (pl.col("rated") < pl.col("images")))
    said = [
        f"{counted(c['images'] - c['rated'], 'image')} of {title_of(c['dataset'])}"
        for c in cards.iter_rows(named=True)
    ]
    if not said:
        return ""
    return f" Images that no rater has seen keep their original labels; these are {listed(said, 5)}."


def class_pairs(frames: Frames) -> Figure | None:
    """Plot the pairs of classes with the most images in common, with one panel per data set."""
    table = frames["class_pairs"]
    if table.is_empty():
        return None
    names = table["dataset"].unique(maintain_order=True).to_list()
    best = {n: table.filter(dataset=n).sort("images", descending=True).head(PAIRS) for n in names}
    panels = [_pairs_panel(i, name, rows) for i, (name, rows) in enumerate(best.items())]
    said = [_most_said(name, rows) for name, rows in best.items()]
    return Figure(
        "class-pairs",
        "labels",
        names[0] if len(names) == 1 else "",
        "Classes that are valid together",
        f"The figure shows the {max(b.height for b in best.values())} pairs of classes that are most often "
        "valid on the same image, with the number of images. One class is not enough to describe such an "
        "image, unless both names mean the same thing, or votes for one class are tied between them.",
        f"The most frequent pair: {'; '.join(said)}.",
        compose(panels, columns=2),
        pl.concat(best.values()).select("dataset", *_PAIR).to_arrow(),
    )


def _most_said(name: str, rows: pl.DataFrame) -> str:
    row = rows.row(0, named=True)
    images = counted(row["images"], "image")
    return f"{_short(row['name_a'])} and {_short(row['name_b'])}, on {images} of {title_of(name)}"


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
    return bars(f"pairs-{i}", sheet, x_title=title, top=top, title=title_of(name), tips=tips, width=245)


def _set_sizes(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows by size, the large sizes together."""
    capped = rows.with_columns(pl.col("size").clip(upper_bound=_MOST))
    together = capped.group_by("size").agg(pl.col("images").sum(), pl.col("share").sum()).sort("size")
    return together.with_columns(label=pl.col("size").map_elements(_size, return_dtype=pl.String))


def _size(size: int) -> str:
    return "none" if size == 0 else f"{size} +" if size == _MOST else str(size)


def _several(table: pl.DataFrame, name: str) -> float:
    return 100 * float(table.filter(pl.col("size") >= 2, dataset=name)["share"].sum())


def _share(share: float) -> str:
    percent = 100 * share
    return "< 0.1 %" if 0 < percent < 0.05 else f"{percent:.1f} %"


def _short(name: str) -> str:
    """Return the first of a class's names."""
    return name.partition(",")[0]
