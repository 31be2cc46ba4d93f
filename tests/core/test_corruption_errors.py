"""Corruption errors and the share of missing labels, worked by hand and against published numbers."""

import numpy as np
import pytest

from manyhot.core.corruption_errors import (
    ALEXNET,
    ALEXNET_CLEAN,
    corruption_errors,
    missing_share,
    relative_errors,
)

AUGMIX = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
"""What AugMix, and after it most papers, normalise by."""


def test_alexnet_is_the_published_one():
    assert {kind: round(float(np.mean(row)), 6) for kind, row in ALEXNET.items()} == AUGMIX
    assert list(ALEXNET) == list(AUGMIX)


def test_alexnet_has_a_corruption_error_of_one():
    alexnet = np.array(list(ALEXNET.values()))
    assert corruption_errors(alexnet, alexnet).tolist() == [1.0] * 15
    assert relative_errors(alexnet, ALEXNET_CLEAN, alexnet, ALEXNET_CLEAN).tolist() == [1.0] * 15


def test_two_kinds_by_hand():
    errors = np.array([[0.2, 0.4], [0.5, 0.7]])
    baseline = np.array([[0.5, 0.7], [0.6, 0.9]])
    # 0.6 / 1.2 and 1.2 / 1.5; less clean 0.1 and 0.3, twice: 0.4 / 0.6 and 1.0 / 0.9
    assert corruption_errors(errors, baseline) == pytest.approx([0.5, 0.8])
    assert relative_errors(errors, 0.1, baseline, 0.3) == pytest.approx([0.4 / 0.6, 1.0 / 0.9])


def test_resamples_go_along():
    rng = np.random.default_rng(0)
    errors, baseline = rng.random((2, 7, 3, 5))
    clean, other = rng.random((2, 7)) / 10
    found = corruption_errors(errors, baseline), relative_errors(errors, clean, baseline, other)
    assert found[0].shape == found[1].shape == (7, 3)
    for r in range(7):
        assert found[0][r] == pytest.approx(corruption_errors(errors[r], baseline[r]))
        assert found[1][r] == pytest.approx(relative_errors(errors[r], clean[r], baseline[r], other[r]))


def test_a_baseline_that_does_not_suffer_normalises_nothing():
    errors = np.array([[0.2, 0.4]])
    assert np.isnan(corruption_errors(errors, np.zeros((1, 2)))).all()
    assert np.isnan(relative_errors(errors, 0.1, np.array([[0.3, 0.3]]), 0.3)).all()


def test_a_quarter_is_missing_labels():
    # Losses of 0.08 under one label and 0.06 under sets; resamples in the same ratio, so that the ends meet.
    single = np.linspace(0.07, 0.09, 101)[None]
    share, lo, hi = missing_share([0.08], [0.06], single, 0.75 * single)
    assert (share, lo, hi) == (pytest.approx([0.25]), pytest.approx([0.25]), pytest.approx([0.25]))


def test_the_interval_is_that_of_the_ratio():
    rng = np.random.default_rng(1)
    single, multi = rng.normal(0.1, 0.01, (1, 999)), rng.normal(0.05, 0.01, (1, 999))
    _, lo, hi = missing_share([0.1], [0.05], single, multi)
    ratios = 1 - multi[0] / single[0]
    assert (lo[0], hi[0]) == pytest.approx(tuple(np.quantile(ratios, [0.025, 0.975])))


def test_more_may_be_lost_under_label_sets():
    single = np.full((1, 10), 0.1)
    assert missing_share([0.1], [0.15], single, 1.5 * single)[0] == pytest.approx([-0.5])


def test_no_share_of_no_loss():
    around = np.linspace(-0.01, 0.03, 101)[None]
    clear = np.linspace(0.01, 0.03, 101)[None]
    found = missing_share(
        [0.01, 0.02], [0.01, 0.01], np.concatenate([around, clear]), np.full((2, 101), 0.01)
    )
    assert [np.isnan(values).tolist() for values in found] == [[True, False]] * 3
    assert np.isnan(missing_share([0.1], [0.1], np.empty((1, 0)), np.empty((1, 0)))).all()
