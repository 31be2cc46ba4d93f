"""Clusters of confusions against planted blocks and against plain loops."""

import itertools

import numpy as np
import pytest
from scipy.stats import chi2
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from manyhot.core.confused_classes import (
    ConfusionCounts,
    confusion_clusters,
    confusion_similarity,
    only_classes,
)
from manyhot.core.sets import NO_LABEL, YES
from manyhot.testing import random_case

BLOCKS = np.repeat(np.arange(5), (2, 3, 4, 5, 6))
ALONE = 4  # further classes, each in no block


def planted(rng, *, n=300, within=0.06, across=0.003):
    """Return counts of classes that are confused within their blocks, in random order, and the blocks."""
    block = np.concatenate([BLOCKS, BLOCKS.max() + 1 + np.arange(ALONE)])
    block = block[rng.permutation(len(block))]
    rate = np.where(block[:, None] == block[None, :], within, across)
    np.fill_diagonal(rate, 0)
    images = rng.integers(n // 2, 2 * n, len(block))
    return rng.poisson(rate * images[:, None]), images, block


@pytest.mark.parametrize("seed", range(10))
def test_planted_blocks_are_found(seed):
    confused, images, block = planted(np.random.default_rng(seed))
    cluster = confusion_clusters(confused, images)
    alone = block > BLOCKS.max()
    assert (cluster[alone] == -1).all()
    assert adjusted_rand_score(block[~alone], cluster[~alone]) == 1
    assert sorted(set(cluster)) == [-1, *range(BLOCKS.max() + 1)]


@pytest.mark.parametrize("seed", range(10))
def test_without_blocks_there_are_no_clusters(seed):
    confused, images, _ = planted(np.random.default_rng(seed), within=0.01, across=0.01)
    assert (confusion_clusters(confused, images) == -1).all()


@pytest.mark.parametrize("seed", range(20))
def test_few_errors_are_no_evidence(seed):
    """Two errors in 24 classes are many more than on average, but not surely so."""
    rng = np.random.default_rng(seed)
    confused, images, _ = planted(rng, within=0.0002, across=0.0002)
    assert 0 < confused.sum() < 60
    assert (confusion_clusters(confused, images) == -1).all()


def test_similarity_by_hand():
    rng = np.random.default_rng(0)
    confused, images, _ = planted(rng)
    np.fill_diagonal(confused, 99)
    n = len(images)
    rate = sum(confused[a, b] for a, b in itertools.permutations(range(n), 2)) / (images.sum() * (n - 1))
    similarity = confusion_similarity(confused, images)
    for a, b in itertools.combinations(range(n), 2):
        both = confused[a, b] + confused[b, a]
        # Garwood's lower end in its usual form, by quantiles of chi-squared.
        lower = chi2.ppf(0.025 / (n * (n - 1) / 2), 2 * both) / 2 if both else 0
        expected = lower / (rate * (images[a] + images[b]))
        assert similarity[a, b] == similarity[b, a] == pytest.approx(expected)


@pytest.mark.parametrize("ratio", [1, 2, 3])
def test_linkage_is_that_of_scikit_learn(ratio):
    confused, images, _ = planted(np.random.default_rng(1), within=0.08, across=0.005)
    similarity = confusion_similarity(confused, images)
    distance = similarity.max() - similarity
    np.fill_diagonal(distance, 0)
    theirs = AgglomerativeClustering(
        None, metric="precomputed", linkage="average", distance_threshold=similarity.max() - ratio
    ).fit(distance)
    cluster = confusion_clusters(confused, images, ratio=ratio)
    own = np.where(cluster == -1, 1000 + np.arange(len(cluster)), cluster)
    assert adjusted_rand_score(theirs.labels_, own) == 1
    assert (cluster >= 0).any()


@pytest.mark.parametrize(
    ("confused", "images"),
    [([[0]], [5]), ([[0, 9], [9, 0]], [10, 10]), (np.zeros((2, 2)), [0, 0]), (np.zeros((3, 3)), [4, 4, 4])],
)
def test_too_little_to_cluster(confused, images):
    """One or two classes, which are confused as often as on average, and no errors at all."""
    assert (confusion_clusters(np.array(confused), np.array(images)) == -1).all()


def test_counts_are_those_of_a_loop():
    case = random_case(np.random.default_rng(2))
    counts = ConfusionCounts.none(case.labels.n_classes)
    counts.add(case)
    counts.add(case)
    confused, images = np.zeros_like(counts.confused), np.zeros_like(counts.images)
    yes = case.labels.yes_matrix()
    for i, label in enumerate(case.labels.label):
        valid = np.flatnonzero(yes[i])
        of = label if label != NO_LABEL else valid[0] if len(valid) == 1 else NO_LABEL
        best = case.top[i, 0]
        if of == NO_LABEL or best < 0 or not case.labels.usable[i]:
            continue
        images[of] += 2
        if best != of and case.state[i, 0] not in (YES, YES - 1):
            confused[of, best] += 2
    assert (counts.confused == confused).all()
    assert (counts.images == images).all()
    assert confused.any()
    assert only_classes(case.labels).shape == (len(case.labels),)
