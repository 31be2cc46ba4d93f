"""Ties of the highest score, against all ways to break them."""

import itertools

import numpy as np
import pytest

from manyhot import evaluate
from manyhot.core.accuracy import tied_tops
from manyhot.core.sets import Case
from manyhot.tables.array_inputs import as_labels
from manyhot.tables.arrays import label_sets

SETS = [[0], [1, 2], [3], [0, 3], []]
SCORES = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [0, 1, 0, 0], [1, 1, 1, 1]], np.float32)


def test_the_expectation_is_the_mean_over_all_ways_to_break_ties():
    case = Case.from_scores(label_sets(as_labels(SETS, n_classes=4)), SCORES, k=4)
    tied = [np.flatnonzero(row == row.max()) for row in SCORES[:4]]
    ways = [
        np.mean([c in classes for c, classes in zip(way, SETS, strict=False)])
        for way in itertools.product(*tied)
    ]
    found = tied_tops(case)
    assert (found.share, found.n) == (0.75, 4)
    assert found.n_equal == 1  # the third image; the last has no valid class
    assert found.expected == pytest.approx(np.mean(ways))
    assert found.real1 == np.mean([classes[0] in own for classes, own in zip(tied, SETS, strict=False)])


def test_a_note_says_how_much_ties_matter():
    """Predictions of 0 and 1 had a real1 of 49.4 %, and of 44.1 % with ties broken at random."""
    found = evaluate(SETS, SCORES, metrics=["real1"], resamples=0, trust_order=False)
    assert found.value("real1") == 0.25
    (note,) = [note for note in found.notes if "highest score" in note]
    assert note.endswith(
        "the highest score belongs to several classes on 75.0% of 4 images, and the first of them is taken: "
        "real1 is 25.0%, but would be 35.4% on average if one of them were drawn at random"
    )
    distinct = SCORES + np.arange(4) / 100
    assert not any("highest score" in note for note in evaluate(SETS, distinct, resamples=0).notes)


def test_a_note_gives_the_number_of_rows_that_were_perhaps_never_written():
    """Rows of zeros in a preallocated array count as the first class."""
    scores = np.eye(4, dtype=np.float32)
    scores[2] = 0
    found = evaluate([[0], [1], [2], [3]], scores, metrics=["real1"], resamples=0, trust_order=False)
    (note,) = [note for note in found.notes if "all scores are equal" in note]
    assert note.endswith(
        "all scores are equal on 1 of 4 images, so the first class is taken: if their rows were never "
        "written, as after a job that failed, leave these images out"
    )
    scores[2, 2] = 1
    distinct = evaluate([[0], [1], [2], [3]], scores, metrics=["real1"], resamples=0, trust_order=False)
    assert not any("all scores are equal" in note for note in distinct.notes)
