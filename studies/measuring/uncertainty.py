"""Is it sure where it is right? By the label, by the label set, and against images of unknown classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow.compute as pc
from data_sets.written import UNKNOWN
from scipy.special import logit, logsumexp, xlogy
from scipy.stats import rankdata

from manyhot.core.estimates import mean_over
from manyhot.core.sets import Case, LabelSets
from manyhot.registry import get
from manyhot.study import JudgedRun, Measurement, RunMeasure, StudyMetric, StudyRun, estimated
from measuring.judged import Floats, judged_test, predictions, probabilities, scores_of

_BOTH = {
    "ece": "calibration error",
    "classwise_ece": "class-wise calibration error",
    "brier": "Brier score",
    "aurc": "area under risk and coverage",
}

SCORES = ("confidence", "margin", "entropy", "energy")
"""How sure a network is of an image: four ways to tell from the same scores."""

METRICS = (
    *(
        StudyMetric(f"{name}{end}", f"{words} by {by}", "lower", percent=True)
        for name, words in _BOTH.items()
        for end, by in (("", "label"), ("_set", "label set"))
    ),
    StudyMetric("error_auroc", "AUROC of finding errors by label", percent=True),
    StudyMetric("error_auroc_set", "AUROC of finding errors by label set", percent=True),
    StudyMetric("too_sure", "confidence less accuracy by label", "lower", percent=True),
    StudyMetric("too_sure_set", "confidence less accuracy by label set", "lower", percent=True),
    *(StudyMetric(f"unknown_{s}", f"AUROC of finding unknown classes by {s}", percent=True) for s in SCORES),
    StudyMetric(
        "swapped",
        "share of pairs of uncertainty scores in another order by label set",
        "lower",
        percent=True,
    ),
    StudyMetric("swapped_again", "share of pairs in another order on other images", "lower", percent=True),
)


def take(run: StudyRun) -> Iterator[Measurement]:
    """Judge the test images, and tell them from images of unknown classes."""
    judged = judged_test(run)
    for name in (*_BOTH, "error_auroc"):
        yield from judged.measured([name, f"{name}_set"])
    yield from _too_sure(judged)
    found = predictions(run)
    of_unknown = pc.starts_with(found.image_id, UNKNOWN).to_numpy(zero_copy_only=False)
    unknown = sureness(scores_of(found)[of_unknown], found.score_kind)
    known = sureness(judged.scores, judged.kind)
    for name in SCORES:
        yield estimated(
            f"unknown_{name}", get("metric", "error_auroc")(against_unknown(known[name], unknown[name]))
        )
    yield from _swapped(judged, known)


def sureness(scores: np.ndarray, kind: str) -> Mapping[str, Floats]:
    """Return how sure a network is of each image, by name; only the order counts.

    Of sigmoids the entropy is the sum over classes, and the energy that of Wang et al. 2021 (arXiv
    2111.12797); of a softmax the latter is that of Liu et al. 2020 (arXiv 2010.03759).
    """
    p = probabilities(scores, kind)
    best = np.sort(p, axis=1)
    if kind == "probability":
        z = logit(np.clip(p, 1e-7, 1 - 1e-7))
        entropy = -(xlogy(p, p) + xlogy(1 - p, 1 - p)).sum(1)
        energy = np.logaddexp(0, z).sum(1)
    else:
        entropy, energy = -xlogy(p, p).sum(1), logsumexp(scores.astype(np.float64), axis=1)
    return {
        "confidence": best[:, -1],
        "margin": best[:, -1] - best[:, -2],
        "entropy": -entropy,
        "energy": energy,
    }


def against_unknown(known: Floats, unknown: Floats) -> Case:
    """Return a case in which a prediction is right if the image is of known classes."""
    score = np.concatenate([known, unknown])
    label = np.repeat([0, 1], [len(known), len(unknown)])
    labels = LabelSets.from_lists([[c] for c in label], 2, label=label)
    return Case(labels, np.zeros((len(score), 1), np.int16), listed=_as_shares(score))


def _as_shares(score: Floats) -> np.ndarray:
    """Return scores as numbers between 0 and 1 in the same order, shape (n, 1)."""
    return (rankdata(score) / len(score))[:, None]


def _too_sure(judged: JudgedRun) -> Iterator[Measurement]:
    case, labels = judged.case, judged.labels
    assert case.confidence is not None
    for name, right, scored in (
        ("too_sure", case.is_label[:, 0], labels.labelled),
        ("too_sure_set", case.hit[:, 0], labels.scored),
    ):
        yield estimated(name, mean_over(case.confidence - right, scored))


def _swapped(judged: JudgedRun, known: Mapping[str, Floats]) -> Iterator[Measurement]:
    """Compare the order of the scores by how well they find errors: by label and set, and on other images."""
    cases = [Case(judged.labels, judged.case.top[:, :1], listed=_as_shares(known[s])) for s in SCORES]
    by = [
        [estimated("", get("metric", m)(case)) for case in cases] for m in ("error_auroc", "error_auroc_set")
    ]
    value = [np.array([m.value for m in row]) for row in by]
    drawn = [np.stack([m.replicates for m in row], axis=1) for row in by]
    n = len(judged.labels)
    yield Measurement("swapped", swapped(*value), n, replicates=swapped(*drawn))
    # Two redraws are as far apart as two sets of images, each with its own chance.
    again = swapped(drawn[0], np.roll(drawn[0], 1, axis=0))
    yield Measurement("swapped_again", float(np.nanmean(again)), n)


def swapped(x: Floats, y: Floats) -> Floats:
    """Return the share of pairs whose order differs, over the last axis; a tie is no order."""
    a, b = np.triu_indices(x.shape[-1], 1)
    return np.asarray((np.sign(x[..., a] - x[..., b]) * np.sign(y[..., a] - y[..., b]) < 0).mean(-1))


UNCERTAINTY = RunMeasure(
    "uncertainty",
    "Calibration, selective prediction and errors found, by label and by label set; images of "
    "unknown classes.",
    take,
    METRICS,
)
