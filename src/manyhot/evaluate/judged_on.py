"""What models of a data set were evaluated on, and how: if it is the same, results can be joined."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from manyhot._version import __version__
from manyhot.core.clusters import Clusters
from manyhot.core.sets import LabelSets
from manyhot.evaluate.compared_pairs import JUDGED_ON
from manyhot.evaluate.judged_batches import hash_of_arrays, hash_of_ids
from manyhot.evaluate.options import EvaluateOptions
from manyhot.evaluate.slices import Slices
from manyhot.registry import Entry
from manyhot.tables import Labels

_DIGITS = 16
"""Hexadecimal digits of a hash."""

_OPTIONS = ("resamples", "seed", "map_resamples", "posterior", "compare_with")
"""Options on which results depend, besides metrics and slices."""


def clusters_key(clusters: Clusters | None) -> str:
    """Return the number of clusters of images, and a hash of them."""
    if clusters is None:
        return "none"
    return f"{clusters.n:,} ({hash_of_arrays((clusters.number,), '')[:_DIGITS]})"


def judged_on(
    dataset: str,
    labels: Labels,
    sets: LabelSets,
    slices: Slices,
    metrics: Sequence[Entry] | None,
    options: EvaluateOptions,
    clusters: Clusters | None = None,
) -> dict[str, str]:
    """Return the metadata of results on one data set that says what they depend on, except for the models.

    Parameters
    ----------
    dataset : str
    labels : Labels
    sets : LabelSets
        The label sets of the same images.
    slices : Slices
    metrics : sequence of Entry, optional
        The requested metrics; None for the default metrics of each model.
    options : EvaluateOptions
    clusters : Clusters, optional
    """
    arrays = (sets.indptr, sets.classes, sets.state, sets.label, sets.usable, sets.p, sets.n_votes)
    flags = f"{sets.asked_known} {sets.exclusive} {sets.complete}"
    names, masks = json.dumps([slices.names, slices.class_names]), (np.packbits(slices.masks),)
    ids = labels.image_id
    classes = getattr(labels.class_list, "hash", "") or labels.class_hash
    about = {
        "classes": f"{sets.n_classes:,} {classes[:_DIGITS]}".strip(),
        "images": f"{len(ids):,} ({hash_of_ids(ids).hex()[:_DIGITS]})",
        "label sets": hash_of_arrays(arrays, flags)[:_DIGITS],
        "slices": hash_of_arrays(masks, names)[:_DIGITS],
        "metrics": "default" if metrics is None else ", ".join(sorted(m.name for m in metrics)),
        **{name: str(getattr(options, name)) for name in _OPTIONS},
        "clusters": clusters_key(clusters),
        "version": __version__,
    }
    return {JUDGED_ON: json.dumps({dataset: about})}
