"""What all parts of the pipeline share."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from manyhot.steps.compare import Comparison
from manyhot.steps.results import Evaluation

PathLike = str | os.PathLike[str]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Options:
    """How to judge; see `manyhot.steps.evaluate.evaluate`."""

    metrics: tuple[str, ...] | None = None
    slices: tuple[str, ...] = ()
    resamples: int = 1000
    seed: int = 0
    map_resamples: int = 0
    trust_order: bool = False


@dataclass(frozen=True)
class Outcome:
    """An evaluation, what came of comparing its models, and the files they were written to."""

    evaluation: Evaluation
    comparison: Comparison
    written: tuple[Path, ...]
    highlight: tuple[str, ...] = ()
