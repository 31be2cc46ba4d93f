"""Corrupted pictures against the library alone and against torchvision, in any order and from any thread."""

import concurrent.futures
import sys

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import CenterCrop, Resize

from manyhot.diagnose.pixels import corruptions
from manyhot.diagnose.pixels.corruptions import CLEAN, KINDS, SEVERITIES, corruption, crop
from manyhot.errors import InputError, MissingExtraError, UnknownNameError

ALL = [(kind, severity) for kind in KINDS for severity in SEVERITIES]


@pytest.fixture(autouse=True, scope="module")
def imagecorruptions():
    """Import the library here: it takes two seconds in each process that collects this file."""
    return pytest.importorskip("imagecorruptions")


def picture(height=224, width=224, seed=0):
    """Return what a photograph is like: smooth patches, and some noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)


def alone(pixels, kind, severity, seed):
    """Corrupt by the library as it is."""
    import imagecorruptions

    np.random.seed(seed)  # noqa: NPY002 (the library draws from it)
    options = {"seed": seed} if kind in ("impulse_noise", "glass_blur") else {}
    return imagecorruptions.corrupt(pixels, corruption_name=kind, severity=severity, **options)


def test_kinds_are_those_of_the_library(imagecorruptions):
    assert list(KINDS) == imagecorruptions.get_corruption_names()


@pytest.mark.parametrize(("kind", "severity"), ALL)
def test_pixels_are_those_of_the_library(kind, severity, monkeypatch):
    monkeypatch.setattr(corruptions, "_seed", lambda *_: 11)
    pixels = picture(300, 400)
    found = corruption(kind, severity)("a.jpg", pixels)
    assert found.dtype == np.uint8
    assert np.array_equal(found, alone(crop(pixels), kind, severity, 11))


@pytest.mark.parametrize("size", [(128, 171), (500, 333), (256, 256), (224, 1000), (32, 33)])
def test_cut_is_that_of_torchvision(size):
    pixels = picture(*size)
    theirs = CenterCrop(224)(Resize(256)(Image.fromarray(pixels)))
    assert np.array_equal(crop(pixels), np.asarray(theirs))
    assert np.array_equal(corruption(CLEAN, 0)("a", pixels), crop(pixels))


def test_noise_depends_on_image_kind_severity_and_seed_alone():
    pixels = picture()
    first = corruption("gaussian_noise", 3, 1)("a", pixels)
    assert np.array_equal(first, corruption("gaussian_noise", 3, 1)("a", pixels))
    others = [("gaussian_noise", 3, 1, "b"), ("gaussian_noise", 3, 2, "a"), ("gaussian_noise", 4, 1, "a")]
    for *how, image_id in others:
        assert not np.array_equal(first, corruption(*how)(image_id, pixels))


def test_threads_do_not_draw_from_one_another():
    jobs = [(kind, severity, str(i)) for i in range(4) for kind, severity in ALL[::3]]
    pixels = {str(i): picture(seed=i) for i in range(4)}

    def one(job):
        kind, severity, image_id = job
        return corruption(kind, severity)(image_id, pixels[image_id])

    one_by_one = [one(job) for job in jobs]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(one, jobs[::-1]))[::-1]
    assert all(map(np.array_equal, one_by_one, together))


def state():
    return np.random.get_state()[1].tolist()  # noqa: NPY002 (it must not move)


def test_the_library_and_numpys_state_are_left_alone():
    before = state()
    for kind in KINDS:
        corruption(kind, 2)("a", picture())
    assert state() == before
    assert sys.modules["imagecorruptions.corruptions"].np is np


def test_the_picture_is_not_changed():
    pixels = picture(256, 224)
    before = pixels.copy()
    for kind in KINDS:
        corruption(kind, 5)("a", pixels)
    assert np.array_equal(pixels, before)


def test_small_pictures_are_told():
    small = corruption("fog", 1)("a", picture(31, 200))
    assert small == "200 x 31 pixels: corruptions need at least 32 pixels per side"
    assert corruption(CLEAN, 0)("a", picture(31, 200)) == small
    assert corruption("fog", 1)("a", picture(32, 32)).shape == (224, 224, 3)


def test_keys_tell_apart():
    keys = {corruption(kind, severity, seed).key for kind, severity in ALL for seed in (0, 1)}
    assert len(keys) == 150
    assert corruption("fog", 3).folder == "fog-3"
    assert (corruption(CLEAN, 0).folder, corruption(CLEAN, 0, 7).key) == ("clean", "clean")


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (
            ("frog", 1),
            UnknownNameError,
            f"There is no corruption 'frog'.\n  allowed: {', '.join(KINDS)}\n  do:      did you mean 'fog'?",
        ),
        (("", 1), UnknownNameError, f"There is no corruption ''.\n  allowed: {', '.join(KINDS)}"),
        (
            ("fog", 6),
            InputError,
            "There is no such severity of fog.\n  got:     6\n  allowed: 1 to 5",
        ),
        (("clean", 1), InputError, "There is no such severity of clean.\n  got:     1\n  allowed: 0"),
        (("fog", 1, -1), InputError, "The seed is negative.\n  got:     -1\n  allowed: 0 and up"),
    ],
)
def test_what_is_refused(given, error, text):
    with pytest.raises(error) as found:
        corruption(*given)
    assert str(found.value) == text


@pytest.mark.parametrize(
    ("said", "do"),
    [
        ("No module named 'imagecorruptions'", 'pip install "manyhot[diagnose]"'),
        (
            "libGL.so.1: cannot open shared object file: No such file or directory",
            "pip install --force-reinstall opencv-python-headless",
        ),
    ],
)
def test_a_missing_library(said, do, monkeypatch):
    class Finder:
        def find_spec(self, name, *_):
            if name.partition(".")[0] == "imagecorruptions":
                raise ImportError(said)

    for name in [n for n in sys.modules if n.partition(".")[0] == "imagecorruptions"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    corruptions._library.cache_clear()
    try:
        assert corruption(CLEAN, 0).kind == CLEAN
        with pytest.raises(MissingExtraError) as found:
            corruption("fog", 1)
    finally:
        corruptions._library.cache_clear()
    assert str(found.value) == (
        "Corrupting images needs the package imagecorruptions-imaug, which cannot be imported.\n"
        f"  got:     {said}\n"
        f"  do:      {do}"
    )
