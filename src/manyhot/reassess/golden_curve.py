"""The probability from which a class is valid, by golden questions: the table ``curve``."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from manyhot.core.aggregation import Aggregate
from manyhot.core.answers import GoldenAnswers
from manyhot.core.threshold_curve import GOLDEN_PARTS, Curve, cross_fit, curve
from manyhot.errors import InputError
from manyhot.reassess.raters import value_with_interval
from manyhot.tables import Votes, schema
from manyhot.tables.definitions import COUNT, ITS, REAL, declare_table, interval

declare_table(
    "curve",
    (
        REAL("threshold", "minimum probability of a class in the label set"),
        *interval(
            "precision",
            "among golden questions with p at or above the threshold, the share with the true answer yes",
            f"{ITS} over images",
        ),
        *interval(
            "recall",
            "among golden questions with the true answer yes, the share with p at or above the threshold",
            f"{ITS} over images",
        ),
        COUNT("n_above", "number of golden questions with p at or above the threshold"),
        COUNT(
            "n_right", "number of golden questions with p at or above the threshold and the true answer yes"
        ),
        COUNT("n_yes", "number of golden questions with the true answer yes"),
        COUNT("n_questions", "golden questions among the votes"),
        COUNT("n_images", "images of these questions"),
    ),
    renamed={"kept": "n_above", "right": "n_right"},
)


def chosen_threshold(
    precision: float | None, recall: float | None, measured: Curve | None, default: float
) -> float:
    """Return the threshold that reaches this precision or recall on golden questions, or the default.

    Raises
    ------
    InputError
        If no rater answered a golden question.
    """
    if precision is None and recall is None:
        return default
    if measured is None or not measured.n_questions:
        raise InputError(
            "No golden question was answered by raters, so no threshold can be chosen.",
            do="have raters answer golden questions, too, or pass a threshold",
        )
    return measured.for_precision(precision) if precision is not None else measured.for_recall(recall or 0.0)


class Levels(NamedTuple):
    """Minimum probabilities of an unclear and of a valid class; equal if no class can be unclear."""

    unclear_from: float
    threshold: float


def levels_of(unclear_from: float | None, threshold: float) -> Levels:
    """Return the levels; by default, no class can be unclear.

    Raises
    ------
    InputError
        If `unclear_from` is above the threshold.
    """
    unclear = threshold if unclear_from is None else unclear_from
    if unclear > threshold:
        raise InputError(
            "The minimum probability of an unclear class is above the threshold.",
            where="`unclear_from`",
            got=repr(unclear),
            allowed=f"0 to {threshold:g}, the threshold",
        )
    return Levels(unclear, threshold)


def golden_curve(
    result: Aggregate, experts: GoldenAnswers | None, votes: Votes, threshold: float, resamples: int
) -> Curve | None:
    """Return precision and recall on golden questions that raters answered; None without experts' answers."""
    if experts is None:
        return None
    asked = experts.asked >= 0
    at = experts.asked[asked]
    return curve(
        result.p[at],
        experts.truth()[asked],
        votes.image[at],
        intervals=resamples > 0,
        thresholds=[threshold],
    )


def cross_fitted_note(
    result: Aggregate,
    experts: GoldenAnswers | None,
    votes: Votes,
    precision: float | None,
    recall: float | None,
    resamples: int,
    seed: int,
) -> str:
    """Return a note on the expected precision and recall of a threshold chosen on golden questions."""
    if experts is None or (precision is None and recall is None):
        return ""
    asked = experts.asked >= 0
    at = experts.asked[asked]
    found = cross_fit(
        result.p[at],
        experts.truth()[asked],
        votes.image[at],
        "recall" if precision is None else "precision",
        (recall or 0.0) if precision is None else precision,
        resamples=resamples,
        rng=np.random.default_rng(seed),
    )
    chosen = "the threshold was chosen on the golden questions on which precision and recall are measured"
    if found.n_images < 2 * GOLDEN_PARTS:
        return f"{chosen}; expect lower values on other questions"
    values = (
        f"{name} {value_with_interval(value, lo, hi)}"
        for name, (value, lo, hi) in (("precision", found.precision), ("recall", found.recall))
    )
    how = (
        f"estimated on each tenth of the {found.n_images:,} golden images with a threshold chosen on the "
        "other nine tenths"
    )
    return f"{chosen}; expect {' and '.join(values)} on other questions, {how}"


def curve_table(measured: Curve | None) -> pa.Table:
    """Return the table ``curve``; empty without golden answers."""
    if measured is None:
        return schema("curve").empty_table()
    n = len(measured.threshold)
    columns = {f.name: getattr(measured, f.name) for f in schema("curve")}
    whole = {"n_yes", "n_questions", "n_images"}
    return pa.table(
        {name: np.full(n, v, np.int64) if name in whole else v for name, v in columns.items()},
        schema=schema("curve"),
    )
