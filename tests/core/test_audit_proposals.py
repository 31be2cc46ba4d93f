import itertools

import numpy as np
import pytest

from manyhot.core.audit_proposals import ModelChoices, chosen_pairs
from manyhot.core.sets import NO_LABEL

N, C = 50, 4


def choices(seed=0, models=5):
    rng = np.random.default_rng(seed)
    top = rng.integers(0, C, (models, N))
    top[0, :3] = NO_LABEL
    pairs = {f"m{m}": chosen_pairs(np.arange(N), row, C) for m, row in enumerate(top)}
    return top, ModelChoices(N, C, pairs)


def plain(tops):
    """Return the majority's label sets, image by image."""
    found = []
    for column in tops.T:
        counts = np.bincount(column[column >= 0], minlength=C)
        half = {c for c in range(C) if counts[c] and 2 * counts[c] >= len(tops)}
        found.append(sorted(half | ({int(counts.argmax())} if counts.any() else set())))
    return found


def lists(sets):
    return [sets.classes[a:b].tolist() for a, b in itertools.pairwise(sets.indptr)]


@pytest.mark.parametrize("models", [1, 2, 5, 6])
def test_sets_of_all_models(models):
    top, found = choices(models=models)
    assert lists(found.sets(np.zeros(N, np.int32))) == plain(top)


@pytest.mark.parametrize("model", [0, 3])
def test_sets_of_the_other_models(model):
    top, found = choices()
    others = np.delete(top, model, axis=0)
    assert lists(found.sets(np.zeros(N, np.int32), f"m{model}")) == plain(others)


def test_classes_that_can_be_valid_together():
    p = np.array([[0.5, 0.4, 0.9], [0.1, 0.2, 0.3]])
    pairs = chosen_pairs(np.array([4, 1]), np.array([2, 2]), 3, p)
    assert pairs.tolist() == [12, 14]
