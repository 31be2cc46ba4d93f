"""The kind of a network's scores: declared by its caller, or assumed to be logits."""

from __future__ import annotations

from typing import Literal

from manyhot.core.array_types import AnyFloats
from manyhot.errors import InputError
from manyhot.predict.network import Network
from manyhot.tables.predictions import SCORES_ASSUMED

OutputKind = Literal["", "logit", "probability", "score"]
"""The kind of the outputs of a network; empty if it is not declared."""


def checked_scores(kind: str) -> str:
    """Check the kind of the scores of a network, and return it; it is ``logit`` if none is declared.

    Raises
    ------
    InputError
        If the kind does not exist.
    """
    allowed = ("logit", "probability", "score")
    if kind and kind not in allowed:
        raise InputError("There are no such scores.", got=kind, allowed=", ".join(allowed))
    return kind or "logit"


def assumed_scores(kind: str) -> dict[str, str]:
    """Return metadata that mark the kind of a network's scores as assumed; empty if the kind is declared."""
    return {} if kind else {SCORES_ASSUMED: "true"}


def probabilities_note(network: Network, scores: AnyFloats | None) -> str:
    """Return a note if scores that are only assumed to be logits are all between 0 and 1; empty otherwise."""
    if SCORES_ASSUMED not in network.about or scores is None or not scores.size:
        return ""
    if network.score_kind != "logit":  # an average of networks whose scores are assumed
        return ""
    if scores.min() < 0 or scores.max() > 1:
        return ""
    return (
        f"{network.name}: the scores are assumed to be logits, but all scores of the first images are "
        "between 0 and 1, like probabilities. If the network ends in a softmax or in sigmoids, declare "
        "scores='probability' and predict again, or declare it when the predictions are read, as in manyhot "
        "evaluate LABELS --predictions FOLDER --scores probability"
    )
