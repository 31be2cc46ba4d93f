"""Places of cells among the scores of the positives: a look-up gives what a binary search gives."""

import numpy as np
import pytest

from manyhot.core.ranked_cells import EdgeTable


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
