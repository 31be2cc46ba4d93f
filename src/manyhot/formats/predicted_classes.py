"""Which columns of a table of predictions contain the predicted classes and their scores."""

from __future__ import annotations

import re
from collections.abc import Iterable

from manyhot.errors import InputError, first_names
from manyhot.formats.array_files import SCORES
from manyhot.formats.headers import CLASS_NAME_COLUMNS, fold_name
from manyhot.formats.reading import cut_for_message
from manyhot.tables.image_ids import first_column

PREDICTED = (
    *("prediction", "predictions", "predicted", "predicted_class", "predicted_classes", "predicted_label"),
    *("predicted_labels", "pred", "preds", "pred_class", "pred_classes", "pred_label", "pred_labels"),
)
"""Columns and keys that can only be predictions, whatever the others are."""

CLASS_COLUMNS = (*PREDICTED, "class_id", "class_ids", *CLASS_NAME_COLUMNS)
"""Columns and keys with predicted classes, by preference."""


SCORE_COLUMNS = SCORES | {
    "score": "score",
    "confidence": "score",
    "confidences": "score",
    "logit": "logit",
    "probability": "probability",
    "prob": "probability",
    "rank": "none",
    "p": "probability",
    "p_yes": "probability",
    "cosine": "cosine",
    **dict.fromkeys(("similarity", "similarities", "logprob", "log_prob", "logprobs", "log_probs"), "score"),
}
"""The kind of scores by the name of their column or key, by preference."""


def columns_of_classes(columns: Iterable[str], scores: str | None = None) -> list[str]:
    """Return the columns of classes, the predicted ones first; `scores` is the column of scores."""
    found, rest = [], [c for c in columns if c != scores]
    while (first := first_column(rest, CLASS_COLUMNS)) is not None:
        found.append(first)
        rest.remove(first)
    return found


def note_on_other_classes(chosen: str, other: str, rows: Iterable[tuple[object, object]], where: str) -> str:
    """Return a note on a column of classes that is not read beside the predicted classes.

    The note is empty if both columns name the same classes, such as numbers beside their names.

    Parameters
    ----------
    chosen, other : str
        The columns of the predicted and of other classes.
    rows : iterable of (object, object)
        The values in both columns.

    Raises
    ------
    InputError
        If the columns may both contain the predicted classes.
    """
    pairs = {(str(one), str(another)) for one, another in rows}
    ones, others = {one for one, _ in pairs}, {another for _, another in pairs}
    if len(pairs) == len(ones) == len(others):
        return ""
    is_predicted = fold_name(chosen) in PREDICTED and fold_name(other) not in PREDICTED
    if is_predicted and (_are_names(ones) or not _are_names(others)):
        return f"the predicted classes are read from {chosen!r}; the classes in {other!r} are not read"
    raise InputError(
        "Two columns contain classes, and either may be the predicted ones.",
        where=where,
        got="; ".join(
            f"{cut_for_message(column)}: {first_names(sorted(map(cut_for_message, values)), 3)}"
            for column, values in ((chosen, ones), (other, others))
        ),
        allowed="one column of classes, or names of the predicted classes in the column 'prediction'",
        do="rename the column of the predicted classes to prediction, or drop the other one",
    )


def _are_names(values: Iterable[str]) -> bool:
    return any(re.search(r"[^\W\d_]{2}", value) for value in values)
