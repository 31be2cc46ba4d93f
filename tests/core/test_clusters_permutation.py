"""Permutations in clusters: what they keep, that all are as likely, and the error rate of a search."""

from collections import Counter

import numpy as np

from manyhot.core.clusters import like_clusters, n_exchangeable, permuted_in_clusters
from manyhot.core.group_search import FAMILY_WISE, Groups, Outcome, search_groups


def _patients(rng, n=80):
    """Return the patient of each image, of whom each has one to five."""
    return rng.permutation(np.repeat(np.arange(n), rng.integers(1, 6, n)))


def test_clusters_keep_their_outcomes_together_in_each_stratum():
    rng = np.random.default_rng(0)
    cluster = _patients(rng)
    stratum = rng.integers(2, size=len(cluster))
    event = rng.random(len(cluster)) < 0.4

    def counts(values):
        """Return how often clusters with the same images in each stratum have the same events in each."""
        found = Counter()
        for c in np.unique(cluster):
            of = [(cluster == c) & (stratum == s) for s in (0, 1)]
            found[tuple((int(s.sum()), int(values[s].sum())) for s in of)] += 1
        return found

    for drawn in permuted_in_clusters(event, stratum, cluster, 50, rng):
        assert counts(drawn) == counts(event)
        assert (drawn != event).any()


def test_all_arrangements_are_equally_likely():
    """Two pairs and one image alone: either pair has the event, on its first or on its second image."""
    cluster, event = np.array([7, 3, 7, 3, 5]), np.array([True, False, False, False, True])
    rng = np.random.default_rng(1)
    drawn = permuted_in_clusters(event, np.zeros(5, int), cluster, 8000, rng)
    found = Counter(tuple(np.flatnonzero(row).tolist()) for row in drawn)
    assert set(found) == {(i, 4) for i in range(4)}
    assert all(abs(n - 2000) < 5 * np.sqrt(2000 * 0.75) for n in found.values())


def test_clusters_of_single_images_are_permuted_within_strata():
    rng = np.random.default_rng(2)
    stratum, event = np.repeat([0, 1], 20), np.arange(40) % 3 == 0
    drawn = permuted_in_clusters(event, stratum, np.arange(40), 2000, rng)
    for s in (0, 1):
        of = stratum == s
        assert (drawn[:, of].sum(axis=1) == event[of].sum()).all()
        share = event[of].mean()
        assert abs(drawn[:, of].mean(axis=0) - share).max() < 5 * np.sqrt(share * (1 - share) / 2000)


def test_a_cluster_unlike_all_others_cannot_exchange():
    cluster, stratum = np.array([0, 0, 1, 1, 2, 2, 2, 3]), np.array([0, 1, 1, 0, 0, 0, 0, 0])
    assert sorted(part.shape for part in like_clusters(cluster, stratum)) == [(1, 1), (1, 3), (2, 2)]
    assert n_exchangeable(cluster, stratum) == 4


def test_a_search_over_patients_finds_any_property_as_often_as_stated():
    """Labels and properties are alike for all images of a patient: 5 % of searches may find one.

    Without clusters, most find one. Half of the properties are those of images.
    """
    rng = np.random.default_rng(3)
    wrong = {True: 0, False: 0}
    for _ in range(100):
        cluster = _patients(rng)
        n, patients = len(cluster), cluster.max() + 1
        event = rng.random(n) < rng.beta(0.3, 0.9, patients)[cluster]
        groups = rng.random((20, patients)) < rng.uniform(0.2, 0.8, (20, 1))
        inside = np.concatenate([groups[:, cluster], rng.random((20, n)) < 0.4])
        outcome = Outcome(event, np.ones(n, bool), np.zeros(n, np.int64))
        for with_clusters in wrong:
            tested = Groups(inside, np.zeros(40, bool), np.zeros(n, bool), cluster if with_clusters else None)
            found = search_groups(tested, [outcome], rng, permutations=199, min_images=20)
            wrong[with_clusters] += bool((found.p <= FAMILY_WISE).any())
    assert wrong[True] <= 13  # of 100 at 5 %; more in fewer than 1 of 1,000 runs
    assert wrong[False] > 30


def test_differences_between_patients_and_between_images_of_a_patient_are_found():
    rng = np.random.default_rng(4)
    cluster = _patients(rng, 200)
    patient = rng.random(200) < 0.5
    lateral = rng.random(len(cluster)) < 0.4
    event = rng.random(len(cluster)) < 0.1 + 0.4 * patient[cluster] + 0.3 * lateral
    groups = Groups(
        np.stack([patient[cluster], lateral]), np.zeros(2, bool), np.zeros(len(cluster), bool), cluster
    )
    outcome = Outcome(event, np.ones(len(cluster), bool), np.zeros(len(cluster), np.int64))
    found = search_groups(groups, [outcome], rng, permutations=499)
    assert (found.p[0] == 1 / 500).all()
