"""How many times images count that show the companion without the class: chosen on images not fitted on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Bools

SURPLUSES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""What is tried, smallest first. With 1, the class is as frequent with the companion as without it."""

SURPLUS_FOLDS = 2


def smallest_surplus(gap: Callable[[float], float]) -> float | None:
    """Return the smallest of `SURPLUSES` at which a gap is not above 0, or None if none is enough.

    No value is enough if the companion is imitated badly. The largest value would then only teach that the
    companion speaks against the class: with 6 for horses beside persons, the accuracy on images without
    persons fell from 81 to 66 %.
    """
    return next((surplus for surplus in SURPLUSES if gap(surplus) <= 0), None)


def folds(splits: npt.NDArray[np.int8]) -> Iterator[Bools]:
    """Yield the images of each fold, which divide every split of a pair as evenly as possible."""
    place = np.empty(len(splits), np.intp)
    place[np.argsort(splits, kind="stable")] = np.arange(len(splits))
    for fold in range(SURPLUS_FOLDS):
        yield place % SURPLUS_FOLDS == fold


def surplus_notes(surpluses: Mapping[str, float | None]) -> Iterator[str]:
    """Yield what was chosen for each pair and kind of labels."""
    for name, surplus in surpluses.items():
        count = f"{name}, without caps: altered images with the companion alone count"
        judged = "on images that heads were not fitted on"
        if surplus is None:
            tried = f"even {SURPLUSES[-1]:g} times as often would not suffice"
            yield f"{count} as often as balance requires, because {tried} {judged}"
        else:
            yield (
                f"{count} {surplus:g} times as often as balance requires, the smallest factor that suffices "
                f"{judged}"
            )
