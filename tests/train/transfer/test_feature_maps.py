"""Neighbours against scikit-learn, and the feature maps of backbones."""

import numpy as np
import pytest
import timm
import torch
from sklearn.neighbors import KNeighborsClassifier

from manyhot.classes import from_keys
from manyhot.errors import InputError, UnknownNameError
from manyhot.predict.network import Network, Preprocessing
from manyhot.train.transfer.feature_maps import Backbone, LiveMaps, Pyramid, compute_maps
from manyhot.train.transfer.methods import (
    DetectionSettings,
    ShotSettings,
    draw_shots,
    knn_scores,
    settings_of,
)

RNG = np.random.default_rng(0)


def test_neighbours_vote_as_those_of_scikit_learn():
    x, label = RNG.normal(size=(120, 16)), RNG.integers(0, 4, 120)
    queries = RNG.normal(size=(1500, 16))
    reference = KNeighborsClassifier(
        9, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.2), algorithm="brute"
    ).fit(x, label)
    scores = knn_scores(x, label, queries, 4, k=9, temperature=0.2)
    np.testing.assert_allclose(scores, reference.predict_proba(queries), atol=1e-5)
    assert knn_scores(x, label, x, 4, k=1).argmax(1).tolist() == label.tolist()


def test_a_cold_temperature_does_not_overflow():
    scores = knn_scores(np.eye(3), np.arange(3), np.eye(3), 3, k=3, temperature=1e-3)
    np.testing.assert_allclose(scores, np.eye(3))


def test_more_neighbours_than_images():
    with pytest.raises(InputError) as caught:
        knn_scores(np.eye(3), np.arange(3), np.eye(3), 3, k=4)
    assert str(caught.value) == (
        "There are fewer images to fit on than neighbours.\n"
        "  got:     3 images\n"
        "  allowed: at least k=4\n"
        "  do:      choose a smaller `k`"
    )


def test_shots_are_so_many_of_each_class():
    label = np.repeat([0, 1, 2], [5, 9, 2])
    rows = draw_shots(label, np.array([0, 1, 2]), 4, np.random.default_rng(0))
    assert np.bincount(label[rows]).tolist() == [4, 4, 2]
    assert len(set(rows.tolist())) == 10


def network(name, size=64, **options):
    torch.manual_seed(0)
    module = timm.create_model(name, num_classes=2, **options).eval()
    return Network(name, from_keys(("a", "b")), Preprocessing((size, size), (size, size)), module)


@pytest.mark.parametrize(
    ("name", "layers", "strides"),
    [
        ("test_resnet", ("layer2", "layer3", "layer4"), (8, 16, 32)),
        ("test_efficientnet", ("blocks.2", "blocks.3", "blocks.4"), (8, 16, 32)),
        ("test_convnext", ("stages.1", "stages.2", "stages.3"), (8, 16, 32)),
        ("test_vit", ("blocks.5",), (16,)),
    ],
)
def test_maps_are_those_of_the_layers_told(name, layers, strides):
    net = network(name, **({"img_size": 64} if "vit" in name else {}))
    backbone = Backbone(net).eval()
    assert (backbone.layers, backbone.strides) == (layers, strides)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        maps = backbone(backbone.normalised(images))
        assert [m.shape[1] for m in maps] == list(backbone.channels)
        assert [64 // m.shape[2] for m in maps] == list(strides)
        if name == "test_resnet":  # what timm's own extractor gives with these weights
            own = timm.create_model(name, features_only=True, out_indices=(2, 3, 4)).eval()
            own.load_state_dict(net.module.state_dict(), strict=False)
            for one, other in zip(maps, own(backbone.normalised(images)), strict=True):
                torch.testing.assert_close(one, other)
        pyramid = Pyramid(backbone, 8)
        assert [m.shape[1:] for m in pyramid(maps)] == [(8, 8, 8), (8, 4, 4), (8, 2, 2)]
    assert pyramid.strides == (8, 16, 32)


def test_another_size_and_whole_images():
    backbone = Backbone(network("test_vit", img_size=64), 96)
    assert backbone.preprocessing(torch.zeros(3, 50, 200, dtype=torch.uint8)).shape == (3, 96, 96)
    assert backbone.description == "blocks.5 (stride 16), 96 pixels"
    with torch.inference_mode():
        assert backbone(torch.zeros(1, 3, 96, 96))[0].shape[2:] == (6, 6)


def test_maps_computed_before_are_those_computed_now(tmp_path):
    backbone = Backbone(network("test_resnet", 32)).eval()
    images = torch.randint(0, 256, (35, 3, 32, 32), dtype=torch.uint8)
    both = np.arange(35) % 2 == 0
    cached = compute_maps(backbone, iter(images), 35, tmp_path / "maps", both)
    live = LiveMaps(backbone, lambda rows: images[torch.from_numpy(rows)])
    rows = np.array([34, 2, 2, 5])
    mirrored = np.array([True, True, False, False])
    with torch.inference_mode():
        for one, other in zip(cached(rows, mirrored), live(rows, mirrored), strict=True):
            torch.testing.assert_close(one, other, atol=2e-3, rtol=2e-3)  # half precision
    assert (images[34] != images[34].flip(-1)).any()


def test_a_backbone_without_maps():
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 2))
    with pytest.raises(InputError) as caught:
        Backbone(Network("flat", from_keys(("a", "b")), module=module))
    assert str(caught.value) == (
        "This backbone has no feature maps.\n"
        "  got:     flat\n"
        "  allowed: a timm network, or one trained by manyhot\n"
        "  do:      use the method knn, probe, few-shot or multilabel"
    )


def test_settings():
    assert settings_of("few-shot", {"shots": [1, 4]}) == ShotSettings(shots=(1, 4))
    assert settings_of("few-shot", {"shots": 3, "penalty": 0}) == ShotSettings(shots=(3,), penalty=0)
    assert settings_of("detection", {"detector": "retinanet", "lr": 1}).lr == 1
    assert settings_of("fine-tune", {"lr": 1}) == {"lr": 1}
    assert settings_of("detection", {}) == DetectionSettings()


@pytest.mark.parametrize(
    ("method", "told", "error", "text"),
    [
        (
            "fewshot",
            {},
            UnknownNameError,
            "There is no method of transfer 'fewshot'.\n"
            "  allowed: knn, probe, few-shot, fine-tune, multilabel, detection, segmentation\n"
            "  do:      did you mean few-shot?",
        ),
        (
            "knn",
            {"temprature": 1},
            InputError,
            "knn has no setting 'temprature'.\n"
            "  got:     1\n"
            "  allowed: k, temperature\n"
            "  do:      did you mean temperature?",
        ),
        (
            "knn",
            {"k": 0},
            InputError,
            "The setting 'k' of knn cannot be this.\n  got:     0\n  allowed: int, above 0",
        ),
        (
            "few-shot",
            {"shots": [1, 2.5]},
            InputError,
            "The setting 'shots' of few-shot cannot be this.\n  got:     (1, 2.5)\n  allowed: int, above 0",
        ),
        (
            "probe",
            {"penalty": "much"},
            InputError,
            "The setting 'penalty' of probe cannot be this.\n  got:     'much'\n  allowed: float, 0 or above",
        ),
        (
            "detection",
            {"detector": "yolo"},
            InputError,
            "This detector does not exist.\n  got:     yolo\n  allowed: fcos, retinanet, faster-rcnn",
        ),
    ],
)
def test_settings_that_are_none(method, told, error, text):
    with pytest.raises(error) as caught:
        settings_of(method, told)
    assert str(caught.value) == text
