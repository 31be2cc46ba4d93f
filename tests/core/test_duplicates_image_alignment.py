"""Aligned images: frames that are known, details of the same and of other pictures, overlaps."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from manyhot.core.duplicates import GREY_SIDE as SIDE
from manyhot.core.duplicates import ImageAlignment, align_images, are_same, resampling


def picture(seed, side=256):
    """Return a picture with structure at all scales, from 0 to 255."""
    rng = np.random.default_rng(seed)
    layers = (gaussian_filter(rng.normal(size=(side, side)), s) * s**1.5 for s in (4, 8, 16, 32))
    total = sum(layers)
    return (255 * (total - total.min()) / np.ptp(total)).astype(np.float32)


def seen(whole, x, width, y, height):
    """Return a small copy of a part of a picture, by SciPy's interpolation and means of areas."""
    fine = 4 * SIDE
    centres = (np.arange(fine) + 0.5) / fine
    rows, columns = ((start + size * centres) * len(whole) - 0.5 for start, size in ((y, height), (x, width)))
    sampled = map_coordinates(whole, np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest")
    return sampled.reshape(SIDE, 4, SIDE, 4).mean(axis=(1, 3))


FRAMES = [(0.0, 0.9, 0.1, 0.9), (0.03, 0.92, 0.06, 0.88), (0.1, 0.8, 0.12, 0.78), (0.0, 1.0, 0.0, 1.0)]


@pytest.mark.parametrize("frame", FRAMES)
def test_a_part_of_a_picture_is_located(frame):
    wholes = [picture(seed) for seed in range(6)]
    moving = np.array([seen(w, 0, 1, 0, 1) for w in wholes])
    fixed = np.array([0.5 * seen(w, *frame) + 60 for w in wholes])  # contrast and brightness do not count
    found = align_images(moving, fixed, np.tile(np.float32([0.05, 0.9, 0.05, 0.9]), (6, 1)))
    assert np.abs(found.frames - np.float32(frame)).max() < 0.02
    assert found.similarity.min() > 0.9
    assert found.overlap == pytest.approx(np.full(6, frame[1] * frame[3]), abs=0.03)
    assert are_same(found, 0.7).all()


def test_details_of_other_pictures_differ():
    one = np.array([seen(picture(seed), 0, 1, 0, 1) for seed in range(20)])
    other = np.roll(one, 1, axis=0)
    found = align_images(one, other, np.tile(np.float32([0, 1, 0, 1]), (20, 1)))
    assert found.similarity.max() < 0.5
    assert not are_same(found, 0.7).any()


def test_the_result_does_not_depend_on_the_number_of_pairs(monkeypatch):
    moving = np.array([seen(picture(seed), 0, 1, 0, 1) for seed in range(7)])
    fixed = np.array([seen(picture(seed), 0.05, 0.9, 0, 0.9) for seed in range(7)])
    start = np.tile(np.float32([0.05, 0.9, 0.05, 0.9]), (7, 1))
    together = align_images(moving, fixed, start)
    monkeypatch.setattr("manyhot.core.duplicates._AT_ONCE", 3)
    apart = align_images(moving, fixed, start)
    assert np.allclose(together.frames, apart.frames, atol=1e-5)
    assert np.allclose(together.similarity, apart.similarity, atol=1e-4)


def test_no_pairs():
    nothing = np.empty((0, SIDE, SIDE), np.uint8)
    found = align_images(nothing, nothing, np.empty((0, 4), np.float32))
    assert found.similarity.shape == found.overlap.shape == (0,)
    assert found.frames.shape == (0, 4)


def test_blank_images_have_no_details():
    blank = np.full((1, SIDE, SIDE), 200, np.uint8)
    found = align_images(blank, blank, np.float32([[0, 1, 0, 1]]))
    assert found.similarity.tolist() == [0]
    assert np.isfinite(found.frames).all()


def test_resampling_is_linear_interpolation():
    rows = np.float32([[0.1, 0.8], [-0.2, 1.5]])
    values = np.random.default_rng(0).normal(size=SIDE)
    for (start, size), weights in zip(rows, resampling(rows), strict=True):
        at = (start + size * (np.arange(SIDE) + 0.5) / SIDE) * SIDE - 0.5
        assert weights @ values == pytest.approx(np.interp(at, np.arange(SIDE), values), abs=1e-5)


def test_pairs_with_a_smaller_overlap_must_be_more_similar():
    similarity = np.float32([0.71, 0.69, 0.74, 0.76, 0.99])
    overlap = np.float32([0.95, 0.95, 0.8, 0.8, 0.4])
    fit = ImageAlignment(np.zeros((5, 4), np.float32), similarity, overlap)
    assert are_same(fit, 0.7).tolist() == [True, False, False, True, False]
