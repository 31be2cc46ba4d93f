"""Clusters of images, against plain loops, SciPy and scikit-learn."""

import numpy as np
import pytest
from scipy.stats import f_oneway
from sklearn.metrics import average_precision_score, roc_auc_score

from answered_sets import sets_of
from manyhot.core.clusters import Clusters, label_correlation
from manyhot.core.resampling import Bootstrap
from manyhot.core.sets import NO, YES

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


def clustered_sets(n_classes, k=40, seed=3):
    rng = np.random.default_rng(seed)
    number = np.repeat(np.arange(k), rng.integers(2, 9, k))
    shown = rng.random((k, n_classes))[number] ** 2 > rng.random((len(number), n_classes))
    return number, shown, sets_of(np.where(shown, YES, NO))


def test_the_correlation_of_a_class_is_that_of_an_analysis_of_variance():
    number, shown, sets = clustered_sets(1)
    counted = np.arange(len(number)) != 7
    found = label_correlation(sets, Clusters.of(number), counted)
    parts = [shown[(number == c) & counted, 0].astype(float) for c in range(40)]
    size, test = np.array([len(p) for p in parts]), f_oneway(*parts)
    m = (size.sum() - (size**2).sum() / size.sum()) / (len(size) - 1)
    icc = (test.statistic - 1) / (test.statistic + m - 1)
    assert (found.icc, found.p_value) == pytest.approx((icc, test.pvalue))
    assert found.widening**2 == pytest.approx(1 + ((size**2).sum() / size.sum() - 1) * icc)
    assert found.concentration == max(p.sum() for p in parts) / shown[counted].sum()


def test_the_widening_is_that_of_the_standard_error_over_clusters_of_equal_size():
    """The variance of a mean over 400 clusters of 5, relative to that over 2,000 images."""
    rng = np.random.default_rng(4)
    shown = rng.beta(1, 2, 400).repeat(5) > rng.random(2000)
    found = label_correlation(
        sets_of(np.where(shown, YES, NO)[:, None]), Clusters.of(np.arange(400).repeat(5)), np.ones(2000, bool)
    )
    over_clusters = shown.reshape(400, 5).mean(axis=1).std() / np.sqrt(400)
    assert found.widening == pytest.approx(over_clusters / (shown.std() / np.sqrt(2000)), rel=0.01)


def test_the_mean_squares_of_several_classes_are_added():
    number, shown, sets = clustered_sets(5)
    found = label_correlation(sets, Clusters.of(number), np.ones(len(number), bool))
    size, n = np.bincount(number), len(number)
    own = np.stack([shown[number == c].mean(axis=0) for c in range(40)])
    b = (size[:, None] * (own - shown.mean(axis=0)) ** 2).sum() / 39
    w = ((shown - own[number]) ** 2).sum() / (n - 40)
    m = (n - (size**2).sum() / n) / 39
    assert found.icc == pytest.approx((b - w) / (b + (m - 1) * w))


def test_without_repeats_or_variation_there_is_no_correlation():
    every = np.ones(4, bool)
    same, some = sets_of(np.full((4, 1), YES)), sets_of(np.array([[YES], [NO], [NO], [YES]]))
    assert label_correlation(same, Clusters.of(np.array([0, 0, 1, 1])), every) is None
    assert label_correlation(some, Clusters.of(np.arange(4)), every) is None
    assert label_correlation(some, Clusters.of(np.zeros(4, int)), every) is None
