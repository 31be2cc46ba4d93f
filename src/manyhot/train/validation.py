"""How good a network is on images that it is not trained on, after each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manyhot import registry
from manyhot.core.sets import Case, LabelSets
from manyhot.errors import InputError
from manyhot.models.sources import Opener

METRICS = ("top1", "real1", "map_macro")
"""What is measured after each epoch, and the metric of the recipe's ``best`` if it is none of these."""


@dataclass(frozen=True, eq=False)
class Validation:
    """Images to judge by.

    Attributes
    ----------
    openers : sequence of Opener
    labels : LabelSets
        Of the same images.
    key : str
        What tells these images from others.
    """

    openers: Sequence[Opener]
    labels: LabelSets
    key: str = ""

    def judged(
        self, logits: npt.NDArray[np.float32], good: npt.NDArray[np.bool_], best: str
    ) -> dict[str, float]:
        """Return the metrics of logits of shape (n, C); images that are not `good` are left out.

        A metric that is not defined for these labels is NaN.
        """
        rows = np.flatnonzero(good)
        case = Case.from_scores(self.labels.take(rows), logits[rows], kind="logit")
        names = METRICS if best in ("", *METRICS) else (*METRICS, best)
        return {name: float(registry.get("metric", name)(case).value()) for name in names}


def check_best(best: str, validation: Validation | None) -> None:
    """Refuse to choose an epoch by what is not known.

    Raises
    ------
    UnknownNameError
        There is no such metric.
    InputError
        There are no images to judge by.
    """
    if not best:
        return
    registry.get("metric", best)
    if validation is None:
        raise InputError(
            "There is nothing to choose the best epoch by.",
            got=f"best {best!r}",
            do="give --val-labels, or set best to '': the last epoch's weights are written",
        )


def is_better(best: str, value: float, before: float | None) -> bool:
    """Return whether a value of a metric is better than the best one before."""
    if before is None or np.isnan(before):
        return True
    higher = registry.get("metric", best).about.get("better") == "higher"
    return value > before if higher else value < before
