"""Agreement of raters who chose one class of K: over all classes, not only those that a rater chose."""

from __future__ import annotations

import numpy as np

from manyhot.core.agreement import VOTE_MEASURES, VoteMeasure, agreement_ends
from manyhot.core.array_types import Floats
from manyhot.core.choices import Choices


def measure_choices(choices: Choices, *, intervals: bool = True) -> list[VoteMeasure]:
    """Return `VOTE_MEASURES` of choices. ``alpha_ordinal`` is NaN, because classes have no order.

    Parameters
    ----------
    choices : Choices
    intervals : bool
        Whether to compute intervals, as in `manyhot.core.agreement.measure_answers`.

    Notes
    -----
    An image is a question with K answers. A choice is a set with one element, so ``alpha_jaccard`` and
    ``alpha_masi`` of `manyhot.core.agreement.measure_sets` equal ``alpha_nominal``.

    References
    ----------
    Fleiss 1971, doi 10.1037/h0031619. Krippendorff 2011, Computing Krippendorff's Alpha-Reliability.
    """
    n_votes = choices.n_votes()
    several = n_votes > 1
    of = choices.candidates()
    here = several[of.image]
    image, class_id, n = of.image[here], of.class_id[here], of.n[here]
    each = np.bincount(class_id, n, of.n_classes)
    same = np.bincount(image, n * (n - 1), of.n_images)[several]
    # What the sum of squared numbers of votes of each class loses without an image.
    squares = np.bincount(image, (2 * each[class_id] - n) * n, of.n_images)[several]
    total = n_votes[several].astype(np.float64)
    pairs = total * (total - 1)
    rows = np.stack([same, pairs, same / pairs, np.ones(len(total)), same / (total - 1), total], 1)
    sums = np.append(rows.sum(0), (each**2).sum())
    values = _measures(sums)
    lo, hi = np.full_like(values, np.nan), np.full_like(values, np.nan)
    if intervals:
        lo, hi = agreement_ends(values, _measures(sums - np.column_stack([rows, squares])))
    skipped = int(np.count_nonzero(n_votes == 1))
    return [
        VoteMeasure(name, float(value), float(low), float(high), len(total), skipped)
        for name, value, low, high in zip(VOTE_MEASURES, values, lo, hi, strict=True)
    ]


def _measures(sums: Floats) -> Floats:
    """Return the measures, shape (M, …), from sums, shape (…, 7)."""
    same, pairs, shares, n, alike, total, squares = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        chance = squares / total**2
        kappa = (shares / n - chance) / (1 - chance)
        nominal = 1 - (total - 1) * (total - alike) / (total**2 - squares)
        return np.stack([same / pairs, kappa, nominal, np.full_like(nominal, np.nan)])
