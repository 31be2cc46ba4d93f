"""What may be more frequent in a group of images: labels, and errors of a model.

In single-label data, an image is compared with images of the same class, and an error is a top class that is
not valid. In multi-label data, images with a class are compared with images without it, each class by itself,
and errors are classes above their threshold that are not valid, and valid classes below it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Bools, Ints
from manyhot.core.group_search import Outcome
from manyhot.core.operating_points import OperatingPoints, operating_points
from manyhot.core.score_threshold import adds_up_to_one, confidence_of
from manyhot.core.sets import NO, NO_LABEL, NOT_ASKED, YES, Case, LabelSets
from manyhot.errors import first_names
from manyhot.evaluate.label_notes import answer_notes
from manyhot.tables import Labels
from manyhot.tables.arrays import label_sets

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
    masked : bool
        Whether the images without a class are those that were answered no.
    """

    kind: str
    class_id: int
    outcome: Outcome
    multi_label: bool = False
    has_thresholds: bool = False
    masked: bool = False


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


def asked_pairs(sets: LabelSets) -> Bools:
    """Return whether each class was asked about on each image, shape (n, C)."""
    asked = np.zeros((len(sets), sets.n_classes), bool)
    asked[sets.rows, sets.classes] = True
    return asked


def unanswered_notes(
    labels: Labels, names: Sequence[str], unlabelled: Collection[int], *, masked: bool
) -> Iterator[str]:
    """Yield a note on whether pairs without an answer in multi-label data are left out.

    Parameters
    ----------
    names : sequence of str
        The names of the classes.
    unlabelled : collection of int
        Classes that occur only in the predictions.
    masked : bool
        Whether such pairs are left out.
    """
    counting = ("false positives", "shares of images without a class")
    notes = answer_notes("", labels, counting, unlabelled=unlabelled, instead="do not pass `unmasked`")
    text = next((note.text for note in notes if note.kind == "not asked"), "")
    if masked and text:
        sets = label_sets(labels)
        valid, absent = (np.unique(sets.classes[sets.state == state]).tolist() for state in (YES, NO))
        text = f"{text.partition(' and count')[0]} and left out"
        if never := [names[c] for c in valid if c not in absent]:
            text += f"; {first_names(never)}: raters never answered no, so no image is known to lack it"
    if text:
        yield text


def absent_from(sets: LabelSets, class_id: int, *, masked: bool) -> Bools:
    """Return the usable images that do not show a class, shape (n,).

    If `masked`, only those that were answered no are included: not asked is not no.
    """
    state = _states(sets, class_id)
    is_absent = state == NO if masked else (state == NO) | (state == NOT_ASKED)
    absent: Bools = sets.usable & is_absent
    return absent


def judged_by_top(case: Case, *, masked: bool) -> Bools:
    """Return the images whose top class is known to be valid or not; all scored images unless `masked`."""
    if not masked:
        return case.labels.scored
    unknown = (case.top[:, 0] >= 0) & (case.state[:, 0] == NOT_ASKED)
    judged: Bools = case.labels.scored & ~unknown
    return judged


def class_points(case: Case, *, masked: bool = False) -> tuple[OperatingPoints | None, str]:
    """Return the thresholds of independent classes, or None and the reason to judge the top class instead.

    Folds and thresholds are those of diagnose classes.
    """
    points = operating_points(case, rng=np.random.default_rng(0), masked=masked)
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
    masked: bool = False,
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
    masked : bool
        Whether to leave out classes that no rater was asked about.
    """
    sets = case.labels
    scored, wrong, top = judged_by_top(case, masked=masked), ~case.hit[:, 0], case.top[:, 0]

    def outcome(events: Bools, counts: Bools) -> Outcome:
        return Outcome(_spread(events, rows, stratum), _spread(counts, rows, stratum), stratum)

    found = [NamedOutcome("error", NO_LABEL, outcome(wrong & scored, scored), multi_label)]
    confidence = confidence_of(case)
    if confidence is not None:
        sure = wrong & scored & (confidence >= min_confidence)
        found.append(NamedOutcome("sure_error", NO_LABEL, outcome(sure, scored), multi_label))
    called = np.bincount(top[wrong & scored & (top >= 0)], minlength=sets.n_classes)
    for c in _to_call(called, associated):
        others = sets.scored & absent_from(sets, c, masked=masked)
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
    wrongly = np.zeros(sets.n_classes, np.int64)
    for c in points.fitted.tolist():
        predicted[:, c] = points.predicts(case.scores[:, c].astype(np.float32), slice(None), c)
        wrongly[c] = np.count_nonzero(predicted[:, c] & absent_from(sets, c, masked=points.masked))

    def outcome(kind: str, c: int, counts: Bools, is_predicted: bool) -> NamedOutcome:
        events = counts & (predicted[:, c] == is_predicted)
        of = Outcome(_spread(events, rows, stratum), _spread(counts, rows, stratum), stratum)
        return NamedOutcome(kind, c, of, True, True)

    found = []
    fitted = set(points.fitted.tolist())
    for c in _to_call(wrongly, fitted.intersection(associated)):
        found.append(outcome("called", c, absent_from(sets, c, masked=points.masked), True))
    for c in _most_frequent(points.n_positives, 2 * min_images):
        if c in fitted:
            found.append(outcome("missed", c, sets.usable & (_states(sets, c) == YES), False))
    return found


def unpredicted_outcomes(
    top: Ints, rows: npt.NDArray[np.intp], stratum: Ints, *, multi_label: bool
) -> Iterator[NamedOutcome]:
    """Yield the outcome of images without a prediction, or with an empty list, unless it is too rare.

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


def set_outcomes(sets: LabelSets, min_images: int, *, masked: bool = False) -> list[NamedOutcome]:
    """Return an outcome for each class of multi-label data: whether an image shows this class.

    Images on which the class is unclear are left out and, if `masked`, also those on which no rater was asked
    about it; images that show no class are included.
    """
    valid = (sets.state == YES) & sets.usable[sets.rows]
    count = np.bincount(sets.classes[valid], minlength=sets.n_classes)
    nothing = np.zeros(len(sets), np.int64)
    found = []
    for c in _most_frequent(count, min_images):
        event = (_states(sets, c) == YES) & sets.usable
        counted = event | absent_from(sets, c, masked=masked)
        found.append(NamedOutcome("label", c, Outcome(event, counted, nothing), True, masked=masked))
    return found


def _most_frequent(count: Ints, least: int) -> list[int]:
    order = np.argsort(-count, kind="stable")[:_MOST_CLASSES]
    return [int(c) for c in order if count[c] >= least]
