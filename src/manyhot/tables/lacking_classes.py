"""Scores of models that lack some of the classes of the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from manyhot.core.array_types import AnyFloats, Ints32
from manyhot.core.top_classes import top_k
from manyhot.errors import first_names
from manyhot.tables.predictions import Predictions

_EXAMPLES = 3


def ranked_lists(model: Predictions, lacking: Sequence[str]) -> Predictions:
    """Return dense predictions as lists of all of their own classes, best first.

    A score of classes that a model lacks would be made up, and metrics of all scores would depend on it.
    """
    scores, kind, total, unsure = model.scores, model.score_kind, model.logsumexp, model.uncertainty
    assert scores is not None
    if kind == "logit" and model.link == "sigmoid":
        from scipy.special import expit  # predicting does without SciPy

        scores, kind = expit(scores.astype(np.float32)), "probability"
    elif kind == "logit":
        total = model.totals()
    top = top_k(scores, scores.shape[1])
    return replace(
        model,
        classes=top,
        scores=np.take_along_axis(scores, top, axis=1),
        score_kind=kind,
        logsumexp=total,
        uncertainty=unsure and unsure.of_classes(top),
        lacking=tuple(lacking),
    )


def spread_scores(scores: AnyFloats, at: Ints32, n: int, kind: str) -> AnyFloats:
    """Return scores, shape (n, n_classes), with columns at the positions `at`.

    Other columns have a score that is below all others, so that their classes are never predicted.
    """
    if len(at) == n:
        return scores[:, np.argsort(at)]
    lowest = {"probability": 0.0, "cosine": -1.0}.get(kind, float(scores.min(initial=0)) - _BELOW)
    found = np.full((len(scores), n), lowest, scores.dtype)
    found[:, at] = scores
    return found


_BELOW = 100
"""How far the logit of a class that is never predicted is below all others: its probability is 4e-44."""


OTHER_OF_TWO = "if its score is that of one of two exclusive classes, add a column with 1 minus this score"


def note_on_lacking(model: Predictions) -> str:
    """Return a note on classes of the labels for which a model has no scores; empty without any."""
    if not (n := len(model.lacking)):
        return ""
    instead = (
        "to evaluate all models on the classes that this one predicts, pass their list as `classes`"
        if model.n_classes - n > 1
        else OTHER_OF_TWO
    )
    return (
        f"{model.model} has no scores for {first_names(model.lacking, _EXAMPLES)} ({n:,} of the "
        f"{model.n_classes:,} classes): it counts as never predicting {'this class' if n == 1 else 'them'}, "
        f"and has no values of metrics that need scores of all classes; {instead}"
    )
