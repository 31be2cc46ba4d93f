from collections import Counter

import numpy as np
import pytest

from manyhot.diagnose.patchml.compose import deal_as_they_occur, deal_evenly


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("sizes", [(1, 1), (1, 4), (3, 3), (2, 7)])
def test_each_class_as_often_as_any_other(sizes):
    classes = [2, 3, 5, 7, 11, 13, 17]
    dealt = deal_evenly(500, sizes, classes, rng())
    assert all(sizes[0] <= len(d) == len(set(d)) <= sizes[1] for d in dealt)
    assert {len(d) for d in dealt} == set(range(sizes[0], sizes[1] + 1))
    counts = Counter(c for d in dealt for c in d)
    assert set(counts) == set(classes)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_classes_meet_as_chance_has_it():
    """Of 4 classes in twos, each of 6 pairs is as likely; no class is always the lowest."""
    dealt = deal_evenly(6000, (2, 2), range(4), rng(1))
    pairs = Counter(frozenset(d) for d in dealt)
    assert len(pairs) == 6
    assert min(pairs.values()) > 800
    assert Counter(d[0] for d in dealt)[0] == pytest.approx(1500, abs=150)


def test_pairs_stand_together():
    pairs = [(0, 1), (1, 2), (5, 3)]
    dealt = deal_evenly(300, (2, 4), range(6), rng(), pairs)
    own = [[p for p in pairs if set(p) <= set(d)] for d in dealt]
    assert all(own)
    assert all(len(d) == len(set(d)) for d in dealt)
    of_two = Counter(tuple(sorted(d)) for d in dealt if len(d) == 2)
    assert set(of_two) == {(0, 1), (1, 2), (3, 5)}
    counts = Counter(c for d in dealt for c in d)
    assert counts[4] > 0


def test_as_they_occur():
    sets = [[0, 1]] + [[2, 3, 4]] * 3
    dealt = deal_as_they_occur(4000, (2, 3), sets, rng())
    assert all(any(set(d) <= set(s) for s in sets) for d in dealt)
    counts = Counter(tuple(sorted(d)) for d in dealt)
    assert counts[0, 1] == pytest.approx(1000, abs=120)
    assert counts[2, 3, 4] == pytest.approx(1500, abs=150)
    assert set(counts) == {(0, 1), (2, 3, 4), (2, 3), (2, 4), (3, 4)}


def test_the_same_seed_deals_the_same():
    assert deal_evenly(50, (1, 3), range(9), rng(4)) == deal_evenly(50, (1, 3), range(9), rng(4))
    assert deal_evenly(50, (1, 3), range(9), rng(4)) != deal_evenly(50, (1, 3), range(9), rng(5))
