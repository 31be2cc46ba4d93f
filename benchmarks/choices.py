"""Aggregation of choices of one class of K: CPU seconds and memory, and crowd-kit on the same votes.

python benchmarks/choices.py --images 4000000 --classes 10 --raters 300 --votes 5 --method dawid-skene
python benchmarks/choices.py --images 20000 --classes 10 --method dawid-skene --crowd-kit
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from manyhot.core.choices import Choices
from manyhot.registry import get


def simulated(images: int, classes: int, raters: int, votes: int) -> tuple[np.ndarray, Choices]:
    """Return the right classes, and choices of raters who are right in 60 to 95 % of images."""
    rng = np.random.default_rng(0)
    truth, accuracy = rng.integers(0, classes, images), rng.uniform(0.6, 0.95, raters)
    image = np.repeat(np.arange(images, dtype=np.int32), votes)
    first = rng.integers(0, raters, images)[:, None]
    rater = ((first + np.arange(votes) * (raters // votes)) % raters).ravel().astype(np.int32)
    wrong = (truth[image] + rng.integers(1, classes, len(image))) % classes
    chosen = np.where(rng.random(len(image)) < accuracy[rater], truth[image], wrong).astype(np.int32)
    return truth, Choices(image, rater, chosen, images, raters, classes)


def main() -> None:
    """Print one line per method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, default in (("images", 20_000), ("classes", 1_000), ("raters", 100), ("votes", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--method", default="dawid-skene")
    parser.add_argument("--crowd-kit", action="store_true")
    options = parser.parse_args()
    truth, choices = simulated(options.images, options.classes, options.raters, options.votes)
    start = time.process_time()
    result = get("choice-aggregator", options.method)(choices)
    seconds = time.process_time() - start
    order = np.lexsort((result.p, result.image))
    best = np.zeros(len(truth), np.int64)
    best[result.image[order]] = result.class_id[order]
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{options.method}: {len(choices):,} votes, {seconds:.1f} s CPU, {most:.2f} GB with the votes, ",
        end="",
    )
    print(f"{result.iterations} iterations, accuracy {(best == truth).mean():.4f}")
    if options.crowd_kit:
        import pandas as pd
        from crowdkit.aggregation import DawidSkene

        frame = pd.DataFrame({"task": choices.image, "worker": choices.rater, "label": choices.chosen})
        start = time.process_time()
        labels = DawidSkene(n_iter=100).fit_predict(frame).sort_index().to_numpy()
        print(f"crowd-kit: {time.process_time() - start:.1f} s CPU, accuracy {(labels == truth).mean():.4f}")


if __name__ == "__main__":
    main()
