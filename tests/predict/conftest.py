"""Small networks and images for the tests of models."""

import importlib

import numpy as np
import pytest
from PIL import Image

from manyhot.predict.network import Network
from small_models import COLOURS, SMALL, mean_colour


@pytest.fixture
def quick_trials(monkeypatch):
    """Engines are timed for a moment, not for a second."""
    monkeypatch.setattr(importlib.import_module("manyhot.predict.engines.choose"), "TRIAL_S", 0.001)


@pytest.fixture
def tint():
    """A model that runs itself and tells colours."""
    return Network("tint", COLOURS, SMALL, forward=mean_colour)


@pytest.fixture
def folder(tmp_path):
    """Three images in folders called like their class, and one that is empty."""
    colours = {"blue/b.png": (0, 0, 255), "green/g.png": (0, 255, 0), "red/r.png": (255, 0, 0)}
    for name, colour in colours.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        Image.new("RGB", (12, 10), colour).save(tmp_path / "in" / name)
    (tmp_path / "in" / "e.jpg").touch()
    return tmp_path / "in"


@pytest.fixture
def many(tmp_path):
    """1,100 noisy JPEGs: three parts of a source."""
    rng = np.random.default_rng(0)
    (tmp_path / "many").mkdir()
    for i in range(1100):
        pixels = rng.integers(0, 256, (16, 20, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "many" / f"{i:05}.jpg")
    return tmp_path / "many"
