"""The whole command: `manyhot evaluate imagenet` from a warm cache, and whether it is linear in models.

    python benchmarks/imagenet.py

Fetches first, so that the cache is warm. Wall seconds and peak memory of whole processes on all cores. Then
67 published models against the same ten times over under other names: judging is linear in models, comparing
all pairs of models is quadratic (2,211 against 224,115) and stands in a row of its own.
"""

from __future__ import annotations

import dataclasses
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from common import RUNS, models, quiet, validation

BAR_S, BAR_GB = 20, 1.5


def command(folder):
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "manyhot", "evaluate", "imagenet", "--out", folder],
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - begun


def judged(tiles):
    """Return wall seconds of judging and of comparing pairs, of `tiles` × 67 models on the validation set."""
    from manyhot import evaluate
    from manyhot.core import resampling
    from manyhot.evaluate import sampled_pairs as step

    table, rows = validation()
    published = list(models(rows))
    spent = {"pairs": 0.0}
    compare = resampling.compare_pairs

    def timed(*args, **options):
        begun = time.perf_counter()
        result = compare(*args, **options)
        spent["pairs"] += time.perf_counter() - begun
        return result

    setattr(step, "compare_pairs", timed)  # noqa: B010
    many = (dataclasses.replace(p, model=f"{n}-{t}") for t in range(tiles) for n, p in published)
    begun = time.perf_counter()
    evaluate(table, many)
    setattr(step, "compare_pairs", compare)  # noqa: B010
    return time.perf_counter() - begun - spent["pairs"], spent["pairs"]


def main():
    with tempfile.TemporaryDirectory() as folder:
        command(folder)
        walls = [command(folder) for _ in range(RUNS)]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    print(
        f"manyhot evaluate imagenet   median {statistics.median(walls):6.1f} s wall   wanted: under {BAR_S} s"
    )
    print(f"                            peak   {peak:6.2f} GB       wanted: under {BAR_GB} GB")
    one, ten = judged(1), judged(10)
    print(f"67 models, one data set     judging {one[0]:6.1f} s   2,211 pairs   {one[1]:6.1f} s")
    print(f"670 models, one data set    judging {ten[0]:6.1f} s   224,115 pairs {ten[1]:6.1f} s")
    print(f"ratio for ten times as many {ten[0] / one[0]:14.1f} ×               {ten[1] / one[1]:6.1f} ×")


if __name__ == "__main__":
    quiet(threads=os.cpu_count() or 1)
    main()
