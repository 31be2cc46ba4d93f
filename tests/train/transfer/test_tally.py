"""The variance of a mean over draws of fitting images, in closed form."""

import numpy as np
import pytest
from scipy.stats import t

from manyhot.classes import from_keys
from manyhot.core.sets import NO, UNCLEAR, YES
from manyhot.train.transfer.tally import Draws, ResampledMetric, TransferLabels, TransferTally, mean_of_draws

N, K, R = 40, 4, 4000
RNG = np.random.default_rng(0)


def draws_of(values, noise):
    """Return the draws of a metric with these values, whose resamples have some noise in common."""
    return [ResampledMetric(v, v + noise, N) for v in values]


def test_the_variance_of_draws_is_added_to_that_of_images():
    values, noise = np.array([0.4, 0.45, 0.5, 0.61]), 0.03 * RNG.standard_normal(R)
    found = mean_of_draws(draws_of(values, noise), seed=0)
    assert found.value == pytest.approx(values.mean())
    between, images = values.var(ddof=1) / K, 0.03**2
    assert found.samples.var() == pytest.approx(between + images, rel=0.06)
    # Satterthwaite's degrees of freedom, and the interval on the logit scale.
    images, total = images / (1 - 1 / N), (between + images) / (1 - 1 / N)
    df = total**2 / ((total - between) ** 2 / (N - 1) + between**2 / (K - 1))
    half = t.ppf(0.975, df) * np.sqrt(total)
    lo, hi = found.interval
    assert hi - lo == pytest.approx(2 * half, rel=0.05)


def test_draws_that_do_not_differ_add_nothing():
    noise = 0.03 * RNG.standard_normal(R)
    found = mean_of_draws(draws_of(np.full(K, 0.5), noise), seed=0)
    np.testing.assert_allclose(found.samples, 0.5 + noise)
    assert found.interval == pytest.approx(ResampledMetric(0.5, 0.5 + noise, N).interval)


def test_differences_have_students_t():
    noise = 0.03 * RNG.standard_normal(R)
    tally = TransferTally("data", "knn", N, None)
    for name, value, samples in (("a", 0.5, noise), ("b", 0.6, noise + 0.01 * RNG.standard_normal(R))):
        tally.results[name] = {("top1", "all"): ResampledMetric(value, value + samples, N)}
    pair = tally._pairs("top1")
    half = t.ppf(0.975, N - 1) * 0.01 / np.sqrt(1 - 1 / N)
    assert pair["difference"][0] == pytest.approx(0.1)
    assert (pair["hi"][0] - pair["lo"][0]) / 2 == pytest.approx(half, rel=0.05)


def test_values_without_an_interval_have_none_of_their_difference():
    samples = 0.5 + 0.03 * RNG.standard_normal((2, R))
    tally = TransferTally("data", "knn", N, Draws(N, R, 0))
    for name, own, ends in (("a", samples[0], (float("nan"),) * 2), ("b", samples[1], (0.4, 0.6))):
        tally.results[name] = {("map_macro", "all"): ResampledMetric(0.5, own, N, ends)}
    result = tally.finish([])
    (pair,) = result.pairs.to_pylist()
    assert np.isnan([pair["lo"], pair["hi"], pair["p"]]).all()
    assert list(result.lines())[-1] == "knn/map_macro: b minus a: +0.0 points"


def test_images_of_each_class_are_counted_by_label_set_and_by_label():
    state = np.array([[YES, NO], [YES, YES], [NO, UNCLEAR], [NO, YES]], np.uint8)
    held = np.array([False, False, False, True])
    labels = TransferLabels(list("abcd"), state, np.array([0, 1, 1, 0]), held, from_keys("xy", "xy"))
    assert [n.tolist() for n in labels.counts(by_label=False)] == [[2, 1], [0, 1]]
    assert [n.tolist() for n in labels.counts(by_label=True)] == [[1, 2], [1, 0]]
