"""Clusters of images, against plain loops and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from manyhot.core.clusters import Clusters
from manyhot.core.resampling import Bootstrap

RNG = np.random.default_rng(0)


def test_clusters_are_numbered_as_they_occur():
    clusters = Clusters.of(np.array(["b", "a", "b", "c", "a"]))
    assert (clusters.number.tolist(), clusters.n) == ([0, 1, 0, 2, 1], 3)
    flags = np.array([True, False, True, False, True])
    assert clusters.sizes(flags).tolist() == [2, 1, 0]
    assert clusters.count(flags) == 2
    assert clusters.take(np.array([3, 0])).number.tolist() == [2, 0]


def test_clusters_of_one_image_are_drawn_as_images_are():
    masks, num = np.ones((1, 50), bool), RNG.random((50, 1)).astype(np.float32)
    plain, own = (
        Bootstrap(masks, 30, 4, of).ratios(num, np.ones_like(num), np.array([0]))
        for of in (None, Clusters.of(RNG.permutation(50)))
    )
    assert plain == pytest.approx(own)


def test_whole_clusters_are_drawn():
    number = np.repeat(np.arange(20), RNG.integers(1, 6, 20))
    clusters, n = Clusters.of(number), len(number)
    bootstrap = Bootstrap(np.ones((1, n), bool), 200, 0, clusters)
    counts = np.concatenate([drawn for _, drawn in bootstrap._draw()], axis=1)
    assert counts.shape == (n, 200)
    by_cluster = np.array([counts[number == c] for c in range(20)], object)
    assert all((of == of[0]).all() for of in by_cluster)
    assert (sum(of[0] for of in by_cluster) == 20).all()


def test_resampled_means_vary_as_those_of_a_plain_cluster_bootstrap():
    number = np.repeat(np.arange(80), RNG.integers(1, 8, 80))
    x = (RNG.random(80)[number] + 0.3 * RNG.random(len(number))).astype(np.float32)
    inside, rng, plain = RNG.random(len(x)) < 0.7, np.random.default_rng(1), []
    for _ in range(4000):
        drawn = np.concatenate([np.flatnonzero(number == c) for c in rng.integers(0, 80, 80)])
        plain.append(x[drawn[inside[drawn]]].mean())
    bootstrap = Bootstrap(np.stack([np.ones(len(x), bool), inside]), 4000, 0, Clusters.of(number))
    samples = bootstrap.ratios(x[:, None], np.ones((len(x), 1), np.float32), np.array([0]))[1, :, 0]
    # The standard deviation of 4,000 values has a relative error of 1 / sqrt(8,000), and their mean one of
    # sd / sqrt(4,000): twice four standard errors.
    assert samples.std() == pytest.approx(np.std(plain), rel=8 / np.sqrt(8000))
    assert samples.mean() == pytest.approx(np.mean(plain), abs=8 * np.std(plain) / np.sqrt(4000))


def test_changes_of_a_mean_add_up_exactly():
    number, x = RNG.integers(0, 15, 90), RNG.random(90)
    scored = RNG.random(90) < 0.8
    y, of = x[scored], number[scored]
    each = np.array([np.delete(y, i).mean() - y.mean() for i in range(len(y))])
    expected = [y[of != c].mean() - y.mean() for c in np.unique(of)]
    order = {c: i for i, c in enumerate(dict.fromkeys(number.tolist()))}
    by_number = np.argsort([order[c] for c in np.unique(of).tolist()])
    assert Clusters.of(number).summed(each, scored) == pytest.approx(np.array(expected)[by_number])


@pytest.mark.parametrize("metric", [roc_auc_score, average_precision_score])
def test_changes_of_rankings_add_up_to_first_order(metric):
    number = np.repeat(np.arange(100), 4)
    y = RNG.random(400) < 0.2 + 0.4 * (RNG.random(100) < 0.5)[number]
    score = y + RNG.normal(size=100)[number] + RNG.normal(size=400)
    value, everything = metric(y, score), np.ones(400, bool)

    def without(left_out):
        return metric(y[~left_out], score[~left_out]) - value

    each = np.array([without(np.arange(400) == i) for i in range(400)])
    found = Clusters.of(number).summed(each, everything)
    expected = np.array([without(number == c) for c in range(100)])
    assert found.std() == pytest.approx(expected.std(), rel=0.01)
    assert np.corrcoef(found, expected)[0, 1] > 0.999
