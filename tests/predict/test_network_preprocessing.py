"""The crop that a network sees is the one that timm and torchvision would cut."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torchvision import models

from manyhot.errors import InputError
from manyhot.predict.network import Preprocessing, from_timm


def noise(height, width):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 4 + 2, width // 4 + 2, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


SIZES = [(300, 400), (400, 300), (256, 256), (120, 500), (97, 101)]


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize(
    "config",
    [
        {"input_size": (3, 224, 224), "crop_pct": 0.875, "interpolation": "bicubic"},
        {"input_size": (3, 288, 288), "crop_pct": 0.95, "interpolation": "bilinear"},
        {"input_size": (3, 224, 224), "crop_pct": 1.0, "interpolation": "bicubic", "crop_mode": "squash"},
        {"input_size": (3, 224, 224), "crop_pct": 0.9, "interpolation": "bicubic", "crop_mode": "border"},
        {"input_size": (3, 192, 256), "crop_pct": 0.9, "interpolation": "bicubic"},
        {"input_size": (3, 64, 64), "crop_pct": 0.9, "interpolation": "lanczos"},
    ],
    ids=lambda c: "-".join(map(str, c.values())),
)
def test_equals_timms(shape, config):
    image = noise(*shape)
    theirs = timm.data.create_transform(**config, normalize=False)(image)
    ours = from_timm(config)(tensor(image))
    assert ours.dtype == torch.uint8
    assert ours.shape == (3, *config["input_size"][1:])
    difference = (ours.int() - theirs.int()).abs()
    # Pillow and torchvision round differently by one now and then.
    assert difference.max() <= 3
    assert difference.float().mean() < 0.3


def test_equals_torchvisions_preset():
    preset = models.ResNet50_Weights.IMAGENET1K_V2.transforms()
    image = noise(300, 400)
    ours = Preprocessing((224, 224), (232, 232), "center", "bilinear", tuple(preset.mean), tuple(preset.std))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (ours.mean, ours.std))
    normal = (ours(tensor(image)) / 255 - mean) / std
    assert (normal - preset(image)).abs().mean() < 0.01


def test_options_of_a_call_string():
    made = Preprocessing().with_options({"size": 288, "crop_pct": 0.95, "mean": 0.5, "std": (0.5, 0.25, 0.5)})
    assert (made.size, made.scale, made.mean, made.std) == (
        (288, 288),
        (303, 303),
        (0.5, 0.5, 0.5),
        (0.5, 0.25, 0.5),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"sise": 3},
            "Preprocessing has no option 'sise'.\n  got:     3\n"
            "  allowed: size, crop_pct, mode, interpolation, mean, std",
        ),
        (
            {"mode": "stretch"},
            "There is no mode of cropping 'stretch'.\n  allowed: center, squash, border",
        ),
        (
            {"interpolation": "cubic"},
            "There is no interpolation 'cubic'.\n  allowed: nearest, bilinear, bicubic, lanczos",
        ),
        (
            {"crop_pct": 87.5},
            "`crop_pct` must be the share of the resized side that is kept.\n  got:     87.5\n"
            "  allowed: above 0, at most 2",
        ),
        (
            {"mean": (0.5, 0.5)},
            "`mean` must be one number, or one number per channel, for pixel values between 0 and 1.\n"
            "  got:     (0.5, 0.5)\n"
            "  allowed: such as 0.5 or (0.5, 0.5, 0.5)",
        ),
        (
            {"size": "224"},
            "`size` must be one side length, or a height and a width, in pixels.\n  got:     224\n"
            "  allowed: such as 224",
        ),
    ],
)
def test_options_that_do_not_exist(options, message):
    with pytest.raises(InputError) as error:
        Preprocessing().with_options(options)
    assert str(error.value) == message


def test_networks_of_other_channels():
    with pytest.raises(InputError) as error:
        from_timm({"input_size": (1, 28, 28)})
    assert str(error.value) == ("The network does not take RGB images.\n  got:     1 channels\n  allowed: 3")
