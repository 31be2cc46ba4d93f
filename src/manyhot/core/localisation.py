"""Does a map point at an object? Measures against its mask or box, each beside what chance would give.

A map says how much each pixel speaks for a class; NaN where the network did not see the image. Objects sit in
the middle of photographs, so that a map that knows nothing but that does well: `centre` is that map, to be
measured beside the others.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy.ndimage import distance_transform_edt

from manyhot.core.array_types import AnyFloats, Floats, Mask

HeatMap = AnyFloats

POINTING_TOLERANCE = 0.03
"""Of the pointing game, as a share of the long side: 15 pixels of 500, the long side of VOC's photographs."""

DIFFICULT = 0.25
"""Share of the image below which an object is difficult to point at, where there is another class as well."""

EVERYTHING = 0.9
"""Share of what the network saw from which on an object covers everything: any map would be right."""

SPREAD = 0.25
"""Standard deviation of `centre`, as a share of each side."""


@dataclass(frozen=True)
class Localised:
    """How well a map points at an object; each between 0 and 1.

    Attributes
    ----------
    pointing : float
        Whether its highest pixel lies on the object; the share of them that does, where several are highest.
    pointing_near : float
        The same, or no farther from it than the tolerance.
    energy : float
        Share of the sum of its positive values that lies on the object; 0 where none is positive.
    overlap : float
        Of its highest pixels, as many as the object has, the share on the object. With s of them it is an
        intersection over union of s / (2 - s).
    auroc : float
        Probability that a pixel on the object is higher than one beside it.
    """

    pointing: float
    pointing_near: float
    energy: float
    overlap: float
    auroc: float


LOCALISATION_MEASURES = tuple(f.name for f in fields(Localised))


def localise(heatmap: HeatMap, region: Mask, tolerance: float = POINTING_TOLERANCE) -> Localised:
    """Measure a map against the region of an object.

    Parameters
    ----------
    heatmap : ndarray of float, shape (h, w)
        NaN where nothing is known; such pixels count nowhere.
    region : ndarray of bool, shape (h, w)
    tolerance : float
        Share of the long side.

    Returns
    -------
    Localised
        NaN all where the map is the same everywhere, or no pixel of it lies on or beside the object.

    References
    ----------
    Pointing game: Zhang et al. 2018, Top-down neural attention by excitation backprop, section 4.1,
    doi 10.1007/s11263-017-1059-x. There the tolerance is 15 pixels.
    Energy: Wang et al. 2020, Score-CAM, section 4.3, doi 10.1109/CVPRW50498.2020.00020, there in boxes.
    """
    known = ~np.isnan(heatmap)
    values, inside = heatmap[known], region[known]
    n = int(inside.sum())
    if not 0 < n < len(inside) or values.min() == values.max():
        return Localised(*[float("nan")] * len(LOCALISATION_MEASURES))
    positive = np.maximum(values, 0).astype(np.float64)
    total = positive.sum()
    return Localised(
        pointing=points_at(heatmap, region),
        pointing_near=points_at(heatmap, near(region, tolerance)),
        energy=float(positive[inside].sum() / total) if total else 0.0,
        overlap=_overlap(values, inside, n),
        auroc=_auroc(values, inside, n),
    )


def points_at(heatmap: HeatMap, region: Mask) -> float:
    """Return whether the highest pixel of a map lies in a region; of several, the share that does."""
    return float(region[heatmap == np.nanmax(heatmap)].mean())


def by_chance(region: Mask, seen: Mask, tolerance: float = POINTING_TOLERANCE) -> Localised:
    """Return what a map without any sense would reach on average, over the pixels that the network saw."""
    area = float(region[seen].mean())
    return Localised(area, float(near(region, tolerance)[seen].mean()), area, area, 0.5)


def centre(height: int, width: int, spread: float = SPREAD) -> Floats:
    """Return a Gaussian in the middle of an image, shape (height, width): a map that looks at no pixel."""
    rows, columns = (
        np.exp(-(((np.arange(n) + 0.5) / n - 0.5) ** 2) / (2 * spread**2)) for n in (height, width)
    )
    return np.outer(rows, columns)


def near(region: Mask, tolerance: float) -> Mask:
    """Return the pixels no farther from a region than a share of the long side of the image."""
    if not region.any():
        return region
    reach = tolerance * max(region.shape)
    close: Mask = distance_transform_edt(~region) <= reach
    return close


def rank_correlation(one: HeatMap, other: HeatMap) -> float:
    """Return Spearman's correlation of two maps over the pixels known of both; NaN where one is constant."""
    known = ~(np.isnan(one) | np.isnan(other))
    if not known.any():
        return float("nan")
    ranks = [_ranks(m[known]) for m in (one, other)]
    a, b = (r - r.mean() for r in ranks)
    spread = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / spread) if spread else float("nan")


def _overlap(values: HeatMap, inside: Mask, n: int) -> float:
    """Return the share of the n highest values that is inside; of equal ones at the edge their mean."""
    edge = np.partition(values, len(values) - n)[len(values) - n]
    above, level = values > edge, values == edge
    left = n - np.count_nonzero(above)
    return float((inside[above].sum() + left * inside[level].mean()) / n)


def _auroc(values: HeatMap, inside: Mask, n: int) -> float:
    rank_sum = _ranks(values)[inside].sum()
    return float((rank_sum - n * (n + 1) / 2) / (n * (len(values) - n)))


def _ranks(values: HeatMap) -> Floats:
    """Return ranks from 1 on; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[place]
    return ranks
