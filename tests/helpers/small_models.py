"""A model of which everybody can tell what it should say."""

import numpy as np

from manyhot.classes import from_keys
from manyhot.predict.network import Preprocessing

COLOURS = from_keys(("red", "green", "blue", "grey"))
SMALL = Preprocessing((8, 8), (8, 8), mean=(0.0,) * 3, std=(1.0,) * 3)


def mean_colour(images):
    """Return logits that say which channel is the brightest."""
    red, green, blue = images.reshape(len(images), 3, -1).mean(2).T / 255
    return np.stack([red, green, blue, 0.5 * np.ones_like(red)], axis=1).astype(np.float32) * 10
