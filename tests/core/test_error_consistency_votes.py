"""Majority votes of three against a loop over images, and gains that are not chosen by themselves."""

from itertools import combinations

import numpy as np
import pytest

from manyhot.core.error_consistency import MOST_VOTES, best_votes

N = 2_000


def guesses(accuracies, seed, n=N, n_classes=5):
    """Return the classes that independent models choose, and whether they are right: the label is 0."""
    rng = np.random.default_rng(seed)
    right = rng.random((n, len(accuracies))) < accuracies
    return np.where(right, 0, rng.integers(1, n_classes, right.shape)), right


def voted(top, trio):
    """Return the class of the majority of three on each image, the first model's without one."""
    found = []
    for a, b, c in top[:, trio]:
        found.append(b if b == c else a)
    return np.array(found)


def test_gains_are_those_of_a_loop():
    top, right = guesses([0.6, 0.7, 0.65, 0.5], 0)
    votes = best_votes(top, right, 7)
    is_first = np.random.default_rng([7, N]).permutation(N) < N // 2
    best = int(right[is_first].mean(axis=0).argmax())
    others = [i for i in range(4) if i != best]
    expected = {
        (a, b): (voted(top[is_first], [best, a, b]) == 0).mean() - right[is_first, best].mean()
        for a, b in combinations(others, 2)
    }
    assert [v.models for v in votes] == [(best, *p) for p in sorted(expected, key=lambda p: -expected[p])]
    for vote in votes:
        assert vote.chosen_gain == pytest.approx(expected[vote.models[1:]], abs=1e-6)
        gain = (voted(top[~is_first], list(vote.models)) == 0).astype(float) - right[~is_first, best]
        assert vote.gain == pytest.approx(gain.mean())
        half = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
        assert vote.interval == pytest.approx((gain.mean() - half, gain.mean() + half), abs=1e-4)
        assert vote.n == N // 2


def test_gains_are_not_chosen_by_themselves():
    """Of equal, independent models of two classes, the majority is right in .7³ + 3 · .7² · .3."""
    gains = []
    for seed in range(60):
        top, right = guesses([0.7] * 12, seed, n=400, n_classes=2)
        votes = best_votes(top, right, seed)
        assert len(votes) == MOST_VOTES
        gains.append(votes[0].gain)
    error = np.std(gains) / np.sqrt(60)
    assert abs(np.mean(gains) - (0.784 - 0.7)) < 3 * error < 0.02


def test_votes_need_three_models_and_images_enough():
    top, right = guesses([0.6, 0.7, 0.5], 1)
    assert best_votes(top[:, :2], right[:, :2], 0) == []
    assert best_votes(top[:99], right[:99], 0) == []


def test_empty_places_do_not_outvote():
    top, right = guesses([0.9, 0.5, 0.5], 2)
    top[:, 1:], right[:, 1:] = -1, False
    assert best_votes(top, right, 0) == []
