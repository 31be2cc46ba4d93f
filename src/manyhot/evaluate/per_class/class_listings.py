"""Results of classes as text: the lead and the tables of the chapter, and the lines of a terminal."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import compute as pc

from manyhot import tables
from manyhot.console import table_lines
from manyhot.core.array_types import Ints
from manyhot.core.difficulty import extreme_images
from manyhot.core.jackknife import FEWEST_POSITIVES, UNVARYING
from manyhot.core.sets import Case
from manyhot.evaluate.gallery import find_photographs
from manyhot.evaluate.per_class.class_tables import (
    MASKED_ROWS,
    best_first,
    first_of,
    mean_ap,
    of_models,
    worst_first,
)
from manyhot.files import write_text
from manyhot.report.chapter import Album, Strip, StripPicture, Tables, listing, percent, with_ends
from manyhot.report.listings import NONE, ColumnHead, Listing, number_heads, text_heads
from manyhot.report.page import Anchors
from manyhot.report.pictures import load_pillow, read_stored, thumbnail
from manyhot.report.text import counted, metric, title_of
from manyhot.tables import Images, Row

PRINTED = 10
"""Number of classes that the terminal shows for a model."""

MOST_MODELS = 3
"""Number of models of a data set whose classes a page lists; the tables contain all models."""

_GOALS = {
    "f1": "the largest F1",
    "f2": "the largest F2",
    "precision": "a precision of {}",
    "recall": "a recall of {}",
    "fpr": "a false positive rate of {}",
}

_MEASURED_AT = {"precision": "recall", "recall": "precision", "fpr": "recall"}
"""What thresholds with a goal leave open."""

_WHY = {
    "no positives": "on no image",
    "no negatives": "never absent",
    "too few positives": "on too few images",
    "not reached": "never precise enough",
    "no threshold": "without a threshold",
}


def _goal_text(rows: Sequence[Row], about: Mapping[str, str]) -> str:
    """Return what the thresholds of a model were chosen for; empty if the top class is predicted."""
    goal = rows[0].get("goal") or about.get("goal", "f1")  # the column is new
    return "" if goal == "top" else _GOALS[goal].format(f"{100 * float(about.get('at', 'nan')):g} %")


def _passed(rows: Sequence[Row], about: Mapping[str, str]) -> str:
    """Return which thresholds were passed; empty if they were chosen. Old tables have no column ``goal``."""
    if rows[0].get("goal", "f1") is not None:
        return ""
    return f"those of {about['thresholds_of']}" if "thresholds_of" in about else "those that were passed"


def _points_text(rows: Sequence[Row], about: Mapping[str, str]) -> str:
    """Return how the thresholds of a model were chosen, as a heading."""
    if passed := _passed(rows, about):
        return f"thresholds: {passed}"
    goal = _goal_text(rows, about)
    return f"thresholds for {goal}, by cross-fitting" if goal else "predicted: the top class of each image"


def chapter_lead(named: Tables) -> tuple[str, ...]:
    """Return the introductory paragraphs of the chapter."""
    results = named["class_results"]
    lead = (
        "Classes with the lowest average precision (AP) come first; classes with fewer than "
        f"{FEWEST_POSITIVES} images follow those with more. The AP of a random ranking is about "
        "the share of images with the class. The AP of rare classes is therefore lower and, because they "
        "have few images, less certain."
    )
    return (*_worst_in_short(results), lead, *_unasked(results))


def _worst_in_short(results: pa.Table) -> Iterator[str]:
    """Yield the worst class of the best model, for each data set: at its thresholds and by its AP."""
    models, about = of_models(results), tables.metadata(results)
    for dataset in dict.fromkeys(name for name, _ in models):
        model = next(best_first(models, dataset))
        rows = models[dataset, model]
        value, n = mean_ap(rows)
        if not n:
            continue
        yield from _worst_at_goal(dataset, model, rows, about)
        worst = worst_first(rows)[0]
        yield (
            f"On {title_of(dataset)}, the mean average precision of {model} is {percent(value, 1)} over "
            f"{n:,} classes. The lowest average precision{first_of(rows)} is that of {worst['name']}: "
            f"{with_ends(worst['ap'], worst['ap_lo'], worst['ap_hi'])} on "
            f"{counted(worst['n_positives'], 'image')} with the class."
        )


def _worst_at_goal(dataset: str, model: str, rows: Sequence[Row], about: Mapping[str, str]) -> Iterator[str]:
    """Yield the class with the lowest precision at a goal of recall, or recall at another goal."""
    measure = _MEASURED_AT.get(rows[0].get("goal") or "")
    known = [r for r in rows if not math.isnan(r[measure])] if measure else []
    if not measure or not known or _passed(rows, about):
        return
    worst = min(known, key=lambda r: (r["n_positives"] < FEWEST_POSITIVES, float(r[measure])))
    yield (
        f"On {title_of(dataset)}, with thresholds for {_goal_text(rows, about)}, the lowest {measure} of "
        f"{model}{first_of(rows).replace(' of', ' among')} is that of {worst['name']}: "
        f"{with_ends(worst[measure], worst[f'{measure}_lo'], worst[f'{measure}_hi'])} on "
        f"{counted(worst['n_positives'], 'image')} with the class."
    )


def _points_note(rows: Sequence[Row], about: Mapping[str, str]) -> str:
    if passed := _passed(rows, about):
        return f" The thresholds are {passed}; precision, recall and F1 are computed on all images."
    goal = _goal_text(rows, about)
    if not goal:
        return (
            " The top class of each image is predicted; to choose thresholds instead, use manyhot diagnose "
            "classes --for f1."
        )
    return (
        f" The threshold of a class is the one with {goal}. Precision, recall and F1 are "
        "computed by cross-fitting: the images are split into folds, and each fold is evaluated at the "
        "threshold chosen on the other folds."
    )


def _unasked(results: pa.Table) -> Iterator[str]:
    rows = [r for r in results.to_pylist() if r["n_unasked"]]
    if rows:
        unasked, negatives = (sum(r[name] for r in rows) for name in ("n_unasked", "n_negatives"))
        yield (
            f"Raters were not asked about {percent(unasked / negatives)} of the (image, class) pairs that "
            "count as negatives here, so some of these classes may be valid."
        )


def chapter_listings(named: Tables, anchors: Anchors, *, folded: bool = False) -> tuple[Listing, ...]:
    """Return the tables of classes and of confusions for the best models of each data set.

    The table of classes of the best model is folded only if `folded` is true.
    """
    about = tables.metadata(named["class_results"])
    models, found = of_models(named["class_results"]), list[Listing]()
    pairs, means = (
        of_models(named[name]) if name in named else {} for name in ("class_confusions", "class_means")
    )
    for dataset in dict.fromkeys(name for name, _ in models):
        order = list(best_first(models, dataset))
        for place, model in enumerate(order[:MOST_MODELS]):
            rest = len(order) - MOST_MODELS if place == MOST_MODELS - 1 else 0
            key = (dataset, model)
            confused, mean = pairs.get(key, ()), means.get(key, ())
            more = f" {counted(rest, 'more model')} in class_results.csv." if rest > 0 else ""
            note = more if place else _points_note(models[key], about)
            is_folded = folded or place > 0
            found += _of_model(key, models[key], confused, mean, anchors, folded=is_folded, note=note)
    return tuple(found)


def _of_model(
    key: tuple[str, str],
    rows: Sequence[Row],
    pairs: Sequence[Row],
    means: Sequence[Row],
    anchors: Anchors,
    *,
    folded: bool,
    note: str,
) -> Iterator[Listing]:
    dataset, model = key
    of = f"{model}, {title_of(dataset)}"
    note = f"{_means_note(rows, means)}{note}"
    anchor = anchors("classes", dataset, model)
    yield listing(anchor, f"Classes, {of}", _HEADS, worst_first(rows), _cells, note=note, folded=folded)
    confused = [r for r in pairs if None not in (r["predicted"], r["present"])]
    if confused:
        yield listing(
            anchors("class_confusions", dataset, model),
            f"Wrongly predicted classes and the classes that are present, {of}",
            _PAIR_HEADS,
            confused,
            _pair_cells,
            note="Where the present class is missed, the wrong prediction may replace it; elsewhere, both "
            "classes are predicted.",
            folded=True,
        )


def _means_note(rows: Sequence[Row], means: Sequence[Row]) -> str:
    """Return the metrics over classes as a sentence; the mean AP alone for tables of earlier versions."""
    if not means:
        value, n = mean_ap(rows)
        return f"Mean AP: {percent(value, 1)} over {n:,} classes."
    cells = "; ".join(" ".join(filter(None, _mean_cells(r, means))) for r in means)
    return f"{_over(means, rows)}: {cells}.{_without_interval(means)}"


def _label(mean: Row) -> str:
    return metric(mean["metric"]).label


def _mean_cells(mean: Row, means: Sequence[Row]) -> tuple[str, str, str]:
    """Return a metric, its value, and over how many classes, if not over as many as `_over` says.

    A ranking of all pairs also contains those of classes that no image shows.
    """
    n = mean["n_classes"]
    other = "" if n == _n_classes(means) else f"over {counted(n, 'class')}"
    return _label(mean), _share(mean["value"], mean["value_lo"], mean["value_hi"], 1), other


def _n_classes(means: Sequence[Row]) -> int:
    return max(int(r["n_classes"]) for r in means if r["metric"].endswith("_macro"))


def _over(means: Sequence[Row], rows: Sequence[Row]) -> str:
    """Return over how many classes and images metrics were computed."""
    n, n_skipped, n_unmatched = (means[0][name] for name in ("n", "n_skipped", "n_unmatched"))
    images = counted(n, "image")
    left_out = [f"{n_skipped:,} skipped"] if n_skipped else []
    left_out += [f"{n_unmatched:,} without a prediction"] if n_unmatched else []
    skipped = f" ({', '.join(left_out)})" if left_out else ""
    masked = f", {MASKED_ROWS}" if rows[0].get("masked") else ""
    return f"Over {counted(_n_classes(means), 'class')} and {images}{skipped}{masked}"


def _without_interval(means: Sequence[Row]) -> str:
    reasons: dict[str, list[str]] = {}
    for r in means:
        if r["no_interval"]:
            reasons.setdefault(r["no_interval"], []).append(_label(r))
    return "".join(f" No interval of {', '.join(names)}: {why}." for why, names in reasons.items())


_HEADS = (
    ColumnHead("Class", number=False),
    *number_heads("Images with it", "AP", "AUROC"),
    ColumnHead("Threshold", title="Chosen on all images, on the scale of the scores"),
    *number_heads("Precision", "Recall", "F1"),
)


def _cells(r: Row) -> tuple[str, ...]:
    cells = (
        r["name"],
        f"{r['n_positives']:,} of {r['n_positives'] + r['n_negatives']:,}",
        with_ends(r["ap"], r["ap_lo"], r["ap_hi"], 1),
        with_ends(r["auroc"], r["auroc_lo"], r["auroc_hi"], 1),
        _threshold(r),
        *(with_ends(r[name], r[f"{name}_lo"], r[f"{name}_hi"]) for name in ("precision", "recall", "f1")),
    )
    return tuple(cell or NONE for cell in cells)


def _threshold(r: Row) -> str:
    if not math.isnan(r["threshold"]):
        return f"{r['threshold']:.3g}"
    return "top class" if r.get("goal") == "top" else f"none, {_WHY[r['reason']]}"


_PAIR_HEADS = (
    *text_heads("Predicted wrongly", "Present"),
    ColumnHead("Images with both"),
    ColumnHead("Present is missed", title="Images that show the class but on which it is not predicted"),
    ColumnHead("Wrong in all", title="Images on which the first class is a false positive"),
    ColumnHead("Missed in all", title="Images on which the second class is missed"),
)


def _pair_cells(r: Row) -> tuple[str, ...]:
    return (
        r["predicted_name"],
        r["present_name"],
        *(NONE if r[name] is None else f"{r[name]:,}" for name in ("n", "n_instead", "n_wrong", "n_missed")),
    )


def terminal_lines(class_results: pa.Table, class_means: pa.Table) -> Iterator[str]:
    """Yield, for each model, the metrics over classes and the classes with the lowest average precision."""
    about, means = tables.metadata(class_results), of_models(class_means)
    for (dataset, model), rows in of_models(class_results).items():
        yield f"{dataset}, {model}: {_over(means[dataset, model], rows).lower()}"
        cells = list[tuple[str, ...]]()
        for mean in (own := means[dataset, model]):
            *value, other = _mean_cells(mean, own)
            cells.append((*value, "; ".join(filter(None, (other, mean["no_interval"])))))
        yield from table_lines(("metric", "value", ""), cells)
        yield ""
        yield _points_text(rows, about)
        head = ("class", "images", "AP", "AUROC", "threshold", "precision", "recall", "F1")
        shown = [r for r in worst_first(rows) if r["n_positives"]][:PRINTED]
        yield from table_lines(head, [_printed(r) for r in shown])
        without = [r["n_positives"] for r in shown if r["ap_lo"] is None and r["ap"] == r["ap"]]
        if any(n < FEWEST_POSITIVES for n in without):
            yield f"AP and AUROC have no interval for classes with fewer than {FEWEST_POSITIVES} images"
        if any(n >= FEWEST_POSITIVES for n in without):
            yield f"AP and AUROC have no interval if {UNVARYING}, such as at 100 %"
        reasons = Counter(r["reason"] for r in rows if r["reason"])
        if reasons:
            yield "classes with undefined numbers: " + "; ".join(
                f"{k:,} {_WHY[r]}" for r, k in reasons.items()
            )
        yield ""


def _printed(r: Row) -> tuple[str, ...]:
    threshold = "" if math.isnan(r["threshold"]) else f"{r['threshold']:.3g}"
    shares = (_share(r[name], r[f"{name}_lo"], r[f"{name}_hi"]) for name in ("precision", "recall", "f1"))
    return (
        r["name"],
        f"{r['n_positives']:,}",
        _share(r["ap"], r["ap_lo"], r["ap_hi"], 1),
        _share(r["auroc"], r["auroc_lo"], r["auroc_hi"], 1),
        threshold,
        *shares,
    )


def _share(value: float, lo: float | None, hi: float | None, decimals: int = 0) -> str:
    if math.isnan(value):
        return "-"
    ends = "" if lo is None or hi is None else f" ({100 * lo:.{decimals}f} to {100 * hi:.{decimals}f})"
    return f"{value:.{decimals}%}{ends}"


PHOTOGRAPHED_CLASSES = 3
"""Number of classes with photographs."""

PHOTOGRAPHS = 4
"""Maximum number of photographs in a row."""

_SIDE = 192
"""Pixels of the longer side of a photograph, which a page shows half as large: about 7 kB as JPEG."""

_ROWS = ("Not in the label set, highest scores", "In the label set, lowest scores")


def class_albums(images: Images, case: Case, image_id: Sequence[str], rows: Sequence[Row]) -> list[Album]:
    """Return an album of each of the worst classes of a model.

    Parameters
    ----------
    images : Images
        Table with the locations of photographs.
    case : Case
        The scores of the model.
    image_id : sequence of str
        The images of the case.
    rows : sequence of Row
        The rows of ``class_results`` of the model.

    Raises
    ------
    MissingExtraError
        If Pillow is not installed.
    """
    worst = [r for r in worst_first(rows) if r["ap"] == r["ap"]][:PHOTOGRAPHED_CLASSES]
    chosen = [extreme_images(case, r["class_id"], PHOTOGRAPHS) for r in worst]
    small = _thumbnails(images, {image_id[i] for of in chosen for ids in of for i in ids})
    anchors = Anchors()
    albums = []
    for r, of in zip(worst, chosen, strict=True):
        strips = tuple(
            Strip(title, tuple(_pictures(case, r["class_id"], ids, image_id, small)))
            for title, ids in zip(_ROWS, of, strict=True)
            if len(ids)
        )
        text = f"{counted(r['n_positives'], 'image')}, AP {percent(r['ap'], 1)}"
        albums.append(Album(anchors("photographs", r["key"]), r["name"], text, strips))
    return [album for album in albums if any(p.uri for s in album.strips for p in s.pictures)]


def _pictures(
    case: Case, class_id: int, rows: Ints, image_id: Sequence[str], small: dict[str, str]
) -> Iterator[StripPicture]:
    assert case.scores is not None
    for i in rows:
        yield StripPicture(small.get(image_id[i], ""), image_id[i], f"{case.scores[i, class_id]:.3g}")


def _thumbnails(images: Images, ids: set[str]) -> dict[str, str]:
    """Return small photographs as data URIs, keyed by image; those that cannot be read are left out."""
    pillow = load_pillow()
    table = images.table.filter(pc.is_in(images.image_id, pa.array(sorted(ids), pa.string())))
    names, found = table["image_id"].to_pylist(), dict[str, str]()
    for i, read in find_photographs(table["uri"].to_pylist()):
        small, _ = thumbnail(pillow, read, _SIDE)
        found |= {names[i]: small.uri} if small is not None else {}
    return found


def write_albums(albums: Sequence[Album], path: Path) -> list[Path]:
    """Write albums to a JSON file, if there are any."""
    if not albums:
        return []
    write_text(path, json.dumps([asdict(album) for album in albums], ensure_ascii=False))
    return [path]


def read_albums(path: Path) -> tuple[Album, ...]:
    """Read the albums that `write_albums` wrote; empty if there is no file."""
    return read_stored(path, _read_album, "the photographs of classes", "them")


def _read_album(fields: dict[str, Any]) -> Album:
    strips = ((s["title"], tuple(StripPicture(**p) for p in s["pictures"])) for s in fields["strips"])
    return Album(**fields | {"strips": tuple(Strip(title, pictures) for title, pictures in strips)})
