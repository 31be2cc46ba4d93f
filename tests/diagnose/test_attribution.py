"""Maps against what can be computed by hand, and against networks of which one knows where they look."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from manyhot.diagnose.attribution import METHODS, Explainer, attribute, class_of
from manyhot.errors import InputError, MissingExtraError, UnknownNameError
from manyhot.predict.network import Network, Preprocessing
from small_models import COLOURS, mean_colour

PLAIN = Preprocessing((28, 28), (28, 28), mode="squash", mean=(0.0,) * 3, std=(1.0,) * 3)
C = len(COLOURS)


def network(*layers, kind="logit", way=PLAIN):
    return Network("small", COLOURS, way, nn.Sequential(*layers).eval(), score_kind=kind)


def small_cnn(*last):
    torch.manual_seed(0)
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, C))
    return (nn.Conv2d(3, 6, 3, stride=4, padding=1), nn.ReLU(), *pooled, *last)


def linear():
    torch.manual_seed(1)
    return nn.Flatten(), nn.Linear(3 * 28 * 28, C)


class Corner(nn.Module):
    """Looks at one corner alone: a class for each colour there."""

    def forward(self, images):
        return images[:, :, :8, 20:].flatten(2).mean(2) @ torch.eye(3, C)


@pytest.fixture
def crops():
    return np.random.default_rng(0).integers(0, 256, (3, 3, 28, 28), np.uint8)


def refused(kind, *args, **options):
    with pytest.raises(kind) as error:
        Explainer(*args, **options)
    return str(error.value)


def test_gradcam_is_what_the_paper_computes(crops):
    net = network(*small_cnn())
    found = Explainer(net).maps(crops, [[0, 2], [], [3]])
    conv, last = net.module[0], net.module[4]
    grids = torch.relu(conv(torch.from_numpy(crops).float() / 255)).detach().numpy()
    # After a mean over the grid and a linear layer, the gradient is the weight over the number of cells.
    weights = last.weight.detach().numpy() / 49
    assert [m.shape for m in found] == [(2, 7, 7), (0, 7, 7), (1, 7, 7)]
    for image, classes, maps in zip(grids, ([0, 2], [], [3]), found, strict=True):
        for class_id, own in zip(classes, maps, strict=True):
            expected = np.maximum(np.tensordot(weights[class_id], image, axes=1), 0)
            np.testing.assert_allclose(own, expected, atol=1e-6)


def test_gradcam_computes_each_image_once(crops):
    net = network(*small_cnn())
    explainer = Explainer(net)
    sizes = []
    net.module[0].register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    explainer.maps(crops, [[0, 1, 2, 3], [1], [2, 3]])
    assert sizes == [3]


def test_gradcam_of_another_layer(crops):
    net = network(*small_cnn())
    explainer = Explainer(net, layer="0")
    assert (explainer.grid, Explainer(net).grid) == ("0", "1")
    before = net.module[0](torch.from_numpy(crops).float() / 255)
    alive = (before > 0).float().mean((2, 3), keepdim=True) * net.module[4].weight[1][:, None, None] / 49
    expected = torch.relu((alive * before).sum(1)).detach().numpy()
    np.testing.assert_allclose(np.concatenate(explainer.maps(crops, [[1]] * 3)), expected, atol=1e-6)


def test_integrated_gradients_of_a_linear_network_add_up(crops):
    net = network(*linear(), way=Preprocessing((28, 28), (28, 28), "squash"))
    explainer = Explainer(net, "integrated-gradients", batch=2)
    found = explainer.maps(crops, [[0, 1], [2], [3]])
    scores, blank = explainer.scores(crops), explainer.module(explainer.blank).detach().numpy()[0]
    for i, (classes, maps) in enumerate(zip(([0, 1], [2], [3]), found, strict=True)):
        assert maps.shape == (len(classes), 14, 14)
        # A cell holds the mean of four pixels.
        np.testing.assert_allclose(4 * maps.sum((1, 2)), (scores[i] - blank)[classes], atol=1e-4)


def test_saliency_of_a_linear_network_are_its_weights(crops):
    net = network(*linear())
    found = Explainer(net, "saliency").maps(crops[:1], [[2]])[0][0]
    weights = net.module[1].weight[2].detach().numpy().reshape(3, 28, 28) / 255
    expected = np.abs(weights).max(0).reshape(14, 2, 14, 2).mean((1, 3))
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_occlusion_of_a_linear_network_is_what_a_window_hides(crops):
    net = network(*linear())
    found = Explainer(net, "occlusion").maps(crops[:1], [[1]])[0][0]
    weights = net.module[1].weight[1].detach().numpy().reshape(3, 28, 28)
    hidden = (weights * crops[0] / 255).sum(0)  # the mean colour is black here
    windows = [(r, c) for r in range(0, 25, 2) for c in range(0, 25, 2)]
    sums, counts = np.zeros((28, 28)), np.zeros((28, 28))
    for r, c in windows:
        sums[r : r + 4, c : c + 4] += hidden[r : r + 4, c : c + 4].sum()
        counts[r : r + 4, c : c + 4] += 1
    expected = (sums / counts).reshape(14, 2, 14, 2).mean((1, 3))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"gradcam"}))
def test_a_network_that_looks_at_one_corner_is_found_out(method, crops):
    net = Network("corner", COLOURS, PLAIN, Corner())
    found = Explainer(net, method).maps(crops[:1], [[0]])[0][0]
    inside = np.zeros(found.shape, bool)
    inside[:4, 10:] = True
    assert np.abs(found)[inside].sum() > 0.8 * np.abs(found).sum() > 0
    assert inside.flat[np.abs(found).argmax()]


@pytest.mark.parametrize("method", METHODS)
def test_probabilities_are_explained_by_the_logits_before_them(method, crops):
    plain = Explainer(network(*small_cnn()), method).maps(crops[:2], [[0, 1], [2]])
    for last in (nn.Sigmoid(), nn.Softmax(1)):
        ended = Explainer(network(*small_cnn(last), kind="probability"), method).maps(
            crops[:2], [[0, 1], [2]]
        )
        for one, other in zip(plain, ended, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


class Shares(nn.Module):
    """Probabilities that no layer of PyTorch makes."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Sigmoid()  # not what ends the network

    def forward(self, logits):
        return 1 / (1 + torch.exp(-logits + 0 * self.gate(logits)))


def test_probabilities_without_a_layer_are_turned_back(crops):
    plain = Explainer(network(*small_cnn())).maps(crops[:1], [[0, 3]])[0]
    own = Explainer(network(*small_cnn(Shares()), kind="probability")).maps(crops[:1], [[0, 3]])[0]
    np.testing.assert_allclose(own, plain, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("timm:resnet18", "layer4"),
        ("timm:tf_efficientnet_lite0", "bn2"),
        ("timm:mobilenetv3_small_050", "blocks"),
        ("timm:convnext_atto", "norm_pre"),
        ("torchvision:squeezenet1_1", "classifier.2"),
        ("torchvision:densenet121", "features"),
    ],
)
def test_the_last_grid_is_found(name, grid):
    import timm
    import torchvision

    family, _, arch = name.partition(":")
    module = timm.create_model(arch) if family == "timm" else torchvision.models.get_model(arch)
    classes = [*COLOURS.keys, *range(996)]
    from manyhot.classes import from_keys

    net = Network(arch, from_keys([str(c) for c in classes], "many"), module=module.eval())
    explainer = Explainer(net)
    assert explainer.grid == grid
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 224, 224), np.uint8)
    found = explainer.maps(images, [[3, 5], [7]])
    assert [len(m) for m in found] == [2, 1]
    assert found[0].shape[1] == found[0].shape[2]


def test_a_network_of_patches_has_no_grid_near_its_end():
    import timm

    net = Network(
        "vit", COLOURS, Preprocessing(), timm.create_model("vit_tiny_patch16_224", num_classes=C).eval()
    )
    assert refused(InputError, net) == (
        "Grad-CAM needs a layer near the end of the network whose output is a grid over the image, but "
        "there is none.\n"
        "  where:   vit\n"
        "  got:     49 layers with weights after the last such layer\n"
        "  do:      choose another method with `method`, or a layer with `layer`"
    )
    assert Explainer(net, layer="patch_embed.proj").grid == "patch_embed.proj"
    assert refused(InputError, network(*linear())) == (
        "Grad-CAM needs a layer near the end of the network whose output is a grid over the image, but "
        "there is none.\n"
        "  where:   small\n"
        "  got:     no grid at all\n"
        "  do:      choose another method with `method`, or a layer with `layer`"
    )


def test_what_cannot_be_explained(monkeypatch):
    own = Network("tint", COLOURS, PLAIN, forward=mean_colour)
    assert refused(InputError, own) == (
        "Only a PyTorch network can be explained, because other networks do not provide gradients.\n"
        "  where:   tint\n"
        "  do:      pass the PyTorch model that was exported, such as timm/…, torchvision/… or python:…"
    )
    net = network(*small_cnn())
    assert refused(UnknownNameError, net, "grad-cam") == (
        "There is no explanation method 'grad-cam'.\n"
        "  allowed: gradcam, integrated-gradients, occlusion, saliency"
    )
    assert refused(UnknownNameError, net, layer="3") == (
        "The network has no layer '3' whose output is a grid over the image.\n"
        "  where:   small\n"
        "  allowed: the 2 layers with such an output, such as 0, 1"
    )
    assert refused(InputError, net, "saliency", layer="0") == (
        "Only the method gradcam uses a layer.\n  got:     0 with saliency"
    )
    assert refused(InputError, net, batch=0) == "batch must be at least 1.\n  got:     0"
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.delitem(sys.modules, "captum.attr", raising=False)
    assert refused(MissingExtraError, net).splitlines()[::2] == [
        "An explanation needs captum, which cannot be imported.",
        '  do:      pip install "manyhot[diagnose]"',
    ]


class Failing(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, images):
        if len(images) > 1:
            raise RuntimeError(self.what)
        return images


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "can't allocate memory: you tried to allocate 9 bytes.",
            "The batch does not fit into memory.\n"
            "  where:   small\n"
            "  got:     3 images at once: can't allocate memory: you tried to allocate 9 bytes.\n"
            "  do:      set a smaller batch with `batch`",
        ),
        (
            "a view is modified in place",
            "The method gradcam cannot explain this network.\n"
            "  where:   small\n"
            "  got:     a view is modified in place\n"
            "  do:      choose another method with `method`, or another layer with `layer`",
        ),
    ],
)
def test_what_pytorch_says_is_told(said, expected, crops):
    explainer = Explainer(network(Failing(said), *small_cnn()))
    for ask in (explainer.scores, lambda images: explainer.maps(images, [[0]] * 3)):
        with pytest.raises(InputError) as error:
            ask(crops)
        assert str(error.value) == expected


def test_images_of_any_size_are_explained_where_they_were_seen():
    way = Preprocessing((28, 28), (28, 28), mean=(0.0,) * 3, std=(1.0,) * 3)
    net = network(*small_cnn(), way=way)
    images = np.random.default_rng(3).integers(0, 256, (2, 3, 56, 84), np.uint8)
    found = attribute(net, images, "green")
    assert found.shape == (2, 56, 84)
    assert np.isnan(found[:, :, :14]).all()
    assert np.isnan(found[:, :, 70:]).all()
    assert not np.isnan(found[:, :, 14:70]).any()
    several = attribute(net, [images[0], images[1][:, :40, :40]], ["green", 2], batch=1)
    assert [m.shape for m in several] == [(56, 84), (40, 40)]
    np.testing.assert_allclose(several[0], found[0], atol=1e-6)
    assert attribute(net, images[:0], "green") == []


def test_what_explain_refuses():
    net = network(*small_cnn())
    images = np.zeros((2, 3, 8, 8), np.uint8)
    cases = {
        "The model has no class 'pink'.\n"
        "  where:   small\n"
        f"  allowed: 0 to 3, or the keys of {COLOURS.name}, such as red": (images, "pink"),
        "There must be one class per image, or one class for all images.\n  got:     3\n  allowed: 2": (
            images,
            [0, 1, 2],
        ),
        "This is not an image.\n"
        "  got:     float32 of shape (3, 8, 8)\n"
        "  allowed: uint8 of shape (3, height, width)": (images.astype(np.float32), 0),
        "This is not an image.\n  got:     list of shape ()\n  allowed: uint8 of shape (3, height, width)": (
            [[1]],
            0,
        ),
    }
    for expected, given in cases.items():
        with pytest.raises((InputError, UnknownNameError)) as error:
            attribute(net, *given)
        assert str(error.value) == expected
    assert [class_of(net, name) for name in ("blue", 3)] == [2, 3]
