"""Votes that are the same are counted once, whatever the number of votes at a time."""

import numpy as np
import pytest

from manyhot.core import aggregation
from manyhot.core.expectation_maximisation import Patterns, maximise


@pytest.mark.parametrize("block", [aggregation.BLOCK_SIZE, 7], ids=["one block", "blocks of seven votes"])
def test_a_pattern_is_a_group_and_its_votes_in_any_order(monkeypatch, block):
    monkeypatch.setattr(aggregation, "BLOCK_SIZE", block)
    rng, n, n_symbols = np.random.default_rng(0), 80, 3
    question, group = np.sort(rng.integers(0, n, 2 * n)), rng.integers(0, 2, n)
    symbol = rng.integers(0, n_symbols, len(question))
    found = Patterns.of(question, symbol, n, n_symbols, group)
    votes = [tuple(np.sort(symbol[question == q]).tolist()) for q in range(n)]
    expected: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for q in range(n):
        expected.setdefault((group[q], votes[q]), []).append(q)
    assert 10 < len(expected) < n
    assert len(found.weight) == len(expected)
    for (of_group, own), questions in expected.items():
        (pattern,) = set(found.pattern[questions].tolist())
        assert (found.weight[pattern], found.group[pattern]) == (len(questions), of_group)
        assert sorted(found.symbols[found.ends[pattern] : found.ends[pattern + 1]]) == list(own)


def test_acceleration_gives_the_same_in_fewer_iterations():
    """Few questions, and raters who are hardly better than chance."""
    rng, n = np.random.default_rng(0), 40
    truth, question = rng.integers(0, 2, n), np.repeat(np.arange(n), 4)
    answer = np.where(rng.random(4 * n) < 0.6, truth[question], 1 - truth[question])
    patterns = Patterns.of(question, np.tile(np.arange(4), n) * 2 + answer, n, 8)

    def estimate(counts):
        matrices = counts.reshape(4, 2, 2).transpose(0, 2, 1) + 1
        return matrices / matrices.sum(2, keepdims=True)

    start = np.stack([1 - truth, truth], axis=1) * 0.2 + 0.4
    plain, fast = (
        maximise(patterns, start, estimate, added=1, iterations=5000, tolerance=1e-11, accelerate=accelerate)
        for accelerate in (False, True)
    )
    assert plain.converged
    assert fast.converged
    np.testing.assert_allclose(fast.posterior, plain.posterior, atol=1e-3)
    assert fast.iterations < 0.75 * plain.iterations
