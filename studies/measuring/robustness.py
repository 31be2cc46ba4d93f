"""What is lost on corrupted images, and whether a class hangs on its companion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow.compute as pc
from data_sets.written import CLEAN, UNKNOWN

from manyhot import read_labels
from manyhot.core.companion_effects import (
    BOTH,
    COMPANION_ONLY,
    MAIN_ONLY,
    NEITHER,
    NO_SPLIT,
    balancing,
    split_by_pair,
    weighted_average_precision,
)
from manyhot.formats import read_classes
from manyhot.study import JudgedRun, Measurement, RunMeasure, StudyMetric, StudyRun, replicate_counts
from manyhot.tables.arrays import label_sets
from measuring.judged import Floats, judged_test, predictions, probabilities, scores_of

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

_JUDGED = {
    "top1": ("accuracy", "by label"),
    "real1": ("accuracy", "by label set"),
    "map_macro": ("mean average precision", ""),
}

METRICS = (
    *(
        StudyMetric(f"corrupted_{m}", f"{what} on corrupted images {by}".strip(), percent=True)
        for m, (what, by) in _JUDGED.items()
    ),
    *(
        StudyMetric(f"lost_{m}", f"{what} lost to corruptions {by}".strip(), "lower", percent=True)
        for m, (what, by) in _JUDGED.items()
    ),
    StudyMetric("recall_gap", "recall gap of a class with and without its companion", "lower", percent=True),
    StudyMetric(
        "hallucination_gap",
        "hallucination gap of a class with and without its companion",
        "lower",
        percent=True,
    ),
    StudyMetric("ap", "average precision of a class", percent=True),
    StudyMetric("ap_balanced", "average precision of a class whose companion tells nothing", percent=True),
)


def take(run: StudyRun) -> Iterator[Measurement]:
    """Judge corrupted images and the splits of pairs."""
    yield from _corrupted(run)
    yield from _shortcuts(run)


def _corrupted(run: StudyRun) -> Iterator[Measurement]:
    """Average over kinds and severities; all copies are of the same images, and redrawn together."""
    found = predictions(run)
    copies = np.array([name.rpartition(":")[0] for name in found.image_id.to_pylist()])
    ids = pc.replace_substring_regex(found.image_id, "^.*:", "")
    labels = read_labels(run.labels("test"))
    each: dict[str, dict[str, Measurement]] = {}
    for copy in sorted(set(copies.tolist()) - {"", UNKNOWN.rstrip(":")}):
        rows = np.flatnonzero(copies == copy)
        at = pc.index_in(ids.take(rows), labels.image_id).to_numpy()
        judged = JudgedRun(label_sets(labels).take(at), scores_of(found)[rows], found.score_kind)
        each[copy] = {m.metric: m for m in judged.measured(list(_JUDGED))}
    clean = each.pop(CLEAN)
    for metric in _JUDGED:
        value = float(np.mean([of[metric].value for of in each.values()]))
        drawn = np.mean([of[metric].replicates for of in each.values()], axis=0)
        n = clean[metric].n
        yield Measurement(f"corrupted_{metric}", value, n, replicates=drawn)
        lost = clean[metric].replicates - drawn
        yield Measurement(f"lost_{metric}", clean[metric].value - value, n, replicates=lost)


def _shortcuts(run: StudyRun) -> Iterator[Measurement]:
    """Average over pairs; of gaps the absolute value, as Plumb et al. 2022 (SPIRE) take it."""
    judged, classes = judged_test(run), read_classes(run.classes)
    numbers = [(classes.keys.index(main), classes.keys.index(other)) for main, other in PAIRS[run.data_set]]
    each = [_pair(judged, main, companion) for main, companion in numbers]
    for name in each[0]:
        signs = [np.sign(of[name][0]) for of in each]
        found = [sign * of[name] for sign, of in zip(signs, each, strict=True)]
        value, *drawn = np.mean(found, axis=0)
        # Of few images most redraws lack one of the four splits.
        several = np.isfinite(drawn).sum() > 1
        replicates = np.array(drawn) if several else None
        yield Measurement(name, float(value), len(judged.labels), replicates=replicates)


def _pair(judged: JudgedRun, main: int, companion: int) -> dict[str, Floats]:
    """Return values of a pair, each followed by its replicates, shape (1 + R,).

    A class is found in as many images as hold it, those with its highest scores: a rule that is the same for
    a softmax, which names one class, and for sigmoids.
    """
    n = len(judged.labels)
    columns = np.array([[main, companion]]).repeat(n, 0)
    splits = split_by_pair(*judged.labels.state_of(columns).T)
    score, there = judged.scores[:, main], (splits == BOTH) | (splits == MAIN_ONLY)
    if judged.kind == "logit":
        score = probabilities(judged.scores, judged.kind)[:, main]
    found = score >= np.sort(score)[-max(int(there.sum()), 1)]
    weights = np.concatenate([np.ones((1, n)), replicate_counts(n)])
    shares = [_share(found, splits == which, weights) for which in (BOTH, MAIN_ONLY, COMPANION_ONLY, NEITHER)]
    inside = splits != NO_SPLIT
    known, weights = (score[inside], there[inside]), weights[:, inside]
    return {
        "recall_gap": shares[0] - shares[1],
        "hallucination_gap": shares[2] - shares[3],
        "ap": weighted_average_precision(*known, weights),
        "ap_balanced": weighted_average_precision(*known, balancing(splits[inside], weights)),
    }


def _share(found: np.ndarray, inside: np.ndarray, weights: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((weights @ (found & inside)) / (weights @ inside))


ROBUSTNESS = RunMeasure(
    "robustness",
    "Corrupted test images, and classes beside the companion that they are often seen with.",
    take,
    METRICS,
)
