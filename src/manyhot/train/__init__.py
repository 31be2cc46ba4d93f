"""Training with label sets: losses, one loop, and linear heads on features.

The way of an image: ``models.sources`` (bytes) → `loading` (batches of crops) → a network of `networks` → a
loss of `losses` against what `wanted` tells → a step of `loop`. A `recipe` tells the settings.

Importing this package imports no PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyhot.lazy import lazily

if TYPE_CHECKING:
    from manyhot.train.heads import PENALTIES, fit_sigmoid, fit_softmax
    from manyhot.train.recipe import Recipe
    from manyhot.train.wanted import Teacher, Wanted, teacher

_HOME = {
    **dict.fromkeys(("PENALTIES", "fit_sigmoid", "fit_softmax"), "manyhot.train.heads"),
    **dict.fromkeys(("Teacher", "Wanted", "teacher"), "manyhot.train.wanted"),
    "Recipe": "manyhot.train.recipe",
}

__all__ = ["PENALTIES", "Recipe", "Teacher", "Wanted", "fit_sigmoid", "fit_softmax", "teacher"]

__getattr__, __dir__ = lazily(__name__, _HOME)
