"""Intersection over union of masks, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, jaccard_score

from manyhot.core.detection import VOID, class_overlaps, pixel_counts

RNG = np.random.default_rng(0)
WANTED = RNG.choice([0, 1, 2, VOID], (6, 9, 7), p=[0.5, 0.2, 0.2, 0.1])
FOUND = np.where(RNG.random(WANTED.shape) < 0.6, WANTED, RNG.integers(0, 3, WANTED.shape)) % VOID


def test_counts_are_those_of_a_confusion_matrix_without_void():
    for wanted, found in zip(WANTED, FOUND, strict=True):
        inside = wanted != VOID
        matrix = confusion_matrix(wanted[inside], found[inside], labels=range(3))
        expected = [np.diag(matrix), matrix.sum(1), matrix.sum(0)]
        np.testing.assert_array_equal(pixel_counts(wanted, found, 3), expected)


def test_overlap_is_that_of_all_pixels_together():
    counts = np.stack([pixel_counts(*pair, 3) for pair in zip(WANTED, FOUND, strict=True)])
    inside = WANTED != VOID
    expected = jaccard_score(WANTED[inside], FOUND[inside], average=None)
    assert class_overlaps(counts)[0] == pytest.approx(expected)
    twice = class_overlaps(counts, [[2, 0, 1, 0, 0, 0]])[0]
    rows = [0, 0, 2]
    inside = WANTED[rows] != VOID
    assert twice == pytest.approx(jaccard_score(WANTED[rows][inside], FOUND[rows][inside], average=None))


def test_a_class_that_no_mask_shows_is_not_known():
    counts = pixel_counts(np.zeros((2, 2), int), np.array([[0, 1], [0, 0]]), 3)
    np.testing.assert_array_equal(class_overlaps(counts[None]), [[0.75, np.nan, np.nan]])
