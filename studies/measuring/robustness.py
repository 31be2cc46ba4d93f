"""What is lost on corrupted images, and whether a class hangs on its companion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow.compute as pc

from manyhot import read_labels
from manyhot.core.shortcuts import (
    BOTH,
    COMPANION_ONLY,
    LEFT_OUT,
    MAIN_ONLY,
    NEITHER,
    average_precision,
    balancing,
    split,
)
from manyhot.formats import read_classes
from manyhot.steps.sets import label_sets
from manyhot.study import Measure, Measured, Metric, Run
from measuring.judged import Floats, Judged, counts, predictions, scores_of

PAIRS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "voc9": (
        ("person", "horse"),
        ("horse", "person"),
        ("dog", "person"),
        ("person", "dog"),
        ("car", "person"),
    ),
    "cifar-sets": (("horse", "ship"),),
}
"""Main class and companion: of VOC the most frequent pairs, of compositions the one that was planted."""

_JUDGED = {"top1": "label", "real1": "label set", "map_macro": "mean average precision"}

METRICS = (
    *(
        Metric(f"corrupted_{m}", f"right on corrupted images, by {w}", percent=True)
        for m, w in _JUDGED.items()
    ),
    *(
        Metric(f"lost_{m}", f"lost on corrupted images, by {w}", "lower", percent=True)
        for m, w in _JUDGED.items()
    ),
    Metric("recall_gap", "how much more often found beside its companion", "lower", percent=True),
    Metric(
        "hallucination_gap", "how much more often called where only the companion is", "lower", percent=True
    ),
    Metric("ap", "average precision of the class", percent=True),
    Metric("ap_balanced", "average precision, the companion beside half of all", percent=True),
)


def take(run: Run) -> Iterator[Measured]:
    """Judge corrupted images and the splits of pairs."""
    yield from _corrupted(run)
    yield from _shortcuts(run)


def _corrupted(run: Run) -> Iterator[Measured]:
    """Average over kinds and severities; all copies are of the same images, and redrawn together."""
    found = predictions(run, "corrupted")
    scores, kind = scores_of(found), found.score_kind
    copies = np.array([name.partition(":")[0] for name in found.image_id.to_pylist()])
    ids = pc.replace_substring_regex(found.image_id, "^[^:]*:", "")
    labels = read_labels(run.labels("test"))
    sets = label_sets(labels)
    each: dict[str, dict[str, Measured]] = {}
    for copy in np.unique(copies):
        rows = np.flatnonzero(copies == copy)
        at = pc.index_in(ids.take(rows), labels.image_id).to_numpy()
        judged = Judged(sets.take(at), scores[rows], kind)
        each[str(copy)] = {m.metric: m for m in judged.measured(list(_JUDGED))}
    clean = each.pop("clean-0")
    for metric in _JUDGED:
        value = float(np.mean([of[metric].value for of in each.values()]))
        drawn = np.mean([of[metric].replicates for of in each.values()], axis=0)
        n = clean[metric].n
        yield Measured(f"corrupted_{metric}", value, n, replicates=drawn)
        lost = clean[metric].replicates - drawn
        yield Measured(f"lost_{metric}", clean[metric].value - value, n, replicates=lost)


def _shortcuts(run: Run) -> Iterator[Measured]:
    """Average over pairs.

    A class is found if it is among as many best classes as the label set holds: the same rule for a softmax,
    which names one class, and for sigmoids.
    """
    judged, classes = Judged.of(run), read_classes(run.classes)
    numbers = [(classes.keys.index(main), classes.keys.index(other)) for main, other in PAIRS[run.data_set]]
    each = [_pair(judged, main, companion) for main, companion in numbers]
    for name in each[0]:
        values, drawn = zip(*(of[name] for of in each), strict=True)
        yield Measured(name, float(np.mean(values)), len(judged.labels), replicates=np.mean(drawn, axis=0))


def _pair(judged: Judged, main: int, companion: int) -> dict[str, tuple[float, Floats]]:
    """Return values and replicates of a pair."""
    n = len(judged.labels)
    columns = np.array([[main, companion]]).repeat(n, 0)
    splits = split(*judged.labels.state_of(columns).T)
    within = judged.labels.within_size(judged.case.top.shape[1])
    found = ((judged.case.top == main) & within).any(1)
    weights = np.concatenate([np.ones((1, n)), counts(n)])
    gaps = {
        "recall_gap": _share(found, splits == BOTH, weights) - _share(found, splits == MAIN_ONLY, weights),
        "hallucination_gap": _share(found, splits == COMPANION_ONLY, weights)
        - _share(found, splits == NEITHER, weights),
    }
    inside = splits != LEFT_OUT
    score, positive, weights = judged.scores[inside, main], splits[inside] <= MAIN_ONLY, weights[:, inside]
    gaps["ap"] = average_precision(score, positive, weights)
    gaps["ap_balanced"] = average_precision(score, positive, balancing(splits[inside], weights))
    return {name: (float(v[0]), v[1:]) for name, v in gaps.items()}


def _share(found: np.ndarray, inside: np.ndarray, weights: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((weights @ (found & inside)) / (weights @ inside))


ROBUSTNESS = Measure(
    "robustness",
    "Corrupted test images, and classes beside the companion that they are often seen with.",
    take,
    METRICS,
)
