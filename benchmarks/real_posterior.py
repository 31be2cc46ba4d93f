"""Count the pairs of the 67 published models that ReaL's raters decide: with the label sets fixed, and drawn.

    python benchmarks/real_posterior.py [--draws 200] [--metrics real1 mla] [--models PATTERN ...]

Label sets are those of ``manyhot aggregate imagenet-real --method golden-bayes``. Prints, for each metric,
how many of all pairs of models have an interval that excludes 0 if the label sets are fixed (images vary) and
if they are drawn from p (raters and images vary), and the mean half widths of the models' intervals.
docs/guides/evaluate/distributions.md shows the result.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

import numpy as np

import manyhot
from manyhot.data.inputs import Reading, open_inputs

if TYPE_CHECKING:
    import pandas as pd


def describe_pairs(rows: pd.DataFrame) -> str:
    """Return the numbers of decided pairs of one metric."""
    fixed = rows.decided_fixed.astype(bool)
    flips = fixed & rows.decided & (np.sign(rows.difference) != np.sign(rows.difference_fixed))
    numbers = {
        "pairs": len(rows),
        "decided fixed": fixed.sum(),
        "of these decided under the posterior": (fixed & rows.decided).sum(),
        "with the other sign": flips.sum(),
        "decided under the posterior only": (~fixed & rows.decided).sum(),
        "decided over raters alone": (abs(rows.above_raters - 0.5) >= 0.475).sum(),
    }
    return "; ".join(f"{name} {number:,}" for name, number in numbers.items())


def describe_widths(own: pd.DataFrame, images: pd.DataFrame) -> str:
    """Return the mean values and half widths of one metric."""
    widths = {
        "images": images.hi - images.lo,
        "raters": own.hi_raters - own.lo_raters,
        "both": own.hi - own.lo,
    }
    halves = ", ".join(f"{name} {width.mean() / 2:.5f}" for name, width in widths.items())
    return f"mean fixed {own.fixed.mean():.4f}, posterior {own.value.mean():.4f}; half widths: {halves}"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--metrics", nargs="+", default=["real1", "mla", "real5"])
    parser.add_argument("--models", nargs="+", default=())
    options = parser.parse_args()
    labels = manyhot.aggregate("imagenet-real", method="golden-bayes").labels
    (source,) = open_inputs("imagenet-val", reading=Reading(models=options.models))
    labels = labels.with_labels(source.images) if source.images is not None else labels
    models, start = list(source.models()), time.process_time()
    evaluation = manyhot.evaluate(labels, models, metrics=options.metrics, posterior=options.draws)
    print(f"{len(models)} models, {time.process_time() - start:.0f} s of CPU time")
    posterior = evaluation.posterior["posterior"].to_pandas()
    pairs = evaluation.posterior["posterior_pairs"].to_pandas()
    results = evaluation.results.to_pandas().query("slice == 'all'")
    for metric, rows in pairs.groupby("metric", sort=False):
        own = posterior[posterior.metric == metric].set_index("model")
        images = results[results.metric == metric].set_index("model").loc[own.index]
        print(f"{metric}: {describe_pairs(rows)}")
        print(f"  {describe_widths(own, images)}")


if __name__ == "__main__":
    main()
