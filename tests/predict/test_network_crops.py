"""Maps go back to where in the image they came from: a dot that is drawn is found again."""

import itertools

import numpy as np
import pytest
import torch

from manyhot.predict.network import Preprocessing, placed

WAYS = [
    Preprocessing((64, 64), (73, 73)),
    Preprocessing((64, 64), (64, 64), interpolation="bilinear"),
    Preprocessing((64, 64), (73, 73), interpolation="lanczos"),
    Preprocessing((64, 48), (80, 80)),
    Preprocessing((64, 48), (80, 60)),
    Preprocessing((64, 64), (64, 64), mode="squash"),
    Preprocessing((64, 64), (72, 72), mode="squash"),
    Preprocessing((64, 64), (64, 64), mode="border"),
    Preprocessing((64, 64), (60, 60), mode="border"),
    Preprocessing((64, 64), (50, 50)),
]
"""The last is padded."""


@pytest.mark.parametrize("way", WAYS, ids=lambda w: f"{w.mode} {w.scale} {w.size} {w.interpolation}")
@pytest.mark.parametrize(("height", "width"), [(90, 130), (130, 90), (40, 40), (300, 200)])
def test_a_dot_comes_back_to_its_place(way, height, width):
    found = 0
    for row, column in itertools.product((0.03, 0.3, 0.5, 0.8, 0.97), repeat=2):
        y, x = int(row * height), int(column * width)
        image = torch.zeros((3, height, width), dtype=torch.uint8)
        image[:, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] = 255
        crop = way(image)[0].numpy().astype(np.float32)
        back = placed(crop, way, height, width)
        if np.isnan(back[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]).any():
            continue  # the crop cuts it
        found += 1
        light = np.nan_to_num(back)
        rows, columns = np.nonzero(light > 0.9 * light.max())
        half = 1 + 0.5 * max(height / way.scale[0], width / way.scale[1])
        assert abs((rows.min() + rows.max()) / 2 - np.clip(y, 2, height - 3)) <= 2 + half
        assert abs((columns.min() + columns.max()) / 2 - np.clip(x, 2, width - 3)) <= 2 + half
    assert found >= 3


@pytest.mark.parametrize("way", WAYS, ids=lambda w: f"{w.mode} {w.scale} {w.size} {w.interpolation}")
def test_what_the_network_saw_is_what_is_known(way):
    """Pixels count where a change of them changes the crop; their neighbours within the filter may, too."""
    height, width = 90, 130
    seen = ~np.isnan(placed(np.zeros(way.size), way, height, width))
    for axis, side in ((0, height), (1, width)):
        told = seen.any(1 - axis)
        black = torch.zeros((3, height, width), dtype=torch.uint8)
        for i in range(side):
            line = black.clone()
            line.select(axis + 1, i)[:] = 255
            changes = bool((way(line) != way(black)).any())
            near = told[max(0, i - 3) : i + 4]
            assert changes == told[i] or near.any() != near.all(), (axis, i)


def test_the_same_size_changes_nothing():
    way, rng = Preprocessing((30, 40), (30, 40), mode="squash"), np.random.default_rng(0)
    maps = rng.random((2, 30, 40)).astype(np.float32)
    np.testing.assert_allclose(placed(maps, way, 30, 40), maps, atol=1e-6)


def test_a_coarse_map_is_interpolated_between_the_centres_of_its_cells():
    way = Preprocessing((28, 28), (28, 28), mode="squash")
    ramp = np.tile(np.arange(7, dtype=np.float32), (7, 1))
    found = placed(ramp, way, 28, 28)
    expected = np.clip((np.arange(28) + 0.5) / 4 - 0.5, 0, 6)
    np.testing.assert_allclose(found, np.tile(expected, (28, 1)), atol=1e-5)


def test_a_fine_map_is_averaged_over_pixels():
    way = Preprocessing((80, 80), (80, 80), mode="squash")
    stripes = np.tile(np.arange(80) % 2, (80, 1))
    found = placed(stripes, way, 10, 10)
    np.testing.assert_allclose(found, 0.5, atol=0.02)


def test_a_window_is_where_the_crop_comes_from():
    assert Preprocessing((224, 224), (256, 256)).window(128, 170) == ((256, 340), (16, 58))
    assert Preprocessing((227, 227), (227, 227), mode="squash").window(50, 99) == ((227, 227), (0, 0))
    assert Preprocessing((64, 64), (64, 64), mode="border").window(100, 50) == ((64, 32), (0, -16))
