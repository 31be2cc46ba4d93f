"""Checks of predictions against label sets: classes out of range, wrong orders, and suspicious scores."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot.classes import CLASS_ORDERS, ClassList
from manyhot.core.accuracy import tied_tops
from manyhot.core.order_check import (
    accuracy_by_chance,
    are_probabilities,
    constant_scores,
    explain_order,
    one_sided_note,
    relate,
)
from manyhot.core.score_threshold import link_of
from manyhot.core.sets import NO_LABEL, Case, LabelSets
from manyhot.errors import InputError, OrderError, first_names
from manyhot.run import CHECK_ORDER
from manyhot.tables import Alignment, Predictions
from manyhot.tables.skipped_files import SkippedFiles


def ascends(rows: npt.NDArray[np.int64]) -> bool:
    """Return whether the rows are in ascending order."""
    return bool((rows[1:] > rows[:-1]).all())


def _sorted_places(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the places that sort distinct rows, in linear time: it is done for each model."""
    place = np.full(rows.max(initial=0) + 1, len(rows))
    place[rows] = np.arange(len(rows))
    return place[place < len(rows)]


def check_top_range(top: npt.NDArray[np.integer], sets: LabelSets, predictions: Predictions) -> None:
    """Raise an error if a predicted class is not a class of the label sets."""
    if top.max(initial=0) < sets.n_classes:
        return
    one_based = top.max() == sets.n_classes and top[top >= 0].min() == 1
    raise InputError(
        "A predicted class is out of range.",
        where=predictions.source or predictions.model,
        got=int(top.max()),
        allowed=f"0 to {sets.n_classes - 1}",
        do="subtract 1: these indices start at 1"
        if one_based
        else "check which class list the model predicts over",
    )


def check_order(case: Case, predictions: Predictions, alignment: Alignment) -> None:
    """Raise an error if rows or classes seem to be in a different order than declared.

    If the labels and the predictions name their classes, only the order of rows is checked.
    """
    orders = {} if predictions.by_name else _class_orders(case.labels.n_classes)
    # Rows in the order of the predictions' file: a wrong row order is an order of that file.
    rows = slice(None) if ascends(alignment.right) else _sorted_places(alignment.right)
    found = explain_order(
        case.top[rows],
        _any_label(case.labels)[rows],
        n_classes=case.labels.n_classes,
        by_name=lambda: _by_name(predictions.image_id, np.sort(alignment.right)),
        class_orders=orders,
    )
    got = f"top-1 accuracy {np.mean(case.top[:, 0] == _any_label(case.labels)):.4f}"
    relation = None if found or predictions.by_name else relate(case, orders)
    if relation is not None and relation.order:
        found = relation.order
        got = f"a mean correlation of {relation.correlation:.3f} of scores and labels"
    if found:
        raise OrderError(
            f"The predictions of {predictions.model} do not match the labels in the present order; the "
            f"likely cause is {found}.",
            where=predictions.source or None,
            got=got,
            do="pass the order of the rows (`rows`) or columns (`classes`) of the file, or `trust_order` if "
            "the present order is correct",
        )


def check_and_note_order(
    case: Case, predictions: Predictions, alignment: Alignment, misfits: SkippedFiles
) -> None:
    """Check the order as `check_order` does, and note scores that contradict their declared kind."""
    check_order(case, predictions, alignment)
    remarks = (f"{predictions.model}: {doubt}" for doubt in _declaration_doubts(case))
    misfits.remarks += [remark for remark in remarks if remark not in misfits.remarks]


def _declaration_doubts(case: Case) -> Iterator[str]:
    """Yield messages about scores whose order or kind may not be the declared one."""
    relation = relate(case, {})
    if relation is not None and relation.is_chance:
        yield (
            "the scores are no more closely related to the labels than if the images were in random order "
            f"(mean correlation {relation.correlation:.3f} over {relation.n_classes:,} classes): "
            f"{CHECK_ORDER}"
        )
    accuracy = accuracy_by_chance(case)
    if accuracy is not None:
        yield (
            "the top classes agree with the labels no more than if the images were in random order (the "
            f"first is valid on {accuracy:.1%} of them): {CHECK_ORDER}, and the class list"
        )
    if are_probabilities(case):
        yield (
            "the scores are declared as logits, but all are between 0 and 1, as probabilities are: pass "
            "their kind as `scores`; if other models have logits, run this first: manyhot convert FILE "
            "NEW.parquet --scores probability"
        )


TIES_MATTER = 0.0005
"""Minimum effect of the order of tied classes on an accuracy that a note reports."""


def score_doubts(case: Case, classes: ClassList | None, *, has_top: bool = True) -> Iterator[str]:
    """Yield messages about scores of all classes that look suspicious but are not an error.

    `has_top` says whether a metric of the top class is computed, because ties may change its value.
    """
    ties = tied_tops(case) if has_top else None
    if ties is not None and abs(ties.real1 - ties.expected) >= TIES_MATTER:
        yield (
            f"the highest score belongs to several classes on {ties.share:.1%} of {ties.n:,} images, and "
            f"the first of them is taken: real1 is {ties.real1:.1%}, but would be {ties.expected:.1%} on "
            "average if one of them were drawn at random"
        )
    if ties is not None and ties.n_equal:
        yield (
            f"all scores are equal on {ties.n_equal:,} of {ties.n:,} images, so the first class is taken: if "
            "their rows were never written, as after a job that failed, leave these images out"
        )
    yield from _declaration_doubts(case)
    constant = constant_scores(case)
    if len(constant):
        names = first_names([f"class {c}" if classes is None else classes.names[c] for c in constant])
        yield f"the scores of {names} are the same for all images, in float32 precision"
    if case.kind == "logit" and (note := one_sided_note(case.scores)) and link_of(case) == "sigmoid":
        yield note


@cache
def _class_orders(n_classes: int) -> dict[str, npt.NDArray[np.int32]]:
    orders = {name: order(n_classes) for name, order in CLASS_ORDERS.items()}
    return {name: order for name, order in orders.items() if order is not None}


def _any_label(sets: LabelSets) -> npt.NDArray[np.int32]:
    """Return a right class of each image, the original label where known; negative where there is none."""
    return np.where(sets.label == NO_LABEL, sets.first, sets.label)


def _by_name(ids: pa.Array, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    order: npt.NDArray[np.intp] = pc.sort_indices(pc.take(ids, pa.array(rows))).to_numpy().astype(np.intp)
    return order
