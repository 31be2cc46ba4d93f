"""False positives and misses of each class, compared with a plain loop."""

import numpy as np
import pytest

from answered_sets import sets_of
from manyhot.core.class_errors import class_errors, independent_classes
from manyhot.core.operating_points import operating_points
from manyhot.core.sets import NO, NOT_ASKED, UNCLEAR, YES, Case, LabelSets


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(2)
    p = rng.beta(0.5, 1.5, (300, 4)).astype(np.float32)
    state = np.where(rng.random(p.shape) < p, YES, NO)
    state[rng.random(p.shape) < 0.1] = UNCLEAR
    state[rng.random(p.shape) < 0.2] = NOT_ASKED
    state[:, 3] = np.where(np.arange(300) < 2, YES, NO)  # too rare for a threshold
    usable = rng.random(300) < 0.9
    return Case.from_scores(sets_of(state, usable), p, k=1, kind="probability"), state, usable


def test_errors_are_those_of_a_plain_loop(case):
    case, state, usable = case
    found = class_errors(case, rng=np.random.default_rng(0))
    points = operating_points(case, rng=np.random.default_rng(0), masked=True)
    expected = {}
    for i in np.flatnonzero(usable):
        for c in range(3):
            least = points.fold_threshold[points.fold[i], c]
            predicted = case.scores[i, c] >= least
            if state[i, c] == (NO if predicted else YES):
                expected[i, c] = (not predicted, float(case.scores[i, c]), least)
    pairs = list(zip(found.image.tolist(), found.classes.tolist(), strict=True))
    columns = zip(found.is_miss, found.probability, found.threshold, strict=True)
    assert dict(zip(pairs, columns, strict=True)) == expected
    assert len(pairs) == len(expected)
    certainty = np.where(found.is_miss, 1 - found.probability, found.probability)
    assert (np.diff(certainty) <= 0).all()
    judged = usable[:, None] & (np.arange(4) < 3)
    assert found.n_positives.tolist() == np.sum(judged & (state == YES), axis=0).tolist()
    assert found.n_negatives.tolist() == np.sum(judged & (state == NO), axis=0).tolist()


def test_counts_are_those_of_the_operating_points(case):
    case, *_ = case
    found = class_errors(case, rng=np.random.default_rng(0))
    points = operating_points(case, rng=np.random.default_rng(0), masked=True)
    wrong, misses = (np.bincount(found.classes[found.is_miss == side], minlength=4) for side in (False, True))
    assert wrong[:3].tolist() == (points.n_predicted - points.n_right)[:3].tolist()
    assert misses[:3].tolist() == (points.n_positives - points.n_right)[:3].tolist()


def test_classes_are_independent_or_not():
    p = np.array([[0.5, 0.5], [0.9, 0.1]], np.float32)
    sets, labelled = (LabelSets.from_lists([[0], []], 2, label=label) for label in (None, [0, 1]))
    of = Case.from_scores
    assert independent_classes(of(sets, p, kind="probability")) is None  # adds up to 1
    assert independent_classes(of(sets, p / 2, kind="probability")) is not None
    assert independent_classes(of(labelled, p / 2, kind="probability")) is None
    assert independent_classes(of(sets, p, kind="score")) is None
    sigmoids = independent_classes(of(sets, p, kind="logit"))
    assert sigmoids.scores == pytest.approx(1 / (1 + np.exp(-p)))
    assert class_errors(Case(sets, np.zeros((2, 1), int)), rng=np.random.default_rng(0)) is None
