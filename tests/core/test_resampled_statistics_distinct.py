import numpy as np
import pytest

from manyhot.core.resampled_statistics import Coded, compact, distinct_values


@pytest.mark.parametrize("n_distinct", [1, 2, 7, 300, 5000])
@pytest.mark.parametrize("n", [0, 3, 20_000])
def test_distinct_values_are_those_of_numpy(n, n_distinct):
    rng = np.random.default_rng(n_distinct)
    values = rng.choice(rng.normal(size=n_distinct), n)
    found, number = distinct_values(values)
    expected, inverse = np.unique(values, return_inverse=True)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(number, inverse)


@pytest.mark.parametrize("rare", [0.5, np.nan, -np.inf])
def test_a_value_of_few_images_is_found(rare):
    values = np.repeat([0.0, 1.0], 10_000)
    values[[3, 17_001]] = rare
    found, number = distinct_values(values)
    np.testing.assert_array_equal(found, np.unique(values))
    np.testing.assert_array_equal(found[number], values)


def test_many_values_of_few_are_stored_as_bytes():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 6, 300_000) / 5
    stored = compact(values)
    assert isinstance(stored, Coded)
    images = rng.integers(0, len(values), 1000)
    np.testing.assert_array_equal(stored.take(images).values(), values[images].astype(np.float32))


@pytest.mark.parametrize("values", [np.arange(300_000) / 7, np.arange(10) / 7, np.arange(300_000) % 2 == 0])
def test_other_values_are_stored_as_they_are(values):
    stored = compact(values)
    assert not isinstance(stored, Coded)
    assert stored.dtype == (bool if values.dtype == bool else np.float32)
    np.testing.assert_array_equal(stored, values.astype(stored.dtype))
