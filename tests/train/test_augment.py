"""RandAugment and jittered colours against torchvision's own, 3-Augment against Pillow and SciPy."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from scipy.ndimage import gaussian_filter
from torchvision.transforms import v2

from manyhot.errors import InputError
from manyhot.train import augment
from manyhot.train.augment import OPERATIONS, augmented, jittered, rand_augment, three_augment
from manyhot.train.recipe import Recipe


@pytest.fixture
def pixels():
    """Smooth, with edges, neither black nor white all over, as photographs are; shape (40, 56, 3)."""
    y, x = np.mgrid[:40, :56] / 40
    image = np.stack([90 + 80 * np.sin(5 * x), 120 + 60 * np.cos(4 * y), 70 + 90 * (x > y)])
    return torch.from_numpy(image.astype(np.uint8))


@pytest.fixture
def image(pixels):
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


class One(v2.RandAugment):
    """torchvision's policy with one of its operations."""

    def __init__(self, name, magnitude):
        super().__init__(1, magnitude)
        self._AUGMENTATION_SPACE = {name: v2.RandAugment._AUGMENTATION_SPACE[name]}


ONE_SIGN = ("Identity", "Posterize", "Solarize", "AutoContrast", "Equalize")


def apart(one, other):
    """Return the differences of two images, in levels."""
    return np.abs(np.asarray(one, float) - np.asarray(other, float))


def alike(one, other):
    """Return whether they are equal but for what strengths in single precision round otherwise."""
    return np.mean(apart(one, other) > 1) < 0.02


def test_it_has_the_operations_of_torchvision():
    assert list(OPERATIONS) == list(v2.RandAugment._AUGMENTATION_SPACE)


def test_what_is_not_moved_is_the_same():
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)  # a degree moves its corners
    assert (np.asarray(augment._moved(Image.fromarray(pixels))) == pixels).all()


@pytest.mark.parametrize("magnitude", [0, 9, 30])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_that_of_torchvision(image, monkeypatch, name, magnitude):
    monkeypatch.setattr(augment, "OPERATIONS", {name: OPERATIONS[name]})
    ours = [rand_augment(image, np.random.default_rng(seed), 1, magnitude) for seed in range(12)]
    torch.manual_seed(0)
    theirs = [One(name, magnitude)(image) for _ in range(12)]
    for some, others in ((ours, theirs), (theirs, ours)):
        assert all(any(alike(x, y) for y in others) for x in some)
    both = name not in ONE_SIGN and magnitude > 0
    assert any(apart(ours[0], x).max() > 1 for x in ours) == both


def test_operations_are_drawn_with_replacement(monkeypatch, image):
    drawn = []
    spied = {
        name: (strength, lambda x, s, name=name: drawn.append(name) or x)
        for name, (strength, _) in OPERATIONS.items()
    }
    monkeypatch.setattr(augment, "OPERATIONS", spied)
    for seed in range(1400):
        rand_augment(image, np.random.default_rng(seed), 2, 9)
    n = np.array([drawn.count(name) for name in OPERATIONS])
    assert n.sum() == 2800
    assert (abs(n - 200) < 60).all()  # four standard deviations
    pairs = list(zip(drawn[::2], drawn[1::2], strict=True))
    assert 60 < sum(a == b for a, b in pairs) < 140


def test_three_augment(image):
    """Grey, solarised or blurred, as Pillow and SciPy do it, each as often."""
    found = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        which = rng.integers(3)
        sigma = rng.uniform(0.1, 2.0)
        expected = (
            image.convert("L").convert("RGB"),
            Image.fromarray(np.where(np.asarray(image) < 128, image, 255 - np.asarray(image))),
            gaussian_filter(np.asarray(image, float), (sigma, sigma, 0), mode="mirror", radius=7),
        )[which]
        found.append(which)
        if seed < 20:
            # Pillow approximates a Gaussian by boxes.
            ours = three_augment(image, np.random.default_rng(seed))
            assert apart(ours, expected).mean() <= (0, 0, 1)[which]
    assert all(75 < found.count(which) < 125 for which in range(3))


def test_jittered_colours(image):
    adjust = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        factors, expected = rng.uniform(0.7, 1.3, 3), image
        for i in rng.permutation(3):
            expected = adjust[i](expected).enhance(factors[i])
        assert apart(jittered(image, np.random.default_rng(seed), 0.3), expected).max() == 0


def test_what_a_recipe_asks_for(pixels, image):
    def of(**settings):
        found = augmented(pixels, Recipe(**settings), np.random.default_rng(4))
        assert (found.dtype, found.shape) == (torch.uint8, pixels.shape)
        return found.permute(1, 2, 0).numpy()

    rng = np.random.default_rng
    assert apart(of(), image).max() == 0
    assert apart(of(policy="3-augment"), three_augment(image, rng(4))).max() == 0
    stronger = of(policy="rand-augment", operations=3, magnitude=20)
    assert apart(stronger, rand_augment(image, rng(4), 3, 20)).max() == 0
    assert apart(of(jitter=0.4), jittered(image, rng(4), 0.4)).max() == 0
    both = rng(4)
    expected = jittered(three_augment(image, both), both, 0.3)
    assert apart(of(policy="3-augment", jitter=0.3), expected).max() == 0


def test_altered_and_left_as_they_are():
    with pytest.raises(InputError) as error:
        Recipe(augment="none", policy="3-augment", jitter=0.3)
    assert str(error.value) == (
        "The settings `policy` and `jitter` cannot be used if `augment` is 'none'.\n"
        "  got:     policy '3-augment', jitter 0.3\n"
        "  do:      set `augment` to 'mirror' or 'crop', or leave out `policy` and `jitter`"
    )
    with pytest.raises(InputError) as error:
        Recipe(policy="rand-augment", magnitude=31)
    assert str(error.value) == (
        "`magnitude` of the recipe is out of range.\n  got:     31\n  allowed: 0 to 30"
    )
