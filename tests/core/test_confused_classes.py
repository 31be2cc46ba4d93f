"""What is predicted wrongly beside what is present, against loops over images."""

from collections import Counter

import numpy as np
import pytest

from manyhot.core.confused_classes import NOTHING, confused_classes
from manyhot.core.operating_points import operating_points
from manyhot.core.sets import NO, NOT_ASKED, YES
from scored_states import case_of, draw


def by_loop(case, points, state, masked):
    """Count pairs image by image: all pairs, and those in which the present class is missed."""
    pairs, lost, wrong_on = Counter(), Counter(), Counter()
    wrong_states = (NO,) if masked else (NO, NOT_ASKED, 2)
    fitted = set(points.fitted.tolist())
    for i in np.flatnonzero(case.labels.usable):
        reached = case.scores[i] >= points.fold_threshold[points.fold[i]]
        predicted = {c for c in fitted if reached[c]}
        valid = set(np.flatnonzero(state[i] == YES).tolist())
        missed = (valid & fitted) - predicted
        wrong = {c for c in predicted - valid if state[i, c] in wrong_states}
        wrong_on.update(wrong)
        pairs.update((a, b) for a in wrong for b in valid)
        lost.update((a, b) for a in wrong for b in missed)
        if not wrong:
            pairs.update((NOTHING, b) for b in missed)
            lost.update((NOTHING, b) for b in missed)
        if not valid:
            pairs.update((a, NOTHING) for a in wrong)
    return pairs, lost, wrong_on


@pytest.mark.parametrize(
    ("seed", "dtype", "masked"), [(0, np.float32, False), (1, np.float16, True), (2, np.float16, False)]
)
@pytest.mark.parametrize("goal", ["f1", "recall"])
def test_counts_are_those_of_a_loop_over_images(seed, dtype, masked, goal):
    state, scores, usable = draw(seed, dtype=dtype)
    case = case_of(state, scores, usable)
    rng = np.random.default_rng(0)
    points = operating_points(case, goal=goal, at=None if goal == "f1" else 0.8, rng=rng, masked=masked)
    found = confused_classes(case, points, most=10**6)
    pairs, lost, wrong_on = by_loop(case, points, state, masked)
    rows = [*zip(found.predicted.tolist(), found.present.tolist(), strict=True)]
    assert {*rows} == {*pairs}
    assert len(rows) == len(pairs) > 100
    assert [pairs[row] for row in rows] == found.n.tolist()
    assert [lost[row] for row in rows] == found.n_instead.tolist()
    assert [wrong_on[c] for c in range(state.shape[1])] == found.n_wrong.tolist()
    order = [(-m, -n) for m, n in zip(found.n_instead, found.n, strict=True)]
    assert order == sorted(order)


def test_the_largest_counts_are_returned():
    state, scores, usable = draw(3)
    case = case_of(state, scores, usable)
    points = operating_points(case, rng=np.random.default_rng(0))
    every, few = (confused_classes(case, points, most=most) for most in (10**6, 5))
    classes = (every.predicted >= 0) & (every.present >= 0)
    kept = (few.predicted >= 0) & (few.present >= 0)
    assert 5 <= kept.sum() <= 10
    for name in ("n", "n_instead"):
        largest = np.sort(getattr(every, name)[classes])[::-1][:5]
        assert np.sort(getattr(few, name)[kept])[::-1][:5].tolist() == largest.tolist()
    assert ((few.predicted < 0).sum(), (few.present < 0).sum()) == (5, 0)


def test_by_hand():
    """A sofa is predicted in place of a chair, next to a person, and on an image without classes."""
    chair, sofa, person = range(3)
    sets = [{chair, person}, {chair, person}, {chair}, set(), {person}, {sofa}, {sofa}, {chair}, {chair}]
    predicted = [{sofa, person}, {sofa, person}, set(), {sofa}, {person}, {sofa}, {sofa}, {chair}, {chair}]
    state, scores = (np.full((9, 3), NO, np.uint8), np.zeros((9, 3), np.float32))
    for i, (valid, chosen) in enumerate(zip(sets, predicted, strict=True)):
        state[i, [*valid]] = YES
        scores[i, [*chosen]] = 1
    case = case_of(state, scores)
    points = operating_points(case, n_folds=2, rng=np.random.default_rng(0))
    for values in (points.threshold, points.fold_threshold):
        values[:] = 0.5
    found = confused_classes(case, points)
    rows = zip(found.predicted, found.present, found.n, found.n_instead, strict=True)
    assert [*map(tuple, rows)] == [
        (sofa, chair, 2, 2),
        (NOTHING, chair, 1, 1),
        (sofa, person, 2, 0),
        (sofa, NOTHING, 1, 0),
    ]
    assert found.n_wrong.tolist() == [0, 3, 0]
