"""The expected average precision of a random order, against all orders and against scores drawn at random."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score

from manyhot import as_labels
from manyhot.core.random_ranking import random_average_precision, random_values
from manyhot.tables.arrays import label_sets


@pytest.mark.parametrize(("n_positives", "n"), [(1, 1), (1, 6), (2, 6), (5, 6), (6, 6)])
def test_mean_over_all_orders(n_positives, n):
    positive = np.arange(n) < n_positives
    orders = [average_precision_score(positive, order) for order in itertools.permutations(range(n))]
    assert random_average_precision(n_positives, n) == pytest.approx(np.mean(orders), abs=1e-12)


def test_mean_over_random_scores():
    """In 400 draws, the means of scikit-learn's values are within four standard errors."""
    rng = np.random.default_rng(0)
    hot = rng.random((40, 7)) < [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.0]
    found, some = random_values(label_sets(as_labels(hot))), hot.any(axis=1)
    assert found["map_macro"][1] == found["map_micro"][1] == 40
    assert found["map_image"][1] == found["lrap"][1] == some.sum()
    drawn = rng.random((400, *hot.shape))
    ap = average_precision_score
    values = {
        "map_macro": [ap(hot[:, :6], s[:, :6], average="macro") for s in drawn],
        "map_micro": [ap(hot.ravel(), s.ravel()) for s in drawn],
        "map_image": [ap(hot[some], s[some], average="samples") for s in drawn],
        "lrap": [label_ranking_average_precision_score(hot[some], s[some]) for s in drawn],
    }
    for metric, of_draws in values.items():
        error = np.std(of_draws) / np.sqrt(len(of_draws))
        assert abs(np.mean(of_draws) - found[metric][0]) < 4 * error, metric


def test_without_positives_there_is_no_value():
    assert random_values(label_sets(as_labels(np.zeros((3, 2), int)))) == {}
