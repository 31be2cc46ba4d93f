"""What a ranking at random reaches: the expected average precision, without which a value says little."""

from __future__ import annotations

import numpy as np
from numpy import typing as npt
from scipy.special import digamma

from manyhot.core.array_types import Floats
from manyhot.core.sets import YES, LabelSets

CHANCE = "chance"
"""The kind of notes with expected values."""

RANKING_METRICS = ("map_macro", "map_micro", "map_image", "lrap")
"""The metrics that have an expected value: means of average precision."""


def random_average_precision(n_positives: npt.ArrayLike, n: int) -> Floats:
    """Return the expected average precision of `n_positives` positives among n places in a random order.

    This value is above the share of positives, especially for short lists: for 1 positive among 20 places, it
    is 0.18 and not 0.05.

    Notes
    -----
    Bestgen 2015, doi 10.1515/pralin-2015-0007: with H = 1 + 1/2 + … + 1/n, it is
    ((n_positives - 1) / (n - 1) (n - H) + H) / n.
    """
    harmonic = digamma(n + 1) - digamma(1)
    share = (np.asarray(n_positives, np.float64) - 1) / max(n - 1, 1)
    return np.asarray((share * (n - harmonic) + harmonic) / n)


def random_values(sets: LabelSets) -> dict[str, tuple[float, int]]:
    """Return the expected value of each metric of average precision, and the number of images.

    Means are taken as in the metrics, over the classes or images with positives. For an order without ties,
    LRAP is the mean average precision of images.
    """
    is_positive = (sets.state == YES) & sets.usable[sets.rows]
    of_classes = np.bincount(sets.classes[is_positive], minlength=sets.n_classes)
    of_images = np.bincount(sets.rows[is_positive], minlength=len(sets))
    n, total = int(sets.usable.sum()), int(is_positive.sum())
    if not total:
        return {}
    in_image = float(random_average_precision(of_images[of_images > 0], sets.n_classes).mean())
    found = {
        "map_macro": (float(random_average_precision(of_classes[of_classes > 0], n).mean()), n),
        "map_micro": (float(random_average_precision(total, n * sets.n_classes)), n),
    }
    return found | dict.fromkeys(("map_image", "lrap"), (in_image, int((of_images > 0).sum())))
