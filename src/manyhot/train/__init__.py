"""Fitting what models are made of: so far linear heads on features that ``predict --embeddings`` wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyhot.lazy import lazily

if TYPE_CHECKING:
    from manyhot.train.heads import PENALTIES, fit_sigmoid, fit_softmax

_HOME = dict.fromkeys(("PENALTIES", "fit_sigmoid", "fit_softmax"), "manyhot.train.heads")

__all__ = ["PENALTIES", "fit_sigmoid", "fit_softmax"]

__getattr__, __dir__ = lazily(__name__, _HOME)
