"""Errors of independent classes: pairs of an image and a class that is predicted wrongly or missed.

A class is predicted if its probability is at least a threshold, which is chosen for each class by
cross-fitting, so that no image decides about its own errors; see `manyhot.core.operating_points`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from manyhot.core.array_types import Bools, Floats, Ints64
from manyhot.core.class_calibration import class_states
from manyhot.core.operating_points import operating_points
from manyhot.core.score_threshold import adds_up_to_one
from manyhot.core.sets import NO, YES, Case

FALSE_POSITIVE, MISS = "false positive", "miss"
"""A class is predicted but not valid, or valid but not predicted."""


@dataclass(frozen=True)
class ClassErrors:
    """Errors on (image, class) pairs, and how many images of each class were judged.

    Attributes
    ----------
    image, classes : ndarray of int64, shape (m,)
        The pairs, most confident errors first.
    is_miss : ndarray of bool, shape (m,)
        True if a valid class is not predicted, false if a class that is not valid is predicted.
    probability, threshold : ndarray of float64, shape (m,)
        Probability of the class on the image, and the threshold of the image's fold.
    n_positives, n_negatives : ndarray of int64, shape (C,)
        Number of images with and without the class that were judged; 0 if the class has no threshold.
    """

    image: Ints64
    classes: Ints64
    is_miss: Bools
    probability: Floats
    threshold: Floats
    n_positives: Ints64
    n_negatives: Ints64


def independent_classes(case: Case) -> Case | None:
    """Return the case with probabilities of independent classes, such as sigmoids; None if there are none.

    If images have original labels, or raters chose one class per image, classes are mutually exclusive, and
    the result is None.
    """
    sets = case.labels
    if sets.labelled.any() or sets.exclusive or not case.has_probabilities or adds_up_to_one(case):
        return None
    return case.independent if case.kind == "logit" else case


def class_errors(case: Case, *, rng: np.random.Generator) -> ClassErrors | None:
    """Return the false positives and misses of each class at its threshold with the largest F1.

    Unclear classes and classes that no rater was asked about count as neither. If the label sets do not
    record *no* answers, every class that is not listed counts as not valid.

    Parameters
    ----------
    case : Case
        Predictions with scores of all classes.
    rng : numpy.random.Generator
        Draws the folds.

    Returns
    -------
    ClassErrors or None
        None if there are no scores of all classes. Errors are in descending order of the probability of a
        false positive, or of one minus the probability of a miss.
    """
    points = operating_points(case, goal="f1", rng=rng, masked=case.labels.asked_known)
    if points is None or case.scores is None:
        return None
    n_positives, n_negatives = np.zeros((2, case.labels.n_classes), np.int64)
    parts = []
    for class_id, state in enumerate(class_states(case)):
        if np.isnan(points.threshold[class_id]):
            continue
        image = np.flatnonzero((state == NO) | (state == YES))
        valid = state[image] == YES
        score = case.scores[image, class_id].astype(np.float32)
        least = points.fold_threshold[points.fold[image], class_id]
        with np.errstate(invalid="ignore"):  # without a threshold, nothing is predicted in a fold
            predicted = score >= least.astype(np.float32)
        wrong = predicted != valid
        n_positives[class_id], n_negatives[class_id] = valid.sum(), (~valid).sum()
        columns = (image, np.full(len(image), class_id), valid, score.astype(np.float64), least)
        parts.append([column[wrong] for column in columns])
    nothing = [np.empty(0, kind) for kind in (np.int64, np.int64, bool, np.float64, np.float64)]
    image, classes, is_miss, p, least = map(np.concatenate, zip(nothing, *parts, strict=True))
    order = np.argsort(-np.where(is_miss, 1 - p, p), kind="stable")
    return ClassErrors(
        image[order], classes[order], is_miss[order], p[order], least[order], n_positives, n_negatives
    )
