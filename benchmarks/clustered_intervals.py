"""How often 95 % intervals contain the expected value if images are in clusters, with and without `clusters`.

    python benchmarks/clustered_intervals.py [--clusters 20 40 100 300] [--simulations 1000] [--seed 0]

Data: clusters of one to five images and four classes, as patients with findings. Half of the variance that
decides whether a class is valid is common to the images of a cluster, and so is a third of the variance of
the scores of two models, which is partly common to both. The intervals are those of `manyhot.evaluate`. They
should contain the expectation of the value over data sets of this size, which is the mean over the simulated
ones. Data sets without an interval, for too few positives, do not count.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import numpy as np
from scipy.special import expit

METRICS = ("real1", "lrap", "f1_micro", "f1_macro", "map_macro", "auroc_macro")
C = 4


def draw(n_clusters, rng):
    """Return clusters, label sets and the scores of two models."""
    number = np.repeat(np.arange(n_clusters), rng.integers(1, 6, n_clusters))
    n = len(number)

    def clustered():
        return rng.normal(size=(n_clusters, C))[number]

    y = (clustered() + rng.normal(size=(n, C)) > 0.7).astype(int)
    shared = 0.5 * clustered() + 0.5 * rng.normal(size=(n, C))
    scores = {
        name: expit(gain * (y - 0.5) + shared + 0.5 * clustered() + 0.8 * rng.normal(size=(n, C)))
        for name, gain in (("first", 1.5), ("second", 1.2))
    }
    return number, y, scores


def intervals(number, y, scores, seed):
    """Yield whether clusters are passed, the metric, the value and the ends: of a model, and of pairs."""
    from manyhot import evaluate
    from manyhot.data.inputs import Reading

    options = {"metrics": METRICS, "seed": seed, "reading": Reading(scores="probability", trust_order=True)}
    for clusters in (None, number):
        found = evaluate(y, scores, clusters=clusters, **options)
        for row in found.results.to_pylist():
            if (row["model"], row["slice"]) == ("first", "all"):
                yield clusters is not None, row["metric"], row["value"], row["lo"], row["hi"]
        for row in found.pairs.to_pylist():
            ends = row["difference"], row["lo"], row["hi"]
            yield clusters is not None, f"{row['metric']}, pair", *ends


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clusters", type=int, nargs="+", default=[20, 40, 100, 300])
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("clusters  metric               over images  over clusters  width  simulated")
    for k in options.clusters:
        found = defaultdict(list)
        for number in range(options.simulations):
            rng = np.random.default_rng([options.seed, k, number])
            for by_clusters, metric, *values in intervals(*draw(k, rng), number):
                found[metric, by_clusters].append([np.nan if v is None else v for v in values])
        for metric in dict.fromkeys(metric for metric, _ in found):
            shares, widths = [], []
            for by_clusters in (False, True):
                value, lo, hi = np.array(found[metric, by_clusters], float).T
                some = ~np.isnan(lo)
                shares.append(((lo <= value.mean()) & (value.mean() <= hi))[some].mean())
                widths.append((hi - lo)[some].mean())
            print(
                f"{k:<10}{metric:<21}{shares[0]:>10.1%}{shares[1]:>15.1%}{widths[1] / widths[0]:>8.2f}"
                f"{some.sum():>11,}",
                flush=True,
            )


if __name__ == "__main__":
    main()
