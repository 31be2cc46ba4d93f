"""Groups: counts against SciPy's hypergeometric distribution, and the error rate of the whole search."""

import numpy as np
import pytest
from scipy.stats import hypergeom

from manyhot.core import group_search
from manyhot.core.group_search import (
    FAMILY_WISE,
    Groups,
    Outcome,
    _permuted,
    count_in_groups,
    explain_away,
    search_groups,
)


def _random(rng, n=400, m=30, strata=4, rate=0.3):
    groups = rng.random((m, n)) < rng.uniform(0.1, 0.9, (m, 1))
    stratum = rng.integers(strata, size=n)
    return groups, Outcome(rng.random(n) < rate, rng.random(n) < 0.9, stratum)


def _all(inside):
    return Groups(inside, np.zeros(len(inside), bool), np.zeros(inside.shape[1], bool))


def test_counts_equal_those_of_a_loop_and_moments_of_the_hypergeometric_distribution():
    groups, outcome = _random(np.random.default_rng(0))
    found = count_in_groups(groups, outcome)
    for i, group in enumerate(groups):
        inside, outside = group & outcome.counts, ~group & outcome.counts
        assert (found.n[i], found.n_outside[i]) == (inside.sum(), outside.sum())
        assert found.events[i] == (inside & outcome.event).sum()
        assert found.events_outside[i] == (outside & outcome.event).sum()
        of = [outcome.counts & (outcome.stratum == s) for s in range(4)]
        draws = [hypergeom(s.sum(), (s & outcome.event).sum(), (s & group).sum()) for s in of]
        assert found.expected[i] == pytest.approx(sum(d.mean() for d in draws), rel=1e-5)
        assert found.variance[i] == pytest.approx(sum(d.var() for d in draws), rel=1e-5)


def test_the_statistic_is_that_of_cochran_mantel_haenszel_near_its_expectation():
    rng = np.random.default_rng(1)
    groups, outcome = _random(rng, n=40_000, rate=0.05)
    found = count_in_groups(groups, outcome)
    plain = (found.events - found.expected) / np.sqrt(found.variance)
    assert found.statistic() == pytest.approx(plain, abs=0.15)


def test_permutations_keep_the_events_of_each_stratum():
    rng = np.random.default_rng(2)
    stratum = np.sort(rng.integers(5, size=200))
    event = rng.random(200) < 0.2
    event[stratum == 0] = False
    event[stratum == 4] = True
    drawn = _permuted(event, stratum, 300, rng)
    for s in range(5):
        assert (drawn[:, stratum == s].sum(axis=1) == event[stratum == s].sum()).all()
    inside = stratum == 2
    assert drawn[:, inside].mean(axis=0) == pytest.approx(event[inside].mean(), abs=0.12)


def test_a_search_among_unrelated_groups_finds_any_as_often_as_stated():
    """Of 200 searches, 5 % find anything; 12 % would be six standard deviations more than that."""
    rng = np.random.default_rng(3)
    groups, outcome = _random(rng, n=200, m=40)
    wrong = 0
    for _ in range(200):
        event = _permuted(outcome.event, np.zeros(200, np.int64), 1, rng)[0]
        rare = _permuted(rng.random(200) < 0.03, np.zeros(200, np.int64), 1, rng)[0]
        outcomes = [Outcome(e, outcome.counts, outcome.stratum) for e in (event, rare)]
        found = search_groups(_all(groups), outcomes, rng, permutations=199, min_images=20)
        wrong += bool((found.p <= FAMILY_WISE).any())
    assert 2 <= wrong <= 20


def test_groups_with_images_of_their_own_are_not_permuted_and_have_the_exact_p(monkeypatch):
    """A group and its complement among some images: the counts follow a hypergeometric distribution."""
    monkeypatch.delattr(group_search, "_permuted")
    rng = np.random.default_rng(8)
    own, event, among = (rng.random(600) < share for share in (0.3, 0.2, 0.9))
    nothing = np.zeros(600, np.int64)
    outcome = Outcome(event | (own & (rng.random(600) < 0.12)), np.ones(600, bool), nothing)
    inside = np.stack([own, among & ~own])
    groups = Groups(inside, np.zeros(2, bool), np.zeros(600, bool), None, [among, among])
    found = search_groups(groups, [outcome], rng, permutations=20_000)
    of = outcome.event[among]
    n, k, size = int(own[among].sum()), int(of.sum()), int(among.sum())
    drawn = np.arange(max(0, k + n - size), min(n, k) + 1)
    statistics = found.counts[0].statistic(np.stack([drawn, k - drawn])).max(axis=0)
    exact = hypergeom(size, k, n).pmf(drawn)[statistics >= found.statistic[0].max()].sum()
    assert 0.01 < exact < 0.5
    assert found.p[0].min() == pytest.approx(exact, abs=5 * np.sqrt(exact / 20_000))


def test_a_difference_is_found_and_that_of_the_classes_is_not():
    rng = np.random.default_rng(8)
    stratum = rng.integers(2, size=2000)
    hard = rng.random(2000) < np.where(stratum == 1, 0.6, 0.1)
    mostly_hard = rng.random(2000) < np.where(stratum == 1, 0.9, 0.1)
    worse = rng.random(2000) < 0.2
    groups = np.stack([mostly_hard, worse])
    outcome = Outcome(hard | (worse & (rng.random(2000) < 0.5)), np.ones(2000, bool), stratum)
    found = search_groups(_all(groups), [outcome], rng, permutations=499)
    assert found.p[0, 1] == 1 / 500
    assert found.p[0, 0] > FAMILY_WISE
    shares = found.counts[0].events / found.counts[0].n
    assert shares[0] > 0.5  # without strata, it would be the clearest


def test_groups_that_were_searched_are_tested_on_the_other_images_only():
    rng = np.random.default_rng(5)
    groups, outcome = _random(rng)
    seen = rng.random(400) < 0.5
    both = Groups(groups[:2], np.array([True, False]), seen)
    found = both.count(outcome)
    assert found.n[0] == (groups[0] & outcome.counts & ~seen).sum()
    assert found.n[1] == (groups[1] & outcome.counts).sum()
    assert found.events[0] == (groups[0] & outcome.counts & ~seen & outcome.event).sum()


def test_a_group_is_explained_by_one_that_holds_the_same_images():
    rng = np.random.default_rng(6)
    frame = rng.random(3000) < 0.3
    green = frame ^ (rng.random(3000) < 0.05)
    dark = rng.random(3000) < 0.3
    event = rng.random(3000) < 0.05 + 0.5 * frame + 0.2 * dark
    outcome = Outcome(event, np.ones(3000, bool), np.zeros(3000, np.int64))
    groups = _all(np.stack([green, frame, dark]))
    assert explain_away(groups, outcome, np.array([1, 0, 2]), 3.5) == [(1, -1), (0, 1), (2, -1)]


def test_small_groups_are_not_tested():
    rng = np.random.default_rng(7)
    groups, outcome = _random(rng)
    groups[0] = False
    groups[0, :10] = True
    found = search_groups(_all(groups), [outcome], rng, permutations=100)
    assert np.isnan(found.p[0, 0])
    assert np.isfinite(found.p[0, 1:]).all()
