"""Metrics under the posterior of the label sets: what raters leave undecided, as draws of label sets.

A draw replaces the states of all classes that have a probability. Classes are drawn independently given the
votes; if raters chose one class per image, one class is drawn per image. Both treat the images as independent
given the votes. If raters share a mistake, neither the probabilities nor the draws show it.
"""

from __future__ import annotations

import numpy as np

from manyhot.core.array_types import Bools, Floats
from manyhot.core.estimates import Estimate, Ratio
from manyhot.core.sets import NO, YES, LabelSets


def draw_sets(sets: LabelSets, rng: np.random.Generator) -> LabelSets:
    """Draw label sets from the probabilities of their classes.

    Parameters
    ----------
    sets : LabelSets
        Label sets with probabilities. Classes without a probability keep their state.

    Returns
    -------
    LabelSets
        The same images and classes, with the states yes and no.
    """
    assert sets.p is not None  # the caller checks it
    p = sets.p.astype(np.float64)
    there = ~np.isnan(p)
    yes = _one_of(sets, np.where(there, p, 0.0), rng) if sets.exclusive else rng.random(len(p)) < p
    return sets.with_states(np.where(there, np.where(yes, YES, NO), sets.state).astype(np.uint8))


def _one_of(sets: LabelSets, p: Floats, rng: np.random.Generator) -> Bools:
    """Return whether each entry is the class drawn for its image, with probabilities in proportion to p."""
    total = np.concatenate([[0.0], np.cumsum(p)])
    start, stop = total[sets.indptr[:-1]], total[sets.indptr[1:]]
    drawn = start + rng.random(len(sets)) * (stop - start)
    entry = np.searchsorted(total, drawn, side="right") - 1
    # Rounding may reach the end of an image, or the entries of an image that has none.
    entry = np.minimum(entry, np.maximum(sets.indptr[1:] - 1, 0))
    yes = np.zeros(len(p), bool)
    yes[entry[stop > start]] = True
    return yes & (p > 0)


def weighted_values(estimate: Estimate, weights: Floats) -> Floats:
    """Return the values of a metric under several weights of the images.

    Parameters
    ----------
    weights : ndarray of float64, shape (R, n)

    Returns
    -------
    ndarray of float64, shape (R,)
        NaN if no images count.
    """
    if isinstance(estimate, Ratio) and estimate.stratum is None:
        num, den = weights @ estimate.num.astype(np.float64), weights @ estimate.den.astype(np.float64)
        return np.asarray(np.divide(num, den, out=np.full(len(weights), np.nan), where=den > 0))
    return np.array([estimate.value(w) for w in weights])


def share_above(a: Floats, b: Floats) -> float:
    """Return the share of draws in which b is above a. Ties count half, and NaN is left out."""
    difference = b - a
    difference = difference[~np.isnan(difference)]
    if not len(difference):
        return float("nan")
    return float((np.count_nonzero(difference > 0) + np.count_nonzero(difference == 0) / 2) / len(difference))
