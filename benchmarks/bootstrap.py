"""1,000 resamples for 67 models and all 2,211 pairs, against scipy.stats.bootstrap.

    python benchmarks/bootstrap.py

SciPy is measured on one model and one pair and scaled to 67 and 2,211, as it takes each alone. Ours draws one
set of resamples for all, so pairs are paired. ReaL top-1 on the 46,837 images with a label set; one thread.
"""

from __future__ import annotations

import resource
import time

import numpy as np
from common import cpu_median, models, quiet, validation

RESAMPLES = 1000


def correctness():
    """Return which model is right on which image, shape (46837, 67)."""
    from manyhot.core.accuracy import real1
    from manyhot.core.sets import Case
    from manyhot.tables import frames
    from manyhot.tables.arrays import label_sets

    table, rows = validation()
    matched = frames.align(table.image_id, rows.image_id, left_name="labels", right_name="rows").right
    sets = label_sets(table)
    columns = [real1(Case(sets, p.classes.T.take(matched, axis=1).T)).num for _, p in models(rows)]
    return np.stack(columns, axis=1)[sets.scored]


def ours(right):
    """Return the ends of all intervals: of models and of pairs."""
    from manyhot.core.model_pairs import compare_pairs
    from manyhot.core.resampling import Bootstrap, percentile_interval

    n = len(right)
    num = right.astype(np.float32)
    everything = Bootstrap(np.ones((1, n), bool), RESAMPLES, seed=0)
    samples = everything.ratios(num, np.ones((n, 1), np.float32), np.zeros(num.shape[1], np.intp))[0].T
    samples = np.ascontiguousarray(samples)
    return percentile_interval(samples), compare_pairs(right.mean(0), samples)


def peer(values):
    """Return SciPy's interval, and the median CPU seconds it takes."""
    from scipy.stats import bootstrap

    spent = []
    for _ in range(3):
        begun = time.process_time()
        found = bootstrap((values,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=0, batch=100)
        spent.append(time.process_time() - begun)
    return found.confidence_interval, float(np.median(spent))


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    from manyhot.core import resampling  # noqa: F401 - its import is no part of the memory added

    right = correctness()
    before = peak()
    (lo, hi), pairs = ours(right)
    added = peak() - before
    spent = cpu_median(lambda: ours(right))
    begun = time.perf_counter()
    ours(right)
    wall = time.perf_counter() - begun
    model_ci, model_s = peer(right[:, 0].astype(np.float64))
    pair_ci, pair_s = peer(right[:, 0].astype(np.float64) - right[:, 1])
    n_models, n_pairs = right.shape[1], len(pairs.difference)
    scaled = model_s * n_models + pair_s * n_pairs
    print(f"scipy.stats.bootstrap, one model     {model_s:9.3f} s CPU")
    print(f"scipy.stats.bootstrap, one pair      {pair_s:9.3f} s CPU")
    print(f"scaled to {n_models} models, {n_pairs:,} pairs   {scaled:9.0f} s CPU")
    print(f"manyhot, all of them                 {spent:9.3f} s CPU, {wall:.3f} s wall  wanted: under 1 s")
    print(f"ratio                                {scaled / spent:9.0f} ×     wanted: 1,000 ×")
    print(f"memory added                         {added:9.0f} MB    wanted: under 300 MB")
    print(f"first model: ours {lo[0]:.5f} to {hi[0]:.5f}, scipy {model_ci.low:.5f} to {model_ci.high:.5f}")
    theirs = f"scipy {pair_ci.low:.5f} to {pair_ci.high:.5f}"
    print(f"first pair:  ours {pairs.lo[0]:.5f} to {pairs.hi[0]:.5f}, {theirs}")
    print("bound: the 46.8 million random draws, about 0.2 s; the products are 6.3 GFLOP, about 0.1 s")


if __name__ == "__main__":
    quiet()
    main()
