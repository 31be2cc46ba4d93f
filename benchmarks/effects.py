"""How often 95 % intervals over seeds and images hold the truth: python benchmarks/effects.py.

Seeds, images and both together each add their chance to a difference that is 0. `effect_of` against two usual
bootstraps: percentiles over seeds and images at once, and over images alone. Then, how often Cochran's Q
finds that four equal cells differ, by χ² and by Welch's approximation.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

from manyhot.core.effects import SeedValues, effect_of, heterogeneity

STUDIES = 2000
IMAGES = 200
RESAMPLES = 200
SEEDS = (2, 3, 5, 10)
PAIRS = (1, 4)
SPREADS = {"seeds": (0.05, 0.1), "both": (0.03, 0.4), "images": (0.003, 0.6)}
"""Standard deviations over seeds, and over images, of which there are many."""

Floats = npt.NDArray[np.float64]


def study(
    rng: np.random.Generator, n: int, pairs: int, spread: tuple[float, float], drawn: Floats
) -> list[SeedValues]:
    """Return a difference of 0 as n seeds and some images show it, in each pair of data set and network."""
    seed_sd, image_sd = spread
    cells = []
    for pair in range(pairs):
        table = seed_sd * rng.normal(size=(n, 1)) + image_sd * rng.normal(size=(1, IMAGES))
        table = table + 0.3 * rng.normal(size=(n, IMAGES))
        cells.append(SeedValues(table.mean(1), table @ drawn.T / IMAGES, str(pair)))
    return cells


def percentiles(rng: np.random.Generator, cells: list[SeedValues]) -> Floats:
    """Return the interval of a bootstrap of seeds, each with all its resampled images."""
    total = np.zeros(RESAMPLES)
    for cell in cells:
        seeds = rng.integers(0, len(cell.values), (len(cell.values), RESAMPLES))
        # The images of data sets are redrawn apart.
        columns = rng.permutation(RESAMPLES)
        total += cell.replicates[seeds, columns].mean(0)
    return np.quantile(total / len(cells), (0.025, 0.975))


def over_images(rng: np.random.Generator, cells: list[SeedValues]) -> Floats:
    """Return the interval of a bootstrap of images, for the seeds that there are."""
    means = [cell.replicates.mean(0)[rng.permutation(RESAMPLES)] for cell in cells]
    return np.quantile(np.mean(means, axis=0), (0.025, 0.975))


def coverage(n: int, pairs: int, spread: tuple[float, float]) -> Floats:
    """Return how often each interval holds 0."""
    rng = np.random.default_rng([n, pairs, round(1000 * spread[0])])
    drawn = rng.multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES), size=RESAMPLES).astype(float)
    held = np.zeros(3)
    for _ in range(STUDIES):
        cells = study(rng, n, pairs, spread, drawn)
        effect = effect_of(cells)
        intervals = ((effect.lo, effect.hi), percentiles(rng, cells), over_images(rng, cells))
        held += [lo <= 0 <= hi for lo, hi in intervals]
    return held / STUDIES


def alarms(n: int, pairs: int, spread: tuple[float, float]) -> Floats:
    """Return how often Q has p < 0.05 where all pairs have the same true difference: by χ², and by Welch."""
    rng = np.random.default_rng([n, pairs, round(1000 * spread[0])])
    drawn = rng.multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES), size=RESAMPLES).astype(float)
    found = np.zeros(2)
    for _ in range(STUDIES):
        q, p = heterogeneity([effect_of([cell]) for cell in study(rng, n, pairs, spread, drawn)])
        found += [stats.chi2(pairs - 1).sf(q) < 0.05, p < 0.05]
    return found / STUDIES


if __name__ == "__main__":
    print("chance is in  pairs  seeds  effect_of  bootstrap  images alone")
    for name, spread in SPREADS.items():
        for pairs in PAIRS:
            for n in SEEDS:
                ours, both, images = coverage(n, pairs, spread)
                print(f"{name:>12} {pairs:>6} {n:>6} {ours:>10.1%} {both:>10.1%} {images:>13.1%}", flush=True)
    print("chance is in  pairs  seeds  Q by chi2  Q by Welch")
    for name, spread in SPREADS.items():
        for n in SEEDS[1:]:
            chi2, welch = alarms(n, PAIRS[-1], spread)
            print(f"{name:>12} {PAIRS[-1]:>6} {n:>6} {chi2:>10.1%} {welch:>11.1%}", flush=True)
