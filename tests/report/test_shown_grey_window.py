import numpy as np
import pytest
from skimage.exposure import rescale_intensity

from manyhot.report.shown_grey import display_window


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_between_percentiles_as_skimage_scales(kind):
    values = np.random.default_rng(0).gamma(4, 200, (60, 80)).astype(kind)
    ends = tuple(np.percentile(values, (0.5, 99.5)))
    expected = rescale_intensity(values.astype(float), in_range=ends, out_range=(0, 255))
    assert np.abs(display_window(values) - expected).max() <= 0.51


def test_a_bright_mark_does_not_darken_a_radiograph_of_12_bits():
    values = np.tile(np.arange(100, 1124, dtype=np.uint16), (300, 1))
    values[:5, :20] = 65_535
    grey = display_window(values)
    assert grey[:5, :20].min() == 255
    assert len(np.unique(grey)) == 256


def test_values_that_are_not_finite_are_black():
    values = np.array([[np.nan, np.inf, 1.0, 2.0, 3.0, -np.inf]])
    assert display_window(values)[0].tolist()[:2] == [0, 0]
    assert display_window(np.full((2, 2), np.nan)).tolist() == [[0, 0], [0, 0]]


def test_an_image_of_one_value_has_the_grey_of_16_bits():
    assert (display_window(np.full((3, 4), 0x8000, np.uint16)) == 128).all()
    assert (display_window(np.zeros((3, 4), np.uint16)) == 0).all()


def test_one_pixel_among_many_is_seen():
    values = np.zeros((100, 100), np.uint16)
    values[50, 50] = 7
    assert display_window(values)[50, 50] == 255


def test_the_values_given_stay():
    values = np.ones((2, 2), np.float32)
    display_window(values)
    assert (values == 1).all()
