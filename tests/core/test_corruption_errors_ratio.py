"""Error ratios: the published formula, and where it is undefined."""

import numpy as np

from manyhot.core.corruption_errors import error_ratio


def test_published_error_ratios_of_resnet50():
    """As published: facebookresearch/imagenetx, its README and results/val/top_factor."""
    average = 34_430 / 46_110
    right = {"pose": (12_413, 15_064), "texture": (111, 282), "multiple_objects": (20, 40)}
    ratios = {"pose": 0.694739, "texture": 2.39386, "multiple_objects": 1.97389}
    for factor, (k, n) in right.items():
        assert f"{error_ratio(k / n, average):.6g}" == f"{ratios[factor]:.6g}"


def test_without_errors_on_all_images_it_is_undefined():
    found = error_ratio(np.array([0.5, 1.0, 1.0]), np.array([0.75, 0.5, 1.0]))
    np.testing.assert_array_equal(found, [2.0, 0.0, np.nan])
