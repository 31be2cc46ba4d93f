"""Which rows of the labels are trained on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from manyhot.core.sets import NO_LABEL, LabelSets
from manyhot.errors import InputError
from manyhot.train.recipe import Recipe


def selected(labels: LabelSets, recipe: Recipe, ends: str) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Return the rows that a recipe trains on, and what there is to tell of the others.

    Raises
    ------
    InputError
        No row is left, or images without a class shall be negatives of a softmax.
    """
    empty = labels.usable & _empty(labels, recipe)
    skips = recipe.empty == "skip" or recipe.teach == "label"
    if ends == "softmax" and not skips and empty.any():
        raise InputError(
            "A softmax cannot learn that an image has no class.",
            got=f"{int(empty.sum()):,} images without one",
            do="set empty to 'skip', or take a loss that ends in a sigmoid, such as bce",
        )
    rows = np.flatnonzero(labels.usable & ~empty if skips else labels.usable)
    if not len(rows):
        raise InputError(
            "No image is left to train on.",
            got=", ".join(_told(labels, empty, skips)) or "no labels",
            do="set empty to 'no': these images are then without any class" if empty.any() else None,
        )
    return rows, list(_told(labels, empty, skips))


def _empty(labels: LabelSets, recipe: Recipe) -> npt.NDArray[np.bool_]:
    """Return which images have no class."""
    if recipe.teach == "maps":
        return np.zeros(len(labels), bool)
    if recipe.teach == "label":
        return np.asarray(labels.label == NO_LABEL)
    if recipe.teach == "soft" and labels.p is not None:
        total = np.bincount(labels.rows, np.nan_to_num(labels.p), minlength=len(labels))
        return np.asarray(total <= 0)
    return np.asarray(labels.size == 0)


def _told(labels: LabelSets, empty: npt.NDArray[np.bool_], skips: bool) -> Iterator[str]:
    if (bad := int((~labels.usable).sum())) > 0:
        yield f"{bad:,} images that are not usable are left out"
    if (n := int(empty.sum())) > 0:
        yield f"{n:,} images without a class " + ("are left out" if skips else "count as without any")
