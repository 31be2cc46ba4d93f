"""Localisation: measures of how well a heat map points at an object's mask or box, with chance levels.

A heat map is the relevance of each pixel for a class; NaN for pixels that the network did not see. Because
objects are often in the centre of photographs, a map that ignores the image performs well: `centre` is this
baseline.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy.ndimage import distance_transform_edt

from manyhot.core.array_types import AnyFloats, Floats, Mask

HeatMap = AnyFloats

POINTING_TOLERANCE = 0.03
"""Tolerance of the pointing game as a share of the long side: 15 of 500 pixels, VOC's long side."""

DIFFICULT = 0.25
"""Share of the image below which an object is difficult, if there is another class, too."""

EVERYTHING = 0.9
"""Share of the visible pixels above which an object covers everything, so that any map would be right."""

SPREAD = 0.25
"""Standard deviation of `centre`, as a share of each side."""


@dataclass(frozen=True)
class Localised:
    """Measures of how well a heat map points at an object; each is between 0 and 1.

    Attributes
    ----------
    pointing : float
        Whether the highest pixel is on the object; if several pixels are highest, their share.
    pointing_near : float
        The same, within the tolerance of the object.
    energy : float
        Share of the positive values' sum that is on the object; 0 if no value is positive.
    overlap : float
        Share of the n highest pixels that are on the object, where n is the object's number of pixels. A
        share of s is an intersection over union of s / (2 - s).
    auroc : float
        Probability that a pixel on the object is higher than one outside it.
    """

    pointing: float
    pointing_near: float
    energy: float
    overlap: float
    auroc: float


LOCALISATION_MEASURES = tuple(f.name for f in fields(Localised))


def localise(heatmap: HeatMap, region: Mask, tolerance: float = POINTING_TOLERANCE) -> Localised:
    """Measure a heat map against the region of an object.

    Parameters
    ----------
    heatmap : ndarray of float, shape (h, w)
        Relevance; NaN pixels do not count.
    region : ndarray of bool, shape (h, w)
    tolerance : float
        Share of the long side.

    Returns
    -------
    Localised
        All NaN if the map is constant, or has no pixels on or outside the object.

    References
    ----------
    Pointing game: Zhang et al. 2018, Top-down neural attention by excitation backprop, section 4.1,
    doi 10.1007/s11263-017-1059-x, with a tolerance of 15 pixels.
    Energy: Wang et al. 2020, Score-CAM, section 4.3, doi 10.1109/CVPRW50498.2020.00020, with boxes.
    """
    seen = ~np.isnan(heatmap)
    values, inside = heatmap[seen], region[seen]
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
    """Return whether the highest pixel of a map is in a region; for several, their share."""
    return float(region[heatmap == np.nanmax(heatmap)].mean())


def by_chance(region: Mask, seen: Mask, tolerance: float = POINTING_TOLERANCE) -> Localised:
    """Return the expected measures of a random map, over the pixels that the network saw."""
    area = float(region[seen].mean())
    return Localised(area, float(near(region, tolerance)[seen].mean()), area, area, 0.5)


def centre(height: int, width: int, spread: float = SPREAD) -> Floats:
    """Return a Gaussian in the centre of an image, shape (height, width): a map that ignores the image."""
    rows, columns = (
        np.exp(-(((np.arange(n) + 0.5) / n - 0.5) ** 2) / (2 * spread**2)) for n in (height, width)
    )
    return np.outer(rows, columns)


def near(region: Mask, tolerance: float) -> Mask:
    """Return the pixels whose distance to a region is at most a share of the image's long side."""
    if not region.any():
        return region
    reach = tolerance * max(region.shape)
    close: Mask = distance_transform_edt(~region) <= reach
    return close


def rank_correlation(one: HeatMap, other: HeatMap) -> float:
    """Return Spearman's correlation of two maps over their common pixels; NaN if one is constant."""
    common = ~(np.isnan(one) | np.isnan(other))
    if not common.any():
        return float("nan")
    ranks = [_ranks(m[common]) for m in (one, other)]
    a, b = (r - r.mean() for r in ranks)
    spread = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / spread) if spread else float("nan")


def _overlap(values: HeatMap, inside: Mask, n: int) -> float:
    """Return the share of the n highest values that are inside; ties at the boundary count by their mean."""
    edge = np.partition(values, len(values) - n)[len(values) - n]
    above, level = values > edge, values == edge
    left = n - np.count_nonzero(above)
    return float((inside[above].sum() + left * inside[level].mean()) / n)


def _auroc(values: HeatMap, inside: Mask, n: int) -> float:
    rank_sum = _ranks(values)[inside].sum()
    return float((rank_sum - n * (n + 1) / 2) / (n * (len(values) - n)))


def _ranks(values: HeatMap) -> Floats:
    """Return ranks, from 1; equal values have the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[place]
    return ranks
