"""How many images to take a companion out of, or put it into, so that a class no longer goes with it.

References
----------
G. Plumb, M. T. Ribeiro, A. Talwalkar. Finding and Fixing Spurious Patterns with Explanations. TMLR 2022
(SPIRE), and ``COCO/2-Models/0-FindAugs.py`` of GDPlumb/SPIRE.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CAP = 19
"""Altered images there may be for one that is not, in the smaller of the splits that they are added to."""


@dataclass(frozen=True)
class Plan:
    """What to add to the images of a pair, in images.

    Attributes
    ----------
    adds : bool
        Whether the companion is put into images, as it is beside the class less often than elsewhere; else it
        is taken out.
    amount : float
        Altered images that are added to each of two splits. Taken out: images with the class alone, and with
        the companion alone. Put in: images with both, and with the companion alone.
    wanted : float
        The same without caps: where both are independent of each other.
    before, after : float
        How much more often the companion is beside the class than where that is absent, in shares of images.
    """

    adds: bool
    amount: float
    wanted: float
    before: float
    after: float


def plan(
    both: float, main_only: float, companion_only: float, neither: float, *, capped: bool = True
) -> Plan:
    """Return how many altered images make a companion independent of a class.

    With b, m, s and n images in the four splits, d are added to two of them so that the odds ratio is 1.
    Taken out of images with both: ``b n = (m + d)(s + d)``. Put into images without:
    ``(b + d) n = m (s + d)``, which no d solves where ``m >= n``.

    Parameters
    ----------
    both, main_only, companion_only, neither : float
        Training images in each split.
    capped : bool
        As published, d is at most the images that there are to alter, and `CAP` times the smaller of the
        splits that counterfactuals are set against; the second cap is left out where that split is empty, as
        it would forbid all. False: neither holds, and an image counts more than once.

    Returns
    -------
    Plan
        Its amount is 0 where nothing can be done, or nothing needs to be.
    """
    b, m, s, n = both, main_only, companion_only, neither
    adds = b * n < m * s
    if adds:
        wanted = (m * s - b * n) / (n - m) if n > m else math.inf
        caps: tuple[float, ...] = (m, n, CAP * min(b, s) or math.inf)
    else:
        wanted = (math.hypot(m - s, 2 * math.sqrt(b * n)) - m - s) / 2
        caps = (b, CAP * min(m, s) or math.inf)
    amount = min(wanted, *caps) if capped else wanted
    if math.isinf(amount):
        amount = 0.0
    to = (b + amount, m, s + amount, n) if adds else (b, m + amount, s + amount, n)
    return Plan(adds, amount, wanted, dependence((b, m, s, n)), dependence(to))


def dependence(counts: Sequence[float]) -> float:
    """Return the share of images with the companion beside the class, less that where the class is absent.

    Parameters
    ----------
    counts : sequence of float
        Images with both, the class alone, the companion alone, neither.
    """
    both, main_only, companion_only, neither = counts
    inside, outside = both + main_only, companion_only + neither
    return both / inside - companion_only / outside if inside and outside else math.nan
