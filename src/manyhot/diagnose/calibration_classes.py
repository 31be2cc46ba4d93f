"""The tables of diagnose calibration, and what it measures and shows of each class."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from manyhot.classes import ClassList
from manyhot.console import table_lines
from manyhot.core.class_calibration import ClassCalibration, class_calibration
from manyhot.core.clusters import Clusters
from manyhot.core.conformal import COVERS, DRAWN
from manyhot.core.reliability import BINS
from manyhot.core.sets import Case
from manyhot.evaluate.confidence import FITTED_TO, RECALIBRATIONS
from manyhot.evaluate.reliability import EVENTS
from manyhot.report.chapter import in_points, listing, percent, rows_by, with_ends, with_range
from manyhot.report.listings import Listing, heads_of, number_heads, text_heads
from manyhot.report.text import listed, title_of
from manyhot.tables import Row
from manyhot.tables.definitions import COUNT, INT, ITS, REAL, TEXT, bounds, declare_table, interval
from manyhot.tables.frames import null_if_nan

EACH_CLASS = "class"
"""The event of a bin that contains all classes, each against its label."""

declare_table(
    "calibration",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        TEXT(
            "method",
            "the recalibration method; none if the predictions are the original ones",
            values=("none", *RECALIBRATIONS),
        ),
        TEXT.nullable(
            "fitted_to",
            "whether it was fitted to original labels, label sets or votes; null if there is no method",
            values=FITTED_TO,
        ),
        REAL.nullable(
            "temperature", "the number by which logits are divided; null for methods without a temperature"
        ),
        COUNT("n_fitted", "number of images fitted on"),
        TEXT("metric", "a registered name"),
        REAL("value", "value on the held-out images; NaN if undefined"),
        *bounds("lo", "hi", "its 95 % interval over these images; null if there is none"),
        COUNT("n", "held-out images that the metric counts"),
        COUNT("n_skipped", "held-out images that the metric does not count"),
        COUNT("n_unmatched", "images with labels for which the model has no prediction"),
    ),
)

declare_table(
    "prediction_sets",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        TEXT(
            "cover",
            "what a prediction set must contain: the original label, one class of the label set, or all "
            "classes of the label set; or, if labels have probabilities, a drawn class, or all classes of a "
            "drawn label set",
            values=(*COVERS, *DRAWN),
        ),
        REAL("alpha", "permitted share of sets without the required classes; coverage should be 1 - alpha"),
        REAL(
            "threshold",
            "lowest probability that a class in a set may have; at 0, each set contains all classes",
        ),
        COUNT("n_fitted", "number of images on which the threshold was chosen"),
        COUNT("n", "number of held-out images, on which the following columns are measured"),
        COUNT("n_skipped", "number of held-out images without labels to cover"),
        REAL("coverage", "share of held-out images whose set contains the required classes"),
        *bounds("lo", "hi", f"{ITS} (Wilson; jackknife for drawn labels)", column=REAL),
        *interval(
            "mean_size",
            "mean number of classes in a set",
            f"{ITS} (Student's t); NaN if all sets are equally large",
            value=REAL,
        ),
        *interval("share_empty", "share of sets without any class", f"{ITS} (Wilson)", value=REAL),
    ),
)

declare_table(
    "calibration_bins",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        TEXT("method", "as in calibration", values=("none", *RECALIBRATIONS)),
        TEXT.nullable("fitted_to", "as in calibration", values=FITTED_TO),
        TEXT(
            "event",
            "as in reliability; or class, for the probability of each class against its label, with all "
            "classes pooled",
            values=(*EVENTS, EACH_CLASS),
        ),
        REAL("from", "lower end of the bin"),
        REAL("to", "upper end of the bin; only the last bin includes its upper end"),
        REAL("confidence", "mean probability of the top class or, for the event class, of the pairs"),
        REAL(
            "right",
            "share of images whose top class is right or, for the event class, of pairs whose class is valid",
        ),
        *bounds("lo", "hi", f"{ITS} (Wilson; all pairs of an image in a bin form one cluster)"),
        COUNT(
            "n",
            "number of held-out images in the bin with a result for every event; for the event class, number "
            "of (image, class) pairs of all images",
        ),
    ),
)

_AGAINST_CHANCE = "labels drawn from the class probabilities, with the observed similarity within clusters"

declare_table(
    "class_calibration",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        INT("class_id", "the class"),
        TEXT("key", "key of the class"),
        TEXT("name", "name of the class"),
        REAL(
            "predicted",
            "mean probability of the class; NaN, as are the other values, if raters were never asked about "
            "it, or if they never answered no and did not answer about all images",
        ),
        *interval("prevalence", "share of images with the class", f"{ITS} (Wilson)", value=REAL),
        *interval(
            "excess",
            "predicted minus prevalence",
            f"{ITS} (Newcombe, from both intervals and their correlation)",
            value=REAL,
        ),
        REAL("ece", "calibration error of the class in bins of equal width, as in the metric ece"),
        REAL(
            "ece_chance", f"mean calibration error on {_AGAINST_CHANCE}: the error that chance alone produces"
        ),
        REAL("ece_chance_hi", f"95 % quantile of the calibration error on {_AGAINST_CHANCE}"),
        *interval(
            "brier",
            "mean squared difference between probability and label",
            f"{ITS} (jackknife); null if fewer than 10 images have the class, or fewer than 10 do not",
            value=REAL,
        ),
        COUNT(
            "n",
            "number of usable images, with or without valid classes, on which raters answered yes or no "
            "about the class; all usable images if the label sets do not record which classes were answered "
            "no",
        ),
        COUNT("n_positives", "number of these images with the class"),
        COUNT("n_unclear", "number of usable images on which the class is unclear; they are left out"),
        COUNT(
            "n_unasked",
            "number of usable images on which no rater was asked about the class; they are left out",
        ),
    ),
)

CLASSES_PRINTED = 20
"""Classes that a terminal shows, those with the largest error in excess of chance."""


def class_tables(
    dataset: str,
    model: str,
    case: Case,
    classes: ClassList | None,
    seed: int,
    clusters: Clusters | None = None,
) -> tuple[list[Row], list[Row]]:
    """Return rows of ``class_calibration``, and the bins of all classes for ``calibration_bins``."""
    found = class_calibration(case, rng=np.random.default_rng(seed), clusters=clusters)
    ids = [str(c) for c in range(case.labels.n_classes)]
    columns = {
        "class_id": range(len(ids)),
        "key": classes.keys if classes else ids,
        "name": classes.names if classes else ids,
        "predicted": found.predicted,
        **_ends("prevalence", found.prevalence),
        **_ends("excess", found.excess),
        "ece": found.ece,
        "ece_chance": found.chance,
        "ece_chance_hi": found.chance_hi,
        **_ends("brier", found.brier),
        **{name: getattr(found, name) for name in ("n", "n_positives", "n_unclear", "n_unasked")},
    }
    of = {"dataset": dataset, "model": model}
    rows: list[Row] = [
        of | dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)
    ]
    return rows, list(_bins(of, found))


def _ends(name: str, values: tuple[np.ndarray, ...]) -> dict[str, list[float | None]]:
    value, *ends = values
    made: dict[str, list[float | None]] = {name: value.tolist()}
    for end, numbers in zip(("lo", "hi"), ends, strict=True):
        made[f"{name}_{end}"] = list(map(null_if_nan, numbers))
    return made


def _bins(of: Row, measured: ClassCalibration) -> Iterator[Row]:
    bins = measured.bins
    for b in np.flatnonzero(bins.weight):
        n = bins.weight[b]
        yield {
            **of,
            "method": "none",
            "event": EACH_CLASS,
            "from": b / BINS,
            "to": (b + 1) / BINS,
            "confidence": bins.confidence[b] / n,
            "right": bins.right[b] / n,
            "lo": null_if_nan(measured.lo[b]),
            "hi": null_if_nan(measured.hi[b]),
            "n": int(n),
        }


def by_model(rows: Sequence[Row]) -> dict[tuple[Any, ...], list[Row]]:
    """Return the rows of each data set and model, without classes whose calibration is unknown."""
    return rows_by((row for row in rows if not math.isnan(row["ece"])), "dataset", "model")


def classes_answer(rows: Sequence[Row]) -> Iterator[str]:
    """Yield how well the class probabilities of each model are calibrated, and which classes are not."""
    models = by_model(rows)
    for (dataset, model), own in models.items():
        ece, chance = (float(np.mean([r[key] for r in own])) for key in ("ece", "ece_chance"))
        fewest, most = min(r["n"] for r in own), max(r["n"] for r in own)
        images = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
        yield (
            f"The class probabilities of {model} are wrong by {ece:.3f} on average over {len(own):,} classes "
            f"(class-wise ECE), measured per class on the {images} images of {title_of(dataset)} for which "
            "the label of the class is known, including images without any valid class; calibrated "
            "probabilities would be wrong by "
            f"{chance:.3f} by chance."
        )
        clear = [r for r in least_calibrated_first(own) if r["ece"] > r["ece_chance_hi"]]
        names = [f"{r['name']} ({_direction(r)})" for r in clear]
        yield (
            f"Not calibrated, beyond chance: {listed(names, 5)}."
            if names
            else "Chance can explain the errors of all classes."
        )
        cells = sum(r[key] for r in own for key in ("n", "n_unclear", "n_unasked"))
        left_out = {"not asked": "n_unasked", "unclear": "n_unclear"}
        counts = {what: sum(r[key] for r in own) for what, key in left_out.items()}
        if parts := [f"{percent(n / cells, 1)} {what}" for what, n in counts.items() if n]:
            yield f"(image, class) pairs left out because their label is unknown: {listed(parts, 2)}."
        if counts["not asked"]:
            yield _IF_ABSENT
    certain = [r["name"] for r in rows if r["n"] and math.isnan(r["ece"])]
    if names := list(dict.fromkeys(certain)):
        yield (
            "Left out, because raters never answered no and did not answer about all images: "
            f"{listed(names, 5)}. The frequency of yes among such answers says nothing about the frequency "
            "of the class among all images."
        )


_IF_ABSENT = (
    "If empty cells of the labels mean that a class is absent, convert them first: manyhot convert FILE "
    "labels.parquet --format \"indicator(empty='no')\"."
)


def least_calibrated_first(rows: Sequence[Row]) -> list[Row]:
    """Return classes sorted by how far their calibration error exceeds what chance explains."""
    return sorted(rows, key=lambda r: float(r["ece_chance_hi"] - r["ece"]))


def _direction(row: Row) -> str:
    lo, hi = row["excess_lo"], row["excess_hi"]
    if lo is None or lo <= 0 <= hi:
        return f"ECE {row['ece']:.3f}"
    how = "high" if row["excess"] > 0 else "low"
    return f"too {how}: {percent(row['predicted'])} predicted, {percent(row['prevalence'])} valid"


_HEADS = ("class", "predicted", "valid", "excess, points", "ECE", "by chance, up to", "Brier", "images")


def _cells(r: Row, name: str = "name") -> tuple[str, ...]:
    return (
        r[name],
        percent(r["predicted"], 1),
        with_ends(r["prevalence"], r["prevalence_lo"], r["prevalence_hi"], 1),
        in_points(r["excess"], r["excess_lo"], r["excess_hi"], 1),
        f"{r['ece']:.3f}",
        f"{r['ece_chance_hi']:.3f}",
        with_range(r["brier"], r["brier_lo"], r["brier_hi"]),
        f"{r['n']:,}",
    )


def calibration_of_classes(dataset: str, model: str, rows: Sequence[Row]) -> Iterator[str]:
    """Yield the terminal output for the classes of a model."""
    yield f"{dataset}, {model}: each class against its label"
    yield from table_lines(_HEADS, [_cells(r) for r in least_calibrated_first(rows)[:CLASSES_PRINTED]])
    if len(rows) > CLASSES_PRINTED:
        yield f"the first {CLASSES_PRINTED} of {len(rows):,}; the table class_calibration has all classes"
    yield ""


def class_listing(rows: Sequence[Row]) -> Listing:
    """Return the page's table of the classes of all models."""
    heads = (
        *heads_of(_HEADS, _HEADS[1:]),
        *number_heads("Unclear", "Not asked"),
        *text_heads("Model", "Data set"),
    )
    every = [r for own in by_model(rows).values() for r in least_calibrated_first(own)]
    return listing(
        "calibration-classes",
        "Each class against its label",
        heads,
        every,
        lambda r: (
            *_cells(r),
            f"{r['n_unclear']:,}",
            f"{r['n_unasked']:,}",
            r["model"],
            title_of(r["dataset"]),
        ),
        note="A class is not calibrated if its ECE is above the 95 % quantile of the ECEs that occur by "
        "chance. Images without any valid class count; pairs that are unclear or were not asked about do "
        "not.",
    )
