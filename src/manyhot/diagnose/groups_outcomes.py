"""What may be more frequent in a group of images: labels, and errors of a model.

In single-label data, an image is compared with images of the same class, and an error is a top class that is
not valid. In multi-label data, images with a class are compared with images without it, each class by itself,
and errors are classes above their threshold that are not valid, and valid classes below it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Bools, Ints
from manyhot.core.group_search import Outcome
from manyhot.core.operating_points import OperatingPoints, operating_points
from manyhot.core.score_threshold import adds_up_to_one, confidence_of
from manyhot.core.sets import NO_LABEL, UNCLEAR, YES, Case, LabelSets

OUTCOMES = ("error", "sure_error", "no_prediction", "called", "missed", "label")
"""What is compared: errors; errors with a high confidence; images for which the model has no class; images
without a class that are predicted as this class; errors on the images of a class; and images with a label,
without any model."""

_MOST_CLASSES = 50  # classes whose images, and whose predictions, are outcomes of their own
_FEWEST_EVENTS = 5


@dataclass(frozen=True, eq=False)
class NamedOutcome:
    """An outcome, and what it is about.

    Attributes
    ----------
    kind : str
        One of `OUTCOMES`.
    class_id : int
        The class that the outcome is about, or -1 if it is not about a class.
    multi_label : bool
        Whether images with a class are compared with images without it, rather than with images of other
        classes.
    has_thresholds : bool
        Whether a class is predicted if its score is at or above a threshold, rather than if it is the top
        class.
    """

    kind: str
    class_id: int
    outcome: Outcome
    multi_label: bool = False
    has_thresholds: bool = False


def is_multi_label(sets: LabelSets) -> bool:
    """Return whether no image has an original label, and some images have several valid classes or none."""
    return not sets.labelled.any() and bool((sets.size[sets.usable] != 1).any())


def stratum_of(sets: LabelSets) -> Ints:
    """Return the class within which each image is compared: its label or only valid class; otherwise -1.

    All images of multi-label data are in one stratum, because other classes of an image define groups.
    """
    if is_multi_label(sets):
        return np.where(sets.usable, 0, NO_LABEL).astype(np.int64)
    first = np.where(sets.scored, sets.first, NO_LABEL)
    return np.where(sets.labelled, sets.label, first).astype(np.int64)


def class_points(case: Case) -> tuple[OperatingPoints | None, str]:
    """Return the thresholds of independent classes, or None and the reason to judge the top class instead.

    Folds and thresholds are those of diagnose classes without options.
    """
    points = operating_points(case, rng=np.random.default_rng(0))
    if points is not None and points.top is None:
        return points, ""
    reason = "there are no scores of all classes" if points is None else "probabilities add up to 1"
    return None, f"{reason}, so only the top class of each image is compared with its label set"


def model_outcomes(
    case: Case,
    rows: npt.NDArray[np.intp],
    stratum: Ints,
    min_images: int,
    min_confidence: float,
    associated: Collection[int] = (),
    *,
    multi_label: bool = False,
) -> list[NamedOutcome]:
    """Return the outcomes in which a model can be worse in a group; arrays cover all images of the data set.

    Parameters
    ----------
    case : Case
        Predictions and label sets of the images in `rows`.
    stratum : ndarray of int, shape (n,)
        The class within which each image is compared.
    min_images : int
        Minimum number of images of a class for outcomes about this class.
    min_confidence : float
        Minimum confidence of a high-confidence error.
    associated : collection of int
        Classes that properties of images are associated with. Predictions of such a class on other images are
        an outcome even if they are rare.
    multi_label : bool
        Whether the data set is multi-label. If so, the images of a class are all images that show it, and the
        top class does not show whether a class is missed, unless probabilities add up to 1.
    """
    sets = case.labels
    scored, wrong, top = sets.scored, ~case.hit[:, 0], case.top[:, 0]

    def outcome(events: Bools, counts: Bools) -> Outcome:
        return Outcome(_spread(events, rows, stratum), _spread(counts, rows, stratum), stratum)

    found = [NamedOutcome("error", NO_LABEL, outcome(wrong & scored, scored), multi_label)]
    confidence = confidence_of(case)
    if confidence is not None:
        sure = wrong & scored & (confidence >= min_confidence)
        found.append(NamedOutcome("sure_error", NO_LABEL, outcome(sure, scored), multi_label))
    called = np.bincount(top[wrong & scored & (top >= 0)], minlength=sets.n_classes)
    for c in _to_call(called, associated):
        others = scored & (_states(sets, c) < UNCLEAR)
        found.append(NamedOutcome("called", c, outcome(others & (top == c), others), multi_label))
    if multi_label and not adds_up_to_one(case):
        return found
    if multi_label:
        own = sets.classes[(sets.state == YES) & sets.usable[sets.rows]]
    else:
        own = stratum[rows][scored & (stratum[rows] >= 0)]
    for c in _most_frequent(np.bincount(own, minlength=sets.n_classes), 2 * min_images):
        inside = scored & (_states(sets, c) == YES if multi_label else stratum[rows] == c)
        found.append(NamedOutcome("missed", c, outcome(wrong & inside, inside), multi_label))
    return found


def threshold_outcomes(
    case: Case,
    points: OperatingPoints,
    rows: npt.NDArray[np.intp],
    stratum: Ints,
    min_images: int,
    associated: Collection[int] = (),
) -> list[NamedOutcome]:
    """Return the outcomes in multi-label data: false positives and misses of each class.

    Parameters
    ----------
    points : OperatingPoints
        The thresholds of the case. Classes without a threshold have no outcomes.
    case, rows, stratum, min_images, associated
        As for `model_outcomes`.
    """
    assert case.scores is not None  # for the type checker
    sets = case.labels
    predicted = np.zeros((len(sets), sets.n_classes), bool)
    for c in points.fitted.tolist():
        predicted[:, c] = points.predicts(case.scores[:, c].astype(np.float32), slice(None), c)
    wrongly = np.bincount(
        np.nonzero(predicted & ~sets.yes_matrix() & sets.usable[:, None])[1], minlength=sets.n_classes
    )

    def outcome(kind: str, c: int, counts: Bools, is_predicted: bool) -> NamedOutcome:
        events = counts & (predicted[:, c] == is_predicted)
        of = Outcome(_spread(events, rows, stratum), _spread(counts, rows, stratum), stratum)
        return NamedOutcome(kind, c, of, True, True)

    found = []
    fitted = set(points.fitted.tolist())
    for c in _to_call(wrongly, fitted.intersection(associated)):
        found.append(outcome("called", c, sets.usable & (_states(sets, c) < UNCLEAR), True))
    for c in _most_frequent(points.n_positives, 2 * min_images):
        if c in fitted:
            found.append(outcome("missed", c, sets.usable & (_states(sets, c) == YES), False))
    return found


def unpredicted_outcomes(
    top: Ints, rows: npt.NDArray[np.intp], stratum: Ints, *, multi_label: bool
) -> Iterator[NamedOutcome]:
    """Yield the outcome that images have no prediction, or an empty list, if it is not too rare.

    Parameters
    ----------
    top : ndarray of int, shape (m,)
        The top class of each image in `rows`; `NO_LABEL` if there is none.
    rows, stratum
        As for `model_outcomes`.
    """
    counted = stratum >= 0
    event = counted & ~_spread(top >= 0, rows, stratum)
    if np.count_nonzero(event) >= _FEWEST_EVENTS:
        yield NamedOutcome("no_prediction", NO_LABEL, Outcome(event, counted, stratum), multi_label)


def _spread(values: Bools, rows: npt.NDArray[np.intp], like: Ints) -> Bools:
    made = np.zeros(len(like), bool)
    made[rows] = values
    return made


def _states(sets: LabelSets, class_id: int) -> npt.NDArray[np.uint8]:
    return sets.state_of(np.full((len(sets), 1), class_id))[:, 0]


def _to_call(called: Ints, associated: Collection[int]) -> Iterator[int]:
    more = (int(c) for c in associated if called[c])
    yield from dict.fromkeys([*_most_frequent(called, _FEWEST_EVENTS), *more])


def label_outcomes(stratum: Ints, n_classes: int, min_images: int) -> list[NamedOutcome]:
    """Return an outcome for each label: whether an image has this label. All images form one stratum."""
    counted = stratum >= 0
    count = np.bincount(stratum[counted], minlength=n_classes)
    nothing = np.zeros(len(stratum), np.int64)
    return [
        NamedOutcome("label", c, Outcome(stratum == c, counted, nothing))
        for c in _most_frequent(count, min_images)
    ]


def set_outcomes(sets: LabelSets, min_images: int) -> list[NamedOutcome]:
    """Return an outcome for each class of multi-label data: whether an image shows this class.

    Images on which the class is unclear are left out; images that show no class are included.
    """
    valid = (sets.state == YES) & sets.usable[sets.rows]
    count = np.bincount(sets.classes[valid], minlength=sets.n_classes)
    nothing = np.zeros(len(sets), np.int64)
    found = []
    for c in _most_frequent(count, min_images):
        state = _states(sets, c)
        counted = sets.usable & (state != UNCLEAR)
        found.append(NamedOutcome("label", c, Outcome((state == YES) & counted, counted, nothing), True))
    return found


def _most_frequent(count: Ints, least: int) -> list[int]:
    order = np.argsort(-count, kind="stable")[:_MOST_CLASSES]
    return [int(c) for c in order if count[c] >= least]
