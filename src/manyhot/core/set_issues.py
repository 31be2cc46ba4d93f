"""Label sets with wrong and missing classes, from models and raters, for images without an original label.

Each class is a question of its own with the answers yes and no, as in cleanlab's multi-label functions. The
label sets under test are those of `Ensemble.label_sets`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from manyhot.core.array_types import Bools, Bytes, Floats, Ints
from manyhot.core.confident_learning import CLOSE
from manyhot.core.ensembles import Ensemble
from manyhot.core.label_issues import (
    IssueLists,
    Issues,
    beliefs,
    checked_input,
    ranked,
    raters_evidence,
    uses_probabilities,
)
from manyhot.core.rater_weights import corrected_evidence, rater_evidence
from manyhot.core.sets import NO, NO_LABEL, NOT_ASKED, UNCLEAR, YES, LabelSets
from manyhot.core.softmax import SLACK

_Part = tuple[Ints, Ints, Floats, Bools, Bytes]
"""Row, class, probability, whether confident learning suspects the cell, and its state."""

MINIMUM = 0.5
"""Minimum evidence of a wrong or missing class: each class is in the label set or not."""


def find_set_issues(
    ensemble: Ensemble,
    answers: LabelSets | None = None,
    *,
    doubtful: float = MINIMUM,
    missing: float = MINIMUM,
    unasked: float | None = None,
    settled: bool = False,
    name: Callable[[int], str] = "row {}".format,
) -> IssueLists:
    """Rank classes that are in a label set and may be wrong, and classes that may be missing from it.

    Parameters
    ----------
    ensemble : Ensemble
        Predictions on images on which the models were not trained, and the label sets to check, as
        `label_sets`. Original labels are ignored.
    answers : LabelSets, optional
        Raters' answers about classes of the same images. They count as evidence, like the models'
        predictions.
    doubtful, missing : float
        Minimum score of each kind of issue. Issues with this much evidence from raters are also listed.
        Errors that confident learning suspects are listed regardless of their score, unless raters contradict
        them.
    unasked : float, optional
        Minimum score of both kinds of issues for (image, class) pairs that no rater was asked about; by
        default, the minimum score of the kind. These issues have the same scores as without `answers`.
    settled : bool
        Whether answers decide: if true, a class is not an issue if the answers and the label set agree about
        it.
    name : callable
        Returns the name of the image in a row, for error messages.

    Returns
    -------
    IssueLists
        In `doubtful`, `class_id` is the class of the label set. `confident` is this class if confident
        learning suspects it. `n` is the number of counted images with predictions.

    Raises
    ------
    InputError
        If scores that are declared as probabilities are not probabilities, or if a minimum score is not
        between 0 and 1.

    Notes
    -----
    Let q be the mean probability of a class over models. The evidence from models is 1 - q against a class of
    the label set, and q for another class. This is 1 minus cleanlab's self-confidence score of the class.
    Classes that no rater was asked about are not in the set. Unclear classes are not checked, nor are classes
    that a model does not list if the classes are independent (`independent_lists`).
    `manyhot.core.rater_weights` describes how raters and models are combined.

    References
    ----------
    Northcutt, Jiang & Chuang 2021, doi 10.1613/jair.1.12125. Thyagarajan et al. 2022, arXiv 2211.13895.
    """
    ensemble = checked_input(ensemble, name, doubtful=doubtful, missing=missing)
    sets = ensemble.label_sets
    assert sets is not None
    limits = set_thresholds(ensemble) if uses_probabilities(ensemble) else None
    n, parts = 0, list[_Part]()
    tops = [ensemble.top[m] for m in independent_lists(ensemble)]
    for start, q in beliefs(ensemble):
        rows = np.arange(start, start + len(q))
        state = _checked_states(sets, start, q, tops)
        n += int(np.count_nonzero((state != UNCLEAR).any(1)))
        asked = None if answers is None else _states(answers.take(rows)) != NOT_ASKED
        least = min(doubtful, missing) if unasked is None else unasked
        parts.append(_cells(start, q, state, limits, least, asked))
    row, class_id, q, suspected, state = (np.concatenate(column) for column in zip(*parts, strict=True))
    yes, no = state == YES, state != YES
    kinds = [
        _issues(
            ensemble,
            answers,
            (row[at], class_id[at], q[at], suspected[at]),
            at is yes,
            (least, least if unasked is None else unasked),
            settled=settled,
        )
        for at, least in ((yes, doubtful), (no, missing))
    ]
    return IssueLists(kinds[0], kinds[1], n, len(ensemble) - n)


def set_thresholds(ensemble: Ensemble) -> Floats:
    """Return confident learning's thresholds of each class for no and for yes, shape (2, C).

    The thresholds are the mean of 1 - q over images without the class, and the mean of q over images with the
    class; inf if there are no such images.
    """
    sets = ensemble.label_sets
    assert sets is not None
    total, count = np.zeros((2, ensemble.n_classes)), np.zeros((2, ensemble.n_classes))
    tops = [ensemble.top[m] for m in independent_lists(ensemble)]
    for start, q in beliefs(ensemble):
        state = _checked_states(sets, start, q, tops)
        for i, (cells, p) in enumerate((((state == NO) | (state == NOT_ASKED), 1 - q), (state == YES, q))):
            total[i] += np.where(cells, p, 0).sum(0)
            count[i] += cells.sum(0)
    limits = np.where(count > 0, total / np.maximum(count, 1), np.inf)
    return np.maximum(limits, 2 * CLOSE)


def suspected_cells(q: Floats, in_set: Bools, limits: Floats) -> Bools:
    """Return the classes of a block that confident learning suspects, class by class as in cleanlab.

    Parameters
    ----------
    q : ndarray of float64, shape (b, C)
    in_set : ndarray of bool, shape (b, C)
        Whether each class is in the label set.
    limits : ndarray of float64, shape (2, C)
        As from `set_thresholds`.

    References
    ----------
    cleanlab 2.9, ``multilabel_classification.filter.find_multilabel_issues_per_class`` with
    ``filter_by="confident_learning"``.
    """
    says_no, says_yes = 1 - q >= limits[0] - CLOSE, q >= limits[1] - CLOSE
    guess = np.where(says_no & says_yes, q > 1 - q, says_yes)
    own, other = np.where(in_set, q, 1 - q), np.where(in_set, 1 - q, q)
    # Of equal answers, no comes first, so that yes needs more than the tolerance.
    likeliest = np.where(in_set, own + CLOSE > other, own + CLOSE >= other)
    suspected: Bools = (says_no | says_yes) & (guess != in_set) & ~likeliest
    return suspected


def independent_lists(ensemble: Ensemble) -> list[int]:
    """Return the models that list only some classes, with probabilities of independent classes.

    For such a model, the probabilities of some image add up to more than 1. Nothing is known about a class
    that is not listed, except that it is not among the best. If the probabilities of all classes add up to 1,
    a class that is not among the best has a probability close to 0.
    """
    found = []
    for m, (top, p) in enumerate(zip(ensemble.top, ensemble.probabilities, strict=True)):
        if p is None or ensemble.dense_of(m) is not None:
            continue
        total = np.where(top >= 0, p, 0).sum(1, dtype=np.float64)
        if (total > 1 + SLACK).any() and (np.count_nonzero(top >= 0, axis=1) < ensemble.n_classes).any():
            found.append(m)
    return found


def _checked_states(sets: LabelSets, start: int, q: Floats, tops: Sequence[Ints]) -> Bytes:
    """Return the states of the classes of a block; `UNCLEAR` for those that are not checked.

    Classes are not checked if they are not listed in one of `tops`, arrays of shape (n, k).
    """
    rows = np.arange(start, start + len(q))
    state = _states(sets.take(rows))
    state[~(sets.usable[rows] & np.isfinite(q).all(1))] = UNCLEAR
    for top in tops:
        listed = np.zeros((len(q), q.shape[1] + 1), bool)  # the last column is for `NO_LABEL`
        listed[np.arange(len(q))[:, None], top[rows]] = True
        state[~listed[:, :-1]] = UNCLEAR
    return state


def _states(sets: LabelSets) -> Bytes:
    dense = np.full((len(sets), sets.n_classes), NOT_ASKED, np.uint8)
    dense[sets.rows, sets.classes] = sets.state
    return dense


def _cells(
    start: int, q: Floats, state: Bytes, limits: Floats | None, least: float, asked: Bools | None
) -> _Part:
    """Return the cells of a block that may be issues, by models or raters."""
    in_set = state == YES
    q = np.where(np.isfinite(q), q, 0)
    suspected = np.zeros(q.shape, bool) if limits is None else suspected_cells(q, in_set, limits)
    chosen = (np.where(in_set, 1 - q, q) >= least) | suspected
    chosen = (chosen if asked is None else chosen | asked) & (state != UNCLEAR)
    row, class_id = np.nonzero(chosen)
    cells = row, class_id
    return start + row, class_id, q[cells], suspected[cells], state[cells]


def _issues(
    ensemble: Ensemble,
    answers: LabelSets | None,
    cells: tuple[Ints, Ints, Floats, Bools],
    in_set: bool,
    least: tuple[float, float],
    *,
    settled: bool,
) -> Issues:
    """Return the issues of one kind; `least` are the minimum scores of asked and of unasked classes."""
    row, class_id, q, suspected = cells
    models = 1 - q if in_set else q
    people, n_votes = np.full(len(row), np.nan), np.full(len(row), np.nan)
    agree = np.zeros(len(row), bool)
    if answers is not None:
        given = answers.take(row)
        yes, n_votes = raters_evidence(given, class_id)
        people = 1 - yes if in_set else yes
        agree = ~np.isnan(people) & (given.state_of(class_id[:, None])[:, 0] == (YES if in_set else NO))
    asked, score = ~np.isnan(people), models
    if asked.any():
        weight, expected = rater_evidence(people, n_votes, models, class_id)
        score = np.where(asked, corrected_evidence(people, models, weight, expected), models)
    keep = (
        (score >= np.where(asked, *least)) | (people >= max(least[0], 0.5)) | (suspected & ~(people <= 0.5))
    )
    keep &= ~(agree & settled)
    nobody, none = np.full(len(row), np.nan), np.zeros(len(row), np.int64)
    confident = np.where(suspected, class_id, NO_LABEL)
    return ranked(ensemble, Issues(row, class_id, score, models, nobody, people, q, none, confident), keep)
