"""How often 95 % intervals contain the expected value, with rare classes: of metrics, and pairs of models.

    python benchmarks/coverage_rare_classes.py [--images 100 500 2000] [--simulations 2000] [--seed 0]
        [--classes 20] [--rarest 0.01] [--commonest 0.3] [--separation 1.5] [--metrics NAME …] [--out FILE]

With `--out`, each cell is a line that is appended to the file when it is done; a later call continues there.
``coverage.py`` covers every interval; this one has the classes with few positives that it lacks.

Data: images of 20 classes, whose prevalences fall geometrically from 30 % to 1 %. Labels of an image are
correlated, and so are the scores of two models on an image: half of the variance of a score's noise is
common to both. Positives of class c score higher by a separation of 0.8 to 2.2 noise units, of 1.1 to 2.5
for the second model.

The intervals are those of `manyhot evaluate`: the jackknife, or for ratios of sums over images the percentile
bootstrap with 1,000 resamples. What they should contain is the expectation of the metric over data sets of
this size, which is the mean over the simulated ones (error: 2 % of a standard error). It differs from the
value on infinitely many images, in the column "limit": average precision of a class with few positives is
biased upwards, as each positive counts among the cells at or above it. That bias says nothing about how the
value would vary with other images, and cancels out in most differences of models.

Where there is no interval, for too few positives, the data set does not count; "none" is the share of these.
"width" is the mean width of an interval, divided by that of the exact normal interval (2 × 1.96 standard
deviations of the values).
"""

from __future__ import annotations

import argparse
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import ndtri

METRICS = (
    "map_macro",
    "map_micro",
    "map_11point",
    "auroc_macro",
    "auroc_micro",
    "f1_macro(threshold=1.0, link='identity')",
    "f1_micro(threshold=1.0, link='identity')",
    "f1_of_averages(threshold=1.0, link='identity')",
    "precision_macro(threshold=1.0, link='identity')",
    "precision_micro(threshold=1.0, link='identity')",
    "recall_macro(threshold=1.0, link='identity')",
    "recall_micro(threshold=1.0, link='identity')",
    "lrap",
    "real1",
    "brier_set",
)
RESAMPLES = 1000


@dataclass(frozen=True)
class Design:
    """The populations from which images are drawn."""

    classes: int
    rarest: float
    commonest: float
    separation: float

    def draw(self, n, rng):
        """Return the label sets of n images, and the scores of two models."""
        prevalence = np.geomspace(self.commonest, self.rarest, self.classes)
        spread = np.linspace(-0.7, 0.7, self.classes)[np.argsort(np.sin(7.3 * np.arange(self.classes)))]
        common = 0.5 * rng.standard_normal((n, 1))
        yes = common + np.sqrt(0.75) * rng.standard_normal((n, self.classes)) < ndtri(prevalence)
        shared, image = rng.standard_normal(yes.shape), 0.3 * rng.standard_normal((n, 1))
        scores = []
        for further in (0, 0.3):
            noise = 0.7 * (shared + rng.standard_normal(yes.shape)) + image
            scores.append((noise + yes * (self.separation + further + spread)).astype(np.float32))
        return yes, scores


def estimates(design, n, rng, names=METRICS):
    """Return the estimates of metrics of both models."""
    from manyhot.core.sets import Case, LabelSets
    from manyhot.registry import get

    yes, scores = design.draw(n, rng)
    labels = LabelSets.from_lists([np.flatnonzero(row) for row in yes], design.classes)
    return {
        name: [get("metric", name)(Case.from_scores(labels, s, k=1, kind="logit")) for s in scores]
        for name in names
    }


def by_jackknife(two):
    """Return values, ends of the intervals of two models and of their difference; NaN without interval."""
    from manyhot.core.jackknife import jackknife_interval
    from manyhot.core.model_pairs import compare_pairs, jackknife_errors

    values = np.array([e.value(None) for e in two])
    if two[0].doubt(None):
        return values, np.full((3, 2), np.nan)
    changes = [e.left_out(None) for e in two]
    ends = [jackknife_interval(v, c) for v, c in zip(values, changes, strict=True)]
    errors, df = jackknife_errors(np.array(changes, np.float32))
    pair = compare_pairs(values, errors=errors[0, 1:], df=df[0, 1:])
    return values, np.array([*ends, (pair.lo[0], pair.hi[0])])


def by_bootstrap(two, seed):
    from manyhot.core.model_pairs import compare_pairs
    from manyhot.core.resampling import Bootstrap, percentile_interval

    num, den = (
        np.stack(a, axis=1).astype(np.float32) for a in zip(*[(e.num, e.den) for e in two], strict=True)
    )
    bootstrap = Bootstrap(np.ones((1, len(num)), bool), RESAMPLES, seed)
    samples = np.ascontiguousarray(bootstrap.ratios(num, den, np.arange(2))[0].T)
    values = np.array([e.value(None) for e in two])
    pair = compare_pairs(values, samples)
    return values, np.array([*np.stack(percentile_interval(samples), axis=1), (pair.lo[0], pair.hi[0])])


def simulate(design, n, simulations, seed, name):
    """Return values, shape (simulations, 3), and ends, shape (simulations, 3, 2), of a metric."""
    from manyhot.core.estimates import Pooled

    found = []
    for number in range(simulations):
        two = estimates(design, n, np.random.default_rng([seed, n, number]), (name,))[name]
        values, ends = by_jackknife(two) if isinstance(two[0], Pooled) else by_bootstrap(two, number)
        found.append(([*values, values[1] - values[0]], ends))
    values, ends = zip(*found, strict=True)
    return np.array(values), np.array(ends)


def row(name, n, values, ends, limit):
    expected, some = values.mean(0), ~np.isnan(ends[:, :, 0]).any(1)
    holds, width = np.full((2, 3), np.nan)
    if some.any():
        holds = ((ends[..., 0] <= expected) & (expected <= ends[..., 1]))[some].mean(0)
        width = np.diff(ends[some], axis=-1)[..., 0].mean(0) / (2 * 1.96 * values.std(0))
    return (
        f"{name.partition('(')[0]:<16}{n:>7,}{expected[0]:>8.3f}{limit:>7.3f}{1 - some.mean():>7.1%}"
        + "".join(f"{100 * h:>9.1f} %" for h in holds)
        + "".join(f"{w:>7.2f}" for w in width)
    )


def show(cells, out):
    """Print each cell; read it from `out` if an earlier call wrote it there, and append it otherwise."""
    lines = Path(out).read_text(encoding="utf-8").splitlines() if out and Path(out).is_file() else []
    done = dict(line.split("\t", 1) for line in lines)
    for key, make in cells:
        if key not in done:
            done[key] = make()
            if out:
                with Path(out).open("a", encoding="utf-8") as file:
                    file.write(f"{key}\t{done[key]}\n")
        print(done[key], flush=True)


def metric_rows(options, design, limits):
    """Yield the key and the row of each number of images and metric."""
    for n in options.images:
        for name in (name for name in METRICS if name.partition("(")[0] in options.metrics):
            yield (
                f"{design} {options.simulations} {options.seed} {n} {name}",
                lambda n=n, name=name: row(
                    name, n, *simulate(design, n, options.simulations, options.seed, name), limits()[name]
                ),
            )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[100, 500, 2000])
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--rarest", type=float, default=0.01, help="prevalence of the rarest class")
    parser.add_argument("--commonest", type=float, default=0.3)
    parser.add_argument("--separation", type=float, default=1.5, help="of the first model")
    every = [name.partition("(")[0] for name in METRICS]
    parser.add_argument("--metrics", nargs="+", default=every, choices=every, metavar="NAME")
    parser.add_argument("--out", help="file to which each cell is appended, and from which a call continues")
    options = parser.parse_args()
    design = Design(options.classes, options.rarest, options.commonest, options.separation)

    @functools.cache
    def limits():
        two = estimates(design, 100_000, np.random.default_rng(options.seed)).items()
        return {name: first.value(None) for name, (first, _) in two}

    print(f"{design}, {options.simulations:,} data sets, seed {options.seed}")
    error = 100 * np.sqrt(0.95 * 0.05 / options.simulations)
    print(f"coverage of 95 % intervals (standard error {error:.1f} points), and width beside the exact one")
    print(
        f"{'metric':<16}{'images':>7}{'mean':>8}{'limit':>7}{'none':>7}"
        f"{'model 1':>11}{'model 2':>11}{'pair':>11}{'width 1':>9}{'2':>5}{'pair':>7}"
    )
    show(metric_rows(options, design, limits), options.out)


if __name__ == "__main__":
    main()
