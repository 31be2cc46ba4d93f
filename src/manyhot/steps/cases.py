"""Predictions beside the label sets of their images: what a metric sees, and what it may miss there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from manyhot.core.sets import Case, LabelSets, top_k
from manyhot.errors import InputError
from manyhot.registry import Entry
from manyhot.tables import Alignment, Predictions

NEEDS = {
    "scores": "scores over all classes",
    "confidence": "the probability of the best class",
    "probabilities": "probabilities, or logits, of all classes",
}
"""What a metric may need beside ranks, as `needs` at its registration, and how a note says so."""


def case_of(sets: LabelSets, predictions: Predictions, alignment: Alignment, depth: int) -> Case:
    """Return predictions beside the label sets of the aligned images; of dense scores the `depth` best."""
    in_order = len(alignment.right) == len(predictions) and ascends(alignment.right)

    def name(row: int) -> str:
        image = predictions.image_id[int(alignment.right[row])]
        return f"{predictions.source or predictions.model}, image {image}"

    kind = predictions.score_kind
    if predictions.is_dense:
        assert predictions.scores is not None
        scores = predictions.scores if in_order else predictions.scores[alignment.right]
        return Case(sets, np.asfortranarray(top_k(scores, depth)), scores, kind, name=name)
    assert predictions.classes is not None
    # Rows of the transpose keep it column-major.
    top = predictions.classes if in_order else predictions.classes.T.take(alignment.right, axis=1).T
    _check_top_range(top, sets, predictions)
    listed = predictions.confidence()
    if listed is not None and not in_order:
        listed = listed[alignment.right]
    return Case(sets, top, None, kind, listed, name)


def _told(predictions: Predictions) -> str:
    """Return in words what scores there are."""
    if predictions.scores is None:
        return "they are ranks"
    if predictions.score_kind not in ("logit", "probability"):
        return "their scores are neither called logits nor probabilities"
    if predictions.is_dense:
        return "they are dense"
    known = predictions.score_kind == "probability" or predictions.logsumexp is not None
    return "they are lists of the best classes" if known else "they are lists of logits without logsumexp"


def unmet(metrics: Sequence[Entry], case: Case, predictions: Predictions) -> Iterator[tuple[str, int, str]]:
    """Yield kind, number of metrics and text of a note for each need that predictions do not meet."""
    has = {
        "scores": case.scores is not None,
        "confidence": case.listed is not None or case.has_probabilities,
        "probabilities": case.has_probabilities,
    }
    for need, text in NEEDS.items():
        names = [m.name for m in metrics if m.about.get("needs") == need and not has[need]]
        if names:
            said = f"{', '.join(names)}: undefined without {text} ({_told(predictions)})"
            yield f"needs_{need}", len(names), said


def ascends(rows: npt.NDArray[np.int64]) -> bool:
    """Return whether each row comes after the one before it."""
    return bool((rows[1:] > rows[:-1]).all())


def _check_top_range(top: npt.NDArray[np.integer], sets: LabelSets, predictions: Predictions) -> None:
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
