"""Which rare classes take the interval of a mean over classes, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from manyhot.core.jackknife import rarest_classes
from manyhot.core.sets import NO, YES, LabelSets

_SHOWN = 5
"""Names of classes in a note."""


def without_rare_classes(sets: LabelSets, reason: str, names: Sequence[str], *, masked: bool = False) -> str:
    """Return without which rare classes a mean over classes has an interval; empty if this is not the reason.

    Parameters
    ----------
    sets : LabelSets
        The label sets of the evaluated images.
    reason : str
        As `manyhot.core.jackknife.doubt_of` returns it.
    names : sequence of str, length C
    masked : bool
        Whether only classes answered no are negatives.
    """
    if not reason.startswith("too few positives"):
        return ""
    usable, c = sets.usable[sets.rows], sets.n_classes
    counts = np.bincount(sets.classes[usable & (sets.state == YES)], minlength=c)
    if "negatives" in reason:
        negatives = np.count_nonzero(sets.usable) - counts
        if sets.leaves_out_cells(masked):
            negatives = np.bincount(sets.classes[usable & (sets.state == NO)], minlength=c)
        counts = np.minimum(counts, negatives)
    rare = rarest_classes(counts)
    if not len(rare):
        return ""
    shown = ", ".join(f"{names[i]} ({counts[i]:,})" for i in rare[:_SHOWN])
    more = f" and {len(rare) - _SHOWN:,} more" if len(rare) > _SHOWN else ""
    return f"; without {shown}{more}, there is an interval: pass the list of the other classes as `classes`"
