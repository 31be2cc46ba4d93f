"""A sentence about all images of a gallery: on how many each model is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from manyhot.report.gallery import Gallery, Shot

MOST = 3
"""Largest number of models that are all named."""

_OUTCOMES = {
    "right": "right",
    "valid": "right",
    "wrong": "wrong",
    "refuted": "wrong",
    "unclear": "unclear",
    "unasked": "not asked",
    "unknown": "without labels",
    "none": "not predicted",
}
_LEFT = ("wrong", "unclear", "not asked", "without labels", "not predicted")


def totals_sentence(gallery: Gallery) -> str:
    """Return a sentence with the number of images on which each model is right; empty without models.

    As for real1, images whose raters found no valid class are left out.
    """
    models = gallery.models
    every = gallery.shots[: len(gallery)]
    shots = [shot for shot in every if not _is_empty(shot)]
    if not shots or not models:
        return ""
    basis, n_empty = _basis(shots), len(every) - len(shots)
    without = f" {n_empty:,} image{'s have' if n_empty > 1 else ' has'} no valid class." if n_empty else ""
    if not basis:
        return "The images have no original labels, and no rater has seen them."
    counts = [Counter(_OUTCOMES[shot.verdicts[m]] for shot in shots) for m in range(len(models))]
    n = f"{len(shots):,} image{'s' * (len(shots) != 1)}"
    if len(models) > MOST:
        return f"{basis}, {_range(models, [of['right'] for of in counts])} of {n}.{without}"
    each = [
        f"{m} is right on {of['right']:,} of {n}{_left(of)}" for m, of in zip(models, counts, strict=True)
    ]
    return f"{basis}, {'; '.join(each)}.{without}"


def _is_empty(shot: Shot) -> bool:
    """Return whether raters found no class of an image valid."""
    return shot.is_rated and all(state != "yes" for _, state in shot.label_set)


def _basis(shots: Sequence[Shot]) -> str:
    """Return what right means; empty if nothing is known about any image."""
    by_set = any(shot.is_rated for shot in shots)
    by_label = any(not shot.is_rated and shot.label is not None for shot in shots)
    if by_set and by_label:
        return "By the label set or, for images that no rater has seen, by the label"
    return "By the label set" if by_set else "By the label" if by_label else ""


def _left(counts: Counter[str]) -> str:
    """Return the numbers of the other images, in brackets."""
    parts = ", ".join(f"{counts[outcome]:,} {outcome}" for outcome in _LEFT if counts[outcome])
    return f" ({parts})" if parts else ""


def _range(models: Sequence[str], right: Sequence[int]) -> str:
    low, high = min(right), max(right)
    if low == high:
        return f"each of the {len(models):,} models is right on {low:,}"
    worst, best = models[right.index(low)], models[right.index(high)]
    return f"{len(models):,} models are right on {low:,} ({worst}) to {high:,} ({best})"
