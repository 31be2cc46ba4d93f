"""False positives and misses of each class of multi-label data, as diagnose errors lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.console import table_lines
from manyhot.core.class_errors import (
    FALSE_POSITIVE,
    MISS,
    ClassErrors,
    class_errors,
    independent_classes,
)
from manyhot.core.sets import LabelSets
from manyhot.data.data_sets import Source
from manyhot.diagnose.classes import in_order_of_ids
from manyhot.evaluate.slices import model_cases
from manyhot.report.chapter import listing
from manyhot.report.listings import Listing, heads_of
from manyhot.report.text import listed, title_of
from manyhot.tables import Labels, Row, schema
from manyhot.tables.arrays import label_sets
from manyhot.tables.definitions import INT, REAL, TEXT, declare_table

SEED = 0
"""Seed of the folds, as by default in diagnose classes."""

declare_table(
    "class_errors",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        TEXT("image_id", "the image"),
        INT("class_id", "the class"),
        TEXT("name", "name of the class"),
        TEXT(
            "error",
            "whether the class is predicted but not valid, or valid but missed",
            values=(FALSE_POSITIVE, MISS),
        ),
        REAL("probability", "probability of the class on the image"),
        REAL("threshold", "minimum probability at which the class is predicted, chosen on other images"),
    ),
)


def errors_by_class(source: Source, labels: Labels) -> tuple[pa.Table, list[dict[str, Any]]]:
    """Return the table ``class_errors`` and the counts of each model with independent classes.

    Folds and thresholds are those of ``diagnose classes``, with ``masked`` if the label sets record which
    classes were answered no.
    """
    sets = label_sets(labels)
    parts, counts = [schema("class_errors").empty_table()], list[dict[str, Any]]()
    if sets.labelled.any() or sets.exclusive:
        return parts[0], counts
    ordered = in_order_of_ids(labels)
    classes = source.classes or labels.known_classes
    names = np.array(classes.names if classes else [str(c) for c in range(sets.n_classes)], object)
    for model in model_cases(replace(source, labels=ordered, images=None), trust_order=True):
        case = independent_classes(model.case)
        found = None if case is None else class_errors(case, rng=np.random.default_rng(SEED))
        if found is None:
            continue
        of = {"dataset": source.name, "model": model.model}
        columns = {
            **{key: pa.repeat(pa.scalar(value, pa.string()), len(found.image)) for key, value in of.items()},
            "image_id": ordered.image_id.take(pa.array(model.rows[found.image])),
            "class_id": found.classes,
            "name": pa.array(names[found.classes], pa.string()),
            "error": np.where(found.is_miss, MISS, FALSE_POSITIVE),
            "probability": found.probability,
            "threshold": pa.array(found.threshold, from_pandas=False),
        }
        parts.append(pa.table(columns).cast(schema("class_errors")))
        counts.append({**of, **_counts(model.case.labels, found, names)})
    return pa.concat_tables(parts), counts


def _counts(sets: LabelSets, made: ClassErrors, names: npt.NDArray[np.object_]) -> dict[str, Any]:
    """Return how many images there are, and how many errors of each class among how many pairs."""
    misses = np.bincount(made.classes[made.is_miss], minlength=sets.n_classes)
    wrong = np.bincount(made.classes[~made.is_miss], minlength=sets.n_classes)
    columns = zip(names, wrong, made.n_negatives, misses, made.n_positives, strict=True)
    classes = [dict(zip(("name", *_COUNTED), (str(n), *map(int, of)), strict=True)) for n, *of in columns]
    return {
        "n": int(sets.usable.sum()),
        "n_empty": int((sets.usable & ~sets.scored).sum()),
        "masked": sets.asked_known and not sets.complete,
        "classes": [c for c in classes if c["n_positives"]],
        "not_judged": [c["name"] for c in classes if not c["n_positives"]],
    }


_COUNTED = ("n_false_positives", "n_negatives", "n_misses", "n_positives")


def class_errors_answer(counts: Sequence[Row]) -> Iterator[str]:
    """Yield how many false positives and misses each model makes, and which classes are not judged."""
    before = None
    for c in counts:
        wrong, negatives, misses, positives = (sum(of[key] for of in c["classes"]) for key in _COUNTED)
        where = f"{c['n']:,} images of {title_of(c['dataset'])}"
        images = f", on {where}, of which {c['n_empty']:,} have no valid class"
        yield (
            f"{c['model']} makes {wrong:,} of the {negatives:,} possible false positives, and misses "
            f"{misses:,} of the {positives:,} valid classes{images * (images != before)}."
        )
        before = images
        if c["not_judged"]:
            not_judged = listed(c["not_judged"], 5)
            yield f"Classes that are not judged, because too few images show them: {not_judged}."
    if counts:
        call = "manyhot diagnose classes --masked" if counts[0]["masked"] else "manyhot diagnose classes"
        yield (
            "A class is predicted if its probability reaches its threshold, which was chosen for the "
            f"largest F1 on other images ({call}). Pairs that are unclear or were not asked about are not "
            "judged. Only errors of the "
            "top class, on images with a valid class, are sorted into kinds; pairs are not."
        )


def _class_cells(r: Row) -> tuple[str, ...]:
    return (
        r["name"],
        f"{r['n_false_positives']:,} of {r['n_negatives']:,}",
        f"{r['n_misses']:,} of {r['n_positives']:,}",
        r["model"],
        title_of(r["dataset"]),
    )


_CLASS_HEADS = ("class", "false positives", "misses", "model", "data set")

CLASSES_LISTED = 20
"""Classes that a terminal shows, those with the most errors."""


def _by_class(counts: Sequence[Row]) -> list[Row]:
    """Return the classes of all models, those with the most errors first."""
    rows = [{**c, **of} for c in counts for of in c["classes"]]
    return sorted(rows, key=lambda r: -int(r["n_false_positives"] + r["n_misses"]))


def class_counts_listing(counts: Sequence[Row]) -> Listing:
    """Return the page's table of the classes of all models."""
    heads = heads_of(_CLASS_HEADS, ("false positives", "misses"))
    return listing("class-error-counts", "Errors by class", heads, _by_class(counts), _class_cells)


_HEADS = ("image", "class", "error", "probability", "threshold", "model")


def _cells(r: Row) -> tuple[str, ...]:
    least = "none" if r["threshold"] != r["threshold"] else f"{r['threshold']:.2f}"
    return r["image_id"], r["name"], r["error"], f"{r['probability']:.2f}", least, r["model"]


def first_class_errors(errors: pa.Table, most: int) -> list[Row]:
    """Return the most confident errors of all models: up to `most` / 2 false positives and as many misses."""
    p, is_miss = errors["probability"].to_numpy(), errors["error"].to_numpy() == MISS
    order = np.argsort(-np.where(is_miss, 1 - p, p), kind="stable")
    first = [order[is_miss[order] == side][: most // 2] for side in (False, True)]
    rows: list[Row] = errors.take(pa.array(np.concatenate(first))).to_pylist()
    return rows


def class_error_lines(errors: pa.Table, counts: Sequence[Row], most: int) -> Iterator[str]:
    """Yield the terminal output: the counts, and the most confident errors."""
    if not counts:
        return
    yield " ".join(class_errors_answer(counts))
    yield ""
    classes = _by_class(counts)
    yield from table_lines(_CLASS_HEADS, [_class_cells(r) for r in classes[:CLASSES_LISTED]])
    if len(classes) > CLASSES_LISTED:
        yield f"the first {CLASSES_LISTED} of {len(classes):,}; the page shows all of them"
    yield ""
    rows = first_class_errors(errors, most)
    n = f"{len(rows):,} of {len(errors):,}"
    yield f"first {n} false positives and misses, the most confident of each first"
    yield from table_lines(_HEADS, [_cells(r) for r in rows])
    yield ""


def class_error_listing(errors: pa.Table, most: int, link: Callable[[Row], str] | None) -> Listing:
    """Return the page's table of the most confident errors."""
    heads, rows = heads_of(_HEADS, ("probability", "threshold")), first_class_errors(errors, most)
    return listing("class-errors", "False positives and misses", heads, rows, _cells, link=link)
