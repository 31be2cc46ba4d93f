"""How often 95 % intervals over seeds and images hold the truth: python benchmarks/effects.py.

Seeds, images and both together each add their chance to a difference that is 0. `effect_of` against two usual
bootstraps: percentiles over seeds and images at once, and over images alone.
"""

from __future__ import annotations

import numpy as np

from manyhot.core.effects import Cell, effect_of

STUDIES = 2000
IMAGES = 200
RESAMPLES = 200
SEEDS = (2, 3, 5, 10)
SPREADS = {"seeds": (0.05, 0.1), "both": (0.03, 0.4), "images": (0.003, 0.6)}
"""Standard deviations over seeds, and over images, of which there are many."""


def study(rng: np.random.Generator, n: int, seed_sd: float, image_sd: float) -> Cell:
    """Return a difference of 0 as n seeds and some images show it."""
    table = seed_sd * rng.normal(size=(n, 1)) + image_sd * rng.normal(size=(1, IMAGES))
    table = table + 0.3 * rng.normal(size=(n, IMAGES))
    drawn = rng.multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES), size=RESAMPLES)
    return Cell(table.mean(1), table @ drawn.T / IMAGES)


def percentiles(rng: np.random.Generator, cell: Cell) -> tuple[float, float]:
    """Return the interval of a bootstrap of seeds, each with all its resampled images."""
    seeds = rng.integers(0, len(cell.values), (len(cell.values), RESAMPLES))
    means = cell.replicates[seeds, np.arange(RESAMPLES)].mean(0)
    return tuple(np.quantile(means, (0.025, 0.975)))


def coverage(n: int, seed_sd: float, image_sd: float) -> tuple[float, ...]:
    """Return how often each interval holds 0."""
    rng = np.random.default_rng([n, round(1000 * seed_sd)])
    held = np.zeros(3)
    for _ in range(STUDIES):
        cell = study(rng, n, seed_sd, image_sd)
        effect = effect_of([cell])
        images = np.quantile(cell.replicates.mean(0), (0.025, 0.975))
        for i, (lo, hi) in enumerate(((effect.lo, effect.hi), percentiles(rng, cell), images)):
            held[i] += lo <= 0 <= hi
    return tuple(held / STUDIES)


if __name__ == "__main__":
    print(f"{'chance is in':>14} {'seeds':>6} {'effect_of':>10} {'bootstrap':>10} {'images alone':>13}")
    for name, spread in SPREADS.items():
        for n in SEEDS:
            ours, both, images = coverage(n, *spread)
            print(f"{name:>14} {n:>6} {ours:>10.1%} {both:>10.1%} {images:>13.1%}", flush=True)
