import numpy as np
import pytest

from manyhot.core.resampled_statistics import FixedPoint, compact


@pytest.mark.parametrize("n_distinct", [6, 1000])
@pytest.mark.parametrize("largest", [1, 3e-20, 250.0])
def test_values_become_whole_numbers(n_distinct, largest):
    """Many values of few as bytes, and shares of few classes as small numbers."""
    rng = np.random.default_rng(0)
    values = rng.integers(-n_distinct, n_distinct + 1, 300_000) / n_distinct * largest
    stored = compact(values)
    assert isinstance(stored, FixedPoint)
    assert stored.codes.itemsize == (1 if n_distinct == 6 else 4)
    images = rng.integers(0, len(values), 1000)
    found = stored.take(images).integers()
    assert stored.is_small == (n_distinct == 6 and largest == 1)
    assert found.dtype == (np.int16 if stored.is_small else np.int32)
    np.testing.assert_allclose(found * stored.unit, values[images], rtol=0, atol=largest / 2**30)
    assert np.abs(stored.integers().astype(object)).max() * len(values) < 2**53


def test_numbers_of_more_images_have_fewer_bits():
    values = np.resize(np.linspace(0, 1, 300), 1 << 24)
    stored = compact(values)
    assert int(stored.integers().max()) * len(values) < 2**53
    np.testing.assert_allclose(stored.integers()[:300] * stored.unit, values[:300], atol=2**-28)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_values_that_are_not_finite_stay(odd):
    values = np.array([0.25, odd, 3.0])
    stored = compact(values)
    np.testing.assert_allclose(stored.integers() * stored.unit, values)


def test_flags_are_stored_as_they_are():
    flags = np.arange(300_000) % 2 == 0
    assert compact(flags) is flags
