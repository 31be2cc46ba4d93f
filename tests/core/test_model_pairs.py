"""Differences of pairs of models: errors, intervals, p, and images on which one of two is right."""

import numpy as np
import pytest
from scipy.stats import kurtosis, norm

from manyhot.core.model_pairs import compare_pairs, jackknife_errors, only_one_right, pairs_of

RNG = np.random.default_rng(7)


def test_jackknife_errors_are_those_of_the_differences():
    changes = np.random.default_rng(0).normal(1, 0.01, (4, 9000)).astype(np.float32)
    changes[1] = changes[0]
    errors, df = jackknife_errors(changes)
    for a in range(4):
        for b in range(4):
            difference = changes[a].astype(float) - changes[b]
            assert errors[a, b] == pytest.approx(np.sqrt(8999 * difference.var()), abs=1e-9)
            if errors[a, b] > 0:
                assert df[a, b] == pytest.approx(2 * 9000 / (kurtosis(difference, fisher=False)), rel=1e-6)


@pytest.mark.parametrize("apart", [1e-3, 1e-6, 0.0])
def test_jackknife_errors_of_nearly_equal_models(apart):
    """In products of changes, only rounding is left of their differences."""
    rng = np.random.default_rng(1)
    changes = np.repeat(rng.normal(0, 1e-4, (1, 5000)), 3, 0).astype(np.float32)
    changes[1] += (apart * 1e-4 * rng.standard_t(3, 5000)).astype(np.float32)
    errors, df = jackknife_errors(changes)
    difference = changes[0].astype(float) - changes[1]
    assert errors[0, 1] == errors[1, 0] == pytest.approx(np.sqrt(4999 * difference.var()))
    assert errors[0, 2] == 0
    if errors[0, 1] > 0:
        assert df[0, 1] == pytest.approx(2 * 5000 / kurtosis(difference, fisher=False))
    assert (df[errors > 0] >= 2).all()  # as of a difference on one image
    assert (errors[0, 1] > 0) == (apart > 0)


def test_pairs_by_errors_have_the_interval_and_the_p_of_the_normal_distribution():
    values = np.array([0.5, 0.6, 0.6, 0.8])
    errors = np.array([0.05, 0.05, np.nan, 0.05, np.nan, np.nan])  # the last model has none
    table = compare_pairs(values, errors=errors)
    assert table.difference == pytest.approx([0.1, 0.1, 0.3, 0, 0.2, 0.2])
    known = np.array([0, 1, 3])
    assert table.lo[known] == pytest.approx(table.difference[known] - norm.ppf(0.975) * 0.05)
    assert table.hi[known] == pytest.approx(table.difference[known] + norm.ppf(0.975) * 0.05)
    assert table.p[known] == pytest.approx([2 * norm.sf(2), 2 * norm.sf(2), 1])
    assert table.p_adjusted[known] == pytest.approx([6 * norm.sf(2), 6 * norm.sf(2), 1])
    assert np.isnan([table.lo, table.hi, table.p, table.p_adjusted])[:, [2, 4, 5]].all()


def test_a_reference_is_compared_with_each_other_model():
    values, samples = np.array([0.5, 0.6, 0.8, 0.55]), RNG.normal(size=(4, 1000)).astype(np.float32)
    table = compare_pairs(values, samples, reference=2)
    assert (table.a.tolist(), table.b.tolist()) == ([2, 2, 2], [0, 1, 3])
    for i, b in enumerate((0, 1, 3)):
        change = samples[b] - samples[2]
        assert table.difference[i] == pytest.approx(values[b] - 0.8)
        ends = np.quantile(change, [0.025, 0.975]).tolist()
        assert [table.lo[i], table.hi[i]] == pytest.approx(ends, rel=1e-6)
        error = change.astype(np.float64).std()
        assert table.p[i] == pytest.approx(2 * norm.sf(abs(values[b] - 0.8) / error), rel=1e-5)
    first, second, third = np.sort(table.p)
    expected = np.maximum.accumulate(np.minimum([3 * first, 2 * second, third], 1))
    assert np.sort(table.p_adjusted) == pytest.approx(expected)


@pytest.mark.parametrize("reference", [None, 0, 3])
def test_images_on_which_one_of_two_models_is_right_are_counted(reference):
    right = RNG.random((4, 77)) < 0.5
    a, b = pairs_of(4, reference)
    first, second = only_one_right(np.packbits(right, axis=1), reference)
    for i in range(len(a)):
        assert first[i] == sum(x and not y for x, y in zip(right[a[i]], right[b[i]], strict=True))
        assert second[i] == sum(y and not x for x, y in zip(right[a[i]], right[b[i]], strict=True))


def test_errors_of_differences_are_those_of_the_resampled_differences():
    values, samples = np.array([0.5, 0.6, 0.8]), RNG.normal(size=(3, 20))
    table = compare_pairs(values, samples=samples)
    errors = [(samples[b] - samples[a]).std() for a, b in ((0, 1), (0, 2), (1, 2))]
    assert table.p == pytest.approx(2 * norm.sf(table.difference / errors))


@pytest.mark.parametrize("size", [1e-3, 1.0, 300.0])
@pytest.mark.parametrize("sampled", [False, True])
def test_a_constant_difference_has_no_interval(sampled, size):
    """Rounding of resamples to float32 had a width and p 0. A model that varies by 0.1 % is compared."""
    rng = np.random.default_rng(3)
    own = rng.uniform(0.3, 0.6, 1000)
    each = size * np.stack([own, own + 0.2, own * (1 + rng.normal(0, 1e-3, 1000)), own])
    options = {"samples": each.astype(np.float32)}
    if not sampled:
        options = {"errors": np.array([(each[b] - each[a]).std() for a, b in zip(*pairs_of(4), strict=True)])}
    table = compare_pairs(each.mean(axis=1), **options)
    pair = {key: i for i, key in enumerate(zip(table.a.tolist(), table.b.tolist(), strict=True))}
    varies = np.array([2 in key for key in pair])
    assert np.isnan(table.lo).tolist() == np.isnan(table.hi).tolist() == (~varies).tolist()
    assert (table.hi[varies] > table.lo[varies]).all()
    assert table.p[pair[0, 3]] == 1
    assert np.isnan([table.p[pair[0, 1]], table.p[pair[1, 3]]]).all()
    assert np.isfinite(table.p[varies]).all()
