"""Values of made-up images, and how often the intervals of audits contain them."""

import numpy as np


def images(n_images, seed=0, models=3):
    """Return values under people's and under proposed label sets, shape (N, M)."""
    rng = np.random.default_rng(seed)
    proposed = rng.beta(2, 0.7, (n_images, models))
    return (rng.random((n_images, models)) < 0.1 + 0.8 * proposed).astype(float), proposed


def coverage(design, interval, truth, draws=1500):
    """Return how often intervals contain the true values, and the mean ratio of error and deviation."""
    rng = np.random.default_rng(11)
    found = [interval(design.draw(rng)) for _ in range(draws)]
    ends = np.array([e.interval() for e in found])
    deviation = np.array([e.value for e in found]) - truth
    errors = np.sqrt(np.mean([e.error**2 for e in found], axis=0) / np.square(deviation).mean(0))
    return ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean(0), errors, deviation.mean(0)
