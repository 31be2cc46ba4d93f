"""Intervals of ratios of sums over images whose clusters, such as patients, are the independent cases.

Images of a cluster resemble each other, so that intervals over images are too narrow. The bootstrap over
clusters draws whole clusters (`manyhot.core.resampling.Bootstrap`), and the jackknife leaves out one cluster
at a time.

References
----------
Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8. Field and Welsh 2007, doi
10.1111/j.1467-9868.2007.00593.x.
"""

from __future__ import annotations

import numpy as np

from manyhot.core.array_types import Bools, Floats
from manyhot.core.clusters import Clusters
from manyhot.core.estimates import Ratio
from manyhot.core.jackknife import Scale, jackknife_ends, jackknife_error
from manyhot.core.ratio_intervals import FEWEST_CASES, IMAGES_FOR_PERCENTILES, is_share
from manyhot.core.share_intervals import clustered_interval

FEWEST_CLUSTERS = 30
"""Number of clusters below which a note says that intervals may be too narrow."""


def have_cluster_percentiles(ratio: Ratio, masks: Bools, clusters: Clusters, scale: Scale = "logit") -> Bools:
    """Return whether percentiles of resamples are a good interval of a ratio on each slice, shape (S,).

    The conditions are those of `manyhot.core.ratio_intervals.have_percentiles`, of clusters instead of
    images. A cluster in which some images are right and others are wrong counts as both.
    """
    if ratio.stratum is not None or scale == "log":
        return np.zeros(len(masks), bool)
    return np.array([_has_percentiles(ratio, mask, clusters) for mask in masks], bool)


def _has_percentiles(ratio: Ratio, inside: Bools, clusters: Clusters) -> bool:
    scored = ratio.scored & inside
    if clusters.count(scored) < IMAGES_FOR_PERCENTILES:
        return False
    if not is_share(ratio):
        return True
    is_right = ratio.num.astype(bool, copy=False)
    sides = (scored & is_right, scored & ~is_right)
    return all(clusters.count(side) >= FEWEST_CASES for side in sides)


def cluster_intervals(
    ratio: Ratio, masks: Bools, clusters: Clusters, selected: Bools, *, scale: Scale = "logit"
) -> tuple[Floats, Floats]:
    """Return the intervals of a ratio in the selected slices, shape (S,); NaN in other slices.

    Parameters
    ----------
    masks : ndarray of bool, shape (S, n)
    clusters : Clusters
    selected : ndarray of bool, shape (S,)
    scale
        As in `manyhot.core.jackknife.jackknife_ends`; ignored for a share of images.

    Notes
    -----
    A share of images has Wilson's interval with counts divided by the design effect
    (`manyhot.core.share_intervals.clustered_interval`). Other values have the interval of the jackknife over
    clusters. On the log scale, there is no interval with fewer than `FEWEST_CASES` clusters.
    """
    lo, hi = np.full((2, len(masks)), np.nan)
    for s in np.flatnonzero(selected):
        lo[s], hi[s] = _interval(ratio, masks[s], clusters, scale)
    return lo, hi


def _interval(ratio: Ratio, inside: Bools, clusters: Clusters, scale: Scale) -> tuple[float, float]:
    if is_share(ratio):
        sides = (ratio.num, ratio.den)
        num, den = (clusters.sizes(flags.astype(bool, copy=False) & inside) for flags in sides)
        low, high = clustered_interval(num, den, lambda values: values.sum(axis=0))
        return float(low), float(high)
    changes = changes_without_clusters(ratio, clusters, inside)
    if scale == "log" and len(changes) < FEWEST_CASES:
        return float("nan"), float("nan")
    return jackknife_ends(ratio.value(inside), *jackknife_error(changes), scale=scale)


def changes_without_clusters(ratio: Ratio, clusters: Clusters, inside: Bools | None = None) -> Floats:
    """Return what leaving out each cluster changes, for the clusters with scored images, by number.

    Parameters
    ----------
    inside : ndarray of bool, shape (n,), optional
        The images of a slice; by default all.

    Notes
    -----
    Leaving out all images of a stratum removes the stratum from the mean. If no image is left, the change is
    NaN.
    """
    scored = ratio.scored if inside is None else ratio.scored & inside
    stratum = np.zeros(len(scored), np.intp) if ratio.stratum is None else ratio.stratum
    n_strata = int(stratum[scored].max(initial=0)) + 1
    values = [side[scored].astype(np.float64) for side in (ratio.num, ratio.den)]
    above, below = (np.bincount(stratum[scored], of, n_strata) for of in values)
    # The cells of clusters and strata that contain images.
    cells, cell = np.unique(clusters.number[scored] * n_strata + stratum[scored], return_inverse=True)
    num, den = (np.bincount(cell, of, len(cells)) for of in values)
    cluster, group = np.divmod(cells, n_strata)
    filled = below > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(filled, above / below, 0.0)
        rest = below[group] - den
        # By rounding, the sum without the only images of a stratum is not exactly 0.
        vanishes = filled[group] & (rest <= 1e-12 * below[group])
        moved = np.where(vanishes | ~filled[group], 0.0, (above[group] - num) / rest) - shares[group]
        n_filled = np.count_nonzero(filled)
        totals = shares.sum() + np.bincount(cluster, moved, clusters.n)
        left = n_filled - np.bincount(cluster, vanishes, clusters.n)
        changes = np.where(left > 0, totals / left - shares.sum() / n_filled, np.nan)
    return np.asarray(changes[np.unique(cluster)])
