"""Which classes stand together in pictures that are composed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def deal_evenly(
    n: int,
    sizes: tuple[int, int],
    classes: Sequence[int],
    rng: np.random.Generator,
    pairs: Sequence[tuple[int, int]] = (),
) -> list[list[int]]:
    """Return distinct classes for each of n pictures, each class as often as any other.

    Parameters
    ----------
    n : int
    sizes : (int, int)
        The fewest and the most classes of a picture; how many is drawn evenly.
    classes : sequence of int
        At least as many as the most.
    rng : Generator
    pairs : sequence of (int, int)
        Of which each picture has one, all as often; other classes fill it up. Sizes are 2 or more then.

    Notes
    -----
    A picture gets the classes that were dealt least so far, ties in random order: without pairs no class is
    dealt more than once more than another.
    """
    known = np.asarray(classes)
    dealt, paired = np.zeros(len(known)), np.zeros(len(pairs))
    pictures = []
    for _ in range(n):
        size = int(rng.integers(sizes[0], sizes[1] + 1))
        order = _fewest_first(dealt, rng)
        if pairs:
            first = int(_fewest_first(paired, rng)[0])
            paired[first] += 1
            together = np.flatnonzero(np.isin(known, pairs[first]))
            order = np.concatenate([together, order[~np.isin(order, together)]])
        chosen = order[:size]
        dealt[chosen] += 1
        pictures.append([int(c) for c in rng.permutation(known[chosen])])
    return pictures


def deal_as_they_occur(
    n: int, sizes: tuple[int, int], sets: Sequence[Sequence[int]], rng: np.random.Generator
) -> list[list[int]]:
    """Return classes that stand together in some set, for each of n pictures.

    Parameters
    ----------
    n, sizes, rng
        As in `deal_evenly`; a picture has no more classes than the set that was drawn for it.
    sets : sequence of sequences of int
        One or more, each of the smallest size at least.
    """
    pictures = []
    for chosen in rng.integers(len(sets), size=n):
        size = int(rng.integers(sizes[0], min(sizes[1], len(sets[chosen])) + 1))
        pictures.append([int(c) for c in rng.permutation(np.asarray(sets[chosen]))[:size]])
    return pictures


def _fewest_first(counts: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.intp]:
    return np.lexsort((rng.random(len(counts)), counts))
