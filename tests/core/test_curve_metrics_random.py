"""The expected average precision of a random order, against all orders and against scores drawn at random."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score

from manyhot import as_labels
from manyhot.core.curve_metrics import random_average_precision, random_values
from manyhot.tables.arrays import label_sets


@pytest.mark.parametrize(("n_positives", "n"), [(1, 1), (1, 6), (2, 6), (5, 6), (6, 6)])
def test_mean_over_all_orders(n_positives, n):
    # Orders that differ only among positives or among negatives have the same value, and are equally many.
    ranks = np.arange(n)
    places = itertools.combinations(ranks, n_positives)
    orders = [average_precision_score(np.isin(ranks, chosen), ranks) for chosen in places]
    assert random_average_precision(n_positives, n) == pytest.approx(np.mean(orders), abs=1e-12)


def average_precisions(positive, scores):
    """Return the average precision along the last axis, where no two scores are equal."""
    ranked = np.take_along_axis(positive, (-scores).argsort(-1), -1)
    precision = ranked.cumsum(-1) / np.arange(1, ranked.shape[-1] + 1)
    return (precision * ranked).sum(-1) / ranked.sum(-1)


def test_mean_over_random_scores():
    """In 400 draws, means are within four standard errors; ten draws have the values of scikit-learn."""
    rng = np.random.default_rng(0)
    hot = rng.random((40, 7)) < [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.0]
    found, some = random_values(label_sets(as_labels(hot))), hot.any(axis=1)
    assert found["map_macro"][1] == found["map_micro"][1] == 40
    assert found["map_image"][1] == found["lrap"][1] == some.sum()
    drawn = rng.random((400, *hot.shape))
    whole = np.broadcast_to(hot, drawn.shape)
    images = average_precisions(whole[:, some], drawn[:, some]).mean(1)  # without ties, lrap is the same
    values = {
        "map_macro": average_precisions(whole[:, :, :6].swapaxes(1, 2), drawn[:, :, :6].swapaxes(1, 2)).mean(
            1
        ),
        "map_micro": average_precisions(whole.reshape(400, -1), drawn.reshape(400, -1)),
        "map_image": images,
        "lrap": images,
    }
    ap = average_precision_score
    published = {
        "map_macro": lambda s: ap(hot[:, :6], s[:, :6], average="macro"),
        "map_micro": lambda s: ap(hot.ravel(), s.ravel()),
        "map_image": lambda s: ap(hot[some], s[some], average="samples"),
        "lrap": lambda s: label_ranking_average_precision_score(hot[some], s[some]),
    }
    for metric, value in published.items():
        assert values[metric][:10] == pytest.approx([value(s) for s in drawn[:10]], abs=1e-12), metric
    for metric, of_draws in values.items():
        error = np.std(of_draws) / np.sqrt(len(of_draws))
        assert abs(np.mean(of_draws) - found[metric][0]) < 4 * error, metric


def test_without_positives_there_is_no_value():
    assert random_values(label_sets(as_labels(np.zeros((3, 2), int)))) == {}
