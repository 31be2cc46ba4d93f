"""Anchors and boxes, against torchvision's generator of default boxes and its coder."""

import numpy as np
import pytest

from manyhot.core.detection import BOX_SCALES, AnchorLayout, boxes_from_anchors


def test_the_number_of_anchors_is_that_of_the_network():
    """19² cells with 3 anchors, then 10², 5², 3², 2² and 1 with 6: SSD MobileNetV2 has 1,917 boxes."""
    assert AnchorLayout().anchors().shape == (19 * 19 * 3 + 6 * (100 + 25 + 9 + 4 + 1), 4) == (1917, 4)


def test_the_first_anchors_by_hand():
    """The lowest layer has a small square, and a wide and a tall anchor of scale 0.2."""
    first = AnchorLayout().anchors()[:3]
    np.testing.assert_allclose(first[:, :2], 0.5 / 19)
    root = np.sqrt(2)
    np.testing.assert_allclose(first[:, 2:], [[0.1, 0.1], [0.2 / root, 0.2 * root], [0.2 * root, 0.2 / root]])


def test_higher_layers_are_those_of_torchvision():
    anchor_utils = pytest.importorskip("torchvision.models.detection.anchor_utils")
    torch = pytest.importorskip("torch")
    scales = [0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0]
    cells = [19, 10, 5, 3, 2, 1]
    generator = anchor_utils.DefaultBoxGenerator(
        [[2, 3]] * 6, scales=scales, steps=[300 / n for n in cells], clip=False
    )
    sizes = [[n, n] for n in cells]
    x, y, width, height = generator._grid_default_boxes(sizes, [300, 300], torch.float64).numpy().T
    theirs = np.stack([y, x, height, width], axis=1)[19 * 19 * 6 :]
    ours = AnchorLayout(ratios=(1.0, 2.0, 0.5, 3.0, 1 / 3)).anchors()[19 * 19 * 3 :]
    assert len(ours) == len(theirs)
    np.testing.assert_allclose(_sorted(ours), _sorted(theirs), atol=1e-6)


def _sorted(anchors):
    rounded = np.round(anchors, 5)
    return anchors[np.lexsort(rounded.T[::-1])]


def test_boxes_are_those_of_torchvisions_coder():
    utils = pytest.importorskip("torchvision.models.detection._utils")
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    anchors = np.concatenate([rng.uniform(0.4, 0.6, (50, 2)), rng.uniform(0.05, 0.2, (50, 2))], axis=1)
    offsets = rng.normal(size=(50, 4))
    y, x, height, width = anchors.T
    corners = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)
    coder = utils.BoxCoder(BOX_SCALES)
    codes = torch.from_numpy(offsets[:, [1, 0, 3, 2]])
    theirs = coder.decode_single(codes, torch.from_numpy(corners)).numpy()
    np.testing.assert_allclose(boxes_from_anchors(offsets, anchors), theirs, atol=1e-12)


def test_boxes_are_clipped_to_the_image():
    anchors = np.array([[0.5, 0.5, 0.5, 0.5]])
    (box,) = boxes_from_anchors([[0, 0, 10, 10]], anchors)
    assert box.tolist() == [0, 0, 1, 1]
