import numpy as np
import pytest

from manyhot.core.distinct import distinct_keys, distinct_values, few_values


@pytest.mark.parametrize("n_distinct", [1, 2, 7, 256, 257, 5000])
@pytest.mark.parametrize("n", [0, 3, 20_000])
def test_distinct_values_are_those_of_numpy(n, n_distinct):
    rng = np.random.default_rng(n_distinct)
    values = rng.choice(rng.normal(size=n_distinct), n)
    found, number = distinct_values(values)
    expected, inverse = np.unique(values, return_inverse=True)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(number, inverse)
    few = few_values(values)
    assert (few is None) == (len(expected) > 256)
    if few is not None:
        assert few[1].dtype == np.uint8
        np.testing.assert_array_equal(few[0], expected)
        np.testing.assert_array_equal(few[1], inverse)


@pytest.mark.parametrize("rare", [0.5, np.nan, -np.inf])
def test_a_value_of_few_images_is_found(rare):
    values = np.repeat([0.0, 1.0], 10_000)
    values[[3, 17_001]] = rare
    found, number = distinct_values(values)
    np.testing.assert_array_equal(found, np.unique(values))
    np.testing.assert_array_equal(found[number], values)


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint64])
@pytest.mark.parametrize("shape", [(0,), (1,), (20_000,), (300, 7)])
def test_distinct_keys_are_those_of_numpy(shape, kind):
    keys = np.random.default_rng(0).integers(0, 9_000, shape).astype(kind)
    found = distinct_keys(keys)
    assert found.dtype == kind
    np.testing.assert_array_equal(found, np.unique(keys))
