"""Why a metric has no value or no interval, as notes say it, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from manyhot.core.estimates import Estimate, Ratio
from manyhot.core.jackknife import UNVARYING, rarest_classes
from manyhot.core.ratio_intervals import FEW_IMAGES, FEWEST_CASES
from manyhot.core.sets import NO, YES, Case, LabelSets
from manyhot.errors import first_names
from manyhot.evaluate.result_rows import Note, Number
from manyhot.tables.result_tables import describe_metric

_SHOWN = 5
"""Names of classes in a note."""


def not_a_number(metric: str, estimate: Estimate, case: Case) -> tuple[int, str]:
    """Return the number of images on which a metric is NaN or infinite, and the text of a note about it."""
    if not isinstance(estimate, Ratio) or estimate.num.dtype == estimate.den.dtype == bool:
        return 0, ""
    are_numbers = np.isfinite(estimate.num) & np.isfinite(estimate.den) | ~estimate.scored
    if are_numbers.all():
        return 0, ""
    row, n = int(np.argmin(are_numbers)), int(np.count_nonzero(~are_numbers))
    return n, (
        f"{metric} is {estimate.num[row]:g} for {n:,} image{'s' * (n > 1)} (first: {case.name(row)}), and "
        "so is its value over all images; a metric should skip such images"
    )


def why_no_interval(number: Number) -> str:
    """Return why resampled values of a metric on all images give no interval."""
    is_share = describe_metric(number.metric).get("unit") == "share"
    if not np.isfinite(number.value):
        return "the value is not a number"
    if is_share and not 0 <= number.value <= 1:
        return (
            "the metric is registered without a `unit`, so it should be a share, but its value is not "
            "between 0 and 1"
        )
    return FEW_IMAGES if number.n < FEWEST_CASES and not is_share else UNVARYING


def no_interval_text(
    metrics: Sequence[str], reason: str, names: Sequence[str], sets: LabelSets | None = None
) -> str:
    """Return the text of a note on metrics without an interval.

    Parameters
    ----------
    metrics : sequence of str
    reason : str
        The reason, as returned by `manyhot.core.jackknife.doubt_of` or `why_no_interval`.
    names : sequence of str, length C
        The names of the classes.
    sets : LabelSets, optional
        The label sets of the evaluated images, to name the rare classes if these are the reason.
    """
    text = f"no interval of {', '.join(metrics)}: {reason}"
    if sets is None:
        return text
    masked = any("masked=True" in metric for metric in metrics)
    return text + _without_rare_classes(sets, reason, names, masked=masked)


def own_classes_notes(
    dataset: str, compared: Iterable[Sequence[Any]], names: Sequence[str]
) -> Iterator[Note]:
    """Yield notes on classes that macro averages include only for models that predict them.

    Parameters
    ----------
    compared : iterable of list
        As in `manyhot.evaluate.judged_batches.JudgedModels`.
    names : sequence of str, length C
        The names of the classes.
    """
    metrics: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for metric, model, _, classes in compared:
        metrics.setdefault((model, tuple(classes)), []).append(metric)
    for (model, classes), averages in metrics.items():
        one = len(classes) == 1
        what, they = ("a class", "it") if one else (f"{len(classes):,} classes", "them")
        text = (
            f"{what} without positives that the model predicts {'counts' if one else 'count'} as 0 in "
            f"{', '.join(averages)} (differences between models leave {they} out): "
            f"{first_names([names[i] for i in classes], _SHOWN)}"
        )
        yield Note(dataset, model, "own_classes", len(classes), text)


def _without_rare_classes(sets: LabelSets, reason: str, names: Sequence[str], *, masked: bool) -> str:
    """Return without which rare classes a mean over classes has an interval; empty if this is not the reason.

    If `masked`, only classes answered no are negatives.
    """
    if not reason.startswith("too few positives"):
        return ""
    usable, c = sets.usable[sets.rows], sets.n_classes
    counts = np.bincount(sets.classes[usable & (sets.state == YES)], minlength=c)
    negatives = np.count_nonzero(sets.usable) - counts
    if sets.leaves_out_cells(masked):
        negatives = np.bincount(sets.classes[usable & (sets.state == NO)], minlength=c)
    if "negatives" in reason:
        counts = np.minimum(counts, negatives)
    elif masked:  # the other classes do not count
        counts = np.where(negatives > 0, counts, 0)
    rare = rarest_classes(counts)
    if not len(rare):
        return ""
    shown = first_names([f"{names[i]} ({counts[i]:,})" for i in rare], _SHOWN)
    return f"; without {shown}, there is an interval: pass the list of the other classes as `classes`"
