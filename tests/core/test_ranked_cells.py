"""Places of cells among the scores of the positives: a look-up gives what a binary search gives."""

import numpy as np
import pytest

from manyhot.core.ranked_cells import EdgeTable, rank_cells
from manyhot.core.ranked_positives import rank_positives
from manyhot.core.sets import Case, LabelSets


def scores_of_kind(kind, rng):
    values = rng.normal(size=4000).astype(np.float32)
    made = {
        "logits": values,
        "float64": values.astype(float) * 1e300,
        "probabilities": (1 / (1 + np.exp(-8 * values))).astype(np.float32),
        "rounded": values.round(1),
        "skewed": np.exp(20 * values).astype(np.float32),
        "extremes": np.concatenate([values, [-np.inf, np.inf, 0.0, -0.0, 3e38, -3e38, 1e-45]]).astype(
            np.float32
        ),
        "tiny": (values * 1e-44).astype(np.float32),
        "tiny float64": values.astype(float) * 1e-322,
        "equal": np.zeros(9, np.float32),
    }
    return made[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "logits",
        "float64",
        "probabilities",
        "rounded",
        "skewed",
        "extremes",
        "tiny",
        "tiny float64",
        "equal",
    ],
)
@pytest.mark.parametrize("by_bits", [None, False, True])
@pytest.mark.parametrize("size", [1, 300])
def test_places_among_edges_are_those_of_a_binary_search(kind, by_bits, size):
    rng = np.random.default_rng(0)
    scores = scores_of_kind(kind, rng)
    edges = np.unique(rng.choice(scores, size))
    by_bits = by_bits and edges.dtype == np.float32  # what float64 never has
    table = EdgeTable.of(edges) if by_bits is None else EdgeTable._on(edges, by_bits)
    expected = np.searchsorted(edges, scores, side="right")
    assert (table.n_at_or_below(scores) == expected).all()


def runs_by_comparing(column, positive):
    """Return, for each score, twice the distinct scores above it, plus 1 if it is one of them."""
    distinct = sorted(set(positive.tolist()))
    return [2 * sum(d > s for d in distinct) + (s in distinct) for s in column.tolist()]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("infinite", [0, 0.2])
def test_the_runs_of_a_class_are_those_of_comparisons(dtype, infinite):
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(400, 3)).round(1).astype(dtype)
    scores[rng.random(scores.shape) < infinite] = np.inf
    scores[rng.random(scores.shape) < infinite] = -np.inf
    scores[rng.random(scores.shape) < 0.2] = -0.0
    scores[:4, 0] = [0.0, -0.0, 6e-8, -6e-8]
    usable = rng.random(400) < 0.9
    labels = LabelSets.from_lists(rng.integers(0, 3, (400, 1)), 3, usable=usable)
    case = Case(labels, np.zeros((400, 1), np.int32), scores)
    cells = rank_cells(case, rank_positives(case, "class"))
    for c, one in enumerate(cells.classes):
        positive = scores[usable & (labels.first == c), c]
        expected = runs_by_comparing(scores[:, c], positive)
        assert one.run[usable].tolist() == np.array(expected)[usable].tolist()
        assert (one.run[~usable] == one.n_runs - 1).all()
        assert one.n_runs == 2 * len(set(positive.tolist())) + 1
